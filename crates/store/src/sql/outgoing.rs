//! What a transaction tells: rows of the outbox, and own events that wait in the inbox to be judged.

use super::{
    session::{Bulk, Kind, Session},
    value::{Value, json, values},
};
use crate::Result;
use chrono::{DateTime, Utc};
use model::{
    Event, Task, TaskId,
    event::OWN_SOURCE,
    ids::{EventId, SourceName},
    message::{NewMessage, TaskChange},
};

static OUTBOX: Bulk = Bulk {
    table: "outbox",
    columns: &[
        ("topic", Kind::Text),
        ("subject", Kind::Text),
        ("order_key", Kind::Text),
        ("data", Kind::Text),
        ("task_id", Kind::Id),
        ("depth", Kind::Int),
        ("traceparent", Kind::Text),
        ("created_at", Kind::Time),
    ],
    tail: "",
};

/// An own event happens once, whatever happens twice.
static OWN_EVENTS: Bulk =
    Bulk { table: "event", columns: EVENT_COLUMNS, tail: "on conflict (domain, id) do nothing" };

pub(crate) const EVENT_COLUMNS: &[(&str, Kind)] = &[
    ("domain", Kind::Text),
    ("id", Kind::Text),
    ("content_hash", Kind::Bytes),
    ("source", Kind::Text),
    ("topic", Kind::Text),
    ("time", Kind::Time),
    ("received_at", Kind::Time),
    ("headers", Kind::Text),
    ("payload", Kind::Bytes),
    ("depth", Kind::Int),
    ("cause", Kind::Id),
    ("traceparent", Kind::Text),
    ("generation", Kind::Int),
    ("revision", Kind::Text),
    ("hold_until", Kind::Time),
];

/// The values of [`EVENT_COLUMNS`].
pub(crate) fn event_values(
    event: &Event,
    revision: Option<&model::Revision>,
    hold_until: Option<DateTime<Utc>>,
) -> Result<Vec<Value>> {
    Ok(values![
        &event.domain,
        &event.id,
        event.content_hash(),
        &event.source,
        &event.topic,
        event.time,
        event.received_at,
        json(&event.headers)?,
        &*event.payload,
        event.depth,
        event.cause,
        event.traceparent.as_ref(),
        0_i64,
        revision,
        hold_until,
    ])
}

/// What a transaction tells, in order.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    messages: Vec<NewMessage>,
    events: Vec<Event>,
}

impl Outgoing {
    /// Tells a message.
    pub(crate) fn tell(&mut self, message: NewMessage) {
        self.messages.push(message);
    }

    /// Tells that a task changed.
    pub(crate) fn task(&mut self, task: &Task, change: TaskChange) {
        self.tell(NewMessage::task(task, change));
    }

    /// Tells a message that is also an event of ours: `id` is derived from what happened, `depth` is that of
    /// what caused it.
    pub(crate) fn chain(
        &mut self,
        message: NewMessage,
        id: String,
        depth: u32,
        cause: Option<TaskId>,
        now: DateTime<Utc>,
    ) {
        if message.topic.may_chain() {
            self.events.push(Event {
                source: SourceName::from(OWN_SOURCE),
                domain: SourceName::from(OWN_SOURCE),
                id: EventId::new(id),
                topic: message.topic.clone(),
                time: Some(now),
                received_at: now,
                headers: serde_json::Map::new(),
                payload: message.data.get().as_bytes().into(),
                depth: depth.saturating_add(1),
                cause,
                traceparent: message.traceparent.clone(),
            });
        }
        self.tell(message);
    }

    /// An event of ours that is told by another message than itself.
    pub(crate) fn own_event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Writes it all. To be called when every row that it tells of is locked: then the order of ids is, for
    /// each task, the order of commits.
    pub(crate) async fn write(self, session: &mut Session) -> Result<()> {
        let now = session.now;
        let messages = self.messages.iter().map(|message| {
            Ok(values![
                &message.topic,
                &message.subject,
                &message.order_key,
                message.data.get(),
                message.task,
                message.depth,
                message.traceparent.as_ref(),
                now,
            ])
        });
        let messages = messages.collect::<Result<_>>()?;
        session.insert_later(&OUTBOX, messages).await?;
        let mut events = self.events;
        // In the order of identities, so that no two transactions wait for each other.
        events.sort_by(|a, b| a.id.cmp(&b.id));
        let events =
            events.iter().map(|event| event_values(event, None, Some(now))).collect::<Result<_>>()?;
        session.insert_later(&OWN_EVENTS, events).await
    }
}
