-- Who is to be told when a task has ended, by a request of our own.
create table callback (
    task uuid primary key,
    href text not null,
    tried bigint not null,
    next_try_at timestamptz not null,
    error text
);
create index callback_due on callback (next_try_at);
