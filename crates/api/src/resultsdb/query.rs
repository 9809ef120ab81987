//! What lists are asked for.

use super::{
    BASE, LIMIT_DEFAULT, Settings,
    refusal::{Refusal, entry},
    shape::{self, Base},
};
use axum::http::{HeaderMap, Uri};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use model::outcome::OUTCOMES;
use serde_json::{Value, json};
use store::{EntryQuery, PAGE_MAX, Wanted};

/// The most pairs of a query.
const PAIRS_MAX: usize = 200;

/// The query of a request, in order, and where its answer's links lead.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) base: Base,
    path: String,
    pub(crate) pairs: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn of(headers: &HeaderMap, uri: &Uri) -> Result<Self, Refusal> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        if pairs.len() > PAIRS_MAX {
            return Err(Refusal::bad(format!("a query has at most {PAIRS_MAX} arguments")));
        }
        Ok(Self { base: Base::of(headers, uri), path: uri.path().to_owned(), pairs })
    }

    /// The values of a key: separated by commas, or the key again. None when it is not there.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<String>> {
        let values: Vec<&String> =
            self.pairs.iter().filter(|(name, _)| name == key).map(|(_, value)| value).collect();
        if values.is_empty() {
            return None;
        }
        let split = values.iter().flat_map(|value| value.split(','));
        Some(split.map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect())
    }

    fn last(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// What is wanted by `key` or `key:like`.
    pub(crate) fn wanted(&self, key: &str) -> Option<Wanted> {
        self.list(key).map(Wanted::AnyOf).or_else(|| self.list(&format!("{key}:like")).map(Wanted::Like))
    }

    /// The page, counted from 0, and how many entries it has.
    pub(crate) fn page(&self) -> Result<(u64, u32), Refusal> {
        let number = |key: &str, default: u64| match self.last(key) {
            None | Some("") => Ok(default),
            Some(text) => text.parse::<i64>().map(|number| number.try_into().unwrap_or(0)).map_err(|_| {
                let message = "Input should be a valid integer, unable to parse string as an integer";
                Refusal::field("int_parsing", key, message, &json!(text))
            }),
        };
        let limit = number("limit", u64::from(LIMIT_DEFAULT))?;
        Ok((number("page", 0)?, u32::try_from(limit).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)))
    }

    /// A page of a list with links to its neighbours.
    pub(crate) fn paged(&self, page: u64, more: bool, data: Vec<Value>) -> Value {
        let at = |page| self.base.page(&self.path, &self.pairs, page);
        json!({
            "data": data,
            "next": more.then(|| at(page + 1)),
            "prev": page.checked_sub(1).map(at),
        })
    }

    /// What results are asked for. `only` are keys that have a meaning of their own in this request.
    pub(crate) fn results(&self, settings: &Settings, only: &[&str]) -> Result<EntryQuery, Refusal> {
        let mut query = EntryQuery::default();
        if let Some(outcomes) = self.list("outcome") {
            query.outcomes = outcomes.iter().map(|outcome| outcome.to_uppercase()).collect();
            check_outcomes(&query.outcomes, settings)?;
            let own = OUTCOMES.iter().filter(|(outcome, _)| {
                query.outcomes.iter().any(|asked| asked == shape::outcome(*outcome, settings))
            });
            query.own_outcomes = own.map(|(_, text)| (*text).to_owned()).collect();
        }
        query.groups = self.list("groups").unwrap_or_default();
        query.testcases.extend(self.list("testcases").map(Wanted::AnyOf));
        query.testcases.extend(self.list("testcases:like").map(Wanted::Like));
        if let Some(since) = self.last("since").filter(|since| !since.is_empty()) {
            (query.since, query.until) = since_of(since)?;
        }
        if let Some(sort) = self.last("_sort").filter(|sort| !sort.is_empty()) {
            query.ascending = sort_of(sort)?;
        }
        query.data = self.data(only);
        let (page, limit) = self.page()?;
        query.limit = limit;
        query.offset = page.saturating_mul(u64::from(limit));
        Ok(query)
    }

    /// Every other key is one of the results' own.
    fn data(&self, only: &[&str]) -> Vec<(String, Wanted)> {
        const OTHER: [&str; 8] =
            ["outcome", "groups", "testcases", "testcases:like", "since", "_sort", "page", "limit"];
        let mut data: Vec<(String, Wanted)> = Vec::new();
        for (key, _) in &self.pairs {
            if OTHER.contains(&key.as_str()) || only.contains(&key.as_str()) {
                continue;
            }
            let (name, like) = match key.strip_suffix(":like") {
                Some(name) => (name, true),
                None => (key.as_str(), false),
            };
            let values = self.list(key).unwrap_or_default();
            let wanted = if like { Wanted::Like(values) } else { Wanted::AnyOf(values) };
            if !data.iter().any(|(known, other)| known == name && *other == wanted) {
                data.push((name.to_owned(), wanted));
            }
        }
        data
    }
}

/// The base of links that answers to a body have.
pub(crate) fn base(headers: &HeaderMap) -> Base {
    Base::of(headers, &Uri::from_static(BASE))
}

fn check_outcomes(outcomes: &[String], settings: &Settings) -> Result<(), Refusal> {
    let wrong: Vec<Value> = outcomes
        .iter()
        .filter(|outcome| !settings.outcomes().any(|known| known == outcome.as_str()))
        .map(|outcome| entry("value_error", &["outcome"], &one_of(settings), &json!(outcome)))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Refusal::Invalid(wrong)) }
}

/// What is said of an outcome that is not known.
pub(crate) fn one_of(settings: &Settings) -> String {
    format!("Value error, must be one of: {}", settings.outcomes().collect::<Vec<_>>().join(", "))
}

/// From when and until when, where said.
type Span = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// `start` or `start,end`.
fn since_of(text: &str) -> Result<Span, Refusal> {
    let mut times = text.splitn(2, ',').map(|part| {
        let part = part.trim();
        time_of(part).ok_or_else(|| {
            let message = "Value error, must be a time in ISO 8601 form, such as 2026-11-21T08:30:00";
            Refusal::field("value_error", "since", message, &json!(text))
        })
    });
    let start = times.next().transpose()?;
    Ok((start, times.next().transpose()?))
}

/// A time in one of the forms of ISO 8601; without a zone it is UTC.
pub(crate) fn time_of(text: &str) -> Option<DateTime<Utc>> {
    // A `+` of a zone that was not escaped came as a space; `+00` is a zone without minutes.
    let text = text.replacen(' ', if text.contains('T') { "+" } else { "T" }, 1);
    if let Ok(time) = DateTime::parse_from_rfc3339(&text) {
        return Some(time.to_utc());
    }
    if let Ok(time) = DateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f%#z") {
        return Some(time.to_utc());
    }
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(&text, form) {
            return Some(time.and_utc());
        }
    }
    let day = NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc())
}

/// Whether the oldest come first.
fn sort_of(text: &str) -> Result<bool, Refusal> {
    match text.split_once(':').map(|(way, field)| (way.trim(), field.trim())) {
        Some(("asc", "submit_time")) => Ok(true),
        Some(("desc", "submit_time")) | Some(("disable_sorting", _)) => Ok(false),
        _ => {
            let message = "Value error, must be asc:submit_time or desc:submit_time";
            Err(Refusal::field("value_error", "_sort", message, &json!(text)))
        }
    }
}
