//! Logs of attempts: whole, in part, or as they grow.

use crate::{problem::Problem, range, state::ApiState};
use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, TryStreamExt, stream};
use model::{Task, TaskId, TaskState};
use serde::Deserialize;
use serde_json::json;
use std::{collections::VecDeque, convert::Infallible, time::Duration};
use store::LogChunk;
use utoipa::IntoParams;

/// How often something is sent at least.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long to wait before looking again, where a hint may have been lost or the database was away.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Which attempt; the last one when it is missing.
    attempt: Option<u32>,
    /// Follow it by server-sent events: `log` with `{offset, text}`, its `id` the offset after it; `end` when
    /// the task is final or starts another attempt.
    #[serde(default)]
    follow: bool,
    /// Start at this byte. `Last-Event-ID` counts more.
    #[serde(default)]
    from: u64,
}

#[utoipa::path(get, path = "/api/v1/tasks/{id}/log", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it"), LogQuery), responses((status = 200, description = "The log's bytes", content_type = "text/plain"), (status = 206, description = "A part of them"), (status = 404, description = "There is no such task or attempt"), (status = 410, description = "The log has expired")))]
/// Reads the log of an attempt.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = state.scheduler().find_task(&id).await?;
    if query.follow {
        let last = headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        return Ok(follow(state, &task, &query, last));
    }
    let attempt = query.attempt.unwrap_or(task.attempts);
    if attempt == 0 || attempt > task.attempts {
        let detail = format!("task {} has no attempt {attempt}: {} were started", task.id, task.attempts);
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    let chunks = state.scheduler().store().log_chunks(task.id, attempt, 0).await?;
    let size_bytes: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
    let wanted = match range::wanted(&headers, size_bytes)? {
        None if query.from > 0 => Some(query.from.min(size_bytes)..size_bytes),
        wanted => wanted,
    };
    let (skip, length) =
        wanted.as_ref().map_or((0, size_bytes), |range| (range.start, range.end - range.start));
    let mut left = length;
    let bytes = state.scheduler().files().log(chunks, skip).map_ok(move |bytes| {
        let part = bytes.slice(..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        left -= part.len() as u64;
        part
    });
    let mut response = Body::from_stream(bytes).into_response();
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if length > 0 {
        range::describe(&mut response, wanted, size_bytes);
    }
    Ok(response)
}

fn follow(state: ApiState, task: &Task, query: &LogQuery, last: Option<u64>) -> Response {
    let follower = Follower {
        state,
        task: task.id,
        attempt: query.attempt,
        seq: 0,
        offset: 0,
        skip: last.unwrap_or(query.from),
        chunks: VecDeque::new(),
        ended: false,
    };
    let mut response =
        Sse::new(follower.stream()).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Follows the log of one attempt.
struct Follower {
    state: ApiState,
    task: TaskId,
    /// The attempt; the first one that there is, once it is there.
    attempt: Option<u32>,
    /// The number of the next chunk.
    seq: u32,
    /// The offset after the last chunk that was looked at.
    offset: u64,
    /// Up to where the client has it.
    skip: u64,
    chunks: VecDeque<LogChunk>,
    ended: bool,
}

impl Follower {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        while !self.ended {
            if let Some(chunk) = self.chunks.pop_front() {
                if let Some(event) = self.show(&chunk).await {
                    return Some(event);
                }
                continue;
            }
            // The state is read before the chunks: what a final attempt left is there then.
            let state = self.read().await;
            if self.chunks.is_empty() {
                match state {
                    Ok(Some(label)) => {
                        self.ended = true;
                        return Some(Event::default().event("end").data(json!({"state": label}).to_string()));
                    }
                    Ok(None) | Err(_) => {}
                }
                let stop = self.state.stop().clone();
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = self.state.scheduler().wake().stream.wait(POLL) => {}
                }
            }
        }
        None
    }

    /// Reads the chunks that came; the state's label when the attempt is over.
    async fn read(&mut self) -> store::Result<Option<String>> {
        let store = self.state.scheduler().store();
        let task = store.task(self.task).await?;
        let attempt = match self.attempt {
            Some(attempt) => attempt,
            None if task.attempts > 0 => task.attempts,
            None => return Ok(task.state.is_final().then(|| task.state.label())),
        };
        self.attempt = Some(attempt);
        let running = matches!(task.state, TaskState::Running { attempt: now, .. } if now == attempt);
        self.chunks.extend(store.log_chunks(self.task, attempt, self.seq).await?);
        Ok((!running).then(|| task.state.label()))
    }

    async fn show(&mut self, chunk: &LogChunk) -> Option<Event> {
        let start = self.offset;
        self.seq = chunk.seq + 1;
        self.offset += chunk.size_bytes;
        let skip = self.skip.saturating_sub(start).min(chunk.size_bytes);
        if skip == chunk.size_bytes {
            return None;
        }
        let bytes = self.state.scheduler().files().log(vec![chunk.clone()], skip);
        let text = match bytes.map_ok(|bytes| bytes.to_vec()).try_concat().await {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("[{error}]\n"),
        };
        let data = json!({"attempt": chunk.attempt, "offset": start + skip, "text": text});
        Some(Event::default().id(self.offset.to_string()).event("log").data(data.to_string()))
    }
}
