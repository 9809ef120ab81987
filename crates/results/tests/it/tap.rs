//! TAP 13 and 14.

use super::shown;
use model::task_file::ResultFormat;

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Tap, document), expect, "\n{document}");
}

#[test]
fn plans_and_points() {
    check("TAP version 14\n1..2\nok 1 - one\nnot ok 2 - two\n", "passed one\nfailed two");
    check("TAP version 13\nok 1 one\nok\n1..2\n", "passed one\npassed 2");
    check("1..1\nok", "passed 1");
    check("1..3\nok 3\nok 1\nok 2\n", "passed 3\npassed 1\npassed 2");
    check("\u{feff}TAP version 14\r\n1..1\r\nok 1 - dos\r\n", "passed dos");
    check("1..2\nok - -v is an option\nok 2 -v\n", "passed -v is an option\npassed -v");
    check("1..1\nok 01 - leading zero", "passed leading zero");
    check("1..1\nok 1.5 is no number", "passed 1.5 is no number");
    check("1..2 # two of them\n\n# hello\nnoise\nok 1\n  more noise\nokay\nok 2", "passed 1\npassed 2");
    check("1..1\nok 1 - ünï\tcode", "passed ünï code");
}

#[test]
fn truncated_and_contradicting_documents() {
    check(
        "",
        "results:1: no plan for 0 test points; print `1..N` before or after the points; without it a truncated document looks whole",
    );
    check(
        "ok 1\nok 2\n",
        "results:2: no plan for 2 test points; print `1..N` before or after the points; without it a truncated document looks whole",
    );
    check(
        "1..3\nok 1\nok 2\n",
        "results:3: the plan on line 1 says 3 test points, but there are 2; the tests died early, the document is truncated, or the plan is wrong",
    );
    check(
        "ok 1\nok 2\n1..1",
        "results:3: the plan on line 3 says 1 test points, but there are 2; the tests died early, the document is truncated, or the plan is wrong",
    );
    check(
        "1..2\nok 1\n1..2\nok 2",
        "results:3: a second plan; the first is on line 1; print one plan, before or after all points",
    );
    check(
        "ok 1\n1..2\nok 2",
        "results:3: a test point behind the plan on line 2, which stood behind others; print the plan before or after all points, not between them",
    );
    check(
        "1..2\nok 1\nok 1",
        "results:3: test number 1 comes twice; number every point once; two programs may be writing into one file",
    );
    check(
        "1..2\nok 2\nok",
        "results:3: test number 2 comes twice; number every point once; two programs may be writing into one file",
    );
    check(
        "1..2\nok 1\nok 3",
        "results:3: test number 3 is outside of the plan 1..2; number the points from 1 without holes",
    );
    check("1..1\nok 0", "results:2: test number 0; count from 1");
    check(
        "1..99999999999999999999\nok 1",
        "results:1: the plan's count 99999999999999999999 is too large; count the points",
    );
    check(
        "1..1\nok 99999999999999999999",
        "results:2: the test number 99999999999999999999 is too large; count from 1",
    );
    check(
        "TAP version 15\n1..1\nok 1",
        "results:1: TAP version `15` is not known; known are 13 and 14; version 12 and older have no version line",
    );
    check(
        "1..1\nok 1\nTAP version 14\n1..1\nok 1",
        "results:3: a second document begins: the version must be the first line of TAP; write one document per file, or make the parts subtests",
    );
}

#[test]
fn what_could_hide_a_failure() {
    let near =
        "looks like a failing test point, but is none; write `not ok`, in lower case and with one space";
    for line in ["not  ok 1", "NOT OK 1", "Not ok", "notok 1", "not ok: broken", "not ok, sorry"] {
        check(&format!("1..1\nok 1\n{line}"), &format!("results:3: `{line}` {near}"));
    }
    check(
        "1..1\nok 1\n  not ok 2",
        "results:3: `not ok 2` is indented by 2 spaces; test points and plans are indented by 4 spaces per subtest, or not at all",
    );
    check("1..1\nok 1\nnot okay, says the program\nnothing", "passed 1");
}

#[test]
fn directives_and_escapes() {
    check("1..1\nok 1 - net # SKIP no network", "skipped net (no network)");
    check("1..1\nok 1 # skip", "skipped 1");
    check("1..1\nnot ok 1 - x # Skipped: why", "skipped x (why)");
    check("1..1\nnot ok 1 - x # TODO later", "info x (to do: later)");
    check("1..1\nnot ok 1 - x # todo", "info x (to do)");
    check("1..1\nok 1 - x # TODO later", "passed x (to do, but passes: later)");
    check("1..1\nnot ok 1 - x # todolist", "failed x # todolist");
    check("1..1\nok 1 - escaped \\# SKIP not this", "passed escaped # SKIP not this");
    check("1..1\nok 1 - back \\\\ slash \\n", "passed back \\ slash \\n");
    check("1..1\nok 1 - even \\\\# SKIP glued", "passed even \\# SKIP glued");
    check("1..1\nok 1 - issue #12 is mended # SKIP yes", "skipped issue #12 is mended (yes)");
    check("1..1\nok 1 - a # time=12.4ms", "passed a [12 ms]");
    check("1..1\nok 1 - a # time=1.5s", "passed a [1500 ms]");
    check("1..0 # SKIP no C sources", "all skipped: no C sources");
    check("1..0 # Skipped: why", "all skipped: why");
    check("1..0", "all skipped: nothing to test");
}

#[test]
fn diagnostics() {
    check(
        "1..2\nnot ok 1 - a\n  ---\n  message: 'it broke'\n  at:\n    file: x.c\n  duration_ms: 1.6\n  ...\nok 2\n",
        "failed a [2 ms] (it broke) <<at:|  file: x.c|duration_ms: 1.6>>\npassed 2",
    );
    check("1..1\nnot ok 1 - a\n# line 7:\n#   boom\n", "failed a <<line 7:|boom>>");
    check("1..1\nok 1\n  ---\n  not ok 2\n  ...", "passed 1 <<not ok 2>>");
    check(
        "1..1\nok 1\n  ---\n  a: 1\n",
        "results:4: the YAML block from line 3 is not closed; end it with a line `  ...`, indented as its start",
    );
    check(
        "1..2\nok 1\n  ---\n  a: 1\nok 2",
        "results:5: the YAML block from line 3 is not closed; end it with a line `  ...`, indented as its start",
    );
    check("1..1\nnoise\n  ---\nok 1", "passed 1");
    check(
        "TAP version 13\n1..2\nnot ok 1 skips # SKIP no net\nnot ok 2 fails\n  ---\n  message: |\n    (in test file a.bats, line 3)\n      `false' failed\n  ...\n",
        "skipped skips (no net)\nfailed fails ((in test file a.bats, line 3)) <<  `false' failed>>",
    );
}

#[test]
fn subtests() {
    check(
        "1..2\n# Subtest: group\n    1..2\n    ok 1 - a\n    ok 2 - b # SKIP x\nok 1 - group\nok 2 - last",
        "passed group\n  passed a\n  skipped b (x)\npassed last",
    );
    check("# Subtest: named above\n    ok 1 - a\n    1..1\nok 1\n1..1", "passed named above\n  passed a");
    check(
        "1..1\n    1..1\n        1..1\n        not ok 1 - deep\n          ---\n          message: why\n          ...\n    not ok 1 - mid\nnot ok 1 - top",
        "failed top\n  failed mid\n    failed deep (why)",
    );
    check(
        "1..1\n    1..1\n    not ok 1 - a\nok 1 - liar",
        "failed liar (reported as ok, but its subtest is not)\n  failed a",
    );
    check("1..1\n    1..1\n    not ok 1 - a\nnot ok 1 - p # TODO z", "info p (to do: z)\n  failed a");
    check("1..1\n    1..0 # SKIP dry\nok 1 - p", "skipped p (dry)");
    check("1..1\n    1..0 # SKIP dry\nnot ok 1 - p", "failed p (dry)");
    check("1..1\n    1..1\n    ok 1 - a # SKIP\nok 1 - p", "skipped p\n  skipped a");
    check(
        "1..1\n    1..2\n    ok 1 - a\nok 1 - p",
        "results:4: the plan on line 2 says 2 test points, but there are 1; the tests died early, the document is truncated, or the plan is wrong",
    );
    check(
        "1..1\n    ok 1 - a\nok 1 - p",
        "results:3: no plan for 1 test points; print `1..N` before or after the points; without it a truncated document looks whole",
    );
    check(
        "    1..1\n    ok 1 - a\n1..1",
        "results:3: the subtest from line 1 is not closed by a test point; print `ok` or `not ok` for the subtest behind it, at its parent's indentation",
    );
    check(
        "1..1\n    1..1\n    ok 1 - a\n",
        "results:3: the document ends inside the subtest from line 2; the document is truncated, or the subtest lacks the test point that closes it",
    );
    check(
        "1..1\n        ok 1 - a\nok 1",
        "results:2: `ok 1 - a` is indented by 8 spaces, deeper than a subtest here; indent a subtest by 4 spaces more than its parent",
    );
}

#[test]
fn buffered_subtests() {
    check(
        "TAP version 14\nok 1 - a {\n    ok 1 - x\n    not ok 2 - y # TODO z\n    1..2\n}\n\nnot ok 2 - b # time=4.2ms {\n    not ok 1 - c {\n        not ok 1 - deep\n        1..1\n    }\n    1..1\n}\nok 3 - plain\n1..3\n",
        "info a\n  passed x\n  info y (to do: z)\nfailed b [4 ms]\n  failed c\n    failed deep\npassed plain",
    );
    check(
        "1..2\nnot ok 1 - a\n  ---\n  message: why\n  ...\n{\n    not ok 1 - x\n    1..1\n}\nok 2 - b {\n    1..0 # SKIP dry\n}\n",
        "failed a (why)\n  failed x\nskipped b (dry)",
    );
    check(
        "1..1\nok 1 - liar {\n    not ok 1\n    1..1\n}\n",
        "failed liar (reported as ok, but its subtest is not)\n  failed 1",
    );
    // A brace that only looks like one.
    check("1..2\nok 1 - parses {\nok 2 - parses }\n", "passed parses {\npassed parses }");
    check(
        "1..2\nok 1 - parses {\n# Subtest: b\n    ok 1 - x\n    1..1\nok 2 - b\n",
        "passed parses {\npassed b\n  passed x",
    );
    check(
        "1..2\nok 1 - a {\n    ok 1 - x\n    1..1\nok 2 - b\n",
        "results:5: the subtest from line 3 is not closed; its point ends with `{`: print `}` behind it, at the point's indentation",
    );
    check(
        "1..1\nok 1 - a {\n    ok 1 - x\n    1..2\n}\n",
        "results:5: the plan on line 4 says 2 test points, but there are 1; the tests died early, the document is truncated, or the plan is wrong",
    );
    check(
        "1..1\nok 1 - a {\n    ok 1 - x\n    1..1\n",
        "results:4: the document ends inside the subtest from line 3; the document is truncated, or the subtest lacks the test point that closes it",
    );
}

#[test]
fn what_perl_prints_is_read() {
    let script = "use Test::More tests => 3; ok(1, 'a # b'); subtest grp => sub { plan tests => 2; ok(1, 'x'); \
        TODO: { local $TODO = 'later'; ok(0, 'y'); } }; SKIP: { skip 'no net', 1; ok(1); }";
    let output = std::process::Command::new("perl").args(["-e", script]).output().unwrap();
    check(
        &String::from_utf8_lossy(&output.stdout),
        "passed a # b\ninfo grp\n  passed x\n  info y (to do: later) <<Failed (TODO) test 'y'|at -e line 1.>>\nskipped 3 (no net)",
    );
}

const STRICT: &str = "`noise` is no TAP, and the document set `pragma +strict`; print other output to standard error or behind `#`";

#[test]
fn bailing_out_and_pragmas() {
    check("1..3\nok 1 - a\nBail out! no disk\nok 2", "passed a\nbailed out on line 3: no disk");
    check("ok 1\nBAIL OUT!  now", "passed 1\nbailed out on line 2: now");
    check("pragma +other, +strict\n1..1\nok 1\nnoise", &format!("results:4: {STRICT}"));
    check("1..1\n    1..2\n    ok 1 - a\n    Bail out!", "passed a\nbailed out on line 4: ");
    check("pragma +strict\n1..1\nok 1\nnoise", &format!("results:4: {STRICT}"));
    check("pragma +strict\n1..1\npragma -strict\nnoise\nok 1", "passed 1");
}

#[test]
fn limits() {
    let many = taskbot_results::parsed::RESULTS_MAX + 1;
    check(
        &format!("1..{many}\n{}", "ok\n".repeat(many)),
        &format!("results:{}: more than {} test points; report fewer", many + 1, many - 1),
    );
    let deep: String = (0..=taskbot_results::parsed::DEPTH_MAX + 1)
        .map(|depth| format!("{}1..1\n", "    ".repeat(depth)))
        .collect();
    check(&deep, "results:18: subtests are nested deeper than 16; flatten them");
    let long = shown(ResultFormat::Tap, &format!("1..1\nok 1 - {}", "x".repeat(5000)));
    assert!(long.len() < 1100 && long.ends_with("… (5000 bytes)"), "{long}");
}
