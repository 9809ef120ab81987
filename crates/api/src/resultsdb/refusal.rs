//! What goes wrong, in ResultsDB's shapes: `{"message": …}`, and `{"validation_error": […]}` with an entry a field.

use crate::problem::Problem;
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use store::StoreError;

/// Where the kinds of validation errors are described; ResultsDB's answers name this address.
const DESCRIBED_AT: &str = "https://errors.pydantic.dev/2.11/v";

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A status and a message.
    Message(StatusCode, String),
    /// Fields that are wrong.
    Invalid(Vec<Value>),
    /// The store's, or anybody else's.
    Problem(Problem),
}

impl Refusal {
    pub(crate) fn not_found(what: &str) -> Self {
        Self::Message(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::Message(StatusCode::BAD_REQUEST, message.into())
    }

    /// One wrong field. `kind` is the validator's name of what is wrong with it.
    pub(crate) fn field(kind: &str, field: &str, message: &str, input: &Value) -> Self {
        Self::Invalid(vec![entry(kind, &[field], message, input)])
    }
}

/// An entry of `validation_error`.
pub(crate) fn entry(kind: &str, place: &[&str], message: &str, input: &Value) -> Value {
    json!({"type": kind, "loc": place, "msg": message, "input": input, "url": format!("{DESCRIBED_AT}/{kind}")})
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { what: "result", .. } => Self::not_found("Result"),
            StoreError::NotFound { what: "testcase", .. } => Self::not_found("Testcase"),
            StoreError::NotFound { what: "group", .. } => Self::not_found("Group"),
            error => Self::Problem(error.into()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Message(status, message) => (status, Json(json!({"message": message}))).into_response(),
            Self::Invalid(entries) => {
                (StatusCode::BAD_REQUEST, Json(json!({"validation_error": entries}))).into_response()
            }
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

/// A problem that others found (no token, no such path, a method that is not taken) in this interface's form.
pub(crate) fn in_this_form(status: StatusCode, detail: &str) -> Response {
    let message = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::METHOD_NOT_ALLOWED if detail.is_empty() => {
            "The method is not allowed for the requested URL."
        }
        _ => detail,
    };
    (status, Json(json!({"message": message}))).into_response()
}
