//! What outcomes are called elsewhere: one function for each format, program and system. The same table for
//! people is `docs/outcomes.md`; a test holds the two together.
//!
//! A word that a function does not know is no outcome (`None`): its caller says so, and never takes it for a
//! pass.

use super::{ErrorReason, Outcome};
use crate::task_file::ExitMeans;

const TASK: Outcome = Outcome::Error(ErrorReason::Task);
const INFRA: Outcome = Outcome::Error(ErrorReason::Infra);

/// The exit code of a task without a result file.
#[must_use]
pub fn exit_code(code: u8) -> ExitMeans {
    ExitMeans::Outcome(match code {
        0 => Outcome::Passed,
        1 => Outcome::Failed,
        _ => TASK,
    })
}

/// The exit code of a task with a result file, in a format whose programs are not known. With 1 they say that
/// something failed or was found.
#[must_use]
pub fn test_exit_code(code: u8) -> ExitMeans {
    match code {
        0 => ExitMeans::FromResults,
        1 => ExitMeans::FromFailures,
        _ => ExitMeans::Outcome(TASK),
    }
}

/// The exit code of `tmt run`: 1 is a failure or a warning, of which the results say more, 3 no results, 4
/// nothing but skipped tests.
#[must_use]
pub fn tmt_exit_code(code: u8) -> ExitMeans {
    match code {
        0 => ExitMeans::FromResults,
        1 => ExitMeans::Outcome(Outcome::NeedsInspection),
        3 => ExitMeans::Outcome(Outcome::NotApplicable),
        4 => ExitMeans::Outcome(Outcome::Skipped),
        _ => ExitMeans::Outcome(TASK),
    }
}

/// The exit code of `autopkgtest`. The bits are 2 (a test was skipped, or a flaky one failed), 4 (a test
/// failed) and 8; 8 alone is a package without tests that say anything, with 4 an erroneous package, which
/// Debian's own infrastructure counts as failed; 16 is a broken testbed, 20 bad usage. 1 is not its own, but what
/// a script around it says when something failed.
#[must_use]
pub fn autopkgtest_exit_code(code: u8) -> ExitMeans {
    match code {
        0 => ExitMeans::Outcome(Outcome::Passed),
        1 => ExitMeans::FromFailures,
        2 => ExitMeans::FromResults,
        4 | 6 | 12 | 14 => ExitMeans::Outcome(Outcome::Failed),
        8 => ExitMeans::Outcome(Outcome::Skipped),
        _ => ExitMeans::Outcome(TASK),
    }
}

/// A directive of TAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapDirective {
    /// `# SKIP`
    Skip,
    /// `# TODO`
    Todo,
}

/// A test point of TAP.
#[must_use]
pub const fn tap(ok: bool, directive: Option<TapDirective>) -> Outcome {
    match (ok, directive) {
        (_, Some(TapDirective::Skip)) => Outcome::Skipped,
        (true, _) => Outcome::Passed,
        (false, Some(TapDirective::Todo)) => Outcome::Info,
        (false, None) => Outcome::Failed,
    }
}

/// An element inside a test case of JUnit XML, in any case. Surefire's flaky tests passed after they had failed; a
/// `warning` is PHPUnit's.
#[must_use]
pub fn junit(element: &str) -> Option<Outcome> {
    Some(match element.to_ascii_lowercase().as_str() {
        "failure" | "rerunfailure" => Outcome::Failed,
        "error" | "rerunerror" => TASK,
        "skipped" | "disabled" | "ignored" => Outcome::Skipped,
        "warning" => Outcome::NeedsInspection,
        "flakyfailure" | "flakyerror" => Outcome::Info,
        _ => return None,
    })
}

/// The attribute `status` or `result` of a test case in JUnit XML (GoogleTest, CTest, behave, Jenkins …), in any case.
/// Where it says that a case passed, the elements inside still decide. A word that is not known is `None`.
#[must_use]
pub fn junit_status(status: &str) -> Option<Outcome> {
    Some(match status.trim().to_ascii_lowercase().as_str() {
        "fail" | "failed" | "failure" | "regression" => Outcome::Failed,
        "error" | "errored" | "broken" | "undefined" | "aborted" | "crashed" | "interrupted" | "killed"
        | "timeout" | "timedout" | "timed_out" => TASK,
        "unstable" | "warning" => Outcome::NeedsInspection,
        "flaky" => Outcome::Info,
        "skip" | "skipped" | "notrun" | "not_run" | "disabled" | "suppressed" | "ignored" | "untested"
        | "pending" | "todo" => Outcome::Skipped,
        "pass" | "passed" | "success" | "successful" | "succeeded" | "ok" | "fixed" | "run" | "executed"
        | "completed" | "finished" | "done" => Outcome::Passed,
        _ => return None,
    })
}

/// `result` in tmt's `results.yaml`. A warning must not pass there; what is pending did not run to its end.
#[must_use]
pub fn tmt(result: &str) -> Option<Outcome> {
    Some(match result {
        "pass" => Outcome::Passed,
        "fail" => Outcome::Failed,
        "info" => Outcome::Info,
        "warn" => Outcome::NeedsInspection,
        "skip" => Outcome::Skipped,
        "error" | "pending" => TASK,
        _ => return None,
    })
}

/// The word behind a test's name in autopkgtest's summary. A flaky test that failed counts there as one that
/// was skipped; a broken test description is a broken package.
#[must_use]
pub fn autopkgtest(word: &str) -> Option<Outcome> {
    Some(match word {
        "PASS" => Outcome::Passed,
        "FAIL" | "BROKEN" => Outcome::Failed,
        "SKIP" | "FLAKY" => Outcome::Skipped,
        _ => return None,
    })
}

/// `kind` and `level` of a result in SARIF 2.1; the level decides only where the kind is `fail`.
#[must_use]
pub fn sarif(kind: &str, level: &str) -> Option<Outcome> {
    Some(match (kind, level) {
        ("fail", "error") => Outcome::Failed,
        ("fail", "warning") => Outcome::NeedsInspection,
        ("fail", "note" | "none") | ("informational", _) => Outcome::Info,
        ("pass", _) => Outcome::Passed,
        ("notApplicable", _) => Outcome::NotApplicable,
        ("open" | "review", _) => Outcome::NeedsInspection,
        _ => return None,
    })
}

/// A result of Firehose: `issue` with its severity, which every analyser names in its own way, `failure` or
/// `info`. An issue of no severity or an unknown one is a failure.
#[must_use]
pub fn firehose(kind: &str, severity: Option<&str>) -> Option<Outcome> {
    let severity = severity.map(str::to_ascii_lowercase);
    Some(match (kind, severity.as_deref()) {
        (
            "issue",
            Some("style" | "performance" | "portability" | "information" | "info" | "note" | "low" | "1"),
        ) => Outcome::Info,
        ("issue", Some("warning" | "medium" | "2")) => Outcome::NeedsInspection,
        ("issue", _) => Outcome::Failed,
        ("failure", _) => TASK,
        ("info", _) => Outcome::Info,
        _ => return None,
    })
}

/// `outcome` in Taskotron's ResultYAML, in any case.
#[must_use]
pub fn result_yaml(outcome: &str) -> Option<Outcome> {
    Some(match outcome.to_ascii_uppercase().as_str() {
        "PASSED" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "INFO" | "WAIVED" => Outcome::Info,
        "NEEDS_INSPECTION" => Outcome::NeedsInspection,
        "ERROR" | "ABORTED" | "CRASHED" => TASK,
        _ => return None,
    })
}

/// The status of a paddles job, as reported. A job that waits or runs, or whose status is unknown, has no
/// outcome yet.
#[must_use]
pub fn from_paddles(status: &str) -> Option<Outcome> {
    Some(match status {
        "pass" => Outcome::Passed,
        "fail" => Outcome::Failed,
        "dead" => INFRA,
        _ => return None,
    })
}

/// The status that paddles' clients see.
#[must_use]
pub const fn paddles(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed | Outcome::Info | Outcome::Skipped | Outcome::NotApplicable => "pass",
        Outcome::Failed | Outcome::NeedsInspection => "fail",
        Outcome::Error(_) => "dead",
    }
}

/// The exit code of a phase of a Testflinger job. Only `test` says something about what is tested; code 46 is
/// the agent's word for a device that it could not recover, a negative one a signal.
#[must_use]
pub fn from_testflinger(phase: &str, code: i64) -> Outcome {
    match (phase, code) {
        (_, 0) => Outcome::Passed,
        (_, 46) => INFRA,
        ("test", ..0) => TASK,
        ("test", _) => Outcome::Failed,
        _ => INFRA,
    }
}

/// The phase that decides and its exit code, as Testflinger's clients see them.
#[must_use]
pub const fn testflinger(outcome: Outcome) -> (&'static str, i64) {
    match outcome {
        Outcome::Passed | Outcome::Info | Outcome::Skipped | Outcome::NotApplicable => ("test", 0),
        Outcome::Failed | Outcome::NeedsInspection => ("test", 1),
        Outcome::Error(ErrorReason::Task | ErrorReason::BadResults | ErrorReason::BadTask) => ("test", 3),
        Outcome::Error(ErrorReason::Timeout) => ("test", 124),
        Outcome::Error(_) => ("provision", 1),
    }
}

/// A stage of an ALTS result. What comes before the package is installed, and what comes after the tests,
/// says nothing about the package.
#[must_use]
pub fn from_alts(stage: &str, success: bool) -> Outcome {
    match stage {
        _ if success => Outcome::Passed,
        "prepare_environment"
        | "initialize_terraform"
        | "start_environment"
        | "initial_provision"
        | "system_info"
        | "stop_environment" => INFRA,
        _ => Outcome::Failed,
    }
}

/// The state that ALTS' clients see: a test that failed is a task that succeeded.
#[must_use]
pub const fn alts(outcome: Outcome) -> &'static str {
    if outcome.is_error() { "FAILURE" } else { "SUCCESS" }
}

/// The outcomes that every ResultsDB takes; more are its configuration.
pub const RESULTSDB_OUTCOMES: [&str; 4] = ["PASSED", "INFO", "FAILED", "NEEDS_INSPECTION"];

/// A ResultsDB outcome, in any case. `QUEUED` and `RUNNING` are no outcomes yet.
#[must_use]
pub fn from_resultsdb(outcome: &str) -> Option<Outcome> {
    Some(match outcome.trim().to_ascii_uppercase().as_str() {
        "PASSED" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "INFO" => Outcome::Info,
        "NEEDS_INSPECTION" => Outcome::NeedsInspection,
        "SKIPPED" => Outcome::Skipped,
        "NOT_APPLICABLE" => Outcome::NotApplicable,
        "ERROR" => TASK,
        _ => return None,
    })
}

/// The word for a ResultsDB that takes `additional` ones beyond [`RESULTSDB_OUTCOMES`]: where it has none of
/// its own, what was not run is `INFO`, and an error `NEEDS_INSPECTION`, since a person must look.
#[must_use]
pub fn resultsdb(outcome: Outcome, additional: &[&str]) -> &'static str {
    let (own, plain) = match outcome {
        Outcome::Passed => return "PASSED",
        Outcome::Failed => return "FAILED",
        Outcome::Info => return "INFO",
        Outcome::NeedsInspection => return "NEEDS_INSPECTION",
        Outcome::Skipped => ("SKIPPED", "INFO"),
        Outcome::NotApplicable => ("NOT_APPLICABLE", "INFO"),
        Outcome::Error(_) => ("ERROR", "NEEDS_INSPECTION"),
    };
    if additional.contains(&own) { own } else { plain }
}

/// The last word of a Fedora CI message's topic and, unless that is `error`, `test.result` inside.
#[must_use]
pub const fn ci_message(outcome: Outcome) -> (&'static str, Option<&'static str>) {
    let result = match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Info => "info",
        Outcome::NeedsInspection => "needs_inspection",
        Outcome::Skipped | Outcome::NotApplicable => "not_applicable",
        Outcome::Error(_) => return ("error", None),
    };
    ("complete", Some(result))
}

/// The outcome that a Fedora CI message tells; `queued` and `running` tell none.
#[must_use]
pub fn from_ci_message(status: &str, result: Option<&str>) -> Option<Outcome> {
    Some(match (status, result) {
        ("error", _) => INFRA,
        ("complete", Some("passed")) => Outcome::Passed,
        ("complete", Some("failed")) => Outcome::Failed,
        ("complete", Some("info")) => Outcome::Info,
        ("complete", Some("needs_inspection")) => Outcome::NeedsInspection,
        ("complete", Some("not_applicable")) => Outcome::NotApplicable,
        _ => return None,
    })
}
