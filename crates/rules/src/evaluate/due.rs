//! Events for one rule alone: what it collected, and the times of its schedule.

use super::{Input, then::name_text};
use crate::{
    compile::RuleSet,
    language::{CollectEntry, EVENTS, Mode, Rule},
    schedule::SCHEDULE_DUE,
    script::Scope,
    source::RuleError,
    wish::CollectWish,
};
use chrono::{DateTime, Utc};
use model::{Event, event::EVENT_ROOTS};
use serde_json::Value;

/// The topic of the event that tells a rule that what it collected is due. Its body has `rule` and `events`,
/// the oldest first, each `{seq, id, topic, source, time, headers, body}`.
pub const COLLECT_DUE: &str = "taskbot.collect.due";

/// The events that a rule collected, if this event tells of them.
pub(super) fn collected_events<'b>(event: &Event, body: &'b Value) -> Option<&'b [Value]> {
    if event.topic.as_str() != COLLECT_DUE {
        return None;
    }
    body.get("events").and_then(Value::as_array).map(Vec::as_slice)
}

/// `event` is the last one that was collected, `events` are all of them.
pub(super) fn scope(events: &[Value], now: DateTime<Utc>) -> Scope<'static> {
    let last = events.last().unwrap_or(&Value::Null);
    let root = |name: &str| (name.to_owned(), last.get(name).cloned().unwrap_or_default());
    let roots: Value = EVENT_ROOTS.into_iter().map(root).collect();
    Scope::new(&roots, now).with(&[(EVENTS, Value::Array(events.to_vec()))])
}

/// What a rule wishes that collects the event.
pub(super) fn collected(
    rules: &RuleSet,
    rule: &Rule,
    collect: &CollectEntry,
    input: &Input<'_>,
) -> Result<CollectWish, RuleError> {
    let mut scope = input.scope();
    for one in rule.lets.iter().filter(|one| one.of_event) {
        scope = scope.with(&[(one.name.as_str(), one.value.value(&rules.engine, &scope)?)]);
    }
    Ok(CollectWish {
        rule: rule.name.clone(),
        revision: rules.revision.clone(),
        key: name_text(&rules.engine, &collect.key, "the key of `collect`", &rule.place, &scope)?,
        quiet: collect.quiet,
        at_most_every: collect.at_most_every,
        shadow: rule.mode == Mode::Shadow,
    })
}

impl RuleSet {
    /// The rules that an event is for: those that listen to its topic, or the one that it names.
    pub(crate) fn hearing(&self, input: &Input<'_>) -> impl Iterator<Item = &Rule> {
        let named = is_due(input.event).then(|| self.due_rule(input.event, input.body()).into_iter());
        let listening = named.is_none().then(|| self.listening(&input.event.topic));
        named.into_iter().flatten().chain(listening.into_iter().flatten())
    }

    /// Whether an event is for this rule.
    pub(crate) fn hears(&self, rule: &Rule, input: &Input<'_>) -> bool {
        if is_due(input.event) {
            return self.due_rule(input.event, input.body()).is_some_and(|named| named.name == rule.name);
        }
        rule.on.iter().any(|pattern| pattern.matches(&input.event.topic))
    }

    /// The one rule that an event is for which tells that something is due.
    fn due_rule(&self, event: &Event, body: &Value) -> Option<&Rule> {
        let rule = self.rule(&body.get("rule")?.as_str()?.into())?;
        let waits = match event.topic.as_str() {
            COLLECT_DUE => {
                rule.collect.is_some() && collected_events(event, body).is_some_and(|all| !all.is_empty())
            }
            _ => rule.schedule.is_some(),
        };
        waits.then_some(rule)
    }
}

/// Whether an event is for the rule alone that its body names.
pub(super) fn is_due(event: &Event) -> bool {
    matches!(event.topic.as_str(), COLLECT_DUE | SCHEDULE_DUE)
}
