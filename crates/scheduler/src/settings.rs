//! What can be set about the scheduler, with its named limits.

use crate::retest::RetestSettings;
use model::SourceName;
use std::{collections::BTreeSet, time::Duration};
use store::Retention;

/// The most events that are judged and written in one transaction.
pub const INGEST_BATCH_MAX: usize = 256;
/// The most events of our own that are judged at a time.
pub const CHAIN_BATCH_MAX: u32 = 64;
/// The most windows that are closed, and held events that are judged, at a time.
pub const TIMERS_BATCH_MAX: u32 = 64;
/// The most parked tasks that one call releases or drops.
pub const PARKED_BATCH_MAX: u32 = 1000;
/// The most repositories that one server reads at the same time.
pub const RESOLVE_PARALLEL_MAX: usize = 8;
/// The most tasks that one server is resolving; those of one event and repository wait for each other.
pub const RESOLVE_TAKEN_MAX: usize = 64;
/// The most messages that the relay stamps or publishes at a time.
pub const RELAY_BATCH_MAX: u32 = 1000;
/// The most attempts that are reaped at a time.
pub const REAP_BATCH_MAX: u32 = 200;
/// The most rows of a kind that one round of pruning removes.
pub const PRUNE_BATCH_MAX: u32 = 5000;
/// The most files that one step of a sweep looks at.
pub const SWEEP_BATCH_MAX: usize = 1000;
/// How often resolving a task is tried before it ends as an error of the infrastructure.
pub const RESOLVE_TRIES_MAX: u32 = 8;

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This installation's name: the source of the messages that it tells.
    pub installation: String,
    /// What links that leave begin with (`https://qa.example.org`).
    pub public_url: Option<String>,
    /// This server's name among those on the same database.
    pub server: String,
    /// How long a worker's lease is.
    pub lease: Duration,
    /// How often leases are looked at.
    pub reap_every: Duration,
    /// How long to wait at most before looking again, where a hint may have been lost.
    pub poll_every: Duration,
    /// How long a silent worker is remembered.
    pub forget_workers_after: Duration,
    /// How often pruning goes round.
    pub prune_every: Duration,
    /// How often bytes that no row names are looked for.
    pub sweep_every: Duration,
    /// How old such bytes must be: younger ones may be about to get their row.
    pub sweep_older_than: Duration,
    /// How long things are kept.
    pub retention: Retention,
    /// The queue of tasks that name none.
    pub default_queue: String,
    /// The sources that may bring events of other installations, whose topics are under `taskbot.`. From any
    /// other, and from the API, these are refused: rules trust them.
    pub foreign_sources: BTreeSet<SourceName>,
    /// Whether a rule's job for another system's agents is queued again when its agent is lost; else it ends as
    /// `error(lost)`.
    pub requeue_foreign: bool,
    /// How wishes to run a test once more are served.
    pub retest: RetestSettings,
}

impl Default for Settings {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            installation: "taskbot".to_owned(),
            public_url: None,
            server: "server".to_owned(),
            lease: Duration::from_secs(60),
            reap_every: Duration::from_secs(5),
            poll_every: Duration::from_secs(1),
            forget_workers_after: Duration::from_secs(24 * 3600),
            prune_every: Duration::from_secs(600),
            sweep_every: Duration::from_secs(6 * 3600),
            sweep_older_than: day,
            retention: Retention {
                messages: Some(7 * day),
                dead_letters: Some(90 * day),
                events: Some(400 * day),
                tasks: Some(400 * day),
                files: Some(90 * day),
                ..Retention::default()
            },
            default_queue: "default".to_owned(),
            foreign_sources: BTreeSet::new(),
            requeue_foreign: true,
            retest: RetestSettings::default(),
        }
    }
}

impl Settings {
    /// The lease in milliseconds.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a worker may be silent and still counts as alive, in milliseconds.
    #[must_use]
    pub fn alive_ms(&self) -> u64 {
        self.lease_ms().saturating_mul(2)
    }
}
