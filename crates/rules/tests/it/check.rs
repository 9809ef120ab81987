//! Checks over all rules together.

use crate::{compiled, files, refused};
use taskbot_rules::{RuleFiles, compile};

/// What is noted about rules, one line for each; warnings do not refuse them.
fn noted(rules: &str) -> String {
    let files: RuleFiles = files(&format!("rules:\n{rules}"));
    match compile(&files, &crate::options()) {
        Ok(compiled) => compiled.report.to_string(),
        Err(report) => report.to_string(),
    }
}

#[test]
fn the_end_of_a_batch_is_only_told_of_tasks_in_one() {
    let listens = "- {name: a, on: taskbot.batch.finished, then: [{task: rpmlint}]}";
    assert_eq!(noted(listens), "");
    let batched =
        "- {name: a, on: taskbot.batch.finished, then: [{batch: {name: b}, then: [{task: rpmlint}]}]}";
    assert!(noted(batched).contains("these rules may set each other off: a → a"), "{}", noted(batched));
}

#[test]
fn rules_that_listen_to_everything_are_warned_of() {
    insta::assert_snapshot!(
        noted(
            "- {name: a, on: \">\", then: [{task: rpmlint}]}\n- {name: b, on: \">\", when: {body.x: 1}, then: [{task: rpmlint}]}\n- {name: c, on: taskbot.event.received, then: [{task: rpmlint}]}"
        ),
        @r#"
        rules.yaml:2:10: warning: `a` listens to everything and has no `when`: it is judged for each event (name a topic in `on`, or add a clause to `when`)
        rules.yaml:4:10: warning: `c` never fires: `taskbot.event`, `rule`, `collect` and `schedule` never reach it (listen to the event itself, or to `taskbot.task.finished`)
        "#
    );
}

#[test]
fn chains_that_lead_back() {
    let check = |rules: &str, expect: &[&str]| {
        let report = noted(rules);
        for part in expect {
            assert!(report.contains(part), "{rules}\n{report}");
        }
        assert_eq!(report.is_empty(), expect.is_empty(), "{rules}\n{report}");
    };
    // A task's end leads to the same task.
    check(
        "- {name: a, on: taskbot.task.finished, then: [{task: rpmlint}]}",
        &["error: these rules set each other off without end: a → a"],
    );
    check(
        "- {name: a, on: taskbot.task.finished, when: {body.outcome_class: failed}, then: [{task: rpmlint}]}",
        &["warning: these rules may set each other off: a → a; if their clauses do not prevent it"],
    );
    // The clauses on the task's name show that it does not.
    check(
        "- {name: a, on: taskbot.task.finished, when: {body.name: depcheck}, then: [{task: rpmlint}]}",
        &[],
    );
    check(
        "- {name: a, on: taskbot.task.finished, when: {body.name: [depcheck, rpmlint]}, then: [{task: rpmlint}]}",
        &["warning", "a → a"],
    );
    check(
        "- {name: a, on: taskbot.artifact.published, when: {body.task_name: {not: rpmlint}}, then: [{task: rpmlint}]}",
        &[],
    );
    // Two rules, each of which leads to the other.
    check(
        "- {name: a, on: taskbot.task.finished, when: {body.name: depcheck}, then: [{task: rpmlint}]}\n- {name: b, on: taskbot.task.finished, when: {body.name: rpmlint}, then: [{task: depcheck}]}",
        &["warning: these rules may set each other off: a → b → a"],
    );
    // Messages that rules emit.
    check(
        "- {name: a, on: org.x, then: [{emit: {topic: org.y}}]}\n- {name: b, on: org.y, then: [{emit: {topic: org.x}}]}",
        &["error: these rules set each other off without end: a → b → a"],
    );
    check(
        "- {name: a, on: org.x.*, then: [{emit: {topic: \"org.x.${event.body.a}\"}}]}",
        &["warning: these rules may set each other off: a → a"],
    );
    check("- {name: a, on: org.x.*, then: [{emit: {topic: \"org.y.${event.body.a}\"}}]}", &[]);
    check("- {name: a, on: \"org.>\", then: [{emit: {topic: com.y}}]}", &[]);
    check(
        "- {name: a, on: \">\", when: {body.x: 1}, then: [{emit: {topic: com.y}}]}",
        &["warning: these rules may set each other off: a → a"],
    );
    // A chain that ends.
    check(
        "- {name: a, on: org.x, then: [{task: rpmlint}]}\n- {name: b, on: taskbot.task.finished, when: {body.name: rpmlint}, then: [{emit: {topic: org.y}}]}\n- {name: c, on: org.y, then: [{task: depcheck}]}",
        &[],
    );
}

#[test]
fn warnings_come_with_the_rule_set_and_errors_in_its_place() {
    let files = files("rules: [{name: a, on: \">\", then: [{task: rpmlint}]}]");
    let compiled = compiled(&files);
    assert_eq!(compiled.report.diagnostics.len(), 1);
    assert_eq!(compiled.rule_set.rules().len(), 1);
    let endless = crate::files("rules: [{name: a, on: taskbot.task.finished, then: [{task: rpmlint}]}]");
    assert!(refused(&endless).has_errors());
}
