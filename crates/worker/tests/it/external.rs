//! Programs that provide environments: the example, and many that do not do as they should.

use crate::{
    attempt,
    common::{Commands, Log, clock, ended, label, processes, tree, until},
};
use model::{
    SystemIds,
    protocol::AttemptEnd,
    requirements::ExecutorKind,
    task::Trust,
    task_file::{Environment, ExternalWish, Sizes},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use taskbot_worker::{
    executor::{
        Allow, CollectLimits, Executor, Exit, External, ExternalConfig, HostConfig, Profile, Program,
        ProvisionError, ProvisionRequest, Provisioned, SizeLimits, Swept,
        conformance::{self, Surroundings, Verdict},
    },
    local_run::{LocalOptions, run_local},
    runner::Control,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The example program.
fn chroot(root: &Path, more: &[&str]) -> Program {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/external/chroot.py");
    let mut command =
        vec![program.display().to_string(), "--root".into(), format!("busybox={}", root.display())];
    command.extend(more.iter().map(|one| (*one).to_owned()));
    Program { command, env: BTreeMap::new(), untrusted: false }
}

/// A root folder with busybox alone.
fn busybox_root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy("/bin/busybox", bin.join("busybox"))
        .unwrap_or_else(|error| panic!("this test needs busybox (busybox-static): {error}"));
    let listed = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    root
}

fn executor(folder: &Path, worker: &str, program: Program) -> External {
    let host = HostConfig {
        worker: worker.into(),
        folder: folder.to_owned(),
        sizes: SizeLimits::default(),
        allow: Allow::default(),
    };
    let programs = [("lab".to_owned(), program)].into();
    External::new(ExternalConfig { host, programs, time_factor: 1.0 }, clock())
}

fn wish(provider: &str, with: Value, reboot: bool) -> Environment {
    let with = with.as_object().unwrap().clone();
    Environment::External(ExternalWish {
        provider: provider.into(),
        with,
        reboot,
        sizes: Sizes { memory_bytes: Some(128 << 20), ..Sizes::default() },
    })
}

async fn provision(
    executor: &External,
    worker: &str,
    environment: &Environment,
    trust: Trust,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<Box<dyn Provisioned>, ProvisionError> {
    let request = ProvisionRequest {
        label: &label(worker, 1),
        environment,
        trust,
        limit,
        deadline: clock().now() + Duration::from_secs(3600),
    };
    executor.provision(&request, &Log::default(), stop).await
}

async fn conform(program: Program) -> Vec<(&'static str, Verdict, Option<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let around = Surroundings {
        clock: clock(),
        ids: Arc::new(SystemIds),
        folder: folder.path().to_owned(),
        provision_limit: Duration::from_secs(60),
    };
    let with = json!({}).as_object().unwrap().clone();
    let cases = conformance::run(program, with, around, &mut |_| {}).await;
    cases.into_iter().map(|case| (case.name, case.verdict, case.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_keeps_to_the_protocol() {
    let root = busybox_root();
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().display().to_string();
    let cases = conform(chroot(root.path(), &["--state", &folder])).await;
    assert!(cases.len() > 15, "{cases:?}");
    for (name, verdict, reason) in cases {
        let expect = if name.starts_with("reboots") { Verdict::Skipped } else { Verdict::Passed };
        assert_eq!(verdict, expect, "{name}: {reason:?}");
    }
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "nothing is left");
}

/// From the task file on, as a worker runs it: without secrets, which a program cannot be given.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_from_its_file_on() {
    let (root, folder, here) = (busybox_root(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let executor = executor(folder.path(), "w", chroot(root.path(), &[]));
    executor.probe().await.unwrap();
    let mut runner = attempt::runner(here.path());
    runner.executors = vec![Arc::new(executor)];
    let repo = here.path().join("repo");
    fs::create_dir(&repo).unwrap();
    let yaml = "name: t\nenvironment: {external: {provider: lab}}\nrun: echo in $(pwd); exit 1\n";
    fs::write(repo.join("task.yaml"), yaml).unwrap();
    let (said, control) = (Arc::new(Mutex::new(Vec::new())), Control::default());
    let log = Arc::clone(&said);
    let out = Box::new(move |bytes: &[u8]| log.lock().unwrap().extend_from_slice(bytes));
    let options = LocalOptions { trusted: true, ..LocalOptions::default() };
    let ran = run_local(&runner, &repo, here.path(), &options, out, &control, &SystemIds).await;
    let said = String::from_utf8_lossy(&said.lock().unwrap()).into_owned();
    let AttemptEnd::Outcome { outcome, reason } = ran.unwrap().finish.end else { panic!("{said}") };
    assert_eq!(outcome.as_str(), "failed", "{reason:?}\n{said}");
    assert!(said.contains("in /"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_attempt_in_a_chroot() {
    let (root, folder, here) = (busybox_root(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let executor = executor(folder.path(), "w", chroot(root.path(), &[]));
    assert!(executor.providers().is_empty());
    let probe = executor.probe().await.unwrap();
    assert_eq!(probe.notes[0], "lab: chroot 1");
    assert_eq!(executor.providers(), ["lab".to_owned()].into());
    let never = CancellationToken::new();
    let limit = Duration::from_secs(60);
    let refused = async |environment: &Environment, trust| {
        provision(&executor, "w", environment, trust, limit, &never).await.err().unwrap().to_string()
    };
    let plain = wish("lab", json!({}), false);
    assert!(refused(&plain, Trust::Untrusted).await.contains("not trusted"));
    assert!(refused(&wish("lob", json!({}), false), Trust::Trusted).await.contains("it has: lab"));
    assert!(refused(&wish("lab", json!({}), true), Trust::Trusted).await.contains("cannot reboot"));
    let other = wish("lab", json!({"root": "fedora"}), false);
    assert!(refused(&other, Trust::Trusted).await.contains("there is no root `fedora`; there are busybox"));
    assert!(refused(&wish("lab", json!({"rot": 1}), false), Trust::Trusted).await.contains("`root` alone"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let mut place = provision(&executor, "w", &plain, Trust::Trusted, limit, &never).await.unwrap();
    let report = place.report();
    assert_eq!((report.executor, report.image.as_deref()), (ExecutorKind::External, Some("busybox")));
    let from = here.path().join("tree");
    tree(&from);
    place.copy_in(&from).await.unwrap();
    let text =
        ended(Commands::run(&["cat link; echo x >$TASKBOT_OUTPUT/x"]).on(&mut place).await, Exit::Code(0));
    assert_eq!(text, "from the repository\n");
    ended(Commands::run(&["sleep 600"]).idle(Duration::from_secs(1)).on(&mut place).await, Exit::Idle);
    let greedy = "head -c 300000000 /dev/zero | tail -c 300000000 >/dev/null";
    let (exit, _) = Commands::run(&[greedy]).on(&mut place).await;
    assert_eq!(exit.unwrap(), Exit::Oom, "its memory is limited");
    // A link where the output folder was leads nowhere but into the chroot.
    let trap = "mv .taskbot/output .taskbot/o; ln -s /etc .taskbot/output; ln -s /etc/passwd deep/passwd";
    ended(Commands::run(&[trap]).on(&mut place).await, Exit::Code(0));
    let limits = CollectLimits { total_bytes: 1 << 20, files: 100 };
    let collected = place.copy_out(&["deep/*".to_owned()], limits, &here.path().join("out")).await.unwrap();
    let names: Vec<_> = collected.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["deep/file"], "{collected:?}");
    // A person gets in by the line that the program says.
    let enter = place.keep().await.unwrap().join("\n");
    let mut shell = std::process::Command::new("sh");
    let mut shell = shell.args(["-c", &enter]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), b"cat link; pwd\n").unwrap();
    let said = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said, "from the repository\n/task\n", "{enter}");
    place.destroy().await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A program in shell: what it does in each request, by the request's name; the others are answered well.
fn bad(folder: &Path, cases: &str) -> Program {
    let path = folder.join("bad.sh");
    let script = format!(
        r#"#!/bin/sh
ok() {{ echo "{{\"id\": $n, \"ok\": $1}}"; }}
n=0
while read -r line; do
n=$((n+1))
case "$line" in
{cases}
*'"request":"capabilities"'*) ok '{{"protocol": 1, "name": "bad", "version": "0", "reboot": true, "sweep": true}}';;
*'"request":"provision"'*) ok '{{"work_dir": "/task"}}';;
*'"request":"exec"'*) ok '{{"code": 0}}';;
*'"request":"copy_out"'*) f=${{line#*archive\":\"}}; : >"${{f%%\"*}}"; ok '{{}}';;
*) ok '{{}}';;
esac
done
"#
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Program { command: vec![path.display().to_string()], env: BTreeMap::new(), untrusted: false }
}

/// An environment of a bad program, gone through to its end; the first error, or how the command ended.
async fn through(cases: &str) -> String {
    let (folder, scripts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let executor = executor(&folder.path().join("a"), "w", bad(scripts.path(), cases));
    let gone = async || {
        let left = fs::read_dir(folder.path().join("a")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{cases}: nothing is left");
        until("the program is gone", async || processes(&scripts.path().display().to_string()) == 0).await;
    };
    let never = CancellationToken::new();
    let plain = wish("lab", json!({}), true);
    let made = provision(&executor, "w", &plain, Trust::Trusted, Duration::from_secs(60), &never).await;
    let mut place = match made {
        Ok(place) => place,
        Err(error) => {
            gone().await;
            return format!("provision: {error}");
        }
    };
    let (from, out) = (folder.path().join("tree"), folder.path().join("out"));
    tree(&from);
    let commands = Commands::run(&["true"]);
    let limits = CollectLimits { total_bytes: 1 << 20, files: 100 };
    let done = async {
        place.copy_in(&from).await.map_err(|error| format!("copy_in: {error}"))?;
        let install = Commands::new(Profile::Install, &["true"]);
        let prepared = place.prepare(&install.request(), None, &Log::default(), &never).await;
        prepared.map_err(|error| format!("prepare: {error}"))?;
        let (exit, _) = commands.on(&mut place).await;
        let exit = exit.map_err(|error| format!("exec: {error}"))?;
        place.copy_out(&[], limits, &out).await.map_err(|error| format!("copy_out: {error}"))?;
        Ok::<_, String>(format!("{exit:?}"))
    };
    let done = done.await.unwrap_or_else(|error| error);
    let destroyed = place.destroy().await;
    gone().await;
    match destroyed {
        Err(error) if done == "Code(0)" => format!("destroy: {error}"),
        _ => done,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_programs_are_told_by_what_they_said() {
    let check = async |cases: &str, expect: &[&str]| {
        let got = through(cases).await;
        for part in expect {
            assert!(got.contains(part), "{cases}\ngave {got}\nnot {part}");
        }
    };
    check("", &["Code(0)"]).await;
    // It starts in an empty folder of its own.
    let empty =
        r#"*'"provision"'*) [ -z "$(ls -A)" ] && [ "$PWD" = "$HOME" ] && ok '{"work_dir": "/task"}';;"#;
    check(empty, &["Code(0)"]).await;
    check(
        r#"*'"capabilities"'*) echo Starting up...;;"#,
        &[
            "provision: the program `lab` broke the protocol (capabilities): expected value",
            "`Starting up...`",
        ],
    )
    .await;
    check(
        r#"*'"capabilities"'*) ok '{"protocol": 7, "name": "x", "version": "1"}';;"#,
        &["speaks protocol 7"],
    )
    .await;
    check(
        r#"*'"provision"'*) head -c 3000000 /dev/zero | tr '\0' x; echo;;"#,
        &["provision: ", "a line is longer than 1048576 bytes; it begins with `xxx"],
    )
    .await;
    check(
        r#"*'"provision"'*) echo out of quota >&2; exit 3;;"#,
        &["provision: the program `lab` ended (exit status: 3) in `provision`", "it said: out of quota"],
    )
    .await;
    check(r#"*'"provision"'*) n=77; ok '{}';;"#, &["speaks of request 77, asked was 2", r#"{\"id\": 77"#])
        .await;
    check(r#"*'"provision"'*) ok '{"work_dir": "task"}';;"#, &["an absolute path", r#"\"task\""#]).await;
    check(
        r#"*'"provision"'*) echo "{\"id\": $n, \"error\": {\"kind\": \"bad_task\", \"message\": \"no image x\"}}";;"#,
        &["provision: no image x"],
    )
    .await;
    check(
        r#"*'"copy_in"'*) echo "{\"id\": $n, \"output\": \"eA==\"}";;"#,
        &["copy_in: ", "for commands only"],
    )
    .await;
    check(r#"*'"exec"'*) ok '{"code": "0"}';;"#, &["prepare: ", "makes no sense", r#"{\"code\":\"0\"}"#])
        .await;
    check(
        r#"*'"profile":"run"'*) printf '{"id": '; exit 0;;"#,
        &["exec: ", "its last line has no end; the line: `{\\\"id\\\":"],
    )
    .await;
    check(r#"*'"profile":"run"'*) ok '{"ended": "gone"}';;"#, &["Gone"]).await;
    check(r#"*'"profile":"run"'*) kill -9 $$;;"#, &["exec: ", "signal: 9"]).await;
    check(r#"*'"reboot"'*) exit 1;;"#, &["prepare: ", "in `reboot`"]).await;
    check(r#"*'"copy_out"'*) ok '{}';;"#, &["copy_out: ", "out.tar: No such file"]).await;
    check(
        r#"*'"copy_out"'*) f=${line#*archive\":\"}; echo no tar >"${f%%\"*}"; ok '{}';;"#,
        &["copy_out: the archive of the work folder cannot be read"],
    )
    .await;
    check(
        r#"*'"destroy"'*) echo "{\"id\": $n, \"error\": {\"kind\": \"infra\", \"message\": \"stuck\"}}";;"#,
        &["destroy: stuck"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_or_says_nothing_offers_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Program { command: vec!["/no/such".into()], env: BTreeMap::new(), untrusted: false };
    let error = executor(folder.path(), "w", missing).probe().await.unwrap_err();
    assert!(error.contains("lab does not work: the program `lab` cannot be started"), "{error}");
    let cases = conform(bad(folder.path(), r#"*'"capabilities"'*) exit 1;;"#)).await;
    assert_eq!((cases.len(), cases[0].1), (1, Verdict::Failed), "{cases:?}");
    // It answers everything and does nothing: many cases see that.
    let cases = conform(bad(folder.path(), "")).await;
    let failed: Vec<_> = cases.iter().filter(|case| case.1 == Verdict::Failed).map(|case| case.0).collect();
    for name in
        ["takes files in", "keeps exit codes and signals", "refuses what it does not know, and goes on"]
    {
        assert!(failed.contains(&name), "{failed:?}");
    }
}

/// Each phase, in a program that hangs in it: cancelled, and out of time.
#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_time_out_in_each_phase() {
    /// A sleep that no other test sleeps; it ignores what a polite kill sends.
    const HANG: &str = "trap '' TERM HUP INT; sleep 6171.5;;";
    let none_left = async |what: &str, began: Instant| {
        until(what, async || processes("sleep\u{0}6171.5") == 0).await;
        assert!(began.elapsed() < Duration::from_secs(12), "{what}: {:?}", began.elapsed());
    };
    for request in ["capabilities", "provision"] {
        let (folder, scripts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let executor = executor(
            folder.path(),
            "w",
            bad(scripts.path(), &format!("*'\"request\":\"{request}\"'*) {HANG}")),
        );
        let plain = wish("lab", json!({}), false);
        let stop = CancellationToken::new();
        let provisioning = provision(&executor, "w", &plain, Trust::Trusted, Duration::from_secs(600), &stop);
        let cancelling = async {
            until("it hangs", async || processes("sleep\u{0}6171.5") == 1).await;
            stop.cancel();
            Instant::now()
        };
        let (made, began) = tokio::join!(provisioning, cancelling);
        assert!(matches!(made.err(), Some(ProvisionError::Stopped)), "{request}");
        none_left(request, began).await;
        if request == "provision" {
            let began = Instant::now();
            let never = CancellationToken::new();
            let made =
                provision(&executor, "w", &plain, Trust::Trusted, Duration::from_secs(1), &never).await;
            assert!(matches!(made.err(), Some(ProvisionError::TimedOut)), "{request}");
            none_left(request, began).await;
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    // A command whose program does not stop it: its program dies with it, and `cleanup` says so.
    for cancelled in [true, false] {
        let (folder, scripts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let executor =
            executor(folder.path(), "w", bad(scripts.path(), &format!("*'\"profile\":\"run\"'*) {HANG}")));
        let plain = wish("lab", json!({}), false);
        let never = CancellationToken::new();
        let mut place =
            provision(&executor, "w", &plain, Trust::Trusted, Duration::from_secs(60), &never).await.unwrap();
        let stop = CancellationToken::new();
        let limit = if cancelled { Duration::from_secs(600) } else { Duration::from_secs(1) };
        let commands = Commands::run(&["true"]).limit(limit);
        let running = commands.stoppable(&mut place, &stop);
        let cancelling = async {
            until("it hangs", async || processes("sleep\u{0}6171.5") == 1).await;
            if cancelled {
                stop.cancel();
            }
            Instant::now()
        };
        let (got, began) = tokio::join!(running, cancelling);
        ended(got, if cancelled { Exit::Stopped } else { Exit::TimedOut });
        none_left("exec", began).await;
        let (exit, _) = Commands::new(Profile::Cleanup, &["true"]).on(&mut place).await;
        assert!(exit.unwrap_err().to_string().contains("did not stop a command and was killed"));
        place.destroy().await.unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    // Moving files: the attempt's own stop ends it.
    let (folder, scripts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let executor = executor(
        &folder.path().join("a"),
        "w",
        bad(scripts.path(), &format!("*'\"request\":\"copy_in\"'*) {HANG}")),
    );
    let (plain, stop) = (wish("lab", json!({}), false), CancellationToken::new());
    let mut place =
        provision(&executor, "w", &plain, Trust::Trusted, Duration::from_secs(60), &stop).await.unwrap();
    let from = folder.path().join("tree");
    tree(&from);
    let cancelling = async {
        until("it hangs", async || processes("sleep\u{0}6171.5") == 1).await;
        stop.cancel();
        Instant::now()
    };
    let (copied, began) = tokio::join!(place.copy_in(&from), cancelling);
    assert_eq!(copied.unwrap_err().to_string(), "stopped");
    none_left("copy_in", began).await;
    place.destroy().await.unwrap_err();
    assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
}

/// In the chroot a stopped command is dead at once, and `cleanup` runs after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_command_leaves_the_environment_usable() {
    let (root, folder) = (busybox_root(), tempfile::tempdir().unwrap());
    let executor = executor(folder.path(), "w", chroot(root.path(), &[]));
    let (plain, never) = (wish("lab", json!({}), false), CancellationToken::new());
    let mut place =
        provision(&executor, "w", &plain, Trust::Trusted, Duration::from_secs(60), &never).await.unwrap();
    let stop = CancellationToken::new();
    let commands = Commands::run(&["trap '' TERM; sleep 6172.5 & sleep 6172.5"]);
    let running = commands.stoppable(&mut place, &stop);
    let cancelling = async {
        until("it runs", async || processes("sleep\u{0}6172.5") == 2).await;
        stop.cancel();
    };
    let (got, ()) = tokio::join!(running, cancelling);
    ended(got, Exit::Stopped);
    assert_eq!(processes("sleep\u{0}6172.5"), 0);
    let cleanup = Commands::new(Profile::Cleanup, &["echo cleaned"]);
    assert_eq!(ended(cleanup.on(&mut place).await, Exit::Code(0)), "cleaned\n");
    place.destroy().await.unwrap();
}

/// Not a test of its own: the worker that `a_killed_worker_leaves_nothing` kills.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "how the test tells its child what to do")]
async fn child_that_gets_killed() {
    let Ok(order) = std::env::var("TASKBOT_TEST_EXTERNAL_CHILD") else { return };
    let [root, folder, state]: [&str; 3] = order.split(':').collect::<Vec<_>>().try_into().unwrap();
    let executor = executor(Path::new(folder), "dead", chroot(Path::new(root), &["--state", state]));
    let (plain, never) = (wish("lab", json!({}), false), CancellationToken::new());
    let mut place =
        provision(&executor, "dead", &plain, Trust::Trusted, Duration::from_secs(60), &never).await.unwrap();
    let _ = Commands::run(&["sleep 6173.5"]).on(&mut place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_leaves_nothing() {
    let (root, temp) = (busybox_root(), tempfile::tempdir().unwrap());
    let (folder, state) = (temp.path().join("attempts"), temp.path().join("state"));
    let count = |folder: &PathBuf| fs::read_dir(folder).map_or(0, Iterator::count);
    let worker = || {
        let order = format!("{}:{}:{}", root.path().display(), folder.display(), state.display());
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "external::child_that_gets_killed"])
            .env("TASKBOT_TEST_EXTERNAL_CHILD", order)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let program = chroot(root.path(), &["--state", &state.display().to_string()]);
    // Killed alone: the program sees the end of its input. Killed with its program: only a sweep can help.
    for alone in [true, false] {
        let mut child = worker();
        until("its command runs", async || processes("sleep\u{0}6173.5") >= 1).await;
        // The program first: left alone it sees the end of its input, and cleans up.
        if !alone {
            let state = state.display().to_string();
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.contains("chroot.py") && line.contains(&state) {
                    let pid = entry.file_name().to_string_lossy().parse().unwrap();
                    nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid),
                        nix::sys::signal::Signal::SIGKILL,
                    )
                    .ok();
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let other = executor(&folder, "other", program.clone());
        other.probe().await.unwrap();
        assert_eq!(other.sweep(&HashSet::new()).await.unwrap(), Swept::default());
        let same = executor(&folder, "dead", program.clone());
        same.probe().await.unwrap();
        let swept = same.sweep(&HashSet::new()).await.unwrap();
        assert_eq!(swept.machines, usize::from(!alone), "{swept:?}");
        until("its processes are gone", async || processes("sleep\u{0}6173.5") == 0).await;
        assert_eq!((count(&folder), count(&state)), (0, 0));
    }
}
