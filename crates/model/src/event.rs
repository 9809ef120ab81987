//! Something that happened.

use crate::{
    ids::{EventId, SourceName, TaskId},
    topic::{Topic, TopicError},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The largest event body in bytes that is taken in; larger ones go to the dead letters.
pub const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest event id in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 512;
/// How many events may have caused each other before a chain is cut.
pub const CHAIN_DEPTH_MAX: u32 = 8;

/// The source of our own events.
pub const OWN_SOURCE: &str = "taskbot";

/// Something that happened: a message of a bus, a webhook, a timer, or a state change of our own.
///
/// Its identity is `(domain, id)`; the domain is the source's name, unless sources are declared mirrors of
/// each other. The payload is kept byte for byte as received; [`Event::body`] parses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The configured source that it came in by.
    pub source: SourceName,
    /// The dedupe domain: events of one domain with the same id are the same event.
    pub domain: SourceName,
    /// The id that its maker gave it.
    pub id: EventId,
    /// What kind of thing happened.
    pub topic: Topic,
    /// When it happened, as its maker says.
    pub time: Option<DateTime<Utc>>,
    /// When it came in.
    pub received_at: DateTime<Utc>,
    /// The message's headers.
    pub headers: Map<String, Value>,
    /// The body as received: JSON text.
    #[serde(with = "payload_text")]
    pub payload: Arc<[u8]>,
    /// How many events of ours led to it; 0 for those from outside.
    pub depth: u32,
    /// The task that caused it, for our own events.
    pub cause: Option<TaskId>,
    /// The W3C trace context that came with it, or that was made for it.
    pub traceparent: Option<String>,
}

mod payload_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer>(payload: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(payload))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        Ok(String::deserialize(deserializer)?.into_bytes().into())
    }
}

/// Why bytes cannot become an event. Each goes to the dead letters with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Over [`EVENT_BYTES_MAX`].
    #[error("the body has {bytes} bytes; at most {max} are taken in", max = EVENT_BYTES_MAX)]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// The body is no JSON (bad UTF-8, bad syntax, nested deeper than 127 levels).
    #[error("the body is no JSON: {0}")]
    Json(String),
    /// The body is JSON, but no object.
    #[error("the body must be a JSON object, it is {0}")]
    NotAnObject(&'static str),
    /// The topic is missing or malformed.
    #[error("bad topic: {0}")]
    Topic(#[from] TopicError),
    /// The topic tells of events or rules, and would feed itself.
    #[error("`{0}` tells of what rules did; it is never taken in as an event")]
    Reserved(Topic),
    /// The id is empty or over [`EVENT_ID_BYTES_MAX`].
    #[error("the id must have 1 to {max} bytes, it has {bytes}", max = EVENT_ID_BYTES_MAX)]
    Id {
        /// How long it is.
        bytes: usize,
    },
    /// The id holds a character that no store keeps.
    #[error("the id must not hold {0:?}")]
    IdCharacter(char),
}

impl Event {
    /// Parses and checks the body: JSON, an object, at most [`EVENT_BYTES_MAX`].
    ///
    /// # Errors
    /// What is wrong with it, with line and column for bad JSON.
    pub fn body(&self) -> Result<Value, EventError> {
        parse_body(&self.payload)
    }

    /// Checks all that can be wrong with an event, and returns its body.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<Value, EventError> {
        self.check_head()?;
        self.body()
    }

    /// Checks all that can be wrong with an event but for its body.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_head(&self) -> Result<(), EventError> {
        check_id(self.id.as_str())?;
        let topic = Topic::parse(self.topic.as_str())?;
        if !topic.may_chain() {
            return Err(EventError::Reserved(topic));
        }
        Ok(())
    }

    /// SHA-256 over topic and payload: the same id with another hash is a conflict.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.topic.as_str())
            .chain_update([0])
            .chain_update(&self.payload)
            .finalize()
            .into()
    }

    /// The roots that paths of rules and filters start from: `topic`, `source`, `headers`, `body`.
    #[must_use]
    pub fn roots(&self, body: Value) -> Value {
        let mut roots = Map::new();
        roots.insert("topic".into(), self.topic.as_str().into());
        roots.insert("source".into(), self.source.as_str().into());
        roots.insert("headers".into(), Value::Object(self.headers.clone()));
        roots.insert("body".into(), body);
        Value::Object(roots)
    }
}

/// What paths into an event start with, see [`Event::roots`].
pub const EVENT_ROOTS: [&str; 4] = ["topic", "source", "headers", "body"];

/// Checks an event id: 1 to [`EVENT_ID_BYTES_MAX`] bytes, no control characters.
///
/// # Errors
/// Its length or the first character that cannot be kept.
pub fn check_id(id: &str) -> Result<(), EventError> {
    if id.is_empty() || id.len() > EVENT_ID_BYTES_MAX {
        return Err(EventError::Id { bytes: id.len() });
    }
    id.chars().find(|c| c.is_control()).map_or(Ok(()), |c| Err(EventError::IdCharacter(c)))
}

/// Parses the bytes of a body.
///
/// # Errors
/// See [`EventError`].
pub fn parse_body(payload: &[u8]) -> Result<Value, EventError> {
    if payload.len() > EVENT_BYTES_MAX {
        return Err(EventError::TooLarge { bytes: payload.len() });
    }
    let value: Value =
        serde_json::from_slice(payload).map_err(|error| EventError::Json(json_words(&error)))?;
    match value {
        Value::Object(_) => Ok(value),
        other => Err(EventError::NotAnObject(json_kind(&other))),
    }
}

/// A mistake in JSON in words; the parser's own say of too deep nesting only that there is a limit.
#[must_use]
pub fn json_words(error: &serde_json::Error) -> String {
    error
        .to_string()
        .replace("recursion limit exceeded", "it is nested deeper than 127 levels (recursion limit exceeded)")
}

/// What kind of JSON value it is, in words for messages.
#[must_use]
pub const fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A whole recorded message: the line format of fedora-messaging's recorder, also that of rule fixtures.
/// `id` and `headers` may be missing; `queue`, `severity` and other fields are ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedMessage {
    /// The message's id; made from its content when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The topic.
    pub topic: String,
    /// The headers.
    #[serde(default)]
    pub headers: Map<String, Value>,
    /// The body, its bytes kept as they stand.
    pub body: Box<RawValue>,
}

impl RecordedMessage {
    /// When it was sent: the header `sent-at`, if it is there and a date.
    #[must_use]
    pub fn sent_at(&self) -> Option<DateTime<Utc>> {
        sent_at(&self.headers)
    }

    /// Its id, or for messages without one `sha256:` and the hash of topic and body.
    #[must_use]
    pub fn id_or_hash(&self) -> EventId {
        self.id
            .as_deref()
            .filter(|id| !id.is_empty())
            .map_or_else(|| hashed_id(&self.topic, self.body.get().as_bytes()), EventId::from)
    }

    /// The event it is, as received now by the source.
    #[must_use]
    pub fn into_event(self, source: &SourceName, received_at: DateTime<Utc>) -> Event {
        Event {
            source: source.clone(),
            domain: source.clone(),
            id: self.id_or_hash(),
            time: self.sent_at(),
            received_at,
            topic: Topic::new(self.topic),
            headers: self.headers,
            payload: self.body.get().as_bytes().into(),
            depth: 0,
            cause: None,
            traceparent: None,
        }
    }
}

/// The id of an event whose maker gave none.
#[must_use]
pub fn hashed_id(topic: &str, payload: &[u8]) -> EventId {
    let hash = Sha256::new().chain_update(topic).chain_update([0]).chain_update(payload).finalize();
    EventId::new(format!("sha256:{}", hex::encode(hash)))
}

/// The time in a header `sent-at` (fedora-messaging), with or without an offset (then UTC).
#[must_use]
pub fn sent_at(headers: &Map<String, Value>) -> Option<DateTime<Utc>> {
    let text = headers.get("sent-at")?.as_str()?;
    let with_offset = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc)).ok();
    with_offset.or_else(|| {
        let naive = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
        Some(naive.and_utc())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        let check = |payload: &[u8], expect: &str| {
            let got = parse_body(payload).map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            assert!(got.contains(expect), "{got}");
        };
        check(br#"{"a": 1}"#, "ok");
        check(br#"{"a": "\u0000"}"#, "ok");
        check(b"[1]", "must be a JSON object, it is an array");
        check(b"", "EOF while parsing a value at line 1 column 0");
        check(b"{\"a\": \xff}", "line 1");
        check(&[b'['; 10_000], "recursion limit exceeded");
        check(&vec![b' '; EVENT_BYTES_MAX + 1], "at most 8388608");
    }

    #[test]
    fn recorded_messages_keep_their_bytes() {
        let line =
            r#"{"topic": "a.b", "headers": {"sent-at": "2026-11-01T10:00:00+02:00"}, "body": {"x":  1.10}}"#;
        let message: RecordedMessage = serde_json::from_str(line).unwrap();
        let event = message.into_event(&"api".into(), DateTime::UNIX_EPOCH);
        assert_eq!(&*event.payload, br#"{"x":  1.10}"#);
        assert_eq!(event.time.unwrap().to_rfc3339(), "2026-11-01T08:00:00+00:00");
        assert!(event.id.as_str().starts_with("sha256:"));
    }
}
