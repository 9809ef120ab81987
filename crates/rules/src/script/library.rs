//! The functions for this field, and those of Rhai that change a value in place, as functions that give a new
//! one.

use super::{
    ErrorKind,
    limits::TEXT_BYTES_MAX,
    patterns::{self, Cache},
    run::{fail, now, refuse},
    value::{Number, of_entries, of_json},
    views::{join, unique},
};
use crate::{
    facts::Facts,
    nvr::{self, Nvr},
    predicate::time_of,
    version,
};
use chrono::{DateTime, Utc};
use rhai::{Array, Dynamic, Engine, EvalAltResult, INT, ImmutableString, Map, Position};
use std::{cmp::Ordering, sync::Arc};

type Fallible<T> = Result<T, Box<EvalAltResult>>;

pub(super) fn register(engine: &mut Engine, facts: &Arc<Facts>) {
    register_packages(engine);
    register_patterns(engine);
    register_times(engine);
    register_facts(engine, facts);
    register_texts(engine);
    register_large_numbers(engine);
}

fn register_packages(engine: &mut Engine) {
    engine.register_fn("nvr", |text: &str| -> Fallible<Dynamic> {
        let parsed = nvr::parse(text).ok_or_else(|| {
            let help = nvr::parse_nevra(text).map(|_| "it has an architecture: use `nevra(…)`".to_owned());
            refuse(ErrorKind::Runtime, format!("`{}` is no name-version-release", excerpt(text)), help)
        })?;
        Ok(of_entries(parts(&parsed)))
    });
    engine.register_fn("nevra", |text: &str| -> Fallible<Dynamic> {
        let parsed = nvr::parse_nevra(text)
            .ok_or_else(|| fail(format!("`{}` is no name-version-release.architecture", excerpt(text))))?;
        let mut entries = parts(&parsed.nvr);
        entries.insert("arch".into(), parsed.arch.into());
        Ok(of_entries(entries))
    });
    for name in ["version_compare", "rpm_compare"] {
        engine.register_fn(name, |a: &str, b: &str| sign(version::compare_rpm_evr(a, b)));
    }
    engine.register_fn("debian_compare", |a: &str, b: &str| sign(version::compare_debian(a, b)));
}

fn parts(nvr: &Nvr<'_>) -> Map {
    let mut entries = Map::from([
        ("name".into(), nvr.name.into()),
        ("version".into(), nvr.version.into()),
        ("release".into(), nvr.release.into()),
    ]);
    if let Some(epoch) = nvr.epoch {
        entries.insert("epoch".into(), INT::from(epoch).into());
    }
    entries
}

/// The start of a text, for messages.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const fn sign(order: Ordering) -> INT {
    match order {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}

fn register_patterns(engine: &mut Engine) {
    let globs = Cache::new(patterns::glob);
    engine.register_fn("glob", move |text: &str, pattern: &str| -> Fallible<bool> {
        globs.get(pattern).map(|glob| glob.is_match(text)).map_err(fail)
    });
    let regexes = Cache::new(patterns::regex);
    engine.register_fn("regex", move |text: &str, pattern: &str| -> Fallible<bool> {
        regexes.get(pattern).map(|regex| regex.is_match(text)).map_err(fail)
    });
}

fn register_times(engine: &mut Engine) {
    engine
        .register_fn("now", || -> Fallible<INT> { given_time().map(|now| now.timestamp()) })
        .register_fn("parse_time", |text: &str| parse_time(text).map(|time| time.timestamp()))
        .register_fn("age", |text: &str| -> Fallible<INT> {
            Ok((given_time()? - parse_time(text)?).num_seconds())
        })
        .register_fn("age", |seconds: INT| -> Fallible<INT> {
            let age = given_time()?.timestamp().checked_sub(seconds);
            age.ok_or_else(|| fail(format!("{seconds} is no time in seconds since 1970")))
        })
        .register_fn("age", |seconds: f64| -> Fallible<f64> {
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
            Ok(given_time()?.timestamp_millis() as f64 / 1000.0 - seconds)
        });
}

fn given_time() -> Fallible<DateTime<Utc>> {
    now().ok_or_else(|| fail("there is no time here"))
}

/// As for the clause `age`.
fn parse_time(text: &str) -> Fallible<DateTime<Utc>> {
    time_of(&text.into()).ok_or_else(|| {
        let help = "a time is written 2025-06-15T12:00:00Z or 2025-06-15".to_owned();
        refuse(ErrorKind::Runtime, format!("`{}` is no time", excerpt(text)), Some(help))
    })
}

fn register_facts(engine: &mut Engine, facts: &Arc<Facts>) {
    let of_text = Arc::clone(facts);
    engine.register_fn("fact", move |table: &str, key: &str| look_up(&of_text, table, key));
    let of_number = Arc::clone(facts);
    engine.register_fn("fact", move |table: &str, key: INT| look_up(&of_number, table, &key.to_string()));
    let of_nothing = Arc::clone(facts);
    engine.register_fn("fact", move |table: &str, (): ()| missing(&of_nothing, table));
}

fn look_up(facts: &Facts, table: &str, key: &str) -> Fallible<Dynamic> {
    facts.lookup(table, key).map_or_else(|| missing(facts, table), |row| Ok(of_json(row)))
}

fn missing(facts: &Facts, table: &str) -> Fallible<Dynamic> {
    facts.missing(table).map(|value| of_json(&value)).ok_or_else(|| {
        refuse(
            ErrorKind::Runtime,
            format!("there is no table `{}`", excerpt(table)),
            Some(facts.advice(table)),
        )
    })
}

fn register_texts(engine: &mut Engine) {
    engine
        .register_fn("trim", |text: &str| ImmutableString::from(text.trim()))
        .register_fn("replace", |text: &str, part: &str, by: &str| -> Fallible<ImmutableString> {
            let count = if part.is_empty() { text.chars().count() + 1 } else { text.matches(part).count() };
            let len = text.len() - count * part.len() + count.saturating_mul(by.len());
            if len > TEXT_BYTES_MAX {
                let what = "Length of string".to_owned();
                return Err(Box::new(EvalAltResult::ErrorDataTooLarge(what, Position::NONE)));
            }
            Ok(text.replace(part, by).into())
        })
        .register_fn("join", |items: Array, separator: &str| join(&items, separator))
        .register_fn("unique", |items: Array| unique(items))
        .register_fn("to_int", |number: INT| number)
        .register_fn("floor", |number: INT| number)
        .register_fn("ceiling", |number: INT| number)
        .register_fn("round", |number: INT| number);
}

/// Whole numbers beyond the range of Rhai's own come as `u64`: they compare by value, and print exactly.
fn register_large_numbers(engine: &mut Engine) {
    fn compare(a: &Dynamic, b: &Dynamic) -> Option<Ordering> {
        Number::of(a)?.compare(Number::of(b)?)
    }
    macro_rules! relation {
        ($name:literal, $holds:expr) => {
            let holds: fn(Ordering) -> bool = $holds;
            let otherwise = $name == "!=";
            let judge = move |a: Dynamic, b: Dynamic| compare(&a, &b).map_or(otherwise, holds);
            engine
                .register_fn($name, move |a: u64, b: u64| judge(Dynamic::from(a), Dynamic::from(b)))
                .register_fn($name, move |a: u64, b: INT| judge(Dynamic::from(a), b.into()))
                .register_fn($name, move |a: INT, b: u64| judge(a.into(), Dynamic::from(b)))
                .register_fn($name, move |a: u64, b: f64| judge(Dynamic::from(a), b.into()))
                .register_fn($name, move |a: f64, b: u64| judge(a.into(), Dynamic::from(b)));
        };
    }
    relation!("==", Ordering::is_eq);
    relation!("!=", Ordering::is_ne);
    relation!("<", Ordering::is_lt);
    relation!("<=", Ordering::is_le);
    relation!(">", Ordering::is_gt);
    relation!(">=", Ordering::is_ge);
    for name in ["to_string", "to_debug", "print", "debug"] {
        engine.register_fn(name, |number: u64| number.to_string());
    }
}
