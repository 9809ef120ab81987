//! Wake-ups within a server. They are hints that may be lost: every waiter also looks by itself after a while.

use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// How long what rang gathers after a rest: a transaction for each ring would be most of what a busy server does.
const GATHER: Duration = Duration::from_millis(10);
/// How far two looks are from each other when it goes on ringing.
const GATHER_BUSY: Duration = Duration::from_millis(50);

/// One bell for each kind of work.
#[derive(Debug, Default)]
pub struct Wake {
    /// A task may be claimed.
    pub queued: Bell,
    /// A task waits to be resolved.
    pub unresolved: Bell,
    /// An event of our own waits to be judged.
    pub unjudged: Bell,
    /// The outbox has rows.
    pub outbox: Bell,
    /// The live stream has grown.
    pub stream: Bell,
    /// A log has grown, or an attempt ended.
    pub logs: Bell,
    /// Another rule set may be active.
    pub rules: Bell,
    /// A hold has ended.
    pub timers: Bell,
    /// The repository of the rules was pushed to.
    pub repository: Bell,
    /// An operator changed whether a worker takes tasks.
    pub modes: Bell,
}

/// A bell that wakes everyone who listens. Rings that nobody heard yet count as one, and cost no more than one
/// look: a waiter is never kept busy by rings alone.
#[derive(Debug, Default)]
pub struct Bell(watch::Sender<u64>);

/// Somebody who listens to a bell.
#[derive(Debug)]
pub struct Listener(watch::Receiver<u64>);

/// When to look after a ring: soon after a rest, and not too often when it goes on ringing.
#[derive(Debug, Default)]
pub(crate) struct Pace(Option<Instant>);

impl Pace {
    /// Waits until it is time to look. Safe to drop while waiting.
    pub(crate) async fn turn(&mut self) {
        let soon = Instant::now() + GATHER;
        let at = self.0.map_or(soon, |last| soon.max(last + GATHER_BUSY));
        tokio::time::sleep_until(at).await;
        self.0 = Some(at);
    }
}

impl Bell {
    /// Wakes all who listen, also those who are busy now: they hear it when they wait next.
    pub fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// Listens from now on. To be called before the first look, so that nothing falls in between.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Waits for a ring since the last time, but not longer than this. Safe to drop while waiting.
    pub async fn heard(&mut self, at_most: Duration) {
        // Running into the limit is as good as the bell: the waiter looks for itself.
        let _ = tokio::time::timeout(at_most, self.rung()).await;
    }

    /// Waits for a ring since the last time, however long. Safe to drop while waiting.
    pub async fn rung(&mut self) {
        if self.0.changed().await.is_err() {
            // There is no bell any more; waiting in vain is better than spinning.
            std::future::pending::<()>().await;
        }
    }
}

impl Wake {
    /// A transaction was committed that told something: there may be messages and own events.
    pub fn told(&self) {
        self.outbox.ring();
        self.unjudged.ring();
    }

    /// A transaction was committed that judged events: there may also be tasks to resolve.
    pub fn judged(&self) {
        self.told();
        self.unresolved.ring();
    }

    /// A transaction was committed that may have queued or ended tasks, and made none.
    pub fn moved(&self) {
        self.told();
        self.queued.ring();
    }

    /// A transaction was committed that may have made anything.
    pub fn committed(&self) {
        self.judged();
        self.queued.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_ring_is_heard_once_by_each_listener() {
        let bell = Bell::default();
        let (mut one, mut other) = (bell.listen(), bell.listen());
        bell.ring();
        bell.ring();
        let start = Instant::now();
        one.heard(LONG).await;
        other.heard(LONG).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "both hear what rang while they were busy");
        one.heard(LONG).await;
        assert_eq!(start.elapsed(), LONG, "two rings are one");
        bell.listen().heard(LONG).await;
        assert_eq!(start.elapsed(), 2 * LONG, "who comes later does not hear it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_without_a_bell_does_not_spin() {
        let mut listener = Bell::default().listen();
        let start = Instant::now();
        listener.heard(LONG).await;
        assert_eq!(start.elapsed(), LONG);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_are_soon_after_a_rest_and_never_many() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let mut check = async |after: Duration, expect: Duration| {
            tokio::time::sleep(after).await;
            pace.turn().await;
            assert_eq!(start.elapsed(), expect);
        };
        check(Duration::ZERO, GATHER).await;
        check(Duration::from_millis(1), GATHER + GATHER_BUSY).await;
        check(Duration::from_millis(30), GATHER + 2 * GATHER_BUSY).await;
        check(LONG, 2 * GATHER + 2 * GATHER_BUSY + LONG).await;
    }
}
