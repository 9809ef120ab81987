//! What a task leaves behind, read: TAP, JUnit XML, JSON, tmt, autopkgtest, SARIF, Firehose, ResultYAML and
//! exit codes become outcomes and results. And what was stored, taken to other places ([`sink`]).
//!
//! But for [`sink`], everything here is a pure function over text that strangers wrote. This crate must never do
//! other I/O than a sink's, never panic on any input, never follow a reference out of a document, and never turn a document that is
//! truncated, malformed or contradictory into a pass: it is an error with the file and line where it broke.
//!
//! The modules stand in the order of the data: a format is chosen, its parser reads a document into results
//! or a located error, and the exit code and the results together conclude how the attempt ended. What was stored
//! can be written again for others to read.

pub mod format;

mod duration;
pub mod parse_error;
pub mod parsed;

pub mod tap;
mod tap_level;
mod tap_line;

pub mod junit;
pub mod xml;

pub mod autopkgtest;
mod decode;
pub mod json;
pub mod result_yaml;
pub mod tmt;

mod finding;
pub mod firehose;
pub mod sarif;

pub mod conclude;
pub mod junit_writer;

pub mod elsewhere;
pub mod sink;

pub use conclude::{Conclusion, conclude, report};
pub use format::parse;
pub use parse_error::ParseError;
pub use parsed::{Parsed, ParsedResult, Stop};
