//! Messages in and out: sources that deliver events, outlets that tell what happened, and recorded dumps.
//!
//! A delivery is acknowledged by whoever took it in, after its commit and never before; what cannot become an
//! event is delivered too, with its bytes and the reason. This crate must never decide what an event means,
//! never write to a database, and never acknowledge by itself.
//!
//! The modules stand in the order of the data: configuration, a source's deliveries, the mapping of messages
//! to events, dumps, the outlet, and NATS `JetStream` as both.

pub mod config;

pub mod source;

pub mod cloudevent;
pub mod mapping;
pub mod recorded;

pub mod outlet;

pub mod nats;

pub use outlet::{Outlet, OutletError, OutletHealth};
pub use source::{Acknowledge, Delivery, Malformed, Source, SourceError, SourceHealth};
