//! What a rule says, after loading: everything named is resolved, every script and template compiled.

use crate::{
    predicate::Block,
    script::{Engine, Scope, Script, ScriptError},
    template::Template,
};
use model::{
    QueueName, RuleName, TaskName, TopicPattern,
    requirements::Requirements,
    task::{OnNew, Repo, Trust},
    verdict::VerdictKind,
    yaml::{Node, Reader},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, ops::Range, sync::Arc, time::Duration};

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
    /// The topics it listens to; any of them.
    pub on: Vec<TopicPattern>,
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
    /// Loops around `then`, the outermost first.
    pub for_each: Vec<ForEach>,
    /// What is wished.
    pub then: Vec<Entry>,
    /// How the same wish from two events is joined.
    pub dedupe: Option<DedupeEntry>,
}

impl Rule {
    /// Whether anything but the topic decides if it fires.
    #[must_use]
    pub const fn is_guarded(&self) -> bool {
        !(self.when.is_empty() && self.unless.is_empty() && self.any.is_empty() && self.condition.is_none())
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

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named when loading.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    /// `file:line:column`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A file that was read.
#[derive(Debug)]
pub struct SourceFile {
    name: Arc<str>,
    text: Arc<str>,
    /// The byte that each line begins with.
    lines: Vec<usize>,
}

impl SourceFile {
    /// A file of a name and a text.
    #[must_use]
    pub fn new(name: &str, text: &Arc<str>) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { name: name.into(), text: Arc::clone(text), lines: std::iter::once(0).chain(breaks).collect() }
    }

    /// The place of a byte.
    #[must_use]
    pub fn place(&self, byte: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= byte);
        let start = self.lines[line - 1];
        let column = self.text.get(start..byte).map_or(0, |before| before.chars().count()) + 1;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place { file: Arc::clone(&self.name), line: number(line), column: number(column) }
    }
}

/// A script or template, and the text in a file that it was made from.
#[derive(Debug)]
pub struct Scripted<T> {
    /// What it became.
    pub compiled: T,
    file: Arc<SourceFile>,
    node: Node,
}

impl<T> Scripted<T> {
    /// Keeps where it came from; the node must be a text.
    #[must_use]
    pub const fn new(compiled: T, file: Arc<SourceFile>, node: Node) -> Self {
        Self { compiled, file, node }
    }

    /// Its text.
    #[must_use]
    pub fn source(&self) -> &str {
        self.node.as_text().unwrap_or_default()
    }

    /// The place of a part of the text.
    #[must_use]
    pub fn place(&self, bytes: Range<usize>) -> Place {
        let reader = Reader::new(&self.file.name, &self.file.text);
        self.file.place(reader.inside(&self.node, bytes).start)
    }

    /// A mistake in the text as a whole.
    #[must_use]
    pub fn mistake(&self, message: impl Into<String>) -> RuleError {
        RuleError { message: message.into(), place: self.place(0..0) }
    }

    fn script_error(&self, error: ScriptError) -> RuleError {
        let place = self.place(error.span.clone());
        let message = match error.help {
            Some(help) => format!("{} ({help})", error.message),
            None => error.message,
        };
        RuleError { message, place }
    }
}

impl Scripted<Template> {
    /// The template's value: a text, or what a sole `${…}` gives.
    ///
    /// # Errors
    /// What an expression erred with, and where.
    pub fn render(&self, engine: &Engine, scope: &Scope) -> Result<Value, RuleError> {
        self.compiled.render(engine, scope).map_err(|error| self.script_error(error))
    }
}

impl Scripted<Script> {
    /// The script's value.
    ///
    /// # Errors
    /// What the script erred with, and where.
    pub fn value(&self, engine: &Engine, scope: &Scope) -> Result<Value, RuleError> {
        self.compiled.eval(engine, scope).map_err(|error| self.script_error(error))
    }

    /// The script's value, which must be a boolean.
    ///
    /// # Errors
    /// What the script erred with, and where; also when it gives anything but a boolean.
    pub fn holds(&self, engine: &Engine, scope: &Scope) -> Result<bool, RuleError> {
        self.compiled.eval_bool(engine, scope).map_err(|error| self.script_error(error))
    }
}

/// A mistake that shows only when a rule is evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct RuleError {
    /// What went wrong.
    pub message: String,
    /// Where.
    pub place: Place,
}

impl From<RuleError> for VerdictKind {
    fn from(error: RuleError) -> Self {
        let RuleError { message, place } = error;
        Self::Error { message, file: place.file.to_string(), line: place.line, column: place.column }
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

/// A task to be wished.
#[derive(Debug)]
pub struct TaskEntry {
    /// Its name in the registry, or its own where the repository is given here.
    pub task: TaskName,
    /// The repository.
    pub repo: Repo,
    /// What is given here in place of the registry's.
    pub overrides: RepoOverrides,
    /// Whether it may have secrets.
    pub trust: Trust,
    /// What is tested.
    pub item: Option<ItemEntry>,
    /// The inputs.
    pub with: Tree,
    /// The axes of the matrix.
    pub matrix: Vec<Axis>,
    /// What it needs of a worker.
    pub needs: NeedsEntry,
    /// Where it waits.
    pub queue: Text,
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
