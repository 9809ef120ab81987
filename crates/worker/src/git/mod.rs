//! Task repositories.
