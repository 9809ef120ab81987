//! The interface of ALTS, AlmaLinux' test system: a build system asks for a package to be tested, and is told what
//! came of it.
//!
//! A request becomes a task of the repository `package-install`; its document is what the task leaves. Requests,
//! answers and mistakes look as ALTS' do. Different on purpose: what cannot be tested on is said at once, with what
//! can.

mod body;
mod callback;
mod logs;
mod platforms;
mod result;

pub use callback::{BuildSystem, TRIES_MAX, run as run_callbacks};
pub use platforms::{PLATFORMS_MAX, Platform, known_platforms};

use crate::{
    auth::Caller,
    jwt::{Algorithm, Issuer, Keys, Mapping, Verifier},
    problem::Problem,
    resultsdb::Base,
    state::ApiState,
};
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
    routing::any,
};
use body::{Mistakes, Payload, Repository, ThirdParty, object, task_numbers};
use model::{
    Item, Requirements, Task, TaskId,
    ids::{GroupName, QueueName, Submitter, TaskName},
    requirements::ExecutorKind,
    task::{Group, OnNew},
};
use platforms::{Place, Runner, places};
use scheduler::service::{ServiceError, Submission};
use serde_json::{Map, Value, json};
use std::{fmt, sync::Arc, time::Duration};
use store::{Bounds, Role, TaskQuery};
use utoipa_axum::{router::OpenApiRouter, routes};

/// What the names of its callers begin with.
const ISSUER: &str = "alts";
/// What a caller is called whose token has no `email`: whoever knows the secret is believed.
const NAMELESS: &str = "unnamed";
/// What an item that is a package is called.
const ITEM_TYPE: &str = "package";
/// Why the build system's own number cancels a task.
const CANCELLED: &str = "cancel_tasks";

/// A secret that tokens are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What its clients' tokens are signed with; without one only tokens that hold everywhere do here.
    pub secret: Option<Secret>,
    /// The algorithm that signs them.
    pub algorithm: Algorithm,
    /// The registered task that tests a package in a container. What tests it in a machine has `-vm` after it, what
    /// tests it where a program provides the environment `-external`.
    pub task: TaskName,
    /// The queue of its tasks; that of the registered task when missing.
    pub queue: Option<QueueName>,
    /// What can be tested on.
    pub platforms: Vec<Platform>,
    /// Who is told what came of a task.
    pub build_system: Option<BuildSystem>,
    /// How often ended tasks are looked for.
    pub look_every: Duration,
    /// How long to wait before a callback is tried again; twice as long each time.
    pub retry_first: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            secret: None,
            algorithm: Algorithm::HS256,
            task: TaskName::new("package-install"),
            queue: None,
            platforms: known_platforms(),
            build_system: None,
            look_every: callback::look_every(),
            retry_first: callback::retry_first(),
        }
    }
}

impl Settings {
    /// Whose tokens are believed here, and nowhere else: they need not expire, and say nothing but an address.
    pub(crate) fn verifier(&self) -> Verifier {
        let Some(Secret(secret)) = &self.secret else { return Verifier::default() };
        let everybody =
            Mapping { claim: None, has: String::new(), role: Role::Submitter, bounds: Bounds::default() };
        Verifier::new(vec![Issuer {
            name: ISSUER.to_owned(),
            keys: Keys::Secret(Arc::clone(secret)),
            algorithms: vec![self.algorithm],
            issuer: None,
            audience: Vec::new(),
            must_expire: false,
            name_claim: "email".to_owned(),
            nameless: Some(NAMELESS.to_owned()),
            mappings: vec![everybody],
        }])
    }
}

/// Whether a path is one of this interface.
pub(crate) fn is_here(path: &str) -> bool {
    path == "/tasks" || path.starts_with("/tasks/") || path.trim_end_matches('/') == "/cancel_tasks"
}

/// Gives an error the form that its clients read.
pub(crate) fn in_this_form(status: StatusCode, detail: &str) -> Response {
    let detail = match status {
        StatusCode::METHOD_NOT_ALLOWED => "Method Not Allowed",
        StatusCode::NOT_FOUND if detail.starts_with("there is nothing at") => "Not Found",
        _ => detail,
    };
    (status, Json(json!({"detail": detail}))).into_response()
}

/// Who makes a request, by the token in its header; nobody when there is none. Some clients say `Bearer` twice.
pub(crate) fn token_of(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::new(StatusCode::FORBIDDEN, "Invalid authentication credentials"));
    }
    rest.split_whitespace()
        .next_back()
        .map(Some)
        .ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, "Not authenticated"))
}

/// What is answered without a token where one is needed.
pub(crate) fn nobody() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "Not authenticated")
}

/// What is answered to a token that is not believed.
pub(crate) fn not_believed() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "Could not validate credentials")
}

/// What everybody may do who may read.
pub(crate) fn viewer() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(logs::log))
        .routes(routes!(logs::artifact))
        .route("/tasks/schedule/", any(without_slash))
        .route("/tasks/{task_id}/result/", any(without_slash))
        .route("/cancel_tasks/", any(without_slash))
}

/// Leads a path with a slash at its end to the one without, as its framework did.
async fn without_slash(headers: HeaderMap, uri: Uri) -> Redirect {
    let path = uri.path().trim_end_matches('/');
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Redirect::temporary(&Base::of(&headers, &uri).url(&format!("{path}{query}")))
}

/// What asks for tests.
pub(crate) fn submitter() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(schedule)).routes(routes!(cancel))
}

#[utoipa::path(post, path = "/tasks/schedule", tag = "alts", request_body(content = Value, description = "`runner_type` (any, docker, opennebula), `dist_name`, `dist_version`, `dist_arch`, `package_name`, `package_version`, `repositories` with `name` and `url` or `baseurl`, `module_name`, `module_stream`, `module_version`, `package_channel`, `test_configuration`, `callback_href`, `bs_task_id`"), responses((status = 201, description = "The task's id", body = Value), (status = 400, description = "It could not be scheduled", body = Value), (status = 401, description = "The token is not believed", body = Value), (status = 403, description = "There is no token", body = Value), (status = 422, description = "What is wrong with which field", body = Value)))]
/// ALTS: schedules a package to be installed and tested.
async fn schedule(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Mistakes> {
    let settings = state.interfaces().alts.clone().unwrap_or_default();
    let payload = Payload::read(&object(&body)?)?;
    let runner = Runner::of(&payload.runner_type).unwrap_or(Runner::Any);
    let (dist, version, arch) = (&payload.dist_name, &payload.dist_version, &payload.dist_arch);
    let found = places(&settings.platforms, runner, dist, version, arch).map_err(|unknown| {
        let said = match unknown.field {
            "dist_name" => dist,
            "dist_version" => version,
            "dist_arch" => arch,
            _ => &payload.runner_type,
        };
        let message = format!("Value error, {}", unknown.why);
        Mistakes::one("value_error", &[json!(unknown.field)], &message, &json!(said))
    })?;
    let href = callback_of(&settings, &payload)?;
    let place = choose(&state, found).await;
    Ok(match make(&state, &settings, &caller, payload, place, href).await {
        Ok(task) => (
            StatusCode::CREATED,
            Json(json!({"success": true, "task_id": task.id, "api_version": result::API_VERSION})),
        )
            .into_response(),
        Err(ServiceError::OutOfBounds(why)) => in_this_form(StatusCode::FORBIDDEN, &why),
        Err(error) => {
            tracing::warn!(%error, "a package cannot be scheduled");
            let said = json!({
                "success": false, "error_description": error.to_string(), "api_version": result::API_VERSION,
            });
            (StatusCode::BAD_REQUEST, Json(said)).into_response()
        }
    })
}

/// Where the result is to be told to.
fn callback_of(settings: &Settings, payload: &Payload) -> Result<Option<String>, Mistakes> {
    let Some(href) = &payload.callback_href else { return Ok(None) };
    let Some(build_system) = &settings.build_system else {
        tracing::warn!(href, "nobody is told: interfaces.alts.callback names no build system");
        return Ok(None);
    };
    match build_system.place(href) {
        Ok(_) => Ok(Some(href.clone())),
        Err(why) => {
            let message = format!("Value error, {why}");
            Err(Mistakes::one("value_error", &[json!("callback_href")], &message, &json!(href)))
        }
    }
}

/// The first environment that a worker which is there can provide; else the first.
async fn choose(state: &ApiState, mut places: Vec<Place>) -> Option<Place> {
    if places.len() > 1 {
        let alive = state.scheduler().settings().alive_ms();
        // Without an answer the first one is as good as any.
        let workers = state.scheduler().store().workers(alive).await.unwrap_or_default();
        let able = places.iter().position(|place| {
            workers.iter().map(|worker| &worker.offer).any(|offer| {
                offer.executors.contains(&place.kind)
                    && (offer.arches.contains(&place.arch) || offer.vm_arches.contains(&place.arch))
            })
        });
        places.swap(0, able.unwrap_or_default());
    }
    places.into_iter().next()
}

async fn make(
    state: &ApiState,
    settings: &Settings,
    caller: &Caller,
    payload: Payload,
    place: Option<Place>,
    href: Option<String>,
) -> Result<Task, ServiceError> {
    let Some(place) = place else { return Err(ServiceError::Bad("there is no environment".to_owned())) };
    let id = TaskId::new(state.scheduler().ids().next());
    if let Some(href) = &href {
        // Before the task: one that ends at once is told, too.
        state.scheduler().store().add_callback(id, href).await?;
    }
    let task = match place.kind {
        ExecutorKind::Container => settings.task.clone(),
        ExecutorKind::Vm => TaskName::new(format!("{}-vm", settings.task)),
        _ => TaskName::new(format!("{}-external", settings.task)),
    };
    let version = payload.package_version.as_ref();
    let item = version.map_or_else(
        || payload.package_name.clone(),
        |version| format!("{}-{version}", payload.package_name),
    );
    let group = payload.bs_task_id.map(group_of);
    let submission = Submission {
        task: Some(task),
        inputs: inputs(&payload, &place),
        item: Some(Item { kind: ITEM_TYPE.to_owned(), id: item }),
        queue: settings.queue.clone(),
        needs: Requirements { arch: Some(place.arch), ..Requirements::default() },
        group,
        id: Some(id),
        ..Submission::default()
    };
    state.scheduler().submit_within(submission, &caller.name, &caller.bounds).await
}

/// What tasks of a number of the build system's own have in common.
fn group_of(number: i64) -> Group {
    Group { name: GroupName::new(format!("{ISSUER}/{number}")), on_new: OnNew::Keep, max_running: None }
}

/// The request in the words of the task's repository: lists are lines, since a clean system reads no JSON.
fn inputs(payload: &Payload, place: &Place) -> Map<String, Value> {
    let lines = |lines: Vec<String>| lines.join("\n");
    let repository = |repository: &Repository| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = repository
            .name
            .iter()
            .flat_map(|name| name.chars())
            .map(|c| if fits(c) { c } else { '_' })
            .collect();
        if name.is_empty() { repository.url.clone() } else { format!("{name}={}", repository.url) }
    };
    let test =
        |test: &ThirdParty| [&*test.url, &*test.git_ref, &*test.folder, &*test.files.join(",")].join("\t");
    let text = |text: &Option<String>| json!(text.as_deref().unwrap_or_default());
    let all = [
        ("image", json!(place.image)),
        ("dist", json!(place.dist)),
        ("dist_version", json!(place.version)),
        ("arch", json!(payload.dist_arch)),
        ("package", json!(payload.package_name)),
        ("version", text(&payload.package_version)),
        ("epoch", json!(payload.package_epoch.map(|epoch| epoch.to_string()).unwrap_or_default())),
        ("channel", text(&payload.package_channel)),
        ("module", text(&payload.module_name)),
        ("module_stream", text(&payload.module_stream)),
        ("module_version", text(&payload.module_version)),
        ("repositories", json!(lines(payload.repositories.iter().map(repository).collect()))),
        ("tests", json!(lines(payload.tests.iter().map(test).collect()))),
        (
            "test_env",
            json!(lines(payload.test_env.iter().map(|(name, value)| format!("{name}={value}")).collect())),
        ),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[utoipa::path(get, path = "/tasks/{task_id}/result", tag = "alts", params(("task_id" = String, Path, description = "The task")), responses((status = 200, description = "The state, and the result once there is one; a task that is not known is PENDING", body = Value), (status = 401, description = "The token is not believed", body = Value), (status = 403, description = "There is no token", body = Value)))]
/// ALTS: what came of a task.
async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Problem> {
    let pending = json!({"state": "PENDING", "api_version": result::API_VERSION});
    let Ok(id) = id.parse::<TaskId>() else { return Ok(Json(pending)) };
    let task = match state.scheduler().store().task(id).await {
        Ok(task) => task,
        Err(store::StoreError::NotFound { .. }) => return Ok(Json(pending)),
        Err(error) => return Err(error.into()),
    };
    // What else runs here is nothing to this interface's tokens.
    let alts = state.interfaces().alts.as_ref();
    if !alts.is_some_and(|settings| logs::is_own(settings, task.name.as_str())) {
        return Ok(Json(pending));
    }
    let base = state.native(&Base::of(&headers, &uri)).url("");
    let mut answer = json!({"state": result::state_of(&task), "api_version": result::API_VERSION});
    if let Some((document, _)) = result::document_of(&state, &task, &base).await? {
        answer["result"] = document;
    }
    Ok(Json(answer))
}

#[utoipa::path(post, path = "/cancel_tasks", tag = "alts", request_body(content = Value, description = "`bs_task_ids`: the build system's own numbers"), responses((status = 200, description = "They are cancelled", body = Value), (status = 401, description = "The token is not believed", body = Value), (status = 403, description = "There is no token, or a task is somebody else's", body = Value), (status = 422, description = "What is wrong with which field", body = Value)))]
/// ALTS: cancels tasks by the build system's own numbers; what is not known or has ended is left alone.
async fn cancel(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Mistakes> {
    let numbers = task_numbers(&object(&body)?)?;
    let done = cancel_all(&state, &caller, &numbers).await;
    Ok(done.map_or_else(IntoResponse::into_response, |()| Json(json!({"success": true})).into_response()))
}

async fn cancel_all(state: &ApiState, caller: &Caller, numbers: &[i64]) -> Result<(), Problem> {
    let mut all = Vec::new();
    for number in numbers {
        let query = TaskQuery {
            group: Some(group_of(*number).name),
            states: ["waiting", "queued", "running"].map(str::to_owned).to_vec(),
            limit: store::PAGE_MAX,
            ..TaskQuery::default()
        };
        all.extend(state.scheduler().store().tasks(&query).await?.items);
    }
    let own = Submitter::user(&caller.name);
    if let Some(other) = all.iter().find(|task| task.submitter != own && !caller.may(Role::Manager)) {
        let detail =
            format!("task {} is {}'s; cancelling it needs the role manager", other.id, other.submitter);
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    for task in all {
        match state.scheduler().cancel(task.id, Some(CANCELLED.to_owned()), &caller.name).await {
            // It ended in the meantime.
            Ok(_) | Err(ServiceError::Store(store::StoreError::Conflict(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
