//! A scheduler to test on: a fresh database, repositories that answer as they are told, bytes in memory.

use async_trait::async_trait;
use events::source::AckError;
use events::{Acknowledge, Delivery, Malformed, Source, SourceError, SourceHealth};
use model::{
    Clock, Event, Ids, Offer, Outcome, SystemClock, SystemIds, Task, TaskId,
    attempt::AttemptRef,
    discover::RepositoryTests,
    event::hashed_id,
    ids::SourceName,
    protocol::{Assignment, AttemptEnd, ClaimReply, ClaimRequest, FinishRequest, PROTOCOL_VERSION},
    requirements::ExecutorKind,
    task::Repo,
};
use object_store::memory::InMemory;
use serde_json::{Map, Value, json};
use std::{
    future::Future,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use store::{
    Store, TaskQuery,
    postgres::{PoolOptions, PostgresStore},
    sqlite::SqliteStore,
};
use taskbot_scheduler::{
    Parts, Scheduler, Settings,
    files::Files,
    resolve::{Found, LookUpError, Repositories},
    rulebook::Rulebook,
    rules::load::{Options, RuleFiles},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) const TASKS: &str = "tasks:\n  lint: {git: \"https://git.example.org/lint.git\"}\n  follow: {git: \"https://git.example.org/follow.git\"}\n";
pub(crate) const RULES: &str = r#"rules:
  - name: check-builds
    on: build.done
    then:
      - task: lint
        item: {type: koji_build, id: "${event.body.nvr}"}
        with: {nvr: "${event.body.nvr}"}
"#;
pub(crate) const TASK_FILE: &str =
    "name: lint\ninputs: {nvr: {type: string, default: none}}\nrun: \"true\"\nretry: {on: [lost], max: 2}\n";

type Answer = dyn Fn(&Repo, Option<&str>, usize) -> Result<Found, LookUpError> + Send + Sync;

/// Repositories that answer as they are told.
pub(crate) struct Repos {
    answer: Mutex<Arc<Answer>>,
    pub(crate) calls: Mutex<usize>,
}

impl std::fmt::Debug for Repos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Repos")
    }
}

impl Repos {
    pub(crate) fn say(
        &self,
        answer: impl Fn(&Repo, Option<&str>, usize) -> Result<Found, LookUpError> + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }
}

/// A repository's answer with this task file.
pub(crate) fn found(text: &str) -> Result<Found, LookUpError> {
    Ok(Found { commit: "c".repeat(40), tests: RepositoryTests::TaskFile(text.to_owned()) })
}

#[async_trait]
impl Repositories for Repos {
    async fn look_up(&self, repo: &Repo, at: Option<&str>) -> Result<Found, LookUpError> {
        let call = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        let answer = Arc::clone(&self.answer.lock().unwrap());
        let mut found = answer(repo, at, call)?;
        if let Some(at) = at {
            at.clone_into(&mut found.commit);
        }
        Ok(found)
    }
}

/// A database, and the scheduler over it.
pub(crate) struct Bed {
    pub(crate) scheduler: Scheduler,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) repos: Arc<Repos>,
    _folder: tempfile::TempDir,
    database: Option<String>,
    running: Vec<(CancellationToken, JoinHandle<()>)>,
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where their services are")]
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set; `cargo xtask test` sets it"))
}

async fn postgres(database: &str) -> Arc<dyn Store> {
    let server = variable("TASKBOT_TEST_POSTGRES_URL");
    let (before, _) = server.rsplit_once('/').unwrap();
    let options = PoolOptions { connections_max: 8, ..PoolOptions::default() };
    let url = format!("{before}/{database}");
    Arc::new(PostgresStore::connect(&url, options, Arc::new(SystemIds)).await.unwrap())
}

async fn sqlite(folder: &std::path::Path) -> Arc<dyn Store> {
    let file = folder.join("taskbot.db");
    Arc::new(SqliteStore::open(&file, Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap())
}

pub(crate) fn quick() -> Settings {
    Settings {
        poll_every: Duration::from_millis(200),
        reap_every: Duration::from_millis(20),
        ..Settings::default()
    }
}

impl Bed {
    /// On SQLite, with the usual rule in force.
    pub(crate) async fn new() -> Self {
        Self::with(quick(), |parts| parts).await
    }

    /// On SQLite, with other settings and parts.
    pub(crate) async fn with(settings: Settings, change: impl FnOnce(Parts) -> Parts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite(folder.path()).await;
        Self::over(folder, store, None, settings, change).await
    }

    /// On a fresh database of PostgreSQL.
    pub(crate) async fn postgres() -> Self {
        let database = format!("scheduler_{}", SystemIds.next().simple());
        let tool = format!("{}/createdb", variable("TASKBOT_TEST_POSTGRES_BIN"));
        let url = format!("--maintenance-db={}", variable("TASKBOT_TEST_POSTGRES_URL"));
        assert!(Command::new(tool).args([&url, &database]).status().unwrap().success());
        let store = postgres(&database).await;
        Self::over(tempfile::tempdir().unwrap(), store, Some(database), quick(), |parts| parts).await
    }

    async fn over(
        folder: tempfile::TempDir,
        store: Arc<dyn Store>,
        database: Option<String>,
        settings: Settings,
        change: impl FnOnce(Parts) -> Parts,
    ) -> Self {
        let repos = Arc::new(Repos {
            answer: Mutex::new(Arc::new(|_, _, _| found(TASK_FILE))),
            calls: Mutex::new(0),
        });
        let parts = parts(settings, &store, &repos);
        let scheduler = Scheduler::new(change(parts));
        if !scheduler.rulebook().has_source() {
            scheduler.activate_rules(files(RULES), "test", "tester").await.unwrap();
        }
        Self { scheduler, store, repos, _folder: folder, database, running: Vec::new() }
    }

    /// Another server on the same database.
    pub(crate) async fn second(&self, settings: Settings, change: impl FnOnce(Parts) -> Parts) -> Scheduler {
        let store = match &self.database {
            Some(database) => postgres(database).await,
            None => Arc::clone(&self.store),
        };
        Scheduler::new(change(parts(settings, &store, &self.repos)))
    }

    /// Lets a scheduler run.
    pub(crate) fn run(&mut self, scheduler: &Scheduler, sources: Vec<Box<dyn Source>>) -> CancellationToken {
        let stop = CancellationToken::new();
        let (scheduler, stopped) = (scheduler.clone(), stop.clone());
        let job = tokio::spawn(async move { scheduler.run(sources, stopped).await.unwrap() });
        self.running.push((stop.clone(), job));
        stop
    }

    /// Lets the scheduler run.
    pub(crate) fn start(&mut self) -> CancellationToken {
        let scheduler = self.scheduler.clone();
        self.run(&scheduler, Vec::new())
    }

    /// Stops everything and removes the database.
    pub(crate) async fn end(mut self) {
        for (stop, job) in self.running.drain(..) {
            stop.cancel();
            tokio::time::timeout(PATIENCE, job).await.expect("the loops end").unwrap();
        }
        self.store.close().await;
        if let Some(database) = &self.database {
            let tool = format!("{}/dropdb", variable("TASKBOT_TEST_POSTGRES_BIN"));
            let url = format!("--maintenance-db={}", variable("TASKBOT_TEST_POSTGRES_URL"));
            assert!(Command::new(tool).args([&url, "--force", database]).status().unwrap().success());
        }
    }

    pub(crate) async fn tasks(&self) -> Vec<Task> {
        let query = TaskQuery { limit: store::PAGE_MAX, ..TaskQuery::default() };
        let mut tasks = self.store.tasks(&query).await.unwrap().items;
        tasks.reverse();
        tasks
    }

    pub(crate) async fn label(&self, task: TaskId) -> String {
        self.store.task(task).await.unwrap().state.label()
    }

    /// Waits until a task's label starts so.
    pub(crate) async fn until_label(&self, task: TaskId, start: &str) -> Task {
        until(&format!("{task} to be {start}"), || async {
            let task = self.store.task(task).await.unwrap();
            task.state.label().starts_with(start).then_some(task)
        })
        .await
    }

    /// Waits until there are so many tasks.
    pub(crate) async fn until_tasks(&self, count: usize) -> Vec<Task> {
        until(&format!("{count} tasks"), || async { Some(self.tasks().await).filter(|t| t.len() >= count) })
            .await
    }

    /// Takes one event in; the ids of its tasks.
    pub(crate) async fn take(&self, event: Event) -> Vec<TaskId> {
        match self.scheduler.ingest(vec![event.into()]).await.unwrap().remove(0) {
            taskbot_scheduler::ingest::Taken::New { tasks, .. } => tasks,
            other => panic!("not new: {other:?}"),
        }
    }

    /// Claims without waiting.
    pub(crate) async fn claim(&self, worker: &str) -> Vec<Assignment> {
        self.poll(claim(worker, 8, 0)).await.assignments
    }

    pub(crate) async fn poll(&self, request: ClaimRequest) -> ClaimReply {
        self.scheduler.claim(&request, &CancellationToken::new()).await.unwrap()
    }

    /// Claims until something is handed out.
    pub(crate) async fn claim_one(&self, worker: &str) -> Assignment {
        until("a task to claim", || async { self.claim(worker).await.pop() }).await
    }
}

fn parts(settings: Settings, store: &Arc<dyn Store>, repos: &Arc<Repos>) -> Parts {
    Parts {
        settings,
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        store: Arc::clone(store),
        files: Files::new(Arc::new(InMemory::new())),
        rulebook: Rulebook::new(Options::default(), None),
        repositories: Arc::clone(repos) as Arc<dyn Repositories>,
        outlet: None,
        sinks: Vec::new(),
        results_elsewhere: None,
    }
}

/// Waits for a condition.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub(crate) fn files(rules: &str) -> RuleFiles {
    RuleFiles::of([("tasks.yaml", TASKS), ("rules.yaml", rules)])
}

/// An event as a bus gives it.
pub(crate) fn event(id: &str, topic: &str, body: &Value) -> Event {
    raw(id, topic, body.to_string().as_bytes())
}

pub(crate) fn raw(id: &str, topic: &str, payload: &[u8]) -> Event {
    Event {
        source: "bus".into(),
        domain: "bus".into(),
        id: id.into(),
        topic: topic.into(),
        time: None,
        received_at: SystemClock.now(),
        headers: Map::new(),
        payload: payload.into(),
        depth: 0,
        cause: None,
        traceparent: None,
    }
}

/// A build was done.
pub(crate) fn build(id: &str) -> Event {
    event(id, "build.done", &json!({"nvr": "audit-4.0-1.fc42"}))
}

pub(crate) fn claim(worker: &str, free_slots: u32, wait_seconds: u32) -> ClaimRequest {
    ClaimRequest {
        protocol: PROTOCOL_VERSION,
        worker: worker.into(),
        version: "1".to_owned(),
        offer: Offer {
            identity: None,
            queues: vec!["default".into()],
            arches: ["x86_64".to_owned()].into(),
            vm_arches: [].into(),
            providers: [].into(),
            vm_images: None,
            containers: None,
            executors: [ExecutorKind::Container, ExecutorKind::Local, ExecutorKind::Sandbox].into(),
            labels: [].into(),
            memory_bytes: 1 << 33,
            disk_bytes: 1 << 36,
            cpus: 4,
            kvm: false,
            slots: 8,
            foreign: None,
        },
        free_slots,
        running: Vec::new(),
        wait_seconds,
    }
}

pub(crate) fn finish(attempt: AttemptRef, outcome: &str) -> FinishRequest {
    let outcome: Outcome = outcome.parse().unwrap();
    FinishRequest {
        attempt,
        end: AttemptEnd::Outcome { outcome, reason: None },
        phases: Vec::new(),
        environment: None,
        results: Vec::new(),
        log_chunks: 0,
        log_bytes: 0,
        log_truncated: false,
    }
}

/// What was said about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Ack,
    Progress,
}

/// A source that delivers what it is given.
pub(crate) struct TestSource {
    name: SourceName,
    batches: mpsc::UnboundedReceiver<Vec<Delivery>>,
    health: watch::Sender<SourceHealth>,
}

struct Handle(usize, mpsc::UnboundedSender<(usize, Said)>);

#[async_trait]
impl Acknowledge for Handle {
    async fn ack(&self) -> Result<(), AckError> {
        let _ = self.1.send((self.0, Said::Ack));
        Ok(())
    }
    async fn retry(&self, _: Duration) -> Result<(), AckError> {
        panic!("nothing is handed back")
    }
    async fn progress(&self) -> Result<(), AckError> {
        let _ = self.1.send((self.0, Said::Progress));
        Ok(())
    }
    async fn discard(&self) -> Result<(), AckError> {
        panic!("nothing is discarded")
    }
}

/// A source, and what is said about the deliveries: each with its number.
pub(crate) fn source(
    contents: Vec<Result<Event, &str>>,
    own: &[usize],
) -> (Box<dyn Source>, mpsc::UnboundedReceiver<(usize, Said)>) {
    let (said, heard) = mpsc::unbounded_channel();
    let (send, batches) = mpsc::unbounded_channel();
    let delivery = |(number, content): (usize, Result<Event, &str>)| {
        let body = content.as_ref().ok().and_then(|event| event.body().ok()).unwrap_or(Value::Null);
        let content = content.map_err(|bytes| Malformed {
            reason: "it is no JSON".to_owned(),
            topic: "build.done".into(),
            id: hashed_id("build.done", bytes.as_bytes()),
            headers: Map::new(),
            payload: bytes::Bytes::copy_from_slice(bytes.as_bytes()),
        });
        let handle = Box::new(Handle(number, said.clone()));
        Delivery { content, body, deliveries: 1, position: None, own: own.contains(&number), handle }
    };
    send.send(contents.into_iter().enumerate().map(delivery).collect()).unwrap();
    let source = TestSource { name: "bus".into(), batches, health: watch::Sender::default() };
    // The sender stays with the source's end: no more comes.
    drop(send);
    (Box::new(source), heard)
}

#[async_trait]
impl Source for TestSource {
    fn name(&self) -> &SourceName {
        &self.name
    }
    async fn next_batch(&mut self, _: usize) -> Result<Vec<Delivery>, SourceError> {
        match self.batches.recv().await {
            Some(batch) => Ok(batch),
            None => std::future::pending().await,
        }
    }
    fn health(&self) -> watch::Receiver<SourceHealth> {
        self.health.subscribe()
    }
    async fn close(&mut self) {}
}
