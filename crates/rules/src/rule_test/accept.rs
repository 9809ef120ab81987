//! Taking what rules say now for what is expected of them, in the text of the test files.

use super::{Expect, ExpectedOf, TestCase, Wished, compare::paired, difference, failed_clauses, wished};
use crate::{compile::RuleSet, evaluate::Input, language::Rule, load::RuleFiles, yaml_text};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, ops::Range};

/// Writes into the files' `expect` what the rules say now, where a test does not pass. All other text stays as
/// it is. Tests of rules that err keep what they expect. Gives the whole text of each file that changes.
#[must_use]
pub fn accept(files: &RuleFiles, rules: &RuleSet) -> BTreeMap<String, String> {
    let mut edits: BTreeMap<String, Vec<(Range<usize>, String)>> = BTreeMap::new();
    for test in rules.tests() {
        let Some(text) = files.files.get(&*test.place.file) else { continue };
        let found = edits_of(rules, test, text);
        if !found.is_empty() {
            edits.entry(test.place.file.to_string()).or_default().extend(found);
        }
    }
    let apply = |(file, mut edits): (String, Vec<(Range<usize>, String)>)| {
        let mut text = files.files.get(&file)?.to_string();
        // From the end, so that the places before it stay where they are.
        edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
        for (span, new) in edits {
            text.replace_range(span, &new);
        }
        Some((file, text))
    };
    edits.into_iter().filter_map(apply).collect()
}

fn edits_of(rules: &RuleSet, test: &TestCase, text: &str) -> Vec<(Range<usize>, String)> {
    let event = &test.message.event;
    let input = Input::new(event, &test.message.body, test.now.unwrap_or(event.received_at));
    let in_flow = text.get(test.expect_span.clone()).is_some_and(|expect| expect.starts_with('{'));
    if test.expect.is_empty() {
        let mut said = Map::new();
        for rule in rules.hearing(&input) {
            if let Ok(Wished::Things(got)) = wished(rules, rule, &input) {
                said.insert(rule.name.to_string(), got.iter().map(told).collect());
            }
        }
        let start = test.expect_span.start;
        let Some(end) = flow_end(text, start).filter(|_| !said.is_empty()) else { return Vec::new() };
        return vec![(start..end, yaml_text::flow(&Value::Object(said)))];
    }
    let edit = |expected: &ExpectedOf| {
        let rule = rules.rule(&expected.rule)?;
        difference(rules, rule, &input, &expected.what)?;
        let new = said_now(rules, rule, &input, &expected.what)?;
        let (span, column) = value_of(text, &expected.span)?;
        Some((span, rendered(&new, column, in_flow)))
    };
    test.expect.iter().filter_map(edit).collect()
}

/// What is to be expected; nothing if the rule errs.
fn said_now(rules: &RuleSet, rule: &Rule, input: &Input<'_>, expect: &Expect) -> Option<Value> {
    let got = match wished(rules, rule, input).ok()? {
        Wished::Things(got) => got,
        Wished::Nothing if matches!(expect, Expect::NoMatch(_)) => {
            let failed = failed_clauses(rules, rule, input);
            return Some(serde_json::json!({"no_match": failed.first()?}));
        }
        Wished::Nothing | Wished::TooDeep => return Some(Value::Array(Vec::new())),
    };
    let Expect::Wishes(expected) = expect else { return Some(got.iter().map(told).collect()) };
    let pairs = paired(expected, &got);
    // What is expected already stays in its own words, in the order of the wishes.
    let one = |(at, wish): (usize, &Value)| {
        let old = pairs.iter().position(|pair| *pair == Some(at));
        old.map_or_else(|| told(wish), |old| expected[old].wish.clone())
    };
    Some(got.iter().enumerate().map(one).collect())
}

/// The fields of a wish that make it known.
fn told(wish: &Value) -> Value {
    const TOLD: [&str; 7] = ["task", "item", "with", "matrix", "cancel", "emit", "collect"];
    let Value::Object(fields) = wish else { return wish.clone() };
    let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    let kept = fields.iter().filter(|(name, value)| TOLD.contains(&name.as_str()) && !empty(value));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// In flow style inside of a flow mapping and where it is short, else one line for each wish.
fn rendered(new: &Value, column: usize, in_flow: bool) -> String {
    const SHORT_CHARS_MAX: usize = 90;
    let flow = yaml_text::flow(new);
    if in_flow || !new.is_array() || flow.chars().count() + column <= SHORT_CHARS_MAX {
        return format!(" {flow}");
    }
    let lines = yaml_text::block(new, column + 2);
    format!("\n{}", lines.trim_end_matches('\n'))
}

/// The bytes of a key's value from behind its colon on, and the key's column, counted from 0.
fn value_of(text: &str, key: &Range<usize>) -> Option<(Range<usize>, usize)> {
    let colon = key.end + text.get(key.end..)?.find(':')?;
    let line_start = text[..key.start].rfind('\n').map_or(0, |at| at + 1);
    let column = text[line_start..key.start].chars().count();
    let start = colon + 1;
    let rest = &text[start..];
    let first = rest.find(|c: char| c != ' ').map_or(text.len(), |at| start + at);
    if let Some(end) = flow_end(text, first) {
        return Some((start..end, column));
    }
    // A block: all lines that are deeper than the key, or items of a list in its column.
    let mut end = start + rest.find('\n').unwrap_or(rest.len());
    let mut at = end;
    for line in text[end..].split_inclusive('\n').skip(1) {
        at += 1;
        let body = line.trim_end_matches('\n');
        let depth = body.len() - body.trim_start_matches(' ').len();
        let content = body.trim();
        let note = content.is_empty() || content.starts_with('#');
        if !note && depth <= column && !(depth == column && content.starts_with("- ")) {
            break;
        }
        at += body.len();
        if !note {
            end = at;
        }
    }
    Some((start..end, column))
}

/// The end of a list or mapping in flow style that begins here.
fn flow_end(text: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.get(start..)?.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(start + at + 1);
                }
            }
            (None, _) if depth == 0 => return None,
            (None, _) => {}
        }
        escaped = false;
    }
    None
}
