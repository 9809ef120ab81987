//! SARIF 2.1.0, what most static analysers write today: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/>.
//!
//! - Each run is a result named by its tool, passed when it found nothing; each finding is a result below it,
//!   named by its rule, with file, line and column, rule and level.
//! - A run whose tool failed (`executionSuccessful: false`, a notification of level `error`, a signal) or that
//!   holds no list of findings at all is an error: nobody knows what it would have found.
//! - A finding's level is its own, else what the run's invocation set for its rule, else that of the rule.
//! - A finding that is suppressed, or `absent` since the baseline, is information.

use crate::{
    decode,
    finding::{Finding, Findings},
    parse_error::Fault,
    parsed::{Parsed, append},
};
use model::{Outcome, outcome::words};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

const SHAPE: &str =
    "expected SARIF 2.1.0: `{\"version\": \"2.1.0\", \"runs\": [{\"tool\": …, \"results\": […]}]}`";

#[derive(Deserialize)]
struct Document {
    version: String,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    results: Option<Vec<Entry>>,
    #[serde(default)]
    invocations: Vec<Invocation>,
    #[serde(default)]
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
struct Tool {
    driver: Component,
    #[serde(default)]
    extensions: Vec<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    name: String,
    version: Option<String>,
    semantic_version: Option<String>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    global_message_strings: BTreeMap<String, Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    default_configuration: Option<Configuration>,
    #[serde(default)]
    message_strings: BTreeMap<String, Message>,
}

#[derive(Deserialize)]
struct Configuration {
    level: Option<Level>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
enum Level {
    None,
    Note,
    Warning,
    Error,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Pass,
    Open,
    Informational,
    NotApplicable,
    Review,
    Fail,
}

#[derive(Deserialize, Default)]
struct Message {
    text: Option<String>,
    markdown: Option<String>,
    id: Option<String>,
    #[serde(default)]
    arguments: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    rule_id: Option<String>,
    rule_index: Option<i64>,
    rule: Option<RuleReference>,
    level: Option<Level>,
    kind: Option<Kind>,
    #[serde(default)]
    message: Message,
    #[serde(default)]
    locations: Vec<Location>,
    #[serde(default)]
    code_flows: Vec<CodeFlow>,
    #[serde(default)]
    suppressions: Vec<Suppression>,
    baseline_state: Option<Baseline>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleReference {
    id: Option<String>,
    index: Option<i64>,
    tool_component: Option<ComponentReference>,
}

#[derive(Deserialize)]
struct ComponentReference {
    index: Option<i64>,
    name: Option<String>,
}

/// What an invocation set for a rule.
#[derive(Deserialize)]
struct Override {
    configuration: Configuration,
    descriptor: RuleReference,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Option<PhysicalLocation>,
    #[serde(default)]
    logical_locations: Vec<LogicalLocation>,
    message: Option<Message>,
}

/// A way through the code that leads to the problem.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CodeFlow {
    #[serde(default)]
    thread_flows: Vec<ThreadFlow>,
}

#[derive(Deserialize)]
struct ThreadFlow {
    #[serde(default)]
    locations: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    location: Option<Location>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: Option<ArtifactLocation>,
    region: Option<Region>,
}

#[derive(Deserialize)]
struct ArtifactLocation {
    uri: Option<String>,
    index: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: Option<u64>,
    start_column: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogicalLocation {
    name: Option<String>,
    fully_qualified_name: Option<String>,
}

#[derive(Deserialize)]
struct Suppression {
    status: Option<String>,
    justification: Option<String>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Baseline {
    New,
    Unchanged,
    Updated,
    Absent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: Option<bool>,
    exit_code: Option<i64>,
    exit_code_description: Option<String>,
    exit_signal_name: Option<String>,
    exit_signal_number: Option<i64>,
    process_start_failure_message: Option<String>,
    #[serde(default)]
    tool_execution_notifications: Vec<Notification>,
    #[serde(default)]
    tool_configuration_notifications: Vec<Notification>,
    #[serde(default)]
    rule_configuration_overrides: Vec<Override>,
}

#[derive(Deserialize)]
struct Notification {
    level: Option<Level>,
    #[serde(default)]
    message: Message,
    descriptor: Option<RuleReference>,
}

#[derive(Deserialize)]
struct Artifact {
    location: Option<ArtifactLocation>,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Open => "open",
            Self::Informational => "informational",
            Self::NotApplicable => "notApplicable",
            Self::Review => "review",
            Self::Fail => "fail",
        }
    }
}

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let document: Document = decode::json(text, SHAPE)?;
    if document.version != "2.1.0" {
        let version = crate::parsed::clean_name(&document.version);
        return Err(Fault::new(1, format!("SARIF version `{version}` is not known")).help(SHAPE));
    }
    let mut parsed = Parsed::default();
    let mut count = 0;
    for run in document.runs {
        let result = read_run(run, count)?;
        count += result.count();
        parsed.results.push(result);
    }
    Ok(parsed)
}

fn read_run(run: Run, count: usize) -> Result<crate::ParsedResult, Fault> {
    // The run itself is a result too.
    let mut findings = Findings::new(count + 1);
    for invocation in &run.invocations {
        failures(invocation, &mut findings)?;
    }
    let rules = Rules::new(&run.tool, &run.invocations);
    match run.results {
        None => {
            let message = "the run has no `results`, not even an empty list: the tool did not get to them";
            findings.push_error(1, "invocation", Some(message.to_owned()))?;
        }
        Some(entries) => {
            for entry in entries {
                let (outcome, finding) = finding(entry, &rules, &run.artifacts);
                findings.push(1, outcome, finding)?;
            }
        }
    }
    let driver = &run.tool.driver;
    let version = driver.version.as_deref().or(driver.semantic_version.as_deref());
    Ok(findings.finish(&driver.name, version))
}

/// What an invocation says of its own failure.
fn failures(invocation: &Invocation, findings: &mut Findings) -> Result<(), Fault> {
    let notifications =
        invocation.tool_execution_notifications.iter().chain(&invocation.tool_configuration_notifications);
    for notification in notifications.filter(|found| matches!(found.level, Some(Level::Error))) {
        let name = notification.descriptor.as_ref().and_then(|descriptor| descriptor.id.as_deref());
        let message = &notification.message;
        let text = message.text.clone().or_else(|| message.markdown.clone());
        findings.push_error(1, name.unwrap_or("notification"), text)?;
    }
    let signal = invocation
        .exit_signal_name
        .clone()
        .or_else(|| invocation.exit_signal_number.map(|number| number.to_string()));
    let said = [
        (invocation.execution_successful == Some(false)).then(|| "the tool says that it failed".to_owned()),
        invocation.process_start_failure_message.clone(),
        signal.map(|signal| format!("it was killed by signal {signal}")),
    ];
    let mut said: Vec<String> = said.into_iter().flatten().collect();
    if !said.is_empty() {
        said.extend(invocation.exit_code.map(|code| format!("exit code {code}")));
        said.extend(invocation.exit_code_description.clone());
        findings.push_error(1, "invocation", Some(said.join("; ")))?;
    }
    Ok(())
}

/// The rules of a tool and its extensions.
struct Rules<'a> {
    tool: &'a Tool,
    by_id: HashMap<&'a str, &'a Rule>,
    /// The levels that an invocation set, by the rules' ids.
    overridden: HashMap<&'a str, Level>,
}

impl<'a> Rules<'a> {
    fn new(tool: &'a Tool, invocations: &'a [Invocation]) -> Self {
        let rules = tool.extensions.iter().chain([&tool.driver]).flat_map(|component| &component.rules);
        let by_id = rules.map(|rule| (rule.id.as_str(), rule)).collect();
        let mut rules = Self { tool, by_id, overridden: HashMap::new() };
        for set in invocations.iter().flat_map(|invocation| &invocation.rule_configuration_overrides) {
            let rule = rules.find(set.descriptor.id.as_deref(), set.descriptor.index, Some(&set.descriptor));
            if let (Some(rule), Some(level)) = (rule, set.configuration.level) {
                rules.overridden.insert(&rule.id, level);
            }
        }
        rules
    }

    /// The rule of a finding.
    fn of(&self, entry: &Entry) -> Option<&'a Rule> {
        let reference = entry.rule.as_ref();
        let id = entry.rule_id.as_deref().or_else(|| reference?.id.as_deref());
        self.find(id, entry.rule_index.or_else(|| reference?.index), reference)
    }

    /// A rule by index in its component, unless its id says that it is another; else by id. `CA1000/1` is a part
    /// of rule `CA1000`.
    fn find(&self, id: Option<&str>, index: Option<i64>, place: Option<&RuleReference>) -> Option<&'a Rule> {
        let tool: &'a Tool = self.tool;
        let component = match place.and_then(|rule| rule.tool_component.as_ref()) {
            None => Some(&tool.driver),
            Some(ComponentReference { index: Some(index), .. }) => {
                usize::try_from(*index).ok().and_then(|index| tool.extensions.get(index))
            }
            Some(ComponentReference { name: Some(name), .. }) => {
                tool.extensions.iter().chain([&tool.driver]).find(|component| component.name == *name)
            }
            Some(_) => Some(&tool.driver),
        };
        fn whole(id: &str) -> Option<&str> {
            id.rsplit_once('/').map(|(whole, _)| whole)
        }
        let at = index.and_then(|index| component?.rules.get(usize::try_from(index).ok()?));
        at.filter(|rule| id.is_none_or(|id| rule.id == id || whole(id) == Some(&rule.id))).or_else(|| {
            let id = id?;
            self.by_id.get(id).or_else(|| self.by_id.get(whole(id)?)).copied()
        })
    }

    /// The level of a rule's findings that state none.
    fn level(&self, rule: &Rule) -> Option<Level> {
        let own = || rule.default_configuration.as_ref()?.level;
        self.overridden.get(rule.id.as_str()).copied().or_else(own)
    }
}

fn finding(entry: Entry, rules: &Rules<'_>, artifacts: &[Artifact]) -> (Outcome, Finding) {
    let rule = rules.of(&entry);
    let kind = entry.kind.unwrap_or(Kind::Fail);
    let configured = rule.and_then(|rule| rules.level(rule));
    let level = match kind {
        Kind::Fail => entry.level.or(configured).unwrap_or(Level::Warning),
        _ => entry.level.unwrap_or(Level::None),
    };
    let mut message = text(&entry.message, rule, rules);
    // Both words come from closed lists, which the function knows whole.
    let mut outcome = words::sarif(kind.as_str(), level.as_str()).unwrap_or(Outcome::Failed);
    let accepted = |found: &Suppression| !matches!(found.status.as_deref(), Some("underReview" | "rejected"));
    if !entry.suppressions.is_empty() && entry.suppressions.iter().all(accepted) {
        outcome = Outcome::Info;
        let why = entry.suppressions.iter().find_map(|found| found.justification.as_deref());
        message =
            Some(format!("suppressed ({}): {}", why.unwrap_or("no reason"), message.unwrap_or_default()));
    } else if entry.baseline_state == Some(Baseline::Absent) {
        outcome = Outcome::Info;
        message = Some(format!("no longer there: {}", message.unwrap_or_default()));
    }
    let location = entry.locations.into_iter().next();
    let (physical, logical) = location
        .map_or((None, None), |found| (found.physical_location, found.logical_locations.into_iter().next()));
    let (file, region) = physical.map_or((None, None), |found| (found.artifact_location, found.region));
    let mut data = vec![("level".to_owned(), level.as_str().to_owned())];
    if kind != Kind::Fail {
        data.push(("kind".to_owned(), kind.as_str().to_owned()));
    }
    let function = logical.and_then(|found| found.fully_qualified_name.or(found.name));
    data.extend(function.map(|function| ("function".to_owned(), function)));
    let finding = Finding {
        rule: entry
            .rule_id
            .or(entry.rule.and_then(|rule| rule.id))
            .or_else(|| rule.map(|rule| rule.id.clone())),
        message,
        detail: way(&entry.code_flows, artifacts),
        file: file.as_ref().and_then(|file| uri(file, artifacts)).map(str::to_owned),
        line: region.as_ref().and_then(|region| region.start_line).map(|line| line.to_string()),
        column: region.and_then(|region| region.start_column).map(|column| column.to_string()),
        data,
    };
    (outcome, finding)
}

/// The first way to the problem, a line for each step, as compilers print it.
fn way(flows: &[CodeFlow], artifacts: &[Artifact]) -> Option<String> {
    let steps = flows.first()?.thread_flows.iter().flat_map(|flow| &flow.locations);
    let mut way = String::new();
    for location in steps.filter_map(|step| step.location.as_ref()).take(STEPS_MAX) {
        let physical = location.physical_location.as_ref();
        let file =
            physical.and_then(|found| uri(found.artifact_location.as_ref()?, artifacts)).unwrap_or("?");
        let line = physical.and_then(|found| found.region.as_ref()?.start_line);
        let line = line.map_or_else(|| "?".to_owned(), |line| line.to_string());
        let message = location.message.as_ref().and_then(|message| message.text.as_deref());
        append(&mut way, &format!("{file}:{line}: {}", message.unwrap_or_default()));
    }
    Some(way)
}

/// A file's address: its own, or that of the artifact with its index.
fn uri<'a>(file: &'a ArtifactLocation, artifacts: &'a [Artifact]) -> Option<&'a str> {
    let by_index =
        |index: i64| artifacts.get(usize::try_from(index).ok()?)?.location.as_ref()?.uri.as_deref();
    file.uri.as_deref().or_else(|| by_index(file.index?))
}

/// A message's text: its own, or by its id from the rule or the tool, with its arguments put in.
fn text(message: &Message, rule: Option<&Rule>, rules: &Rules<'_>) -> Option<String> {
    let named = message.id.as_deref().and_then(|id| {
        rule.and_then(|rule| rule.message_strings.get(id))
            .or_else(|| rules.tool.driver.global_message_strings.get(id))
    });
    let found = [Some(message), named].into_iter().flatten();
    let text = found.flat_map(|message| [&message.text, &message.markdown]).find_map(Option::as_deref)?;
    let mut whole = text.to_owned();
    for (index, argument) in message.arguments.iter().enumerate().take(ARGUMENTS_MAX) {
        if whole.len() > crate::parsed::TEXT_BYTES_MAX {
            break;
        }
        whole = whole.replace(&format!("{{{index}}}"), argument);
    }
    Some(whole)
}

/// The most steps of a way that are kept.
const STEPS_MAX: usize = 100;
/// The most arguments that are put into a message.
const ARGUMENTS_MAX: usize = 32;
