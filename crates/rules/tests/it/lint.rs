//! What is worth a second look in rules.

use crate::{TOPIC, event, indented, rule_set, update};
use std::path::Path;
use taskbot_rules::{
    Options, compile,
    lint::{Evidence, FieldStats, Input, lint},
    read_folder,
};

const THEN: &str = "then: [{task: rpmlint}]";

/// The findings in rules, one in a line, without the file's name.
fn found_with(rules: &str, evidence: &Evidence<'_>) -> String {
    let report = lint(&rule_set(&format!("rules:\n{rules}")), evidence);
    report.to_string().replace("rules.yaml:", "")
}

fn found(rules: &str) -> String {
    found_with(rules, &Evidence::default())
}

/// A rule on the update's topic.
fn one(fields: &str) -> String {
    format!("  - name: r\n    on: {TOPIC}\n{}", indented(&format!("{fields}\n{THEN}")))
}

#[test]
fn clauses_that_nothing_meets() {
    let check = |fields: &str| found(&one(fields));
    insta::assert_snapshot!(
        [
            "when: {body.n: {gt: 5, lt: 3}}",
            "when: {body.n: {gte: 5, lt: 5}}",
            "when: {body.x: {prefix: a, gt: 1}}",
            "when: {body.x: {prefix: [a, b], glob: \"c*\"}}",
            "when: {body.x: {suffix: a, not: {suffix: a}}}",
            "when: {body.x: [a, b]}\nunless: {body.x: {prefix: [a, b]}}",
            "when: {body.x: a}\nany: [{body.x: b}, {body.x: {prefix: c}, body.y: 1}]",
            "when: {body.n: {gte: 5, lte: 5}, body.x: {prefix: a, not: {suffix: z}}}\nunless: {body.x: ab, body.n: 5}\nany: [{body.x: {prefix: ab}}]",
        ]
        .map(check)
        .join("\n"),
        @r#"
        4:12: warning: nothing can meet `body.n is above 5 and is below 3`: no number is above 5 and below 3 (take one of the predicates out)
        4:12: warning: nothing can meet `body.n is at least 5 and is below 5`: no number is at least 5 and below 5 (take one of the predicates out)
        4:12: warning: nothing can meet `body.x starts with a and is above 1`: no value is a text and a number (take one of the predicates out)
        4:12: warning: nothing can meet `body.x starts with a or b and matches c*`: no text begins with both (take one of the predicates out)
        4:12: warning: nothing can meet `body.x ends with a and not (ends with a)`: it asks for `ends with a` and for the opposite (take one of the predicates out)
        4:12: warning: `r` never fires: `unless` holds whenever `when` does (ask for something in `unless` that `when` does not ask for)
        5:5: warning: `r` never fires: no block of `any` can hold together with `when` (ask for the field in one of them only)
        "#
    );
}

#[test]
fn conjuncts_that_could_be_clauses() {
    insta::assert_snapshot!(
        found(&one("if: |\n  event.body.new == 1 && nvr(event.body.nvr).name == \"x\"\n    && event.headers[\"a b\"] in [\"x\", \"y\"]")),
        @r#"
        5:7: warning: a part of `if` could be a clause of `when`, which is indexed, and explained by itself (write `when: {body.new: 1}`)
        5:7: warning: a part of `if` could be a clause of `when`, which is indexed, and explained by itself (write `when: {headers."a b": [x, "y"]}`)
        "#
    );
    assert_eq!(found(&one("if: event.body.builds.len() > 1 || event.body.new == 1")), "");
}

#[test]
fn rules_that_always_or_never_hold_and_templates_that_always_err() {
    insta::assert_snapshot!(
        [
            found(&one("if: 1 > 2")),
            found(&one("let: {x: event.body.new}").replace("{task: rpmlint}", "{task: rpmlint, with: {a: \"${nvr(\\\"x\\\")}\", b: \"n ${[1]}\", c: \"${x}\", d: \"${now()}\"}}")),
        ]
        .join("\n"),
        @r#"
        4:9: warning: `if` is false for every event (leave it out, or switch the rule with `mode`)
        5:41: error: `x` is no name-version-release (this expression reads nothing of the event: it fails each time)
        5:63: error: `${[1]}` gives a list, which is no text (make a text of it (`….join(", ")`)) (this expression reads nothing of the event: it fails each time)
        "#
    );
}

#[test]
fn topics_that_fire_on_staging_and_rules_without_an_index() {
    let on = |on: &str| found(&format!("  - name: r\n    on: {on}\n    {THEN}\n"));
    insta::assert_snapshot!(
        [on("org.fedoraproject.*.bodhi.update.request.testing"), on("org.centos.>"), on("[org.fedoraproject.prod.buildsys.tag, org.example.*.x]")].join("\n"),
        @r#"
        3:9: warning: `org.fedoraproject.*.bodhi.update.request.testing` fires on staging as well (`org.fedoraproject.stg.…`) (write `org.fedoraproject.prod.…`)
        3:9: warning: no clause of `r` can be indexed: it is judged for each event of `org.fedoraproject.*.bodhi.update.request.testing` (add an equality, a prefix or a suffix to `when`)
        3:9: warning: `org.centos.>` fires on staging as well (`org.centos.stg.…`) (write `org.centos.prod.…`)
        3:9: warning: no clause of `r` can be indexed: it is judged for each event of `org.centos.>` (add an equality, a prefix or a suffix to `when`)
        3:47: warning: no clause of `r` can be indexed: it is judged for each event of `org.example.*.x` (add an equality, a prefix or a suffix to `when`)
        "#
    );
    let guarded = "  - name: r\n    on: org.fedoraproject.*.bodhi.update\n    when: {topic: {glob: \"*.prod.*\"}, body.x: 1}\n";
    assert_eq!(found(&format!("{guarded}    {THEN}\n")), "");
}

#[test]
fn rules_that_say_the_same_or_less() {
    let rule = |name: &str, on: &str, rest: &str| {
        format!("  - name: {name}\n    on: {on}\n{}", indented(&format!("{rest}\n{THEN}")))
    };
    insta::assert_snapshot!(
        found(
            &[
                rule("a", TOPIC, "when: {body.x: 1, body.y: [a, b]}"),
                rule("b", TOPIC, "when: {body.y: [a, b], body.x: 1}"),
                rule("wide", "org.example.update.request.*", "when: {body.y: {prefix: [a, b]}}"),
                rule("other", TOPIC, "when: {body.x: 1, body.y: [a, b]}\nif: event.body.n.len() > 1"),
            ]
            .concat()
        ),
        @r#"
        2:11: warning: whenever `a` fires, `wide` (10:11) fires with the same wishes (remove one of them, or let their clauses exclude each other)
        6:11: warning: `b` says the same as `a` (2:11) (remove one of them: each event makes the task twice)
        "#
    );
    let other = rule("b", TOPIC, "when: {body.x: 1}").replace("rpmlint", "depcheck");
    let differ = format!("{}{other}", rule("a", TOPIC, "when: {body.x: 1}"));
    assert_eq!(found(&differ), "");
}

#[test]
fn fields_that_no_event_has() {
    let mut fields = FieldStats::default();
    for _ in 0..3 {
        fields.add(&event(TOPIC, &update()));
    }
    let evidence = Evidence { fields, inputs: None };
    insta::assert_snapshot!(
        found_with(
            &one("when: {body.update.relaese.name: F42, body.update.builds.nvr: {prefix: a}, body.gone: {exists: false}, headers.\"sent-at\": {age: {lt: 1d}}}\nif: event.body.update.build.len() > 1"),
            &evidence
        ),
        @r#"
        4:12: warning: no recorded event has `body.update.relaese.name` (3 of its topics were looked at) (did you mean `body.update.release.name`?)
        5:9: warning: no recorded event has `body.update.build` (3 of its topics were looked at) (did you mean `body.update.builds`?)
        "#
    );
    // Of topics that were never recorded nothing is known.
    let other = one("when: {body.x: 1}").replace(TOPIC, "org.example.other");
    assert_eq!(found_with(&other, &evidence), "");
    assert_eq!(
        evidence.fields.topics().map(|(topic, fields)| (topic, fields.events)).collect::<Vec<_>>(),
        [(TOPIC, 3)]
    );
}

#[test]
fn inputs_that_a_task_does_not_take_or_lacks() {
    let input = |name: &str, required| Input { name: name.to_owned(), required };
    let inputs = |task: &model::TaskName| match task.as_str() {
        "rpmlint" => Ok(Some(vec![input("nvr", true), input("arch", true), input("profile", false)])),
        "depcheck" => Err("there is no folder /srv/depcheck".to_owned()),
        _ => Ok(None),
    };
    let evidence = Evidence { inputs: Some(&inputs), ..Evidence::default() };
    let rules = one("when: {body.x: 1}").replace(
        "{task: rpmlint}",
        "{task: rpmlint, with: {nrv: a, arch: b, other: 1}}, {task: depcheck, with: {any: 1}}",
    );
    insta::assert_snapshot!(found_with(&rules, &evidence), @r#"
        5:19: warning: the task `rpmlint` needs the input `nvr` (write `with: {nvr: …}`)
        5:35: warning: the task `rpmlint` has no input `nrv` (did you mean `nvr`?)
        5:52: warning: the task `rpmlint` has no input `other` (its inputs are nvr, arch, profile)
        5:71: warning: the task `depcheck` could not run from here: there is no folder /srv/depcheck (mend its `repo` in tasks.yaml)
        "#);
}

#[test]
fn the_shipped_rules_need_no_second_look() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["rules", "rules/demo"] {
        let files = read_folder(&root.join(folder)).unwrap();
        let rules = compile(&files, &Options::default()).unwrap().rule_set;
        let mut fields = FieldStats::default();
        for (_, text) in files.files.iter().filter(|(path, _)| path.starts_with("fixtures/")) {
            let message: serde_json::Value = serde_json::from_str(text).unwrap();
            fields.add(&event(message["topic"].as_str().unwrap(), &message["body"]));
        }
        assert_eq!(lint(&rules, &Evidence { fields, inputs: None }).to_string(), "", "{folder}");
    }
}
