//! Clauses that nothing can meet.

use super::Lint;
use crate::{
    language::Rule,
    predicate::{Block, Clause, Predicate, Relation, Test, compare_numbers},
};
use chrono::DateTime;
use serde_json::{Number, Value};
use std::cmp::Ordering;

pub(super) fn lint(rule: &Rule, lint: &mut Lint) {
    for clause in rule.when.iter().chain(rule.unless.iter().flatten()).chain(rule.any.iter().flatten()) {
        if let Some(why) = unmeetable(&clause.predicate) {
            let message = format!("nothing can meet `{clause}`: {why}");
            lint.warn(rule, clause.path.as_str(), message, "take one of the predicates out");
        }
    }
    for block in rule
        .unless
        .iter()
        .filter(|block| !block.is_empty() && block.iter().all(|clause| implied(&rule.when, clause)))
    {
        let message = format!("`{}` never fires: `unless` holds whenever `when` does", rule.name);
        let path = block.first().map_or("unless", |clause| clause.path.as_str());
        lint.warn(rule, path, message, "ask for something in `unless` that `when` does not ask for");
    }
    let excluded = |block: &Block| block.iter().any(|clause| excluded(&rule.when, clause));
    if !rule.any.is_empty() && rule.any.iter().all(excluded) {
        let message = format!("`{}` never fires: no block of `any` can hold together with `when`", rule.name);
        lint.warn(rule, "any", message, "ask for the field in one of them only");
    }
}

/// Why no value can meet a predicate.
fn unmeetable(predicate: &Predicate) -> Option<String> {
    if let Some(values) = values(predicate) {
        let met = values.iter().any(|value| may_meet(predicate, value));
        return (!met).then(|| "no value that it names meets the rest".to_owned());
    }
    if let Some(why) = empty_range(predicate) {
        return Some(why);
    }
    if let Some(why) = types(predicate) {
        return Some(why);
    }
    if let Some(why) = beginnings(predicate) {
        return Some(why);
    }
    let positive: Vec<String> = predicate.tests.iter().map(ToString::to_string).collect();
    let turned = predicate.negated.iter().find(|negated| match negated.tests.as_slice() {
        [test] => {
            negated.negated.is_empty() && negated.exists.is_none() && positive.contains(&test.to_string())
        }
        _ => false,
    });
    turned.map(|negated| format!("it asks for `{negated}` and for the opposite"))
}

/// The values that a predicate names, if it meets no others.
fn values(predicate: &Predicate) -> Option<Vec<&Value>> {
    predicate.tests.iter().find_map(|test| match test {
        Test::Equals(value) => Some(vec![value]),
        Test::AnyOf(some) => some
            .iter()
            .map(|one| match one.tests.as_slice() {
                [Test::Equals(value)] if one.negated.is_empty() && one.exists.is_none() => Some(value),
                _ => None,
            })
            .collect(),
        _ => None,
    })
}

/// Whether a value can meet a predicate; where that depends on the time, it can.
fn may_meet(predicate: &Predicate, value: &Value) -> bool {
    let timed = predicate.tests.iter().any(|test| matches!(test, Test::Age(..)));
    timed || predicate.judge_value(value, DateTime::UNIX_EPOCH).held()
}

fn empty_range(predicate: &Predicate) -> Option<String> {
    let numbers = |wanted: [Relation; 2]| {
        predicate.tests.iter().filter_map(move |test| match test {
            Test::Number(relation, number) if wanted.contains(relation) => Some((*relation, number)),
            _ => None,
        })
    };
    let crossed = |low: (Relation, &Number), high: (Relation, &Number)| match compare_numbers(low.1, high.1) {
        Some(Ordering::Greater) => true,
        Some(Ordering::Equal) => low.0 == Relation::Gt || high.0 == Relation::Lt,
        _ => false,
    };
    for low in numbers([Relation::Gt, Relation::Gte]) {
        if let Some(high) = numbers([Relation::Lt, Relation::Lte]).find(|high| crossed(low, *high)) {
            return Some(format!(
                "no number is {} {} and {} {}",
                low.0.words(),
                low.1,
                high.0.words(),
                high.1
            ));
        }
    }
    None
}

fn types(predicate: &Predicate) -> Option<String> {
    let kind = |test: &Test| match test {
        Test::Prefix(_)
        | Test::Suffix(_)
        | Test::EqualsIgnoringCase(_)
        | Test::Glob(_)
        | Test::Regex(_)
        | Test::Version(..) => Some("a text"),
        Test::Number(..) => Some("a number"),
        Test::Any(_) | Test::All(_) => Some("a list"),
        Test::Null(true) => Some("null"),
        _ => None,
    };
    let mut kinds = predicate.tests.iter().filter_map(kind);
    let first = kinds.next()?;
    let other = kinds.find(|kind| *kind != first)?;
    Some(format!("no value is {first} and {other}"))
}

/// Beginnings, and ends, that no text has together.
fn beginnings(predicate: &Predicate) -> Option<String> {
    let both = |of_test: &dyn Fn(&Test) -> Option<Vec<String>>, fit: &dyn Fn(&str, &str) -> bool| {
        let lists: Vec<_> = predicate.tests.iter().filter_map(of_test).collect();
        let apart = |a: &[String], b: &[String]| !a.iter().any(|a| b.iter().any(|b| fit(a, b)));
        lists.iter().enumerate().any(|(at, a)| lists[at + 1..].iter().any(|b| apart(a, b)))
    };
    let prefixes = |test: &Test| match test {
        Test::Prefix(texts) => Some(texts.clone()),
        Test::Glob(globs) => Some(globs.iter().map(|glob| glob.prefix().to_owned()).collect()),
        _ => None,
    };
    let suffixes = |test: &Test| match test {
        Test::Suffix(texts) => Some(texts.clone()),
        Test::Glob(globs) => Some(globs.iter().map(|glob| glob.suffix().to_owned()).collect()),
        _ => None,
    };
    if both(&prefixes, &|a, b| a.starts_with(b) || b.starts_with(a)) {
        return Some("no text begins with both".to_owned());
    }
    both(&suffixes, &|a, b| a.ends_with(b) || b.ends_with(a)).then(|| "no text ends with both".to_owned())
}

/// Whether a clause holds whenever a block does.
fn implied(block: &Block, clause: &Clause) -> bool {
    block
        .iter()
        .filter(|own| own.path.as_str() == clause.path.as_str())
        .any(|own| implies(&own.predicate, &clause.predicate))
}

/// Whether everything that meets the one predicate meets the other.
pub(super) fn implies(one: &Predicate, other: &Predicate) -> bool {
    if one.to_string() == other.to_string() {
        return true;
    }
    let timeless = !other.tests.iter().any(|test| matches!(test, Test::Age(..)));
    let all_meet = |values: Vec<&Value>| {
        values.iter().all(|value| other.judge_value(value, DateTime::UNIX_EPOCH).held())
    };
    timeless && values(one).is_some_and(all_meet)
}

/// Whether a clause cannot hold where a block does, paths through lists apart.
fn excluded(block: &Block, clause: &Clause) -> bool {
    let apart = |own: &Clause| {
        values(&own.predicate)
            .is_some_and(|values| !values.iter().any(|value| may_meet(&clause.predicate, value)))
    };
    block.iter().filter(|own| own.path.as_str() == clause.path.as_str()).any(apart)
}
