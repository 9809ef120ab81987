//! Where everything is kept: the traits of the store, and its two backends, SQLite (embedded, one server per
//! file) and PostgreSQL (to scale).
//!
//! SQL is the truth. One transaction writes what belongs together, and the messages that tell of a change are
//! written in the transaction that made it. Nothing here knows of a bus, of HTTP or of rules; nothing outside
//! knows of sqlx. The store never decides: state machines and retry policies are the model's, and the time is
//! the database's.
//!
//! The interface comes first, a trait for each room; then both backends, which share one way of doing each
//! call and differ in statements; `tests/it` is the conformance suite that both must pass.

pub mod interface;
mod sql;

pub use interface::*;
pub use sql::{Probe, SqlStore};

/// The embedded backend.
pub mod sqlite {
    pub use crate::sql::SqliteStore;
}

/// The backend to scale by.
pub mod postgres {
    pub use crate::sql::{PoolOptions, PostgresStore};
}
