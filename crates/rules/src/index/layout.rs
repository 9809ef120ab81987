//! Which fields of an event rules read: each path gets a slot, and the paths below `body` make a trie.

use crate::{
    path::Path,
    predicate::{Predicate, Test},
};
use rustc_hash::FxHashMap;

/// A set of small numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn insert(&mut self, bit: u32) {
        let word = (bit / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (bit % 64);
    }

    pub(super) fn has(&self, bit: u32) -> bool {
        self.0.get((bit / 64) as usize).is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }
}

/// Where a slot's values come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Root {
    Topic,
    Source,
    /// The header, and the parts below it.
    Header(String, Box<[String]>),
    /// The node in the trie.
    Body(u32),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) root: Root,
    /// Some test looks into lists or objects: their content is kept.
    pub(super) whole: bool,
}

/// A field below `body`, or `body` itself.
#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) slot: Option<u32>,
    /// The fields below, numbered in the order in which they were met.
    pub(super) below: FxHashMap<Box<str>, u32>,
    /// Its number among those of the field above.
    pub(super) nth: u32,
    above: Option<u32>,
}

/// The fields of one rule set.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) slots: Vec<Slot>,
    /// The slots that are not below `body`.
    pub(super) others: Vec<u32>,
    /// The trie; the first is `body`.
    pub(super) fields: Vec<Field>,
    known: FxHashMap<Root, u32>,
}

impl Layout {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            others: Vec::new(),
            fields: vec![Field::default()],
            known: FxHashMap::default(),
        }
    }

    /// The slot of a path of an event; none of a path that leads nowhere.
    pub(super) fn slot(&mut self, parts: &[String]) -> Option<u32> {
        let (root, rest) = parts.split_first()?;
        let root = match (root.as_str(), rest) {
            ("topic", []) => Root::Topic,
            ("source", []) => Root::Source,
            ("headers", [name, rest @ ..]) => Root::Header(name.clone(), rest.into()),
            ("body", rest) => Root::Body(rest.iter().fold(0, |field, part| self.below(field, part))),
            _ => return None,
        };
        let next = u32::try_from(self.slots.len()).ok()?;
        let slot = *self.known.entry(root.clone()).or_insert(next);
        if slot == next {
            match root {
                Root::Body(field) => self.fields[field as usize].slot = Some(slot),
                _ => self.others.push(slot),
            }
            self.slots.push(Slot { root, whole: false });
        }
        Some(slot)
    }

    /// The slot of a clause's path; notes how much of the values its predicate needs.
    pub(super) fn slot_of(&mut self, path: &Path, predicate: &Predicate) -> Option<u32> {
        let slot = self.slot(path.parts())?;
        self.slots[slot as usize].whole |= looks_inside(predicate);
        Some(slot)
    }

    fn below(&mut self, field: u32, part: &str) -> u32 {
        if let Some(known) = self.fields[field as usize].below.get(part) {
            return *known;
        }
        // Paths have at most 32 parts, and rule sets a limited size: this many fit.
        let next = u32::try_from(self.fields.len()).unwrap_or(u32::MAX);
        let nth = u32::try_from(self.fields[field as usize].below.len()).unwrap_or(u32::MAX);
        self.fields.push(Field { nth, above: Some(field), ..Field::default() });
        self.fields[field as usize].below.insert(part.into(), next);
        next
    }

    /// Adds a slot's field and those above it, which lead there.
    pub(super) fn need(&self, slot: u32, fields: &mut Bits) {
        if let Root::Body(field) = self.slots[slot as usize].root {
            let mut next = Some(field);
            while let Some(field) = next {
                fields.insert(field);
                next = self.fields[field as usize].above;
            }
        }
    }
}

/// Whether a test needs more of a list or an object than that it is one.
fn looks_inside(predicate: &Predicate) -> bool {
    let inside = |test: &Test| match test {
        Test::Size { .. } | Test::Contains(..) | Test::Any(_) | Test::All(_) => true,
        Test::AnyOf(alternatives) => alternatives.iter().any(looks_inside),
        _ => false,
    };
    predicate.tests.iter().any(inside) || predicate.negated.iter().any(looks_inside)
}
