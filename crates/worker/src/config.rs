//! What a worker is told: plain data, filled in by whoever starts it.

use crate::{client::Token, fetch::Network, secrets::Secrets};
use model::{QueueName, WorkerName, task_file::ARTIFACTS_BYTES_MAX};
use std::{collections::BTreeSet, path::PathBuf, time::Duration};
use url::Url;

/// How many attempts run at the same time by default.
pub const SLOTS_DEFAULT: u32 = 1;
/// The factor of time limits in virtual machines without hardware virtualisation.
pub const VM_TIME_FACTOR_WITHOUT_KVM: f64 = 10.0;
/// How long a worker without any answer from a server goes on by default, if its lease is not longer.
///
/// Not the lease itself: a server that is restarted, or that waits for its database, has not given the task
/// to anybody else, and stopping a long test for it would only waste it. The fence keeps a second result out.
pub const LOST_CONTACT_AFTER_DEFAULT: Duration = Duration::from_secs(900);
/// The longest that the environment of a failed attempt is kept for a person, by default.
pub const HOLD_MAX_DEFAULT: Duration = Duration::from_secs(4 * 3600);
/// The most files that one attempt can leave, by default.
pub const ARTIFACT_FILES_DEFAULT: usize = 10_000;

/// A worker's configuration.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Its name, unique among the workers of a server.
    pub name: WorkerName,
    /// What tells it from another worker of its name, see [`identity`](crate::identity::of).
    pub identity: String,
    /// The server.
    pub server: Url,
    /// What it shows there.
    pub token: Option<Token>,
    /// The queues that it serves.
    pub queues: Vec<QueueName>,
    /// How many attempts it runs at the same time.
    pub slots: u32,
    /// Free labels that tasks can ask for.
    pub labels: BTreeSet<String>,
    /// The architectures that it runs, in the kernel's words.
    pub arches: BTreeSet<String>,
    /// Memory for tasks in bytes, as offered.
    pub memory_bytes: u64,
    /// Disk space for tasks in bytes, as offered.
    pub disk_bytes: u64,
    /// Processors for tasks, as offered.
    pub cpus: u32,
    /// Whether hardware virtualisation works.
    pub kvm: bool,
    /// Whether it ends when an operator drains it and it runs nothing.
    pub ends_when_drained: bool,
    /// Where attempts keep what was not delivered yet. One worker alone uses it.
    pub work_dir: PathBuf,
    /// How long it goes on without any answer from a server; a lease is the least.
    pub lost_contact_after: Duration,
    /// How it runs tasks.
    pub run: RunConfig,
}

/// How tasks are run, with a server or without.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// Time limits are multiplied by this.
    pub time_factor: f64,
    /// Time limits in virtual machines are multiplied by this too.
    pub vm_time_factor: f64,
    /// The most bytes of artifacts that one attempt can leave, whatever it asks for.
    pub artifact_bytes_max: u64,
    /// The most files that one attempt can leave.
    pub artifact_files_max: usize,
    /// How external files are fetched.
    pub fetch: FetchConfig,
    /// The longest that the environment of a failed attempt is kept for a person.
    pub hold_max: Duration,
    /// Whether that of a task that is not trusted is kept too.
    pub hold_untrusted: bool,
    /// The secrets that it has for tasks.
    pub secrets: Secrets,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            time_factor: 1.0,
            vm_time_factor: VM_TIME_FACTOR_WITHOUT_KVM,
            artifact_bytes_max: ARTIFACTS_BYTES_MAX,
            artifact_files_max: ARTIFACT_FILES_DEFAULT,
            fetch: FetchConfig::default(),
            hold_max: HOLD_MAX_DEFAULT,
            hold_untrusted: false,
            secrets: Secrets::default(),
        }
    }
}

/// How external files are fetched.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// Where fetched files are kept; workers on one machine may share it.
    pub cache_dir: PathBuf,
    /// The most that is kept there, in bytes.
    pub cache_bytes_max: u64,
    /// The largest file, in bytes.
    pub file_bytes_max: u64,
    /// Hosts that may be fetched from although their addresses are not public.
    pub private_hosts: BTreeSet<String>,
    /// Networks that are never fetched from, not even by the name of an allowed host.
    pub refused_networks: Vec<Network>,
    /// The server, for artifacts of other tasks.
    pub server: Option<FetchServer>,
    /// Where builds, updates and composes are looked up.
    pub lookups: FetchLookups,
    /// Folders below which `file:` URLs are taken; none by default.
    pub file_folders: Vec<PathBuf>,
}

/// The server that artifacts of other tasks come from.
#[derive(Debug, Clone)]
pub struct FetchServer {
    /// Where it is.
    pub url: Url,
    /// What the worker shows there.
    pub token: Option<Token>,
}

/// The URLs by which builds, updates and composes are looked up, with the variables that
/// [`crate::fetch::url_variables`] names; what is not there cannot be fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchLookups {
    /// A build's folder for one architecture.
    pub koji: Option<String>,
    /// An update, as JSON.
    pub bodhi: Option<String>,
    /// A compose's folder.
    pub compose: Option<String>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            cache_dir: PathBuf::from("/var/cache/taskbot/fetch"),
            cache_bytes_max: 20 << 30,
            file_bytes_max: 8 << 30,
            private_hosts: BTreeSet::new(),
            refused_networks: Vec::new(),
            server: None,
            lookups: FetchLookups::default(),
            file_folders: Vec::new(),
        }
    }
}
