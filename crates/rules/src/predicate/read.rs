//! Clauses from YAML.

use super::{
    Block, Clause, Glob, PATTERN_BYTES_MAX, Predicate, Quantity, Relation, TESTS_MAX, Test, VersionRules,
};
use crate::path::Path;
use model::{
    diagnostic::nearest,
    event::EVENT_ROOTS,
    yaml::{Key, Node, Reader, Value as Yaml},
};
use regex::{Regex, RegexBuilder};
use serde_json::{Number, Value};
use std::{cell::Cell, ops::Range};

/// The names of all predicates.
pub(crate) const NAMES: [&str; 19] = [
    "not",
    "exists",
    "null",
    "prefix",
    "suffix",
    "ieq",
    "glob",
    "regex",
    "gt",
    "gte",
    "lt",
    "lte",
    "rpm_version",
    "debian_version",
    "age",
    "size",
    "contains",
    "any",
    "all",
];

/// What other rule engines call our predicates, and what to write here.
const ELSEWHERE: [(&str, &str); 18] = [
    ("in", "write the list itself: `path: [a, b]`"),
    ("eq", "write the value itself: `path: value`"),
    ("equals", "write the value itself: `path: value`"),
    ("ne", "write `{not: value}`"),
    ("not_in", "write `{not: [a, b]}`"),
    ("anything-but", "write `{not: value}`"),
    ("any_of", "write the list itself: `path: [a, b]`"),
    ("inside", "write the list itself: `path: [a, b]`"),
    ("startswith", "write `prefix`"),
    ("starts_with", "write `prefix`"),
    ("endswith", "write `suffix`"),
    ("ends_with", "write `suffix`"),
    ("matches", "write `regex` or `glob`"),
    ("wildcard", "write `glob`"),
    ("numeric", "write `gt`, `gte`, `lt` or `lte`"),
    ("version", "write `rpm_version` or `debian_version`"),
    ("contains_any", "write `{contains: [a, b]}`"),
    ("contains_all", "write `{contains: {all: [a, b]}}`"),
];

/// What the paths of a block may start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// The roots of events.
    Event,
    /// Any field: of an object that is listed, or of an element.
    Free,
}

/// Reads a mapping from paths to predicates; mistakes are noted in the reader.
#[must_use]
pub fn read_block(reader: &Reader, node: &Node, what: &str, roots: Roots) -> Block {
    let read = ReadClauses { reader, tests: Cell::new(0) };
    read.block(node, what, roots)
}

struct ReadClauses<'r> {
    reader: &'r Reader,
    tests: Cell<usize>,
}

/// Where a predicate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Under a path: there may be no value.
    Field,
    /// In a list or `contains`: there is a value.
    Element,
}

impl ReadClauses<'_> {
    fn block(&self, node: &Node, what: &str, roots: Roots) -> Block {
        let Yaml::Map(entries) = &node.value else {
            let kind = node.value.kind();
            self.reader.error_help(
                &node.span,
                format!("{what} must be a mapping from paths to what must hold there, it is {kind}"),
                "write `body.some.field: value`",
            );
            return Vec::new();
        };
        if entries.is_empty() {
            self.reader.error(&node.span, format!("{what} must not be empty"));
        }
        entries.iter().filter_map(|(key, node)| self.clause(key, node, roots)).collect()
    }

    fn clause(&self, key: &Key, node: &Node, roots: Roots) -> Option<Clause> {
        let path = self.path(key, roots);
        let predicate = self.predicate(node, Place::Field);
        Some(Clause { path: path?, predicate: predicate? })
    }

    fn path(&self, key: &Key, roots: Roots) -> Option<Path> {
        let path = match Path::parse(&key.text) {
            Ok(path) => path,
            Err(error) => {
                self.note(&self.in_key(key, error.span), error.message, error.help);
                return None;
            }
        };
        if roots == Roots::Free {
            return Some(path);
        }
        let root = path.root();
        if !EVENT_ROOTS.contains(&root) {
            let help = nearest(root, EVENT_ROOTS).map_or_else(
                || format!("paths start with topic, source, headers or body: body.{}", key.text),
                |near| format!("did you mean `{near}`?"),
            );
            let message = format!("a path cannot start with `{root}`");
            self.reader.error_help(&self.in_key(key, 0..root.len()), message, help);
            return None;
        }
        let inner = path.parts().len() > 1;
        match root {
            "headers" if !inner => {
                let message = "`headers` alone is no field";
                self.reader.error_help(&key.span, message, "name the header: headers.\"sent-at\"");
                None
            }
            "topic" | "source" if inner => {
                self.reader.error(&key.span, format!("`{root}` is a text and has no fields"));
                None
            }
            _ => Some(path),
        }
    }

    /// The bytes in the file of a part of a key; the whole key where it is quoted in YAML.
    fn in_key(&self, key: &Key, part: Range<usize>) -> Range<usize> {
        let written = self.reader.text().get(key.span.clone());
        if written == Some(key.text.as_str()) {
            key.span.start + part.start..key.span.start + part.end
        } else {
            key.span.clone()
        }
    }

    fn note(&self, span: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        match help {
            Some(help) => self.reader.error_help(span, message, help),
            None => self.reader.error(span, message),
        }
    }

    fn predicate(&self, node: &Node, place: Place) -> Option<Predicate> {
        self.tests.set(self.tests.get() + 1);
        if self.tests.get() == TESTS_MAX + 1 {
            self.reader.error(&node.span, format!("there are more than {TESTS_MAX} tests in one block"));
        }
        let test = match &node.value {
            Yaml::Map(entries) => return self.named(node, entries, place),
            Yaml::List(items) => Test::AnyOf(self.alternatives(node, items)?),
            Yaml::Null if node.span.is_empty() => {
                let help = "write `null` to ask for null, or `{exists: true}`";
                self.reader.error_help(&node.span, "there is nothing that must hold here", help);
                return None;
            }
            _ => Test::Equals(node.to_json()),
        };
        Some(Predicate { tests: vec![test], ..Predicate::default() })
    }

    /// A list: any of them.
    fn alternatives(&self, node: &Node, items: &[Node]) -> Option<Vec<Predicate>> {
        if items.is_empty() {
            self.reader.error(&node.span, "an empty list never matches");
            return None;
        }
        let read: Vec<_> = items.iter().filter_map(|item| self.predicate(item, Place::Element)).collect();
        (read.len() == items.len()).then_some(read)
    }

    /// A mapping from names of predicates: all of them.
    fn named(&self, node: &Node, entries: &[(Key, Node)], place: Place) -> Option<Predicate> {
        if entries.is_empty() {
            self.reader.error_help(
                &node.span,
                "an empty mapping asks nothing",
                format!("known predicates are {}", NAMES.join(", ")),
            );
            return None;
        }
        let mut predicate = Predicate::default();
        let mut good = true;
        for (key, node) in entries {
            good &= self.one(key, node, place, &mut predicate).is_some();
        }
        if predicate.exists == Some(false) && entries.len() > 1 {
            self.reader.error(&node.span, "a field that is not there meets no other predicate");
            good = false;
        }
        good.then_some(predicate)
    }

    /// One named predicate; nothing when it is wrong (noted).
    fn one(&self, key: &Key, node: &Node, place: Place, into: &mut Predicate) -> Option<()> {
        let what = format!("`{}`", key.text);
        let test = match key.text.as_str() {
            "not" => {
                into.negated.push(self.predicate(node, place)?);
                return Some(());
            }
            "exists" if place == Place::Field => {
                into.exists = Some(self.reader.bool_of(node, &what)?);
                return Some(());
            }
            "exists" => {
                self.reader.error(&key.span, "`exists` asks for a field: it can only stand under a path");
                return None;
            }
            "null" => Test::Null(self.reader.bool_of(node, &what)?),
            "prefix" => Test::Prefix(self.texts(node, &what)?),
            "suffix" => Test::Suffix(self.texts(node, &what)?),
            "ieq" => {
                let texts = self.texts(node, &what)?;
                Test::EqualsIgnoringCase(texts.iter().map(|text| text.to_lowercase()).collect())
            }
            "glob" => Test::Glob(self.patterns(node, &what, Glob::parse)?),
            "regex" => Test::Regex(self.patterns(node, &what, regex)?),
            "gt" => Test::Number(Relation::Gt, self.number(node, &what)?),
            "gte" => Test::Number(Relation::Gte, self.number(node, &what)?),
            "lt" => Test::Number(Relation::Lt, self.number(node, &what)?),
            "lte" => Test::Number(Relation::Lte, self.number(node, &what)?),
            "rpm_version" => return self.versions(node, VersionRules::Rpm, into),
            "debian_version" => return self.versions(node, VersionRules::Debian, into),
            "age" => return self.ages(node, into),
            "size" => self.size(node)?,
            "contains" => self.contains(node)?,
            "any" => Test::Any(self.elements(node, &what)?),
            "all" => Test::All(self.elements(node, &what)?),
            _ => return self.unknown(key),
        };
        into.tests.push(test);
        Some(())
    }

    fn unknown(&self, key: &Key) -> Option<()> {
        let name = key.text.as_str();
        let elsewhere =
            ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, help)| (*help).to_owned());
        let help = elsewhere
            .or_else(|| nearest(name, NAMES).map(|near| format!("did you mean `{near}`?")))
            .unwrap_or_else(|| {
                if name.contains('.') || EVENT_ROOTS.contains(&name) {
                    "a path stands directly in the block, not within another".to_owned()
                } else {
                    format!("known are {}", NAMES.join(", "))
                }
            });
        self.reader.error_help(&key.span, format!("there is no predicate `{name}`"), help);
        None
    }

    fn texts(&self, node: &Node, what: &str) -> Option<Vec<String>> {
        let texts = self.reader.texts_of(node, what)?;
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            self.reader.error(&node.span, format!("{what} needs a text that is not empty"));
            return None;
        }
        Some(texts)
    }

    fn patterns<T>(
        &self,
        node: &Node,
        what: &str,
        compile: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let nodes =
            if let Yaml::List(items) = &node.value { items.as_slice() } else { std::slice::from_ref(node) };
        self.texts(node, what)?;
        let compiled: Vec<T> = nodes
            .iter()
            .filter_map(|node| {
                let text = node.as_text()?;
                compile(text).map_err(|why| self.reader.error(&node.span, format!("{what}: {why}"))).ok()
            })
            .collect();
        (compiled.len() == nodes.len()).then_some(compiled)
    }

    fn number(&self, node: &Node, what: &str) -> Option<Number> {
        match node.to_json() {
            Value::Number(number) => Some(number),
            Value::String(text) => {
                let help = match text.parse::<f64>() {
                    Ok(_) => format!("without quotes: {text}"),
                    Err(_) => {
                        "versions compare by `rpm_version` or `debian_version`, times by `age`".to_owned()
                    }
                };
                self.reader.error_help(
                    &node.span,
                    format!("{what} compares numbers, `{text}` is a text"),
                    help,
                );
                None
            }
            _ => {
                let kind = node.value.kind();
                self.reader.error(&node.span, format!("{what} must be a number, it is {kind}"));
                None
            }
        }
    }

    /// The relations in a mapping such as `{gte: …, lt: …}`.
    fn relations<'n>(&self, node: &'n Node, what: &'static str, example: &str) -> Vec<(Relation, &'n Node)> {
        if !matches!(node.value, Yaml::Map(_)) {
            let kind = node.value.kind();
            let message = format!("{what} must be a mapping such as {example}, it is {kind}");
            self.reader.error(&node.span, message);
            return Vec::new();
        }
        let Some(mut fields) = self.reader.fields(node, what) else { return Vec::new() };
        let relations = [
            ("gt", Relation::Gt),
            ("gte", Relation::Gte),
            ("lt", Relation::Lt),
            ("lte", Relation::Lte),
            ("eq", Relation::Eq),
        ];
        let found: Vec<_> =
            relations.iter().filter_map(|(name, relation)| Some((*relation, fields.get(name)?))).collect();
        fields.finish(self.reader);
        if found.is_empty() {
            self.reader.error(&node.span, format!("{what} needs a bound such as {example}"));
        }
        found
    }

    fn versions(&self, node: &Node, rules: VersionRules, into: &mut Predicate) -> Option<()> {
        let what = match rules {
            VersionRules::Rpm => "`rpm_version`",
            VersionRules::Debian => "`debian_version`",
        };
        let found = self.relations(node, what, "{gte: \"1.2\"}");
        let mut good = !found.is_empty();
        for (relation, node) in found {
            match self.reader.name_of(node, "a version") {
                Some(version) => into.tests.push(Test::Version(rules, relation, version)),
                None => good = false,
            }
        }
        good.then_some(())
    }

    fn ages(&self, node: &Node, into: &mut Predicate) -> Option<()> {
        let found = self.relations(node, "`age`", "{lt: 2d}");
        let mut good = !found.is_empty();
        for (relation, node) in found {
            match self.reader.duration_of(node, "an age") {
                Some(duration) => into.tests.push(Test::Age(relation, duration)),
                None => good = false,
            }
        }
        good.then_some(())
    }

    fn size(&self, node: &Node) -> Option<Test> {
        const BOUNDS: Range<i64> = 0..i64::MAX;
        let count = |node: &Node, what| {
            self.reader.int_of(node, what, BOUNDS).and_then(|count| u64::try_from(count).ok())
        };
        if !matches!(node.value, Yaml::Map(_)) {
            let exact = count(node, "`size`")?;
            return Some(Test::Size { min: Some(exact), max: Some(exact) });
        }
        let mut fields = self.reader.fields(node, "`size`")?;
        let (min, max) = (fields.get("min"), fields.get("max"));
        fields.finish(self.reader);
        if min.is_none() && max.is_none() {
            self.reader.error(&node.span, "`size` needs `min` or `max`");
            return None;
        }
        let bound = |node: Option<&Node>, what| {
            node.map(|node| count(node, what)).map_or(Some(None), |n| n.map(Some))
        };
        let (min, max) = (bound(min, "`min`")?, bound(max, "`max`")?);
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            self.reader.error(&node.span, format!("no size is at least {min} and at most {max}"));
            return None;
        }
        Some(Test::Size { min, max })
    }

    /// `contains: x`, `contains: [a, b]` and `{any: [a, b]}` (any of), `{all: [a, b]}`, or a predicate.
    fn contains(&self, node: &Node) -> Option<Test> {
        if let Yaml::List(items) = &node.value {
            return Some(Test::Contains(Quantity::Any, self.alternatives(node, items)?));
        }
        if let Yaml::Map(entries) = &node.value
            && let [(key, list)] = entries.as_slice()
            && let Yaml::List(items) = &list.value
        {
            let quantity = match key.text.as_str() {
                "any" => Some(Quantity::Any),
                "all" => Some(Quantity::All),
                _ => None,
            };
            if let Some(quantity) = quantity {
                return Some(Test::Contains(quantity, self.alternatives(list, items)?));
            }
        }
        Some(Test::Contains(Quantity::Any, vec![self.predicate(node, Place::Element)?]))
    }

    fn elements(&self, node: &Node, what: &str) -> Option<Block> {
        let entries = if let Yaml::Map(entries) = &node.value { entries.len() } else { 0 };
        let block = self.block(node, what, Roots::Free);
        (!block.is_empty() && block.len() == entries).then_some(block)
    }
}

/// A regular expression, found anywhere in a text unless anchored; matching takes linear time.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the expression is too large".to_owned(),
        error => {
            // The last line says what is wrong; those before draw the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            format!("`{pattern}` is no regular expression: {}", reason.trim_start_matches("error: "))
        }
    })
}
