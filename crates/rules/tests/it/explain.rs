//! Why rules fire or not.

use crate::{TOPIC, event, now, rule_set, update};
use model::verdict::Verdict;

/// A verdict, one clause in a line.
fn lines(verdict: &Verdict) -> String {
    let mut out = format!("{}: {}", verdict.rule, verdict.verdict.as_str());
    for clause in &verdict.clauses {
        let state = serde_json::to_value(clause.state).unwrap();
        out.push_str(&format!(
            "\n  {} {} {} | {}",
            state.as_str().unwrap(),
            clause.block,
            clause.path,
            clause.wanted
        ));
        if let Some(found) = &clause.found {
            out.push_str(&format!(" | found {found}"));
        }
        if let Some(note) = &clause.note {
            out.push_str(&format!(" | {note}"));
        }
    }
    out
}

#[test]
fn every_clause_is_marked() {
    let body = update();
    let rules = rule_set(&format!(
        r#"
rules:
  - name: fires
    on: {TOPIC}
    when: {{body.update.release.name: [F41, F42], body.new: 1}}
    unless: {{body.agent: releng, body.new: 1}}
    any: [{{body.agent: bob}}, {{body.update.critpath: false}}]
    if: |
      event.body.update.builds.len()
        < 5
    for_each: {{build: {{in: event.body.update.builds}}}}
    then: [{{task: rpmlint, with: {{nvr: "${{build.nvr}}"}}}}]
  - name: fails
    on: {TOPIC}
    when:
      body.agent: bob
      body.nope: {{prefix: x}}
      body.new: "1"
      body.update.builds: kernel
      body.update.notes: {{not: {{contains: Fixes}}}}
    unless: {{body.agent: alice}}
    any: [{{body.new: 2}}, {{body.agent: bob}}]
    if: event.body.new == 1
    for_each: {{build: {{in: event.body.update.builds}}}}
    then: [{{task: rpmlint}}]
  - name: elsewhere
    on: [org.other, org.more.*]
    when: {{body.x: 1}}
    unless: [{{body.y: 1}}, {{body.z: 1}}]
    if: event.body.x == 1
    then: [{{task: rpmlint}}]
  - {{name: script-false, on: {TOPIC}, if: event.body.new == 2, for_each: {{b: [1]}}, then: [{{task: rpmlint}}]}}
  - {{name: script-errs, on: {TOPIC}, if: event.body.new, then: [{{task: rpmlint}}]}}
  - {{name: no-elements, on: {TOPIC}, for_each: {{b: {{in: event.body.update.builds, if: "false"}}}}, then: [{{task: rpmlint}}]}}
  - {{name: own, on: ">", when: {{body.agent: bob}}, then: [{{task: rpmlint}}]}}
  - {{name: switched-off, on: {TOPIC}, mode: "off", when: {{body.new: 1}}, then: [{{task: rpmlint}}]}}
"#
    ));
    let verdicts = rules.explain(&event(TOPIC, &body), &body, now());
    insta::assert_snapshot!(verdicts.iter().map(lines).collect::<Vec<_>>().join("\n"), @r#"
    fires: fired
      held on topic | matches org.example.update.request.testing | found "org.example.update.request.testing"
      held when body.update.release.name | is any of [F41, F42] | found "F42"
      held when body.new | is 1 | found 1
      failed unless body.agent | is releng | found "alice"
      held unless body.new | is 1 | found 1
      failed any[0] body.agent | is bob | found "alice"
      held any[1] body.update.critpath | is false | found false
      held if  | holds: event.body.update.builds.len() < 5
      held for_each  | gives at least one element (build) | found 2
    fails: no_match
      held on topic | matches org.example.update.request.testing | found "org.example.update.request.testing"
      failed when body.agent | is bob | found "alice"
      missing when body.nope | starts with x
      wrong_type when body.new | is "1" | found 1 | it is a number
      wrong_type when body.update.builds | is kernel | found [{"nvr":"bash-5.2-1.fc42"},{"nvr":"kernel-6.14-2.fc42"}] | it is an array; `contains`, `any`, `all` and `size` look into lists
      failed when body.update.notes | not (contains Fixes) | found "Fixes things."
      held unless body.agent | is alice | found "alice" | the whole block holds, so the rule does not
      failed any[0] body.new | is 2 | found 1
      failed any[1] body.agent | is bob | found "alice"
      not_reached if  | holds: event.body.new == 1
      not_reached for_each  | gives at least one element (build)
    elsewhere: no_match
      failed on topic | matches any of [org.other, org.more.*] | found "org.example.update.request.testing"
      not_reached when body.x | is 1
      not_reached unless[0] body.y | is 1
      not_reached unless[1] body.z | is 1
      not_reached if  | holds: event.body.x == 1
    script-false: no_match
      held on topic | matches org.example.update.request.testing | found "org.example.update.request.testing"
      failed if  | holds: event.body.new == 2
      not_reached for_each  | gives at least one element (b)
    script-errs: error
      held on topic | matches org.example.update.request.testing | found "org.example.update.request.testing"
      error if  | holds: event.body.new | rules.yaml:33:69: the expression must give true or false, it gives a number
    no-elements: no_match
      held on topic | matches org.example.update.request.testing | found "org.example.update.request.testing"
      failed for_each  | gives at least one element (b) | found 0
    own: no_match
      held on topic | matches > | found "org.example.update.request.testing"
      failed when body.agent | is bob | found "alice"
    switched-off: no_match
      failed mode  | is not off | found "off"
      not_reached on topic | matches org.example.update.request.testing
      not_reached when body.new | is 1
    "#);
    let own =
        rules.explain_rule(&"own".into(), &event("taskbot.task.finished", &body), &body, now()).unwrap();
    insta::assert_snapshot!(lines(&own), @r#"
    own: no_match
      failed on topic | matches > | found "taskbot.task.finished" | our own topics are matched only by patterns that begin with `taskbot.`
      not_reached when body.agent | is bob
    "#);
    assert!(rules.explain_rule(&"nobody".into(), &event(TOPIC, &body), &body, now()).is_none());
}

#[test]
fn explanations_agree_with_the_evaluation() {
    let body = update();
    let rules = rule_set(&format!(
        "rules:\n{}",
        [
            "body.new: 1",
            "body.new: 2",
            "body.agent: {prefix: al}",
            "body.nope: {not: 1}",
            "body.update.builds: {size: 2}"
        ]
        .iter()
        .enumerate()
        .map(|(at, clause)| format!(
            "- {{name: r{at}, on: {TOPIC}, when: {{{clause}}}, then: [{{task: rpmlint}}]}}\n"
        ))
        .collect::<String>()
    ));
    let event = event(TOPIC, &body);
    let fired: Vec<_> = rules
        .evaluate(&event, now())
        .unwrap()
        .verdicts
        .into_iter()
        .map(|verdict| (verdict.rule, verdict.verdict))
        .collect();
    let explained: Vec<_> = rules
        .explain(&event, &body, now())
        .into_iter()
        .filter(|verdict| verdict.verdict.as_str() != "no_match")
        .map(|verdict| (verdict.rule, verdict.verdict))
        .collect();
    assert_eq!(fired, explained);
    assert_eq!(fired.len(), 4);
}

#[test]
fn found_values_fit_a_line() {
    let mut body = update();
    body["agent"] = "x".repeat(1000).into();
    body["update"]["builds"] = (0..1000).collect();
    let rules = rule_set(&format!(
        "rules: [{{name: r, on: {TOPIC}, when: {{body.agent: y1, body.update.builds: {{size: 1}}}}, then: [{{task: rpmlint}}]}}]"
    ));
    let verdict = rules.explain_rule(&"r".into(), &event(TOPIC, &body), &body, now()).unwrap();
    for clause in &verdict.clauses[1..] {
        let found = clause.found.as_ref().unwrap().as_str().unwrap();
        assert!(found.chars().count() <= 201 && found.ends_with('…'), "{found}");
    }
}

#[test]
fn near_misses_lack_one_clause() {
    let body = update();
    let rules = rule_set(&format!(
        r#"
rules:
  - {{name: fires, on: {TOPIC}, when: {{body.agent: alice}}, then: [{{task: rpmlint}}]}}
  - {{name: other-topic, on: org.other, when: {{body.agent: alice}}, then: [{{task: rpmlint}}]}}
  - {{name: other-topic-and-more, on: org.other, when: {{body.agent: bob}}, then: [{{task: rpmlint}}]}}
  - {{name: other-topic-no-clause, on: org.other, then: [{{task: rpmlint}}]}}
  - {{name: one, on: {TOPIC}, when: {{body.agent: bob, body.new: 1}}, then: [{{task: rpmlint}}]}}
  - {{name: two, on: {TOPIC}, when: {{body.agent: bob, body.new: 2}}, then: [{{task: rpmlint}}]}}
  - {{name: unless, on: {TOPIC}, unless: [{{body.new: 1}}], then: [{{task: rpmlint}}]}}
  - {{name: unless-and-more, on: {TOPIC}, when: {{body.new: 2}}, unless: [{{body.new: 1}}], then: [{{task: rpmlint}}]}}
  - {{name: any, on: {TOPIC}, any: [{{body.new: 2, body.agent: bob}}, {{body.new: 1, body.agent: bob}}], then: [{{task: rpmlint}}]}}
  - {{name: script, on: {TOPIC}, if: event.body.new == 2, then: [{{task: rpmlint}}]}}
  - {{name: script-errs, on: {TOPIC}, if: event.body.new, then: [{{task: rpmlint}}]}}
  - {{name: loop, on: {TOPIC}, for_each: {{b: {{in: "[]"}}}}, then: [{{task: rpmlint}}]}}
  - {{name: switched-off, on: {TOPIC}, mode: "off", when: {{body.new: 2}}, then: [{{task: rpmlint}}]}}
"#
    ));
    let names = |max| {
        let verdicts = rules.near_misses(&event(TOPIC, &body), now(), max).unwrap();
        verdicts.iter().map(|verdict| verdict.rule.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(100), "one unless any script loop other-topic");
    assert_eq!(names(2), "one unless");
    let verdicts = rules.near_misses(&event(TOPIC, &body), now(), 1).unwrap();
    insta::assert_snapshot!(lines(&verdicts[0]), @r#"
    one: no_match
      held on topic | matches org.example.update.request.testing | found "org.example.update.request.testing"
      failed when body.agent | is bob | found "alice"
      held when body.new | is 1 | found 1
    "#);
}
