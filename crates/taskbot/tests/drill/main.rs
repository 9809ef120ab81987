//! Drills: the whole program by real parts, as people and faults would treat it.
//!
//! Each drill starts the real program as servers and workers of their own process, on a database and streams of
//! its own, in front of a real NATS server, PostgreSQL and Docker engine, and compares what came of it with a
//! pure function that knows nothing of the rules engine. Run them by `cargo xtask test`, in full by
//! `cargo xtask test --full`; `TASKBOT_DRILL_SEED` repeats one.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a drill that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "drills print their seeds and figures")]

mod support;

mod load;
mod verify;

mod bad_input;
mod chain;
mod corpus;
mod kill;
mod mixed;
mod outage;
mod packages;
mod reload;
mod shipped;
mod shutdown;
mod storm;
mod vm;
