//! Too much of everything: bounded, told, and harmless to other rules.

use crate::{TASKS, compiled, event, now, rule_set};
use model::{Event, event::EVENT_BYTES_MAX};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use taskbot_rules::{RuleFiles, compile::RULES_MAX};

/// Rules of one topic, each with this text after its name.
fn many(count: usize, fields: impl Fn(usize) -> String) -> String {
    let mut text = String::from("rules:\n");
    for at in 0..count {
        writeln!(text, "- {{name: r{at}, on: a.b, {}, then: [{{task: rpmlint}}]}}", fields(at)).unwrap();
    }
    text
}

#[test]
fn ten_thousand_rules_on_one_topic() {
    // None of them can be indexed, and each fires.
    let rules = rule_set(&many(10_000, |_| "unless: {body.x: 1}".to_owned()));
    let evaluation = rules.evaluate(&event("a.b", &json!({"x": 2})), now()).unwrap();
    assert_eq!((evaluation.candidates.len(), evaluation.tasks.len()), (10_000, 10_000));
    assert_eq!(rules.unindexed().count(), 10_000);
    let evaluation = rules.evaluate(&event("a.b", &json!({"x": 1})), now()).unwrap();
    assert_eq!((evaluation.candidates.len(), evaluation.tasks.len()), (10_000, 0));
}

#[test]
fn a_rule_set_of_ten_megabytes() {
    let files: Vec<(String, String)> = (0..13)
        .map(|file| {
            let names =
                |at: usize| (0..300).map(|n| format!("name-{file}-{at}-{n}")).collect::<Vec<_>>().join(", ");
            let rules = many(180, |at| format!("when: {{body.name: [{}]}}", names(at)));
            (format!("{file}.yaml"), rules.replace("name: r", &format!("name: f{file}-r")))
        })
        .collect();
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes > 10_000_000, "{bytes}");
    let all = files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    let rules = compiled(&RuleFiles::of(all.chain([("tasks.yaml", TASKS)]))).rule_set;
    let evaluation = rules.evaluate(&event("a.b", &json!({"name": "name-7-33-299"})), now()).unwrap();
    assert_eq!((evaluation.candidates.len(), evaluation.tasks[0].rule.as_str()), (1, "f7-r33"));
}

#[test]
fn more_rules_than_are_taken() {
    let file = |start: usize| {
        let text = many(RULES_MAX / 2 + 1, |at| format!("when: {{body.x: {at}}}"));
        text.replace("name: r", &format!("name: f{start}-r"))
    };
    let files = [("1.yaml", file(1)), ("2.yaml", file(2))];
    let files = files.iter().map(|(path, text)| (*path, text.as_str())).chain([("tasks.yaml", TASKS)]);
    let report = crate::refused(&RuleFiles::of(files)).to_string();
    assert!(report.contains("there are 20002 rules, at most 20000 are taken"), "{report}");
}

#[test]
fn an_event_with_a_hundred_thousand_fields() {
    let rules = rule_set(
        "rules:
- {name: last, on: a.b, when: {body.f99999: 99999}, then: [{task: rpmlint}]}
- {name: many, on: a.b, when: {body: {size: {min: 100000}}}, then: [{task: rpmlint}]}
- {name: script, on: a.b, if: event.body.f5 == 5, then: [{task: rpmlint}]}
- {name: every, on: a.b, if: 'event.body.keys().all(|key| key != \"x\")', then: [{task: rpmlint}]}
- {name: other, on: a.b, when: {body.f1: 2}, then: [{task: rpmlint}]}
",
    );
    let fields: Map<String, Value> = (0..100_000).map(|at| (format!("f{at}"), at.into())).collect();
    let evaluation = rules.evaluate(&event("a.b", &Value::Object(fields)), now()).unwrap();
    let verdicts: Vec<_> =
        evaluation.verdicts.iter().map(|verdict| (verdict.rule.as_str(), verdict.verdict.as_str())).collect();
    assert_eq!(verdicts, [("last", "fired"), ("many", "fired"), ("script", "fired"), ("every", "error")]);
}

#[test]
fn bodies_that_are_too_much_are_refused_in_the_same_words() {
    let rules = rule_set("rules: [{name: r, on: a.b, when: {body.a.b: 1}, then: [{task: rpmlint}]}]");
    let deep = |depth: usize| format!("{{\"a\": {}1{}}}", "[".repeat(depth), "]".repeat(depth));
    for payload in [
        deep(126),
        deep(127),
        deep(200_000),
        format!("{{\"a\": \"{}\"}}", "x".repeat(EVENT_BYTES_MAX)),
        "{\"z\": 1e999}".to_owned(),
        "{\"z\": \"\\ud800\"}".to_owned(),
        "{\"z\": 1} 2".to_owned(),
        "{\"z\": 01}".to_owned(),
        "[{}]".to_owned(),
        String::new(),
    ] {
        let event = Event { payload: payload.as_bytes().into(), ..event("a.b", &json!({})) };
        let said = rules.evaluate(&event, now()).map(|_| ()).map_err(|error| error.to_string());
        let expected = event.body().map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(said, expected, "{}", &payload[..payload.len().min(40)]);
    }
}
