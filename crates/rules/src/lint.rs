//! What is worth a second look in rules that are otherwise in order: for authors, not for the daemon.
//!
//! Every finding is a warning with its place, but for templates that can only err. Some need to be told what
//! the rules cannot know: the fields that recorded events had, and the inputs that tasks take.

mod contradictions;
mod fields;
mod overlaps;

pub use fields::{FieldStats, TopicFields};

use crate::{
    compile::RuleSet,
    language::{Action, Rule, TaskEntry, visit},
    script::{Scope, proposals},
    source::Place,
    yaml_text,
};
use chrono::DateTime;
use model::{
    TaskName,
    diagnostic::{Diagnostic, Report, Severity, nearest},
};
use serde_json::json;
use std::{fmt, ops::Range, sync::Arc};

/// An input of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Whether a wish must give it.
    pub required: bool,
}

/// Tells the inputs of a registered task, where its `task.yaml` is known; an error says that the repository is not
/// where the registry says.
pub type InputsOf<'a> = dyn Fn(&TaskName) -> Result<Option<Vec<Input>>, String> + 'a;

/// What the rules themselves do not tell.
#[derive(Default)]
pub struct Evidence<'a> {
    /// The fields of recorded events.
    pub fields: FieldStats,
    /// The inputs of tasks.
    pub inputs: Option<&'a InputsOf<'a>>,
}

impl fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evidence").field("fields", &self.fields).finish_non_exhaustive()
    }
}

/// Looks through all rules.
#[must_use]
pub fn lint(rules: &RuleSet, evidence: &Evidence<'_>) -> Report {
    let mut lint = Lint { report: Report::default() };
    for rule in rules.rules() {
        contradictions::lint(rule, &mut lint);
        conjuncts(rule, &mut lint);
        staging(rule, &mut lint);
        constants(rules, rule, &mut lint);
        fields::lint(rule, &evidence.fields, &mut lint);
        if let Some(inputs) = evidence.inputs {
            task_inputs(rule, inputs, &mut lint);
        }
    }
    for rule in rules.unindexed() {
        unindexed(rule, &mut lint);
    }
    overlaps::lint(rules, &mut lint);
    lint.report.sort();
    lint.report
}

/// The findings so far.
struct Lint {
    report: Report,
}

impl Lint {
    /// Warns of a part of a rule: the first time that the text stands in it.
    fn warn(&mut self, rule: &Rule, part: &str, message: impl Into<String>, help: impl Into<String>) {
        let span = rule.find(part);
        let place = rule.source.place(span.start);
        self.note(Severity::Warning, rule, span, place, message.into(), help.into());
    }

    fn error(&mut self, rule: &Rule, span: Range<usize>, place: Place, message: String, help: &str) {
        self.note(Severity::Error, rule, span, place, message, help.to_owned());
    }

    fn note(
        &mut self,
        severity: Severity,
        rule: &Rule,
        span: Range<usize>,
        place: Place,
        message: String,
        help: String,
    ) {
        let Place { file, line, column } = place;
        let file = file.to_string();
        self.report.sources.entry(file.clone()).or_insert_with(|| Arc::clone(rule.source.text()));
        self.report.push(Diagnostic { severity, file, line, column, span, message, help: Some(help) });
    }
}

/// Conjuncts of `if` that clauses can say.
fn conjuncts(rule: &Rule, lint: &mut Lint) {
    let Some(condition) = &rule.condition else { return };
    for proposal in proposals(&condition.compiled) {
        let clause = format!("{}: {}", proposal.path, yaml_text::flow(&proposal.wanted));
        let message = "a part of `if` could be a clause of `when`, which is indexed, and explained by itself";
        lint.warn(
            rule,
            condition.source().lines().next().unwrap_or_default(),
            message,
            format!("write `when: {{{clause}}}`"),
        );
    }
}

/// The first tokens of buses whose third token is the environment: `prod`, `stg`, `dev`.
const WITH_ENVIRONMENT: [&str; 2] = ["org.fedoraproject", "org.centos"];

/// Patterns that cover a bus's staging and development as well.
fn staging(rule: &Rule, lint: &mut Lint) {
    let asked =
        rule.when.iter().any(|clause| clause.path.as_str() == "topic" || clause.path.root() == "source");
    for pattern in rule.on.iter().filter(|_| !asked) {
        let text = pattern.as_str();
        let bus = WITH_ENVIRONMENT.iter().find(|bus| {
            text.strip_prefix(**bus).is_some_and(|rest| matches!(rest.get(..2), Some(".*" | ".>")))
        });
        if let Some(bus) = bus {
            let message = format!("`{text}` fires on staging as well (`{bus}.stg.…`)");
            lint.warn(rule, text, message, format!("write `{bus}.prod.…`"));
        }
    }
}

/// Expressions that read nothing: they can be evaluated now.
fn constants(rules: &RuleSet, rule: &Rule, lint: &mut Lint) {
    let scope = Scope::new(&json!({}), DateTime::UNIX_EPOCH);
    if let Some(condition) = rule.condition.as_ref().filter(|script| script.compiled.variables().is_empty())
        && let Ok(held) = condition.holds(&rules.engine, &scope)
    {
        let message = format!("`if` is {held} for every event");
        lint.warn(rule, condition.source(), message, "leave it out, or switch the rule with `mode`");
    }
    visit::scripts(rule, &mut |found| {
        let visit::Found::Template(template) = found else { return };
        if let Some(error) = template.constant_error(&rules.engine, &scope) {
            let help = "this expression reads nothing of the event: it fails each time";
            lint.error(rule, rule.find(template.source()), error.place, error.message, help);
        }
    });
}

/// Rules on many topics that no clause tells apart.
fn unindexed(rule: &Rule, lint: &mut Lint) {
    let Some(pattern) = rule.on.iter().find(|pattern| !pattern.is_exact()) else { return };
    let message =
        format!("no clause of `{}` can be indexed: it is judged for each event of `{pattern}`", rule.name);
    lint.warn(rule, pattern.as_str(), message, "add an equality, a prefix or a suffix to `when`");
}

fn task_inputs(rule: &Rule, inputs: &InputsOf<'_>, lint: &mut Lint) {
    for entry in &rule.then {
        let Action::Task(task) = &entry.action else { continue };
        if !task.overrides.is_empty() {
            continue;
        }
        match inputs(&task.task) {
            Ok(Some(known)) => task_input(rule, task, &known, lint),
            Ok(None) => {}
            Err(why) => {
                let message = format!("the task `{}` could not run from here: {why}", task.task);
                lint.warn(rule, task.task.as_str(), message, "mend its `repo` in tasks.yaml");
            }
        }
    }
}

fn task_input(rule: &Rule, task: &TaskEntry, known: &[Input], lint: &mut Lint) {
    let given = task.with.keys();
    let names = || known.iter().map(|input| input.name.as_str());
    for name in &given {
        if !names().any(|known| known == *name) {
            let message = format!("the task `{}` has no input `{name}`", task.task);
            let help = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its inputs are {}", names().collect::<Vec<_>>().join(", ")),
            };
            lint.warn(rule, &format!("{name}:"), message, help);
        }
    }
    for input in known.iter().filter(|input| input.required && !given.contains(&input.name.as_str())) {
        let message = format!("the task `{}` needs the input `{}`", task.task, input.name);
        lint.warn(rule, task.task.as_str(), message, format!("write `with: {{{}: …}}`", input.name));
    }
}
