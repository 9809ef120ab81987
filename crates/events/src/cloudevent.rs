//! `CloudEvents` 1.0 over NATS: attributes as headers `ce-…` (binary mode), or one JSON document (structured).

use model::{event::json_kind, message::Message};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use std::fmt::Write;

/// What the headers of attributes start with.
pub const PREFIX: &str = "ce-";
/// An extension attribute of ours: how many events of ours led to the message.
pub const DEPTH: &str = "ce-taskbotdepth";
/// The media type of structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The `source` attribute of an installation's messages. Who carries it came back to where it was made.
#[must_use]
pub fn own_source(installation: &str) -> String {
    format!("taskbot/{installation}")
}

/// The id of a message of ours: the same each time it is published.
#[must_use]
pub fn own_id(installation: &str, message: &Message) -> String {
    format!("{installation}/{}", message.id)
}

/// The attributes of a message of ours as header names and plain values, in binary mode.
#[must_use]
pub fn attributes(installation: &str, message: &Message) -> Vec<(&'static str, String)> {
    let told = &message.message;
    let mut attributes = vec![
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", own_id(installation, message)),
        ("ce-source", own_source(installation)),
        ("ce-type", told.topic.to_string()),
        ("ce-subject", told.subject.clone()),
        ("ce-time", message.created_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
        (DEPTH, told.depth.to_string()),
    ];
    attributes.extend(told.traceparent.clone().map(|trace| ("ce-traceparent", trace)));
    attributes
}

/// Percent-encodes a header's value as the binding demands: space, `"`, `%` and all that is not printable ASCII.
#[must_use]
pub fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' => _ = write!(out, "%{byte:02X}"),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// Undoes [`encode`]. A value that is not encoded properly is taken as it stands.
#[must_use]
pub fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            // Two digits make at most 255.
            (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX)),
            _ => return value.to_owned(),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

/// A structured `CloudEvent`, unwrapped.
#[derive(Debug)]
pub struct Unwrapped {
    /// The attributes under the names that they have in binary mode.
    pub headers: Map<String, Value>,
    /// The data's bytes as they stood.
    pub data: Box<RawValue>,
}

#[derive(Deserialize)]
struct Data {
    data: Option<Box<RawValue>>,
}

/// Whether a content type announces a structured `CloudEvent`.
#[must_use]
pub fn is_structured(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(STRUCTURED))
}

/// Takes a structured `CloudEvent` apart.
///
/// # Errors
/// It is no JSON object, or holds no JSON data.
pub fn unwrap_structured(payload: &[u8]) -> Result<Unwrapped, String> {
    let whole: Value = serde_json::from_slice(payload).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(whole) = whole else {
        return Err(format!("a structured CloudEvent must be an object, it is {}", json_kind(&whole)));
    };
    if whole.contains_key("data_base64") {
        return Err("the CloudEvent carries binary data; only JSON data can be taken in".to_owned());
    }
    // A second pass, since attributes of any name and raw bytes do not go together in one.
    let data: Data = serde_json::from_slice(payload).map_err(|error| format!("no JSON: {error}"))?;
    let data = data.data.ok_or_else(|| "the CloudEvent has no `data`".to_owned())?;
    let headers = whole.into_iter().filter(|(name, _)| name != "data").map(|(name, value)| {
        let name =
            if name == "datacontenttype" { "content-type".to_owned() } else { format!("{PREFIX}{name}") };
        (name, value)
    });
    Ok(Unwrapped { headers: headers.collect(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_percent_encoded() {
        let check = |plain: &str, encoded: &str| {
            assert_eq!(encode(plain), encoded);
            assert_eq!(decode(encoded), plain);
        };
        check("a b", "a%20b");
        check("50%", "50%25");
        check("\"x\"", "%22x%22");
        check("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80");
        check("tab\tnew\nline", "tab%09new%0Aline");
        // Not encoded by anyone: as it stands.
        for odd in ["100%", "%zz", "%ff", "%e"] {
            assert_eq!(decode(odd), odd);
        }
    }

    #[test]
    fn structured_events_are_unwrapped() {
        let payload = br#"{"specversion": "1.0", "id": "7", "type": "t", "data": {"a":  1.10}}"#;
        let event = unwrap_structured(payload).unwrap();
        assert_eq!(event.data.get(), r#"{"a":  1.10}"#);
        assert_eq!(event.headers["ce-id"], "7");
        let check = |payload: &str, expect: &str| {
            let error = unwrap_structured(payload.as_bytes()).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check("[1]", "it is an array");
        check(r#"{"id": "7"}"#, "no `data`");
        check(r#"{"data_base64": "AA=="}"#, "binary data");
        check("{", "EOF");
        assert!(is_structured("application/CloudEvents+json; charset=utf-8"));
        assert!(!is_structured("application/json"));
    }
}
