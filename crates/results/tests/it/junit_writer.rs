//! JUnit XML as it is written, and read again.

use chrono::DateTime;
use model::{Item, Outcome, ResultId, outcome::OUTCOMES, result::StoredResult, task_file::ResultFormat};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use taskbot_results::{
    junit_writer::{Case, Mark, Suite, document, suites},
    parse,
    parsed::worst,
};

fn result(id: i64, parent: Option<i64>, testcase: &str, outcome: Outcome, note: &str) -> StoredResult {
    StoredResult {
        id: ResultId(id),
        parent: parent.map(ResultId),
        task: None,
        attempt: None,
        testcase: testcase.to_owned(),
        item: Some(Item::new("koji_build", "audit-2.8-1.fc42")),
        outcome,
        previous_outcome: None,
        note: Some(note.to_owned()).filter(|note| !note.is_empty()),
        duration_ms: None,
        data: serde_json::Map::new(),
        created_at: DateTime::from_timestamp(1_772_359_200, 0).unwrap_or_default(),
    }
}

fn outcome(text: &str) -> Outcome {
    text.parse().unwrap_or(Outcome::NotApplicable)
}

#[test]
fn results_become_suites() {
    let mut results = vec![
        result(1, None, "dist.rpmlint", outcome("failed"), ""),
        result(2, Some(1), "dist.rpmlint.a.rpm", outcome("failed"), ""),
        result(3, Some(2), "dist.rpmlint.a.rpm.no-binary", outcome("failed"), "E: no-binary\n<see> \"it\""),
        result(4, Some(1), "dist.rpmlint.b.rpm", outcome("passed"), ""),
        result(5, Some(1), "dist.rpmlint.c.rpm", outcome("skipped"), "no net"),
        result(6, None, "dist.depcheck", outcome("error(timeout)"), "run took longer than its limit of 15m"),
        result(7, Some(6), "dist.depcheck", outcome("needs_inspection"), "look"),
        result(8, Some(6), "dist.depcheck.info", outcome("info"), "for your information"),
        result(9, Some(99), "elsewhere", outcome("not_applicable"), ""),
    ];
    results[0].duration_ms = Some(1234);
    results[2].data.extend([
        ("file".to_owned(), json!("/usr/bin/a")),
        ("line".to_owned(), json!(7)),
        ("sure".to_owned(), Value::Bool(true)),
    ]);
    results[6].item = Some(Item::new("koji_build", "b-1-1.fc42"));
    insta::assert_snapshot!(document(&suites(&results)), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites tests="7" failures="2" errors="1" skipped="2">
      <testsuite name="dist.rpmlint" tests="3" failures="1" errors="0" skipped="1" time="1.234" timestamp="2026-03-01T10:00:00Z">
        <properties>
          <property name="item" value="koji_build/audit-2.8-1.fc42"/>
        </properties>
        <testcase classname="dist.rpmlint" name="a.rpm.no-binary" file="/usr/bin/a" line="7">
          <properties>
            <property name="outcome" value="failed"/>
            <property name="file" value="/usr/bin/a"/>
            <property name="line" value="7"/>
            <property name="sure" value="true"/>
          </properties>
          <failure message="E: no-binary">E: no-binary
    &lt;see&gt; &quot;it&quot;</failure>
        </testcase>
        <testcase classname="dist.rpmlint" name="b.rpm">
          <properties>
            <property name="outcome" value="passed"/>
          </properties>
        </testcase>
        <testcase classname="dist.rpmlint" name="c.rpm">
          <properties>
            <property name="outcome" value="skipped"/>
          </properties>
          <skipped message="no net"/>
        </testcase>
      </testsuite>
      <testsuite name="dist.depcheck" tests="3" failures="1" errors="1" skipped="0" timestamp="2026-03-01T10:00:00Z">
        <properties>
          <property name="item" value="koji_build/audit-2.8-1.fc42"/>
        </properties>
        <testcase classname="dist.depcheck" name="dist.depcheck">
          <properties>
            <property name="outcome" value="error(timeout)"/>
          </properties>
          <error type="error(timeout)" message="run took longer than its limit of 15m"/>
        </testcase>
        <testcase classname="dist.depcheck" name="dist.depcheck">
          <properties>
            <property name="outcome" value="needs_inspection"/>
            <property name="item" value="koji_build/b-1-1.fc42"/>
          </properties>
          <failure type="needs_inspection" message="look"/>
        </testcase>
        <testcase classname="dist.depcheck" name="info">
          <properties>
            <property name="outcome" value="info"/>
          </properties>
          <system-out>for your information</system-out>
        </testcase>
      </testsuite>
      <testsuite name="elsewhere" tests="1" failures="0" errors="0" skipped="1" timestamp="2026-03-01T10:00:00Z">
        <properties>
          <property name="item" value="koji_build/audit-2.8-1.fc42"/>
        </properties>
        <testcase classname="elsewhere" name="elsewhere">
          <properties>
            <property name="outcome" value="not_applicable"/>
          </properties>
          <skipped message="not_applicable"/>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}

#[test]
fn suites_of_others_are_written_too() {
    let case = |name: &str, mark: Option<Mark>| Case {
        classname: "a.yaml".to_owned(),
        name: name.to_owned(),
        file: Some("a.yaml".to_owned()),
        line: Some(3),
        mark,
        ..Case::default()
    };
    let said = taskbot_results::junit_writer::Said {
        message: "not as expected".to_owned(),
        text: "+ <task>\u{7}\n- other".to_owned(),
        kind: None,
    };
    let suite = Suite {
        name: "a.yaml".to_owned(),
        cases: vec![case("one & two", None), case("\"three\"", Some(Mark::Failure(said)))],
        ..Suite::default()
    };
    insta::assert_snapshot!(document(&[suite]), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites tests="2" failures="1" errors="0" skipped="0">
      <testsuite name="a.yaml" tests="2" failures="1" errors="0" skipped="0">
        <testcase classname="a.yaml" name="one &amp; two" file="a.yaml" line="3"/>
        <testcase classname="a.yaml" name="&quot;three&quot;" file="a.yaml" line="3">
          <failure message="not as expected">+ &lt;task&gt;�
    - other</failure>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}

/// A tree of results in the order of their numbers: each is below an earlier one or none.
fn tree() -> impl Strategy<Value = Vec<StoredResult>> {
    let outcomes: Vec<Outcome> = OUTCOMES.iter().map(|(outcome, _)| *outcome).collect();
    let one = (any::<proptest::sample::Index>(), select(outcomes), "\\PC{1,12}", any::<String>());
    proptest::collection::vec(one, 1..20).prop_map(|rows| {
        let row = |(n, (parent, outcome, name, note)): (
            usize,
            (proptest::sample::Index, Outcome, String, String),
        )| {
            let parent = Some(parent.index(n + 1)).filter(|parent| *parent < n);
            result(n as i64, parent.map(|parent| parent as i64), &name, outcome, &note)
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(results in tree()) {
        let suites = suites(&results);
        let text = document(&suites);
        let parsed = parse(ResultFormat::Junit, "r", text.as_bytes()).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        let roots = results.iter().filter(|result| result.parent.is_none()).count();
        prop_assert_eq!(parsed.results.len(), roots);
        let bad = |outcome: Outcome| !outcome.is_good();
        prop_assert_eq!(
            worst(parsed.results.iter().map(|result| result.outcome)).map(bad),
            worst(results.iter().map(|result| result.outcome)).map(bad),
            "{}", text
        );
        for (suite, read) in suites.iter().zip(&parsed.results) {
            prop_assert_eq!(suite.cases.len(), read.children.len());
        }
    }
}

#[test]
fn a_verdict_that_is_overturned_is_not_counted() {
    let task = model::TaskId::new(model::Ids::next(&model::SystemIds));
    let said = |id, task, outcome| StoredResult { task, ..result(id, None, "rados", outcome, "") };
    let counts = |results: &[StoredResult]| {
        let suites = suites(results);
        suites.iter().map(|suite| suite.cases.len()).sum::<usize>()
    };
    let [pass, fail] = [Outcome::Passed, Outcome::Failed];
    let overturned = [said(1, Some(task), fail), said(2, Some(task), pass)];
    assert_eq!(counts(&overturned), 1);
    let text = document(&suites(&overturned));
    assert!(text.contains("failures=\"0\""), "{text}");
    // What no task said stands for itself.
    assert_eq!(counts(&[said(1, None, fail), said(2, None, pass)]), 2);
}
