//! Repositories without a task file, run by the real tools of their formats in the sandbox.

use model::{Outcome, SystemClock, SystemIds, protocol::AttemptEnd, result::NewResult};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
};
use taskbot_worker::{
    config::{FetchConfig, RunConfig},
    executor::{Allow, HostConfig, Sandbox, SandboxConfig, SizeLimits, UIDS},
    fetch::Fetcher,
    local_run::{LocalOptions, run_local},
    runner::{Control, Ended, Runner},
};

fn write(folder: &std::path::Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Runs what the files are, in the sandbox.
async fn run(files: &[(&str, &str)], inputs: &Value) -> (Result<Ended, String>, String) {
    let here = tempfile::tempdir().unwrap();
    let repo = here.path().join("hello");
    write(&repo, files);
    let clock = Arc::new(SystemClock);
    let host = HostConfig {
        worker: "w".into(),
        folder: here.path().join("attempts"),
        sizes: SizeLimits::default(),
        allow: Allow::default(),
    };
    let config = SandboxConfig { host, binds: Vec::new(), uids: UIDS };
    let fetch = FetchConfig { cache_dir: here.path().join("fetch"), ..FetchConfig::default() };
    let runner = Runner {
        worker: "w".into(),
        config: RunConfig { fetch: fetch.clone(), ..RunConfig::default() },
        executors: vec![Arc::new(Sandbox::new(config, clock.clone()))],
        git: crate::attempt::git(here.path()),
        fetcher: Arc::new(Fetcher::new(&fetch, clock.clone(), Arc::new(SystemIds)).unwrap()),
        clock,
    };
    let options = LocalOptions {
        inputs: inputs.as_object().unwrap().clone(),
        trusted: true,
        ..LocalOptions::default()
    };
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let out = Box::new(move |bytes: &[u8]| sink.lock().unwrap().extend_from_slice(bytes));
    let ended = run_local(&runner, &repo, here.path(), &options, out, &Control::default(), &SystemIds).await;
    let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    (ended.map_err(|error| error.to_string()), log)
}

/// What came of the task, and of each of its tests by its name.
fn told(ended: &Ended) -> (Outcome, BTreeMap<String, Outcome>) {
    fn leaves(results: &[NewResult], all: &mut BTreeMap<String, Outcome>) {
        for result in results {
            if result.children.is_empty() {
                all.insert(result.testcase.clone(), result.outcome);
            }
            leaves(&result.children, all);
        }
    }
    let AttemptEnd::Outcome { outcome, .. } = ended.finish.end else { panic!("handed back") };
    let mut all = BTreeMap::new();
    leaves(&ended.finish.results[0].children, &mut all);
    (outcome, all)
}

/// The outcome, and `NAME OUTCOME` of each test.
async fn check(files: &[(&str, &str)], inputs: Value, outcome: &str, tests: &[&str]) -> String {
    let (ended, log) = run(files, &inputs).await;
    let ended = ended.unwrap();
    let (got, all) = told(&ended);
    let all: Vec<String> = all.into_iter().map(|(name, outcome)| format!("{name} {outcome}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!((got.to_string().as_str(), all.as_slice()), (outcome, tests), "{inputs}\n{log}");
    log
}

#[tokio::test]
async fn bats() {
    const GOOD: (&str, &str) = (
        "tests/good.bats",
        "@test \"adds\" {\n[ $((1 + 1)) = 2 ]\n}\n@test \"elsewhere\" {\nskip \"not here\"\n}\n",
    );
    const BAD: (&str, &str) = ("bad.bats", "@test \"subtracts\" {\n[ $((1 - 1)) = 2 ]\n}\n");
    const BROKEN: (&str, &str) = ("tests/broken.bats", "@test \"broken\" {\nif\n}\n");
    check(&[GOOD], json!({}), "passed", &["hello.adds passed", "hello.elsewhere skipped"]).await;
    check(
        &[GOOD, BAD],
        json!({"nvr": "hello-1-1"}),
        "failed",
        &["hello.adds passed", "hello.elsewhere skipped", "hello.subtracts failed"],
    )
    .await;
    let chosen = json!({"file": "tests/good.bats"});
    check(&[GOOD, BAD], chosen, "passed", &["hello.adds passed", "hello.elsewhere skipped"]).await;
    check(&[BROKEN], json!({}), "error(task)", &["hello.setup_file failed failed"]).await;
    let (none, _) = run(&[GOOD], &json!({"file": "tests/god.bats"})).await;
    assert!(none.unwrap_err().contains("did you mean `tests/good.bats`?"));
    let (none, _) = run(&[("README", "")], &json!({})).await;
    assert!(none.unwrap_err().contains("looked for .fmf/version (tmt), debian/tests/control"));
}

const DEBIAN: [(&str, &str); 6] = [
    (
        "debian/control",
        "Source: hello\nMaintainer: A <a@example.org>\n\nPackage: hello\nArchitecture: all\nDescription: toy\n",
    ),
    (
        "debian/changelog",
        "hello (1.0-1) unstable; urgency=low\n\n  * New.\n\n -- A <a@example.org>  Mon, 01 Jan 2024 00:00:00 +0000\n",
    ),
    ("debian/tests/good", "#!/bin/sh\necho all is well\n"),
    ("debian/tests/bad", "#!/bin/sh\necho it is not\nexit 1\n"),
    ("debian/tests/elsewhere", "#!/bin/sh\nexit 77\n"),
    ("debian/tests/wild", "#!/bin/sh\nexit 1\n"),
];

async fn debian(control: &str, inputs: Value, outcome: &str, tests: &[&str]) {
    let mut files = DEBIAN.to_vec();
    files.push(("debian/tests/control", control));
    check(&files, inputs, outcome, tests).await;
}

#[tokio::test]
async fn autopkgtest() {
    const GOOD: &str = "Tests: good\nDepends:\n";
    debian(GOOD, json!({}), "passed", &["hello.good passed"]).await;
    let all = format!(
        "{GOOD}\nTests: bad\nDepends:\n\nTests: elsewhere\nDepends:\nRestrictions: skippable\n\n\
         Tests: wild\nDepends:\nRestrictions: flaky\n"
    );
    debian(
        &all,
        json!({}),
        "failed",
        &["hello.bad failed", "hello.elsewhere skipped", "hello.good passed", "hello.wild skipped"],
    )
    .await;
    debian(&all, json!({"test": "elsewhere"}), "skipped", &["hello.elsewhere skipped"]).await;
    // What needs a machine or root is not run without it, and what is missing here says nothing of the package.
    let machine = "Tests: good\nDepends:\nRestrictions: isolation-machine\n";
    debian(machine, json!({}), "skipped", &["hello.good skipped"]).await;
    debian(
        "Tests: good\nDepends:\nRestrictions: needs-root\n",
        json!({}),
        "skipped",
        &["hello.good skipped"],
    )
    .await;
    let missing = "Tests: good\nDepends: there-is-no-such-package\n";
    debian(missing, json!({}), "error(task)", &["hello.good failed"]).await;
}

const TMT: [(&str, &str); 3] = [
    (".fmf/version", "1\n"),
    (
        "plans/main.fmf",
        "execute: {how: tmt}\nprovision: {how: container}\n\
         /good: {discover: {how: fmf, filter: 'tag:good'}}\n\
         /bad: {discover: {how: fmf, filter: 'tag:bad'}}\n\
         /broken: {discover: {how: fmf, filter: 'tag:broken'}}\n\
         /none: {discover: {how: fmf, filter: 'tag:nothing'}}\n\
         /elsewhere: {discover: {how: fmf, filter: 'tag:elsewhere'}}\n\
         /prepares: {discover: {how: fmf, filter: 'tag:good'}, prepare: {how: install, package: hello}}\n",
    ),
    (
        "tests/main.fmf",
        "/good: {test: 'test \"$TASKBOT_INPUT_NVR\" = hello-1-1', tag: good}\n\
         /bad: {test: 'false', tag: bad}\n\
         /broken: {test: ./nothing, tag: broken}\n\
         /elsewhere: {test: 'tmt-report-result /tests/elsewhere SKIP', tag: elsewhere}\n",
    ),
];

#[tokio::test]
async fn tmt() {
    let plan = async |plan: &str, outcome: &str, tests: &[&str]| {
        check(&TMT, json!({"plan": plan, "nvr": "hello-1-1"}), outcome, tests).await
    };
    plan("/plans/good", "passed", &["hello./tests/good passed"]).await;
    plan("/plans/bad", "failed", &["hello./tests/bad failed"]).await;
    plan("/plans/broken", "error(task)", &["hello./tests/broken error(task)"]).await;
    plan("/plans/none", "not_applicable", &[]).await;
    plan("/plans/elsewhere", "skipped", &["hello./tests/elsewhere./tests/elsewhere skipped"]).await;
    let log = plan("/plans/prepares", "error(task)", &[]).await;
    assert!(log.contains("the plan prepares its machine, which only a container lets it do"), "{log}");
    let (none, _) = run(&TMT, &json!({"plan": "/plans/god"})).await;
    assert!(none.unwrap_err().contains("did you mean `/plans/good`?"));
}
