//! Stores to test on, and samples to fill them with.

use chrono::{DateTime, Utc};
use model::{
    Event, EventId, Ids, Item, Offer, Outcome, Requirements, Revision, SystemClock, SystemIds, Task, TaskId,
    TaskKey,
    attempt::AttemptRef,
    ids::{EventSeq, SourceName, WorkerName},
    limits::Limits,
    message::Message,
    protocol::{Assignment, AttemptEnd, FinishRequest},
    result::NewResult,
    task::{Group, OnNew, Origin, Repo, Resolved, TaskKind, Trust, WaitReason},
    verdict::{Verdict, VerdictKind},
};
use serde_json::{Map, Value, json};
use sqlx::Connection as _;
use std::{path::PathBuf, sync::Arc};
use store::{
    Claim, EventCommit, Judgement, NewOrigin, NewTask, PAGE_MAX, Resolution, Store, TaskQuery,
    postgres::{PoolOptions, PostgresStore},
    sqlite::SqliteStore,
};

/// How long leases are in tests, in milliseconds.
pub(crate) const LEASE_MS: u64 = 60_000;

/// Which database a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// A fresh database with a store over it.
pub(crate) struct Bed {
    pub(crate) store: Arc<dyn Store>,
    place: Place,
}

enum Place {
    Sqlite(tempfile::TempDir),
    Postgres { server: String, database: String },
}

/// One named test per case and backend.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let bed = $crate::harness::Bed::new($crate::harness::Kind::Sqlite).await;
                    super::$case(&bed).await;
                    bed.end().await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let bed = $crate::harness::Bed::new($crate::harness::Kind::Postgres).await;
                    super::$case(&bed).await;
                    bed.end().await;
                }
            )*
        }
    };
}
pub(crate) use conformance;

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where their services are")]
pub(crate) fn postgres_url() -> String {
    std::env::var("TASKBOT_TEST_POSTGRES_URL")
        .expect("TASKBOT_TEST_POSTGRES_URL must name a PostgreSQL server; `cargo xtask test` starts one")
}

/// The URL of another database of the same server.
pub(crate) fn of_database(server: &str, database: &str) -> String {
    let (before, _) = server.rsplit_once('/').expect("a URL with a database");
    format!("{before}/{database}")
}

pub(crate) async fn run_sql(url: &str, sql: String) {
    let mut connection = sqlx::PgConnection::connect(url).await.expect("the server answers");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("the statement runs");
    connection.close().await.expect("it closes");
}

impl Bed {
    pub(crate) async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let place = Place::Sqlite(folder);
                let store = open(&place).await;
                Self { store, place }
            }
            Kind::Postgres => {
                let server = postgres_url();
                let database = format!("store_{}", SystemIds.next().simple());
                run_sql(&server, format!("create database {database}")).await;
                let place = Place::Postgres { server, database };
                let store = open(&place).await;
                Self { store, place }
            }
        }
    }

    /// Another server on the same database.
    pub(crate) async fn second(&self) -> Arc<dyn Store> {
        open(&self.place).await
    }

    /// A server that starts after the first one has stopped. The first one's lock lasts as long as the bed, so on
    /// SQLite it gets the file elsewhere.
    pub(crate) async fn restarted(&self) -> Arc<dyn Store> {
        self.store.close().await;
        let Some(file) = self.file() else { return self.second().await };
        let copy = file.with_file_name("restarted.db");
        std::fs::copy(&file, &copy).unwrap();
        Arc::new(SqliteStore::open(&copy, Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap())
    }

    /// Where the SQLite file is.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Sqlite(folder) => Some(folder.path().join("taskbot.db")),
            Place::Postgres { .. } => None,
        }
    }

    /// The URL of the PostgreSQL database.
    pub(crate) fn url(&self) -> Option<String> {
        match &self.place {
            Place::Sqlite(_) => None,
            Place::Postgres { server, database } => Some(of_database(server, database)),
        }
    }

    /// Removes the database of a test that went well.
    pub(crate) async fn end(self) {
        self.store.close().await;
        if let Place::Postgres { server, database } = &self.place {
            run_sql(server, format!("drop database {database} with (force)")).await;
        }
    }

    /// Lets time go by.
    pub(crate) async fn pass(&self, ms: i64) {
        self.store.shift_clock(ms).await.unwrap();
    }

    /// Commits one event with tasks that rules wish, all resolved later.
    pub(crate) async fn event(&self, id: &str, tasks: Vec<NewTask>) -> EventSeq {
        let commit = EventCommit { event: event(id, "{}"), judgement: Some(judgement(tasks)) };
        match self.store.commit_events(&[commit]).await.unwrap().remove(0) {
            store::Committed::New { seq, .. } => seq,
            other => panic!("not new: {other:?}"),
        }
    }

    /// Writes how resolving a task went.
    pub(crate) async fn resolve(&self, task: TaskId, resolution: &Resolution) -> store::Result<Task> {
        let task = self.store.task(task).await?;
        self.store.resolve(&task, resolution).await
    }

    /// Commits one event that was judged so.
    pub(crate) async fn judged(&self, id: &str, judgement: Judgement) -> (EventSeq, Vec<TaskId>) {
        let commit =
            EventCommit { event: event(id, &format!(r#"{{"id": "{id}"}}"#)), judgement: Some(judgement) };
        match self.store.commit_events(&[commit]).await.unwrap().remove(0) {
            store::Committed::New { seq, tasks } => (seq, tasks),
            other => panic!("not new: {other:?}"),
        }
    }

    /// What rules said to an event, in one word each.
    pub(crate) async fn said(&self, seq: EventSeq) -> Vec<String> {
        let firings = self.store.firings(seq).await.unwrap();
        firings.iter().map(|one| one.verdict.verdict.as_str().to_owned()).collect()
    }

    /// Makes tasks that are queued at once.
    pub(crate) async fn queue(&self, tasks: &[NewTask]) -> Vec<Task> {
        self.store.create_tasks(tasks).await.unwrap()
    }

    pub(crate) async fn claim(&self, worker: &str, max: u32) -> Vec<Assignment> {
        self.store.claim(&claim(worker, max)).await.unwrap()
    }

    /// Claims one task that must be there.
    pub(crate) async fn claim_one(&self) -> Assignment {
        self.claim("w1", 1).await.pop().expect("a task to claim")
    }

    pub(crate) async fn finish(&self, assignment: &Assignment, outcome: &str) -> store::Finished {
        self.store.finish(assignment.task.id, &finish(assignment.attempt, outcome)).await.unwrap()
    }

    pub(crate) async fn label(&self, task: TaskId) -> String {
        self.store.task(task).await.unwrap().state.label()
    }

    /// Stamps and reads all messages.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        while self.store.stamp(1000).await.unwrap() > 0 {}
        let mut messages: Vec<Message> = Vec::new();
        loop {
            let after = messages.last().and_then(|message| message.position).unwrap_or(model::Position(0));
            let more = self.store.stream(after, 1000).await.unwrap();
            if more.is_empty() {
                return messages;
            }
            messages.extend(more);
        }
    }

    /// The topics of all messages, without `taskbot.`.
    pub(crate) async fn topics(&self) -> Vec<String> {
        let messages = self.messages().await;
        messages
            .iter()
            .map(|one| one.message.topic.as_str().trim_start_matches("taskbot.").to_owned())
            .collect()
    }

    /// The topics of the messages of one task.
    pub(crate) async fn topics_of(&self, task: TaskId) -> Vec<String> {
        let messages = self.messages().await;
        let of_task = messages.iter().filter(|one| one.message.task == Some(task));
        of_task.map(|one| one.message.topic.as_str().trim_start_matches("taskbot.").to_owned()).collect()
    }

    pub(crate) async fn all_tasks(&self) -> Vec<Task> {
        self.store.tasks(&TaskQuery { limit: PAGE_MAX, ..TaskQuery::default() }).await.unwrap().items
    }
}

async fn open(place: &Place) -> Arc<dyn Store> {
    match place {
        Place::Sqlite(folder) => {
            let file = folder.path().join("taskbot.db");
            Arc::new(SqliteStore::open(&file, Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap())
        }
        Place::Postgres { server, database } => {
            let url = of_database(server, database);
            let options = PoolOptions { connections_max: 8, ..PoolOptions::default() };
            Arc::new(PostgresStore::connect(&url, options, Arc::new(SystemIds)).await.unwrap())
        }
    }
}

pub(crate) fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn task_id() -> TaskId {
    SystemIds.next().into()
}

pub(crate) fn event(id: &str, payload: &str) -> Event {
    Event {
        source: "bus".into(),
        domain: "bus".into(),
        id: EventId::from(id),
        topic: "org.example.build.done".into(),
        time: Some(time("2026-11-01T10:00:00.123456Z")),
        received_at: time("2026-11-01T10:00:01Z"),
        headers: Map::from_iter([("sent-at".to_owned(), json!("2026-11-01T10:00:00Z"))]),
        payload: payload.as_bytes().into(),
        depth: 0,
        cause: None,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    }
}

pub(crate) fn revision() -> Revision {
    Revision::new("a".repeat(64))
}

pub(crate) fn judgement(tasks: Vec<NewTask>) -> Judgement {
    let count = u32::try_from(tasks.len()).unwrap();
    let verdict = VerdictKind::Fired { tasks: count };
    let verdicts = vec![Verdict { rule: "lint".into(), verdict, clauses: Vec::new() }];
    Judgement { verdicts, tasks, ..Judgement::none(revision()) }
}

/// What a rule with limits says.
pub(crate) fn limited(limits: Limits, tasks: Vec<NewTask>) -> Judgement {
    Judgement { limits: [("lint".into(), limits)].into(), ..judgement(tasks) }
}

/// A task as a rule wishes it: waits to be resolved.
pub(crate) fn wished(name: &str) -> NewTask {
    let id = task_id();
    NewTask {
        id,
        key: TaskKey::of_id("test", &id.to_string()),
        kind: TaskKind::Repo {
            repo: Repo { git: "https://example.org/lint.git".to_owned(), reference: None, path: None },
            resolved: None,
            discover: false,
        },
        name: name.into(),
        origin: NewOrigin::Rule {
            rule: "lint".into(),
            revision: revision(),
            entry: 0,
            cell: Map::from_iter([("arch".to_owned(), json!("x86_64"))]),
        },
        submitter: "rule:lint".into(),
        item: Some(Item::new("koji_build", "audit-2.8-1.fc26")),
        inputs: Map::from_iter([("nvr".to_owned(), json!("audit-2.8-1.fc26"))]),
        queue: "main".into(),
        priority: 0,
        needs: Requirements::default(),
        group: None,
        batch: None,
        trust: Trust::Trusted,
        secrets: Vec::new(),
        approval: None,
        hold: None,
        timeout_cap_seconds: Some(600),
        depth: 0,
        traceparent: None,
        wait: Some(WaitReason::Resolving),
        dedupe: None,
    }
}

/// A task that is queued at once.
pub(crate) fn ready(submitter: &str) -> NewTask {
    NewTask {
        kind: TaskKind::Foreign { system: "other".into(), job: json!({"job_queue": "main"}), retry: None },
        origin: NewOrigin::Given(Origin::Submitted { who: submitter.to_owned(), why: None }),
        submitter: submitter.into(),
        wait: None,
        ..wished("job")
    }
}

pub(crate) fn in_group(task: NewTask, name: &str, on_new: OnNew, max_running: Option<u32>) -> NewTask {
    NewTask { group: Some(Group { name: name.into(), on_new, max_running }), ..task }
}

/// A task file with a retry policy and more.
pub(crate) fn resolved(more: &str) -> Box<Resolved> {
    let text = format!(
        "name: lint\nenvironment: [{{container: {{image: 'fedora:42'}}}}]\nrun: [./run.sh]\n{more}\n"
    );
    let (file, _) = model::task_file::parse("task.yaml", &text).unwrap();
    Box::new(Resolved { commit: "c".repeat(40), file })
}

pub(crate) fn found(more: &str, needs: Requirements) -> Resolution {
    Resolution::Found {
        resolved: resolved(more),
        inputs: Map::from_iter([("nvr".to_owned(), json!("a"))]),
        needs,
    }
}

pub(crate) fn offer() -> Offer {
    Offer {
        identity: None,
        queues: vec!["main".into()],
        arches: ["x86_64".to_owned()].into(),
        vm_arches: [].into(),
        providers: [].into(),
        vm_images: None,
        containers: None,
        executors: [model::requirements::ExecutorKind::Container].into(),
        labels: [].into(),
        memory_bytes: 1 << 32,
        disk_bytes: 1 << 34,
        cpus: 4,
        kvm: false,
        slots: 4,
        foreign: None,
    }
}

pub(crate) fn needs(arch: &str) -> Requirements {
    Requirements { arch: Some(arch.to_owned()), ..Requirements::default() }
}

pub(crate) fn claim(worker: &str, max: u32) -> Claim {
    Claim { worker: WorkerName::from(worker), offer: offer(), max, lease_ms: LEASE_MS, order: Vec::new() }
}

pub(crate) fn finish(attempt: AttemptRef, outcome: &str) -> FinishRequest {
    let outcome: Outcome = outcome.parse().unwrap();
    FinishRequest {
        attempt,
        end: AttemptEnd::Outcome { outcome, reason: Some("because".to_owned()) },
        phases: Vec::new(),
        environment: None,
        results: Vec::new(),
        log_chunks: 0,
        log_bytes: 0,
        log_truncated: false,
    }
}

pub(crate) fn result(testcase: &str, outcome: &str) -> NewResult {
    NewResult {
        testcase: testcase.to_owned(),
        item: None,
        outcome: outcome.parse().unwrap(),
        note: None,
        duration_ms: Some(12),
        data: Map::new(),
        children: Vec::new(),
    }
}

/// The domain of our own events.
pub(crate) fn own() -> SourceName {
    SourceName::from("taskbot")
}

/// Reads a JSON object from a payload.
pub(crate) fn body(event: &Event) -> Value {
    serde_json::from_slice(&event.payload).unwrap()
}
