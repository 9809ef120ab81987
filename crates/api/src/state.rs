//! What all handlers share.

use crate::auth::Access;
use scheduler::Scheduler;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    scheduler: Scheduler,
    access: Access,
    stop: CancellationToken,
}

impl ApiState {
    /// `stop` ends long polls and streams when the server stops.
    #[must_use]
    pub fn new(scheduler: Scheduler, access: Access, stop: CancellationToken) -> Self {
        Self(Arc::new(Shared { scheduler, access, stop }))
    }

    /// The scheduler.
    #[must_use]
    pub fn scheduler(&self) -> &Scheduler {
        &self.0.scheduler
    }

    /// Who may do what.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// Ends long polls and streams.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }
}
