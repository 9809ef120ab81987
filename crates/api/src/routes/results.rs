//! Results.

use super::{Paging, filtered, to_json};
use crate::{auth::Caller, parameters, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use model::{
    ids::ResultId,
    result::{NewResult, RESULTS_PER_ATTEMPT_MAX, StoredResult},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Page, ResultQuery};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only of this testcase.
    testcase: Option<String>,
    /// Only of items of this type.
    item_type: Option<String>,
    /// Only of this item.
    item: Option<String>,
    /// Only with these outcomes, separated by commas.
    outcome: Option<String>,
    /// Only of this task, by its id or the start of it.
    task: Option<String>,
    /// Only the parts of this result.
    parent: Option<i64>,
    /// Also the parts of other results (`false` by default).
    parts: Option<bool>,
    /// Only stored at or after.
    since: Option<DateTime<Utc>>,
}

#[utoipa::path(get, path = "/api/v1/results", tag = "results", params(ListQuery, Paging), responses((status = 200, description = "Results, newest first", body = Value)))]
/// Lists results, newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<StoredResult>>, Problem> {
    paging.before::<i64>()?;
    let outcomes = parameters::outcomes(query.outcome.as_ref())?;
    let task = match &query.task {
        Some(task) => Some(state.scheduler().find_task(task).await?.id),
        None => None,
    };
    let page = filtered(
        &state,
        &paging,
        |result: &StoredResult| to_json(result),
        |result| Some(result.id.to_string()),
        |before, limit| {
            let query = ResultQuery {
                testcase: query.testcase.clone(),
                item_type: query.item_type.clone(),
                item_id: query.item.clone(),
                outcomes: outcomes.clone(),
                task,
                parent: query.parent.map(ResultId),
                top_level: query.parent.is_none() && !query.parts.unwrap_or(false),
                since: query.since,
                before: before.and_then(|text| text.parse().ok()).map(ResultId),
                limit,
            };
            let state = state.clone();
            async move { Ok(state.scheduler().store().results(&query).await?) }
        },
    )
    .await?;
    Ok(Json(page))
}

/// A result with its parts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Whole {
    result: StoredResult,
    /// Its parts, in their order.
    parts: Vec<StoredResult>,
}

#[utoipa::path(get, path = "/api/v1/results/{id}", tag = "results", params(("id" = i64, Path, description = "Its number")), responses((status = 200, description = "The result with its parts", body = Whole)))]
/// Shows a result.
pub(crate) async fn show(State(state): State<ApiState>, Path(id): Path<i64>) -> Result<Json<Whole>, Problem> {
    let store = state.scheduler().store();
    let result = store.result(ResultId(id)).await?;
    let query = ResultQuery { parent: Some(ResultId(id)), limit: store::PAGE_MAX, ..ResultQuery::default() };
    let mut parts = store.results(&query).await?.items;
    parts.reverse();
    Ok(Json(Whole { result, parts }))
}

#[utoipa::path(post, path = "/api/v1/results", tag = "results", request_body = Vec<NewResult>, responses((status = 201, description = "Their numbers", body = Value)))]
/// Stores results that belong to no task.
pub(crate) async fn add(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(results): Json<Vec<NewResult>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let count: usize = results.iter().map(NewResult::count).sum();
    if count > RESULTS_PER_ATTEMPT_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a request has at most {RESULTS_PER_ATTEMPT_MAX} results"),
        ));
    }
    let ids = state.scheduler().store().add_results(&results).await?;
    state.scheduler().wake().told();
    state
        .scheduler()
        .audit(&caller.name, "result.add", format!("results/{}", ids.len()), json!({"ids": ids}))
        .await?;
    Ok((StatusCode::CREATED, Json(json!({"ids": ids}))))
}
