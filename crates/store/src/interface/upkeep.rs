//! Health, figures, leases of periodic work, and retention.

use super::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// How long things are kept. `None` keeps for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Bodies of events; the rows stay and say that the body expired.
    pub bodies: Option<Duration>,
    /// Events with their firings. Rule sets outlive the events that they judged.
    pub events: Option<Duration>,
    /// Published messages of the outbox.
    pub messages: Option<Duration>,
    /// Final tasks with their attempts.
    pub tasks: Option<Duration>,
    /// Logs and artifacts (the caller removes the bytes that [`Upkeep::prune`] names).
    pub files: Option<Duration>,
    /// Results.
    pub results: Option<Duration>,
    /// Dead letters.
    pub dead_letters: Option<Duration>,
    /// The audit record.
    pub audit: Option<Duration>,
}

/// What pruning removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Rows by kind.
    pub rows: BTreeMap<String, u64>,
    /// Paths in the object store whose rows are gone.
    pub keys: Vec<String>,
}

/// Figures for metrics and `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Tasks by `queue` and state.
    pub tasks: Vec<(String, String, u64)>,
    /// Messages not yet published on the bus.
    pub outbox_pending: u64,
    /// Events that wait to be judged.
    pub unjudged: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Connections in use and in all.
    pub connections: (u32, u32),
}

/// Health, figures and retention.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// `sqlite` or `postgres`, with the version.
    async fn backend(&self) -> Result<String>;

    /// The database's clock: asks it, so that it also says whether it answers.
    async fn now(&self) -> Result<DateTime<Utc>>;

    /// Shifts the clock that leases, delays and windows go by, by so many milliseconds: for drills and tests.
    async fn shift_clock(&self, by_ms: i64) -> Result<()>;

    /// Takes the lease of a periodic work for so long, or extends it. `false` when another holds it.
    async fn try_lease(&self, work: &str, holder: &str, ttl_ms: u64) -> Result<bool>;

    /// Gives the lease back.
    async fn end_lease(&self, work: &str, holder: &str) -> Result<()>;

    /// Figures.
    async fn figures(&self) -> Result<Figures>;

    /// Removes what is older than it is kept, at most `limit` rows of each kind; only counts on a dry run.
    async fn prune(&self, retention: &Retention, limit: u32, dry_run: bool) -> Result<Pruned>;

    /// Closes all connections.
    async fn close(&self);
}
