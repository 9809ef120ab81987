//! The rule language: rule files are loaded, checked and compiled into a rule set, and a rule set says to an
//! event which tasks, cancellations and messages follow from it, and why.
//!
//! Everything here is pure, [`load`] apart, which reads a folder: no clock but the time that is given, no
//! network, no threads. The same [`RuleSet::evaluate`] serves the daemon, the rule tests and every
//! explanation; there is no second opinion. A rule's mistake costs that rule only, and never becomes a quiet
//! non-match.
//!
//! The modules stand in the order of the data: helpers for the field and scripts, what a rule file says, how
//! files become a rule set, and what a rule set says to an event.

pub mod version;

pub mod nvr;

pub mod facts;

mod backstop;
pub mod script;

pub mod template;

pub mod path;

pub mod predicate;

pub mod source;

pub mod schedule;

pub mod language;

pub mod load;

pub mod repo;

pub mod registry;

pub mod check;

mod index;

pub mod compile;

pub mod wish;

pub mod evaluate;

pub mod explain;

mod yaml_text;

pub mod lint;

pub mod rule_test;

pub mod rule_new;

pub mod filter;

pub mod schema;

pub use compile::{Compiled, RuleSet, compile};
pub use evaluate::Evaluation;
pub use filter::Filter;
pub use language::{Mode, Rule};
pub use load::{Options, RuleFiles, read_folder};
pub use schedule::Schedule;
pub use wish::{CancelWhat, CancelWish, CollectWish, Dedupe, EmitWish, TaskWish};
