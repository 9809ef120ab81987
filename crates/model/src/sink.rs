//! Sinks: where results and messages also go, beside our own database and the bus.

use crate::message::{Message, NewMessage};
use async_trait::async_trait;
use std::{fmt, time::Duration};

/// The longest name of a sink in bytes.
pub const SINK_NAME_BYTES_MAX: usize = 64;

/// How long a delivery may take where a sink does not say.
pub const DELIVERY_MAX: Duration = Duration::from_secs(60);

/// A place that results and messages also go to. Each has its own place in what is told, its own retries and its own
/// dead letters, so that none holds up another.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// Its name in the configuration, which its place is kept under.
    fn name(&self) -> &str;

    /// Whether a message is for it: by its topic as a rule.
    fn wants(&self, message: &NewMessage) -> bool;

    /// How long one delivery may take.
    fn patience(&self) -> Duration {
        DELIVERY_MAX
    }

    /// Makes its place ready, before anything is taken there. It is asked again while it fails.
    ///
    /// # Errors
    /// Why the place is not there yet.
    async fn ready(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Takes a message there. It may come again after a crash, and whenever this did not return.
    ///
    /// # Errors
    /// It is not there. [`SinkError`] says whether trying again may help.
    async fn deliver(&self, message: &Message) -> Result<(), SinkError>;
}

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The place is away, or asks to wait: the same is tried again, and what comes after it waits.
    #[error("{0}")]
    Away(String),
    /// The place broke over it. It is tried some times more, then it lies with the dead letters.
    #[error("{0}")]
    Broken(String),
    /// The place does not want it: it lies with the dead letters at once.
    #[error("{0}")]
    Refused(String),
}

/// What an HTTP status of a place says, `None` when all is well: away (408, 429, 502, 503, 504), broken (other 5xx), or
/// refused.
#[must_use]
pub fn of_status(status: u16, text: &str) -> Option<SinkError> {
    let said = || format!("it answered {status}{}{text}", if text.is_empty() { "" } else { ": " });
    match status {
        200..=299 => None,
        408 | 429 | 502..=504 => Some(SinkError::Away(said())),
        500..=599 => Some(SinkError::Broken(said())),
        _ => Some(SinkError::Refused(said())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let kind = |status| match of_status(status, "so") {
            None => "well",
            Some(SinkError::Away(_)) => "away",
            Some(SinkError::Broken(_)) => "broken",
            Some(SinkError::Refused(_)) => "refused",
        };
        for (status, expect) in [
            (200, "well"),
            (201, "well"),
            (204, "well"),
            (302, "refused"),
            (400, "refused"),
            (401, "refused"),
            (408, "away"),
            (429, "away"),
            (500, "broken"),
            (502, "away"),
            (503, "away"),
            (507, "broken"),
        ] {
            assert_eq!(kind(status), expect, "{status}");
        }
        assert_eq!(of_status(404, "").map(|error| error.to_string()), Some("it answered 404".to_owned()));
    }
}
