//! Exit code and results together.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use model::{
    Item,
    task_file::{ExitMeans, ResultFormat},
};
use std::collections::BTreeMap;
use taskbot_results::{conclude, parse, report};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, ExitMeans> {
    pairs.iter().map(|(code, means)| ((*code).to_owned(), means.parse().unwrap())).collect()
}

#[test]
fn conclusions() {
    let from_results: &[(&str, &str)] = &[("0", "from-results"), ("1", "from-results"), ("*", "error")];
    let plain: &[(&str, &str)] = &[("0", "passed"), ("1", "failed"), ("77", "skipped"), ("*", "error")];
    let check = |exit: &[(&str, &str)], code: i32, taps: &[&str], expect: &str, note: Option<&str>| {
        let documents = taps.iter().map(|tap| parse(ResultFormat::Tap, "r.tap", tap.as_bytes())).collect();
        let conclusion = conclude(code, &map(exit), None, documents);
        assert_eq!(
            (conclusion.outcome.as_str(), conclusion.note.as_deref()),
            (expect, note),
            "{code} {taps:?}"
        );
    };
    let (good, bad, todo) = ("1..1\nok 1", "1..2\nok 1\nnot ok 2", "1..1\nnot ok 1 # TODO");
    check(plain, 0, &[], "passed", None);
    check(plain, 1, &[], "failed", None);
    check(plain, 77, &[], "skipped", None);
    check(plain, 2, &[], "error(task)", Some("exit code 2"));
    check(plain, -9, &[], "error(task)", Some("exit code -9"));
    let hint = "exit code 126 (a command cannot be run: is its file executable, also in git?)";
    check(plain, 126, &[], "error(task)", Some(hint));
    let hint = "exit code 127 (a command is not there: is it installed, or named by its path, ./run.sh?)";
    check(plain, 127, &[], "error(task)", Some(hint));
    check(&[("0", "passed")], 3, &[], "error(task)", Some("exit code 3"));
    check(&[("0", "info"), ("*", "needs_inspection")], 3, &[], "needs_inspection", None);
    check(from_results, 0, &[good], "passed", None);
    check(from_results, 1, &[bad], "failed", None);
    check(from_results, 0, &[bad], "failed", None);
    check(from_results, 0, &[todo], "info", None);
    check(from_results, 0, &[good, todo], "info", None);
    check(from_results, 0, &[good, bad], "failed", None);
    check(from_results, 0, &["1..0 # SKIP no arch"], "skipped", Some("no arch"));
    check(from_results, 0, &["1..0 # SKIP no arch", good], "passed", None);
    check(from_results, 2, &[good], "error(task)", Some("exit code 2"));
    check(
        from_results,
        0,
        &[],
        "error(bad_results)",
        Some("exit code 0 leaves the outcome to the results, but there is no result file"),
    );
    // A document that cannot be read is never a pass, and neither is a failed result under a good exit code.
    let truncated = "r.tap:2: the plan on line 1 says 2 test points, but there are 1; the tests died early, the document is truncated, or the plan is wrong";
    check(from_results, 0, &["1..2\nok 1"], "error(bad_results)", Some(truncated));
    check(plain, 0, &["1..2\nok 1"], "error(bad_results)", Some(truncated));
    check(plain, 0, &[good, "1..2\nok 1"], "error(bad_results)", Some(truncated));
    check(plain, 0, &[bad], "failed", Some("exit code 0 says passed, but the results say failed"));
    check(plain, 77, &[bad], "failed", Some("exit code 77 says skipped, but the results say failed"));
    check(plain, 0, &[todo], "passed", None);
    check(plain, 1, &[good], "failed", Some("exit code 1 says failed, but the results say passed"));
    check(plain, 1, &[bad], "failed", None);
    let looks: &[(&str, &str)] = &[("1", "needs_inspection")];
    check(looks, 1, &[bad], "failed", None);
    check(
        looks,
        1,
        &[good],
        "needs_inspection",
        Some("exit code 1 says needs_inspection, but the results say passed"),
    );
    check(
        from_results,
        0,
        &["1..2\nok 1\nBail out! no disk"],
        "error(task)",
        Some("line 3: the tests bailed out: no disk"),
    );
    check(from_results, 0, &["Bail out!"], "error(task)", Some("line 1: the tests bailed out"));
    let many = format!("1..6000\n{}", "ok\n".repeat(6000));
    check(from_results, 0, &[&many], "passed", None);
    check(
        from_results,
        0,
        &[&many, &many],
        "error(bad_results)",
        Some("12000 results in 2 documents, the limit is 9999; report fewer"),
    );
    let empty = parse(ResultFormat::Json, "r.json", br#"{"results": []}"#);
    let conclusion = conclude(0, &map(from_results), None, vec![empty]);
    assert_eq!(conclusion.outcome.as_str(), "error(bad_results)");
    assert_eq!(
        conclusion.note.unwrap(),
        "exit code 0 leaves the outcome to the results, but the result file holds no results"
    );
}

#[test]
fn a_program_that_says_that_something_failed_is_not_contradicted_by_passes() {
    let check = |tap: &str, expect: &str, note: Option<&str>| {
        let document = parse(ResultFormat::Tap, "r.tap", tap.as_bytes());
        let conclusion = conclude(1, &map(&[("1", "from-failures")]), Some("r.tap"), vec![document]);
        assert_eq!((conclusion.outcome.as_str(), conclusion.note.as_deref()), (expect, note), "{tap}");
    };
    check("1..2\nok 1\nnot ok 2", "failed", None);
    check("1..1\nnot ok 1 # TODO", "info", None);
    check("1..1\nok 1", "failed", Some("exit code 1 says failed, but the results say passed"));
    let skipped = Some("exit code 1 says failed, but the results say skipped");
    check("1..1\nok 1 # SKIP", "failed", skipped);
    check("1..0 # SKIP", "failed", skipped);
}

#[test]
fn a_result_file_that_is_not_there_is_no_pass() {
    let check = |code: i32, exit: &[(&str, &str)], expect: &str, note: Option<&str>| {
        let conclusion = conclude(code, &map(exit), Some("r.xml"), Vec::new());
        assert_eq!((conclusion.outcome.as_str(), conclusion.note.as_deref()), (expect, note), "{exit:?}");
    };
    let missing = |says: &str| {
        format!(
            "exit code 0 {says}, but there is no result file `r.xml` below the work folder or $TASKBOT_OUTPUT"
        )
    };
    for said in ["passed", "info", "needs_inspection"] {
        check(0, &[("0", said)], "error(bad_results)", Some(&missing(&format!("says {said}"))));
    }
    for said in ["from-results", "from-failures"] {
        check(0, &[("0", said)], "error(bad_results)", Some(&missing("leaves the outcome to the results")));
    }
    for said in ["failed", "skipped", "not_applicable"] {
        check(0, &[("0", said)], said, None);
    }
    check(3, &[("0", "passed")], "error(task)", Some("exit code 3"));
}

#[test]
fn a_report_names_every_sub_result() {
    let document = r#"{"results": [{"name": "a.rpm", "outcome": "failed", "note": "bad",
        "children": [{"name": "rule", "outcome": "failed", "data": {"file": "/x"}}]}]}"#;
    let parsed = parse(ResultFormat::Json, "r.json", document.as_bytes());
    let conclusion = conclude(1, &map(&[("1", "from-results")]), None, vec![parsed]);
    let report = report("dist.rpmlint", Some(&Item::new("koji_build", "a-1-1.fc42")), Some(12), &conclusion);
    insta::assert_json_snapshot!(report, @r#"
    {
      "testcase": "dist.rpmlint",
      "item": {
        "type": "koji_build",
        "id": "a-1-1.fc42"
      },
      "outcome": "failed",
      "duration_ms": 12,
      "children": [
        {
          "testcase": "dist.rpmlint.a.rpm",
          "item": {
            "type": "koji_build",
            "id": "a-1-1.fc42"
          },
          "outcome": "failed",
          "note": "bad",
          "children": [
            {
              "testcase": "dist.rpmlint.a.rpm.rule",
              "item": {
                "type": "koji_build",
                "id": "a-1-1.fc42"
              },
              "outcome": "failed",
              "data": {
                "file": "/x"
              }
            }
          ]
        }
      ]
    }
    "#);
}

#[test]
fn every_format_has_its_parser() {
    for (format, name) in model::task_file::RESULT_FORMATS {
        let error = parse(format, "r", b"\xff").unwrap_err().to_string();
        let expect = match format {
            ResultFormat::Exit => {
                "r:1: format `exit` has no result document; name the document's format in `results`: tap, junit, json, tmt, autopkgtest, sarif, firehose, resultyaml"
            }
            ResultFormat::Tap => {
                "r:1: no plan for 0 test points; print `1..N` before or after the points; without it a truncated document looks whole"
            }
            ResultFormat::Autopkgtest => {
                "r:1: `\u{fffd}` is no line of a summary; expected a test's name and PASS, FAIL, SKIP, FLAKY or BROKEN; name autopkgtest's file `summary`"
            }
            _ => "r:1: the document is not UTF-8; write it in UTF-8; other encodings are not read",
        };
        assert_eq!(error, expect, "{name}");
    }
    let long = vec![b' '; taskbot_results::parsed::DOCUMENT_BYTES_MAX + 1];
    for (format, _) in model::task_file::RESULT_FORMATS {
        let error = parse(format, "r", &long).unwrap_err().to_string();
        assert_eq!(
            error,
            "r:1: the document has 16777217 bytes, the limit is 16777216; report fewer results, or move output into artifacts"
        );
    }
}
