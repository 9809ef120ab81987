//! The commands against a server, one story each.

use crate::support::{Beside, Up, run, taskbot, until};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

const TASK: &str = r#"name: check
inputs:
  name: {type: string, required: true}
  code: {type: integer, default: 0}
environment: [{sandbox: {}}, {local: {}}]
run: |
  echo "checking $TASKBOT_INPUT_NAME"
  echo found > "$TASKBOT_OUTPUT/report.txt"
  exit $TASKBOT_INPUT_CODE
artifacts: {paths: ["report.txt"]}
"#;
const TASKS: &str = "tasks:\n  check: {git: ../repo}\n";
const RULES: &str = r#"rules:
  - name: check-builds
    description: Every build is checked
    on: org.example.build
    when: {body.state: done}
    then:
      - task: check
        item: {type: build, id: "${event.body.name}"}
        with: {name: "${event.body.name}", code: "${event.body.code}"}
tests:
  - name: a build is checked
    event: {topic: org.example.build, body: {state: done, name: audit, code: 0}}
    expect: {check-builds: [{task: check}]}
"#;

/// A server whose rules check builds, with the repository of the check.
fn up() -> Up {
    let up = Up::start(&[("builds.yaml", RULES), ("tasks.yaml", TASKS)], &[]);
    repository(&up.path().join("repo"));
    up
}

fn repository(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("task.yaml"), TASK).unwrap();
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "check"]] {
        assert!(
            Command::new("git").current_dir(folder).args(who).args(arguments).status().unwrap().success()
        );
    }
}

/// Sends a build; gives its task.
fn build(up: &Up, name: &str, code: u8) -> String {
    let body = format!(r#"{{"state": "done", "name": "{name}", "code": {code}}}"#);
    let sent = up
        .run(&["-o", "json", "event", "send", "org.example.build", "--id", name, "--data", &body])
        .expect(0, &["new"]);
    sent.json()["tasks"][0].as_str().unwrap().to_owned()
}

#[test]
fn from_event_to_result() {
    let up = up();
    let task = build(&up, "audit", 0);
    up.run(&["task", "watch", &task]).expect(0, &["finished(passed)"]);
    up.run(&["task", "watch", "@latest"]).expect(0, &["finished(passed)"]);
    up.run(&["event", "show", "@latest"]).expect(0, &["check-builds", "fired", "1 task", &task]);
    up.run(&["event", "show", "audit", "-o", "json"]).expect(0, &["\"topic\": \"org.example.build\""]);
    up.run(&["event", "why", "1"]).expect(0, &["check-builds: fired", "held         when body.state"]);
    up.run(&["event", "why", "1", "-o", "markdown"])
        .expect(0, &["### check-builds: fired, 1 task", "| held | when | body.state |"]);
    up.run(&["event", "why", "1", "--rule", "nope"]).expect(5, &["no rule `nope`"]);
    up.run(&["task", "show", &task[..18]]).expect(0, &["rule check-builds", "commit", "run", "report.txt"]);
    up.run(&["task", "logs", "-f", &task]).expect(0, &["checking audit", "the attempt has ended"]);
    up.run(&["task", "artifacts", &task, "--get", "report.txt"]).expect(0, &["found"]);
    let all = up.path().join("all");
    up.run(&["task", "artifacts", &task, "--all", "--into", all.to_str().unwrap()])
        .expect(0, &["report.txt"]);
    assert_eq!(fs::read_to_string(all.join("report.txt")).unwrap(), "found\n");
    let (outside, own) = (up.run(&["event", "list"]), up.run(&["event", "list", "--own"]));
    assert!(
        !outside.out.contains("taskbot.") && outside.out.contains("org.example.build"),
        "{}",
        outside.out
    );
    own.expect(0, &["taskbot.task.finished", "org.example.build"]);
    up.run(&["event", "tail", "--in", "--since", "1h", "-n", "1", "-o", "json"]).expect(0, &["\"audit\""]);
    up.run(&["event", "tail", "taskbot.task.>", "--since", "1h", "-n", "1"])
        .expect(0, &["taskbot.task.finished check audit", &task]);
    up.run(&["event", "list", "--topic", "org.*.build"]).expect(0, &["org.example.build"]);
    up.run(&["event", "list", "--topic", "org.>.build"]).expect(2, &["can only be the last token"]);
    up.run(&["result", "list", "--item", "audit"]).expect(0, &["passed", "check"]);
    up.run(&["result", "export", "--task", &task, "--junit", "-"])
        .expect(0, &["<testsuites tests=\"1\" failures=\"0\"", "check"]);
    up.run(&["result", "show", "1"]).expect(0, &["result #1", "passed"]);
    up.run(&["worker", "list"]).expect(0, &["active", "default"]);
    up.run(&["queue", "list"]).expect(0, &["default"]);
    up.run(&["task", "cancel", &task]).expect(6, &["cannot be cancelled"]);
}

#[test]
fn exit_codes_say_how_a_task_ended() {
    let up = up();
    for (name, code, expect) in [("good", 0, 0), ("bad", 1, 1), ("broken", 77, 3)] {
        let task = build(&up, name, code);
        let given = up.run(&["task", "watch", &task]);
        assert_eq!(given.code, expect, "{name}: {}{}", given.out, given.err);
    }
    let rerun = up.run(&["task", "rerun", "@latest", "--input", "code=0", "--why", "once more", "--watch"]);
    let rerun = rerun.expect(0, &["finished(passed)"]);
    let id = rerun.out.lines().next().unwrap().to_owned();
    up.run(&["task", "show", &id]).expect(0, &["ran task"]);
    up.run(&["task", "list", "--outcome", "failed"]).expect(0, &["finished(failed)"]);
    up.run(&["task", "list", "--where", "{item.id: bad}", "-o", "jsonl"]).expect(0, &["\"bad\""]);
    up.run(&["task", "submit", "check"])
        .expect(3, &["error(bad_task)", "input `name` is missing", "task watch"]);
    let nobody = up.run(&["task", "submit", "check", "--input", "name=a", "--arch", "vax"]);
    let nobody = nobody.expect(0, &["no known worker can run it", "arch vax"]);
    up.run(&["task", "cancel", nobody.out.trim()]).expect(0, &["cancelled"]);
    up.run(&["task", "submit", "check"]).expect(3, &[]);
    up.run(&["task", "watch", "@latest"]).expect(3, &["error(bad_task)", "name"]);
    up.run(&["task", "submit", "chekc"]).expect(5, &["did you mean `check`?"]);
}

#[test]
fn waiting_can_be_given_up() {
    let up = up();
    up.run(&["queue", "pause", "default", "--why", "a look"]).expect(0, &["queue resume default"]);
    up.run(&["queue", "list"]).expect(0, &["a look"]);
    let task = build(&up, "audit", 0);
    up.run(&["task", "watch", &task, "--timeout", "300ms"]).expect(124, &["the task goes on", &task]);
    up.run(&["task", "cancel", &task, "--why", "not needed"]).expect(0, &["cancelled"]);
    up.run(&["task", "watch", &task]).expect(3, &["cancelled by anonymous: not needed"]);
    up.run(&["queue", "resume", "default"]).expect(0, &["hands out again"]);
    let name = up.run(&["worker", "list", "-o", "json"]).json()[0]["name"].as_str().unwrap().to_owned();
    up.run(&["worker", "drain", &name]).expect(0, &["takes no more tasks"]);
    up.run(&["worker", "list"]).expect(0, &["drain"]);
    up.run(&["worker", "resume", &name]).expect(0, &["takes tasks again"]);
}

#[test]
fn a_worker_is_taken_out_of_work_and_tasks_say_so() {
    let up = up();
    let name = up.run(&["worker", "list", "-o", "json"]).json()[0]["name"].as_str().unwrap().to_owned();
    up.run(&["worker", "maintenance", &name, "--why", "new disks", "--until", "2h"])
        .expect(0, &["takes no more tasks until 20"]);
    up.run(&["worker", "list"]).expect(0, &["maintenance until 20", ": new disks"]);
    let task = build(&up, "audit", 0);
    let shown = || up.run(&["task", "show", &task]).out;
    until(|| shown().contains("in maintenance until 20").then_some(())).expect("nobody else can run it");
    assert!(shown().contains("(new disks)"));
    up.run(&["worker", "uncordon", &name]).expect(0, &["takes tasks again"]);
    up.run(&["task", "watch", &task]).expect(0, &["finished(passed)"]);
    up.run(&["worker", "cordon", &name, "--why", "a look"]).expect(0, &["takes no more tasks"]);
    up.run(&["worker", "list"]).expect(0, &["cordon: a look"]);
    up.run(&["worker", "maintenance", &name, "--why", " "]).expect(2, &["needs a reason"]);
    up.run(&["worker", "maintenance", &name, "--why", "x", "--until", "2020-01-01"]).expect(2, &["is over"]);
    up.run(&["worker", "cordon", "nobody"]).expect(5, &["nobody"]);
    up.run(&["worker", "resume", &name]).expect(0, &[]);
}

#[test]
fn dumps_go_out_and_come_in() {
    let up = up();
    let line = |id: u32| {
        format!(
            r#"{{"topic": "org.example.build", "id": "d-{id}", "headers": {{}}, "body": {{"state": "begun", "number": 1.10}}}}"#
        )
    };
    let dump: String = (0..1200).map(|id| line(id) + "\n").collect();
    let sent = up.run_with(&["event", "send"], &dump).expect(0, &["1200 new, 0 known"]);
    assert_eq!(sent.out.lines().count(), 1200);
    let broken = format!("{}\nnonsense\n{}\n", line(3), line(4).replace("begun", "other"));
    up.run_with(&["event", "send"], &broken)
        .expect(1, &["line 2:", "1 known, 1 in conflict", "1 unreadable"]);
    up.run_with(&["event", "send"], &line(5)).expect(0, &["0 new, 1 known"]);
    up.run(&["event", "list", "-n", "2", "-o", "json"]).expect(0, &["there is more: --before"]);
    let file = up.path().join("again.jsonl");
    up.run(&["event", "record", file.to_str().unwrap(), "--id", "d-7", "--id", "d-8"])
        .expect(0, &["2 events"]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("1.10"), "the bytes of bodies are kept: {text}");
    up.run(&["event", "send", "-f", file.to_str().unwrap()]).expect(0, &["2 known"]);
    up.run(&["event", "record", file.to_str().unwrap(), "--id", "d-7"]).expect(2, &["cannot write"]);
}

#[test]
fn bad_events_lie_with_the_dead_letters() {
    let up = up();
    up.run_with(&["event", "send", "org.example.build"], "{\"a\": ").expect(1, &["malformed", "dead letter"]);
    up.run(&["event", "send", "a b", "--data", "{}"]).expect(1, &["a topic must not hold ' '", "dlq show 2"]);
    up.run(&["event", "send", "a..b", "--data", "{}"]).expect(1, &["a token between its dots"]);
    up.run(&["dlq", "show", "@latest"]).expect(0, &["a..b"]);
    up.run(&["dlq", "show", "nonsense"]).expect(2, &["expected its number"]);
    up.run(&["dlq", "drop", "3"]).expect(0, &[]);
    up.run(&["dlq", "list"]).expect(0, &["org.example.build", "the body is no JSON"]);
    up.run(&["dlq", "show", "1"]).expect(0, &["{\"a\": ", "the body is no JSON"]);
    up.run(&["dlq", "requeue", "1"]).expect(1, &["it is still refused"]);
    up.run(&["dlq", "requeue", "7", "1", "8"])
        .expect(5, &["7: ", "1: ", "it is still refused", "0 of 3 done, 3 refused"]);
    up.run(&["dlq", "drop", "1"]).expect(0, &["is gone"]);
    up.run(&["dlq", "show", "1"]).expect(5, &["no dead letter"]);
}

#[test]
fn what_comes_in_can_be_followed() {
    let up = up();
    build(&up, "first", 0);
    let given = up.run(&["event", "tail", "--since", "1h", "--in", "-n", "1"]);
    given.expect(0, &["org.example.build first [done]"]);
    let given = up.run(&[
        "event",
        "tail",
        "--since",
        "1h",
        "--in",
        "-n",
        "1",
        "-o",
        "json",
        "--where",
        "{body.name: first}",
    ]);
    assert_eq!(given.expect(0, &[]).json()["id"], "first");
    up.run(&["event", "tail", "--where", "{body: {glob"]).expect(2, &["--where"]);
    up.run(&["event", "tail", "a*.b"]).expect(2, &["a wildcard stands for a whole token"]);
    up.run(&["event", "replay", "nope", "first"])
        .expect(5, &["is judged again (generation 1)", "nope: ", "1 of 2 done"]);
    up.run(&["event", "replay", "first"]).expect(0, &["is judged again (generation 2)"]);
}

#[test]
fn rules_are_seen_and_switched() {
    let up = up();
    up.run(&["rule", "list"]).expect(0, &["check-builds", "active", "builds.yaml:2"]);
    up.run(&["rule", "show", "check-builds"])
        .expect(0, &["Every build is checked", "when: {body.state: done}"]);
    up.run(&["rule", "disable", "check-builds"]).expect(0, &["is in force"]);
    up.run(&["rule", "list"]).expect(0, &["off"]);
    up.run(&["rule", "disable", "check-builds", "--shadow"]).expect(0, &[]);
    let sent = up.run(&[
        "event",
        "send",
        "org.example.build",
        "-d",
        r#"{"state": "done", "name": "x", "code": 0}"#,
        "-o",
        "json",
    ]);
    assert_eq!(sent.expect(0, &[]).json()["tasks"], Value::Array(Vec::new()));
    up.run(&["event", "show", "@latest"]).expect(0, &["shadow, 1 task"]);
    up.run(&["rule", "enable", "check-builds"]).expect(0, &[]);
    up.run(&["rule", "show", "nope"]).expect(5, &["nope"]);
}

#[test]
fn filters_that_nothing_has_are_refused() {
    let up = up();
    up.run(&["task", "list", "--state", "quued"]).expect(2, &["no state `quued` (did you mean `queued`?)"]);
    up.run(&["task", "list", "--outcome", "broken"]).expect(2, &["no outcome `broken`", "error(timeout)"]);
    up.run(&["task", "list", "--outcome", "error,error(infra)"]).expect(0, &["no tasks"]);
    up.run(&["task", "list", "--where", "stat.state=queued"])
        .expect(2, &["no field `stat` (did you mean `state`?)"]);
    up.run(&["event", "list", "--where", "bdy.a=1"]).expect(2, &["did you mean `body`?"]);
    up.run(&["event", "tail", "--where", "bdy.a=1"]).expect(2, &["did you mean `body`?"]);
    up.run(&["result", "list", "--where", "nothing.a=1"]).expect(2, &["no field `nothing`"]);
}

#[test]
fn a_task_tells_that_its_queue_is_paused() {
    let up = up();
    up.run(&["queue", "pause", "default", "--why", "the mirror is away"]).expect(0, &[]);
    let task = build(&up, "late", 0);
    let waits = || up.run(&["task", "show", &task]).out.contains("queued").then_some(());
    until(waits).expect("it is resolved");
    up.run(&["task", "show", &task]).expect(0, &["queue default is paused by", "the mirror is away"]);
    up.run(&["queue", "resume", "default"]).expect(0, &[]);
    up.run(&["task", "watch", &task]).expect(0, &["finished(passed)"]);
    up.run(&["task", "show", &task]).expect(0, &["finished(passed)"]);
}

#[test]
fn an_attempt_is_reproduced_at_its_commit_with_its_inputs() {
    let up = up();
    let task = build(&up, "audit", 1);
    up.run(&["task", "watch", &task]).expect(1, &["finished(failed)"]);
    let repo = up.path().join("repo");
    fs::write(repo.join("task.yaml"), TASK.replace("checking", "another")).unwrap();
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    let commit = ["commit", "--quiet", "-a", "-m", "another"];
    assert!(Command::new("git").current_dir(&repo).args(who).args(commit).status().unwrap().success());
    let shown = up.run(&["task", "reproduce", &task]);
    let parts = ["git clone --no-checkout -- ", "checkout --detach ", "--executor ", "--item build:audit"];
    shown.expect(0, &parts).expect(0, &["--input 'name=\"audit\"'", "--input code=1"]);
    let found = up.run(&["task", "reproduce", &task, "-o", "json"]).expect(0, &[]).json();
    assert_eq!(found["script"].as_array().map(Vec::len), Some(3));
    let kept = up.path().join("kept");
    let run = up.run(&["task", "reproduce", &task, "--run", "--keep", kept.to_str().unwrap()]);
    run.expect(1, &["checking audit", "failed"]);
    assert_eq!(fs::read_to_string(kept.join("report.txt")).unwrap(), "found\n");
    up.run(&["task", "reproduce", &task, "--attempt", "7"]).expect(5, &["has no attempt 7"]);
}

#[test]
fn what_is_not_trusted_waits_for_a_word() {
    let rules = RULES
        .replace("- task: check\n        item", "- task: check\n        approve: untrusted\n        item");
    assert_ne!(rules, RULES);
    let up = Up::start(&[("builds.yaml", &rules), ("tasks.yaml", TASKS)], &[]);
    repository(&up.path().join("repo"));
    let task = build(&up, "audit", 0);
    let waits = || up.run(&["task", "show", &task]).out.contains("waiting(approval)").then_some(());
    until(waits).expect("it waits for approval");
    let approve = format!("needed: taskbot task approve {task}");
    up.run(&["task", "show", &task]).expect(0, &["untrusted", &approve]);
    up.run(&["task", "list", "--where", "{state.reason: approval}"]).expect(0, &[&task[..8]]);
    up.run(&["task", "release", &task]).expect(6, &["not parked"]);
    up.run(&["task", "approve", &task, "--why", "read it"]).expect(0, &[]);
    up.run(&["task", "watch", &task]).expect(0, &["finished(passed)"]);
    up.run(&["task", "show", &task]).expect(0, &["untrusted", "approved"]);
    up.run(&["task", "approve", &task]).expect(6, &["waits for no approval"]);
}

#[test]
fn a_trusted_task_gets_its_secret_and_nobody_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    fs::create_dir(&rules).unwrap();
    let tasks =
        "tasks:\n  check: {git: ../repo, trust: trusted, secrets: [repo-token]}\n  other: {git: ../repo}\n";
    fs::write(rules.join("tasks.yaml"), tasks).unwrap();
    let file = folder.path().join("repo-token");
    fs::write(&file, "hunter2-is-no-secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let more = "  secrets: {repo-token: {file: repo-token, tasks: [check]}}\n";
    let up = Up::start_configured(folder, more, "127.0.0.1:0", &[]);
    let repo = up.path().join("repo");
    repository(&repo);
    let task = "name: check\nsecrets: [repo-token]\nenvironment: {sandbox: {}}\nrun: 'base64 $TASKBOT_SECRETS/repo-token; cat $TASKBOT_SECRETS/*'\n";
    fs::write(repo.join("task.yaml"), task).unwrap();
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    let commit = ["commit", "--quiet", "-a", "-m", "secrets"];
    assert!(Command::new("git").current_dir(&repo).args(who).args(commit).status().unwrap().success());
    up.run(&["task", "submit", "check", "--watch"]).expect(0, &["finished(passed)"]);
    let log = up.run(&["task", "logs", "@latest"]).expect(0, &["[secret repo-token]"]);
    assert!(!log.out.contains("hunter2") && !log.out.contains("aHVudGVy"), "{}", log.out);
    up.run(&["task", "show", "@latest"]).expect(0, &["trusted", "secrets    repo-token"]);
    let reproduce = ["task", "reproduce", "@latest"];
    up.run(&reproduce).expect(0, &["--secret repo-token=FILE"]);
    let here = [&reproduce[..], &["--run"]].concat();
    up.run(&here).expect(2, &["whose values only its worker knows", "--secret repo-token=FILE"]);
    let given = format!("repo-token={}", file.display());
    up.run(&[&here[..], &["--secret", &given]].concat()).expect(0, &["[secret repo-token]", "passed"]);
    up.run(&["task", "submit", "other", "--watch"]).expect(
        3,
        &["error(bad_task)", "needs the secret `repo-token`: the task is not trusted, and gets none"],
    );
    let local = ["task", "run-local", repo.to_str().unwrap()];
    up.run(&local).expect(3, &["give it by --secret NAME=FILE"]);
    up.run(&[&local[..], &["--secret", &given]].concat()).expect(0, &["[secret repo-token]"]);
    up.run(&[&local[..], &["--secret", "repo-token=/no/file"]].concat()).expect(2, &["No such file"]);
}

#[test]
fn a_failed_environment_is_held_for_a_person() {
    let tasks =
        "tasks:\n  check: {git: ../repo, trust: trusted}\n  strange: {git: ../repo, trust: untrusted}\n";
    let up = Up::start(&[("builds.yaml", RULES), ("tasks.yaml", tasks)], &[]);
    repository(&up.path().join("repo"));
    let strange = ["task", "submit", "strange", "--input", "name=audit", "--input", "code=1", "--hold"];
    let strange =
        up.run(&strange).expect(0, &["not trusted: it is held only on workers"]).out.trim().to_owned();
    up.run(&["task", "watch", &strange]).expect(1, &[]);
    up.run(&["task", "show", &strange]).expect(0, &["not held: the task is not trusted"]);
    let submit = ["task", "submit", "check", "--input", "name=audit", "--input", "code=1", "--hold=10m"];
    let task = up.run(&submit).expect(0, &[]).out.trim().to_owned();
    let held = || {
        let shown = up.run(&["task", "show", &task]).out;
        shown.contains("get in").then_some(shown)
    };
    let shown = until(held).expect("it is held");
    assert!(shown.contains("running(hold)") && shown.contains("it keeps its slot"), "{shown}");
    let enter = shown.lines().find_map(|line| line.strip_prefix("get in")).unwrap().trim().to_owned();
    let found =
        Command::new("sh").args(["-c", &format!("{enter} && cat .taskbot/output/report.txt")]).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "found\n", "{enter}");
    up.run(&["task", "unhold", &task]).expect(0, &[]);
    up.run(&["task", "watch", &task]).expect(1, &["finished(failed)"]);
    up.run(&["task", "unhold", &task]).expect(6, &["nothing is held of it"]);
    let rerun = up.run(&["task", "rerun", &task, "--input", "code=0", "--hold", "--watch"]);
    rerun.expect(0, &["finished(passed)"]);
    up.run(&["task", "rerun", &task, "--hold=soon"]).expect(2, &["--hold: `soon` is no duration"]);
    up.run(&["task", "rerun", &task, "--hold=900h"]).expect(1, &["`hold_seconds` must be"]);
}

#[test]
fn without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    fs::create_dir_all(&rules).unwrap();
    fs::write(rules.join("builds.yaml"), RULES).unwrap();
    fs::write(rules.join("tasks.yaml"), TASKS).unwrap();
    repository(&folder.path().join("repo"));
    let here = |arguments: &[&str]| run(taskbot().current_dir(folder.path()).args(arguments), "");
    here(&["rule", "check"]).expect(0, &["ok: 1 rule, "]);
    here(&["rule", "test"]).expect(0, &["a build is checked", "1 passed, 0 failed"]);
    here(&["rule", "list", "rules"]).expect(0, &["check-builds"]);
    here(&["rule", "show", "check-builds", "rules"]).expect(0, &["- name: check-builds"]);
    fs::write(
        rules.join("builds.yaml"),
        RULES.replace("name: audit, code: 0", "name: audit, code: 0, state: begun, state2: x"),
    )
    .unwrap();
    let wrong = here(&["rule", "check", "rules", "-o", "json"]);
    assert_eq!(wrong.expect(1, &[]).json()["ok"], false);
    here(&["task", "run-local", "repo", "--input", "name=audit"]).expect(0, &["checking audit", "passed"]);
    here(&["task", "run-local", "repo", "--input", "name=audit", "--input", "code=1"]).expect(1, &["failed"]);
    here(&["task", "run-local", "repo"]).expect(2, &["name"]);
    // A task in a folder of its repository, which uses what lies beside.
    fs::create_dir_all(folder.path().join("repo/checks/one")).unwrap();
    let file = "name: one\nenvironment: {sandbox: {}}\nrun: cat ../../task.yaml\n";
    fs::write(folder.path().join("repo/checks/one/task.yaml"), file).unwrap();
    let one = ["task", "run-local", "repo/checks/one"];
    here(&one).expect(1, &["task.yaml", "--root"]);
    here(&[&one[..], &["--root", "repo"]].concat()).expect(0, &["name: check", "passed"]);
    here(&[&one[..], &["--root", "rules"]].concat()).expect(2, &["is not inside of"]);
    here(&["task", "run-local", "rules"])
        .expect(2, &["there is no task.yaml", "looked for .fmf/version (tmt)"]);
    here(&["task", "list", "--server", "http://127.0.0.1:1"])
        .expect(3, &["no answer from http://127.0.0.1:1", "taskbot up"]);
    here(&["task", "list", "--server", "nonsense"]).expect(2, &["--server"]);
    here(&["config", "show", "-o", "json"]).expect(0, &["\"listen\": \"127.0.0.1:7400\""]);
    here(&["config", "show", "--config", "nope.yaml"])
        .expect(5, &["cannot read the configuration nope.yaml"]);
    here(&["completions", "bash"]).expect(0, &["_taskbot"]);
    here(&["rule", "check", "/nonexistent"]).expect(5, &["/nonexistent"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    for command in ["check", "test", "list"] {
        here(&["rule", command, "empty"]).expect(5, &["there are no rules in empty"]);
    }
    fs::write(rules.join("builds.yaml"), RULES).unwrap();
    fs::write(folder.path().join("event.json"), r#"{"topic": "org.example.build", "body": {"name": "a"}}"#)
        .unwrap();
    here(&["rule", "new", "--from-event", "event.json", "--task", "chek"])
        .expect(5, &["there is no task `chek` (did you mean `check`?)", "tasks.yaml"]);
    fs::write(rules.join("timer.yaml"), "rules: [{name: daily, on: {schedule: \"0 6 * * *\"}, then: [{task: check, with: {name: a, code: 0}}]}]\n").unwrap();
    here(&["rule", "list", "rules"]).expect(0, &["schedule 0 6 * * *"]);
    here(&["db", "migrate"]).expect(0, &["is made: sqlite"]);
    here(&["db", "migrate"]).expect(0, &["nothing to do"]);
    // What the environment says counts for commands without flags for it, too.
    let place = format!("sqlite:{}/elsewhere.db", folder.path().display());
    let mut elsewhere = taskbot();
    elsewhere.current_dir(folder.path()).env("TASKBOT_DATABASE", &place).args(["db", "migrate"]);
    run(&mut elsewhere, "").expect(0, &["is made: sqlite", "/elsewhere.db"]);
    let mut shown = taskbot();
    shown
        .current_dir(folder.path())
        .env("TASKBOT_LISTEN", "127.0.0.1:7999")
        .args(["config", "show", "--origin"]);
    run(&mut shown, "").expect(0, &["127.0.0.1:7999", " env"]);
}

#[test]
fn the_doctor_finds_things() {
    let up = up();
    let found = up.run(&["doctor", "-o", "json"]).json();
    let state = |check: &str| {
        let finding = found.as_array().unwrap().iter().find(|finding| finding["check"] == check);
        finding.unwrap_or_else(|| panic!("{check} in {found}"))["state"].as_str().unwrap().to_owned()
    };
    for check in ["config", "database", "files", "git", "server", "token", "server clock"] {
        assert_eq!(state(check), "ok", "{check}");
    }
    let file = up.path().join("broken.yaml");
    fs::write(&file, "sources: [{nats: {name: a, servers: [\"nats://127.0.0.1:1\"], stream: {name: S}}}]\ndatabase: {url: \"postgres://127.0.0.1:1/x\"}\n").unwrap();
    let broken = up.run(&["doctor", "--config", file.to_str().unwrap()]);
    broken.expect(3, &["fail database", "fail source a", "is the server running, with JetStream"]);
}

#[test]
fn a_program_for_environments_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("silent");
    fs::write(&program, "#!/bin/sh\nread -r request\necho nothing sensible\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = program.display().to_string();
    let tried = run(taskbot().args(["worker", "conformance", &program, "--its", "-o"]), "");
    tried.expect(1, &["failed says what it can", "`nothing sensible`", "1 case failed"]);
    let tried = run(taskbot().args(["-o", "json", "worker", "conformance", &program]), "").expect(1, &[]);
    assert_eq!(tried.json()[0]["verdict"], "failed");
    run(taskbot().args(["worker", "conformance", "--with", "x", &program]), "")
        .expect(2, &["--with: `x` has no value"]);
}

#[test]
fn a_local_run_ends_by_a_signal_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let task = folder.path().join("patient");
    fs::create_dir(&task).unwrap();
    let text = "name: patient\nenvironment: [{sandbox: {}}, {local: {}}]\nrun: echo it began; sleep 600\n";
    fs::write(task.join("task.yaml"), text).unwrap();
    for signal in ["INT", "TERM"] {
        let scratch = folder.path().join(signal);
        fs::create_dir(&scratch).unwrap();
        let mut command = taskbot();
        command.current_dir(folder.path()).env("TMPDIR", &scratch).args(["task", "run-local", "patient"]);
        let local = Beside::start(&mut command);
        local.says("it began");
        local.signal(signal);
        let (code, _) = local.ended();
        assert_eq!(code, 130, "{signal}");
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "{signal} leaves nothing");
    }
}

#[test]
fn a_key_stands_for_one_request() {
    let up = up();
    let submit = ["task", "submit", "check", "--key", "k1", "--input"];
    let first = up.run(&[&submit[..], &["name=a"]].concat());
    let again = up.run(&[&submit[..], &["name=a"]].concat());
    assert_eq!(first.expect(0, &[]).out, again.expect(0, &[]).out);
    up.run(&[&submit[..], &["name=b"]].concat()).expect(6, &["this key stands for another request"]);
    up.run(&["task", "submit", "chek"])
        .expect(5, &["no task is registered as `chek`; did you mean `check`?"]);
    let file = up.path().join("none.jsonl");
    up.run(&["event", "record", file.to_str().unwrap(), "--id", "999"]).expect(5, &["999"]);
    assert!(!file.exists(), "nothing is left in the way of the next try");
}
