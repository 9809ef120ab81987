-- Wishes to run a test once more, and what came of them.
create table retest (
    id uuid primary key,
    -- What stands for the same wish: what is tested, and by which test.
    hash bytea not null,
    at timestamptz not null,
    body text not null,
    asked bigint not null
);
create index retest_hash on retest (hash, at);
create index retest_at on retest (at);
