//! What scripts may do with the objects and lists of an event: all that they may do with their own, except
//! to change them.

use super::{
    run::{fail, keep, stop},
    value::{ListView, MapView, Unfit, equal, equal_lists, equal_maps, items_of, list_to_json, map_to_json},
};
use rhai::{
    Array, Dynamic, Engine, EvalAltResult, FnPtr, INT, ImmutableString, Map, NativeCallContext, Position,
};
use serde_json::Value;
use std::any::TypeId;

type Fallible<T> = Result<T, Box<EvalAltResult>>;

/// Functions of lists that work on a copy of an event's list, whose elements are no copies; with the number
/// of arguments after it.
const LIST_FORWARDS: [(&str, usize); 17] = [
    ("get", 1),
    ("extract", 1),
    ("extract", 2),
    ("filter", 1),
    ("index_of", 1),
    ("index_of", 2),
    ("find", 1),
    ("find_map", 1),
    ("some", 1),
    ("all", 1),
    ("reduce", 1),
    ("reduce", 2),
    ("order", 0),
    ("order_desc", 0),
    ("order_by", 1),
    ("join", 1),
    ("unique", 0),
];

pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<MapView>("map").register_type_with_name::<ListView>("array");
    register_reading(engine);
    register_equality(engine);
    register_joining(engine);
    register_texts(engine);
    register_map(engine);
    for (name, more) in LIST_FORWARDS {
        forward(engine, name, more);
    }
}

fn register_reading(engine: &mut Engine) {
    engine
        .register_indexer_get(|map: &mut MapView, key: &str| map.0.get(key).cloned().unwrap_or_default())
        .register_indexer_get(|list: &mut ListView, at: INT| element(list, at))
        .register_indexer_get(|_: &mut ListView, key: &str| -> Fallible<Dynamic> {
            Err(fail(format!(
                "a list has no field `{key}`: take an element (`[0].{key}`) or all (`.map(|x| x.{key})`)"
            )))
        })
        .register_fn("get", |map: &mut MapView, key: &str| map.0.get(key).cloned().unwrap_or_default())
        .register_fn("contains", |map: &mut MapView, key: &str| map.0.contains_key(key))
        .register_fn("contains", |list: &mut ListView, value: Dynamic| {
            list.0.iter().any(|item| equal(item, &value))
        })
        .register_fn("len", |map: &mut MapView| length(map.0.len()))
        .register_fn("len", |list: &mut ListView| length(list.0.len()))
        .register_get("len", |list: &mut ListView| length(list.0.len()))
        .register_fn("is_empty", |map: &mut MapView| map.0.is_empty())
        .register_fn("is_empty", |list: &mut ListView| list.0.is_empty())
        .register_get("is_empty", |list: &mut ListView| list.0.is_empty())
        .register_fn("keys", |map: &mut MapView| {
            map.0.keys().map(|key| key.as_str().into()).collect::<Array>()
        })
        .register_fn("values", |map: &mut MapView| map.0.values().cloned().collect::<Array>());
}

/// From 0, or from the end by -1.
fn element(list: &ListView, at: INT) -> Fallible<Dynamic> {
    let len = list.0.len();
    let index = if at < 0 {
        usize::try_from(at.unsigned_abs()).ok().and_then(|back| len.checked_sub(back))
    } else {
        usize::try_from(at).ok()
    };
    index
        .and_then(|index| list.0.get(index).cloned())
        .ok_or_else(|| Box::new(EvalAltResult::ErrorArrayBounds(len, at, Position::NONE)))
}

fn length(len: usize) -> INT {
    INT::try_from(len).unwrap_or(INT::MAX)
}

fn register_equality(engine: &mut Engine) {
    engine
        .register_fn("==", |a: MapView, b: MapView| equal_maps(&a.0, &b.0))
        .register_fn("==", |a: MapView, b: Map| equal_maps(&a.0, &b))
        .register_fn("==", |a: Map, b: MapView| equal_maps(&a, &b.0))
        .register_fn("==", |a: ListView, b: ListView| equal_lists(&a.0, &b.0))
        .register_fn("==", |a: ListView, b: Array| equal_lists(&a.0, &b))
        .register_fn("==", |a: Array, b: ListView| equal_lists(&a, &b.0))
        .register_fn("!=", |a: MapView, b: MapView| !equal_maps(&a.0, &b.0))
        .register_fn("!=", |a: MapView, b: Map| !equal_maps(&a.0, &b))
        .register_fn("!=", |a: Map, b: MapView| !equal_maps(&a, &b.0))
        .register_fn("!=", |a: ListView, b: ListView| !equal_lists(&a.0, &b.0))
        .register_fn("!=", |a: ListView, b: Array| !equal_lists(&a.0, &b))
        .register_fn("!=", |a: Array, b: ListView| !equal_lists(&a, &b.0));
}

fn register_joining(engine: &mut Engine) {
    let lists = |a: &Array, b: &Array| a.iter().chain(b).cloned().collect::<Array>();
    let maps = |a: &Map, b: &Map| {
        a.iter().chain(b).map(|(key, value)| (key.clone(), value.clone())).collect::<Map>()
    };
    engine
        .register_fn("+", move |a: ListView, b: ListView| lists(&a.0, &b.0))
        .register_fn("+", move |a: ListView, b: Array| lists(&a.0, &b))
        .register_fn("+", move |a: Array, b: ListView| lists(&a, &b.0))
        .register_fn("+", move |a: MapView, b: MapView| maps(&a.0, &b.0))
        .register_fn("+", move |a: MapView, b: Map| maps(&a.0, &b))
        .register_fn("+", move |a: Map, b: MapView| maps(&a, &b.0));
}

/// As text, lists and maps are JSON.
fn register_texts(engine: &mut Engine) {
    for name in ["to_string", "to_debug", "to_json", "print", "debug"] {
        engine
            .register_fn(name, |map: &mut MapView| json_text(map_to_json(&map.0)))
            .register_fn(name, |list: &mut ListView| json_text(list_to_json(&list.0)))
            .register_fn(name, |map: &mut Map| json_text(map_to_json(map)))
            .register_fn(name, |list: &mut Array| json_text(list_to_json(list)));
    }
}

fn json_text(value: Result<Value, Unfit>) -> Fallible<String> {
    let text = value.map(|value| value.to_string());
    text.map_err(|unfit| {
        // Where a text with `${…}` asked for it, Rhai would go on with the name of the type.
        stop(&unfit.to_string());
        fail(unfit.to_string())
    })
}

/// `map` of ours counts what it keeps, so that a closure cannot fill the memory within its operations.
fn register_map(engine: &mut Engine) {
    fn map(context: &NativeCallContext<'_>, items: &Array, closure: &FnPtr) -> Fallible<Array> {
        let mut out = Array::with_capacity(items.len());
        for item in items {
            let made = closure.call_raw(context, None, [item.clone()])?;
            keep(&made)?;
            out.push(made);
        }
        Ok(out)
    }
    let of_map = "`map` and `filter` are for lists; of a map take `.keys()` or `.values()` first";
    engine
        .register_fn("map", |context: NativeCallContext<'_>, list: ListView, closure: FnPtr| {
            map(&context, &list.0, &closure)
        })
        .register_fn("map", |context: NativeCallContext<'_>, list: Array, closure: FnPtr| {
            map(&context, &list, &closure)
        });
    for name in ["map", "filter"] {
        engine
            .register_fn(name, move |_: Map, _: FnPtr| -> Fallible<Array> { Err(fail(of_map)) })
            .register_fn(name, move |_: MapView, _: FnPtr| -> Fallible<Array> { Err(fail(of_map)) });
    }
}

/// Makes a function of lists work on those of events, by calling it with a list of the script's own.
fn forward(engine: &mut Engine, name: &'static str, more: usize) {
    let types: Vec<_> = std::iter::once(TypeId::of::<ListView>())
        .chain(std::iter::repeat_n(TypeId::of::<Dynamic>(), more))
        .collect();
    engine.register_raw_fn(name, types, move |context, arguments| -> Fallible<Dynamic> {
        let mut given: Vec<Dynamic> = arguments.iter().map(|argument| (**argument).clone()).collect();
        for argument in &mut given {
            // Maps stay: their functions know both kinds.
            if let Some(items) = argument.is::<ListView>().then(|| items_of(argument)).flatten() {
                *argument = items.into();
            }
        }
        let mut given: Vec<&mut Dynamic> = given.iter_mut().collect();
        context.call_native_fn_raw(name, true, &mut given)
    });
}

/// The elements of a list in one text.
pub(super) fn join(items: &Array, separator: &str) -> Fallible<String> {
    let mut out = String::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        if let Ok(text) = item.as_immutable_string_ref() {
            out.push_str(&text);
        } else if item.is_int() || item.is_float() || item.is_bool() || item.is_char() || item.is::<u64>() {
            out.push_str(&item.to_string());
        } else {
            let kind = if item.is_unit() { "a missing value" } else { "a list or map" };
            return Err(fail(format!("`join` is for texts and numbers, element {at} is {kind}")));
        }
        if out.len() > super::limits::TEXT_BYTES_MAX {
            return Err(Box::new(EvalAltResult::ErrorDataTooLarge(
                "Length of string".to_owned(),
                Position::NONE,
            )));
        }
    }
    Ok(out)
}

/// The elements of a list, each once, in the order of their first.
pub(super) fn unique(items: Array) -> Array {
    let mut texts: std::collections::HashSet<ImmutableString> = std::collections::HashSet::new();
    let mut out = Array::new();
    for item in items {
        let is_new = match item.as_immutable_string_ref() {
            Ok(text) => texts.insert(text.clone()),
            Err(_) => !out.iter().any(|known| equal(known, &item)),
        };
        if is_new {
            out.push(item);
        }
    }
    out
}
