//! Answers and refusals in Testflinger's shapes: plain text, `{"message", "detail"}`, and validation errors.

use crate::{problem::Problem, python_json};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use scheduler::{files::FileError, service::ServiceError};
use serde_json::{Map, Value, json};
use store::StoreError;
use uuid::Uuid;

/// The content type of its plain texts.
const TEXT: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A status with a message.
    Abort(StatusCode, String),
    /// A status with a plain text.
    Text(StatusCode, String),
    /// Fields that are wrong: of the `json` body or the `query`, each with what is wrong.
    Invalid(&'static str, Map<String, Value>),
    /// A document.
    Document(StatusCode, Value),
    /// The store's, or anybody else's.
    Problem(Problem),
}

pub(crate) type Answer = Result<Response, Refusal>;

impl Refusal {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::Abort(StatusCode::BAD_REQUEST, message.into())
    }

    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::Abort(StatusCode::UNPROCESSABLE_ENTITY, message.into())
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::Abort(StatusCode::FORBIDDEN, message.into())
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::Abort(StatusCode::NOT_FOUND, message.into())
    }

    /// One wrong field of the body.
    pub(crate) fn field(field: &str, message: &str) -> Self {
        Self::Invalid("json", Map::from_iter([(field.to_owned(), json!([message]))]))
    }
}

macro_rules! by_problem {
    ($($error:ty),*) => { $(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self::Problem(error.into())
            }
        }
    )* };
}
by_problem![StoreError, FileError, ServiceError, Problem];

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Abort(status, message) => abort(status, &message),
            Self::Text(status, message) => text(status, message),
            Self::Invalid(place, fields) => {
                let body = json!({"message": "Validation error", "detail": {place: fields}});
                (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
            }
            Self::Document(status, document) => (status, Json(document)).into_response(),
            Self::Problem(problem) => {
                let status =
                    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                if status.is_server_error() {
                    tracing::warn!(problem.detail, "a request of Testflinger's interface failed");
                }
                abort(status, &problem.detail)
            }
        }
    }
}

fn abort(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message, "detail": {}}))).into_response()
}

/// A plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], text.into()).into_response()
}

/// `OK`
pub(crate) fn ok() -> Response {
    text(StatusCode::OK, "OK")
}

/// A document.
pub(crate) fn document(document: impl serde::Serialize) -> Response {
    Json(document).into_response()
}

/// Nothing there.
pub(crate) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// A problem that others found (a method that is not taken, a body that is too large) in this interface's form; one
/// of whom nobody said anything has the words of its status.
pub(crate) fn in_this_form(status: StatusCode, detail: &str) -> Response {
    if status == StatusCode::NOT_FOUND {
        text(status, format!("Not found: {detail}"))
    } else if detail.is_empty() {
        abort(status, status.canonical_reason().unwrap_or("Error"))
    } else {
        abort(status, detail)
    }
}

/// A job's id in a path.
pub(crate) fn job_id(text: &str) -> Result<Uuid, Refusal> {
    Uuid::try_parse(text).map_err(|_| Refusal::bad("Invalid job_id specified"))
}

/// The body as a JSON object, whatever its content type says.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match python_json::read(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refusal::field("_schema", "Invalid input type.")),
        Err(_) => Err(Refusal::bad("Invalid JSON body.")),
    }
}

/// A time as its clients read it.
pub(crate) fn time(at: chrono::DateTime<chrono::Utc>) -> String {
    // Microseconds, as they all write; with none, whole seconds.
    let form = match at.timestamp_subsec_micros() {
        0 => chrono::SecondsFormat::Secs,
        _ => chrono::SecondsFormat::Micros,
    };
    at.to_rfc3339_opts(form, true)
}
