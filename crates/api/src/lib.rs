//! HTTP: the native API under `/api/v1`, the workers' protocol, the live stream, health and figures.
//!
//! Handlers translate and nothing more: what they ask for is the scheduler's or the store's to do. Every route
//! stands in the group of the role that it needs; there is no other way to add one (a test walks them all).
//! Nothing here knows of SQL, of a bus or of rules' insides.
//!
//! The modules: who may do what ([`auth`], [`jwt`]), what may be asked by (`parameters`), how bodies of programs in
//! Python are read (`python_json`), how others are asked (`outward`), how interfaces that are served by themselves
//! are described (`described`), how errors look ([`problem`]), what all handlers share ([`state`]), the routes by the
//! kind of thing that they are about, the interfaces of other systems ([`resultsdb`], [`rats`], [`testflinger`],
//! [`alts`], [`paddles`]), and the [`server`] that serves them all.

pub mod auth;
mod described;
pub mod jwt;
mod outward;
mod parameters;
pub mod problem;
mod python_json;
mod range;
mod routes;

pub mod alts;
pub mod paddles;
pub mod rats;
pub mod resultsdb;
pub mod testflinger;

pub mod server;
pub mod state;

pub use routes::{HOOK_SECRET_BYTES_MIN, HookSecret};
pub use server::{interface_router, openapi, router, serve};
pub use state::{ApiState, Interface, Interfaces};
