//! The outbox: what is told, in the order of its telling; and the dead letters.

use super::{Page, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    ids::{DeadLetterId, OutboxId, Position, SourceName},
    message::Message,
};
use serde::{Deserialize, Serialize};

/// The outbox.
///
/// Rows are written by the transactions that they tell of. A relay first stamps rows with a position, which
/// makes them visible to live streams, then publishes them on the bus. It takes rows that have no position,
/// never "id greater than the last": the order of ids is not the order of commits.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Stamps up to `limit` rows that have none with the next positions, in the order of their ids. One caller
    /// at a time ([`super::Upkeep::try_lease`]). Returns how many.
    async fn stamp(&self, limit: u32) -> Result<u64>;

    /// Stamped rows that were not published on the bus, in the order of their positions.
    async fn unpublished(&self, limit: u32) -> Result<Vec<Message>>;

    /// Notes that these were published.
    async fn published(&self, ids: &[OutboxId]) -> Result<()>;

    /// Stamped rows after a position, in order: the live stream.
    async fn stream(&self, after: Position, limit: u32) -> Result<Vec<Message>>;

    /// The last position that was stamped (0 when none was), and the oldest that is still kept (the last one
    /// when none is).
    async fn positions(&self) -> Result<(Position, Position)>;
}

/// Something that could not be processed, with the bytes as they came.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDeadLetter {
    /// The source.
    pub source: SourceName,
    /// The topic, where it is known.
    pub topic: Option<String>,
    /// The id, where it is known.
    pub event_id: Option<String>,
    /// The headers as JSON text.
    pub headers: String,
    /// The bytes as they came.
    pub payload: Vec<u8>,
    /// Why it could not be processed.
    pub reason: String,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: DeadLetterId,
    /// The source.
    pub source: SourceName,
    /// The topic, where it is known.
    pub topic: Option<String>,
    /// The event's id, where it is known.
    pub event_id: Option<String>,
    /// The headers as JSON text.
    pub headers: String,
    /// The bytes as they came.
    #[serde(skip)]
    pub payload: Vec<u8>,
    /// Their number.
    pub size_bytes: u64,
    /// Why it could not be processed.
    pub reason: String,
    /// How often it was delivered.
    pub deliveries: u64,
    /// When it came.
    pub created_at: DateTime<Utc>,
}

/// The dead letters.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Keeps letters. The same source, id and bytes again is the same letter.
    async fn bury(&self, letters: &[NewDeadLetter]) -> Result<Vec<DeadLetterId>>;

    /// A letter, with its bytes.
    async fn dead_letter(&self, id: DeadLetterId) -> Result<DeadLetter>;

    /// A list, newest first, without their bytes. `before` is the `next` of a page.
    async fn dead_letters(&self, before: Option<DeadLetterId>, limit: u32) -> Result<Page<DeadLetter>>;

    /// Drops a letter for good.
    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<()>;
}
