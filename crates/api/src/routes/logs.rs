//! Logs of attempts: whole, in part, or as they grow.

use super::section::Section;
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
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use model::{Phase, Task, TaskId, TaskState};
use scheduler::{files::FileError, wake::Listener};
use serde::Deserialize;
use serde_json::json;
use std::{collections::VecDeque, convert::Infallible, time::Duration};
use store::LogChunk;
use utoipa::IntoParams;

/// How often something is sent at least.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long to wait before looking again, where a hint may have been lost or the database was away.
const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Which attempt; the last one when it is missing.
    attempt: Option<u32>,
    /// Follow it by server-sent events: `log` with `{offset, text}`, its `id` the offset after it; `end` when
    /// the task is final or starts another attempt.
    #[serde(default)]
    follow: bool,
    /// Only what this phase wrote.
    phase: Option<Phase>,
    /// Start at this byte. `Last-Event-ID` counts more.
    #[serde(default)]
    from: u64,
}

#[utoipa::path(get, path = "/api/v1/tasks/{id}/log", tag = "tasks", params(("id" = String, Path, description = "Its id or the start of it"), LogQuery), responses((status = 200, description = "The log's bytes", content_type = "text/plain"), (status = 206, description = "A part of them"), (status = 404, description = "There is no such task or attempt"), (status = 410, description = "The log has expired")))]
/// Reads the log of an attempt. Each line begins with a time stamp and a blank; right behind them `=== PHASE ===` and
/// `--- text` are the worker's own, and only the worker's: a line of the task that begins so has a further blank.
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
    whole(&state, &task, &query, &headers).await
}

/// The log of a task's last attempt.
pub(crate) async fn last_log(
    state: &ApiState,
    task: &Task,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let query = LogQuery { attempt: None, follow: false, phase: None, from: 0 };
    whole(state, task, &query, headers).await
}

async fn whole(
    state: &ApiState,
    task: &Task,
    query: &LogQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let attempt = query.attempt.unwrap_or(task.attempts);
    if attempt == 0 || attempt > task.attempts {
        let detail = if task.attempts == 0 {
            let reason = match &task.state {
                TaskState::Finished { reason: Some(reason), .. } => format!(": {reason}"),
                _ => String::new(),
            };
            format!("task {} was not started, it is {}{reason}", task.id, task.state.label())
        } else {
            format!("task {} has no attempt {attempt}: {} were started", task.id, task.attempts)
        };
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    }
    let chunks = state.scheduler().store().log_chunks(task.id, attempt, 0).await?;
    let size_bytes: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
    if let Some(phase) = query.phase {
        return Ok(text(Body::from_stream(of_phase(state, chunks, phase, query.from))));
    }
    let wanted = match range::wanted(headers, size_bytes)? {
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
    let mut response = text(Body::from_stream(bytes));
    if length > 0 {
        range::describe(&mut response, wanted, size_bytes);
    }
    Ok(response)
}

/// Plain text that no browser takes for anything else.
fn text(body: Body) -> Response {
    let mut response = body.into_response();
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What a phase wrote, from a byte of the whole log on.
fn of_phase(
    state: &ApiState,
    chunks: Vec<LogChunk>,
    phase: Phase,
    from: u64,
) -> impl Stream<Item = Result<Bytes, FileError>> + use<> {
    let bytes = state.scheduler().files().log(chunks, 0);
    let start = (bytes, Section::of(phase), from, false);
    stream::unfold(start, |(mut bytes, mut section, mut skip, ended)| async move {
        if ended {
            return None;
        }
        match bytes.next().await {
            Some(Ok(part)) => {
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(part.len());
                skip -= skipped as u64;
                section.feed(&part[..skipped]);
                let out = Bytes::from(section.feed(&part[skipped..]));
                Some((Ok(out), (bytes, section, skip, false)))
            }
            Some(Err(error)) => Some((Err(error), (bytes, section, skip, true))),
            None => {
                let rest = Bytes::from(section.finish());
                Some((Ok(rest), (bytes, section, skip, true)))
            }
        }
    })
}

fn follow(state: ApiState, task: &Task, query: &LogQuery, last: Option<u64>) -> Response {
    let follower = Follower {
        bell: state.scheduler().wake().logs.listen(),
        section: query.phase.map(Section::of),
        carry: Vec::new(),
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
    bell: Listener,
    section: Option<Section>,
    /// The start of a character whose rest comes with the next chunk.
    carry: Vec<u8>,
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
                match self.show(&chunk).await {
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => continue,
                    Err(error) => {
                        // Its bytes are there; where they lie is away.
                        tracing::debug!(%error, "a log that is followed waits");
                        self.chunks.push_front(chunk);
                        self.pause().await?;
                        continue;
                    }
                }
            }
            // The state is read before the chunks: what a final attempt left is there then.
            let state = self.read().await;
            if self.chunks.is_empty() {
                if let Ok(Some(label)) = state {
                    if let Some(rest) = self.rest() {
                        return Some(rest);
                    }
                    self.ended = true;
                    return Some(Event::default().event("end").data(json!({"state": label}).to_string()));
                }
                self.pause().await?;
            }
        }
        None
    }

    /// Waits for more; `None` when the server stops.
    async fn pause(&mut self) -> Option<()> {
        let stop = self.state.stop().clone();
        tokio::select! {
            () = stop.cancelled() => None,
            () = self.bell.heard(POLL) => Some(()),
        }
    }

    /// What was held back, when nothing more comes.
    fn rest(&mut self) -> Option<Event> {
        let mut rest = std::mem::take(&mut self.carry);
        rest.extend(self.section.as_mut().map(Section::finish).unwrap_or_default());
        let text = String::from_utf8_lossy(&rest).into_owned();
        (!text.is_empty()).then(|| self.event(self.attempt.unwrap_or_default(), &text))
    }

    fn event(&self, attempt: u32, text: &str) -> Event {
        let end = self.offset - self.carry.len() as u64;
        let data = json!({"attempt": attempt, "offset": end, "text": text});
        Event::default().id(end.to_string()).event("log").data(data.to_string())
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
        if attempt > task.attempts {
            // It may still come.
            return Ok(task.state.is_final().then(|| task.state.label()));
        }
        self.attempt = Some(attempt);
        let running = matches!(task.state, TaskState::Running { attempt: now, .. } if now == attempt);
        self.chunks.extend(store.log_chunks(self.task, attempt, self.seq).await?);
        Ok((!running).then(|| task.state.label()))
    }

    /// Shows what is new of a chunk. An error leaves everything as it was.
    async fn show(&mut self, chunk: &LogChunk) -> Result<Option<Event>, FileError> {
        let skip = self.skip.saturating_sub(self.offset).min(chunk.size_bytes);
        let whole = self.section.is_some();
        let mut new = Vec::new();
        if whole || skip < chunk.size_bytes {
            let from = if whole { 0 } else { skip };
            let bytes = self.state.scheduler().files().log(vec![chunk.clone()], from);
            match bytes.map_ok(|bytes| bytes.to_vec()).try_concat().await {
                Ok(bytes) => new = bytes,
                Err(error @ FileError::NotFound(_)) => new = format!("[{error}]\n").into_bytes(),
                Err(error) => return Err(error),
            }
        }
        if let Some(section) = &mut self.section {
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(new.len());
            section.feed(&new[..skipped]);
            new = section.feed(&new[skipped..]);
        }
        self.seq = chunk.seq + 1;
        self.offset += chunk.size_bytes;
        let mut bytes = std::mem::take(&mut self.carry);
        bytes.extend(new);
        let text = whole_characters(bytes, &mut self.carry);
        Ok((!text.is_empty()).then(|| self.event(chunk.attempt, &text)))
    }
}

/// The text of bytes; the start of a character at their end is kept for later.
fn whole_characters(mut bytes: Vec<u8>, carry: &mut Vec<u8>) -> String {
    if let Some(last) = bytes.utf8_chunks().last() {
        let cut = last.invalid();
        // A cut character is a valid start: completing it would make it whole.
        if !cut.is_empty() && bytes.ends_with(cut) && is_start_of_character(cut) {
            *carry = bytes.split_off(bytes.len() - cut.len());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether bytes are the start of a character of UTF-8 that is cut off.
fn is_start_of_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        let check = |bytes: &[u8], expect: &str, kept: &[u8]| {
            let mut carry = Vec::new();
            assert_eq!(whole_characters(bytes.to_vec(), &mut carry), expect);
            assert_eq!(carry, kept);
        };
        check(b"abc", "abc", b"");
        check("aä".as_bytes(), "aä", b"");
        check(b"a\xc3", "a", b"\xc3");
        check(b"a\xf0\x9f\x98", "a", b"\xf0\x9f\x98");
        check(b"a\xff", "a\u{fffd}", b"");
        check(b"\xc3a", "\u{fffd}a", b"");
    }
}
