//! Output as older agents and command lines know it: plain text that is added to, and read once. It is the same log.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, job_id, nothing, text},
    logs,
    view::{self, PHASES},
    who::Asker,
};
use crate::state::ApiState;
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use store::Fragment;

/// The kind of documents: how far somebody has read.
const READ: &str = "read";
/// How long that is remembered after it was read last.
const READ_DAYS: i64 = 7;

/// Which log a path means.
fn kind(path: &str) -> Result<&'static str, Refusal> {
    match path {
        "output" => Ok("output"),
        "serial_output" => Ok("serial"),
        other => Err(Refusal::not_found(format!("no output `{other}`; known are output, serial_output"))),
    }
}

/// `POST /v1/result/<id>/output`
pub(crate) async fn add(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path((id, path)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let (id, kind) = (job_id(&id)?, kind(&path)?);
    let job = view::find(&state, id).await?;
    let before = match &job {
        Some(job) => state.scheduler().store().fragments(job.id, view::attempt_of(job), Some(kind)).await?,
        None => Vec::new(),
    };
    let phase = job.as_ref().and_then(view::state).filter(|word| PHASES.contains(&word.as_str()));
    let fragment = Fragment {
        kind: kind.to_owned(),
        number: before.iter().map(|fragment| fragment.number + 1).max().unwrap_or(0),
        phase: phase.unwrap_or_else(|| "test".to_owned()),
        at: state.scheduler().clock().now(),
        size_bytes: body.len() as u64,
        key: String::new(),
    };
    logs::keep(&state, &asker, (id, job), fragment, String::from_utf8_lossy(&body).into_owned()).await
}

/// `GET /v1/result/<id>/output`: what came since it was read last.
pub(crate) async fn show(State(state): State<ApiState>, Path((id, path)): Path<(String, String)>) -> Answer {
    let (id, kind) = (job_id(&id)?, kind(&path)?);
    let Some(job) = view::find(&state, id).await? else { return Ok(nothing()) };
    let (store, attempt) = (state.scheduler().store(), view::attempt_of(&job));
    let name = format!("{}/{attempt}/{kind}", job.id);
    let mark = store.foreign_record(SYSTEM, READ, &name).await?;
    let version = mark.as_ref().map(|mark| mark.version);
    // Each phase may count anew: for each, the last number that was read.
    let mut read = mark.map(|mark| mark.body).filter(Value::is_object).unwrap_or_else(|| json!({}));
    let mut fragments = store.fragments(job.id, attempt, Some(kind)).await?;
    fragments.retain(|fragment| fragment.number > read[&fragment.phase].as_i64().unwrap_or(-1));
    if fragments.is_empty() {
        return Ok(nothing());
    }
    fragments.sort_by_key(|fragment| (view::place_of(&fragment.phase), fragment.number));
    for fragment in &fragments {
        read[&fragment.phase] = fragment.number.into();
    }
    let expires = state.scheduler().clock().now() + TimeDelta::days(READ_DAYS);
    if !store.put_foreign_record(SYSTEM, READ, &name, version, &read, Some(expires)).await? {
        // Somebody else was given it.
        return Ok(nothing());
    }
    let mut whole = String::new();
    for fragment in &fragments {
        whole.push_str(&logs::text(&state, fragment).await?);
    }
    Ok(text(StatusCode::OK, whole))
}
