//! What rules wish: tasks, cancellations, messages.

use model::{
    Event, EventId, Item, Limits, QueueName, Requirements, Revision, RuleName, TaskKey, TaskName, Topic,
    ids::GroupName,
    task::{Group, OnNew, Repo, Trust},
    task_key::KeyParts,
    units::format_duration,
};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

/// A task that a rule wishes.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskWish {
    /// The rule.
    pub rule: RuleName,
    /// The rule set's revision.
    pub revision: Revision,
    /// The entry in `then`.
    pub entry: u32,
    /// The task.
    pub task: TaskName,
    /// Where it is.
    pub repo: Arc<Repo>,
    /// What is tested.
    pub item: Option<Item>,
    /// The matrix cell; empty without a matrix.
    pub cell: Map<String, Value>,
    /// The inputs, at most [`model::task::INPUTS_BYTES_MAX`] as JSON text.
    pub inputs: Map<String, Value>,
    /// Where it waits.
    pub queue: QueueName,
    /// How urgent it is, within [`model::task::PRIORITY_MAX`].
    pub priority: i32,
    /// What it needs of a worker.
    pub needs: Requirements,
    /// The group it belongs to.
    pub group: Option<Group>,
    /// The name of the batch it belongs to.
    pub batch: Option<String>,
    /// How the same wish from another event is joined with it.
    pub dedupe: Option<Dedupe>,
    /// How many tasks the rule may make.
    pub limits: Option<Limits>,
    /// Whether it may have secrets.
    pub trust: Trust,
    /// Whether each of its tests becomes a task of its own, where the repository has no task file.
    pub discover: bool,
    /// The names of the secrets that it may have; none when it is not trusted.
    pub secrets: Vec<String>,
    /// Whether a maintainer must let it run.
    pub approve: bool,
    /// The longest it may take.
    pub timeout_cap: Option<Duration>,
    /// The rule is in shadow mode: the task must not be made.
    pub shadow: bool,
}

/// How the same wish from two events is joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// The key, already within rule, entry and matrix cell: equal keys are equal wishes.
    pub key: String,
    /// For how long.
    pub window: Duration,
}

impl TaskWish {
    /// The key that makes the task once; `generation` counts the event's replays.
    #[must_use]
    pub fn key(&self, event: &Event, generation: u32) -> TaskKey {
        TaskKey::of_wish(KeyParts {
            domain: &event.domain,
            event: event.id.as_str(),
            generation,
            rule: self.rule.as_str(),
            entry: self.entry,
            item: self.item.as_ref(),
            cell: &Value::Object(self.cell.clone()),
            inputs: &Value::Object(self.inputs.clone()),
        })
    }

    /// The wish in the words of an entry of `then`, with all that is rendered or defaulted.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut shown = json!({
            "task": self.task,
            "git": self.repo.git,
            "with": self.inputs,
            "queue": self.queue,
            "priority": self.priority,
            "trust": self.trust,
        });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown[name] = value;
            }
        };
        put("ref", self.repo.reference.as_ref().map(|text| json!(text)));
        put("path", self.repo.path.as_ref().map(|text| json!(text)));
        put("item", self.item.as_ref().map(|item| json!(item)));
        put("matrix", (!self.cell.is_empty()).then(|| json!(self.cell)));
        put("needs", (self.needs != Requirements::default()).then(|| json!(self.needs)));
        put("group", self.group.as_ref().map(group_json));
        put("batch", self.batch.as_ref().map(|name| json!({"name": name})));
        put(
            "dedupe",
            self.dedupe
                .as_ref()
                .map(|dedupe| json!({"key": dedupe.key, "window": format_duration(dedupe.window)})),
        );
        put("discover", self.discover.then_some(Value::Bool(true)));
        put("secrets", (!self.secrets.is_empty()).then(|| json!(self.secrets)));
        put("approve", self.approve.then_some(Value::Bool(true)));
        put("timeout", self.timeout_cap.map(|cap| json!(format_duration(cap))));
        shown
    }
}

fn group_json(group: &Group) -> Value {
    let mut shown = json!({"name": group.name});
    if group.on_new != OnNew::Keep {
        shown["on_new"] = json!(group.on_new);
    }
    if let Some(max) = group.max_running {
        shown["max_running"] = json!(max);
    }
    shown
}

/// An event that a rule collects: it fires later, once for all that it collected under the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectWish {
    /// The rule.
    pub rule: RuleName,
    /// The rule set's revision.
    pub revision: Revision,
    /// Events with the same key are collected together, within the rule.
    pub key: String,
    /// The firing comes when no further event came for so long.
    pub quiet: Duration,
    /// But at the latest so long after the first event.
    pub at_most_every: Option<Duration>,
    /// The rule is in shadow mode: what comes of it is only shown.
    pub shadow: bool,
}

impl CollectWish {
    /// The wish in the words of a rule.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut shown = json!({"key": self.key, "quiet": format_duration(self.quiet)});
        if let Some(most) = self.at_most_every {
            shown["at_most_every"] = json!(format_duration(most));
        }
        json!({"collect": shown})
    }
}

/// The cancellation of tasks that a rule wishes.
#[derive(Debug, Clone, PartialEq)]
pub struct CancelWish {
    /// The rule.
    pub rule: RuleName,
    /// The rule set's revision.
    pub revision: Revision,
    /// The entry in `then`.
    pub entry: u32,
    /// Which tasks.
    pub what: CancelWhat,
    /// The rule is in shadow mode: nothing must be cancelled.
    pub shadow: bool,
}

/// Which tasks to cancel, of those that have not ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CancelWhat {
    /// Those of an item.
    Item(Item),
    /// Those of a group.
    Group(GroupName),
}

impl CancelWish {
    /// The wish in the words of an entry of `then`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.what {
            CancelWhat::Item(item) => json!({"cancel": {"item": item}}),
            CancelWhat::Group(name) => json!({"cancel": {"group": name}}),
        }
    }
}

/// A message that a rule wishes.
#[derive(Debug, Clone, PartialEq)]
pub struct EmitWish {
    /// The rule.
    pub rule: RuleName,
    /// The rule set's revision.
    pub revision: Revision,
    /// The entry in `then`.
    pub entry: u32,
    /// Its topic; never one of ours.
    pub topic: Topic,
    /// Its body, at most [`crate::evaluate::EMIT_BYTES_MAX`] as JSON text.
    pub body: Map<String, Value>,
    /// The depth of the event that it becomes.
    pub depth: u32,
    /// The rule is in shadow mode: the message must not be sent.
    pub shadow: bool,
}

impl EmitWish {
    /// The id of the event that it becomes: the same wish always gets the same, so that it happens once.
    #[must_use]
    pub fn id(&self, event: &Event, generation: u32) -> EventId {
        let key = TaskKey::of_wish(KeyParts {
            domain: &event.domain,
            event: event.id.as_str(),
            generation,
            rule: self.rule.as_str(),
            entry: self.entry,
            item: None,
            cell: &json!({"emit": self.topic}),
            inputs: &Value::Object(self.body.clone()),
        });
        EventId::new(format!("emit:{key}"))
    }

    /// The wish in the words of an entry of `then`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"emit": {"topic": self.topic, "body": self.body}})
    }
}
