//! A ResultsDB elsewhere, which results are read from by their numbers.

use crate::sink::http;
use async_trait::async_trait;
use model::{
    diagnostic::with_causes,
    retest::{Refused, ResultsElsewhere},
};
use reqwest::{Client, Url};
use serde_json::Value;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A ResultsDB elsewhere.
#[derive(Debug)]
pub struct ResultsDbElsewhere {
    base: String,
    client: Client,
}

impl ResultsDbElsewhere {
    /// The ResultsDB with this base URL (`https://resultsdb.example.org/api/v2.0`).
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(base: &str) -> Result<Self, String> {
        Url::parse(base).map_err(|error| format!("`{base}` is no URL: {error}"))?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client: http::client()? })
    }

    /// The number in what was asked for, when it can be one of this place.
    fn number<'a>(&self, id: &'a str) -> Option<&'a str> {
        let number = match id.strip_prefix(&self.base) {
            Some(path) => path.strip_prefix("/results/")?.trim_end_matches('/'),
            None => id,
        };
        number.bytes().all(|byte| byte.is_ascii_digit()).then_some(number).filter(|text| !text.is_empty())
    }
}

#[async_trait]
impl ResultsElsewhere for ResultsDbElsewhere {
    async fn result(&self, id: &str) -> Result<Option<Value>, Refused> {
        let Some(number) = self.number(id) else { return Ok(None) };
        let url = format!("{}/results/{number}", self.base);
        let away = |error: &reqwest::Error| Refused::Away(format!("{url}: {}", with_causes(error)));
        let mut response = self.client.get(&url).send().await.map_err(|error| away(&error))?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status @ (408 | 429 | 500..=599) => {
                return Err(Refused::Away(format!("{url} answered {status}")));
            }
            status => return Err(Refused::Wrong(format!("{url} answered {status}"))),
        }
        let mut text = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| away(&error))? {
            text.extend_from_slice(&piece);
            if text.len() > ANSWER_BYTES_MAX {
                return Err(Refused::Wrong(format!(
                    "{url} answered with more than {ANSWER_BYTES_MAX} bytes"
                )));
            }
        }
        let wrong = |error| Refused::Wrong(format!("{url} answered with what is no JSON: {error}"));
        serde_json::from_slice(&text).map(Some).map_err(wrong)
    }
}
