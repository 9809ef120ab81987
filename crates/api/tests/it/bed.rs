//! A server to send requests to.

use async_trait::async_trait;
use model::{Clock, Ids, SystemClock, SystemIds, discover::RepositoryTests, task::Repo};
use object_store::memory::InMemory;
use reqwest::{Client, Method, RequestBuilder};
use scheduler::{
    Parts, Scheduler, Settings,
    files::Files,
    resolve::{Found, LookUpError, Repositories},
    retest::RetestSettings,
    rulebook::Rulebook,
    rules::load::{Options, RuleFiles},
};
use serde_json::{Value, json};
use std::{future::Future, net::SocketAddr, process::Command, sync::Arc, time::Duration};
use store::{
    Role, Store,
    postgres::{PoolOptions, PostgresStore},
    sqlite::SqliteStore,
};
use taskbot_api::{
    ApiState, Interface, Interfaces,
    auth::{Access, new_token},
    interface_router, router,
    server::{Limits, serve_within},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

const TASKS: &str = "tasks:\n  lint: {git: \"https://git.example.org/lint.git\"}\n  \
    package-install: {git: \"https://git.example.org/package-install.git\"}\n  \
    package-install-vm: {git: \"https://git.example.org/package-install.git\"}\n  \
    package-install-external: {git: \"https://git.example.org/package-install.git\"}\n";
const PACKAGE_INSTALL: &str = include_str!("../../../../deploy/task-repos/package-install/task.yaml");
pub(crate) const RULES: &str = "rules:\n  - name: check-builds\n    on: build.done\n    then:\n      - task: lint\n        with: {nvr: \"${event.body.nvr}\"}\n";
const TASK_FILE: &str = "name: lint\ninputs: {nvr: {type: string, default: none}}\nrun: \"true\"\n";

#[derive(Debug)]
struct Always;

#[async_trait]
impl Repositories for Always {
    async fn look_up(&self, repo: &Repo, _: Option<&str>) -> Result<Found, LookUpError> {
        let file = if repo.git.ends_with("package-install.git") { PACKAGE_INSTALL } else { TASK_FILE };
        Ok(Found { commit: "c".repeat(40), tests: RepositoryTests::TaskFile(file.to_owned()) })
    }
}

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

tokio::task_local! {
    /// What [`both`] says; SQLite without it.
    pub(crate) static KIND: Kind;
    /// What links begin with; the request's own address without it.
    pub(crate) static PUBLIC: &'static str;
}

/// One test for each case and database.
macro_rules! both {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                $crate::bed::KIND.scope($crate::bed::Kind::Sqlite, super::$case()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                $crate::bed::KIND.scope($crate::bed::Kind::Postgres, super::$case()).await;
            })*
        }
    };
}
pub(crate) use both;

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where their services are")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set; `cargo xtask test` sets it"))
}

/// Makes or drops a database of PostgreSQL.
fn database(tool: &str, arguments: &[&str]) {
    let tool = format!("{}/{tool}", variable("TASKBOT_TEST_POSTGRES_BIN"));
    let server = format!("--maintenance-db={}", variable("TASKBOT_TEST_POSTGRES_URL"));
    assert!(Command::new(tool).arg(server).args(arguments).status().unwrap().success());
}

async fn postgres(name: &str) -> Arc<dyn Store> {
    let server = variable("TASKBOT_TEST_POSTGRES_URL");
    let (before, _) = server.rsplit_once('/').unwrap();
    let options = PoolOptions { connections_max: 8, ..PoolOptions::default() };
    let store = PostgresStore::connect(&format!("{before}/{name}"), options, Arc::new(SystemIds)).await;
    Arc::new(store.unwrap())
}

/// A running server.
pub(crate) struct Bed {
    pub(crate) address: SocketAddr,
    pub(crate) scheduler: Scheduler,
    pub(crate) stop: CancellationToken,
    http: Client,
    jobs: JoinSet<()>,
    /// Its database of PostgreSQL, which ends with it.
    database: Option<String>,
    _folder: tempfile::TempDir,
}

pub(crate) fn rule_files(rules: &str) -> RuleFiles {
    RuleFiles::of([("tasks.yaml", TASKS), ("rules.yaml", rules)])
}

pub(crate) fn loopback(role: Role) -> Access {
    Access::anonymous(role, vec![([127, 0, 0, 0].into(), 8)])
}

fn settings(interfaces: &Interfaces) -> Settings {
    let systems = vec![("ci.*".to_owned(), "atomic-ci".to_owned())];
    Settings {
        poll_every: Duration::from_millis(200),
        retest: RetestSettings { systems, ..RetestSettings::default() },
        requeue_foreign: interfaces.testflinger.as_ref().is_none_or(|testflinger| testflinger.requeue),
        public_url: PUBLIC.try_with(|url| (*url).to_owned()).ok(),
        ..Settings::default()
    }
}

impl Bed {
    /// Where everything is allowed, as for one person on one machine.
    pub(crate) async fn open() -> Self {
        Self::with(loopback(Role::Admin), Limits::default()).await
    }

    pub(crate) async fn with(access: Access, limits: Limits) -> Self {
        Self::of(access, limits, Interfaces::default()).await
    }

    /// With the interfaces of other systems served in another way.
    pub(crate) async fn serving(interfaces: Interfaces, access: Access) -> Self {
        Self::of(access, Limits::default(), interfaces).await
    }

    /// Serves an interface at an address of its own, too; the address.
    pub(crate) async fn listen_for(&mut self, interface: Interface, access: Access) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (scheduler, stop) = (self.scheduler.clone(), self.stop.clone());
        let state = ApiState::with_interfaces(scheduler, access, Interfaces::default(), stop.clone());
        let router = interface_router(interface, state);
        let serve = serve_within(listener, router, stop, Limits::default());
        self.jobs.spawn(async move { serve.await.unwrap() });
        address
    }

    async fn of(access: Access, limits: Limits, interfaces: Interfaces) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kind = KIND.try_with(|kind| *kind).unwrap_or(Kind::Sqlite);
        let name = (kind == Kind::Postgres).then(|| format!("api_{}", SystemIds.next().simple()));
        let store: Arc<dyn Store> = match &name {
            Some(name) => {
                database("createdb", &[name]);
                postgres(name).await
            }
            None => {
                let file = folder.path().join("taskbot.db");
                let store = SqliteStore::open(&file, Arc::new(SystemClock), Arc::new(SystemIds)).await;
                Arc::new(store.unwrap())
            }
        };
        let scheduler = Scheduler::new(Parts {
            settings: settings(&interfaces),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            store,
            files: Files::new(Arc::new(InMemory::new())),
            rulebook: Rulebook::new(Options::default(), None),
            repositories: Arc::new(Always),
            outlet: None,
            sinks: Vec::new(),
            results_elsewhere: None,
        });
        scheduler.activate_rules(rule_files(RULES), "test", "tester").await.unwrap();
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = ApiState::with_interfaces(scheduler.clone(), access, interfaces, stop.clone());
        let router = router(state.clone());
        let mut jobs = JoinSet::new();
        if state.interfaces().alts.as_ref().is_some_and(|alts| alts.build_system.is_some()) {
            let told = taskbot_api::alts::run_callbacks(state, format!("http://{address}"), stop.clone());
            jobs.spawn(told);
        }
        let (running, stopped) = (scheduler.clone(), stop.clone());
        jobs.spawn(async move { running.run(Vec::new(), stopped).await.unwrap() });
        let stopped = stop.clone();
        jobs.spawn(async move { serve_within(listener, router, stopped, limits).await.unwrap() });
        let http = Client::builder().no_proxy().build().unwrap();
        Self { address, scheduler, stop, http, jobs, database: name, _folder: folder }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.scheduler.store()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    /// Asks for JSON, which must be there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.request(Method::GET, path).send().await.unwrap();
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// Sends JSON; the status and what was answered.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let response = self.request(method, path).json(body).send().await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, body).await
    }

    /// A token of this role that is valid for so many seconds from now.
    pub(crate) async fn token(&self, role: Role, valid_seconds: i64) -> String {
        let now = SystemClock.now();
        let expires = now + chrono::TimeDelta::seconds(valid_seconds);
        let (token, text) = new_token(&SystemIds, &format!("a {role}"), role, now, Some(expires));
        self.store().add_token(&token).await.unwrap();
        text
    }

    /// Sends an event and waits until its task is queued; the task's id.
    pub(crate) async fn queued(&self, id: &str) -> String {
        let event = json!({"topic": "build.done", "id": id, "body": {"nvr": id}});
        let (status, sent) = self.post("/api/v1/events", &event).await;
        assert_eq!(status, 201, "{sent}");
        let task = sent["tasks"][0].as_str().unwrap().to_owned();
        until("the task to be queued", || async {
            let shown = self.get(&format!("/api/v1/tasks/{task}")).await;
            (shown["task"]["state"]["state"] == "queued").then_some(())
        })
        .await;
        task
    }

    /// Stops the server; how long that took.
    pub(crate) async fn end(mut self) -> Duration {
        let start = tokio::time::Instant::now();
        self.stop.cancel();
        let ended = async {
            while let Some(job) = self.jobs.join_next().await {
                job.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the server stops");
        self.scheduler.store().close().await;
        let took = start.elapsed();
        if let Some(name) = &self.database {
            database("dropdb", &["--force", name]);
        }
        took
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
