//! `task.yaml`: how a task repository says what it is and how it runs.

use crate::{
    diagnostic::Report,
    outcome::Outcome,
    requirements::{ExecutorKind, Requirements},
    retry::{RETRIES_MAX, RetryOn, RetryPolicy},
    yaml::{Fields, Node, Reader, Value as Yaml},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};

/// The name of the file.
pub const TASK_FILE: &str = "task.yaml";
/// The longest that one phase may ask for.
pub const PHASE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most that `artifacts.max` may ask for, in bytes.
pub const ARTIFACTS_BYTES_MAX: u64 = 20 * 1024 * 1024 * 1024;
/// What `artifacts.max` is when it is not given, in bytes.
pub const ARTIFACTS_BYTES_DEFAULT: u64 = 50 * 1024 * 1024;
/// The most entries of a list in the file.
pub const LIST_MAX: usize = 1000;

/// A task file, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskFile {
    /// The task's name.
    pub name: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// One line for people.
    pub description: Option<String>,
    /// The inputs by name.
    pub inputs: BTreeMap<String, Input>,
    /// Where it can run, the most wanted first.
    pub environment: Vec<Environment>,
    /// What it needs of a worker beyond its environment.
    pub needs: Requirements,
    /// External files.
    pub fetch: Vec<Fetch>,
    /// Commands that may install packages, with network.
    pub prepare: Vec<String>,
    /// The commands of the test itself.
    pub run: Vec<String>,
    /// Commands that run whatever happened.
    pub cleanup: Vec<String>,
    /// Time limits.
    pub timeout: Timeouts,
    /// What results it gives.
    pub results: Results,
    /// What files it leaves.
    pub artifacts: Artifacts,
    /// When it wants another attempt.
    pub retry: RetryPolicy,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: InputKind,
    /// Whether it must be given.
    pub required: bool,
    /// Its value when it is not given.
    pub default: Option<Value>,
    /// One line for people.
    pub description: Option<String>,
    /// The only values it may have; empty for any.
    pub choices: Vec<Value>,
}

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list.
    List,
    /// A mapping.
    Map,
}

impl InputKind {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::List => "list",
            Self::Map => "map",
        }
    }

    fn takes(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Map => value.is_object(),
        }
    }
}

const INPUT_KINDS: [InputKind; 6] = [
    InputKind::String,
    InputKind::Integer,
    InputKind::Number,
    InputKind::Boolean,
    InputKind::List,
    InputKind::Map,
];

/// Where a task can run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A container.
    Container(ContainerWish),
    /// A virtual machine.
    Vm(VmWish),
    /// bubblewrap on the worker's host.
    Sandbox(HostWish),
    /// The worker's host without isolation.
    Local(HostWish),
    /// A program that provides environments.
    External(ExternalWish),
}

impl Environment {
    /// The executor that it needs.
    #[must_use]
    pub const fn executor(&self) -> ExecutorKind {
        match self {
            Self::Container(_) => ExecutorKind::Container,
            Self::Vm(_) => ExecutorKind::Vm,
            Self::Sandbox(_) => ExecutorKind::Sandbox,
            Self::Local(_) => ExecutorKind::Local,
            Self::External(_) => ExecutorKind::External,
        }
    }
}

/// Limits that every environment has; the worker's own limits cap them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sizes {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Processors.
    pub cpus: Option<u32>,
    /// Disk space in bytes.
    pub disk_bytes: Option<u64>,
    /// Processes at the same time.
    pub processes: Option<u32>,
}

/// A relaxation that a task asks for; only the worker's configuration grants it, and never to untrusted tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Relaxed {
    /// `run` has network.
    pub network: bool,
    /// `run` is root.
    pub root: bool,
    /// `run` can write everywhere in its root file system.
    pub writable_root: bool,
    /// `run` keeps these capabilities.
    pub capabilities: Vec<String>,
}

/// `container: {image: …}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerWish {
    /// The image; the worker's default when missing.
    pub image: Option<String>,
    /// Its sizes.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// What it asks to have relaxed.
    #[serde(flatten)]
    pub relaxed: Relaxed,
}

/// `vm: {image: …, memory: 2G, disk: 20G}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmWish {
    /// The image.
    pub image: Option<String>,
    /// Its sizes.
    #[serde(flatten)]
    pub sizes: Sizes,
}

/// `sandbox: {}` or `local: {}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostWish {
    /// Programs that must be on the worker's path.
    pub programs: Vec<String>,
    /// Its sizes.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// What it asks to have relaxed.
    #[serde(flatten)]
    pub relaxed: Relaxed,
}

/// `external: {provider: …}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExternalWish {
    /// The provider's name in the worker's configuration.
    pub provider: String,
    /// What it is to provide.
    pub with: Map<String, Value>,
}

/// An external file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Where it is; `${input}` is substituted. One input alone that is a list fetches each of it.
    pub url: String,
    /// The folder (with a final `/`) or file below the work folder.
    pub to: String,
    /// Its SHA-256, if it is known.
    pub sha256: Option<String>,
}

/// Time limits. They grow by the worker's factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// For `provision` and `checkout`, each.
    pub provision: Duration,
    /// For all of `fetch`.
    pub fetch: Duration,
    /// For all of `prepare`.
    pub prepare: Duration,
    /// For all of `run`.
    pub run: Duration,
    /// Without any output.
    pub idle: Option<Duration>,
    /// For all of `cleanup`.
    pub cleanup: Duration,
    /// What a time-out of `run` means: an error, unless the task says it is a failure.
    pub outcome: TimeoutMeans,
}

/// What a time-out of `run` means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeoutMeans {
    /// We could not tell.
    #[default]
    Error,
    /// The thing under test hangs.
    Failed,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            provision: Duration::from_secs(600),
            fetch: Duration::from_secs(600),
            prepare: Duration::from_secs(600),
            run: Duration::from_secs(3600),
            idle: None,
            cleanup: Duration::from_secs(60),
            outcome: TimeoutMeans::Error,
        }
    }
}

/// What results a task gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// The testcase; the task's name when missing.
    pub testcase: Option<String>,
    /// What is told on the bus.
    pub publish: Publish,
    /// The form of the result file.
    pub format: ResultFormat,
    /// The result file, below the work or output folder; a glob may name several.
    pub path: Option<String>,
    /// What exit codes of `run` mean, by number; `*` for the others.
    pub exit: BTreeMap<String, ExitMeans>,
}

/// The form of a result file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultFormat {
    /// No file: the exit code alone.
    #[default]
    Exit,
    /// Test Anything Protocol, 13 or 14.
    Tap,
    /// JUnit XML.
    Junit,
    /// A list of results in JSON, as `docs/tasks.md` shows.
    Json,
}

/// All forms with their text.
pub const RESULT_FORMATS: [(ResultFormat, &str); 4] = [
    (ResultFormat::Exit, "exit"),
    (ResultFormat::Tap, "tap"),
    (ResultFormat::Junit, "junit"),
    (ResultFormat::Json, "json"),
];

/// What of the results is told on the bus one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Publish {
    /// The task's own result; sub-results are stored only.
    #[default]
    Summary,
    /// Every sub-result too.
    All,
}

/// What an exit code of `run` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitMeans {
    /// This outcome.
    Outcome(Outcome),
    /// The worst of the result file.
    FromResults,
}

impl Serialize for ExitMeans {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Outcome(outcome) => outcome.as_str(),
            Self::FromResults => "from-results",
        })
    }
}

impl<'de> Deserialize<'de> for ExitMeans {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for ExitMeans {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "from-results" {
            return Ok(Self::FromResults);
        }
        text.parse()
            .map(Self::Outcome)
            .map_err(|error: crate::outcome::UnknownOutcome| format!("{error}, from-results"))
    }
}

/// What files a task leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    /// Globs below the work folder; everything in the output folder is taken in any case.
    pub paths: Vec<String>,
    /// The most that is taken, in bytes.
    pub max_bytes: u64,
    /// Whether each is told on the bus, so that rules can react.
    pub publish: bool,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self { paths: Vec::new(), max_bytes: ARTIFACTS_BYTES_DEFAULT, publish: false }
    }
}

/// Parses a task file.
///
/// # Errors
/// All mistakes that were found, each with its place. Warnings come with the file.
pub fn parse(file: &str, text: &str) -> Result<(TaskFile, Report), Report> {
    let reader = Reader::new(file, text);
    let parsed = reader.parse().and_then(|node| read_task(&reader, &node));
    let failed = reader.failed();
    let report = reader.into_report();
    match parsed {
        Some(parsed) if !failed => Ok((parsed, report)),
        _ => Err(report),
    }
}

fn read_task(reader: &Reader, node: &Node) -> Option<TaskFile> {
    let mut fields = reader.fields(node, "a task file")?;
    let name = fields.require(reader, "name").and_then(|node| reader.name_of(node, "`name`"));
    let owner = fields.get("owner").and_then(|node| reader.text_of(node, "`owner`"));
    let description = fields.get("description").and_then(|node| reader.text_of(node, "`description`"));
    let inputs = fields.get("inputs").map(|node| read_inputs(reader, node)).unwrap_or_default();
    let environment =
        fields.get("environment").map_or_else(default_environment, |node| read_environments(reader, node));
    let needs = fields.get("needs").map(|node| read_needs(reader, node)).unwrap_or_default();
    let fetch = fields.get("fetch").map(|node| read_fetches(reader, node)).unwrap_or_default();
    let commands =
        |node: Option<&Node>, what| node.and_then(|node| reader.texts_of(node, what)).unwrap_or_default();
    let prepare = commands(fields.get("prepare"), "`prepare`");
    let run_node = fields.require(reader, "run");
    let run = commands(run_node, "`run`");
    let cleanup = commands(fields.get("cleanup"), "`cleanup`");
    let timeout = fields.get("timeout").map(|node| read_timeouts(reader, node)).unwrap_or_default();
    let results = fields.get("results").and_then(|node| read_results(reader, node)).unwrap_or_default();
    let artifacts = fields.get("artifacts").map(|node| read_artifacts(reader, node)).unwrap_or_default();
    let retry = fields.get("retry").map(|node| read_retry(reader, node)).unwrap_or_default();
    fields.finish(reader);
    if let Some(node) = run_node
        && run.iter().all(|line| line.trim().is_empty())
    {
        reader.error(&node.span, "`run` must hold a command");
    }
    let file = TaskFile {
        name: name?,
        owner,
        description,
        inputs,
        environment,
        needs,
        fetch,
        prepare,
        run,
        cleanup,
        timeout,
        results,
        artifacts,
        retry,
    };
    check_substitutions(reader, node, &file);
    Some(file)
}

/// Without `environment` a task runs in the worker's default image, or else in its sandbox.
fn default_environment() -> Vec<Environment> {
    let container = ContainerWish { image: None, sizes: Sizes::default(), relaxed: Relaxed::default() };
    let sandbox = HostWish { programs: Vec::new(), sizes: Sizes::default(), relaxed: Relaxed::default() };
    vec![Environment::Container(container), Environment::Sandbox(sandbox)]
}

fn read_inputs(reader: &Reader, node: &Node) -> BTreeMap<String, Input> {
    let Yaml::Map(entries) = &node.value else {
        reader.error(
            &node.span,
            format!("`inputs` must be a mapping from names to {{type: …}}, it is {}", node.value.kind()),
        );
        return BTreeMap::new();
    };
    let mut inputs = BTreeMap::new();
    for (key, node) in entries {
        if !is_input_name(&key.text) {
            reader.error_help(
                &key.span,
                format!("`{}` cannot be an input's name", key.text),
                "use lower-case letters, digits and `_`, a letter first: it also becomes a variable `TASKBOT_INPUT_…`",
            );
        }
        if let Some(input) = read_input(reader, node) {
            inputs.insert(key.text.clone(), input);
        }
    }
    inputs
}

/// Whether the text can be an input's name.
#[must_use]
pub fn is_input_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn read_input(reader: &Reader, node: &Node) -> Option<Input> {
    let mut fields = reader.fields(node, "an input")?;
    let kind = fields.get("type").map_or(Some(InputKind::String), |node| {
        let text = reader.text_of(node, "`type`")?;
        let found = INPUT_KINDS.into_iter().find(|kind| kind.as_str() == text);
        if found.is_none() {
            let known = INPUT_KINDS.map(InputKind::as_str).join(", ");
            reader.error(&node.span, format!("`{text}` is no type of inputs; known are {known}"));
        }
        found
    });
    let required = fields.get("required").and_then(|node| reader.bool_of(node, "`required`"));
    let default_node = fields.get("default");
    let default = default_node.map(Node::to_json);
    let description = fields.get("description").and_then(|node| reader.text_of(node, "`description`"));
    let choices_node = fields.get("choices");
    let choices = choices_node
        .and_then(|node| reader.list_of(node, "`choices`"))
        .map(|items| items.iter().map(Node::to_json).collect::<Vec<_>>())
        .unwrap_or_default();
    fields.finish(reader);
    let kind = kind?;
    if let (Some(node), Some(value)) = (default_node, &default)
        && let Err(error) = check_value(kind, &choices, value)
    {
        reader.error(&node.span, format!("the default {error}"));
    }
    if let (Some(true), Some(node)) = (required, default_node) {
        reader.error(&node.span, "an input with a default is never missing: drop `required` or `default`");
    }
    Some(Input { kind, required: required.unwrap_or(false), default, description, choices })
}

fn check_value(kind: InputKind, choices: &[Value], value: &Value) -> Result<(), String> {
    if !kind.takes(value) {
        return Err(format!("must be of type {}, it is {}", kind.as_str(), crate::event::json_kind(value)));
    }
    if !choices.is_empty() && !choices.contains(value) {
        let choices: Vec<_> = choices.iter().map(ToString::to_string).collect();
        return Err(format!("must be one of {}, it is {value}", choices.join(", ")));
    }
    Ok(())
}

fn read_environments(reader: &Reader, node: &Node) -> Vec<Environment> {
    let items = match &node.value {
        Yaml::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() || items.len() > LIST_MAX {
        reader.error(
            &node.span,
            "`environment` must name at least one environment, such as `container: {image: …}`",
        );
    }
    items.iter().filter_map(|item| read_environment(reader, item)).collect()
}

const ENVIRONMENTS: &str = "one of container, vm, sandbox, local, external";

fn read_environment(reader: &Reader, node: &Node) -> Option<Environment> {
    let Yaml::Map(entries) = &node.value else {
        reader.error(
            &node.span,
            format!("an environment must be {ENVIRONMENTS}, such as `container: {{image: …}}`"),
        );
        return None;
    };
    let [(key, node)] = entries.as_slice() else {
        reader.error_help(
            &node.span,
            "an environment must have one key",
            "write each alternative as an entry of a list",
        );
        return None;
    };
    let node = &empty_if_null(node);
    match key.text.as_str() {
        "container" => {
            let mut fields = reader.fields(node, "`container`")?;
            let image = fields.get("image").and_then(|node| reader.name_of(node, "`image`"));
            let (sizes, relaxed) = (read_sizes(reader, &mut fields), read_relaxed(reader, &mut fields));
            fields.finish(reader);
            Some(Environment::Container(ContainerWish { image, sizes, relaxed }))
        }
        "vm" => {
            let mut fields = reader.fields(node, "`vm`")?;
            let image = fields.get("image").and_then(|node| reader.name_of(node, "`image`"));
            let sizes = read_sizes(reader, &mut fields);
            fields.finish(reader);
            Some(Environment::Vm(VmWish { image, sizes }))
        }
        host @ ("sandbox" | "local") => {
            let mut fields = reader.fields(node, if host == "sandbox" { "`sandbox`" } else { "`local`" })?;
            let programs = fields.get("programs").and_then(|node| reader.texts_of(node, "`programs`"));
            let (sizes, relaxed) = (read_sizes(reader, &mut fields), read_relaxed(reader, &mut fields));
            fields.finish(reader);
            let wish = HostWish { programs: programs.unwrap_or_default(), sizes, relaxed };
            Some(if host == "sandbox" { Environment::Sandbox(wish) } else { Environment::Local(wish) })
        }
        "external" => {
            let mut fields = reader.fields(node, "`external`")?;
            let provider =
                fields.require(reader, "provider").and_then(|node| reader.name_of(node, "`provider`"));
            let with = fields.get("with").map(Node::to_json);
            fields.finish(reader);
            let with = with.and_then(|value| value.as_object().cloned()).unwrap_or_default();
            Some(Environment::External(ExternalWish { provider: provider?, with }))
        }
        other => {
            let message = format!("`{other}` is no environment; known is {ENVIRONMENTS}");
            reader.error(&key.span, message);
            None
        }
    }
}

/// `sandbox:` alone means `sandbox: {}`.
fn empty_if_null(node: &Node) -> Node {
    match node.value {
        Yaml::Null => Node { value: Yaml::Map(Vec::new()), span: node.span.clone() },
        _ => node.clone(),
    }
}

fn read_sizes(reader: &Reader, fields: &mut Fields<'_>) -> Sizes {
    let small =
        |node: &Node, what| reader.int_of(node, what, 1..1_000_001).and_then(|n| u32::try_from(n).ok());
    Sizes {
        memory_bytes: fields.get("memory").and_then(|node| reader.size_of(node, "`memory`")),
        cpus: fields.get("cpus").and_then(|node| small(node, "`cpus`")),
        disk_bytes: fields.get("disk").and_then(|node| reader.size_of(node, "`disk`")),
        processes: fields.get("processes").and_then(|node| small(node, "`processes`")),
    }
}

fn read_relaxed(reader: &Reader, fields: &mut Fields<'_>) -> Relaxed {
    let mut flag =
        |name: &'static str| fields.get(name).and_then(|node| reader.bool_of(node, name)).unwrap_or(false);
    let (network, root, writable_root) = (flag("network"), flag("root"), flag("writable_root"));
    let capabilities = fields.get("capabilities").and_then(|node| reader.texts_of(node, "`capabilities`"));
    Relaxed { network, root, writable_root, capabilities: capabilities.unwrap_or_default() }
}

/// Reads `needs: {arch, labels, memory, disk, cpus, kvm}`; rules read theirs by the same words.
#[must_use]
pub fn read_needs(reader: &Reader, node: &Node) -> Requirements {
    let Some(mut fields) = reader.fields(node, "`needs`") else { return Requirements::default() };
    let needs = Requirements {
        arch: fields.get("arch").and_then(|node| reader.name_of(node, "`arch`")),
        labels: fields
            .get("labels")
            .and_then(|node| reader.texts_of(node, "`labels`"))
            .map(|labels| labels.into_iter().collect())
            .unwrap_or_default(),
        memory_bytes: fields.get("memory").and_then(|node| reader.size_of(node, "`memory`")),
        disk_bytes: fields.get("disk").and_then(|node| reader.size_of(node, "`disk`")),
        cpus: fields
            .get("cpus")
            .and_then(|node| reader.int_of(node, "`cpus`", 1..10_001))
            .and_then(|cpus| u32::try_from(cpus).ok()),
        kvm: fields.get("kvm").and_then(|node| reader.bool_of(node, "`kvm`")).unwrap_or(false),
        executors: std::collections::BTreeSet::new(),
    };
    fields.finish(reader);
    needs
}

fn read_fetches(reader: &Reader, node: &Node) -> Vec<Fetch> {
    let items = reader.list_of(node, "`fetch`").unwrap_or_default();
    items.iter().filter_map(|item| read_fetch(reader, item)).collect()
}

fn read_fetch(reader: &Reader, node: &Node) -> Option<Fetch> {
    let mut fields = reader.fields(node, "an entry of `fetch`")?;
    let url = fields.require(reader, "url").and_then(|node| reader.name_of(node, "`url`"));
    let to_node = fields.require(reader, "to");
    let to = to_node.and_then(|node| reader.name_of(node, "`to`"));
    let sha_node = fields.get("sha256");
    let sha256 = sha_node.and_then(|node| reader.text_of(node, "`sha256`"));
    fields.finish(reader);
    if let (Some(node), Some(to)) = (to_node, &to)
        && !is_inner_path(to)
    {
        reader.error(
            &node.span,
            format!("`{to}` leaves the work folder; expected a relative path without `..`"),
        );
    }
    if let (Some(node), Some(sha)) = (sha_node, &sha256)
        && !sha.contains("${")
        && (sha.len() != 64 || !sha.chars().all(|c| c.is_ascii_hexdigit()))
    {
        reader.error(&node.span, "`sha256` must have 64 hexadecimal digits");
    }
    Some(Fetch { url: url?, to: to?, sha256 })
}

/// Whether a path stays below the folder that it is taken from: relative, without `..`, backslash or NUL.
#[must_use]
pub fn is_inner_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 4096
        && !path.starts_with('/')
        && !path.contains(['\0', '\\'])
        && path.split('/').all(|part| part != "..")
}

fn read_timeouts(reader: &Reader, node: &Node) -> Timeouts {
    let default = Timeouts::default();
    let Some(mut fields) = reader.fields(node, "`timeout`") else { return default };
    let mut limit = |name: &'static str| {
        let node = fields.get(name)?;
        let limit = reader.duration_of(node, name)?;
        if limit.is_zero() || limit > PHASE_TIMEOUT_MAX {
            reader.error(&node.span, format!("`{name}` must be more than nothing and at most 24h"));
        }
        Some(limit)
    };
    let timeouts = Timeouts {
        provision: limit("provision").unwrap_or(default.provision),
        fetch: limit("fetch").unwrap_or(default.fetch),
        prepare: limit("prepare").unwrap_or(default.prepare),
        run: limit("run").unwrap_or(default.run),
        idle: limit("idle"),
        cleanup: limit("cleanup").unwrap_or(default.cleanup),
        outcome: TimeoutMeans::Error,
    };
    let outcome = fields.get("outcome").and_then(|node| match reader.text_of(node, "`outcome`")?.as_str() {
        "error" => Some(TimeoutMeans::Error),
        "failed" => Some(TimeoutMeans::Failed),
        other => {
            reader.error(&node.span, format!("a time-out is `error` or `failed`, not `{other}`"));
            None
        }
    });
    fields.finish(reader);
    Timeouts { outcome: outcome.unwrap_or_default(), ..timeouts }
}

impl Default for Results {
    /// Exit code 0 passes, 1 fails, everything else is an error.
    fn default() -> Self {
        Self {
            testcase: None,
            publish: Publish::Summary,
            format: ResultFormat::Exit,
            path: None,
            exit: default_exit(ResultFormat::Exit),
        }
    }
}

fn default_exit(format: ResultFormat) -> BTreeMap<String, ExitMeans> {
    use crate::outcome::ErrorReason::Task;
    let (zero, one) = match format {
        ResultFormat::Exit => (ExitMeans::Outcome(Outcome::Passed), ExitMeans::Outcome(Outcome::Failed)),
        _ => (ExitMeans::FromResults, ExitMeans::FromResults),
    };
    [("0", zero), ("1", one), ("*", ExitMeans::Outcome(Outcome::Error(Task)))]
        .map(|(code, means)| (code.to_owned(), means))
        .into()
}

fn read_results(reader: &Reader, node: &Node) -> Option<Results> {
    let mut fields = reader.fields(node, "`results`")?;
    let testcase = fields.get("testcase").and_then(|node| reader.name_of(node, "`testcase`"));
    let publish = fields.get("publish").and_then(|node| match reader.text_of(node, "`publish`")?.as_str() {
        "summary" => Some(Publish::Summary),
        "all" => Some(Publish::All),
        other => {
            reader.error(&node.span, format!("`publish` is summary or all, not `{other}`"));
            None
        }
    });
    let format = fields.get("format").and_then(|node| {
        let text = reader.text_of(node, "`format`")?;
        let found = RESULT_FORMATS.into_iter().find(|(_, name)| *name == text).map(|(format, _)| format);
        if found.is_none() {
            let known = RESULT_FORMATS.map(|(_, name)| name).join(", ");
            reader.error(&node.span, format!("`{text}` is no format of results; known are {known}"));
        }
        found
    });
    let format = format.unwrap_or_default();
    let path_node = fields.get("path");
    let path = path_node.and_then(|node| reader.name_of(node, "`path`"));
    let exit = fields.get("exit").map_or_else(|| default_exit(format), |node| read_exit(reader, node));
    fields.finish(reader);
    match (format, path_node, &path) {
        (ResultFormat::Exit, Some(node), _) => {
            reader.error(&node.span, "`path` names a result file: say its `format` too (tap, junit or json)");
        }
        (ResultFormat::Exit, None, _) => {}
        (_, None, _) => reader.error(&node.span, "`results` needs the field `path`: the result file"),
        (_, Some(node), Some(path)) if !is_inner_path(path) => {
            reader.error(
                &node.span,
                format!("`{path}` leaves the work folder; expected a relative path without `..`"),
            );
        }
        _ => {}
    }
    Some(Results { testcase, publish: publish.unwrap_or_default(), format, path, exit })
}

fn read_exit(reader: &Reader, node: &Node) -> BTreeMap<String, ExitMeans> {
    let Yaml::Map(entries) = &node.value else {
        reader.error(&node.span, "`exit` must be a mapping from exit codes to outcomes, such as `{0: passed, 1: failed, \"*\": error}`");
        return BTreeMap::new();
    };
    let mut exit = BTreeMap::new();
    for (key, node) in entries {
        if key.text != "*" && key.text.parse::<u8>().is_err() {
            reader.error(
                &key.span,
                format!("`{}` is no exit code; expected 0 to 255, or \"*\" for the others", key.text),
            );
        }
        let Some(text) = reader.text_of(node, "an outcome") else { continue };
        match text.parse() {
            Ok(means) => {
                exit.insert(key.text.clone(), means);
            }
            Err(error) => reader.error(&node.span, error),
        }
    }
    // What nobody named is an error, never a pass.
    exit.entry("*".to_owned())
        .or_insert(ExitMeans::Outcome(Outcome::Error(crate::outcome::ErrorReason::Task)));
    exit
}

fn read_artifacts(reader: &Reader, node: &Node) -> Artifacts {
    let default = Artifacts::default();
    let Some(mut fields) = reader.fields(node, "`artifacts`") else { return default };
    let paths_node = fields.get("paths");
    let paths = paths_node.and_then(|node| reader.texts_of(node, "`paths`")).unwrap_or_default();
    let max_node = fields.get("max");
    let max_bytes = max_node.and_then(|node| reader.size_of(node, "`max`")).unwrap_or(default.max_bytes);
    let publish = fields.get("publish").and_then(|node| reader.bool_of(node, "`publish`")).unwrap_or(false);
    fields.finish(reader);
    if let Some(node) = paths_node
        && let Some(path) = paths.iter().find(|path| !is_inner_path(path))
    {
        reader.error(
            &node.span,
            format!("`{path}` leaves the work folder; expected a relative glob without `..`"),
        );
    }
    if let Some(node) = max_node
        && max_bytes > ARTIFACTS_BYTES_MAX
    {
        reader.error(&node.span, "`max` must be at most 20G");
    }
    Artifacts { paths, max_bytes, publish }
}

fn read_retry(reader: &Reader, node: &Node) -> RetryPolicy {
    let default = RetryPolicy::default();
    let Some(mut fields) = reader.fields(node, "`retry`") else { return default };
    let on_node = fields.get("on");
    let on = on_node.and_then(|node| reader.texts_of(node, "`on`").map(|texts| (node, texts)));
    let on = on.map(|(node, texts)| {
        let known = [
            ("error", RetryOn::Error),
            ("lost", RetryOn::Lost),
            ("timeout", RetryOn::Timeout),
            ("oom", RetryOn::Oom),
        ];
        let read = |text: &String| {
            let found = known.iter().find(|(name, _)| name == text).map(|(_, on)| *on);
            if found.is_none() {
                reader.error_help(
                    &node.span,
                    format!("`{text}` is nothing to retry on; known are error, lost, timeout, oom"),
                    "a failed test is never retried: it failed",
                );
            }
            found
        };
        texts.iter().filter_map(read).collect()
    });
    let max = fields.get("max").and_then(|node| reader.int_of(node, "`max`", 0..i64::from(RETRIES_MAX) + 1));
    fields.finish(reader);
    let max = max.and_then(|max| u32::try_from(max).ok()).unwrap_or(default.max);
    RetryPolicy { on: on.unwrap_or(default.on), max }
}

/// Every `${…}` must name an input.
fn check_substitutions(reader: &Reader, root: &Node, file: &TaskFile) {
    for place in ["environment", "fetch", "artifacts", "name", "results"] {
        if let Some(node) = root.get(place) {
            check_node(reader, node, file);
        }
    }
}

fn check_node(reader: &Reader, node: &Node, file: &TaskFile) {
    match &node.value {
        Yaml::Text(text) => {
            for (name, span) in substitutions(text) {
                if !file.inputs.contains_key(name) {
                    let known: Vec<_> = file.inputs.keys().map(String::as_str).collect();
                    let help = crate::diagnostic::nearest(name, known.iter().copied()).map_or_else(
                        || {
                            format!(
                                "declared inputs: {}",
                                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                            )
                        },
                        |near| format!("did you mean `${{{near}}}`?"),
                    );
                    reader.error_help(
                        &reader.inside(node, span),
                        format!("no input is named `{name}`"),
                        help,
                    );
                }
            }
        }
        Yaml::List(items) => items.iter().for_each(|item| check_node(reader, item, file)),
        Yaml::Map(entries) => entries.iter().for_each(|(_, node)| check_node(reader, node, file)),
        _ => {}
    }
}

/// The `${name}`s in a text, with their bytes.
fn substitutions(text: &str) -> Vec<(&str, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find("${").map(|at| from + at) {
        let Some(end) = text[start..].find('}').map(|at| start + at) else { break };
        found.push((&text[start + 2..end], start..end + 1));
        from = end + 1;
    }
    found
}

impl TaskFile {
    /// What it needs of a worker: its own `needs`, and one of its environments.
    #[must_use]
    pub fn requirements(&self) -> Requirements {
        let executors = self.environment.iter().map(Environment::executor).collect();
        self.needs.clone().and(&Requirements { executors, ..Requirements::default() })
    }

    /// The testcase of its own result.
    #[must_use]
    pub fn testcase(&self) -> &str {
        self.results.testcase.as_deref().unwrap_or(&self.name)
    }

    /// Checks inputs against their declaration and adds the defaults.
    ///
    /// # Errors
    /// Every input that is unknown, missing, or of another type, in one text.
    pub fn check_inputs(&self, given: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut wrong = Vec::new();
        let mut inputs = Map::new();
        for name in given.keys().filter(|name| !self.inputs.contains_key(*name)) {
            let near = crate::diagnostic::nearest(name, self.inputs.keys().map(String::as_str));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            wrong.push(format!("input `{name}` is not declared in {TASK_FILE}{near}"));
        }
        for (name, input) in &self.inputs {
            match given.get(name).filter(|value| !value.is_null()).or(input.default.as_ref()) {
                Some(value) => match check_value(input.kind, &input.choices, value) {
                    Ok(()) => {
                        inputs.insert(name.clone(), value.clone());
                    }
                    Err(error) => wrong.push(format!("input `{name}` {error}")),
                },
                None if input.required => wrong.push(format!("input `{name}` is missing")),
                None => {}
            }
        }
        if wrong.is_empty() { Ok(inputs) } else { Err(wrong.join("; ")) }
    }
}

/// Replaces every `${name}` by the input's value: texts as they are, everything else as JSON. Inputs that
/// are not given become nothing.
#[must_use]
pub fn substitute(text: &str, inputs: &Map<String, Value>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (name, span) in substitutions(text) {
        out.push_str(&text[from..span.start]);
        match inputs.get(name) {
            Some(Value::String(value)) => out.push_str(value),
            Some(value) => out.push_str(&value.to_string()),
            None => {}
        }
        from = span.end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests;
