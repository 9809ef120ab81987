-- Rules that are held: by a person, or by a limit that they went over. The rule `*` stands for all.
create table rule_hold (
    rule text primary key,
    kind text not null,
    by_whom text not null,
    why text,
    since timestamptz not null
);
-- Events that a held rule fired on: they are judged when the hold ends, oldest first. `hold_until` is when
-- another server may take it.
create table held_event (
    rule text not null,
    event_seq bigint not null,
    generation bigint not null,
    at timestamptz not null,
    hold_until timestamptz not null,
    primary key (rule, event_seq, generation)
);
create index held_event_seq on held_event (event_seq);

-- How many tasks a limited rule made, by the minute.
create table rule_rate (
    rule text not null,
    minute bigint not null,
    made bigint not null,
    primary key (rule, minute)
);
create index rule_rate_age on rule_rate (minute);

create table rule_counter (
    rule text primary key,
    candidates bigint not null,
    fired bigint not null,
    errors bigint not null,
    suppressed bigint not null,
    last_fired_at timestamptz
);

-- Windows that are open. Their numbers are never used again.
create table collect_window (
    id bigint generated always as identity primary key,
    rule text not null,
    key_hash bytea not null,
    key text not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    due_at timestamptz not null,
    events bigint not null,
    size_bytes bigint not null,
    unique (rule, key_hash)
);
create index collect_window_due on collect_window (due_at);
create table collect_event (
    window_id bigint not null,
    place bigint not null,
    event_seq bigint not null,
    primary key (window_id, place)
);

-- The last time of a rule's schedule that was looked at.
create table rule_schedule (rule text primary key, last_time timestamptz not null);

create index task_parked on task (rule, id) where state = 'waiting' and wait_reason = 'parked';

-- What a rollback took out of force: as long as the folder or repository holds the same, it is not loaded again.
alter table activation add column held_back text;
