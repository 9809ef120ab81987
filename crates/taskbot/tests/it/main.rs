//! The binary as people use it: started, asked, and judged by what it prints and by its exit code. Everything is
//! embedded; tasks run in the sandbox where it works, else without isolation.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails has to say where")]

mod commands;
mod demo;
mod interfaces;
mod lifecycle;
mod restart;
mod services;
mod support;
mod walk;
mod workshop;
