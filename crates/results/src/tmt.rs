//! tmt's `results.yaml`, which it leaves below the run's folder for each plan, or `results.json`: a list of
//! tests, each with checks and subresults, as <https://tmt.readthedocs.io/en/stable/spec/results.html> says.
//!
//! - A test is not better than its checks and subresults, unless tmt itself has turned its result round
//!   (`original-result` differs from `result`): then tmt's word stands.
//! - Fields that are not known are passed over: tmt adds some with most releases.

use crate::{
    decode, duration,
    parse_error::Fault,
    parsed::{DEPTH_MAX, Parsed, ParsedResult, RESULTS_MAX, append, clean_text, worse, worst},
};
use model::{Outcome, outcome::words};
use serde::{Deserialize, Deserializer, de};

const SHAPE: &str =
    "tmt writes a list of `{name: /path, result: pass}`; name its `results.yaml` below `run/**/execute/`";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    name: String,
    result: Word,
    #[serde(default)]
    original_result: Option<Word>,
    #[serde(default)]
    note: Texts,
    #[serde(default)]
    log: Texts,
    #[serde(default)]
    guest: Option<Guest>,
    #[serde(default)]
    duration: Option<String>,
    #[serde(default)]
    check: Option<Vec<Self>>,
    #[serde(default)]
    subresult: Option<Vec<Self>>,
    /// When a check ran: `before-test` or `after-test`.
    #[serde(default)]
    event: Option<String>,
}

#[derive(Deserialize)]
struct Guest {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    role: Option<String>,
}

/// A result, with the word that it was written as.
struct Word(String, Outcome);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match words::tmt(&word) {
            Some(outcome) => Ok(Self(word, outcome)),
            None => Err(de::Error::custom(format!(
                "`{}` is no result of tmt; known are pass, fail, info, warn, skip, error, pending",
                crate::parsed::clean_name(&word)
            ))),
        }
    }
}

/// A text or a list of texts; older releases wrote one where newer ones write several.
#[derive(Default, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
enum Texts {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn joined(&self, with: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::One(text) => clean_text(text),
            Self::Many(texts) => clean_text(&texts.join(with)),
        }
    }
}

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let entries: Vec<Entry> = decode::yaml(text, SHAPE)?;
    let mut count = 0;
    let results = entries.into_iter().map(|entry| result(entry, 1, &mut count)).collect::<Result<_, _>>()?;
    Ok(Parsed { results, stop: None })
}

fn result(entry: Entry, depth: usize, count: &mut usize) -> Result<ParsedResult, Fault> {
    *count += 1;
    let Word(word, own) = entry.result;
    let mut result = ParsedResult::new(&entry.name, own);
    if result.name.is_empty() {
        return Err(Fault::new(1, format!("result number {count} has an empty name")).help(SHAPE));
    }
    if *count > RESULTS_MAX {
        return Err(Fault::new(1, format!("more than {RESULTS_MAX} results")).help("report fewer"));
    }
    if depth > DEPTH_MAX {
        let message = format!("results are nested deeper than {DEPTH_MAX} at `{}`", result.name);
        return Err(Fault::new(1, message));
    }
    result.duration_ms = entry.duration.as_deref().and_then(duration::clock_millis);
    let mut note = entry.note.joined("; ").unwrap_or_default();
    if word == "pending" {
        append(&mut note, "it is pending: tmt did not run it to its end");
    }
    let guest = entry.guest.as_ref();
    for (key, value) in [
        ("log", entry.log.joined(", ")),
        ("guest", guest.and_then(|guest| guest.name.clone())),
        ("role", guest.and_then(|guest| guest.role.clone())),
        ("event", entry.event),
    ] {
        result.data.extend(value.and_then(|value| clean_text(&value)).map(|value| (key.to_owned(), value)));
    }
    for check in entry.check.into_iter().flatten() {
        let mut check = self::result(check, depth + 1, count)?;
        check.data.insert("kind".to_owned(), "check".to_owned());
        result.children.push(check);
    }
    for part in entry.subresult.into_iter().flatten() {
        result.children.push(self::result(part, depth + 1, count)?);
    }
    match entry.original_result {
        Some(Word(original, _)) if original != word => {
            result.data.insert("original_result".to_owned(), original);
        }
        _ => {
            let children = worst(result.children.iter().map(|child| child.outcome));
            result.outcome =
                children.filter(|worst| !worst.is_good()).map_or(own, |children| worse(own, children));
            if result.outcome != own {
                append(&mut note, "reported as better than a part of it");
            }
        }
    }
    result.message = clean_text(&note);
    Ok(result)
}
