//! Executors: the ways of giving a task a place to run.
//!
//! An [`Executor`] makes environments, a [`Provisioned`] is one of them. The order of calls is `provision`,
//! `copy_in` (once or more), `start`, `prepare` (at most once), `exec` with [`Profile::Run`], `copy_out`, `exec` with
//! [`Profile::Cleanup`], `destroy`. Whoever drops a [`Provisioned`] without `destroy` leaves it to
//! [`Executor::sweep`], which finds everything by label.
//!
//! Inside, the work folder is [`Provisioned::work_dir`]; below it, [`OUTPUT_DIR`] is the output folder and
//! [`INPUTS_FILE`] the inputs. Commands start in `request.dir` below the work folder.

mod archive;
mod cgroup;
mod collect;
mod container;
mod external;
mod host;
mod local;
mod sandbox;
mod seccomp;
mod supervise;
mod vm;

pub use container::{ContainerConfig, Containers, Pull, usual_sockets};
pub use external::{
    External, ExternalConfig, Program,
    conformance::{self, Case, Verdict},
};
pub use host::HostConfig;
pub use local::{Local, NO_ISOLATION};
pub use sandbox::{Sandbox, SandboxConfig, UIDS};
pub use vm::{Machines, PERSON_SOCKET, VmConfig, VmImage, arches as vm_arches, kvm_works};

use crate::secrets::Secret;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    TaskId, WorkerName,
    attempt::EnvironmentReport,
    requirements::{ContainerImages, ExecutorKind},
    task::Trust,
    task_file::{Environment, Relaxed, Sizes},
    units::format_size,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Where the work folder is inside sandboxes, and the volume that holds it inside containers.
pub const WORK_DIR: &str = "/task";
/// Our own folder below the work folder; a task's repository must not bring it.
pub const OWN_DIR: &str = ".taskbot";
/// The output folder, below the work folder. `$TASKBOT_OUTPUT` is its absolute path.
pub const OUTPUT_DIR: &str = ".taskbot/output";
/// The inputs as JSON, below the work folder. `$TASKBOT_INPUTS` is its absolute path.
pub const INPUTS_FILE: &str = ".taskbot/inputs.json";
/// The time of the last change, in seconds since 1970, that files get which the task brings and which would count as
/// its results: one that still has it in the end was not written by the attempt. So has [`INPUTS_FILE`], which tells
/// whether the environment keeps such times.
pub const UNWRITTEN_MTIME: u64 = 978_307_201;
/// How long the output of an ended command may still trickle in.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than its attempt an environment may live before anybody's sweep removes it.
pub const DEADLINE_GRACE: Duration = Duration::from_secs(120);

/// Which attempt something belongs to, as a label on containers, folders and processes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptLabel {
    /// The worker that runs it.
    pub worker: WorkerName,
    /// The task.
    pub task: TaskId,
    /// The attempt's number.
    pub attempt: u32,
}

impl fmt::Display for AttemptLabel {
    /// `TASK.ATTEMPT`, fit for file and container names; unique over all workers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.attempt)
    }
}

impl AttemptLabel {
    /// The inverse of the text form.
    #[must_use]
    pub fn parse(worker: &WorkerName, text: &str) -> Option<Self> {
        let (task, attempt) = text.split_once('.')?;
        let task = TaskId::from_str(task).ok()?;
        Some(Self { worker: worker.clone(), task, attempt: attempt.parse().ok()? })
    }
}

/// How strictly a command is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `prepare`: with network, a writable root, root with the six capabilities of package managers.
    Install,
    /// `run`: no network, not root, no capabilities, read-only root; relaxed only where the worker allows.
    Run,
    /// `cleanup`: as strict as `run`.
    Cleanup,
}

/// What an environment is made for.
#[derive(Debug, Clone, Copy)]
pub struct ProvisionRequest<'a> {
    /// Whom it belongs to.
    pub label: &'a AttemptLabel,
    /// What the task asks for.
    pub environment: &'a Environment,
    /// Whether relaxations may be granted at all.
    pub trust: Trust,
    /// How long provisioning (the pull of an image, say) may take.
    pub limit: Duration,
    /// When the whole attempt is over at the latest; what is left [`DEADLINE_GRACE`] later is removed by
    /// anybody's sweep.
    pub deadline: DateTime<Utc>,
}

/// Commands to run.
#[derive(Debug, Clone, Copy)]
pub struct ExecRequest<'a> {
    /// How strictly.
    pub profile: Profile,
    /// Each is run by `sh -e -c`, in order; the first that fails ends it with its code.
    pub lines: &'a [String],
    /// The folder that they start in, relative to the work folder; empty for the work folder itself.
    pub dir: &'a str,
    /// The environment variables; with those that the executor sets (`PATH`, `HOME`, `LANG`, `TMPDIR`,
    /// `TASKBOT_OUTPUT`, `TASKBOT_INPUTS`, `TASKBOT_WORK`) there are no others.
    pub env: &'a BTreeMap<String, String>,
    /// How long all lines may take.
    pub limit: Duration,
    /// How long they may be silent.
    pub idle: Option<Duration>,
}

/// How commands ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By themselves, with this code.
    Code(i32),
    /// By this signal, not sent by us. Codes from 129 to 192 count as signals, as shells report them.
    Signal(i32),
    /// Killed by us: the time limit.
    TimedOut,
    /// Killed by us: no output for too long.
    Idle,
    /// Memory ran out, and the commands did not get over it.
    Oom,
    /// Killed by us: cancelled.
    Stopped,
    /// Killed by us: more disk space used than allowed.
    OutOfDisk,
    /// Killed by us: this machine has less disk space left than it must have.
    DiskFull,
    /// The machine that they ran in ended.
    Gone,
}

impl Exit {
    /// The exit of a code as shells and engines report it.
    #[must_use]
    pub const fn from_shell(code: i32) -> Self {
        if code > 128 && code <= 192 { Self::Signal(code - 128) } else { Self::Code(code) }
    }
}

/// How `prepare` went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// Its end; `Code(0)` when it came from the cache.
    pub exit: Exit,
    /// Whether nothing had to be run.
    pub from_cache: bool,
}

/// Where the output of commands goes.
pub trait LogSink: Send + Sync {
    /// Takes bytes (chunks, not lines) as they come. Must not block.
    fn write(&self, bytes: &[u8]);
}

/// What a working executor says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The program or engine with its version.
    pub version: String,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Why an environment was not made.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// It cannot be had on this worker: the task's next environment is to be tried.
    #[error("{0}")]
    Unavailable(String),
    /// The machine, the engine or the network let us down.
    #[error("{0}")]
    Infra(String),
    /// The task asks for nonsense.
    #[error("{0}")]
    BadTask(String),
    /// Cancelled.
    #[error("stopped")]
    Stopped,
    /// It took too long.
    #[error("not provided within its time limit")]
    TimedOut,
}

/// Why commands could not be run or files not be moved.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The machine or the engine let us down.
    #[error("{0}")]
    Infra(String),
    /// The task or its image is wrong.
    #[error("{0}")]
    BadTask(String),
}

/// Why an environment did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine, or the worker's own image, let us down.
    #[error("{0}")]
    Infra(String),
    /// The task asks for what cannot be.
    #[error("{0}")]
    BadTask(String),
    /// What the task brought does not come up: a kernel, an image, an installation.
    #[error("{0}")]
    Failed(String),
    /// What the task brought did not come up in time.
    #[error("{0}")]
    TimedOut(String),
    /// Cancelled.
    #[error("stopped")]
    Stopped,
}

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Containers.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
    /// Cached layers over the cap.
    pub images: usize,
    /// Folders of attempts.
    pub folders: usize,
    /// Processes.
    pub processes: usize,
    /// What configured programs had provided.
    pub machines: usize,
}

/// What `copy_out` may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectLimits {
    /// All files together, in bytes.
    pub total_bytes: u64,
    /// How many files.
    pub files: usize,
}

/// What `copy_out` took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The files, by name.
    pub files: Vec<CollectedFile>,
    /// What was left out although it was asked for.
    pub skipped: Vec<Skipped>,
    /// Those of the files that nobody wrote since [`UNWRITTEN_MTIME`] was given to them.
    pub unwritten: BTreeSet<String>,
    /// Whether the environment keeps the times of files.
    pub keeps_times: bool,
}

/// A file that was taken: `<to>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CollectedFile {
    /// Its path: relative to the output folder if it was in there, else to the work folder.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// A file that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// Its name, as in [`CollectedFile::name`].
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A way of giving tasks a place to run.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Which.
    fn kind(&self) -> ExecutorKind;

    /// Whether it works here and now.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    async fn probe(&self) -> Result<Probe, String>;

    /// The configured programs among which tasks can choose, as far as they worked when probed last.
    fn providers(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// The images by name that it has, where tasks can have no others, as of now.
    fn images(&self) -> Option<BTreeSet<String>> {
        None
    }

    /// The images of containers that it has, as of now; nothing where they cannot be told.
    async fn container_images(&self) -> Option<ContainerImages> {
        None
    }

    /// Makes an environment.
    ///
    /// # Errors
    /// See [`ProvisionError`]; nothing is left behind.
    async fn provision(
        &self,
        request: &ProvisionRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Box<dyn Provisioned>, ProvisionError>;

    /// Removes what this worker's dead predecessors left (everything of this worker that is not in `alive`)
    /// and what any worker's deadline has passed for, and trims caches. To be called at start and
    /// periodically.
    ///
    /// # Errors
    /// What could not be removed; what could be, is.
    async fn sweep(&self, alive: &HashSet<AttemptLabel>) -> Result<Swept, String>;
}

/// An environment that was made for one attempt.
#[async_trait]
pub trait Provisioned: Send + Sync {
    /// What it is.
    fn report(&self) -> EnvironmentReport;

    /// The work folder's path, as commands see it.
    fn work_dir(&self) -> String;

    /// From now on the commands of `run` and `cleanup` find these as files in memory, in the folder that
    /// `$TASKBOT_SECRETS` names. `prepare` does not: what it leaves may be kept for other tasks.
    ///
    /// # Errors
    /// Why it cannot be done here; the task's next environment is to be tried.
    fn give_secrets(&mut self, secrets: &Arc<[Secret]>) -> Result<(), String> {
        if secrets.is_empty() { Ok(()) } else { Err("secrets cannot be given to it".to_owned()) }
    }

    /// Adds a folder's content to the work folder. Files may be moved: `from` is not to be used again.
    ///
    /// # Errors
    /// The content cannot be taken.
    async fn copy_in(&mut self, from: &Path) -> Result<(), ExecError>;

    /// Starts what can only start with the task's files; called once, after the first files were copied in and
    /// before any command.
    ///
    /// # Errors
    /// See [`StartError`]; files that say why can be copied out.
    async fn start(&mut self, _log: &dyn LogSink, _stop: &CancellationToken) -> Result<(), StartError> {
        Ok(())
    }

    /// Runs the commands of `prepare` (profile `Install`). What they install is kept for the commands after,
    /// and where the executor can, for the next attempts with the same `cache_key`, lines, environment
    /// variables and image. The key must name everything else that `prepare` can see: the commit and the
    /// fetched files. No key, no cache.
    ///
    /// # Errors
    /// See [`ExecError`].
    async fn prepare(
        &mut self,
        request: &ExecRequest<'_>,
        cache_key: Option<&str>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Prepared, ExecError>;

    /// Runs commands and waits; when it returns, none of their processes is left.
    ///
    /// # Errors
    /// See [`ExecError`]; how the commands themselves ended is no error.
    async fn exec(
        &mut self,
        request: &ExecRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Exit, ExecError>;

    /// Copies files to the host folder `to` (made if missing): all of the output folder, and what the globs
    /// name below the work folder (our own folder apart). Only plain files are taken; links, devices and
    /// what exceeds the limits is skipped with a reason.
    ///
    /// # Errors
    /// See [`ExecError`], also for globs that are none.
    async fn copy_out(
        &mut self,
        globs: &[String],
        limits: CollectLimits,
        to: &Path,
    ) -> Result<Collected, ExecError>;

    /// Makes it a place that a person can look into until it is destroyed; nothing of the task runs on in it, and
    /// secrets are not given there. Says how to get in, on this host.
    ///
    /// # Errors
    /// It cannot be kept.
    async fn keep(&mut self) -> Result<Vec<String>, ExecError> {
        Err(ExecError::BadTask("an environment of this kind cannot be held".to_owned()))
    }

    /// Ends it and removes all of it.
    ///
    /// # Errors
    /// What is left; [`Executor::sweep`] will find it.
    async fn destroy(self: Box<Self>) -> Result<(), ExecError>;
}

/// The most that the worker lets one attempt use, and what it gets when it asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeLimits {
    /// Without a wish.
    pub default: GrantedSizes,
    /// The caps.
    pub max: GrantedSizes,
}

/// The sizes that one attempt gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedSizes {
    /// Memory in bytes, swap included.
    pub memory_bytes: u64,
    /// Processors.
    pub cpus: u32,
    /// Disk space in bytes: the work folder, and what `prepare` installs.
    pub disk_bytes: u64,
    /// Processes at the same time.
    pub processes: u32,
    /// `/tmp` in bytes; counts as memory.
    pub tmp_bytes: u64,
    /// Open files per process.
    pub open_files: u64,
}

impl Default for SizeLimits {
    fn default() -> Self {
        let default = GrantedSizes {
            memory_bytes: 2 << 30,
            cpus: 1,
            disk_bytes: 8 << 30,
            processes: 1024,
            tmp_bytes: 256 << 20,
            open_files: 4096,
        };
        let max = GrantedSizes {
            memory_bytes: 16 << 30,
            cpus: 16,
            disk_bytes: 64 << 30,
            processes: 16384,
            tmp_bytes: 256 << 20,
            open_files: 4096,
        };
        Self { default, max }
    }
}

impl SizeLimits {
    /// What a wish gets.
    ///
    /// # Errors
    /// It asks for more than this worker gives.
    pub fn grant(&self, wish: &Sizes) -> Result<GrantedSizes, ProvisionError> {
        let (default, max) = (&self.default, &self.max);
        let take = |what: &str, wanted: Option<u64>, default: u64, max: u64| match wanted {
            Some(wanted) if wanted > max => {
                let shown = |size: u64| match what.strip_suffix("_bytes") {
                    Some(_) => format_size(size),
                    None => size.to_string(),
                };
                let (what, wanted, max) = (what.trim_end_matches("_bytes"), shown(wanted), shown(max));
                let message = format!("the task asks for {what} {wanted}, this worker gives at most {max}");
                Err(ProvisionError::Unavailable(message))
            }
            Some(wanted) => Ok(wanted),
            None => Ok(default.min(max)),
        };
        let small = |wanted: u64| u32::try_from(wanted).unwrap_or(u32::MAX);
        Ok(GrantedSizes {
            memory_bytes: take("memory_bytes", wish.memory_bytes, default.memory_bytes, max.memory_bytes)?,
            cpus: small(take("cpus", wish.cpus.map(u64::from), default.cpus.into(), max.cpus.into())?),
            disk_bytes: take("disk_bytes", wish.disk_bytes, default.disk_bytes, max.disk_bytes)?,
            processes: small(take(
                "processes",
                wish.processes.map(u64::from),
                default.processes.into(),
                max.processes.into(),
            )?),
            tmp_bytes: default.tmp_bytes.min(max.tmp_bytes),
            open_files: default.open_files.min(max.open_files),
        })
    }
}

/// The relaxations that the worker's configuration grants to trusted tasks that ask for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Network in `run`.
    pub network: bool,
    /// Root in `run`.
    pub root: bool,
    /// A writable root file system in `run`.
    pub writable_root: bool,
    /// Capabilities in `run`, such as `NET_ADMIN`.
    pub capabilities: Vec<String>,
}

impl Allow {
    /// Checks a wish: all of it is granted, or nothing.
    ///
    /// # Errors
    /// What is not granted, and why.
    pub fn grant(&self, wish: &Relaxed, trust: Trust) -> Result<Relaxed, ProvisionError> {
        let mut refused = Vec::new();
        let mut ask = |name: &str, wanted: bool, allowed: bool| {
            if wanted && !(allowed && trust == Trust::Trusted) {
                refused.push(name.to_owned());
            }
        };
        ask("network", wish.network, self.network);
        ask("root", wish.root, self.root);
        ask("writable_root", wish.writable_root, self.writable_root);
        for capability in &wish.capabilities {
            ask(&format!("capability {capability}"), true, self.capabilities.contains(capability));
        }
        if refused.is_empty() {
            return Ok(wish.clone());
        }
        let why = match trust {
            Trust::Untrusted => "the task is not trusted",
            Trust::Trusted => "this worker's configuration does not allow it",
        };
        Err(ProvisionError::Unavailable(format!("asks for {}: {why}", refused.join(", "))))
    }
}
