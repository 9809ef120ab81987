//! Errors as `application/problem+json` (RFC 9457).

use crate::{alts, paddles, resultsdb, server::Slow, testflinger};
use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use model::diagnostic::{Diagnostic, Report};
use scheduler::{
    dispatch::DispatchError, files::FileError, resolve::LookUpError, rulebook::RuleSetError,
    service::ServiceError,
};
use serde::{Deserialize, Serialize};
use store::StoreError;
use utoipa::ToSchema;

/// How long a client is asked to wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");
/// The content type of what handlers say.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The content type of problems.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The longest text of another layer's error that is shown, in bytes.
const FOREIGN_TEXT_BYTES_MAX: usize = 4096;

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The kind of problem, as a URI; the status says it all so far.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What went wrong, and how to mend it.
    pub detail: String,
    /// The places in files, for rule sets and task files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self {
            kind: "about:blank".to_owned(),
            status: status.as_u16(),
            title,
            detail: detail.into(),
            diagnostics: Vec::new(),
        }
    }

    /// The request is wrong.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The content is wrong, with its places.
    #[must_use]
    pub fn wrong(detail: impl Into<String>, report: Report) -> Self {
        Self { diagnostics: report.diagnostics, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }
}

/// Gives errors that other layers answered (a body that does not parse, an unknown method) the form of all
/// others.
pub(crate) async fn in_one_form(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let slow = request.extensions().get::<Slow>().cloned();
    let mut response = next.run(request).await;
    if response.status().is_client_error() && slow.is_some_and(|slow| slow.is()) {
        let detail = "the body came too slowly; send it faster, or in parts";
        response = Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response();
    }
    let status = response.status();
    let says_methods = resultsdb::is_here(&path) || testflinger::is_own_path(&path);
    if method == Method::OPTIONS && status == StatusCode::METHOD_NOT_ALLOWED && says_methods {
        // What is allowed stands in a header, which is added to every such answer.
        return StatusCode::OK.into_response();
    }
    let is_error = status.is_client_error() || status.is_server_error();
    // What handlers say in JSON (what became of an event, why a server is not ready) is a form of its own.
    let kind = response.headers().get(header::CONTENT_TYPE);
    if is_error && testflinger::is_own_path(&path) {
        let is_own = kind.is_some_and(|kind| kind == JSON || kind.as_bytes().starts_with(b"text/html"));
        return if is_own { response } else { in_anothers_form(response, testflinger::in_this_form).await };
    }
    if is_error && kind.is_none_or(|kind| kind != JSON) && path.starts_with(resultsdb::BASE) {
        return in_anothers_form(response, resultsdb::in_this_form).await;
    }
    if is_error && kind.is_none_or(|kind| kind != JSON) && alts::is_here(&path) {
        return in_anothers_form(response, alts::in_this_form).await;
    }
    if is_error && kind.is_none_or(|kind| kind != JSON) && paddles::is_own_path(&path) {
        return in_anothers_form(response, paddles::in_this_form).await;
    }
    if !is_error || kind.is_some_and(|kind| kind == PROBLEM_JSON || kind == JSON) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, FOREIGN_TEXT_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let detail = match (text.is_empty(), status) {
        (false, _) => text,
        (true, StatusCode::METHOD_NOT_ALLOWED) => format!("{path} does not take {method}; see /docs"),
        (true, _) => format!("{method} {path} failed; see /docs"),
    };
    let mut problem = Problem::new(status, detail).into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

/// How the clients of another system read an error.
pub(crate) type Form = fn(StatusCode, &str) -> Response;

/// Gives all errors of a listener the form that the clients of another system read.
pub(crate) async fn in_form_of(State(form): State<Form>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind == PROBLEM_JSON) {
        return in_anothers_form(response, form).await;
    }
    response
}

/// Gives an error the form that the clients of another system read.
async fn in_anothers_form(response: Response, form: Form) -> Response {
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, FOREIGN_TEXT_BYTES_MAX).await.unwrap_or_default();
    let problem = serde_json::from_slice::<Problem>(&text);
    let detail =
        problem.map_or_else(|_| String::from_utf8_lossy(&text).into_owned(), |problem| problem.detail);
    let mut response = form(parts.status, &detail);
    for name in [header::ALLOW, header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(%status, detail = self.detail, "request failed");
        }
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Unavailable(_) | StoreError::Locked(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Poison(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
            StoreError::Conflict(_) => StatusCode::CONFLICT,
            StoreError::Schema(_) | StoreError::Inconsistent { .. } | StoreError::Database(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::OutOfBounds(detail) => Self::new(StatusCode::FORBIDDEN, detail),
            ServiceError::Bad(detail) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            ServiceError::Unknown(detail) => Self::new(StatusCode::NOT_FOUND, detail),
            ServiceError::Ambiguous { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            ServiceError::Elsewhere(detail) => Self::new(StatusCode::BAD_GATEWAY, detail),
            ServiceError::Rules(error) => error.into(),
            ServiceError::Store(error) => error.into(),
        }
    }
}

impl From<RuleSetError> for Problem {
    fn from(error: RuleSetError) -> Self {
        let detail = error.details();
        match error {
            RuleSetError::Wrong(report) => Self::wrong(detail, report),
            RuleSetError::TestsFail(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
            RuleSetError::NoFolder => Self::new(StatusCode::CONFLICT, detail),
            RuleSetError::NothingBefore => Self::new(StatusCode::NOT_FOUND, detail),
            RuleSetError::Repository(LookUpError::Later(_)) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
            RuleSetError::Repository(LookUpError::Wrong(_)) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            RuleSetError::Store(error) => error.into(),
        }
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        match error {
            DispatchError::Protocol(_) => Self::new(StatusCode::UPGRADE_REQUIRED, error.to_string()),
            DispatchError::NameTaken(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            DispatchError::Store(error) => error.into(),
        }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let status = match &error {
            FileError::NotFound(_) => StatusCode::GONE,
            FileError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            FileError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}
