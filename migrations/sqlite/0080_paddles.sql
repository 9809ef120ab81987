-- Runs and jobs as paddles knows them. How many jobs of a run have which status is counted with each write, so that no
-- write reads other jobs. `listed_at` is when the run was scheduled, else when it was posted.
create table paddles_run (
    id integer primary key autoincrement,
    name text not null unique,
    by_user text,
    scheduled integer,
    suite text,
    branch text,
    machine_type text,
    listed_at integer not null,
    posted integer not null,
    started integer,
    updated integer,
    first_job integer,
    sha1 text,
    flavor text,
    priority integer,
    status text not null,
    queued integer not null,
    pass integer not null,
    running integer not null,
    waiting integer not null,
    fail integer not null,
    dead integer not null,
    unknown integer not null
);
create index paddles_run_posted on paddles_run (posted, id);
create index paddles_run_listed on paddles_run (listed_at, id);
create index paddles_run_branch on paddles_run (branch, listed_at);
create index paddles_run_suite on paddles_run (suite, listed_at);
create index paddles_run_user on paddles_run (by_user, listed_at);
create index paddles_run_status on paddles_run (status, listed_at);
create index paddles_run_machines on paddles_run (machine_type, listed_at);
create index paddles_run_queued on paddles_run (listed_at) where queued > 0;
-- `body` is the job as it is shown, but for its times and the link to its log. `rank` is its priority, or a low one.
-- `handed_until` is set while it waits to be updated by who was given it.
create table paddles_job (
    seq integer primary key autoincrement,
    run_id integer not null,
    job_id text not null,
    task_id blob not null,
    status text not null,
    name text,
    description text,
    sha1 text,
    branch text,
    by_user text,
    queue text,
    rank integer not null,
    handed_until integer,
    posted integer not null,
    started integer,
    updated integer not null,
    body text not null,
    unique (run_id, job_id)
);
create index paddles_job_run on paddles_job (run_id, seq);
create index paddles_job_task on paddles_job (task_id);
create index paddles_job_queue on paddles_job (queue, rank, seq) where status = 'queued';
create index paddles_job_sha1 on paddles_job (sha1, seq);
create index paddles_job_branch on paddles_job (branch, seq);
create index paddles_job_user on paddles_job (by_user, seq);
create index paddles_job_status on paddles_job (status, seq);
create table paddles_job_node (
    node text not null,
    seq integer not null,
    primary key (node, seq)
) without rowid;
create index paddles_job_node_job on paddles_job_node (seq);
create table paddles_node (
    name text primary key,
    description text,
    up integer,
    machine_type text,
    is_vm integer not null,
    vm_host text,
    os_type text,
    os_version text,
    arch text,
    locked integer not null,
    locked_since integer,
    locked_by text,
    mac_address text,
    ssh_pub_key text
);
create index paddles_node_machines on paddles_node (machine_type, locked, name);
-- A pause may end by itself. An announced queue is one that paddles' clients made known.
alter table queue add column paused_until integer;
alter table queue add column announced integer not null default 0;
