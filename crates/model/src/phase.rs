//! The phases of an attempt.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A phase of an attempt; each has its own times, limit, log section and error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The server finds the commit and reads the task file.
    Resolve,
    /// The environment is made: image pulled, container or machine started.
    Provision,
    /// The task repository is cloned at its commit.
    Checkout,
    /// External files are fetched.
    Fetch,
    /// `prepare` runs, with network.
    Prepare,
    /// `run` runs, without network.
    Run,
    /// Artifacts and result files are taken out.
    Collect,
    /// Results are read and reported.
    Report,
    /// The environment of an attempt that failed is kept for a person, where the task was submitted so.
    Hold,
    /// `cleanup` runs and the environment is destroyed, whatever happened.
    Cleanup,
}

/// All phases in their order.
pub const PHASES: [Phase; 10] = [
    Phase::Resolve,
    Phase::Provision,
    Phase::Checkout,
    Phase::Fetch,
    Phase::Prepare,
    Phase::Run,
    Phase::Collect,
    Phase::Report,
    Phase::Hold,
    Phase::Cleanup,
];

impl Phase {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Provision => "provision",
            Self::Checkout => "checkout",
            Self::Fetch => "fetch",
            Self::Prepare => "prepare",
            Self::Run => "run",
            Self::Collect => "collect",
            Self::Report => "report",
            Self::Hold => "hold",
            Self::Cleanup => "cleanup",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no phase; known are resolve, provision, checkout, fetch, prepare, run, collect, report, hold, cleanup"
)]
pub struct UnknownPhase(pub String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        PHASES.into_iter().find(|phase| phase.as_str() == text).ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}
