//! Tests of rules: a message goes in, and the wishes of the rules that the test names are compared.
//!
//! - Each rule that `expect` names must wish exactly as many things as are listed, in any order; a listed one
//!   names only the fields that it cares about. `[]` says that the rule does not fire.
//! - Rules that `expect` does not name do not count, but `expect: {}` says that no rule fires at all.
//! - The mode of a rule does not count: a rule is tested before it is switched on.
//! - A rule that errs fails the test if it is named, and any does with `expect: {}`.

use crate::{
    compile::RuleSet,
    evaluate::{Firing, Input, Said, guarded},
    explain::Trace,
    language::Rule,
    source::Place,
};
use chrono::{DateTime, Utc};
use model::{
    Event, RuleName, SourceName, Topic,
    event::{check_id, hashed_id, json_kind, sent_at},
};
use serde_json::{Map, Value};

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
    /// What the rules are expected to wish.
    pub expect: Vec<(RuleName, Vec<Expected>)>,
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
    pub(crate) const FIELDS: [&str; 17] = [
        "task", "item", "with", "matrix", "needs", "queue", "priority", "group", "batch", "dedupe",
        "timeout", "git", "ref", "path", "cancel", "emit", "collect",
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
        for rule in rules.hearing(&input) {
            differences.extend(difference(rules, rule, &input, &[]));
        }
    }
    for (name, expected) in &test.expect {
        if let Some(rule) = rules.rule(name) {
            differences.extend(difference(rules, rule, &input, expected));
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
fn difference(rules: &RuleSet, rule: &Rule, input: &Input<'_>, expected: &[Expected]) -> Option<String> {
    let said = if rules.hears(rule, input) {
        guarded(rule, || rules.judge(rule, input, &mut Trace::off()))
    } else {
        Ok(Said::NoMatch)
    };
    let name = &rule.name;
    let got = match said {
        Err(error) => return Some(format!("{name}: erred at {error}")),
        Ok(Said::NoMatch) if expected.is_empty() => return None,
        Ok(Said::NoMatch) => return Some(format!("{name}: does not fire{}", why_not(rules, rule, input))),
        Ok(Said::TooDeep) if expected.is_empty() => return None,
        Ok(Said::TooDeep) => {
            return Some(format!("{name}: the chain is too long (depth {})", input.event.depth));
        }
        Ok(Said::Collected(wish)) => vec![wish.to_json()],
        Ok(Said::Fired(firing)) => shown(&firing),
    };
    if expected.is_empty() {
        return Some(format!("{name}: is expected not to fire, but wishes\n{}", listed("    + ", &got)));
    }
    compare(name, expected, got)
}

fn shown(firing: &Firing) -> Vec<Value> {
    let tasks = firing.tasks.iter().map(crate::wish::TaskWish::to_json);
    let cancels = firing.cancels.iter().map(crate::wish::CancelWish::to_json);
    let emits = firing.emits.iter().map(crate::wish::EmitWish::to_json);
    tasks.chain(cancels).chain(emits).collect()
}

/// The clauses that did not hold, one in a line.
fn why_not(rules: &RuleSet, rule: &Rule, input: &Input<'_>) -> String {
    use model::verdict::ClauseState;
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

fn listed(mark: &str, wishes: &[Value]) -> String {
    wishes.iter().map(|wish| format!("{mark}{wish}")).collect::<Vec<_>>().join("\n")
}

/// Pairs expected and got; each expected one takes the got one that meets it.
fn compare(name: &RuleName, expected: &[Expected], got: Vec<Value>) -> Option<String> {
    let pairs = paired(expected, &got);
    let missing: Vec<&Expected> = expected
        .iter()
        .zip(&pairs)
        .filter(|(_, pair)| pair.is_none())
        .map(|(expected, _)| expected)
        .collect();
    let left: Vec<Value> = got
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !pairs.contains(&Some(*at)))
        .map(|(_, wish)| wish)
        .collect();
    if missing.is_empty() && left.is_empty() {
        return None;
    }
    let mut out = format!("{name}: wishes other things than expected (- expected, + wished)");
    for expected in missing {
        out.push_str(&format!("\n    - {}", expected.wish));
        // The one that is nearest says most: the fields that differ.
        let near = left.iter().map(|wish| differing("", &expected.wish, wish)).min_by_key(Vec::len);
        if let Some(fields) = near.filter(|fields| fields.len() <= 3) {
            for field in fields {
                out.push_str(&format!("\n        {field}"));
            }
        }
    }
    if !left.is_empty() {
        out.push('\n');
        out.push_str(&listed("    + ", &left));
    }
    Some(out)
}

/// For each expected wish the place of a wish that meets it, each used once, as many as possible.
fn paired(expected: &[Expected], got: &[Value]) -> Vec<Option<usize>> {
    /// Finds a wish for one expected, moving others where they have another choice (Kuhn's algorithm).
    fn find(at: usize, meets: &[Vec<bool>], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
        for wish in 0..taken.len() {
            if !meets[at][wish] || tried[wish] {
                continue;
            }
            tried[wish] = true;
            if taken[wish].is_none_or(|other| find(other, meets, taken, tried)) {
                taken[wish] = Some(at);
                return true;
            }
        }
        false
    }
    let meets: Vec<Vec<bool>> = expected
        .iter()
        .map(|expected| got.iter().map(|wish| differing("", &expected.wish, wish).is_empty()).collect())
        .collect();
    let mut taken = vec![None; got.len()];
    for at in 0..expected.len() {
        find(at, &meets, &mut taken, &mut vec![false; got.len()]);
    }
    (0..expected.len()).map(|at| taken.iter().position(|taken| *taken == Some(at))).collect()
}

/// The fields of `expected` that `got` does not have so, each in words. Lists must be equal in length.
fn differing(path: &str, expected: &Value, got: &Value) -> Vec<String> {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => expected
            .iter()
            .flat_map(|(name, expected)| match got.get(name) {
                Some(got) => differing(&inner(name), expected, got),
                None => vec![format!("{}: expected {expected}, there is none", inner(name))],
            })
            .collect(),
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => expected
            .iter()
            .zip(got)
            .enumerate()
            .flat_map(|(at, (expected, got))| differing(&format!("{path}[{at}]"), expected, got))
            .collect(),
        _ if expected == got || crate::predicate::equal(expected, got) == Some(true) => Vec::new(),
        _ => vec![format!("{path}: expected {expected}, got {got}")],
    }
}
