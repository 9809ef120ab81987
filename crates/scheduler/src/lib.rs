//! The daemon's heart: takes events in, lets the rules judge them, makes their tasks, hands them out, accepts
//! what comes back, and tells of it.
//!
//! It holds no state that the store does not have: any number of servers may run it on one database. It never
//! speaks to a bus, a repository or an engine itself: sources, the outlet and the repository reader are passed
//! in. It never evaluates a clause: `rules` does.
//!
//! The modules stand in the order of the data: the rules that are in force; events in ([`ingest`], and our own,
//! [`chain`]); tasks made ready ([`resolve`]), handed out and taken back ([`dispatch`]); what is told
//! ([`relay`], [`live`]); what people ask for ([`service`], [`reruns`], [`retest`], [`heard`]); and the [`daemon`] that keeps it all going.

pub mod metrics;
pub mod settings;
pub mod wake;

pub mod rule_source;
pub mod rulebook;

mod watch;

pub mod chain;
mod counters;
mod door;
pub mod ingest;
mod timers;
mod wish;

pub mod files;
mod handover;
pub mod resolve;

pub mod dispatch;

pub mod copies;
pub mod live;
pub mod relay;
pub mod sinks;

pub mod apply;
mod gather;
pub mod holds;
mod reports;
pub mod reruns;
pub mod service;

pub mod heard;
pub mod retest;

pub mod sweep;
pub mod upkeep;

pub mod daemon;

pub use daemon::{Parts, Scheduler};
pub use rules;
pub use rules::filter::Filter;
pub use settings::Settings;
