//! JUnit XML as its many writers print it.

use super::shown;
use model::task_file::ResultFormat;

#[test]
fn each_dialect_keeps_its_meaning() {
    let check = |writer: &str, document: &str, expect: &str| {
        assert_eq!(shown(ResultFormat::Junit, document), expect, "{writer}\n{document}");
    };
    check(
        "pytest",
        r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="5" time="0.123" timestamp="2026-03-01T10:00:00.1+00:00" hostname="b1">
<testcase classname="tests.test_a" name="test_ok[x-1]" time="0.001" /><testcase classname="tests.test_a" name="test_bad" time="0.002"><failure message="assert 1 == 2">def test_bad():
&gt;       assert 1 == 2</failure></testcase>
<testcase classname="tests.test_a" name="test_xfail" time="0.000"><skipped type="pytest.xfail" message="known" /></testcase>
<testcase classname="tests.test_a" name="test_skip" time="0.000"><skipped type="pytest.skip" message="no net">/t.py:3: no net</skipped></testcase>
<testcase classname="" name="tests.test_b" time="0.000"><error message="collection failure">ImportError</error></testcase></testsuite></testsuites>"#,
        "error(task) pytest [123 ms] hostname=b1 timestamp=2026-03-01T10:00:00.1+00:00
  passed tests.test_a.test_ok[x-1] [1 ms]
  failed tests.test_a.test_bad [2 ms] (assert 1 == 2) <<def test_bad():|>       assert 1 == 2>>
  skipped tests.test_a.test_xfail [0 ms] (known)
  skipped tests.test_a.test_skip [0 ms] (no net) <</t.py:3: no net>>
  error(task) tests.test_b [0 ms] (collection failure) <<ImportError>>",
    );
    check(
        "Surefire",
        r#"<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="x.xsd" version="3.0" name="a.BTest" time="1.5" tests="3" errors="0" skipped="0" failures="1">
<properties><property name="java.version" value="21"/></properties>
<testcase name="flaky" classname="a.BTest" time="0.5"><flakyFailure message="m" type="T"><stackTrace>at</stackTrace></flakyFailure></testcase>
<testcase name="fails" classname="a.BTest" time="0.1"><failure message="one" type="T"><![CDATA[at 1]]></failure><rerunFailure message="two" type="T"><stackTrace><![CDATA[at 2]]></stackTrace><system-err>e</system-err></rerunFailure></testcase></testsuite>"#,
        "failed a.BTest [1500 ms] java.version=21
  info a.BTest.flaky [500 ms] (m) <<at>>
  failed a.BTest.fails [100 ms] (one) <<at 1|two|at 2|system-err:|e>>",
    );
    check(
        "GoogleTest",
        r#"<testsuites tests="3" failures="1" disabled="1" errors="0" time="0.01" timestamp="2026-03-01T10:00:00.000" name="AllTests"><testsuite name="Math" tests="3" failures="1" disabled="1" skipped="1" errors="0" time="0.01">
<testcase name="Adds" file="m.cc" line="7" status="run" result="completed" time="0." classname="Math" />
<testcase name="DISABLED_X" status="notrun" result="suppressed" time="0." classname="Math" />
<testcase name="Skips" status="run" result="skipped" time="0." classname="Math"><skipped message="m.cc:9&#x0A;why"><![CDATA[m.cc:9
why]]></skipped></testcase>
<testcase name="Fails" value_param="1" status="run" result="completed" time="0." classname="Math"><failure message="m.cc:8&#x0A;Expected" type=""><![CDATA[m.cc:8]]></failure></testcase></testsuite></testsuites>"#,
        "failed Math [10 ms]
  passed Math.Adds [0 ms] file=m.cc line=7
  skipped Math.DISABLED_X [0 ms]
  skipped Math.Skips [0 ms] (m.cc:9\nwhy) <<m.cc:9|why>>
  failed Math.Fails [0 ms] (m.cc:8\nExpected) <<m.cc:8>>",
    );
    check(
        "go-junit-report",
        r#"<testsuites tests="3" failures="1" errors="1"><testsuite name="example.org/a" tests="2" failures="1" errors="0" id="0" hostname="h" time="0.200" timestamp="2026-03-01T10:00:00Z"><properties><property name="go.version" value="go1.26"></property></properties>
<testcase name="TestA" classname="example.org/a" time="0.060"></testcase><testcase name="TestB/sub_1" classname="example.org/a" time="0.100"><failure message="Failed"><![CDATA[    a_test.go:7: no]]></failure></testcase></testsuite>
<testsuite name="example.org/b" tests="1" failures="0" errors="1" id="1" time="0.000"><testcase name="[build failed]" classname="example.org/b" time="0.000"><error message="Build error"></error></testcase></testsuite></testsuites>"#,
        "failed example.org/a [200 ms] go.version=go1.26 hostname=h timestamp=2026-03-01T10:00:00Z
  passed example.org/a.TestA [60 ms]
  failed example.org/a.TestB/sub_1 [100 ms] (Failed) <<    a_test.go:7: no>>
error(task) example.org/b [0 ms]
  error(task) example.org/b.[build failed] [0 ms] (Build error)",
    );
    check(
        "bats",
        r#"<testsuites time="0.04"><testsuite name="a.bats" tests="3" failures="1" errors="0" skipped="1" time="0.04" timestamp="2026-03-01T10:00:00" hostname="h">
    <testcase classname="a.bats" name="adds" time="0.01" />
    <testcase classname="a.bats" name="skips" time="0"><skipped>no net</skipped></testcase>
    <testcase classname="a.bats" name="fails" time="0.01"><failure type="failure">(in test file a.bats, line 7)</failure></testcase>
</testsuite></testsuites>"#,
        "failed a.bats [40 ms] hostname=h timestamp=2026-03-01T10:00:00
  passed a.bats.adds [10 ms]
  skipped a.bats.skips [0 ms] (no net)
  failed a.bats.fails [10 ms] (failure) <<(in test file a.bats, line 7)>>",
    );
    check(
        "jest-junit",
        r#"<testsuites name="jest tests" tests="2" failures="0" errors="1" time="1.2"><testsuite name="math" errors="0" failures="0" skipped="1" timestamp="2026-03-01T10:00:00" time="0.5" tests="2"><testcase classname="math adds" name="math adds" time="0.003"></testcase><testcase classname="math todo" name="math todo" time="0"><skipped/></testcase></testsuite>
<testsuite name="Test suite failed to run" errors="1" failures="0" skipped="0" time="0" tests="1"><testcase classname="Test suite failed to run" name="b.test.js" time="0"><error>Cannot find module</error></testcase></testsuite></testsuites>"#,
        "passed math [500 ms] timestamp=2026-03-01T10:00:00
  passed math adds.math adds [3 ms]
  skipped math todo.math todo [0 ms]
error(task) Test suite failed to run [0 ms]
  error(task) Test suite failed to run.b.test.js [0 ms] <<Cannot find module>>",
    );
    check(
        "nose's xunit",
        r#"<?xml version="1.0" encoding="UTF-8"?><testsuite name="nosetests" tests="2" errors="1" failures="0" skip="0"><testcase classname="t.T" name="runTest" time="0.000"><error type="exceptions.ValueError" message="no"><![CDATA[Traceback]]></error></testcase><testcase classname="t.T" name="ok" time="0.000" /></testsuite>"#,
        "error(task) nosetests
  error(task) t.T.runTest [0 ms] (no) <<Traceback>>
  passed t.T.ok [0 ms]",
    );
    check(
        "CTest",
        r#"<testsuite name="(empty)" tests="3" failures="1" disabled="0" skipped="1" hostname="" time="0" timestamp="2026-03-01T10:00:00"><testcase name="a" classname="a" time="0.1" status="run"><system-out>out</system-out></testcase><testcase name="b" classname="b" time="0" status="fail"><failure message=""/><properties/><system-out></system-out></testcase><testcase name="c" classname="c" time="0" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase></testsuite>"#,
        "failed (empty) [0 ms] timestamp=2026-03-01T10:00:00
  passed a.a [100 ms] <<system-out:|out>>
  failed b.b [0 ms]
  skipped c.c [0 ms] (SKIP_RETURN_CODE=77)",
    );
    check(
        "PHPUnit",
        r#"<testsuites><testsuite name="all" tests="2" assertions="1" errors="0" warnings="1" failures="0" skipped="0" time="0.1"><testsuite name="ATest" file="/a/ATest.php" tests="2"><testcase name="testA" class="ATest" classname="ATest" file="/a/ATest.php" line="9" assertions="1" time="0.1"/><testcase name="Warning" class="W"><warning type="W">No tests found in class "B".</warning></testcase></testsuite></testsuite></testsuites>"#,
        "needs_inspection all [100 ms]
  needs_inspection ATest file=/a/ATest.php
    passed ATest.testA [100 ms] file=/a/ATest.php line=9
    needs_inspection Warning (W) <<No tests found in class \"B\".>>",
    );
    check(
        "behave",
        r#"<testsuite name="f.A" tests="3" errors="0" failures="0" skipped="1" time="0"><testcase classname="f.A" name="undefined step" status="undefined" time="0"/><testcase classname="f.A" name="left out" status="untested" time="0"/><testcase classname="f.A" name="good" status="passed" time="0"/></testsuite>"#,
        "error(task) f.A [0 ms]
  error(task) f.A.undefined step [0 ms]
  skipped f.A.left out [0 ms]
  passed f.A.good [0 ms]",
    );
    check(
        "Ant, with a fixture that broke",
        r#"<testsuites><testsuite package="org" id="0" name="T" errors="1" failures="0" tests="1" time="0" hostname="h"><properties/><testcase name="a" classname="org.T" time="0"/><error message="@AfterClass" type="X">at</error><system-out/><system-err><![CDATA[w]]></system-err></testsuite></testsuites>"#,
        "error(task) T [0 ms] (@AfterClass) hostname=h package=org <<at|system-err:|w>>
  passed org.T.a [0 ms]",
    );
    check("nothing to run", r#"<testsuites tests="0" failures="0" errors="0" time="0"></testsuites>"#, "");
    check(
        "a root that knows better",
        r#"<testsuites tests="2" failures="1"><testsuite name="s" tests="1"><testcase name="a"/></testsuite></testsuites>"#,
        "results:1: <testsuites> from line 1 claims 1 failures and errors, but holds none; the document is incomplete",
    );
}
