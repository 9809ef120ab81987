//! Tests of rules: a message goes in, and the wishes of the rules that the test names are compared.
//!
//! - Each rule that `expect` names must wish exactly as many things as are listed, in any order; a listed one
//!   names only the fields that it cares about. `[]` says that the rule does not fire.
//! - Rules that `expect` does not name do not count, but `expect: {}` says that no rule fires at all.
//! - The mode of a rule does not count: a rule is tested before it is switched on.
//! - A rule that errs fails the test if it is named, and any does with `expect: {}`.
//! - `{no_match: body.new}` says that the rule does not fire, and which clauses do not hold (paths, or `on`,
//!   `if`, `for_each`); `{error: text}` says that it errs, with this text in the message.

mod accept;
mod compare;
mod junit;

pub use accept::accept;
pub use junit::junit;

use crate::{
    compile::RuleSet,
    evaluate::{Firing, Input, Said, guarded},
    explain::Trace,
    language::Rule,
    source::{Place, RuleError},
};
use chrono::{DateTime, Utc};
use model::{
    Event, RuleName, SourceName, Topic,
    event::{check_id, hashed_id, json_kind, sent_at},
    verdict::ClauseState,
};
use serde_json::{Map, Value};
use std::ops::Range;

/// The source of a test's event, if it names none.
pub const TEST_SOURCE: &str = "test";

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestCase {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The message.
    pub message: TestMessage,
    /// The time that ages count from; the message's own time if missing.
    pub now: Option<DateTime<Utc>>,
    /// What the rules are expected to say.
    pub expect: Vec<ExpectedOf>,
    /// The bytes of `expect` in the file.
    pub(crate) expect_span: Range<usize>,
}

/// What one rule is expected to say.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedOf {
    /// The rule.
    pub rule: RuleName,
    /// What it is expected to say.
    pub what: Expect,
    /// The bytes of its name in the file.
    pub(crate) span: Range<usize>,
}

/// What a rule is expected to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// It wishes these; none says that it does not fire.
    Wishes(Vec<Expected>),
    /// It does not fire, and these clauses do not hold: paths, or `on`, `if`, `for_each`.
    NoMatch(Vec<String>),
    /// It errs, and this is a part of the message.
    Error(String),
}

/// The message of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestMessage {
    event: Event,
    body: Value,
}

/// An expected wish: the fields that it must have.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// A part of what the wish shows as JSON.
    pub wish: Value,
    /// Where it stands.
    pub place: Place,
}

impl Expected {
    /// The fields of wishes.
    pub(crate) const FIELDS: [&str; 20] = [
        "task", "item", "with", "matrix", "needs", "queue", "priority", "group", "batch", "dedupe",
        "timeout", "git", "ref", "path", "trust", "secrets", "approve", "cancel", "emit", "collect",
    ];
}

/// How a test went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// The file that it stands in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Its line in the file, counted from 1.
    pub line: u32,
    /// Whether everything was as expected.
    pub passed: bool,
    /// What was not, in several lines.
    pub difference: Option<String>,
}

impl TestMessage {
    /// A message from its JSON form: `{topic, body, headers, id, source, depth}`, all but the first two may miss.
    ///
    /// # Errors
    /// What is wrong with it, as one sentence.
    pub(crate) fn of(message: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = message else {
            return Err(format!("a message must be an object, it is {}", json_kind(&message)));
        };
        let text = |name: &str, value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("the message's `{name}` must be a text, it is {}", json_kind(&other))),
        };
        let topic = text("topic", fields.remove("topic"))?.ok_or("the message has no `topic`")?;
        let topic = Topic::parse(&topic).map_err(|error| error.to_string())?;
        let body = fields.remove("body").ok_or("the message has no `body`")?;
        if !body.is_object() {
            return Err(format!("the message's `body` must be an object, it is {}", json_kind(&body)));
        }
        let headers = match fields.remove("headers") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(headers)) => headers,
            Some(other) => {
                return Err(format!(
                    "the message's `headers` must be an object, it is {}",
                    json_kind(&other)
                ));
            }
        };
        let payload = body.to_string().into_bytes();
        let id = match text("id", fields.remove("id"))?.filter(|id| !id.is_empty()) {
            Some(id) => {
                check_id(&id).map_err(|error| error.to_string())?;
                id.into()
            }
            None => hashed_id(topic.as_str(), &payload),
        };
        let source =
            SourceName::from(text("source", fields.remove("source"))?.unwrap_or(TEST_SOURCE.to_owned()));
        let depth =
            fields.remove("depth").and_then(|depth| u32::try_from(depth.as_u64()?).ok()).unwrap_or_default();
        let time = sent_at(&headers);
        let event = Event {
            domain: source.clone(),
            source,
            id,
            topic,
            time,
            received_at: time.unwrap_or(DateTime::UNIX_EPOCH),
            headers,
            payload: payload.into(),
            depth,
            cause: None,
            traceparent: None,
        };
        Ok(Self { event, body })
    }
}

/// Lays a patch over a value (RFC 7386): objects are merged, null removes, all else replaces.
pub(crate) fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(fields) = into {
        for (name, value) in patch {
            if value.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name).or_insert(Value::Null), value);
            }
        }
    }
}

/// Runs all tests of a rule set.
#[must_use]
pub fn run(rules: &RuleSet) -> Vec<TestOutcome> {
    rules.tests().iter().map(|test| run_one(rules, test)).collect()
}

fn run_one(rules: &RuleSet, test: &TestCase) -> TestOutcome {
    let TestMessage { event, body } = &test.message;
    let now = test.now.unwrap_or(event.received_at);
    let input = Input::new(event, body, now);
    let mut differences = Vec::new();
    if test.expect.is_empty() {
        let none = Expect::Wishes(Vec::new());
        for rule in rules.hearing(&input) {
            differences.extend(difference(rules, rule, &input, &none));
        }
    }
    for expected in &test.expect {
        if let Some(rule) = rules.rule(&expected.rule) {
            differences.extend(difference(rules, rule, &input, &expected.what));
        }
    }
    TestOutcome {
        file: test.place.file.to_string(),
        name: test.name.clone(),
        line: test.place.line,
        passed: differences.is_empty(),
        difference: (!differences.is_empty()).then(|| differences.join("\n")),
    }
}

/// What is not as expected of one rule; nothing if all is.
fn difference(rules: &RuleSet, rule: &Rule, input: &Input<'_>, expect: &Expect) -> Option<String> {
    let name = &rule.name;
    match (wished(rules, rule, input), expect) {
        (Err(error), Expect::Error(part)) if error.message.contains(part.as_str()) => None,
        (Err(error), Expect::Error(part)) => {
            Some(format!("{name}: is expected to err with `{part}`, but erred at {error}"))
        }
        (Err(error), _) => Some(format!("{name}: erred at {error}")),
        (Ok(_), Expect::Error(part)) => {
            Some(format!("{name}: is expected to err with `{part}`, but does not"))
        }
        (Ok(Wished::TooDeep), Expect::Wishes(expected)) if expected.is_empty() => None,
        (Ok(Wished::TooDeep), _) => {
            Some(format!("{name}: the chain is too long (depth {})", input.event.depth))
        }
        (Ok(Wished::Nothing), Expect::Wishes(expected)) if expected.is_empty() => None,
        (Ok(Wished::Nothing), Expect::Wishes(_)) => {
            Some(format!("{name}: does not fire{}", why_not(rules, rule, input)))
        }
        (Ok(Wished::Nothing), Expect::NoMatch(clauses)) => {
            let failed = failed_clauses(rules, rule, input);
            let held: Vec<_> =
                clauses.iter().filter(|clause| !failed.contains(clause)).map(String::as_str).collect();
            let why = || why_not(rules, rule, input);
            (!held.is_empty())
                .then(|| format!("{name}: does not fire, but not because of {}{}", held.join(", "), why()))
        }
        (Ok(Wished::Things(got)), Expect::Wishes(expected)) if !expected.is_empty() => {
            compare::compare(name, expected, got)
        }
        (Ok(Wished::Things(got)), _) => {
            let got = compare::listed("    + ", &got);
            Some(format!("{name}: is expected not to fire, but wishes\n{got}"))
        }
    }
}

/// What a rule wishes, in the words of `expect`.
enum Wished {
    Nothing,
    TooDeep,
    Things(Vec<Value>),
}

fn wished(rules: &RuleSet, rule: &Rule, input: &Input<'_>) -> Result<Wished, RuleError> {
    if !rules.hears(rule, input) {
        return Ok(Wished::Nothing);
    }
    Ok(match guarded(rule, || rules.judge(rule, input, &mut Trace::off()))? {
        Said::NoMatch => Wished::Nothing,
        Said::TooDeep => Wished::TooDeep,
        Said::Collected(wish) => Wished::Things(vec![wish.to_json()]),
        Said::Fired(firing) => Wished::Things(shown(&firing)),
    })
}

/// The clauses that do not hold: their paths, or the names of their blocks where they have none.
fn failed_clauses(rules: &RuleSet, rule: &Rule, input: &Input<'_>) -> Vec<String> {
    let verdict = rules.explained_as_active(rule, input);
    let failed = verdict.clauses.into_iter().filter(|clause| {
        let counts = |held: bool| if clause.block.starts_with("unless") { held } else { !held };
        clause.state != ClauseState::NotReached && counts(clause.state == ClauseState::Held)
    });
    failed
        .map(|clause| if clause.path.is_empty() || clause.block == "on" { clause.block } else { clause.path })
        .collect()
}

fn shown(firing: &Firing) -> Vec<Value> {
    let tasks = firing.tasks.iter().map(crate::wish::TaskWish::to_json);
    let cancels = firing.cancels.iter().map(crate::wish::CancelWish::to_json);
    let emits = firing.emits.iter().map(crate::wish::EmitWish::to_json);
    tasks.chain(cancels).chain(emits).collect()
}

/// The clauses that did not hold, one in a line.
fn why_not(rules: &RuleSet, rule: &Rule, input: &Input<'_>) -> String {
    let verdict = rules.explained_as_active(rule, input);
    let mut out = String::new();
    for clause in verdict.clauses {
        let state = match clause.state {
            ClauseState::Failed => "failed",
            ClauseState::Missing => "missing",
            ClauseState::WrongType => "wrong type",
            ClauseState::Error => "error",
            ClauseState::Held if clause.note.is_some() => "held",
            ClauseState::Held | ClauseState::NotReached => continue,
        };
        let found = clause.found.map(|found| format!(", found {found}")).unwrap_or_default();
        let note = clause.note.map(|note| format!(" ({note})")).unwrap_or_default();
        out.push_str(&format!(
            "\n    {state}: {} {} {}{found}{note}",
            clause.block, clause.path, clause.wanted
        ));
    }
    out
}
