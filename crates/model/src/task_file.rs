//! `task.yaml`: how a task repository says what it is and how it runs.

mod read;
mod read_vm;
mod vm;

pub use read::{parse, read_needs, read_secret_names};
pub use vm::{
    Answers, CONSOLE_STEPS_MAX, CONSOLE_TEXT_BYTES_MAX, ConsoleStep, Firmware, VM_BOOT_DEFAULT,
    VM_INSTALL_DEFAULT, VM_INSTALL_IDLE_DEFAULT, VmInstall, VmLogin, VmNetwork, VmWish,
};

use crate::{
    outcome::{Outcome, words},
    requirements::{ExecutorKind, Requirements},
    retry::RetryPolicy,
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
/// Before the name of a secret: the label that workers offer that have it and that its tasks need.
pub const SECRET_LABEL: &str = "secret:";
/// The longest name of a secret in bytes.
pub const SECRET_NAME_BYTES_MAX: usize = 64;
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
    /// The names of the secrets that it cannot do without.
    #[serde(default)]
    pub secrets: Vec<String>,
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

/// All types of inputs.
pub const INPUT_KINDS: [InputKind; 6] = [
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
    Vm(Box<VmWish>),
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

    /// The limits that it asks for.
    #[must_use]
    pub const fn sizes(&self) -> &Sizes {
        match self {
            Self::Container(wish) => &wish.sizes,
            Self::Vm(wish) => &wish.sizes,
            Self::Sandbox(wish) | Self::Local(wish) => &wish.sizes,
            Self::External(wish) => &wish.sizes,
        }
    }

    /// How long it may take to start once its files are there, before the worker's factor.
    #[must_use]
    pub fn start_limit(&self) -> Duration {
        match self {
            Self::Vm(wish) => wish.start_limit(),
            _ => Duration::ZERO,
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
    /// What it is to provide, in the program's own words.
    pub with: Map<String, Value>,
    /// Whether it is rebooted after `prepare`, so that what was installed runs.
    #[serde(default)]
    pub reboot: bool,
    /// Its sizes.
    #[serde(flatten)]
    pub sizes: Sizes,
}

/// An external file, or several by the name of what holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// What is fetched.
    #[serde(default)]
    pub kind: FetchKind,
    /// The URL, or the name of the build, update or compose; `${input}` is substituted. One input alone that is
    /// a list fetches each of it.
    #[serde(rename = "url")]
    pub what: String,
    /// The folder (with a final `/`) or file below the work folder.
    pub to: String,
    /// Its SHA-256, if it is known.
    pub sha256: Option<String>,
    /// The architectures of what is looked up; the worker's and `noarch` when there are none.
    #[serde(default)]
    pub arch: Vec<String>,
    /// Globs for the names of the files that are taken of it.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Fetch {
    /// One file by its URL.
    #[must_use]
    pub const fn of_url(url: String, to: String) -> Self {
        Self { kind: FetchKind::Url, what: url, to, sha256: None, arch: Vec::new(), files: Vec::new() }
    }
}

/// What an entry of `fetch` names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchKind {
    /// A file by its URL.
    #[default]
    Url,
    /// The packages of a build in Koji.
    Koji,
    /// The packages of all builds of an update in Bodhi.
    Bodhi,
    /// The images of a compose.
    Compose,
}

/// All kinds.
pub const FETCH_KINDS: [FetchKind; 4] =
    [FetchKind::Url, FetchKind::Koji, FetchKind::Bodhi, FetchKind::Compose];

impl FetchKind {
    /// The field that names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Koji => "koji",
            Self::Bodhi => "bodhi",
            Self::Compose => "compose",
        }
    }
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

/// How a path begins that is in the output folder, as commands write it.
pub const OUTPUT_PREFIX: &str = "$TASKBOT_OUTPUT/";

/// What results a task gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// The testcase; the task's name when missing.
    pub testcase: Option<String>,
    /// What is told on the bus.
    pub publish: Publish,
    /// The form of the result file.
    pub format: ResultFormat,
    /// The result file, below the task's or the output folder; a glob may name several. One that begins with
    /// [`OUTPUT_PREFIX`] is below the output folder only.
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
    /// tmt's `results.yaml` or `results.json`.
    Tmt,
    /// autopkgtest's `summary`.
    Autopkgtest,
    /// SARIF 2.1, what static analysers find.
    Sarif,
    /// Firehose, what static analysers find, as XML or JSON.
    Firehose,
    /// Taskotron's ResultYAML: each result may name its own item.
    Resultyaml,
}

/// All forms with their text.
pub const RESULT_FORMATS: [(ResultFormat, &str); 9] = [
    (ResultFormat::Exit, "exit"),
    (ResultFormat::Tap, "tap"),
    (ResultFormat::Junit, "junit"),
    (ResultFormat::Json, "json"),
    (ResultFormat::Tmt, "tmt"),
    (ResultFormat::Autopkgtest, "autopkgtest"),
    (ResultFormat::Sarif, "sarif"),
    (ResultFormat::Firehose, "firehose"),
    (ResultFormat::Resultyaml, "resultyaml"),
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
    /// The same, but something went wrong: a file that tells only of passes and skips is contradicted, and the
    /// outcome is failed.
    FromFailures,
}

impl Serialize for ExitMeans {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Outcome(outcome) => outcome.as_str(),
            Self::FromResults => "from-results",
            Self::FromFailures => "from-failures",
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
        match text {
            "from-results" => Ok(Self::FromResults),
            "from-failures" => Ok(Self::FromFailures),
            _ => text.parse().map(Self::Outcome).map_err(|error: crate::outcome::UnknownOutcome| {
                format!("{error}, from-results, from-failures")
            }),
        }
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

/// Whether the text can be an input's name.
#[must_use]
pub fn is_input_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
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

fn check_value(kind: InputKind, choices: &[Value], value: &Value) -> Result<(), String> {
    if !kind.takes(value) {
        // On a command line `42` is a number; the text has quotes of its own.
        let quoted = match value {
            Value::Number(_) | Value::Bool(_) if kind == InputKind::String => {
                format!("; for the text write \"{value}\" with its quotes")
            }
            _ => String::new(),
        };
        return Err(format!(
            "must be of type {}, it is {}{quoted}",
            kind.as_str(),
            crate::event::json_kind(value)
        ));
    }
    if !choices.is_empty() && !choices.contains(value) {
        let choices: Vec<_> = choices.iter().map(ToString::to_string).collect();
        return Err(format!("must be one of {}, it is {value}", choices.join(", ")));
    }
    Ok(())
}

/// What exit codes mean when the task does not say: for the programs whose codes are known, what they mean
/// there; else 0 and 1 leave it to the results (where 1 says that there is a failure), or are passed and failed where
/// there are none.
pub(crate) fn default_exit(format: ResultFormat) -> BTreeMap<String, ExitMeans> {
    let means: fn(u8) -> ExitMeans = match format {
        ResultFormat::Exit => words::exit_code,
        ResultFormat::Tmt => words::tmt_exit_code,
        ResultFormat::Autopkgtest => words::autopkgtest_exit_code,
        _ => words::test_exit_code,
    };
    let others = means(u8::MAX);
    let named = (0..u8::MAX).map(|code| (code, means(code))).filter(|(_, means)| *means != others);
    let mut exit: BTreeMap<_, _> = named.map(|(code, means)| (code.to_string(), means)).collect();
    exit.insert("*".to_owned(), others);
    exit
}

/// Whether a text can be the name of a secret: it becomes a file's.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    name.len() <= SECRET_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

impl TaskFile {
    /// What it needs of a worker: its own `needs`, and one of its environments. When all environments name their
    /// memory, the smallest is needed. Their disk space is a cap that is hardly ever filled: it is not.
    #[must_use]
    pub fn requirements(&self) -> Requirements {
        let executors = self.environment.iter().map(Environment::executor).collect();
        let mut arches = self.environment.iter().map(|environment| match environment {
            Environment::Vm(wish) => wish.arch.as_ref().filter(|arch| !arch.contains("${")),
            _ => None,
        });
        // Where the environments differ, the one that is provided decides.
        let first = arches.next().flatten();
        let arch = first.filter(|first| arches.all(|other| other == Some(first))).cloned();
        let providers = self.environment.iter().filter_map(|environment| match environment {
            Environment::External(wish) => Some(wish.provider.clone()),
            _ => None,
        });
        let vm_images = self.vm_images().unwrap_or_default();
        let sizes: Option<Vec<_>> =
            self.environment.iter().map(|environment| environment.sizes().memory_bytes).collect();
        self.needs.clone().and(&Requirements {
            executors,
            arch,
            providers: providers.collect(),
            vm_images,
            container_images: self.container_images().unwrap_or_default(),
            memory_bytes: sizes.and_then(|sizes| sizes.into_iter().min()),
            ..Requirements::default()
        })
    }

    /// The images of its virtual machines by their names, one of which must be there; nothing when one of its
    /// machines needs none, or one that is not known yet.
    fn vm_images(&self) -> Option<std::collections::BTreeSet<String>> {
        let wishes = self.environment.iter().filter_map(|environment| match environment {
            Environment::Vm(wish) => Some(wish),
            _ => None,
        });
        wishes.map(|wish| wish.image.clone().filter(|image| !image.contains("${"))).collect()
    }

    /// The images of its containers, one of which must be there or be pulled; nothing when one of its containers
    /// names none, or one that is not known yet.
    fn container_images(&self) -> Option<std::collections::BTreeSet<String>> {
        let wishes = self.environment.iter().filter_map(|environment| match environment {
            Environment::Container(wish) => Some(wish),
            _ => None,
        });
        wishes.map(|wish| wish.image.clone().filter(|image| !image.contains("${"))).collect()
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
