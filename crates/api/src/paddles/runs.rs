//! Runs: listing by what they are told apart by, showing, making, removing.

use super::{
    RUNS_OF_SEED,
    answer::{Answer, Refusal, document, done, raw},
    ask::{Ask, required},
    jobs,
    operation::FIELDS,
    shape::{self, Shown},
};
use axum::body::Body;
use chrono::{DateTime, Days, NaiveDate, Utc};
use model::paddles::RunName;
use serde_json::{Map, Value, json};
use store::{PADDLES_ROWS_MAX, PaddlesField, PaddlesJobQuery, PaddlesRunQuery};

/// The longest name of a run in bytes.
pub(crate) const RUN_NAME_BYTES_MAX: usize = 512;

/// Whether a part of a path is no run's name, but says by what runs are looked for.
pub(crate) fn is_filter(part: &str) -> bool {
    part == "queued" || FIELDS.iter().any(|(first, ..)| *first == part)
}

pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.len() > RUN_NAME_BYTES_MAX
        || name.contains(|c: char| c.is_control() || c == '/')
        || is_filter(name)
    {
        let message = format!(
            "the name of a run has at most {RUN_NAME_BYTES_MAX} bytes, no slash, and is no word of this interface"
        );
        return Err(Refusal::bad(message));
    }
    Ok(())
}

pub(crate) fn no_run() -> Refusal {
    Refusal::not_found("requested run not found")
}

/// `GET /runs/`
pub(crate) async fn list(ask: &Ask) -> Answer {
    if ask.is_seed() {
        return seed_list(ask).await;
    }
    let (limit, offset) = ask.page(ask.settings().runs)?;
    let query = PaddlesRunQuery { by_posted: true, limit, offset, ..PaddlesRunQuery::default() };
    shown(ask, &query).await
}

/// The latest runs, by name.
async fn seed_list(ask: &Ask) -> Answer {
    let query = PaddlesRunQuery { by_posted: true, limit: RUNS_OF_SEED, ..PaddlesRunQuery::default() };
    shown(ask, &query).await
}

async fn shown(ask: &Ask, query: &PaddlesRunQuery) -> Answer {
    if ask.is_seed() {
        let runs = ask.store().paddles_runs(query).await?;
        let by_name = runs.iter().map(|run| (run.name.clone(), shape::seed_run(run, &ask.base)));
        return Ok(document(by_name.collect::<Map<_, _>>()));
    }
    let fields = ask.fields();
    shape::check_run_fields(fields.as_deref())?;
    let runs = ask.store().paddles_runs(query).await?;
    let shown = runs.iter().map(|run| shape::only(shape::run(run, &ask.base), fields.as_deref()));
    Ok(document(shown.collect::<Vec<_>>()))
}

/// What is looked for.
#[derive(Debug, PartialEq)]
enum Wanted {
    /// Runs.
    Runs,
    /// The values that runs have.
    Values(PaddlesField),
}

/// `GET /runs/<name>/<value>/…`
pub(crate) async fn filtered(ask: &Ask, parts: &[String]) -> Answer {
    let (wanted, mut query) = read(parts, ask.now())?;
    match wanted {
        Wanted::Values(field) => Ok(document(ask.store().paddles_values(field, &query).await?)),
        Wanted::Runs => {
            if let Some(since) = ask.text("since") {
                let since = day(since, ask.now())?;
                query.from = Some(query.from.map_or(since, |from| from.max(since)));
            }
            let ranges = parts.windows(2).any(|pair| pair[0] == "date" && pair[1] == "from");
            let all = query.queued || ranges;
            let default = if all { PADDLES_ROWS_MAX } else { ask.settings().runs };
            (query.limit, query.offset) = ask.page(default)?;
            shown(ask, &query).await
        }
    }
}

fn read(parts: &[String], now: DateTime<Utc>) -> Result<(Wanted, PaddlesRunQuery), Refusal> {
    let mut query = PaddlesRunQuery::default();
    let mut rest = parts.iter().map(String::as_str).peekable();
    let mut first = true;
    while let Some(name) = rest.next() {
        if name == "queued" && first {
            (query.queued, query.oldest_first) = (true, true);
            first = false;
            continue;
        }
        let known =
            FIELDS.iter().find(|(at_start, nested, _)| name == if first { *at_start } else { *nested });
        let Some((.., field)) = known else { return Err(Refusal::not_found("there is nothing here")) };
        first = false;
        let Some(value) = rest.next() else { return Ok((Wanted::Values(*field), query)) };
        match field {
            PaddlesField::Sha1 => query.sha1 = Some(value.to_owned()),
            PaddlesField::Date if value == "from" => {
                let (from, to) =
                    (rest.next(), rest.next().filter(|word| *word == "to").and_then(|_| rest.next()));
                let (Some(from), Some(to)) = (from, to) else {
                    return Err(Refusal::bad("expected date/from/YYYY-MM-DD/to/YYYY-MM-DD"));
                };
                within(&mut query, day(from, now)?, after(day(to, now)?));
            }
            PaddlesField::Date => {
                let day = day(value, now)?;
                within(&mut query, day, after(day));
            }
            field => query.fields.push((*field, value.to_owned())),
        }
    }
    Ok((Wanted::Runs, query))
}

fn within(query: &mut PaddlesRunQuery, from: DateTime<Utc>, until: DateTime<Utc>) {
    query.from = Some(query.from.map_or(from, |earlier| earlier.max(from)));
    query.until = Some(query.until.map_or(until, |earlier| earlier.min(until)));
}

/// The start of a day.
fn day(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Refusal> {
    let day = match text {
        "today" => Some(now.date_naive()),
        "yesterday" => now.date_naive().pred_opt(),
        text => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok(),
    };
    let start = day.and_then(|day| day.and_hms_opt(0, 0, 0)).map(|start| start.and_utc());
    start.ok_or_else(|| Refusal::bad("date format must match %Y-%m-%d"))
}

/// The start of the day after.
fn after(day: DateTime<Utc>) -> DateTime<Utc> {
    day.checked_add_days(Days::new(1)).unwrap_or(day)
}

/// `POST /runs/`
pub(crate) async fn add(ask: &Ask) -> Answer {
    let body = ask.object()?;
    let name = required(&body, "name")?;
    check_name(name)?;
    if !ask.store().add_paddles_run(name, &RunName::parse(name)).await? {
        return Err(Refusal::bad(format!("run with name {name} already exists")));
    }
    ask.audit("paddles.run.add", format!("run/{name}"), json!({})).await?;
    Ok(done())
}

/// `GET /runs/<name>/`
pub(crate) async fn show(ask: &Ask, name: &str) -> Answer {
    let run = ask.store().paddles_run(name).await?.ok_or_else(no_run)?;
    let jobs = PaddlesJobQuery { run: Some(name.to_owned()), ..PaddlesJobQuery::default() };
    if ask.is_seed() {
        return jobs::by_id(ask, jobs).await;
    }
    if ask.head {
        return Ok(raw(Body::empty()));
    }
    let mut start = Value::Object(shape::run(&run, &ask.base)).to_string();
    start.pop();
    start.push_str(",\"jobs\":[");
    jobs::stream(ask, jobs, Shown::All, start, "]}").await
}

/// `DELETE /runs/<name>/`
pub(crate) async fn remove(ask: &Ask, name: &str) -> Answer {
    if ask.caller.bounds.queues.is_some() {
        return Err(Refusal::forbidden("a token for some queues removes no runs"));
    }
    if !ask.store().remove_paddles_run(name, &ask.caller.name).await? {
        return Err(Refusal::not_found("attempted to delete a non-existent run"));
    }
    ask.audit("paddles.run.delete", format!("run/{name}"), json!({})).await?;
    ask.written();
    Ok(done())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_look_for() {
        let now: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        let of = |path: &str| {
            let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
            read(&parts, now)
        };
        let check = |path: &str, expect: &str| {
            let (wanted, query) = of(path).unwrap_or_else(|error| panic!("{path}: {error:?}"));
            let day = |time: Option<DateTime<Utc>>| {
                time.map(|time| time.format("%F").to_string()).unwrap_or_default()
            };
            let fields: Vec<_> =
                query.fields.iter().map(|(field, value)| format!("{field:?}={value}")).collect();
            let got = format!(
                "{wanted:?} {} {}..{} {:?} {}",
                fields.join(" "),
                day(query.from),
                day(query.until),
                query.sha1,
                query.queued
            );
            assert_eq!(got, expect, "{path}");
        };
        check("branch", "Values(Branch)  .. None false");
        check("flavors", "Values(Flavor)  .. None false");
        check(
            "suite/rados/branch/next/status/finished pass",
            "Runs Suite=rados Branch=next Status=finished pass .. None false",
        );
        check("flavors/basic/flavor/x", "Runs Flavor=basic Flavor=x .. None false");
        check("suite/rados/branch", "Values(Branch) Suite=rados .. None false");
        check("date/today/user/me", "Runs User=me 2026-03-01..2026-03-02 None false");
        check("date/yesterday", "Runs  2026-02-28..2026-03-01 None false");
        check(
            "date/from/2026-01-01/to/2026-01-31/sha1/abc",
            "Runs  2026-01-01..2026-02-01 Some(\"abc\") false",
        );
        check("queued/user/me", "Runs User=me .. None true");
        for wrong in [
            "date/2026-02-30",
            "date/x",
            "date/from/2026-01-01",
            "suite/x/flavors/y",
            "suite/x/queued",
            "suite/x/nothing/y",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
