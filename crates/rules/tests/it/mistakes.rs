//! Mistakes in rule files: each with its place, what was expected and how to mend it.

use crate::{TASKS, files, refused, rule};
use taskbot_rules::RuleFiles;

/// What is noted about a rule file, one line for each.
fn found(rules: &str) -> String {
    refused(&files(rules)).to_string()
}

#[test]
fn a_file_with_many_mistakes_shows_them_all() {
    insta::assert_snapshot!(
        found(
            r#"rules:
  - nme: a
    on: org.example.a*
    when: {bdy.x: 1}
    then: [{task: rpmlnt}]
  - name: b c
    on: [a.b, a..b, 5]
    unless: x
    any: {body.x: 1}
    if: event.body.x ==
    for_each: {event: [1], Build: [1], b: 5, c: {im: [1]}}
    then:
      - task: rpmlint
        item: {type: koji_build}
        with: [1]
        matrix: {}
        needs: {memory: lots, arhc: x86_64}
        priority: 5000
        group: {name: g, on_new: replace, max_running: 0}
        timeout: 0s
      - tsk: rpmlint
      - {task: rpmlint, cancel: {group: g}}
      - cancel: {item: {type: a, id: b}, group: g}
      - emit: {topic: taskbot.task.finished, body: 1}
      - batch: {nam: x}
        then: [{batch: {name: y}, then: [{task: rpmlint}]}]
      - rpmlint
    dedupe: {key: "", window: 5}
    mode: paused
  - name: c
    then: []
testz: []
"#
        ),
        @r#"
        rules.yaml:2:5: error: a rule needs the field `name`
        rules.yaml:2:5: error: a rule has no field `nme` (did you mean `name`?)
        rules.yaml:3:9: error: `a*`: a wildcard stands for a whole token; for parts of one use `when: {topic: {glob: …}}`
        rules.yaml:4:12: error: a path cannot start with `bdy` (did you mean `body`?)
        rules.yaml:5:19: error: there is no task `rpmlnt` in tasks.yaml (did you mean `rpmlint`?)
        rules.yaml:6:11: error: a rule cannot be named `b c`: expected 1 to 128 letters, digits, `.`, `_` and `-`, a letter or digit first
        rules.yaml:7:15: error: a token between two dots must not be empty
        rules.yaml:7:21: error: a topic pattern must be a text, it is a number (quote it: "5")
        rules.yaml:8:13: error: `unless` must be a mapping from paths to what must hold there, it is a text (write `body.some.field: value`)
        rules.yaml:9:10: error: `any` must be a list of blocks, it is a mapping (write `any: [{…}, {…}]`; one block alone is a `when`)
        rules.yaml:10:24: error: the expression ends too early
        rules.yaml:11:16: error: `event` has a meaning of its own; choose another name
        rules.yaml:11:28: error: `Build` cannot be a variable: expected a lower-case letter, then letters, digits and `_`
        rules.yaml:11:43: error: a loop must be a list or {in: …, if: …}, it is a number (write `b: {in: …}`)
        rules.yaml:11:50: error: a loop needs the field `in`
        rules.yaml:11:50: error: a loop has no field `im` (did you mean `if`?)
        rules.yaml:14:16: error: `item` needs the field `id`
        rules.yaml:15:15: error: `with` must be a mapping, it is a list
        rules.yaml:16:17: error: `matrix` must have 1 to 8 axes, it has 0
        rules.yaml:17:25: error: `memory`: `lots` is no size; expected bytes or a number with a unit, such as 512K, 50MB or 2G
        rules.yaml:17:31: error: `needs` has no field `arhc` (did you mean `arch`?)
        rules.yaml:18:19: error: `priority` must be from -1000 to 1000, it is 5000
        rules.yaml:19:34: error: `on_new` must be keep, supersede_queued or supersede, not `replace`
        rules.yaml:19:56: error: `max_running` must be from 1 to 1000000, it is 0
        rules.yaml:20:18: error: `timeout` must be above nothing and at most 1d
        rules.yaml:21:9: error: an entry of `then` must have one of task, cancel, emit and batch (did you mean `task`?)
        rules.yaml:22:9: error: task and cancel cannot stand in one entry of `then` (make two entries of it)
        rules.yaml:23:17: error: `cancel` needs either `item` or `group` (write `cancel: {item: {type: …, id: …}}` or `cancel: {group: name}`)
        rules.yaml:24:23: error: `taskbot.task.finished`: topics that start with `taskbot.` are the system's own; choose another
        rules.yaml:24:52: error: `body` must be a mapping, it is a number
        rules.yaml:25:17: error: `batch` needs the field `name`
        rules.yaml:25:17: error: `batch` has no field `nam` (did you mean `name`?)
        rules.yaml:26:16: error: a batch cannot stand in another batch
        rules.yaml:26:31: error: `y` is a boolean to some YAML readers and a text to others (write "y" for the text, or true or false)
        rules.yaml:27:9: error: an entry of `then` must be a mapping, it is a text (write `- task: name`)
        rules.yaml:28:19: error: `key` must not be empty
        rules.yaml:28:31: error: `window` must be a duration with a unit (write 5s for seconds or 5m for minutes)
        rules.yaml:29:11: error: `mode` must be active, shadow or "off", not `paused`
        rules.yaml:30:5: error: a rule needs the field `on`
        rules.yaml:31:11: error: `then` must not be empty
        rules.yaml:32:1: error: a rule file has no field `testz` (did you mean `tests`?)
        "#
    );
}

#[test]
fn scripts_are_marked_inside_their_block() {
    insta::assert_snapshot!(
        found(&rule(
            r#"if: |
  event.body.new == 1 &&
    nvr(buidl.nvr).name == "x"
for_each: {build: {in: event.bdy.builds, if: "nvrr(build.nvr) == ()"}}
then:
  - task: rpmlint
    item: {type: koji_build, id: "${build.nvr}-${biuld.x}"}
    with: {a: "${matrix.arch}", c: "${", d: "${1 +}"}
  - task: rpmlint
    with: {b: '${fact("arches", "F42")}', c: '${glob("x", "[")}'}
  - task: rpmlint
    matrix: {arch: arches}
"#
        )),
        @r#"
        rules.yaml:6:13: error: there is no variable `buidl` (there is `event`; texts stand in double quotes)
        rules.yaml:7:34: error: `event` has no field `bdy` (did you mean `event.body`?)
        rules.yaml:7:51: error: there is no function `nvrr` (did you mean `nvr`?)
        rules.yaml:10:54: error: there is no variable `biuld` (did you mean `build`?)
        rules.yaml:11:22: error: there is no variable `matrix` (there is `event`, `build`; texts stand in double quotes)
        rules.yaml:11:41: error: this `${` has no closing brace (a `${` that is meant as text is written `$${`)
        rules.yaml:11:55: error: the expression ends too early
        rules.yaml:13:27: error: there is no table `arches` (there are no tables: put YAML, CSV or JSON files into `facts/`)
        rules.yaml:13:63: error: `[` is no glob: unclosed character class; missing ']'
        rules.yaml:15:24: error: there is no variable `arches` (there is `event`, `build`; texts stand in double quotes)
        "#
    );
}

#[test]
fn a_mistake_is_shown_with_its_line() {
    insta::assert_snapshot!(
        refused(&files(&rule("if: |\n  event.body.new == 1 &&\n    nvr(buidl.nvr).name == \"x\"\nthen: [{task: rpmlint}]")))
            .render(false),
        @r#"
         × rules.yaml:6:13: there is no variable `buidl`
          ╭─[rules.yaml:6:13]
        5 │       event.body.new == 1 &&
        6 │         nvr(buidl.nvr).name == "x"
          ·             ──┬──
          ·               ╰── here
        7 │     then: [{task: rpmlint}]
          ╰────
         help: there is `event`; texts stand in double quotes
        "#
    );
}

#[test]
fn collecting_limits_schedules_and_names_are_checked() {
    let schedule =
        |on: &str| found(&format!("rules:\n  - name: r\n    on: {on}\n    then: [{{task: rpmlint}}]\n"));
    insta::assert_snapshot!(
        [
            schedule("{schedule: 0 6 * *}"),
            schedule("{schedule: \"0 0 30 2 *\", timezone: Europe/Prag, missed: all}"),
            schedule("{schedule: \"0 0 30 2 *\"}"),
            schedule("{topic: a}"),
            found(&rule("collect: {key: k, quiet: 10m, at_most_every: 5m}\nthen: [{task: rpmlint}]")),
            found(&rule("collect: {key: \"${events}\", quiet: 0s}\nthen: [{task: rpmlint}]")),
            found(&rule("limits: {on_excess: wait}\nthen: [{task: rpmlint}]")),
            found(&rule("limits: {per_hour: 0}\nthen: [{task: rpmlint}]")),
            found(&rule("let: {event: 1}\nthen: [{task: rpmlint}]")),
            found(&rule("let: {a: event.body.x, b: a + c}\nfor_each: {a: [1]}\nthen: [{task: rpmlint}]")),
            found(&rule("if: events.len() > 1\nthen: [{task: rpmlint}]")),
        ]
        .join("\n"),
        @r#"
        rules.yaml:3:20: error: `0 6 * *` has 4 fields, a schedule has 5 (minute, hour, day of the month, month, day of the week: `30 6 * * 1-5`)
        rules.yaml:3:44: error: there is no time zone `Europe/Prag` (did you mean `Europe/Prague`?)
        rules.yaml:3:65: error: `missed` must be skip or once, not `all`
        rules.yaml:3:20: error: `0 0 30 2 *` never comes (minute, hour, day of the month, month, day of the week: `30 6 * * 1-5`)
        rules.yaml:3:9: error: `on` must be a topic pattern, a list of them, or a schedule (write `on: org.example.topic` or `on: {schedule: "0 6 * * *"}`)
        rules.yaml:4:50: error: `at_most_every` must not be shorter than `quiet` (the firing comes at the latest `at_most_every` after the first event)
        rules.yaml:4:23: error: there is no variable `events` (did you mean `event`?)
        rules.yaml:4:40: error: `quiet` must be above nothing and at most 366d
        rules.yaml:4:13: error: `limits` needs `per_hour` or `per_day`, or both (write `limits: {per_hour: 500}`)
        rules.yaml:4:25: error: `on_excess` must be park, drop or pause, not `wait`
        rules.yaml:4:24: error: `per_hour` must be from 1 to 1000000, it is 0
        rules.yaml:4:11: error: `event` has a meaning of its own; choose another name
        rules.yaml:4:11: error: `a` is a variable of `for_each` already
        rules.yaml:4:35: error: there is no variable `c` (did you mean `a`?)
        rules.yaml:4:9: error: there is no variable `events` (did you mean `event`?)
        "#
    );
}

#[test]
fn cells_of_a_matrix_are_checked() {
    let matrix = |matrix: &str| found(&rule(&format!("then: [{{task: rpmlint, matrix: {matrix}}}]")));
    insta::assert_snapshot!(
        [
            matrix("{}"),
            matrix("{exclude: [{a: 1}]}"),
            matrix("{arch: [a], exclude: [{arhc: a}], include: [b, {Arch: c}]}"),
            matrix("{arch: [a], include: {arch: b}}"),
        ]
        .join("\n"),
        @r#"
        rules.yaml:4:36: error: `matrix` must have 1 to 8 axes, it has 0
        rules.yaml:4:36: error: `matrix` must have 1 to 8 axes, it has 0
        rules.yaml:4:48: error: `exclude` names `a`, which is no axis of this matrix
        rules.yaml:4:59: error: `exclude` names `arhc`, which is no axis of this matrix
        rules.yaml:4:80: error: `include` must be a list of mappings, one is a text (write `- {arch: x86_64}`)
        rules.yaml:4:84: error: `Arch` cannot be a variable: expected a lower-case letter, then letters, digits and `_`
        rules.yaml:4:57: error: `include` must be a list or an expression that gives one, it is a mapping
        "#
    );
}

#[test]
fn two_rules_of_one_name_name_each_other() {
    let mut files = files(&rule("then: [{task: rpmlint}]"));
    files.files.insert("more/again.yaml".into(), format!("\n{}", rule("then: [{task: rpmlint}]")).into());
    insta::assert_snapshot!(refused(&files).to_string(), @"rules.yaml:2:11: error: there are two rules named `r`; the other one is at more/again.yaml:3:11 (a rule's name must be unique over all files)");
}

#[test]
fn yaml_is_taken_literally() {
    let report = |yaml: &str| found(&rule(&format!("{yaml}\nthen: [{{task: rpmlint}}]")));
    insta::assert_snapshot!(
        [
            "when: {body.version: 3.10}",
            "when: {body.signed: yes}",
            "mode: off",
            "if: !event.body.x",
            "when: {body.a: 1, body.a: 2}",
            "when: {body.a: 1, body.a: 2, body.b: {prefxi: a}}",
            "when: {body.a: 1}\nwhen: {body.b: 1}",
            "description: [",
            "description: *x",
        ]
        .map(report)
        .join("\n"),
        @r#"
        rules.yaml:4:26: error: YAML reads `3.10` as the number 3.1 (quote it: "3.10")
        rules.yaml:4:25: error: `yes` is a boolean to some YAML readers and a text to others (write "yes" for the text, or true or false)
        rules.yaml:4:11: error: `off` is a boolean to some YAML readers and a text to others (write "off" for the text, or true or false)
        rules.yaml:4:22: error: unsupported tag `!event.body.x` (a plain `!` starts a YAML tag: write scripts as a block (`if: |`) or quote them)
        rules.yaml:4:23: error: duplicate mapping key: body.a (each key may stand only once in a mapping: join the two entries)
        rules.yaml:4:23: error: duplicate mapping key: body.a (each key may stand only once in a mapping: join the two entries)
        rules.yaml:4:43: error: there is no predicate `prefxi` (did you mean `prefix`?)
        rules.yaml:5:5: error: duplicate mapping key: when (each key may stand only once in a mapping: join the two entries)
        rules.yaml:4:18: error: unclosed bracket '['
        rules.yaml:4:18: error: alias references unknown anchor
        "#
    );
}

#[test]
fn registries_are_checked() {
    let report = |tasks: &str| {
        let mut files = RuleFiles::of([("tasks.yaml", tasks)]);
        files.base = Some("/srv/rules".into());
        refused(&files).to_string()
    };
    insta::assert_snapshot!(
        [
            "task: {}",
            "tasks: [a]",
            "tasks: {a b: {git: \"https://h/a\"}}",
            "tasks: {a: {gti: \"https://h/a\"}}",
            "tasks: {a: {git: \"file:///etc\"}}",
            "tasks: {a: {git: \"--upload-pack=x\"}}",
            "tasks: {a: {git: ../../etc}}",
            "tasks: {a: {git: /etc}}",
            "tasks: {a: {git: \"https://h/a\", ref: \"-x\", path: ../x, trust: maybe, timeout: 30}}",
            "tasks: {a: {git: \"https://h/a\", secrets: [token]}}",
        ]
        .map(report)
        .join("\n"),
        @r#"
        tasks.yaml:1:1: error: the registry of tasks needs the field `tasks`
        tasks.yaml:1:1: error: the registry of tasks has no field `task` (did you mean `tasks`?)
        tasks.yaml:1:8: error: `tasks` must be a mapping from names to repositories, it is a list (write `name: {git: https://host/name.git}` below it)
        tasks.yaml:1:9: error: a task cannot be named `a b`: expected 1 to 128 letters, digits, `.`, `_` and `-`, a letter or digit first
        tasks.yaml:1:13: error: a registered task needs the field `git`
        tasks.yaml:1:13: error: a registered task has no field `gti` (did you mean `git`?)
        tasks.yaml:1:18: error: repositories by `file://` are not allowed here; allowed are https, http, ssh, git; `rules: {file_urls: true}` in the configuration (--config) allows them
        tasks.yaml:1:18: error: a repository's URL must not begin with `-`: `--upload-pack=x`
        tasks.yaml:1:18: error: `../../etc` leads outside of the folder that holds the rules folder
        tasks.yaml:1:18: error: `/etc` is no URL of a repository; expected one of https, http, ssh, git, such as https://host/name.git
        tasks.yaml:1:38: error: a ref must not begin with `-`: `-x`
        tasks.yaml:1:50: error: `../x` leaves the repository; expected a relative path without `..`
        tasks.yaml:1:63: error: `trust` must be trusted or untrusted, not `maybe`
        tasks.yaml:1:79: error: `timeout` must be a duration with a unit (write 30s for seconds or 30m for minutes)
        tasks.yaml:1:42: error: only a trusted task gets secrets (add `trust: trusted` if this repository may see them)
        "#
    );
    let without_base = RuleFiles::of([("tasks.yaml", "tasks: {a: {git: ../x}}")]);
    assert!(refused(&without_base).to_string().contains("these rules come from none"));
}

#[test]
fn facts_are_checked() {
    let mut files = files(&rule("then: [{task: rpmlint}]"));
    files.files.insert("facts/a.yaml".into(), "[".into());
    files.files.insert("facts/b.yaml".into(), "x: 1".into());
    files.files.insert("facts/b.json".into(), "{\"x\": 1}".into());
    files.files.insert("facts/c.json".into(), "{\"x\": ".into());
    let report = refused(&files);
    let lines: Vec<_> =
        report.diagnostics.iter().map(|found| (found.file.as_str(), found.message.as_str())).collect();
    assert!(lines.iter().any(|(file, _)| *file == "facts/a.yaml"), "{report}");
    assert!(lines.contains(&("facts/b.yaml", "the table `b` is also in facts/b.json")), "{report}");
    assert!(lines.iter().any(|(file, _)| *file == "facts/c.json"), "{report}");
}

#[test]
fn limits_of_files() {
    let entries = vec!["{task: rpmlint}"; 101].join(", ");
    let many = found(&rule(&format!("then: [{entries}]")));
    assert!(many.contains("`then` has at most 100 entries"), "{many}");
    let mut all = String::from("rules:\n");
    for at in 0..20_001 {
        all.push_str(&format!("- {{name: r{at}, on: a, then: [{{task: rpmlint}}]}}\n"));
        if at % 5_000 == 4_999 {
            // One file has room for so many only.
            all.push_str("#\n");
        }
    }
    let chunks: Vec<String> = all.split("#\n").map(|chunk| chunk.replacen("rules:\n", "", 1)).collect();
    let mut files = RuleFiles::of([("tasks.yaml", TASKS)]);
    for (at, chunk) in chunks.iter().enumerate() {
        files.files.insert(format!("{at}.yaml"), format!("rules:\n{chunk}").into());
    }
    let report = refused(&files).to_string();
    assert!(report.contains("there are 20001 rules, at most 20000 are taken"), "{report}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "[a-z:{}\\[\\]\"'$|>&*!#., \n-]{0,200}") {
        let _ = taskbot_rules::compile(&RuleFiles::of([("a.yaml", text.as_str())]), &crate::options());
        let fields = format!("when: {{body.x: {text}}}\nif: \"{text}\"\nthen: [{{task: rpmlint, with: {{a: \"{text}\"}}}}]");
        let _ = taskbot_rules::compile(&files(&rule(&fields)), &crate::options());
    }

    #[test]
    fn no_text_makes_a_filter_panic(text in "[a-z0-9={}!^$*~<>\"',. \\\\ä-]{0,60}") {
        if let Ok(filter) = taskbot_rules::Filter::parse(&text) {
            let _ = filter.matches(&crate::update(), crate::now());
        }
    }
}
