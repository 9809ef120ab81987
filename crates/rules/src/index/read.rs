//! One pass over an event's bytes: the values that some rule names are taken, all else is only checked.
//!
//! What is accepted and what is refused is what parsing into a [`Value`] accepts and refuses: everything goes
//! through the same parser, which is asked for each value what it is. The rare bodies of which one pass
//! cannot tell (a named field that stands twice) and the refused ones are parsed as a whole.

use super::layout::{Bits, Layout, Root};
use crate::path::{Found, descend};
use model::{
    Event,
    event::{EVENT_BYTES_MAX, EventError, parse_body},
};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The values of an event that rules read.
#[derive(Debug)]
pub(crate) enum Read {
    /// Those of one pass, each with its field.
    Fields(Vec<(u32, Value)>),
    /// The whole body.
    Whole(Value),
}

/// Reads the fields of `needed` from a body.
pub(super) fn read(layout: &Layout, needed: &Bits, payload: &[u8]) -> Result<Read, EventError> {
    if payload.len() <= EVENT_BYTES_MAX
        && let Ok(text) = std::str::from_utf8(payload)
        && let Some(fields) = one_pass(layout, needed, text)
    {
        return Ok(Read::Fields(fields));
    }
    parse_body(payload).map(Read::Whole)
}

fn one_pass(layout: &Layout, needed: &Bits, text: &str) -> Option<Vec<(u32, Value)>> {
    let mut pass = Pass { layout, needed, out: Vec::with_capacity(16), unsure: false };
    let mut parser = serde_json::Deserializer::from_str(text);
    let is_object = Object(&mut pass).deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    (is_object && !pass.unsure).then_some(pass.out)
}

struct Pass<'p> {
    layout: &'p Layout,
    needed: &'p Bits,
    out: Vec<(u32, Value)>,
    /// Only the whole body tells.
    unsure: bool,
}

impl Pass<'_> {
    /// Takes a value, if it stands at the end of a path.
    fn take(&mut self, field: u32, value: impl FnOnce() -> Value) {
        if self.layout.fields[field as usize].slot.is_some() {
            self.out.push((field, value()));
        }
    }

    fn is_whole(&self, field: u32) -> bool {
        let slot = self.layout.fields[field as usize].slot;
        slot.is_some_and(|slot| self.layout.slots[slot as usize].whole)
    }
}

/// The body itself; false when it is no object.
struct Object<'a, 'p>(&'a mut Pass<'p>);

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        let root_only = self.0.layout.fields.len() == 1 && !self.0.needed.has(0);
        deserializer.deserialize_map(ObjectVisitor { pass: self.0, root_only })
    }
}

struct ObjectVisitor<'a, 'p> {
    pass: &'a mut Pass<'p>,
    root_only: bool,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        if self.root_only {
            Skip { unsure: &mut self.pass.unsure }.visit_map(map)?;
        } else {
            Take { pass: self.pass, field: 0, element: false }.visit_map(map)?;
        }
        Ok(true)
    }
}

/// A value at a field that leads to a slot or is one.
struct Take<'a, 'p> {
    pass: &'a mut Pass<'p>,
    field: u32,
    /// It is an element of a list at that field: the list was taken, its elements are only a way.
    element: bool,
}

impl Take<'_, '_> {
    fn scalar(self, value: impl FnOnce() -> Value) {
        if !self.element {
            self.pass.take(self.field, value);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Take<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Take<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(|| Value::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(|| value.into());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(|| value.into());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(|| value.into());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(|| Number::from_f64(value).map_or(Value::Null, Value::Number));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.scalar(|| value.into());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { pass, field, element } = self;
        if !element && pass.is_whole(field) {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                items.push(item);
            }
            pass.out.push((field, Value::Array(items)));
            return Ok(());
        }
        if !element {
            pass.take(field, || Value::Array(Vec::new()));
        }
        while list.next_element_seed(Take { pass, field, element: true })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { pass, field, element } = self;
        if !element && pass.is_whole(field) {
            let mut fields = Map::new();
            while let Some(name) = map.next_key::<String>()? {
                pass.unsure |= name.starts_with(ODD);
                fields.insert(name, map.next_value()?);
            }
            pass.out.push((field, Value::Object(fields)));
            return Ok(());
        }
        if !element {
            pass.take(field, || Value::Object(Map::new()));
        }
        let mut seen = 0_u128;
        while let Some(key) = map.next_key_seed(Key { pass, field })? {
            match key {
                None => map.next_value_seed(Skip { unsure: &mut pass.unsure })?,
                Some(below) => {
                    // Of two fields of one name the last counts; two that share a bit are taken for that.
                    let bit = 1 << (pass.layout.fields[below as usize].nth % u128::BITS);
                    pass.unsure |= seen & bit != 0;
                    seen |= bit;
                    map.next_value_seed(Take { pass, field: below, element: false })?;
                }
            }
        }
        Ok(())
    }
}

/// The library gives names that begin so a meaning of its own when it makes a value of them.
const ODD: char = '$';

/// A name: the field below, if rules need it.
struct Key<'a, 'p> {
    pass: &'a mut Pass<'p>,
    field: u32,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = Option<u32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u32>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = Option<u32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<u32>, E> {
        self.pass.unsure |= name.starts_with(ODD);
        let below = self.pass.layout.fields[self.field as usize].below.get(name).copied();
        Ok(below.filter(|below| self.pass.needed.has(*below)))
    }
}

/// A value that no rule names: checked as strictly as any.
struct Skip<'a> {
    unsure: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Skip<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Skip { unsure: &mut *self.unsure })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Name { unsure: &mut *self.unsure })?.is_some() {
            map.next_value_seed(Skip { unsure: &mut *self.unsure })?;
        }
        Ok(())
    }
}

/// A name that leads nowhere.
struct Name<'a> {
    unsure: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        *self.unsure |= name.starts_with(ODD);
        Ok(())
    }
}

/// The values of an event by slots.
#[derive(Debug)]
pub(crate) struct Readings<'v> {
    /// For each slot one more than its place in `found`; 0 where nothing was found.
    places: Vec<u32>,
    found: Vec<Found<'v>>,
}

/// The roots of an event that are no part of its body, as values, where rules name them.
#[derive(Debug)]
pub(super) struct Roots {
    topic: Option<Value>,
    source: Option<Value>,
}

impl Roots {
    pub(super) fn of(layout: &Layout, event: &Event) -> Self {
        let named = |root: &Root| layout.others.iter().any(|slot| layout.slots[*slot as usize].root == *root);
        Self {
            topic: named(&Root::Topic).then(|| event.topic.as_str().into()),
            source: named(&Root::Source).then(|| event.source.as_str().into()),
        }
    }
}

impl<'v> Readings<'v> {
    /// Sorts what was read.
    pub(super) fn of(
        layout: &Layout,
        needed: &Bits,
        event: &'v Event,
        roots: &'v Roots,
        read: &'v Read,
    ) -> Self {
        let mut readings = Self { places: vec![0; layout.slots.len()], found: Vec::with_capacity(16) };
        match read {
            Read::Fields(fields) => {
                for (field, value) in fields {
                    readings.field(layout, needed, *field, value);
                }
            }
            Read::Whole(body) => readings.field(layout, needed, 0, body),
        }
        for slot in &layout.others {
            match &layout.slots[*slot as usize].root {
                Root::Topic => roots.topic.iter().for_each(|value| readings.add(*slot, value)),
                Root::Source => roots.source.iter().for_each(|value| readings.add(*slot, value)),
                Root::Header(name, rest) => {
                    let mut found = Found::None;
                    if let Some(value) = event.headers.get(name) {
                        descend(value, rest, &mut found);
                    }
                    found.as_slice().iter().for_each(|value| readings.add(*slot, value));
                }
                Root::Body(_) => {}
            }
        }
        readings
    }

    /// The value of a field, and those below it that were not taken by themselves.
    fn field(&mut self, layout: &Layout, needed: &Bits, field: u32, value: &'v Value) {
        if let Some(slot) = layout.fields[field as usize].slot {
            self.add(slot, value);
        }
        self.below(layout, needed, field, value);
    }

    fn below(&mut self, layout: &Layout, needed: &Bits, field: u32, value: &'v Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.below(layout, needed, field, item)),
            Value::Object(fields) => {
                for (part, below) in &layout.fields[field as usize].below {
                    if needed.has(*below)
                        && let Some(value) = fields.get(&**part)
                    {
                        self.field(layout, needed, *below, value);
                    }
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, slot: u32, value: &'v Value) {
        let place = &mut self.places[slot as usize];
        if let Some(place) = (*place as usize).checked_sub(1) {
            self.found[place].push(value);
        } else {
            self.found.push(Found::One(value));
            *place = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        }
    }

    /// The values of a slot.
    pub(crate) fn get(&self, slot: u32) -> &Found<'v> {
        match (self.places[slot as usize] as usize).checked_sub(1) {
            Some(place) => &self.found[place],
            None => &Found::None,
        }
    }
}
