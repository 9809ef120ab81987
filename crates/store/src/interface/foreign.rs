//! Jobs of other systems' agents: what their interfaces keep of them beside the task, and the documents that
//! such an interface has besides.

use super::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    Task, TaskId,
    attempt::AttemptRef,
    ids::{QueueName, WorkerName},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The most that is kept of what is reported of a job, as JSON text, in bytes.
pub const FOREIGN_DATA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest document of another system's interface, as JSON text, in bytes.
pub const FOREIGN_RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most jobs that a list gives, the newest of them.
pub const FOREIGN_JOBS_MAX: u32 = 10_000;
/// Of how many of the latest jobs of a queue waits are told.
pub const FOREIGN_WAITS_MAX: u32 = 1000;

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignJob {
    /// The task's id; of a job without a task its own.
    pub id: Uuid,
    /// Its id in the other system's words.
    pub job_id: Uuid,
    /// Its task.
    pub task: Option<Task>,
    /// The attempt that `state` and `data` belong to; 0 without a task.
    pub attempt: u32,
    /// What the agent says of where it stands.
    pub state: Option<String>,
    /// What was reported of it.
    pub data: Map<String, Value>,
    /// Whether its agent showed that it was given the job.
    pub acknowledged: bool,
    /// When it was handed out last.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Which jobs to list, newest first, at most [`FOREIGN_JOBS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignQuery {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only with any of these tags.
    pub tags: Vec<String>,
    /// Only those that are not final.
    pub open: bool,
}

/// What is reported of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForeignReport {
    /// Where it stands.
    pub state: Option<String>,
    /// Each replaces what there is under its key.
    pub data: Map<String, Value>,
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Which log: `output`, `serial`.
    pub kind: String,
    /// The sender's number of it.
    pub number: i64,
    /// The sender's phase.
    pub phase: String,
    /// The sender's time.
    pub at: DateTime<Utc>,
    /// How many bytes it has.
    pub size_bytes: u64,
    /// Where they lie.
    pub key: String,
}

/// A file of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignFile {
    /// How many bytes it has.
    pub size_bytes: u64,
    /// Where they lie.
    pub key: String,
}

/// A document of another system's interface.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignRecord {
    /// Its name among those of its kind.
    pub name: String,
    /// Counts its changes.
    pub version: i64,
    /// What it says.
    pub body: Value,
    /// When it is forgotten.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

/// Jobs of other systems' agents. `system` is the other system throughout, such as `testflinger`.
#[async_trait]
pub trait ForeignJobs: Send + Sync {
    /// The newest job of this id.
    async fn foreign_job(&self, system: &str, job_id: Uuid) -> Result<Option<ForeignJob>>;

    /// Jobs, newest first.
    async fn foreign_jobs(&self, system: &str, query: &ForeignQuery) -> Result<Vec<ForeignJob>>;

    /// Writes what is reported of a job; one that nobody knows of is kept, too. Gives the job after it. Nothing is
    /// written when the task runs and `attempt` is not its attempt.
    async fn report_foreign(
        &self,
        system: &str,
        job_id: Uuid,
        report: &ForeignReport,
        attempt: Option<AttemptRef>,
    ) -> Result<ForeignJob>;

    /// The agent showed that it was given the job.
    async fn acknowledge_foreign(&self, id: Uuid) -> Result<()>;

    /// Extends the leases of what an agent runs to this long from now, where less than nine tenths of it are left.
    async fn renew_foreign(&self, worker: &WorkerName, lease_ms: u64) -> Result<u64>;

    /// Ends a running attempt as lost, as if its lease were over: its agent asks for another task. `false` when it is
    /// not running any more.
    async fn lose_attempt(&self, task: TaskId, attempt: AttemptRef) -> Result<bool>;

    /// Queues a task that waited for its attachments. A conflict when it does not.
    async fn attached(&self, task: TaskId) -> Result<Task>;

    /// Notes a piece of a log; one whose number is there already is replaced.
    async fn add_fragment(&self, id: Uuid, attempt: u32, fragment: &Fragment) -> Result<()>;

    /// The pieces of a job's logs, by their numbers.
    async fn fragments(&self, id: Uuid, attempt: u32, kind: Option<&str>) -> Result<Vec<Fragment>>;

    /// Notes a file of a job, in place of the one of the same kind, which is given back.
    async fn put_foreign_file(&self, id: Uuid, kind: &str, file: &ForeignFile)
    -> Result<Option<ForeignFile>>;

    /// A file of a job.
    async fn foreign_file(&self, id: Uuid, kind: &str) -> Result<Option<ForeignFile>>;

    /// How long the latest jobs waited, in milliseconds, by queue.
    async fn foreign_waits(
        &self,
        system: &str,
        queues: &[QueueName],
    ) -> Result<BTreeMap<QueueName, Vec<u64>>>;

    /// A document.
    async fn foreign_record(&self, system: &str, kind: &str, name: &str) -> Result<Option<ForeignRecord>>;

    /// All documents of a kind, by name.
    async fn foreign_records(&self, system: &str, kind: &str) -> Result<Vec<ForeignRecord>>;

    /// Writes a document, when it is still at the `version` that the caller read (`None`: it is not there). Whether it
    /// was written.
    async fn put_foreign_record(
        &self,
        system: &str,
        kind: &str,
        name: &str,
        version: Option<i64>,
        body: &Value,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<bool>;

    /// Removes a document; whether there was one.
    async fn remove_foreign_record(&self, system: &str, kind: &str, name: &str) -> Result<bool>;
}
