//! The server, as a worker sees it: `model::protocol` over HTTP.
//!
//! One call is one try. What may be tried again and what may not is said by [`ClientError`]; how often and how
//! long is the caller's choice, by [`Client::persist`] or a loop of its own.

use crate::backoff::Backoff;
use bytes::Bytes;
use model::{
    Clock, Ids, TaskId, WorkerName,
    attempt::AttemptRef,
    diagnostic::with_causes,
    protocol::{
        ArtifactQuery, Assignment, ClaimReply, ClaimRequest, FinishRequest, HeartbeatReply, HeartbeatRequest,
        Held, LeaveRequest, LogChunkQuery, PROTOCOL_VERSION, UploadedArtifact,
    },
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, on top of the time that a claim is held open.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a part of an artifact may take.
pub const ARTIFACT_PART_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest error text of the server that is shown, in characters.
pub const ERROR_TEXT_CHARS_MAX: usize = 500;

/// A bearer token, that does not show when printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Shows it to the server.
    pub(crate) fn on(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.0)
    }

    /// Takes the token's text, without white space around it (files end with a line feed).
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a request did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The attempt is another worker's now, or it is over.
    #[error("the server gave the attempt to somebody else: {0}")]
    Fenced(String),
    /// The token is missing, wrong, or may not do this.
    #[error(
        "the server refused the token ({status}): {message}; make one with `taskbot token` in the role agent, for these queues"
    )]
    NotAllowed {
        /// 401 or 403.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// The server does not speak this program's protocol.
    #[error(
        "the server does not speak worker protocol {PROTOCOL_VERSION}: {0}; use a worker and a server of the same or of neighbouring versions"
    )]
    Protocol(String),
    /// The request can never succeed.
    #[error("the server refused the request ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// The server cannot do it now: it answers so, or it does not answer.
    #[error("{message}")]
    Unavailable {
        /// What happened.
        message: String,
        /// What the server asked to wait.
        retry_after: Option<Duration>,
        /// Whether a server answered at all: one that says it cannot now has not lost this worker.
        answered: bool,
    },
    /// The caller stopped waiting.
    #[error("given up: {0}")]
    GivenUp(String),
}

impl ClientError {
    /// Whether the same request may succeed later by itself.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether this shows that a server is there.
    #[must_use]
    pub const fn is_contact(&self) -> bool {
        match self {
            Self::Unavailable { answered, .. } => *answered,
            Self::GivenUp(_) => false,
            _ => true,
        }
    }
}

/// Where the server is and how to reach it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Token>,
    ids: Arc<dyn Ids>,
    clock: Arc<dyn Clock>,
}

impl Client {
    /// A client for the server at `base` (`http://host:port/`, also below a path).
    ///
    /// # Errors
    /// The URL is not one of HTTP, or TLS cannot be set up.
    pub fn new(
        base: &Url,
        token: Option<Token>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, ClientError> {
        let wrong = |message: String| ClientError::Refused { status: 0, message };
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong(format!("`{base}` is no server; expected http://HOST:PORT or https://HOST")));
        }
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("taskbot-worker/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| wrong(format!("no HTTP client: {}", with_causes(&error))))?;
        Ok(Self { http, base, token, ids, clock })
    }

    /// Asks for tasks; the server holds the request open for `wait_seconds`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Claimed, ClientError> {
        let limit = REQUEST_TIMEOUT + Duration::from_secs(u64::from(request.wait_seconds));
        let builder = self.request(Method::POST, "claim")?.timeout(limit).json(request);
        let reply: Value = read(self.send(builder).await?).await?;
        Claimed::read(reply)
            .map_err(|error| ClientError::Protocol(format!("its answer cannot be read: {error}")))
    }

    /// Tells what this worker holds.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn heartbeat(
        &self,
        request: &HeartbeatRequest,
        limit: Duration,
    ) -> Result<HeartbeatReply, ClientError> {
        let builder = self.request(Method::POST, "heartbeat")?.timeout(limit).json(request);
        read(self.send(builder).await?).await
    }

    /// Says that this worker stops.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leave(&self, worker: &WorkerName) -> Result<(), ClientError> {
        let request = LeaveRequest { worker: worker.clone() };
        self.send(self.request(Method::POST, "leave")?.json(&request)).await.map(drop)
    }

    /// Sends a chunk of a log.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn log_chunk(
        &self,
        task: TaskId,
        query: &LogChunkQuery,
        chunk: Bytes,
    ) -> Result<(), ClientError> {
        let builder = self
            .request(Method::POST, &format!("tasks/{task}/log"))?
            .query(query)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .timeout(REQUEST_TIMEOUT)
            .body(chunk);
        self.send(builder).await.map(drop)
    }

    /// Sends a part of an artifact, from `query.offset` on. The answer says how many bytes the server has.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn artifact_part(
        &self,
        task: TaskId,
        query: &ArtifactQuery,
        part: Bytes,
    ) -> Result<UploadedArtifact, ClientError> {
        let builder = self
            .request(Method::PUT, &format!("tasks/{task}/artifacts"))?
            .query(query)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .timeout(ARTIFACT_PART_TIMEOUT)
            .body(part);
        read(self.send(builder).await?).await
    }

    /// Ends an attempt. The same again is answered as the first time.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn finish(&self, task: TaskId, request: &FinishRequest) -> Result<(), ClientError> {
        let builder = self
            .request(Method::POST, &format!("tasks/{task}/finish"))?
            .timeout(REQUEST_TIMEOUT)
            .json(request);
        self.send(builder).await.map(drop)
    }

    /// Repeats a call while its error [is passing](ClientError::is_passing), or the token is refused (an
    /// operator can mend that, and what was done must not be lost), with growing delays, until `limit` has
    /// passed or `stop` is cancelled.
    ///
    /// # Errors
    /// The first error that does not pass; [`ClientError::GivenUp`] with the last one otherwise.
    pub async fn persist<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        limit: Duration,
        stop: &CancellationToken,
        mut call: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        let until = Instant::now() + limit;
        let mut backoff = Backoff::default();
        loop {
            let error = match call().await {
                Err(error) if error.is_passing() || matches!(error, ClientError::NotAllowed { .. }) => error,
                done => return done,
            };
            let asked = match &error {
                ClientError::Unavailable { retry_after, .. } => *retry_after,
                _ => None,
            };
            let delay = backoff.next(self.ids.as_ref(), asked);
            if Instant::now() + delay > until {
                return Err(ClientError::GivenUp(error.to_string()));
            }
            tracing::debug!(%error, delay_ms = delay.as_millis(), "trying again later");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return Err(ClientError::GivenUp(error.to_string())),
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let url = self
            .base
            .join(&format!("api/v1/worker/{path}"))
            .map_err(|error| ClientError::Refused { status: 0, message: error.to_string() })?;
        let builder = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => token.on(builder),
            None => builder,
        })
    }

    async fn send(&self, builder: RequestBuilder) -> Result<Response, ClientError> {
        let response = builder.send().await.map_err(|error| unreachable_server(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| self.retry_after(value));
        let message = error_text(response).await;
        Err(match status {
            StatusCode::CONFLICT => ClientError::Fenced(message),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ClientError::NotAllowed { status: status.as_u16(), message }
            }
            StatusCode::UPGRADE_REQUIRED => ClientError::Protocol(message),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                ClientError::Unavailable { message: said(status, &message), retry_after, answered: true }
            }
            _ if status.is_server_error() => {
                ClientError::Unavailable { message: said(status, &message), retry_after, answered: true }
            }
            _ => ClientError::Refused { status: status.as_u16(), message },
        })
    }

    /// `Retry-After` in seconds or as a date.
    fn retry_after(&self, value: &header::HeaderValue) -> Option<Duration> {
        let text = value.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
        (date.to_utc() - self.clock.now()).to_std().ok()
    }
}

fn said(status: StatusCode, message: &str) -> String {
    format!("the server answers {status}: {message}")
}

fn unreachable_server(error: &reqwest::Error) -> ClientError {
    let message = format!("no answer from the server: {}", with_causes(error));
    ClientError::Unavailable { message, retry_after: None, answered: false }
}

/// The answer to a claim.
#[derive(Debug)]
pub struct Claimed {
    /// What could be read of it.
    pub reply: ClaimReply,
    /// The tasks that could not, and why: a newer server speaks of what this worker does not know.
    pub unread: Vec<(Held, String)>,
}

impl Claimed {
    fn read(mut reply: Value) -> Result<Self, serde_json::Error> {
        let assignments = reply.get_mut("assignments").and_then(Value::as_array_mut);
        let assignments = assignments.map(std::mem::take).unwrap_or_default();
        let mut reply: ClaimReply = serde_json::from_value(reply)?;
        let mut unread = Vec::new();
        for assignment in assignments {
            match Assignment::deserialize(&assignment) {
                Ok(assignment) => reply.assignments.push(assignment),
                Err(why) => {
                    let task = serde_json::from_value(assignment["task"]["id"].clone())?;
                    let attempt = AttemptRef::deserialize(&assignment)?;
                    unread.push((Held { task, attempt }, why.to_string()));
                }
            }
        }
        Ok(Self { reply, unread })
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let bytes = response.bytes().await.map_err(|error| unreachable_server(&error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ClientError::Protocol(format!("its answer cannot be read: {error}")))
}

/// The text of an error answer: the `detail`, `message`, `error` or `title` of a JSON body, else its start.
async fn error_text(response: Response) -> String {
    let Ok(body) = response.bytes().await else { return "(no text)".to_owned() };
    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let field = |name: &str| json.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let text = ["detail", "message", "error", "title"]
        .into_iter()
        .find_map(field)
        .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    let text: String = text.trim().chars().take(ERROR_TEXT_CHARS_MAX).collect();
    if text.is_empty() { "(no text)".to_owned() } else { text }
}
