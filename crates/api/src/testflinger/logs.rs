//! Logs in fragments: `output` and `serial`, by phase, number and time.
//!
//! A fragment's bytes lie in the object store; it is also a chunk of the attempt's log, so that `task logs -f` follows.

use super::{
    answer::{Answer, Refusal, document, job_id, object, ok},
    results::attempt,
    schema,
    view::{self, PHASES},
    who::Asker,
};
use crate::{problem::Problem, state::ApiState};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
};
use chrono::{DateTime, NaiveDateTime, Utc};
use futures_util::TryStreamExt;
use model::{TaskId, protocol::LOG_BYTES_MAX};
use scheduler::files::FileError;
use serde_json::{Map, Value, json};
use store::{Fenced, ForeignJob, ForeignReport, Fragment, LogChunk};
use uuid::Uuid;

/// The logs that there are.
const KINDS: [&str; 2] = ["output", "serial"];
/// The highest number of a fragment.
const NUMBER_MAX: i64 = 256 * 1024;

fn kind(kind: &str) -> Result<&str, Refusal> {
    let known = KINDS.contains(&kind).then_some(kind);
    known.ok_or_else(|| Refusal::not_found(format!("no log `{kind}`; known are output, serial")))
}

/// `POST /v1/result/<id>/log/<kind>`
pub(crate) async fn add(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path((id, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let (id, name) = (job_id(&id)?, kind(&name)?);
    let (fragment, text) = read(&object(&body)?, name)?;
    let job = view::find(&state, id).await?;
    keep(&state, &asker, (id, job), fragment, text).await
}

/// Keeps a fragment of a job's log, unless its agent has lost the job.
pub(super) async fn keep(
    state: &ApiState,
    asker: &Asker,
    (id, job): (Uuid, Option<ForeignJob>),
    mut fragment: Fragment,
    text: String,
) -> Answer {
    let Ok(held) = attempt(job.as_ref(), asker) else { return Ok(ok()) };
    let store = state.scheduler().store();
    let job = match job {
        Some(job) => job,
        None if state.testflinger().strict => return Ok(ok()),
        // A job that nobody knows of: what is reported of it is kept.
        None => store.report_foreign(super::SYSTEM, id, &ForeignReport::default(), None).await?,
    };
    let number = view::attempt_of(&job);
    let fence = held.map_or(0, |held| held.fence);
    let sent = bytes(state, job.id, number).await?;
    if sent + text.len() as u64 > LOG_BYTES_MAX {
        let detail = format!("a job's logs have at most {LOG_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into());
    }
    // Output and serial take turns, so that each has numbers of its own; so has each phase, since not every agent
    // counts over all of them.
    let phase = view::place_of(&fragment.phase);
    let begin = i64::try_from(phase).unwrap_or_default() * 2 * (NUMBER_MAX + 1);
    let seq = begin + fragment.number * 2 + i64::from(fragment.kind == "serial");
    let seq = u32::try_from(seq).unwrap_or(u32::MAX);
    let key = scheduler::files::Files::log_key(TaskId::new(job.id), number, fence, seq);
    fragment.key.clone_from(&key);
    state.scheduler().files().put(&key, Bytes::from(text)).await?;
    if let (Some(task), Some(held)) = (&job.task, held) {
        let chunk = LogChunk { attempt: held.attempt, seq, size_bytes: fragment.size_bytes, key };
        if matches!(store.add_log_chunk(task.id, held, &chunk).await?, Fenced::Stale) {
            return Ok(ok());
        }
        if !job.acknowledged {
            store.acknowledge_foreign(job.id).await?;
        }
    }
    store.add_fragment(job.id, number, &fragment).await?;
    state.scheduler().wake().logs.ring();
    Ok(ok())
}

/// A fragment without its place, and its text.
fn read(body: &Map<String, Value>, kind: &str) -> Result<(Fragment, String), Refusal> {
    let mut wrong = Map::new();
    let mut note = |field: &str, message: &str| _ = wrong.insert(field.to_owned(), json!([message]));
    let missing = "Missing data for required field.";
    let number = match body.get("fragment_number") {
        Some(number) => schema::whole(number).filter(|number| (0..=NUMBER_MAX).contains(number)),
        None => None,
    };
    if number.is_none() {
        let there = body.contains_key("fragment_number");
        note("fragment_number", if there { "Not a valid integer." } else { missing });
    }
    let mut text = |field: &str| match body.get(field) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => {
            note(field, "Not a valid string.");
            None
        }
        None => {
            note(field, missing);
            None
        }
    };
    let (at, phase, log) = (text("timestamp"), text("phase"), text("log_data"));
    let at = at.and_then(|text| {
        let at = time_of(&text);
        if at.is_none() {
            note("timestamp", "Not a valid datetime.");
        }
        at
    });
    if phase.as_deref().is_some_and(|phase| !PHASES.contains(&phase)) {
        note("phase", &format!("Must be one of: {}.", PHASES.join(", ")));
    }
    match (number, at, phase, log) {
        (Some(number), Some(at), Some(phase), Some(log)) if wrong.is_empty() => {
            let size_bytes = log.len() as u64;
            Ok((Fragment { kind: kind.to_owned(), number, phase, at, size_bytes, key: String::new() }, log))
        }
        _ => Err(Refusal::Invalid("json", wrong)),
    }
}

/// A time in any of ISO's forms; one without a zone is UTC.
fn time_of(text: &str) -> Option<DateTime<Utc>> {
    let with_zone = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    with_zone.ok().or_else(|| text.parse::<NaiveDateTime>().ok().map(|at| at.and_utc()))
}

/// `GET /v1/result/<id>/log/<kind>`
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path((id, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer {
    let (id, name) = (job_id(&id)?, kind(&name)?);
    let query = query.unwrap_or_default();
    let (mut phase, mut from, mut since) = (None, 0_i64, None);
    let wrong = |field: &str, message: &str| {
        let fields = Map::from_iter([(field.to_owned(), json!([message]))]);
        Refusal::Document(StatusCode::BAD_REQUEST, json!({"message": fields, "detail": {}}))
    };
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "phase" if PHASES.contains(&value.as_ref()) => phase = Some(value.into_owned()),
            "phase" => return Err(wrong("phase", &format!("Must be one of: {}.", PHASES.join(", ")))),
            "start_fragment" => {
                from = value.trim().parse().map_err(|_| wrong("start_fragment", "Not a valid integer."))?;
                if from < 0 {
                    return Err(wrong("start_fragment", "Must be greater than or equal to 0."));
                }
            }
            "start_timestamp" => {
                // A plus that was not encoded came as a space.
                let at = time_of(&value.replace(' ', "+")).or_else(|| time_of(&value));
                since = Some(at.ok_or_else(|| wrong("start_timestamp", "Not a valid datetime."))?);
            }
            _ => {}
        }
    }
    let mut all = Map::new();
    for known in PHASES.iter().filter(|known| phase.as_deref().is_none_or(|phase| phase == **known)) {
        all.insert((*known).to_owned(), json!({"last_fragment_number": -1, "log_data": ""}));
    }
    if let Some(job) = view::find(&state, id).await? {
        let attempt = view::attempt_of(&job);
        for fragment in state.scheduler().store().fragments(job.id, attempt, Some(name)).await? {
            let wanted = fragment.number >= from && since.is_none_or(|since| fragment.at >= since);
            let Some(Value::Object(entry)) = all.get_mut(&fragment.phase) else { continue };
            if wanted {
                append(entry, "log_data", &text(&state, &fragment).await?);
                entry.insert("last_fragment_number".to_owned(), fragment.number.into());
            }
        }
    }
    Ok(document(json!({name: all})))
}

fn append(map: &mut Map<String, Value>, key: &str, more: &str) {
    match map.get_mut(key) {
        Some(Value::String(text)) => text.push_str(more),
        _ => _ = map.insert(key.to_owned(), more.into()),
    }
}

pub(super) async fn text(state: &ApiState, fragment: &Fragment) -> Result<String, Refusal> {
    let bytes = match state.scheduler().files().get(&fragment.key, None).await {
        Ok(bytes) => bytes.try_collect::<Vec<_>>().await?,
        // Older than logs are kept.
        Err(FileError::NotFound(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    Ok(String::from_utf8_lossy(&bytes.concat()).into_owned())
}

/// All logs of a job, `<phase>_output` and `<phase>_serial`.
pub(crate) async fn whole(state: &ApiState, id: Uuid, attempt: u32) -> Result<Map<String, Value>, Refusal> {
    let mut all = Map::new();
    for fragment in state.scheduler().store().fragments(id, attempt, None).await? {
        let text = text(state, &fragment).await?;
        append(&mut all, &format!("{}_{}", fragment.phase, fragment.kind), &text);
    }
    Ok(all)
}

/// How many bytes of logs an attempt sent.
pub(crate) async fn bytes(state: &ApiState, id: Uuid, attempt: u32) -> Result<u64, Refusal> {
    let all = state.scheduler().store().fragments(id, attempt, None).await?;
    Ok(all.iter().map(|fragment| fragment.size_bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_read() {
        let good = json!({"fragment_number": 3, "timestamp": "2026-11-21T00:19:34.374959+00:00", "phase": "test", "log_data": "x"});
        let check = |change: Value, expect: &str| {
            let mut body = good.as_object().unwrap().clone();
            body.extend(change.as_object().unwrap().clone());
            body.retain(|_, value| !value.is_null());
            let got = match read(&body, "output") {
                Ok((fragment, text)) => format!("{} {} {text}", fragment.number, fragment.phase),
                Err(Refusal::Invalid(_, fields)) => Value::Object(fields).to_string(),
                Err(other) => format!("{other:?}"),
            };
            assert_eq!(got, expect);
        };
        check(json!({}), "3 test x");
        check(json!({"timestamp": "2026-11-21T00:19:34"}), "3 test x");
        check(json!({"fragment_number": "4"}), "4 test x");
        check(json!({"fragment_number": "x"}), r#"{"fragment_number":["Not a valid integer."]}"#);
        check(json!({"log_data": null}), r#"{"log_data":["Missing data for required field."]}"#);
        check(json!({"timestamp": "now"}), r#"{"timestamp":["Not a valid datetime."]}"#);
    }
}
