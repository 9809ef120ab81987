//! What agents report of a job, and what watchers read of it.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, document, job_id, nothing, object, ok},
    logs, secrets, view,
    who::Asker,
};
use crate::state::ApiState;
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
};
use model::{
    Task, TaskState,
    attempt::AttemptRef,
    protocol::{AttemptEnd, FinishRequest, HeartbeatEntry, Held},
    result::NewResult,
    task::Stop,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store::{ForeignJob, ForeignReport};
use uuid::Uuid;

/// The attempt of a job that this asker may speak for: the running one, unless another agent has it. `Err` is an
/// agent that lost the job, to another one or to its queue: what it says counts no more.
pub(crate) fn attempt(job: Option<&ForeignJob>, asker: &Asker) -> Result<Option<AttemptRef>, ()> {
    let task = job.and_then(|job| job.task.as_ref());
    let Some(TaskState::Running { worker, attempt, fence, .. }) = task.map(|task| &task.state) else {
        let waits = task.is_some_and(|task| !task.state.is_final());
        return if waits && asker.agent.is_some() { Err(()) } else { Ok(None) };
    };
    if asker.agent.is_some() && *worker != asker.worker() {
        return Err(());
    }
    Ok(Some(AttemptRef { attempt: *attempt, fence: *fence }))
}

/// `POST /v1/result/<id>`
pub(crate) async fn report(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let id = job_id(&id)?;
    let mut data = object(&body)?;
    if state.testflinger().strict {
        check(&data)?;
    }
    let word = match data.remove("job_state") {
        None | Some(Value::Null) => None,
        Some(Value::String(word)) if word.len() <= super::who::NAME_BYTES_MAX => Some(word),
        Some(_) => return Err(Refusal::field("job_state", "Not a valid string.")),
    };
    let before = view::find(&state, id).await?;
    let Ok(attempt) = attempt(before.as_ref(), &asker) else {
        tracing::info!(job = %id, agent = asker.agent, "a report of a job that another agent has now");
        return Ok(ok());
    };
    let task = before.and_then(|job| job.task);
    if task.is_none() && state.testflinger().strict {
        return Ok(ok());
    }
    // Older agents report once, at the end, and say no state.
    let ends =
        word.as_deref().is_some_and(view::is_end) || (word.is_none() && data.contains_key("exit_code"));
    let state_word = word.clone().filter(|word| !(task.is_some() && view::is_end(word)));
    let report = ForeignReport { state: state_word, data };
    let job = state.scheduler().store().report_foreign(SYSTEM, id, &report, attempt).await?;
    if let (Some(task), Some(attempt)) = (task, attempt) {
        if ends {
            end(&state, &task, attempt, word.as_deref(), &job.data).await?;
        } else if let Some(word) = &word {
            note_phase(&state, &task, attempt, word).await?;
        }
    }
    Ok(ok())
}

/// What Testflinger 1.5 takes.
fn check(data: &Map<String, Value>) -> Result<(), Refusal> {
    let mut wrong = Map::new();
    for (field, value) in data {
        let message = match field.as_str() {
            "status" => {
                let right = value.as_object().is_some_and(|map| {
                    map.iter().all(|(phase, code)| view::PHASES.contains(&phase.as_str()) && code.is_i64())
                });
                (!right).then_some("Not a valid mapping type.")
            }
            "device_info" => (!value.is_object()).then_some("Not a valid mapping type."),
            "job_state" | "agent_id" => (!value.is_string()).then_some("Not a valid string."),
            _ => Some("Unknown field."),
        };
        if let Some(message) = message {
            wrong.insert(field.clone(), json!([message]));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Refusal::Invalid("json", wrong)) }
}

/// The task's phase follows.
async fn note_phase(state: &ApiState, task: &Task, attempt: AttemptRef, word: &str) -> Result<(), Refusal> {
    let TaskState::Running { worker, phase, .. } = &task.state else { return Ok(()) };
    let next = view::phase(word);
    if *phase != next {
        let entry = HeartbeatEntry { held: Held { task: task.id, attempt }, phase: next, kept: None };
        let lease_ms = u64::try_from(state.testflinger().lease.as_millis()).unwrap_or(u64::MAX);
        state.scheduler().store().heartbeat(worker, &[entry], lease_ms).await?;
        state.scheduler().wake().outbox.ring();
    }
    Ok(())
}

/// Ends the attempt: with an outcome from what was reported of its phases, or as cancelled.
async fn end(
    state: &ApiState,
    task: &Task,
    attempt: AttemptRef,
    word: Option<&str>,
    data: &Map<String, Value>,
) -> Result<(), Refusal> {
    let (outcome, reason) = view::outcome(data);
    if word == Some("cancelled") {
        let TaskState::Running { worker, .. } = &task.state else { return Ok(()) };
        let stop = Stop::Cancel { who: worker.to_string(), why: None };
        state.scheduler().store().stop(task.id, &stop).await?;
    }
    let phases = view::PHASES.iter().filter_map(|phase| {
        let code = data.get("status")?.get(*phase)?.as_i64()?;
        Some((format!("{phase}_status"), Value::from(code)))
    });
    let result = NewResult {
        testcase: task.name.to_string(),
        item: task.item.clone(),
        outcome,
        note: reason.clone(),
        duration_ms: None,
        data: phases.chain([("queue".to_owned(), task.queue.as_str().into())]).collect(),
        children: Vec::new(),
    };
    let request = FinishRequest {
        attempt,
        end: AttemptEnd::Outcome { outcome, reason },
        phases: Vec::new(),
        environment: None,
        results: vec![result],
        log_chunks: 0,
        log_bytes: logs::bytes(state, task.id.uuid(), attempt.attempt).await?,
        log_truncated: false,
    };
    state.scheduler().finish(task.id, &request).await.map_err(|error| Refusal::Problem(error.into()))?;
    secrets::forget(state, task).await
}

/// `GET /v1/result/<id>`
pub(crate) async fn show(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Answer {
    let id: Uuid = job_id(&id)?;
    let Some(job) = view::find(&state, id).await? else { return Ok(nothing()) };
    let mut all = reported(&state, &asker, &job).await?;
    all.extend(logs::whole(&state, job.id, view::attempt_of(&job)).await?);
    Ok(document(all))
}

/// `GET /v1/result/<id>/status`: the state and the phases' codes, without the logs.
pub(crate) async fn status(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Answer {
    let Some(job) = view::find(&state, job_id(&id)?).await? else { return Ok(nothing()) };
    let mut all = reported(&state, &asker, &job).await?;
    all.retain(|name, _| name == "job_state" || name.ends_with("_status"));
    Ok(document(all))
}

/// What was reported of a job, but for its logs.
async fn reported(
    state: &ApiState,
    asker: &Asker,
    job: &ForeignJob,
) -> Result<BTreeMap<String, Value>, Refusal> {
    // An agent whose job was taken from it hears that it is to stop.
    let lost = is_lost(state, job, asker).await?;
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    let mut data = job.data.clone();
    if let Some(Value::Object(status)) = data.remove("status") {
        all.extend(status.into_iter().map(|(phase, code)| (format!("{phase}_status"), code)));
    }
    all.extend(data);
    if let Some(word) = view::state(job) {
        all.insert("job_state".to_owned(), if lost { "cancelled".into() } else { word.into() });
    }
    Ok(all)
}

/// Whether the job was this agent's, and was taken from it.
async fn is_lost(state: &ApiState, job: &ForeignJob, asker: &Asker) -> Result<bool, Refusal> {
    let (Some(task), Some(_)) = (&job.task, &asker.agent) else { return Ok(false) };
    let mine = asker.worker();
    let gone = match &task.state {
        TaskState::Running { worker, .. } => *worker != mine,
        TaskState::Queued { .. } | TaskState::Waiting { .. } => task.attempts > 0,
        _ => false,
    };
    if !gone {
        return Ok(false);
    }
    let attempts = state.scheduler().store().attempts(task.id).await?;
    Ok(attempts.iter().any(|attempt| attempt.worker == mine))
}
