//! Times as people write and read them.

use crate::fault::Fault;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use model::units::{format_duration, parse_duration};
use serde_json::Value;

/// A point in time: a duration before `now` (`2h`, `3d`), a day, or a time with its offset.
///
/// # Errors
/// It is none of them.
pub(crate) fn parse_time(flag: &str, text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
    let ago = parse_duration(text).ok().and_then(|ago| TimeDelta::from_std(ago).ok());
    let ago = ago.and_then(|ago| now.checked_sub_signed(ago));
    let day = || text.parse::<NaiveDate>().ok().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc));
    ago.or_else(day).or_else(time).ok_or_else(|| {
        Fault::usage(format!(
            "{flag}: `{text}` is no time; expected 90m, 2h, 3d, 2026-11-21 or 2026-11-21T10:00:00Z"
        ))
    })
}

/// A point in time to come: a duration from `now` on, a day, or a time with its offset.
///
/// # Errors
/// It is none of them.
pub(crate) fn parse_time_to_come(flag: &str, text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Fault> {
    let ahead = parse_duration(text).ok().and_then(|ahead| TimeDelta::from_std(ahead).ok());
    match ahead.and_then(|ahead| now.checked_add_signed(ahead)) {
        Some(time) => Ok(time),
        None => parse_time(flag, text, now),
    }
}

/// A time of a document.
fn time_of(value: &Value) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|time| time.with_timezone(&Utc))
}

/// How long ago a time of a document is, such as `3m12s`; a dash where there is none.
pub(crate) fn age(value: &Value, now: DateTime<Utc>) -> String {
    time_of(value).map_or_else(|| "-".to_owned(), |then| short(now - then))
}

/// How long it was from one time of a document to another; up to `now` when it has no end yet.
pub(crate) fn duration_between(from: &Value, to: &Value, now: DateTime<Utc>) -> String {
    time_of(from).map_or_else(|| "-".to_owned(), |from| short(time_of(to).unwrap_or(now) - from))
}

/// The time of day of a time of a document, in UTC, to the second; with the day when it is not today.
pub(crate) fn clock_time(value: &Value, now: DateTime<Utc>) -> String {
    let Some(time) = time_of(value) else { return "--:--:--".to_owned() };
    let form = if time.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.format(form).to_string()
}

fn short(span: TimeDelta) -> String {
    let span = span.max(TimeDelta::zero()).to_std().unwrap_or_default();
    // Fractions only where they are all there is.
    let seconds = std::time::Duration::from_secs(span.as_secs());
    format_duration(if span.as_secs() < 10 { span } else { seconds })
}
