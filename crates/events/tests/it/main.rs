//! The crate against real NATS servers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

mod history;
mod outage;
mod outlet;
mod source;
mod support;
