//! Taskotron's ResultYAML: `results:` with a list of `{item, type, outcome, checkname, note, artifact}`.
//!
//! A result may name its own item: a check that runs over a whole repository reports on each build. Without
//! `item` and `type` it is about the task's item, without `checkname` it is about the task's own testcase.
//! All other keys are kept as data; `_internal` was Taskotron's own and is passed over.

use crate::{
    decode,
    parse_error::Fault,
    parsed::{DATA_FIELDS_MAX, Parsed, ParsedResult, RESULTS_MAX, clean_name, clean_text},
};
use model::{Item, Outcome, outcome::words};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::collections::BTreeMap;

const SHAPE: &str = "write `results: [{item: …, type: koji_build, outcome: PASSED, checkname: …, note: …}]`";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "nothing_is_empty")]
    results: Vec<Entry>,
}

/// `results:` alone means none.
fn nothing_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

struct Entry {
    item: Option<Item>,
    outcome: Outcome,
    checkname: Option<String>,
    note: Option<String>,
    data: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entry;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a result: a mapping with `outcome`")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                entry(map)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The outcome, which must be known.
struct Word(Outcome);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        words::result_yaml(&word).map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{}` is no outcome; known are PASSED, FAILED, INFO, NEEDS_INSPECTION, WAIVED, ERROR, ABORTED, CRASHED",
                clean_name(&word)
            ))
        })
    }
}

fn entry<'de, A: de::MapAccess<'de>>(mut map: A) -> Result<Entry, A::Error> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let (mut outcome, mut data) = (None, BTreeMap::new());
    while let Some(key) = map.next_key::<String>()? {
        match key.as_str() {
            "outcome" if outcome.is_some() => return Err(de::Error::duplicate_field("outcome")),
            "outcome" => outcome = Some(map.next_value::<Word>()?.0),
            "item" | "type" | "checkname" | "note" => {
                let text = map.next_value::<Option<String>>()?.filter(|text| !text.trim().is_empty());
                if text.is_some_and(|text| texts.insert(key.clone(), text).is_some()) {
                    return Err(de::Error::custom(format!("duplicate field `{key}`")));
                }
            }
            "_internal" => drop(map.next_value::<de::IgnoredAny>()?),
            _ if data.len() == DATA_FIELDS_MAX => {
                return Err(de::Error::custom(format!("a result has more than {DATA_FIELDS_MAX} fields")));
            }
            _ => {
                let value = match map.next_value::<Value>()? {
                    Value::Null => continue,
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                if let Some(value) = clean_text(&value) {
                    data.insert(clean_name(&key), value);
                }
            }
        }
    }
    let item = match (texts.remove("item"), texts.remove("type")) {
        (Some(id), Some(kind)) => Some(Item::new(clean_name(&kind), clean_name(&id))),
        (None, None) => None,
        (Some(_), None) => return Err(de::Error::custom("a result with `item` needs `type`")),
        (None, Some(_)) => return Err(de::Error::custom("a result with `type` needs `item`")),
    };
    Ok(Entry {
        item,
        outcome: outcome.ok_or_else(|| de::Error::missing_field("outcome"))?,
        checkname: texts.remove("checkname"),
        note: texts.remove("note"),
        data,
    })
}

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let document: Document = decode::yaml(text, SHAPE)?;
    if document.results.len() > RESULTS_MAX {
        return Err(Fault::new(1, format!("more than {RESULTS_MAX} results")).help("report fewer"));
    }
    let results = document.results.into_iter().map(|entry| ParsedResult {
        item: entry.item,
        message: entry.note.as_deref().and_then(clean_text),
        data: entry.data,
        ..ParsedResult::new(entry.checkname.as_deref().unwrap_or_default(), entry.outcome)
    });
    Ok(Parsed { results: results.collect(), stop: None })
}
