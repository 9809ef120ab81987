//! Ending attempts: what a worker reports, and what it did not live to report.

use super::{
    SqlStore,
    results::store_results_of,
    session::{Session, transaction},
    task_row::{TaskRow, refused},
    tasks::cut,
    value::{json, values},
    work::Work,
};
use crate::{Finished, Result, StoreError};
use model::{
    ErrorReason, Outcome, TaskId, TaskState,
    attempt::AttemptRef,
    protocol::{AttemptEnd, FinishRequest, Held},
    result::RESULTS_PER_ATTEMPT_MAX,
    retry::Decision,
    task::{TASK_TEXT_BYTES_MAX, TaskKind},
    task_file::Publish,
};
use sha2::{Digest, Sha256};

const ATTEMPT_DIGEST: &str =
    "select digest from attempt where task_id = $1 and number = $2 and fence = $3 and ended_at is not null";
const LOSE_ATTEMPT: &str =
    "update attempt set ended_at = $3, outcome = $4, reason = $5 where task_id = $1 and number = $2";
const EXPIRED: &str = "select id, fence, attempts from task where state = 'running' and lease_until < $1 \
    order by lease_until limit $2";

/// Ends an attempt as its worker reports.
pub(crate) async fn finish(store: &SqlStore, task: TaskId, request: &FinishRequest) -> Result<Finished> {
    let count: usize = request.results.iter().map(model::result::NewResult::count).sum();
    if count > RESULTS_PER_ATTEMPT_MAX {
        return Err(StoreError::Poison(format!(
            "an attempt reports at most {RESULTS_PER_ATTEMPT_MAX} results, this one {count}"
        )));
    }
    let digest: [u8; 32] = Sha256::digest(json(request)?).into();
    transaction!(store, on task, |session| finish_in(store, session, task, request, digest))
}

async fn finish_in(
    store: &SqlStore,
    session: &mut Session,
    task: TaskId,
    request: &FinishRequest,
    digest: [u8; 32],
) -> Result<Finished> {
    let mut work = Work::new(session, store);
    let mut row = TaskRow::lock(work.session, task).await?;
    if row.task.state.running() != Some(request.attempt) {
        let AttemptRef { attempt, fence } = request.attempt;
        let earlier = work.session.first(ATTEMPT_DIGEST, values![row.task.id, attempt, fence]).await?;
        let same = earlier.map(|earlier| earlier.bytes_opt("digest")).transpose()?.flatten();
        let repeated = same.as_deref() == Some(&digest[..]);
        return Ok(if repeated { Finished::Repeated(Box::new(row.task)) } else { Finished::Fenced });
    }
    let (outcome, reason) = match &request.end {
        AttemptEnd::Outcome { outcome, reason } => (Some(*outcome), reason.clone()),
        AttemptEnd::HandedBack { reason } => (None, Some(reason.clone())),
    };
    let reason = reason.map(|reason| cut(&reason, TASK_TEXT_BYTES_MAX));
    let (shown, why) = as_stopped(&row, outcome, reason.as_deref());
    let ended = values![
        work.now,
        shown,
        why,
        digest,
        json(&request.phases)?,
        request.environment.as_ref().map(json).transpose()?,
        request.log_bytes,
        request.log_truncated,
    ];
    end_attempt(&mut work, &mut row, outcome, reason).await?;
    row.save_with_attempt(work.session, request.attempt.attempt, ended).await?;
    // Only the attempt that decides the task speaks for the item.
    if let TaskState::Finished { .. } = row.task.state {
        let all = publish(&row) == Publish::All;
        let ran_on = request.environment.as_ref().map_or("", |environment| environment.arch.as_str());
        let from = Some((&row.task, request.attempt.attempt));
        store_results_of(&mut work, from, ran_on, &request.results, all).await?;
    }
    work.done().await?;
    Ok(Finished::Accepted(Box::new(row.task)))
}

/// What is written down of how an attempt ended. One whose task was told to stop has no outcome, whatever its worker
/// made of that: killing what runs looks like an error of the task.
fn as_stopped(
    row: &TaskRow,
    outcome: Option<Outcome>,
    reason: Option<&str>,
) -> (Option<Outcome>, Option<String>) {
    match &row.task.state {
        TaskState::Running { stop: Some(stop), .. } => {
            (None, Some(cut(&stop.to_string(), TASK_TEXT_BYTES_MAX)))
        }
        _ => (outcome, reason.map(str::to_owned)),
    }
}

fn publish(row: &TaskRow) -> Publish {
    match &row.task.kind {
        TaskKind::Repo { resolved: Some(resolved), .. } => resolved.file.results.publish,
        _ => Publish::default(),
    }
}

/// What follows an attempt that ended so, without an outcome when it was handed back: the task is final, or
/// waits for another attempt. The caller saves it.
async fn end_attempt(
    work: &mut Work<'_>,
    row: &mut TaskRow,
    outcome: Option<Outcome>,
    reason: Option<String>,
) -> Result<()> {
    let state = row.task.state.clone();
    let stopped = matches!(state, TaskState::Running { stop: Some(_), .. });
    let decision = match (outcome, &row.task.kind) {
        _ if stopped => Decision::Finish,
        (None, _) => Decision::Retry { delay: std::time::Duration::ZERO },
        (Some(outcome), kind) => {
            let tried = row.task.attempts.saturating_sub(row.handed_back);
            match kind {
                TaskKind::Repo { resolved: Some(resolved), .. } => resolved.file.retry.decide(outcome, tried),
                TaskKind::Foreign { retry: Some(retry), .. } => retry.decide(outcome, tried),
                _ => model::retry::RetryPolicy::default().decide(outcome, tried),
            }
        }
    };
    match decision {
        Decision::Finish => {
            // A task that was to stop and was handed back has no outcome; its state asks for none.
            let outcome = outcome.unwrap_or(Outcome::Error(ErrorReason::Infra));
            row.task.state = state.finish(outcome, reason, work.now).map_err(refused)?;
            work.ended(row);
        }
        Decision::Retry { delay } => {
            row.handed_back += u32::from(outcome.is_none());
            let not_before = (!delay.is_zero()).then(|| work.now + delay);
            work.requeue(row, not_before).await?;
        }
    }
    Ok(())
}

/// Ends attempts whose lease is over, each in a transaction of its own.
pub(crate) async fn reap(store: &SqlStore, limit: u32) -> Result<Vec<Held>> {
    let now = store.now_of_database().await?;
    let rows = store.read().await?.all(EXPIRED, values![now, limit]).await?;
    let mut ended = Vec::new();
    for row in &rows {
        let attempt = AttemptRef { attempt: row.number("attempts")?, fence: row.int("fence")? };
        let held = Held { task: row.id("id")?.into(), attempt };
        if transaction!(store, on held.task, |session| lose(store, session, held))? {
            ended.push(held);
        }
    }
    Ok(ended)
}

/// Ends an attempt as lost; `false` when it was heard of in the meantime.
async fn lose(store: &SqlStore, session: &mut Session, held: Held) -> Result<bool> {
    let work = Work::new(session, store);
    let row = TaskRow::lock(work.session, held.task).await?;
    let reason = match &row.task.state {
        TaskState::Running { lease_until, worker, .. }
            if row.task.state.running() == Some(held.attempt) && *lease_until < work.now =>
        {
            format!("worker {worker} was not heard of before {}", lease_until.format("%H:%M:%S UTC"))
        }
        _ => return Ok(false),
    };
    end_as_lost(work, row, held, reason).await
}

/// Ends an attempt as lost before its lease is over: its worker began anew. `false` when it is not running any more.
pub(crate) async fn give_up(store: &SqlStore, session: &mut Session, held: Held) -> Result<bool> {
    let work = Work::new(session, store);
    let row = TaskRow::lock(work.session, held.task).await?;
    let reason = match &row.task.state {
        TaskState::Running { worker, .. } if row.task.state.running() == Some(held.attempt) => {
            format!("worker {worker} asked for another task")
        }
        _ => return Ok(false),
    };
    end_as_lost(work, row, held, reason).await
}

async fn end_as_lost(mut work: Work<'_>, mut row: TaskRow, held: Held, reason: String) -> Result<bool> {
    let outcome = Outcome::Error(ErrorReason::Lost);
    let (shown, why) = as_stopped(&row, Some(outcome), Some(&reason));
    let values = values![held.task, held.attempt.attempt, work.now, shown, why];
    work.session.run(LOSE_ATTEMPT, values).await?;
    end_attempt(&mut work, &mut row, Some(outcome), Some(reason)).await?;
    row.save(work.session).await?;
    work.done().await?;
    Ok(true)
}
