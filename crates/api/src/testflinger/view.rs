//! A job as Testflinger's clients see it: its state in their words, and its fields.

use super::{SYSTEM, answer::Refusal, answer::time};
use crate::state::ApiState;
use model::{
    Outcome, Phase, Task, TaskState,
    outcome::words,
    task::{TaskKind, WaitReason},
};
use serde_json::{Map, Value, json};
use store::ForeignJob;
use uuid::Uuid;

/// Its phases, in their order.
pub(crate) const PHASES: [&str; 7] =
    ["setup", "provision", "firmware_update", "test", "allocate", "reserve", "cleanup"];
/// All states of a job that can be asked for; `active` is any that is not final.
pub(crate) const STATES: [&str; 13] = [
    "waiting",
    "running",
    "setup",
    "provision",
    "firmware_update",
    "test",
    "allocate",
    "allocated",
    "reserve",
    "cleanup",
    "cancelled",
    "completed",
    "active",
];

/// Whether a state that an agent reports ends the job.
pub(crate) fn is_end(state: &str) -> bool {
    matches!(state, "complete" | "completed" | "cancelled")
}

/// Our phase for one of theirs.
pub(crate) fn phase(state: &str) -> Phase {
    match state {
        "setup" | "firmware_update" => Phase::Prepare,
        "provision" => Phase::Provision,
        "cleanup" => Phase::Cleanup,
        _ => Phase::Run,
    }
}

/// The newest job of this id.
pub(crate) async fn find(state: &ApiState, id: Uuid) -> Result<Option<ForeignJob>, Refusal> {
    Ok(state.scheduler().store().foreign_job(SYSTEM, id).await?)
}

/// The attempt that a job's reports are of.
pub(crate) fn attempt_of(job: &ForeignJob) -> u32 {
    job.task.as_ref().map_or(job.attempt, |task| task.attempts)
}

/// A phase's place among them; one that is unknown comes last.
pub(crate) fn place_of(phase: &str) -> usize {
    PHASES.iter().position(|known| *known == phase).unwrap_or(PHASES.len())
}

/// Where a job stands, in its words; nothing when nobody reported anything of it.
pub(crate) fn state(job: &ForeignJob) -> Option<String> {
    let Some(task) = &job.task else { return job.state.clone() };
    let word = match &task.state {
        TaskState::Waiting { .. } | TaskState::Queued { .. } => "waiting",
        TaskState::Cancelled { .. }
        | TaskState::Superseded { .. }
        | TaskState::Running { stop: Some(_), .. } => "cancelled",
        TaskState::Finished { .. } => "complete",
        TaskState::Running { attempt, .. } => match &job.state {
            Some(state) if job.attempt == *attempt => state,
            _ => "running",
        },
    };
    Some(word.to_owned())
}

/// Whether a job stands where a search asks for.
pub(crate) fn is_in(state: &str, wanted: &str) -> bool {
    match wanted {
        "active" => !is_end(state),
        "complete" | "completed" => matches!(state, "complete" | "completed"),
        wanted => wanted == state,
    }
}

/// The job as it was submitted.
pub(crate) fn submitted(task: &Task) -> Map<String, Value> {
    match &task.kind {
        TaskKind::Foreign { job: Value::Object(job), .. } => job.clone(),
        _ => Map::new(),
    }
}

/// Whether a job waits for attachments. The command line sends a file, an empty one, for a list that names none, too.
pub(crate) fn names_attachments(job: &Map<String, Value>) -> bool {
    let mut phases = job.iter().filter(|(field, _)| field.ends_with("_data"));
    phases.any(|(_, data)| data.get("attachments").is_some())
}

/// The job as it is shown and handed out: what was submitted, with its id.
pub(crate) fn definition(job: &ForeignJob, task: &Task) -> Map<String, Value> {
    let mut all = submitted(task);
    all.insert("job_id".to_owned(), job.job_id.to_string().into());
    all.entry("job_queue").or_insert_with(|| task.queue.as_str().into());
    all.entry("exclude_agents").or_insert_with(|| json!([]));
    if names_attachments(&all) {
        let waits = matches!(task.state, TaskState::Waiting { reason: WaitReason::Attachments, .. });
        all.insert("attachments_status".to_owned(), if waits { "waiting" } else { "complete" }.into());
    }
    if let Some(at) = job.started_at {
        all.insert("started_at".to_owned(), time(at).into());
    }
    all
}

/// How a job ended, from what was reported of its phases, by [`words::from_testflinger`]: a phase that did not succeed
/// says something of the test itself only when it is `test`; what comes before could not tell.
pub(crate) fn outcome(data: &Map<String, Value>) -> (Outcome, Option<String>) {
    let code = |phase: &str| {
        let status = data.get("status").and_then(|status| status.get(phase));
        status.or_else(|| data.get(&format!("{phase}_status"))).and_then(Value::as_i64)
    };
    for name in PHASES.into_iter().filter(|name| !matches!(*name, "test" | "cleanup")) {
        match code(name) {
            None | Some(0) => {}
            Some(code) => {
                let reason = format!("phase {name} ended with exit code {code}");
                return (words::from_testflinger(name, code), Some(reason));
            }
        }
    }
    match (code("test"), data.get("exit_code").and_then(Value::as_i64)) {
        (Some(0), None | Some(0)) | (None, Some(0)) => (Outcome::Passed, None),
        (Some(code), _) if code != 0 => {
            let reason = format!("phase test ended with exit code {code}");
            (words::from_testflinger("test", code), Some(reason))
        }
        (_, Some(code)) => (words::from_testflinger("test", code), Some(format!("exit code {code}"))),
        // No test was asked for: the machine was provisioned, or reserved.
        (_, None) if PHASES.iter().any(|name| code(name).is_some()) => (Outcome::Passed, None),
        (_, None) => (Outcome::Info, Some("its agent reported no phase".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_from_what_was_reported() {
        let check = |data: Value, expect: &str| {
            let (outcome, reason) = outcome(data.as_object().unwrap());
            assert_eq!(format!("{outcome} {}", reason.unwrap_or_default()).trim(), expect, "{data}");
        };
        check(json!({"status": {"provision": 0, "test": 0}}), "passed");
        check(
            json!({"status": {"provision": 0, "test": 3, "cleanup": 0}}),
            "failed phase test ended with exit code 3",
        );
        check(json!({"status": {"provision": 46}}), "error(infra) phase provision ended with exit code 46");
        check(json!({"status": {"provision": 0, "reserve": 0}}), "passed");
        check(json!({"status": {"test": 0, "cleanup": 1}}), "passed");
        check(json!({"exit_code": 0, "output": "foo"}), "passed");
        check(json!({"exit_code": 2}), "failed exit code 2");
        check(json!({"test_status": 1, "test_output": "x"}), "failed phase test ended with exit code 1");
        check(json!({"status": {"test": 46}}), "error(infra) phase test ended with exit code 46");
        check(json!({"status": {"test": -9}}), "error(task) phase test ended with exit code -9");
        check(json!({"exit_code": 46}), "error(infra) exit code 46");
        check(json!({}), "info its agent reported no phase");
    }

    #[test]
    fn states_are_found() {
        for (state, wanted, expect) in [
            ("waiting", "active", true),
            ("complete", "active", false),
            ("complete", "completed", true),
            ("cancelled", "completed", false),
            ("test", "test", true),
        ] {
            assert_eq!(is_in(state, wanted), expect, "{state} {wanted}");
        }
    }
}
