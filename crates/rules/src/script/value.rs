//! The values of scripts: events come in as views that cost nothing to copy, results go out as JSON.
//!
//! A view is an object or a list of an event. Copying one into a closure, a list or a variable copies a
//! pointer, so that a script cannot multiply a large event, and nothing of it is ever locked or changed.

use super::limits::{RESULT_BYTES_MAX, RESULT_VALUES_MAX};
use rhai::{Array, Dynamic, Map};
use serde_json::Value;
use std::sync::Arc;

/// An object of an event.
#[derive(Debug, Clone)]
pub(super) struct MapView(pub(super) Arc<Map>);

/// A list of an event.
#[derive(Debug, Clone)]
pub(super) struct ListView(pub(super) Arc<Array>);

/// A JSON value as scripts see it: null is `()`, whole numbers beyond 64 bits with sign stay exact.
pub(super) fn of_json(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => Dynamic::from(number),
            (None, None) => number.as_f64().map_or(Dynamic::UNIT, Into::into),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => Dynamic::from(ListView(Arc::new(items.iter().map(of_json).collect()))),
        Value::Object(entries) => {
            of_entries(entries.iter().map(|(key, value)| (key.as_str().into(), of_json(value))).collect())
        }
    }
}

/// A map as a view.
pub(super) fn of_entries(entries: Map) -> Dynamic {
    Dynamic::from(MapView(Arc::new(entries)))
}

/// Why a value cannot leave a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the result has more than {RESULT_VALUES_MAX} values")]
    Values,
    #[error("the result has more than {RESULT_BYTES_MAX} bytes of text")]
    Bytes,
    #[error("the result holds {0}, which JSON has not")]
    Kind(&'static str),
}

/// What a result may still take.
struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    fn value(&mut self) -> Result<(), Unfit> {
        self.values = self.values.checked_sub(1).ok_or(Unfit::Values)?;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<String, Unfit> {
        self.bytes = self.bytes.checked_sub(text.len()).ok_or(Unfit::Bytes)?;
        Ok(text.to_owned())
    }
}

/// A script's value as JSON, within [`RESULT_VALUES_MAX`] and [`RESULT_BYTES_MAX`].
pub(super) fn to_json(value: &Dynamic) -> Result<Value, Unfit> {
    write_json(value, &mut Budget { values: RESULT_VALUES_MAX, bytes: RESULT_BYTES_MAX })
}

/// The same for lists and maps that are not wrapped.
pub(super) fn list_to_json(items: &Array) -> Result<Value, Unfit> {
    write_list(items, &mut Budget { values: RESULT_VALUES_MAX, bytes: RESULT_BYTES_MAX })
}

pub(super) fn map_to_json(entries: &Map) -> Result<Value, Unfit> {
    write_map(entries, &mut Budget { values: RESULT_VALUES_MAX, bytes: RESULT_BYTES_MAX })
}

fn write_json(value: &Dynamic, budget: &mut Budget) -> Result<Value, Unfit> {
    budget.value()?;
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(value) = value.as_bool() {
        return Ok(value.into());
    }
    if let Ok(number) = value.as_int() {
        return Ok(number.into());
    }
    if let Ok(number) = value.as_float() {
        let number = serde_json::Number::from_f64(number).ok_or(Unfit::Kind("no finite number"))?;
        return Ok(Value::Number(number));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return budget.text(&text).map(Value::String);
    }
    if let Ok(c) = value.as_char() {
        return budget.text(c.encode_utf8(&mut [0; 4])).map(Value::String);
    }
    if let Some(view) = value.read_lock::<MapView>() {
        return write_map(&view.0, budget);
    }
    if let Some(view) = value.read_lock::<ListView>() {
        return write_list(&view.0, budget);
    }
    if let Ok(entries) = value.as_map_ref() {
        return write_map(&entries, budget);
    }
    if let Ok(items) = value.as_array_ref() {
        return write_list(&items, budget);
    }
    if let Some(number) = value.read_lock::<u64>() {
        return Ok((*number).into());
    }
    Err(Unfit::Kind(if value.is_fnptr() { "a closure" } else { "a range" }))
}

fn write_list(items: &Array, budget: &mut Budget) -> Result<Value, Unfit> {
    items.iter().map(|item| write_json(item, budget)).collect()
}

fn write_map(entries: &Map, budget: &mut Budget) -> Result<Value, Unfit> {
    let write = |(key, value): (&_, &_)| {
        let key: &rhai::Identifier = key;
        Ok((budget.text(key)?, write_json(value, budget)?))
    };
    entries.iter().map(write).collect::<Result<_, _>>().map(Value::Object)
}

/// The elements of a list, be it an event's or the script's own.
pub(super) fn items_of(value: &Dynamic) -> Option<Array> {
    if let Some(view) = value.read_lock::<ListView>() {
        return Some((*view.0).clone());
    }
    value.as_array_ref().ok().map(|items| items.clone())
}

/// Equality as in the rule language: by value, at any depth, whole and other numbers alike.
pub(super) fn equal(a: &Dynamic, b: &Dynamic) -> bool {
    if let (Some(a), Some(b)) = (Number::of(a), Number::of(b)) {
        return a.compare(b).is_some_and(std::cmp::Ordering::is_eq);
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return *a == *b;
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return a == b;
    }
    if let (Ok(a), Ok(b)) = (a.as_char(), b.as_char()) {
        return a == b;
    }
    if a.is_unit() || b.is_unit() {
        return a.is_unit() && b.is_unit();
    }
    if let Some(same) = with_items(a, |a| with_items(b, |b| equal_lists(a, b))) {
        return same.unwrap_or(false);
    }
    with_entries(a, |a| with_entries(b, |b| equal_maps(a, b))).flatten().unwrap_or(false)
}

pub(super) fn equal_lists(a: &Array, b: &Array) -> bool {
    std::ptr::eq(a, b) || (a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)))
}

pub(super) fn equal_maps(a: &Map, b: &Map) -> bool {
    let same = |(key, value): (&_, &_)| b.get(key).is_some_and(|other| equal(value, other));
    std::ptr::eq(a, b) || (a.len() == b.len() && a.iter().all(same))
}

fn with_items<T>(value: &Dynamic, call: impl FnOnce(&Array) -> T) -> Option<T> {
    if let Some(view) = value.read_lock::<ListView>() {
        return Some(call(&view.0));
    }
    value.as_array_ref().ok().map(|items| call(&items))
}

fn with_entries<T>(value: &Dynamic, call: impl FnOnce(&Map) -> T) -> Option<T> {
    if let Some(view) = value.read_lock::<MapView>() {
        return Some(call(&view.0));
    }
    value.as_map_ref().ok().map(|entries| call(&entries))
}

/// A number of any of the three kinds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Other(f64),
}

impl Number {
    pub(super) fn of(value: &Dynamic) -> Option<Self> {
        if let Ok(number) = value.as_int() {
            return Some(Self::Whole(number.into()));
        }
        if let Ok(number) = value.as_float() {
            return Some(Self::Other(number));
        }
        value.read_lock::<u64>().map(|number| Self::Whole((*number).into()))
    }

    /// `None` for what is no number.
    pub(super) fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (a, b) => a.approximate().partial_cmp(&b.approximate()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "what all languages do when they compare with a float")]
    const fn approximate(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Other(number) => number,
        }
    }
}
