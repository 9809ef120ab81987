//! What is told: messages of the outbox, one for each state change, sent as CloudEvents.

use crate::{
    ids::{
        ArtifactId, BatchId, EventId, EventSeq, OutboxId, Position, QueueName, Revision, RuleName, SourceName,
    },
    ids::{Submitter, TaskId, TaskName},
    item::Item,
    outcome::Outcome,
    result::{Artifact, StoredResult},
    task::{Origin, Task, TaskState, Trust},
    topic::Topic,
    verdict::VerdictKind,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json, value::RawValue};
use std::collections::BTreeMap;

/// With how many of the files that its attempt published before an artifact is told.
pub const EARLIER_FILES_MAX: usize = 64;

/// JSON as its text: what is told is written once, and handed on as it stands.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// The text of a value; `null` for what JSON cannot say (maps with odd keys).
    #[must_use]
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    /// Takes a text over.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn parse(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The value; null for one that is nested deeper than is ever read.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(self.get()).unwrap_or_default()
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By the value, since a raw one cannot be read from within a flattened object.
        Ok(Self::of(&Value::deserialize(deserializer)?))
    }
}

/// A message to be told on the bus and in the live stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Its topic, also the CloudEvent's type: `taskbot.task.finished`.
    pub topic: Topic,
    /// The CloudEvent's subject: the task, event or rule that it is about.
    pub subject: String,
    /// Messages with the same key are published in the order of their making. Tasks order by task.
    pub order_key: String,
    /// The data: a JSON object.
    pub data: JsonText,
    /// The task that caused it.
    pub task: Option<TaskId>,
    /// How many events of ours led to it.
    pub depth: u32,
    /// The W3C trace context.
    pub traceparent: Option<String>,
}

/// A message of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its row. With the installation's name it is the CloudEvent's id.
    pub id: OutboxId,
    /// What to tell.
    #[serde(flatten)]
    pub message: NewMessage,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its place in the live stream, once it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

impl NewMessage {
    /// A task's state changed. The topic's last token is the state: `queued`, `started`, `phase`, `finished`,
    /// `cancelled`, `superseded`, `waiting`; a task going back to its queue for another attempt is `retried`.
    #[must_use]
    pub fn task(task: &Task, change: TaskChange) -> Self {
        let outcome = match &task.state {
            TaskState::Finished { outcome, .. } => Some(*outcome),
            _ => None,
        };
        let data = TaskTold {
            attempts: task.attempts,
            batch: task.batch,
            id: task.id,
            item: task.item.as_ref(),
            kind: task.kind.as_str(),
            label: task.state.label(),
            name: &task.name,
            origin: &task.origin,
            outcome,
            outcome_class: outcome.map(Outcome::class),
            priority: task.priority,
            queue: &task.queue,
            state: &task.state,
            submitter: &task.submitter,
            trust: task.trust,
        };
        Self::about_task(task, change.topic(), JsonText::of(&data))
    }

    /// A result was stored.
    #[must_use]
    pub fn result(task: Option<&Task>, result: &StoredResult) -> Self {
        let data = JsonText::of(result);
        match task {
            Some(task) => Self::about_task(task, "taskbot.result.new", data),
            None => Self {
                topic: "taskbot.result.new".into(),
                subject: result.id.to_string(),
                order_key: format!("result:{}", result.id),
                data,
                task: None,
                depth: 0,
                traceparent: None,
            },
        }
    }

    /// An attempt left a file that is published; `earlier` are those that it has published before, of which the first
    /// [`EARLIER_FILES_MAX`] are told.
    #[must_use]
    pub fn artifact(task: &Task, artifact: &Artifact, earlier: &[Artifact]) -> Self {
        let earlier = earlier.iter().take(EARLIER_FILES_MAX);
        let data = ArtifactTold {
            attempt: artifact.attempt,
            earlier: earlier.map(|file| (file.name.as_str(), FileTold::of(file))).collect(),
            href: FileTold::of(artifact).href,
            id: artifact.id,
            inputs: &task.inputs,
            item: task.item.as_ref(),
            name: &artifact.name,
            sha256: &artifact.sha256,
            size_bytes: artifact.size_bytes,
            task: task.id,
            task_name: &task.name,
        };
        Self::about_task(task, "taskbot.artifact.published", JsonText::of(&data))
    }

    /// An event came in.
    #[must_use]
    pub fn event(seq: EventSeq, event: &crate::Event, revision: &Revision) -> Self {
        Self {
            topic: "taskbot.event.received".into(),
            subject: seq.to_string(),
            order_key: format!("event:{seq}"),
            data: JsonText::of(&EventTold {
                id: &event.id,
                revision,
                seq,
                source: &event.source,
                topic: &event.topic,
            }),
            task: event.cause,
            depth: event.depth,
            traceparent: event.traceparent.clone(),
        }
    }

    /// A rule said something other than a plain non-match: `taskbot.rule.fired`, `taskbot.rule.error` …
    #[must_use]
    pub fn rule(seq: EventSeq, event: &crate::Event, rule: &RuleName, verdict: &VerdictKind) -> Self {
        Self {
            topic: Topic::new(format!("taskbot.rule.{}", verdict.as_str())),
            subject: rule.to_string(),
            order_key: format!("event:{seq}"),
            data: JsonText::of(&RuleTold {
                event: seq,
                event_id: &event.id,
                rule,
                topic: &event.topic,
                verdict,
            }),
            task: None,
            depth: event.depth,
            traceparent: event.traceparent.clone(),
        }
    }

    /// All tasks of a batch have ended. `outcomes` has the worst of each task's name, `outcome` the worst of
    /// all; a task that was cancelled or superseded counts as that, every error as `error`.
    #[must_use]
    pub fn batch(batch: BatchId, name: &str, ended: &[EndedTasks], depth: u32) -> Self {
        let mut counts = BTreeMap::new();
        let mut outcomes: BTreeMap<&TaskName, &str> = BTreeMap::new();
        for tasks in ended {
            let class = tasks.class();
            *counts.entry(class).or_insert(0) += tasks.count;
            let worst = outcomes.entry(&tasks.name).or_insert(class);
            if badness(class) > badness(worst) {
                *worst = class;
            }
        }
        let worst = counts.keys().max_by_key(|class| badness(class));
        Self {
            topic: "taskbot.batch.finished".into(),
            subject: batch.to_string(),
            order_key: format!("batch:{batch}"),
            data: JsonText::of(&json!({
                "id": batch,
                "name": name,
                "tasks": ended.iter().map(|tasks| tasks.count).sum::<u64>(),
                "outcome": worst,
                "outcomes": outcomes,
                "counts": counts,
            })),
            task: None,
            depth,
            traceparent: None,
        }
    }

    fn about_task(task: &Task, topic: &str, data: JsonText) -> Self {
        Self {
            topic: topic.into(),
            subject: task.id.to_string(),
            order_key: format!("task:{}", task.id),
            data,
            task: Some(task.id),
            depth: task.depth,
            traceparent: task.traceparent.clone(),
        }
    }
}

/// What is told of a task.
#[derive(Serialize)]
struct TaskTold<'a> {
    attempts: u32,
    batch: Option<BatchId>,
    id: TaskId,
    item: Option<&'a Item>,
    kind: &'static str,
    label: String,
    name: &'a TaskName,
    origin: &'a Origin,
    // On the surface too, since rules ask for it most.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome_class: Option<&'static str>,
    priority: i32,
    queue: &'a QueueName,
    state: &'a TaskState,
    submitter: &'a Submitter,
    trust: Trust,
}

/// What is told of an artifact.
#[derive(Serialize)]
struct ArtifactTold<'a> {
    attempt: u32,
    earlier: BTreeMap<&'a str, FileTold<'a>>,
    href: String,
    id: ArtifactId,
    inputs: &'a Map<String, Value>,
    item: Option<&'a Item>,
    name: &'a str,
    sha256: &'a str,
    size_bytes: u64,
    task: TaskId,
    task_name: &'a TaskName,
}

/// What another task needs to have a file at hand.
#[derive(Serialize)]
struct FileTold<'a> {
    href: String,
    id: ArtifactId,
    sha256: &'a str,
    size_bytes: u64,
}

impl<'a> FileTold<'a> {
    fn of(file: &'a Artifact) -> Self {
        Self {
            href: format!("/api/v1/tasks/{}/artifacts/{}", file.task, file.id),
            id: file.id,
            sha256: &file.sha256,
            size_bytes: file.size_bytes,
        }
    }
}

/// What is told of an event.
#[derive(Serialize)]
struct EventTold<'a> {
    id: &'a EventId,
    revision: &'a Revision,
    seq: EventSeq,
    source: &'a SourceName,
    topic: &'a Topic,
}

/// What is told of a rule's verdict.
#[derive(Serialize)]
struct RuleTold<'a> {
    event: EventSeq,
    event_id: &'a EventId,
    rule: &'a RuleName,
    topic: &'a Topic,
    verdict: &'a VerdictKind,
}

/// Tasks of a batch that ended alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTasks {
    /// Their name.
    pub name: TaskName,
    /// Their outcome, or `cancelled` or `superseded`.
    pub word: String,
    /// How many.
    pub count: u64,
}

impl EndedTasks {
    fn class(&self) -> &str {
        self.word.parse::<Outcome>().map_or(self.word.as_str(), |outcome| outcome.class())
    }
}

/// How bad an end is; what never got to an outcome is worse than a good one, and better than a bad one.
fn badness(class: &str) -> u8 {
    match class {
        "superseded" => 35,
        "cancelled" => 36,
        outcome => outcome.parse::<Outcome>().map_or(0, |outcome| outcome.severity() * 10),
    }
}

/// What happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskChange {
    /// It was made.
    Created,
    /// It waits for another reason.
    Waiting,
    /// It can be claimed.
    Queued,
    /// No known worker can run it.
    Unmet,
    /// A worker claimed it.
    Started,
    /// Its worker entered another phase.
    Phase,
    /// It goes back to its queue for another attempt.
    Retried,
    /// It ended with an outcome.
    Finished,
    /// It was cancelled.
    Cancelled,
    /// A newer one took its place.
    Superseded,
}

impl TaskChange {
    /// The topic of its message.
    #[must_use]
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Created => "taskbot.task.created",
            Self::Waiting => "taskbot.task.waiting",
            Self::Queued => "taskbot.task.queued",
            Self::Unmet => "taskbot.task.unmet",
            Self::Started => "taskbot.task.started",
            Self::Phase => "taskbot.task.phase",
            Self::Retried => "taskbot.task.retried",
            Self::Finished => "taskbot.task.finished",
            Self::Cancelled => "taskbot.task.cancelled",
            Self::Superseded => "taskbot.task.superseded",
        }
    }

    /// The change that led into a final state.
    #[must_use]
    pub const fn into_final(state: &TaskState) -> Self {
        match state {
            TaskState::Cancelled { .. } => Self::Cancelled,
            TaskState::Superseded { .. } => Self::Superseded,
            _ => Self::Finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_tells_the_worst_of_each_task() {
        let check = |ended: &[(&str, &str, u64)], expect: Value| {
            let ended: Vec<_> = ended
                .iter()
                .map(|(name, word, count)| EndedTasks {
                    name: (*name).into(),
                    word: (*word).to_owned(),
                    count: *count,
                })
                .collect();
            let message = NewMessage::batch(BatchId::new(uuid::Uuid::nil()), "nightly", &ended, 1);
            let mut data = message.data.value();
            data.as_object_mut().unwrap().retain(|field, _| !["id", "name"].contains(&field.as_str()));
            assert_eq!(data, expect);
        };
        check(
            &[
                ("depcheck", "error(infra)", 1),
                ("depcheck", "failed", 1),
                ("rpmlint", "passed", 3),
                ("rpmlint", "skipped", 1),
            ],
            json!({
                "tasks": 6,
                "outcome": "error",
                "outcomes": {"depcheck": "error", "rpmlint": "passed"},
                "counts": {"error": 1, "failed": 1, "passed": 3, "skipped": 1},
            }),
        );
        check(
            &[("rpmlint", "cancelled", 1), ("rpmlint", "info", 1), ("rpmlint", "superseded", 1)],
            json!({
                "tasks": 3,
                "outcome": "cancelled",
                "outcomes": {"rpmlint": "cancelled"},
                "counts": {"cancelled": 1, "info": 1, "superseded": 1},
            }),
        );
    }
}
