use super::*;
use model::yaml::Reader;
use serde_json::json;

/// The clauses of a block, which must be without mistakes.
fn block(text: &str, roots: Roots) -> Block {
    let reader = Reader::new("rule.yaml", text);
    let node = reader.parse().unwrap_or_else(|| panic!("{text}"));
    let block = read_block(&reader, &node, "`when`", roots);
    assert!(!reader.failed(), "{}", reader.into_report());
    block
}

/// What is noted about a block with mistakes.
fn mistakes(text: &str) -> String {
    let reader = Reader::new("rule.yaml", text);
    if let Some(node) = reader.parse() {
        let _ = read_block(&reader, &node, "`when`", Roots::Event);
    }
    let report = reader.into_report();
    assert!(report.has_errors(), "{text}");
    report.to_string()
}

fn now() -> DateTime<Utc> {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

const HELD: ClauseState = ClauseState::Held;
const FAILED: ClauseState = ClauseState::Failed;
const MISSING: ClauseState = ClauseState::Missing;
const WRONG: ClauseState = ClauseState::WrongType;

/// Judges `{body.x: PREDICATE}` against a value of `x`, and the negated clause with it.
#[track_caller]
fn check(predicate: &str, x: Option<Value>, expect: ClauseState) {
    let object = x.map_or_else(|| json!({"body": {}}), |x| json!({"body": {"x": x}}));
    let judge = |text: &str| {
        let block = block(text, Roots::Event);
        let found = block[0].path.find(Subject::Value(&object));
        block[0].predicate.judge(&found, now()).state
    };
    assert_eq!(judge(&format!("body.x: {predicate}")), expect, "{predicate} of {object}");
    let negated = if expect == HELD { FAILED } else { HELD };
    assert_eq!(judge(&format!("body.x: {{not: {predicate}}}")), negated, "not {predicate} of {object}");
}

#[test]
fn equality_and_any_of() {
    check("F42", Some(json!("F42")), HELD);
    check("F42", Some(json!("F43")), FAILED);
    check("F42", Some(json!("f42")), FAILED);
    check("F42", None, MISSING);
    check("F42", Some(json!(null)), WRONG);
    check("1", Some(json!(1)), HELD);
    check("1", Some(json!(1.0)), HELD);
    check("1.5", Some(json!(1.5)), HELD);
    check("1", Some(json!("1")), WRONG);
    check("\"1\"", Some(json!(1)), WRONG);
    check("\"1\"", Some(json!("1")), HELD);
    check("9223372036854775807", Some(json!(9_223_372_036_854_775_807_i64)), HELD);
    check("9223372036854775807", Some(json!(9_223_372_036_854_775_806_i64)), FAILED);
    check("true", Some(json!(true)), HELD);
    check("true", Some(json!("true")), WRONG);
    check("null", Some(json!(null)), HELD);
    check("null", Some(json!(0)), WRONG);
    check("null", None, MISSING);
    check("[F42, F43]", Some(json!("F43")), HELD);
    check("[F42, F43]", Some(json!("F44")), FAILED);
    check("[F42, 43]", Some(json!(43)), HELD);
    check("[F42, F43]", Some(json!(43)), WRONG);
    check("[F42, {prefix: EPEL-}]", Some(json!("EPEL-9")), HELD);
    check("[{prefix: a, not: ab}, c]", Some(json!("ab")), FAILED);
    check("[a]", Some(json!(["a"])), WRONG);
    check("{ieq: ReLeNg}", Some(json!("RELENG")), HELD);
    check("{ieq: [straße]}", Some(json!("STRAßE")), HELD);
    check("{ieq: a}", Some(json!(1)), WRONG);
}

#[test]
fn negation_and_existence() {
    check("{exists: true}", Some(json!(null)), HELD);
    check("{exists: true}", None, MISSING);
    check("{exists: false}", None, HELD);
    check("{exists: false}", Some(json!(0)), FAILED);
    check("{null: true}", Some(json!(null)), HELD);
    check("{null: true}", Some(json!(1)), FAILED);
    check("{null: true}", None, MISSING);
    check("{null: false}", Some(json!("")), HELD);
    check("{null: false}", Some(json!(null)), FAILED);
    check("{null: false}", None, MISSING);
    check("{not: releng}", Some(json!("alice")), HELD);
    check("{not: releng}", Some(json!("releng")), FAILED);
    check("{not: releng}", None, HELD);
    check("{not: [a, b]}", Some(json!("b")), FAILED);
    check("{not: {not: a}}", Some(json!("a")), HELD);
    check("{not: {not: a}}", None, FAILED);
    check("{exists: true, not: a}", None, MISSING);
    check("{prefix: kernel, not: kernel-rt}", Some(json!("kernel-rt")), FAILED);
    check("{prefix: kernel, not: kernel-rt}", Some(json!("kernel")), HELD);
    check("{prefix: kernel, not: kernel-rt}", None, MISSING);
}

#[test]
fn texts() {
    check("{prefix: python-}", Some(json!("python-arrow")), HELD);
    check("{prefix: python-}", Some(json!("ruby")), FAILED);
    check("{prefix: python-}", Some(json!(["python-arrow"])), WRONG);
    check("{prefix: [a, b]}", Some(json!("bc")), HELD);
    check("{suffix: .fc42}", Some(json!("1-1.fc42")), HELD);
    check("{suffix: [.fc42, .fc43]}", Some(json!("1-1.fc41")), FAILED);
    check("{glob: \"python*-*\"}", Some(json!("python3-arrow")), HELD);
    check("{glob: \"python*\"}", Some(json!("a/python")), FAILED);
    check("{glob: \"*/python\"}", Some(json!("a/b/python")), HELD);
    check("{glob: \"{a,b}?\"}", Some(json!("bc")), HELD);
    check("{glob: [x, \"[a-c]\"]}", Some(json!("b")), HELD);
    check("{glob: a}", Some(json!(1)), WRONG);
    check(r"{regex: '\[skip ci\]'}", Some(json!("fix [skip ci] it")), HELD);
    check(r"{regex: '^fix$'}", Some(json!("fix it")), FAILED);
    check("{regex: [x, z]}", Some(json!("xyz")), HELD);
    check("{regex: x}", Some(json!(true)), WRONG);
}

#[test]
fn numbers_versions_ages() {
    check("{gt: 1}", Some(json!(1)), FAILED);
    check("{gt: 1}", Some(json!(1.5)), HELD);
    check("{gte: 1}", Some(json!(1.0)), HELD);
    check("{lt: 2.5}", Some(json!(2)), HELD);
    check("{lt: 2.5}", Some(json!(3)), FAILED);
    check("{lt: -2.5}", Some(json!(-3)), HELD);
    check("{lt: -2.5}", Some(json!(-2)), FAILED);
    check("{lte: 2}", Some(json!(2)), HELD);
    check("{gte: 1, lt: 3}", Some(json!(3)), FAILED);
    check("{gte: 1}", Some(json!("2")), WRONG);
    check("{gt: 9007199254740992}", Some(json!(9_007_199_254_740_993_i64)), HELD);
    check("{rpm_version: {gte: \"1.10\"}}", Some(json!("1.9")), FAILED);
    check("{rpm_version: {gte: \"1.10\"}}", Some(json!("1.10.1")), HELD);
    check("{rpm_version: {lt: \"1.0\"}}", Some(json!("1.0~rc1")), HELD);
    check("{rpm_version: {gt: \"1.0-1\"}}", Some(json!("1:0.5-1")), HELD);
    check("{rpm_version: {eq: \"1.0\"}}", Some(json!("1.00")), HELD);
    check("{rpm_version: {gte: \"1\"}}", Some(json!(2)), WRONG);
    check("{debian_version: {lt: \"1.0\"}}", Some(json!("1.0~beta1")), HELD);
    check("{debian_version: {gt: \"1.0-1\"}}", Some(json!("1.0-1+b1")), HELD);
    for time in
        [json!("2026-11-01T11:00:00Z"), json!("2026-11-01 11:00:00.5"), json!("2026-11-01T12:00:00+01:00")]
    {
        check("{age: {lt: 2h}}", Some(time.clone()), HELD);
        check("{age: {gt: 2h}}", Some(time), FAILED);
    }
    check("{age: {gt: 12h, lt: 13h}}", Some(json!("2026-11-01")), FAILED);
    check("{age: {gte: 12h}}", Some(json!("2026-11-01")), HELD);
    check("{age: {lt: 10s}}", Some(json!(1_793_534_395.5)), HELD);
    check("{age: {lt: 1s}}", Some(json!("2027-01-01T00:00:00Z")), HELD);
    check("{age: {gt: 1s}}", Some(json!("2027-01-01T00:00:00Z")), FAILED);
    check("{age: {lt: 1s}}", Some(json!("yesterday")), WRONG);
    check("{age: {lt: 1s}}", None, MISSING);
}

#[test]
fn lists() {
    check("{size: 2}", Some(json!([1, 2])), HELD);
    check("{size: 2}", Some(json!("äö")), HELD);
    check("{size: {min: 1, max: 2}}", Some(json!({"a": 1})), HELD);
    check("{size: {min: 1}}", Some(json!([])), FAILED);
    check("{size: {max: 1}}", Some(json!(1)), WRONG);
    check("{contains: critpath}", Some(json!(["a", "critpath"])), HELD);
    check("{contains: critpath}", Some(json!(["critpath-base"])), FAILED);
    check("{contains: critpath}", Some(json!("the critpath group")), HELD);
    check("{contains: 1}", Some(json!([1.0])), HELD);
    check("{contains: [a, b]}", Some(json!(["b"])), HELD);
    check("{contains: {any: [a, b]}}", Some(json!(["c"])), FAILED);
    check("{contains: {all: [a, b]}}", Some(json!(["b", "a", "c"])), HELD);
    check("{contains: {all: [a, b]}}", Some(json!(["b"])), FAILED);
    check("{contains: {prefix: f42-}}", Some(json!(["x", "f42-updates"])), HELD);
    check("{contains: a}", Some(json!(5)), WRONG);
    check("{contains: a}", Some(json!({"a": 1})), WRONG);
    let builds = json!([{"nvr": "kernel-1-1", "signed": true}, {"nvr": "bash-1-1", "signed": false}]);
    check("{any: {nvr: {prefix: kernel-}, signed: true}}", Some(builds.clone()), HELD);
    check("{any: {nvr: {prefix: bash-}, signed: true}}", Some(builds.clone()), FAILED);
    check("{all: {nvr: {suffix: \"-1\"}}}", Some(builds.clone()), HELD);
    check("{all: {signed: true}}", Some(builds), FAILED);
    check("{all: {signed: true}}", Some(json!([])), HELD);
    check("{any: {signed: true}}", Some(json!({"signed": true})), WRONG);
    check("{any: {a: {any: {b: 1}}}}", Some(json!([{"a": [{"b": 1}]}])), HELD);
}

#[test]
fn paths_through_arrays_mean_any_element() {
    let object =
        json!({"body": {"builds": [{"nvr": "kernel-rt", "w": 1}, {"nvr": "kernel", "w": "x"}, {"w": 9}]}});
    let check = |clause: &str, expect: ClauseState, found: Option<Value>| {
        let block = block(clause, Roots::Event);
        let judged = block[0].judge(Subject::Value(&object), now());
        assert_eq!((judged.state, judged.found.cloned()), (expect, found), "{clause}");
    };
    check("body.builds.nvr: kernel", HELD, Some(json!("kernel")));
    check("body.builds.nvr: {not: kernel}", FAILED, Some(json!("kernel")));
    check("body.builds.nvr: {not: bash}", HELD, Some(json!("kernel-rt")));
    check("body.builds.w: {gte: 2, lt: 20}", HELD, Some(json!(9)));
    check("body.builds.w: {gte: 2, lt: 5}", FAILED, Some(json!(1)));
    check("body.builds.w: {gte: 0, lt: 5}", HELD, Some(json!(1)));
    check("body.builds.w: z", FAILED, Some(json!("x")));
    check("body.builds.w: true", WRONG, Some(json!(1)));
    check("body.builds.tag: x", MISSING, None);
    check("body.builds: kernel", WRONG, Some(object["body"]["builds"].clone()));
}

#[test]
fn wrong_types_say_what_was_found() {
    let object = json!({"body": {"x": ["a"], "y": 1}});
    let note = |clause: &str| block(clause, Roots::Event)[0].judge(Subject::Value(&object), now()).note();
    assert_eq!(
        note("body.x: a").unwrap(),
        "it is an array; `contains`, `any`, `all` and `size` look into lists"
    );
    assert_eq!(note("body.y: a").unwrap(), "it is a number");
    assert_eq!(note("body.y: 2"), None);
}

#[test]
fn clauses_in_words() {
    for (predicate, expect) in [
        ("F42", "is F42"),
        ("\"42\"", "is \"42\""),
        ("42", "is 42"),
        ("\"\"", "is \"\""),
        ("[F42, F43]", "is any of [F42, F43]"),
        ("[a, {prefix: b}]", "is any of [a, (starts with b)]"),
        ("{not: releng}", "is not releng"),
        ("{not: [a, b]}", "is none of [a, b]"),
        ("{not: {prefix: a}}", "not (starts with a)"),
        ("{exists: false}", "is not there"),
        ("{null: false}", "is there and not null"),
        ("{prefix: [a, b], suffix: c}", "starts with a or b and ends with c"),
        ("{glob: \"a*\"}", "matches a*"),
        ("{regex: '^a'}", "matches /^a/"),
        ("{ieq: Ab}", "is ab in any case"),
        ("{gte: 2, lt: 5}", "is at least 2 and is below 5"),
        ("{rpm_version: {gt: \"1.2\"}}", "is an RPM version above 1.2"),
        ("{age: {lt: 90m}}", "has an age below 1h30m"),
        ("{size: 3}", "has size 3"),
        ("{size: {min: 1, max: 20}}", "has size 1 to 20"),
        ("{contains: a}", "contains a"),
        ("{contains: {all: [a, b]}}", "contains all of [a, b]"),
        ("{any: {nvr: x, signed: true}}", "has an element where nvr is x and signed is true"),
        ("{all: {signed: true}}", "has only elements where signed is true"),
    ] {
        assert_eq!(block(&format!("body.x: {predicate}"), Roots::Event)[0].predicate.to_string(), expect);
    }
}

#[test]
fn mistakes_have_a_place_and_a_mending() {
    insta::assert_snapshot!(
        mistakes(
            r#"
bdy.x: 1
body..x: 1
body.sent-at: 1
headers: {exists: true}
topic.x: 1
name: x
body.a: {prefx: x}
body.b: {startswith: x}
body.c: {in: [a]}
body.d: {version: "1"}
body.e: {gt: "1.2"}
body.f: {gt: x}
body.g: []
body.h:
body.i: {}
body.j: {exists: 1}
body.k: {regex: '('}
body.l: {glob: '[a'}
body.m: {size: {min: 3, max: 1}}
body.n: {size: -1}
body.o: {age: 5}
body.p: {age: {lt: 5}}
body.q: {rpm_version: {gte: 1.5}}
body.r: {any: [a]}
body.s: {any: {}}
body.t: {exists: false, prefix: a}
body.u: [{exists: true}]
body.v: {prefix: ""}
body.w: {body.x: 1}
body.x: {any: {y: {nope: 1}}}
body.y: {rpm_version: {}}
body.z: {contains: {all: []}}
"#
        ),
        @r#"
        rule.yaml:2:1: error: a path cannot start with `bdy` (did you mean `body`?)
        rule.yaml:3:6: error: a part of a path between two dots must not be empty
        rule.yaml:4:10: error: `-` cannot stand in a path without quotes (quote the part: body."sent-at")
        rule.yaml:5:1: error: `headers` alone is no field (name the header: headers."sent-at")
        rule.yaml:6:1: error: `topic` is a text and has no fields
        rule.yaml:7:1: error: a path cannot start with `name` (paths start with topic, source, headers or body: body.name)
        rule.yaml:8:10: error: there is no predicate `prefx` (did you mean `prefix`?)
        rule.yaml:9:10: error: there is no predicate `startswith` (write `prefix`)
        rule.yaml:10:10: error: there is no predicate `in` (write the list itself: `path: [a, b]`)
        rule.yaml:11:10: error: there is no predicate `version` (write `rpm_version` or `debian_version`)
        rule.yaml:12:14: error: `gt` compares numbers, `1.2` is a text (without quotes: 1.2)
        rule.yaml:13:14: error: `gt` compares numbers, `x` is a text (versions compare by `rpm_version` or `debian_version`, times by `age`)
        rule.yaml:14:9: error: an empty list never matches
        rule.yaml:15:7: error: there is nothing that must hold here (write `null` to ask for null, or `{exists: true}`)
        rule.yaml:16:9: error: an empty mapping asks nothing (known predicates are not, exists, null, prefix, suffix, ieq, glob, regex, gt, gte, lt, lte, rpm_version, debian_version, age, size, contains, any, all)
        rule.yaml:17:18: error: `exists` must be true or false, it is a number
        rule.yaml:18:17: error: `regex`: `(` is no regular expression: unclosed group
        rule.yaml:19:16: error: `glob`: `[a` is no glob: unclosed character class; missing ']'
        rule.yaml:20:16: error: no size is at least 3 and at most 1
        rule.yaml:21:16: error: `size` must be from 0 to 9223372036854775806, it is -1
        rule.yaml:22:15: error: `age` must be a mapping such as {lt: 2d}, it is a number
        rule.yaml:23:20: error: an age must be a duration with a unit (write 5s for seconds or 5m for minutes)
        rule.yaml:24:29: error: a version must be a text, it is a number (quote it: "1.5")
        rule.yaml:25:15: error: `any` must be a mapping from paths to what must hold there, it is a list (write `body.some.field: value`)
        rule.yaml:26:15: error: `any` must not be empty
        rule.yaml:27:9: error: a field that is not there meets no other predicate
        rule.yaml:28:11: error: `exists` asks for a field: it can only stand under a path
        rule.yaml:29:18: error: `prefix` needs a text that is not empty
        rule.yaml:30:10: error: there is no predicate `body.x` (a path stands directly in the block, not within another)
        rule.yaml:31:20: error: there is no predicate `nope` (did you mean `not`?)
        rule.yaml:32:23: error: `rpm_version` needs a bound such as {gte: "1.2"}
        rule.yaml:33:26: error: an empty list never matches
        "#
    );
}

#[test]
fn what_yaml_would_change_is_refused() {
    insta::assert_snapshot!(
        [
            "body.x: 3.10",
            "body.x: no",
            "body.x: 010",
            "body.x: 1e7",
            "body.x: 1\nbody.x: 2",
            "body.x: [&a [1, 1], *b]",
            "body.x: !tag y",
        ]
        .map(mistakes)
        .join("\n"),
        @r#"
        rule.yaml:1:9: error: YAML reads `3.10` as the number 3.1 (quote it: "3.10")
        rule.yaml:1:9: error: `no` is a boolean to some YAML readers and a text to others (write "no" for the text, or true or false)
        rule.yaml:1:9: error: YAML reads `010` as the number 10 (quote it: "010")
        rule.yaml:1:9: error: YAML reads `1e7` as the number 10000000 (quote it: "1e7")
        rule.yaml:2:1: error: duplicate mapping key: body.x (each key may stand only once in a mapping: join the two entries)
        rule.yaml:1:21: error: alias references unknown anchor
        rule.yaml:1:14: error: unsupported tag `!tag` (a plain `!` starts a YAML tag: write scripts as a block (`if: |`) or quote them)
        "#
    );
}

#[test]
fn a_yaml_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
    }
    let found = mistakes(&text);
    assert!(
        found.contains("more than 200000 values, aliases counted") && found.contains("split the file"),
        "{found}"
    );
}
