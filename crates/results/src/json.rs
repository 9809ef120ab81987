//! A plain list of results, for tasks that find things:
//!
//! ```json
//! {"results": [
//!   {"name": "no-binary", "outcome": "failed", "note": "hello.x86_64: E: no-binary", "duration_ms": 12,
//!    "data": {"file": "hello-1-1.x86_64.rpm"}, "children": []}
//! ]}
//! ```
//!
//! `name` and `outcome` are required; `outcome` is `passed`, `failed`, `info`, `needs_inspection`, `skipped`,
//! `not_applicable` or `error`. `data` holds texts, numbers and booleans. A result with `children` is not
//! better than the worst of them. Unknown fields are errors, so that a misspelt one is not lost.

use crate::{
    decode,
    parse_error::Fault,
    parsed::{
        DATA_FIELDS_MAX, DEPTH_MAX, Parsed, ParsedResult, RESULTS_MAX, clean_name, clean_text, worse, worst,
    },
};
use model::{ErrorReason, Outcome};
use serde::Deserialize;
use std::collections::BTreeMap;

const SHAPE: &str = r#"write {"results": [{"name": "…", "outcome": "passed"}]}; further fields are note, duration_ms, data, children"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    results: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    outcome: Word,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    duration_ms: Option<u64>,
    #[serde(default)]
    data: BTreeMap<String, Scalar>,
    #[serde(default)]
    children: Vec<Entry>,
}

/// An outcome as a task may state it: without a reason, since those are the worker's to give.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Passed,
    Failed,
    Info,
    NeedsInspection,
    Skipped,
    NotApplicable,
    Error,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a value of `data` must be a text, a number or a boolean")]
enum Scalar {
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
}

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let document: Document = decode::json(text, SHAPE)?;
    let mut count = 0;
    let results =
        document.results.into_iter().map(|entry| result(entry, 1, &mut count)).collect::<Result<_, _>>()?;
    Ok(Parsed { results, stop: None })
}

fn result(entry: Entry, depth: usize, count: &mut usize) -> Result<ParsedResult, Fault> {
    *count += 1;
    // serde_json has lost the line by now; the name says where.
    let name = clean_name(&entry.name);
    if name.is_empty() {
        return Err(
            Fault::new(1, format!("result number {count} has an empty name")).help("name every result")
        );
    }
    if *count > RESULTS_MAX {
        return Err(Fault::new(1, format!("more than {RESULTS_MAX} results")).help("report fewer"));
    }
    if depth > DEPTH_MAX {
        return Err(Fault::new(1, format!("results are nested deeper than {DEPTH_MAX} at `{name}`")));
    }
    if entry.data.len() > DATA_FIELDS_MAX {
        return Err(Fault::new(1, format!("`{name}` has more than {DATA_FIELDS_MAX} data fields")));
    }
    let children = entry
        .children
        .into_iter()
        .map(|child| result(child, depth + 1, count))
        .collect::<Result<Vec<_>, _>>()?;
    let own = outcome(&entry.outcome);
    let outcome =
        worst(children.iter().map(|child| child.outcome)).map_or(own, |children| worse(own, children));
    Ok(ParsedResult {
        name,
        item: None,
        outcome,
        duration_ms: entry.duration_ms,
        message: entry.note.as_deref().and_then(clean_text),
        detail: None,
        data: entry.data.into_iter().map(|(key, value)| (clean_name(&key), plain(value))).collect(),
        children,
    })
}

fn outcome(word: &Word) -> Outcome {
    match word {
        Word::Passed => Outcome::Passed,
        Word::Failed => Outcome::Failed,
        Word::Info => Outcome::Info,
        Word::NeedsInspection => Outcome::NeedsInspection,
        Word::Skipped => Outcome::Skipped,
        Word::NotApplicable => Outcome::NotApplicable,
        Word::Error => Outcome::Error(ErrorReason::Task),
    }
}

fn plain(value: Scalar) -> String {
    match value {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Number(value) => value.to_string(),
        Scalar::Text(text) => clean_text(&text).unwrap_or_default(),
    }
}
