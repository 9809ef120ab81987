//! Hostile task repositories, each by the real course of an attempt, on every executor where it applies.
//!
//! After each of them three things must hold: nothing of it reached this host, the outcome names what
//! happened, and the next task on the same worker runs clean.

mod crowd;
mod files;
mod hunger;
mod images;
mod killed;
mod patience;
mod reach;
mod sources;
mod survivors;

use crate::{
    attempt::git,
    engine::{self, connect, service},
    vm::given,
};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptions};
use model::{SystemClock, SystemIds, WorkerName, protocol::AttemptEnd, requirements::ExecutorKind};
use serde_json::Map;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use taskbot_worker::{
    config::{FetchConfig, RunConfig},
    executor::{
        Allow, ContainerConfig, Containers, Executor, HostConfig, Local, Machines, Sandbox, SandboxConfig,
        SizeLimits, UIDS, VmConfig,
    },
    fetch::Fetcher,
    local_run::{LocalOptions, run_local},
    logs::Out,
    runner::{Control, Ended, Runner},
};

/// Executors that hold what a stranger brings.
pub(super) const ISOLATED: [ExecutorKind; 2] = [ExecutorKind::Container, ExecutorKind::Sandbox];
/// With the one that holds nothing but keeps limits and cleans up.
pub(super) const ON_THIS_HOST: [ExecutorKind; 3] =
    [ExecutorKind::Container, ExecutorKind::Sandbox, ExecutorKind::Local];

/// Whether the long form of a test is asked for.
#[expect(clippy::disallowed_methods, reason = "how `cargo xtask test --full` tells the tests")]
pub(super) fn is_full() -> bool {
    std::env::var_os("TASKBOT_TEST_FULL").is_some()
}

/// A worker with one executor, that is given hostile tasks.
pub(super) struct Stand {
    pub(super) here: tempfile::TempDir,
    pub(super) kind: ExecutorKind,
    pub(super) worker: String,
    pub(super) runner: Runner,
    /// What a task's environment says behind its executor's name.
    pub(super) sizes: String,
}

/// How a task went.
pub(super) struct Went {
    pub(super) ended: Ended,
    pub(super) log: String,
    /// How long it took.
    pub(super) took: Duration,
}

impl Went {
    pub(super) fn outcome(&self) -> (&'static str, &str) {
        match &self.ended.finish.end {
            AttemptEnd::Outcome { outcome, reason } => {
                (outcome.as_str(), reason.as_deref().unwrap_or_default())
            }
            AttemptEnd::HandedBack { reason } => ("handed back", reason),
        }
    }

    /// Compares the outcome, and looks for words in its reason.
    #[track_caller]
    pub(super) fn is(&self, expect: &str, reason: &str) -> &Self {
        let (outcome, said) = self.outcome();
        assert_eq!(outcome, expect, "{said}\n{}", self.log);
        assert!(said.contains(reason), "`{reason}` is not in `{said}`\n{}", self.log);
        self
    }

    #[track_caller]
    pub(super) fn logs(&self, text: &str) -> &Self {
        assert!(self.log.contains(text), "`{text}` is not in the log:\n{}", self.log);
        self
    }

    pub(super) fn artifacts(&self) -> Vec<&str> {
        self.ended.artifacts.iter().map(|file| file.name.as_str()).collect()
    }
}

/// What a worker has on this host and at its engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traces {
    containers: usize,
    volumes: usize,
    images: usize,
    folders: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    mounts: usize,
    sockets: usize,
}

impl Traces {
    pub(super) fn is_empty(&self) -> bool {
        let Self { containers, volumes, images, folders, cgroups, mounts, sockets } = self;
        containers + volumes + images + mounts + sockets == 0 && folders.is_empty() && cgroups.is_empty()
    }
}

impl Stand {
    pub(super) fn new(kind: ExecutorKind) -> Self {
        Self::at(kind, tempfile::tempdir().unwrap(), &uuid::Uuid::from_bytes(random()).to_string())
    }

    pub(super) fn at(kind: ExecutorKind, here: tempfile::TempDir, worker: &str) -> Self {
        let executor = executor(kind, here.path(), worker);
        let fetch = FetchConfig { cache_dir: here.path().join("fetch"), ..FetchConfig::default() };
        let runner = Runner {
            worker: worker.into(),
            config: RunConfig { fetch: fetch.clone(), vm_time_factor: 4.0, ..RunConfig::default() },
            executors: vec![executor],
            git: git(here.path()),
            fetcher: Arc::new(Fetcher::new(&fetch, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap()),
            clock: Arc::new(SystemClock),
        };
        Self { here, kind, worker: worker.to_owned(), runner, sizes: String::new() }
    }

    /// With limits, as they stand in a task file: `disk: 8M`.
    pub(super) fn sized(mut self, sizes: &str) -> Self {
        sizes.clone_into(&mut self.sizes);
        self
    }

    /// The environment of a task file.
    pub(super) fn environment(&self) -> String {
        match self.kind {
            ExecutorKind::Container => {
                format!("{{container: {{image: '{}', {}}}}}", engine::image(), self.sizes)
            }
            ExecutorKind::Vm => {
                let sizes = if self.sizes.is_empty() { "memory: 192M, disk: 64M" } else { &self.sizes };
                format!("{{vm: {{kernel: boot/vmlinuz, initrd: [boot/initrd], {sizes}}}}}")
            }
            other => format!("{{{other}: {{{}}}}}", self.sizes),
        }
    }

    /// Makes a task repository: the task file without name and environment, and other files.
    pub(super) fn repository(&self, rest: &str, files: &[(&str, &str)]) -> PathBuf {
        let repo = tempfile::Builder::new().prefix("repo-").tempdir_in(self.here.path()).unwrap().keep();
        let yaml = format!("name: t\nenvironment: {}\n{rest}\n", self.environment());
        for (name, text) in files.iter().copied().chain([("task.yaml", yaml.as_str())]) {
            let path = repo.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        if self.kind == ExecutorKind::Vm {
            fs::create_dir_all(repo.join("boot")).unwrap();
            fs::copy(given("TASKBOT_TEST_VM_KERNEL"), repo.join("boot/vmlinuz")).unwrap();
            fs::copy(given("TASKBOT_TEST_VM_INITRD"), repo.join("boot/initrd")).unwrap();
        }
        repo
    }

    /// Runs a task as a stranger's.
    pub(super) async fn run(&self, rest: &str, files: &[(&str, &str)]) -> Went {
        let repo = self.repository(rest, files);
        self.run_folder(&repo, &Control::default(), &Arc::default()).await
    }

    /// Runs a repository's task; its log goes to `log`.
    pub(super) async fn run_folder(&self, repo: &Path, control: &Control, log: &Arc<Mutex<Vec<u8>>>) -> Went {
        let kept = Arc::clone(log);
        let out = Box::new(move |bytes: &[u8]| kept.lock().unwrap().extend_from_slice(bytes));
        let (ended, took) = self.run_to(repo, control, out).await;
        let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
        Went { ended, log, took }
    }

    /// Runs a repository's task; its log goes wherever.
    pub(super) async fn run_to(&self, repo: &Path, control: &Control, out: Out) -> (Ended, Duration) {
        let options = LocalOptions {
            inputs: Map::new(),
            trusted: false,
            artifacts_to: Some(repo.with_extension("out")),
            ..LocalOptions::default()
        };
        let began = Instant::now();
        let ended = run_local(&self.runner, repo, self.here.path(), &options, out, control, &SystemIds).await;
        (ended.unwrap(), began.elapsed())
    }

    pub(super) async fn traces(&self) -> Traces {
        traces(self.kind, self.here.path(), &self.worker).await
    }

    /// The next task runs as if nothing had been, and nothing of either is left.
    #[track_caller]
    pub(super) fn clean(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let went = self.run("run: echo fine > \"$TASKBOT_OUTPUT/fine.txt\"; echo all well", &[]).await;
            assert_eq!(went.outcome(), ("passed", ""), "the next task, {caller}: {}", went.log);
            went.logs("all well");
            let traces = self.traces().await;
            assert!(traces.is_empty(), "{caller}: {traces:?}");
        }
    }
}

/// What a worker has now.
pub(super) async fn traces(kind: ExecutorKind, here: &Path, worker: &str) -> Traces {
    let mut traces = Traces {
        containers: 0,
        volumes: 0,
        images: 0,
        folders: BTreeSet::new(),
        cgroups: cgroups(),
        mounts: 0,
        sockets: 0,
    };
    for entry in fs::read_dir(here.join("attempts")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Groups of other tests come and go.
        traces.folders.insert(name);
    }
    traces.cgroups.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        traces.folders.iter().any(|folder| name.contains(folder.as_str()))
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    traces.mounts = mounts.lines().filter(|line| line.contains(here.to_str().unwrap())).count();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    traces.sockets = sockets.lines().filter(|line| line.contains(here.to_str().unwrap())).count();
    if kind == ExecutorKind::Container {
        let docker = connect(&engine::socket(engine::Kind::Docker)).negotiate_version().await.unwrap();
        let mine = format!("taskbot.worker={}", worker);
        let filters = HashMap::from([("label", vec![mine.as_str()])]);
        let containers = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        traces.containers = docker.list_containers(Some(containers)).await.unwrap().len();
        let volumes = docker.list_volumes(None::<ListVolumesOptions>).await.unwrap().volumes;
        let mine = |labels: &HashMap<String, String>| {
            labels.get("taskbot.worker").is_some_and(|name| name == worker)
        };
        traces.volumes = volumes.unwrap_or_default().iter().filter(|volume| mine(&volume.labels)).count();
        let mine = format!("taskbot.worker={}", worker);
        let filters = HashMap::from([("label", vec![mine.as_str()]), ("reference", vec!["taskbot-attempt"])]);
        let images = ListImagesOptionsBuilder::default().filters(&filters).build();
        traces.images = docker.list_images(Some(images)).await.unwrap().len();
    }
    traces
}

fn random() -> [u8; 16] {
    <[u8; 16]>::try_from(&model::Ids::secret(&SystemIds)[..16]).unwrap()
}

/// The executor of a kind, of a worker whose attempts are in a folder.
pub(super) fn executor(kind: ExecutorKind, here: &Path, worker: &str) -> Arc<dyn Executor> {
    let host = HostConfig {
        worker: WorkerName::new(worker),
        folder: here.join("attempts"),
        sizes: SizeLimits::default(),
        allow: Allow::default(),
    };
    let clock = Arc::new(SystemClock);
    match kind {
        ExecutorKind::Container => {
            let sockets = vec![PathBuf::from(service("TASKBOT_TEST_DOCKER_SOCKET"))];
            Arc::new(Containers::new(
                ContainerConfig::new(WorkerName::new(worker), sockets, here.join("layers")),
                clock,
            ))
        }
        ExecutorKind::Sandbox => {
            Arc::new(Sandbox::new(SandboxConfig { host, binds: Vec::new(), uids: UIDS }, clock))
        }
        ExecutorKind::Vm => {
            let config = VmConfig {
                host,
                images: BTreeMap::new(),
                network: BTreeSet::new(),
                time_factor: 4.0,
                kvm: Some(false),
            };
            Arc::new(Machines::new(config, clock, Arc::new(SystemIds)))
        }
        _ => Arc::new(Local::new(host, true, clock)),
    }
}

/// All control groups of attempts on this host.
fn cgroups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with("taskbot-") {
                found.insert(entry.path());
            }
            todo.push(entry.path());
        }
    }
    found
}

/// A file of this host that no task may touch.
pub(super) struct Victim {
    folder: tempfile::TempDir,
}

impl Victim {
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("victim-").tempdir().unwrap();
        fs::write(folder.path().join("file"), "kept\n").unwrap();
        Self { folder }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// It is as it was.
    #[track_caller]
    pub(super) fn is_whole(&self) {
        let names: Vec<_> =
            fs::read_dir(self.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read_to_string(self.path().join("file")).unwrap(), "kept\n");
    }
}
