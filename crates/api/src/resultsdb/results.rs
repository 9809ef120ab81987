//! Results.

use super::{
    body,
    query::{Asked, base},
    refusal::Refusal,
    shape,
};
use crate::{auth::Caller, state::ApiState};
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
};
use model::ids::ResultId;
use serde_json::{Value, json};
use store::{Entry, EntryQuery};

fn shown(state: &ApiState, asked: &Asked, found: &[Entry]) -> Vec<Value> {
    let native = state.native(&asked.base);
    found.iter().map(|entry| shape::result(entry, &asked.base, &native, state.resultsdb())).collect()
}

/// A page of results; `narrow` asks for what the path says.
pub(crate) async fn page(
    state: &ApiState,
    asked: &Asked,
    narrow: impl FnOnce(&mut EntryQuery),
) -> Result<Json<Value>, Refusal> {
    let (page, _) = asked.page()?;
    let mut query = asked.results(state.resultsdb(), &[])?;
    narrow(&mut query);
    let (found, more) = state.scheduler().store().entries(&query).await?;
    Ok(Json(asked.paged(page, more, shown(state, asked, &found))))
}

#[utoipa::path(get, path = "/api/v2.0/results", tag = "resultsdb", params(("outcome" = Option<String>, Query, description = "Only with these outcomes, separated by commas"), ("testcases" = Option<String>, Query, description = "Only of these testcases"), ("testcases:like" = Option<String>, Query, description = "Only of testcases that look like this; `*` is any text"), ("groups" = Option<String>, Query, description = "Only of these groups"), ("since" = Option<String>, Query, description = "Only reported since this time, or between two, separated by a comma"), ("_sort" = Option<String>, Query, description = "asc:submit_time or desc:submit_time"), ("page" = Option<u64>, Query, description = "The page, from 0"), ("limit" = Option<u32>, Query, description = "How many a page has")), responses((status = 200, description = "Results, newest first; any other argument is a key of the results' data", body = Value), (status = 400, description = "What is wrong with which argument")))]
/// ResultsDB: lists results.
pub(crate) async fn list(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    page(&state, &Asked::of(&headers, &uri)?, |_| {}).await
}

#[utoipa::path(get, path = "/api/v2.0/results/latest", tag = "resultsdb", params(("_distinct_on" = Option<String>, Query, description = "Keys whose values tell results of a testcase apart"), ("testcases" = Option<String>, Query, description = "Only of these testcases"), ("since" = Option<String>, Query, description = "Only reported since this time, or between two")), responses((status = 200, description = "The newest result of each testcase", body = Value), (status = 400, description = "What is wrong with which argument")))]
/// ResultsDB: the newest result of each testcase.
pub(crate) async fn latest(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    let asked = Asked::of(&headers, &uri)?;
    let mut query = asked.results(state.resultsdb(), &["_distinct_on"])?;
    // As in ResultsDB: the newest is the newest, however it ended.
    query.outcomes.clear();
    let distinct = asked.list("_distinct_on").unwrap_or_default();
    let unfiltered = query.testcases.is_empty()
        && query.groups.is_empty()
        && query.data.is_empty()
        && query.since.is_none();
    if !distinct.is_empty() && unfiltered {
        return Err(Refusal::bad("Please, provide at least one filter beside '_distinct_on'"));
    }
    let found = state.scheduler().store().latest_entries(&query, &distinct).await?;
    Ok(Json(json!({"data": shown(&state, &asked, &found)})))
}

#[utoipa::path(get, path = "/api/v2.0/results/{id}", tag = "resultsdb", params(("id" = String, Path, description = "Its number")), responses((status = 200, description = "The result", body = Value), (status = 404, description = "There is none")))]
/// ResultsDB: shows a result.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let id = id.parse().map_err(|_| Refusal::not_found("Result"))?;
    let entry = state.scheduler().store().entry(ResultId(id)).await?;
    let base = base(&headers);
    Ok(Json(shape::result(&entry, &base, &state.native(&base), state.resultsdb())))
}

#[utoipa::path(post, path = "/api/v2.0/results", tag = "resultsdb", request_body = Value, responses((status = 201, description = "The result", body = Value), (status = 400, description = "What is wrong with which field"), (status = 415, description = "The body is not said to be JSON")))]
/// ResultsDB: reports a result.
pub(crate) async fn add(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let object = body::object(&headers, &bytes)?;
    let settings = state.resultsdb();
    let scheduler = state.scheduler();
    let new = body::result(&object, settings, &caller.name, || scheduler.ids().next().to_string())?;
    let entry = scheduler.report_entry(new).await?;
    let base = base(&headers);
    Ok((StatusCode::CREATED, Json(shape::result(&entry, &base, &state.native(&base), settings))))
}
