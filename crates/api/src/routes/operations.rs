//! Queues, workers and retention.

use super::{tasks::Why, to_json};
use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use model::ids::{QueueName, WorkerName};
use serde::Deserialize;
use serde_json::Value;
use store::{Pruned, QueueStatus, WorkerMode, WorkerStatus};
use utoipa::{IntoParams, ToSchema};

#[utoipa::path(get, path = "/api/v1/queues", tag = "operations", responses((status = 200, description = "Queues with their figures", body = Value)))]
/// Lists queues.
pub(crate) async fn queues(State(state): State<ApiState>) -> Result<Json<Vec<QueueStatus>>, Problem> {
    Ok(Json(state.scheduler().store().queues().await?))
}

#[utoipa::path(post, path = "/api/v1/queues/{name}/pause", tag = "operations", params(("name" = String, Path, description = "The queue")), request_body = Option<Why>, responses((status = 204, description = "It hands nothing out"), (status = 404, description = "No task, worker or registered task names this queue")))]
/// Stops handing out of a queue.
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Option<Json<Why>>,
) -> Result<StatusCode, Problem> {
    let why = body.and_then(|Json(why)| why.why);
    let scheduler = state.scheduler();
    scheduler.pause_queue(&QueueName::new(name), why, &caller.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/api/v1/queues/{name}/resume", tag = "operations", params(("name" = String, Path, description = "The queue")), responses((status = 204, description = "It hands out again")))]
/// Hands out of a queue again.
pub(crate) async fn resume(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let scheduler = state.scheduler();
    scheduler.store().resume_queue(&QueueName::new(name.clone())).await?;
    scheduler.wake().queued.ring();
    scheduler.audit(&caller.name, "queue.resume", format!("queue/{name}"), Value::Null).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(get, path = "/api/v1/workers", tag = "operations", responses((status = 200, description = "Workers", body = Value)))]
/// Lists workers.
pub(crate) async fn workers(State(state): State<ApiState>) -> Result<Json<Vec<WorkerStatus>>, Problem> {
    let scheduler = state.scheduler();
    Ok(Json(scheduler.store().workers(scheduler.settings().alive_ms()).await?))
}

/// What an operator wants of a worker.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mode {
    /// `active` or `drain`.
    #[schema(value_type = String)]
    mode: WorkerMode,
}

#[utoipa::path(post, path = "/api/v1/workers/{name}/mode", tag = "operations", params(("name" = String, Path, description = "The worker")), request_body = Mode, responses((status = 204, description = "It hears of it with its next heartbeat or claim")))]
/// Drains a worker (it takes no more tasks and finishes those that it runs), or makes it active again.
pub(crate) async fn worker_mode(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(body): Json<Mode>,
) -> Result<StatusCode, Problem> {
    let scheduler = state.scheduler();
    scheduler.store().set_worker_mode(&WorkerName::new(name.clone()), body.mode).await?;
    scheduler.audit(&caller.name, "worker.mode", format!("worker/{name}"), to_json(&body.mode)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PruneQuery {
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

#[utoipa::path(post, path = "/api/v1/prune", tag = "operations", params(PruneQuery), responses((status = 200, description = "What was removed, or would be", body = Value)))]
/// Removes what is older than the configuration keeps it; one round.
pub(crate) async fn prune(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<PruneQuery>,
) -> Result<Json<Pruned>, Problem> {
    let scheduler = state.scheduler();
    let pruned = scheduler.prune(&scheduler.settings().retention, query.dry_run).await?;
    if !query.dry_run {
        scheduler.audit(&caller.name, "db.prune", "db".to_owned(), to_json(&pruned.rows)).await?;
    }
    Ok(Json(pruned))
}
