//! One request to another system.

use model::{
    diagnostic::with_causes,
    sink::{SinkError, of_status},
};
use reqwest::{Client, RequestBuilder, redirect::Policy};
use std::time::Duration;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer that says no is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 2_000;

/// A client that follows no redirects: what a POST is redirected to is another request.
pub(crate) fn client() -> Result<Client, String> {
    Client::builder()
        .user_agent(concat!("taskbot/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .redirect(Policy::none())
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))
}

/// Sends it, and reads the beginning of an answer that says no.
pub(super) async fn send(request: RequestBuilder) -> Result<(), SinkError> {
    let mut response = request.send().await.map_err(|error| SinkError::Away(with_causes(&error)))?;
    let status = response.status().as_u16();
    let mut text = Vec::new();
    if of_status(status, "").is_some() {
        while let Ok(Some(piece)) = response.chunk().await {
            text.extend_from_slice(&piece);
            if text.len() >= ANSWER_BYTES_MAX {
                text.truncate(ANSWER_BYTES_MAX);
                break;
            }
        }
    }
    of_status(status, String::from_utf8_lossy(&text).trim()).map_or(Ok(()), Err)
}
