//! paddles' interface: runs and jobs of tests that run elsewhere, the machines that they run on, and their queues.
//!
//! Its clients are teuthology's reporter, scheduler and lock keeper, and pulpito. Requests and answers look as they
//! know them. A job is a task of the kind `reported`; a run is a batch. Different on purpose: errors are JSON, the
//! id of a job never changes, and a job is handed out once.

mod answer;
mod ask;
mod jobs;
mod nodes;
mod operation;
mod queues;
mod runs;
mod shape;

pub(crate) use answer::in_this_form;
pub use operation::OPERATIONS;

use crate::{auth::Caller, described, state::ApiState};
use answer::{Answer, Refusal, finished, redirect};
use ask::Ask;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::Method,
    response::{IntoResponse, Response},
    routing::any,
};
use operation::{Operation, Place};
use serde_json::Value;
use std::time::Duration;
use store::Role;

/// Where it is served beside everything else.
pub const BASE: &str = "/compat/paddles";
/// The largest body in bytes.
const BODY_BYTES_MAX: usize = store::PADDLES_JOB_BYTES_MAX;
/// How many runs a list has that does not say.
pub const RUNS_DEFAULT: u32 = 25;
/// How many of the latest runs the first shape shows.
const RUNS_OF_SEED: u32 = 100;
/// How long a job that was handed out waits to be reported of, by default.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(5 * 60);

/// How it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The shapes of its first description, where a request does not ask for another.
    pub seed_shape: bool,
    /// How long a job that was handed out waits to be reported of.
    pub lease: Duration,
    /// Where the log of a job is: `{run_name}` and `{job_id}` stand for what they say.
    pub log_href: Option<String>,
    /// How many runs a list has that does not say.
    pub runs: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed_shape: false, lease: LEASE_DEFAULT, log_href: None, runs: RUNS_DEFAULT }
    }
}

/// Whether a path is one of this interface.
pub(crate) fn is_own_path(path: &str) -> bool {
    path.strip_prefix(BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All its routes, below [`BASE`].
pub(crate) fn routes() -> Router<ApiState> {
    let serve = any(|State(state): State<ApiState>, request: Request| serve(state, BASE, request));
    let rest = format!("{BASE}/{{*path}}");
    let router = Router::new().route(BASE, serve.clone()).route(&format!("{BASE}/"), serve.clone());
    router.route(&rest, serve).layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// What is served, by an example of each.
pub(crate) fn described() -> Value {
    let all = OPERATIONS.iter().map(|(method, path, role)| {
        let path = path.split_once('?').map_or(*path, |(path, _)| path);
        (method.to_ascii_lowercase(), path.to_owned(), format!("needs the role {role}"))
    });
    described::of("paddles API", all)
}

/// All its routes, for a listener of its own.
pub(crate) fn own_routes() -> Router<ApiState> {
    let serve = any(|State(state): State<ApiState>, request: Request| serve(state, "", request));
    let router = Router::new().route("/", serve.clone()).route("/{*path}", serve);
    router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

async fn serve(state: ApiState, mount: &'static str, request: Request) -> Response {
    let answer = serve_one(state, mount, request).await;
    finished(answer.unwrap_or_else(IntoResponse::into_response))
}

async fn serve_one(state: ApiState, mount: &'static str, request: Request) -> Answer {
    let caller = request.extensions().get::<Caller>().cloned();
    let place = Place::of(mount, request.uri())?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let operation = Operation::of(request.method(), &place.parts);
    let needs = operation.as_ref().map_or(Role::Viewer, Operation::needs);
    let caller = admit(caller, needs)?;
    let Some(operation) = operation else { return Err(Refusal::not_found("there is nothing here")) };
    if reads && !place.slash && operation.ends_with_slash() {
        return Ok(redirect(&place, request.uri()));
    }
    let ask = Ask::read(state, caller, place, request).await?;
    operation.run(&ask).await
}

fn admit(caller: Option<Caller>, needs: Role) -> Result<Caller, Refusal> {
    match caller {
        Some(caller) if caller.may(needs) => Ok(caller),
        Some(caller) => Err(Refusal::forbidden(format!(
            "this needs the role {needs}; `{}` has the role {}",
            caller.name, caller.role
        ))),
        None => Err(Refusal::unauthorized(format!("this needs a token with the role {needs}"))),
    }
}
