//! A server that is killed and started again on the same place, while others watch.

use crate::support::{Beside, Up, taskbot};
use std::{fs, path::Path, process::Command};

const RULES: &str = "rules:\n  - name: one\n    on: org.example.build\n    then: [{task: slow}]\n";
const TASKS: &str = "tasks:\n  slow: {git: ../repo}\n";
/// Long enough that the server is killed and back in the middle of it.
const TASK: &str = r#"name: slow
environment: [{sandbox: {}}, {local: {}}]
run: |
  for i in $(seq 1 80); do echo "line $i of 80"; sleep 0.1; done
"#;

fn repository(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("task.yaml"), TASK).unwrap();
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
    for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "slow"]] {
        let mut git = Command::new("git");
        assert!(git.current_dir(folder).args(who).args(arguments).status().unwrap().success());
    }
}

#[test]
fn watching_and_following_a_log_survive_it() {
    let up = Up::start(&[("one.yaml", RULES), ("tasks.yaml", TASKS)], &["--no-worker"]);
    repository(&up.path().join("repo"));
    let url = up.url.clone();
    let work = tempfile::tempdir().unwrap();
    // Repositories beside the rules are folders of this machine, and so the worker's own configuration allows them.
    let config = work.path().join("worker.yaml");
    let allowed = format!(
        "git: {{folders: [{}]}}\nworker: {{executors: {{container: false, local_untrusted: true}}}}\n",
        up.path().display()
    );
    fs::write(&config, allowed).unwrap();
    let mut worker = taskbot();
    worker.arg("--config").arg(config).args(["worker", "--server", &url, "--name", "w", "--work-dir"]);
    let _worker = Beside::start(worker.arg(work.path().join("work")));
    let beside = |arguments: &[&str]| Beside::start(taskbot().env("TASKBOT_SERVER", &url).args(arguments));
    up.run(&["event", "send", "org.example.build", "--data", "{}"]).expect(0, &["new"]);
    let (watch, logs) = (beside(&["task", "watch", "@latest"]), beside(&["task", "logs", "-f", "@latest"]));
    watch.says("running");
    logs.says("line 3 of 80");
    let (folder, listened) = up.kill();
    let _up = Up::start_on(folder, &listened, &["--no-worker"]);
    let (code, said) = watch.ended();
    assert_eq!(code, 0, "{said}");
    for state in ["running(run)", "finished(passed)"] {
        assert_eq!(said.matches(state).count(), 1, "{state} is told once:\n{said}");
    }
    let (code, said) = logs.ended();
    assert_eq!(code, 0, "{said}");
    let got: Vec<&str> = said.lines().filter_map(|line| line.find("line ").map(|at| &line[at..])).collect();
    let expect: Vec<String> = (1..=80).map(|i| format!("line {i} of 80")).collect();
    assert_eq!(got, expect, "each line once, and in order");
}
