//! Bad input and broken surroundings: each gives a clear error, and nothing is half done.

mod disk_full;
mod engine_gone;
mod events;
mod flood;
mod rules;
mod tasks;
