//! Attempts: one execution of a task by one worker.

use crate::{ids::WorkerName, outcome::Outcome, phase::Phase, requirements::ExecutorKind};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Which attempt of a task, with the fencing token that proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptRef {
    /// Its number, counted from 1.
    pub attempt: u32,
    /// The fencing token: it grows whenever the task changes hands, and an older one is refused.
    pub fence: i64,
}

/// One execution of a task by one worker, under a lease with a fencing token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// Its number, counted from 1.
    pub number: u32,
    /// Its fencing token.
    pub fence: i64,
    /// Who ran it.
    pub worker: WorkerName,
    /// When it was claimed.
    pub started_at: DateTime<Utc>,
    /// When it ended; nothing while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended; nothing when it was handed back, or stopped with its task (the reason says so): then it says
    /// nothing about the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// One line for people: why it failed or erred, was handed back or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its phases with their times.
    #[serde(default)]
    pub phases: Vec<PhaseReport>,
    /// What it ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentReport>,
    /// How many bytes of log were kept.
    #[serde(default)]
    pub log_bytes: u64,
    /// Whether the log was longer than its cap: its head and tail were kept.
    #[serde(default)]
    pub log_truncated: bool,
}

/// How one phase of an attempt went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PhaseReport {
    /// The phase.
    pub phase: Phase,
    /// When it began, by the worker's clock.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong in it, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What an attempt ran in: enough to make the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnvironmentReport {
    /// The executor.
    pub executor: ExecutorKind,
    /// The image's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The image's digest or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The engine with its version, the emulator, or the sandbox program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The architecture.
    pub arch: String,
    /// Whether the layer that `prepare` makes came from the cache.
    #[serde(default)]
    pub prepared_from_cache: bool,
    /// What a person should know: `no isolation`, the executors tried before …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
