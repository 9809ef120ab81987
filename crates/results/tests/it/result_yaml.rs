//! Taskotron's ResultYAML.

use super::shown;
use model::{Item, task_file::ResultFormat};
use taskbot_results::{conclude, parse, report};

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Resultyaml, document), expect, "\n{document}");
}

const DEPCHECK: &str = "results:
- {artifact: xchat-2.8.8-21.fc42.x86_64.log, checkname: dist.depcheck, item: xchat-2.8.8-21.fc42, note: 5 ERRORS,
  outcome: FAILED, type: koji_build, arch: x86_64, count: 5, sure: yes, tags: [a, b], none: null}
- {checkname: dist.depcheck.upgrade, item: FEDORA-2026-1, outcome: PASSED, type: bodhi_update, _internal: {x: [1]}}
- {checkname: other, outcome: needs_inspection}
- {outcome: INFO}
";

#[test]
fn results_name_their_own_items() {
    check(
        DEPCHECK,
        "failed dist.depcheck of koji_build/xchat-2.8.8-21.fc42 (5 ERRORS) arch=x86_64 artifact=xchat-2.8.8-21.fc42.x86_64.log count=5 sure=true tags=[\"a\",\"b\"]
passed dist.depcheck.upgrade of bodhi_update/FEDORA-2026-1
needs_inspection other
info ",
    );
    check("results:\n", "");
    check("results: []\n", "");
    check(
        r#"{"results": [{"item": "a-1-1", "type": "koji_build", "outcome": "WAIVED"}]}"#,
        "info  of koji_build/a-1-1",
    );
    check(
        "results: [{outcome: ERROR}, {outcome: ABORTED}, {outcome: CRASHED}]",
        "error(task) \nerror(task) \nerror(task) ",
    );
}

#[test]
fn a_report_keeps_the_items() {
    let parsed = parse(ResultFormat::Resultyaml, "r.yml", DEPCHECK.as_bytes());
    let exit = [("0".to_owned(), "from-results".parse().unwrap())].into();
    let report = report(
        "dist.depcheck",
        Some(&Item::new("compose", "f42")),
        None,
        &conclude(0, &exit, None, vec![parsed]),
    );
    let told = |result: &model::result::NewResult| {
        format!("{} {} {}", result.testcase, result.item.as_ref().unwrap(), result.outcome)
    };
    let children: Vec<_> = report.children.iter().map(told).collect();
    assert_eq!(told(&report), "dist.depcheck compose/f42 failed");
    assert_eq!(
        children,
        [
            "dist.depcheck koji_build/xchat-2.8.8-21.fc42 failed",
            "dist.depcheck.upgrade bodhi_update/FEDORA-2026-1 passed",
            "dist.depcheck.other compose/f42 needs_inspection",
            "dist.depcheck compose/f42 info",
        ]
    );
}

#[test]
fn mistakes() {
    let begins = |document: &str, expect: &str| {
        let shown = shown(ResultFormat::Resultyaml, document);
        assert!(shown.starts_with(expect), "{document}\n{shown}");
    };
    begins("", "results:1: the document is empty");
    begins("result: []\n", "results:1:1: unknown field `result`");
    begins("[]", "results:1:");
    begins("results:\n- item: a\n  type: koji_build\n", "results:3:3: missing field `outcome`");
    begins("results:\n- {outcome: OK}\n", "results:2:13: `OK` is no outcome; known are PASSED,");
    begins("results:\n- {item: a, outcome: PASSED}\n", "results:2:3: a result with `item` needs `type`");
    begins("results:\n- {type: a, outcome: PASSED}\n", "results:2:3: a result with `type` needs `item`");
    begins(
        "results:\n- {outcome: PASSED, outcome: FAILED}\n",
        "results:2:21: duplicate mapping key: outcome",
    );
    begins(
        r#"{"results": [{"outcome": "PASSED", "outcome": "FAILED"}]}"#,
        "results:1:44: duplicate field `outcome`",
    );
    begins(r#"{"results": [{"note": "a", "outcome": "PASSED", "note": "b"}]}"#, "results:1:");
    begins("results: [\n", "results:");
    let many = taskbot_results::parsed::RESULTS_MAX + 1;
    begins(
        &format!("results:\n{}", "- {outcome: PASSED}\n".repeat(many)),
        "results:1: more than 9999 results",
    );
    let wide: String = (0..65).map(|n| format!("k{n}: 1, ")).collect();
    begins(
        &format!("results: [{{{wide} outcome: PASSED}}]"),
        "results:1:11: a result has more than 64 fields",
    );
}
