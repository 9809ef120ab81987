//! What rule authors do, from a first rule to one that is in force.

use crate::support::{Beside, Given, Up, run, taskbot, until};
use serde_json::{Value, json};
use std::{fs, path::Path};

const TASKS: &str = "tasks:\n  check: {git: \"https://git.example.org/check.git\"}\n";
const RULES: &str = r#"rules:
  - name: check-builds
    on: org.example.build
    when: {body.state: done}
    then: [{task: check, item: {type: build, id: "${event.body.name}"}}]
    dedupe: {key: "${event.body.name}", window: 1h}
  - name: look-at-failures
    on: org.example.build
    when: {body.state: failed}
    then: [{task: check, item: {type: build, id: "${event.body.name}"}}]
    mode: shadow
  - name: never
    on: org.example.other
    then: [{task: check}]
"#;

/// A folder with rules, and a dump of one event for each entry: hour, name, state.
fn folder(rules: &str, events: &[(u32, &str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put_rules(&folder.path().join("rules"), rules);
    let lines = events.iter().enumerate().map(|(at, (hour, name, state))| line(at, *hour, name, state));
    fs::write(folder.path().join("dump.jsonl"), lines.collect::<String>()).unwrap();
    folder
}

fn put_rules(folder: &Path, rules: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("builds.yaml"), rules).unwrap();
    fs::write(folder.join("tasks.yaml"), TASKS).unwrap();
}

/// A line as fedora-messaging's recorder writes it.
fn line(id: usize, hour: u32, name: &str, state: &str) -> String {
    let message = json!({
        "id": format!("e-{id}"), "topic": "org.example.build", "queue": null,
        "headers": {"sent-at": format!("2026-11-20T{hour:02}:30:00+00:00")},
        "body": {"name": name, "state": state},
    });
    format!("{message}\n")
}

fn here(folder: &Path, arguments: &[&str]) -> Given {
    run(taskbot().current_dir(folder).args(arguments), "")
}

#[test]
fn a_backtest_counts_what_would_have_been_made() {
    let events = [
        (8, "a", "done"),
        (9, "a", "done"),
        (9, "b", "done"),
        (9, "b", "done"),
        (9, "c", "failed"),
        (10, "d", "begun"),
    ];
    let folder = folder(RULES, &events);
    let dump = folder.path().join("dump.jsonl");
    let mut text = fs::read_to_string(&dump).unwrap();
    text.push_str(&line(0, 8, "a", "done"));
    text.push_str("no json\n");
    fs::write(&dump, text).unwrap();
    let given = here(folder.path(), &["rule", "backtest", "--dump", "dump.jsonl", "-o", "json"]);
    let found = given.expect(0, &[]).json();
    let counts = |value: &Value, names: &[&str]| -> Vec<u64> {
        names.iter().map(|name| value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))).collect()
    };
    assert_eq!(counts(&found, &["events", "repeated", "unreadable", "fired", "tasks"]), [6, 1, 1, 5, 4]);
    assert!(found["first_unreadable"][0].as_str().unwrap().starts_with("line 8: "), "{found}");
    let rule = &found["rules"][0];
    // `a` comes again an hour later, when the window is over; `b` within it.
    assert_eq!(counts(rule, &["fired", "tasks", "joined", "peak_per_hour"]), [4, 3, 1, 2]);
    assert_eq!(rule["peak_at"], "2026-11-20T09:00:00Z");
    assert_eq!(counts(&found["rules"][1], &["fired", "tasks"]), [1, 1]);
    here(folder.path(), &["rule", "backtest", "--dump", "dump.jsonl"]).expect(
        0,
        &[
            "6 events, 1 repeated, 1 unreadable",
            "2026-11-20 08:30 to 2026-11-20 10:30 UTC",
            "1 of 3 rules did not fire",
        ],
    );
    here(folder.path(), &["rule", "backtest", "--dump", "nope.jsonl"]).expect(5, &["cannot read nope.jsonl"]);
    here(folder.path(), &["rule", "backtest", "nope", "--dump", "dump.jsonl"]).expect(5, &["no folder nope"]);
    here(folder.path(), &["rule", "backtest"]).expect(2, &["--since"]);
    let nothing =
        run(taskbot().current_dir(folder.path()).args(["rule", "backtest", "--dump", "-"]), "[1]\n");
    nothing.expect(1, &["no event could be read"]);
}

#[test]
fn a_backtest_shows_what_a_change_adds_and_removes() {
    let folder = folder(RULES, &[(8, "a", "done"), (9, "b", "failed"), (10, "c", "begun")]);
    let changed = RULES
        .replace("{body.state: done}", "{body.state: [done, begun]}")
        .replace("mode: shadow", "mode: \"off\"");
    put_rules(&folder.path().join("changed"), &changed);
    let arguments = ["rule", "backtest", "changed", "--dump", "dump.jsonl", "--diff", "rules"];
    let given = here(folder.path(), &arguments).expect(0, &["2 tasks became 2; 1 added, 1 removed"]);
    for text in
        ["+ check-builds  check build:c  (event e-2)", "- look-at-failures  check build:b  (event e-1)"]
    {
        assert!(given.out.contains(text), "{}", given.out);
    }
    let given = here(folder.path(), &[&arguments[..], &["-o", "markdown"]].concat());
    given.expect(0, &["| check-builds | changed | 1 | 2 | 1 | 0 |", "```diff", "**Difference** against"]);
    let same = here(folder.path(), &["rule", "backtest", "--dump", "dump.jsonl", "--diff", "rules"]);
    same.expect(0, &["no rule makes other tasks"]);
}

#[test]
fn a_backtest_counts_against_limits_and_collects() {
    let rules = r#"rules:
  - name: limited
    on: org.example.build
    then: [{task: check}]
    limits: {per_hour: 2, on_excess: drop}
  - name: collecting
    on: org.example.build
    collect: {key: "${event.body.state}", quiet: 30m}
    then: [{task: check}]
"#;
    let events = [(8, "a", "x"), (9, "a", "x"), (9, "b", "x"), (9, "c", "x"), (9, "d", "y"), (11, "e", "x")];
    let folder = folder(rules, &events);
    let given = here(folder.path(), &["rule", "backtest", "--dump", "dump.jsonl", "-o", "json"]);
    let found = given.expect(0, &[]).json();
    let [limited, collecting] = [&found["rules"][0], &found["rules"][1]];
    assert_eq!((&limited["tasks"], &limited["over_limit"]), (&json!(6), &json!(2)), "{limited}");
    assert_eq!((&collecting["collected"], &collecting["windows"]), (&json!(6), &json!(4)), "{collecting}");
    here(folder.path(), &["rule", "backtest", "--dump", "dump.jsonl"]).expect(0, &["2/h drop", "WINDOWS"]);
}

#[test]
fn the_history_of_a_server_is_judged_too() {
    let up = Up::start(&[("builds.yaml", RULES), ("tasks.yaml", TASKS)], &["--no-worker"]);
    let dump: String = (0..700).map(|at| line(at, 8, &format!("p{at}"), "done")).collect();
    up.run_with(&["event", "send"], &dump).expect(0, &["700 new"]);
    let rules = up.path().join("rules");
    let rules = rules.to_str().unwrap();
    let found = up.run(&["rule", "backtest", rules, "--since", "1h", "--diff", "active", "-o", "json"]);
    let found = found.expect(0, &[]).json();
    assert_eq!(found["rules"][0]["tasks"], 700, "{found}");
    assert_eq!((&found["diff"]["added"], &found["diff"]["rules"]), (&json!(0), &json!([])));
    up.run(&["rule", "backtest", rules, "--since", "1h", "--diff", "abcdef"]).expect(5, &["abcdef"]);
    // What was exported is a dump again.
    let file = up.path().join("all.jsonl");
    up.run(&["event", "record", file.to_str().unwrap(), "--since", "1h"]).expect(0, &["700 events"]);
    let again = up.run(&["rule", "backtest", rules, "--dump", file.to_str().unwrap(), "-o", "json"]);
    assert_eq!(again.expect(0, &[]).json()["rules"][0]["tasks"], 700);
    let (folder, _) = up.kill();
    let data = folder.path().join("data");
    let config = folder.path().join("taskbot.yaml");
    fs::write(&config, format!("data_dir: {}\n", data.display())).unwrap();
    let mut offline = taskbot();
    offline.current_dir(folder.path()).arg("--config").arg(config);
    let given =
        run(offline.args(["rule", "backtest", "rules", "--since", "1h", "--offline", "-o", "json"]), "");
    assert_eq!(given.expect(0, &[]).json()["rules"][0]["tasks"], 700);
}

#[test]
fn a_rule_is_explained_by_a_folder_and_by_a_server() {
    let folder = folder(RULES, &[]);
    let message = folder.path().join("message.json");
    fs::write(&message, line(1, 8, "a", "begun")).unwrap();
    let message = message.to_str().unwrap();
    let explain = ["rule", "explain", "check-builds", "--event", message];
    let lines = [
        "check-builds: no match",
        "held         on topic matches org.example.build",
        "failed       when body.state is done, found \"begun\"",
    ];
    here(folder.path(), &[&explain[..], &["rules"]].concat()).expect(1, &lines);
    let up = Up::start(&[("builds.yaml", RULES), ("tasks.yaml", TASKS)], &["--no-worker"]);
    up.run(&explain).expect(1, &lines);
    let both = [line(1, 8, "a", "begun"), line(2, 8, "b", "done")].concat();
    up.run_with(&["event", "send"], &both).expect(0, &["2 new"]);
    up.run(&["rule", "explain", "check-builds", "--event", "e-1"]).expect(1, &lines);
    up.run(&["rule", "explain", "check-builds", "--event", "@latest"]).expect(0, &["fired, 1 task"]);
    up.run(&["rule", "explain", "look-at-failures", "--event", "2", "-o", "json"])
        .expect(1, &["\"no_match\""]);
    // The rules in a folder, with an event of the server.
    let rules = folder.path().join("rules");
    let rules = rules.to_str().unwrap();
    up.run(&["rule", "explain", "check-builds", rules, "--event", "e-2"]).expect(0, &["fired"]);
    up.run(&["rule", "explain", "nope", "--event", "e-1"]).expect(5, &["nope"]);
    up.run(&["rule", "explain", "check-builds", "--event", "e-9"]).expect(5, &["e-9"]);
    up.run(&["rule", "explain", "check-builds", "--event", "no.json"])
        .expect(5, &["there is no file no.json"]);
    here(folder.path(), &["rule", "explain", "nope", "rules", "--event", message])
        .expect(5, &["no rule `nope` in rules"]);
}

#[test]
fn tests_of_rules_tell_a_ci() {
    let tests = "tests:\n  - name: a build is checked\n    event: {topic: org.example.build, body: {state: done, name: a}}\n    expect: {check-builds: [{item: {id: b}}]}\n";
    let folder = folder(&format!("{RULES}{tests}"), &[]);
    here(folder.path(), &["rule", "test", "--junit", "out.xml"]).expect(1, &["0 passed, 1 failed"]);
    let xml = fs::read_to_string(folder.path().join("out.xml")).unwrap();
    for text in [
        "<testsuite name=\"builds.yaml\" tests=\"1\"",
        "failures=\"1\"",
        "name=\"a build is checked\"",
        "<failure",
    ] {
        assert!(xml.contains(text), "{xml}");
    }
    let out = here(folder.path(), &["rule", "test", "--junit", "-"]).expect(1, &[]).out;
    assert_eq!(out, xml, "standard output is the document alone");
}

#[test]
fn an_older_rule_set_is_put_in_force_again() {
    let up = Up::start(&[("builds.yaml", RULES), ("tasks.yaml", TASKS)], &["--no-worker"]);
    up.run(&["rule", "rollback"]).expect(5, &["earlier rule set"]);
    let mode = || up.run(&["rule", "show", "check-builds"]).out.lines().next().unwrap().to_owned();
    assert_eq!(mode(), "check-builds active");
    up.run(&["rule", "shadow", "check-builds"]).expect(0, &["is in force"]);
    assert_eq!(mode(), "check-builds shadow");
    let history = up.run(&["rule", "history", "-o", "json"]).expect(0, &[]).json();
    let revisions: Vec<&str> =
        history.as_array().unwrap().iter().map(|set| set["revision"].as_str().unwrap()).collect();
    assert_eq!(revisions.len(), 2);
    up.run(&["rule", "rollback"]).expect(0, &[revisions[1]]);
    assert_eq!(mode(), "check-builds active");
    up.run(&["rule", "rollback", &revisions[0][..8]]).expect(0, &[revisions[0]]);
    assert_eq!(mode(), "check-builds shadow");
    up.run(&["rule", "rollback", "abcdef"]).expect(5, &["abcdef"]);
    up.run(&["rule", "history"]).expect(0, &["SERIAL", &revisions[0][..12]]);
}

/// How many tasks of a rule there are in a state, or in any.
fn tasks(up: &Up, rule: &str, state: &str) -> usize {
    let mut arguments = vec!["task", "list", "-o", "jsonl", "-n", "200", "--rule", rule];
    if !state.is_empty() {
        arguments.extend(["--state", state]);
    }
    up.run(&arguments).expect(0, &[]).out.lines().count()
}

/// Waits until there are so many.
fn tasks_become(up: &Up, rule: &str, state: &str, count: usize) {
    let found = until(|| (tasks(up, rule, state) == count).then_some(()));
    assert!(found.is_some(), "{} {state} tasks of {rule}, not {count}", tasks(up, rule, state));
}

#[test]
fn a_paused_rule_keeps_its_events_until_it_is_resumed() {
    let rules = "rules:\n  - name: one\n    on: org.example.build\n    then: [{task: check}]\n  - name: two\n    on: org.example.build\n    then: [{task: check}]\n";
    let up = Up::start(&[("builds.yaml", rules), ("tasks.yaml", TASKS)], &["--no-worker"]);
    let send = |from: usize, to: usize| {
        let lines: String = (from..to).map(|at| line(at, 8, "a", "done")).collect();
        up.run_with(&["event", "send"], &lines).expect(0, &["new"]);
    };
    up.run(&["rule", "backlog"]).expect(0, &["nothing is held back"]);
    up.run(&["rule", "pause", "one", "--why", "broken"]).expect(0, &["taskbot rule resume one"]);
    send(0, 3);
    assert_eq!((tasks(&up, "one", ""), tasks(&up, "two", "")), (0, 3));
    up.run(&["rule", "backlog"]).expect(0, &["one", "broken"]);
    up.run(&["event", "show", "@latest"]).expect(0, &["one held"]);
    up.run(&["rule", "list"]).expect(0, &["pause", "SUPPRESSED"]);
    up.run(&["rule", "resume", "one"]).expect(0, &["one: 3 held events", "judged now"]);
    tasks_become(&up, "one", "", 3);
    up.run(&["rule", "resume", "one"]).expect(5, &["one"]);
    up.run(&["rule", "pause", "nope"]).expect(5, &["nope"]);
    up.run(&["rule", "pause"]).expect(2, &["<RULE>"]);
    // All of them, and dropped.
    up.run(&["rule", "pause", "--all"]).expect(0, &["rule resume --all"]);
    send(3, 5);
    up.run(&["rule", "backlog"]).expect(0, &["all rules are held by anonymous"]);
    up.run(&["rule", "resume", "--all", "--drop"]).expect(0, &["4 held events are dropped"]);
    send(5, 6);
    assert_eq!((tasks(&up, "one", ""), tasks(&up, "two", "")), (4, 4));
    let counts = up.run(&["rule", "list", "-o", "json"]).json()[0]["counts"].clone();
    assert_eq!((&counts["candidates"], &counts["errors"]), (&json!(6), &json!(0)), "{counts}");
}

#[test]
fn what_a_limit_parked_is_released_or_dropped() {
    let rules = "rules:\n  - name: one\n    on: org.example.build\n    then: [{task: check}]\n    limits: {per_hour: 2}\n";
    let up = Up::start(&[("builds.yaml", rules), ("tasks.yaml", TASKS)], &["--no-worker"]);
    let lines: String = (0..6).map(|at| line(at, 8, "a", "done")).collect();
    up.run_with(&["event", "send"], &lines).expect(0, &["6 new"]);
    let parked = || up.run(&["rule", "backlog", "-o", "json"]).json()["rules"][0]["parked_tasks"].clone();
    assert_eq!(parked(), 4);
    up.run(&["rule", "backlog"]).expect(0, &["one", "PARKED TASKS"]);
    up.run(&["event", "show", "@latest"]).expect(0, &["parked by 2 per hour"]);
    up.run(&["rule", "release", "one"]).expect(0, &["4 parked tasks of one go on"]);
    up.run_with(&["event", "send"], &line(7, 8, "a", "done")).expect(0, &["1 new"]);
    assert_eq!(parked(), 1);
    up.run(&["rule", "drop", "one"]).expect(0, &["1 parked tasks of one are dropped"]);
    assert_eq!(tasks(&up, "one", "cancelled"), 1);
    up.run(&["rule", "drop", "one"]).expect(0, &["0 parked tasks"]);
}

#[test]
fn a_first_rule_comes_from_a_real_event() {
    let folder = folder(RULES, &[(8, "audit", "failed")]);
    let new = ["rule", "new", "from-a-build", "--from-event", "dump.jsonl", "--task", "check"];
    here(folder.path(), &[&new[..], &["--print"]].concat())
        .expect(0, &["name: from-a-build", "org.example.build", "tests:"]);
    assert!(!folder.path().join("rules/from-a-build.yaml").exists());
    here(folder.path(), &new).expect(0, &["rules/from-a-build.yaml", "taskbot rule test rules"]);
    here(folder.path(), &new).expect(6, &["is there already"]);
    here(folder.path(), &["rule", "test"]).expect(0, &["1 passed, 0 failed"]);
    here(folder.path(), &["rule", "explain", "from-a-build", "rules", "--event", "dump.jsonl"])
        .expect(0, &["fired, 1 task"]);
    let other = |task| ["rule", "new", "--from-event", "dump.jsonl", "--task", task, "--fixture"];
    here(folder.path(), &other("nope")).expect(5, &["no task `nope`", "rules/tasks.yaml"]);
    here(folder.path(), &other("check")).expect(0, &["fixtures/"]);
    let schema = here(folder.path(), &["rule", "schema"]).expect(0, &[]).out;
    fs::write(folder.path().join("rules/rules.schema.json"), schema).unwrap();
    let with_schema =
        ["rule", "new", "completed", "--from-event", "dump.jsonl", "--task", "check", "--print"];
    let text = here(folder.path(), &with_schema).expect(0, &[]).out;
    assert!(text.starts_with("# yaml-language-server: $schema=rules.schema.json\n"), "{text}");
    here(folder.path(), &["rule", "new", "--from-event", "no.json", "--task", "check"])
        .expect(5, &["no file no.json"]);
    let bad = ["rule", "new", "a b", "--from-event", "dump.jsonl", "--task", "check"];
    here(folder.path(), &bad).expect(2, &["a b"]);
}

#[test]
fn tests_take_over_what_rules_say_now() {
    let tests = "tests:\n  - name: a build is checked\n    event: {topic: org.example.build, body: {state: done, name: a}}\n    expect:\n      check-builds: []\n";
    let folder = folder(&format!("{RULES}{tests}"), &[]);
    here(folder.path(), &["rule", "test"]).expect(1, &["FAILED", "a build is checked"]);
    here(folder.path(), &["rule", "test", "--update"])
        .expect(0, &["builds.yaml says what the rules say now", "1 passed"]);
    here(folder.path(), &["rule", "test", "--update"]).expect(0, &["nothing to update", "1 passed"]);
}

#[test]
fn a_check_looks_at_recorded_events_and_inputs() {
    let rules = r#"rules:
  - name: one
    on: org.example.build
    when: {body.state: done, body.stat: done}
    then: [{task: own, with: {nam: x}}]
"#;
    let folder = folder(rules, &[(8, "a", "done"), (9, "b", "done")]);
    let own = folder.path().join("own");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("task.yaml"), "name: own\ninputs: {name: {type: string, required: true}}\nenvironment: [{local: {}}]\nrun: \"true\"\n").unwrap();
    fs::write(folder.path().join("rules/tasks.yaml"), "tasks: {own: {git: ../own}}\n").unwrap();
    here(folder.path(), &["rule", "check"]).expect(0, &["`nam`", "warnings"]);
    let given = here(folder.path(), &["rule", "check", "--dump", "dump.jsonl"]);
    given.expect(0, &["`body.stat`", "did you mean `body.state`", "`nam`"]);
    here(folder.path(), &["rule", "check", "--dump", "nope"]).expect(5, &["cannot read nope"]);
}

#[test]
fn rules_that_miss_by_one_clause_are_found() {
    let rules = r#"rules:
  - name: near
    on: org.example.build
    when: {body.state: done, body.name: b}
    then: [{task: check}]
  - name: far
    on: org.example.build
    when: {body.state: failed, body.name: b}
    then: [{task: check}]
"#;
    let up = Up::start(&[("builds.yaml", rules), ("tasks.yaml", TASKS)], &["--no-worker"]);
    up.run_with(&["event", "send"], &line(1, 8, "a", "done")).expect(0, &["1 new"]);
    let near =
        up.run(&["event", "why", "@latest", "--near-misses"]).expect(0, &["near: no match", "body.name"]);
    assert!(!near.out.contains("far"), "{}", near.out);
    up.run_with(&["event", "send"], &line(2, 8, "b", "done")).expect(0, &["1 new"]);
    up.run(&["event", "why", "e-2", "--near-misses"]).expect(0, &["far: no match"]);
    up.run(&["event", "why", "e-2", "--near-misses", "--rule", "near"])
        .expect(0, &["no rule misses by one clause"]);
}

fn git(folder: &Path, arguments: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    let mut command = std::process::Command::new("git");
    assert!(command.current_dir(folder).args(who).args(arguments).status().unwrap().success());
}

#[test]
fn rules_come_from_a_git_repository() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("repository");
    put_rules(&repository.join("rules"), RULES);
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "."],
        &["commit", "--quiet", "-m", "rules"],
    ] {
        git(&repository, arguments);
    }
    fs::create_dir_all(folder.path().join("rules")).unwrap();
    let up = Up::start_in(folder, &["--no-worker"]);
    let (folder, _) = up.kill();
    let config = folder.path().join("git.yaml");
    let text = format!(
        "data_dir: git-data\nserver: {{listen: \"127.0.0.1:0\"}}\nrules: {{git: {:?}, ref: main, path: rules, poll: 1h, webhook_secret_file: secret}}\ngit: {{folders: [{:?}]}}\n",
        repository,
        folder.path()
    );
    fs::write(&config, text).unwrap();
    fs::write(folder.path().join("secret"), "a secret of both\n").unwrap();
    let server = Beside::start(taskbot().arg("server").arg("--config").arg(&config));
    server.says("listening on http://");
    let url = server.said().lines().next().unwrap().trim_start_matches("listening on ").to_owned();
    let ask = |arguments: &[&str]| run(taskbot().env("TASKBOT_SERVER", &url).args(arguments), "");
    let listed = ask(&["rule", "list", "-o", "json"]);
    assert!(listed.out.contains("check-builds"), "{}", listed.out);
    put_rules(&repository.join("rules"), &RULES.replace("check-builds", "check-all-builds"));
    git(&repository, &["commit", "--quiet", "-a", "-m", "all"]);
    ask(&["rule", "reload"]).expect(0, &["is in force"]);
    ask(&["rule", "list"]).expect(0, &["check-all-builds"]);
    // Nobody looks for an hour, unless the forge says that it was pushed to.
    put_rules(&repository.join("rules"), &RULES.replace("check-builds", "check-pushed-builds"));
    git(&repository, &["commit", "--quiet", "-a", "-m", "pushed"]);
    let pushed = |token: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let hook = reqwest::Client::new().post(format!("{url}/api/v1/rules/webhook"));
        runtime.block_on(hook.header("x-gitlab-token", token).body("{}").send()).unwrap().status().as_u16()
    };
    assert_eq!(pushed("a secret of others"), 401);
    assert_eq!(pushed("a secret of both"), 202);
    let names = || ask(&["rule", "list"]).out.contains("check-pushed-builds").then_some(());
    until(names).expect("the pushed rules are in force");
    // A bad commit leaves what is in force.
    put_rules(&repository.join("rules"), "rules: [{nam: x}]\n");
    git(&repository, &["commit", "--quiet", "-a", "-m", "bad"]);
    ask(&["rule", "reload"]).expect(1, &["did you mean `name`?"]);
    ask(&["rule", "list"]).expect(0, &["check-pushed-builds", "the newest rules are not taken"]);
}

#[test]
fn a_new_rule_is_applied_to_the_past_once_and_behind_its_limits() {
    let rules = |limit: &str| {
        format!(
            "rules:\n  - name: one\n    on: org.example.build\n    when: {{body.state: done}}\n    then: [{{task: check}}]\n{limit}"
        )
    };
    let up = Up::start(&[("builds.yaml", "rules: []\n"), ("tasks.yaml", TASKS)], &["--no-worker"]);
    let lines: String = (0..5).map(|at| line(at, 8, "a", if at == 0 { "begun" } else { "done" })).collect();
    up.run_with(&["event", "send"], &lines).expect(0, &["5 new"]);
    let apply = ["rule", "apply", "one", "--since", "1h"];
    up.run(&apply).expect(5, &["one"]);
    put_rules(&up.path().join("rules"), &rules("    limits: {per_hour: 3}\n"));
    up.run(&["rule", "reload"]).expect(0, &[]);
    up.run(&[&apply[..], &["--dry-run"]].concat())
        .expect(0, &["4 wishes; 4 tasks would be made now; nothing is", "check - (event #2)"]);
    assert_eq!(tasks(&up, "one", ""), 0);
    let made = up.run(&apply).expect(0, &["4 wishes; made now: 4 tasks"]);
    assert_eq!(made.out.lines().count(), 4);
    up.run(&apply).expect(0, &["4 wishes; made now: 0 tasks"]);
    let again = up.run(&[&apply[..], &["--dry-run", "-o", "json"]].concat()).json();
    assert_eq!(
        again["would_make"].as_array().map(Vec::len),
        Some(0),
        "what was made before is not made again"
    );
    assert_eq!(tasks(&up, "one", ""), 4);
    let waits = up.run(&["rule", "backlog", "-o", "json"]).json()["rules"][0]["parked_tasks"].clone();
    assert_eq!(waits, 1, "its limit parked one");
    up.run(&["event", "show", "e-1"]).expect(0, &["one fired, 1 task"]);
    up.run_with(&["event", "send"], &line(9, 8, "a", "done")).expect(0, &["1 new"]);
    up.run(&["event", "why", "@latest"]).expect(0, &["one: fired, 1 task; then parked by 3 per hour"]);
}

#[test]
fn schemas_are_printed() {
    let folder = folder(RULES, &[]);
    for (kind, property) in [("rules", "rules"), ("tasks", "tasks"), ("task", "environment")] {
        let schema = here(folder.path(), &["rule", "schema", kind]).expect(0, &[]).json();
        assert!(schema["properties"][property].is_object(), "{kind}: {schema}");
    }
    here(folder.path(), &["rule", "schema", "x"]).expect(2, &["possible values: rules, tasks, task"]);
}

#[test]
fn the_log_has_nothing_of_single_events() {
    let rules =
        RULES.replace("on: org.example.other", "on: org.example.build\n    if: event.body.none.name == 1");
    let up = Up::start(&[("builds.yaml", &rules), ("tasks.yaml", TASKS)], &["--no-worker", "--log", "debug"]);
    let lines: String = (0..50)
        .map(|at| line(at, 8, &format!("package-{at}"), ["done", "failed", "begun"][at % 3]))
        .collect();
    up.run_with(&["event", "send"], &lines).expect(0, &["50 new"]);
    let counted = until(|| {
        let listed = up.run(&["rule", "list", "-o", "json"]).json();
        let errors = |rule: &Value| rule["counts"]["errors"] == 50;
        listed.as_array().unwrap().iter().any(errors).then_some(())
    });
    assert!(counted.is_some(), "firings and errors are rows and counters");
    let log = up.stop();
    for word in ["package-", "e-4", "look-at-failures"] {
        assert!(!log.contains(word), "`{word}` is in the log");
    }
    assert!(!log.is_empty());
}
