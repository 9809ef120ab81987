//! What rules wish when they fire.

use crate::{TOPIC, compiled, evaluated, event, files, indented, now, rule, rule_set, update};
use model::{task::Trust, verdict::VerdictKind};
use serde_json::{Value, json};
use taskbot_rules::{Evaluation, RuleFiles};

/// All wishes in the form of entries of `then`.
fn shown(evaluation: &Evaluation) -> Vec<Value> {
    let tasks = evaluation.tasks.iter().map(taskbot_rules::TaskWish::to_json);
    let cancels = evaluation.cancels.iter().map(taskbot_rules::CancelWish::to_json);
    let emits = evaluation.emits.iter().map(taskbot_rules::EmitWish::to_json);
    tasks.chain(cancels).chain(emits).collect()
}

/// What a rule with these fields wishes for the update.
fn wishes(fields: &str) -> Vec<Value> {
    let evaluation = evaluated(&rule(fields));
    assert_eq!(evaluation.verdicts.len(), 1, "{evaluation:?}");
    assert_eq!(evaluation.verdicts[0].verdict.as_str(), "fired", "{evaluation:?}");
    shown(&evaluation)
}

/// The error that a rule with these fields ends with: `line:column: message`.
fn error(fields: &str) -> String {
    let evaluation = evaluated(&rule(fields));
    assert!(evaluation.tasks.is_empty() && evaluation.cancels.is_empty() && evaluation.emits.is_empty());
    match &evaluation.verdicts[0].verdict {
        VerdictKind::Error { message, line, column, .. } => format!("{line}:{column}: {message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_has_what_its_registration_says() {
    insta::assert_json_snapshot!(wishes("then: [{task: depcheck}]"), @r#"
    [
      {
        "git": "https://git.example.org/depcheck.git",
        "priority": 0,
        "queue": "slow",
        "secrets": [
          "token"
        ],
        "task": "depcheck",
        "timeout": "30m",
        "trust": "trusted",
        "with": {}
      }
    ]
    "#);
    let evaluation = evaluated(&rule("then: [{task: depcheck}]"));
    let task = &evaluation.tasks[0];
    assert_eq!((task.trust, task.entry, task.rule.as_str()), (Trust::Trusted, 0, "r"));
    assert_eq!(task.timeout_cap.unwrap().as_secs(), 1800);
}

#[test]
fn a_task_in_full() {
    insta::assert_json_snapshot!(
        wishes(
            r#"for_each: {build: {in: event.body.update.builds, if: 'nvr(build.nvr).name != "bash"'}}
then:
  - task: rpmlint
    item: {type: koji_build, id: "${build.nvr}"}
    with:
      nvr: "${build.nvr}"
      build: "${build}"
      text: "${build.nvr} of ${event.body.update.release.version}"
      kept: "$${build}"
      list: [1, "${event.body.new}", {deep: "${matrix.arch}"}]
    matrix: {arch: [x86_64, aarch64], release: "${[event.body.update.release.name]}"}
    needs: {arch: "${matrix.arch}", labels: ["${matrix.release}"], memory: 2G, cpus: "${1 + 1}", kvm: "${true}"}
    queue: fast
    priority: "${if event.body.update.critpath { 90 } else { 50 }}"
    group: {name: "lint/${build.nvr}", on_new: supersede_queued, max_running: 2}
    timeout: 5m
dedupe: {key: "${build.nvr}", window: 6h}"#
        ),
        @r#"
        [
          {
            "dedupe": {
              "key": "r/0/{\"arch\":\"x86_64\",\"release\":\"F42\"}/kernel-6.14-2.fc42",
              "window": "6h"
            },
            "git": "https://git.example.org/rpmlint.git",
            "group": {
              "max_running": 2,
              "name": "lint/kernel-6.14-2.fc42",
              "on_new": "supersede_queued"
            },
            "item": {
              "id": "kernel-6.14-2.fc42",
              "type": "koji_build"
            },
            "matrix": {
              "arch": "x86_64",
              "release": "F42"
            },
            "needs": {
              "arch": "x86_64",
              "cpus": 2,
              "kvm": true,
              "labels": [
                "F42"
              ],
              "memory_bytes": 2147483648
            },
            "priority": 50,
            "queue": "fast",
            "ref": "main",
            "task": "rpmlint",
            "timeout": "5m",
            "trust": "untrusted",
            "with": {
              "build": {
                "nvr": "kernel-6.14-2.fc42"
              },
              "kept": "${build}",
              "list": [
                1,
                1,
                {
                  "deep": "x86_64"
                }
              ],
              "nvr": "kernel-6.14-2.fc42",
              "text": "kernel-6.14-2.fc42 of 42"
            }
          },
          {
            "dedupe": {
              "key": "r/0/{\"arch\":\"aarch64\",\"release\":\"F42\"}/kernel-6.14-2.fc42",
              "window": "6h"
            },
            "git": "https://git.example.org/rpmlint.git",
            "group": {
              "max_running": 2,
              "name": "lint/kernel-6.14-2.fc42",
              "on_new": "supersede_queued"
            },
            "item": {
              "id": "kernel-6.14-2.fc42",
              "type": "koji_build"
            },
            "matrix": {
              "arch": "aarch64",
              "release": "F42"
            },
            "needs": {
              "arch": "aarch64",
              "cpus": 2,
              "kvm": true,
              "labels": [
                "F42"
              ],
              "memory_bytes": 2147483648
            },
            "priority": 50,
            "queue": "fast",
            "ref": "main",
            "task": "rpmlint",
            "timeout": "5m",
            "trust": "untrusted",
            "with": {
              "build": {
                "nvr": "kernel-6.14-2.fc42"
              },
              "kept": "${build}",
              "list": [
                1,
                1,
                {
                  "deep": "aarch64"
                }
              ],
              "nvr": "kernel-6.14-2.fc42",
              "text": "kernel-6.14-2.fc42 of 42"
            }
          }
        ]
        "#
    );
}

#[test]
fn loops_nest_and_lists_may_be_written_out() {
    let wishes = wishes(
        "for_each:\n  b: {in: event.body.update.builds}\n  x: [1, \"${b.nvr}\"]\nthen: [{task: rpmlint, with: {v: \"${b.nvr} ${x}\"}}]",
    );
    let values: Vec<_> = wishes.iter().map(|wish| wish["with"]["v"].as_str().unwrap()).collect();
    assert_eq!(
        values,
        [
            "bash-5.2-1.fc42 1",
            "bash-5.2-1.fc42 bash-5.2-1.fc42",
            "kernel-6.14-2.fc42 1",
            "kernel-6.14-2.fc42 kernel-6.14-2.fc42"
        ]
    );
}

#[test]
fn the_same_wish_counts_once() {
    assert_eq!(wishes("for_each: {b: [1, 1]}\nthen: [{task: rpmlint}]").len(), 1);
    assert_eq!(wishes("then: [{task: rpmlint}, {task: rpmlint}]").len(), 2);
    assert_eq!(wishes("for_each: {b: [1, 1]}\nthen: [{cancel: {group: g}}, {emit: {topic: a.b}}]").len(), 2);
}

#[test]
fn an_empty_matrix_makes_no_task() {
    let evaluation = evaluated(&rule("then: [{task: rpmlint, matrix: {arch: []}}]"));
    assert_eq!(evaluation.verdicts[0].verdict, VerdictKind::Fired { tasks: 0 });
}

#[test]
fn cancellations_messages_and_batches() {
    insta::assert_json_snapshot!(
        wishes(
            r#"then:
  - cancel: {item: {type: update, id: "${event.body.update.alias}"}}
  - cancel: {group: "lint/${event.body.agent}"}
  - emit: {topic: "org.example.qa.${event.body.agent}", body: {alias: "${event.body.update.alias}", n: 1}}
  - batch: {name: "update ${event.body.update.alias}"}
    then:
      - task: rpmlint
      - task: depcheck"#
        ),
        @r#"
        [
          {
            "batch": {
              "name": "update UPD-2026-1"
            },
            "git": "https://git.example.org/rpmlint.git",
            "priority": 0,
            "queue": "default",
            "ref": "main",
            "task": "rpmlint",
            "trust": "untrusted",
            "with": {}
          },
          {
            "batch": {
              "name": "update UPD-2026-1"
            },
            "git": "https://git.example.org/depcheck.git",
            "priority": 0,
            "queue": "slow",
            "secrets": [
              "token"
            ],
            "task": "depcheck",
            "timeout": "30m",
            "trust": "trusted",
            "with": {}
          },
          {
            "cancel": {
              "item": {
                "id": "UPD-2026-1",
                "type": "update"
              }
            }
          },
          {
            "cancel": {
              "group": "lint/alice"
            }
          },
          {
            "emit": {
              "body": {
                "alias": "UPD-2026-1",
                "n": 1
              },
              "topic": "org.example.qa.alice"
            }
          }
        ]
        "#
    );
    let evaluation = evaluated(&rule(
        "then: [{batch: {name: b}, then: [{task: rpmlint}]}, {task: rpmlint}, {emit: {topic: a.b}}]",
    ));
    assert_eq!(evaluation.tasks.iter().map(|task| task.entry).collect::<Vec<_>>(), [0, 1]);
    let emit = &evaluation.emits[0];
    assert_eq!((emit.entry, emit.depth), (2, 1));
    let event = event(TOPIC, &update());
    assert_eq!(emit.id(&event, 0), emit.id(&event, 0));
    assert_ne!(emit.id(&event, 0), emit.id(&event, 1));
}

#[test]
fn a_dedupe_key_is_taken_within_rule_entry_and_cell() {
    let body = update();
    let rules = rule_set(&format!(
        "rules:\n  - {{name: a, on: {TOPIC}, then: [{{task: rpmlint, matrix: {{x: [1, 2]}}}}, {{task: rpmlint, matrix: {{x: [1]}}}}], dedupe: {{key: k, window: 1h}}}}\n  - {{name: b, on: {TOPIC}, then: [{{task: rpmlint}}], dedupe: {{key: k, window: 1h}}}}"
    ));
    let tasks = rules.evaluate(&event(TOPIC, &body), now()).unwrap().tasks;
    let keys: Vec<_> = tasks.iter().map(|task| task.dedupe.as_ref().unwrap().key.clone()).collect();
    assert_eq!(keys, ["a/0/{\"x\":1}/k", "a/0/{\"x\":2}/k", "a/1/{\"x\":1}/k", "b/0/{}/k"]);
}

#[test]
fn repositories_of_an_entry_are_untrusted() {
    let check = |entry: &str, git: &str, reference: Option<&str>, path: Option<&str>| {
        let evaluation = evaluated(&rule(&format!("then: [{entry}]")));
        let task = evaluation.tasks.first().unwrap_or_else(|| panic!("{evaluation:?}"));
        assert_eq!(task.repo.git, git, "{entry}");
        assert_eq!((task.repo.reference.as_deref(), task.repo.path.as_deref()), (reference, path), "{entry}");
        assert_eq!(task.trust, Trust::Untrusted, "{entry}");
    };
    let depcheck = "https://git.example.org/depcheck.git";
    check("{task: rpmlint}", "https://git.example.org/rpmlint.git", Some("main"), None);
    check("{task: depcheck, ref: next}", depcheck, Some("next"), None);
    check("{task: depcheck, path: \"tests/${event.body.agent}\"}", depcheck, None, Some("tests/alice"));
    check(
        "{task: own-tests, git: \"https://src.example.org/${event.body.agent}.git\", ref: \"${event.body.update.release.name}\"}",
        "https://src.example.org/alice.git",
        Some("F42"),
        None,
    );
    // The registered ref is one of another repository.
    check("{task: rpmlint, git: \"https://src.example.org/a\"}", "https://src.example.org/a", None, None);
}

#[test]
fn who_caused_the_event_decides_about_trust_and_approval() {
    let check = |entry: &str, trust: Trust, secrets: usize, approve: bool| {
        let evaluation = evaluated(&rule(&format!("then: [{{{entry}}}]")));
        let task = evaluation.tasks.first().unwrap_or_else(|| panic!("{evaluation:?}"));
        assert_eq!((task.trust, task.secrets.len(), task.approve), (trust, secrets, approve), "{entry}");
    };
    let (trusted, untrusted) = (Trust::Trusted, Trust::Untrusted);
    // The event is alice's, and the configuration trusts releng.
    check("task: depcheck", trusted, 1, false);
    check("task: depcheck, author: releng", trusted, 1, false);
    check("task: depcheck, author: \"${event.body.agent}\"", untrusted, 0, false);
    check("task: depcheck, author: \"${event.body.agent}\", approve: untrusted", untrusted, 0, true);
    check("task: depcheck, author: releng, approve: untrusted", trusted, 1, false);
    check("task: depcheck, approve: always", trusted, 1, true);
    check("task: rpmlint, author: releng, approve: untrusted", untrusted, 0, true);
    check("task: depcheck, ref: next", untrusted, 0, false);
    check("task: depcheck, ref: next, author: releng", trusted, 1, false);
    check("task: own, git: \"https://src.example.org/a\", author: releng", trusted, 0, false);
    check("task: own, git: \"https://src.example.org/a\", approve: untrusted", untrusted, 0, true);
}

#[test]
fn what_cannot_be_wished_is_an_error_with_its_place() {
    let errors: Vec<String> = [
        r#"then: [{task: rpmlint, item: {type: build, id: "${event.body.nope}"}}]"#,
        r#"then: [{task: rpmlint, item: {type: build, id: "${event.body.update}"}}]"#,
        r#"then: [{task: rpmlint, item: {type: build, id: '${""}'}}]"#,
        r#"then: [{task: rpmlint, item: {type: build, id: 'a${"\n"}b'}}]"#,
        r#"then: [{task: rpmlint, priority: "${event.body.agent}"}]"#,
        r#"then: [{task: rpmlint, priority: "${1001}"}]"#,
        r#"then: [{task: rpmlint, needs: {memory: "${event.body.agent}"}}]"#,
        r#"then: [{task: rpmlint, needs: {cpus: "${0}"}}]"#,
        r#"then: [{task: rpmlint, needs: {kvm: "${1}"}}]"#,
        r#"then: [{task: rpmlint, matrix: {a: event.body.new}}]"#,
        r#"then: [{task: rpmlint, matrix: {a: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17], b: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]}}]"#,
        r#"then: [{task: own, git: "https://${event.body.agent}.example.org/x.git"}]"#,
        r#"then: [{task: own, git: "${event.body.agent}"}]"#,
        r#"then: [{task: depcheck, ref: "--upload-pack=${event.body.agent}"}]"#,
        r#"then: [{task: depcheck, path: "../${event.body.agent}"}]"#,
        r#"then: [{emit: {topic: "taskbot.task.${event.body.agent}"}}]"#,
        r#"then: [{emit: {topic: "com.${event.body.update.notes}"}}]"#,
        r#"then: [{task: rpmlint}, {cancel: {group: "${event.body.nope}"}}]"#,
    ]
    .into_iter()
    .map(error)
    .collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    4:53: `${event.body.nope}` must give a text: the event does not have this field
    4:53: `${event.body.update}` must give a text, it gives an object
    4:53: an item's id must not be empty
    4:53: an item's id must not hold '\n'
    4:39: `priority` must be a whole number from -1000 to 1000, it is "alice"
    4:39: `priority` must be a whole number from -1000 to 1000, it is 1001
    4:45: `alice` is no size; expected bytes or a number with a unit, such as 512K, 50MB or 2G
    4:43: `cpus` must be a whole number from 1 to 10000, it is 0
    4:42: `kvm` must be true or false, it is a number
    4:40: the expression must give a list, it gives a number
    4:12: the matrix has more than 256 cells
    4:30: rules may not take repositories from `alice.example.org`; add the host to the configuration's list, or register the task in tasks.yaml
    4:30: `alice` is no URL of a repository; expected one of https, http, ssh, git, such as https://host/name.git
    4:35: a ref must not begin with `-`: `--upload-pack=alice`
    4:36: `../alice` leaves the repository; expected a relative path without `..`
    4:28: `taskbot.task.alice`: topics that start with `taskbot.` are the system's own; choose another
    4:28: a topic must not hold ' '
    4:47: `${event.body.nope}` must give a text: the event does not have this field
    "#);
}

#[test]
fn wishes_are_limited() {
    let list = |n: usize| format!("[{}]", (0..n).map(|x| x.to_string()).collect::<Vec<_>>().join(", "));
    let fields = |n: usize| {
        format!("for_each: {{a: {}}}\nthen: [{{task: rpmlint, with: {{a: \"${{a}}\"}}}}]", list(n))
    };
    assert_eq!(wishes(&fields(1000)).len(), 1000);
    assert!(error(&fields(1001)).contains("the loops go through more than 1000 elements"));
    let two = format!(
        "for_each: {{a: {}}}\nthen: [{{task: rpmlint, with: {{a: \"${{a}}\"}}}}, {{task: depcheck, with: {{a: \"${{a}}\"}}}}]",
        list(501)
    );
    assert!(error(&two).contains("the rule wishes more than 1000 things for one event"));
    let looked = format!(
        "for_each: {{a: {}, b: {{in: 'event.body.big', if: 'false'}}}}\nthen: [{{task: rpmlint}}]",
        list(101)
    );
    let mut body = update();
    body["big"] = (0..100).collect();
    let verdict = &rule_set(&rule(&looked)).evaluate(&event(TOPIC, &body), now()).unwrap().verdicts[0];
    assert!(format!("{verdict:?}").contains("the loops look at more than 10000 values"), "{verdict:?}");
    let text = "x".repeat(60_000);
    let large =
        format!("then: [{{task: rpmlint, with: {{a: {text}, b: {text}, c: {text}, d: {text}, e: {text}}}}}]");
    assert!(error(&large).contains("the inputs have 300"), "{}", error(&large));
    let large = format!(
        "then: [{{emit: {{topic: a.b, body: {{a: {text}, b: {text}, c: {text}, d: {text}, e: {text}}}}}}}]"
    );
    assert!(error(&large).contains("the body has 300"), "{}", error(&large));
}

#[test]
fn repositories_beside_the_rules_become_absolute() {
    let mut files = RuleFiles::of([
        ("tasks.yaml", "tasks: {rpmlint: {git: ../deploy/task-repos/rpmlint, path: sub}}"),
        ("rules.yaml", &rule("then: [{task: rpmlint}]")),
    ]);
    files.base = Some("/srv/qa/rules".into());
    let rules = compiled(&files).rule_set;
    let body = update();
    let task = &rules.evaluate(&event(TOPIC, &body), now()).unwrap().tasks[0];
    assert_eq!(task.repo.git, "/srv/qa/deploy/task-repos/rpmlint");
    assert_eq!(task.repo.path.as_deref(), Some("sub"));
}

#[test]
fn facts_are_tables_beside_the_rules() {
    let mut files = files(&rule(
        "then: [{task: rpmlint, matrix: {arch: 'fact(\"arches\", event.body.update.release.name)'}, with: {arch: \"${matrix.arch}\"}}]",
    ));
    files.files.insert("facts/arches.yaml".into(), "F42: [x86_64, s390x]\n".into());
    let rules = compiled(&files).rule_set;
    let body = update();
    let tasks = rules.evaluate(&event(TOPIC, &body), now()).unwrap().tasks;
    let arches: Vec<_> = tasks.iter().map(|task| task.inputs["arch"].clone()).collect();
    assert_eq!(arches, [json!("x86_64"), json!("s390x")]);
}

#[test]
fn names_are_seen_by_everything_after_them() {
    let wish = &wishes(
        r#"for_each: {build: {in: event.body.update.builds, if: 'build.nvr != "bash-5.2-1.fc42"'}}
let: {parts: nvr(build.nvr), name: parts.name, who: event.body.agent}
then:
  - task: rpmlint
    item: {type: package, id: "${name}"}
    with: {version: "${parts.version}"}
    matrix: {who: "${[who]}"}
dedupe: {key: "${name}/${matrix.who}", window: 1h}"#,
    )[0];
    assert_eq!(wish["item"], json!({"type": "package", "id": "kernel"}));
    assert_eq!(wish["with"], json!({"version": "6.14"}));
    assert_eq!(wish["dedupe"]["key"], r#"r/0/{"who":"alice"}/kernel/alice"#);
}

#[test]
fn limits_travel_with_the_wish() {
    let limits = |fields: &str| {
        let evaluation = evaluated(&rule(&format!("{fields}\nthen: [{{task: rpmlint}}]")));
        serde_json::to_value(evaluation.tasks[0].limits).unwrap()
    };
    assert_eq!(limits(""), json!(null));
    assert_eq!(limits("limits: {per_hour: 500}"), json!({"per_hour": 500, "on_excess": "park"}));
    assert_eq!(
        limits("limits: {per_hour: 5, per_day: 10, on_excess: pause}"),
        json!({"per_hour": 5, "per_day": 10, "on_excess": "pause"})
    );
}

/// The cells of a matrix, in their order.
fn cells(matrix: &str) -> Value {
    let wishes = wishes(&format!("then:\n  - task: rpmlint\n    matrix:\n{}", indented(&indented(matrix))));
    wishes.iter().map(|wish| wish["matrix"].clone()).collect()
}

#[test]
fn a_matrix_leaves_out_and_adds_cells_as_github_actions_does() {
    // The example of its documentation.
    let fruits = "fruit: [apple, pear]\nanimal: [cat, dog]\ninclude:\n  - {color: green}\n  - {color: pink, animal: cat}\n  - {fruit: apple, shape: circle}\n  - {fruit: banana}\n  - {fruit: banana, animal: cat}";
    assert_eq!(
        cells(fruits),
        json!([
            {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
            {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
            {"fruit": "pear", "animal": "cat", "color": "pink"},
            {"fruit": "pear", "animal": "dog", "color": "green"},
            {"fruit": "banana"},
            {"fruit": "banana", "animal": "cat"},
        ])
    );
    assert_eq!(
        cells(
            "arch: [x86_64, aarch64, s390x]\nv: [1, 2]\nexclude: [{arch: s390x}, {arch: aarch64, v: 2}]\ninclude: [{arch: aarch64, v: 2, slow: true}]"
        ),
        json!([
            {"arch": "x86_64", "v": 1},
            {"arch": "x86_64", "v": 2},
            {"arch": "aarch64", "v": 1},
            {"arch": "aarch64", "v": 2, "slow": true},
        ])
    );
    assert_eq!(
        cells("include: [{arch: x86_64}, {arch: riscv64, slow: true}]"),
        json!([{"arch": "x86_64"}, {"arch": "riscv64", "slow": true}])
    );
    assert_eq!(
        cells(
            "n: event.body.update.builds.map(|b| nvr(b.nvr).name)\nexclude: '[#{n: \"bash\"}]'\ninclude: [{n: kernel, of: \"${event.body.agent}\"}]"
        ),
        json!([{"n": "kernel", "of": "alice"}])
    );
}
