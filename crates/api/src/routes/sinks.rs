//! Sinks: where results and messages also go.

use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use scheduler::sinks::SinkStatus;
use serde_json::Value;

#[utoipa::path(get, path = "/api/v1/sinks", tag = "operations", responses((status = 200, description = "All sinks with their places, by name", body = Value)))]
/// Lists sinks: how far each is behind, and what is wrong.
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<Vec<SinkStatus>>, Problem> {
    Ok(Json(state.scheduler().sink_statuses().await?))
}

#[utoipa::path(delete, path = "/api/v1/sinks/{name}", tag = "operations", params(("name" = String, Path, description = "The sink")), responses((status = 204, description = "Nothing is kept for it any more"), (status = 404, description = "There is no such sink"), (status = 409, description = "It is in this server's configuration")))]
/// Forgets a sink that is not configured any more: messages are kept for it no longer.
pub(crate) async fn forget(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let scheduler = state.scheduler();
    if scheduler.sink_statuses().await?.iter().any(|sink| sink.place.name == name && sink.configured) {
        let detail = format!("sink `{name}` is in this server's configuration; take it out there first");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    scheduler.store().forget_sink(&name).await?;
    scheduler.audit(&caller.name, "sink.forget", format!("sink/{name}"), Value::Null).await?;
    Ok(StatusCode::NO_CONTENT)
}
