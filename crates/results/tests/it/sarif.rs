//! SARIF 2.1.

use super::shown;
use model::task_file::ResultFormat;

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Sarif, document), expect, "\n{document}");
}

/// A document with one run: further members of the run, and its tool's rules.
fn run(members: &str, rules: &str) -> String {
    format!(
        r#"{{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [
  {{"tool": {{"driver": {{"name": "GNU C17", "version": "15.1.1", "rules": [{rules}]}}}}, {members}}}]}}"#
    )
}

fn results(entries: &str) -> String {
    run(&format!(r#""invocations": [{{"executionSuccessful": true}}], "results": [{entries}]"#), "")
}

#[test]
fn a_compiler_that_analyses() {
    check(
        &run(
            r#""artifacts": [{"location": {"uri": "src/a.c"}}], "invocations": [{"executionSuccessful": true, "toolExecutionNotifications": []}],
             "results": [
              {"ruleId": "-Wanalyzer-double-free", "level": "warning", "message": {"text": "double-'free' of 'p'"},
               "locations": [{"physicalLocation": {"artifactLocation": {"uri": "src/a.c", "uriBaseId": "PWD"},
                 "region": {"startLine": 12, "startColumn": 3, "endColumn": 11}}, "logicalLocations": [{"name": "f", "fullyQualifiedName": "ns::f"}]}],
               "codeFlows": [{"threadFlows": [{"id": "main", "locations": [
                 {"location": {"physicalLocation": {"artifactLocation": {"index": 0}, "region": {"startLine": 7}}, "message": {"text": "first 'free' here"}}, "nestingLevel": 1},
                 {"location": {"message": {"text": "second"}}}, {}]}]}, {"threadFlows": []}]},
              {"ruleId": "error", "level": "error", "message": {"text": "expected ';'"}, "locations": [{"physicalLocation": {"artifactLocation": {"index": 0}, "region": {"startLine": 9}}}]},
              {"ruleId": "-Wx", "level": "note", "message": {"text": "n"}, "locations": []}]"#,
            "",
        ),
        "failed GNU C17 version=15.1.1
  needs_inspection -Wanalyzer-double-free (double-'free' of 'p') column=3 file=src/a.c function=ns::f level=warning line=12 rule=-Wanalyzer-double-free <<src/a.c:7: first 'free' here|?:?: second>>
  failed error (expected ';') file=src/a.c level=error line=9 rule=error
  info -Wx (n) level=note rule=-Wx",
    );
    check(&results(""), "passed GNU C17 version=15.1.1");
    check(r#"{"version": "2.1.0", "runs": []}"#, "");
}

#[test]
fn levels_come_from_rules() {
    let rules = r#"{"id": "A", "defaultConfiguration": {"level": "error"}, "messageStrings": {"default": {"text": "{0} leaks {1}, {0}"}}},
        {"id": "B", "defaultConfiguration": {"enabled": true}}"#;
    check(
        &run(
            r#""results": [
            {"ruleId": "A", "message": {"id": "default", "arguments": ["p", "here"]}},
            {"ruleId": "A/part", "message": {"text": "a part"}},
            {"ruleIndex": 0, "message": {"text": "by index"}},
            {"rule": {"index": 1}, "message": {"text": "by reference"}},
            {"rule": {"id": "A"}, "level": "note", "message": {"markdown": "*own* level"}},
            {"ruleIndex": 7, "message": {"text": "no such rule"}},
            {"message": {"text": "no rule at all"}}]"#,
            rules,
        ),
        "failed GNU C17 version=15.1.1
  failed A (p leaks here, p) level=error rule=A
  failed A/part (a part) level=error rule=A/part
  failed A (by index) level=error rule=A
  needs_inspection B (by reference) level=warning rule=B
  info A (*own* level) level=note rule=A
  needs_inspection finding (no such rule) level=warning
  needs_inspection finding (no rule at all) level=warning",
    );
}

#[test]
fn a_rule_is_found_in_its_component_and_its_level_can_be_set_by_the_run() {
    let document = r#"{"version": "2.1.0", "runs": [{"tool": {
        "driver": {"name": "d", "rules": [{"id": "own", "defaultConfiguration": {"level": "note"}}, {"id": "loud", "defaultConfiguration": {"level": "error"}}]},
        "extensions": [{"name": "pack", "rules": [{"id": "cpp/x", "defaultConfiguration": {"level": "error"}}]}]},
        "invocations": [{"executionSuccessful": true, "ruleConfigurationOverrides": [
            {"descriptor": {"id": "loud"}, "configuration": {"level": "note"}},
            {"descriptor": {"index": 0}, "configuration": {"level": "warning"}},
            {"descriptor": {"id": "cpp/x"}, "configuration": {"enabled": true}}]}],
        "results": [
            {"rule": {"id": "cpp/x", "index": 0, "toolComponent": {"name": "pack"}}, "message": {"text": "by the component's name"}},
            {"rule": {"index": 0, "toolComponent": {"index": 0}}, "message": {"text": "by its index"}},
            {"ruleId": "cpp/x", "ruleIndex": 0, "message": {"text": "an index of another rule"}},
            {"ruleId": "loud", "message": {"text": "toned down"}},
            {"ruleId": "own", "message": {"text": "toned up"}}]}]}"#;
    check(
        document,
        "failed d
  failed cpp/x (by the component's name) level=error rule=cpp/x
  failed cpp/x (by its index) level=error rule=cpp/x
  failed cpp/x (an index of another rule) level=error rule=cpp/x
  info loud (toned down) level=note rule=loud
  needs_inspection own (toned up) level=warning rule=own",
    );
}

#[test]
fn kinds_suppressions_and_baselines() {
    check(
        &results(
            r#"{"ruleId": "a", "kind": "pass", "message": {"text": "m"}}, {"ruleId": "b", "kind": "notApplicable"},
             {"ruleId": "c", "kind": "review"}, {"ruleId": "d", "kind": "open"}, {"ruleId": "e", "kind": "informational"},
             {"ruleId": "f", "kind": "fail", "level": "none"}"#,
        ),
        "needs_inspection GNU C17 version=15.1.1
  passed a (m) kind=pass level=none rule=a
  not_applicable b kind=notApplicable level=none rule=b
  needs_inspection c kind=review level=none rule=c
  needs_inspection d kind=open level=none rule=d
  info e kind=informational level=none rule=e
  info f level=none rule=f",
    );
    check(
        &results(
            r#"{"ruleId": "a", "level": "error", "message": {"text": "m"}, "suppressions": [{"kind": "inSource", "justification": "known"}]},
             {"ruleId": "b", "level": "error", "suppressions": [{"kind": "external", "status": "underReview"}]},
             {"ruleId": "c", "level": "error", "suppressions": []},
             {"ruleId": "d", "level": "error", "message": {"text": "m"}, "baselineState": "absent"},
             {"ruleId": "e", "level": "error", "baselineState": "unchanged"}"#,
        ),
        "failed GNU C17 version=15.1.1
  info a (suppressed (known): m) level=error rule=a
  failed b level=error rule=b
  failed c level=error rule=c
  info d (no longer there: m) level=error rule=d
  failed e level=error rule=e",
    );
}

#[test]
fn a_failed_analyser_is_an_error() {
    check(
        &run(
            r#""invocations": [{"executionSuccessful": false, "exitCode": 4, "exitCodeDescription": "cannot parse"}], "results": []"#,
            "",
        ),
        "error(task) GNU C17 version=15.1.1
  error(task) invocation (the tool says that it failed; exit code 4; cannot parse) rule=invocation",
    );
    check(
        &run(
            r#""invocations": [{"executionSuccessful": true, "exitSignalName": "SIGSEGV",
               "toolExecutionNotifications": [{"level": "error", "message": {"text": "out of memory"}, "descriptor": {"id": "OOM"}},
                 {"level": "warning", "message": {"text": "slow"}}, {"message": {"text": "default is a warning"}}],
               "toolConfigurationNotifications": [{"level": "error", "message": {"text": "no such checker"}}]}],
             "results": [{"ruleId": "a", "level": "note", "message": {"text": "m"}}]"#,
            "",
        ),
        "error(task) GNU C17 version=15.1.1
  error(task) OOM (out of memory) rule=OOM
  error(task) notification (no such checker) rule=notification
  error(task) invocation (it was killed by signal SIGSEGV) rule=invocation
  info a (m) level=note rule=a",
    );
    let nothing = "error(task) GNU C17 version=15.1.1
  error(task) invocation (the run has no `results`, not even an empty list: the tool did not get to them) rule=invocation";
    check(&run(r#""columnKind": "unicodeCodePoints""#, ""), nothing);
    check(&run(r#""results": null"#, ""), nothing);
    check(
        &run(
            r#""invocations": [{"executionSuccessful": true, "processStartFailureMessage": "no such file"}], "results": []"#,
            "",
        ),
        "error(task) GNU C17 version=15.1.1\n  error(task) invocation (no such file) rule=invocation",
    );
}

#[test]
fn the_same_finding_counts_once() {
    let entry = r#"{"ruleId": "a", "level": "error", "message": {"text": "m"}, "locations": [{"physicalLocation": {"artifactLocation": {"uri": "x.h"}, "region": {"startLine": 1}}}]}"#;
    let other = entry.replace("\"startLine\": 1", "\"startLine\": 2");
    check(
        &results(&format!("{entry}, {entry}, {other}, {entry}")),
        "failed GNU C17 version=15.1.1
  failed a (m) file=x.h level=error line=1 rule=a times=3
  failed a (m) file=x.h level=error line=2 rule=a",
    );
}

#[test]
fn mistakes() {
    let begins = |document: &str, expect: &str| {
        let shown = shown(ResultFormat::Sarif, document);
        assert!(shown.starts_with(expect), "{document}\n{shown}");
    };
    begins("", "results:1: EOF while parsing a value; the document is truncated");
    begins("{}", "results:1:2: missing field `version`");
    begins(r#"{"version": "2.1.0"}"#, "results:1:20: missing field `runs`");
    begins(r#"{"version": "2.0.0", "runs": []}"#, "results:1: SARIF version `2.0.0` is not known");
    begins(r#"{"version": "2.1.0", "runs": null}"#, "results:1:33: invalid type: null");
    begins(
        "{\"version\": \"2.1.0\", \"runs\": [{\"tool\": {\"driver\": {}}}]}",
        "results:1:52: missing field `name`",
    );
    begins(&results(r#"{"level": "fatal"}"#), "results:2:155: unknown variant `fatal`");
    begins(&results(r#"{"kind": "bad"}"#), "results:2:");
    begins(&results(r#"{"level": "error", "level": "none"}"#), "results:2:");
    let whole = results(r#"{"ruleId": "a", "level": "note", "message": {"text": "m"}}"#);
    for cut in 1..whole.len() {
        assert!(shown(ResultFormat::Sarif, &whole[..cut]).starts_with("results:"), "{}", &whole[..cut]);
    }
    let many = taskbot_results::parsed::RESULTS_MAX;
    let entries: Vec<String> = (0..many).map(|n| format!(r#"{{"message": {{"text": "{n}"}}}}"#)).collect();
    begins(
        &results(&entries.join(",")),
        "results:1: more than 9999 findings; report fewer: leave out rules or files",
    );
}
