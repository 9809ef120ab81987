-- How far each place that results and messages also go to has come.
create table sink (
    name text primary key,
    position bigint not null,
    since timestamptz not null
);
