//! A first rule from a real event, with a test, for its author to go on from.

use crate::{
    compile::compile,
    language::Mode,
    load::{Options, RuleFiles},
    registry::{REGISTRY_FILE, check_name},
    rule_test::accept,
    yaml_text::{self, entry},
};
use model::{Event, event::EventError};
use serde_json::{Map, Value, json};

/// The most clauses that are proposed.
pub const CLAUSES_MAX: usize = 6;
/// How deep in the body fields are looked for.
const DEPTH_MAX: usize = 4;
/// The longest text that a clause may ask for, in characters.
const TEXT_CHARS_MAX: usize = 60;

/// What the rule is to be of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The event.
    pub event: &'a Event,
    /// The task's name in `tasks.yaml`.
    pub task: &'a str,
    /// The task's inputs, where they are known: those that the event has are filled in.
    pub inputs: &'a [&'a str],
    /// The rule's name; made of task and topic if not given.
    pub name: Option<&'a str>,
    /// Whether the event goes into a file of its own instead of the test.
    pub fixture: bool,
}

/// A rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The rule's name.
    pub name: String,
    /// The file's path in the rules folder.
    pub path: String,
    /// Its text.
    pub text: String,
    /// The path and text of the file with the event.
    pub fixture: Option<(String, String)>,
}

/// Why no rule can be made of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewError {
    /// Its payload is no JSON object.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The name of the rule or the task is none.
    #[error("{0}")]
    Name(String),
    /// What was written is not what the engine takes: a fault of ours.
    #[error("internal error: the new rule is refused: {0}")]
    Refused(String),
}

/// Writes a rule on the event's topic, with clauses on what is common to such events (states, releases,
/// people), and neither on ids nor on times, and a test with the event.
///
/// # Errors
/// The event has no body of fields, or a name cannot be one.
pub fn write(wanted: &Wanted<'_>) -> Result<Written, NewError> {
    let body = wanted.event.check()?;
    let name = wanted.name.map_or_else(|| name_of(wanted), str::to_owned);
    check_name("a rule", &name).map_err(NewError::Name)?;
    check_name("a task", wanted.task).map_err(NewError::Name)?;
    let message = message_of(wanted.event, &body);
    let fixture = wanted.fixture.then(|| {
        let text = serde_json::to_string_pretty(&message).unwrap_or_default();
        (format!("fixtures/{name}.json"), format!("{text}\n"))
    });
    let mut text = rule_text(wanted, &name, &body);
    text.push_str("\ntests:\n  - name: the event that the rule was made from\n");
    match &fixture {
        Some((path, _)) => text.push_str(&entry("event", &path.as_str().into(), 4)),
        None => {
            text.push_str("    event:\n");
            let parts =
                ["topic", "headers", "body"].into_iter().filter_map(|name| Some((name, message.get(name)?)));
            text.extend(parts.map(|(name, value)| entry(name, value, 6)));
        }
    }
    text.push_str("    expect:\n");
    text.push_str(&entry(&name, &json!([]), 6));
    let path = format!("{name}.yaml");
    let text = with_expectation(wanted.task, &name, &path, text, fixture.as_ref())?;
    Ok(Written { name, path, text, fixture })
}

/// The test's expectation is what the engine itself says.
fn with_expectation(
    task: &str,
    name: &str,
    path: &str,
    text: String,
    fixture: Option<&(String, String)>,
) -> Result<String, NewError> {
    let registry = yaml_text::entry("tasks", &json!({task: {"git": "https://git.example.org/task.git"}}), 0);
    let mut files = RuleFiles::of([(REGISTRY_FILE, registry.as_str()), (path, text.as_str())]);
    if let Some((path, text)) = fixture {
        files.files.insert(path.clone(), text.as_str().into());
    }
    // It is tested as if it acted, whatever mode the caller gives it later.
    files.modes.insert(name.into(), Mode::Active);
    let rules = compile(&files, &Options::default())
        .map_err(|report| NewError::Refused(report.to_string()))?
        .rule_set;
    let text = accept(&files, &rules).remove(path);
    text.ok_or_else(|| NewError::Refused("it does not fire for its own event".to_owned()))
}

/// The event as tests take it.
fn message_of(event: &Event, body: &Value) -> Value {
    let mut message = json!({"topic": event.topic, "body": body});
    if !event.headers.is_empty() {
        message["headers"] = Value::Object(event.headers.clone());
    }
    message
}

/// `rpmlint-on-update-request-testing`
fn name_of(wanted: &Wanted<'_>) -> String {
    let tokens: Vec<&str> = wanted.event.topic.tokens().collect();
    let last = &tokens[tokens.len().saturating_sub(3)..];
    let name = format!("{}-on-{}", wanted.task, last.join("-"));
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(100)
        .collect()
}

fn rule_text(wanted: &Wanted<'_>, name: &str, body: &Value) -> String {
    let item = item_of(body);
    let mut text = format!(
        "rules:\n  - name: {}\n    description: {}\n",
        yaml_text::text(name),
        yaml_text::text(&format!("Run {}", wanted.task))
    );
    text.push_str(&format!("    on: {}\n", yaml_text::text(wanted.event.topic.as_str())));
    let clauses = clauses(body);
    if !clauses.is_empty() {
        text.push_str("    when:\n");
        for (path, wanted) in clauses {
            // A path needs no quotes of YAML unless a part of it has its own.
            text.push_str(&format!("      {}: {}\n", path, yaml_text::flow(&wanted)));
        }
    }
    if let Some(Found { loops: Some(path), .. }) = &item {
        text.push_str(&format!("    for_each: {{build: {{in: {path}}}}}\n"));
    }
    text.push_str(&format!("    then:\n      - task: {}\n", yaml_text::text(wanted.task)));
    if let Some(found) = &item {
        text.push_str(&format!(
            "        item: {}\n",
            yaml_text::flow(&json!({"type": found.kind, "id": found.id}))
        ));
    }
    let with: Map<String, Value> = wanted
        .inputs
        .iter()
        .filter_map(|input| Some(((*input).to_owned(), input_of(input, body, item.as_ref())?.into())))
        .collect();
    if !with.is_empty() {
        text.push_str(&entry("with", &Value::Object(with), 8));
    }
    text
}

/// What an event is about.
struct Found {
    kind: &'static str,
    id: String,
    /// The list of builds.
    loops: Option<String>,
}

fn item_of(body: &Value) -> Option<Found> {
    for path in ["builds", "update.builds"] {
        let builds = at(body, path).and_then(Value::as_array).filter(|builds| !builds.is_empty());
        if builds.is_some_and(|builds| builds.iter().all(|build| build["nvr"].is_string())) {
            let loops = Some(format!("event.body.{path}"));
            return Some(Found { kind: "koji_build", id: "${build.nvr}".to_owned(), loops });
        }
    }
    let one = |kind, id: &str| Some(Found { kind, id: id.to_owned(), loops: None });
    if ["name", "version", "release"].iter().all(|part| body[*part].is_string()) {
        return one("koji_build", "${event.body.name}-${event.body.version}-${event.body.release}");
    }
    for (path, kind) in [
        ("nvr", "koji_build"),
        ("build.nvr", "koji_build"),
        ("update.alias", "bodhi_update"),
        ("alias", "bodhi_update"),
        ("compose_id", "compose"),
        ("pull_request.html_url", "pull_request"),
        ("pullrequest.full_url", "pull_request"),
        ("item.id", "item"),
        ("repository.full_name", "repository"),
        ("repo.fullname", "repository"),
        ("package", "package"),
        ("name", "package"),
    ] {
        if at(body, path).is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty())) {
            return one(kind, &format!("${{event.body.{path}}}"));
        }
    }
    None
}

/// An expression for an input of this name.
fn input_of(input: &str, body: &Value, item: Option<&Found>) -> Option<String> {
    if let Some(found) = item.filter(|found| input == "nvr" && found.kind == "koji_build") {
        return Some(found.id.clone());
    }
    if let Some(found) = item.filter(|found| input == "package" && found.kind == "package") {
        return Some(found.id.clone());
    }
    let paths = [
        input.to_owned(),
        format!("update.{input}"),
        format!("{input}.name"),
        format!("update.{input}.name"),
    ];
    let path = paths
        .into_iter()
        .find(|path| at(body, path).is_some_and(|value| value.is_string() || value.is_number()))?;
    let simple = path.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
    simple.then(|| format!("${{event.body.{path}}}"))
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, part| value.get(part))
}

/// How much a field tells of what kind of event it is; the least first, nothing for ids, times and texts.
fn rank(name: &str) -> Option<usize> {
    const TELLING: [&[&str]; 4] = [
        &[
            "new",
            "state",
            "status",
            "request",
            "action",
            "result",
            "outcome",
            "outcome_class",
            "conclusion",
            "event",
        ],
        &["type", "kind", "method", "artifact", "scratch", "draft", "critpath", "instance", "channel"],
        &["release", "dist_tag", "branch", "tag", "target", "arch"],
        &["agent", "owner", "user"],
    ];
    TELLING.iter().position(|names| names.contains(&name))
}

/// Clauses that hold of this body: paths and what is wanted there.
fn clauses(body: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    if let Value::Object(fields) = body {
        collect(fields, "body", None, 0, &mut found);
    }
    found.sort_by_key(|(rank, ..)| *rank);
    found.into_iter().take(CLAUSES_MAX).map(|(_, path, wanted)| (path, wanted)).collect()
}

fn collect(
    fields: &Map<String, Value>,
    path: &str,
    outer: Option<usize>,
    depth: usize,
    into: &mut Vec<(usize, String, Value)>,
) {
    for (name, value) in fields {
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let path = format!("{path}.{name}");
        // `release: {name: F42}` and `user: {name: alice}` tell what their name tells.
        let rank = rank(name).or_else(|| outer.filter(|_| name == "name"));
        match (value, rank) {
            (Value::Object(inner), _) if depth < DEPTH_MAX => collect(inner, &path, rank, depth + 1, into),
            (Value::String(text), Some(rank)) => {
                if let Some(wanted) = wanted(name, text) {
                    into.push((rank, path, wanted));
                }
            }
            (Value::Bool(_), Some(rank)) => into.push((rank, path, value.clone())),
            (Value::Number(number), Some(rank)) if number.is_i64() || number.is_u64() => {
                into.push((rank, path, value.clone()));
            }
            _ => {}
        }
    }
}

fn wanted(name: &str, text: &str) -> Option<Value> {
    if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX || text.contains(char::is_whitespace) {
        return None;
    }
    // A package's release: the distribution is what counts.
    if name == "release"
        && let Some((number, dist)) = text.rsplit_once('.')
        && number.starts_with(|c: char| c.is_ascii_digit())
    {
        let dist = dist.starts_with(|c: char| c.is_ascii_alphabetic());
        return dist.then(|| json!({"suffix": format!(".{}", text.rsplit('.').next().unwrap_or_default())}));
    }
    Some(text.into())
}
