//! autopkgtest's `summary`: a line `name  WORD reason` for each test, and lines about package and testbed.
//!
//! - `PASS` and `PASS (superficial)` pass, `FAIL` and `BROKEN` fail; `SKIP` and `FLAKY` count as skipped, as
//!   autopkgtest's exit code counts them.
//! - `* SKIP no tests in this package` is a document that says that nothing was to be run.
//! - `badpkg:` and `erroneous package:` are failures of the package, `testbed failure:` and `quitting:` errors.
//! - Every other line is an error: what is not understood could hide a failure.

use crate::{
    parse_error::Fault,
    parsed::{DATA_FIELDS_MAX, Parsed, ParsedResult, RESULTS_MAX, Stop, append, clean_name, clean_text},
};
use model::{ErrorReason, Outcome, outcome::words};

/// The name for a whole package in place of a test's.
const EVERY_TEST: &str = "*";

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parsed = Parsed::default();
    let mut number = 0;
    for line in text.lines() {
        number += 1;
        let line = line.trim_end();
        if !line.is_empty() {
            read_line(number, line, &mut parsed)?;
        }
        if parsed.results.len() > RESULTS_MAX {
            return Err(Fault::new(number, format!("more than {RESULTS_MAX} results")).help("report fewer"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(Fault::new(number, "the last line is not ended").help("the document is truncated"));
    }
    if parsed.results.is_empty() && parsed.stop.is_none() {
        return Err(Fault::new(number.max(1), "the summary names no test")
            .help("autopkgtest died before it wrote one; see its log"));
    }
    Ok(parsed)
}

fn read_line(number: u32, line: &str, parsed: &mut Parsed) -> Result<(), Fault> {
    if let Some((about, said)) = line.split_once(": ").filter(|(about, _)| !about.contains("  ")) {
        let (name, outcome) = match about {
            "blame" => {
                note_blame(parsed, said);
                return Ok(());
            }
            "badpkg" | "erroneous package" => ("package", Outcome::Failed),
            "testbed failure" => ("testbed", Outcome::Error(ErrorReason::Task)),
            "quitting" => ("autopkgtest", Outcome::Error(ErrorReason::Task)),
            _ => ("", Outcome::Passed),
        };
        if !name.is_empty() {
            about_all(parsed, name, outcome, said);
            return Ok(());
        }
    }
    let (name, said) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let said = said.trim_start();
    let (word, reason) = said.split_once(' ').unwrap_or((said, ""));
    let Some(outcome) = words::autopkgtest(word) else {
        let shown = clean_name(&line.chars().take(60).collect::<String>());
        return Err(Fault::new(number, format!("`{shown}` is no line of a summary")).help(
            "expected a test's name and PASS, FAIL, SKIP, FLAKY or BROKEN; name autopkgtest's file `summary`",
        ));
    };
    if name == EVERY_TEST && outcome == Outcome::Skipped {
        parsed.stop = Some(Stop::Skipped(clean_text(reason).unwrap_or_else(|| "nothing to test".to_owned())));
        return Ok(());
    }
    let mut result = ParsedResult::new(name, outcome);
    let reason = if word == "FLAKY" { format!("flaky: {reason}") } else { reason.to_owned() };
    result.message = clean_text(reason.trim_matches(['(', ')']));
    parsed.results.push(result);
    Ok(())
}

/// The packages that autopkgtest blames, beside the result before.
fn note_blame(parsed: &mut Parsed, blamed: &str) {
    if let Some(last) = parsed.results.last_mut().filter(|last| last.data.len() < DATA_FIELDS_MAX) {
        last.data.insert("blame".to_owned(), clean_name(blamed));
    }
}

/// What is said of the package or the testbed as a whole; said again, or more of a test that failed for it, it
/// is one result.
fn about_all(parsed: &mut Parsed, name: &str, outcome: Outcome, said: &str) {
    let before = parsed.results.last_mut().filter(|last| {
        last.outcome == outcome && (last.name == name || last.message.as_deref() == Some("badpkg"))
    });
    match before {
        Some(last) if last.message.as_deref().is_some_and(|message| message.contains(said)) => {}
        Some(last) => {
            append(last.message.get_or_insert_default(), said);
            last.message = last.message.take().and_then(|text| clean_text(&text));
        }
        None => {
            let mut result = ParsedResult::new(name, outcome);
            result.message = clean_text(said);
            parsed.results.push(result);
        }
    }
}
