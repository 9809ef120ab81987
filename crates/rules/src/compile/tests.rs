//! Tests of rules from YAML: `tests:` in a rule file or in a `*.test.yaml` beside it.

use super::Document;
use crate::{
    load::RuleFiles,
    path::Path,
    rule_test::{Expect, Expected, ExpectedOf, TestCase, TestMessage, merge},
};
use chrono::{DateTime, Utc};
use model::{
    RuleName,
    diagnostic::nearest,
    yaml::{Node, Reader, Value as Yaml},
};
use serde_json::Value;
use std::collections::HashMap;

/// Reads a file's tests; mistakes are noted in the reader. Without `rules` names are not checked.
pub(super) fn read(
    document: &Document,
    files: &RuleFiles,
    rules: Option<&HashMap<RuleName, usize>>,
) -> Vec<TestCase> {
    let Some(node) = &document.tests else { return Vec::new() };
    let read = ReadTests { reader: &document.reader, document, files, rules };
    let nodes = document.reader.list_of(node, "`tests`").unwrap_or_default();
    let mut tests: Vec<TestCase> = Vec::new();
    for node in nodes {
        let Some(test) = read.test(node) else { continue };
        if let Some(other) = tests.iter().find(|other| other.name == test.name) {
            let message =
                format!("there are two tests named `{}`; the other one is at {}", test.name, other.place);
            document.reader.error(&node.span, message);
        }
        tests.push(test);
    }
    tests
}

struct ReadTests<'a> {
    reader: &'a Reader,
    document: &'a Document,
    files: &'a RuleFiles,
    rules: Option<&'a HashMap<RuleName, usize>>,
}

impl ReadTests<'_> {
    fn test(&self, node: &Node) -> Option<TestCase> {
        let mut fields = self.reader.fields(node, "a test")?;
        let name_node = fields.require(self.reader, "name");
        let name = name_node.and_then(|node| self.reader.name_of(node, "`name`"));
        let message = fields.require(self.reader, "event").and_then(|node| self.event(node));
        let now = fields.get("now").and_then(|node| self.now(node));
        let expect_node = fields.require(self.reader, "expect");
        let expect = expect_node.and_then(|node| self.expect(node));
        fields.finish(self.reader);
        let place = self.document.file.place(name_node?.span.start);
        let expect_span = expect_node?.span.clone();
        Some(TestCase { name: name?, place, message: message?, now, expect: expect?, expect_span })
    }

    fn now(&self, node: &Node) -> Option<DateTime<Utc>> {
        let text = self.reader.text_of(node, "`now`")?;
        DateTime::parse_from_rfc3339(&text)
            .map(|time| time.with_timezone(&Utc))
            .map_err(|_| {
                let message = format!("`{text}` is no time; expected one such as 2026-11-01T10:00:00Z");
                self.reader.error(&node.span, message);
            })
            .ok()
    }

    /// A path to a recorded message, the message itself, or `{file, patch}`.
    fn event(&self, node: &Node) -> Option<TestMessage> {
        let message = match &node.value {
            Yaml::Text(path) => self.recorded(path, node)?,
            Yaml::Map(_) if node.get("file").is_some() => {
                let mut fields = self.reader.fields(node, "a test's event")?;
                let file = fields.require(self.reader, "file");
                let patch = fields.get("patch");
                fields.finish(self.reader);
                let path = self.reader.name_of(file?, "`file`")?;
                let mut message = self.recorded(&path, file?)?;
                if let Some(patch) = patch {
                    merge(&mut message, &patch.to_json());
                }
                message
            }
            Yaml::Map(_) => {
                self.known_fields(node)?;
                node.to_json()
            }
            other => {
                let message =
                    format!("an event must be a file, a message or {{file, patch}}, it is {}", other.kind());
                self.reader.error(&node.span, message);
                return None;
            }
        };
        TestMessage::of(message).map_err(|why| self.reader.error(&node.span, why)).ok()
    }

    /// An inline message has no other fields; recorded ones may.
    fn known_fields(&self, node: &Node) -> Option<()> {
        let mut fields = self.reader.fields(node, "a test's event")?;
        for name in ["topic", "body", "headers", "id", "source", "depth"] {
            fields.get(name);
        }
        fields.finish(self.reader);
        Some(())
    }

    /// A recorded message: its path is relative to the test's file, or else to the rules folder.
    fn recorded(&self, path: &str, node: &Node) -> Option<Value> {
        let folder = self.reader.file().rsplit_once('/').map(|(folder, _)| format!("{folder}/{path}"));
        let found =
            folder.and_then(|path| self.files.files.get(&path)).or_else(|| self.files.files.get(path));
        let Some(text) = found else {
            let known = self.files.files.keys().map(String::as_str).filter(|known| known.ends_with(".json"));
            let help = nearest(path, known).map_or_else(
                || "the path is relative to this file or to the rules folder".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.reader.error_help(&node.span, format!("there is no file `{path}`"), help);
            return None;
        };
        serde_json::from_str(text)
            .map_err(|error| self.reader.error(&node.span, format!("{path} is no JSON: {error}")))
            .ok()
    }

    fn expect(&self, node: &Node) -> Option<Vec<ExpectedOf>> {
        let Yaml::Map(entries) = &node.value else {
            let message =
                format!("`expect` must be a mapping from rules to lists, it is {}", node.value.kind());
            self.reader.error_help(
                &node.span,
                message,
                "write `expect: {rule: [{task: name}]}`, or `{}` for nothing",
            );
            return None;
        };
        let mut expect = Vec::new();
        for (key, node) in entries {
            let rule = RuleName::from(key.text.as_str());
            if let Some(rules) = self.rules
                && !rules.contains_key(&rule)
            {
                let help = nearest(&key.text, rules.keys().map(RuleName::as_str)).map_or_else(
                    || "name a rule of this rules folder".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                self.reader.error_help(&key.span, format!("there is no rule `{}`", key.text), help);
            }
            let Some(what) = self.expected_of(node) else { continue };
            expect.push(ExpectedOf { rule, what, span: key.span.clone() });
        }
        Some(expect)
    }

    /// A list of wishes, `{no_match: clauses}` or `{error: text}`.
    fn expected_of(&self, node: &Node) -> Option<Expect> {
        let reader = self.reader;
        if let Yaml::List(items) = &node.value {
            return Some(Expect::Wishes(items.iter().filter_map(|item| self.expected(item)).collect()));
        }
        let help = "write a list of wishes, `[]` for none, `{no_match: path}` or `{error: text}`";
        if !matches!(node.value, Yaml::Map(_)) {
            let message =
                format!("what a rule is expected to wish must be a list, it is {}", node.value.kind());
            reader.error_help(&node.span, message, help);
            return None;
        }
        let mut fields = reader.fields(node, "what a rule is expected to say")?;
        let (no_match, error) = (fields.get("no_match"), fields.get("error"));
        fields.finish(reader);
        match (no_match, error) {
            (Some(node), None) => {
                let clauses = reader.texts_of(node, "`no_match`")?;
                for clause in &clauses {
                    if !["on", "if", "for_each"].contains(&clause.as_str())
                        && let Err(error) = Path::parse(clause)
                    {
                        let help = "name the path of a clause, or `on`, `if` or `for_each`";
                        reader.error_help(&node.span, format!("`{clause}`: {error}"), help);
                    }
                }
                Some(Expect::NoMatch(clauses))
            }
            (None, Some(node)) => reader.name_of(node, "`error`").map(Expect::Error),
            (None, None) | (Some(_), Some(_)) => {
                reader.error_help(&node.span, "expected either `no_match` or `error`", help);
                None
            }
        }
    }

    fn expected(&self, node: &Node) -> Option<Expected> {
        let mut fields = self.reader.fields(node, "an expected wish")?;
        for name in Expected::FIELDS {
            fields.get(name);
        }
        fields.finish(self.reader);
        Some(Expected { wish: node.to_json(), place: self.document.file.place(node.span.start) })
    }
}
