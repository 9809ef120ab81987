-- A sender may count the pieces of each phase by themselves.
create table fragment (
    id blob not null,
    attempt integer not null,
    kind text not null,
    phase text not null,
    number integer not null,
    at integer not null,
    size_bytes integer not null,
    key text not null,
    created_at integer not null,
    primary key (id, attempt, kind, phase, number)
) without rowid;
insert into fragment (id, attempt, kind, phase, number, at, size_bytes, key, created_at)
    select id, attempt, kind, phase, number, at, size_bytes, key, created_at from foreign_fragment;
drop table foreign_fragment;
alter table fragment rename to foreign_fragment;
create index foreign_fragment_age on foreign_fragment (created_at);
