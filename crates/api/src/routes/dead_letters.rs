//! Dead letters.

use super::{Paging, filtered, to_json};
use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use model::{Event, EventId, Topic, event::hashed_id, ids::DeadLetterId};
use scheduler::{ingest::Taken, sinks::LETTER_SOURCE};
use serde_json::{Value, json};
use store::{DeadLetter, Page};

#[utoipa::path(get, path = "/api/v1/dlq", tag = "dead letters", params(Paging), responses((status = 200, description = "Dead letters without their bytes, newest first", body = Value)))]
/// Lists dead letters, newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    paging.before::<i64>()?;
    let page = filtered(
        &state,
        &paging,
        |letter: &DeadLetter| to_json(letter),
        |letter| Some(letter.id.to_string()),
        |before, limit| {
            let before = before.and_then(|text| text.parse().ok()).map(DeadLetterId);
            let state = state.clone();
            async move { Ok(state.scheduler().store().dead_letters(before, limit).await?) }
        },
    )
    .await?;
    Ok(Json(page))
}

#[utoipa::path(get, path = "/api/v1/dlq/{id}", tag = "dead letters", params(("id" = i64, Path, description = "Its number")), responses((status = 200, description = "The letter; `payload` when its bytes are text, else `payload_hex`", body = Value)))]
/// Shows a dead letter with its bytes.
pub(crate) async fn show(State(state): State<ApiState>, Path(id): Path<i64>) -> Result<Json<Value>, Problem> {
    let letter = state.scheduler().store().dead_letter(DeadLetterId(id)).await?;
    let mut shown = to_json(&letter);
    match std::str::from_utf8(&letter.payload) {
        Ok(text) => shown["payload"] = json!(text),
        Err(_) => shown["payload_hex"] = json!(hex::encode(&letter.payload)),
    }
    Ok(Json(shown))
}

#[utoipa::path(post, path = "/api/v1/dlq/{id}/requeue", tag = "dead letters", params(("id" = i64, Path, description = "Its number")), responses((status = 200, description = "It was taken in and the letter is gone", body = Value), (status = 422, description = "It is still refused, and still there")))]
/// Takes a dead letter in again, as if it had just come, or one of a sink there once more. It is dropped when it is taken.
pub(crate) async fn requeue(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Problem> {
    let scheduler = state.scheduler();
    let letter = scheduler.store().dead_letter(DeadLetterId(id)).await?;
    if let Some(sink) = letter.source.as_str().strip_prefix(LETTER_SOURCE) {
        scheduler.redeliver(&letter).await?;
        scheduler.audit(&caller.name, "dlq.requeue", format!("dlq/{id}"), json!({"sink": sink})).await?;
        return Ok(Json(json!({"id": id, "sink": sink})));
    }
    let event = event_of(&letter, scheduler.clock().now())?;
    let taken = scheduler.ingest(vec![event.into()]).await?;
    let seq = match taken.first() {
        Some(Taken::New { seq, .. } | Taken::Known { seq }) => *seq,
        Some(Taken::Conflict { seq }) => {
            let detail = format!(
                "event #{seq} has its id and another content; drop the letter or send it with another id"
            );
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Some(Taken::Dead { reason, .. }) => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("it is still refused: {reason}"),
            ));
        }
        None => return Err(Problem::bad("nothing was taken")),
    };
    scheduler.store().drop_dead_letter(DeadLetterId(id)).await?;
    scheduler.audit(&caller.name, "dlq.requeue", format!("dlq/{id}"), json!({"event": seq})).await?;
    Ok(Json(json!({"id": id, "event": seq})))
}

/// The event that a letter was to be.
fn event_of(letter: &DeadLetter, now: chrono::DateTime<chrono::Utc>) -> Result<Event, Problem> {
    let Some(topic) = &letter.topic else {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the letter has no topic; send it again with one (`event send TOPIC -f FILE`)",
        ));
    };
    let headers: Value = serde_json::from_str(&letter.headers).unwrap_or(Value::Null);
    let headers = headers.as_object().cloned().unwrap_or_default();
    Ok(Event {
        source: letter.source.clone(),
        domain: letter.source.clone(),
        id: letter.event_id.as_deref().map_or_else(|| hashed_id(topic, &letter.payload), EventId::from),
        topic: Topic::new(topic.clone()),
        time: model::event::sent_at(&headers),
        received_at: now,
        headers,
        payload: letter.payload.clone().into(),
        depth: 0,
        cause: None,
        traceparent: None,
    })
}

#[utoipa::path(delete, path = "/api/v1/dlq/{id}", tag = "dead letters", params(("id" = i64, Path, description = "Its number")), responses((status = 204, description = "It is gone")))]
/// Drops a dead letter for good.
pub(crate) async fn drop_letter(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    let scheduler = state.scheduler();
    scheduler.store().drop_dead_letter(DeadLetterId(id)).await?;
    scheduler.audit(&caller.name, "dlq.drop", format!("dlq/{id}"), Value::Null).await?;
    Ok(StatusCode::NO_CONTENT)
}
