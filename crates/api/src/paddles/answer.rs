//! Answers and refusals: JSON, with the headers by which pages of other sites may read them.

use super::operation::Place;
use crate::problem::Problem;
use axum::{
    Json,
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use store::StoreError;

/// What each answer says to pages of other sites.
const FOR_OTHER_SITES: [(HeaderName, HeaderValue); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, OPTIONS")),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("origin, authorization, accept")),
];

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: String,
}

pub(crate) type Answer = Result<Response, Refusal>;

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        in_this_form(self.status, &self.message)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(%status, detail = problem.detail, "request failed");
        }
        Self::new(status, problem.detail)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Problem::from(error).into()
    }
}

/// An error in the form that its clients read.
pub(crate) fn in_this_form(status: StatusCode, message: &str) -> Response {
    let mut response = (status, Json(json!({"message": message}))).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    finished(response)
}

/// An answer with what each answer has.
pub(crate) fn finished(mut response: Response) -> Response {
    for (name, value) in FOR_OTHER_SITES {
        response.headers_mut().insert(name, value);
    }
    response
}

/// A document.
pub(crate) fn document<T: Serialize>(value: T) -> Response {
    Json(value).into_response()
}

/// The answer to what went well and says nothing.
pub(crate) fn done() -> Response {
    document(json!({}))
}

/// A text or stream that is JSON.
pub(crate) fn raw(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Leads to the same place with a slash at its end.
pub(crate) fn redirect(place: &Place, uri: &Uri) -> Response {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let to = format!("{}/{query}", place.path);
    match HeaderValue::from_str(&to) {
        Ok(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Err(_) => Refusal::not_found("there is nothing here").into_response(),
    }
}
