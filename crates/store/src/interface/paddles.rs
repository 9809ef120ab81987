//! Runs, jobs, nodes and queues as paddles knows them. Each job has a task of the kind `reported`, which follows it.

use super::{NewTask, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    TaskId,
    paddles::{JobCounts, JobReport, JobStatus, LockError, Node, RunName},
};
use std::collections::BTreeMap;

/// The most runs, nodes or values that a list gives.
pub const PADDLES_ROWS_MAX: u32 = 10_000;
/// The largest job that is kept, as JSON text, in bytes.
pub const PADDLES_JOB_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddlesRun {
    /// Its name.
    pub name: String,
    /// Who scheduled it.
    pub user: Option<String>,
    /// When it was scheduled.
    pub scheduled: Option<DateTime<Utc>>,
    /// Which tests.
    pub suite: Option<String>,
    /// Of what is tested.
    pub branch: Option<String>,
    /// The kind of machines.
    pub machine_type: Option<String>,
    /// When it was first heard of.
    pub posted: DateTime<Utc>,
    /// When its first job began.
    pub started: Option<DateTime<Utc>>,
    /// When one of its jobs changed last.
    pub updated: Option<DateTime<Utc>>,
    /// What its first job tests.
    pub sha1: Option<String>,
    /// The flavor of its first job.
    pub flavor: Option<String>,
    /// The priority of its first job.
    pub priority: Option<i64>,
    /// How many jobs have which status.
    pub counts: JobCounts,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddlesJob {
    /// Its number among all jobs; grows with time.
    pub seq: i64,
    /// The name of its run.
    pub run: String,
    /// Its id in its run.
    pub job_id: String,
    /// Its task.
    pub task: TaskId,
    /// Its status.
    pub status: JobStatus,
    /// When it was first heard of.
    pub posted: DateTime<Utc>,
    /// When it began to run.
    pub started: Option<DateTime<Utc>>,
    /// When it changed last.
    pub updated: DateTime<Utc>,
    /// All else: the text of a JSON object; empty where only the rest was asked for.
    pub body: String,
}

/// What runs are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddlesField {
    /// Of what is tested.
    Branch,
    /// The day for which it was scheduled; that of its report where its name says none.
    Date,
    /// The kind of machines.
    MachineType,
    /// Its status.
    Status,
    /// Which tests.
    Suite,
    /// What one of its jobs tests.
    Sha1,
    /// Who scheduled it.
    User,
    /// The flavor of its first job.
    Flavor,
}

/// Which runs to list, those scheduled last first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaddlesRunQuery {
    /// With these values.
    pub fields: Vec<(PaddlesField, String)>,
    /// With a job that tests what begins so.
    pub sha1: Option<String>,
    /// Scheduled at or after.
    pub from: Option<DateTime<Utc>>,
    /// Scheduled before.
    pub until: Option<DateTime<Utc>>,
    /// Only with queued jobs.
    pub queued: bool,
    /// Those posted last first.
    pub by_posted: bool,
    /// Those scheduled first first.
    pub oldest_first: bool,
    /// The most, at most [`PADDLES_ROWS_MAX`].
    pub limit: u32,
    /// How many to leave out.
    pub offset: u64,
}

/// Which jobs to list, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaddlesJobQuery {
    /// Only of this run.
    pub run: Option<String>,
    /// Only this one of the run.
    pub job_id: Option<String>,
    /// Only of this status.
    pub status: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
    /// Only whose description has this text in it.
    pub description: Option<String>,
    /// Only which test this.
    pub sha1: Option<String>,
    /// Only of this branch.
    pub branch: Option<String>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only which ran on this node.
    pub node: Option<String>,
    /// Only first heard of at or after.
    pub posted_after: Option<DateTime<Utc>>,
    /// Only first heard of before.
    pub posted_before: Option<DateTime<Utc>>,
    /// Only older than this one.
    pub before: Option<i64>,
    /// Leaves the bodies out.
    pub brief: bool,
    /// The most, at most [`PADDLES_ROWS_MAX`].
    pub limit: u32,
    /// How many to leave out.
    pub offset: u64,
}

/// Which job a report is about.
#[derive(Debug, Clone, PartialEq)]
pub enum PaddlesTarget {
    /// One that is not there yet; its run is made when it is not there either. `task` becomes its task.
    New {
        /// What its run's name says.
        name: RunName,
        /// Its task; its state follows the job.
        task: Box<NewTask>,
    },
    /// One that is there.
    Existing {
        /// Its id.
        job_id: String,
    },
}

/// What is reported of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct PaddlesReport {
    /// The name of its run.
    pub run: String,
    /// Which job.
    pub target: PaddlesTarget,
    /// What is said of it.
    pub report: JobReport,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaddlesReported {
    /// It was taken over; the job's id.
    Done(String),
    /// There is such a job already.
    Exists(String),
    /// There is no such job.
    Missing,
}

/// Which nodes to list, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaddlesNodeQuery {
    /// Only locked or free ones.
    pub locked: Option<bool>,
    /// Only of these kinds.
    pub machine_types: Vec<String>,
    /// Only with this system.
    pub os_type: Option<String>,
    /// Only with this version.
    pub os_version: Option<String>,
    /// Only with this architecture.
    pub arch: Option<String>,
    /// Only those that somebody has.
    pub locked_by: Option<String>,
    /// Only those that work or do not.
    pub up: Option<bool>,
    /// The most, at most [`PADDLES_ROWS_MAX`].
    pub limit: Option<u32>,
}

/// A change of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaddlesNodeChange {
    /// What is said of it anew; its name, and who has it, are left as they are.
    pub node: Node,
    /// Which keys of it are said anew.
    pub keys: Vec<String>,
    /// Whether it is locked or given back.
    pub locked: Option<bool>,
    /// By whom.
    pub locked_by: Option<String>,
    /// What for.
    pub description: Option<String>,
}

/// What became of a change of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaddlesNodes {
    /// The nodes after it.
    Done(Vec<Node>),
    /// One of them is not there.
    Missing,
    /// Only so many are free.
    Short(u64),
    /// Somebody else has one of them.
    Refused(LockError),
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddlesQueue {
    /// Its name.
    pub name: String,
    /// Who paused it; nothing while it is not paused.
    pub paused_by: Option<String>,
    /// Since when.
    pub paused_since: Option<DateTime<Utc>>,
    /// Until when; nothing for a pause that somebody must end.
    pub paused_until: Option<DateTime<Utc>>,
}

/// What became of a wish to pause a queue, or to let it go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaddlesPause {
    /// It is so now.
    Done,
    /// There is no such queue.
    Missing,
    /// It is paused already.
    Paused,
}

/// The next job of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaddlesPopped {
    /// It is the asker's until its lease is over.
    Job(Box<PaddlesJob>),
    /// There is none.
    Nothing,
    /// The queue is paused.
    Paused,
}

/// Runs, jobs, nodes and queues as paddles knows them.
#[async_trait]
pub trait Paddles: Send + Sync {
    /// Makes a run; `false` when there is one of this name.
    async fn add_paddles_run(&self, name: &str, parsed: &RunName) -> Result<bool>;

    /// A run.
    async fn paddles_run(&self, name: &str) -> Result<Option<PaddlesRun>>;

    /// Runs.
    async fn paddles_runs(&self, query: &PaddlesRunQuery) -> Result<Vec<PaddlesRun>>;

    /// The values that runs have, sorted, each once.
    async fn paddles_values(&self, field: PaddlesField, query: &PaddlesRunQuery) -> Result<Vec<String>>;

    /// Removes a run with its jobs; tasks of jobs that have not ended are cancelled. `false` when there is none.
    async fn remove_paddles_run(&self, name: &str, who: &str) -> Result<bool>;

    /// Takes reports over, in this order and all or none: the jobs, their runs' counts, their tasks, and the results
    /// that they are once they have an outcome, in one transaction. What is read for it does not depend on how many
    /// jobs the runs have.
    async fn report_paddles_jobs(&self, reports: &[PaddlesReport]) -> Result<Vec<PaddlesReported>>;

    /// Jobs.
    async fn paddles_jobs(&self, query: &PaddlesJobQuery) -> Result<Vec<PaddlesJob>>;

    /// Removes a job; its task is cancelled when it has not ended. `false` when there is none.
    async fn remove_paddles_job(&self, run: &str, job_id: &str, who: &str) -> Result<bool>;

    /// Hands out the queued job with the lowest priority, the oldest of them, that nobody else was handed. It is to be
    /// had again after `lease_ms`, unless it is reported of in the meantime.
    async fn pop_paddles_job(&self, queue: &str, lease_ms: u64) -> Result<PaddlesPopped>;

    /// Queues that were made known, by name.
    async fn paddles_queues(&self) -> Result<Vec<PaddlesQueue>>;

    /// Makes a queue known; `false` when it is.
    async fn add_paddles_queue(&self, name: &str) -> Result<bool>;

    /// Pauses a queue for so long, or lets it go on (`None`). Our own workers are handed nothing of it either.
    async fn pause_paddles_queue(&self, name: &str, by: &str, for_ms: Option<u64>) -> Result<PaddlesPause>;

    /// How many jobs a queue holds.
    async fn count_paddles_queue(&self, name: &str) -> Result<u64>;

    /// Nodes.
    async fn paddles_nodes(&self, query: &PaddlesNodeQuery) -> Result<Vec<Node>>;

    /// A node.
    async fn paddles_node(&self, name: &str) -> Result<Option<Node>>;

    /// The kinds of nodes, sorted, each once.
    async fn paddles_machine_types(&self) -> Result<Vec<String>>;

    /// Makes a node known; `false` when it is.
    async fn add_paddles_node(&self, node: &Node) -> Result<bool>;

    /// Changes a node.
    async fn change_paddles_node(&self, name: &str, change: &PaddlesNodeChange) -> Result<PaddlesNodes>;

    /// Forgets a node; `false` when there is none.
    async fn remove_paddles_node(&self, name: &str) -> Result<bool>;

    /// Locks so many nodes that are free and work, or none.
    async fn lock_paddles_nodes(
        &self,
        query: &PaddlesNodeQuery,
        count: u32,
        locked_by: &str,
        description: Option<&str>,
    ) -> Result<PaddlesNodes>;

    /// Gives all these nodes back, or none.
    async fn unlock_paddles_nodes(&self, names: &[String], locked_by: &str) -> Result<PaddlesNodes>;

    /// How many jobs ended how, by node and status: of one node, or of all of a kind, first heard of since then.
    async fn paddles_node_stats(
        &self,
        node: Option<&str>,
        machine_type: Option<&str>,
        since: Option<DateTime<Utc>>,
    ) -> Result<BTreeMap<String, BTreeMap<String, u64>>>;
}
