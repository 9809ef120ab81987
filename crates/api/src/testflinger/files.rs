//! Attachments and artifacts: one file of each kind for a job, streamed.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, job_id, nothing, ok},
    clients,
    results::attempt,
    view,
    who::Asker,
};
use crate::state::ApiState;
use axum::{
    Extension,
    body::Body,
    extract::{FromRequest, Multipart, Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use model::{ArtifactId, TaskId, TaskState, result::Artifact, task::WaitReason};
use scheduler::files::{FileError, Files};
use serde_json::json;
use store::{ForeignFile, ForeignReport};

/// The field of the form that holds the file.
const FIELD: &str = "file";
const ARTIFACT: &str = "artifact";
const ATTACHMENTS: &str = "attachments";
/// The name that a job's artifacts have among those of its task.
const ARTIFACT_NAME: &str = "artifacts.tar.gz";

/// Writes the file of a form to the object store; its size and SHA-256.
async fn receive(state: &ApiState, key: &str, request: Request) -> Result<(u64, String), Refusal> {
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| Refusal::bad(format!("a form with a file is expected: {}", error.body_text())))?;
    let unreadable =
        |error: axum::extract::multipart::MultipartError| Refusal::Abort(error.status(), error.body_text());
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        if field.name() == Some(FIELD) || !state.testflinger().strict {
            let bytes = field.map(|bytes| bytes.map_err(|error| error.body_text()));
            let bytes_max = state.testflinger().file_bytes_max;
            let written = state.scheduler().files().write(key, bytes_max, bytes).await;
            return written.map_err(|error| match error {
                FileError::Refused(why) => Refusal::Abort(StatusCode::PAYLOAD_TOO_LARGE, why),
                error => error.into(),
            });
        }
    }
    Err(Refusal::field(FIELD, "Missing data for required field."))
}

/// Notes a file in place of the one before, whose bytes go.
async fn keep(
    state: &ApiState,
    id: uuid::Uuid,
    kind: &str,
    file: &ForeignFile,
    bytes_go: bool,
) -> Result<(), Refusal> {
    let before = state.scheduler().store().put_foreign_file(id, kind, file).await?;
    if let Some(before) = before.filter(|before| bytes_go && before.key != file.key) {
        state.scheduler().files().remove(&before.key).await?;
    }
    Ok(())
}

/// `POST /v1/result/<id>/artifact`
pub(crate) async fn upload(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let id = job_id(&id)?;
    let job = view::find(&state, id).await?;
    let Ok(held) = attempt(job.as_ref(), &asker) else { return Ok(ok()) };
    let store = state.scheduler().store();
    let job = match job {
        Some(job) => job,
        None => store.report_foreign(SYSTEM, id, &ForeignReport::default(), None).await?,
    };
    let (number, fence) = held.map_or((0, 0), |held| (held.attempt, held.fence));
    let name =
        if held.is_some() { ARTIFACT_NAME.to_owned() } else { state.scheduler().ids().next().to_string() };
    let key = Files::artifact_key(TaskId::new(job.id), number, fence, &name);
    let (size_bytes, sha256) = receive(&state, &key, request).await?;
    keep(&state, job.id, ARTIFACT, &ForeignFile { size_bytes, key: key.clone() }, held.is_none()).await?;
    if let (Some(task), Some(held)) = (&job.task, held) {
        let artifact = Artifact {
            id: ArtifactId::new(state.scheduler().ids().next()),
            task: task.id,
            attempt: held.attempt,
            name,
            size_bytes,
            sha256,
            key,
            published: true,
            created_at: state.scheduler().clock().now(),
        };
        store.add_artifact(held, &artifact).await?;
        state.scheduler().wake().told();
    }
    Ok(ok())
}

/// `GET /v1/result/<id>/artifact`: its clients read the bytes as they are, whatever encoding is named.
pub(crate) async fn artifact(State(state): State<ApiState>, Path(id): Path<String>) -> Answer {
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar"),
        (header::CONTENT_ENCODING, "gzip"),
        (header::CONTENT_DISPOSITION, "inline; filename=artifact.tar.gz"),
    ];
    download(&state, &id, ARTIFACT, &headers).await
}

/// `GET /v1/job/<id>/attachments`
pub(crate) async fn attachments(State(state): State<ApiState>, Path(id): Path<String>) -> Answer {
    download(&state, &id, ATTACHMENTS, &[(header::CONTENT_TYPE, "application/gzip")]).await
}

async fn download(
    state: &ApiState,
    id: &str,
    kind: &str,
    headers: &[(HeaderName, &'static str)],
) -> Result<Response, Refusal> {
    let Some(job) = view::find(state, job_id(id)?).await? else { return Ok(nothing()) };
    let Some(file) = state.scheduler().store().foreign_file(job.id, kind).await? else {
        return Ok(nothing());
    };
    let bytes = match state.scheduler().files().get(&file.key, None).await {
        Ok(bytes) => bytes,
        // Older than files are kept.
        Err(FileError::NotFound(_)) => return Ok(nothing()),
        Err(error) => return Err(error.into()),
    };
    let mut response = Body::from_stream(bytes).into_response();
    let out = response.headers_mut();
    for (name, value) in headers {
        out.insert(name.clone(), HeaderValue::from_static(value));
    }
    out.insert(header::CONTENT_LENGTH, file.size_bytes.into());
    Ok(response)
}

/// `POST /v1/job/<id>/attachments`
pub(crate) async fn attach(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let refuse = |why: &str| Err(Refusal::Text(StatusCode::UNPROCESSABLE_ENTITY, why.to_owned()));
    let Some(job) = view::find(&state, job_id(&id)?).await? else {
        return refuse("Job id is not valid\n");
    };
    let Some(task) = &job.task else { return refuse("Job id is not valid\n") };
    let own = view::submitted(task);
    match &task.state {
        TaskState::Waiting { reason: WaitReason::Attachments, .. } => {}
        // They are there already: the answer was lost.
        TaskState::Queued { .. } if view::names_attachments(&own) => return Ok(ok()),
        TaskState::Queued { .. } | TaskState::Waiting { .. } => {
            return refuse("Job is not awaiting attachments\n");
        }
        _ => return refuse("Job is not in waiting state\n"),
    }
    let unique = state.scheduler().ids().next();
    let key = Files::artifact_key(task.id, 0, 0, &format!("attachments {unique}"));
    let (size_bytes, _) = receive(&state, &key, request).await?;
    keep(&state, job.id, ATTACHMENTS, &ForeignFile { size_bytes, key }, true).await?;
    state.scheduler().store().attached(task.id).await?;
    let object = format!("task/{}", task.id);
    clients::audit(&state, &asker, "job.attach", object, json!({"bytes": size_bytes})).await?;
    state.scheduler().wake().moved();
    Ok(ok())
}
