//! Another ResultsDB: each result is posted to its `/results`.

use super::http;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    message::{Message, NewMessage},
    outcome::words,
    result::{StoredResult, resultsdb_values},
    sink::{Sink, SinkError},
};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What tells of a result.
pub const RESULT_TOPIC: &str = "taskbot.result.new";

/// Which results go out, and in which words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// The outcomes that are taken beside ResultsDB's own four.
    pub extra_outcomes: BTreeSet<String>,
    /// Whether results go out that no task of ours led to. Two systems that give each other all would never end.
    pub all: bool,
    /// What links to us begin with.
    pub public_url: Option<String>,
}

impl Words {
    /// The result that a message tells of; nothing when it does not go out.
    ///
    /// # Errors
    /// The message tells of no result.
    pub fn of(&self, message: &Message) -> Result<Option<StoredResult>, SinkError> {
        let result: StoredResult = serde_json::from_str(message.message.data.get())
            .map_err(|error| SinkError::Refused(format!("the message holds no result: {error}")))?;
        Ok(Some(result).filter(|result| self.all || result.task.is_some()))
    }

    /// A result as ResultsDB takes one: its testcase, outcome, note, link and values.
    fn body(&self, result: &StoredResult) -> Value {
        let extra: Vec<&str> = self.extra_outcomes.iter().map(String::as_str).collect();
        let link = |base: &String| format!("{}/api/v1/results/{}", base.trim_end_matches('/'), result.id);
        json!({
            "testcase": result.testcase,
            "outcome": words::resultsdb(result.outcome, &extra),
            "note": result.note.as_deref().unwrap_or(""),
            "ref_url": self.public_url.as_ref().map(link),
            "data": resultsdb_values(&result.data, result.item.as_ref()),
            "submit_time": submit_time(result.created_at),
        })
    }
}

/// A ResultsDB elsewhere.
#[derive(Debug)]
pub struct ResultsDbSink {
    name: String,
    results: Url,
    token: Option<String>,
    words: Words,
    client: Client,
}

impl ResultsDbSink {
    /// The ResultsDB with this base URL (`https://resultsdb.example.org/api/v2.0`). A token is sent as a bearer's.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(name: &str, base: &str, token: Option<String>, words: Words) -> Result<Self, String> {
        let results = Url::parse(&format!("{}/results", base.trim_end_matches('/')))
            .map_err(|error| format!("`{base}` is no URL: {error}"))?;
        Ok(Self { name: name.to_owned(), results, token, words, client: http::client()? })
    }
}

#[async_trait]
impl Sink for ResultsDbSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self, message: &NewMessage) -> bool {
        message.topic.as_str() == RESULT_TOPIC
    }

    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let Some(result) = self.words.of(message)? else { return Ok(()) };
        let mut request = self.client.post(self.results.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        http::send(request.json(&self.words.body(&result))).await
    }
}

/// A time as ResultsDB writes one: without a zone, and always with its microseconds, as its input wants them.
fn submit_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted() {
        let result: StoredResult = serde_json::from_value(json!({
            "id": 7, "testcase": "dist.rpmlint", "item": {"type": "koji_build", "id": "audit-2.8-1"},
            "outcome": "error(timeout)", "note": "too long", "data": {"arch": "x86_64", "deep": {"a": 1}, "n": [1, 2]},
            "created_at": "2026-11-21T10:00:00Z",
        }))
        .unwrap();
        let words = Words { public_url: Some("https://qa.example.org/".to_owned()), ..Words::default() };
        let expect = json!({
            "testcase": "dist.rpmlint", "outcome": "NEEDS_INSPECTION", "note": "too long",
            "ref_url": "https://qa.example.org/api/v1/results/7",
            "data": {"arch": ["x86_64"], "item": ["audit-2.8-1"], "type": ["koji_build"], "n": ["1", "2"]},
            "submit_time": "2026-11-21T10:00:00.000000",
        });
        assert_eq!(words.body(&result), expect);
        let words = Words { extra_outcomes: BTreeSet::from(["ERROR".to_owned()]), ..Words::default() };
        assert_eq!(words.body(&result)["outcome"], "ERROR");
    }
}
