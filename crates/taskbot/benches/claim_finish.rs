//! Claiming and finishing tasks in PostgreSQL, against bare SQL that changes and writes the same rows in the same
//! transactions.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "its results go to standard output")]

#[path = "common/database.rs"]
mod database;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/quantile.rs"]
mod quantile;
#[path = "common/rate.rs"]
mod rate;
#[path = "common/rows.rs"]
mod rows;
#[path = "common/services.rs"]
mod services;

use database::Database;
use futures_util::future::join_all;
use measure::print;
use model::{
    Ids, Offer, Outcome, Requirements, Submitter, SystemIds, TaskId, TaskKey, WorkerName,
    ids::QueueName,
    protocol::{AttemptEnd, FinishRequest},
    result::NewResult,
    task::{Origin, Repo, Resolved, TaskKind, Trust},
    task_file,
};
use quantile::median;
use rate::rate;
use rows::Rows;
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};
use store::{Claim, Finished, NewOrigin, NewTask, Queue, Tasks};
use uuid::Uuid;

const TASKS: usize = 2_000;
const ROUNDS: usize = 3;
/// How many tasks a claim takes.
const CLAIMED: u32 = 32;
/// How many workers claim and finish at the same time.
const WORKERS: usize = 4;
const LEASE_MS: u64 = 60_000;

#[tokio::main]
async fn main() {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let database = Database::fresh().await;
        make_tasks(&database).await;
        let before: i64 = count(&database, "select coalesce(max(id), 0) from outbox").await;
        ours.push(rate(TASKS, with_the_store(&database).await));
        let written = Written::read(&database, before).await;
        let other = Database::fresh().await;
        make_tasks(&other).await;
        bare.push(rate(TASKS, bare_sql(&other, &written).await));
        assert_eq!(count(&other, "select count(*) from task where state = 'finished'").await, TASKS as i64);
        assert_eq!(count(&other, "select count(*) from result").await, TASKS as i64);
    }
    print("claim and finish", median(ours), "tasks/s", Some(median(bare)));
}

async fn count(database: &Database, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&database.pool).await.unwrap()
}

async fn make_tasks(database: &Database) {
    let (file, _) = task_file::parse("task.yaml", "name: cheap\nrun: \"true\"\n").unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567".to_owned();
    let repo = Repo { git: "https://git.example.org/cheap.git".to_owned(), reference: None, path: None };
    let resolved = Some(Box::new(Resolved { commit, file }));
    let kind = TaskKind::Repo { repo, resolved, discover: false };
    let make = |number: usize| {
        let id = TaskId::new(SystemIds.next());
        NewTask {
            id,
            key: TaskKey::of_id("bench", &id.to_string()),
            kind: kind.clone(),
            name: "cheap".into(),
            origin: NewOrigin::Given(Origin::Submitted { who: "bench".to_owned(), why: None }),
            submitter: Submitter::user(if number.is_multiple_of(2) { "one" } else { "other" }),
            item: None,
            inputs: serde_json::Map::new(),
            queue: "default".into(),
            priority: 0,
            needs: Requirements::default(),
            group: None,
            batch: None,
            trust: Trust::Untrusted,
            secrets: Vec::new(),
            approval: None,
            hold: None,
            timeout_cap_seconds: None,
            depth: 0,
            traceparent: None,
            wait: None,
            dedupe: None,
        }
    };
    let tasks: Vec<_> = (0..TASKS).map(make).collect();
    database.store.create_tasks(&tasks).await.unwrap();
    // As a database that lives has them.
    sqlx::query("analyze").execute(&database.pool).await.unwrap();
}

async fn with_the_store(database: &Database) -> Duration {
    let work = |number: usize| async move {
        let store = &*database.store;
        let worker = WorkerName::new(format!("worker-{number}"));
        let offer = Offer { queues: vec![QueueName::from("default")], slots: CLAIMED, ..offer() };
        store.hello(&worker, "1", &offer).await.unwrap();
        let claim = Claim { worker, offer, max: CLAIMED, lease_ms: LEASE_MS, order: Vec::new() };
        loop {
            let taken = store.claim(&claim).await.unwrap();
            if taken.is_empty() {
                return;
            }
            for assignment in taken {
                let request = FinishRequest {
                    attempt: assignment.attempt,
                    end: AttemptEnd::Outcome { outcome: Outcome::Passed, reason: None },
                    phases: Vec::new(),
                    environment: None,
                    results: vec![result()],
                    log_chunks: 0,
                    log_bytes: 0,
                    log_truncated: false,
                };
                let finished = store.finish(assignment.task.id, &request).await.unwrap();
                assert!(matches!(finished, Finished::Accepted(_)));
            }
        }
    };
    let begun = Instant::now();
    join_all((0..WORKERS).map(work)).await;
    begun.elapsed()
}

fn offer() -> Offer {
    let executors =
        [model::requirements::ExecutorKind::Container, model::requirements::ExecutorKind::Sandbox];
    Offer {
        executors: executors.into(),
        memory_bytes: 1 << 34,
        disk_bytes: 1 << 40,
        cpus: 8,
        ..Offer::default()
    }
}

fn result() -> NewResult {
    NewResult {
        testcase: "bench.cheap".to_owned(),
        item: None,
        outcome: Outcome::Passed,
        note: None,
        duration_ms: Some(1),
        data: serde_json::Map::new(),
        children: Vec::new(),
    }
}

/// The rows that the store wrote, by table.
struct Written {
    attempts: Rows,
    results: Rows,
    outbox: Rows,
    events: Rows,
}

impl Written {
    async fn read(database: &Database, before: i64) -> Self {
        let pool = &database.pool;
        sqlx::query("delete from outbox where id <= $1").bind(before).execute(pool).await.unwrap();
        Self {
            attempts: Rows::read(pool, "attempt", "task_id", "").await,
            results: Rows::read(pool, "result", "id", "").await,
            outbox: Rows::read(pool, "outbox", "id", "").await,
            events: Rows::read(pool, "event", "seq", "on conflict (domain, id) do nothing").await,
        }
    }
}

const CLAIM: &str = "with picked as (select id from task where state = 'queued' order by priority desc, turn, id \
    limit $2 for update skip locked) \
    update task t set state = 'running', worker = $1, phase = 'provision', since = now(), \
        lease_until = now() + interval '60 s', fence = t.fence + 1, attempts = t.attempts + 1 \
    from picked where t.id = picked.id returning t.id";
const FINISH: &str = "update task set state = 'finished', outcome = 'passed', since = now(), lease_until = null, \
    fence = fence + 1, ended_attempt = 1 where id = $1 and fence = $2";
const END_ATTEMPT: &str =
    "update attempt set ended_at = now(), outcome = 'passed' where task_id = $1 and number = 1";

/// The same number of rows in each table for each task, in the same transactions.
async fn bare_sql(database: &Database, rows: &Written) -> Duration {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = |number: usize| {
        let next = &next;
        async move {
            let mut connection = database.pool.acquire().await.unwrap();
            let worker = format!("worker-{number}");
            loop {
                let taken = bare_claim(&mut connection, &worker, rows).await;
                if taken.is_empty() {
                    return;
                }
                for id in taken {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    bare_finish(&mut connection, id, at, rows).await;
                }
            }
        }
    };
    let begun = Instant::now();
    join_all((0..WORKERS).map(work)).await;
    begun.elapsed()
}

async fn bare_claim(connection: &mut PgConnection, worker: &str, rows: &Written) -> Vec<Uuid> {
    let mut transaction = connection.begin().await.unwrap();
    let claimed = sqlx::query_scalar(CLAIM).bind(worker).bind(i64::from(CLAIMED));
    let taken: Vec<Uuid> = claimed.fetch_all(&mut *transaction).await.unwrap();
    if !taken.is_empty() {
        let attempts = "insert into attempt (task_id, number, fence, worker, started_at, phases, log_bytes, \
            log_truncated) select id, 1, 1, $2, now(), '[]', 0, false from unnest($1::uuid[]) as t (id)";
        sqlx::query(attempts).bind(&taken).bind(worker).execute(&mut *transaction).await.unwrap();
        // `started` of each.
        rows.outbox.insert(&mut transaction, 0, taken.len()).await;
    }
    transaction.commit().await.unwrap();
    taken
}

async fn bare_finish(connection: &mut PgConnection, id: Uuid, at: usize, rows: &Written) {
    let mut transaction = connection.begin().await.unwrap();
    let locked = sqlx::query("select * from task where id = $1 for update").bind(id);
    locked.fetch_one(&mut *transaction).await.unwrap();
    sqlx::query(END_ATTEMPT).bind(id).execute(&mut *transaction).await.unwrap();
    sqlx::query(FINISH).bind(id).bind(1_i64).execute(&mut *transaction).await.unwrap();
    rows.results.insert(&mut transaction, at, at + 1).await;
    // One `started` for each was written by the claim.
    let told = rows.outbox.count / TASKS - 1;
    rows.outbox.insert(&mut transaction, at * told, (at + 1) * told).await;
    let events = rows.events.count / TASKS;
    rows.events.insert(&mut transaction, at * events, (at + 1) * events).await;
    transaction.commit().await.unwrap();
    assert!(rows.attempts.count == TASKS);
}
