//! The conformance suite: every case runs on SQLite and on PostgreSQL, as a test of its own.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

extern crate taskbot_store as store;

mod access;
mod callbacks;
mod claims;
mod collecting;
mod counters;
mod crowds;
mod endings;
mod fairness;
mod foreign;
mod groups;
mod harness;
mod holds;
mod inbox;
mod lanes;
mod limits;
mod machine;
mod opening;
mod outbox;
mod paddles;
mod pins;
mod results;
mod resultsdb;
mod retests;
mod schedules;
mod sinks;
mod tasks;
mod upkeep;
