//! The variables that a script sees.

use super::value::{of_entries, of_json};
use chrono::{DateTime, Utc};
use model::Event;
use rhai::{Dynamic, Map};
use serde_json::Value;
use std::fmt;

/// What scripts see as `event`.
#[derive(Debug, Clone)]
pub(crate) struct EventValue(Dynamic);

impl EventValue {
    /// An event and its parsed body.
    pub(crate) fn of(event: &Event, body: &Value) -> Self {
        let headers = event.headers.iter().map(|(key, value)| (key.as_str().into(), of_json(value)));
        let roots = Map::from([
            ("topic".into(), event.topic.as_str().into()),
            ("source".into(), event.source.as_str().into()),
            ("headers".into(), of_entries(headers.collect())),
            ("body".into(), of_json(body)),
        ]);
        Self(of_entries(roots))
    }
}

/// Who makes the value of `event` when the first script asks for it.
pub(crate) trait EventSource: fmt::Debug {
    /// The value; the second time it costs nothing.
    fn event_value(&self) -> &EventValue;
}

/// `event`, the variables of loops and matrix, and the time. Copies are cheap.
#[derive(Debug, Clone)]
pub struct Scope<'e> {
    now: DateTime<Utc>,
    event: EventPart<'e>,
    variables: Vec<(String, Dynamic)>,
}

#[derive(Debug, Clone)]
enum EventPart<'e> {
    Made(EventValue),
    Later(&'e dyn EventSource),
}

impl<'e> Scope<'e> {
    /// `event` has these roots: an object with `topic`, `source`, `headers` and `body`.
    #[must_use]
    pub fn new(roots: &Value, now: DateTime<Utc>) -> Self {
        Self { now, event: EventPart::Made(EventValue(of_json(roots))), variables: Vec::new() }
    }

    /// The same of an event whose value is made when it is asked for.
    pub(crate) fn later(event: &'e dyn EventSource, now: DateTime<Utc>) -> Self {
        Self { now, event: EventPart::Later(event), variables: Vec::new() }
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
        let EventValue(event) = match &self.event {
            EventPart::Made(event) => event,
            EventPart::Later(source) => source.event_value(),
        };
        scope.push_dynamic("event", event.clone());
        for (name, value) in &self.variables {
            scope.push_dynamic(name.as_str(), value.clone());
        }
        scope
    }
}
