//! The logs that a result names: here, since whoever may read the result has a token for this interface only.

use super::Settings;
use crate::{problem::Problem, routes, state::ApiState};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use model::Task;

#[utoipa::path(get, path = "/tasks/{task_id}/log", tag = "alts", params(("task_id" = String, Path, description = "The task")), responses((status = 200, description = "The whole log of the last attempt", content_type = "text/plain"), (status = 206, description = "A part of it"), (status = 404, description = "There is none"), (status = 410, description = "It has expired")))]
/// ALTS: the log of a task.
pub(super) async fn log(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = own(&state, &id).await?;
    routes::last_log(&state, &task, &headers).await
}

#[utoipa::path(get, path = "/tasks/{task_id}/artifacts/{artifact}", tag = "alts", params(("task_id" = String, Path, description = "The task"), ("artifact" = String, Path, description = "Its id, or its name")), responses((status = 200, description = "The bytes"), (status = 206, description = "A part of them"), (status = 404, description = "There is none"), (status = 410, description = "They have expired")))]
/// ALTS: a stage's log, or what else a task left.
pub(super) async fn artifact(
    State(state): State<ApiState>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = own(&state, &id).await?;
    routes::left(&state, &task, &name, &headers).await
}

/// A task that tests a package; others are not shown to this interface's tokens.
async fn own(state: &ApiState, id: &str) -> Result<Task, Problem> {
    let settings = state.interfaces().alts.clone().unwrap_or_default();
    let task = state.scheduler().find_task(id).await?;
    if is_own(&settings, task.name.as_str()) {
        return Ok(task);
    }
    Err(Problem::new(StatusCode::NOT_FOUND, format!("task {} tests no package", task.id)))
}

/// Whether tasks of this name test packages.
pub(super) fn is_own(settings: &Settings, name: &str) -> bool {
    let rest = name.strip_prefix(settings.task.as_str());
    rest.is_some_and(|rest| matches!(rest, "" | "-vm" | "-external"))
}
