//! A job that is submitted once more under its id: by its agent, which could not run it, or by a person.

use super::{answer::Refusal, jobs::check_own, view, who::Asker};
use crate::state::ApiState;
use model::{
    Task, TaskState,
    attempt::AttemptRef,
    protocol::{AttemptEnd, FinishRequest},
};
use scheduler::service::ServiceError;
use serde_json::{Map, Value};
use store::StoreError;
use uuid::Uuid;

/// Why an attempt is over whose agent submits the job once more.
const HANDED_BACK: &str = "its agent submitted the job once more";
/// Why a job is cancelled in whose place another is submitted.
const REPLACED: &str = "submitted once more under the same id";

/// An agent that cannot run what it was given (a device that does not recover) submits it once more: it goes back to
/// its queue as it was, for another agent. What the agent sends is what it was given, with the values of secrets.
pub(super) async fn by_its_agent(
    state: &ApiState,
    asker: &Asker,
    job: &Map<String, Value>,
) -> Result<bool, Refusal> {
    let id = job.get("job_id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
    let (Some(id), Some(_)) = (id, &asker.agent) else { return Ok(false) };
    let Some(task) = view::find(state, id).await?.and_then(|there| there.task) else { return Ok(false) };
    let TaskState::Running { worker, attempt, fence, stop: None, .. } = &task.state else { return Ok(false) };
    if *worker != asker.worker() {
        return Ok(false);
    }
    let back = FinishRequest {
        attempt: AttemptRef { attempt: *attempt, fence: *fence },
        end: AttemptEnd::HandedBack { reason: HANDED_BACK.to_owned() },
        phases: Vec::new(),
        environment: None,
        results: Vec::new(),
        log_chunks: 0,
        log_bytes: super::logs::bytes(state, task.id.uuid(), *attempt).await?,
        log_truncated: false,
    };
    state.scheduler().finish(task.id, &back).await.map_err(|error| Refusal::Problem(error.into()))?;
    Ok(true)
}

/// Whether it is the job that waits there already: its answer was lost.
pub(super) fn is_the_same(there: &Task, job: &Map<String, Value>) -> bool {
    let waits = matches!(there.state, TaskState::Waiting { .. } | TaskState::Queued { .. });
    waits && there.attempts == 0 && view::submitted(there) == *job
}

/// Ends what is there: the job in its place is the one that counts.
pub(super) async fn in_place_of(state: &ApiState, asker: &Asker, there: &Task) -> Result<(), Refusal> {
    if there.state.is_final() {
        return Ok(());
    }
    check_own(state, asker, there)?;
    match state.scheduler().cancel(there.id, Some(REPLACED.to_owned()), &asker.name).await {
        Ok(_) | Err(ServiceError::Store(StoreError::Conflict(_))) => {}
        Err(error) => return Err(error.into()),
    }
    // Its agent hears of it when it asks, and nobody waits for that.
    if let Some(attempt) = there.state.running()
        && state.scheduler().store().lose_attempt(there.id, attempt).await?
    {
        state.scheduler().wake().committed();
    }
    Ok(())
}
