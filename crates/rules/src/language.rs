//! What a rule says, after loading: everything named is resolved, every script and template compiled.

pub(crate) mod visit;

use crate::{
    predicate::Block,
    schedule::{Missed, Times},
    script::{Engine, Scope, Script},
    source::{Place, RuleError, Scripted, SourceFile},
    template::Template,
};
use model::{
    Limits, QueueName, RuleName, TaskName, TopicPattern,
    requirements::Requirements,
    task::{OnNew, Repo, Trust},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{ops::Range, sync::Arc, time::Duration};

/// The variable with all events that were collected.
pub const EVENTS: &str = "events";

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its unique name.
    pub name: RuleName,
    /// One sentence for people.
    pub description: Option<String>,
    /// Where its name stands.
    pub place: Place,
    /// The bytes of its name in the file.
    pub span: Range<usize>,
    /// The file that it stands in.
    pub(crate) source: Arc<SourceFile>,
    /// The topics it listens to; any of them. Empty for a rule on a schedule.
    pub on: Vec<TopicPattern>,
    /// The times at which it fires, instead of topics.
    pub schedule: Option<ScheduleEntry>,
    /// Whether it acts.
    pub mode: Mode,
    /// Clauses that must all hold.
    pub when: Block,
    /// Blocks none of which may hold as a whole.
    pub unless: Vec<Block>,
    /// Blocks one of which must hold as a whole; empty asks nothing.
    pub any: Vec<Block>,
    /// What the clauses cannot say.
    pub condition: Option<Scripted<Script>>,
    /// How events are collected for a later firing.
    pub collect: Option<CollectEntry>,
    /// Loops around `then`, the outermost first.
    pub for_each: Vec<ForEach>,
    /// Values with names, each of which may use those before it.
    pub lets: Vec<Let>,
    /// What is wished.
    pub then: Vec<Entry>,
    /// How the same wish from two events is joined.
    pub dedupe: Option<DedupeEntry>,
    /// How many tasks it may make.
    pub limits: Option<Limits>,
}

impl Rule {
    /// Whether anything but the topic decides if it fires.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        !(self.when.is_empty() && self.unless.is_empty() && self.any.is_empty() && self.condition.is_none())
    }

    /// Where a text stands first in the rule; the name's place if it does not.
    pub(crate) fn find(&self, text: &str) -> Range<usize> {
        let start = self.span.start;
        let found =
            self.source.text().get(start..).filter(|_| !text.is_empty()).and_then(|rest| rest.find(text));
        found.map_or_else(|| self.span.clone(), |at| start + at..start + at + text.len())
    }

    /// The rule as lists show it: its name, place, topics or times, mode and tasks.
    #[must_use]
    pub fn summary(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "description": self.description,
            "file": &*self.place.file,
            "line": self.place.line,
            "on": self.on,
            "schedule": self.schedule.as_ref().map(|schedule| schedule.times.source()),
            "mode": self.mode,
            "tasks": self.task_names().collect::<Vec<_>>(),
        })
    }

    /// The names of the tasks that it may wish, in the order of `then`.
    pub fn task_names(&self) -> impl Iterator<Item = &TaskName> {
        self.then.iter().filter_map(|entry| match &entry.action {
            Action::Task(task) => Some(&task.task),
            Action::Cancel(_) | Action::Emit(_) => None,
        })
    }
}

/// Whether a rule acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does.
    #[default]
    Active,
    /// Only its verdicts are recorded.
    Shadow,
    /// It is not evaluated.
    Off,
}

impl Mode {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

/// A text that may hold `${…}`.
#[derive(Debug)]
pub enum Text {
    /// It holds none.
    Constant(String),
    /// It holds some.
    Template(Scripted<Template>),
}

impl Text {
    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        match self {
            Self::Constant(text) => text,
            Self::Template(template) => template.source(),
        }
    }

    /// The value: a text, or what a sole `${…}` gives.
    ///
    /// # Errors
    /// What an expression erred with, and where.
    pub fn value(&self, engine: &Engine, scope: &Scope) -> Result<Value, RuleError> {
        match self {
            Self::Constant(text) => Ok(Value::String(text.clone())),
            Self::Template(template) => template.render(engine, scope),
        }
    }

    /// The value as a text: numbers and booleans as they print.
    ///
    /// # Errors
    /// What an expression erred with, and where; also when it gives null, a list or an object.
    pub fn text(&self, engine: &Engine, scope: &Scope) -> Result<String, RuleError> {
        let template = match self {
            Self::Constant(text) => return Ok(text.clone()),
            Self::Template(template) => template,
        };
        match self.value(engine, scope)? {
            Value::String(text) => Ok(text),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
            Value::Null => {
                let message =
                    format!("`{}` must give a text: the event does not have this field", template.source());
                Err(template.mistake(message))
            }
            other => {
                let kind = model::event::json_kind(&other);
                Err(template.mistake(format!("`{}` must give a text, it gives {kind}", template.source())))
            }
        }
    }

    /// A mistake in its value, seen after rendering; `place` is that of the entry around it.
    #[must_use]
    pub fn mistake(&self, place: &Place, message: impl Into<String>) -> RuleError {
        match self {
            // Constants were checked when they were loaded: this comes from templates.
            Self::Constant(_) => RuleError { message: message.into(), place: place.clone() },
            Self::Template(template) => template.mistake(message),
        }
    }
}

/// A tree of values with templates in it.
#[derive(Debug)]
pub enum Tree {
    /// Nothing in it is scripted.
    Constant(Value),
    /// A text with `${…}`.
    Text(Scripted<Template>),
    /// A list.
    List(Vec<Tree>),
    /// A mapping.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The names of a mapping.
    pub(crate) fn keys(&self) -> Vec<&str> {
        match self {
            Self::Constant(Value::Object(fields)) => fields.keys().map(String::as_str).collect(),
            Self::Map(entries) => entries.iter().map(|(name, _)| name.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// As it was written, in one form for all layouts.
    pub(crate) fn source(&self) -> String {
        match self {
            Self::Constant(value) => value.to_string(),
            Self::Text(template) => Value::from(template.source()).to_string(),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::source).collect::<Vec<_>>().join(","))
            }
            Self::Map(entries) => {
                let mut entries: Vec<_> =
                    entries.iter().map(|(name, tree)| format!("{name}:{}", tree.source())).collect();
                entries.sort();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    /// The value, with all templates rendered.
    ///
    /// # Errors
    /// What an expression erred with, and where.
    pub fn value(&self, engine: &Engine, scope: &Scope) -> Result<Value, RuleError> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Text(template) => template.render(engine, scope),
            Self::List(items) => items.iter().map(|item| item.value(engine, scope)).collect(),
            Self::Map(_) => self.map(engine, scope).map(Value::Object),
        }
    }

    /// The value of a tree that is a mapping; empty for any other.
    ///
    /// # Errors
    /// What an expression erred with, and where.
    pub fn map(&self, engine: &Engine, scope: &Scope) -> Result<Map<String, Value>, RuleError> {
        match self {
            Self::Constant(Value::Object(fields)) => Ok(fields.clone()),
            Self::Map(entries) => {
                entries.iter().map(|(name, tree)| Ok((name.clone(), tree.value(engine, scope)?))).collect()
            }
            _ => Ok(Map::new()),
        }
    }
}

/// A loop: a variable that takes each value of a list.
#[derive(Debug)]
pub struct ForEach {
    /// The variable's name.
    pub variable: String,
    /// The list.
    pub values: Values,
    /// Values of which this does not hold are left out.
    pub condition: Option<Scripted<Script>>,
}

/// A list of values.
#[derive(Debug)]
pub enum Values {
    /// Written out, and where.
    List(Vec<Tree>, Place),
    /// What an expression gives.
    Script(Scripted<Script>),
    /// What a sole `${…}` gives.
    Template(Scripted<Template>),
}

/// One entry of `then`.
#[derive(Debug)]
pub struct Entry {
    /// Its place among all entries of the rule, counted from 0; those of batches are counted through.
    pub number: u32,
    /// Where it stands.
    pub place: Place,
    /// The name of the batch around it.
    pub batch: Option<Arc<Text>>,
    /// What it wishes.
    pub action: Action,
}

/// What an entry of `then` wishes.
#[derive(Debug)]
pub enum Action {
    /// A task.
    Task(Box<TaskEntry>),
    /// The cancellation of tasks.
    Cancel(CancelEntry),
    /// A message.
    Emit(EmitEntry),
}

/// Which tasks of an entry a maintainer must let run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Approve {
    /// None.
    #[default]
    Never,
    /// Those that are not trusted.
    Untrusted,
    /// All.
    Always,
}

/// A task to be wished.
#[derive(Debug)]
pub struct TaskEntry {
    /// Its name in the registry, or its own where the repository is given here.
    pub task: TaskName,
    /// The repository.
    pub repo: Arc<Repo>,
    /// What is given here in place of the registry's.
    pub overrides: RepoOverrides,
    /// Whether it may have secrets: with a repository given here only if the author is trusted.
    pub trust: Trust,
    /// Whether each of its tests becomes a task of its own, where the repository has no task file.
    pub discover: bool,
    /// The names of the secrets that its registration grants it.
    pub secrets: Vec<String>,
    /// Who caused the event; if given, the task is trusted only if the configuration lists them.
    pub author: Option<Text>,
    /// When a maintainer must let it run.
    pub approve: Approve,
    /// What is tested.
    pub item: Option<ItemEntry>,
    /// The inputs.
    pub with: Tree,
    /// The cells, for each of which the task is made once.
    pub matrix: Matrix,
    /// What it needs of a worker.
    pub needs: NeedsEntry,
    /// Where it waits.
    pub queue: QueueEntry,
    /// How urgent it is.
    pub priority: PriorityEntry,
    /// The group it belongs to.
    pub group: Option<GroupEntry>,
    /// The longest it may take.
    pub timeout_cap: Option<Duration>,
}

/// A repository's parts that an entry gives itself.
#[derive(Debug, Default)]
pub struct RepoOverrides {
    /// The URL.
    pub git: Option<Text>,
    /// The branch, tag or commit.
    pub reference: Option<Text>,
    /// The folder.
    pub path: Option<Text>,
}

impl RepoOverrides {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.git.is_none() && self.reference.is_none() && self.path.is_none()
    }
}

/// An item.
#[derive(Debug)]
pub struct ItemEntry {
    /// Its type.
    pub kind: Text,
    /// Which one.
    pub id: Text,
}

/// Axes, and the cells that are left out and added.
#[derive(Debug, Default)]
pub struct Matrix {
    /// The axes.
    pub axes: Vec<Axis>,
    /// Objects: a cell that has all their fields is left out.
    pub exclude: Option<Values>,
    /// Objects: each adds fields to the cells whose axes it agrees with, or is a cell of its own.
    pub include: Option<Values>,
}

impl Values {
    /// As they were written, in one form for all layouts.
    pub(crate) fn source(&self) -> String {
        match self {
            Self::List(items, _) => items.iter().map(Tree::source).collect::<Vec<_>>().join(","),
            Self::Script(script) => script.source().to_owned(),
            Self::Template(template) => template.source().to_owned(),
        }
    }
}

impl Matrix {
    /// As it was written, in one form for all layouts.
    pub(crate) fn source(&self) -> String {
        let axes: Vec<_> =
            self.axes.iter().map(|axis| format!("{}:{}", axis.name, axis.values.source())).collect();
        let cells = |cells: &Option<Values>| cells.as_ref().map(Values::source);
        format!("{axes:?} {:?} {:?}", cells(&self.exclude), cells(&self.include))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.axes.is_empty() && self.include.is_none()
    }
}

/// An axis of a matrix.
#[derive(Debug)]
pub struct Axis {
    /// Its name: `arch` is `matrix.arch` in expressions.
    pub name: String,
    /// Its values.
    pub values: Values,
}

/// Requirements, of which some may be templates.
#[derive(Debug, Default)]
pub struct NeedsEntry {
    /// Those that are written out.
    pub constant: Requirements,
    /// The architecture.
    pub arch: Option<Text>,
    /// Labels.
    pub labels: Vec<Text>,
    /// A size such as `2G`.
    pub memory: Option<Text>,
    /// A size such as `20G`.
    pub disk: Option<Text>,
    /// A number.
    pub cpus: Option<Text>,
    /// A boolean.
    pub kvm: Option<Text>,
}

/// A queue.
#[derive(Debug)]
pub enum QueueEntry {
    /// As registered.
    Registered(QueueName),
    /// What the entry says.
    Text(Text),
}

/// A priority.
#[derive(Debug)]
pub enum PriorityEntry {
    /// Written out.
    Constant(i32),
    /// A template that gives a whole number.
    Text(Text),
}

/// A group.
#[derive(Debug)]
pub struct GroupEntry {
    /// Its name, global.
    pub name: Text,
    /// What a new task does to the older ones.
    pub on_new: OnNew,
    /// How many may run.
    pub max_running: Option<u32>,
}

/// Which tasks to cancel.
#[derive(Debug)]
pub enum CancelEntry {
    /// Those of an item.
    Item(ItemEntry),
    /// Those of a group.
    Group(Text),
}

/// A message.
#[derive(Debug)]
pub struct EmitEntry {
    /// Its topic.
    pub topic: Text,
    /// Its body, a mapping.
    pub body: Tree,
}

/// The times of a rule.
#[derive(Debug)]
pub struct ScheduleEntry {
    /// The times.
    pub times: Times,
    /// What becomes of those at which nobody was there.
    pub missed: Missed,
}

/// How events are collected for a later firing.
#[derive(Debug)]
pub struct CollectEntry {
    /// Events with the same key are collected together, within the rule.
    pub key: Text,
    /// The firing comes when no further event came for so long.
    pub quiet: Duration,
    /// But at the latest so long after the first event.
    pub at_most_every: Option<Duration>,
}

/// A value with a name.
#[derive(Debug)]
pub struct Let {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Scripted<Script>,
    /// Whether it reads only what the event itself gives: neither loops nor collected events.
    pub of_event: bool,
}

/// How the same wish from two events is joined.
#[derive(Debug)]
pub struct DedupeEntry {
    /// The key, within rule, entry and matrix cell.
    pub key: Text,
    /// For how long.
    pub window: Duration,
}

/// The default queue, for tasks whose registration names none.
pub const QUEUE_DEFAULT: &str = "default";

/// The default queue.
#[must_use]
pub fn default_queue() -> QueueName {
    QueueName::from(QUEUE_DEFAULT)
}
