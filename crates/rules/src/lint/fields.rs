//! Fields that no recorded event has.

use super::Lint;
use crate::{
    language::{Rule, visit},
    path::path_text,
    predicate::Clause,
    script::event_paths,
};
use model::{Event, Topic, diagnostic::nearest};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The most topics that are kept.
const TOPICS_MAX: usize = 10_000;
/// The most different fields of one topic; beyond them, the topic is taken for one that may have any.
const FIELDS_MAX: usize = 5_000;
/// The deepest nesting that is looked at.
const DEPTH_MAX: usize = 16;

/// The fields that events of each topic had.
#[derive(Debug, Clone, Default)]
pub struct FieldStats {
    topics: BTreeMap<String, TopicFields>,
}

/// The fields of one topic's events.
#[derive(Debug, Clone, Default)]
pub struct TopicFields {
    /// How many events were looked at.
    pub events: u64,
    /// The paths of their fields.
    paths: BTreeSet<String>,
    /// Whether there were more fields than are kept.
    open: bool,
}

impl FieldStats {
    /// Adds an event; one that is no JSON object counts nothing.
    pub fn add(&mut self, event: &Event) {
        let Ok(body) = event.check() else { return };
        let topic = event.topic.as_str();
        if !self.topics.contains_key(topic) && self.topics.len() >= TOPICS_MAX {
            return;
        }
        let fields = self.topics.entry(topic.to_owned()).or_default();
        fields.events += 1;
        fields.add(&mut vec!["body".to_owned()], &body);
        fields.add(&mut vec!["headers".to_owned()], &Value::Object(Map::clone(&event.headers)));
    }

    /// The topics, and what is known of each.
    pub fn topics(&self) -> impl Iterator<Item = (&str, &TopicFields)> {
        self.topics.iter().map(|(topic, fields)| (topic.as_str(), fields))
    }
}

impl TopicFields {
    /// The paths of all fields, in their order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Whether an event may have this field.
    fn may_have(&self, path: &str) -> bool {
        self.open || self.paths.contains(path)
    }

    fn add(&mut self, parts: &mut Vec<String>, value: &Value) {
        if parts.len() > DEPTH_MAX {
            self.open = true;
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    parts.push(name.clone());
                    if self.paths.len() >= FIELDS_MAX {
                        self.open = true;
                    } else {
                        self.paths.insert(path_text(parts));
                    }
                    self.add(parts, value);
                    parts.pop();
                }
            }
            // A path through a list means any of its elements.
            Value::Array(items) => items.iter().for_each(|item| self.add(parts, item)),
            _ => {}
        }
    }
}

pub(super) fn lint(rule: &Rule, stats: &FieldStats, lint: &mut Lint) {
    let hears = |topic: &str| rule.on.iter().any(|pattern| pattern.matches(&Topic::new(topic)));
    let topics: Vec<_> = stats.topics().filter(|(topic, _)| hears(topic)).map(|(_, fields)| fields).collect();
    if topics.is_empty() {
        return;
    }
    let mut told = BTreeSet::new();
    let mut check = |lint: &mut Lint, path: &str, part: &str| {
        if topics.iter().any(|fields| fields.may_have(path)) || !told.insert(path.to_owned()) {
            return;
        }
        let events: u64 = topics.iter().map(|fields| fields.events).sum();
        let message = format!("no recorded event has `{path}` ({events} of its topics were looked at)");
        let known = topics.iter().flat_map(|fields| fields.paths());
        let help = nearest(path, known).map_or_else(
            || "look at one with `event show`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        lint.warn(rule, part, message, help);
    };
    let asks_for_none = |clause: &&Clause| clause.predicate.exists != Some(false);
    for clause in rule
        .when
        .iter()
        .chain(rule.unless.iter().flatten())
        .chain(rule.any.iter().flatten())
        .filter(asks_for_none)
    {
        if matches!(clause.path.root(), "body" | "headers") && clause.path.parts().len() > 1 {
            check(lint, &path_text(clause.path.parts()), clause.path.as_str());
        }
    }
    if rule.collect.is_some() || rule.schedule.is_some() {
        return;
    }
    visit::scripts(rule, &mut |found| {
        let (scripts, source) = found.scripts();
        for path in scripts.into_iter().flat_map(event_paths) {
            check(lint, &path, source);
        }
    });
}
