//! The worker's parts against real ones: git, bubblewrap, a container engine.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod common;
mod fetch;
mod git;
mod host;
mod http;
