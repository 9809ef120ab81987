//! The scheduler over real databases: what goes in, what is made of it, what is told, and what faults do.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic, in its helpers too")]

mod at_work;
mod bed;
mod copies;
mod dispatch;
mod heard;
mod ingest;
mod resolve;
mod rulebook;
mod service;
mod sinks;
mod sweep;
mod told;
