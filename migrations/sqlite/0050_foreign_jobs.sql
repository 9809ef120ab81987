-- What another system's interface keeps of a job beside its task. `id` is the task's; a job that was only reported to
-- us, without a task, is its own. `state` and `data` belong to the attempt.
create table foreign_job (
    id blob primary key,
    system text not null,
    job_id blob not null,
    queue text not null,
    attempt integer not null,
    state text,
    data text not null,
    acknowledged integer not null,
    started_at integer,
    waited_ms integer,
    created_at integer not null
);
create index foreign_job_job on foreign_job (system, job_id, created_at);
create index foreign_job_queue on foreign_job (system, queue, created_at);
create index foreign_job_age on foreign_job (system, created_at);
create table foreign_tag (
    system text not null,
    tag text not null,
    id blob not null,
    primary key (system, tag, id)
) without rowid;
-- Pieces of a job's logs: `kind` is the log, `number` the sender's, over all phases. Bytes are in the object store.
create table foreign_fragment (
    id blob not null,
    attempt integer not null,
    kind text not null,
    number integer not null,
    phase text not null,
    at integer not null,
    size_bytes integer not null,
    key text not null,
    created_at integer not null,
    primary key (id, attempt, kind, number)
) without rowid;
create table foreign_file (
    id blob not null,
    kind text not null,
    size_bytes integer not null,
    key text not null,
    created_at integer not null,
    primary key (id, kind)
) without rowid;
-- Documents that such an interface keeps by kind and name: agents, queues' descriptions, clients …
create table foreign_record (
    system text not null,
    kind text not null,
    name text not null,
    version integer not null,
    body text not null,
    expires_at integer,
    updated_at integer not null,
    primary key (system, kind, name)
) without rowid;
