//! `tasks.yaml`: the tasks that rules may name.

use crate::{
    language::default_queue,
    load::Options,
    repo::{self, Scheme},
    source::{Place, SourceFile},
};
use model::{
    QueueName, TaskName,
    diagnostic::nearest,
    task::{Repo, Trust},
    task_file::{PHASE_TIMEOUT_MAX, read_secret_names},
    units::format_duration,
    yaml::{Node, Reader, Value as Yaml},
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

/// The file's name, at the root of the rules folder.
pub const REGISTRY_FILE: &str = "tasks.yaml";
/// The most tasks that can be registered.
pub const TASKS_MAX: usize = 10_000;
/// The most secrets of one task.
pub const SECRETS_MAX: usize = 32;

/// A registered task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: TaskName,
    /// One line for people.
    pub description: Option<String>,
    /// Where it is. A path relative to the rules folder has become absolute.
    pub repo: Arc<Repo>,
    /// Where its tasks wait, if an entry does not say.
    pub queue: QueueName,
    /// Whether each of its tests becomes a task of its own, where the repository has no task file.
    pub discover: bool,
    /// Whether it may have secrets and relaxed isolation, where the worker allows them.
    pub trust: Trust,
    /// The names of the secrets that it gets.
    pub secrets: Vec<String>,
    /// The longest that one of its tasks may take.
    pub timeout_cap: Option<Duration>,
    /// Where it stands.
    pub place: Place,
}

/// All registered tasks by name.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    tasks: BTreeMap<TaskName, Registered>,
}

impl Registry {
    /// A task by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Registered> {
        self.tasks.get(&TaskName::from(name))
    }

    /// All tasks, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.tasks.values()
    }

    /// The registered name that is nearest to one that is not registered.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.tasks.keys().map(TaskName::as_str))
    }
}

/// Reads `tasks.yaml`; mistakes are noted in the reader.
#[must_use]
pub fn read(reader: &Reader, file: &Arc<SourceFile>, base: Option<&Path>, options: &Options) -> Registry {
    let mut registry = Registry::default();
    let Some(root) = reader.parse() else { return registry };
    if matches!(root.value, Yaml::Null) {
        return registry;
    }
    let Some(mut fields) = reader.fields(&root, "the registry of tasks") else { return registry };
    let tasks = fields.require(reader, "tasks");
    fields.finish(reader);
    let Some(tasks) = tasks else { return registry };
    let Yaml::Map(entries) = &tasks.value else {
        let kind = tasks.value.kind();
        reader.error_help(
            &tasks.span,
            format!("`tasks` must be a mapping from names to repositories, it is {kind}"),
            "write `name: {git: https://host/name.git}` below it",
        );
        return registry;
    };
    if entries.len() > TASKS_MAX {
        reader
            .error(&tasks.span, format!("there are {} tasks, at most {TASKS_MAX} are taken", entries.len()));
        return registry;
    }
    for (key, node) in entries {
        if let Err(why) = check_name("a task", &key.text) {
            reader.error(&key.span, why);
        }
        let place = file.place(key.span.start);
        if let Some(task) = read_task(reader, &key.text, node, place, base, options) {
            registry.tasks.insert(task.name.clone(), task);
        }
    }
    registry
}

/// The longest name of a rule or task in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Names of rules and tasks stand in URLs, topics and keys.
///
/// # Errors
/// What is wrong, as one sentence.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if good {
        return Ok(());
    }
    Err(format!(
        "{what} cannot be named `{name}`: expected 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`, a letter or digit first"
    ))
}

fn read_task(
    reader: &Reader,
    name: &str,
    node: &Node,
    place: Place,
    base: Option<&Path>,
    options: &Options,
) -> Option<Registered> {
    let mut fields = reader.fields(node, "a registered task")?;
    let description = fields.get("description").and_then(|node| reader.text_of(node, "`description`"));
    let lab = fields.get("testflinger").and_then(|node| reader.name_of(node, "`testflinger`"));
    let git = match &lab {
        Some(_) => None,
        None => fields.require(reader, "git").and_then(|node| read_git(reader, node, base, options)),
    };
    let reference = fields.get("ref").and_then(|node| checked(reader, node, "`ref`", repo::check_ref));
    let path = fields.get("path").and_then(|node| checked(reader, node, "`path`", repo::check_folder));
    let discover = fields.get("discover").and_then(|node| reader.bool_of(node, "`discover`"));
    let queue = fields.get("queue").and_then(|node| reader.name_of(node, "`queue`"));
    let trust_node = fields.get("trust");
    let trust = trust_node.map_or(Trust::Untrusted, |node| read_trust(reader, node));
    let secrets_node = fields.get("secrets");
    let secrets = secrets_node.map(|node| read_secret_names(reader, node)).unwrap_or_default();
    let timeout_cap = fields.get("timeout").and_then(|node| read_timeout(reader, node));
    fields.finish(reader);
    if let Some(node) = secrets_node {
        if secrets.len() > SECRETS_MAX {
            reader.error(&node.span, format!("a task has at most {SECRETS_MAX} secrets"));
        }
        if trust == Trust::Untrusted {
            let help = "add `trust: trusted` if this repository may see them";
            reader.error_help(&node.span, "only a trusted task gets secrets", help);
        }
    }
    if lab.is_some() && (reference.is_some() || path.is_some() || discover.is_some() || queue.is_some()) {
        let help = "its queue stands after `testflinger:`; what the job says stands in the rule's `with`";
        let message = "a task of Testflinger's agents has no `ref`, `path`, `discover` or `queue`";
        reader.error_help(&node.span, message, help);
    }
    let (repo, queue) = match lab {
        Some(lab) => (Repo::testflinger(&lab), Some(lab)),
        None => (Repo { git: git?, reference, path }, queue),
    };
    Some(Registered {
        name: TaskName::from(name),
        description,
        repo: Arc::new(repo),
        queue: queue.map_or_else(default_queue, QueueName::from),
        discover: discover.unwrap_or(false),
        trust,
        secrets,
        timeout_cap,
        place,
    })
}

fn read_git(reader: &Reader, node: &Node, base: Option<&Path>, options: &Options) -> Option<String> {
    let text = reader.name_of(node, "`git`")?;
    let checked = if repo::is_relative(&text) {
        repo::resolve_relative(&text, base).map(|path| path.to_string_lossy().into_owned())
    } else {
        let mut schemes = Scheme::REMOTE.to_vec();
        schemes.extend(options.file_urls.then_some(Scheme::File));
        repo::parse_url(&text, &schemes).map(|_| text)
    };
    checked.map_err(|why| reader.error(&node.span, why)).ok()
}

/// A text that a function accepts.
pub(crate) fn checked(
    reader: &Reader,
    node: &Node,
    what: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<String> {
    let text = reader.name_of(node, what)?;
    check(&text).map_err(|why| reader.error(&node.span, why)).ok().map(|()| text)
}

fn read_trust(reader: &Reader, node: &Node) -> Trust {
    match reader.text_of(node, "`trust`").as_deref() {
        Some("trusted") => Trust::Trusted,
        Some("untrusted") | None => Trust::Untrusted,
        Some(other) => {
            reader.error(&node.span, format!("`trust` must be trusted or untrusted, not `{other}`"));
            Trust::Untrusted
        }
    }
}

/// A cap on the time of a task: above nothing, at most what a phase may ask for.
pub(crate) fn read_timeout(reader: &Reader, node: &Node) -> Option<Duration> {
    let timeout = reader.duration_of(node, "`timeout`")?;
    if timeout.is_zero() || timeout > PHASE_TIMEOUT_MAX {
        let max = format_duration(PHASE_TIMEOUT_MAX);
        reader.error(&node.span, format!("`timeout` must be above nothing and at most {max}"));
        return None;
    }
    Some(timeout)
}
