-- Rules that are held: by a person, or by a limit that they went over. The rule `*` stands for all.
create table rule_hold (
    rule text primary key,
    kind text not null,
    by_whom text not null,
    why text,
    since integer not null
) without rowid;
-- Events that a held rule fired on: they are judged when the hold ends, oldest first. `hold_until` is when
-- another server may take it.
create table held_event (
    rule text not null,
    event_seq integer not null,
    generation integer not null,
    at integer not null,
    hold_until integer not null,
    primary key (rule, event_seq, generation)
) without rowid;
create index held_event_seq on held_event (event_seq);

-- How many tasks a limited rule made, by the minute.
create table rule_rate (
    rule text not null,
    minute integer not null,
    made integer not null,
    primary key (rule, minute)
) without rowid;
create index rule_rate_age on rule_rate (minute);

create table rule_counter (
    rule text primary key,
    candidates integer not null,
    fired integer not null,
    errors integer not null,
    suppressed integer not null,
    last_fired_at integer
) without rowid;

-- Windows that are open. Their numbers are never used again.
create table collect_window (
    id integer primary key autoincrement,
    rule text not null,
    key_hash blob not null,
    key text not null,
    first_at integer not null,
    last_at integer not null,
    due_at integer not null,
    events integer not null,
    size_bytes integer not null,
    unique (rule, key_hash)
);
create index collect_window_due on collect_window (due_at);
create table collect_event (
    window_id integer not null,
    place integer not null,
    event_seq integer not null,
    primary key (window_id, place)
) without rowid;

-- The last time of a rule's schedule that was looked at.
create table rule_schedule (rule text primary key, last_time integer not null) without rowid;

create index task_parked on task (rule, id) where state = 'waiting' and wait_reason = 'parked';

-- What a rollback took out of force: as long as the folder or repository holds the same, it is not loaded again.
alter table activation add column held_back text;
