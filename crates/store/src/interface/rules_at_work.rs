//! What rules need while they work: holds with what they hold back, limits, windows that collect, schedules and
//! counters. All of it is in the database, so that it survives restarts and holds for any number of servers.

use super::{Judgement, Result, StoredEvent};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{Event, RuleName, TaskId, ids::EventSeq};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// The most events that a window collects; then it is due at once.
pub const COLLECT_EVENTS_MAX: u64 = 1000;
/// The most bytes of bodies and headers that a window collects; then it is due at once. An event that has more by
/// itself is collected without its body.
pub const COLLECT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How deep the body of a collected event may be nested; a deeper one is left out, since no JSON reader would read
/// what it is put into.
pub const COLLECT_NESTING_MAX: usize = 110;

/// Why a rule is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// Somebody paused it.
    Pause,
    /// It went over its limit.
    Limit,
}

impl HoldKind {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Limit => "limit",
        }
    }
}

impl std::str::FromStr for HoldKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text {
            "pause" => Ok(Self::Pause),
            "limit" => Ok(Self::Limit),
            other => Err(format!("`{other}` is no kind of hold; known are pause, limit")),
        }
    }
}

/// A hold: while it lasts, events that the rule fires on are kept, and nothing is made of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The rule; nothing stands for all rules.
    pub rule: Option<RuleName>,
    /// Why.
    pub kind: HoldKind,
    /// Who paused it, or `limit`.
    pub by: String,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What waits for an operator, by rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// The rule.
    pub rule: RuleName,
    /// Its own hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// How many events wait to be judged when the hold ends.
    pub held_events: u64,
    /// How many tasks a limit parked.
    pub parked_tasks: u64,
    /// Since when the oldest of both has waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<DateTime<Utc>>,
}

/// An event that was held, and whose rule is held no more: it is judged for this rule alone.
#[derive(Debug, Clone, PartialEq)]
pub struct DueHeld {
    /// The rule.
    pub rule: RuleName,
    /// The event's place in the inbox.
    pub seq: EventSeq,
    /// The replay that it belongs to.
    pub generation: u32,
    /// The event. Its payload is empty when its body has expired.
    pub event: Event,
}

/// An event that a rule collects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCollect {
    /// The rule.
    pub rule: RuleName,
    /// Events with the same key are collected together, within the rule.
    pub key: String,
    /// The window is due when no further event came for so long.
    pub quiet: Duration,
    /// But at the latest so long after its first event.
    pub at_most_every: Option<Duration>,
}

/// A window that collects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectWindow {
    /// The rule.
    pub rule: RuleName,
    /// The key.
    pub key: String,
    /// When its first event came.
    pub first_at: DateTime<Utc>,
    /// When its last event came.
    pub last_at: DateTime<Utc>,
    /// When it is due, if no further event comes.
    pub due_at: DateTime<Utc>,
    /// How many events it has.
    pub events: u64,
}

/// What a rule did, as sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// The rule.
    pub rule: RuleName,
    /// Events that it was looked at for.
    pub candidates: u64,
    /// Events that it fired on, in shadow mode and when it collected too.
    pub fired: u64,
    /// Events that it erred on.
    pub errors: u64,
    /// Verdicts that it was duplicate, limited, parked or held.
    pub suppressed: u64,
    /// When it last fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fired_at: Option<DateTime<Utc>>,
}

impl RuleCount {
    /// Nothing yet.
    #[must_use]
    pub const fn new(rule: RuleName) -> Self {
        Self { rule, candidates: 0, fired: 0, errors: 0, suppressed: 0, last_fired_at: None }
    }
}

/// Holds, backlogs, windows, schedules and counters.
#[async_trait]
pub trait RulesAtWork: Send + Sync {
    /// Holds a rule, or all of them (`None`). One that a limit holds is from now on paused by this person.
    async fn hold_rule(&self, rule: Option<&RuleName>, by: &str, why: Option<&str>) -> Result<Hold>;

    /// Ends a hold. What it held back comes up by [`RulesAtWork::due_held`], or is dropped. Returns how many events
    /// were dropped. A rule that is not held is not found.
    async fn end_hold(&self, rule: Option<&RuleName>, drop: bool) -> Result<u64>;

    /// All holds, that of all rules first, then by rule.
    async fn rule_holds(&self) -> Result<Vec<Hold>>;

    /// What waits for an operator, by rule; rules that are held and have nothing waiting too.
    async fn backlog(&self) -> Result<Vec<Backlog>>;

    /// Held events that nothing holds any more, oldest first, taken for `hold_ms` so that another server takes
    /// others.
    async fn due_held(&self, limit: u32, hold_ms: u64) -> Result<Vec<DueHeld>>;

    /// Writes what its rule says to a held event now; the judgement is of that rule alone. When the rule is held
    /// again, the event is held again. `false` when another server was first.
    async fn judge_held(&self, held: &DueHeld, judgement: &Judgement) -> Result<bool>;

    /// Writes what a rule says now to an event of the past, beside what was said to it then: with limits, holds and
    /// keys as always, so that a task that was made before is not made again. Gives the tasks made; none when the
    /// event was replayed meanwhile.
    async fn judge_past(&self, event: &StoredEvent, judgement: &Judgement) -> Result<Vec<TaskId>>;

    /// Which tasks [`judge_past`](Self::judge_past) would make of these events one after the other. Nothing is kept.
    async fn would_make(&self, past: &[(StoredEvent, Judgement)]) -> Result<Vec<TaskId>>;

    /// The tasks of a rule that a limit parked, oldest first.
    async fn parked(&self, rule: &RuleName, limit: u32) -> Result<Vec<TaskId>>;

    /// Closes windows that are due: each becomes an event of ours, `taskbot.collect.due`, in the transaction that
    /// closes it. Returns how many.
    async fn close_due_windows(&self, limit: u32) -> Result<u64>;

    /// The windows that are open, of a rule or of all, the next to be due first.
    async fn collect_windows(&self, rule: Option<&RuleName>, limit: u32) -> Result<Vec<CollectWindow>>;

    /// The last times of schedules that were looked at. A rule that has none begins now.
    async fn schedule_times(&self, rules: &[RuleName]) -> Result<BTreeMap<RuleName, DateTime<Utc>>>;

    /// Goes on in a schedule from one time to a later one. With `missed`, the later time is due: an event of ours,
    /// `taskbot.schedule.due`, tells the rule so, and how many times before it were missed. `false` when another
    /// server was first.
    async fn pass_schedule(
        &self,
        rule: &RuleName,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        missed: Option<u64>,
    ) -> Result<bool>;

    /// Adds to the counters; `suppressed` is counted by the store itself.
    async fn count_rules(&self, counts: &[RuleCount]) -> Result<()>;

    /// The counters, by rule.
    async fn rule_counts(&self) -> Result<Vec<RuleCount>>;

    /// Removes what no limit looks at any more.
    async fn forget_rates(&self) -> Result<u64>;
}
