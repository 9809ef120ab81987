//! Tasks made ready: their commit is found, their task file read at it, and their inputs checked, before they
//! are queued. All cells of a matrix and all retries use that commit.

use crate::{
    Scheduler,
    settings::{RESOLVE_PARALLEL_MAX, RESOLVE_TAKEN_MAX, RESOLVE_TRIES_MAX},
};
use async_trait::async_trait;
use model::{
    ErrorReason, Ids, Outcome, Task, TaskId, TaskKey,
    discover::{ForeignTests, RepositoryTests},
    ids::TaskName,
    task::{Group, OnNew, Repo, Resolved, TaskKind, Trust, WaitReason},
    task_file::{self, SECRET_LABEL, TASK_FILE, TaskFile},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use store::{NewOrigin, NewTask, Resolution, Unresolved};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// How long a server has to resolve what it took before another one may, also after a crash. Twice is no harm:
/// the second answer finds the task resolved.
const HOLD: Duration = Duration::from_secs(15);
/// How long what is under way may take after the server was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The first delay after something let us down; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// The most tests of one repository that become tasks of their own.
const DISCOVERED_MAX: usize = 500;
/// The longest delay.
const RETRY_MAX: Duration = Duration::from_secs(120);

/// Reads task repositories. The worker's git does it; the binary passes it in.
#[async_trait]
pub trait Repositories: Send + Sync + std::fmt::Debug {
    /// The commit that the repository's ref names now, and its task file, or else its tests in another format.
    /// With `at`, that commit is taken instead.
    async fn look_up(&self, repo: &Repo, at: Option<&str>) -> Result<Found, LookUpError>;
}

/// What was found in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The full commit id.
    pub commit: String,
    /// What it brings.
    pub tests: RepositoryTests,
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

/// Resolves what waits, until told to stop. What is under way then is let end for a moment; what does not is
/// taken up again once its hold is over.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    let mut bell = scheduler.wake().unresolved.listen();
    let work = Arc::new(Work::default());
    let mut under_way = JoinSet::new();
    let mut ids: HashMap<Id, TaskId> = HashMap::new();
    while !stop.is_cancelled() {
        let taken = take(&scheduler, RESOLVE_TAKEN_MAX - under_way.len()).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "tasks wait to be resolved");
            Vec::new()
        });
        // Who is done is known before what is given out again is looked at.
        while let Some(done) = under_way.try_join_next_with_id() {
            ids.remove(&done.map_or_else(|error| error.id(), |(id, ())| id));
        }
        let idle = taken.is_empty();
        for unresolved in taken {
            let id = unresolved.task.id;
            // One that takes longer than its hold is given out again; it is still being resolved.
            if !ids.values().any(|known| *known == id) {
                let handle = under_way.spawn(resolve(scheduler.clone(), Arc::clone(&work), unresolved));
                ids.insert(handle.id(), id);
            }
        }
        let full = under_way.len() >= RESOLVE_TAKEN_MAX;
        tokio::select! {
            () = stop.cancelled() => break,
            Some(done) = under_way.join_next_with_id() => {
                ids.remove(&done.map_or_else(|error| error.id(), |(id, ())| id));
            }
            () = bell.heard(scheduler.settings().poll_every), if idle && !full => {}
            () = std::future::ready(()), if !idle && !full => {}
        }
    }
    let rest = async { while under_way.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, rest).await;
}

/// What this server is resolving.
#[derive(Debug)]
struct Work {
    /// Tasks of one event and repository go one after the other, so that the first one's commit is the others'.
    lanes: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    /// One repository that does not answer must not hold up all others.
    reading: Semaphore,
}

impl Default for Work {
    fn default() -> Self {
        Self { lanes: Mutex::default(), reading: Semaphore::new(RESOLVE_PARALLEL_MAX) }
    }
}

impl Work {
    fn lane(&self, task: &Task) -> Option<Arc<AsyncMutex<()>>> {
        let TaskKind::Repo { repo, .. } = &task.kind else { return None };
        let name = format!("{} {repo}", task.origin.event()?);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, lane| lane.strong_count() > 0);
        if let Some(lane) = lanes.get(&name).and_then(Weak::upgrade) {
            return Some(lane);
        }
        let lane = Arc::new(AsyncMutex::new(()));
        lanes.insert(name, Arc::downgrade(&lane));
        Some(lane)
    }
}

async fn take(scheduler: &Scheduler, at_most: usize) -> store::Result<Vec<Unresolved>> {
    if at_most == 0 {
        return Ok(Vec::new());
    }
    let hold_ms = u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX);
    scheduler.store().unresolved(u32::try_from(at_most).unwrap_or(u32::MAX), hold_ms).await
}

async fn resolve(scheduler: Scheduler, work: Arc<Work>, unresolved: Unresolved) {
    let lane = work.lane(&unresolved.task);
    let _turn = match &lane {
        Some(lane) => Some(lane.lock().await),
        None => None,
    };
    let Ok(_reading) = work.reading.acquire().await else { return };
    let resolution = resolve_one(&scheduler, &unresolved).await;
    if let Err(error) = scheduler.store().resolve(unresolved.task.id, &resolution).await {
        // It waits still, and is taken again after its hold.
        tracing::warn!(task = %unresolved.task.id, %error, "task could not be resolved now");
    }
    scheduler.wake().committed();
}

async fn resolve_one(scheduler: &Scheduler, unresolved: &Unresolved) -> Resolution {
    let task = &unresolved.task;
    let TaskKind::Repo { repo, discover, .. } = &task.kind else {
        return wrong(ErrorReason::BadTask, "only tasks with a repository are resolved".to_owned());
    };
    let at = match scheduler.store().pinned_commit(task).await {
        Ok(at) => at,
        Err(error) => return later(unresolved.tries, error.to_string()),
    };
    match scheduler.repositories().look_up(repo, at.as_deref()).await {
        Ok(found) => match &found.tests {
            RepositoryTests::Foreign(tests) if *discover && !task.inputs.contains_key(tests.chooser()) => {
                spread(scheduler.ids().as_ref(), task, repo, &found.commit, tests)
            }
            _ => read(task, repo, found),
        },
        Err(LookUpError::Wrong(reason)) => wrong(ErrorReason::BadTask, reason),
        Err(LookUpError::Later(reason)) => later(unresolved.tries, reason),
    }
}

/// A task for each of the tests that were found, at the commit at which they were found.
fn spread(ids: &dyn Ids, task: &Task, repo: &Repo, commit: &str, tests: &ForeignTests) -> Resolution {
    let choices = match tests.choices() {
        Ok(choices) if choices.len() > DISCOVERED_MAX => {
            let message =
                format!("{repo} has {} tests, at most {DISCOVERED_MAX} become tasks", choices.len());
            return wrong(ErrorReason::BadTask, message);
        }
        Ok(choices) => choices,
        Err(reason) => return wrong(ErrorReason::BadTask, reason),
    };
    let repo = Repo { reference: Some(commit.to_owned()), ..repo.clone() };
    // What is older was superseded by the task itself.
    let group = task.group.clone().map(|group| Group { on_new: OnNew::Keep, ..group });
    let one = |choice: &String| {
        let mut inputs = task.inputs.clone();
        inputs.insert(tests.chooser().to_owned(), Value::from(choice.as_str()));
        NewTask {
            id: TaskId::new(ids.next()),
            key: TaskKey::of_id("discovered", &format!("{}\n{choice}", task.id)),
            kind: TaskKind::Repo { repo: repo.clone(), resolved: None, discover: false },
            name: TaskName::new(format!("{}/{}", task.name, choice.trim_start_matches('/'))),
            origin: NewOrigin::Given(task.origin.clone()),
            submitter: task.submitter.clone(),
            item: task.item.clone(),
            inputs,
            queue: task.queue.clone(),
            priority: task.priority,
            needs: task.needs.clone(),
            group: group.clone(),
            batch: None,
            trust: task.trust,
            secrets: task.secrets.clone(),
            // Each of them waits for its own word: they differ in what they run.
            approval: task.approval.clone(),
            hold: task.hold.clone(),
            timeout_cap_seconds: task.timeout_cap_seconds,
            depth: task.depth,
            traceparent: task.traceparent.clone(),
            wait: Some(WaitReason::Resolving),
            dedupe: None,
        }
    };
    let made: Vec<NewTask> = choices.iter().map(one).collect();
    let reason = format!("{} tests of {} became tasks of their own", made.len(), tests.format.as_str());
    Resolution::Spread { commit: commit.to_owned(), tasks: made, reason }
}

/// Reads the task file and checks the inputs against it.
fn read(task: &Task, repo: &Repo, found: Found) -> Resolution {
    let folder = repo.path.as_deref().unwrap_or("").trim_matches('/');
    let name = if folder.is_empty() { TASK_FILE.to_owned() } else { format!("{folder}/{TASK_FILE}") };
    let file = match &found.tests {
        RepositoryTests::TaskFile(text) => {
            task_file::parse(&name, text).map(|(file, _)| file).map_err(|report| report.to_string())
        }
        RepositoryTests::Foreign(tests) => tests.task_file(&task.name, &task.inputs),
    };
    let file: TaskFile = match file {
        Ok(file) => file,
        Err(reason) => return wrong(ErrorReason::BadTask, reason),
    };
    if let Some(name) = file.secrets.iter().find(|name| !task.secrets.contains(name)) {
        let why = match task.trust {
            Trust::Untrusted => "the task is not trusted, and gets none",
            Trust::Trusted => "its registration in tasks.yaml does not name it",
        };
        return wrong(ErrorReason::BadTask, format!("the task needs the secret `{name}`: {why}"));
    }
    match file.check_inputs(&task.inputs) {
        Ok(inputs) => {
            let mut needs = task.needs.clone().and(&file.requirements());
            needs.labels.extend(task.secrets.iter().map(|name| format!("{SECRET_LABEL}{name}")));
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
