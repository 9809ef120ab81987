//! From a message of a bus to an event, or to the reason why there is none.

use crate::{
    cloudevent::{self, DEPTH, decode},
    config::Form,
    recorded::{Parsed, parse},
    source::Malformed,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use model::{
    Event, EventId, SourceName, Topic,
    event::{CHAIN_DEPTH_MAX, EVENT_BYTES_MAX, EventError, check_id, hashed_id, parse_body, sent_at},
};
use serde_json::{Map, Value};

/// The headers that may carry a message's id, the surest first.
const ID_HEADERS: [&str; 4] = ["Nats-Msg-Id", "ce-id", "message-id", "message_id"];

/// How a source's messages become events.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// The source's name.
    pub source: SourceName,
    /// Its dedupe domain.
    pub domain: SourceName,
    /// The payloads' form.
    pub form: Form,
    /// A prefix of subjects that is no part of the topic.
    pub strip_prefix: Option<String>,
    /// The `CloudEvents` source of this installation's own messages.
    pub own_source: String,
}

/// A message as it came from a bus.
#[derive(Debug, Clone)]
pub struct Received {
    /// The subject or routing key.
    pub subject: String,
    /// The headers; several values of one name are a list.
    pub headers: Map<String, Value>,
    /// The payload.
    pub payload: Bytes,
    /// When the bus stored it.
    pub stored_at: Option<DateTime<Utc>>,
    /// When it came in here.
    pub received_at: DateTime<Utc>,
}

/// A message, mapped.
#[derive(Debug)]
pub struct Mapped {
    /// The event, or why there is none.
    pub content: Result<Event, Malformed>,
    /// The event's parsed body, or null.
    pub body: Value,
    /// Whether this installation made it.
    pub own: bool,
}

/// What is inside the payload, whatever its form.
struct Inner {
    topic: Option<String>,
    id: Option<String>,
    headers: Map<String, Value>,
    payload: Bytes,
    body: Value,
}

impl Mapping {
    /// Maps a message. Nothing about it can make this fail: what is wrong comes out as [`Malformed`].
    #[must_use]
    pub fn map(&self, received: Received) -> Mapped {
        match self.event(&received) {
            Ok((event, body)) => {
                let own = self.is_own(&event.headers);
                Mapped { content: Ok(event), body, own }
            }
            Err(reason) => {
                let (malformed, own) = self.malformed(&received, reason);
                Mapped { content: Err(malformed), body: Value::Null, own }
            }
        }
    }

    /// A message that cannot become an event, for a reason that is known; and whether it is our own.
    #[must_use]
    pub fn malformed(&self, received: &Received, reason: String) -> (Malformed, bool) {
        let topic = self.topic(&received.subject);
        let id = header_id(&received.headers)
            .filter(|id| check_id(id).is_ok())
            .map_or_else(|| hashed_id(&topic, &received.payload), EventId::from);
        let (headers, payload) = (received.headers.clone(), received.payload.clone());
        let own = self.is_own(&headers);
        (Malformed { reason, topic: Topic::new(topic), id, headers, payload }, own)
    }

    fn topic(&self, subject: &str) -> String {
        let prefix = self.strip_prefix.as_deref().filter(|prefix| !prefix.is_empty());
        let rest = prefix.and_then(|prefix| subject.strip_prefix(prefix)?.strip_prefix('.'));
        rest.unwrap_or(subject).to_owned()
    }

    fn is_own(&self, headers: &Map<String, Value>) -> bool {
        text_header(headers, "ce-source").is_some_and(|source| source == self.own_source)
    }

    fn event(&self, received: &Received) -> Result<(Event, Value), String> {
        let inner = self.unwrap(received)?;
        let topic = inner.topic.unwrap_or_else(|| self.topic(&received.subject));
        let topic = Topic::parse(&topic).map_err(|error| EventError::from(error).to_string())?;
        let id = inner.id.filter(|id| !id.is_empty()).or_else(|| header_id(&inner.headers));
        let id = id.map_or_else(|| hashed_id(topic.as_str(), &inner.payload), EventId::from);
        check_id(id.as_str()).map_err(|error| error.to_string())?;
        let event = Event {
            source: self.source.clone(),
            domain: self.domain.clone(),
            id,
            topic,
            time: made_at(&inner.headers).or(received.stored_at),
            received_at: received.received_at,
            depth: depth(&inner.headers),
            cause: None,
            traceparent: traceparent(&inner.headers),
            headers: inner.headers,
            payload: (*inner.payload).into(),
        };
        Ok((event, inner.body))
    }

    /// Takes the payload's form off.
    fn unwrap(&self, received: &Received) -> Result<Inner, String> {
        let (mut headers, payload) = (received.headers.clone(), received.payload.clone());
        if payload.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge { bytes: payload.len() }.to_string());
        }
        if text_header(&headers, "content-type").is_some_and(cloudevent::is_structured) {
            let event = cloudevent::unwrap_structured(&payload)?;
            let body = parse_body(event.data.get().as_bytes()).map_err(|error| error.to_string())?;
            headers.extend(event.headers);
            let payload = Bytes::copy_from_slice(event.data.get().as_bytes());
            return Ok(Inner { topic: None, id: None, headers, payload, body });
        }
        if self.form == Form::Body {
            let body = parse_body(&payload).map_err(|error| error.to_string())?;
            return Ok(Inner { topic: None, id: None, headers, payload, body });
        }
        match parse(&payload).map_err(|error| error.to_string())? {
            Parsed::Message(message, body) => {
                headers.extend(message.headers);
                let payload = Bytes::copy_from_slice(message.body.get().as_bytes());
                Ok(Inner { topic: Some(message.topic), id: message.id, headers, payload, body })
            }
            Parsed::Body(_) if self.form == Form::Message => {
                Err("expected a whole recorded message: an object with a text `topic` and an object `body`"
                    .to_owned())
            }
            Parsed::Body(body) => Ok(Inner { topic: None, id: None, headers, payload, body }),
        }
    }
}

/// Collects headers as they come; several values of one name become a list. The values of `CloudEvents`
/// attributes are decoded.
pub fn collect_headers<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Map<String, Value> {
    let mut headers = Map::new();
    for (name, value) in pairs {
        let attribute = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(cloudevent::PREFIX));
        let value = Value::String(if attribute { decode(value) } else { value.to_owned() });
        match headers.get_mut(name) {
            None => _ = headers.insert(name.to_owned(), value),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    headers
}

/// A header that holds one text; names of headers are compared without case.
fn text_header<'a>(headers: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
}

fn header_id(headers: &Map<String, Value>) -> Option<String> {
    let mut ids = ID_HEADERS.iter().filter_map(|name| text_header(headers, name));
    ids.find(|id| !id.is_empty()).map(str::to_owned)
}

/// When its maker says that it happened.
fn made_at(headers: &Map<String, Value>) -> Option<DateTime<Utc>> {
    let time = text_header(headers, "ce-time").and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    time.map(|time| time.with_timezone(&Utc)).or_else(|| sent_at(headers))
}

/// How many events of installations such as ours led to it, so that two of them cannot feed each other for ever.
fn depth(headers: &Map<String, Value>) -> u32 {
    let depth = text_header(headers, DEPTH).and_then(|depth| depth.parse::<u32>().ok());
    depth.map_or(0, |depth| depth.saturating_add(1).min(CHAIN_DEPTH_MAX))
}

/// The W3C trace context, if it has its form: `00-<32 hex>-<16 hex>-<2 hex>`.
fn traceparent(headers: &Map<String, Value>) -> Option<String> {
    let text = text_header(headers, "traceparent").or_else(|| text_header(headers, "ce-traceparent"))?;
    let parts: Vec<_> = text.split('-').collect();
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    (lengths == [2, 32, 16, 2] && parts.into_iter().all(hex)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(form: Form, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Mapped {
        let mapping = Mapping {
            source: "bus".into(),
            domain: "fedora".into(),
            form,
            strip_prefix: Some("mirror".to_owned()),
            own_source: "taskbot/qa".to_owned(),
        };
        let headers = collect_headers(headers.iter().copied());
        let payload = Bytes::copy_from_slice(payload);
        let (stored_at, received_at) = (DateTime::from_timestamp(60, 0), DateTime::UNIX_EPOCH);
        mapping.map(Received { subject: subject.to_owned(), headers, payload, stored_at, received_at })
    }

    fn event(form: Form, subject: &str, headers: &[(&str, &str)], payload: &str) -> Event {
        map(form, subject, headers, payload.as_bytes()).content.unwrap()
    }

    const BUILD: &str = r#"{"name": "audit",  "release": "1.10"}"#;
    const WHOLE: &str = r#"{"topic": "org.build", "id": "2015-ab", "headers": {"sent-at": "2026-01-01T00:00:00"},
        "body": {"name": "audit",  "release": "1.10"}, "queue": null}"#;

    #[test]
    fn plain_bodies() {
        let got = event(Form::Auto, "mirror.org.build", &[("x", "1"), ("x", "2"), ("y", "z")], BUILD);
        assert_eq!(got.topic.as_str(), "org.build");
        assert_eq!((got.source.as_str(), got.domain.as_str()), ("bus", "fedora"));
        assert_eq!(&*got.payload, BUILD.as_bytes());
        assert_eq!(got.id, hashed_id("org.build", BUILD.as_bytes()));
        assert_eq!(Value::Object(got.headers), json!({"x": ["1", "2"], "y": "z"}));
        assert_eq!(got.time, DateTime::from_timestamp(60, 0), "the bus's own time, for want of a better");
        assert_eq!(event(Form::Auto, "mirrored.a", &[], BUILD).topic.as_str(), "mirrored.a");
    }

    #[test]
    fn ids_by_rank() {
        let check = |headers: &[(&str, &str)], expect: &str| {
            assert_eq!(event(Form::Auto, "a", headers, BUILD).id.as_str(), expect);
        };
        check(&[("message-id", "m")], "m");
        check(&[("message-id", "m"), ("ce-id", "c%20d")], "c d");
        check(&[("message-id", "m"), ("ce-id", "c"), ("nats-msg-id", "n")], "n");
        check(&[("nats-msg-id", ""), ("CE-ID", "c")], "c");
    }

    #[test]
    fn whole_messages() {
        for form in [Form::Auto, Form::Message] {
            let got = event(form, "any.subject", &[("Nats-Msg-Id", "n")], WHOLE);
            assert_eq!((got.topic.as_str(), got.id.as_str()), ("org.build", "2015-ab"));
            assert_eq!(&*got.payload, BUILD.as_bytes());
            assert_eq!(got.time.unwrap().to_rfc3339(), "2026-01-01T00:00:00+00:00");
        }
        let got = event(Form::Body, "any.subject", &[], WHOLE);
        assert_eq!((got.topic.as_str(), &*got.payload), ("any.subject", WHOLE.as_bytes()));
        // A forwarded webhook has headers and a body of its own, and is no recorded message.
        let hook = r#"{"headers": {"X-GitHub-Event": "push"}, "body": {}, "agent": "a"}"#;
        assert_eq!(event(Form::Auto, "github.push", &[], hook).topic.as_str(), "github.push");
        let numbered = r#"{"topic": 7, "body": {}}"#;
        assert_eq!(event(Form::Auto, "s", &[], numbered).topic.as_str(), "s");
    }

    #[test]
    fn cloud_events() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = [("ce-id", "7"), ("ce-time", "2026-01-01T01:00:00+01:00"), ("traceparent", trace)];
        let got = event(Form::Auto, "org.iso", &headers, BUILD);
        assert_eq!(got.time.unwrap().to_rfc3339(), "2026-01-01T00:00:00+00:00");
        assert_eq!((got.traceparent.as_deref(), got.depth), (Some(trace), 0));
        let structured =
            r#"{"specversion": "1.0", "id": "8", "source": "koji", "type": "t", "data": {"a":  1}}"#;
        let kind = [("Content-Type", "application/cloudevents+json")];
        let got = event(Form::Body, "org.iso", &kind, structured);
        assert_eq!((got.id.as_str(), &*got.payload), ("8", &br#"{"a":  1}"#[..]));
        assert_eq!(got.headers["ce-source"], "koji");
        assert_eq!(event(Form::Auto, "a", &[("traceparent", "00-zz-1-01")], BUILD).traceparent, None);
        assert_eq!(event(Form::Auto, "a", &[(DEPTH, "3")], BUILD).depth, 4);
        assert_eq!(event(Form::Auto, "a", &[(DEPTH, "4294967295")], BUILD).depth, CHAIN_DEPTH_MAX);
    }

    #[test]
    fn own_messages_are_known() {
        assert!(map(Form::Auto, "taskbot.task.queued", &[("ce-source", "taskbot/qa")], BUILD.as_bytes()).own);
        assert!(
            !map(Form::Auto, "taskbot.task.queued", &[("ce-source", "taskbot/other")], BUILD.as_bytes()).own
        );
        assert!(!map(Form::Auto, "taskbot.task.queued", &[], BUILD.as_bytes()).own);
        assert!(map(Form::Auto, "taskbot.x", &[("ce-source", "taskbot/qa")], b"no json").own);
    }

    #[test]
    fn what_cannot_be_an_event_says_why() {
        let check = |form: Form, subject: &str, headers: &[(&str, &str)], payload: &[u8], expect: &str| {
            let mapped = map(form, subject, headers, payload);
            let malformed = mapped.content.unwrap_err();
            assert!(malformed.reason.contains(expect), "{}", malformed.reason);
            assert_eq!(&*malformed.payload, payload);
            assert_eq!(check_id(malformed.id.as_str()), Ok(()));
            assert_eq!(mapped.body, Value::Null);
        };
        check(Form::Auto, "a", &[], b"", "EOF while parsing");
        check(Form::Auto, "a", &[], b"{\"a\": \xff}", "line 1");
        check(Form::Auto, "a", &[], b"[1, 2]", "it is an array");
        check(Form::Auto, "a", &[], &b"[".repeat(10_000), "recursion limit");
        check(Form::Body, "a", &[], br#"{"a": 1e400000}"#, "out of range");
        check(Form::Auto, "a", &[], br#"{"a": "\ud800"}"#, "line 1");
        check(Form::Auto, "a", &[], &vec![b' '; EVENT_BYTES_MAX + 1], "at most 8388608");
        check(Form::Message, "a", &[], BUILD.as_bytes(), "expected a whole recorded message");
        check(Form::Auto, "a", &[("ce-id", "a%00b")], BUILD.as_bytes(), "must not hold '\\0'");
        check(Form::Auto, "a", &[("ce-id", &"x".repeat(513))], BUILD.as_bytes(), "it has 513");
        check(Form::Auto, &"t.".repeat(200), &[], BUILD.as_bytes(), "at most 255 bytes");
        check(Form::Auto, "s", &[], br#"{"topic": "a b", "body": {}}"#, "must not hold ' '");
        check(Form::Auto, "s", &[], br#"{"topic": "", "body": {}}"#, "must not be empty");
        check(Form::Auto, "s", &[("content-type", "application/cloudevents+json")], b"{}", "no `data`");
        let deep = format!(r#"{{"topic": "t", "body": {{"a": {}}}}}"#, "[".repeat(200) + &"]".repeat(200));
        check(Form::Auto, "s", &[], deep.as_bytes(), "recursion limit");
    }
}
