//! Recorded history, streamed: as many events as there are, none held.

use crate::{problem::Problem, state::ApiState};
use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures_util::{Stream, stream};
use model::{EventId, Topic, TopicPattern, event::OWN_SOURCE, ids::SourceName};
use scheduler::Filter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::io;
use store::{EventQuery, StoredEvent};
use utoipa::IntoParams;

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// Only received at or after.
    since: Option<DateTime<Utc>>,
    /// Only received before.
    until: Option<DateTime<Utc>>,
    /// Only these topics (patterns, separated by commas).
    topics: Option<String>,
    /// Only what this filter holds for: the clauses of rules, over `topic`, `source`, `headers`, `body`.
    r#where: Option<String>,
    /// Only what came in from outside, none of our own.
    #[serde(default)]
    outside: bool,
}

/// An event in the line format of fedora-messaging's recorder, with what only we know after it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a EventId,
    topic: &'a Topic,
    headers: &'a Map<String, Value>,
    body: &'a RawValue,
    queue: Option<&'a str>,
    source: &'a SourceName,
    domain: &'a SourceName,
    time: Option<DateTime<Utc>>,
    received_at: DateTime<Utc>,
    depth: u32,
}

#[utoipa::path(get, path = "/api/v1/export/events", tag = "events", params(ExportQuery), responses((status = 200, description = "A recorded message a line, oldest first; those whose body has expired are left out", content_type = "application/x-ndjson")))]
/// Exports events, oldest first, as lines of fedora-messaging's recorder.
pub(crate) async fn events(
    State(state): State<ApiState>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let patterns = super::list_of(query.topics.as_ref())
        .iter()
        .map(|text| TopicPattern::parse(text).map_err(|error| Problem::bad(format!("topics: {error}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let filter = query.r#where.as_ref();
    let filter = filter
        .map(|text| Filter::parse(text).map_err(|error| Problem::bad(error.to_string())))
        .transpose()?;
    let first = EventQuery {
        since: query.since,
        // What comes in meanwhile is not waited for, or an export of a busy server would never end.
        until: Some(query.until.unwrap_or_else(|| state.scheduler().clock().now())),
        oldest_first: true,
        limit: store::PAGE_MAX,
        ..EventQuery::default()
    };
    let export = Export { state, next: Some(first), patterns, filter, outside: query.outside };
    let body = Body::from_stream(export.stream());
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

struct Export {
    state: ApiState,
    next: Option<EventQuery>,
    patterns: Vec<TopicPattern>,
    filter: Option<Filter>,
    outside: bool,
}

impl Export {
    /// The lines, a page of events at a time. An error ends the answer early, which the client sees.
    fn stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold(self, |mut export| async move {
            let Some(query) = export.next.take() else { return Ok(None) };
            let page = export.state.scheduler().store().events(&query).await.map_err(io::Error::other)?;
            if page.next.is_some()
                && let Some(last) = page.items.last()
            {
                export.next = Some(EventQuery { before: Some(last.seq), ..query });
            }
            let mut lines = Vec::new();
            for event in page.items.iter().filter(|event| export.wants(event)) {
                write_line(event, &mut lines)?;
            }
            Ok(Some((Bytes::from(lines), export)))
        })
    }

    fn wants(&self, stored: &StoredEvent) -> bool {
        let event = &stored.event;
        if stored.body_expired || (self.outside && event.source.as_str() == OWN_SOURCE) {
            return false;
        }
        let covered =
            self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(&event.topic));
        let now = self.state.scheduler().clock().now();
        covered
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| filter.matches(&event.roots(event.body().unwrap_or(Value::Null)), now))
    }
}

fn write_line(stored: &StoredEvent, into: &mut Vec<u8>) -> io::Result<()> {
    let event = &stored.event;
    // One event, one line: breaks between the body's tokens become spaces, nothing else of it changes.
    let payload: Vec<u8> =
        event.payload.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
    let body: &RawValue = serde_json::from_slice(&payload)?;
    let line = Line {
        id: &event.id,
        topic: &event.topic,
        headers: &event.headers,
        body,
        queue: None,
        source: &event.source,
        domain: &event.domain,
        time: event.time,
        received_at: event.received_at,
        depth: event.depth,
    };
    serde_json::to_writer(&mut *into, &line)?;
    into.push(b'\n');
    Ok(())
}
