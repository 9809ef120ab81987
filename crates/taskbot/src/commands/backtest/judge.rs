//! Judging batches: a pure function of the rule sets and the events, in any number of threads.

use super::history::{Batch, DUMP_SOURCE, Line};
use chrono::{DateTime, Utc};
use model::{Event, RuleName, SourceName, event::EventError, verdict::VerdictKind};
use rules::{Evaluation, RuleSet, TaskWish};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// The rule set that is tried, and the one that it is compared with.
pub(super) struct Judges {
    pub(super) new: RuleSet,
    pub(super) old: Option<RuleSet>,
    /// The rules of both sets, those of the new one first: what counters are kept by.
    pub(super) names: Vec<RuleName>,
    places: HashMap<RuleName, u32>,
}

/// A batch that was judged.
#[derive(Debug, Default)]
pub(super) struct JudgedBatch {
    /// How many bytes of the history it was.
    pub(super) bytes: u64,
    /// How many lines of the history it was.
    pub(super) lines: u64,
    /// The lines that hold no event: their place in the batch, and why.
    pub(super) unreadable: Vec<(u64, String)>,
    /// The events.
    pub(super) events: Vec<Judged>,
}

/// What both sets said to one event.
#[derive(Debug)]
pub(super) struct Judged {
    /// The hash of its domain and id.
    pub(super) identity: u64,
    /// When it came in, or happened, as far as that is known.
    pub(super) at: Option<DateTime<Utc>>,
    /// What makes it known to people; only kept where something follows from it.
    pub(super) id: Option<Box<str>>,
    pub(super) new: Said,
    pub(super) old: Said,
}

/// What one set said to one event.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) verdicts: Vec<(u32, Kind)>,
    pub(super) collects: Vec<Collect>,
    pub(super) tasks: Vec<Wish>,
}

/// A verdict, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fired,
    Error,
    Other,
}

/// An event that a rule would have collected for a later firing.
#[derive(Debug)]
pub(super) struct Collect {
    /// The place of its rule in the set.
    pub(super) rule: u32,
    /// The hash of rule and key.
    pub(super) key: u64,
    /// How long nothing must come for the firing, and the longest that it waits, in seconds.
    pub(super) quiet: i64,
    pub(super) at_most: i64,
}

/// A task that would have been made.
#[derive(Debug)]
pub(super) struct Wish {
    /// The place of its rule in the set.
    pub(super) rule: u32,
    /// The task's key: equal keys are the same task, whichever set wishes it.
    pub(super) key: u128,
    /// The hash of its dedupe key, and the window in seconds.
    pub(super) dedupe: Option<(u64, i64)>,
    /// What it is: `rpmlint koji_build:audit-2.8-1.fc42`; only kept for comparing.
    pub(super) words: Option<Box<str>>,
}

impl Judges {
    /// Puts the sets together.
    pub(super) fn new(new: RuleSet, old: Option<RuleSet>) -> Self {
        let (mut names, mut places) = (Vec::new(), HashMap::new());
        for rule in std::iter::once(&new).chain(&old).flat_map(RuleSet::rules) {
            places.entry(rule.name.clone()).or_insert_with(|| {
                names.push(rule.name.clone());
                u32::try_from(names.len() - 1).unwrap_or(u32::MAX)
            });
        }
        Self { new, old, names, places }
    }

    /// Judges a batch.
    pub(super) fn batch(&self, batch: Batch) -> JudgedBatch {
        match batch {
            Batch::Events(events, unreadable) => JudgedBatch {
                bytes: events.len() as u64,
                lines: 0,
                unreadable,
                events: events.iter().filter_map(|event| self.event(event).ok()).collect(),
            },
            Batch::Lines(bytes) => self.lines(&bytes),
        }
    }

    fn lines(&self, bytes: &[u8]) -> JudgedBatch {
        let mut judged = JudgedBatch { bytes: bytes.len() as u64, ..JudgedBatch::default() };
        let mut line = |line: &[u8]| {
            judged.lines += 1;
            if line.trim_ascii().is_empty() {
                return;
            }
            match self.line(line) {
                Ok(event) => judged.events.push(event),
                Err(why) => judged.unreadable.push((judged.lines, why)),
            }
        };
        // Finding line ends in a checked text is the faster way.
        match std::str::from_utf8(bytes) {
            Ok(text) => text.lines().for_each(|text| line(text.as_bytes())),
            Err(_) => bytes.trim_ascii_end().split(|byte| *byte == b'\n').for_each(line),
        }
        judged
    }

    fn line(&self, text: &[u8]) -> Result<Judged, String> {
        let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        self.event(&line.into_event(&SourceName::from(DUMP_SOURCE)))
    }

    fn event(&self, event: &Event) -> Result<Judged, String> {
        let at = (event.received_at != DateTime::UNIX_EPOCH).then_some(event.received_at).or(event.time);
        let compared = self.old.is_some();
        let new = self.said(&self.new, event, compared)?;
        let old = self.old.as_ref().map(|old| self.said(old, event, compared)).transpose()?;
        let old = old.unwrap_or_default();
        let told = !(new.tasks.is_empty() && old.tasks.is_empty());
        Ok(Judged {
            identity: hash(&(event.domain.as_str(), event.id.as_str())),
            at,
            id: (told && compared).then(|| event.id.as_str().into()),
            new,
            old,
        })
    }

    fn said(&self, set: &RuleSet, event: &Event, with_words: bool) -> Result<Said, String> {
        let evaluation = evaluate(set, event).map_err(|error| error.to_string())?;
        let place = |name: &RuleName| self.places.get(name).copied().unwrap_or(u32::MAX);
        let verdicts = evaluation.verdicts.iter().map(|verdict| {
            let kind = match &verdict.verdict {
                VerdictKind::Fired { .. } | VerdictKind::Shadow { .. } => Kind::Fired,
                VerdictKind::Error { .. } => Kind::Error,
                _ => Kind::Other,
            };
            (place(&verdict.rule), kind)
        });
        let tasks = evaluation.tasks.iter().map(|wish| Wish {
            rule: place(&wish.rule),
            key: key(wish, event),
            dedupe: wish
                .dedupe
                .as_ref()
                .map(|dedupe| (hash(&(wish.rule.as_str(), &dedupe.key)), seconds(dedupe.window))),
            words: with_words.then(|| words(wish).into()),
        });
        let collects = evaluation.collects.iter().map(|wish| Collect {
            rule: place(&wish.rule),
            key: hash(&(wish.rule.as_str(), &wish.key)),
            quiet: seconds(wish.quiet),
            at_most: wish.at_most_every.map_or(i64::MAX, seconds),
        });
        Ok(Said { verdicts: verdicts.collect(), collects: collects.collect(), tasks: tasks.collect() })
    }
}

/// What a set says to an event, by the time that it came in, as when it was judged first.
fn evaluate(set: &RuleSet, event: &Event) -> Result<Evaluation, EventError> {
    let known = event.received_at != DateTime::UNIX_EPOCH;
    let now = if known { event.received_at } else { event.time.unwrap_or(event.received_at) };
    event.check_head()?;
    set.evaluate(event, now)
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn key(wish: &TaskWish, event: &Event) -> u128 {
    // Half of the hash is more than enough for one history.
    let mut half = [0; 16];
    half.copy_from_slice(&wish.key(event, 0).0[..16]);
    u128::from_le_bytes(half)
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A task in a few words: `rpmlint koji_build:audit-2.8-1.fc42 {arch: x86_64}`.
fn words(wish: &TaskWish) -> String {
    let mut words = wish.task.to_string();
    if let Some(item) = &wish.item {
        words.push_str(&format!(" {}:{}", item.kind, item.id));
    }
    for (axis, value) in &wish.cell {
        words.push_str(&format!(
            " {axis}={}",
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        ));
    }
    words
}
