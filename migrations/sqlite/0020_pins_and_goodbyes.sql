-- The replay of its event that a task was made by.
alter table task add column generation integer not null default 0;

-- The commit that a repository's ref named when the first task of an event was resolved: all of them use it. `repo`
-- is the hash of URL, ref and path.
create table commit_pin (
    event_seq integer not null,
    generation integer not null,
    repo blob not null,
    commit_id text not null,
    primary key (event_seq, generation, repo)
) without rowid;

-- When a worker said goodbye; nothing while it works or is only silent.
alter table worker add column left_at integer;
