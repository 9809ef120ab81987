//! The crate against real NATS servers.

mod outage;
mod outlet;
mod source;
mod support;
