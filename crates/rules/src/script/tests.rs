//! Tables of scripts and what they give, or how they fail.

use super::*;
use chrono::{DateTime, Utc};
use model::diagnostic::Report;
use serde_json::json;
use std::time::Duration;

mod limits;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000, 0).expect("a time")
}

fn engine() -> Engine {
    let mut facts = Facts::default();
    let mut report = Report::default();
    facts.add_table("critpath", "facts/critpath.yaml", "[kernel, glibc]", &mut report);
    facts.add_table("arches", "facts/arches.yaml", "fc42: [x86_64, aarch64]\n\"7\": [s390x]\n", &mut report);
    facts.add_table("owners", "facts/owners.csv", "package,owner\nbash,ada\n", &mut report);
    assert!(!report.has_errors(), "{report}");
    Engine::new(Arc::new(facts))
}

fn roots() -> Value {
    json!({
        "topic": "org.example.build", "source": "bus", "headers": {"sent-at": "2025-06-15T15:06:30Z"},
        "body": {
            "new": 1, "package": "p", "match": "m", "default": "d", "private": true, "for": 3, "if": 4, "in": [1, 2],
            "fn": 7, "true": 8, "as": {"is": {"this": 9}}, "sent-at": "x", "let": 2, "print": 5, "eval": 6,
            "debug": 10, "len": 11, "tag": 12, "keys": 13,
            "big": i64::MAX, "huge": u64::MAX, "half": 0.5, "nothing": null, "text": "é-ü",
            "nvr": "python-arrow-1.0-1.fc42",
            "builds": [
                {"nvr": "bash-5.2-1.fc42", "tags": ["a", "b"], "name": "b", "size": 3},
                {"nvr": "kernel-6.1-1.fc42", "tags": ["c"], "name": "x", "size": 1},
            ],
            "matrix": [[1, 2], [3]],
        },
    })
}

fn scope() -> Scope<'static> {
    Scope::new(&roots(), now())
        .with(&[("build", json!({"nvr": "zsh-5-1"})), ("matrix", json!({"arch": "s390x"}))])
}

fn eval(source: &str) -> Result<Value, ScriptError> {
    let engine = engine();
    engine.compile_with(source, &["build", "matrix"])?.eval(&engine, &scope())
}

#[track_caller]
fn check(table: &[(&str, Value)]) {
    for (source, expect) in table {
        match eval(source) {
            Ok(value) => assert_eq!(value, *expect, "{source}"),
            Err(error) => panic!("{source}: {error} {:?}", error.help),
        }
    }
}

/// One line each: the marked text, the message, the help.
fn mistakes(sources: &[&str]) -> String {
    let line = |source: &&str| match eval(source) {
        Ok(value) => panic!("{source} gives {value}"),
        Err(error) => {
            let marked = source.get(error.span.clone()).unwrap_or("(outside)");
            let help = error.help.map_or_else(String::new, |help| format!(" ({help})"));
            format!("{source}\n  [{marked}] {:?}: {}{help}\n", error.kind, error.message)
        }
    };
    sources.iter().map(line).collect()
}

#[test]
fn every_function_does_what_its_documentation_says() {
    for function in FUNCTIONS {
        let expect: Value = serde_json::from_str(function.gives).expect(function.name);
        let value = eval(function.example).unwrap_or_else(|error| panic!("{}: {error}", function.example));
        assert_eq!(value, expect, "{}", function.example);
        assert!(function.example.contains(&format!("{}(", function.name)), "{}", function.name);
        assert_eq!(
            FUNCTIONS.iter().filter(|other| other.name == function.name).count(),
            1,
            "{}",
            function.name
        );
    }
}

#[test]
fn words_are_field_names_after_a_dot() {
    check(&[
        ("event.body.new", json!(1)),
        ("event.body.new == 1 && event.body.package == \"p\"", json!(true)),
        ("event.body.match + event.body.default", json!("md")),
        ("event.body.private", json!(true)),
        ("!event.body.private", json!(false)),
        ("event.body.for - 1", json!(2)),
        ("event.body.if - 1", json!(3)),
        ("event.body.let * 2", json!(4)),
        ("1 in event.body.in", json!(true)),
        ("event.body?.fn", json!(7)),
        ("event.body.true", json!(8)),
        ("event.body.as.is.this", json!(9)),
        ("event.body[\"sent-at\"]", json!("x")),
        ("event . body . new", json!(1)),
        ("event.body.new\n  .to_string()", json!("1")),
        ("if event.body.new == 1 { 2 } else { 3 }", json!(2)),
        ("`v${event.body.new}`", json!("v1")),
        ("`v${#{in: event.body.new}.in}!`", json!("v1!")),
        ("#{new: 1, in: 2, private: #{for: 3}}.private.for", json!(3)),
        ("#{a: [1, 2], in: 4}.in", json!(4)),
        ("event.body.print + event.body.eval + event.body.debug", json!(21)),
        ("event.body.in.len() - 1", json!(1)),
        ("event.body.in.filter(|x| x > 1)", json!([2])),
    ]);
}

#[test]
fn fields_hide_no_functions_and_functions_no_fields() {
    check(&[
        ("event.body.len", json!(11)),
        ("event.body.keys", json!(13)),
        ("event.body.tag", json!(12)),
        ("event.body.builds.len()", json!(2)),
        ("event.body.builds.len", json!(2)),
        ("event.body.len() > 5", json!(true)),
        ("event.keys()", json!(["body", "headers", "source", "topic"])),
        ("\"new\" in event.body", json!(true)),
        ("\"old\" in event.body", json!(false)),
        ("event.body.get(\"old\")", json!(null)),
        ("event.headers[\"sent-at\"].age()", json!(10)),
    ]);
}

#[test]
fn values_keep_what_they_are() {
    check(&[
        ("event.body.big", json!(i64::MAX)),
        ("event.body.huge", json!(u64::MAX)),
        ("`${event.body.huge}`", json!("18446744073709551615")),
        ("event.body.huge > 5 && 5 < event.body.huge && event.body.huge == event.body.huge", json!(true)),
        ("event.body.huge > event.body.big && event.body.huge != 1 && event.body.huge > 0.5", json!(true)),
        ("event.body.half", json!(0.5)),
        ("event.body.nothing", json!(null)),
        ("event.body.nothing == ()", json!(true)),
        ("event.body.absent == ()", json!(true)),
        ("event.body.absent?.deeper.still", json!(null)),
        ("event.body.absent ?? \"x\"", json!("x")),
        ("event.body.text.len()", json!(3)),
        ("event.body.builds[-1].nvr", json!("kernel-6.1-1.fc42")),
        ("event.body.matrix[0][1]", json!(2)),
        ("event.body.matrix", json!([[1, 2], [3]])),
        ("event.body.as", json!({"is": {"this": 9}})),
        ("event.body.as == #{is: #{this: 9.0}}", json!(true)),
        ("event.body.as != event.body.builds[0]", json!(true)),
        ("event.body.in == [1, 2]", json!(true)),
        ("[1, 2] == event.body.in", json!(true)),
        ("[event.body.in] == event.body.matrix", json!(false)),
        ("event.body.matrix[0] == event.body.in", json!(true)),
        ("event.body.matrix.contains([3])", json!(true)),
        ("[3] in event.body.matrix", json!(true)),
        ("[event.body.as].contains(#{is: #{this: 9}})", json!(true)),
        ("event.body.in + [3]", json!([1, 2, 3])),
        ("event.body.as + #{x: 1}", json!({"is": {"this": 9}, "x": 1})),
        ("event.body.as.to_json()", json!("{\"is\":{\"this\":9}}")),
        ("`${event.body.in}`", json!("[1,2]")),
        ("\"\" + event.body.new", json!("1")),
        ("type_of(event.body)", json!("map")),
        ("type_of(event.body.in)", json!("array")),
        ("type_of(event.body.huge)", json!("u64")),
        ("'x'", json!("x")),
        ("build.nvr", json!("zsh-5-1")),
        ("matrix.arch", json!("s390x")),
        ("20 == 20.0", json!(true)),
        ("event.body.new == \"1\"", json!(false)),
    ]);
}

#[test]
fn closures_read_what_is_around_them() {
    check(&[
        ("event.body.in.some(|x| x == event.body.new)", json!(true)),
        (
            "event.body.builds.filter(|b| b.tags.some(|t| t == b.name)).map(|b| b.nvr)",
            json!(["bash-5.2-1.fc42"]),
        ),
        (
            "event.body.builds.some(|b| b.nvr == event.body.nvr || b.nvr.starts_with(event.body.builds[0].name))",
            json!(true),
        ),
        ("event.body.in.map(|x| event.body.in.map(|y| x * y))", json!([[1, 2], [2, 4]])),
        (
            "event.body.in.map(|x| event.body.in.map(|y| event.body.in.filter(|z| z == x && z == y)))",
            json!([[[1], []], [[], [2]]]),
        ),
        (
            "[1, 2].map(|x| #{n: x, all: [x, event.body.new]})",
            json!([{"n": 1, "all": [1, 1]}, {"n": 2, "all": [2, 1]}]),
        ),
        ("event.body.builds.order_by(|a, b| a.size - b.size).map(|b| b.name)", json!(["x", "b"])),
        ("event.body.builds.map(|b| b.size).reduce(|sum, x| sum + x, 0)", json!(4)),
        ("event.body.builds.find(|b| b.size == 1).name", json!("x")),
        ("event.body.builds.index_of(|b| b.size == 1)", json!(1)),
        ("event.body.builds.all(|b| nvr(b.nvr).release.ends_with(\".fc42\"))", json!(true)),
        (
            "event.body.builds.map(|b| b.tags).reduce(|all, t| all + t, []).unique().join(\"+\")",
            json!("a+b+c"),
        ),
        ("build.nvr == event.body.builds.map(|b| build.nvr)[1]", json!(true)),
    ]);
}

#[test]
fn functions_for_this_field() {
    check(&[
        (
            "nvr(\"perl-4:5.40-3.fc42\")",
            json!({"name": "perl", "epoch": 4, "version": "5.40", "release": "3.fc42"}),
        ),
        ("nvr(event.body.nvr).name", json!("python-arrow")),
        (
            "nevra(\"bash-5.2-1.fc42.src.rpm\")",
            json!({"name": "bash", "version": "5.2", "release": "1.fc42", "arch": "src"}),
        ),
        (
            "event.body.builds.len() < 1 || fact(\"critpath\", nvr(event.body.builds[0].nvr).name)",
            json!(false),
        ),
        ("fact(\"critpath\", nvr(event.body.builds[1].nvr).name)", json!(true)),
        ("matrix.arch in fact(\"arches\", 7)", json!(true)),
        ("fact(\"arches\", \"fc1\")", json!(null)),
        ("fact(\"critpath\", event.body.absent)", json!(false)),
        ("fact(\"owners\", \"bash\").owner", json!("ada")),
        ("now() - parse_time(\"2025-06-15\")", json!(54_400)),
        ("age(1750000000 - 60)", json!(60)),
        ("age(event.headers[\"sent-at\"]) < 3600", json!(true)),
        ("[\"1.10\", \"1.9\"].order_by(|a, b| debian_compare(a, b))", json!(["1.9", "1.10"])),
        ("regex(event.body.text, `^\\p{L}`)", json!(true)),
        ("\"a.b/c\".glob(\"a*c\")", json!(true)),
        ("\" x \".trim().replace(\"x\", \"yy\")", json!("yy")),
    ]);
}

#[test]
fn mistakes_are_found_before_running() {
    let shown = mistakes(&[
        "",
        "evnt.body",
        "event.bdy.x",
        "event.nvr",
        "body.x",
        "event.body.sent-at == 1",
        "event.headers.sent-at-x",
        "nvrr(\"a\")",
        "event.body.text.start_with(\"a\")",
        "nvr()",
        "nvr(1, 2)",
        "event.body.in.len(1)",
        "event.body.in.map(|x| nope(x))",
        "event.body.in.map(|x| y)",
        "nvr",
        "hello",
        "eval(\"1\")",
        "print(1)",
        "debug(1)",
        "sleep(1)",
        "exit(1)",
        "[1].map(Fn(\"abs\"))",
        "[1].map(|x| this)",
        "call(|| 1)",
        "curry(|| 1, 2)",
        "Fn(\"f\")",
        "is_def_var(\"x\")",
        "timestamp()",
        "blob(1)",
        "import \"x\"",
        "parse_json(\"{}\")",
        "event.body.eval(\"1\")",
        "let x = 1",
        "x = 1",
        "event.body.new = 1",
        "event.body.new == == 1",
        "event.body.new ==",
        "(1",
        "[1, 2",
        "#{a: 1, a: 2}",
        "\"abc",
        "1 and 2",
        "not true",
        "event.body.x == null",
        "event.body.x == None",
        "1; 2",
        "for x in 0..1 { x }",
        "while true {}",
        "[1].map(|x| { let y = 1; y })",
        "[1].map(|x| { loop {} })",
        "return 1",
        "fact(\"critpth\", \"x\")",
        "regex(\"a\", \"(\")",
        "glob(\"a\", \"[\")",
        "event.body.new +\n   nosuch(1)",
        "😀",
        "this.x",
        "event.body.in.zip([1], |a, b| a)",
        "event.body.in.push(1)",
        "global::x",
        "1 +* 2",
        "event.body.if -1",
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn mistakes_while_running() {
    let shown = mistakes(&[
        "event.body.nope.x",
        "event.body.nope.deeper.still",
        "event.body.builds[0].nope.x > 1",
        "event.body.nope[0]",
        "event.body.nope[\"a\"].b",
        "event.body.nope.len()",
        "event.body.nope.starts_with(\"a\")",
        "\"a\" in event.body.nope",
        "event.body.new.x",
        "event.body.builds.nvr",
        "event.body.builds[9]",
        "event.body.in[event.body.text]",
        "event.body.text[9]",
        "event.body.nope && event.body.private",
        "event.body.new == 2 || event.body.nope",
        "!event.body.nope",
        "if event.body.new { 1 } else { 2 }",
        "nvr(event.body.nope)",
        "nvr(\"x\")",
        "nvr(\"bash-5.2-1.fc42.x86_64.rpm\")",
        "nevra(event.body.nvr)",
        "nvr(1)",
        "rpm_compare(1, 2)",
        "event.body.text - 1",
        "1 / 0",
        "event.body.big + 1",
        "parse_int(\"x\")",
        "parse_time(\"x\")",
        "age(true)",
        "fact(event.body.text, \"x\")",
        "regex(\"a\", event.body.text + \"(\")",
        "[1, \"a\"].order()",
        "event.body.in.map(|x| x.y.z)",
        "event.body.in.some(|x| event.body.nope.x == x)",
        "[[]].join(\"\")",
        "#{a: 1}.map(|x| x)",
        "event.body.filter(|x| x)",
        "|x| x",
        "0..5",
        "0.0 / 0.0",
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn a_condition_gives_a_boolean() {
    let engine = engine();
    let holds = |source: &str| engine.compile(source).expect(source).eval_bool(&engine, &scope());
    assert_eq!(holds("event.body.new == 1"), Ok(true));
    assert_eq!(holds("event.body.new > 1"), Ok(false));
    for (source, kind) in
        [("event.body.new", "a number"), ("event.body.nope", "null"), ("event.body", "an object")]
    {
        let error = holds(source).expect_err(source);
        assert_eq!(error.message, format!("the expression must give true or false, it gives {kind}"));
        assert_eq!(error.span, 0..source.len());
    }
}

#[test]
fn a_script_says_what_it_reads() {
    let engine = engine();
    for (source, expect) in [
        ("1", &[][..]),
        ("event.body.x", &["event"]),
        ("build.x == matrix.y && build.z", &["build", "matrix"]),
        ("event.body.in.map(|x| [x, build].map(|y| [y, matrix]))", &["build", "event", "matrix"]),
        ("`${matrix.arch}`", &["matrix"]),
    ] {
        let script = engine.compile_with(source, &["build", "matrix"]).expect(source);
        assert_eq!(script.variables(), expect, "{source}");
    }
}

#[test]
fn inner_variables_hide_outer_ones_and_leave_them() {
    let engine = engine();
    let outer = scope();
    let inner = outer.with(&[("build", json!(2))]);
    let script = engine.compile_with("build", &["build"]).expect("a script");
    assert_eq!(script.eval(&engine, &inner), Ok(json!(2)));
    assert_eq!(script.eval(&engine, &outer), Ok(json!({"nvr": "zsh-5-1"})));
}

#[test]
fn an_error_in_one_text_leaves_nothing_for_the_next() {
    let engine = engine();
    for broken in ["#{a: ", "event.", "`${", "\"", "#{", "[1, "] {
        assert!(engine.compile(broken).is_err(), "{broken}");
        assert!(engine.compile("event.body.new == 1").is_ok());
        assert!(engine.compile("eval(1)").is_err());
    }
}

#[test]
fn engines_are_shared_by_threads() {
    let engine = Arc::new(engine());
    let script = Arc::new(engine.compile("event.body.in.some(|x| x == event.body.new)").expect("a script"));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (engine, script) = (Arc::clone(&engine), Arc::clone(&script));
            std::thread::spawn(move || (0..200).all(|_| script.eval_bool(&engine, &scope()) == Ok(true)))
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
}

proptest::proptest! {
    #[test]
    fn any_text_compiles_or_errs_inside_of_it(source in "[a-z0-9_.?()\\[\\]{}|#\"'`$ ,:=<>!&+*/\\\\\u{e9}\n-]{0,40}") {
        let engine = engine();
        match engine.compile(&source) {
            Ok(script) => {
                if let Err(error) = script.eval(&engine, &scope()) {
                    proptest::prop_assert!(source.get(error.span.clone()).is_some(), "{:?}", error);
                }
            }
            Err(error) => proptest::prop_assert!(source.get(error.span.clone()).is_some(), "{:?}", error),
        }
    }
}
