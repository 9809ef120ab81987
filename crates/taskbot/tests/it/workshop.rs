//! What rule authors do, from a first rule to one that is in force.

use crate::support::{Given, Up, run, taskbot};
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
    here(folder.path(), &["rule", "backtest", "--dump", "nope.jsonl"]).expect(2, &["cannot read nope.jsonl"]);
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
