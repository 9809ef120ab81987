-- Who is to be told when a task has ended, by a request of our own.
create table callback (
    task blob primary key,
    href text not null,
    tried integer not null,
    next_try_at integer not null,
    error text
);
create index callback_due on callback (next_try_at);
