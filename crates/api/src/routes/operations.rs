//! Queues, workers and retention.

use super::{tasks::Why, to_json};
use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use model::ids::{QueueName, WorkerName};
use serde::Deserialize;
use serde_json::Value;
use store::{Pruned, QueueStatus, WORKER_WHY_CHARS_MAX, WorkerMode, WorkerStatus, WorkerWish};
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
    /// `active`, `cordon`, `drain` or `maintenance`.
    #[schema(value_type = String)]
    mode: WorkerMode,
    /// Why; `maintenance` needs it.
    why: Option<String>,
    /// Until when; from then on it takes tasks again.
    until: Option<DateTime<Utc>>,
}

impl Mode {
    /// What is wrong with it: the field, and what is expected.
    fn wrong(&self, now: DateTime<Utc>) -> Option<String> {
        let why = self.why.as_deref().map(str::trim).unwrap_or_default();
        if self.mode == WorkerMode::Maintenance && why.is_empty() {
            return Some("`why`: maintenance needs a reason".to_owned());
        }
        if why.chars().count() > WORKER_WHY_CHARS_MAX {
            return Some(format!("`why` may have {WORKER_WHY_CHARS_MAX} characters at most"));
        }
        match self.until {
            Some(_) if self.mode == WorkerMode::Active => {
                Some("`until`: an active worker is active for good; leave it out".to_owned())
            }
            Some(until) if until <= now => {
                Some(format!("`until`: {} is over; expected a time to come", until.to_rfc3339()))
            }
            _ => None,
        }
    }
}

#[utoipa::path(post, path = "/api/v1/workers/{name}/mode", tag = "operations", params(("name" = String, Path, description = "The worker")), request_body = Mode, responses((status = 204, description = "It hears of it with its next heartbeat or claim"), (status = 400, description = "Maintenance without a reason, or a time that is over")))]
/// Lets a worker take no more tasks and finish those that it runs: `cordon` leaves it connected, `drain` lets it end
/// then, `maintenance` says why and until when. Or makes it active again.
pub(crate) async fn worker_mode(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(body): Json<Mode>,
) -> Result<StatusCode, Problem> {
    let scheduler = state.scheduler();
    if let Some(wrong) = body.wrong(scheduler.store().now().await?) {
        return Err(Problem::bad(wrong));
    }
    let wish = WorkerWish {
        mode: body.mode,
        by: Some(caller.name.clone()),
        why: body.why.map(|why| why.trim().to_owned()).filter(|why| !why.is_empty()),
        since: None,
        until: body.until,
    };
    scheduler.store().set_worker_mode(&WorkerName::new(name.clone()), &wish).await?;
    scheduler.wake().modes.ring();
    scheduler.wake().queued.ring();
    scheduler.wake().outbox.ring();
    scheduler.audit(&caller.name, "worker.mode", format!("worker/{name}"), to_json(&wish)).await?;
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
