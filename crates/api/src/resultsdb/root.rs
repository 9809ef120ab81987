//! What is here, and whether it works.

use super::{refusal::Refusal, shape::Base};
use crate::state::ApiState;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde_json::{Value, json};

#[utoipa::path(get, path = "/api/v2.0", tag = "resultsdb", responses((status = 300, description = "Where everything is, and the outcomes", body = Value)))]
/// ResultsDB: where everything is.
pub(crate) async fn root(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> (StatusCode, Json<Value>) {
    let base = Base::of(&headers, &uri);
    let outcomes: Vec<_> = state.resultsdb().outcomes().map(str::to_owned).collect();
    let body = json!({
        "message": "Results are at one of these addresses.",
        "documentation": base.url("/docs/"),
        "groups": base.href(&["groups"]),
        "results": base.href(&["results"]),
        "testcases": base.href(&["testcases"]),
        "outcomes": outcomes,
    });
    (StatusCode::MULTIPLE_CHOICES, Json(body))
}

#[utoipa::path(get, path = "/api/v2.0/", tag = "resultsdb", responses((status = 300, description = "Where everything is, and the outcomes", body = Value)))]
/// ResultsDB: the same, by the address that its clients are configured with.
pub(crate) async fn root_with_slash(
    state: State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> (StatusCode, Json<Value>) {
    root(state, headers, uri).await
}

#[utoipa::path(get, path = "/api/v2.0/healthcheck", tag = "resultsdb", responses((status = 200, description = "It works", body = Value), (status = 503, description = "The database cannot be reached")))]
/// ResultsDB: whether it works.
pub(crate) async fn healthcheck(State(state): State<ApiState>) -> Result<Json<Value>, Refusal> {
    state.scheduler().store().testcases(None, 0, 1).await.map_err(|error| {
        tracing::warn!(%error, "the database cannot be asked");
        Refusal::Message(StatusCode::SERVICE_UNAVAILABLE, "Unable to communicate with database".to_owned())
    })?;
    Ok(Json(json!({"message": "Health check OK"})))
}
