//! Jobs: submitting, showing, searching, cancelling, and their place in the queue.

use super::{
    REQUEUES_MAX, SYSTEM,
    answer::{Answer, Refusal, document, job_id, nothing, object, ok, text, time},
    clients, resubmit, schema, view,
    who::Asker,
};
use crate::state::ApiState;
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
};
use model::{
    Requirements, Submitter, Task, TaskId, TaskKey, TaskName, TaskState,
    ids::QueueName,
    requirements::ForeignNeed,
    retry::{RetryOn, RetryPolicy},
    task::{Origin, TaskKind, Trust, WaitReason},
};
use serde_json::{Map, Value, json};
use store::{ForeignQuery, NewOrigin, NewTask, Role, StoreError};

/// The longest name that a task takes over from its job, in bytes.
const TASK_NAME_BYTES_MAX: usize = 200;
/// The farthest that priorities are told apart.
const PRIORITY_FAR: i64 = i32::MAX as i64;
/// All jobs take turns as one submitter's: of the same priority the oldest goes first.
const SUBMITTER: &str = "testflinger";

/// `POST /v1/job`
pub(crate) async fn submit(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    body: Bytes,
) -> Answer {
    let settings = state.testflinger();
    let mut job = object(&body)?;
    if resubmit::by_its_agent(&state, &asker, &job).await? {
        return Ok(document(json!({"job_id": job["job_id"]})));
    }
    let wanted = schema::read(&job, settings.strict)?;
    super::allowed::check(&state, &asker, &wanted, &job).await?;
    super::secrets::check(&state, &asker, &job).await?;
    refuse_excluded(&state, &wanted).await?;
    schema::settle(&mut job);
    // What only the server says.
    for field in ["attachments_status", "started_at"] {
        job.remove(field);
    }
    // Tasks are listed by the age that is in their ids; an id of the client's own is one more name.
    let id = state.scheduler().ids().next();
    let job_id = wanted.job_id.unwrap_or(id);
    job.insert("job_id".to_owned(), job_id.to_string().into());
    let mut key = job_id;
    if wanted.job_id.is_some()
        && let Some(there) = view::find(&state, job_id).await?.and_then(|there| there.task)
    {
        if resubmit::is_the_same(&there, &job) {
            return Ok(document(json!({"job_id": job_id.to_string()})));
        }
        resubmit::in_place_of(&state, &asker, &there).await?;
        key = id;
    }
    let key = TaskKey::of_id(SYSTEM, &key.to_string());
    let new = new_task(&state, TaskId::new(id), key, job, &wanted, &asker);
    let (object, detail) = (format!("task/{}", new.id), json!({"queue": new.queue}));
    state.scheduler().store().create_tasks(&[new]).await?;
    state.scheduler().wake().committed();
    clients::audit(&state, &asker, "job.submit", object, detail).await?;
    Ok(document(json!({"job_id": job_id.to_string()})))
}

fn new_task(
    state: &ApiState,
    id: TaskId,
    key: TaskKey,
    job: Map<String, Value>,
    wanted: &schema::Wanted,
    asker: &Asker,
) -> NewTask {
    let name = wanted.name.as_deref().unwrap_or(SYSTEM);
    let name = &name[..name.floor_char_boundary(TASK_NAME_BYTES_MAX.min(name.len()))];
    let on = if state.testflinger().requeue { vec![RetryOn::Lost] } else { Vec::new() };
    NewTask {
        id,
        key,
        kind: TaskKind::Foreign {
            system: SYSTEM.to_owned(),
            job: Value::Object(job),
            retry: Some(RetryPolicy { on, max: REQUEUES_MAX }),
        },
        name: TaskName::new(name.replace(char::is_control, " ")),
        origin: NewOrigin::Given(Origin::Submitted { who: asker.name.clone(), why: None }),
        submitter: Submitter::user(SUBMITTER),
        item: None,
        inputs: Map::new(),
        queue: QueueName::new(wanted.queue.clone()),
        // Theirs has no bounds.
        priority: i32::try_from(wanted.priority.clamp(-PRIORITY_FAR, PRIORITY_FAR)).unwrap_or(0),
        needs: needs(&wanted.exclude),
        group: None,
        batch: None,
        trust: Trust::Untrusted,
        timeout_cap_seconds: None,
        depth: 0,
        traceparent: None,
        wait: wanted.attachments.then_some(WaitReason::Attachments),
        dedupe: None,
        secrets: Vec::new(),
        approval: None,
        hold: None,
    }
}

/// What a job needs: one of its agents that is not excluded.
fn needs(exclude: &[String]) -> Requirements {
    let exclude = exclude.iter().cloned().collect();
    let foreign = Some(ForeignNeed { system: SYSTEM.to_owned(), exclude });
    Requirements { foreign, ..Requirements::default() }
}

/// A job that excludes all agents of its queue would wait for ever.
async fn refuse_excluded(state: &ApiState, wanted: &schema::Wanted) -> Result<(), Refusal> {
    if wanted.exclude.is_empty() {
        return Ok(());
    }
    let agents = super::agents::of_queue(state, &wanted.queue).await?;
    let may_come = agents.is_empty() && !state.testflinger().strict;
    if !may_come && agents.iter().all(|agent| wanted.exclude.contains(&agent.name)) {
        let message = format!("exclude_agents leaves no agent of queue {}", wanted.queue);
        return Err(Refusal::unprocessable(message));
    }
    Ok(())
}

/// `GET /v1/job/<id>`
pub(crate) async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Answer {
    let found = view::find(&state, job_id(&id)?).await?;
    let Some(job) = found else { return Ok(nothing()) };
    match &job.task {
        Some(task) => Ok(document(view::definition(&job, task))),
        None => Ok(nothing()),
    }
}

/// `GET /v1/job/search`
pub(crate) async fn search(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Answer {
    let query = query.unwrap_or_default();
    let (mut tags, mut states, mut all) = (Vec::new(), Vec::new(), false);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "tags" => tags.push(value.into_owned()),
            "state" if view::STATES.contains(&value.as_ref()) || value == "complete" => {
                states.push(value.into_owned());
            }
            "state" => return Err(wrong("state", &format!("Must be one of: {}.", view::STATES.join(", ")))),
            "match" if value == "all" => all = true,
            "match" if value == "any" => all = false,
            "match" => return Err(wrong("match", "Must be one of: any, all.")),
            _ if state.testflinger().strict => return Err(wrong(&key, "Unknown field.")),
            _ => {}
        }
    }
    let open = !states.is_empty() && states.iter().all(|state| state != "cancelled" && !view::is_end(state));
    let query = ForeignQuery { tags: tags.clone(), open, ..ForeignQuery::default() };
    let mut found = Vec::new();
    for job in state.scheduler().store().foreign_jobs(SYSTEM, &query).await? {
        let (Some(word), Some(task)) = (view::state(&job), &job.task) else { continue };
        let own = view::submitted(task);
        let has = |tag: &String| {
            own.get("tags").and_then(Value::as_array).is_some_and(|tags| tags.iter().any(|own| own == tag))
        };
        let right = states.is_empty() || states.iter().any(|wanted| view::is_in(&word, wanted));
        if right && (!all || tags.iter().all(has)) {
            found.push(json!({"job_id": job.job_id.to_string(), "created_at": time(job.created_at), "job_state": word}));
        }
    }
    // The oldest first.
    found.reverse();
    Ok(document(found))
}

fn wrong(field: &str, message: &str) -> Refusal {
    Refusal::Invalid("query", Map::from_iter([(field.to_owned(), json!([message]))]))
}

/// `GET /v1/job/<id>/position`
pub(crate) async fn position(State(state): State<ApiState>, Path(id): Path<String>) -> Answer {
    let found = view::find(&state, job_id(&id)?).await?;
    let gone = || Refusal::Text(StatusCode::GONE, "Job not found or already started\n".to_owned());
    let task = found.and_then(|job| job.task).ok_or_else(gone)?;
    let position = match &task.state {
        // It counts as waiting; what is queued now goes before it.
        TaskState::Waiting { reason: WaitReason::Attachments, .. } => {
            Some(state.scheduler().store().queued_before(&task.queue, task.priority).await?)
        }
        _ => state.scheduler().store().position(task.id).await?,
    };
    let position = position.ok_or_else(gone)?;
    Ok(text(StatusCode::OK, position.to_string()))
}

/// Refuses who may not stop a job.
pub(super) fn check_own(state: &ApiState, asker: &Asker, task: &Task) -> Result<(), Refusal> {
    // Theirs take anybody's word; `strict` is theirs in this, too.
    let own = matches!(&task.origin, Origin::Submitted { who, .. } if *who == asker.name);
    if !own && asker.role < Role::Manager && !state.testflinger().strict {
        let detail = "This job is somebody else's; stopping it needs the role manager";
        return Err(Refusal::forbidden(detail));
    }
    Ok(())
}

/// `POST /v1/job/<id>/action`
pub(crate) async fn action(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let id =
        job_id(&id).map_err(|_| Refusal::Text(StatusCode::BAD_REQUEST, "Invalid job id\n".to_owned()))?;
    match object(&body)?.get("action") {
        Some(Value::String(action)) if action == "cancel" => {}
        Some(_) => return Err(Refusal::field("action", "Must be one of: cancel.")),
        None => return Err(Refusal::field("action", "Missing data for required field.")),
    }
    let over = || {
        let message = "The job is already completed or cancelled".to_owned();
        Refusal::Text(StatusCode::BAD_REQUEST, message)
    };
    let Some(task) = view::find(&state, id).await?.and_then(|job| job.task) else {
        let unknown = Refusal::Text(StatusCode::NOT_FOUND, "The job isn't found".to_owned());
        return Err(if state.testflinger().strict { over() } else { unknown });
    };
    if task.state.is_final() {
        return Err(over());
    }
    check_own(&state, &asker, &task)?;
    match state.scheduler().cancel(task.id, None, &asker.name).await {
        Ok(stopped) if stopped.changed => Ok(ok()),
        Ok(_) | Err(scheduler::service::ServiceError::Store(StoreError::Conflict(_))) => Err(over()),
        Err(error) => Err(error.into()),
    }
}
