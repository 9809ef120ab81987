//! Events: sending, listing, showing, asking why, replaying.

use super::{Paging, kept};
use crate::{auth::Caller, parameters, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use model::{
    Event, EventId, RuleName, Topic, TopicPattern,
    event::{EVENT_BYTES_MAX, EVENT_ROOTS, OWN_SOURCE, RecordedMessage, hashed_id},
    ids::{DeadLetterId, EventSeq, SourceName},
    verdict::Explained,
};
use scheduler::ingest::Taken;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::{EventQuery, Page, StoredEvent};
use utoipa::{IntoParams, ToSchema};

/// The source of events that come by this interface.
const SOURCE: &str = "api";
/// The most rules that are shown as missing by one clause.
const NEAR_MISSES_MAX: usize = 100;
/// The most events of one request.
const LINES_MAX: usize = 10_000;
/// The largest request in bytes: a whole event at the limit with its envelope, or many small ones.
pub(crate) const SEND_BYTES_MAX: usize = 4 * EVENT_BYTES_MAX;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SendQuery {
    /// The topic, when the request's body is the event's body alone.
    topic: Option<String>,
    /// The event's id, when the request's body is the event's body alone; made from its content when missing.
    id: Option<String>,
}

/// What became of a sent event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sent {
    /// Of many events, the line that it stands in, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// The event's id; none where a line is no message at all.
    id: Option<String>,
    /// Its place in the inbox.
    seq: Option<EventSeq>,
    /// `new`, `known`, `conflict` or `malformed`.
    outcome: &'static str,
    /// The tasks that it led to.
    tasks: Vec<String>,
    /// Why it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The dead letter that it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    letter: Option<DeadLetterId>,
}

/// What became of many events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SentMany {
    /// One for each line that is not blank, in order.
    items: Vec<Sent>,
}

#[utoipa::path(
    post, path = "/api/v1/events", tag = "events", params(SendQuery), request_body = Value,
    responses(
        (status = 201, description = "It was new, and is judged and written", body = Sent),
        (status = 200, description = "It was there already; for many events `{items: […]}`, what became of each, malformed lines included", body = Sent),
        (status = 409, description = "Its id was there already with another content", body = Sent),
        (status = 422, description = "It is malformed; it lies with the dead letters", body = Sent),
    )
)]
/// Sends an event: a whole recorded message `{topic, id?, headers?, body}`, or with `?topic=` the body alone;
/// many of them as lines (`application/x-ndjson`). The answer comes after the commit.
pub(crate) async fn send(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<SendQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    refuse_bounded(&caller)?;
    let now = state.scheduler().clock().now();
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.contains("ndjson") || content_type.contains("jsonl") {
        return send_lines(&state, &body, &caller, now).await;
    }
    let event = match &query.topic {
        Some(topic) => bare_event(topic, query.id.as_deref(), &body, now),
        None => whole_event(&body, now)?,
    };
    let mut sent = send_all(&state, vec![event], &caller).await?;
    let sent = sent.pop().ok_or_else(|| Problem::bad("nothing was sent"))?;
    let status = match sent.outcome {
        "new" => StatusCode::CREATED,
        "known" => StatusCode::OK,
        "conflict" => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok((status, Json(sent)).into_response())
}

async fn send_lines(
    state: &ApiState,
    body: &[u8],
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<Response, Problem> {
    let lines: Vec<(usize, &[u8])> = (1..)
        .zip(body.split(|byte| *byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .collect();
    if lines.len() > LINES_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a request has at most {LINES_MAX} events"),
        ));
    }
    // What is no message has no topic and no id to lie with the dead letters under; the answer says so of its
    // line, and the others are taken.
    let read: Vec<Result<Event, Problem>> = lines.iter().map(|(_, line)| whole_event(line, now)).collect();
    let events = read.iter().filter_map(|event| event.as_ref().ok().cloned()).collect();
    let mut sent = send_all(state, events, caller).await?.into_iter();
    let mut items = Vec::with_capacity(read.len());
    for (event, (at, _)) in read.into_iter().zip(&lines) {
        let item = match event {
            Ok(_) => sent.next().ok_or_else(|| Problem::bad("an event got no answer"))?,
            Err(problem) => unread(problem.detail),
        };
        items.push(Sent { line: Some(*at), ..item });
    }
    Ok(Json(SentMany { items }).into_response())
}

/// What is said of a line that is no message.
fn unread(reason: String) -> Sent {
    let tasks = Vec::new();
    Sent { line: None, id: None, seq: None, outcome: "malformed", tasks, reason: Some(reason), letter: None }
}

/// An event can lead to tasks in any queue; who is bound to some sends none.
fn refuse_bounded(caller: &Caller) -> Result<(), Problem> {
    if caller.bounds.is_none() {
        return Ok(());
    }
    let detail =
        format!("`{}` has bounds, and what rules make of an event has none: it sends none", caller.name);
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

async fn send_all(state: &ApiState, events: Vec<Event>, caller: &Caller) -> Result<Vec<Sent>, Problem> {
    let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    let taken = state.scheduler().ingest(events.into_iter().map(Into::into).collect()).await?;
    let new = taken.iter().filter_map(|taken| match taken {
        Taken::New { seq, .. } => Some(*seq),
        _ => None,
    });
    let new: Vec<EventSeq> = new.collect();
    if let (Some(first), Some(last)) = (new.first(), new.last()) {
        let detail = json!({"events": new.len(), "first": first, "last": last});
        state.scheduler().audit(&caller.name, "event.send", format!("event/{first}"), detail).await?;
    }
    Ok(ids.into_iter().zip(taken).map(|(id, taken)| sent(id, taken)).collect())
}

fn sent(id: String, taken: Taken) -> Sent {
    let none = Sent { id: Some(id), ..unread(String::new()) };
    match taken {
        Taken::New { seq, tasks } => {
            let tasks = tasks.into_iter().map(|task| task.to_string()).collect();
            Sent { seq: Some(seq), outcome: "new", tasks, reason: None, ..none }
        }
        Taken::Known { seq } => Sent { seq: Some(seq), outcome: "known", reason: None, ..none },
        Taken::Conflict { seq } => {
            let reason = Some(format!("event #{seq} has this id and another content"));
            Sent { seq: Some(seq), outcome: "conflict", reason, ..none }
        }
        Taken::Dead { letter, reason } => {
            let reason = Some(format!("{reason} (dead letter {letter})"));
            Sent { reason, letter: Some(letter), ..none }
        }
    }
}

fn bare_event(topic: &str, id: Option<&str>, body: &[u8], now: DateTime<Utc>) -> Event {
    Event {
        source: SourceName::from(SOURCE),
        domain: SourceName::from(SOURCE),
        id: id.map_or_else(|| hashed_id(topic, body), EventId::from),
        topic: Topic::from(topic),
        time: None,
        received_at: now,
        headers: Map::new(),
        payload: body.into(),
        depth: 0,
        cause: None,
        traceparent: None,
    }
}

/// A whole recorded message as an event that comes by this interface.
pub(crate) fn whole_event(body: &[u8], now: DateTime<Utc>) -> Result<Event, Problem> {
    let message: RecordedMessage = serde_json::from_slice(body).map_err(|error| {
        let expected = "expected a whole message {\"topic\": …, \"id\": …, \"headers\": {…}, \"body\": {…}}, or ?topic= and the body alone";
        Problem::bad(format!("{error}; {expected}"))
    })?;
    Ok(message.into_event(&SourceName::from(SOURCE), now))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only of this topic; `*` is one token of it, a last `>` the rest.
    topic: Option<String>,
    /// Only of topics that start so.
    prefix: Option<String>,
    /// Only of this source.
    source: Option<String>,
    /// Only received at or after.
    since: Option<DateTime<Utc>>,
    /// Only received before.
    until: Option<DateTime<Utc>>,
    /// Only what came in from outside, none of our own.
    #[serde(default)]
    outside: bool,
}

#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(ListQuery, Paging), responses((status = 200, description = "Events, newest first", body = Value)))]
/// Lists events, newest first.
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Value>>, Problem> {
    let roots = |event: &StoredEvent| event.event.roots(event.event.body().unwrap_or(Value::Null));
    paging.before::<i64>()?;
    let place = |event: &StoredEvent| Some(event.seq.0.to_string());
    let filter = paging.filter()?;
    if let Some(filter) = &filter {
        parameters::check_roots(filter, EVENT_ROOTS.into_iter())?;
    }
    let pattern = query.topic.as_deref().map(TopicPattern::parse).transpose();
    let pattern = pattern.map_err(|error| Problem::bad(format!("topic: {error}")))?;
    let exact = pattern.as_ref().filter(|pattern| pattern.is_exact()).map(|one| Topic::from(one.as_str()));
    // What a pattern begins with narrows what is read; the rest of it is looked at here.
    let topics = pattern.as_ref().filter(|pattern| !pattern.is_exact());
    let prefix = query.prefix.as_deref().or(topics.map(TopicPattern::literal_start));
    let now = state.scheduler().clock().now();
    let keep = |event: &StoredEvent| {
        !(query.outside && event.event.source.as_str() == OWN_SOURCE)
            && topics.is_none_or(|topics| topics.matches(&event.event.topic))
            && filter.as_ref().is_none_or(|filter| filter.matches(&roots(event), now))
    };
    let keep = (query.outside || topics.is_some() || filter.is_some()).then_some(keep);
    let page = kept(&paging, keep, place, |before, limit| {
        let query = EventQuery {
            topic: exact.clone(),
            topic_prefix: prefix.map(str::to_owned),
            source: query.source.clone().map(SourceName::new),
            since: query.since,
            until: query.until,
            before: before.and_then(|text| text.parse().ok()).map(EventSeq),
            oldest_first: false,
            limit,
        };
        let state = state.clone();
        async move { Ok(state.scheduler().store().events(&query).await?) }
    })
    .await?;
    Ok(Json(Page { items: page.items.iter().map(shown).collect(), next: page.next }))
}

/// An event with its body parsed, and its bytes as text.
pub(crate) fn shown(event: &StoredEvent) -> Value {
    let mut shown = super::to_json(event);
    shown["body"] = event.event.body().unwrap_or(Value::Null);
    shown
}

#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "events", params(("id" = String, Path, description = "Its id, the start of it, or its place (`#123`)")), responses((status = 200, description = "The event", body = Value)))]
/// Shows an event.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let event = state.scheduler().find_event(&id).await?;
    Ok(Json(shown(&event)))
}

#[utoipa::path(get, path = "/api/v1/events/{id}/verdicts", tag = "events", params(("id" = String, Path, description = "Its id, the start of it, or its place")), responses((status = 200, description = "Firings, errors and suppressions, and the tasks made", body = Value)))]
/// Shows what rules said to an event, other than plain non-matches.
pub(crate) async fn verdicts(
    State(state): State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let scheduler = state.scheduler();
    let event = scheduler.find_event(&id).await?;
    let firings = scheduler.store().firings(event.seq).await?;
    let query =
        store::TaskQuery { event: Some(event.seq), limit: store::PAGE_MAX, ..store::TaskQuery::default() };
    let tasks: Vec<_> =
        scheduler.store().tasks(&query).await?.items.into_iter().rev().map(|task| task.id).collect();
    Ok(Json(
        json!({"event": event.seq, "id": event.event.id, "revision": event.revision, "firings": firings, "tasks": tasks}),
    ))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhyQuery {
    /// Only this rule.
    rule: Option<String>,
    /// Only rules that did not fire and miss by one clause.
    #[serde(default)]
    near_misses: bool,
}

#[utoipa::path(get, path = "/api/v1/events/{id}/why", tag = "events", params(("id" = String, Path, description = "Its id, the start of it, or its place"), WhyQuery), responses((status = 200, description = "A verdict for each rule, with every clause", body = Vec<Explained>)))]
/// Says why each rule fired or did not, by the rules of the revision that judged the event.
pub(crate) async fn why(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    Query(query): Query<WhyQuery>,
) -> Result<Json<Vec<Explained>>, Problem> {
    let scheduler = state.scheduler();
    let event = scheduler.find_event(&id).await?;
    let rule = query.rule.map(RuleName::new);
    if !query.near_misses {
        return Ok(Json(scheduler.why(&event, rule.as_ref()).await?));
    }
    let set = match &event.revision {
        Some(revision) => scheduler.rule_set_of(revision).await?,
        None => scheduler.rulebook().current(),
    };
    let look = move || set.near_misses(&event.event, event.event.received_at, NEAR_MISSES_MAX);
    let near = tokio::task::spawn_blocking(look).await;
    let near = near.map_err(|error| Problem::bad(format!("explaining stopped: {error}")))?;
    let mut near = near.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    near.retain(|verdict| rule.as_ref().is_none_or(|rule| verdict.rule == *rule));
    let alone = |verdict| Explained { verdict, became: Vec::new() };
    Ok(Json(near.into_iter().map(alone).collect()))
}

#[utoipa::path(post, path = "/api/v1/events/{id}/replay", tag = "events", params(("id" = String, Path, description = "Its id, the start of it, or its place")), responses((status = 202, description = "It waits to be judged again", body = Value)))]
/// Lets an event be judged again by today's rules; its tasks are made anew.
pub(crate) async fn replay(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    refuse_bounded(&caller)?;
    let event = state.scheduler().find_event(&id).await?;
    let generation = state.scheduler().replay(event.seq, &caller.name).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"seq": event.seq, "id": event.event.id, "generation": generation})),
    ))
}
