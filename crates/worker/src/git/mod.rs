//! Task repositories: found, mirrored, read and checked out by the git command line.
//!
//! git gets arguments only, never a shell; references and URLs are checked before it sees them; its
//! environment and configuration are ours alone. What it needs to read comes from a mirror of our own, and a
//! checked-out tree holds no `.git` and no link that leaves it.

mod cache;
mod command;
mod import;
mod names;
mod tree;
mod way;

pub use cache::{GitCache, GitConfig};
pub use names::{Protocol, check_reference, check_url, is_commit};
pub use tree::TreeLimits;

/// Why a repository could not be used. Every message says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The repository, the reference, the commit or the file is not there.
    #[error("{0}")]
    NotFound(String),
    /// The host refuses, or our configuration forbids it.
    #[error("{0}")]
    Denied(String),
    /// The reference or URL cannot be one.
    #[error("{0}")]
    BadName(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// It is larger than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// The network, the other host or this machine let us down.
    #[error("{0}")]
    Infra(String),
    /// The repository holds what only an attacker would put there.
    #[error("{0}")]
    Hostile(String),
}

impl GitError {
    /// Whether another try may go better: the network, a time limit, this machine.
    #[must_use]
    pub const fn is_infra(&self) -> bool {
        matches!(self, Self::Infra(_) | Self::Timeout(_))
    }
}
