//! SIGTERM with running tasks: what runs is finished or handed back; a second one forces; nothing is lost.

use crate::support::{
    installation::{Installation, Plan},
    repository::task_file,
    wait::until_equal,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

/// How many tasks: two run, the rest waits.
const TASKS: usize = 5;
/// How long a forced end may take; it delivers for at most five seconds.
const FORCED_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_worker_finishes_what_it_runs() {
    let (mut installation, go) = with_waiting_tasks().await;
    installation.workers[0].signal(Signal::SIGTERM);
    until_equal("the worker says that it stops", true, async || {
        installation.workers[0].log().contains("the worker takes no more tasks")
    })
    .await;
    assert!(installation.workers[0].runs(), "it went away from what it runs");
    assert_eq!(count(&installation, "running").await, 2, "running tasks");
    std::fs::write(go.path().join("go"), "").unwrap();
    assert!(installation.workers[0].ended().await.success());
    assert_eq!(count(&installation, "finished").await, 2, "tasks that it finished");
    assert_eq!(count(&installation, "queued").await, 3, "tasks that it left");
    installation.workers[0].start();
    all_pass(&installation).await;
    let again = installation.database.number("select count(*) from task where attempts <> 1").await;
    assert_eq!(again, 0, "tasks that were started twice");
    installation.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_forces_a_worker_and_no_task_is_lost() {
    let (mut installation, go) = with_waiting_tasks().await;
    installation.workers[0].signal(Signal::SIGTERM);
    until_equal("the worker says that it stops", true, async || {
        installation.workers[0].log().contains("the worker takes no more tasks")
    })
    .await;
    let forced = Instant::now();
    installation.workers[0].signal(Signal::SIGTERM);
    installation.workers[0].ended().await;
    assert!(forced.elapsed() < FORCED_MAX, "it took {:?}", forced.elapsed());
    crate::verify::nothing_left_running(&installation).await;
    std::fs::write(go.path().join("go"), "").unwrap();
    installation.workers[0].start();
    all_pass(&installation).await;
    installation.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_loses_no_task_of_its_workers() {
    let (mut installation, go) = with_waiting_tasks().await;
    installation.servers[0].signal(Signal::SIGTERM);
    assert!(installation.servers[0].ended().await.success());
    // While it is away, tasks go on and end.
    std::fs::write(go.path().join("go"), "").unwrap();
    installation.servers[0].start();
    installation.ready().await;
    all_pass(&installation).await;
    let again = installation.database.number("select count(*) from task where attempts <> 1").await;
    assert_eq!(again, 0, "tasks that were started twice");
    installation.remove().await;
}

/// An installation with two tasks that run until a file `go` is in the folder, and more that wait.
async fn with_waiting_tasks() -> (Installation, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let run = format!("until test -e {}; do sleep 0.1; done", folder.path().join("go").display());
    let patient = task_file("patient", "local: {}", &run);
    let plan = Plan { repositories: &[("patient", &[("task.yaml", &patient)])], ..Plan::default() };
    let installation = Installation::start(&plan).await;
    for _ in 0..TASKS {
        installation.submit(json!({"task": "patient"})).await;
    }
    until_equal("two tasks run, the others wait", (2, 3), async || {
        let running = "select count(*) from task where state = 'running' and phase = 'run'";
        (installation.database.number(running).await, count(&installation, "queued").await)
    })
    .await;
    (installation, folder)
}

async fn count(installation: &Installation, state: &'static str) -> i64 {
    let rows: Vec<(String,)> = installation.database.rows("select state from task").await;
    i64::try_from(rows.iter().filter(|(of,)| of == state).count()).unwrap()
}

async fn all_pass(installation: &Installation) {
    until_equal("all tasks pass", i64::try_from(TASKS).unwrap(), async || {
        let passed = "select count(*) from task where state = 'finished' and outcome = 'passed'";
        installation.database.number(passed).await
    })
    .await;
    let results = installation.database.number("select count(*) from result where parent is null").await;
    assert_eq!(results, i64::try_from(TASKS).unwrap(), "results");
}
