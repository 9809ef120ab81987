//! What all handlers share.

use crate::{auth::Access, resultsdb};
use scheduler::Scheduler;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How the interfaces of other systems are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surfaces {
    /// ResultsDB's.
    pub resultsdb: resultsdb::Settings,
}

/// What all handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    scheduler: Scheduler,
    access: Access,
    surfaces: Surfaces,
    stop: CancellationToken,
}

impl ApiState {
    /// `stop` ends long polls and streams when the server stops.
    #[must_use]
    pub fn new(scheduler: Scheduler, access: Access, stop: CancellationToken) -> Self {
        Self::with_surfaces(scheduler, access, Surfaces::default(), stop)
    }

    /// As [`ApiState::new`], with the interfaces of other systems served in another way.
    #[must_use]
    pub fn with_surfaces(
        scheduler: Scheduler,
        access: Access,
        surfaces: Surfaces,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared { scheduler, access, surfaces, stop }))
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

    /// How the interfaces of other systems are served.
    #[must_use]
    pub fn surfaces(&self) -> &Surfaces {
        &self.0.surfaces
    }

    /// Ends long polls and streams.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }
}
