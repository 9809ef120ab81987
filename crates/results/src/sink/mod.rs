//! Places that results and messages also go to: another ResultsDB, a webhook.
//!
//! Each is a [`model::sink::Sink`]; who drives it keeps its place, its retries and its dead letters. One that is new here
//! has to say in [`SinkError`](model::sink::SinkError) whether trying again may help, and must bear that a message
//! comes twice.

pub(crate) mod http;
pub mod resultsdb;
pub mod webhook;

pub use resultsdb::ResultsDbSink;
pub use webhook::WebhookSink;
