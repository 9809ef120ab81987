//! Tasks made ready: their commit is found, their task file read at it, and their inputs checked, before they
//! are queued. All cells of a matrix and all retries use that commit.

use crate::{Scheduler, settings::RESOLVE_PARALLEL_MAX, settings::RESOLVE_TRIES_MAX};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use model::{
    ErrorReason, Outcome, Task,
    task::{Repo, Resolved, TaskKind},
    task_file::{self, TASK_FILE, TaskFile},
};
use std::time::Duration;
use store::{Resolution, TaskQuery, Unresolved};
use tokio_util::sync::CancellationToken;

/// How long a server has to resolve what it took before another one may.
const HOLD: Duration = Duration::from_secs(300);
/// The first delay after something let us down; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The longest delay.
const RETRY_MAX: Duration = Duration::from_secs(120);

/// Reads task repositories. The worker's git does it; the binary passes it in.
#[async_trait]
pub trait Repositories: Send + Sync + std::fmt::Debug {
    /// The commit that the repository's ref names now, and the text of the task file at it. With `at`, that
    /// commit is taken instead.
    async fn look_up(&self, repo: &Repo, at: Option<&str>) -> Result<Found, LookUpError>;
}

/// What was found in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The full commit id.
    pub commit: String,
    /// The task file's text; `None` when there is none.
    pub task_file: Option<String>,
}

/// Why a repository could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookUpError {
    /// It will not be better later: no such repository, ref or commit, or it is refused.
    #[error("{0}")]
    Wrong(String),
    /// The network or a server let us down.
    #[error("{0}")]
    Later(String),
}

/// Resolves what waits, until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let done = resolve_waiting(&scheduler).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "tasks wait to be resolved");
            0
        });
        if done == 0 {
            tokio::select! {
                () = stop.cancelled() => return,
                () = scheduler.wake().unresolved.wait(scheduler.settings().poll_every) => {}
            }
        }
    }
}

/// Resolves one batch of what waits; returns how many there were.
pub(crate) async fn resolve_waiting(scheduler: &Scheduler) -> store::Result<usize> {
    let hold_ms = u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX);
    let limit = u32::try_from(RESOLVE_PARALLEL_MAX * 4).unwrap_or(u32::MAX);
    let waiting = scheduler.store().unresolved(limit, hold_ms).await?;
    let count = waiting.len();
    // Tasks of one event and repository go one after the other, so that the first one's commit is the others'.
    let mut lanes: Vec<Vec<Unresolved>> = Vec::new();
    for unresolved in waiting {
        match lanes.iter_mut().find(|lane| same_wish(&lane[0].task, &unresolved.task)) {
            Some(lane) => lane.push(unresolved),
            None => lanes.push(vec![unresolved]),
        }
    }
    let resolve_lane = |lane: Vec<Unresolved>| async move {
        for unresolved in lane {
            let resolution = resolve_one(scheduler, &unresolved).await;
            if let Err(error) = scheduler.store().resolve(unresolved.task.id, &resolution).await {
                tracing::warn!(task = %unresolved.task.id, %error, "task could not be resolved now");
            }
            scheduler.wake().committed();
        }
    };
    stream::iter(lanes).for_each_concurrent(RESOLVE_PARALLEL_MAX, resolve_lane).await;
    Ok(count)
}

/// Whether two tasks come of the same event and use the same repository.
fn same_wish(one: &Task, other: &Task) -> bool {
    let repo = |task: &Task| match &task.kind {
        TaskKind::Repo { repo, .. } => Some(repo.clone()),
        _ => None,
    };
    one.origin.event().is_some() && one.origin.event() == other.origin.event() && repo(one) == repo(other)
}

async fn resolve_one(scheduler: &Scheduler, unresolved: &Unresolved) -> Resolution {
    let task = &unresolved.task;
    let TaskKind::Repo { repo, .. } = &task.kind else {
        return wrong(ErrorReason::BadTask, "only tasks with a repository are resolved".to_owned());
    };
    let at = match sibling_commit(scheduler, task, repo).await {
        Ok(at) => at,
        Err(error) => return later(unresolved.tries, error.to_string()),
    };
    match scheduler.repositories().look_up(repo, at.as_deref()).await {
        Ok(found) => read(task, repo, found),
        Err(LookUpError::Wrong(reason)) => wrong(ErrorReason::BadTask, reason),
        Err(LookUpError::Later(reason)) => later(unresolved.tries, reason),
    }
}

/// The commit that another task of the same event and repository was resolved to.
async fn sibling_commit(scheduler: &Scheduler, task: &Task, repo: &Repo) -> store::Result<Option<String>> {
    let Some(event) = task.origin.event() else { return Ok(None) };
    let query = TaskQuery { event: Some(event), limit: store::PAGE_MAX, ..TaskQuery::default() };
    let siblings = scheduler.store().tasks(&query).await?;
    Ok(siblings.items.into_iter().find_map(|sibling| match sibling.kind {
        TaskKind::Repo { repo: its, resolved: Some(resolved) } if its == *repo => Some(resolved.commit),
        _ => None,
    }))
}

/// Reads the task file and checks the inputs against it.
fn read(task: &Task, repo: &Repo, found: Found) -> Resolution {
    let folder = repo.path.as_deref().unwrap_or("").trim_matches('/');
    let name = if folder.is_empty() { TASK_FILE.to_owned() } else { format!("{folder}/{TASK_FILE}") };
    let Some(text) = found.task_file else {
        let reason = format!("{repo} has no {name} at {}: looked for {TASK_FILE}", found.commit);
        return wrong(ErrorReason::BadTask, reason);
    };
    let file: TaskFile = match task_file::parse(&name, &text) {
        Ok((file, _)) => file,
        Err(report) => return wrong(ErrorReason::BadTask, report.to_string()),
    };
    match file.check_inputs(&task.inputs) {
        Ok(inputs) => {
            let needs = task.needs.clone().and(&file.requirements());
            let resolved = Box::new(Resolved { commit: found.commit, file });
            Resolution::Found { resolved, inputs, needs }
        }
        Err(reason) => wrong(ErrorReason::BadTask, reason),
    }
}

const fn wrong(reason: ErrorReason, text: String) -> Resolution {
    Resolution::Wrong { outcome: Outcome::Error(reason), reason: text }
}

fn later(tries: u32, reason: String) -> Resolution {
    if tries + 1 >= RESOLVE_TRIES_MAX {
        return wrong(ErrorReason::Infra, format!("{reason} (tried {} times)", tries + 1));
    }
    Resolution::Later { delay: RETRY_FIRST.saturating_mul(1 << tries.min(16)).min(RETRY_MAX), reason }
}
