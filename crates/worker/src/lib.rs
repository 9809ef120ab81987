//! The worker: takes task repositories from git, gives each task a place to run, and brings out what it leaves.
//!
//! It must never run a task's commands outside an executor, never let a task's words become options or shell
//! text of its own, never touch the database, and never leave anything behind that a sweep cannot find.
//!
//! The modules stand in the order of the data.

pub mod config;
pub mod identity;

pub mod backoff;
pub mod client;

pub mod files;

pub mod git;

pub mod fetch;

pub mod executor;

pub mod secrets;

pub mod logs;

pub mod artifacts;
pub mod delivery;

pub mod runner;

pub mod agent;
pub mod local_run;
