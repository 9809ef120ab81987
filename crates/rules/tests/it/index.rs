//! The index says what judging each rule by itself says.

use crate::{compiled, now, rule_set};
use model::{Event, verdict::VerdictKind};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use serde_json::{Value, json};
use std::fmt;
use taskbot_rules::{Evaluation, RuleFiles, RuleSet};

/// How many rule sets the ordinary test makes, and how many the long one.
const SETS: u32 = 100;
const SETS_IN_FULL: u32 = 3_000;
/// How many events each rule set sees.
const EVENTS: usize = 100;
/// For one event of these many each rule is asked by itself, too.
const ALONE_EVERY: usize = 10;

const TOPICS: [&str; 8] = [
    "a.b",
    "a.c",
    "a.b.c",
    "x",
    "taskbot.task.finished",
    "taskbot.collect.due",
    "taskbot.schedule.due",
    "taskbot.x",
];

fn patterns() -> impl Strategy<Value = &'static str> {
    select(vec![
        "a.b",
        "a.b",
        "\"a.*\"",
        "a.>",
        "\">\"",
        "\"*.b\"",
        "\"*\"",
        "[a.b, x]",
        "[a.b, \"a.*\", a.c]",
        "taskbot.task.*",
        "taskbot.>",
        "\"*.b.>\"",
        "{schedule: \"*/5 * * * *\"}",
    ])
}

fn paths() -> impl Strategy<Value = &'static str> {
    select(vec![
        "body.a",
        "body.a",
        "body.b",
        "body.a.b",
        "body.a.b.a",
        "body.l",
        "body.l",
        "body.l.a",
        "body.l.b.a",
        "body.\"x.y\"",
        "body.\"x.y\".a",
        "body.\"a b\"",
        "body.\"\"",
        "body",
        "topic",
        "source",
        "headers.h",
        "headers.\"sent-at\"",
        "headers.l.a",
    ])
}

fn scalars() -> impl Strategy<Value = &'static str> {
    select(vec![
        "1",
        "\"1\"",
        "1.5",
        "0",
        "-1",
        "true",
        "false",
        "null",
        "a",
        "ab",
        "abc",
        "b",
        "\"\"",
        "a.b",
        "bus",
        "9223372036854775807",
        "\"2026-11-01\"",
    ])
}

fn texts() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "ab", "b", "abc", "c", "A", "\"2026\"", "\"1\"", "a.", "ß", "us"])
}

fn listed<S: Strategy<Value = &'static str>>(one: impl Fn() -> S + 'static) -> impl Strategy<Value = String> {
    prop_oneof![
        one().prop_map(str::to_owned),
        vec(one(), 1..4).prop_map(|items| format!("[{}]", items.join(", "))),
        // Long lists, for what is looked for all at once.
        vec(one(), 17..20).prop_map(|items| format!("[{}]", items.join(", "))),
    ]
}

fn plain() -> BoxedStrategy<String> {
    let globs = || {
        select(vec![
            "\"a*\"",
            "\"*b\"",
            "\"a*c\"",
            "\"*\"",
            "\"a?c\"",
            "\"[ab]*c\"",
            "\"**/b\"",
            "ab",
            "\"{a,b}*\"",
        ])
    };
    let numbers = || select(vec!["0", "1", "1.5", "-1", "2", "9223372036854775807"]);
    let relation = || select(vec!["gt", "gte", "lt", "lte"]);
    prop_oneof![
        4 => scalars().prop_map(str::to_owned),
        3 => vec(scalars(), 1..4).prop_map(|items| format!("[{}]", items.join(", "))),
        2 => (select(vec!["prefix", "suffix", "ieq"]), listed(texts))
            .prop_map(|(name, texts)| format!("{{{name}: {texts}}}")),
        2 => listed(globs).prop_map(|globs| format!("{{glob: {globs}}}")),
        1 => select(vec!["'^a'", "'b$'", "'1|c'"]).prop_map(|regex| format!("{{regex: {regex}}}")),
        2 => (relation(), numbers()).prop_map(|(name, number)| format!("{{{name}: {number}}}")),
        1 => (relation(), numbers(), numbers()).prop_map(|(_, a, b)| format!("{{gte: {a}, lt: {b}}}")),
        1 => relation().prop_map(|name| format!("{{rpm_version: {{{name}: \"1\"}}}}")),
        1 => relation().prop_map(|name| format!("{{debian_version: {{{name}: \"1\"}}}}")),
        1 => relation().prop_map(|name| format!("{{age: {{{name}: 12h}}}}")),
        1 => (0..3).prop_map(|size| format!("{{size: {size}}}")),
        1 => any::<bool>().prop_map(|null| format!("{{null: {null}}}")),
        2 => listed(scalars).prop_map(|items| format!("{{contains: {items}}}")),
        1 => vec(scalars(), 1..3).prop_map(|items| format!("{{contains: {{all: [{}]}}}}", items.join(", "))),
        1 => texts().prop_map(|text| format!("{{contains: {{prefix: {text}}}}}")),
    ]
    .boxed()
}

fn predicates() -> BoxedStrategy<String> {
    let inner = || (select(vec!["a", "b", "a.b", "\"x.y\""]), plain());
    let inner = move || vec(inner(), 1..3).prop_map(|clauses| block_text(&clauses));
    let merged = |a: &str, b: &str| match (a.strip_prefix('{'), b.strip_prefix('{')) {
        (Some(a), Some(b)) => format!("{{{}, {b}", a.trim_end_matches('}').trim_end()),
        _ => a.to_owned(),
    };
    prop_oneof![
        12 => plain(),
        1 => any::<bool>().prop_map(|exists| format!("{{exists: {exists}}}")),
        2 => plain().prop_map(|predicate| format!("{{not: {predicate}}}")),
        1 => (select(vec!["{exists: true}", "{null: false}"]), plain())
            .prop_map(move |(a, b)| merged(a, &format!("{{not: {b}}}"))),
        1 => (plain(), plain()).prop_map(|(a, b)| format!("[{a}, {b}]")),
        2 => (select(vec!["any", "all"]), inner()).prop_map(|(name, block)| format!("{{{name}: {block}}}")),
        1 => inner().prop_map(|block| format!("{{not: {{any: {block}}}}}")),
    ]
    .boxed()
}

/// A block from clauses; the first one of each path.
fn block_text(clauses: &[(&str, String)]) -> String {
    let mut seen = std::collections::BTreeSet::new();
    let clauses = clauses.iter().filter(|(path, _)| seen.insert(*path));
    let clauses: Vec<_> = clauses.map(|(path, predicate)| format!("'{path}': {predicate}")).collect();
    format!("{{{}}}", clauses.join(", "))
}

fn blocks() -> impl Strategy<Value = String> {
    vec((paths(), predicates()), 1..4).prop_map(|clauses| block_text(&clauses))
}

fn rules() -> impl Strategy<Value = String> {
    let block_list = || {
        prop_oneof![
            3 => Just(None),
            1 => vec(blocks(), 1..4).prop_map(|blocks| Some(format!("[{}]", blocks.join(", ")))),
        ]
    };
    let optional =
        |one: &'static [&'static str]| prop_oneof![4 => Just(None), 1 => select(one).prop_map(Some)];
    let condition =
        optional(&["event.body.a == 1", "event.body.a", "event.body.b.a == \"a\"", "event?.body?.a != ()"]);
    let for_each = optional(&["{v: [1, 2]}", "{v: {in: event.body.l}}", "{v: {in: \"[]\"}}"]);
    let mode = optional(&["shadow", "\"off\"", "active"]);
    let then =
        select(vec!["[{task: t}]", "[{cancel: {group: g}}]", "[{task: t, with: {x: \"${event.body.a}\"}}]"]);
    let when = prop_oneof![1 => Just(None), 6 => blocks().prop_map(Some)];
    (patterns(), when, block_list(), block_list(), condition, for_each, mode, then).prop_map(
        |(on, when, unless, any, condition, for_each, mode, then)| {
            // A task on the end of every task would be refused: it sets itself off.
            let then = if on.starts_with("taskbot") { "[{cancel: {group: g}}]" } else { then };
            let mut text = format!("on: {on}, then: {then}");
            let mut put = |name: &str, value: Option<&str>| {
                if let Some(value) = value {
                    text.push_str(&format!(", {name}: {value}"));
                }
            };
            put("when", when.as_deref());
            put("unless", unless.as_deref());
            put("any", any.as_deref());
            put("if", condition.map(|text| format!("'{text}'")).as_deref());
            put("for_each", for_each);
            put("mode", mode);
            text
        },
    )
}

/// Rule files: some rules, of which some stand there many times, so that keys get crowded.
fn rule_files() -> impl Strategy<Value = String> {
    vec((rules(), prop_oneof![6 => 1..2_usize, 1 => 9..14_usize]), 1..16).prop_map(|rules| {
        let all = rules.iter().flat_map(|(rule, times)| std::iter::repeat_n(rule, *times)).enumerate();
        let mut text = "rules:\n".to_owned();
        all.for_each(|(at, rule)| text.push_str(&format!("- {{name: r{at}, {rule}}}\n")));
        text
    })
}

/// JSON text: names may stand twice, and things may be written in several ways.
fn json_text() -> BoxedStrategy<String> {
    let scalar = select(vec![
        "1",
        "1.0",
        "1e0",
        "\"1\"",
        "1.5",
        "0",
        "-0.0",
        "-1",
        "true",
        "false",
        "null",
        "\"a\"",
        "\"\\u0061\"",
        "\"ab\"",
        "\"abc\"",
        "\"b\"",
        "\"\"",
        "\"AB\"",
        "\"a.b\"",
        "\"bus\"",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
        "\"2026-11-01\"",
        "\"2026-11-01T11:00:00Z\"",
        "1793538000",
        "[]",
        "{}",
        "\"\\ud83d\\ude00\"",
    ]);
    scalar
        .prop_map(str::to_owned)
        .prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                1 => vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
                2 => object_text(inner),
            ]
        })
        .boxed()
}

fn object_text(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let names = select(vec![
        "a",
        "a",
        "a",
        "b",
        "b",
        "l",
        "l",
        "\\u0061",
        "x.y",
        "a b",
        "",
        "z",
        "z",
        "$a",
        "$serde_json::private::RawValue",
    ]);
    vec((names, inner), 0..6).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

/// Bodies, some of which are spoilt.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let due = rule_name().prop_map(|rule| format!("{{\"rule\": \"{rule}\", \"a\": 1, \"time\": \"x\"}}"));
    let good = prop_oneof![12 => object_text(json_text()), 1 => json_text(), 1 => due];
    let spoil = prop_oneof![
        8 => Just(None),
        1 => (any::<prop::sample::Index>(), select(b"\"{}[],:\\\x00\xff1e-".to_vec())).prop_map(Some),
    ];
    (good, spoil).prop_map(|(text, spoil)| {
        let mut bytes = text.into_bytes();
        if let Some((at, byte)) = spoil {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn rule_name() -> impl Strategy<Value = String> {
    (0..12_u32).prop_map(|at| format!("r{at}"))
}

fn headers() -> impl Strategy<Value = Value> {
    select(vec![
        json!({}),
        json!({"h": "a", "sent-at": "2026-11-01T10:00:00Z"}),
        json!({"h": 1, "l": [{"a": "a"}, {"a": 1}]}),
        json!({"h": null, "l": {"a": ["a", "b"]}}),
    ])
}

/// An event that prints short.
#[derive(Clone)]
struct Given(Event);

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { topic, headers, payload, depth, .. } = &self.0;
        write!(f, "{topic} {headers:?} {depth} {}", String::from_utf8_lossy(payload))
    }
}

fn events() -> impl Strategy<Value = Given> {
    (select(TOPICS.to_vec()), bodies(), headers(), 0..10_u32).prop_map(|(topic, payload, headers, depth)| {
        let mut event = crate::event(topic, &json!({}));
        let Value::Object(headers) = headers else { unreachable!("headers are objects") };
        event.headers = headers;
        event.payload = payload.into();
        event.depth = depth;
        Given(event)
    })
}

/// What an evaluation says, the candidates apart.
fn said(evaluation: Evaluation) -> Evaluation {
    Evaluation { candidates: Vec::new(), ..evaluation }
}

/// All ways to ask give the same answer.
fn check(rules: &RuleSet, event: &Event) -> Result<(), TestCaseError> {
    let by_index = rules.evaluate(event, now());
    let one_by_one = rules.evaluate_one_by_one(event, now());
    let (by_index, one_by_one) = match (by_index, one_by_one) {
        (Ok(by_index), Ok(one_by_one)) => (by_index, one_by_one),
        (by_index, one_by_one) => {
            prop_assert_eq!(by_index.err(), one_by_one.err());
            return Ok(());
        }
    };
    let looked_at = &by_index.candidates;
    prop_assert!(
        looked_at.is_sorted_by(|a, b| a < b) && looked_at.iter().all(|at| one_by_one.candidates.contains(at))
    );
    prop_assert_eq!(said(by_index), said(one_by_one));
    Ok(())
}

/// A rule that is asked by itself, and the explanation, say the same.
fn check_alone(rules: &RuleSet, event: &Event) -> Result<(), TestCaseError> {
    let Ok(by_index) = rules.evaluate(event, now()) else { return Ok(()) };
    let body = event.body().unwrap();
    for (number, rule) in (0..).zip(rules.rules()) {
        let alone = rules.evaluate_rule(&rule.name, event, now()).unwrap().unwrap_or_default();
        let verdict = by_index.verdicts.iter().find(|verdict| verdict.rule == rule.name);
        prop_assert_eq!(alone.verdicts.first(), verdict, "{}", rule.name);
        prop_assert!(
            verdict.is_none() || by_index.candidates.contains(&number),
            "{} is no candidate",
            rule.name
        );
        let explained = rules.explain_rule(&rule.name, event, &body, now()).unwrap();
        let kind = verdict.map_or(&VerdictKind::NoMatch, |verdict| &verdict.verdict);
        prop_assert_eq!(&explained.verdict, kind, "{}", rule.name);
    }
    Ok(())
}

/// Runs rule sets against events.
fn run(sets: u32) {
    let config = ProptestConfig { cases: sets, failure_persistence: None, ..ProptestConfig::default() };
    let tasks = "tasks: {t: {git: \"https://git.example.org/t\"}}";
    let all = (rule_files(), vec(events(), EVENTS));
    let run = TestRunner::new(config).run(&all, |(text, events)| {
        let rules = compiled(&RuleFiles::of([("tasks.yaml", tasks), ("rules.yaml", &text)])).rule_set;
        events.iter().try_for_each(|Given(event)| check(&rules, event))?;
        events.iter().step_by(ALONE_EVERY).try_for_each(|Given(event)| check_alone(&rules, event))
    });
    if let Err(error) = run {
        panic!("{error}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how long they may take")]
fn the_index_changes_nothing() {
    run(if std::env::var_os("TASKBOT_TEST_FULL").is_some() { SETS_IN_FULL } else { SETS });
}

#[test]
fn only_rules_that_can_match_are_looked_at() {
    let mut text = "rules:\n".to_owned();
    for at in 0..300 {
        let (owner, release) = (at % 3, at % 10);
        for (name, when) in [
            ("equal", format!("{{body.name: n{at}, body.new: 1}}")),
            ("any-of", format!("{{body.name: [n{at}, m{at}], body.new: 1}}")),
            ("prefix", format!("{{body.name: {{prefix: n{at}-}}}}")),
            ("suffix", format!("{{body.name: {{suffix: -n{at}}}}}")),
            ("glob", format!("{{body.name: {{glob: \"n{at}-*-x\"}}, body.new: 1}}")),
            ("list", format!("{{body.tags: {{contains: t{at}}}}}")),
            ("nested", format!("{{body.builds: {{any: {{nvr: n{at}}}}}}}")),
            // A crowd below one owner is split by the next clause.
            ("crowd", format!("{{body.owner: o{owner}, body.release: r{release}}}")),
            ("number", format!("{{body.id: {at}}}")),
            ("regex", "{body.nope: {regex: x}}".to_owned()),
        ] {
            text.push_str(&format!(
                "- {{name: {name}-{at}, on: a.b, when: {when}, then: [{{task: rpmlint}}]}}\n"
            ));
        }
        let any = format!("[{{body.name: n{at}, body.new: 1}}, {{body.id: {at}, body.new: 1}}]");
        text.push_str(&format!("- {{name: any-{at}, on: a.b, any: {any}, then: [{{task: rpmlint}}]}}\n"));
    }
    text.push_str("- {name: not, on: a.b, when: {body.name: {not: x}}, then: [{task: rpmlint}]}\n");
    let rules = rule_set(&text);
    let candidates = |body: Value| {
        let evaluation = rules.evaluate(&crate::event("a.b", &body), now()).unwrap();
        let names = evaluation.candidates.iter().map(|at| rules.rules()[*at as usize].name.to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    for (body, expect) in [
        (json!({}), "not"),
        (json!({"name": "n7", "new": 2}), "equal-7 any-of-7 any-7 not"),
        (json!({"name": "n70-a-x"}), "prefix-70 glob-70 not"),
        (json!({"name": "a-n5"}), "suffix-5 not"),
        (json!({"tags": ["t1", "t2", "t1"]}), "list-1 list-2 not"),
        (json!({"builds": [{"nvr": "n8"}, {"nvr": "x"}]}), "nested-8 not"),
        (
            json!({"owner": "o1", "release": "r4"}),
            "crowd-4 crowd-34 crowd-64 crowd-94 crowd-124 crowd-154 crowd-184 crowd-214 crowd-244 crowd-274 not",
        ),
        (json!({"owner": "o9", "release": "r4"}), "not"),
        (json!({"id": 9.0}), "number-9 any-9 not"),
    ] {
        assert_eq!(candidates(body.clone()), expect, "{body}");
    }
    let unindexed: Vec<_> = rules.unindexed().map(|rule| rule.name.as_str()).collect();
    assert_eq!(unindexed.len(), 301, "{unindexed:?}");
    assert!(unindexed.iter().all(|name| name.starts_with("regex") || *name == "not"));
}
