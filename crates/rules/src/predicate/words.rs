//! Clauses in words, for verdicts.

use super::{Clause, Predicate, Quantity, Relation, Test, VersionRules};
use model::units::format_duration;
use serde_json::Value;
use std::fmt;

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.predicate)
    }
}

impl fmt::Display for Predicate {
    /// `is any of [F42, F43]`, `starts with kernel and is not kernel-rt`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.exists.map(|exists| if exists { "is there" } else { "is not there" }.to_owned()));
        parts.extend(self.tests.iter().map(ToString::to_string));
        parts.extend(self.negated.iter().map(negated));
        f.write_str(&parts.join(" and "))
    }
}

fn negated(predicate: &Predicate) -> String {
    match (predicate.tests.as_slice(), predicate.negated.is_empty() && predicate.exists.is_none()) {
        ([Test::Equals(value)], true) => format!("is not {}", plain(value)),
        ([Test::AnyOf(some)], true) => format!("is none of {}", list(some)),
        _ => format!("not ({predicate})"),
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(value) => write!(f, "is {}", plain(value)),
            Self::AnyOf(some) => write!(f, "is any of {}", list(some)),
            Self::Null(true) => f.write_str("is null"),
            Self::Null(false) => f.write_str("is there and not null"),
            Self::Prefix(texts) => write!(f, "starts with {}", texts_or(texts)),
            Self::Suffix(texts) => write!(f, "ends with {}", texts_or(texts)),
            Self::EqualsIgnoringCase(texts) => write!(f, "is {} in any case", texts_or(texts)),
            Self::Glob(globs) => {
                write!(f, "matches {}", or(globs.iter().map(|one| one.as_str().to_owned())))
            }
            Self::Regex(some) => {
                write!(f, "matches /{}/", or(some.iter().map(|one| one.as_str().to_owned())))
            }
            Self::Number(relation, number) => write!(f, "is {} {number}", relation.words()),
            Self::Version(VersionRules::Rpm, relation, version) => {
                write!(f, "is an RPM version {} {version}", relation.words())
            }
            Self::Version(VersionRules::Debian, relation, version) => {
                write!(f, "is a Debian version {} {version}", relation.words())
            }
            Self::Age(relation, duration) => {
                write!(f, "has an age {} {}", relation.words(), format_duration(*duration))
            }
            Self::Size { min, max } => match (min, max) {
                (Some(min), Some(max)) if min == max => write!(f, "has size {min}"),
                (Some(min), Some(max)) => write!(f, "has size {min} to {max}"),
                (Some(min), None) => write!(f, "has size at least {min}"),
                (None, max) => write!(f, "has size at most {}", max.unwrap_or(u64::MAX)),
            },
            Self::Contains(_, some) if some.len() == 1 => write!(f, "contains {}", short(&some[0])),
            Self::Contains(Quantity::Any, some) => write!(f, "contains any of {}", list(some)),
            Self::Contains(Quantity::All, some) => write!(f, "contains all of {}", list(some)),
            Self::Any(block) => write!(f, "has an element where {}", clauses(block)),
            Self::All(block) => write!(f, "has only elements where {}", clauses(block)),
        }
    }
}

impl Relation {
    /// The relation in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Gt => "above",
            Self::Gte => "at least",
            Self::Lt => "below",
            Self::Lte => "at most",
            Self::Eq => "equal to",
        }
    }
}

/// A scalar without quotes, unless it is a text that would read as something else.
fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => plain_text(text),
        None => value.to_string(),
    }
}

fn plain_text(text: &str) -> String {
    let other = text.is_empty() || text.trim() != text || serde_json::from_str::<Value>(text).is_ok();
    if other { format!("{text:?}") } else { text.to_owned() }
}

/// A predicate within a list: its value where it is only that.
fn short(predicate: &Predicate) -> String {
    match predicate.tests.as_slice() {
        [Test::Equals(value)] if predicate.negated.is_empty() => plain(value),
        _ => format!("({predicate})"),
    }
}

fn list(predicates: &[Predicate]) -> String {
    format!("[{}]", predicates.iter().map(short).collect::<Vec<_>>().join(", "))
}

fn texts_or(texts: &[String]) -> String {
    or(texts.iter().map(|text| plain_text(text)))
}

fn or(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(" or ")
}

fn clauses(block: &[Clause]) -> String {
    block.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
