//! The exit code and the results together: how an attempt ended.

use crate::{
    parse_error::ParseError,
    parsed::{Parsed, ParsedResult, RESULTS_MAX, Stop, append, clean_text, worse, worst},
};
use model::{ErrorReason, Item, Outcome, result::NewResult, task_file::ExitMeans};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How an attempt ended, and with which results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    /// How it ended.
    pub outcome: Outcome,
    /// The results of the document; none when it could not be read.
    pub results: Vec<ParsedResult>,
    /// Why, where the outcome alone does not say it.
    pub note: Option<String>,
}

impl Conclusion {
    fn new(outcome: Outcome, results: Vec<ParsedResult>, note: impl Into<Option<String>>) -> Self {
        Self { outcome, results, note: note.into() }
    }
}

/// Combines an exit code with what the result documents said: none where the format has none or no file is
/// there, several where the task's path names several. `path` is where they should be, if there should be any.
///
/// - A document that could not be read is `error(bad_results)`, whatever the exit code says.
/// - A document whose tests bailed out is an error of the task; the results so far are kept.
/// - An outcome in the exit map is the outcome, unless the results are bad and worse: exit code 0 does not
///   make a failed test pass. A code that the map does not name, without a `*`, is an error of the task.
/// - `from-results` is the worst of the results by [`worst`], or skipped when the documents say that nothing
///   was to be run; `from-failures` the same, or failed where that tells of nothing but passes and skips. No
///   document or no results is `error(bad_results)`: nothing was tested is not a pass.
/// - Neither is it one where an outcome of the exit map says so, but no document is there that should be.
#[must_use]
pub fn conclude(
    exit_code: i32,
    exit: &BTreeMap<String, ExitMeans>,
    path: Option<&str>,
    documents: Vec<Result<Parsed, ParseError>>,
) -> Conclusion {
    let bad = Outcome::Error(ErrorReason::BadResults);
    let read = documents.len();
    let parsed = match documents.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(parsed) => parsed,
        Err(error) => return Conclusion::new(bad, Vec::new(), error.to_string()),
    };
    let (mut results, mut skipped, mut bailed_out) = (Vec::new(), None, None);
    for document in parsed {
        results.extend(document.results);
        match document.stop {
            Some(Stop::BailedOut { line, reason }) => bailed_out = bailed_out.or(Some((line, reason))),
            Some(Stop::Skipped(reason)) => skipped = skipped.or(Some(reason)),
            None => {}
        }
    }
    let count: usize = results.iter().map(ParsedResult::count).sum();
    if count > RESULTS_MAX {
        let note = format!("{count} results in {read} documents, the limit is {RESULTS_MAX}; report fewer");
        return Conclusion::new(bad, Vec::new(), note);
    }
    if let Some((line, reason)) = bailed_out {
        let note = format!("line {line}: the tests bailed out: {reason}");
        return Conclusion::new(
            Outcome::Error(ErrorReason::Task),
            results,
            note.trim_end_matches([':', ' ']).to_owned(),
        );
    }
    let found = worst(results.iter().map(|result| result.outcome));
    let missing = || {
        let path = path.map(|path| format!(" `{path}` below the work folder or $TASKBOT_OUTPUT"));
        format!("there is no result file{}", path.unwrap_or_default())
    };
    let contradicted = |said: Outcome, found: Outcome| {
        format!("exit code {exit_code} says {said}, but the results say {found}")
    };
    let means = means(exit, exit_code);
    match means {
        ExitMeans::Outcome(said @ (Outcome::Passed | Outcome::Info | Outcome::NeedsInspection))
            if path.is_some() && read == 0 =>
        {
            Conclusion::new(bad, results, format!("exit code {exit_code} says {said}, but {}", missing()))
        }
        ExitMeans::Outcome(said) => {
            let outcome = found.filter(|found| !found.is_good()).map_or(said, |found| worse(said, found));
            let note = match found.filter(|found| found.exit_code() != said.exit_code()) {
                Some(found) if !said.is_error() => Some(contradicted(said, found)),
                _ => said.is_error().then(|| exit_note(exit_code)),
            };
            Conclusion::new(outcome, results, note)
        }
        ExitMeans::FromResults | ExitMeans::FromFailures => {
            let told = found.or_else(|| skipped.as_ref().map(|_| Outcome::Skipped));
            match told {
                Some(told @ (Outcome::Passed | Outcome::Skipped | Outcome::NotApplicable))
                    if means == ExitMeans::FromFailures =>
                {
                    Conclusion::new(Outcome::Failed, results, contradicted(Outcome::Failed, told))
                }
                Some(told) => Conclusion::new(told, results, skipped.filter(|_| found.is_none())),
                None => {
                    let what =
                        if read > 0 { "the result file holds no results".to_owned() } else { missing() };
                    let note = format!("exit code {exit_code} leaves the outcome to the results, but {what}");
                    Conclusion::new(bad, results, note)
                }
            }
        }
    }
}

/// An exit code, with what shells mean by it where that is how a task begins to go wrong.
fn exit_note(code: i32) -> String {
    let hint = match code {
        126 => " (a command cannot be run: is its file executable, also in git?)",
        127 => " (a command is not there: is it installed, or named by its path, ./run.sh?)",
        _ => "",
    };
    format!("exit code {code}{hint}")
}

/// What an exit code means by `results.exit` of a task file.
fn means(exit: &BTreeMap<String, ExitMeans>, code: i32) -> ExitMeans {
    let unnamed = ExitMeans::Outcome(Outcome::Error(ErrorReason::Task));
    exit.get(&code.to_string()).or_else(|| exit.get("*")).copied().unwrap_or(unnamed)
}

/// The conclusion as the one result that an attempt reports: `testcase` with the outcome, and below it one
/// result `testcase.name` for each that the document held, children likewise. A name that begins with the
/// testcase is whole, and none is the testcase itself. A result that names its own item keeps it.
#[must_use]
pub fn report(
    testcase: &str,
    item: Option<&Item>,
    duration_ms: Option<u64>,
    conclusion: &Conclusion,
) -> NewResult {
    NewResult {
        testcase: testcase.to_owned(),
        item: item.cloned(),
        outcome: conclusion.outcome,
        note: conclusion.note.as_deref().and_then(clean_text),
        duration_ms,
        data: Map::new(),
        children: conclusion.results.iter().map(|result| sub_result(testcase, item, result)).collect(),
    }
}

fn sub_result(testcase: &str, item: Option<&Item>, result: &ParsedResult) -> NewResult {
    let testcase = match result.name.strip_prefix(testcase) {
        _ if result.name.is_empty() => testcase.to_owned(),
        Some(rest) if rest.is_empty() || rest.starts_with('.') => result.name.clone(),
        _ => format!("{testcase}.{}", result.name),
    };
    let item = result.item.as_ref().or(item);
    let mut note = result.message.clone().unwrap_or_default();
    append(&mut note, result.detail.as_deref().unwrap_or_default());
    NewResult {
        item: item.cloned(),
        outcome: result.outcome,
        note: clean_text(&note),
        duration_ms: result.duration_ms,
        data: result.data.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect(),
        children: result.children.iter().map(|child| sub_result(&testcase, item, child)).collect(),
        testcase,
    }
}
