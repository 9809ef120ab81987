//! What lists are asked for.

use super::{
    BASE, LIMIT_DEFAULT, Settings,
    refusal::Refusal,
    shape::{self, Base},
};
use axum::http::{HeaderMap, Uri};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
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
    query: String,
    pub(crate) pairs: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn of(headers: &HeaderMap, uri: &Uri) -> Result<Self, Refusal> {
        let query = uri.query().unwrap_or_default().to_owned();
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        if pairs.len() > PAIRS_MAX {
            return Err(Refusal::bad(format!("a query has at most {PAIRS_MAX} arguments")));
        }
        Ok(Self { base: Base::of(headers, uri), path: uri.path().to_owned(), query, pairs })
    }

    /// The values of a key as they stand there: separated by commas, or the key again.
    fn values(&self, key: &str) -> Vec<String> {
        let values = self.pairs.iter().filter(|(name, _)| name == key);
        values.flat_map(|(_, value)| value.split(',')).map(str::to_owned).collect()
    }

    /// The values of a key that this interface knows; none when it is not there, or asks for nothing.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<String>> {
        let values: Vec<String> = self
            .values(key)
            .iter()
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .collect();
        Some(values).filter(|values| !values.is_empty())
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
        let at = |page| self.base.page(&self.path, &self.query, page);
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
            if !query.outcomes.iter().all(|asked| settings.outcomes().any(|known| known == asked)) {
                let said = json!(self.last("outcome"));
                return Err(Refusal::field("value_error", "outcome", &one_of(settings), &said));
            }
            let own = OUTCOMES.iter().filter(|(outcome, _)| {
                query.outcomes.iter().any(|asked| asked == shape::outcome(*outcome, settings))
            });
            query.own_outcomes = own.map(|(_, text)| (*text).to_owned()).collect();
        }
        query.groups = self.list("groups").unwrap_or_default();
        query.testcases.extend(match (self.list("testcases"), self.list("testcases:like")) {
            (names, None) => names.map(Wanted::AnyOf),
            // A name is a pattern that only it fits.
            (names, Some(patterns)) => {
                Some(Wanted::Like(names.into_iter().flatten().chain(patterns).collect()))
            }
        });
        if let Some(since) = self.last("since").filter(|since| !since.is_empty()) {
            (query.since, query.until) = since_of(since)?;
        }
        // What is no order is left alone, as it was there.
        query.ascending = self.last("_sort") == Some("asc:submit_time");
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
            // Another ending than `:like` says nothing.
            let (name, like) = match key.split_once(':') {
                Some((name, ending)) if !ending.contains(':') => (name, ending == "like"),
                _ => (key.as_str(), false),
            };
            let values = self.values(key);
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
            let message = "Value error, must be in ISO8601 format";
            Refusal::field("value_error", "since", message, &json!(text))
        })
    });
    let start = times.next().transpose()?;
    Ok((start, times.next().transpose()?))
}

/// A time in one of the forms of ISO 8601, from a year alone to a fraction of a second; without a zone it is UTC.
pub(crate) fn time_of(text: &str) -> Option<DateTime<Utc>> {
    let (day, rest) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let day = day_of(day)?;
    if rest.is_empty() {
        return Some(day.and_hms_opt(0, 0, 0)?.and_utc());
    }
    // A `+` of a zone that was not escaped came as a space.
    let (clock, zone) = rest.split_at(rest.find(['Z', '+', '-', ' ']).unwrap_or(rest.len()));
    let at = day.and_time(clock_of(clock)?).checked_sub_signed(zone_of(zone)?)?;
    Some(at.and_utc())
}

/// A number of exactly so many digits, which the rest follows.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let all = number.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| number.parse().ok())?.map(|number| (number, rest))
}

/// Two digits, with this before them or without.
fn part(text: &str, before: char) -> Option<(u32, &str)> {
    digits(text.strip_prefix(before).unwrap_or(text), 2)
}

/// `2026-11-21`, `20261121`, `2026-11`, `2026`
fn day_of(text: &str) -> Option<NaiveDate> {
    let (year, rest) = digits(text, 4)?;
    let (month, day) = match rest {
        "" => (1, 1),
        rest => match part(rest, '-')? {
            (month, "") if rest.starts_with('-') => (month, 1),
            (month, rest) => {
                part(rest, '-').filter(|(_, rest)| rest.is_empty()).map(|(day, _)| (month, day))?
            }
        },
    };
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

/// `08`, `08:30`, `08:30:05.25`, with colons or without
fn clock_of(text: &str) -> Option<NaiveTime> {
    let (clock, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let (hour, rest) = digits(clock, 2)?;
    let (minute, rest) = if rest.is_empty() { (0, rest) } else { part(rest, ':')? };
    let (second, rest) = if rest.is_empty() { (0, rest) } else { part(rest, ':')? };
    // As many digits as a time has here.
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let (micros, _) = digits(&fraction, 6)?;
    rest.is_empty().then(|| NaiveTime::from_hms_micro_opt(hour, minute, second, micros))?
}

/// What a zone is before UTC: of nothing, `Z`, `+02`, `+0200`, `+02:00`
fn zone_of(text: &str) -> Option<TimeDelta> {
    if matches!(text, "" | "Z") {
        return Some(TimeDelta::zero());
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        (_, rest) => (1, rest),
    };
    let (hours, rest) = digits(rest, 2)?;
    let minutes = match rest.strip_prefix(':').unwrap_or(rest) {
        "" => 0,
        rest => digits(rest, 2).filter(|(_, rest)| rest.is_empty())?.0,
    };
    Some(TimeDelta::minutes(sign * i64::from(hours * 60 + minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_their_forms() {
        let check = |text: &str, expect: Option<&str>| {
            let expect = expect.map(|text| text.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(time_of(text), expect, "{text}");
        };
        check("2026", Some("2026-01-01T00:00:00Z"));
        check("2026-11", Some("2026-11-01T00:00:00Z"));
        check("2026-11-21", Some("2026-11-21T00:00:00Z"));
        check("20261121", Some("2026-11-21T00:00:00Z"));
        check("2026-11-21T08", Some("2026-11-21T08:00:00Z"));
        check("2026-11-21 08:30", Some("2026-11-21T08:30:00Z"));
        check("2026-11-21T08:30:05", Some("2026-11-21T08:30:05Z"));
        check("20261121T083005Z", Some("2026-11-21T08:30:05Z"));
        check("1900-01-01T00:00:00.000000", Some("1900-01-01T00:00:00Z"));
        check("2026-11-21T08:30:05.25", Some("2026-11-21T08:30:05.25Z"));
        check("2026-11-21T08:30:05.123456789Z", Some("2026-11-21T08:30:05.123456Z"));
        check("2026-11-21T08:30:05+02:00", Some("2026-11-21T06:30:05Z"));
        check("2026-11-21T08:30:05.5 0200", Some("2026-11-21T06:30:05.5Z"));
        check("2026-11-21T08:30:05-02", Some("2026-11-21T10:30:05Z"));
        for wrong in [
            "",
            "yesterday",
            "26-11-21",
            "202611",
            "2026-13",
            "2026-11-21T25",
            "2026-11-21T08:3",
            "2026-11-21T08:30:05+2",
            "2026-11-21T08:30:05+02:00x",
            "2026-11-2é",
            "2026-11-21T08:30:05.é",
        ] {
            check(wrong, None);
        }
    }
}
