//! An installation: servers and workers of the real program, with a database and streams of their own.

use super::{
    bus::Bus,
    config::{self, Node},
    database::Database,
    engine,
    environment::{PATIENCE, free_port, unique},
    program::Program,
    repository,
    wait::{until, until_equal, until_within},
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The name of the durable consumer, and of the source.
pub(crate) const DURABLE: &str = "taskbot";
pub(crate) const SOURCE: &str = "bus";

/// What an installation is made of.
pub(crate) struct Plan<'a> {
    pub(crate) servers: usize,
    pub(crate) workers: usize,
    /// How many tasks a worker runs at a time.
    pub(crate) slots: u32,
    pub(crate) lease: Duration,
    /// Further lines of each worker's configuration, below `worker`.
    pub(crate) worker: &'a str,
    /// Files of the rules folder. Where they name the server as the shipped ones do, they get the first server's URL.
    pub(crate) rules: &'a [(&'a str, &'a str)],
    /// Task repositories by name, each with its files; they are registered under their names.
    pub(crate) repositories: &'a [(&'a str, &'a [(&'a str, &'a str)])],
    /// Files beside the rules folder, by their paths from there.
    pub(crate) beside: &'a [(String, String)],
    /// The engine's socket, where not the shared one.
    pub(crate) engine: Option<&'a Path>,
    /// The services, where not the shared ones.
    pub(crate) nats: Option<String>,
    pub(crate) postgres: Option<String>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            servers: 1,
            workers: 1,
            slots: 2,
            lease: Duration::from_secs(6),
            worker: "",
            rules: &[],
            repositories: &[],
            beside: &[],
            engine: None,
            nats: None,
            postgres: None,
        }
    }
}

/// It runs from its making until it is dropped.
pub(crate) struct Installation {
    pub(crate) name: String,
    pub(crate) servers: Vec<Program>,
    pub(crate) workers: Vec<Program>,
    pub(crate) database: Database,
    pub(crate) bus: Bus,
    pub(crate) engine: PathBuf,
    urls: Vec<String>,
    http: reqwest::Client,
    folder: tempfile::TempDir,
}

impl Installation {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(plan: &Plan<'_>) -> Self {
        let name = unique("drill");
        let folder = tempfile::Builder::new().prefix("drill-").tempdir().unwrap();
        let database = match &plan.postgres {
            Some(url) => Database::fresh_on(url).await,
            None => Database::fresh().await,
        };
        let bus = match &plan.nats {
            Some(url) => Bus::new(url, &name).await,
            None => Bus::shared(&name).await,
        };
        bus.make_events_stream().await;
        let urls: Vec<_> = (0..plan.servers).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        write_rules(folder.path(), plan);
        let engine = plan.engine.map_or_else(|| PathBuf::from(engine::socket()), Path::to_owned);
        let mut installation = Self {
            urls,
            servers: Vec::new(),
            workers: Vec::new(),
            http: reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap(),
            name,
            database,
            bus,
            engine,
            folder,
        };
        for number in 0..plan.servers {
            installation.add_server(number, plan);
        }
        installation.ready().await;
        for number in 0..plan.workers {
            installation.add_worker(number, plan);
        }
        until_equal("workers are known", i64::try_from(plan.workers).unwrap(), async || {
            installation.database.number("select count(*) from worker").await
        })
        .await;
        installation
    }

    fn add_server(&mut self, number: usize, plan: &Plan<'_>) {
        let name = format!("server-{number}");
        let text = config::server(&self.node(&name, number), plan);
        let program = self.program(&name, &text, &["server"]);
        self.servers.push(program);
    }

    fn add_worker(&mut self, number: usize, plan: &Plan<'_>) {
        let name = format!("{}-worker-{number}", self.name);
        let node = self.node(&name, number);
        let program = self.program(&name, &config::worker(&node, plan), &["worker", "--server", node.url]);
        self.workers.push(program);
    }

    fn node<'a>(&'a self, name: &'a str, number: usize) -> Node<'a> {
        Node {
            name,
            folder: self.folder.path(),
            url: &self.urls[number % self.urls.len()],
            database: &self.database.url,
            bus: &self.bus,
            installation: &self.name,
            engine: &self.engine,
        }
    }

    fn program(&self, name: &str, text: &str, command: &[&str]) -> Program {
        let file = self.folder.path().join(format!("{name}.yaml"));
        fs::write(&file, text).unwrap();
        let global = ["--log", config::LOG, "--config", file.to_str().unwrap()];
        let mut program = Program::new(name, self.folder.path(), &[&global, command].concat());
        program.start();
        program
    }

    /// Waits until all servers are ready.
    pub(crate) async fn ready(&mut self) {
        for (server, url) in self.servers.iter_mut().zip(&self.urls) {
            until(&format!("{} is ready", server.name), async || {
                assert!(server.runs(), "{} ended", server.name);
                let answer = self.http.get(format!("{url}/readyz")).send().await.ok()?;
                (answer.status() == StatusCode::OK).then_some(())
            })
            .await;
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that the rules are read from.
    pub(crate) fn rules(&self) -> PathBuf {
        self.folder.path().join("rules")
    }

    /// The folder in which a worker keeps what it runs and has not delivered.
    pub(crate) fn work_dir(&self, worker: usize) -> PathBuf {
        config::work_dir(self.folder.path(), &self.workers[worker].name)
    }

    /// The URL of a server.
    pub(crate) fn url(&self, server: usize) -> &str {
        &self.urls[server]
    }

    /// A request to the first server, and its answer with what it holds.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.urls[0]));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// What the first server answers to a request that must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.request(Method::GET, path, None).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// All entries of a list.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut page = self.get(&format!("{path}?limit=1000")).await;
        loop {
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => page = self.get(&format!("{path}?limit=1000&before={next}")).await,
                None => return items,
            }
        }
    }

    /// Submits a task and gives its id.
    pub(crate) async fn submit(&self, submission: Value) -> String {
        let (status, task) = self.request(Method::POST, "/api/v1/tasks", Some(&submission)).await;
        assert_eq!(status, StatusCode::CREATED, "{task}");
        task["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a task is final, and gives it with its attempts and results.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        self.ended_within(PATIENCE, id).await
    }

    /// As `ended`, for tasks that take their time.
    pub(crate) async fn ended_within(&self, patience: Duration, id: &str) -> Value {
        until_within(patience, &format!("task {id} ends"), async || {
            let whole = self.get(&format!("/api/v1/tasks/{id}")).await;
            let state = whole["task"]["state"]["state"].as_str().unwrap();
            ["finished", "cancelled", "superseded"].contains(&state).then_some(whole)
        })
        .await
    }

    /// The log of a task's last attempt.
    pub(crate) async fn log_of(&self, id: &str) -> String {
        let answer = self.http.get(format!("{}/api/v1/tasks/{id}/log", self.urls[0])).send().await.unwrap();
        assert!(answer.status().is_success());
        String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned()
    }

    /// Removes what is not removed by itself. Not called by drills that fail: their streams can be looked at.
    pub(crate) async fn remove(mut self) {
        for program in self.workers.iter_mut().chain(&mut self.servers) {
            program.kill();
        }
        self.bus.remove().await;
    }
}

/// The rules folder, and the task repositories beside it.
fn write_rules(folder: &Path, plan: &Plan<'_>) {
    let rules = folder.join("rules");
    fs::create_dir_all(&rules).unwrap();
    for (name, text) in plan.rules {
        let file = rules.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    for (name, text) in plan.beside {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    if plan.repositories.is_empty() {
        return;
    }
    let mut registry = "tasks:\n".to_owned();
    for (name, files) in plan.repositories {
        repository::make(&folder.join("repositories").join(name), files);
        registry += &format!("  {name}: {{git: ../repositories/{name}, trust: trusted}}\n");
    }
    fs::write(rules.join("tasks.yaml"), registry).unwrap();
}
