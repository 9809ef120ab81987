//! The shipped rules whose tasks need machines, for real: from the event on the bus to stored results, with kernels
//! that are Debian's in packages of RPM, on emulated machines.

mod cloud;
mod kernels;
mod media;
mod packages;
mod upgrades;
mod wreck;

use crate::support::{
    installation::Installation,
    wait::{until, until_within},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Machines are emulated, beside whatever else runs.
const PATIENCE: Duration = Duration::from_secs(540);
/// A guest is not started to find out what is known: it could take longer than the machines of a drill.
const WORKER: &str = "  vm: {kvm: false}\n";
const TOPIC: &str = "org.fedoraproject.prod";

/// The message of the build system about a build that is complete.
fn build(name: &str, version: &str, release: &str) -> Value {
    json!({
        "name": name, "version": version, "release": release, "epoch": null, "build_id": 1, "task_id": 2,
        "owner": "somebody", "instance": "primary", "attribute": "state", "old": 0, "new": 1,
    })
}

/// What came of one task.
struct Ended {
    item: Value,
    inputs: Value,
    state: Value,
    /// All results with their parts.
    results: Vec<Value>,
    /// Names of the artifacts.
    files: Vec<String>,
    log: String,
    /// How long its attempts took.
    took: Duration,
}

impl Ended {
    fn outcome(&self) -> &str {
        self.state["outcome"].as_str().unwrap_or_default()
    }

    /// The parts that did not pass: names with notes.
    fn complaints(&self) -> String {
        let parts = self.results.iter().filter(|result| result["outcome"] != "passed");
        parts.map(|part| format!("{} {}\n", part["testcase"], part["note"])).collect()
    }

    fn shown(&self) -> String {
        format!("{:#}\n{:?}\n{:#?}\n{}", self.state, self.files, self.results, self.log)
    }
}

/// Waits for tasks of one name until so many are made and all have ended.
async fn ended(installation: &Installation, name: &str, count: usize) -> Vec<Ended> {
    let begun = Instant::now();
    let tasks = until_within(PATIENCE, &format!("{count} tasks {name} are made"), async || {
        let tasks = installation.list("/api/v1/tasks").await;
        let tasks: Vec<_> = tasks.into_iter().filter(|task| task["name"] == name).collect();
        (tasks.len() == count).then_some(tasks)
    })
    .await;
    let mut all = Vec::new();
    for task in tasks {
        let id = task["id"].as_str().unwrap();
        let whole = installation.ended_within(PATIENCE, id).await;
        let results = installation.get(&format!("/api/v1/results?limit=1000&parts=true&task={id}")).await;
        let files = installation.get(&format!("/api/v1/tasks/{id}/artifacts")).await;
        let files = files["items"].as_array().unwrap_or_else(|| files.as_array().unwrap());
        let ended = Ended {
            item: whole["task"]["item"].clone(),
            inputs: whole["task"]["inputs"].clone(),
            state: whole["task"]["state"].clone(),
            results: results["items"].as_array().unwrap().clone(),
            files: files.iter().map(|file| file["name"].as_str().unwrap().to_owned()).collect(),
            log: installation.log_of(id).await,
            took: begun.elapsed(),
        };
        println!("{name} {}: {} after {:?}", ended.inputs, ended.outcome(), ended.took);
        all.push(ended);
    }
    all
}

/// How often something of one kind was told on the bus, once all is.
async fn told(installation: &Installation, kind: &str) -> usize {
    until("all is told", async || {
        let waiting = "select count(*) from outbox where published_at is null";
        (installation.database.number(waiting).await == 0).then_some(())
    })
    .await;
    installation.bus.all_told().await.iter().filter(|(topic, _)| topic == kind).count()
}
