//! The engine goes away in mid-run.

use crate::support::{
    engine::Engine,
    installation::{Installation, Plan},
    repository::task_file,
    wait::{until, until_equal},
};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a worker may take to notice.
const NOTICED_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_goes_away_is_an_error_and_no_verdict() {
    let mut engine = Engine::started().await;
    let container = format!("container: {{image: \"{}\"}}", crate::support::engine::image());
    let long = task_file("long", &container, "echo begun; sleep 600").replace("max: 10", "max: 0");
    let quick = task_file("quick", &container, "true");
    let plan = Plan {
        repositories: &[("long", &[("task.yaml", &long)]), ("quick", &[("task.yaml", &quick)])],
        engine: Some(engine.socket()),
        ..Plan::default()
    };
    let mut installation = Installation::start(&plan).await;
    let id = installation.submit(json!({"task": "long"})).await;
    until("the task runs", async || {
        let running = "select count(*) from task where state = 'running' and phase = 'run'";
        if installation.database.number(running).await == 0 {
            return None;
        }
        installation.log_of(&id).await.contains("begun").then_some(())
    })
    .await;

    let gone = Instant::now();
    engine.kill();
    let state = installation.ended(&id).await["task"]["state"].clone();
    assert!(gone.elapsed() < NOTICED_MAX, "noticed after {:?}", gone.elapsed());
    assert_eq!(state["outcome"], "error(infra)", "{state}");
    let reason = state["reason"].as_str().unwrap();
    assert!(reason.contains("went away while a container ran"), "{reason}");

    // It is used again by itself; what was left is removed at the latest when the worker starts.
    engine.start().await;
    let id = installation.submit(json!({"task": "quick"})).await;
    assert_eq!(installation.ended(&id).await["task"]["state"]["outcome"], "passed");
    installation.workers[0].kill();
    installation.workers[0].start();
    until_equal("containers and volumes", Vec::<String>::new(), async || {
        crate::support::engine::leftovers(
            installation.engine.to_str().unwrap(),
            &installation.workers[0].name,
        )
        .await
    })
    .await;
    installation.remove().await;
}
