//! The plain list of results.

use super::shown;
use model::task_file::ResultFormat;

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Json, document), expect, "\n{document}");
}

#[test]
fn results() {
    check(
        r#"{"results": [
            {"name": "a", "outcome": "passed"},
            {"name": "b", "outcome": "passed", "note": "two\nlines", "duration_ms": 3,
             "data": {"file": "x.c", "line": 7, "sure": true},
             "children": [{"name": "c", "outcome": "failed"}, {"name": "d", "outcome": "info"}]},
            {"name": "e", "outcome": "not_applicable"},
            {"name": "f", "outcome": "error"}
        ]}"#,
        "passed a\nfailed b [3 ms] (two\nlines) file=x.c line=7 sure=true\n  failed c\n  info d\nnot_applicable e\nerror(task) f",
    );
    check(r#"{"results": []}"#, "");
    check(
        "\u{feff}{\"results\": [{\"name\": \"nul\\u0000l\", \"outcome\": \"needs_inspection\"}]}",
        "needs_inspection nul l",
    );
}

#[test]
fn mistakes() {
    let begins = |document: &str, expect: &str| {
        let shown = shown(ResultFormat::Json, document);
        assert!(shown.starts_with(expect), "{document}\n{shown}");
    };
    begins("", "results:1: EOF while parsing");
    begins("{\"results\": [\n{\"name\": \"a\", \"outcome\": \"passed\"},\n", "results:3: EOF while parsing");
    begins(
        "{\"results\": [\n{\"name\": \"a\", \"outcome\": \"ok\"}]}",
        "results:2:29: unknown variant `ok`, expected one of `passed`",
    );
    begins(
        r#"{"results": [{"name": "a", "outcome": "error(lost)"}]}"#,
        "results:1:51: unknown variant `error(lost)`",
    );
    begins(r#"{"results": [{"name": "a"}]}"#, "results:1:26: missing field `outcome`");
    begins(
        r#"{"results": [{"name": "a", "outcome": "passed", "outcome": "failed"}]}"#,
        "results:1:57: duplicate field `outcome`",
    );
    begins(
        r#"{"results": [{"name": "a", "outcome": "passed", "notes": "x"}]}"#,
        "results:1:55: unknown field `notes`",
    );
    begins(r#"{"result": []}"#, "results:1:9: unknown field `result`");
    begins(r#"{"results": []} []"#, "results:1:17: trailing characters");
    begins(
        r#"{"results": [{"name": " ", "outcome": "passed"}]}"#,
        "results:1: result number 1 has an empty name",
    );
    begins(
        "{\"results\": [\n{\"name\": \"a\", \"outcome\": \"passed\", \"data\": {\"k\": []}}]}",
        "results:2:52: a value of `data` must be a text, a number or a boolean",
    );
    begins("[]", "results:1:2: invalid");
    begins("{\"ünï\": 1}", "results:1:6: unknown field `ünï`");
}

#[test]
fn limits() {
    let many = taskbot_results::parsed::RESULTS_MAX + 1;
    let entries = vec![r#"{"name": "a", "outcome": "passed"}"#; many].join(",");
    check(
        &format!("{{\"results\": [{entries}]}}"),
        &format!("results:1: more than {} results; report fewer", many - 1),
    );
    let nested = |depth: usize| {
        let open = r#"{"name": "a", "outcome": "passed", "children": ["#.repeat(depth);
        format!("{{\"results\": [{open}{}]}}", "]}".repeat(depth))
    };
    check(&nested(17), "results:1: results are nested deeper than 16 at `a`");
    assert!(shown(ResultFormat::Json, &nested(10_000)).contains("recursion limit"));
    let data: String = (0..65).map(|n| format!("\"k{n}\": 1,")).collect();
    check(
        &format!(
            "{{\"results\": [{{\"name\": \"a\", \"outcome\": \"passed\", \"data\": {{{}}}}}]}}",
            data.trim_end_matches(',')
        ),
        "results:1: `a` has more than 64 data fields",
    );
}
