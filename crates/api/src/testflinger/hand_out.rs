//! `GET /v1/job`: an agent asks for a job.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, document, in_this_form, nothing},
    secrets, view,
    who::{Asker, NAME_BYTES_MAX},
};
use crate::state::ApiState;
use axum::{
    Extension,
    extract::{RawQuery, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use model::{
    Offer, Phase, Task, TaskState,
    ids::QueueName,
    protocol::{Assignment, HeartbeatEntry, Held},
    requirements::ForeignAgent,
};
use serde_json::Value;
use std::time::Duration;
use store::{Claim, ForeignJob};
use uuid::Uuid;

/// How long a job runs at most that says nothing of it, in seconds.
const GLOBAL_TIMEOUT_SECONDS: u64 = 14_400;
/// The most queues that an agent asks for.
const QUEUES_MAX: usize = 1000;

pub(crate) async fn hand_out(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Answer {
    if method == Method::HEAD {
        // Nobody would read the job.
        let mut refused = in_this_form(StatusCode::METHOD_NOT_ALLOWED, "A job is handed out by GET");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        return Ok(refused);
    }
    let query = query.unwrap_or_default();
    let queues: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, value)| key == "queue" && value.len() <= NAME_BYTES_MAX)
        .map(|(_, value)| QueueName::new(value.into_owned()))
        .take(QUEUES_MAX)
        .collect();
    if queues.is_empty() {
        return Err(Refusal::bad("No queue(s) specified in request"));
    }
    if let Some(other) = queues.iter().find(|queue| !asker.bounds.allow_queue(queue)) {
        return Err(Refusal::forbidden(format!("Queue {other} is beyond what this token may serve.")));
    }
    if state.testflinger().strict && asker.agent.is_none() {
        return Err(Refusal::Abort(StatusCode::UNAUTHORIZED, "Agent not identified".to_owned()));
    }
    if asker.agent.is_some()
        && let Some(again) = held(&state, &asker).await?
    {
        return Ok(again);
    }
    match claim(&state, &asker, queues).await? {
        Some(assignment) => answer(&state, &assignment.task).await,
        None => Ok(nothing()),
    }
}

/// The job that the agent was given, when it does not know: the answer was lost. One that it knew of it has given up
/// if it asks for another.
async fn held(state: &ApiState, asker: &Asker) -> Result<Option<Response>, Refusal> {
    let store = state.scheduler().store();
    for Assignment { task, attempt } in store.held(&asker.worker()).await? {
        let job = view_of(state, &task).await?;
        let stopped = matches!(task.state, TaskState::Running { stop: Some(_), .. });
        if !stopped && job.as_ref().is_some_and(|job| !job.acknowledged) {
            tracing::info!(agent = asker.agent, task = %task.id, "handing out again what the agent does not know of");
            return Ok(Some(answer(state, &task).await?));
        }
        if store.lose_attempt(task.id, attempt).await? {
            tracing::warn!(agent = asker.agent, task = %task.id, "given up: its agent asks for another job");
            state.scheduler().wake().moved();
        }
    }
    Ok(None)
}

async fn claim(
    state: &ApiState,
    asker: &Asker,
    queues: Vec<QueueName>,
) -> Result<Option<Assignment>, Refusal> {
    let store = state.scheduler().store();
    let worker = asker.worker();
    let agent = worker.as_str().trim_start_matches("testflinger:").to_owned();
    let offer = Offer {
        queues: queues.clone(),
        slots: 1,
        foreign: Some(ForeignAgent { system: SYSTEM.to_owned(), agent }),
        ..Offer::default()
    };
    if asker.is_known() {
        store.hello(&worker, SYSTEM, &offer).await?;
    }
    let lease_ms = u64::try_from(state.testflinger().lease.as_millis()).unwrap_or(u64::MAX);
    let claim = Claim { worker, offer, max: 1, lease_ms, order: queues };
    let Some(assignment) = store.claim(&claim).await?.pop() else { return Ok(None) };
    if !asker.is_known() {
        // Nobody can be heard of again: it has as long as its job may take.
        let seconds = view::submitted(&assignment.task).get("global_timeout").and_then(Value::as_u64);
        let whole =
            Duration::from_secs(seconds.unwrap_or(GLOBAL_TIMEOUT_SECONDS)) + state.testflinger().lease;
        let whole_ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
        let held = Held { task: assignment.task.id, attempt: assignment.attempt };
        let entry = HeartbeatEntry { held, phase: Phase::Provision, kept: None };
        store.heartbeat(&claim.worker, &[entry], whole_ms).await?;
    }
    state.scheduler().wake().outbox.ring();
    Ok(Some(assignment))
}

async fn answer(state: &ApiState, task: &Task) -> Answer {
    let job = view_of(state, task).await?;
    let job = job.ok_or_else(|| Refusal::not_found("the job is gone"))?;
    let mut shown = view::definition(&job, task);
    secrets::fill(state, task, &mut shown).await?;
    Ok(document(shown))
}

/// What is kept of a task's job.
async fn view_of(state: &ApiState, task: &Task) -> Result<Option<ForeignJob>, Refusal> {
    let own = view::submitted(task);
    let id = own.get("job_id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
    view::find(state, id.unwrap_or(task.id.uuid())).await
}
