//! The live stream: stamped messages after a position, then those that come.

use crate::{Scheduler, wake::Listener};
use model::{ids::Position, message::Message};
use std::collections::VecDeque;

/// The most messages that are read ahead for one stream.
const READ_AHEAD_MAX: u32 = 500;

/// A position in the live stream, and what was read ahead of it.
#[derive(Debug)]
pub struct Live {
    scheduler: Scheduler,
    bell: Listener,
    after: Position,
    gap: bool,
    ahead: VecDeque<Message>,
}

impl Scheduler {
    /// Follows the live stream from after a position; from now on without one.
    ///
    /// # Errors
    /// The database is away.
    pub async fn follow(&self, after: Option<Position>) -> store::Result<Live> {
        let bell = self.wake().stream.listen();
        let (last, oldest) = self.store().positions().await?;
        let (after, gap) = match after {
            None => (last, false),
            // Of another database, or of one that was put back: nothing can be said of what was between.
            Some(after) if after > last => (last, true),
            Some(after) => (after, oldest.0 > after.0.saturating_add(1)),
        };
        Ok(Live { scheduler: self.clone(), bell, after, gap, ahead: VecDeque::new() })
    }
}

impl Live {
    /// Whether messages after the position where the stream was to start are no longer kept.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.gap
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
                self.bell.heard(poll_every).await;
            }
        }
    }
}
