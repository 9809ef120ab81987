//! What was judged, counted in the order of the history: repeated events are left out, wishes are joined by
//! their dedupe keys, and both sets' tasks compared.

use super::judge::{Judged, JudgedBatch, Judges, Kind, Said, Wish};
use chrono::{DateTime, TimeDelta, Utc};
use model::limits::Limits;
use rules::RuleSet;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

/// How many unreadable lines are shown.
const UNREADABLE_SHOWN: usize = 5;
/// The seconds of an hour.
const HOUR: i64 = 3600;

/// The counters while a history is judged.
pub(super) struct Tally<'a> {
    judges: &'a Judges,
    /// How many examples of differences are kept for each rule.
    examples: usize,
    events: u64,
    repeated: u64,
    lines: u64,
    unreadable: u64,
    first_unreadable: Vec<String>,
    known: HashSet<u64>,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    new: Side,
    old: Side,
    differences: Vec<Difference>,
}

/// The counters of one set.
#[derive(Default)]
struct Side {
    rules: Vec<Counters>,
    /// Until when a dedupe key joins wishes, in seconds.
    joined: HashMap<u64, i64>,
    /// When the window of a collecting rule and key began, and when it is over, in seconds.
    windows: HashMap<u64, (i64, i64)>,
}

#[derive(Debug, Clone, Default)]
struct Counters {
    fired: u64,
    errors: u64,
    tasks: u64,
    joined: u64,
    collected: u64,
    windows: u64,
    hours: HashMap<i64, u32>,
}

/// What one rule makes more and less than before.
#[derive(Debug, Clone, Default)]
struct Difference {
    added: u64,
    removed: u64,
    examples: Vec<Example>,
}

/// A task that only one of the sets makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Example {
    /// `added` or `removed`.
    pub(super) change: &'static str,
    /// The event.
    pub(super) event: String,
    /// The task with its item.
    pub(super) task: String,
}

/// What a backtest found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    /// The rule set's revision.
    pub(super) revision: String,
    /// The events that were judged.
    pub(super) events: u64,
    /// Events that came more than once, and count once.
    pub(super) repeated: u64,
    /// Lines that hold no event.
    pub(super) unreadable: u64,
    /// The first of them, with why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) first_unreadable: Vec<String>,
    /// When the first and the last event came in, as far as the history tells.
    pub(super) first: Option<DateTime<Utc>>,
    pub(super) last: Option<DateTime<Utc>>,
    /// How long it took.
    pub(super) took_seconds: f64,
    /// How many firings, errors and tasks there were in all.
    pub(super) fired: u64,
    pub(super) errors: u64,
    pub(super) tasks: u64,
    /// The rules, in their order.
    pub(super) rules: Vec<RuleSummary>,
    /// How it differs from the other set, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) diff: Option<Diff>,
}

/// What one rule would have made.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RuleSummary {
    pub(super) rule: String,
    pub(super) mode: String,
    pub(super) fired: u64,
    pub(super) errors: u64,
    pub(super) tasks: u64,
    /// Wishes that were joined with an earlier one by their dedupe key.
    pub(super) joined: u64,
    /// Events that were collected for a later firing, and how many firings that would have been.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) collected: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) windows: u64,
    /// The most tasks of one hour of the clock, and which hour.
    pub(super) peak_per_hour: u32,
    pub(super) peak_at: Option<DateTime<Utc>>,
    /// The rule's limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Limits>,
    /// How many tasks were over them, by hours and days of the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) over_limit: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How two sets differ in what they make.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Diff {
    /// The other set's revision.
    pub(super) revision: String,
    pub(super) tasks_before: u64,
    pub(super) added: u64,
    pub(super) removed: u64,
    /// The rules that make others.
    pub(super) rules: Vec<RuleDiff>,
}

/// How one rule differs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RuleDiff {
    pub(super) rule: String,
    /// `new`, `gone` or `changed`.
    pub(super) state: &'static str,
    pub(super) tasks_before: u64,
    pub(super) tasks: u64,
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) examples: Vec<Example>,
}

impl<'a> Tally<'a> {
    /// Nothing counted yet.
    pub(super) fn new(judges: &'a Judges, examples: usize) -> Self {
        let side = || Side { rules: vec![Counters::default(); judges.names.len()], ..Side::default() };
        Self {
            judges,
            examples,
            events: 0,
            repeated: 0,
            lines: 0,
            unreadable: 0,
            first_unreadable: Vec::new(),
            known: HashSet::new(),
            first: None,
            last: None,
            new: side(),
            old: side(),
            differences: vec![Difference::default(); judges.names.len()],
        }
    }

    /// How many events were counted.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// How many lines hold no event.
    pub(super) const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The first line that holds no event.
    pub(super) fn first_unreadable(&self) -> Option<&str> {
        self.first_unreadable.first().map(String::as_str)
    }

    /// Counts the next batch of the history.
    pub(super) fn add(&mut self, batch: JudgedBatch) {
        for (line, why) in batch.unreadable {
            self.unreadable += 1;
            if self.first_unreadable.len() < UNREADABLE_SHOWN {
                self.first_unreadable.push(format!("line {}: {why}", self.lines + line));
            }
        }
        self.lines += batch.lines;
        for judged in batch.events {
            self.add_event(judged);
        }
    }

    fn add_event(&mut self, judged: Judged) {
        if !self.known.insert(judged.identity) {
            self.repeated += 1;
            return;
        }
        self.events += 1;
        self.first = [self.first, judged.at].into_iter().flatten().min();
        self.last = [self.last, judged.at].into_iter().flatten().max();
        // An event without a time is counted with the newest one before it.
        let at = judged.at.or(self.last).map_or(0, |at| at.timestamp());
        let hour = judged.at.map(|at| at.timestamp().div_euclid(HOUR));
        let new = self.new.add(judged.new, at, hour);
        if self.judges.old.is_none() {
            return;
        }
        let old = self.old.add(judged.old, at, hour);
        let event = judged.id.as_deref().unwrap_or_default();
        for (change, ours, theirs) in [("added", &new, &old), ("removed", &old, &new)] {
            for wish in ours.iter().filter(|wish| !theirs.iter().any(|other| other.key == wish.key)) {
                let Some(difference) = self.differences.get_mut(wish.rule as usize) else { continue };
                match change {
                    "added" => difference.added += 1,
                    _ => difference.removed += 1,
                }
                if difference.examples.len() < self.examples {
                    let task = wish.words.as_deref().unwrap_or_default().to_owned();
                    difference.examples.push(Example { change, event: event.to_owned(), task });
                }
            }
        }
    }

    /// What was found in all.
    pub(super) fn finish(self, took: Duration) -> Summary {
        let rules: Vec<RuleSummary> = self
            .judges
            .new
            .rules()
            .iter()
            .map(|rule| {
                let place = self.judges.names.iter().position(|name| *name == rule.name);
                let counters = place.and_then(|at| self.new.rules.get(at)).cloned().unwrap_or_default();
                summary(rule, counters)
            })
            .collect();
        let sum = |count: fn(&RuleSummary) -> u64| rules.iter().map(count).sum();
        Summary {
            revision: self.judges.new.revision().to_string(),
            events: self.events,
            repeated: self.repeated,
            unreadable: self.unreadable,
            first: self.first,
            last: self.last,
            took_seconds: took.as_secs_f64(),
            fired: sum(|rule| rule.fired),
            errors: sum(|rule| rule.errors),
            tasks: sum(|rule| rule.tasks),
            diff: self.judges.old.as_ref().map(|old| self.diff(old)),
            first_unreadable: self.first_unreadable,
            rules,
        }
    }

    fn diff(&self, old: &RuleSet) -> Diff {
        let mut rules = Vec::new();
        for (at, name) in self.judges.names.iter().enumerate() {
            let difference = &self.differences[at];
            let state = match (self.judges.new.rule(name), old.rule(name)) {
                (Some(_), None) => "new",
                (None, Some(_)) => "gone",
                _ => "changed",
            };
            if difference.added + difference.removed == 0 && state == "changed" {
                continue;
            }
            rules.push(RuleDiff {
                rule: name.to_string(),
                state,
                tasks_before: self.old.rules[at].tasks,
                tasks: self.new.rules[at].tasks,
                added: difference.added,
                removed: difference.removed,
                examples: difference.examples.clone(),
            });
        }
        Diff {
            revision: old.revision().to_string(),
            tasks_before: self.old.rules.iter().map(|rule| rule.tasks).sum(),
            added: rules.iter().map(|rule| rule.added).sum(),
            removed: rules.iter().map(|rule| rule.removed).sum(),
            rules,
        }
    }
}

impl Side {
    /// Counts what this set said to one event; gives the tasks that it makes.
    fn add(&mut self, said: Said, at: i64, hour: Option<i64>) -> Vec<Wish> {
        for (rule, kind) in said.verdicts {
            let Some(counters) = self.rules.get_mut(rule as usize) else { continue };
            match kind {
                Kind::Fired => counters.fired += 1,
                Kind::Error => counters.errors += 1,
                Kind::Other => {}
            }
        }
        for collect in said.collects {
            let Some(counters) = self.rules.get_mut(collect.rule as usize) else { continue };
            counters.collected += 1;
            let window = self.windows.entry(collect.key).or_insert((at, i64::MIN));
            if at > window.1 {
                *window = (at, at);
                counters.windows += 1;
            }
            window.1 = at.saturating_add(collect.quiet).min(window.0.saturating_add(collect.at_most));
        }
        let mut made = Vec::new();
        for wish in said.tasks {
            let Some(counters) = self.rules.get_mut(wish.rule as usize) else { continue };
            if let Some((key, window)) = wish.dedupe {
                let until = self.joined.entry(key).or_insert(i64::MIN);
                if at < *until {
                    counters.joined += 1;
                    continue;
                }
                *until = at.saturating_add(window);
            }
            counters.tasks += 1;
            if let Some(hour) = hour {
                *counters.hours.entry(hour).or_default() += 1;
            }
            made.push(wish);
        }
        made
    }
}

fn summary(rule: &rules::Rule, counters: Counters) -> RuleSummary {
    let hours: BTreeMap<i64, u32> = counters.hours.into_iter().collect();
    let over_limit = rule.limits.map(|limits| surplus(&hours, limits));
    // Of equal peaks the first one.
    let peak = hours.iter().rev().max_by_key(|(_, count)| **count);
    RuleSummary {
        rule: rule.name.to_string(),
        mode: rule.mode.as_str().to_owned(),
        fired: counters.fired,
        errors: counters.errors,
        tasks: counters.tasks,
        joined: counters.joined,
        peak_per_hour: peak.map_or(0, |(_, count)| *count),
        peak_at: peak
            .and_then(|(hour, _)| DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::try_hours(*hour)?)),
        collected: counters.collected,
        windows: counters.windows,
        limits: rule.limits,
        over_limit,
    }
}

/// How many tasks are over the limits. One that an hour's limit holds back does not count for its day.
fn surplus(hours: &BTreeMap<i64, u32>, limits: Limits) -> u64 {
    let mut over = 0;
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    for (hour, count) in hours {
        let made = limits.per_hour.map_or(*count, |most| most.min(*count));
        over += u64::from(count - made);
        *days.entry(hour.div_euclid(24)).or_default() += u64::from(made);
    }
    let per_day = limits.per_day.map_or(u64::MAX, u64::from);
    over + days.values().map(|made| made.saturating_sub(per_day)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::limits::OnExcess;

    #[test]
    fn what_is_over_the_limits() {
        let hours: BTreeMap<i64, u32> = [(0, 10), (1, 3), (30, 7)].into();
        let over =
            |per_hour, per_day| surplus(&hours, Limits { per_hour, per_day, on_excess: OnExcess::default() });
        assert_eq!(over(None, None), 0);
        assert_eq!(over(Some(5), None), 5 + 2);
        assert_eq!(over(None, Some(8)), 5);
        assert_eq!(over(Some(5), Some(6)), 5 + 2 + 2);
    }
}
