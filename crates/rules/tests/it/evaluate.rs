//! When rules fire.

use crate::{TOPIC, compiled, event, files, now, rule, rule_set, update};
use model::{event::CHAIN_DEPTH_MAX, verdict::VerdictKind};
use serde_json::json;
use taskbot_rules::{Mode, RuleFiles};

/// The kind of the only verdict on the update, `no_match` without one.
fn kind(fields: &str) -> &'static str {
    let body = update();
    let rules = rule_set(&rule(&format!("{fields}\nthen: [{{task: rpmlint}}]")));
    let evaluation = rules.evaluate(&event(TOPIC, &body), now()).unwrap();
    assert!(evaluation.verdicts.len() <= 1);
    let kind = evaluation.verdicts.first().map_or("no_match", |verdict| verdict.verdict.as_str());
    assert_eq!(kind == "fired", evaluation.tasks.len() == 1, "{fields}: {evaluation:?}");
    kind
}

#[test]
fn clauses_and_scripts_decide() {
    for (fields, expect) in [
        ("", "fired"),
        ("when: {body.agent: alice}", "fired"),
        ("when: {body.agent: bob}", "no_match"),
        ("when: {body.agent: alice, body.new: 2}", "no_match"),
        ("when: {body.update.builds.nvr: {prefix: kernel-}}", "fired"),
        ("when: {topic: {suffix: .testing}, source: bus}", "fired"),
        ("when: {headers.\"sent-at\": {age: {lt: 3h}}}", "fired"),
        ("when: {headers.\"sent-at\": {age: {lt: 1h}}}", "no_match"),
        ("unless: {body.agent: alice}", "no_match"),
        ("unless: {body.agent: alice, body.new: 2}", "fired"),
        ("unless: {body.nope: x}", "fired"),
        ("unless: [{body.new: 2}, {body.agent: alice}]", "no_match"),
        ("any: [{body.agent: bob}, {body.new: 1}]", "fired"),
        ("any: [{body.agent: bob}, {body.new: 1, body.agent: carol}]", "no_match"),
        ("if: event.body.new == 1", "fired"),
        ("if: |\n  event.body.update.builds.len() > 2", "no_match"),
        ("if: event.body.new", "error"),
        ("if: event.body.nope.deeper", "error"),
        // The script is not run where the clauses do not hold.
        ("when: {body.agent: bob}\nif: event.body.new", "no_match"),
        ("for_each: {b: {in: event.body.update.builds, if: b.nvr.starts_with(\"x\")}}", "no_match"),
        ("for_each: {b: []}", "no_match"),
        ("for_each: {b: {in: event.body.agent}}", "error"),
        ("mode: shadow\nwhen: {body.agent: bob}", "no_match"),
        ("mode: \"off\"", "no_match"),
    ] {
        assert_eq!(kind(fields), expect, "{fields}");
    }
}

#[test]
fn topics_decide_first() {
    let fired = |on: &str, topic: &str| {
        let rules = rule_set(&format!(
            "rules: [{{name: r, on: {on}, when: {{body.new: 1}}, then: [{{task: rpmlint}}]}}]"
        ));
        let body = update();
        !rules.evaluate(&event(topic, &body), now()).unwrap().tasks.is_empty()
    };
    for (on, topic, expect) in [
        ("a.b", "a.b", true),
        ("a.b", "a.c", false),
        ("a.*", "a.c", true),
        ("a.>", "a.b.c", true),
        ("[x.y, a.b]", "a.b", true),
        // Two patterns that both match fire the rule once.
        ("[a.*, a.b]", "a.b", true),
        ("\">\"", "a.b", true),
        ("\">\"", "taskbot.task.finished", false),
        ("taskbot.task.*", "taskbot.task.finished", true),
    ] {
        // A rule on its own tasks' end is guarded by `when`, but warned of: only here it is wanted.
        assert_eq!(fired(on, topic), expect, "{on} for {topic}");
    }
}

#[test]
fn one_rule_costs_no_other() {
    let body = update();
    let rules = rule_set(&format!(
        r#"
rules:
  - {{name: endless, on: {TOPIC}, if: "(0..1000000000).all(|x| x >= 0)", then: [{{task: rpmlint}}]}}
  - {{name: wrong, on: {TOPIC}, then: [{{task: rpmlint, item: {{type: x, id: "${{event.body.nope}}"}}}}]}}
  - {{name: good, on: {TOPIC}, then: [{{task: rpmlint}}]}}
"#
    ));
    let evaluation = rules.evaluate(&event(TOPIC, &body), now()).unwrap();
    let verdicts: Vec<_> =
        evaluation.verdicts.iter().map(|verdict| (verdict.rule.as_str(), verdict.verdict.as_str())).collect();
    assert_eq!(verdicts, [("endless", "error"), ("wrong", "error"), ("good", "fired")]);
    assert_eq!(evaluation.tasks.len(), 1);
    let VerdictKind::Error { message, file, line, column } = &evaluation.verdicts[1].verdict else {
        panic!("{evaluation:?}")
    };
    assert_eq!((file.as_str(), *line, *column > 60), ("rules.yaml", 4, true), "{message}");
}

#[test]
fn shadow_rules_only_say_what_they_would_do() {
    let body = update();
    let rules =
        rule_set(&rule("mode: shadow\nthen: [{task: rpmlint}, {cancel: {group: g}}, {emit: {topic: a.b}}]"));
    let evaluation = rules.evaluate(&event(TOPIC, &body), now()).unwrap();
    assert_eq!(evaluation.verdicts[0].verdict, VerdictKind::Shadow { tasks: 1 });
    assert!(evaluation.tasks[0].shadow && evaluation.cancels[0].shadow && evaluation.emits[0].shadow);
}

#[test]
fn switches_are_part_of_the_revision() {
    let plain = files(&rule("then: [{task: rpmlint}]"));
    let switched = |mode| RuleFiles { modes: [("r".into(), mode)].into(), ..plain.clone() };
    let body = update();
    for (mode, expect) in [(Mode::Active, "fired"), (Mode::Shadow, "shadow"), (Mode::Off, "no_match")] {
        let rules = compiled(&switched(mode)).rule_set;
        let evaluation = rules.evaluate(&event(TOPIC, &body), now()).unwrap();
        let kind = evaluation.verdicts.first().map_or("no_match", |verdict| verdict.verdict.as_str());
        assert_eq!(kind, expect);
        assert_ne!(switched(mode).revision(), plain.revision());
        assert_eq!(rules.revision(), &switched(mode).revision());
    }
}

#[test]
fn long_chains_are_cut() {
    let body = update();
    let rules = rule_set(&rule("then: [{task: rpmlint}]"));
    for (depth, expect) in [
        (0, VerdictKind::Fired { tasks: 1 }),
        (CHAIN_DEPTH_MAX - 1, VerdictKind::Fired { tasks: 1 }),
        (CHAIN_DEPTH_MAX, VerdictKind::TooDeep { depth: CHAIN_DEPTH_MAX }),
    ] {
        let mut event = event(TOPIC, &body);
        event.depth = depth;
        let evaluation = rules.evaluate(&event, now()).unwrap();
        assert_eq!(evaluation.verdicts[0].verdict, expect);
        assert_eq!(evaluation.tasks.is_empty(), depth == CHAIN_DEPTH_MAX);
    }
}

#[test]
fn the_same_event_always_gives_the_same() {
    let body = update();
    let text = rule(
        "for_each: {b: {in: event.body.update.builds}}\nthen: [{task: rpmlint, with: {b: \"${b}\", t: \"${now()}\"}, matrix: {a: [1, 2]}}]",
    );
    let (event, one, two) = (event(TOPIC, &body), rule_set(&text), rule_set(&text));
    let first = one.evaluate(&event, now()).unwrap();
    assert_eq!(first.tasks.len(), 4);
    assert_eq!(first, one.evaluate(&event, now()).unwrap());
    assert_eq!(first, two.evaluate(&event, now()).unwrap());
    let keys: std::collections::BTreeSet<_> = first.tasks.iter().map(|task| task.key(&event, 0)).collect();
    assert_eq!(keys.len(), 4);
    assert!(first.tasks.iter().all(|task| task.key(&event, 0) != task.key(&event, 1)));
}

#[test]
fn own_task_events_are_judged_like_any_other() {
    let rules = rule_set(
        "rules: [{name: r, on: taskbot.task.finished, when: {body.name: build, body.outcome_class: passed}, then: [{task: rpmlint}]}]",
    );
    let body = json!({"name": "build", "outcome_class": "passed"});
    assert_eq!(rules.evaluate(&event("taskbot.task.finished", &body), now()).unwrap().tasks.len(), 1);
}
