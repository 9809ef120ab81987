//! Wake-ups within a server. They are hints that may be lost: every waiter also looks by itself after a while.

use std::time::Duration;
use tokio::sync::Notify;

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
    /// Another rule set may be active.
    pub rules: Bell,
}

/// A bell that wakes everyone who waits for it.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// Wakes all who wait, and the next one who comes if nobody does.
    pub fn ring(&self) {
        self.0.notify_waiters();
        self.0.notify_one();
    }

    /// Waits for the bell, but not longer than this.
    pub async fn wait(&self, at_most: Duration) {
        // Running into the limit is as good as the bell: the waiter looks for itself.
        let _ = tokio::time::timeout(at_most, self.0.notified()).await;
    }
}

impl Wake {
    /// A transaction was committed that may have made anything.
    pub fn committed(&self) {
        self.outbox.ring();
        self.unresolved.ring();
        self.unjudged.ring();
        self.queued.ring();
    }
}
