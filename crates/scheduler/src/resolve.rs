//! Tasks made ready: their commit is found, their task file read at it, and their inputs checked, before they
//! are queued. All cells of a matrix and all retries use that commit.

use crate::{
    Scheduler,
    handover::Handed,
    settings::{RESOLVE_PARALLEL_MAX, RESOLVE_TAKEN_MAX, RESOLVE_TRIES_MAX},
};
use async_trait::async_trait;
use model::{
    ErrorReason, Ids, Outcome, Task, TaskId, TaskKey, TaskState,
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
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// How long a server has to resolve what it took before another one may, also after a crash. Twice is no harm:
/// the second answer finds the task resolved.
pub(crate) const HOLD_MS: u64 = 15_000;
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

/// Resolves what waits and what is handed over, until told to stop. What is under way then is let end for a moment;
/// what does not is taken up again once its hold is over.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    let mut bell = scheduler.wake().unresolved.listen();
    let mut resolving = Resolving::new(scheduler.clone());
    scheduler.handover().open();
    // Whether there may be some among those that wait.
    let mut look = true;
    // Also while there is always something to do, what others left is found.
    let mut poll = tokio::time::interval(scheduler.settings().poll_every);
    while !stop.is_cancelled() {
        let room = RESOLVE_TAKEN_MAX.saturating_sub(resolving.found());
        if look && room > 0 {
            let taken = take(&scheduler, room).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "tasks wait to be resolved");
                Vec::new()
            });
            look = !taken.is_empty();
            // Who is done is known before what is given out again is looked at.
            while let Some(done) = resolving.under_way.try_join_next_with_id() {
                resolving.ended(done);
            }
            for unresolved in taken {
                resolving.start(unresolved, None);
            }
        }
        let room = RESOLVE_TAKEN_MAX.saturating_sub(resolving.found());
        tokio::select! {
            () = stop.cancelled() => break,
            handed = scheduler.handover().take() => {
                for Handed { unresolved, place } in handed {
                    resolving.start(unresolved, Some(place));
                }
            }
            Some(done) = resolving.under_way.join_next_with_id() => resolving.ended(done),
            () = bell.heard(scheduler.settings().poll_every), if !look => look = true,
            _ = poll.tick() => look = true,
            () = std::future::ready(()), if look && room > 0 => {}
        }
    }
    scheduler.handover().close();
    let rest = async { while resolving.under_way.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, rest).await;
}

/// What is being resolved.
struct Resolving {
    scheduler: Scheduler,
    work: Arc<Work>,
    under_way: JoinSet<()>,
    /// Each task, and whether it was found among those that wait.
    ids: HashMap<Id, (TaskId, bool)>,
}

impl Resolving {
    fn new(scheduler: Scheduler) -> Self {
        let work = Arc::new(Work::default());
        Self { scheduler, work, under_way: JoinSet::new(), ids: HashMap::new() }
    }

    /// Starts on a task, handed over with its place or found.
    fn start(&mut self, unresolved: Unresolved, place: Option<OwnedSemaphorePermit>) {
        let id = unresolved.task.id;
        // One that takes longer than its hold is given out again; it is still being resolved.
        if self.ids.values().any(|(known, _)| *known == id) {
            return;
        }
        let found = place.is_none();
        let (scheduler, work) = (self.scheduler.clone(), Arc::clone(&self.work));
        let handle = self.under_way.spawn(async move {
            let _place = place;
            resolve(scheduler, work, unresolved, !found).await;
        });
        self.ids.insert(handle.id(), (id, found));
    }

    fn ended(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = done.map_or_else(|error| error.id(), |(id, ())| id);
        self.ids.remove(&id);
    }

    /// How many of them were found among those that wait; the others have places of their own.
    fn found(&self) -> usize {
        self.ids.values().filter(|(_, found)| *found).count()
    }
}

/// What this server is resolving.
#[derive(Debug)]
struct Work {
    /// Tasks of one event and repository go one after the other, so that the first one's commit is the others'.
    lanes: Mutex<HashMap<String, Weak<Lane>>>,
    /// One repository that does not answer must not hold up all others.
    reading: Semaphore,
}

/// The commit that was found for an event and a repository.
type Lane = AsyncMutex<Option<String>>;

impl Default for Work {
    fn default() -> Self {
        Self { lanes: Mutex::default(), reading: Semaphore::new(RESOLVE_PARALLEL_MAX) }
    }
}

impl Work {
    fn lane(&self, task: &Task) -> Option<Arc<Lane>> {
        let TaskKind::Repo { repo, .. } = &task.kind else { return None };
        let name = format!("{} {repo}", task.origin.event()?);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, lane| lane.strong_count() > 0);
        if let Some(lane) = lanes.get(&name).and_then(Weak::upgrade) {
            return Some(lane);
        }
        let lane = Arc::new(AsyncMutex::new(None));
        lanes.insert(name, Arc::downgrade(&lane));
        Some(lane)
    }
}

async fn take(scheduler: &Scheduler, at_most: usize) -> store::Result<Vec<Unresolved>> {
    scheduler.store().unresolved(u32::try_from(at_most).unwrap_or(u32::MAX), HOLD_MS).await
}

/// Resolves a task. One that was just made has no commit in the store that it must use, unless its siblings have
/// just found it: should another server have been faster, the store says so and it is taken once more.
async fn resolve(scheduler: Scheduler, work: Arc<Work>, unresolved: Unresolved, just_made: bool) {
    let lane = work.lane(&unresolved.task);
    let mut turn = match &lane {
        Some(lane) => Some(lane.lock().await),
        None => None,
    };
    let Ok(_reading) = work.reading.acquire().await else { return };
    let task = &unresolved.task;
    let siblings = turn.as_ref().and_then(|turn| turn.as_ref().cloned());
    let at = match siblings {
        None if !just_made => scheduler.store().pinned_commit(task).await,
        at => Ok(at),
    };
    let resolution = match at {
        Ok(at) => resolve_one(&scheduler, &unresolved, at.as_deref()).await,
        Err(error) => later(unresolved.tries, error.to_string()),
    };
    match scheduler.store().resolve(task, &resolution).await {
        Ok(after) => {
            if let (Some(turn), Some(commit)) = (&mut turn, commit_of(&after)) {
                **turn = Some(commit.to_owned());
            }
            if after.state.is_final() || matches!(after.state, TaskState::Waiting { .. }) {
                scheduler.wake().committed();
            } else {
                scheduler.wake().told();
                scheduler.wake().queued.ring();
            }
        }
        // It waits still, and is taken again after its hold.
        Err(error) => tracing::warn!(task = %task.id, %error, "task could not be resolved now"),
    }
}

fn commit_of(task: &Task) -> Option<&str> {
    match &task.kind {
        TaskKind::Repo { resolved: Some(resolved), .. } => Some(&resolved.commit),
        _ => None,
    }
}

async fn resolve_one(scheduler: &Scheduler, unresolved: &Unresolved, at: Option<&str>) -> Resolution {
    let task = &unresolved.task;
    let TaskKind::Repo { repo, discover, .. } = &task.kind else {
        return wrong(ErrorReason::BadTask, "only tasks with a repository are resolved".to_owned());
    };
    match scheduler.repositories().look_up(repo, at).await {
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
