//! autopkgtest's summary.

use super::shown;
use model::task_file::ResultFormat;

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Autopkgtest, document), expect, "\n{document}");
}

#[test]
fn summaries() {
    check(
        "smoke                PASS
runtime-with-a-long-name PASS (superficial)
net                  SKIP Test restriction \"needs-internet\" requires testbed capability \"has_internet\"
unstable             FLAKY non-zero exit status 1
command1             FAIL stderr: W: deprecated: use x
command2             FAIL timed out
control              BROKEN Test must have either path or command
",
        "passed smoke
passed runtime-with-a-long-name (superficial)
skipped net (Test restriction \"needs-internet\" requires testbed capability \"has_internet\")
skipped unstable (flaky: non-zero exit status 1)
failed command1 (stderr: W: deprecated: use x)
failed command2 (timed out)
failed control (Test must have either path or command)",
    );
    check("\u{feff}a PASS\r\nb FAIL x\r\n", "passed a\nfailed b (x)");
    check("*                    SKIP no tests in this package\n", "all skipped: no tests in this package");
    check("a PASS\n\na FAIL broken\n", "passed a\nfailed a (broken)");
}

#[test]
fn package_and_testbed() {
    check(
        "smoke                FAIL badpkg
blame: hello hello-dbg
badpkg: Test dependencies are unsatisfiable. A common reason is that a build is missing.
",
        "failed smoke (badpkg\nTest dependencies are unsatisfiable. A common reason is that a build is missing.) blame=hello hello-dbg",
    );
    check(
        "blame: hello\nbadpkg: rules build failed with exit code 2\nerroneous package: rules build failed with exit code 2\n",
        "failed package (rules build failed with exit code 2)",
    );
    check(
        "smoke PASS\ntestbed failure: testbed auxverb failed with exit code 255\n",
        "passed smoke\nerror(task) testbed (testbed auxverb failed with exit code 255)",
    );
    check("quitting: unexpected error, see log\n", "error(task) autopkgtest (unexpected error, see log)");
}

#[test]
fn mistakes() {
    let help =
        "expected a test's name and PASS, FAIL, SKIP, FLAKY or BROKEN; name autopkgtest's file `summary`";
    check("", "results:1: the summary names no test; autopkgtest died before it wrote one; see its log");
    check("\n\n", "results:2: the summary names no test; autopkgtest died before it wrote one; see its log");
    check("a PASS\nb PASS", "results:2: the last line is not ended; the document is truncated");
    check("a PASS\nb     PAS\n", &format!("results:2: `b PAS` is no line of a summary; {help}"));
    check("a\n", &format!("results:1: `a` is no line of a summary; {help}"));
    check("a pass\n", &format!("results:1: `a pass` is no line of a summary; {help}"));
    check("PASS\n", &format!("results:1: `PASS` is no line of a summary; {help}"));
    check("*  PASS\n", "passed *");
    let many = taskbot_results::parsed::RESULTS_MAX + 1;
    check(&"a PASS\n".repeat(many), &format!("results:{many}: more than {} results; report fewer", many - 1));
}
