//! What can go wrong with a store.

use std::path::PathBuf;

/// What can go wrong with a store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database is away, overloaded or restarting: nothing was done, try again later.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The disk is full: nothing was done, try again when there is space.
    #[error("the database has no space left: {0}")]
    Full(String),
    /// The database refuses these bytes (a poisoned row): trying again will not help.
    #[error("the database refuses the data: {0}")]
    Poison(String),
    /// Another server has the SQLite file.
    #[error("{path} is in use by another server; SQLite takes one server per file, use PostgreSQL for more", path = .0.display())]
    Locked(PathBuf),
    /// There is no such thing.
    #[error("no {what} `{id}`")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// The state does not allow it, or somebody else was first.
    #[error("{0}")]
    Conflict(String),
    /// The database's schema is newer or older than this program's.
    #[error("the database's schema does not fit this program: {0}")]
    Schema(String),
    /// A row does not make sense.
    #[error("inconsistent row in `{table}`: {message}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// What does not make sense.
        message: String,
    },
    /// Anything else that the database said.
    #[error("the database said: {0}")]
    Database(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Full(_))
    }
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, StoreError>;
