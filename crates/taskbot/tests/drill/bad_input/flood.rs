//! A task that logs without end: memory stays bounded, head and tail are kept.

use crate::support::{
    environment::sized,
    installation::{Installation, Plan},
    repository::task_file,
};
use serde_json::json;

/// How much is logged, in megabytes.
const FLOOD_MEGABYTES: (usize, usize) = (150, 1_000);
/// How much server and worker may grow by it, each.
const GROWTH_MAX_BYTES: u64 = 128 << 20;
/// What is kept of a log at most, with the worker's own words.
const KEPT_MAX_BYTES: usize = 66 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooded_log_costs_no_memory_and_keeps_head_and_tail() {
    // One endless line of bytes that are no text, between two that are.
    let flood = sized(FLOOD_MEGABYTES.0, FLOOD_MEGABYTES.1);
    let run = format!("echo the head\nhead -c {flood}M /dev/zero | tr '\\0' '\\377'\necho\necho the tail");
    let task = task_file("flood", "local: {}", &run);
    let plan = Plan { repositories: &[("flood", &[("task.yaml", &task)])], ..Plan::default() };
    let installation = Installation::start(&plan).await;
    let memory = || [installation.servers[0].memory_bytes(), installation.workers[0].memory_bytes()];
    let before = memory();
    let id = installation.submit(json!({"task": "flood"})).await;
    let mut most = before;
    let whole = crate::support::wait::until("the flood ends", async || {
        for (most, now) in most.iter_mut().zip(memory()) {
            *most = now.max(*most);
        }
        let whole = installation.get(&format!("/api/v1/tasks/{id}")).await;
        (whole["task"]["state"]["state"] == "finished").then_some(whole)
    })
    .await;
    assert_eq!(whole["task"]["state"]["outcome"], "passed", "{}", whole["task"]["state"]);
    let attempt = &whole["attempts"][0];
    assert_eq!(attempt["log_truncated"], true, "{attempt}");
    let log = installation.log_of(&id).await;
    assert!(log.len() <= 3 * KEPT_MAX_BYTES, "{} bytes", log.len());
    assert!(attempt["log_bytes"].as_u64().unwrap() <= KEPT_MAX_BYTES as u64, "{attempt}");
    for words in ["the head", "the tail"] {
        assert!(log.contains(words), "`{words}` is not in the log");
    }
    for (who, (before, most)) in ["server", "worker"].iter().zip(before.into_iter().zip(most)) {
        let grown = most - before;
        println!("drill flood: the {who} grew by {} MB", grown >> 20);
        assert!(grown < GROWTH_MAX_BYTES, "the {who} grew by {grown} bytes");
    }
    installation.remove().await;
}
