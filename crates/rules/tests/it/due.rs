//! Rules that fire later: what they collect, and times.

use crate::{TOPIC, event, now, rule, rule_set, update};
use model::verdict::VerdictKind;
use serde_json::{Value, json};
use std::time::Duration;
use taskbot_rules::{Evaluation, RuleSet};

const COLLECTING: &str = r#"when: {body.update.release.name: F42}
if: event.body.new == 1
collect: {key: "${release}", quiet: 10m, at_most_every: 1h}
for_each: {alias: {in: "events.map(|e| e.body.update.alias).unique()"}}
let: {release: event.body.update.release.name, count: events.len()}
then: [{task: rpmlint, item: {type: update, id: "${alias}"}, with: {count: "${count}", last: "${event.topic}"}}]"#;

fn evaluate(rules: &RuleSet, topic: &str, body: &Value) -> Evaluation {
    rules.evaluate(&event(topic, body), now()).unwrap()
}

/// An event as a collected one carries it.
fn collected(body: &Value) -> Value {
    json!({"seq": 1, "id": "e-1", "topic": TOPIC, "source": "bus", "time": null, "headers": {}, "body": body})
}

#[test]
fn an_event_is_collected_and_nothing_is_wished() {
    let rules = rule_set(&rule(COLLECTING));
    let said = evaluate(&rules, TOPIC, &update());
    assert!(said.tasks.is_empty());
    assert_eq!(said.verdicts[0].verdict, VerdictKind::Collected { key: "F42".into() });
    let wish = &said.collects[0];
    assert_eq!((wish.rule.as_str(), wish.key.as_str(), wish.shadow), ("r", "F42", false));
    assert_eq!((wish.quiet, wish.at_most_every), (Duration::from_secs(600), Some(Duration::from_secs(3600))));
    assert_eq!(wish.to_json(), json!({"collect": {"key": "F42", "quiet": "10m", "at_most_every": "1h"}}));
    let mut other = update();
    other["update"]["release"]["name"] = "F41".into();
    assert_eq!(evaluate(&rules, TOPIC, &other), Evaluation::default());
}

#[test]
fn what_is_due_fires_its_rule_with_all_events() {
    let mut second = update();
    second["update"]["alias"] = "UPD-2026-2".into();
    // Clauses are not asked again: they held when each event was collected.
    second["new"] = 7.into();
    let due =
        json!({"rule": "r", "key": "F42", "window": 1, "events": [collected(&update()), collected(&second)]});
    let listening =
        "  - name: all\n    on: [\"taskbot.collect.>\", taskbot.schedule.due]\n    then: [{task: rpmlint}]\n";
    let rules = rule_set(&format!("{}{listening}", rule(COLLECTING)));
    let said = evaluate(&rules, "taskbot.collect.due", &due);
    let shown: Vec<_> =
        said.tasks.iter().map(|task| (task.item.clone().unwrap().id, json!(task.inputs))).collect();
    let inputs = json!({"count": 2, "last": TOPIC});
    assert_eq!(shown, [("UPD-2026-1".to_owned(), inputs.clone()), ("UPD-2026-2".to_owned(), inputs)]);
    assert_eq!(said.verdicts.len(), 1, "{said:?}");
    for nobody in
        [json!({"rule": "x", "events": [collected(&update())]}), json!({"rule": "all"}), json!({"rule": "r"})]
    {
        assert_eq!(evaluate(&rules, "taskbot.collect.due", &nobody), Evaluation::default(), "{nobody}");
    }
}

#[test]
fn a_schedule_sets_off_its_own_rule_only() {
    let rules = rule_set(
        r#"rules:
  - name: nightly
    on: {schedule: "0 3 * * *", timezone: Europe/Prague, missed: once}
    when: {body.missed: {lt: 2}}
    then: [{task: rpmlint, with: {at: "${event.body.time}"}}]
  - {name: hourly, on: {schedule: "@hourly"}, then: [{task: rpmlint}]}
  - {name: never, on: {schedule: "@hourly"}, mode: "off", then: [{task: rpmlint}]}
"#,
    );
    let body = json!({"rule": "nightly", "time": "2026-11-01T02:00:00Z", "missed": 0});
    let said = evaluate(&rules, "taskbot.schedule.due", &body);
    assert_eq!(said.verdicts.len(), 1);
    assert_eq!(json!(said.tasks[0].inputs), json!({"at": "2026-11-01T02:00:00Z"}));
    let body = json!({"rule": "nightly", "time": "2026-11-01T02:00:00Z", "missed": 2});
    assert_eq!(evaluate(&rules, "taskbot.schedule.due", &body).verdicts, []);
    let schedules = rules.schedules();
    let names: Vec<_> = schedules.iter().map(|schedule| schedule.rule.as_str()).collect();
    assert_eq!(names, ["nightly", "hourly"]);
    assert_eq!((schedules[0].missed.as_str(), schedules[0].times.timezone()), ("once", "Europe/Prague"));
    let next = schedules[0].next_after(now()).unwrap();
    assert_eq!(next.to_rfc3339(), "2026-11-02T02:00:00+00:00");
}

#[test]
fn a_rule_in_shadow_mode_collects_for_show() {
    let rules = rule_set(&rule(&format!("mode: shadow\n{COLLECTING}")));
    assert!(evaluate(&rules, TOPIC, &update()).collects[0].shadow);
    let due = json!({"rule": "r", "events": [collected(&update())]});
    let said = evaluate(&rules, "taskbot.collect.due", &due);
    assert!(said.tasks[0].shadow);
    assert_eq!(said.verdicts[0].verdict, VerdictKind::Shadow { tasks: 1 });
}
