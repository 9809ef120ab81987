//! The live stream: stamped messages after a position, then those that come.

use crate::Scheduler;
use model::{ids::Position, message::Message};
use std::collections::VecDeque;

/// The most messages that are read ahead for one stream.
const READ_AHEAD_MAX: u32 = 500;

/// A position in the live stream, and what was read ahead of it.
#[derive(Debug)]
pub struct Live {
    scheduler: Scheduler,
    after: Position,
    ahead: VecDeque<Message>,
}

impl Scheduler {
    /// Follows the live stream from after a position; from now on without one.
    ///
    /// # Errors
    /// The database is away.
    pub async fn follow(&self, after: Option<Position>) -> store::Result<Live> {
        let after = match after {
            Some(after) => after,
            None => self.store().positions().await?.0,
        };
        Ok(Live { scheduler: self.clone(), after, ahead: VecDeque::new() })
    }
}

impl Live {
    /// Whether messages after the position where the stream was to start are no longer kept.
    ///
    /// # Errors
    /// The database is away.
    pub async fn has_gap(&self) -> store::Result<bool> {
        let (_, oldest) = self.scheduler.store().positions().await?;
        Ok(oldest.0 > self.after.0 + 1)
    }

    /// The next message; waits for it. Safe to drop while waiting.
    ///
    /// # Errors
    /// The database is away: asking again goes on at the same place.
    pub async fn next(&mut self) -> store::Result<Message> {
        loop {
            if let Some(message) = self.ahead.pop_front() {
                if let Some(position) = message.position {
                    self.after = position;
                }
                return Ok(message);
            }
            self.ahead.extend(self.scheduler.store().stream(self.after, READ_AHEAD_MAX).await?);
            if self.ahead.is_empty() {
                let poll_every = self.scheduler.settings().poll_every;
                self.scheduler.wake().stream.wait(poll_every).await;
            }
        }
    }
}
