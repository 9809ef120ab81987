//! What drills are made of: services, repositories, the program's processes, and waiting.

pub(crate) mod bus;
pub(crate) mod config;
pub(crate) mod database;
pub(crate) mod embedded;
pub(crate) mod engine;
pub(crate) mod environment;
pub(crate) mod installation;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod repository;
pub(crate) mod wait;
