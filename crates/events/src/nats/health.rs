//! Health that both a connection's callback and its user write.

use crate::{outlet::OutletHealth, source::SourceHealth};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::watch;

/// What the health of sources and outlets has in common.
pub(super) trait Connected: Send + Sync + 'static {
    fn set(&mut self, connected: bool, detail: Option<String>);
}

impl Connected for SourceHealth {
    fn set(&mut self, connected: bool, detail: Option<String>) {
        self.connected = connected;
        self.detail = detail;
    }
}

impl Connected for OutletHealth {
    fn set(&mut self, connected: bool, detail: Option<String>) {
        self.connected = connected;
        self.detail = detail;
    }
}

/// Health as the connection and its user see it together: connected means that the server is there (`link`)
/// and that what is needed in it was found to be right (`ready`).
pub(super) struct Monitor<H> {
    health: watch::Sender<H>,
    link: watch::Sender<bool>,
    /// How often the connection was lost.
    losses: watch::Sender<u64>,
    ready: AtomicBool,
    /// What the client or the server said last.
    said: Mutex<String>,
}

impl<H: Connected + Default> Monitor<H> {
    pub(super) fn new() -> Arc<Self> {
        let mut health = H::default();
        health.set(false, Some("not connected yet".to_owned()));
        Arc::new(Self {
            health: watch::Sender::new(health),
            link: watch::Sender::new(false),
            losses: watch::Sender::new(0),
            ready: AtomicBool::new(false),
            said: Mutex::default(),
        })
    }

    pub(super) fn watch(&self) -> watch::Receiver<H> {
        self.health.subscribe()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut H)) {
        self.health.send_modify(change);
    }

    pub(super) fn link_up(&self) {
        self.link.send_replace(true);
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if self.ready.load(Ordering::SeqCst) {
            self.update(|health| health.set(true, None));
        }
    }

    pub(super) fn link_down(&self, detail: &str) {
        self.link.send_replace(false);
        self.losses.send_modify(|losses| *losses += 1);
        self.update(|health| health.set(false, Some(detail.to_owned())));
    }

    /// Says something without a change of state, unless all is well. Gives whether it is news.
    pub(super) fn note(&self, detail: &str) -> bool {
        if !*self.link.borrow() {
            self.update(|health| health.set(false, Some(detail.to_owned())));
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *said != detail;
        detail.clone_into(&mut said);
        news
    }

    pub(super) fn ready(&self) {
        self.ready.store(true, Ordering::SeqCst);
        let link = *self.link.borrow();
        self.update(|health| health.set(link, None));
    }

    pub(super) fn not_ready(&self, detail: &str) {
        self.ready.store(false, Ordering::SeqCst);
        self.update(|health| health.set(false, Some(detail.to_owned())));
    }

    /// Waits until the server is there.
    pub(super) async fn linked(&self) {
        // The sender lives as long as `self`: waiting cannot fail.
        _ = self.link.subscribe().wait_for(|link| *link).await;
    }

    /// How often the connection was lost since the start.
    pub(super) fn losses(&self) -> u64 {
        *self.losses.borrow()
    }

    /// Waits until the connection was lost more often than that.
    pub(super) async fn lost_since(&self, known: u64) {
        _ = self.losses.subscribe().wait_for(|losses| *losses > known).await;
    }
}
