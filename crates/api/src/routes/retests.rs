//! Wishes to run a test once more.

use super::Paging;
use crate::{
    auth::Caller,
    problem::Problem,
    resultsdb::{self, Base},
    state::ApiState,
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, Uri},
};
use model::{
    Item,
    ids::RetestId,
    retest::{Retest, Served},
};
use scheduler::retest::RetestWish;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::{Page, Requested, StoreError};
use utoipa::ToSchema;

/// What is asked for: an item and a test, or a result.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// The type of what is tested.
    #[serde(default)]
    pub(crate) item_type: Option<String>,
    /// What is tested.
    #[serde(default)]
    pub(crate) item: Option<String>,
    /// The test: a testcase or a task's name.
    #[serde(default)]
    pub(crate) test: Option<String>,
    /// A result, which says the rest.
    #[serde(default)]
    pub(crate) result: Option<String>,
    /// What goes into the messages as it is.
    #[serde(default = "nothing")]
    pub(crate) extras: Value,
    /// Why.
    #[serde(default)]
    pub(crate) why: Option<String>,
    /// Also when the same was asked a short time ago, or is under way.
    #[serde(default)]
    pub(crate) force: bool,
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

#[utoipa::path(get, path = "/api/v1/retests", tag = "retests", params(Paging), responses((status = 200, description = "Wishes to run a test once more, newest first", body = Value)))]
/// Lists wishes to run a test once more, newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Retest>>, Problem> {
    let page = super::filtered(
        &state,
        &paging,
        |retest: &Retest| super::to_json(retest),
        |retest| Some(retest.id.to_string()),
        |before, limit| {
            let before = before.and_then(|text| text.parse().ok());
            let state = state.clone();
            async move { Ok(state.scheduler().store().retests(before, limit).await?) }
        },
    )
    .await?;
    Ok(Json(page))
}

#[utoipa::path(get, path = "/api/v1/retests/{id}", tag = "retests", params(("id" = String, Path, description = "Its id")), responses((status = 200, description = "The wish and what came of it", body = Retest)))]
/// Shows a wish to run a test once more.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Retest>, Problem> {
    let missing = || StoreError::NotFound { what: "retest", id: id.clone() };
    let id: RetestId = id.parse().map_err(|_| missing())?;
    Ok(Json(state.scheduler().store().retest(id).await?))
}

#[utoipa::path(post, path = "/api/v1/retests", tag = "retests", request_body = Asked, responses((status = 200, description = "What came of it", body = Value), (status = 404, description = "No such result, or nobody runs the test")))]
/// Asks for a test to be run once more.
pub(crate) async fn add(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    Json(asked): Json<Asked>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let answer = ask(&state, asked, &caller, &Base::of(&headers, &uri)).await?;
    Ok((StatusCode::OK, Json(answer)))
}

/// Asks, and says what came of it.
pub(crate) async fn ask(
    state: &ApiState,
    asked: Asked,
    caller: &Caller,
    base: &Base,
) -> Result<Value, Problem> {
    let wish = wish(state, asked, base).await?;
    let native = state.native(base);
    let requested = state.scheduler().retest(wish, &caller.name, &caller.bounds).await?;
    let (status, retest) = match &requested {
        Requested::Made(retest) => ("made", retest),
        Requested::Known(retest) => ("known", retest),
    };
    let task = |id: &model::TaskId| json!({"id": id, "href": native.url(&format!("/api/v1/tasks/{id}"))});
    Ok(json!({
        "id": retest.id,
        "href": native.url(&format!("/api/v1/retests/{}", retest.id)),
        "status": status,
        "message": message(&requested, state.scheduler().outlet_health().is_some()),
        "item": retest.item,
        "test": retest.test,
        "result_id": retest.result,
        "served": retest.served,
        "tasks": retest.tasks.iter().map(task).collect::<Vec<_>>(),
        "topic": retest.topic,
    }))
}

async fn wish(state: &ApiState, asked: Asked, base: &Base) -> Result<RetestWish, Problem> {
    let of_result = asked.result.clone();
    let missing = |name: &str| match &of_result {
        Some(id) => Problem::bad(format!(
            "result {id} does not say what was tested (`item` and `type` in its data), and no task here reported it; \
             give `{name}` beside `result_id`"
        )),
        None => Problem::bad(format!(
            "`{name}` is missing; give `type`, `item` and `test`, or the `result_id` of a result"
        )),
    };
    let (mut item_type, mut item, mut test) = (asked.item_type, asked.item, asked.test);
    let mut result = None;
    if let Some(id) = asked.result {
        if id.rsplit('/').next().is_none_or(|number| number.parse::<i64>().is_err()) {
            return Err(Problem::bad(format!("`{id}` is no number of a result")));
        }
        let mut found = state.scheduler().result_of(&id, Some(&base.url("/"))).await?;
        if let Some(own) = found.replaced.own {
            let entry = state.scheduler().store().entry(own).await?;
            let native = state.native(base);
            found.replaced.shown = resultsdb::shown(&entry, &native, &native, state.resultsdb());
        }
        if let Some(tested) = found.item {
            item_type = item_type.or(Some(tested.kind));
            item = item.or(Some(tested.id));
        }
        test = test.or(Some(found.test));
        result = Some(found.replaced);
    }
    Ok(RetestWish {
        item: Item {
            kind: item_type.ok_or_else(|| missing("type"))?,
            id: item.ok_or_else(|| missing("item"))?,
        },
        test: test.ok_or_else(|| missing("test"))?,
        result,
        extras: asked.extras,
        why: asked.why,
        force: asked.force,
        pull_request: Value::Null,
        cause: None,
    })
}

/// One line for people.
fn message(requested: &Requested, has_bus: bool) -> String {
    let (Requested::Made(retest) | Requested::Known(retest)) = requested;
    let what = format!("{} of {} {}", retest.test, retest.item.kind, retest.item.id);
    let served = match &retest.served {
        Served::Rerun { of } => format!("{what} runs once more, as task {of} did"),
        Served::UnderWay => format!("{what} is under way"),
        Served::Rule { rule, event } => format!("{what} runs as rule {rule} wishes on event {event}"),
        Served::Others { system } if has_bus => format!("nothing here runs {what}; {system} was told"),
        Served::Others { system } => format!(
            "nothing here runs {what}; {system} listens for it, but no bus is configured (`outlet`): only who follows \
             this server's stream is told"
        ),
    };
    match requested {
        Requested::Made(_) => served,
        Requested::Known(_) => format!("asked a short time ago, nothing new is made (force does): {served}"),
    }
}
