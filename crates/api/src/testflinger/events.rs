//! A job's events, which its agent tells and a webhook is told.

use super::{
    answer::{Answer, Refusal, job_id, object, text},
    view,
};
use crate::{outward, state::ApiState};
use axum::{
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use reqwest::Url;
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};

/// How long a webhook may take.
const WEBHOOK_MAX: Duration = Duration::from_secs(3);
/// How often it is asked.
const TRIES: u32 = 2;
/// The longest answer of it that is relayed, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where webhooks of jobs may be.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The host, with its port where it is not the usual one; jobs name addresses on it only.
    pub host: String,
    /// What it is shown as a bearer token.
    pub token: Option<Arc<str>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({})", self.host)
    }
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// `POST /v1/job/<id>/events`
pub(crate) async fn relay(State(state): State<ApiState>, Path(id): Path<String>, body: Bytes) -> Answer {
    let id = job_id(&id)?;
    let mut told = object(&body)?;
    let url = match told.remove("job_status_webhook") {
        Some(Value::String(url)) => {
            Url::parse(&url).map_err(|_| Refusal::field("job_status_webhook", "Not a valid URL."))?
        }
        Some(_) => return Err(Refusal::field("job_status_webhook", "Not a valid URL.")),
        None => return Err(Refusal::field("job_status_webhook", "Missing data for required field.")),
    };
    if told.get("events").is_some_and(|events| !events.is_array()) {
        return Err(Refusal::field("events", "Not a valid list."));
    }
    view::find(&state, id).await?.ok_or_else(|| Refusal::not_found("Job not found."))?;
    let webhook = state.testflinger().webhook.as_ref().ok_or_else(|| {
        Refusal::Abort(StatusCode::INTERNAL_SERVER_ERROR, "No webhook is configured.".to_owned())
    })?;
    if host_of(&url) != webhook.host || !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::forbidden("Webhooks go to the configured host only."));
    }
    let (status, answer) = tell(webhook, url, &Value::Object(told)).await?;
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let message = "The webhook refuses this server's token.".to_owned();
        return Err(Refusal::Abort(StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    Ok(text(status, answer))
}

async fn tell(webhook: &Webhook, url: Url, told: &Value) -> Result<(StatusCode, String), Refusal> {
    let bad = |error: reqwest::Error| {
        let status = if error.is_timeout() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
        Refusal::Abort(status, format!("The webhook cannot be told: {}", error.without_url()))
    };
    let http = outward::client(WEBHOOK_MAX).map_err(bad)?;
    let mut tries = 0;
    let mut response = loop {
        let mut request = http.put(url.clone()).json(told);
        if let Some(token) = &webhook.token {
            request = request.bearer_auth(token);
        }
        tries += 1;
        match request.send().await {
            Ok(response) => break response,
            Err(_) if tries < TRIES => {}
            Err(error) => return Err(bad(error)),
        }
    };
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(bad)? {
        answer.extend_from_slice(&bytes);
        if answer.len() >= ANSWER_BYTES_MAX {
            answer.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    Ok((status, String::from_utf8_lossy(&answer).into_owned()))
}
