//! Messages that the client cannot read.
//!
//! Servers store whatever a producer sends as headers. The client drops its connection when they are no UTF-8 or
//! have no form, so that such a message, delivered again and again, would stop a source for ever. Here they are
//! found among the deliveries without acknowledgement, by a request that carries headers encoded.

use super::Trouble;
use crate::config::NatsSourceConfig;
use async_nats::{
    HeaderName,
    jetstream::{Context, consumer::Info},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::json;

/// How many unacknowledged messages are looked at.
const LOOKED_AT_MAX: u64 = 10_000;
/// How many are looked at together.
const LOOKING_MAX: usize = 32;

/// A message whose headers cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) sequence: u64,
    pub(super) subject: String,
    /// As far as they can be read, with replacement characters.
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Bytes,
    pub(super) reason: String,
}

impl Unreadable {
    /// Where an acknowledgement goes. The server looks at the stream's sequence only.
    pub(super) fn reply(&self, config: &NatsSourceConfig) -> String {
        format!("$JS.ACK.{}.{}.1.{}.1.0.0", config.stream.name, config.durable, self.sequence)
    }
}

#[derive(Deserialize)]
struct Answer {
    /// None when the stream no longer holds it.
    message: Option<Stored>,
}

#[derive(Deserialize)]
struct Stored {
    subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// Looks through the messages that were delivered and not acknowledged.
pub(super) async fn find(
    context: &Context,
    info: &Info,
    filters: &[String],
) -> Result<Vec<Unreadable>, Trouble> {
    let first = info.ack_floor.stream_sequence + 1;
    let last = info.delivered.stream_sequence.min(first + LOOKED_AT_MAX);
    let looked_at = futures_util::stream::iter(first..=last).map(|sequence| get(context, info, sequence));
    let mut found: Vec<Unreadable> =
        looked_at.buffered(LOOKING_MAX).try_filter_map(async |message| Ok(message)).try_collect().await?;
    found.retain(|message| {
        filters.is_empty() || filters.iter().any(|filter| subject_matches(filter, &message.subject))
    });
    Ok(found)
}

async fn get(context: &Context, info: &Info, sequence: u64) -> Result<Option<Unreadable>, Trouble> {
    let subject = format!("STREAM.MSG.GET.{}", info.stream_name);
    let passing = |error: String| Trouble::Passing(format!("cannot look at message {sequence}: {error}"));
    let answer: Answer = context
        .request(subject, &json!({"seq": sequence}))
        .await
        .map_err(|error| passing(error.to_string()))?;
    let Some(stored) = answer.message else { return Ok(None) };
    let headers = STANDARD.decode(&stored.hdrs).map_err(|error| passing(error.to_string()))?;
    let Err(reason) = readable(&headers) else { return Ok(None) };
    let payload = STANDARD.decode(&stored.data).map_err(|error| passing(error.to_string()))?.into();
    let text = String::from_utf8_lossy(&headers).into_owned();
    let pairs = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers = pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Ok(Some(Unreadable { sequence, subject: stored.subject, headers, payload, reason }))
}

/// Whether the client can read such headers, by its own rules (async-nats, `connection.rs`).
fn readable(headers: &[u8]) -> Result<(), String> {
    if headers.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(headers).map_err(|error| format!("the headers are no UTF-8: {error}"))?;
    let mut lines = text.lines();
    if !lines.next().is_some_and(|line| line.starts_with("NATS/1.0")) {
        return Err("the headers do not begin with NATS/1.0".to_owned());
    }
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with(char::is_whitespace)) {
        let (name, _) =
            line.split_once(':').ok_or_else(|| format!("the header line {line:?} has no colon"))?;
        name.parse::<HeaderName>()
            .map_err(|error| format!("the header name {name:?} is not allowed: {error}"))?;
    }
    Ok(())
}

/// Whether a filter (`*` one token, a last `>` the rest) covers a subject.
fn subject_matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for want in filter.split('.') {
        match (want, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (want, Some(got)) if want == got => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_the_client_reads() {
        let check = |headers: &[u8], expect: &str| {
            let got = readable(headers).err().unwrap_or_default();
            assert!(got.contains(expect) && got.is_empty() == expect.is_empty(), "{got}");
        };
        check(b"", "");
        check(b"NATS/1.0\r\nx: y\r\n  more\r\n\r\n", "");
        check(b"NATS/1.0\r\nx: caf\xe9\r\n\r\n", "no UTF-8");
        check(b"HTTP/1.1\r\nx: y\r\n\r\n", "begin with NATS/1.0");
        check(b"NATS/1.0\r\nno colon\r\n\r\n", "\"no colon\" has no colon");
        check(b"NATS/1.0\r\na b: y\r\n\r\n", "\"a b\" is not allowed");
    }

    #[test]
    fn filters() {
        for (filter, subject, expect) in [
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
        ] {
            assert_eq!(subject_matches(filter, subject), expect, "{filter} {subject}");
        }
    }
}
