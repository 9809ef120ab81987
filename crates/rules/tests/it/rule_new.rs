//! Rules made from events.

use crate::{compiled, event, files};
use serde_json::{Value, json};
use std::{fs, path::Path};
use taskbot_rules::{RuleFiles, rule_new, rule_test};

/// A rule on rpmlint from an event; it is checked and tested at once.
fn written(topic: &str, body: &Value, inputs: &[&str], fixture: bool) -> rule_new::Written {
    let event = event(topic, body);
    let wanted = rule_new::Wanted { event: &event, task: "rpmlint", inputs, name: None, fixture };
    let written = rule_new::write(&wanted).unwrap();
    let mut files: RuleFiles = files("");
    files.files.remove("rules.yaml");
    files.files.insert(written.path.clone(), written.text.as_str().into());
    if let Some((path, text)) = &written.fixture {
        files.files.insert(path.clone(), text.as_str().into());
    }
    let compiled = compiled(&files);
    assert_eq!(compiled.report.to_string(), "", "{}", written.text);
    let outcomes = rule_test::run(&compiled.rule_set);
    assert!(outcomes.len() == 1 && outcomes[0].passed, "{outcomes:#?}\n{}", written.text);
    written
}

#[test]
fn an_update_gives_a_loop_over_its_builds() {
    let body = json!({
        "agent": "alice",
        "update": {
            "alias": "U-1", "title": "Two words", "status": "pending", "date_submitted": "2026-11-01 10:00:00",
            "release": {"name": "F42", "version": "42"}, "critpath": false,
            "builds": [{"nvr": "bash-5.2-1.fc42", "epoch": 0}, {"nvr": "no-1-1.fc42", "epoch": 1}],
        },
    });
    insta::assert_snapshot!(written("org.example.update.request.testing", &body, &["nvr", "alias", "unknown"], false).text, @r#"
        rules:
          - name: rpmlint-on-update-request-testing
            description: "Run rpmlint"
            on: org.example.update.request.testing
            when:
              body.update.status: pending
              body.update.critpath: false
              body.update.release.name: F42
              body.agent: alice
            for_each: {build: {in: event.body.update.builds}}
            then:
              - task: rpmlint
                item: {id: "${build.nvr}", type: koji_build}
                with: {alias: "${event.body.update.alias}", nvr: "${build.nvr}"}

        tests:
          - name: the event that the rule was made from
            event:
              topic: org.example.update.request.testing
              headers: {sent-at: "2026-11-01T10:00:00Z"}
              body:
                agent: alice
                update:
                  alias: U-1
                  builds: [{epoch: 0, nvr: bash-5.2-1.fc42}, {epoch: 1, nvr: no-1-1.fc42}]
                  critpath: false
                  date_submitted: "2026-11-01 10:00:00"
                  release: {name: F42, version: "42"}
                  status: pending
                  title: "Two words"
            expect:
              rpmlint-on-update-request-testing:
                - item: {id: bash-5.2-1.fc42, type: koji_build}
                  task: rpmlint
                  with: {alias: U-1, nvr: bash-5.2-1.fc42}
                - item: {id: no-1-1.fc42, type: koji_build}
                  task: rpmlint
                  with: {alias: U-1, nvr: no-1-1.fc42}
        "#);
}

#[test]
fn a_build_gives_its_state_and_distribution() {
    let body = json!({
        "build_id": 5, "new": 1, "old": 0, "name": "bash", "version": "5.2", "release": "1.fc42", "owner": "alice",
        "task": {"id": 7, "method": "build"}, "odd key": {"state": 1}, "note": "3.10",
    });
    let written = written("org.example.build.state.change", &body, &["nvr"], true);
    assert_eq!(written.path, "rpmlint-on-build-state-change.yaml");
    assert_eq!(written.fixture.as_ref().unwrap().0, "fixtures/rpmlint-on-build-state-change.json");
    insta::assert_snapshot!(written.text, @r#"
        rules:
          - name: rpmlint-on-build-state-change
            description: "Run rpmlint"
            on: org.example.build.state.change
            when:
              body.new: 1
              body.task.method: build
              body.release: {suffix: .fc42}
              body.owner: alice
            then:
              - task: rpmlint
                item: {id: "${event.body.name}-${event.body.version}-${event.body.release}", type: koji_build}
                with: {nvr: "${event.body.name}-${event.body.version}-${event.body.release}"}

        tests:
          - name: the event that the rule was made from
            event: fixtures/rpmlint-on-build-state-change.json
            expect:
              rpmlint-on-build-state-change:
                - item: {id: bash-5.2-1.fc42, type: koji_build}
                  task: rpmlint
                  with: {nvr: bash-5.2-1.fc42}
        "#);
}

#[test]
fn every_shipped_message_gives_a_rule_that_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules/fixtures");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let message: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let topic = message["topic"].as_str().unwrap();
        // An own event of a task would set its own rule off, and is not a first rule.
        if !topic.starts_with("taskbot.") {
            written(topic, &message["body"], &["nvr"], count % 2 == 0);
            count += 1;
        }
    }
    assert!(count > 5);
}

#[test]
fn bad_names_are_refused() {
    let event = event("a.b", &json!({"x": 1}));
    let wanted =
        rule_new::Wanted { event: &event, task: "rpmlint", inputs: &[], name: Some("a b"), fixture: false };
    let error = rule_new::write(&wanted).unwrap_err().to_string();
    assert!(error.starts_with("a rule cannot be named `a b`"), "{error}");
    let task = rule_new::Wanted { task: "../x", name: None, ..wanted };
    assert!(rule_new::write(&task).is_err());
}
