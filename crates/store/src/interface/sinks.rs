//! How far sinks have come in what is told.

use super::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::ids::Position;
use serde::{Deserialize, Serialize};

/// The most messages that are kept for sinks that are behind. One that is further behind has lost what was before.
pub const SINK_BACKLOG_MAX: i64 = 1_000_000;

/// A sink, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkPlace {
    /// Its name.
    pub name: String,
    /// The last message that it has, or was to have.
    pub position: Position,
    /// When it came there.
    pub since: DateTime<Utc>,
}

/// The places of sinks. What they have not come to yet is not pruned, for [`SINK_BACKLOG_MAX`] messages.
#[async_trait]
pub trait Sinks: Send + Sync {
    /// Where a sink is. One that is new starts with what is told from now on.
    async fn sink(&self, name: &str) -> Result<SinkPlace>;

    /// A sink has everything up to here. It never goes back.
    async fn advance_sink(&self, name: &str, to: Position) -> Result<()>;

    /// All sinks that ever were, by name.
    async fn sinks(&self) -> Result<Vec<SinkPlace>>;

    /// Forgets a sink: nothing is kept for it any more.
    async fn forget_sink(&self, name: &str) -> Result<()>;
}
