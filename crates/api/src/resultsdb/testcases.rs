//! Testcases.

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
use store::Wanted;

#[utoipa::path(get, path = "/api/v2.0/testcases", tag = "resultsdb", params(("name" = Option<String>, Query, description = "Only these, separated by commas"), ("name:like" = Option<String>, Query, description = "Only those that look like this; `*` is any text"), ("page" = Option<u64>, Query, description = "The page, from 0"), ("limit" = Option<u32>, Query, description = "How many a page has")), responses((status = 200, description = "Testcases by name", body = Value)))]
/// ResultsDB: lists testcases.
pub(crate) async fn list(
    State(state): State<ApiState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    let asked = Asked::of(&headers, &uri)?;
    let (page, limit) = asked.page()?;
    let offset = page.saturating_mul(u64::from(limit));
    let names = asked.wanted("name");
    let (found, more) = state.scheduler().store().testcases(names.as_ref(), offset, limit).await?;
    let data = found.iter().map(|testcase| shape::testcase(testcase, &asked.base)).collect();
    Ok(Json(asked.paged(page, more, data)))
}

#[utoipa::path(get, path = "/api/v2.0/testcases/{*name}", tag = "resultsdb", params(("name" = String, Path, description = "Its name, or name/results for its results")), responses((status = 200, description = "The testcase, or its results", body = Value), (status = 404, description = "There is none")))]
/// ResultsDB: shows a testcase, or its results.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    let store = state.scheduler().store();
    // Names may have slashes; a testcase whose name ends so goes before the list.
    let found = store.testcase(&name).await;
    if let (Err(_), Some(of)) = (&found, name.strip_suffix("/results")) {
        store.testcase(of).await?;
        let asked = Asked::of(&headers, &uri)?;
        return results::page(&state, &asked, |query| {
            query.testcases = vec![Wanted::AnyOf(vec![of.to_owned()])];
        })
        .await;
    }
    Ok(Json(shape::testcase(&found?, &base(&headers))))
}

#[utoipa::path(post, path = "/api/v2.0/testcases", tag = "resultsdb", request_body = Value, responses((status = 201, description = "The testcase", body = Value), (status = 400, description = "What is wrong with which field")))]
/// ResultsDB: makes a testcase, or gives it another link.
pub(crate) async fn add(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let testcase = body::testcase(&body::object(&headers, &bytes)?)?;
    let store = state.scheduler().store();
    store.put_testcase(&testcase).await?;
    let object = format!("testcase/{}", testcase.name);
    state
        .scheduler()
        .audit(&caller.name, "testcase.put", object, json!({"ref_url": testcase.ref_url}))
        .await?;
    let stored = store.testcase(&testcase.name).await?;
    Ok((StatusCode::CREATED, Json(shape::testcase(&stored, &base(&headers)))))
}
