//! RATS' interface: `/submit`, by which others ask for a test to be run once more.
//!
//! Arguments come as RATS takes them, by query or form, and as JSON. RATS answered nothing that could be followed;
//! here the answer has an id, a link, and says what runs.

use crate::{
    auth::Caller,
    problem::Problem,
    resultsdb::Base,
    routes::retests::{Asked, ask},
    state::ApiState,
};
use axum::{
    Extension, Json,
    body::{Bytes, to_bytes},
    extract::{FromRequest, Multipart, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Map, Value};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The largest body in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// The most arguments.
const ARGUMENTS_MAX: usize = 100;

/// The same place, for those who end it so.
const WITH_SLASH: &str = "/submit/";

/// How it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether GET asks, too: its own clients may; a link that somebody follows does.
    pub get: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { get: true }
    }
}

/// What asks for tests.
pub(crate) fn submitter(settings: &Settings) -> OpenApiRouter<ApiState> {
    let router = OpenApiRouter::new().routes(routes!(submit));
    if settings.get {
        router.routes(routes!(submit_by_get)).route(WITH_SLASH, post(submit).get(submit_by_get))
    } else {
        router.route(WITH_SLASH, post(submit))
    }
}

#[utoipa::path(get, path = "/submit", tag = "rats", params(("type" = Option<String>, Query, description = "The type of what is tested: koji_build, bodhi_update, pagure_pr …"), ("item" = Option<String>, Query, description = "What is tested"), ("test" = Option<String>, Query, description = "The test: a testcase or a task's name"), ("result_id" = Option<String>, Query, description = "A result, in place of item and test"), ("extras" = Option<String>, Query, description = "JSON that goes into the message"), ("force" = Option<bool>, Query, description = "Also when the same was asked a short time ago"), ("why" = Option<String>, Query, description = "Why")), responses((status = 200, description = "What came of it", body = Value), (status = 400, description = "What is wrong with which argument"), (status = 404, description = "No such result, or nobody runs the test")))]
/// RATS: asks for a test to be run once more.
pub(crate) async fn submit_by_get(
    state: State<ApiState>,
    caller: Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    submit(state, caller, request).await
}

#[utoipa::path(post, path = "/submit", tag = "rats", request_body = Value, responses((status = 200, description = "What came of it", body = Value), (status = 400, description = "What is wrong with which argument"), (status = 404, description = "No such result, or nobody runs the test")))]
/// RATS: asks for a test to be run once more; the arguments are a form or JSON.
pub(crate) async fn submit(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    if request.method() == Method::HEAD {
        let detail = "nothing is run again by HEAD; use GET or POST";
        let mut refused = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        return Ok(refused);
    }
    let base = Base::of(request.headers(), request.uri());
    let asked = asked(arguments(request).await?)?;
    Ok(Json(ask(&state, asked, &caller, &base).await?).into_response())
}

/// The arguments of a request: of its query, and of its body in whichever form; the body's count.
async fn arguments(request: Request) -> Result<Map<String, Value>, Problem> {
    let mut all = pairs(request.uri().query().unwrap_or_default().as_bytes())?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("multipart/form-data") {
        all.extend(parts(request).await?);
        return Ok(all);
    }
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
        let detail = format!("the body cannot be read; at most {BODY_BYTES_MAX} bytes are taken");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    })?;
    all.extend(body_of(&kind, &body)?);
    Ok(all)
}

fn body_of(kind: &str, body: &Bytes) -> Result<Map<String, Value>, Problem> {
    // Some name the form of a body that they do not send.
    if body.is_empty() || !kind.contains("json") {
        return pairs(body);
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::bad("the body must be a JSON object")),
        Err(error) => Err(Problem::bad(format!("the body is no JSON: {error}"))),
    }
}

/// A query or form; of an argument that stands twice the last counts.
fn pairs(text: &[u8]) -> Result<Map<String, Value>, Problem> {
    let pairs: Map<_, _> =
        form_urlencoded::parse(text).map(|(key, value)| (key.into_owned(), value.into())).collect();
    if pairs.len() > ARGUMENTS_MAX {
        return Err(Problem::bad(format!("at most {ARGUMENTS_MAX} arguments are taken")));
    }
    Ok(pairs)
}

async fn parts(request: Request) -> Result<Map<String, Value>, Problem> {
    let wrong = |error: axum::extract::multipart::MultipartError| {
        Problem::new(error.status(), format!("the form cannot be read: {}", error.body_text()))
    };
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let mut all = Map::new();
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        if all.len() == ARGUMENTS_MAX {
            return Err(Problem::bad(format!("at most {ARGUMENTS_MAX} arguments are taken")));
        }
        let name = field.name().unwrap_or_default().to_owned();
        all.insert(name, field.text().await.map_err(wrong)?.into());
    }
    Ok(all)
}

/// What is asked for, from the arguments; those that RATS does not know are left alone.
fn asked(mut arguments: Map<String, Value>) -> Result<Asked, Problem> {
    let mut text = |name: &str| match arguments.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
        Some(_) => Err(Problem::bad(format!("`{name}` must be a text"))),
    };
    let (kind, item, test) = (text("type")?, text("item")?, text("test")?);
    let (result, why, force) = (text("result_id")?, text("why")?, text("force")?);
    let extras = match arguments.remove("extras") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|error| {
            Problem::bad(format!("`extras` must be JSON, such as {{\"key\": \"value\"}}: {error}"))
        })?,
        Some(value) => value,
    };
    let force = match force.as_deref() {
        None | Some("0" | "false" | "no" | "off") => false,
        Some("1" | "true" | "yes" | "on") => true,
        Some(other) => {
            return Err(Problem::bad(format!("`force` is `{other}`; expected true or false")));
        }
    };
    Ok(Asked { item_type: kind, item, test, result, extras, why, force })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_in_all_forms() {
        let check = |kind: &str, body: &str, expect: &str| {
            let got = body_of(kind, &Bytes::copy_from_slice(body.as_bytes())).and_then(asked);
            let got = match got {
                Ok(asked) => format!(
                    "{:?} {:?} {:?} {:?} {} {}",
                    asked.item_type, asked.item, asked.test, asked.result, asked.extras, asked.force
                ),
                Err(problem) => problem.detail,
            };
            assert!(got.contains(expect), "{kind} {body}: {got}");
        };
        let form = "application/x-www-form-urlencoded";
        check(
            form,
            "type=koji_build&item=a-1-1&test=t",
            r#"Some("koji_build") Some("a-1-1") Some("t") None {} false"#,
        );
        check("", "result_id=17&force=1", r#"None None None Some("17") {} true"#);
        check(form, "item=a&extras=%7B%22a%22%3A1%7D", r#"{"a":1}"#);
        check(form, "item=a&extras=%7B", "`extras` must be JSON");
        check(form, "force=maybe", "`force` is `maybe`");
        check(
            "application/json",
            r#"{"result_id": 17, "extras": {"b": []}}"#,
            r#"Some("17") {"b":[]} false"#,
        );
        check("application/json; charset=utf-8", "[]", "must be a JSON object");
        check("application/json", "{", "is no JSON");
        check("application/json", "", "None None None None {} false");
        check("application/json", r#"{"item": []}"#, "`item` must be a text");
    }
}
