//! The matching index over all rules of a set: what an event costs follows the rules that can match it, not
//! the number of rules.
//!
//! - Rules are kept by their topic patterns ([`topics`]); patterns that do not cover an event's topic cost
//!   nothing.
//! - The fields that some rule names have slots ([`layout`]); one pass over the event's bytes fills those that
//!   the rules of its topic need ([`read`]), and still finds bad JSON.
//! - Within a pattern each rule stands below one of the keys that must be found when it matches ([`keys`]):
//!   the one that the fewest others have; a crowd below one key is split by the next clause ([`tree`]). An `any`
//!   stands below a key of each of its blocks. Beginnings, ends and bounds are in sorted tables ([`table`]).
//! - Of the rules that are found, the candidates, all clauses are looked at. A key only has to be necessary:
//!   whatever cannot be a key (`not`, `unless`, regular expressions, versions, ages) is decided here.

mod keys;
mod layout;
mod read;
mod table;
mod topics;
mod tree;

use crate::{
    language::{Mode, Rule},
    path::Found,
    predicate::{Block, Clause},
};
use chrono::{DateTime, Utc};
use keys::Access;
use layout::{Bits, Layout};
use model::{Event, event::EventError, topic::Topic};
use read::{Read, Readings};
use serde_json::Value;
use topics::Topics;
use tree::{Candidate, Entry, Node};

/// The index of one rule set.
#[derive(Debug)]
pub(crate) struct Index {
    layout: Layout,
    topics: Topics,
    patterns: Vec<Pattern>,
    /// For each rule the slots of its clauses, in the order in which they are looked at.
    slots: Vec<Box<[u32]>>,
    unindexed: Vec<u32>,
}

/// The rules of one topic pattern.
#[derive(Debug, Default)]
struct Pattern {
    /// All of them, those that are switched off included.
    rules: Vec<u32>,
    node: Node,
    /// The fields that they read.
    needed: Bits,
}

/// Which rules can match an event, and what is needed to decide.
pub(crate) struct Candidates<'v> {
    /// In their order, each once.
    pub(crate) rules: Vec<Candidate>,
    readings: Readings<'v>,
}

/// An event, read.
pub(crate) struct Reading<'e> {
    event: &'e Event,
    patterns: Vec<u32>,
    needed: Bits,
    roots: read::Roots,
    read: Read,
}

/// The slot of a path that leads nowhere.
const NOWHERE: u32 = u32::MAX;

impl Index {
    /// Indexes the rules, which keep their places.
    pub(crate) fn of(rules: &[Rule]) -> Self {
        let mut layout = Layout::new();
        let mut topics = Topics::new();
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut slots = Vec::with_capacity(rules.len());
        let mut drafts = Vec::with_capacity(rules.len());
        for (number, rule) in (0..).zip(rules) {
            slots.push(slots_of(&mut layout, rule));
            drafts.push(Draft::of(&mut layout, rule));
            for pattern in &rule.on {
                let next = u32::try_from(patterns.len()).unwrap_or(u32::MAX);
                let at = topics.number(pattern, next);
                if at == next {
                    patterns.push(Pattern::default());
                }
                let listening = &mut patterns[at as usize].rules;
                if listening.last() != Some(&number) {
                    listening.push(number);
                }
            }
        }
        let mut index = Self { layout, topics, patterns, slots, unindexed: Vec::new() };
        for at in 0..index.patterns.len() {
            index.fill(at, rules, &drafts);
        }
        index.unindexed = (0..)
            .zip(rules)
            .zip(&drafts)
            .filter(|((_, rule), draft)| rule.mode != Mode::Off && !draft.selects())
            .map(|((number, _), _)| number)
            .collect();
        index
    }

    fn fill(&mut self, at: usize, rules: &[Rule], drafts: &[Draft]) {
        let pattern = &mut self.patterns[at];
        let acting = pattern.rules.iter().filter(|rule| rules[**rule as usize].mode != Mode::Off);
        let acting: Vec<u32> = acting.copied().collect();
        let counts = tree::count(acting.iter().flat_map(|rule| drafts[*rule as usize].all()));
        let entry = |rule: &u32| {
            let accesses = drafts[*rule as usize].accesses(&counts, acting.len());
            Entry { rule: *rule, accesses }
        };
        let entries: Vec<Entry> = acting.iter().map(entry).collect();
        for entry in &entries {
            let keys = entry.accesses.iter().flat_map(|access| &access.keys).map(|key| key.slot);
            let clauses = self.slots[entry.rule as usize].iter().copied();
            keys.chain(clauses).filter(|slot| *slot != NOWHERE).for_each(|slot| {
                self.layout.need(slot, &mut pattern.needed);
            });
        }
        pattern.node = Node::of(&entries);
    }

    /// The rules that listen to the topic, those that are switched off included, in their order.
    pub(crate) fn listening(&self, topic: &Topic) -> Vec<u32> {
        let patterns = self.topics.covering(topic);
        let mut rules: Vec<u32> =
            patterns.iter().flat_map(|at| &self.patterns[*at as usize].rules).copied().collect();
        sort_once(&mut rules);
        rules
    }

    /// The rules that no clause spares an event of their topics.
    pub(crate) fn unindexed(&self) -> &[u32] {
        &self.unindexed
    }

    /// Reads what rules need of an event.
    ///
    /// # Errors
    /// What is wrong with its body, as [`Event::body`] says it.
    pub(crate) fn read<'e>(&self, event: &'e Event) -> Result<Reading<'e>, EventError> {
        let patterns = self.topics.covering(&event.topic);
        let mut needed = Bits::default();
        patterns.iter().for_each(|at| needed.add(&self.patterns[*at as usize].needed));
        let read = read::read(&self.layout, &needed, &event.payload)?;
        Ok(Reading { event, patterns, needed, roots: read::Roots::of(&self.layout, event), read })
    }

    /// The rules that can match the event.
    pub(crate) fn candidates<'v>(&self, reading: &'v Reading<'_>) -> Candidates<'v> {
        let Reading { event, patterns, needed, roots, read } = reading;
        let readings = Readings::of(&self.layout, needed, event, roots, read);
        let mut rules = Vec::with_capacity(32);
        for at in patterns {
            self.patterns[*at as usize].node.find(&readings, &mut rules);
        }
        rules.sort_unstable();
        rules.dedup_by(|again, first| {
            let same = again.rule == first.rule;
            first.proven |= if same { again.proven } else { 0 };
            same
        });
        Candidates { rules, readings }
    }

    /// Whether all of a candidate's clauses hold.
    pub(crate) fn holds(
        &self,
        candidate: Candidate,
        rule: &Rule,
        candidates: &Candidates<'_>,
        now: DateTime<Utc>,
    ) -> bool {
        let slots = self.slots[candidate.rule as usize].as_ref();
        let (when, mut slots) = slots.split_at(rule.when.len());
        let proven = |at: u32| candidate.proven.checked_shr(at).is_some_and(|bits| bits & 1 != 0);
        let mut clauses = (0..).zip(&rule.when).zip(when);
        if !clauses
            .all(|((at, clause), slot)| proven(at) || clause_holds(clause, *slot, &candidates.readings, now))
        {
            return false;
        }
        // Takes the slots of a block, also where its first clause decides.
        let mut holds = |block: &Block| {
            let (own, rest) = slots.split_at(block.len());
            slots = rest;
            block.iter().zip(own).all(|(clause, slot)| clause_holds(clause, *slot, &candidates.readings, now))
        };
        !rule.unless.iter().any(&mut holds) && (rule.any.is_empty() || rule.any.iter().any(&mut holds))
    }
}

impl Reading<'_> {
    /// The body, where it had to be parsed as a whole.
    pub(crate) const fn body(&self) -> Option<&Value> {
        match &self.read {
            Read::Whole(body) => Some(body),
            Read::Fields(_) => None,
        }
    }
}

fn clause_holds(clause: &Clause, slot: u32, readings: &Readings<'_>, now: DateTime<Utc>) -> bool {
    let found = if slot == NOWHERE { &Found::None } else { readings.get(slot) };
    clause.predicate.judge(found, now).held()
}

fn sort_once(rules: &mut Vec<u32>) {
    rules.sort_unstable();
    rules.dedup();
}

/// The slots of all clauses: of `when`, of each block of `unless`, of each block of `any`.
fn slots_of(layout: &mut Layout, rule: &Rule) -> Box<[u32]> {
    let blocks = std::iter::once(&rule.when).chain(&rule.unless).chain(&rule.any);
    blocks
        .flatten()
        .map(|clause| layout.slot_of(&clause.path, &clause.predicate).unwrap_or(NOWHERE))
        .collect()
}

/// The accesses of one rule.
struct Draft {
    when: Vec<Access>,
    any: Vec<Vec<Access>>,
}

impl Draft {
    fn of(layout: &mut Layout, rule: &Rule) -> Self {
        let when = keys::of_block(layout, &rule.when);
        Self { when, any: rule.any.iter().map(|block| keys::of_block(layout, block)).collect() }
    }

    fn all(&self) -> impl Iterator<Item = &Access> {
        self.when.iter().chain(self.any.iter().flatten())
    }

    /// Those of `when`, and one that leads to each block of `any` by its best.
    fn accesses(&self, counts: &tree::Counts, all: usize) -> Vec<Access> {
        let any: Option<Vec<&Access>> = self
            .any
            .iter()
            .map(|block| block.iter().min_by_key(|access| tree::cost(access, counts, all)))
            .collect();
        let any = any.filter(|any| !any.is_empty()).map(|any| Access {
            keys: any.into_iter().flat_map(|access| &access.keys).cloned().collect(),
            proves: 0,
        });
        self.when.iter().cloned().chain(any).collect()
    }

    /// Whether some clause spares it events.
    fn selects(&self) -> bool {
        let selects = |block: &Vec<Access>| {
            block.iter().any(|access| access.keys.iter().all(|key| key.lookup.selects()))
        };
        selects(&self.when) || (!self.any.is_empty() && self.any.iter().all(selects))
    }
}
