//! The workers' protocol: claims, heartbeats, logs, artifacts, finishing.

use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use futures_util::StreamExt;
use model::{
    ArtifactId, Task, TaskId,
    attempt::AttemptRef,
    protocol::{
        ARTIFACT_PART_BYTES_MAX, ArtifactQuery, ClaimReply, ClaimRequest, FinishRequest, HeartbeatReply,
        HeartbeatRequest, LOG_BYTES_MAX, LOG_CHUNK_BYTES_MAX, LeaveRequest, LogChunkQuery, UploadedArtifact,
    },
    result::{Artifact, RESULTS_PER_ATTEMPT_MAX},
    task::TaskKind,
    task_file::is_inner_path,
};
use scheduler::files::{Declared, Files};
use store::{Fenced, Finished, LogChunk};

/// The largest end of an attempt in bytes: its results with their notes.
pub(crate) const FINISH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most chunks of an attempt's log: a worker sends one each second at most, for six days.
const LOG_CHUNKS_MAX: u32 = 512 * 1024;

fn too_large(detail: String) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn fenced(task: TaskId) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        format!("the attempt of task {task} is somebody else's now: stop it and drop the rest"),
    )
}

#[utoipa::path(post, path = "/api/v1/worker/claim", tag = "worker", request_body = ClaimRequest, responses((status = 200, description = "Tasks to run; none when the time was up", body = ClaimReply), (status = 426, description = "The worker's protocol is not served")))]
/// A worker asks for tasks, by long poll.
pub(crate) async fn claim(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<ClaimRequest>,
) -> Result<Json<ClaimReply>, Problem> {
    if let Some(queue) = request.offer.queues.iter().find(|queue| !caller.bounds.allow_queue(queue)) {
        let detail = format!("`{}` may not serve the queue {queue}", caller.name);
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let reply = state.scheduler().claim(&request, state.stop()).await?;
    if !reply.assignments.is_empty() {
        tracing::debug!(worker = %request.worker, token = caller.name, tasks = reply.assignments.len(), "handed out");
    }
    Ok(Json(reply))
}

#[utoipa::path(post, path = "/api/v1/worker/heartbeat", tag = "worker", request_body = HeartbeatRequest, responses((status = 200, description = "What to do with each", body = HeartbeatReply)))]
/// A worker says what it runs.
pub(crate) async fn heartbeat(
    State(state): State<ApiState>,
    Json(request): Json<HeartbeatRequest>,
) -> Result<Json<HeartbeatReply>, Problem> {
    Ok(Json(state.scheduler().heartbeat(&request).await?))
}

#[utoipa::path(post, path = "/api/v1/worker/leave", tag = "worker", request_body = LeaveRequest, responses((status = 204, description = "It is no longer counted on")))]
/// A worker stops in an orderly way, and says so.
pub(crate) async fn leave(
    State(state): State<ApiState>,
    Json(request): Json<LeaveRequest>,
) -> Result<StatusCode, Problem> {
    state.scheduler().leave(&request.worker).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/api/v1/worker/tasks/{id}/log", tag = "worker", params(("id" = String, Path, description = "The task"), ("attempt" = u32, Query, description = "The attempt"), ("fence" = i64, Query, description = "Its fence"), ("seq" = u32, Query, description = "The chunk's number")), request_body(content = String, content_type = "application/octet-stream"), responses((status = 204, description = "It is kept"), (status = 409, description = "The fence is stale")))]
/// A worker sends a chunk of an attempt's log.
pub(crate) async fn log(
    State(state): State<ApiState>,
    Path(task): Path<String>,
    Query(query): Query<LogChunkQuery>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let task = task_id(&task)?;
    if body.len() > LOG_CHUNK_BYTES_MAX {
        return Err(too_large(format!("a chunk has at most {LOG_CHUNK_BYTES_MAX} bytes")));
    }
    if query.seq >= LOG_CHUNKS_MAX {
        return Err(too_large(format!("an attempt has at most {LOG_CHUNKS_MAX} chunks")));
    }
    let scheduler = state.scheduler();
    let attempt = AttemptRef { attempt: query.attempt, fence: query.fence };
    // Asked before the bytes are written; noted after them, so that a row never names bytes that are not there.
    let Fenced::Written(room_bytes) = scheduler.store().log_room(task, attempt).await? else {
        return Err(fenced(task));
    };
    let there = scheduler.store().log_chunks(task, query.attempt, query.seq).await?;
    if there.first().is_some_and(|there| there.seq == query.seq) {
        // Its answer was lost. What a row names is never written over.
        return Ok(StatusCode::NO_CONTENT);
    }
    let key = Files::log_key(task, query.attempt, query.fence, query.seq);
    let size_bytes = body.len() as u64;
    if size_bytes > room_bytes {
        return Err(too_large(format!("an attempt's log has at most {LOG_BYTES_MAX} bytes")));
    }
    scheduler.files().put(&key, body).await?;
    let chunk = LogChunk { attempt: query.attempt, seq: query.seq, size_bytes, key };
    match scheduler.store().add_log_chunk(task, attempt, &chunk).await? {
        Fenced::Written(()) => {
            scheduler.wake().logs.ring();
            Ok(StatusCode::NO_CONTENT)
        }
        Fenced::Stale => Err(fenced(task)),
    }
}

#[utoipa::path(put, path = "/api/v1/worker/tasks/{id}/artifacts", tag = "worker", params(("id" = String, Path, description = "The task")), request_body(content = String, content_type = "application/octet-stream"), responses((status = 200, description = "What the server has of it", body = UploadedArtifact), (status = 409, description = "The fence is stale"), (status = 422, description = "The bytes are not what was declared")))]
/// A worker sends a part of an artifact. The answer says how many bytes the server has: a part that does not
/// begin there is not taken. The part that makes the file whole has it summed and noted.
pub(crate) async fn upload(
    State(state): State<ApiState>,
    Path(task): Path<String>,
    Query(query): Query<ArtifactQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<UploadedArtifact>, Problem> {
    let task = held(&state, &task, &query).await?;
    let scheduler = state.scheduler();
    let there = scheduler.store().artifacts(task.id).await?;
    if let Some(whole) = there.iter().find(|there| there.attempt == query.attempt && there.name == query.name)
    {
        return Ok(Json(UploadedArtifact { id: Some(whole.id), received_bytes: whole.size_bytes }));
    }
    let key = Files::artifact_key(task.id, query.attempt, query.fence, &query.name);
    let declared = Declared { size_bytes: query.size_bytes, sha256: query.sha256.to_lowercase() };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > ARTIFACT_PART_BYTES_MAX as u64) {
        return Err(too_large(format!("a part has at most {ARTIFACT_PART_BYTES_MAX} bytes")));
    }
    // Without a length in its head, a part is cut at the limit, and the worker goes on from there.
    let mut left = ARTIFACT_PART_BYTES_MAX;
    let bytes = body.into_data_stream().map(move |bytes| {
        let bytes = bytes.map_err(|error| error.to_string())?;
        left = left.checked_sub(bytes.len()).ok_or("the part is too large")?;
        Ok(bytes)
    });
    let received_bytes = scheduler.files().receive(&key, query.offset, &declared, bytes).await?;
    if received_bytes < declared.size_bytes {
        return Ok(Json(UploadedArtifact { id: None, received_bytes }));
    }
    let published = matches!(&task.kind, TaskKind::Repo { resolved: Some(resolved), .. } if resolved.file.artifacts.publish);
    let artifact = Artifact {
        id: ArtifactId::new(scheduler.ids().next()),
        task: task.id,
        attempt: query.attempt,
        name: query.name,
        size_bytes: declared.size_bytes,
        sha256: declared.sha256,
        key,
        published,
        created_at: scheduler.clock().now(),
    };
    let attempt = AttemptRef { attempt: query.attempt, fence: query.fence };
    match scheduler.store().add_artifact(attempt, &artifact).await? {
        Fenced::Written(id) => {
            scheduler.wake().told();
            Ok(Json(UploadedArtifact { id: Some(id), received_bytes }))
        }
        Fenced::Stale => Err(fenced(task.id)),
    }
}

/// Which artifact a worker means.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DownloadQuery {
    /// Its SHA-256, as the event told it.
    sha256: String,
}

#[utoipa::path(get, path = "/api/v1/worker/tasks/{id}/artifacts/{artifact}", tag = "worker", params(("id" = String, Path, description = "The task that left it"), ("artifact" = String, Path, description = "Its id"), DownloadQuery), responses((status = 200, description = "The bytes"), (status = 206, description = "A part of them"), (status = 404, description = "There is none of this id with this checksum")))]
/// A worker fetches an artifact of another task, which it knows by its id and checksum.
pub(crate) async fn download(
    State(state): State<ApiState>,
    Path((task, artifact)): Path<(String, String)>,
    Query(query): Query<DownloadQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = task_id(&task)?;
    let found = state.scheduler().store().artifacts(task).await?;
    let wanted = |there: &&Artifact| {
        there.id.to_string() == artifact && there.sha256.eq_ignore_ascii_case(&query.sha256)
    };
    let found = found.iter().find(wanted).ok_or_else(|| {
        let detail = format!("task {task} left no artifact {artifact} with this checksum");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })?;
    super::tasks::artifact_bytes(&state, found, &headers).await
}

/// The task, when the fence is that of its running attempt and the artifact's name may be kept.
async fn held(state: &ApiState, task: &str, query: &ArtifactQuery) -> Result<Task, Problem> {
    let task = task_id(task)?;
    if !is_inner_path(&query.name) || query.name.chars().any(char::is_control) {
        let detail = format!(
            "`{}` cannot be an artifact's name: a relative path without `..` is expected",
            query.name.escape_debug()
        );
        return Err(Problem::bad(detail));
    }
    let attempt = AttemptRef { attempt: query.attempt, fence: query.fence };
    if !state.scheduler().store().holds(task, attempt).await? {
        return Err(fenced(task));
    }
    Ok(state.scheduler().store().task(task).await?)
}

#[utoipa::path(post, path = "/api/v1/worker/tasks/{id}/finish", tag = "worker", params(("id" = String, Path, description = "The task")), request_body = FinishRequest, responses((status = 200, description = "The task after it; the same again is answered the same", body = Task), (status = 409, description = "The fence is stale: nothing was written")))]
/// A worker ends an attempt.
pub(crate) async fn finish(
    State(state): State<ApiState>,
    Path(task): Path<String>,
    Json(request): Json<FinishRequest>,
) -> Result<Json<Task>, Problem> {
    let task = task_id(&task)?;
    let count: usize = request.results.iter().map(model::result::NewResult::count).sum();
    if count > RESULTS_PER_ATTEMPT_MAX {
        return Err(too_large(format!("an attempt has at most {RESULTS_PER_ATTEMPT_MAX} results")));
    }
    match state.scheduler().finish(task, &request).await? {
        Finished::Accepted(task) | Finished::Repeated(task) => Ok(Json(*task)),
        Finished::Fenced => Err(fenced(task)),
    }
}

fn task_id(text: &str) -> Result<TaskId, Problem> {
    text.parse().map_err(|_| Problem::new(StatusCode::NOT_FOUND, format!("no task `{text}`")))
}
