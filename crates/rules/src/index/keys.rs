//! What must hold of an event, at the least, for a clause to hold: keys that can be looked up.

use super::layout::Layout;
use crate::{
    path::Path,
    predicate::{Block, Clause, Glob, Predicate, Quantity, Relation, Test},
};
use serde_json::{Number, Value};

/// A scalar, such that equal values are equal keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    /// A whole number, however it was written.
    Whole(i128),
    /// The bits of any other number.
    Other(u64),
    Text(Box<str>),
}

impl Scalar {
    /// The key of a value; none of lists and objects.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.as_str().into())),
            value => Self::of_short(value),
        }
    }

    /// The same without texts, which are looked up by themselves.
    pub(super) fn of_short(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(number) => Self::of_number(number),
            _ => None,
        }
    }

    fn of_number(number: &Number) -> Option<Self> {
        /// Floats below this are whole numbers of `i128`.
        const WHOLE_MAX: f64 = 1e30;
        if let Some(whole) = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)) {
            return Some(Self::Whole(whole));
        }
        let float = number.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the float is whole and within the bounds of i128"
        )]
        let key = if float.fract() == 0.0 && float.abs() < WHOLE_MAX {
            Self::Whole(float as i128)
        } else {
            Self::Other(float.to_bits())
        };
        Some(key)
    }
}

/// How a key is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lookup {
    /// The value is this.
    Is(Scalar),
    /// The value is a list with this element, or a text with this part.
    Has(Scalar),
    /// The value is this text in lower case.
    Lower(Box<str>),
    /// The value begins with this.
    Prefix(Box<str>),
    /// The value ends with this.
    Suffix(Box<str>),
    /// The value is a number that is not less; the bits of it.
    AtLeast(u64),
    /// The value is a number that is not more; the bits of it.
    AtMost(u64),
    /// There is a value.
    Present,
}

/// A lookup in the values of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) slot: u32,
    pub(super) lookup: Lookup,
}

/// Keys of which at least one is found when the clause holds.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) keys: Vec<Key>,
    /// The bit of the clause in its block, if it also holds when one of the keys is found.
    pub(super) proves: u64,
}

impl Lookup {
    /// Whether it says more than that the field is there.
    pub(super) const fn selects(&self) -> bool {
        !matches!(self, Self::Present)
    }
}

/// All accesses of a block: each must be found when the block holds.
pub(super) fn of_block(layout: &mut Layout, block: &Block) -> Vec<Access> {
    let mut found = Vec::new();
    for (at, clause) in (0..).zip(block) {
        let before = found.len();
        of_clause(layout, &[], clause, &mut found);
        if let [access] = &mut found[before..]
            && at < u64::BITS
            && access.keys.iter().all(|key| key.lookup.selects())
            && is_its_key(&clause.predicate)
        {
            access.proves = 1 << at;
        }
    }
    found
}

fn of_clause(layout: &mut Layout, above: &[String], clause: &Clause, found: &mut Vec<Access>) {
    let parts = joined(above, &clause.path);
    let predicate = &clause.predicate;
    if predicate.tests.is_empty() && predicate.exists != Some(true) {
        return;
    }
    let Some(slot) = layout.slot(&parts) else { return };
    let key = |lookup| Key { slot, lookup };
    let before = found.len();
    for test in &predicate.tests {
        let lookups = of_test(test);
        let access = |any: Vec<Lookup>| Access { keys: any.into_iter().map(key).collect(), proves: 0 };
        found.extend(lookups.into_iter().map(access));
        if let Test::Any(block) = test {
            // An element of which the block holds has what its clauses name.
            block.iter().for_each(|inner| of_clause(layout, &parts, inner, found));
        }
    }
    if found.len() == before {
        found.push(Access { keys: vec![key(Lookup::Present)], proves: 0 });
    }
}

/// Whether a clause holds when the key of its only test is found.
fn is_its_key(predicate: &Predicate) -> bool {
    let is_value = |one: &Predicate| {
        one.negated.is_empty() && one.exists.is_none() && matches!(one.tests.as_slice(), [Test::Equals(_)])
    };
    predicate.negated.is_empty()
        && predicate.exists != Some(false)
        && match predicate.tests.as_slice() {
            [Test::Equals(_) | Test::Null(true) | Test::Prefix(_) | Test::Suffix(_)]
            | [Test::EqualsIgnoringCase(_)] => true,
            [Test::AnyOf(some) | Test::Contains(Quantity::Any, some)] => some.iter().all(is_value),
            [Test::Glob(globs)] => globs.iter().all(Glob::is_one_end),
            _ => false,
        }
}

fn joined(above: &[String], path: &Path) -> Vec<String> {
    above.iter().chain(path.parts()).cloned().collect()
}

/// Lookups, of each list of which one must succeed when the test holds.
fn of_test(test: &Test) -> Vec<Vec<Lookup>> {
    let one = |lookup: Lookup| vec![vec![lookup]];
    let each = |lookups: Option<Vec<Lookup>>| lookups.into_iter().collect();
    match test {
        Test::Equals(value) => each(Scalar::of(value).map(|scalar| vec![Lookup::Is(scalar)])),
        Test::AnyOf(alternatives) => each(of_alternatives(alternatives)),
        Test::Null(true) => one(Lookup::Is(Scalar::Null)),
        Test::Prefix(texts) => vec![texts.iter().map(|text| Lookup::Prefix(text.as_str().into())).collect()],
        Test::Suffix(texts) => vec![texts.iter().map(|text| Lookup::Suffix(text.as_str().into())).collect()],
        Test::EqualsIgnoringCase(texts) => {
            vec![texts.iter().map(|text| Lookup::Lower(text.as_str().into())).collect()]
        }
        Test::Glob(globs) => {
            let ends = [
                globs.iter().map(|glob| text(glob.prefix()).map(Lookup::Prefix)).collect::<Option<_>>(),
                globs.iter().map(|glob| text(glob.suffix()).map(Lookup::Suffix)).collect::<Option<_>>(),
            ];
            ends.into_iter().flatten().collect()
        }
        Test::Number(relation, number) => of_relation(*relation, number),
        Test::Contains(Quantity::Any, wanted) => each(wanted.iter().map(of_contained).collect()),
        Test::Contains(Quantity::All, wanted) => {
            wanted.iter().filter_map(|one| of_contained(one).map(|lookup| vec![lookup])).collect()
        }
        Test::Null(false)
        | Test::Regex(_)
        | Test::Version(..)
        | Test::Age(..)
        | Test::Size { .. }
        | Test::Any(_)
        | Test::All(_) => Vec::new(),
    }
}

/// A text that is not empty.
fn text(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

fn of_relation(relation: Relation, number: &Number) -> Vec<Vec<Lookup>> {
    // As floats numbers keep their order, though some become equal: hence "not less" for "greater".
    let Some(bits) = number.as_f64().map(f64::to_bits) else { return Vec::new() };
    match relation {
        Relation::Gt | Relation::Gte => vec![vec![Lookup::AtLeast(bits)]],
        Relation::Lt | Relation::Lte => vec![vec![Lookup::AtMost(bits)]],
        Relation::Eq => {
            Scalar::of_number(number).into_iter().map(|scalar| vec![Lookup::Is(scalar)]).collect()
        }
    }
}

/// One lookup list for several alternatives; none if some alternative has no lookup.
fn of_alternatives(alternatives: &[Predicate]) -> Option<Vec<Lookup>> {
    let mut all = Vec::new();
    for one in alternatives {
        all.extend(one.tests.iter().flat_map(of_test).next()?);
    }
    Some(all)
}

/// The lookup of an element.
fn of_contained(wanted: &Predicate) -> Option<Lookup> {
    match wanted.tests.as_slice() {
        [Test::Equals(value), ..] => Scalar::of(value).map(Lookup::Has),
        _ => None,
    }
}
