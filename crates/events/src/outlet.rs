//! Where messages of the outbox go.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::message::Message;
use serde::Serialize;
use tokio::sync::watch;

/// Takes messages of the outbox to a bus.
#[async_trait]
pub trait Outlet: Send + Sync {
    /// A name for logs and metrics.
    fn name(&self) -> &str;

    /// Publishes a batch; the answers stand in the order of the messages. `Ok` means that the bus stored it.
    ///
    /// Order: among messages with one `order_key`, a later one is sent only after the earlier was stored, and
    /// when one fails, the later ones of its key fail as [`OutletError::Held`]. Messages of different keys are
    /// in flight together. Every message is safe to publish again: the bus drops repetitions by their id, for
    /// as long as it remembers ids.
    ///
    /// When the bus is away the call ends within a bounded time; the caller tries again later.
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), OutletError>>;

    /// How it goes.
    fn health(&self) -> watch::Receiver<OutletHealth>;
}

/// Why a message was not published. Each is tried again by the caller, in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutletError {
    /// The bus is away, or did not answer in time.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The bus is there and does not take it; somebody has to mend something.
    #[error("the bus refuses: {0}")]
    Refused(String),
    /// An earlier message with the same order key was not published.
    #[error("held back: an earlier message with its order key was not published")]
    Held,
}

/// How an outlet is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OutletHealth {
    /// Whether messages can go out now.
    pub connected: bool,
    /// When the last message was stored by the bus.
    pub last_published_at: Option<DateTime<Utc>>,
    /// How many messages were shortened, since they were too large for the bus.
    pub shortened: u64,
    /// What is wrong, in words.
    pub detail: Option<String>,
}
