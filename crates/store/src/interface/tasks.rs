//! Tasks: making, resolving, stopping, listing.

use super::{Page, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    Attempt, Item, Outcome, Requirements, Revision, RuleName, Task, TaskId, TaskKey,
    ids::{BatchId, EventSeq, GroupName, QueueName, Submitter, TaskName},
    task::{Approval, Group, Hold, Origin, Resolved, Stop, TaskKind, Trust, WaitReason},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// A task to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Its id, made by the caller.
    pub id: TaskId,
    /// The key that makes it once.
    pub key: TaskKey,
    /// Its kind.
    pub kind: TaskKind,
    /// Its name.
    pub name: TaskName,
    /// Why it is made.
    pub origin: NewOrigin,
    /// Whom it is made for.
    pub submitter: Submitter,
    /// What it tests.
    pub item: Option<Item>,
    /// Its inputs.
    pub inputs: Map<String, Value>,
    /// Where it waits.
    pub queue: QueueName,
    /// Higher goes first.
    pub priority: i32,
    /// What it needs.
    pub needs: Requirements,
    /// Its group.
    pub group: Option<Group>,
    /// The name of its batch; the batch is made when it is not there.
    pub batch: Option<String>,
    /// Whether it is trusted.
    pub trust: Trust,
    /// The names of the secrets that it may have.
    pub secrets: Vec<String>,
    /// Whether a maintainer must let it run.
    pub approval: Option<Approval>,
    /// Whether the environment of an attempt that fails is kept.
    pub hold: Option<Hold>,
    /// The longest that `run` may take, in seconds.
    pub timeout_cap_seconds: Option<u64>,
    /// How many events of ours led to it.
    pub depth: u32,
    /// The trace context.
    pub traceparent: Option<String>,
    /// What it waits for first. A repo task waits to be resolved; one whose `kind` is resolved already (a
    /// re-run) and a foreign one are queued at once (`None`).
    pub wait: Option<WaitReason>,
    /// The wish is dropped when one with the same scope and key was made within the window.
    pub dedupe: Option<Dedupe>,
}

/// Why a task is made; for rules, the event is the one that is committed with it.
#[derive(Debug, Clone, PartialEq)]
pub enum NewOrigin {
    /// A rule wished it.
    Rule {
        /// The rule.
        rule: RuleName,
        /// The rule set's revision.
        revision: Revision,
        /// The entry in `then`.
        entry: u32,
        /// The matrix cell.
        cell: Map<String, Value>,
    },
    /// Anything that is complete already ([`Origin::Submitted`], [`Origin::Rerun`]).
    Given(Origin),
}

impl NewOrigin {
    /// The rule that wished it.
    #[must_use]
    pub const fn rule(&self) -> Option<&RuleName> {
        match self {
            Self::Rule { rule, .. } => Some(rule),
            Self::Given(origin) => origin.rule(),
        }
    }
}

/// Joins the same wish from several events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// Rule, entry and matrix cell: the key counts within it.
    pub scope: String,
    /// The key.
    pub key: String,
    /// How long a wish holds off the next.
    pub window: Duration,
}

/// A task that waits to be resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Unresolved {
    /// The task.
    pub task: Task,
    /// How often resolving was tried before.
    pub tries: u32,
}

/// How resolving went.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// The commit and the task file were found, and the inputs checked.
    Found {
        /// What was found.
        resolved: Box<Resolved>,
        /// The inputs with their defaults.
        inputs: Map<String, Value>,
        /// What it needs of a worker in all.
        needs: Requirements,
    },
    /// Its tests become tasks of their own, and it ends as `info`.
    Spread {
        /// The commit at which they were found.
        commit: String,
        /// The tasks; they belong to its event and batch.
        tasks: Vec<NewTask>,
        /// What became of it, in one line.
        reason: String,
    },
    /// It can never run: it ends with this outcome.
    Wrong {
        /// The outcome, such as `error(bad_task)`.
        outcome: Outcome,
        /// Why, in one line.
        reason: String,
    },
    /// Something let us down: try again after the delay.
    Later {
        /// How long to wait.
        delay: Duration,
        /// Why, in one line.
        reason: String,
    },
}

/// What stopping a task did.
#[derive(Debug, Clone, PartialEq)]
pub struct Stopped {
    /// The task after it.
    pub task: Task,
    /// Whether anything changed.
    pub changed: bool,
}

/// Which tasks to list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskQuery {
    /// Only in one of these states (`waiting`, `queued`, `running`, `finished`, `cancelled`, `superseded`).
    pub states: Vec<String>,
    /// Only with one of these outcomes, by class (`passed`, `failed`, `error` …).
    pub outcomes: Vec<String>,
    /// Only of this name.
    pub name: Option<TaskName>,
    /// Only in this queue.
    pub queue: Option<QueueName>,
    /// Only made by this rule.
    pub rule: Option<RuleName>,
    /// Only of this submitter.
    pub submitter: Option<Submitter>,
    /// Only of items of this type.
    pub item_type: Option<String>,
    /// Only of this item.
    pub item_id: Option<String>,
    /// Only of this batch.
    pub batch: Option<BatchId>,
    /// Only of this group.
    pub group: Option<GroupName>,
    /// Only of this event.
    pub event: Option<EventSeq>,
    /// Only made at or after.
    pub since: Option<DateTime<Utc>>,
    /// Only made before.
    pub until: Option<DateTime<Utc>>,
    /// Only older than this one (the `next` of a page).
    pub before: Option<TaskId>,
    /// The most entries, at most [`super::PAGE_MAX`].
    pub limit: u32,
}

/// A named group of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// Its name.
    pub name: String,
    /// How many tasks it has.
    pub tasks: u64,
    /// How many of them are final.
    pub final_tasks: u64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Tasks.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// Makes tasks that no event led to (submitted, re-runs), with their messages. A task whose key is there
    /// already is not made again: the one that is there is returned in its place. [`NewTask::dedupe`] counts for
    /// wishes of rules only. Tasks of one call do not supersede each other.
    async fn create_tasks(&self, tasks: &[NewTask]) -> Result<Vec<Task>>;

    /// Tasks that wait to be resolved, oldest first, taken for `hold_ms` so that another server takes others.
    async fn unresolved(&self, limit: u32, hold_ms: u64) -> Result<Vec<Unresolved>>;

    /// The commit at which a task is to be resolved: the one that the first task of its event (in the same replay)
    /// with the same repository was resolved to. `None` leaves it to the repository's ref.
    async fn pinned_commit(&self, task: &Task) -> Result<Option<String>>;

    /// Writes how resolving went, with the message: the task is queued, or waits in its group, or ends. When
    /// no known worker meets its needs, it is queued all the same, says so (`unmet`), and `taskbot.task.unmet`
    /// is told. Nothing happens when it no longer waits for it.
    ///
    /// The first commit that is found for an event and a repository is pinned. A task that comes with another one
    /// stays as it is, and can be taken again at once to be resolved at the pinned commit.
    async fn resolve(&self, task: &Task, resolution: &Resolution) -> Result<Task>;

    /// Cancels or supersedes a task: at once when it is not running, else its worker is told by its next
    /// heartbeat. A final one is a conflict.
    async fn stop(&self, task: TaskId, stop: &Stop) -> Result<Stopped>;

    /// Lets a parked task go on to be resolved.
    async fn release(&self, task: TaskId) -> Result<Task>;

    /// Lets a task run that waits for a maintainer's word, at the commit that was found.
    ///
    /// # Errors
    /// There is no such task, or it does not wait for that.
    async fn approve(&self, task: TaskId, who: &str, why: Option<&str>) -> Result<Task>;

    /// Ends the hold of a task's environment before its time.
    ///
    /// # Errors
    /// There is no such task, or nothing is held of it.
    async fn unhold(&self, task: TaskId, who: &str) -> Result<Task>;

    /// A task.
    async fn task(&self, id: TaskId) -> Result<Task>;

    /// The tasks whose id starts with these hexadecimal digits (dashes ignored), at most 10.
    async fn tasks_by_prefix(&self, prefix: &str) -> Result<Vec<Task>>;

    /// A list of tasks.
    async fn tasks(&self, query: &TaskQuery) -> Result<Page<Task>>;

    /// The attempts of a task, first to last.
    async fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>>;

    /// How many tasks a worker that serves the queue would be handed before this one. `None` when it is not
    /// queued.
    async fn position(&self, task: TaskId) -> Result<Option<u64>>;

    /// How many tasks of a queue with at least this priority are queued.
    async fn queued_before(&self, queue: &QueueName, priority: i32) -> Result<u64>;

    /// A batch by its id or name.
    async fn batch(&self, id_or_name: &str) -> Result<Batch>;
}
