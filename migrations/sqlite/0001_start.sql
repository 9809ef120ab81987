-- Times are microseconds since 1970 in UTC; ids of tasks, batches, tokens and artifacts are 16 bytes.
-- Every query by id leaves the predicates of the partial indexes out.

-- Shift of the clock that leases, delays and windows go by, for drills and tests.
create table clock (one integer primary key check (one = 1), shift_us integer not null);
insert into clock values (1, 0);

create table rule_set (
    revision text primary key,
    content text not null,
    origin text not null,
    commit_id text,
    by_whom text not null,
    created_at integer not null
);
create table activation (
    serial integer primary key autoincrement,
    revision text not null references rule_set (revision),
    by_whom text not null,
    at integer not null
);

-- The inbox. `hold_until` is set while the event waits to be judged.
create table event (
    seq integer primary key autoincrement,
    domain text not null,
    id text not null,
    content_hash blob not null,
    source text not null,
    topic text not null,
    time integer,
    received_at integer not null,
    headers text not null,
    payload blob,
    depth integer not null,
    cause blob,
    traceparent text,
    generation integer not null,
    revision text,
    hold_until integer,
    unique (domain, id)
);
create index event_unjudged on event (seq) where hold_until is not null;
create index event_id on event (id);
create index event_topic on event (topic, seq);

create table firing (
    id integer primary key autoincrement,
    event_seq integer not null,
    generation integer not null,
    revision text not null,
    verdict text not null,
    at integer not null
);
create index firing_event on firing (event_seq);

-- Wishes with a `dedupe` key, by the hash of scope and key.
create table wish (hash blob primary key, made_at integer not null, until integer not null) without rowid;

create table queue (
    name text primary key,
    paused_by text,
    paused_why text,
    paused_since integer
);
-- How far a queue's turns have come at a priority.
create table turn (
    queue text not null,
    priority integer not null,
    turn integer not null,
    primary key (queue, priority)
) without rowid;
-- Tasks of a queue that need the same wait in one lane, so that a claim reads only lanes that its worker can serve.
create table lane (
    id integer primary key autoincrement,
    queue text not null,
    hash blob not null,
    requirements text not null,
    unmet text,
    unique (queue, hash)
);
create index lane_unmet on lane (id) where unmet is not null;

create table worker (
    name text primary key,
    version text not null,
    offer text not null,
    mode text not null,
    last_seen integer not null
);

create table batch (
    id blob primary key,
    name text not null unique,
    tasks integer not null,
    final_tasks integer not null,
    created_at integer not null
);

-- Hot columns for queueing and lists; `body` holds what is only shown.
-- `state` is the model's, but for `delayed`: queued, and its time has not come.
create table task (
    id blob primary key,
    key blob not null unique,
    name text not null,
    kind text not null,
    submitter text not null,
    queue text not null,
    priority integer not null,
    item_type text,
    item_id text,
    rule text,
    event_seq integer,
    batch_id blob,
    group_name text,
    group_max integer,
    depth integer not null,
    body text not null,
    created_at integer not null,
    state text not null,
    wait_reason text,
    since integer not null,
    not_before integer,
    lane_id integer references lane (id),
    turn integer not null,
    worker text,
    phase text,
    lease_until integer,
    stop text,
    outcome text,
    reason text,
    ended_attempt integer,
    attempts integer not null,
    handed_back integer not null,
    fence integer not null,
    tries integer not null,
    hold_until integer not null
);
create index task_lane on task (lane_id, priority desc, turn, id) where state = 'queued';
create index task_submitter on task (queue, submitter, priority, turn) where state = 'queued';
create index task_delayed on task (not_before) where state = 'delayed';
create index task_lease on task (lease_until) where state = 'running';
create index task_worker on task (worker) where state = 'running';
create index task_resolving on task (hold_until, id) where state = 'waiting' and wait_reason = 'resolving';
create index task_open on task (queue, state, id) where state in ('waiting', 'queued', 'delayed', 'running');
create index task_group on task (group_name, state)
    where group_name is not null and state in ('waiting', 'queued', 'delayed', 'running');
create index task_event on task (event_seq) where event_seq is not null;
create index task_item on task (item_id, id) where item_id is not null;
create index task_batch on task (batch_id, id) where batch_id is not null;
create index task_name on task (name, id);
create index task_rule on task (rule, id) where rule is not null;

create table attempt (
    task_id blob not null,
    number integer not null,
    fence integer not null,
    worker text not null,
    started_at integer not null,
    ended_at integer,
    outcome text,
    reason text,
    digest blob,
    phases text not null,
    environment text,
    log_bytes integer not null,
    log_truncated integer not null,
    primary key (task_id, number)
);

-- `scenario` is the hash of testcase, item and architecture: results of one scenario follow each other.
create table result (
    id integer primary key autoincrement,
    parent integer,
    task_id blob,
    attempt integer,
    testcase text not null,
    item_type text,
    item_id text,
    scenario blob not null,
    outcome text not null,
    previous_outcome text,
    note text,
    duration_ms integer,
    data text not null,
    created_at integer not null
);
create index result_scenario on result (scenario, id);
create index result_task on result (task_id, id) where task_id is not null;
create index result_parent on result (parent, id) where parent is not null;
create index result_top on result (id) where parent is null;
create index result_item on result (item_id, id) where item_id is not null;
create index result_testcase on result (testcase, id);

create table log_chunk (
    task_id blob not null,
    attempt integer not null,
    seq integer not null,
    size_bytes integer not null,
    key text not null,
    created_at integer not null,
    primary key (task_id, attempt, seq)
) without rowid;
create index log_chunk_age on log_chunk (created_at);

create table artifact (
    id blob primary key,
    task_id blob not null,
    attempt integer not null,
    name text not null,
    size_bytes integer not null,
    sha256 text not null,
    key text not null,
    published integer not null,
    created_at integer not null,
    unique (task_id, attempt, name)
);
create index artifact_age on artifact (created_at);

create table outbox (
    id integer primary key autoincrement,
    topic text not null,
    subject text not null,
    order_key text not null,
    data text not null,
    task_id blob,
    depth integer not null,
    traceparent text,
    created_at integer not null,
    position integer,
    published_at integer
);
create index outbox_unstamped on outbox (id) where position is null;
create unique index outbox_position on outbox (position) where position is not null;
create index outbox_unpublished on outbox (position) where position is not null and published_at is null;
-- The last position that was stamped.
create table relay (one integer primary key check (one = 1), position integer not null);
insert into relay values (1, 0);

create table dead_letter (
    id integer primary key autoincrement,
    hash blob not null unique,
    source text not null,
    topic text,
    event_id text,
    headers text not null,
    payload blob not null,
    size_bytes integer not null,
    reason text not null,
    deliveries integer not null,
    created_at integer not null
);

create table token (
    id blob primary key,
    name text not null,
    role text not null,
    secret_hash blob not null,
    created_at integer not null,
    expires_at integer,
    last_used_at integer
);
create table audit (
    id integer primary key autoincrement,
    at integer not null,
    who text not null,
    action text not null,
    object text not null,
    detail text not null
);

-- Who does a periodic work, and until when.
create table lease (work text primary key, holder text not null, until integer not null);
