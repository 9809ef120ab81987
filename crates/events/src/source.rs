//! What a source delivers, and what may be said about a delivery.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use model::{Event, EventId, SourceName, Topic};
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::watch;

/// Where events come from.
#[async_trait]
pub trait Source: Send {
    /// The configured name.
    fn name(&self) -> &SourceName;

    /// Waits for at least one message and takes what else is there, up to `max`, without lingering.
    ///
    /// An outage is no error: the call waits until the source is back. It may be cancelled at any point
    /// without losing a message.
    ///
    /// # Errors
    /// Somebody has to mend the configuration, here or in the bus. The source is not ended by it: the next
    /// call tries again, after a pause.
    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError>;

    /// How it goes, also readable while the source is borrowed elsewhere.
    fn health(&self) -> watch::Receiver<SourceHealth>;

    /// Sends what has been said about deliveries, as far as the connection allows, and ends.
    async fn close(&mut self);
}

/// Why a source cannot deliver until somebody mends something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The configuration cannot work.
    #[error("source {source_name}: {reason}")]
    Config {
        /// Which source.
        source_name: SourceName,
        /// What is wrong with it.
        reason: String,
    },
    /// The bus is there, but is not what was asked for: too old, other settings, a missing stream.
    #[error("source {source_name}: {reason}")]
    Refused {
        /// Which source.
        source_name: SourceName,
        /// What differs and how to mend it.
        reason: String,
    },
}

/// How a source is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SourceHealth {
    /// Whether messages can come in now.
    pub connected: bool,
    /// When the last message came in. On a busy topic, an old one is the surest sign of trouble.
    pub last_message_at: Option<DateTime<Utc>>,
    /// How many messages wait in the bus, as of the last delivery.
    pub pending: u64,
    /// How many deliveries since the start were repetitions.
    pub redelivered: u64,
    /// What is wrong, in words.
    pub detail: Option<String>,
}

/// A message, and the means to say what became of it.
pub struct Delivery {
    /// The event, or why there is none.
    pub content: Result<Event, Malformed>,
    /// The event's parsed body, so that nobody parses it twice; null when malformed.
    pub body: Value,
    /// How often the message was delivered, this time included, as the bus counts: one that was killed may have
    /// forgotten deliveries, and acknowledgements too.
    pub deliveries: u64,
    /// Its place in the source, if that counts.
    pub position: Option<u64>,
    /// Whether it is a message of this installation that came back. It is acknowledged and dropped.
    pub own: bool,
    /// To be told after the commit.
    pub handle: Box<dyn Acknowledge>,
}

impl Delivery {
    /// It was taken in: never deliver it again. Only after the commit.
    ///
    /// # Errors
    /// See [`AckError`]; the message may then come again.
    pub async fn ack(&self) -> Result<(), AckError> {
        self.handle.ack().await
    }

    /// It could not be taken in now: deliver it again after the delay.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn retry(&self, delay: Duration) -> Result<(), AckError> {
        self.handle.retry(delay).await
    }

    /// It is still being worked on: the wait for an acknowledgement begins anew.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn progress(&self) -> Result<(), AckError> {
        self.handle.progress().await
    }

    /// It will never be taken in: never deliver it again. Only after it was stored as a dead letter.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn discard(&self) -> Result<(), AckError> {
        self.handle.discard().await
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("content", &self.content)
            .field("deliveries", &self.deliveries)
            .field("position", &self.position)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// Bytes that cannot become an event, with all that is known of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Malformed {
    /// Why.
    pub reason: String,
    /// The topic that it came under, as received; it may be the topic that is wrong.
    pub topic: Topic,
    /// Its id, or the hash of topic and payload when it has none that can be kept.
    pub id: EventId,
    /// Its headers.
    pub headers: Map<String, Value>,
    /// What was received.
    pub payload: Bytes,
}

/// What may be said about a delivery.
#[async_trait]
pub trait Acknowledge: Send + Sync {
    /// See [`Delivery::ack`].
    ///
    /// # Errors
    /// See [`AckError`].
    async fn ack(&self) -> Result<(), AckError>;
    /// See [`Delivery::retry`].
    ///
    /// # Errors
    /// See [`AckError`].
    async fn retry(&self, delay: Duration) -> Result<(), AckError>;
    /// See [`Delivery::progress`].
    ///
    /// # Errors
    /// See [`AckError`].
    async fn progress(&self) -> Result<(), AckError>;
    /// See [`Delivery::discard`].
    ///
    /// # Errors
    /// See [`AckError`].
    async fn discard(&self) -> Result<(), AckError>;
}

/// The bus could not be told. The message comes again, and is recognised by its id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bus could not be told: {0}")]
pub struct AckError(pub String);
