//! Clauses: a path, and what must hold of the values that it leads to.
//!
//! The semantics, in one place:
//! - A path through an array means any element: one value for which all positive tests of the clause hold
//!   is enough.
//! - A missing field makes every test false; `not` turns that round, so `not` holds of a missing field.
//!   `exists` asks.
//! - Nothing is coerced: a value of another type does not match, and the verdict says so. Numbers compare by
//!   value, `1` and `1.0` are equal.

mod glob;
mod read;
mod words;

pub use glob::Glob;
pub(crate) use read::NAMES;
pub(crate) use read::regex;
pub use read::{Roots, read_block};

use crate::{
    path::{Found, Path, Subject},
    version,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use model::{event::json_kind, verdict::ClauseState};
use regex::Regex;
use serde_json::{Number, Value};
use std::{cmp::Ordering, time::Duration};

/// The most tests in the blocks of one rule or filter.
pub const TESTS_MAX: usize = 10_000;
/// The largest compiled form of one pattern (`regex`, `glob`) in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Several clauses that must all hold.
pub type Block = Vec<Clause>;

/// A path and what must hold there.
#[derive(Debug, Clone)]
pub struct Clause {
    /// Where to look.
    pub path: Path,
    /// What must hold.
    pub predicate: Predicate,
}

/// What must hold: all positive tests of one value, none of the negated, and the existence asked for.
#[derive(Debug, Clone, Default)]
pub struct Predicate {
    /// Tests of one value.
    pub tests: Vec<Test>,
    /// What must not hold.
    pub negated: Vec<Predicate>,
    /// Whether the field must be there, if that is asked.
    pub exists: Option<bool>,
}

/// One test of one value.
#[derive(Debug, Clone)]
pub enum Test {
    /// It is this scalar.
    Equals(Value),
    /// One of these holds.
    AnyOf(Vec<Predicate>),
    /// It is null, or it is not.
    Null(bool),
    /// It starts with one of these texts.
    Prefix(Vec<String>),
    /// It ends with one of these texts.
    Suffix(Vec<String>),
    /// It is one of these texts, whatever the case of letters; kept in lower case.
    EqualsIgnoringCase(Vec<String>),
    /// It matches one of these globs as a whole.
    Glob(Vec<Glob>),
    /// One of these regular expressions is found in it.
    Regex(Vec<Regex>),
    /// It is a number in this relation to another.
    Number(Relation, Number),
    /// It is a version in this relation to another.
    Version(VersionRules, Relation, String),
    /// It is a time, and the time since then is in this relation to a duration.
    Age(Relation, Duration),
    /// It is a text, list or object with this many characters, elements or fields.
    Size {
        /// The fewest.
        min: Option<u64>,
        /// The most.
        max: Option<u64>,
    },
    /// It is a list of which elements hold, or a text with parts, as the quantity says.
    Contains(Quantity, Vec<Predicate>),
    /// It is a list with an element of which the block holds.
    Any(Block),
    /// It is a list, and the block holds of all its elements.
    All(Block),
}

/// How two things compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Equal.
    Eq,
}

impl Relation {
    /// Whether an order is in this relation.
    #[must_use]
    pub const fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Gt => order.is_gt(),
            Self::Gte => order.is_ge(),
            Self::Lt => order.is_lt(),
            Self::Lte => order.is_le(),
            Self::Eq => order.is_eq(),
        }
    }
}

/// By whose rules versions compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionRules {
    /// RPM's: `[epoch:]version[-release]`.
    Rpm,
    /// Debian's: `[epoch:]upstream[-revision]`.
    Debian,
}

/// How many of several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// At least one.
    Any,
    /// Each.
    All,
}

/// How a clause or a test went, and by which value.
#[derive(Debug, Clone)]
pub struct Judged<'v> {
    /// How it went.
    pub state: ClauseState,
    /// The value that decided.
    pub found: Option<&'v Value>,
}

impl Judged<'_> {
    /// Whether it held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.state == ClauseState::Held
    }

    /// What more there is to say: the type found where another was wanted.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let value = self.found.filter(|_| self.state == ClauseState::WrongType)?;
        let help =
            if value.is_array() { "; `contains`, `any`, `all` and `size` look into lists" } else { "" };
        Some(format!("it is {}{help}", json_kind(value)))
    }
}

impl Clause {
    /// Judges the clause.
    #[must_use]
    pub fn judge<'v>(&self, subject: Subject<'v>, now: DateTime<Utc>) -> Judged<'v> {
        let found = self.path.find(subject);
        self.predicate.judge(&found, now)
    }
}

/// Whether all clauses of a block hold.
#[must_use]
pub fn block_holds(block: &[Clause], subject: Subject<'_>, now: DateTime<Utc>) -> bool {
    block.iter().all(|clause| clause.judge(subject, now).held())
}

impl Predicate {
    /// Judges the values that a path leads to.
    #[must_use]
    pub fn judge<'v>(&self, found: &Found<'v>, now: DateTime<Utc>) -> Judged<'v> {
        let values = found.as_slice();
        let first = values.first().copied();
        match self.exists {
            Some(true) if first.is_none() => return Judged { state: ClauseState::Missing, found: None },
            Some(false) if first.is_some() => return Judged { state: ClauseState::Failed, found: first },
            _ => {}
        }
        let judged = self.judge_positive(values, now);
        if !judged.held() {
            return judged;
        }
        for negated in &self.negated {
            let inner = negated.judge(found, now);
            if inner.held() {
                return Judged { state: ClauseState::Failed, found: inner.found };
            }
        }
        judged
    }

    /// Judges one value that is there.
    #[must_use]
    pub fn judge_value<'v>(&self, value: &'v Value, now: DateTime<Utc>) -> Judged<'v> {
        self.judge(&Found::One(value), now)
    }

    /// The positive tests: all must hold of one and the same value.
    fn judge_positive<'v>(&self, values: &[&'v Value], now: DateTime<Utc>) -> Judged<'v> {
        let first = values.first().copied();
        if self.tests.is_empty() {
            return Judged { state: ClauseState::Held, found: first };
        }
        let Some(first) = first else { return Judged { state: ClauseState::Missing, found: None } };
        let mut best = Judged { state: ClauseState::WrongType, found: Some(first) };
        for value in values {
            match all_tests(&self.tests, value, now) {
                ClauseState::Held => return Judged { state: ClauseState::Held, found: Some(value) },
                ClauseState::Failed if best.state == ClauseState::WrongType => {
                    best = Judged { state: ClauseState::Failed, found: Some(value) };
                }
                _ => {}
            }
        }
        best
    }
}

fn all_tests(tests: &[Test], value: &Value, now: DateTime<Utc>) -> ClauseState {
    tests
        .iter()
        .map(|test| test.check(value, now))
        .find(|state| *state != ClauseState::Held)
        .unwrap_or(ClauseState::Held)
}

/// The state of an alternative: held when one does, else failed when one had the right type.
fn any_state(states: impl Iterator<Item = ClauseState>) -> ClauseState {
    let mut best = ClauseState::WrongType;
    for state in states {
        match state {
            ClauseState::Held => return state,
            ClauseState::WrongType => {}
            _ => best = ClauseState::Failed,
        }
    }
    best
}

impl Test {
    /// Tests one value: held, failed or of the wrong type.
    #[must_use]
    pub fn check(&self, value: &Value, now: DateTime<Utc>) -> ClauseState {
        match self {
            Self::Equals(wanted) => equal(wanted, value).map_or(ClauseState::WrongType, state_of),
            Self::AnyOf(wanted) => any_state(wanted.iter().map(|one| one.judge_value(value, now).state)),
            Self::Null(wanted) => state_of(value.is_null() == *wanted),
            Self::Prefix(texts) => on_text(value, |text| texts.iter().any(|want| text.starts_with(want))),
            Self::Suffix(texts) => on_text(value, |text| texts.iter().any(|want| text.ends_with(want))),
            Self::EqualsIgnoringCase(texts) => on_text(value, |text| texts.contains(&text.to_lowercase())),
            Self::Glob(globs) => on_text(value, |text| globs.iter().any(|glob| glob.is_match(text))),
            Self::Regex(regexes) => on_text(value, |text| regexes.iter().any(|regex| regex.is_match(text))),
            Self::Number(relation, wanted) => match value {
                Value::Number(number) => {
                    state_of(compare_numbers(number, wanted).is_some_and(|order| relation.holds(order)))
                }
                _ => ClauseState::WrongType,
            },
            Self::Version(rules, relation, wanted) => on_text(value, |text| {
                relation.holds(match rules {
                    VersionRules::Rpm => version::compare_rpm_evr(text, wanted),
                    VersionRules::Debian => version::compare_debian(text, wanted),
                })
            }),
            Self::Age(relation, wanted) => time_of(value)
                .map_or(ClauseState::WrongType, |then| state_of(age(then, now, *relation, *wanted))),
            Self::Size { min, max } => size_of(value).map_or(ClauseState::WrongType, |size| {
                state_of(min.is_none_or(|min| size >= min) && max.is_none_or(|max| size <= max))
            }),
            Self::Contains(quantity, wanted) => contains(value, *quantity, wanted, now),
            Self::Any(block) => {
                on_list(value, |items| items.iter().any(|item| block_holds(block, Subject::Value(item), now)))
            }
            Self::All(block) => {
                on_list(value, |items| items.iter().all(|item| block_holds(block, Subject::Value(item), now)))
            }
        }
    }
}

const fn state_of(held: bool) -> ClauseState {
    if held { ClauseState::Held } else { ClauseState::Failed }
}

fn on_text(value: &Value, test: impl FnOnce(&str) -> bool) -> ClauseState {
    value.as_str().map_or(ClauseState::WrongType, |text| state_of(test(text)))
}

fn on_list(value: &Value, test: impl FnOnce(&[Value]) -> bool) -> ClauseState {
    value.as_array().map_or(ClauseState::WrongType, |items| state_of(test(items)))
}

/// Whether two scalars are equal; nothing when their types differ.
#[must_use]
pub fn equal(wanted: &Value, value: &Value) -> Option<bool> {
    match (wanted, value) {
        (Value::Null, Value::Null) => Some(true),
        (Value::Bool(a), Value::Bool(b)) => Some(a == b),
        (Value::String(a), Value::String(b)) => Some(a == b),
        (Value::Number(a), Value::Number(b)) => Some(compare_numbers(a, b) == Some(Ordering::Equal)),
        _ => None,
    }
}

/// Compares two numbers by value, exactly also where a float could not hold the whole number.
#[must_use]
pub fn compare_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    /// Floats below this are whole numbers of `i128`.
    const WHOLE_MAX: f64 = 1e30;
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    #[expect(clippy::cast_possible_truncation, reason = "the float is whole and within the bounds of i128")]
    let whole_float =
        |number: f64| (number.fract() == 0.0 && number.abs() < WHOLE_MAX).then_some(number as i128);
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (None, None) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Some(a), None) => {
            let b = b.as_f64()?;
            // A fraction lies between two whole numbers: compare with the lower one, a tie is then less.
            whole_float(b.floor()).map_or_else(
                || 0.0.partial_cmp(&b),
                |floor| {
                    Some(a.cmp(&floor).then(if b.fract() == 0.0 { Ordering::Equal } else { Ordering::Less }))
                },
            )
        }
        (None, Some(_)) => compare_numbers(b, a).map(Ordering::reverse),
    }
}

/// A time: RFC 3339, the same without an offset (then UTC, with `T` or a blank), a date, or seconds since 1970.
#[must_use]
pub fn time_of(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::String(text) => time_of_text(text),
        Value::Number(number) => {
            let millis = number.as_f64()? * 1000.0;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates, and chrono refuses what is too far"
            )]
            DateTime::from_timestamp_millis(millis as i64)
        }
        _ => None,
    }
}

fn time_of_text(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    Some(naive.and_utc())
}

/// A time that is still to come has no age: it is younger than any.
fn age(then: DateTime<Utc>, now: DateTime<Utc>, relation: Relation, wanted: Duration) -> bool {
    let age = now.signed_duration_since(then);
    relation.holds(age.to_std().map_or(Ordering::Less, |age| age.cmp(&wanted)))
}

fn size_of(value: &Value) -> Option<u64> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => return None,
    };
    Some(size as u64)
}

/// Of a list, elements; of a text, parts (only plain texts can be parts).
fn contains(value: &Value, quantity: Quantity, wanted: &[Predicate], now: DateTime<Utc>) -> ClauseState {
    let has = |one: &Predicate| match value {
        Value::Array(items) => Some(items.iter().any(|item| one.judge_value(item, now).held())),
        Value::String(text) => match one.tests.as_slice() {
            [Test::Equals(Value::String(part))] => Some(text.contains(part.as_str())),
            _ => None,
        },
        _ => None,
    };
    let mut results = wanted.iter().map(has);
    match quantity {
        _ if !matches!(value, Value::Array(_) | Value::String(_)) => ClauseState::WrongType,
        Quantity::Any => state_of(results.any(|held| held == Some(true))),
        Quantity::All => state_of(results.all(|held| held == Some(true))),
    }
}

#[cfg(test)]
mod tests;
