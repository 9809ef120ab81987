//! Handing tasks out: claims, leases, finishing, reaping; queues and workers.

use super::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    Offer, Requirements, Task, TaskId,
    ids::{QueueName, WorkerName},
    protocol::{Assignment, FinishRequest, HeartbeatEntry, Held, Order},
    units::format_size,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How long a worker may be silent before tasks that only it can run are `unmet`, in milliseconds. A claim is
/// held open for at most 60 s, and is heard of at its start.
pub const WORKER_ALIVE_MS: u64 = 180_000;
/// How long a task that does not fit may be passed over by others, in milliseconds since it was queued.
pub const PASSED_OVER_MAX_MS: u64 = 600_000;
/// For how long a task is left to workers that have its image, before one takes it that must pull it.
pub const IMAGE_PATIENCE_MS: u64 = 5_000;
/// The longest reason for a worker's mode, in characters.
pub const WORKER_WHY_CHARS_MAX: usize = 500;

/// A claim: a worker asks for tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// Who asks.
    pub worker: WorkerName,
    /// What it offers. Only tasks whose needs it meets are handed out.
    pub offer: Offer,
    /// The most tasks to hand out.
    pub max: u32,
    /// How long each lease is, in milliseconds, by the database's clock.
    pub lease_ms: u64,
    /// Of tasks of the same priority, those of the queue that stands first here go first; none named: all alike.
    pub order: Vec<QueueName>,
}

/// What finishing did.
#[derive(Debug, Clone, PartialEq)]
pub enum Finished {
    /// It was accepted: the task after it (final, or queued again for another attempt).
    Accepted(Box<Task>),
    /// The same was accepted before.
    Repeated(Box<Task>),
    /// The fence is stale: the attempt is somebody else's now, or was given up. Nothing was written.
    Fenced,
}

/// A queue with its figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: QueueName,
    /// Since when and by whom it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// How many tasks wait in it for a worker.
    pub queued: u64,
    /// How many of them no known worker can run.
    pub unmet: u64,
    /// How many cannot be queued yet.
    pub waiting: u64,
    /// How many run.
    pub running: u64,
    /// Since when the oldest one has been queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_queued_at: Option<DateTime<Utc>>,
}

/// Why a queue hands nothing out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who paused it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What an operator wants of a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerMode {
    /// It takes tasks.
    #[default]
    Active,
    /// It takes no more tasks, finishes those that it runs, and ends then.
    Drain,
    /// It takes no more tasks, finishes those that it runs, and stays connected.
    Cordon,
    /// As `cordon`, for a reason, and it may be until a time from which it takes tasks again.
    Maintenance,
}

impl WorkerMode {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Cordon => "cordon",
            Self::Maintenance => "maintenance",
        }
    }
}

impl std::str::FromStr for WorkerMode {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "active" => Ok(Self::Active),
            "drain" => Ok(Self::Drain),
            "cordon" => Ok(Self::Cordon),
            "maintenance" => Ok(Self::Maintenance),
            other => Err(format!("`{other}` is no mode; known are active, drain, cordon, maintenance")),
        }
    }
}

/// What an operator wants of a worker, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerWish {
    /// What is wanted.
    pub mode: WorkerMode,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Until when; from then on it takes tasks again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl From<WorkerMode> for WorkerWish {
    /// That mode, for no reason, for good.
    fn from(mode: WorkerMode) -> Self {
        Self { mode, ..Self::default() }
    }
}

impl WorkerWish {
    /// What counts now: a wish whose time is over is none.
    #[must_use]
    pub fn at(self, now: DateTime<Utc>) -> Self {
        if self.until.is_some_and(|until| until <= now) { Self::default() } else { self }
    }

    /// Whether the worker takes tasks.
    #[must_use]
    pub fn takes_tasks(&self) -> bool {
        self.mode == WorkerMode::Active
    }
}

impl fmt::Display for WorkerWish {
    /// `in maintenance until 2026-01-02 03:04 UTC (new disks)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            WorkerMode::Active => "active",
            WorkerMode::Drain => "drained",
            WorkerMode::Cordon => "cordoned",
            WorkerMode::Maintenance => "in maintenance",
        })?;
        if let Some(until) = self.until {
            write!(f, " until {}", until.format("%Y-%m-%d %H:%M UTC"))?;
        }
        match &self.why {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

/// What the tasks that a worker runs keep of what it offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// Slots.
    pub slots: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Disk space in bytes.
    pub disk_bytes: u64,
}

impl Reserved {
    /// Takes up what a task needs.
    pub fn add(&mut self, needs: &Requirements) {
        self.slots += 1;
        self.memory_bytes = self.memory_bytes.saturating_add(needs.memory_bytes.unwrap_or_default());
        self.disk_bytes = self.disk_bytes.saturating_add(needs.disk_bytes.unwrap_or_default());
    }

    /// What a task needs beyond what is left of an offer; nothing when it fits. Slots are the worker's own to count.
    #[must_use]
    pub fn short_of(&self, offer: &Offer, needs: &Requirements) -> Vec<String> {
        let sizes = [
            ("memory", needs.memory_bytes, offer.memory_bytes, self.memory_bytes),
            ("disk", needs.disk_bytes, offer.disk_bytes, self.disk_bytes),
        ];
        let short = sizes.into_iter().filter_map(|(what, wanted, offered, reserved)| {
            let left = offered.saturating_sub(reserved);
            let (wanted, of) = (wanted.filter(|wanted| *wanted > left)?, format_size(offered));
            Some(format!("{what} {} ({} of {of} left)", format_size(wanted), format_size(left)))
        });
        short.collect()
    }
}

/// A worker that made itself known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its name.
    pub name: WorkerName,
    /// Its program's version.
    pub version: String,
    /// What it offers.
    pub offer: Offer,
    /// What an operator wants of it.
    #[serde(flatten)]
    pub wish: WorkerWish,
    /// What the tasks that it runs keep of it.
    pub reserved: Reserved,
    /// When it was last heard of, by the database's clock.
    pub last_seen: DateTime<Utc>,
    /// Whether it was heard of within the lease, and did not say goodbye.
    pub alive: bool,
    /// When it said goodbye; nothing while it works or is only silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_at: Option<DateTime<Utc>>,
    /// What it runs.
    pub running: Vec<TaskId>,
}

/// Handing tasks out.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Makes a worker known, or says that it is still there with what it offers now. Tasks that were `unmet`
    /// and are met by it are so no more. Returns what an operator wants of it.
    async fn hello(&self, worker: &WorkerName, version: &str, offer: &Offer) -> Result<WorkerMode>;

    /// Hands out queued tasks of the queues that the worker serves, that are not paused, whose needs it meets
    /// and whose time has come: by priority, then in turn among submitters, then by age. Each becomes
    /// running, with a new attempt, a higher fence and a lease; `taskbot.task.started` is told.
    ///
    /// The memory and disk space that tasks need are kept for them on their worker as long as they run. One that
    /// does not fit is passed over; after [`PASSED_OVER_MAX_MS`] in the queue it is so no more: then nothing else of
    /// a size is handed to a worker that could run it, until it fits.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Assignment>>;

    /// What the database thinks that the worker runs: for a lost answer to a claim, and after its restart.
    async fn held(&self, worker: &WorkerName) -> Result<Vec<Assignment>>;

    /// Extends leases and notes phases (`taskbot.task.phase` is told when it changed). An order for each
    /// entry, in order.
    async fn heartbeat(
        &self,
        worker: &WorkerName,
        entries: &[HeartbeatEntry],
        lease_ms: u64,
    ) -> Result<Vec<Order>>;

    /// Ends an attempt: outcome, phases, environment, results, in one transaction with their messages and own
    /// events. The task's retry policy may queue it again. Groups let the next one in. A handed back attempt
    /// queues the task as if it had not been claimed (the attempt is kept, without outcome, and is no try for the
    /// retry policy). Results are kept only of the attempt that decides the task: one that is followed by another,
    /// or that was told to stop, says nothing about the item.
    async fn finish(&self, task: TaskId, request: &FinishRequest) -> Result<Finished>;

    /// Ends attempts whose lease is over as `error(lost)`, at most `limit`; the retry policy decides. Returns
    /// what was ended.
    async fn reap(&self, limit: u32) -> Result<Vec<Held>>;

    /// All queues that have or had tasks, by name.
    async fn queues(&self) -> Result<Vec<QueueStatus>>;

    /// Why a queue hands nothing out; nothing when it does, or is not there.
    async fn paused(&self, queue: &QueueName) -> Result<Option<Paused>>;

    /// Stops handing out of a queue; one that is not there yet is made when `make`, else not found.
    async fn pause_queue(&self, queue: &QueueName, by: &str, why: Option<&str>, make: bool) -> Result<()>;

    /// Hands out of it again.
    async fn resume_queue(&self, queue: &QueueName) -> Result<()>;

    /// All workers, by name. `alive_ms` is how long one may be silent.
    async fn workers(&self, alive_ms: u64) -> Result<Vec<WorkerStatus>>;

    /// A worker says goodbye: it is not counted on any more, until it says hello. What it wants of an operator stays,
    /// and tasks that nobody is left for are marked `unmet`. A worker that is not known is fine.
    async fn leave(&self, worker: &WorkerName) -> Result<()>;

    /// What an operator wants of a worker; `None` when it is not known.
    async fn worker_mode(&self, worker: &WorkerName) -> Result<Option<WorkerMode>>;

    /// Says what an operator wants of a worker, from now on (`since` is set). Queued tasks that nobody is left for
    /// are marked `unmet`; those that this worker can run again are so no more.
    async fn set_worker_mode(&self, worker: &WorkerName, wish: &WorkerWish) -> Result<()>;

    /// Why a queued task that known workers can run is not run yet: what each of them is short of. Nothing when the
    /// next claim may take it, when it is not queued, or when its queue is paused.
    async fn held_up(&self, task: TaskId) -> Result<Option<String>>;

    /// Forgets workers that were silent for so long and marks the queued tasks that nobody is left for as
    /// `unmet`. Returns how many were forgotten.
    async fn forget_workers(&self, silent_ms: u64) -> Result<u64>;
}
