//! The live stream by server-sent events.

use super::{events::shown, list_of, to_json};
use crate::{parameters, problem::Problem, state::ApiState};
use axum::{
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use model::{
    Topic, TopicPattern,
    event::EVENT_ROOTS,
    ids::{EventSeq, Position},
    message::{Message, NewMessage},
};
use scheduler::{Filter, live::Live};
use serde::Deserialize;
use serde_json::Value;
use std::{convert::Infallible, time::Duration};
use utoipa::IntoParams;

/// How often something is sent at least, so that proxies keep the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long to wait before asking a database again that was away.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Only these topics (patterns, separated by commas).
    topics: Option<String>,
    /// Only what this filter holds for: over the message (`topic`, `subject`, `data`), or with `events` over the
    /// event (`topic`, `source`, `headers`, `body`).
    r#where: Option<String>,
    /// Go on after this position; from now on when it is missing. `Last-Event-ID` counts more.
    after: Option<i64>,
    /// Only events that come in, each whole, under its own topic.
    #[serde(default)]
    events: bool,
}

#[utoipa::path(get, path = "/api/v1/stream", tag = "live", params(StreamQuery), responses((status = 200, description = "Server-sent events; `id` is the position, `event` the topic, `data` the message as JSON. `resync` says that the position is no longer kept.", content_type = "text/event-stream")))]
/// Follows what happens.
pub(crate) async fn stream(
    State(state): State<ApiState>,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last =
        headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let after = last.or(query.after).map(Position);
    let patterns = list_of(query.topics.as_ref())
        .iter()
        .map(|text| TopicPattern::parse(text).map_err(|error| Problem::bad(format!("topics: {error}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let filter = query
        .r#where
        .as_ref()
        .map(|text| Filter::parse(text).map_err(|error| Problem::bad(error.to_string())));
    let filter = filter.transpose()?;
    if let Some(filter) = &filter {
        // Whoever follows events and messages asks both by the same filter.
        let of_messages = parameters::fields_of::<NewMessage>().unwrap_or_default();
        let more = of_messages.iter().filter(|field| !EVENT_ROOTS.contains(field));
        let known = EVENT_ROOTS.iter().chain(more).chain(&["id", "created_at", "position"]);
        parameters::check_roots(filter, known.copied())?;
    }
    let live = state.scheduler().follow(after).await?;
    let resync = live.has_gap();
    let follower = Follower { state, live, patterns, filter, events: query.events, resync };
    let mut response =
        Sse::new(follower.stream()).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // Proxies must not hold back what is live.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

struct Follower {
    state: ApiState,
    live: Live,
    patterns: Vec<TopicPattern>,
    filter: Option<Filter>,
    events: bool,
    resync: bool,
}

impl Follower {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    /// The next thing to send; `None` when the server stops.
    async fn next(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.resync) {
            return Some(Event::default().event("resync").data("{}"));
        }
        loop {
            let stop = self.state.stop().clone();
            let message = tokio::select! {
                () = stop.cancelled() => return None,
                message = self.live.next() => message,
            };
            let Ok(message) = message else {
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(RETRY) => continue,
                }
            };
            let shown = loop {
                match self.show(&message).await {
                    Ok(shown) => break shown,
                    // What was taken from the stream is not let go while the database is away.
                    Err(error) if error.is_transient() => tokio::select! {
                        () = stop.cancelled() => return None,
                        () = tokio::time::sleep(RETRY) => {}
                    },
                    Err(error) => {
                        tracing::debug!(%error, "an event of the live stream is not there any more");
                        break None;
                    }
                }
            };
            if let Some((topic, data)) = shown {
                let position = message.position.map_or(0, |position| position.0);
                return Some(Event::default().id(position.to_string()).event(topic).data(data.to_string()));
            }
        }
    }

    /// What is sent of a message, when it is wanted.
    async fn show(&self, message: &Message) -> store::Result<Option<(String, Value)>> {
        if !self.events {
            let data = to_json(message);
            let wanted = self.wants(&message.message.topic, || data.clone());
            return Ok(wanted.then(|| (message.message.topic.to_string(), data)));
        }
        // The topic is looked at before the event is read.
        let Some((topic, seq)) = received(message) else { return Ok(None) };
        if !self.patterns.is_empty() && !self.patterns.iter().any(|pattern| pattern.matches(&topic)) {
            return Ok(None);
        }
        let event = self.state.scheduler().store().event(seq).await?;
        let roots = || event.event.roots(event.event.body().unwrap_or(Value::Null));
        Ok(self.wants(&topic, roots).then(|| (topic.to_string(), shown(&event))))
    }

    fn wants(&self, topic: &Topic, roots: impl FnOnce() -> Value) -> bool {
        let covered = self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.matches(topic));
        let now = self.state.scheduler().clock().now();
        covered && self.filter.as_ref().is_none_or(|filter| filter.matches(&roots(), now))
    }
}

/// The topic and the place of the event whose coming a message tells.
fn received(message: &Message) -> Option<(Topic, EventSeq)> {
    let NewMessage { topic, data, .. } = &message.message;
    if topic.as_str() != "taskbot.event.received" {
        return None;
    }
    let data = data.value();
    Some((Topic::new(data.get("topic")?.as_str()?), EventSeq(data.get("seq")?.as_i64()?)))
}
