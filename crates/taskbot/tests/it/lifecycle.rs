//! Starting and stopping, tokens, and what is refused.

use crate::support::{Up, run, taskbot, until};
use std::fs;

const RULES: &str = "rules:\n  - name: one\n    on: org.example.build\n    then: [{task: check}]\n";
const TASKS: &str = "tasks:\n  check: {git: ../repo}\n";

#[test]
fn a_signal_stops_it_and_another_start_finds_everything() {
    let mut up = Up::start(&[("one.yaml", RULES), ("tasks.yaml", TASKS)], &["--no-worker"]);
    up.run_with(&["event", "send", "org.example.build", "--id", "b-1"], r#"{"name": "audit"}"#)
        .expect(0, &["new b-1"]);
    up.signal("TERM");
    assert_eq!(up.wait().code(), Some(0));
    let folder = std::mem::replace(&mut up.folder, tempfile::tempdir().unwrap());
    let up = Up::start_in(folder, &["--no-worker"]);
    up.run(&["event", "list"]).expect(0, &["org.example.build", "audit"]);
    up.run(&["event", "send", "org.example.build", "--id", "b-1", "--data", r#"{"name": "audit"}"#])
        .expect(0, &["known b-1"]);
}

#[test]
fn rules_are_read_again_by_a_signal() {
    let up = Up::start(&[("one.yaml", RULES), ("tasks.yaml", TASKS)], &["--no-worker"]);
    fs::write(up.path().join("rules/one.yaml"), RULES.replace("name: one", "name: two")).unwrap();
    up.signal("HUP");
    let found = until(|| up.run(&["rule", "list"]).out.contains("two").then_some(()));
    assert!(found.is_some(), "the rules are read again");
    // A bad file leaves the old ones in force, and says so.
    fs::write(up.path().join("rules/one.yaml"), "rules: [{nam: three}]\n").unwrap();
    up.run(&["rule", "reload"]).expect(1, &["did you mean `name`?"]);
    up.run(&["rule", "list"]).expect(0, &["two", "the newest rules are not taken"]);
}

#[test]
fn the_first_start_refuses_bad_rules() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.yaml"), "rules:\n  - name: one\n    onn: x\n").unwrap();
    let mut command = taskbot();
    command.args(["up", "--no-worker", "--listen", "127.0.0.1:0", "--rules"]).arg(folder.path());
    command.arg("--data-dir").arg(folder.path().join("data"));
    run(&mut command, "").expect(1, &["one.yaml:3:5", "onn", "did you mean `on`?"]);
}

#[test]
fn listening_for_others_needs_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("taskbot.yaml");
    fs::write(&config, "data_dir: data\nserver: {listen: \"0.0.0.0:0\"}\n").unwrap();
    let given = run(taskbot().arg("server").arg("--config").arg(&config), "");
    given.expect(2, &["can be reached from other machines", "token create NAME --role admin --offline"]);
    let mut command = taskbot();
    command.args(["token", "create", "me", "--role", "admin", "--offline", "--config"]).arg(&config);
    let token = run(&mut command, "").expect(0, &["tb_"]).out;
    let token_file = folder.path().join("token");
    fs::write(&token_file, token).unwrap();
    // Now it may; the data of `up` is the same folder, so that its server has the token.
    fs::create_dir_all(folder.path().join("rules")).unwrap();
    let up = Up::start_in(folder, &[]);
    up.run(&["task", "list"]).expect(4, &["--token-file"]);
    up.run(&["task", "list", "--token-file", token_file.to_str().unwrap()]).expect(0, &["no tasks"]);
    up.run(&["--token-file", token_file.to_str().unwrap(), "token", "list"]).expect(0, &["me", "admin"]);
    let with = |arguments: &[&str]| {
        up.run(&[&["--token-file", token_file.to_str().unwrap()][..], arguments].concat())
    };
    with(&["token", "create", "ci", "--role", "viewer"]).expect(0, &["tb_"]);
    with(&["token", "revoke", "nobody"]).expect(5, &["no token has the name or id `nobody`"]);
    with(&["token", "revoke", "ci"]).expect(0, &["token ci is refused from now on"]);
    let left = with(&["token", "list"]);
    assert!(!left.out.contains(" ci "), "{}", left.out);
    up.run(&["--token-file", "/nowhere", "token", "list"])
        .expect(5, &["cannot read the token file /nowhere"]);
}

#[test]
fn a_first_token_needs_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = taskbot();
    command.args(["token", "create", "me", "--role", "admin", "--offline", "--data-dir"]).arg(&data);
    run(&mut command, "").expect(0, &["tb_"]);
    let mut command = taskbot();
    let database = format!("sqlite:{}", data.join("taskbot.db").display());
    command.args(["token", "create", "you", "--role", "viewer", "--offline", "--database", &database]);
    run(&mut command, "").expect(0, &["tb_"]);
    fs::create_dir_all(folder.path().join("rules")).unwrap();
    let up = Up::start_in(folder, &["--no-worker"]);
    up.run(&["task", "list"]).expect(4, &["--token-file"]);
}

#[test]
fn one_file_one_server() {
    let up = Up::start(&[], &["--no-worker"]);
    let mut command = taskbot();
    command.args(["server", "--listen", "127.0.0.1:0", "--data-dir"]).arg(up.path().join("data"));
    run(&mut command, "").expect(3, &["is in use by another server"]);
}
