//! JUnit XML.

use super::shown;
use model::task_file::ResultFormat;

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Junit, document), expect, "\n{document}");
}

/// A document with one suite that holds this.
fn suite(inside: &str) -> String {
    format!("<testsuite name=\"s\">{inside}</testsuite>")
}

#[test]
fn suites_and_cases() {
    check(
        "<?xml version=\"1.0\"?>\n<testsuites>\n <testsuite name=\"s\" tests=\"2\" time=\"1,234.5\">\n  <testcase classname=\"a.B\" name=\"c\" time=\"0.012\"/>\n  <testcase name=\"d\"><failure message=\"m\" type=\"T\">at x.c:7</failure></testcase>\n </testsuite>\n <testsuite name=\"t\"><testcase name=\"e\"/></testsuite>\n</testsuites>\n",
        "failed s [1234500 ms]\n  passed a.B.c [12 ms]\n  failed d (m) <<at x.c:7>>\npassed t\n  passed e",
    );
    check(
        "<testsuite name=\"o\"><testsuite name=\"i\"><testcase name=\"c\"><error/></testcase></testsuite></testsuite>",
        "error(task) o\n  error(task) i\n    error(task) c",
    );
    check(
        &suite("<testcase name=\"c\"><skipped message=\"why\"/></testcase>"),
        "skipped s\n  skipped c (why)",
    );
    check(
        &suite("<testcase name=\"c\"><skipped/><failure>x</failure></testcase>"),
        "failed s\n  failed c <<x>>",
    );
    check(
        &suite(
            "<testcase name=\"c\"><failure message=\"a\">1</failure><error message=\"b\">2</error></testcase>",
        ),
        "error(task) s\n  error(task) c (b) <<1|2>>",
    );
    check(&suite("<testcase classname=\"only.Class\"/>"), "passed s\n  passed only.Class");
    check(
        "<testsuite>\n<testcase/>\n</testsuite>",
        "passed test suite on line 1\n  passed test case on line 2",
    );
    check("<testsuites><testsuite name=\"empty\" tests=\"0\"/></testsuites>", "");
    check("<testsuites><testcase name=\"loose\"/></testsuites>", "passed loose");
    check(
        "<testsuites><error message=\"no network\"/><testsuite name=\"s\"><testcase name=\"c\"/></testsuite></testsuites>",
        "error(task) test suites on line 1 (no network)\n  passed s\n    passed c",
    );
    check("<testsuites name=\"all\"><failure/></testsuites>", "failed all");
    check(&suite("<testcase name=\"c\"><Failure/></testcase>"), "failed s\n  failed c");
    check(
        "<x:testsuite xmlns:x=\"urn:x\" name=\"n\"><x:testcase name=\"c\"/></x:testsuite>",
        "passed n\n  passed c",
    );
}

#[test]
fn dialects() {
    // Surefire: passed after it had failed; failed each time.
    check(
        &suite(
            "<testcase name=\"c\"><flakyFailure message=\"m\" type=\"T\"><stackTrace><![CDATA[at <x>]]></stackTrace><system-out>out</system-out></flakyFailure></testcase>",
        ),
        "info s (passed after it had failed)\n  info c (m) <<at <x>|system-out:|out>>",
    );
    check(
        &suite(
            "<testcase name=\"c\"><failure message=\"m\">1</failure><rerunFailure message=\"n\"><stackTrace>2</stackTrace></rerunFailure></testcase>",
        ),
        "failed s\n  failed c (m) <<1|n|2>>",
    );
    check(&suite("<testcase name=\"c\"><rerunError/></testcase>"), "error(task) s\n  error(task) c");
    // GoogleTest and CTest state it in an attribute.
    check(&suite("<testcase name=\"c\" status=\"notrun\"/>"), "skipped s\n  skipped c");
    check(&suite("<testcase name=\"c\" status=\"run\" result=\"completed\"/>"), "passed s\n  passed c");
    check(&suite("<testcase name=\"c\" status=\"fail\"/>"), "failed s\n  failed c");
    check(&suite("<testcase name=\"c\" status=\"run\" result=\"skipped\"/>"), "skipped s\n  skipped c");
    let stated = |word: &str| {
        let shown = shown(ResultFormat::Junit, &suite(&format!("<testcase name=\"c\" status=\"{word}\"/>")));
        shown.lines().last().unwrap_or_default().trim().to_owned()
    };
    for (word, expect) in [
        ("PASSED", "passed c"),
        ("", "passed c"),
        ("REGRESSION", "failed c"),
        ("timedout", "error(task) c"),
        ("Aborted", "error(task) c"),
        ("unstable", "needs_inspection c"),
        ("pending", "skipped c"),
    ] {
        assert_eq!(stated(word), expect, "{word}");
    }
    // What is not known is no pass; what passed by its attribute is as its elements say.
    assert!(
        stated("mostly fine").starts_with("results:1: status=\"mostly fine\" of a test case is not known")
    );
    check(&suite("<testcase name=\"c\" status=\"passed\"><skipped/></testcase>"), "skipped s\n  skipped c");
    check(&suite("<testcase name=\"c\" result=\"ok\"><failure/></testcase>"), "failed s\n  failed c");
    // A fixture that broke outside of any case.
    check(
        &suite("<testcase name=\"c\"/><error message=\"teardown\"/>"),
        "error(task) s (teardown)\n  passed c",
    );
    check(
        &suite(
            "<properties><property name=\"arch\" value=\"x86_64\"/><property name=\"os\">Linux</property></properties><testcase name=\"c\" file=\"t.py\" line=\"3\"><properties><property name=\"k\" value=\"v\"/></properties><system-out>hi</system-out><system-err>\n</system-err></testcase>",
        ),
        "passed s arch=x86_64 os=Linux\n  passed c file=t.py k=v line=3 <<system-out:|hi>>",
    );
}

#[test]
fn entities() {
    check(
        &suite(
            "<testcase name=\"a&lt;b&gt; &amp; &quot;c&#x41;&#66;\"><failure message=\"x &lt; y\">1 &lt; 2 &#169;<![CDATA[ &lt; ]]></failure></testcase>",
        ),
        "failed s\n  failed a<b> & \"cAB (x < y) <<1 < 2 © &lt;>>",
    );
    check(
        &suite("<testcase name=\"a\">&nope;</testcase>"),
        "results:1: the entity `&nope;` is not known; known are amp, lt, gt, quot, apos and characters by number; write `&amp;` for `&`",
    );
    assert!(
        shown(ResultFormat::Junit, &suite("<testcase name=\"&nope;\"/>"))
            .starts_with("results:1: attribute `name`: ")
    );
    let refused = "a document type is not read; remove `<!DOCTYPE …>`; entities of its own are refused, external ones are never loaded";
    check(
        "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>\n<testsuite><testcase name=\"&a;\"/></testsuite>",
        &format!("results:1: {refused}"),
    );
    check(
        "\n<!DOCTYPE lolz [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><testsuite/>",
        &format!("results:2: {refused}"),
    );
}

#[test]
fn truncated_and_malformed() {
    check("", "results:1: the document is empty; the tests died before they wrote it");
    check("  \n\n", "results:3: the document is empty; the tests died before they wrote it");
    check(
        "<testsuite name=\"s\">\n<testcase name=\"a\"/>\n<testcase name=\"b\">\n",
        "results:4: the document ends inside <testcase> from line 3; the document is truncated",
    );
    check(
        "<html><body/></html>",
        "results:1: the root element is <html>; JUnit XML begins with <testsuites> or <testsuite>",
    );
    check(
        "<testcase name=\"a\"/>",
        "results:1: the root element is <testcase>; JUnit XML begins with <testsuites> or <testsuite>",
    );
    check(
        "starting\n<testsuite/>",
        "results:1: text outside of the root element; the document is not XML alone; write other output elsewhere",
    );
    check(
        "<testsuite/>\n<testsuite/>",
        "results:2: <testsuite> behind the end of the root element; write one document per file",
    );
    check(
        "<testsuite><testcase><testcase/></testcase></testsuite>",
        "results:1: <testcase> inside of <testcase>; a test case stands in a test suite, a test suite in another or in <testsuites>",
    );
    check(&suite("<testcase name=\"a\" name=\"b\"/>"), "results:1: attribute `name` comes twice");
    let broken = |document: &str, line: u32| {
        let shown = shown(ResultFormat::Junit, document);
        assert!(shown.starts_with(&format!("results:{line}: broken")), "{document}\n{shown}");
    };
    broken("<testsuite>\n<testcase></testsuite>", 2);
    broken("<testsuite>\n<testcase name=\"a", 2);
    broken("<testsuite>\n<testcase name=a/></testsuite>", 2);
    broken("<testsuite>\n\n<![CDATA[ x", 3);
    broken("<testsuite>\n<!-- never closed", 2);
    broken("</testsuite>", 1);
}

#[test]
fn claims_that_do_not_hold() {
    let incomplete = "but holds none; the document is incomplete";
    check(
        "<testsuite name=\"s\" tests=\"3\"/>",
        &format!("results:1: <testsuite> from line 1 claims 3 tests, {incomplete}"),
    );
    check(
        "<testsuite name=\"s\" tests=\"2\" failures=\"1\" errors=\"1\">\n<testcase name=\"a\"/>\n</testsuite>",
        &format!("results:3: <testsuite> from line 1 claims 2 failures and errors, {incomplete}"),
    );
    check(
        "<testsuite tests=\"some\"/>",
        "results:1: tests=\"some\" is no number; write how many there are, or leave `tests` out",
    );
    check(
        "<testsuite name=\"s\" tests=\"\" failures=\"1\"><testcase name=\"a\"><failure/></testcase></testsuite>",
        "failed s\n  failed a",
    );
}

#[test]
fn limits() {
    let many = taskbot_results::parsed::RESULTS_MAX + 1;
    check(
        &suite(&"<testcase name=\"c\"/>".repeat(many)),
        &format!("results:1: more than {} test suites and cases; report fewer", many - 1),
    );
    check(&suite(&"<a>".repeat(100)), "results:1: elements are nested deeper than 64");
    check(&"<testsuite>".repeat(20), "results:1: test suites are nested deeper than 16");
    let attributes: String = (0..1000).map(|n| format!(" a{n}=\"\"")).collect();
    check(&suite(&format!("<testcase{attributes}/>")), "results:1: more than 64 attributes");
}
