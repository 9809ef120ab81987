//! The interface: a trait for each room of the store, in the order of the data.

mod access;
mod callbacks;
mod error;
mod foreign;
mod inbox;
mod outbox;
mod paddles;
mod queue;
mod results;
mod resultsdb;
mod retests;
mod rule_sets;
mod rules_at_work;
mod sinks;
mod tasks;
mod upkeep;

pub use access::*;
pub use callbacks::*;
pub use error::*;
pub use foreign::*;
pub use inbox::*;
pub use outbox::*;
pub use paddles::*;
pub use queue::*;
pub use results::*;
pub use resultsdb::*;
pub use retests::*;
pub use rule_sets::*;
pub use rules_at_work::*;
pub use sinks::*;
pub use tasks::*;
pub use upkeep::*;

/// The whole store. Both backends implement it, and pass the same conformance suite.
pub trait Store:
    RuleSets
    + Inbox
    + RulesAtWork
    + Tasks
    + Queue
    + Results
    + ResultsDb
    + Retests
    + ForeignJobs
    + Paddles
    + Outbox
    + Sinks
    + DeadLetters
    + Access
    + Callbacks
    + Upkeep
    + std::fmt::Debug
{
}

impl<T> Store for T where
    T: RuleSets
        + Inbox
        + RulesAtWork
        + Tasks
        + Queue
        + Results
        + ResultsDb
        + Retests
        + ForeignJobs
        + Paddles
        + Outbox
        + Sinks
        + DeadLetters
        + Access
        + Callbacks
        + Upkeep
        + std::fmt::Debug
{
}

/// A page of a list, newest first unless its query says otherwise.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page starts, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The most entries of a page.
pub const PAGE_MAX: u32 = 1000;
