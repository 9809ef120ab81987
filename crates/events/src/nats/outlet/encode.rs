//! A message of the outbox as subject, headers and payload.

use crate::cloudevent::{attributes, encode, own_id};
use model::message::Message;
use serde_json::{Map, Value, json};

/// The largest field, as JSON, that a shortened message keeps.
const KEPT_FIELD_BYTES_MAX: usize = 512;
/// The largest shortened data, as JSON.
const SHORT_BYTES_MAX: usize = 8 * 1024;
/// What the protocol adds to headers: the version line and the end.
const HEADERS_FRAME_BYTES: usize = 16;
/// What the protocol adds to each header, and room for the headers that the client adds.
const HEADER_FRAME_BYTES: usize = 4;
/// Room for `Nats-Msg-Id` and `Nats-Expected-Stream` besides their values.
const CLIENT_HEADERS_BYTES: usize = 512;

/// How messages are encoded.
pub(super) struct Encoder<'a> {
    pub(super) installation: &'a str,
    pub(super) subject_prefix: Option<&'a str>,
    pub(super) dataref_base: Option<&'a str>,
}

/// What is published.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) subject: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Vec<u8>,
    pub(super) id: String,
    pub(super) shortened: bool,
}

impl Encoder<'_> {
    /// Encodes a message for a bus that takes `limit` bytes, headers included. Data that are larger are
    /// shortened to their small fields and a reference, since a message that never fits would hold back all
    /// after it.
    pub(super) fn encode(&self, message: &Message, limit: usize) -> Encoded {
        let id = own_id(self.installation, message);
        let mut headers: Vec<_> = attributes(self.installation, message)
            .into_iter()
            .map(|(name, value)| (name, encode(&value)))
            .collect();
        headers.push(("content-type", "application/json".to_owned()));
        headers.extend(message.message.traceparent.as_deref().map(|trace| ("traceparent", encode(trace))));
        let mut payload = message.message.data.get().as_bytes().to_vec();
        let shortened = headers_bytes(&headers) + id.len() + payload.len() > limit;
        if shortened {
            let dataref = self.dataref(&id, message);
            payload = short(&message.message.data.value(), payload.len(), &dataref).to_string().into_bytes();
            headers.push(("ce-dataref", encode(&dataref)));
        }
        Encoded { subject: self.subject(message.message.topic.as_str()), headers, payload, id, shortened }
    }

    fn dataref(&self, id: &str, message: &Message) -> String {
        match self.dataref_base {
            Some(base) => format!("{}/{}", base.trim_end_matches('/'), message.id),
            None => format!("urn:taskbot:{id}"),
        }
    }

    /// The subject: the topic, with what a subject must not hold (empty tokens, wildcards, white space) as `_`.
    /// The topic itself stands in `ce-type`.
    fn subject(&self, topic: &str) -> String {
        let tokens = topic.split('.').map(|token| match token {
            "" | "*" | ">" => "_".to_owned(),
            token => token.replace(|c: char| c.is_whitespace() || c.is_control(), "_"),
        });
        let prefix = self.subject_prefix.filter(|prefix| !prefix.is_empty()).map(str::to_owned);
        prefix.into_iter().chain(tokens).collect::<Vec<_>>().join(".")
    }
}

fn headers_bytes(headers: &[(&str, String)]) -> usize {
    let each = headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_FRAME_BYTES);
    each.sum::<usize>() + HEADERS_FRAME_BYTES + CLIENT_HEADERS_BYTES
}

/// The data's small fields, and under `shortened` how large they were, what is left out, and where it is.
fn short(data: &Value, size_bytes: usize, dataref: &str) -> Value {
    let (mut kept, mut left_out, mut bytes) = (Map::new(), Vec::new(), 0);
    for (name, value) in data.as_object().into_iter().flatten() {
        let size = name.len() + value.to_string().len();
        if size <= KEPT_FIELD_BYTES_MAX && bytes + size <= SHORT_BYTES_MAX {
            bytes += size;
            kept.insert(name.clone(), value.clone());
        } else if bytes + name.len() <= SHORT_BYTES_MAX {
            bytes += name.len();
            left_out.push(name.clone());
        }
    }
    let note = json!({"size_bytes": size_bytes, "dataref": dataref, "left_out": left_out});
    kept.insert("shortened".to_owned(), note);
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        OutboxId,
        message::{JsonText, NewMessage},
    };

    const ENCODER: Encoder<'static> =
        Encoder { installation: "qa", subject_prefix: Some("bus"), dataref_base: Some("https://qa/api/") };

    fn message(topic: &str, data: Value) -> Message {
        let told = NewMessage {
            topic: topic.into(),
            subject: "task 7 ü".to_owned(),
            order_key: "task:7".to_owned(),
            data: JsonText::of(&data),
            task: None,
            depth: 2,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        };
        Message { id: OutboxId(41), message: told, created_at: chrono::DateTime::UNIX_EPOCH, position: None }
    }

    #[test]
    fn binary_mode() {
        let got = ENCODER.encode(&message("taskbot.task.queued", json!({"a": 1})), 1_000_000);
        assert_eq!((got.subject.as_str(), got.id.as_str()), ("bus.taskbot.task.queued", "qa/41"));
        assert_eq!((&*got.payload, got.shortened), (&br#"{"a":1}"#[..], false));
        let header = |name: &str| got.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(header("ce-id"), Some("qa/41"));
        assert_eq!(header("ce-source"), Some("taskbot/qa"));
        assert_eq!(header("ce-type"), Some("taskbot.task.queued"));
        assert_eq!(header("ce-subject"), Some("task%207%20%C3%BC"));
        assert_eq!(header("ce-time"), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(header("ce-specversion"), Some("1.0"));
        assert_eq!(header("ce-taskbotdepth"), Some("2"));
        assert_eq!(header("content-type"), Some("application/json"));
        assert!(header("traceparent").is_some_and(|trace| trace.starts_with("00-0af7")));
    }

    #[test]
    fn subjects_hold_nothing_that_a_bus_refuses() {
        let check = |topic: &str, expect: &str| assert_eq!(ENCODER.subject(topic), format!("bus.{expect}"));
        check("a.b", "a.b");
        check("a..b.*.>.c d", "a._.b._._.c_d");
        check("", "_");
        check("c++.x*y", "c++.x*y");
    }

    #[test]
    fn large_data_are_shortened_to_what_is_small() {
        let log = "x".repeat(100_000);
        let got = ENCODER.encode(&message("t", json!({"id": 7, "outcome": "failed", "log": log})), 60_000);
        assert!(got.shortened);
        let data: Value = serde_json::from_slice(&got.payload).unwrap();
        let size = 100_000 + r#"{"id":7,"log":"","outcome":"failed"}"#.len();
        let note = json!({"size_bytes": size, "dataref": "https://qa/api/41", "left_out": ["log"]});
        assert_eq!(data, json!({"id": 7, "outcome": "failed", "shortened": note}));
        assert!(got.headers.contains(&("ce-dataref", "https://qa/api/41".to_owned())));
        // Many small fields do not add up to something large.
        let many: Map<_, _> = (0..20_000).map(|n| (format!("field{n}"), json!(n))).collect();
        let got = ENCODER.encode(&message("t", Value::Object(many)), 60_000);
        assert!(got.shortened && got.payload.len() < 20_000, "{}", got.payload.len());
    }
}
