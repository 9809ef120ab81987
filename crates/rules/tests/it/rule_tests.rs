//! Tests that rule authors write.

use crate::{compiled, files, refused, rule};
use taskbot_rules::{RuleFiles, rule_test};

/// A rule file with a rule, and tests.
fn with_tests(tests: &str) -> RuleFiles {
    let mut rules = rule(
        "when: {body.new: 1}\nfor_each: {b: {in: event.body.builds}}\nthen: [{task: rpmlint, item: {type: build, id: \"${b}\"}, with: {nvr: \"${b}\", n: 1}}]",
    );
    rules.push_str("  - {name: other, on: org.example.update.request.testing, mode: \"off\", when: {body.off: true}, then: [{cancel: {group: g}}]}\n");
    let mut files = files(&format!("{rules}tests:\n{tests}"));
    files.files.insert(
        "fixtures/update.json".into(),
        r#"{"topic": "org.example.update.request.testing", "id": "x", "queue": "q", "body": {"new": 1, "builds": ["a", "b"]}}"#.into(),
    );
    files
}

/// `passed`, or the difference, of a test's `event` and `expect`.
fn outcome(event: &str, expect: &str) -> String {
    let files = with_tests(&format!("  - {{name: t, event: {event}, expect: {expect}}}\n"));
    let outcomes = rule_test::run(&compiled(&files).rule_set);
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].passed, outcomes[0].difference.is_none());
    assert_eq!((outcomes[0].file.as_str(), outcomes[0].name.as_str()), ("rules.yaml", "t"));
    outcomes[0].difference.clone().unwrap_or_else(|| "passed".to_owned())
}

#[test]
fn expected_wishes_are_compared_by_what_they_name() {
    let update = "fixtures/update.json";
    for expect in [
        "{r: [{item: {id: a}}, {item: {id: b}}]}",
        // In any order, and with a choice that only one assignment meets.
        "{r: [{item: {id: b}}, {task: rpmlint}]}",
        "{r: [{}, {item: {id: a}}]}",
        "{r: [{task: rpmlint, with: {n: 1}}, {with: {nvr: b}}]}",
        // Rules that are not named do not count.
        "{other: []}",
    ] {
        assert_eq!(outcome(update, expect), "passed", "{expect}");
    }
    let patched = |patch: &str| format!("{{file: fixtures/update.json, patch: {patch}}}");
    assert_eq!(outcome(&patched("{body: {new: 2}}"), "{}"), "passed");
    assert_eq!(outcome(&patched("{topic: org.other}"), "{}"), "passed");
    assert_eq!(outcome(&patched("{body: {builds: [c]}}"), "{r: [{item: {type: build, id: c}}]}"), "passed");
    assert_eq!(
        outcome(&patched("{body: {off: true}}"), "{other: [{cancel: {group: g}}], r: [{}, {}]}"),
        "passed"
    );
    let inline = "{topic: org.example.update.request.testing, body: {new: 1, builds: [x]}}";
    assert_eq!(outcome(inline, "{r: [{item: {id: x}}]}"), "passed");
}

#[test]
fn differences_can_be_read() {
    let update = "fixtures/update.json";
    let patched = |patch: &str| format!("{{file: fixtures/update.json, patch: {patch}}}");
    insta::assert_snapshot!(
        [
            outcome(update, "{r: [{item: {id: a}}, {item: {id: c}}]}"),
            outcome(update, "{r: [{item: {id: a}}]}"),
            outcome(update, "{r: [{}, {}, {}]}"),
            outcome(update, "{r: []}"),
            outcome(update, "{}"),
            outcome(update, "{other: [{cancel: {group: g}}]}"),
            outcome(&patched("{body: {new: null}}"), "{r: [{}, {}]}"),
            outcome(&patched("{topic: org.other}"), "{r: [{}, {}]}"),
            outcome(&patched("{body: {builds: 5}}"), "{r: []}"),
            outcome(&patched("{depth: 8}"), "{r: [{}, {}]}"),
        ]
        .join("\n"),
        @r#"
        r: wishes other things than expected (- expected, + wished)
            - {"item":{"id":"c"}}
                item.id: expected "c", got "b"
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"b","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"b"}}
        r: wishes other things than expected (- expected, + wished)
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"b","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"b"}}
        r: wishes other things than expected (- expected, + wished)
            - {}
        r: is expected not to fire, but wishes
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"a","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"a"}}
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"b","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"b"}}
        r: is expected not to fire, but wishes
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"a","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"a"}}
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"b","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"b"}}
        other: does not fire
            missing: when body.off is true
        r: does not fire
            missing: when body.new is 1
        r: does not fire
            failed: on topic matches org.example.update.request.testing, found "org.other"
        r: erred at rules.yaml:5:24: the expression must give a list, it gives a number
        r: the chain is too long (depth 8)
        "#
    );
}

#[test]
fn mistakes_in_tests_are_marked() {
    let mut files = with_tests(
        r#"  - {event: fixtures/update.json, expect: {}}
  - {name: a, event: fixtures/updaet.json, expect: {}}
  - {name: b, event: {topic: a.b}, expect: {}}
  - {name: c, event: {topic: a.b, body: {}, heders: {}}, expect: {}}
  - {name: d, event: 5, expect: {}}
  - {name: e, event: fixtures/update.json, expect: []}
  - {name: f, event: fixtures/update.json, expect: {rr: []}}
  - {name: g, event: fixtures/update.json, expect: {r: [{itm: {id: a}}]}}
  - {name: h, event: fixtures/update.json, expect: {r: 2}}
  - {name: i, event: {file: fixtures/update.json, pach: {}}, expect: {}}
  - {name: j, event: {file: fixtures/update.json, patch: {body: 5}}, expect: {}}
  - {name: k, now: yesterday, event: fixtures/update.json, expect: {}}
  - {name: k, event: fixtures/bad.json, expect: {}}
"#,
    );
    files.files.insert("fixtures/bad.json".into(), "{".into());
    files.files.insert("more.test.yaml".into(), "rules: []\ntests: 5\n".into());
    insta::assert_snapshot!(refused(&files).to_string(), @r#"
        more.test.yaml:1:1: error: a test file has no field `rules` (known are tests)
        more.test.yaml:2:8: error: `tests` must be a list, it is a number
        rules.yaml:9:6: error: a test needs the field `name`
        rules.yaml:10:22: error: there is no file `fixtures/updaet.json` (did you mean `fixtures/update.json`?)
        rules.yaml:11:22: error: the message has no `body`
        rules.yaml:12:45: error: a test's event has no field `heders` (did you mean `headers`?)
        rules.yaml:13:22: error: an event must be a file, a message or {file, patch}, it is a number
        rules.yaml:14:52: error: `expect` must be a mapping from rules to lists, it is a list (write `expect: {rule: [{task: name}]}`, or `{}` for nothing)
        rules.yaml:16:58: error: an expected wish has no field `itm` (did you mean `item`?)
        rules.yaml:17:56: error: what a rule is expected to wish must be a list, it is a number (write a list of wishes, `[]` for none, `{no_match: path}` or `{error: text}`)
        rules.yaml:18:51: error: a test's event has no field `pach` (did you mean `patch`?)
        rules.yaml:19:22: error: the message's `body` must be an object, it is a number
        rules.yaml:20:20: error: `yesterday` is no time; expected one such as 2026-11-01T10:00:00Z
        rules.yaml:21:22: error: fixtures/bad.json is no JSON: EOF while parsing an object at line 1 column 1
        "#);
}

#[test]
fn tests_name_rules_that_are_there() {
    let tests = "  - {name: a, event: fixtures/update.json, expect: {rr: []}}\n  - {name: a, event: fixtures/update.json, expect: {}}\n";
    insta::assert_snapshot!(refused(&with_tests(tests)).to_string(), @r#"
    rules.yaml:9:53: error: there is no rule `rr` (did you mean `r`?)
    rules.yaml:10:5: error: there are two tests named `a`; the other one is at rules.yaml:9:12
    "#);
}

#[test]
fn tests_may_stand_beside_the_rules() {
    let mut files = with_tests("  []\n");
    files.files.insert(
        "sub/r.test.yaml".into(),
        "tests:\n  - {name: t, event: near.json, expect: {r: [{}]}}\n  - {name: u, event: fixtures/update.json, expect: {r: [{}, {}]}}\n".into(),
    );
    files.files.insert(
        "sub/near.json".into(),
        r#"{"topic": "org.example.update.request.testing", "body": {"new": 1, "builds": ["n"]}}"#.into(),
    );
    let outcomes = rule_test::run(&compiled(&files).rule_set);
    assert!(
        outcomes.iter().all(|outcome| outcome.passed && outcome.file == "sub/r.test.yaml"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes.iter().map(|outcome| outcome.line).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn the_time_of_a_test_is_given_or_the_messages_own() {
    let rules = |now: &str| {
        let text = format!(
            "rules: [{{name: r, on: a.b, when: {{body.at: {{age: {{lt: 1h}}}}}}, then: [{{task: rpmlint}}]}}]\ntests:\n  - {{name: t, {now} event: {{topic: a.b, headers: {{sent-at: \"2026-11-01T10:30:00Z\"}}, body: {{at: \"2026-11-01T10:00:00Z\"}}}}, expect: {{r: [{{}}]}}}}\n"
        );
        rule_test::run(&compiled(&files(&text)).rule_set)[0].passed
    };
    assert!(rules(""));
    assert!(rules("now: \"2026-11-01T10:59:00Z\","));
    assert!(!rules("now: \"2026-11-01T11:01:00Z\","));
}

#[test]
fn a_rule_with_nearly_everything() {
    let rules = r#"
rules:
  - name: rpmlint-on-testing
    description: If any package is submitted for testing, run rpmlint
    on: org.fedoraproject.prod.bodhi.update.request.testing
    when:
      body.update.release.name: [F42, F43]
      body.agent: {not: releng}
      body.update.builds: {size: {min: 1, max: 20}}
    unless: {body.update.notes: {regex: '\[skip ci\]'}}
    if: |
      event.body.update.builds.len() < 2 || fact("critpath", nvr(event.body.update.builds[0].nvr).name)
    for_each: {build: {in: event.body.update.builds, if: 'nvr(build.nvr).name != "kernel"'}}
    then:
      - task: rpmlint
        item: {type: koji_build, id: "${build.nvr}"}
        with: {nvr: "${build.nvr}"}
        matrix: {arch: [x86_64, aarch64]}
        needs: {arch: "${matrix.arch}"}
        priority: 50
        group: {name: "${event.body.update.release.name}/rpmlint/${build.nvr}", on_new: supersede_queued}
    dedupe: {key: "${build.nvr}", window: 6h}
    mode: active
tests:
  - name: a testing request lints each build
    event: fixtures/request.json
    expect:
      rpmlint-on-testing:
        - {item: {id: python-arrow-1.0-1.fc42}, needs: {arch: x86_64}}
        - {item: {id: python-arrow-1.0-1.fc42}, needs: {arch: aarch64}}
  - name: two builds are only linted if the first is on the critical path
    event: {file: fixtures/request.json, patch: {body: {update: {builds: [{nvr: bash-5-1}, {nvr: kernel-6-1}]}}}}
    expect: {rpmlint-on-testing: [{item: {id: bash-5-1}}, {item: {id: bash-5-1}}]}
  - name: and else not
    event: {file: fixtures/request.json, patch: {body: {update: {builds: [{nvr: zsh-5-1}, {nvr: kernel-6-1}]}}}}
    expect: {}
  - name: asked to be left alone
    event: {file: fixtures/request.json, patch: {body: {update: {notes: "bump [skip ci]"}}}}
    expect: {}
"#;
    let mut files = files(rules);
    files.files.insert("facts/critpath.yaml".into(), "[bash, kernel]".into());
    files.files.insert(
        "fixtures/request.json".into(),
        r#"{"topic": "org.fedoraproject.prod.bodhi.update.request.testing", "headers": {}, "body": {"agent": "alice",
            "update": {"release": {"name": "F42"}, "notes": "", "builds": [{"nvr": "python-arrow-1.0-1.fc42"}]}}}"#
            .into(),
    );
    let outcomes = rule_test::run(&compiled(&files).rule_set);
    assert_eq!(outcomes.len(), 4);
    assert!(outcomes.iter().all(|outcome| outcome.passed), "{outcomes:#?}");
}

#[test]
fn a_non_match_names_the_clause_that_it_is_for() {
    let patched = |patch: &str| format!("{{file: fixtures/update.json, patch: {patch}}}");
    for (patch, expect) in [
        ("{body: {new: 2}}", "{r: {no_match: body.new}}"),
        ("{body: {new: null}}", "{r: {no_match: [body.new]}}"),
        ("{topic: org.other}", "{r: {no_match: \"on\"}}"),
        ("{body: {builds: []}}", "{r: {no_match: for_each}}"),
        ("{body: {builds: 5}}", "{r: {error: must give a list}}"),
    ] {
        assert_eq!(outcome(&patched(patch), expect), "passed", "{expect}");
    }
    insta::assert_snapshot!(
        [
            outcome(&patched("{body: {new: 2}}"), "{r: {no_match: body.builds}}"),
            outcome(&patched("{}"), "{r: {no_match: body.new}}"),
            outcome(&patched("{body: {builds: 5}}"), "{r: {error: timeout}}"),
            outcome(&patched("{body: {builds: 5}}"), "{r: {no_match: body.new}}"),
            outcome(&patched("{}"), "{r: {error: timeout}}"),
        ]
        .join("\n"),
        @r#"
        r: does not fire, but not because of body.builds
            failed: when body.new is 1, found 2
        r: is expected not to fire, but wishes
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"a","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"a"}}
            + {"git":"https://git.example.org/rpmlint.git","item":{"id":"b","type":"build"},"priority":0,"queue":"default","ref":"main","task":"rpmlint","trust":"untrusted","with":{"n":1,"nvr":"b"}}
        r: is expected to err with `timeout`, but erred at rules.yaml:5:24: the expression must give a list, it gives a number
        r: erred at rules.yaml:5:24: the expression must give a list, it gives a number
        r: is expected to err with `timeout`, but does not
        "#
    );
}

#[test]
fn junit_has_a_suite_for_each_file() {
    let mut files =
        with_tests("  - {name: \"a <good> one\", event: fixtures/update.json, expect: {r: [{}, {}]}}\n");
    let tests = "tests:\n  - {name: b, event: fixtures/update.json, expect: {r: [{item: {id: c}}, {}]}}\n";
    files.files.insert("more.test.yaml".into(), tests.into());
    let outcomes = rule_test::run(&compiled(&files).rule_set);
    insta::assert_snapshot!(rule_test::junit(&outcomes), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="taskbot rule test" tests="2" skipped="0" failures="1" errors="0">
            <testsuite name="more.test.yaml" tests="1" skipped="0" errors="0" failures="1">
                <testcase name="b" classname="more.test.yaml" file="more.test.yaml" line="2">
                    <failure message="r: wishes other things than expected (- expected, + wished)">r: wishes other things than expected (- expected, + wished)
            - {&quot;item&quot;:{&quot;id&quot;:&quot;c&quot;}}
                item.id: expected &quot;c&quot;, got &quot;b&quot;
            + {&quot;git&quot;:&quot;https://git.example.org/rpmlint.git&quot;,&quot;item&quot;:{&quot;id&quot;:&quot;b&quot;,&quot;type&quot;:&quot;build&quot;},&quot;priority&quot;:0,&quot;queue&quot;:&quot;default&quot;,&quot;ref&quot;:&quot;main&quot;,&quot;task&quot;:&quot;rpmlint&quot;,&quot;trust&quot;:&quot;untrusted&quot;,&quot;with&quot;:{&quot;n&quot;:1,&quot;nvr&quot;:&quot;b&quot;}}</failure>
                </testcase>
            </testsuite>
            <testsuite name="rules.yaml" tests="1" skipped="0" errors="0" failures="0">
                <testcase name="a &lt;good&gt; one" classname="rules.yaml" file="rules.yaml" line="9"/>
            </testsuite>
        </testsuites>
        "#);
}

/// The files with what the rules say now; its tests must pass.
fn accepted(files: &RuleFiles) -> String {
    let changed = rule_test::accept(files, &compiled(files).rule_set);
    let mut after = files.clone();
    for (path, text) in &changed {
        after.files.insert(path.clone(), text.as_str().into());
    }
    let outcomes = rule_test::run(&compiled(&after).rule_set);
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{changed:#?}");
    assert!(rule_test::accept(&after, &compiled(&after).rule_set).is_empty());
    let changed = changed.get("more.test.yaml").cloned().unwrap_or_default();
    assert!(changed.is_empty() || changed.contains("# kept"), "{changed}");
    changed
}

#[test]
fn what_is_said_now_can_be_accepted() {
    let mut files = with_tests("  - {name: t, event: fixtures/update.json, expect: {r: [{}, {}]}}\n");
    files.files.insert(
        "more.test.yaml".into(),
        r#"# kept
tests:
  # in flow style
  - {name: a, event: fixtures/update.json, expect: {other: [], r: [{item: {id: "c}"}}]}}  # kept
  - name: b
    event: fixtures/update.json
    expect: {}   # nothing
  - name: c
    expect:
      # before
      other: []
      r:
        - {item: {id: b}}   # one
        - item: {id: c}

      # after
    event: fixtures/update.json
  - name: d
    event: {file: fixtures/update.json, patch: {body: {new: 2}}}
    expect:
      r: {no_match: body.builds}
  - name: e
    event: {file: fixtures/update.json, patch: {body: {new: 2}}}
    expect:
      "r":
      - {}
"#
        .into(),
    );
    insta::assert_snapshot!(accepted(&files), @r#"
        # kept
        tests:
          # in flow style
          - {name: a, event: fixtures/update.json, expect: {other: [], r: [{item: {id: a, type: build}, task: rpmlint, with: {"n": 1, nvr: a}}, {item: {id: b, type: build}, task: rpmlint, with: {"n": 1, nvr: b}}]}}  # kept
          - name: b
            event: fixtures/update.json
            expect: {r: [{item: {id: a, type: build}, task: rpmlint, with: {"n": 1, nvr: a}}, {item: {id: b, type: build}, task: rpmlint, with: {"n": 1, nvr: b}}]}   # nothing
          - name: c
            expect:
              # before
              other: []
              r:
                - {item: {id: a, type: build}, task: rpmlint, with: {"n": 1, nvr: a}}
                - {item: {id: b}}

              # after
            event: fixtures/update.json
          - name: d
            event: {file: fixtures/update.json, patch: {body: {new: 2}}}
            expect:
              r: {no_match: body.new}
          - name: e
            event: {file: fixtures/update.json, patch: {body: {new: 2}}}
            expect:
              "r": []
        "#);
}
