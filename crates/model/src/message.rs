//! What is told: messages of the outbox, one for each state change, sent as CloudEvents.

use crate::{
    ids::{EventSeq, OutboxId, Position, Revision, RuleName, TaskId},
    result::{Artifact, StoredResult},
    task::{Task, TaskState},
    topic::Topic,
    verdict::VerdictKind,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A message to be told on the bus and in the live stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Its topic, also the CloudEvent's type: `taskbot.task.finished`.
    pub topic: Topic,
    /// The CloudEvent's subject: the task, event or rule that it is about.
    pub subject: String,
    /// Messages with the same key are published in the order of their making. Tasks order by task.
    pub order_key: String,
    /// The data.
    pub data: Value,
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
        let mut data = json!({
            "id": task.id,
            "name": task.name,
            "kind": task.kind.as_str(),
            "item": task.item,
            "queue": task.queue,
            "priority": task.priority,
            "state": task.state,
            "label": task.state.label(),
            "attempts": task.attempts,
            "submitter": task.submitter,
            "origin": task.origin,
            "batch": task.batch,
            "trust": task.trust,
        });
        if let TaskState::Finished { outcome, .. } = &task.state {
            // On the surface too, since rules ask for it most.
            data["outcome"] = json!(outcome);
            data["outcome_class"] = json!(outcome.class());
        }
        Self::about_task(task, change.topic(), data)
    }

    /// A result was stored.
    #[must_use]
    pub fn result(task: Option<&Task>, result: &StoredResult) -> Self {
        let data = json!(result);
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

    /// An attempt left a file that is published.
    #[must_use]
    pub fn artifact(task: &Task, artifact: &Artifact) -> Self {
        let data = json!({
            "task": task.id,
            "task_name": task.name,
            "item": task.item,
            "attempt": artifact.attempt,
            "id": artifact.id,
            "name": artifact.name,
            "size_bytes": artifact.size_bytes,
            "sha256": artifact.sha256,
            "href": format!("/api/v1/tasks/{}/artifacts/{}", task.id, artifact.id),
            "inputs": task.inputs,
        });
        Self::about_task(task, "taskbot.artifact.published", data)
    }

    /// An event came in.
    #[must_use]
    pub fn event(seq: EventSeq, event: &crate::Event, revision: &Revision) -> Self {
        Self {
            topic: "taskbot.event.received".into(),
            subject: seq.to_string(),
            order_key: format!("event:{seq}"),
            data: json!({
                "seq": seq, "source": event.source, "id": event.id, "topic": event.topic, "revision": revision,
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
            data: json!({"rule": rule, "event": seq, "event_id": event.id, "topic": event.topic, "verdict": verdict}),
            task: None,
            depth: event.depth,
            traceparent: event.traceparent.clone(),
        }
    }

    fn about_task(task: &Task, topic: &str, data: Value) -> Self {
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
