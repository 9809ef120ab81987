//! The words of taskbot: ids, events, tasks, attempts, outcomes, verdicts, results, and the messages
//! between server and workers, with their state machines.
//!
//! Everything here is data and pure functions. This crate must never do I/O, never start a thread, never
//! read a clock or make an id by itself (only [`SystemClock`] and [`SystemIds`] do, and they are passed in),
//! and never know of a database, a bus, an engine or HTTP.
//!
//! The modules stand in the order of the data: an event comes in, rules say verdicts and wish tasks, a task
//! file says how a task runs, an attempt runs it, an outcome and results come of it, and messages tell it.

pub mod clock;
pub mod diagnostic;
pub mod units;
pub mod yaml;

pub mod ids;

pub mod event;
pub mod topic;

pub mod verdict;

pub mod discover;
pub mod item;
pub mod limits;
pub mod requirements;
pub mod task;
pub mod task_file;
pub mod task_key;

pub mod attempt;
pub mod phase;
pub mod retest;
pub mod retry;

pub mod outcome;
pub mod result;

pub mod message;
pub mod paddles;
pub mod protocol;
pub mod sink;

pub use attempt::Attempt;
pub use clock::{Clock, Ids, SystemClock, SystemIds};
pub use event::Event;
pub use ids::*;
pub use item::Item;
pub use limits::{Limits, OnExcess};
pub use outcome::{ErrorReason, Outcome};
pub use phase::Phase;
pub use requirements::{Offer, Requirements};
pub use task::{Task, TaskState};
pub use task_key::TaskKey;
pub use topic::{Topic, TopicPattern};
