//! Rules held and let go: pausing, resuming with what waits, and the tasks that a limit parked.

use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use chrono::{DateTime, Utc};
use model::{RuleName, ids::EventSeq};
use scheduler::{
    apply::{Applied, Past},
    holds::{Held, Parked},
};
use serde::{Deserialize, Serialize};
use store::{CollectWindow, Hold};
use utoipa::ToSchema;

/// The most open windows that are shown.
const WINDOWS_MAX: u32 = 500;

/// What waits for an operator or for its time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Waiting {
    /// The hold of all rules and by rule its own hold, held events and parked tasks.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    held: Held,
    /// The windows of rules that collect, the next to be due first.
    #[schema(value_type = Vec<Object>)]
    windows: Vec<CollectWindow>,
}

#[utoipa::path(get, path = "/api/v1/backlog", tag = "rules", responses((status = 200, description = "Holds, held events, parked tasks and open windows, by rule", body = Waiting)))]
/// Shows which rules are held, and what waits.
pub(crate) async fn backlog(State(state): State<ApiState>) -> Result<Json<Waiting>, Problem> {
    let scheduler = state.scheduler();
    let windows = scheduler.store().collect_windows(None, WINDOWS_MAX).await?;
    Ok(Json(Waiting { held: scheduler.held().await?, windows }))
}

/// Why a rule is paused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pause {
    /// For the record.
    why: Option<String>,
}

/// What becomes of what was held.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Resume {
    /// Drop the held events rather than judge them.
    drop: bool,
}

/// How a hold ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resumed {
    /// How many held events were dropped.
    dropped: u64,
}

#[utoipa::path(post, path = "/api/v1/rules/{name}/pause", tag = "rules", params(("name" = String, Path, description = "The rule")), request_body = Pause, responses((status = 200, description = "Its events are kept, and judged when it is resumed", body = Value), (status = 404, description = "There is no such rule")))]
/// Holds a rule: events that it fires on are kept, and nothing is made of them.
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(body): Json<Pause>,
) -> Result<Json<Hold>, Problem> {
    Ok(Json(state.scheduler().pause_rule(Some(&RuleName::new(name)), body.why, &caller.name).await?))
}

#[utoipa::path(post, path = "/api/v1/rules/pause", tag = "rules", request_body = Pause, responses((status = 200, description = "All rules are held", body = Value)))]
/// Holds all rules.
pub(crate) async fn pause_all(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<Pause>,
) -> Result<Json<Hold>, Problem> {
    Ok(Json(state.scheduler().pause_rule(None, body.why, &caller.name).await?))
}

#[utoipa::path(post, path = "/api/v1/rules/{name}/resume", tag = "rules", params(("name" = String, Path, description = "The rule")), request_body = Resume, responses((status = 200, description = "What was held is judged by the rules of now, oldest first, or dropped", body = Resumed), (status = 404, description = "It is not held")))]
/// Ends the hold of a rule, by whatever it came.
pub(crate) async fn resume(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(body): Json<Resume>,
) -> Result<Json<Resumed>, Problem> {
    let dropped = state.scheduler().resume_rule(Some(&RuleName::new(name)), body.drop, &caller.name).await?;
    Ok(Json(Resumed { dropped }))
}

#[utoipa::path(post, path = "/api/v1/rules/resume", tag = "rules", request_body = Resume, responses((status = 200, description = "Rules that are not held by themselves go on", body = Resumed), (status = 404, description = "Not all rules are held")))]
/// Ends the hold of all rules; those that are held by themselves stay held.
pub(crate) async fn resume_all(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<Resume>,
) -> Result<Json<Resumed>, Problem> {
    let dropped = state.scheduler().resume_rule(None, body.drop, &caller.name).await?;
    Ok(Json(Resumed { dropped }))
}

#[utoipa::path(post, path = "/api/v1/rules/{name}/release", tag = "rules", params(("name" = String, Path, description = "The rule")), responses((status = 200, description = "How many tasks go on; while there are more, ask again", body = Value)))]
/// Lets the tasks of a rule go on that a limit parked, oldest first, so many at a time.
pub(crate) async fn release(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Parked>, Problem> {
    Ok(Json(state.scheduler().release_parked(&RuleName::new(name), &caller.name).await?))
}

#[utoipa::path(post, path = "/api/v1/rules/{name}/drop", tag = "rules", params(("name" = String, Path, description = "The rule")), responses((status = 200, description = "How many tasks are cancelled; while there are more, ask again", body = Value)))]
/// Cancels the tasks of a rule that a limit parked, oldest first, so many at a time.
pub(crate) async fn drop_parked(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Parked>, Problem> {
    Ok(Json(state.scheduler().drop_parked(&RuleName::new(name), &caller.name).await?))
}

/// Which past events a rule is applied to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    /// Only events received at or after.
    since: DateTime<Utc>,
    /// Only events received before; now when missing.
    until: Option<DateTime<Utc>>,
    /// The `next` of the answer before.
    after: Option<i64>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

#[utoipa::path(post, path = "/api/v1/rules/{name}/apply", tag = "rules", params(("name" = String, Path, description = "The rule")), request_body = Apply, responses((status = 200, description = "What came of so many events; with `next`, ask again with it as `after`", body = Value), (status = 404, description = "There is no such rule")))]
/// Makes the tasks that a rule in force would have made of past events, behind its limits. Repeated, it makes none twice.
pub(crate) async fn apply(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(body): Json<Apply>,
) -> Result<Json<Applied>, Problem> {
    let scheduler = state.scheduler();
    let past = Past {
        since: body.since,
        until: body.until.unwrap_or_else(|| scheduler.clock().now()),
        after: body.after.map(EventSeq),
        dry_run: body.dry_run,
    };
    Ok(Json(scheduler.apply_rule(&RuleName::new(name), past, &caller.name).await?))
}
