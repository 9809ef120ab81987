//! The worker's parts against real ones: git, bubblewrap, a container engine.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod adapters;
mod agent;
mod attempt;
mod board;
mod common;
mod container;
mod engine;
mod engine_requests;
mod external;
mod fetch;
mod git;
mod hold;
mod host;
mod http;
mod secrets;
mod threats;
mod vm;
