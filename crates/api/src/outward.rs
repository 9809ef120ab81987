//! Requests to others: the build system's callback, a job's webhook, an issuer's keys.

use reqwest::{Client, Result, redirect::Policy};
use std::time::Duration;

/// A client whose requests take at most this long. It follows no redirects: led elsewhere, a token would be shown to
/// others, and keys would be theirs.
pub(crate) fn client(limit: Duration) -> Result<Client> {
    Client::builder().timeout(limit).redirect(Policy::none()).build()
}
