//! When a rule on a schedule fires.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use model::RuleName;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The topic of the event that tells a rule that its time has come.
pub const SCHEDULE_DUE: &str = "taskbot.schedule.due";
/// The longest cron pattern in bytes.
pub const CRON_BYTES_MAX: usize = 256;

/// The times of one rule.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// The rule.
    pub rule: RuleName,
    /// The times.
    pub times: Times,
    /// What becomes of times at which nobody was there.
    pub missed: Missed,
}

impl Schedule {
    /// The first time after this one; nothing if there is none.
    #[must_use]
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.times.next_after(time)
    }
}

/// What becomes of a schedule's times at which no server was there, or the rule was not in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are gone.
    #[default]
    Skip,
    /// The rule fires once for all of them.
    Once,
}

impl Missed {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
        }
    }
}

/// A cron pattern in a time zone. Where clocks go forward, a time that is skipped comes at the first moment
/// after the gap; where they go back, a time that comes twice counts once.
#[derive(Debug, Clone)]
pub struct Times {
    cron: Cron,
    source: Box<str>,
    timezone: Tz,
}

impl Times {
    /// Reads a pattern of five fields (minute, hour, day of the month, month, day of the week) or `@daily` and
    /// the like, and the name of a time zone.
    ///
    /// # Errors
    /// What is wrong with the pattern, as one sentence.
    pub fn parse(pattern: &str, timezone: Tz) -> Result<Self, String> {
        if pattern.len() > CRON_BYTES_MAX {
            return Err(format!(
                "a schedule has at most {CRON_BYTES_MAX} bytes, this one has {}",
                pattern.len()
            ));
        }
        let fields = pattern.split_whitespace().count();
        if fields != 5 && !(fields == 1 && pattern.trim_start().starts_with('@')) {
            return Err(format!("`{pattern}` has {fields} fields, a schedule has 5"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| format!("`{pattern}` is no schedule: {error}"))?;
        Ok(Self { cron, source: pattern.into(), timezone })
    }

    /// The pattern as it was written.
    #[must_use]
    pub const fn source(&self) -> &str {
        &self.source
    }

    /// The time zone's name.
    #[must_use]
    pub fn timezone(&self) -> &'static str {
        self.timezone.name()
    }

    /// The first time after this one; nothing if there is none, as for the 30th of February.
    #[must_use]
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.with_timezone(&self.timezone);
        self.cron.find_next_occurrence(&local, false).ok().map(|next| next.with_timezone(&Utc))
    }
}

/// A time zone by its name in the IANA database, such as `Europe/Prague`.
///
/// # Errors
/// The name that is nearest, if there is one.
pub fn timezone(name: &str) -> Result<Tz, Option<&'static str>> {
    Tz::from_str(name)
        .map_err(|_| model::diagnostic::nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(pattern: &str, zone: &str, after: &str) -> String {
        let times = Times::parse(pattern, timezone(zone).unwrap()).unwrap();
        let next = times.next_after(after.parse().unwrap());
        next.map_or_else(|| "never".to_owned(), |next| next.format("%FT%TZ").to_string())
    }

    #[test]
    fn next_times() {
        let check = |pattern, zone, after, expect: &str| {
            assert_eq!(next(pattern, zone, after), expect, "{pattern} in {zone} after {after}");
        };
        check("*/15 * * * *", "UTC", "2026-11-01T10:00:00Z", "2026-11-01T10:15:00Z");
        check("*/15 * * * *", "UTC", "2026-11-01T10:14:59Z", "2026-11-01T10:15:00Z");
        check("0 6 * * 1-5", "Europe/Prague", "2026-11-06T05:00:00Z", "2026-11-09T05:00:00Z");
        check("0 6 * * 1-5", "Europe/Prague", "2026-07-03T04:00:00Z", "2026-07-06T04:00:00Z");
        check("@daily", "UTC", "2026-11-01T10:00:00Z", "2026-11-02T00:00:00Z");
        check("0 0 29 2 *", "UTC", "2026-11-01T00:00:00Z", "2028-02-29T00:00:00Z");
        check("0 0 30 2 *", "UTC", "2026-11-01T00:00:00Z", "never");
    }

    #[test]
    fn clocks_that_go_forward_and_back() {
        let check = |after, expect: &str| {
            assert_eq!(next("30 2 * * *", "Europe/Prague", after), expect, "{after}");
        };
        // 02:30 is skipped on the last Sunday of March.
        check("2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z");
        check("2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
        // 02:30 comes twice on the last Sunday of October.
        check("2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z");
        check("2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
    }

    #[test]
    fn bad_schedules_say_why() {
        let check = |pattern: &str, expect: &str| {
            let error = Times::parse(pattern, Tz::UTC).unwrap_err();
            assert!(error.contains(expect), "{pattern}: {error}");
        };
        check("* * * *", "has 4 fields, a schedule has 5");
        check("0 * * * * *", "has 6 fields, a schedule has 5");
        check("61 * * * *", "is no schedule");
        check(&"1,".repeat(CRON_BYTES_MAX), "at most 256 bytes");
        assert_eq!(timezone("Europe/Prag").unwrap_err(), Some("Europe/Prague"));
    }
}
