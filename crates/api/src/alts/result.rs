//! What came of a task, in the document that the build system reads.

use crate::{problem::Problem, state::ApiState};
use futures_util::StreamExt;
use model::{Task, outcome::words, result::Artifact, task::TaskState};
use serde_json::{Map, Value, json};

/// What the interface says of itself.
pub(super) const API_VERSION: &str = "20210512";
/// The file in which a task leaves its document.
const DOCUMENT: &str = "result.json";
/// Its parts that hold stages of their own.
const SECTIONS: [&str; 2] = ["tests", "third_party"];
/// The largest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A task's state, in the words of its clients.
pub(super) fn state_of(task: &Task) -> &'static str {
    match &task.state {
        TaskState::Waiting { .. } | TaskState::Queued { .. } if task.attempts > 0 => "RETRY",
        TaskState::Waiting { .. } | TaskState::Queued { .. } => "PENDING",
        TaskState::Running { .. } => "STARTED",
        TaskState::Finished { outcome, .. } => words::alts(*outcome),
        TaskState::Cancelled { .. } if task.attempts > 0 => "ABORTED",
        TaskState::Cancelled { .. } | TaskState::Superseded { .. } => "REVOKED",
    }
}

/// The document of a task that has ended, and its times; nothing before.
pub(super) async fn document_of(
    state: &ApiState,
    task: &Task,
    base: &str,
) -> Result<Option<(Value, Value)>, Problem> {
    if !task.state.is_final() {
        return Ok(None);
    }
    let mut artifacts = state.scheduler().store().artifacts(task.id).await?;
    let last = artifacts.iter().map(|artifact| artifact.attempt).max();
    artifacts.retain(|artifact| Some(artifact.attempt) == last);
    let mut document = Map::new();
    if let Some(found) = artifacts.iter().find(|artifact| artifact.name == DOCUMENT) {
        document = read(state, found).await;
    }
    let stats = document.remove("stats").filter(Value::is_object).unwrap_or_else(|| json!({}));
    match &task.state {
        TaskState::Finished { outcome, reason, .. } if outcome.is_error() => {
            // The document says that it failed, also where the task could write none.
            let output = reason.clone().unwrap_or_else(|| outcome.to_string());
            document.insert("prepare_environment".to_owned(), json!({"success": false, "output": output}));
        }
        TaskState::Cancelled { .. } | TaskState::Superseded { .. } => {
            document.insert("revoked".to_owned(), json!(true));
        }
        _ => {}
    }
    // Whoever reads it takes a section that is there for stages that ran: one of nothing would have failed.
    document.retain(|name, section| {
        !SECTIONS.contains(&name.as_str()) || section.as_object().is_some_and(|stages| !stages.is_empty())
    });
    if task.attempts > 0 {
        document.entry("skipped_tests").or_insert_with(|| json!([]));
        let all = logs(task, &artifacts, document.get("tests"), base);
        document.insert("logs".to_owned(), all);
    }
    Ok(Some((Value::Object(document), stats)))
}

/// Where the logs of a task are. Those of tests are known by how their names begin.
fn logs(task: &Task, artifacts: &[Artifact], tests: Option<&Value>, base: &str) -> Value {
    let log = |name: String, path: String| json!({"name": name, "href": format!("{base}/tasks/{}/{path}", task.id), "type": "test_log"});
    let arch = task.needs.arch.as_deref().unwrap_or("noarch");
    let mut logs: Vec<Value> = artifacts
        .iter()
        .filter(|artifact| artifact.name.ends_with(".log"))
        .map(|artifact| {
            let stage = artifact.name.trim_end_matches(".log").replace('/', "_");
            let section = if tests.is_some_and(|tests| tests.get(&stage).is_some()) { "tests_" } else { "" };
            log(format!("{section}{stage}_{}.log", task.id), format!("artifacts/{}", artifact.id))
        })
        .collect();
    logs.push(log(format!("alts-{}-{arch}.log", task.id), "log".to_owned()));
    json!(logs)
}

/// A document that a task left. One that is none says nothing; the task's outcome says the rest.
async fn read(state: &ApiState, artifact: &Artifact) -> Map<String, Value> {
    if artifact.size_bytes > DOCUMENT_BYTES_MAX {
        tracing::warn!(task = %artifact.task, bytes = artifact.size_bytes, "the result's document is too large");
        return Map::new();
    }
    let mut bytes = Vec::new();
    match state.scheduler().files().get(&artifact.key, None).await {
        Ok(mut parts) => {
            while let Some(part) = parts.next().await {
                match part {
                    Ok(part) => bytes.extend_from_slice(&part),
                    Err(error) => {
                        tracing::warn!(task = %artifact.task, %error, "the result's document cannot be read");
                        return Map::new();
                    }
                }
            }
        }
        Err(error) => {
            tracing::warn!(task = %artifact.task, %error, "the result's document cannot be read");
            return Map::new();
        }
    }
    // What programs print need not be text.
    serde_json::from_str(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|error| {
        tracing::warn!(task = %artifact.task, %error, "the result's document is no JSON object");
        Map::new()
    })
}
