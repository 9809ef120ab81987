//! What the executors' tests share: a log to look into, requests, commands.

use model::{
    Clock, SystemClock, TaskId, WorkerName,
    task::Trust,
    task_file::{ContainerWish, Environment, HostWish, Relaxed, Sizes},
};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use taskbot_worker::executor::{
    AttemptLabel, ExecError, ExecRequest, Executor, Exit, LogSink, Profile, ProvisionError, ProvisionRequest,
    Provisioned,
};
use tokio_util::sync::CancellationToken;

/// Keeps all that is written, up to a megabyte, and counts the rest.
#[derive(Default)]
pub(crate) struct Log {
    kept: Mutex<Vec<u8>>,
    count: Mutex<usize>,
}

impl LogSink for Log {
    fn write(&self, bytes: &[u8]) {
        *self.count.lock().unwrap() += bytes.len();
        let mut kept = self.kept.lock().unwrap();
        if kept.len() < 1 << 20 {
            kept.extend_from_slice(bytes);
        }
    }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept.lock().unwrap()).into_owned()
    }

    pub(crate) fn bytes(&self) -> usize {
        *self.count.lock().unwrap()
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub(crate) fn label(worker: &str, number: u32) -> AttemptLabel {
    let bytes = <[u8; 16]>::try_from(&model::Ids::secret(&model::SystemIds)[..16]).unwrap();
    let task = TaskId::new(uuid::Uuid::from_bytes(bytes));
    AttemptLabel { worker: WorkerName::new(worker), task, attempt: number }
}

pub(crate) fn sandbox(sizes: Sizes) -> Environment {
    Environment::Sandbox(HostWish { programs: Vec::new(), sizes, relaxed: Relaxed::default() })
}

pub(crate) fn local(sizes: Sizes) -> Environment {
    Environment::Local(HostWish { programs: Vec::new(), sizes, relaxed: Relaxed::default() })
}

pub(crate) fn container(image: Option<&str>, sizes: Sizes) -> Environment {
    Environment::Container(ContainerWish {
        image: image.map(str::to_owned),
        sizes,
        relaxed: Relaxed::default(),
    })
}

pub(crate) async fn provision(
    executor: &dyn Executor,
    label: &AttemptLabel,
    environment: &Environment,
    trust: Trust,
) -> Result<Box<dyn Provisioned>, ProvisionError> {
    let request = ProvisionRequest {
        label,
        environment,
        trust,
        limit: Duration::from_secs(60),
        deadline: clock().now() + Duration::from_secs(3600),
    };
    executor.provision(&request, &Log::default(), &CancellationToken::new()).await
}

/// Commands to run, with limits that no test reaches by accident.
#[derive(Clone)]
pub(crate) struct Commands {
    pub(crate) profile: Profile,
    pub(crate) lines: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) limit: Duration,
    pub(crate) idle: Option<Duration>,
}

impl Commands {
    pub(crate) fn new(profile: Profile, lines: &[&str]) -> Self {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Self { profile, lines, env: BTreeMap::new(), limit: Duration::from_secs(120), idle: None }
    }

    pub(crate) fn run(lines: &[&str]) -> Self {
        Self::new(Profile::Run, lines)
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    pub(crate) fn request(&self) -> ExecRequest<'_> {
        ExecRequest {
            profile: self.profile,
            lines: &self.lines,
            dir: "",
            env: &self.env,
            limit: self.limit,
            idle: self.idle,
        }
    }

    pub(crate) async fn on(&self, place: &mut Box<dyn Provisioned>) -> (Result<Exit, ExecError>, Log) {
        self.stoppable(place, &CancellationToken::new()).await
    }

    pub(crate) async fn stoppable(
        &self,
        place: &mut Box<dyn Provisioned>,
        stop: &CancellationToken,
    ) -> (Result<Exit, ExecError>, Log) {
        let log = Log::default();
        let exit = place.exec(&self.request(), &log, stop).await;
        (exit, log)
    }
}

/// Runs lines and compares their end; gives what they wrote.
#[track_caller]
pub(crate) fn ended(got: (Result<Exit, ExecError>, Log), expect: Exit) -> String {
    let (exit, log) = got;
    let text = log.text();
    match exit {
        Ok(exit) => assert_eq!(exit, expect, "{text}"),
        Err(error) => panic!("{error}: {text}"),
    }
    text
}

/// A folder with a file, as it comes from a checkout.
pub(crate) fn tree(at: &Path) {
    fs::create_dir_all(at.join("deep")).unwrap();
    fs::create_dir_all(at.join(".taskbot")).unwrap();
    fs::write(at.join("deep/file"), "from the repository\n").unwrap();
    fs::write(at.join(".taskbot/inputs.json"), "{\"a\": 1}\n").unwrap();
    std::os::unix::fs::symlink("deep/file", at.join("link")).unwrap();
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so().await {
        assert!(Instant::now() < end, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The processes whose command line holds this text.
pub(crate) fn processes(text: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    entries
        .filter(|entry| entry.file_name().to_str() != Some(own.as_str()))
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(text))
        .count()
}
