-- What ResultsDB knows of results beside what all results have.
alter table result add column ref_url text;
-- The outcome in the reporter's own word.
alter table result add column said text;
-- Whether it is listed on its own: the top ones, and the parts that a task publishes.
alter table result add column listed integer not null default 0;
update result set listed = 1 where parent is null;
create index result_time on result (created_at, id) where listed;

create table testcase (name text primary key, ref_url text) without rowid;
create table result_group (
    serial integer primary key autoincrement,
    id text not null unique,
    description text,
    ref_url text
);
-- Results by what is searched for: values under their key, the testcase under `:testcase`, groups under `:group`
-- (no key of a value has a colon). Long values are cut, with a hash of the whole.
create table result_value (
    result_id integer not null,
    key text not null,
    value text not null,
    at integer not null,
    primary key (result_id, key, value)
) without rowid;
create index result_value_search on result_value (key, value, at, result_id);
