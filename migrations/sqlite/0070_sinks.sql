-- How far each place that results and messages also go to has come.
create table sink (
    name text primary key,
    position integer not null,
    since integer not null
);
