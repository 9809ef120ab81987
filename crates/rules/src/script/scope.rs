//! The variables that a script sees.

use super::value::of_json;
use chrono::{DateTime, Utc};
use model::Event;
use rhai::{Dynamic, Map};
use serde_json::Value;

/// `event`, the variables of loops and matrix, and the time. Made once per event; copies are cheap.
#[derive(Debug, Clone)]
pub struct Scope {
    now: DateTime<Utc>,
    event: Dynamic,
    variables: Vec<(String, Dynamic)>,
}

impl Scope {
    /// `event` has these roots: an object with `topic`, `source`, `headers` and `body`.
    #[must_use]
    pub fn new(roots: &Value, now: DateTime<Utc>) -> Self {
        Self { now, event: of_json(roots), variables: Vec::new() }
    }

    /// The same of an event and its parsed body, without copying the body first.
    #[must_use]
    pub fn of_event(event: &Event, body: &Value, now: DateTime<Utc>) -> Self {
        let headers = event.headers.iter().map(|(key, value)| (key.as_str().into(), of_json(value)));
        let roots = Map::from([
            ("topic".into(), event.topic.as_str().into()),
            ("source".into(), event.source.as_str().into()),
            ("headers".into(), super::value::of_entries(headers.collect())),
            ("body".into(), of_json(body)),
        ]);
        Self { now, event: super::value::of_entries(roots), variables: Vec::new() }
    }

    /// The same with more variables; one of the same name hides the older.
    #[must_use]
    pub fn with(&self, variables: &[(&str, Value)]) -> Self {
        let mut scope = self.clone();
        let more = variables.iter().map(|(name, value)| ((*name).to_owned(), of_json(value)));
        scope.variables.extend(more);
        scope
    }

    /// What scripts take for the time.
    #[must_use]
    pub const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(super) fn to_rhai(&self) -> rhai::Scope<'_> {
        let mut scope = rhai::Scope::new();
        scope.push_dynamic("event", self.event.clone());
        for (name, value) in &self.variables {
            scope.push_dynamic(name.as_str(), value.clone());
        }
        scope
    }
}
