//! What workers and the server say to each other over HTTP (`/api/v1/worker/…`).
//!
//! A worker claims by long poll, sends heartbeats, log chunks by sequence number, artifacts, and finishes.
//! Every request names its fence; a stale one is answered with 409 and the worker stops and drops the rest.

use crate::{
    attempt::{AttemptRef, EnvironmentReport, PhaseReport},
    ids::{ArtifactId, TaskId, WorkerName},
    outcome::Outcome,
    phase::Phase,
    requirements::Offer,
    result::NewResult,
    task::{Kept, Stop, Task},
};
use serde::{Deserialize, Serialize};

/// The protocol that this program speaks. A server also serves workers of the version before.
pub const PROTOCOL_VERSION: u32 = 1;
/// The oldest worker that a server of this program serves.
pub const PROTOCOL_VERSION_MIN: u32 = 1;
/// The longest that a claim may be held open, in seconds.
pub const CLAIM_WAIT_SECONDS_MAX: u32 = 60;
/// The most tasks that one claim hands out.
pub const CLAIM_TASKS_MAX: u32 = 64;
/// The largest log chunk in bytes.
pub const LOG_CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// The most that is kept of an attempt's log, in bytes: half of it head, half of it tail.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The largest artifact in bytes that a server takes by default.
pub const ARTIFACT_BYTES_MAX: u64 = 20 * 1024 * 1024 * 1024;
/// The largest part of an artifact that is sent in one request, in bytes.
pub const ARTIFACT_PART_BYTES_MAX: usize = 8 * 1024 * 1024;

/// `POST /api/v1/worker/claim`: a worker asks for tasks. It is also how a worker makes itself known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimRequest {
    /// [`PROTOCOL_VERSION`] of the worker's program.
    pub protocol: u32,
    /// The worker's name.
    pub worker: WorkerName,
    /// The worker's program version.
    pub version: String,
    /// What it offers.
    pub offer: Offer,
    /// How many tasks it can take now; 0 only makes it known.
    pub free_slots: u32,
    /// The attempts that it is running, so that a lost answer can be asked for again.
    pub running: Vec<Held>,
    /// How long to wait for a task, in seconds, at most [`CLAIM_WAIT_SECONDS_MAX`].
    pub wait_seconds: u32,
}

/// An attempt that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Held {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    #[serde(flatten)]
    pub attempt: AttemptRef,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimReply {
    /// The tasks to run, none when the time was up.
    pub assignments: Vec<Assignment>,
    /// How long a lease is, in seconds. Heartbeats go every third of it.
    pub lease_seconds: u32,
    /// The worker is to take no more tasks (an operator said so, or the server stops).
    pub drain: bool,
    /// The worker is to end once it runs nothing (it is drained).
    #[serde(default)]
    pub end: bool,
}

/// A task handed to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Assignment {
    /// The task, resolved, in state `running`.
    pub task: Box<Task>,
    /// The attempt.
    #[serde(flatten)]
    pub attempt: AttemptRef,
}

/// `POST /api/v1/worker/heartbeat`: all that a worker holds, in one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatRequest {
    /// The worker.
    pub worker: WorkerName,
    /// Its attempts with the phase that each is in.
    pub running: Vec<HeartbeatEntry>,
}

/// One attempt in a heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatEntry {
    /// The attempt.
    #[serde(flatten)]
    pub held: Held,
    /// The phase that it is in.
    pub phase: Phase,
    /// What is kept for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// The answer to a heartbeat, an entry for each in the request, in its order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatReply {
    /// What to do with each.
    pub orders: Vec<Order>,
    /// The worker is to take no more tasks.
    pub drain: bool,
}

/// `POST /api/v1/worker/leave`: a worker stops in an orderly way and says so, rather than being found silent.
/// Attempts that it could not deliver stay under their leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaveRequest {
    /// The worker.
    pub worker: WorkerName,
}

/// What a worker is to do with an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Go on; the lease was extended.
    Continue,
    /// Stop it, clean up, and finish: the task was cancelled or superseded.
    Stop {
        /// Why.
        why: Stop,
    },
    /// Nobody needs what it keeps any more: go on to clean up.
    EndHold,
    /// It is another worker's now: stop it, clean up, and send nothing more.
    Fenced,
}

/// `POST /api/v1/worker/tasks/{task}/log?attempt=&fence=&seq=`: the body is the chunk's bytes. Chunks are
/// numbered from 0; a number that is there already is answered as the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogChunkQuery {
    /// The attempt.
    pub attempt: u32,
    /// Its fence.
    pub fence: i64,
    /// The chunk's number.
    pub seq: u32,
}

/// `PUT /api/v1/worker/tasks/{task}/artifacts?attempt=&fence=&name=&sha256=&size_bytes=&offset=`: the body is
/// a part of the file, at most [`ARTIFACT_PART_BYTES_MAX`] long, from `offset` on (empty for an empty file).
///
/// The reply is always an [`UploadedArtifact`] with how many bytes the server has: a part that begins where
/// the server's file ends is appended; of any other nothing is taken, and the worker goes on from
/// `received_bytes`. The part that makes the file whole has it summed, and is answered with the id; so is
/// everything after. Another content than `sha256` is refused with 422 and forgotten. 409 is a stale fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ArtifactQuery {
    /// The attempt.
    pub attempt: u32,
    /// Its fence.
    pub fence: i64,
    /// The path inside the task's output.
    pub name: String,
    /// SHA-256 of the whole file in hexadecimal digits; another content is refused.
    pub sha256: String,
    /// The size of the whole file in bytes.
    pub size_bytes: u64,
    /// How many bytes the server has already; 0 at first.
    #[serde(default)]
    pub offset: u64,
}

/// What the server has of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadedArtifact {
    /// Its id, once it is whole.
    pub id: Option<ArtifactId>,
    /// How many bytes the server has.
    pub received_bytes: u64,
}

/// `POST /api/v1/worker/tasks/{task}/finish`. Sending the same again is answered as the first time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FinishRequest {
    /// The attempt.
    #[serde(flatten)]
    pub attempt: AttemptRef,
    /// How it ended; `handed_back` when the worker is stopped before it is over.
    pub end: AttemptEnd,
    /// Its phases with their times.
    pub phases: Vec<PhaseReport>,
    /// What it ran in.
    pub environment: Option<EnvironmentReport>,
    /// Its results.
    pub results: Vec<NewResult>,
    /// How many log chunks were sent.
    pub log_chunks: u32,
    /// How many bytes of log were kept.
    pub log_bytes: u64,
    /// Whether log was dropped in the middle.
    pub log_truncated: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// With an outcome.
    Outcome {
        /// The outcome.
        outcome: Outcome,
        /// One line for people: why it failed or erred.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The worker stops and gives it back: it goes to its queue as if it had not been claimed.
    HandedBack {
        /// Why.
        reason: String,
    },
}
