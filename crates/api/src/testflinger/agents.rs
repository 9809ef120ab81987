//! What agents say of themselves.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, document, job_id, object, ok, time},
    clients, schema, view,
    who::{Asker, NAME_BYTES_MAX, cookie},
};
use crate::state::ApiState;
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Map, Value, json};
use store::{ForeignRecord, StoreError};

/// The kinds of documents.
const AGENT: &str = "agent";
const PROVISION_LOG: &str = "provision_log";
/// How many lines of an agent's log, and how many provisionings, are kept.
const LINES_MAX: usize = 100;
/// How often a document is read and written again that others change at the same time.
const CHANGE_TRIES_MAX: u32 = 20;
/// What an agent may say of itself.
const FIELDS: [&str; 8] =
    ["identifier", "job_id", "location", "log", "provision_type", "queues", "state", "comment"];

/// A name of an agent or a queue.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty()
        || name.len() > NAME_BYTES_MAX
        || name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'))
    {
        return Err(Refusal::bad(format!(
            "a name has 1 to {NAME_BYTES_MAX} bytes, none of them a control character or a slash"
        )));
    }
    Ok(())
}

/// Changes a document: `next` says what it is to be, from what it is; nothing leaves it.
pub(crate) async fn change(
    state: &ApiState,
    kind: &str,
    name: &str,
    next: impl Fn(Option<&Value>) -> Option<Value>,
) -> Result<(), Refusal> {
    let store = state.scheduler().store();
    for _ in 0..CHANGE_TRIES_MAX {
        let before = store.foreign_record(SYSTEM, kind, name).await?;
        let body = next(before.as_ref().map(|record| &record.body));
        let Some(body) = body.filter(|body| before.as_ref().is_none_or(|before| before.body != *body)) else {
            return Ok(());
        };
        let version = before.map(|record| record.version);
        if store.put_foreign_record(SYSTEM, kind, name, version, &body, None).await? {
            return Ok(());
        }
    }
    Err(StoreError::Conflict(format!("{kind} {name} is changed by too many at the same time")).into())
}

async fn agents(state: &ApiState) -> Result<Vec<ForeignRecord>, Refusal> {
    Ok(state.scheduler().store().foreign_records(SYSTEM, AGENT).await?)
}

/// The agents that serve a queue.
pub(crate) async fn of_queue(state: &ApiState, queue: &str) -> Result<Vec<ForeignRecord>, Refusal> {
    let mut all = agents(state).await?;
    all.retain(|agent| {
        let queues = agent.body.get("queues").and_then(Value::as_array);
        queues.is_some_and(|queues| queues.iter().any(|own| own == queue))
    });
    Ok(all)
}

/// An agent as it is listed: without its log.
pub(crate) fn shown(agent: &ForeignRecord, restricted: &Map<String, Value>) -> Map<String, Value> {
    let mut all = agent.body.as_object().cloned().unwrap_or_default();
    all.remove("log");
    all.insert("name".to_owned(), agent.name.as_str().into());
    all.insert("updated_at".to_owned(), time(agent.updated_at).into());
    all.entry("state").or_insert_with(|| "waiting".into());
    all.entry("queues").or_insert_with(|| json!([]));
    let own = |queue: &Value| {
        let queue = queue.as_str()?;
        Some((queue.to_owned(), restricted.get(queue)?.clone()))
    };
    let queues = all.get("queues").and_then(Value::as_array);
    let to: Map<_, _> = queues.into_iter().flatten().filter_map(own).collect();
    all.insert("restricted_to".to_owned(), to.into());
    all
}

/// `GET /v1/agents/data`
pub(crate) async fn list(State(state): State<ApiState>) -> Answer {
    let restricted = clients::restricted(&state).await?;
    let all: Vec<_> = agents(&state).await?.iter().map(|agent| shown(agent, &restricted)).collect();
    Ok(document(all))
}

/// `GET /v1/agents/data/<name>`
pub(crate) async fn show(State(state): State<ApiState>, Path(name): Path<String>) -> Answer {
    let found = state.scheduler().store().foreign_record(SYSTEM, AGENT, &name).await?;
    let agent = found.ok_or_else(|| Refusal::Document(StatusCode::NOT_FOUND, json!({})))?;
    let mut all = shown(&agent, &clients::restricted(&state).await?);
    if let Some(log) = agent.body.get("log") {
        all.insert("log".to_owned(), log.clone());
    }
    Ok(document(all))
}

/// `POST /v1/agents/data/<name>`: it is how an agent gets its cookie.
pub(crate) async fn report(State(state): State<ApiState>, Path(name): Path<String>, body: Bytes) -> Answer {
    check_name(&name)?;
    let said = object(&body)?;
    if state.testflinger().strict {
        let unknown = said.keys().filter(|field| !FIELDS.contains(&field.as_str()));
        let wrong: Map<_, _> = unknown.map(|field| (field.clone(), json!(["Unknown field."]))).collect();
        if !wrong.is_empty() {
            return Err(Refusal::Invalid("json", wrong));
        }
    }
    for (field, value) in &said {
        let right = match field.as_str() {
            "log" | "queues" => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            field if FIELDS.contains(&field) => value.is_string(),
            _ => true,
        };
        if !right {
            return Err(Refusal::field(field, "Not a valid value."));
        }
    }
    change(&state, AGENT, &name, |before| {
        let mut all = before.and_then(Value::as_object).cloned().unwrap_or_default();
        let mut said = said.clone();
        if let Some(Value::Array(more)) = said.remove("log") {
            let mut lines = all.get("log").and_then(Value::as_array).cloned().unwrap_or_default();
            lines.extend(more);
            lines.drain(..lines.len().saturating_sub(LINES_MAX));
            all.insert("log".to_owned(), lines.into());
        }
        all.extend(said);
        Some(Value::Object(all))
    })
    .await?;
    acknowledge(&state, &name, said.get("job_id")).await?;
    let mut response = Json(json!({"status": "OK"})).into_response();
    if let Some(cookie) = cookie(&name) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// An agent that says which job it has knows of it.
async fn acknowledge(state: &ApiState, agent: &str, job: Option<&Value>) -> Result<(), Refusal> {
    let Some(Ok(id)) = job.and_then(Value::as_str).map(job_id) else { return Ok(()) };
    let Some(job) = view::find(state, id).await? else { return Ok(()) };
    let running = job.task.as_ref().map(|task| &task.state);
    if let Some(model::TaskState::Running { worker, .. }) = running
        && *worker == super::who::worker(agent)
        && !job.acknowledged
    {
        state.scheduler().store().acknowledge_foreign(job.id).await?;
    }
    Ok(())
}

/// `POST /v1/agents/provision_logs/<name>`
pub(crate) async fn provision_log(
    State(state): State<ApiState>,
    Extension(_asker): Extension<Asker>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let said = object(&body)?;
    let job = said.get("job_id").and_then(Value::as_str);
    let job = job.ok_or_else(|| Refusal::field("job_id", "Missing data for required field."))?;
    let code = said.get("exit_code");
    let code = code.ok_or_else(|| Refusal::field("exit_code", "Missing data for required field."))?;
    let code = schema::whole(code).ok_or_else(|| Refusal::field("exit_code", "Not a valid integer."))?;
    if state.scheduler().store().foreign_record(SYSTEM, AGENT, &name).await?.is_none() {
        return Err(Refusal::Text(StatusCode::NOT_FOUND, "Agent not found\n".to_owned()));
    }
    let at = time(state.scheduler().clock().now());
    let detail = said.get("detail").and_then(Value::as_str).unwrap_or_default();
    let entry = json!({"job_id": job, "exit_code": code, "detail": detail, "timestamp": at});
    change(&state, PROVISION_LOG, &name, |before| {
        let mut all = before.and_then(Value::as_array).cloned().unwrap_or_default();
        all.push(entry.clone());
        all.drain(..all.len().saturating_sub(LINES_MAX));
        Some(all.into())
    })
    .await?;
    let kind = if code == 0 { "pass" } else { "fail" };
    change(&state, AGENT, &name, |before| {
        let mut all = before.and_then(Value::as_object).cloned()?;
        let same = all.get("provision_streak_type").and_then(Value::as_str) == Some(kind);
        let count = all.get("provision_streak_count").and_then(Value::as_i64).filter(|_| same).unwrap_or(0);
        all.insert("provision_streak_type".to_owned(), kind.into());
        all.insert("provision_streak_count".to_owned(), (count + 1).into());
        Some(Value::Object(all))
    })
    .await?;
    Ok(ok())
}
