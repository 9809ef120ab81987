//! YAML documents as trees whose every node knows where it stands, and the reading of fields from them
//! with several errors per file.
//!
//! Syntax errors come one at a time; everything above syntax is found in one go. What YAML would silently
//! turn into something else (`3.10`, `no`, `010`, `1e7`, tags) is an error that says: quote it.

mod offsets;
mod raw;

use crate::{
    diagnostic::{Diagnostic, Report, Severity, nearest},
    units,
};
use offsets::offsets;
use raw::Raw;
use serde_yaml::Spanned;
use std::{cell::RefCell, collections::BTreeSet, ops::Range, sync::Arc, time::Duration};

/// The largest file in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// The most nodes in a file, aliases counted as often as they are used.
pub const NODES_MAX: usize = 200_000;
/// The most aliases in a file.
pub const ALIASES_MAX: usize = 1_000;
/// The deepest nesting.
pub const DEPTH_MAX: usize = 64;

/// A value and where it stands in the file's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its bytes in the text. Quoted texts include their quotes; block texts start at their first content.
    pub span: Range<usize>,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, its keys in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Its bytes in the text.
    pub span: Range<usize>,
}

impl Value {
    /// What kind of value it is, in words for messages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Node {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entry of a mapping.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, node)| (key.text.clone(), node.to_json()));
                serde_json::Value::Object(entries.collect())
            }
        }
    }
}

/// A file being read: its name, its text, and what was found wrong with it so far.
#[derive(Debug)]
pub struct Reader {
    file: String,
    text: Arc<str>,
    report: RefCell<Report>,
    /// Whether the file is in somebody else's format, whose authors need not quote what we would have quoted.
    foreign: bool,
}

impl Reader {
    /// A reader over a file's text.
    #[must_use]
    pub fn new(file: &str, text: &str) -> Self {
        let text: Arc<str> = text.into();
        let report =
            Report { sources: [(file.to_owned(), Arc::clone(&text))].into(), diagnostics: Vec::new() };
        Self { file: file.to_owned(), text, report: RefCell::new(report), foreign: false }
    }

    /// A reader over a file in somebody else's format: plain words and numbers are taken as they are.
    #[must_use]
    pub fn foreign(file: &str, text: &str) -> Self {
        Self { foreign: true, ..Self::new(file, text) }
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What was found.
    #[must_use]
    pub fn into_report(self) -> Report {
        let mut report = self.report.into_inner();
        report.sort();
        report
    }

    /// Whether an error was found.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.report.borrow().has_errors()
    }

    /// Notes an error.
    pub fn error(&self, span: &Range<usize>, message: impl Into<String>) {
        self.note(Severity::Error, span, message.into(), None);
    }

    /// Notes an error with how to mend it.
    pub fn error_help(&self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Error, span, message.into(), Some(help.into()));
    }

    /// Notes a warning with how to mend it.
    pub fn warn(&self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.note(Severity::Warning, span, message.into(), Some(help.into()));
    }

    fn note(&self, severity: Severity, span: &Range<usize>, message: String, help: Option<String>) {
        let (line, column) = line_column(&self.text, span.start);
        self.report.borrow_mut().push(Diagnostic {
            severity,
            file: self.file.clone(),
            line,
            column,
            span: span.clone(),
            message,
            help,
        });
    }

    /// Parses the file. `None` when it is no YAML (noted).
    #[must_use]
    pub fn parse(&self) -> Option<Node> {
        if self.text.len() > FILE_BYTES_MAX {
            let bytes = self.text.len();
            self.error(&(0..0), format!("the file has {bytes} bytes, at most {FILE_BYTES_MAX} are read"));
            return None;
        }
        self.parse_with(serde_yaml::options::DuplicateKeyPolicy::Error)
    }

    /// A key that stands twice is noted, and the file read on by the first of both: there may be more to mend.
    fn parse_with(&self, duplicate_keys: serde_yaml::options::DuplicateKeyPolicy) -> Option<Node> {
        let again = matches!(duplicate_keys, serde_yaml::options::DuplicateKeyPolicy::FirstWins);
        let options = serde_yaml::options! {
            duplicate_keys: duplicate_keys,
            strict_booleans: true,
            reject_unsupported_tags: true,
            merge_keys: serde_yaml::options::MergeKeyPolicy::Error,
            with_snippet: false,
            budget: serde_yaml::budget! {
                max_nodes: NODES_MAX,
                max_aliases: ALIASES_MAX,
                max_depth: DEPTH_MAX,
            },
        };
        match serde_yaml::from_str_with_options::<Spanned<Raw>>(&self.text, options) {
            Ok(raw) => Some(self.lower(raw)),
            Err(error) => {
                let offset = error.location().and_then(|at| offset_of(&self.text, at.line(), at.column()));
                let start = offset.unwrap_or(0);
                let message = error.without_snippet().to_string();
                let message = message.lines().next().unwrap_or_default();
                // The place is told apart, and the parser's options are none of the author's.
                let message = message.split(" at line ").next().unwrap_or(message);
                let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message).to_owned();
                let message = limit_words(&message).unwrap_or(message);
                let help = yaml_help(&message);
                let duplicate = message.starts_with("duplicate mapping key");
                self.note(Severity::Error, &(start..start), message, help);
                if duplicate && !again {
                    return self.parse_with(serde_yaml::options::DuplicateKeyPolicy::FirstWins);
                }
                None
            }
        }
    }

    /// Turns the parsed tree into ours and refuses plain scalars that YAML changed.
    fn lower(&self, raw: Spanned<Raw>) -> Node {
        let span = self.span_of(&raw.referenced);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => {
                self.check_plain(&span, &value.to_string());
                Value::Int(value)
            }
            Raw::Float(value) => {
                self.check_plain(&span, &value.to_string());
                Value::Float(value)
            }
            Raw::Text(text) => {
                self.check_word(&span, &text);
                Value::Text(text)
            }
            Raw::List(items) => Value::List(items.into_iter().map(|item| self.lower(item)).collect()),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| {
                        let span = self.span_of(&key.referenced);
                        (Key { text: key.value.0, span }, self.lower(node))
                    })
                    .collect(),
            ),
        };
        Node { value, span }
    }

    fn span_of(&self, at: &serde_yaml::Location) -> Range<usize> {
        let (Some(start), Some(len)) = (at.span().byte_offset(), at.span().byte_len()) else {
            let start = offset_of(&self.text, at.line(), at.column()).unwrap_or(0);
            return start..start;
        };
        let start = (start as usize).min(self.text.len());
        start..(start + len as usize).min(self.text.len())
    }

    /// A number must be written the way it prints, or it is probably a version or an id.
    fn check_plain(&self, span: &Range<usize>, canonical: &str) {
        let written = self.text.get(span.clone()).unwrap_or_default();
        if written != canonical && !self.foreign {
            self.error_help(
                span,
                format!("YAML reads `{written}` as the number {canonical}"),
                format!("quote it: \"{written}\""),
            );
        }
    }

    /// Words that older YAML takes for booleans, and numbers with leading zeros, must be quoted.
    fn check_word(&self, span: &Range<usize>, text: &str) {
        const BOOLEANS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];
        let written = self.text.get(span.clone()).unwrap_or_default();
        if written != text || self.foreign {
            return; // quoted, or a block
        }
        if BOOLEANS.contains(&text.to_ascii_lowercase().as_str()) {
            self.error_help(
                span,
                format!("`{text}` is a boolean to some YAML readers and a text to others"),
                format!("write \"{text}\" for the text, or true or false"),
            );
        } else if looks_numeric(text) {
            self.error_help(
                span,
                format!("`{text}` is a number to some YAML readers and a text to others"),
                format!("quote it: \"{text}\""),
            );
        }
    }

    /// The fields of a mapping; `what` names it in messages (`a rule`).
    #[must_use]
    pub fn fields<'n>(&self, node: &'n Node, what: &'static str) -> Option<Fields<'n>> {
        match &node.value {
            Value::Map(entries) => {
                Some(Fields { what, node, entries, known: Vec::new(), used: BTreeSet::new() })
            }
            other => {
                self.error(&node.span, format!("{what} must be a mapping, it is {}", other.kind()));
                None
            }
        }
    }

    /// A text. A number or boolean is refused with the advice to quote it.
    #[must_use]
    pub fn text_of(&self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                let written = self.text.get(node.span.clone()).unwrap_or_default();
                self.error_help(
                    &node.span,
                    format!("{what} must be a text, it is {}", node.value.kind()),
                    format!("quote it: \"{written}\""),
                );
                None
            }
            other => {
                self.error(&node.span, format!("{what} must be a text, it is {}", other.kind()));
                None
            }
        }
    }

    /// A text that is not empty.
    #[must_use]
    pub fn name_of(&self, node: &Node, what: &str) -> Option<String> {
        let text = self.text_of(node, what)?;
        if text.trim().is_empty() {
            self.error(&node.span, format!("{what} must not be empty"));
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn bool_of(&self, node: &Node, what: &str) -> Option<bool> {
        match node.value {
            Value::Bool(value) => Some(value),
            ref other => {
                self.error(&node.span, format!("{what} must be true or false, it is {}", other.kind()));
                None
            }
        }
    }

    /// A whole number within bounds.
    #[must_use]
    pub fn int_of(&self, node: &Node, what: &str, bounds: Range<i64>) -> Option<i64> {
        let (from, to) = (bounds.start, bounds.end - 1);
        match node.value {
            Value::Int(value) if bounds.contains(&value) => Some(value),
            Value::Int(value) => {
                self.error(&node.span, format!("{what} must be from {from} to {to}, it is {value}"));
                None
            }
            ref other => {
                self.error(
                    &node.span,
                    format!("{what} must be a whole number from {from} to {to}, it is {}", other.kind()),
                );
                None
            }
        }
    }

    /// A duration such as `10m`.
    #[must_use]
    pub fn duration_of(&self, node: &Node, what: &str) -> Option<Duration> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => {
                self.error_help(
                    &node.span,
                    format!("{what} must be a duration with a unit"),
                    format!("write {number}s for seconds or {number}m for minutes"),
                );
                return None;
            }
            other => {
                self.error(
                    &node.span,
                    format!("{what} must be a duration such as 10m, it is {}", other.kind()),
                );
                return None;
            }
        };
        units::parse_duration(&text).map_err(|error| self.error(&node.span, format!("{what}: {error}"))).ok()
    }

    /// A size in bytes such as `50MB`.
    #[must_use]
    pub fn size_of(&self, node: &Node, what: &str) -> Option<u64> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.to_string(),
            other => {
                self.error(&node.span, format!("{what} must be a size such as 50MB, it is {}", other.kind()));
                return None;
            }
        };
        units::parse_size(&text).map_err(|error| self.error(&node.span, format!("{what}: {error}"))).ok()
    }

    /// A list.
    #[must_use]
    pub fn list_of<'n>(&self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            other => {
                self.error(&node.span, format!("{what} must be a list, it is {}", other.kind()));
                None
            }
        }
    }

    /// One text or a list of texts.
    #[must_use]
    pub fn texts_of(&self, node: &Node, what: &str) -> Option<Vec<String>> {
        match &node.value {
            Value::List(items) => {
                let texts: Vec<_> = items.iter().filter_map(|item| self.text_of(item, what)).collect();
                (texts.len() == items.len()).then_some(texts)
            }
            _ => self.text_of(node, what).map(|text| vec![text]),
        }
    }

    /// The bytes in the file that a part of a text stands at: `bytes` are offsets in the decoded text.
    #[must_use]
    pub fn inside(&self, node: &Node, bytes: Range<usize>) -> Range<usize> {
        let Some(text) = node.as_text() else { return node.span.clone() };
        let Some(map) = offsets(&self.text, &node.span, text) else { return node.span.clone() };
        let place = |byte: usize| {
            let chars = text.get(..byte.min(text.len())).map_or(0, |before| before.chars().count());
            map.get(chars).copied()
        };
        match (place(bytes.start), place(bytes.end)) {
            (Some(start), Some(end)) if start <= end => start..end,
            _ => node.span.clone(),
        }
    }
}

/// The fields of one mapping. Each is asked for by name; what nobody asked for is an unknown field.
#[derive(Debug)]
pub struct Fields<'n> {
    what: &'static str,
    node: &'n Node,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
    used: BTreeSet<usize>,
}

impl<'n> Fields<'n> {
    /// The mapping's place.
    #[must_use]
    pub const fn span(&self) -> &'n Range<usize> {
        &self.node.span
    }

    /// A field that may be missing.
    pub fn get(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        let at = self.entries.iter().position(|(key, _)| key.text == name)?;
        self.used.insert(at);
        Some(&self.entries[at].1)
    }

    /// A field that must be there; its lack is noted.
    pub fn require(&mut self, reader: &Reader, name: &'static str) -> Option<&'n Node> {
        let found = self.get(name);
        if found.is_none() {
            let at = self.entries.first().map_or(&self.node.span, |(key, _)| &key.span);
            reader.error(at, format!("{} needs the field `{name}`", self.what));
        }
        found
    }

    /// Notes every field that nobody asked for.
    pub fn finish(self, reader: &Reader) {
        for (at, (key, _)) in self.entries.iter().enumerate() {
            if self.used.contains(&at) {
                continue;
            }
            let message = format!("{} has no field `{}`", self.what, key.text);
            let help = nearest(&key.text, self.known.iter().copied()).map_or_else(
                || format!("known are {}", self.known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            reader.error_help(&key.span, message, help);
        }
    }
}

/// Whether a plain text looks like a number that some readers would change: `010`, `1_000`, `0x1F`, `1:30`.
fn looks_numeric(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let octal_or_hex = ["0x", "0o", "0b"].iter().any(|prefix| {
        body.strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit()))
    });
    let digits = !body.is_empty()
        && body.starts_with(|c: char| c.is_ascii_digit())
        && body.chars().all(|c| c.is_ascii_digit() || c == '_')
        && (body.contains('_') || (body.len() > 1 && body.starts_with('0')) || body != text);
    octal_or_hex || digits
}

/// Our words for the limits of the parser; nothing for other errors.
fn limit_words(message: &str) -> Option<String> {
    let lower = message.to_lowercase();
    if !lower.contains("budget") && !lower.contains("limit exceeded") && !lower.contains("replay") {
        return None;
    }
    Some(if lower.contains("depth") {
        format!("the file is nested deeper than {DEPTH_MAX} levels")
    } else if lower.contains("alias") && !lower.contains("nodes") {
        format!("the file has more than {ALIASES_MAX} aliases")
    } else {
        format!("the file has more than {NODES_MAX} values, aliases counted as often as they are used")
    })
}

/// Advice for the syntax errors that rule authors make most.
fn yaml_help(message: &str) -> Option<String> {
    let lower = message.to_lowercase();
    let help = if lower.contains("duplicate") {
        "each key may stand only once in a mapping: join the two entries"
    } else if lower.contains("tag") {
        "a plain `!` starts a YAML tag: write scripts as a block (`if: |`) or quote them"
    } else if lower.contains("nested deeper") {
        "write the inner parts as names of their own, or flatten them"
    } else if lower.contains("values, aliases counted") || lower.contains("aliases") {
        "split the file, and write lists out instead of repeating them by aliases"
    } else if lower.contains("tab") {
        "indent with spaces"
    } else {
        return None;
    };
    Some(help.to_owned())
}

/// The byte offset of a line and a column in characters, both counted from 1.
fn offset_of(text: &str, line: u64, column: u64) -> Option<usize> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..)?;
    Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
}

/// Line and column (in characters) of a byte offset, both counted from 1.
#[must_use]
pub fn line_column(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}
