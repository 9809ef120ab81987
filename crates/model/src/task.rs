//! Tasks and their states.

mod state;

pub use state::*;

use crate::{
    ids::{
        BatchId, EventSeq, GroupName, QueueName, ResultId, Revision, RuleName, Submitter, TaskId, TaskName,
    },
    item::Item,
    requirements::{ForeignNeed, Requirements},
    retry::{RetryOn, RetryPolicy},
    task_file::TaskFile,
    task_key::TaskKey,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The highest priority; the lowest is its negative.
pub const PRIORITY_MAX: i32 = 1000;
/// The largest inputs of a task, as JSON text, in bytes.
pub const INPUTS_BYTES_MAX: usize = 256 * 1024;
/// The longest reason, note or item id that a task keeps, in bytes.
pub const TASK_TEXT_BYTES_MAX: usize = 4096;

/// The longest that somebody may ask an environment to be held, in seconds.
pub const HOLD_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// One wish, made once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The key that makes it once.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub key: TaskKey,
    /// What kind of task, with what only that kind has.
    pub kind: TaskKind,
    /// Its name: as registered, or as its task file says.
    pub name: TaskName,
    /// Why it is there.
    pub origin: Origin,
    /// Whom it is made for; turns go round among submitters.
    pub submitter: Submitter,
    /// What it tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    /// Its inputs.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub inputs: Map<String, Value>,
    /// Where it waits.
    pub queue: QueueName,
    /// Higher goes first.
    pub priority: i32,
    /// What it needs of a worker; what its task file needs is added when it is resolved.
    pub needs: Requirements,
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The batch that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Whether its repository, ref and event author are trusted.
    pub trust: Trust,
    /// The names of the secrets that its registration grants it; none when it is not trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Whether a maintainer must let it run, and who did; nothing when nobody needs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Whether the environment of an attempt that fails is kept for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The longest that `run` may take, in seconds, whatever its task file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_cap_seconds: Option<u64>,
    /// How many events of ours led to it.
    pub depth: u32,
    /// The W3C trace context of the event that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Where it stands.
    pub state: TaskState,
    /// How many attempts were started.
    pub attempts: u32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// The kinds of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskKind {
    /// A task repository, for our own workers.
    Repo {
        /// The repository.
        repo: Repo,
        /// What was found in it; nothing before it is resolved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolved: Option<Box<Resolved>>,
        /// Whether each of its tests becomes a task of its own, where it has no task file.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        discover: bool,
    },
    /// An opaque job for somebody else's agent.
    Foreign {
        /// That system, such as `testflinger`.
        #[serde(default)]
        system: String,
        /// The job as submitted.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        job: Value,
        /// When another attempt follows; the usual policy when missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry: Option<RetryPolicy>,
    },
    /// Run elsewhere and only reported to us.
    Reported,
}

impl TaskKind {
    /// The kind in one word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Repo { .. } => "repo",
            Self::Foreign { .. } => "foreign",
            Self::Reported => "reported",
        }
    }
}

/// Where a task's repository is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Repo {
    /// The URL, or for repositories shipped beside the rules an absolute path on the server.
    pub git: String,
    /// A branch, a tag or a full commit id; the repository's default branch when missing.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The folder in it that holds `task.yaml`; its root when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What the place of a registered task starts with that is a queue of Testflinger's agents, in place of a repository.
const TESTFLINGER: &str = "testflinger:";

impl Repo {
    /// The place of tasks that are jobs for Testflinger's agents, by their queue.
    #[must_use]
    pub fn testflinger(queue: &str) -> Self {
        Self { git: format!("{TESTFLINGER}{queue}"), reference: None, path: None }
    }

    /// Whether it is a queue of Testflinger's agents.
    #[must_use]
    pub fn is_testflinger(&self) -> bool {
        self.git.starts_with(TESTFLINGER)
    }
}

impl TaskKind {
    /// A job for Testflinger's agents, and what it needs: one of them. `requeue` says whether it is queued again when
    /// its agent is lost.
    #[must_use]
    pub fn testflinger(
        mut job: Map<String, Value>,
        queue: &QueueName,
        requeue: bool,
    ) -> (Self, Requirements) {
        job.insert("job_queue".to_owned(), queue.as_str().into());
        let system = TESTFLINGER.trim_end_matches(':').to_owned();
        let needs = ForeignNeed { system: system.clone(), ..ForeignNeed::default() };
        // What failed before the test is its agent's to try again.
        let on = if requeue { vec![RetryOn::Lost] } else { Vec::new() };
        let retry = RetryPolicy { on, ..RetryPolicy::default() };
        let kind = Self::Foreign { system, job: Value::Object(job), retry: Some(retry) };
        (kind, Requirements { foreign: Some(needs), ..Requirements::default() })
    }
}

impl fmt::Display for Repo {
    /// `URL#ref:path`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.git)?;
        if let Some(reference) = &self.reference {
            write!(f, "#{reference}")?;
        }
        self.path.as_ref().map_or(Ok(()), |path| write!(f, ":{path}"))
    }
}

/// What the server found in the repository. All matrix cells and retries use this commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resolved {
    /// The full commit id.
    pub commit: String,
    /// The task file at that commit.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub file: TaskFile,
}

/// Why a task is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Origin {
    /// A rule wished it.
    Rule {
        /// The event.
        event: EventSeq,
        /// The rule.
        rule: RuleName,
        /// The rule set's revision.
        revision: Revision,
        /// The entry in `then`.
        entry: u32,
        /// The matrix cell.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        cell: Map<String, Value>,
    },
    /// Somebody submitted it.
    Submitted {
        /// Who.
        who: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Somebody wanted another task run again.
    Rerun {
        /// The task that it repeats.
        of: TaskId,
        /// Who.
        who: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// The result that it is to replace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<ResultId>,
        /// The event that led to the first task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<EventSeq>,
    },
}

impl Origin {
    /// The event that led to it.
    #[must_use]
    pub const fn event(&self) -> Option<EventSeq> {
        match self {
            Self::Rule { event, .. } => Some(*event),
            Self::Rerun { event, .. } => *event,
            Self::Submitted { .. } => None,
        }
    }

    /// The rule that wished it.
    #[must_use]
    pub const fn rule(&self) -> Option<&RuleName> {
        match self {
            Self::Rule { rule, .. } => Some(rule),
            _ => None,
        }
    }
}

/// A group of tasks; its name is global.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// What a new task does to the older ones.
    #[serde(default)]
    pub on_new: OnNew,
    /// How many of it may be queued or running at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
}

/// What a new task of a group does to the older ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnNew {
    /// Nothing.
    #[default]
    Keep,
    /// Those that wait are superseded.
    SupersedeQueued,
    /// Those that wait and those that run are superseded.
    Supersede,
}

/// Whether a task's repository, ref and event author are on the configuration's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// It may get secrets and relaxed isolation, where the worker allows it.
    Trusted,
    /// It gets neither.
    Untrusted,
}

/// That the environment of an attempt that fails is kept for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hold {
    /// For how long, in seconds; the worker has a limit of its own.
    pub seconds: u64,
    /// What the worker says of what it keeps; nothing before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// Who ended it before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

impl Hold {
    /// For so long, and not begun.
    #[must_use]
    pub const fn of(seconds: u64) -> Self {
        Self { seconds, kept: None, ended_by: None }
    }
}

/// An environment that is kept for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Kept {
    /// Until when, by the worker's clock.
    pub until: DateTime<Utc>,
    /// How to get in, on the worker's host: commands, and what there is to know.
    pub enter: Vec<String>,
}

/// A maintainer's word that a task may run, for the commit that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "approval", rename_all = "snake_case")]
pub enum Approval {
    /// It waits for it once its commit is known.
    Needed,
    /// It was given.
    Given {
        /// Who.
        who: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// When.
        at: DateTime<Utc>,
    },
}
