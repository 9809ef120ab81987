//! What does not need an executor; attempts as a whole are run in `tests/it`.

use super::*;
use crate::{config, fetch, files, git::TreeLimits, logs, secrets};
use model::{
    TaskId, attempt::AttemptRef, protocol, result, retry, task, task_file, units::format_size, yaml,
};
use results::parsed;

/// A job of a task file.
pub(super) fn job(yaml: &str) -> Job {
    let (file, _) = task_file::parse("task.yaml", yaml).unwrap_or_else(|report| panic!("{report}"));
    Job {
        held: Held { task: TaskId::new(uuid::Uuid::nil()), attempt: AttemptRef { attempt: 1, fence: 1 } },
        name: file.name.clone().into(),
        item: None,
        inputs: Map::new(),
        trust: Trust::Untrusted,
        secrets: Vec::new(),
        file,
        source: Source::Folder("/nowhere".into()),
        dir: String::new(),
        hold: None,
        timeout_cap: None,
        traceparent: None,
    }
}

#[test]
fn only_the_last_attempt_reports_results() {
    let job = job("name: t\nrun: 'true'\nretry: {on: [error], max: 1}\n");
    let check = |attempt: u32, outcome: Outcome, expect: bool| {
        let mut job = job.clone();
        job.held.attempt.attempt = attempt;
        assert_eq!(
            is_last(&job, &AttemptEnd::Outcome { outcome, reason: None }),
            expect,
            "{attempt} {outcome}"
        );
    };
    check(1, Outcome::Passed, true);
    check(1, Outcome::Failed, true);
    check(1, Outcome::Error(ErrorReason::Infra), false);
    check(2, Outcome::Error(ErrorReason::Infra), true);
    check(1, Outcome::Error(ErrorReason::Timeout), true);
    assert!(!is_last(&job, &AttemptEnd::HandedBack { reason: String::new() }));
}

#[test]
fn reasons_are_one_line_and_name_what_is_to_blame() {
    let result = |testcase: &str, outcome: Outcome, children: Vec<NewResult>| NewResult {
        testcase: testcase.to_owned(),
        item: None,
        outcome,
        note: None,
        duration_ms: None,
        data: Map::new(),
        children,
    };
    let bad = |name: &str| result(name, Outcome::Failed, Vec::new());
    let good = result("t.ok", Outcome::Passed, Vec::new());
    let check = |children: Vec<NewResult>, expect: Option<&str>| {
        assert_eq!(reason(&result("t", Outcome::Failed, children)).as_deref(), expect);
    };
    check(vec![], None);
    check(vec![good.clone(), bad("t.a")], Some("failed: t.a"));
    check(
        vec![good, result("t.g", Outcome::Failed, vec![bad("t.g.b"), bad("t.g.c")])],
        Some("failed: t.g.b and 1 more"),
    );
    let lost = result("t.e", Outcome::Error(ErrorReason::Task), Vec::new());
    check(vec![bad("t.a"), lost, bad("t.b")], Some("error: t.e; failed: t.a and 1 more"));
    check(
        vec![result("t.g", Outcome::Error(ErrorReason::Task), vec![bad("t.g.b")])],
        Some("error: t.g; failed: t.g.b"),
    );
    let long = "x".repeat(RESULT_BYTES_MAX / 1050);
    let noted = NewResult { note: Some(long.clone()), ..bad("t.a") };
    let mut whole = result("t", Outcome::Failed, vec![noted; 1000]);
    shorten(&mut whole);
    assert_eq!((whole.children.len(), whole.note.as_ref()), (1000, None), "it fits");
    whole.children.extend(vec![NewResult { note: Some(long.clone()), ..bad("t.b") }; 100]);
    shorten(&mut whole);
    assert_eq!((whole.children.len(), whole.outcome), (1100, Outcome::Failed));
    assert!(whole.children.iter().all(|child| child.note.is_none()) && whole.note.is_some());
    whole.children = vec![bad(&long); 1100];
    shorten(&mut whole);
    assert_eq!((whole.children.len(), whole.outcome.as_str()), (0, "error(bad_results)"));
    assert_eq!(one_line(" a\n\n  b\r\nc\0"), "a | b | c\u{fffd}");
    assert!(one_line(&"€".repeat(TASK_TEXT_BYTES_MAX)).len() <= TASK_TEXT_BYTES_MAX);
}

#[test]
fn the_limits_in_the_docs_are_those_of_the_code() {
    let docs = include_str!("../../../../docs/tasks.md");
    let size = |bytes: usize| format_size(u64::try_from(bytes).unwrap());
    let tree = TreeLimits::default();
    let days = |limit: Duration| limit.as_secs() / (24 * 3600);
    for (what, limit) in [
        ("`task.yaml`", format!("{}, {} levels deep", size(yaml::FILE_BYTES_MAX), yaml::DEPTH_MAX)),
        ("a phase's time limit", format!("{} day", days(task_file::PHASE_TIMEOUT_MAX))),
        ("`retry.max`", retry::RETRIES_MAX.to_string()),
        (
            "`artifacts.max`",
            format!(
                "{}; {} when not given",
                format_size(task_file::ARTIFACTS_BYTES_MAX),
                format_size(task_file::ARTIFACTS_BYTES_DEFAULT)
            ),
        ),
        (
            "artifacts of an attempt",
            format!(
                "{} files, {} bytes of path, {} folders deep",
                config::ARTIFACT_FILES_DEFAULT,
                files::PATH_BYTES_MAX,
                files::DEPTH_MAX
            ),
        ),
        ("inputs of a task, as JSON", size(task::INPUTS_BYTES_MAX)),
        ("an input as a variable", size(VARIABLE_BYTES_MAX)),
        ("a secret", size(secrets::SECRET_BYTES_MAX)),
        (
            "a repository's files",
            format!("{}, {} files and folders", format_size(tree.total_bytes), tree.entries),
        ),
        ("a redirect when fetching", format!("{} in a row", fetch::FETCH_REDIRECTS_MAX)),
        ("a result file", size(parsed::DOCUMENT_BYTES_MAX)),
        ("results of an attempt, all files and levels together", parsed::RESULTS_MAX.to_string()),
        ("how deep results are nested", format!("{} levels", parsed::DEPTH_MAX)),
        ("a result's name", format!("{} bytes", parsed::NAME_BYTES_MAX)),
        ("a result's note", size(result::NOTE_BYTES_MAX)),
        ("a result's fields", parsed::DATA_FIELDS_MAX.to_string()),
        ("all results of an attempt, as JSON", size(RESULT_BYTES_MAX)),
        ("the log of an attempt", format_size(protocol::LOG_BYTES_MAX)),
        ("a line of the log", size(logs::LOG_LINE_BYTES_MAX)),
        (
            "steps of a `console`, and the text of each",
            format!("{}, {} bytes", task_file::CONSOLE_STEPS_MAX, task_file::CONSOLE_TEXT_BYTES_MAX),
        ),
        (
            "a hold",
            format!("{} days, and `worker.hold.max`", days(Duration::from_secs(task::HOLD_SECONDS_MAX))),
        ),
    ] {
        let row = format!("\n| {what} | {limit} |");
        assert!(docs.contains(&row), "docs/tasks.md has no row{row}");
    }
}
