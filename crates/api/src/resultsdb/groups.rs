//! Groups of results.

use super::{
    body,
    query::{Asked, base},
    refusal::Refusal,
    results, shape,
};
use crate::{auth::Caller, state::ApiState};
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
};
use serde_json::{Value, json};
use store::StoreError;

#[utoipa::path(get, path = "/api/v2.0/groups", tag = "resultsdb", params(("uuid" = Option<String>, Query, description = "Only these, separated by commas"), ("description" = Option<String>, Query, description = "Only with one of these descriptions"), ("description:like" = Option<String>, Query, description = "Only whose description looks like this; `*` is any text"), ("page" = Option<u64>, Query, description = "The page, from 0"), ("limit" = Option<u32>, Query, description = "How many a page has")), responses((status = 200, description = "Groups, newest first", body = Value)))]
/// ResultsDB: lists groups.
pub(crate) async fn list(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    let asked = Asked::of(&headers, &uri)?;
    let (page, limit) = asked.page()?;
    let offset = page.saturating_mul(u64::from(limit));
    let (ids, texts) = (asked.wanted("uuid"), asked.wanted("description"));
    let (found, more) = state.scheduler().store().groups(ids.as_ref(), texts.as_ref(), offset, limit).await?;
    let data = found.iter().map(|group| shape::group(group, &asked.base)).collect();
    Ok(Json(asked.paged(page, more, data)))
}

#[utoipa::path(get, path = "/api/v2.0/groups/{uuid}", tag = "resultsdb", params(("uuid" = String, Path, description = "Its id")), responses((status = 200, description = "The group", body = Value), (status = 404, description = "There is none")))]
/// ResultsDB: shows a group.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let group = state.scheduler().store().group(&id).await?;
    Ok(Json(shape::group(&group, &base(&headers))))
}

#[utoipa::path(get, path = "/api/v2.0/groups/{uuid}/results", tag = "resultsdb", params(("uuid" = String, Path, description = "Its id")), responses((status = 200, description = "Its results, newest first", body = Value)))]
/// ResultsDB: lists the results of a group.
pub(crate) async fn results(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    let asked = Asked::of(&headers, &uri)?;
    state.scheduler().store().group(&id).await.map_err(|error| match error {
        StoreError::NotFound { .. } => {
            Refusal::Message(StatusCode::NOT_FOUND, format!("Group not found: {id}"))
        }
        error => error.into(),
    })?;
    results::page(&state, &asked, |query| query.groups = vec![id]).await
}

#[utoipa::path(post, path = "/api/v2.0/groups", tag = "resultsdb", request_body = Value, responses((status = 201, description = "The group", body = Value), (status = 400, description = "What is wrong with which field")))]
/// ResultsDB: makes a group, or changes what is given of it.
pub(crate) async fn add(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let new_id = state.scheduler().ids().next().to_string();
    let group = body::group(&body::object(&headers, &bytes)?, new_id)?;
    let store = state.scheduler().store();
    store.put_group(&group).await?;
    let object = format!("group/{}", group.id);
    state.scheduler().audit(&caller.name, "group.put", object, json!({"ref_url": group.ref_url})).await?;
    let stored = store.group(&group.id).await?;
    Ok((StatusCode::CREATED, Json(shape::group(&stored, &base(&headers)))))
}
