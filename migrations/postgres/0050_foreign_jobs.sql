-- What another system's interface keeps of a job beside its task. `id` is the task's; a job that was only reported to
-- us, without a task, is its own. `state` and `data` belong to the attempt.
create table foreign_job (
    id uuid primary key,
    system text not null,
    job_id uuid not null,
    queue text not null,
    attempt bigint not null,
    state text,
    data text not null,
    acknowledged boolean not null,
    started_at timestamptz,
    waited_ms bigint,
    created_at timestamptz not null
);
create index foreign_job_job on foreign_job (system, job_id, created_at);
create index foreign_job_queue on foreign_job (system, queue, created_at);
create index foreign_job_age on foreign_job (system, created_at);
create table foreign_tag (
    system text not null,
    tag text not null,
    id uuid not null,
    primary key (system, tag, id)
);
-- Pieces of a job's logs: `kind` is the log, `number` the sender's, over all phases. Bytes are in the object store.
create table foreign_fragment (
    id uuid not null,
    attempt bigint not null,
    kind text not null,
    number bigint not null,
    phase text not null,
    at timestamptz not null,
    size_bytes bigint not null,
    key text not null,
    created_at timestamptz not null,
    primary key (id, attempt, kind, number)
);
create table foreign_file (
    id uuid not null,
    kind text not null,
    size_bytes bigint not null,
    key text not null,
    created_at timestamptz not null,
    primary key (id, kind)
);
-- Documents that such an interface keeps by kind and name: agents, queues' descriptions, clients …
create table foreign_record (
    system text not null,
    kind text not null,
    name text not null,
    version bigint not null,
    body text not null,
    expires_at timestamptz,
    updated_at timestamptz not null,
    primary key (system, kind, name)
);
