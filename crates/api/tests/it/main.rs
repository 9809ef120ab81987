//! The interface over HTTP: a real server on a free port, a real database, real requests.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic, in its helpers too")]

mod alts;
mod audit;
mod bed;
mod clients;
mod events;
mod login;
mod paddles;
mod paddles_machines;
mod rats;
mod resubmitted;
mod resultsdb;
mod roles;
mod security;
mod signed;
mod streams;
mod testflinger;
mod testflinger_exact;
mod workers;
