//! The rules of one topic pattern, each below the keys that fewest others have.

use super::{
    keys::{Access, Key, Lookup, Scalar},
    read::Readings,
    table::{Bounds, Prefixes},
};
use aho_corasick::AhoCorasick;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::{collections::BTreeMap, sync::OnceLock};

/// More rules than this below one key are split by the next clause of each.
const CROWD: usize = 4;
/// How often a crowd is split.
const SPLITS_MAX: usize = 6;
/// The most accesses of one rule that are looked at.
const ACCESSES_MAX: usize = 64;
/// More keys of texts than this are searched for in a text all at once.
const FEW_PARTS: usize = 16;

/// A rule to be indexed, and its accesses: each must be found when the rule matches.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) rule: u32,
    pub(super) accesses: Vec<Access>,
}

/// A rule that can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) rule: u32,
    /// The bits of the clauses of `when` that hold, as the keys say under which it was found.
    pub(crate) proven: u64,
}

/// What is below a key.
#[derive(Debug)]
enum Target {
    Rules(Box<[Candidate]>),
    Split(Box<Node>),
}

/// Rules below the keys of some slots.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Rules without a key (any more).
    always: Box<[Candidate]>,
    slots: Vec<SlotIndex>,
}

/// The keys of one slot.
#[derive(Debug)]
struct SlotIndex {
    slot: u32,
    is_text: FxHashMap<Box<str>, Target>,
    is_other: FxHashMap<Scalar, Target>,
    has_other: FxHashMap<Scalar, Target>,
    has_text: Parts,
    lower: FxHashMap<Box<str>, Target>,
    prefixes: Option<Prefixes<Target>>,
    suffixes: Option<Prefixes<Target>>,
    at_least: Option<Bounds<Target>>,
    at_most: Option<Bounds<Target>>,
    present: Option<Target>,
}

/// Texts that are looked for in lists and as parts of texts.
#[derive(Debug, Default)]
struct Parts {
    targets: FxHashMap<Box<str>, Target>,
    /// For texts, made when the first one comes.
    search: OnceLock<Option<(AhoCorasick, Vec<Box<str>>)>>,
}

/// How many rules have a key.
pub(super) type Counts = FxHashMap<Key, usize>;

/// Counts the rules of each key.
pub(super) fn count<'a>(accesses: impl Iterator<Item = &'a Access>) -> Counts {
    let mut counts = Counts::default();
    for key in accesses.flat_map(|access| &access.keys) {
        match counts.get_mut(key) {
            Some(count) => *count += 1,
            None => {
                counts.insert(key.clone(), 1);
            }
        }
    }
    counts
}

/// How many rules are touched by an access, roughly: those below the same keys. Half of all for a bound, all
/// for mere presence; a short beginning is met by more texts than a long one.
pub(super) fn cost(access: &Access, counts: &Counts, all: usize) -> usize {
    let of_key = |key: &Key| {
        let same = counts.get(key).copied().unwrap_or(1);
        match &key.lookup {
            Lookup::Is(Scalar::Text(_)) | Lookup::Has(Scalar::Text(_)) | Lookup::Lower(_) => 2 * same,
            // There are fewer of these than of texts, so that one is met more often.
            Lookup::Is(_) | Lookup::Has(_) => 4 * same,
            Lookup::Prefix(text) | Lookup::Suffix(text) => (2 + 8 / text.len().max(1)) * same,
            Lookup::AtLeast(_) | Lookup::AtMost(_) => all.max(same),
            Lookup::Present => 2 * all.max(same),
        }
    };
    access.keys.iter().map(of_key).sum()
}

impl Node {
    /// The index of these rules.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let open = entries.iter().map(|entry| Open { entry, used: 0, proven: 0 }).collect();
        Self::build(open, 0)
    }

    fn build(entries: Vec<Open<'_>>, splits: usize) -> Self {
        let counts = count(entries.iter().flat_map(Open::accesses).map(|(_, access)| access));
        let all = entries.len();
        let mut always = Vec::new();
        let mut groups: BTreeMap<&Key, Vec<Open<'_>>> = BTreeMap::new();
        for entry in entries {
            let best = entry.accesses().min_by_key(|(at, access)| (cost(access, &counts, all), *at));
            // One that they all have spares the whole crowd, when it is not found; mere presence seldom does.
            let best =
                best.filter(|(_, access)| splits == 0 || access.keys.iter().all(|key| key.lookup.selects()));
            let Some((at, access)) = best else {
                always.push(entry.candidate());
                continue;
            };
            let (used, proven) = (entry.used | (1 << at), entry.proven | access.proves);
            for key in &access.keys {
                groups.entry(key).or_default().push(Open { entry: entry.entry, used, proven });
            }
        }
        let mut slots: Vec<(u32, Vec<(&Lookup, Target)>)> = Vec::new();
        for (key, group) in groups {
            let target = Target::of(group, splits);
            match slots.last_mut() {
                Some((slot, targets)) if *slot == key.slot => targets.push((&key.lookup, target)),
                _ => slots.push((key.slot, vec![(&key.lookup, target)])),
            }
        }
        let slots = slots.into_iter().map(|(slot, targets)| SlotIndex::of(slot, targets)).collect();
        Self { always: always.into(), slots }
    }

    /// Adds the rules below all keys that are found; one may be added several times.
    pub(super) fn find(&self, readings: &Readings<'_>, into: &mut Vec<Candidate>) {
        into.extend_from_slice(&self.always);
        for slot in &self.slots {
            let values = readings.get(slot.slot).as_slice();
            if let Some(target) = &slot.present
                && !values.is_empty()
            {
                target.find(readings, into);
            }
            for value in values {
                slot.find(value, &mut |target| target.find(readings, into));
            }
        }
    }
}

/// A rule while the index is built; the bits are its accesses that are used already.
struct Open<'e> {
    entry: &'e Entry,
    used: u64,
    /// The clauses that hold at this place.
    proven: u64,
}

impl<'e> Open<'e> {
    const fn candidate(&self) -> Candidate {
        Candidate { rule: self.entry.rule, proven: self.proven }
    }

    fn accesses(&self) -> impl Iterator<Item = (usize, &'e Access)> {
        let used = self.used;
        let accesses = self.entry.accesses.iter().take(ACCESSES_MAX).enumerate();
        accesses.filter(move |(at, _)| used & (1 << at) == 0)
    }
}

impl Target {
    fn of(group: Vec<Open<'_>>, splits: usize) -> Self {
        let can_split = splits < SPLITS_MAX && group.len() > CROWD;
        if can_split && group.iter().any(|open| open.accesses().next().is_some()) {
            return Self::Split(Box::new(Node::build(group, splits + 1)));
        }
        Self::Rules(group.iter().map(Open::candidate).collect())
    }

    fn find(&self, readings: &Readings<'_>, into: &mut Vec<Candidate>) {
        match self {
            Self::Rules(rules) => into.extend_from_slice(rules),
            Self::Split(node) => node.find(readings, into),
        }
    }
}

impl SlotIndex {
    fn of(slot: u32, targets: Vec<(&Lookup, Target)>) -> Self {
        let mut index = Self {
            slot,
            is_text: FxHashMap::default(),
            is_other: FxHashMap::default(),
            has_other: FxHashMap::default(),
            has_text: Parts::default(),
            lower: FxHashMap::default(),
            prefixes: None,
            suffixes: None,
            at_least: None,
            at_most: None,
            present: None,
        };
        let (mut prefixes, mut suffixes) = (Vec::new(), Vec::new());
        let (mut at_least, mut at_most) = (Vec::new(), Vec::new());
        for (lookup, target) in targets {
            match lookup {
                Lookup::Is(Scalar::Text(text)) => drop(index.is_text.insert(text.clone(), target)),
                Lookup::Is(other) => drop(index.is_other.insert(other.clone(), target)),
                Lookup::Has(Scalar::Text(text)) => drop(index.has_text.targets.insert(text.clone(), target)),
                Lookup::Has(other) => drop(index.has_other.insert(other.clone(), target)),
                Lookup::Lower(text) => drop(index.lower.insert(text.clone(), target)),
                Lookup::Prefix(text) => prefixes.push((text.as_bytes().into(), target)),
                Lookup::Suffix(text) => suffixes.push((text.bytes().rev().collect(), target)),
                Lookup::AtLeast(bits) => at_least.push((f64::from_bits(*bits), target)),
                Lookup::AtMost(bits) => at_most.push((f64::from_bits(*bits), target)),
                Lookup::Present => index.present = Some(target),
            }
        }
        index.prefixes = (!prefixes.is_empty()).then(|| Prefixes::of(prefixes));
        index.suffixes = (!suffixes.is_empty()).then(|| Prefixes::of(suffixes));
        index.at_least = (!at_least.is_empty()).then(|| Bounds::lower(at_least));
        index.at_most = (!at_most.is_empty()).then(|| Bounds::upper(at_most));
        index
    }

    fn find<'t>(&'t self, value: &Value, call: &mut impl FnMut(&'t Target)) {
        match value {
            Value::String(text) => self.find_text(text, call),
            Value::Array(items) => {
                if !(self.has_text.targets.is_empty() && self.has_other.is_empty()) {
                    items.iter().for_each(|item| self.find_element(item, call));
                }
            }
            Value::Object(_) => {}
            scalar => {
                if !self.is_other.is_empty()
                    && let Some(target) = Scalar::of_short(scalar).and_then(|key| self.is_other.get(&key))
                {
                    call(target);
                }
                if let Some(number) = scalar.as_f64() {
                    let reached = |bounds: &'t Option<Bounds<Target>>| {
                        bounds.as_ref().map(|bounds| bounds.find(number)).unwrap_or_default()
                    };
                    reached(&self.at_least).iter().for_each(|(_, target)| call(target));
                    reached(&self.at_most).iter().for_each(|(_, target)| call(target));
                }
            }
        }
    }

    fn find_text<'t>(&'t self, text: &str, call: &mut impl FnMut(&'t Target)) {
        if !self.is_text.is_empty()
            && let Some(target) = self.is_text.get(text)
        {
            call(target);
        }
        if !self.lower.is_empty()
            && let Some(target) = self.lower.get(&*text.to_lowercase())
        {
            call(target);
        }
        if let Some(prefixes) = &self.prefixes {
            prefixes.find(text.as_bytes(), &mut *call);
        }
        if let Some(suffixes) = &self.suffixes {
            suffixes.find_reversed(text.as_bytes(), &mut *call);
        }
        self.has_text.find_in(text, call);
    }

    fn find_element<'t>(&'t self, item: &Value, call: &mut impl FnMut(&'t Target)) {
        let target = match item {
            Value::String(text) => self.has_text.targets.get(text.as_str()),
            other => Scalar::of_short(other).and_then(|key| self.has_other.get(&key)),
        };
        target.into_iter().for_each(call);
    }
}

impl Parts {
    /// The targets of all texts that stand in this one.
    fn find_in<'t>(&'t self, text: &str, call: &mut impl FnMut(&'t Target)) {
        if self.targets.len() <= FEW_PARTS {
            let there = self.targets.iter().filter(|(part, _)| text.contains(&***part));
            there.for_each(|(_, target)| call(target));
            return;
        }
        let search = self.search.get_or_init(|| {
            let parts: Vec<_> = self.targets.keys().cloned().collect();
            AhoCorasick::new(parts.iter().map(|part| part.as_bytes())).ok().map(|search| (search, parts))
        });
        let Some((search, parts)) = search else {
            self.targets.values().for_each(call);
            return;
        };
        let (mut found, mut missing) = (vec![false; parts.len()], parts.len());
        for part in search.find_overlapping_iter(text).map(|part| part.pattern().as_usize()) {
            if !std::mem::replace(&mut found[part], true) {
                self.targets.get(&parts[part]).into_iter().for_each(&mut *call);
                missing -= 1;
                if missing == 0 {
                    return;
                }
            }
        }
    }
}
