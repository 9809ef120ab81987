//! Tests of rules from YAML: `tests:` in a rule file or in a `*.test.yaml` beside it.

use super::Document;
use crate::{
    load::RuleFiles,
    rule_test::{Expected, TestCase, TestMessage, merge},
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
        let expect = fields.require(self.reader, "expect").and_then(|node| self.expect(node));
        fields.finish(self.reader);
        let place = self.document.file.place(name_node?.span.start);
        Some(TestCase { name: name?, place, message: message?, now, expect: expect? })
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

    fn expect(&self, node: &Node) -> Option<Vec<(RuleName, Vec<Expected>)>> {
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
            let Some(items) = self.reader.list_of(node, "what a rule is expected to wish") else { continue };
            let expected = items.iter().filter_map(|item| self.expected(item)).collect();
            expect.push((rule, expected));
        }
        Some(expect)
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
