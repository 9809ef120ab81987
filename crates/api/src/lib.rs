//! HTTP: the native API under `/api/v1`, the workers' protocol, the live stream, health and figures.
//!
//! Handlers translate and nothing more: what they ask for is the scheduler's or the store's to do. Every route
//! states the role that it needs; a route that states none does not exist (a test walks them all). Nothing here
//! knows of SQL, of a bus or of rules' insides.
//!
//! The modules: who may do what ([`auth`]), how errors look ([`problem`]), what all handlers share ([`state`]),
//! then a module for each kind of thing, in the order of the data.

pub mod auth;
pub mod problem;
pub mod state;
