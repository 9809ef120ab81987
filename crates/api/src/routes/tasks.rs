//! Tasks: submitting, listing, showing, cancelling, running again; their artifacts and batches.

use super::{Paging, filtered, to_json};
use crate::{auth::Caller, parameters, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use model::{
    Attempt, Task, TaskId, TaskName, TaskState,
    ids::{EventSeq, GroupName, QueueName, RuleName, Submitter},
    result::{Artifact, StoredResult},
    task::{OnNew, STATES},
};
use scheduler::service::{Rerun, Submission};
use serde::{Deserialize, Serialize};
use store::{Page, Paused, ResultQuery, Role, TaskQuery};
use utoipa::{IntoParams, ToSchema};

#[utoipa::path(post, path = "/api/v1/tasks", tag = "tasks", request_body = Object, responses((status = 201, description = "The task, or the one that the same key made before", body = Task)))]
/// Submits a task: a registered one (`task`), or any repository (`repo: {git, ref, path}`).
pub(crate) async fn submit(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(submission): Json<Submission>,
) -> Result<(StatusCode, Json<Task>), Problem> {
    refuse_superseding(&state, &caller, &submission).await?;
    let task = state.scheduler().submit_within(submission, &caller.name, &caller.bounds).await?;
    Ok((StatusCode::CREATED, Json(task)))
}

/// A group's newest task may end the older ones, which is cancelling them: that of others needs the role manager.
async fn refuse_superseding(
    state: &ApiState,
    caller: &Caller,
    submission: &Submission,
) -> Result<(), Problem> {
    let Some(group) = submission.group.as_ref().filter(|group| group.on_new != OnNew::Keep) else {
        return Ok(());
    };
    if caller.may(Role::Manager) {
        return Ok(());
    }
    let query = TaskQuery {
        group: Some(group.name.clone()),
        states: ["waiting", "queued", "running"].map(str::to_owned).to_vec(),
        limit: store::PAGE_MAX,
        ..TaskQuery::default()
    };
    let own = Submitter::user(&caller.name);
    let all = state.scheduler().store().tasks(&query).await?;
    match all.items.iter().find(|task| task.submitter != own) {
        None if all.next.is_none() => Ok(()),
        other => {
            let whose =
                other.map_or_else(String::new, |task| format!(" ({}, {}'s)", task.id, task.submitter));
            let detail = format!(
                "group {} has tasks of others{whose}; superseding them needs the role manager",
                group.name
            );
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only in these states, separated by commas: waiting, queued, running, finished, cancelled, superseded.
    pub(super) state: Option<String>,
    /// Only with these outcomes, separated by commas: passed, failed, error …
    pub(super) outcome: Option<String>,
    /// Only of this name.
    pub(super) name: Option<String>,
    /// Only in this queue.
    pub(super) queue: Option<String>,
    /// Only made by this rule.
    pub(super) rule: Option<String>,
    /// Only of this submitter (`rule:NAME`, `user:NAME`).
    pub(super) submitter: Option<String>,
    /// Only of items of this type.
    pub(super) item_type: Option<String>,
    /// Only of this item.
    pub(super) item: Option<String>,
    /// Only of this batch.
    pub(super) batch: Option<String>,
    /// Only of this group.
    pub(super) group: Option<String>,
    /// Only of this event, by its place.
    pub(super) event: Option<i64>,
    /// Only made at or after.
    pub(super) since: Option<DateTime<Utc>>,
    /// Only made before.
    pub(super) until: Option<DateTime<Utc>>,
}

#[utoipa::path(get, path = "/api/v1/tasks", tag = "tasks", params(ListQuery, Paging), responses((status = 200, description = "Tasks, newest first", body = Object)))]
/// Lists tasks, newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Task>>, Problem> {
    Ok(Json(page_of(&state, &query, &paging).await?))
}

/// A page of tasks, newest first.
pub(super) async fn page_of(
    state: &ApiState,
    query: &ListQuery,
    paging: &Paging,
) -> Result<Page<Task>, Problem> {
    paging.before::<TaskId>()?;
    let states = parameters::list_of_known("state", query.state.as_ref(), &STATES)?;
    let outcomes = parameters::outcomes(query.outcome.as_ref())?;
    let batch = match &query.batch {
        Some(batch) => Some(state.scheduler().store().batch(batch).await?.id),
        None => None,
    };
    filtered(
        state,
        paging,
        |task: &Task| to_json(task),
        |task| Some(task.id.to_string()),
        |before, limit| {
            let query = TaskQuery {
                states: states.clone(),
                outcomes: outcomes.clone(),
                name: query.name.clone().map(TaskName::new),
                queue: query.queue.clone().map(QueueName::new),
                rule: query.rule.clone().map(RuleName::new),
                submitter: query.submitter.clone().map(Submitter::new),
                item_type: query.item_type.clone(),
                item_id: query.item.clone(),
                batch,
                group: query.group.clone().map(GroupName::new),
                event: query.event.map(EventSeq),
                since: query.since,
                until: query.until,
                before: before.and_then(|text| text.parse().ok()),
                limit,
            };
            let state = state.clone();
            async move { Ok(state.scheduler().store().tasks(&query).await?) }
        },
    )
    .await
}

/// A task with all that belongs to it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Whole {
    task: Task,
    /// Its attempts, first to last.
    attempts: Vec<Attempt>,
    /// What its attempts left.
    artifacts: Vec<Artifact>,
    /// Its results, without their parts.
    results: Vec<StoredResult>,
    /// How many tasks are before it in its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Since when and why nothing is handed out of its queue, while it waits there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    queue_paused: Option<Paused>,
    /// Why it is still queued although workers could run it: what they are short of.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_up: Option<String>,
}

#[utoipa::path(get, path = "/api/v1/tasks/{id}", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it")), responses((status = 200, description = "The task with its attempts, artifacts and results", body = Whole)))]
/// Shows a task.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Whole>, Problem> {
    let task = state.scheduler().find_task(&id).await?;
    let store = state.scheduler().store();
    let query = ResultQuery {
        task: Some(task.id),
        top_level: true,
        limit: store::PAGE_MAX,
        ..ResultQuery::default()
    };
    let queue_paused = match &task.state {
        TaskState::Queued { .. } => store.paused(&task.queue).await?,
        _ => None,
    };
    Ok(Json(Whole {
        queue_paused,
        attempts: store.attempts(task.id).await?,
        artifacts: store.artifacts(task.id).await?,
        results: store.results(&query).await?.items,
        position: store.position(task.id).await?,
        held_up: store.held_up(task.id).await?,
        task,
    }))
}

/// Why something is done.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    /// For the record.
    pub(crate) why: Option<String>,
}

#[utoipa::path(post, path = "/api/v1/tasks/{id}/cancel", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it")), request_body = Option<Why>, responses((status = 200, description = "The task; a running one ends when its worker has stopped it", body = Task), (status = 409, description = "It is final")))]
/// Cancels a task. Submitters may cancel what they submitted, managers everything.
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Option<Json<Why>>,
) -> Result<Json<Task>, Problem> {
    let task = state.scheduler().find_task(&id).await?;
    if !caller.may(Role::Manager) && task.submitter != Submitter::user(&caller.name) {
        let detail =
            format!("task {} is {}'s; cancelling it needs the role manager", task.id, task.submitter);
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let why = body.and_then(|Json(why)| why.why);
    Ok(Json(state.scheduler().cancel(task.id, why, &caller.name).await?.task))
}

#[utoipa::path(post, path = "/api/v1/tasks/{id}/rerun", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it")), request_body = Object, responses((status = 201, description = "The new task", body = Task)))]
/// Runs a task again: a new task with the same inputs, at the same commit unless `newest` is set.
pub(crate) async fn rerun(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Option<Json<Rerun>>,
) -> Result<(StatusCode, Json<Task>), Problem> {
    let of = state.scheduler().find_task(&id).await?.id;
    let rerun = body.map(|Json(rerun)| rerun).unwrap_or_default();
    let task = state.scheduler().rerun(of, rerun, &caller.name, &caller.bounds).await?;
    Ok((StatusCode::CREATED, Json(task)))
}

#[utoipa::path(post, path = "/api/v1/tasks/{id}/release", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it")), responses((status = 200, description = "The task", body = Task)))]
/// Lets a parked task go on.
pub(crate) async fn release(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Task>, Problem> {
    let task = state.scheduler().find_task(&id).await?;
    Ok(Json(state.scheduler().release(task.id, &caller.name).await?))
}

#[utoipa::path(post, path = "/api/v1/tasks/{id}/unhold", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it")), responses((status = 200, description = "The task", body = Task), (status = 409, description = "Nothing is held of it")))]
/// Ends the hold of a task's environment before its time.
pub(crate) async fn unhold(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Task>, Problem> {
    let task = state.scheduler().find_task(&id).await?;
    Ok(Json(state.scheduler().unhold(task.id, &caller.name).await?))
}

/// Why a task may run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Approve {
    /// For the record.
    why: Option<String>,
}

#[utoipa::path(post, path = "/api/v1/tasks/{id}/approve", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it")), request_body = Approve, responses((status = 200, description = "The task", body = Task), (status = 409, description = "It waits for no approval")))]
/// Lets a task run that waits for a maintainer's word.
pub(crate) async fn approve(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Option<Json<Approve>>,
) -> Result<Json<Task>, Problem> {
    let why = body.and_then(|Json(approve)| approve.why);
    let task = state.scheduler().find_task(&id).await?;
    Ok(Json(state.scheduler().approve(task.id, why, &caller.name).await?))
}

#[utoipa::path(get, path = "/api/v1/tasks/{id}/artifacts", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it")), responses((status = 200, description = "By attempt and name", body = Vec<Artifact>)))]
/// Lists what a task's attempts left.
pub(crate) async fn artifacts(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Artifact>>, Problem> {
    let task = state.scheduler().find_task(&id).await?;
    Ok(Json(state.scheduler().store().artifacts(task.id).await?))
}

#[utoipa::path(get, path = "/api/v1/tasks/{id}/artifacts/{*name}", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it"), ("name" = String, Path, description = "The artifact's id, or its name (of the last attempt)")), responses((status = 200, description = "The bytes"), (status = 206, description = "A part of them"), (status = 410, description = "They have expired")))]
/// Downloads an artifact.
pub(crate) async fn artifact(
    State(state): State<ApiState>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = state.scheduler().find_task(&id).await?;
    left(&state, &task, &name, &headers).await
}

/// What a task left under this name or id.
pub(crate) async fn left(
    state: &ApiState,
    task: &Task,
    name: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let found = state.scheduler().store().artifacts(task.id).await?;
    let wanted = |artifact: &&Artifact| artifact.name == name || artifact.id.to_string() == name;
    let artifact =
        found.iter().rev().find(wanted).ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, format!("task {} left no `{name}`", task.id))
        })?;
    artifact_bytes(state, artifact, headers).await
}

/// An artifact's bytes, or the part that is asked for.
pub(super) async fn artifact_bytes(
    state: &ApiState,
    artifact: &Artifact,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let range = crate::range::wanted(headers, artifact.size_bytes)?;
    let bytes = state.scheduler().files().get(&artifact.key, range.clone()).await?;
    let mut response = Body::from_stream(bytes).into_response();
    let file = artifact.name.rsplit('/').next().unwrap_or_default();
    let safe: String =
        file.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let out = response.headers_mut();
    // Whatever a task left must not be run by a browser.
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{safe}\"")) {
        out.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", artifact.sha256)) {
        out.insert(header::ETAG, value);
    }
    crate::range::describe(&mut response, range, artifact.size_bytes);
    Ok(response)
}

#[utoipa::path(get, path = "/api/v1/batches/{id}", tag = "tasks", params(("id" = String, Path, description = "Its id or name")), responses((status = 200, description = "The batch with its figures", body = Object)))]
/// Shows a batch.
pub(crate) async fn batch(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<store::Batch>, Problem> {
    Ok(Json(state.scheduler().store().batch(&id).await?))
}
