//! A worker that is killed with -9, in each phase of each executor: after its next start nothing is left.

use super::{ON_THIS_HOST, Stand, Traces, executor, is_full, traces};
use crate::common::{processes, until};
use model::requirements::ExecutorKind;
use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use taskbot_worker::runner::Control;

/// Where it is killed: what its log says by then, and the task.
const PHASES: [(&str, &str); 6] = [
    ("=== provision ===", "run: sleep TIME"),
    ("=== checkout ===", "run: sleep TIME"),
    ("prepared", "prepare: |\n  setsid sleep TIME & echo prepared; sleep TIME\nrun: 'true'"),
    ("started", "prepare: echo x > y\nrun: |\n  setsid sleep TIME & echo started; sleep TIME"),
    ("=== collect ===", "prepare: echo x > y\nrun: 'true'"),
    ("cleaning", "run: 'true'\ncleanup: |\n  setsid sleep TIME & echo cleaning; sleep TIME"),
];

/// Not a test of its own: the worker that is killed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the test tells its child what to do")]
async fn child_that_gets_killed() {
    let Ok(order) = std::env::var("TASKBOT_TEST_CHILD_KILLED") else { return };
    let [kind, worker, folder, rest] = order.splitn(4, '|').collect::<Vec<_>>().try_into().unwrap();
    let all = ON_THIS_HOST.into_iter().chain([ExecutorKind::Vm]);
    let kind = all.into_iter().find(|one| one.as_str() == kind).unwrap();
    let stand = Stand::at(kind, tempfile::tempdir_in(folder).unwrap(), worker);
    let repo = stand.repository(rest, &[]);
    let mut log = File::create(Path::new(folder).join("log")).unwrap();
    let out = Box::new(move |bytes: &[u8]| log.write_all(bytes).unwrap());
    stand.run_to(&repo, &Control::default(), out).await;
    // What is over before it is killed keeps its folder, too.
    tokio::time::timeout(Duration::from_secs(60), std::future::pending::<()>()).await.unwrap_err();
}

async fn check(kind: ExecutorKind, said: &str, rest: &str, time: &str) {
    let case = format!("{kind}, killed after `{said}`");
    let temp = tempfile::tempdir().unwrap();
    let worker = uuid::Uuid::from_bytes(super::random()).to_string();
    let order = format!("{kind}|{worker}|{}|{}", temp.path().display(), rest.replace("TIME", time));
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "threats::killed::child_that_gets_killed"])
        .env("TASKBOT_TEST_CHILD_KILLED", order)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let log = temp.path().join("log");
    until(&case, async || fs::read_to_string(&log).unwrap_or_default().contains(said)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let folders = fs::read_dir(temp.path()).unwrap().flatten().map(|entry| entry.path());
    let here: PathBuf = folders.into_iter().find(|path| path.is_dir()).unwrap();
    // Its next start.
    let executor = executor(kind, &here, &worker);
    executor.sweep(&HashSet::new()).await.unwrap_or_else(|error| panic!("{case}: {error}"));
    let left: Traces = traces(kind, &here, &worker).await;
    assert!(left.is_empty(), "{case}: {left:?}");
    until(&format!("{case}: no process is left"), async || {
        processes(&format!("sleep\0{time}")) == 0 && processes(here.to_str().unwrap()) == 0
    })
    .await;
    // There was nothing more to be found.
    assert_eq!(executor.sweep(&HashSet::new()).await, Ok(Default::default()), "{case}");
}

#[tokio::test]
async fn nothing_is_left_after_the_next_start() {
    for (n, kind) in ON_THIS_HOST.into_iter().enumerate() {
        for (m, (said, rest)) in PHASES.into_iter().enumerate() {
            check(kind, said, rest, &format!("5{n}{m}7.25")).await;
        }
    }
}

#[tokio::test]
async fn no_machine_is_left_after_the_next_start() {
    let phases = [
        ("=== prepare ===", "run: sleep 100"),
        ("booting", "run: sleep 100"),
        ("started", "run: echo started; sleep 100"),
        ("cleaning", "run: 'true'\ncleanup: echo cleaning; sleep 100"),
    ];
    for (said, rest) in phases.into_iter().take(if is_full() { 4 } else { 3 }) {
        check(ExecutorKind::Vm, said, rest, "5997.25").await;
    }
}
