//! What is reported: bodies, read with an error for each field that is wrong.

use super::{
    Settings,
    query::{one_of, time_of},
    refusal::{Refusal, entry},
};
use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
};
use chrono::{DateTime, Utc};
use model::{Outcome, outcome::words};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store::{GROUPS_PER_RESULT_MAX, NewEntry, ResultGroup, Testcase, VALUES_PER_RESULT_MAX};

/// The longest name of a testcase, key or group, in bytes.
const NAME_BYTES_MAX: usize = 1_000;

/// A body that is a JSON object.
pub(crate) fn object(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind != "application/json" && !kind.ends_with("+json") {
        let message = "the body must be JSON, and Content-Type: application/json say so";
        return Err(Refusal::Message(StatusCode::UNSUPPORTED_MEDIA_TYPE, message.to_owned()));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let message = "Input should be a valid dictionary";
            Err(Refusal::Invalid(vec![entry("dict_type", &[], message, &other)]))
        }
        Err(_) => Err(Refusal::bad("Bad request")),
    }
}

/// Gathers what is wrong with fields.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    wrong: Vec<Value>,
}

impl<'a> Fields<'a> {
    const fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, wrong: Vec::new() }
    }

    fn wrong(&mut self, kind: &str, field: &str, message: &str, input: &Value) {
        self.wrong.push(entry(kind, &[field], message, input));
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    fn required(&mut self, field: &str) -> Option<&'a Value> {
        if !self.object.contains_key(field) {
            let object = Value::Object(self.object.clone());
            self.wrong("missing", field, "Field required", &object);
        }
        self.object.get(field)
    }

    /// A text that may be missing or null.
    fn text(&mut self, field: &str) -> Option<String> {
        match self.get(field)? {
            Value::String(text) => Some(text.clone()),
            other => {
                self.wrong("string_type", field, "Input should be a valid string", other);
                None
            }
        }
    }

    /// Whether a text is no longer than a name may be, and not empty.
    fn fits(&mut self, field: &str, text: &str) -> bool {
        if text.is_empty() {
            self.wrong("string_too_short", field, "String should have at least 1 character", &json!(text));
        } else if text.len() > NAME_BYTES_MAX {
            let message = format!("String should have at most {NAME_BYTES_MAX} characters");
            self.wrong("string_too_long", field, &message, &json!(text));
        } else {
            return true;
        }
        false
    }

    fn done<T>(self, value: Option<T>) -> Result<T, Refusal> {
        match value {
            Some(value) if self.wrong.is_empty() => Ok(value),
            _ => Err(Refusal::Invalid(self.wrong)),
        }
    }
}

/// `{name, ref_url?}` of a testcase.
pub(crate) fn testcase(object: &Map<String, Value>) -> Result<Testcase, Refusal> {
    let mut fields = Fields::new(object);
    let name = match fields.required("name") {
        Some(Value::String(name)) => Some(name.clone()).filter(|_| fields.fits("name", name)),
        Some(other) => {
            fields.wrong("string_type", "name", "Input should be a valid string", other);
            None
        }
        None => None,
    };
    let ref_url = fields.text("ref_url");
    let testcase = name.map(|name| Testcase { name, ref_url });
    fields.done(testcase)
}

/// `{uuid?, description?, ref_url?}` of a group; `new_id` is that of one that has none.
pub(crate) fn group(object: &Map<String, Value>, new_id: String) -> Result<ResultGroup, Refusal> {
    let mut fields = Fields::new(object);
    let id = fields.text("uuid").filter(|id| !id.is_empty()).unwrap_or(new_id);
    fields.fits("uuid", &id);
    let (description, ref_url) = (fields.text("description"), fields.text("ref_url"));
    fields.done(Some(ResultGroup { id, description, ref_url, results: 0 }))
}

/// A result that somebody reports.
pub(crate) fn result(
    object: &Map<String, Value>,
    settings: &Settings,
    who: &str,
    new_id: impl Fn() -> String,
) -> Result<NewEntry, Refusal> {
    let mut fields = Fields::new(object);
    let said = said_of(&mut fields, settings);
    let testcase = testcase_of(&mut fields);
    let groups = groups_of(&mut fields, &new_id);
    let note = fields.text("note");
    let data = data_of(&mut fields);
    let ref_url = fields.text("ref_url");
    let at = submit_time(&mut fields);
    let (said, testcase) = fields.done(said.zip(testcase))?;
    Ok(NewEntry {
        testcase,
        // What is under way is nothing that anybody needs to act on.
        outcome: words::from_resultsdb(&said).unwrap_or(Outcome::Info),
        said,
        note,
        ref_url,
        data: data?,
        groups: groups?,
        at,
        who: who.to_owned(),
    })
}

/// The outcome as it is said.
fn said_of(fields: &mut Fields<'_>, settings: &Settings) -> Option<String> {
    match fields.required("outcome")? {
        Value::String(text) => {
            let said = text.trim().to_uppercase();
            if said.is_empty() {
                fields.fits("outcome", &said);
                return None;
            }
            if settings.outcomes().any(|known| known == said) {
                return Some(said);
            }
            fields.wrong("value_error", "outcome", &one_of(settings), &json!(text));
        }
        other => fields.wrong("string_type", "outcome", "Input should be a valid string", other),
    }
    None
}

/// `"name"` or `{name, ref_url?}`.
fn testcase_of(fields: &mut Fields<'_>) -> Option<Testcase> {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    };
    let is_nameless = |value: &Value| value.is_object() && value.get("name").is_none_or(is_empty);
    match fields.required("testcase")? {
        nameless if is_empty(nameless) || is_nameless(nameless) => {
            let message = "Value error, testcase name must be non-empty";
            fields.wrong("value_error", "testcase", message, nameless);
            None
        }
        Value::String(name) => {
            fields.fits("testcase", name).then(|| Testcase { name: name.clone(), ref_url: None })
        }
        Value::Object(object) => match testcase(object) {
            Ok(testcase) => Some(testcase),
            Err(Refusal::Invalid(mut wrong)) => {
                for entry in &mut wrong {
                    if let Some(place) = entry["loc"].as_array_mut() {
                        place.insert(0, json!("testcase"));
                    }
                }
                fields.wrong.extend(wrong);
                None
            }
            Err(_) => None,
        },
        other => {
            fields.wrong("dict_type", "testcase", "Input should be a valid dictionary", other);
            None
        }
    }
}

/// Ids, or whole groups.
fn groups_of(fields: &mut Fields<'_>, new_id: &impl Fn() -> String) -> Result<Vec<ResultGroup>, Refusal> {
    let list = match fields.get("groups") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            fields.wrong("list_type", "groups", "Input should be a valid list", other);
            return Ok(Vec::new());
        }
    };
    if list.len() > GROUPS_PER_RESULT_MAX {
        return Err(Refusal::bad(format!("a result belongs to at most {GROUPS_PER_RESULT_MAX} groups")));
    }
    let mut groups = Vec::new();
    for item in list {
        match item {
            Value::String(id) if !id.is_empty() && id.len() <= NAME_BYTES_MAX => {
                groups.push(ResultGroup { id: id.clone(), description: None, ref_url: None, results: 0 });
            }
            Value::Object(object) => groups.push(group(object, new_id())?),
            other => {
                fields.wrong("string_type", "groups", "Input should be a valid string or dictionary", other);
            }
        }
    }
    Ok(groups)
}

/// Milliseconds since 1970, as a number or text, or a time in ISO 8601 form.
fn submit_time(fields: &mut Fields<'_>) -> Option<DateTime<Utc>> {
    let given = fields.get("submit_time")?;
    let milliseconds = |text: &str| {
        let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float that is too large saturates, and is refused"
        )]
        DateTime::from_timestamp_micros((number * 1000.0) as i64)
    };
    let time = match given {
        Value::String(text) => milliseconds(text).or_else(|| time_of(text)),
        Value::Number(number) => milliseconds(&number.to_string()),
        _ => None,
    };
    if time.is_none() {
        let message = format!(
            "Value error, Expected timestamp in milliseconds or datetime (in format YYYY-MM-DDTHH:MM:SS.ffffff), \
             got {}",
            repr(given)
        );
        fields.wrong("value_error", "submit_time", &message, given);
    }
    time
}

/// Values by key; a value is a text, a list, or anything else as text.
fn data_of(fields: &mut Fields<'_>) -> Result<BTreeMap<String, Vec<String>>, Refusal> {
    let object = match fields.get("data") {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(object)) => object,
        Some(other) => {
            fields.wrong("dict_type", "data", "Input should be a valid dictionary", other);
            return Ok(BTreeMap::new());
        }
    };
    let colons: Vec<String> =
        object.keys().filter(|key| key.contains(':')).map(|key| repr(&json!(key))).collect();
    if !colons.is_empty() {
        return Err(Refusal::bad(format!("Colon not allowed in key name: [{}]", colons.join(", "))));
    }
    let mut data = BTreeMap::new();
    let mut count = 0;
    for (key, value) in object {
        let values: Vec<String> = match value {
            Value::Array(values) => values.iter().map(as_text).collect(),
            value => vec![as_text(value)],
        };
        count += values.len();
        if count > VALUES_PER_RESULT_MAX || key.len() > NAME_BYTES_MAX {
            return Err(Refusal::bad(format!(
                "a result has at most {VALUES_PER_RESULT_MAX} values, under keys of at most {NAME_BYTES_MAX} bytes"
            )));
        }
        if !values.is_empty() {
            data.insert(key.clone(), values);
        }
    }
    Ok(data)
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// A value as Python shows it, since that is how it was kept and told.
fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut shown = String::from(quote);
            for letter in text.chars() {
                match letter {
                    '\n' => shown.push_str("\\n"),
                    '\r' => shown.push_str("\\r"),
                    '\t' => shown.push_str("\\t"),
                    '\\' => shown.push_str("\\\\"),
                    letter if letter == quote => shown.extend(['\\', quote]),
                    letter => shown.push(letter),
                }
            }
            shown.push(quote);
            shown
        }
        Value::Array(values) => format!("[{}]", values.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", repr(&json!(key)), repr(value));
            format!("{{{}}}", object.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}
