//! Reading the inbox.

use super::{
    session::Session,
    value::{Row, values},
    where_clause::{Where, page},
};
use crate::{EventQuery, Firing, Page, Result, StoreError, StoredEvent};
use model::{Event, EventId, Topic, ids::EventSeq};

/// How many events are found by the start of an id.
const BY_PREFIX_MAX: u32 = 10;

pub(crate) fn read_event(row: &Row) -> Result<StoredEvent> {
    let payload = row.bytes_opt("payload")?;
    let body_expired = payload.is_none();
    let event = Event {
        source: row.text("source")?.into(),
        domain: row.text("domain")?.into(),
        id: row.text("id")?.into(),
        topic: Topic::new(row.text("topic")?),
        time: row.time_opt("time")?,
        received_at: row.time("received_at")?,
        headers: row.json("headers")?,
        payload: payload.unwrap_or_default().into(),
        depth: row.number("depth")?,
        cause: row.id_opt("cause")?.map(Into::into),
        traceparent: row.text_opt("traceparent")?,
    };
    Ok(StoredEvent {
        seq: EventSeq(row.int("seq")?),
        event,
        generation: row.number("generation")?,
        revision: match row.time_opt("hold_until")? {
            Some(_) => None,
            None => row.text_opt("revision")?.map(Into::into),
        },
        body_expired,
    })
}

pub(crate) async fn event(session: &mut Session, seq: EventSeq) -> Result<StoredEvent> {
    let row = session.first("select * from event where seq = $1", values![seq]).await?;
    read_event(&row.ok_or_else(|| StoreError::NotFound { what: "event", id: seq.to_string() })?)
}

pub(crate) async fn by_id(session: &mut Session, id: &EventId) -> Result<Vec<StoredEvent>> {
    let exact = "select * from event where id = $1 order by seq desc limit $2";
    let mut rows = session.all(exact, values![id, BY_PREFIX_MAX]).await?;
    if rows.is_empty() && !id.as_str().is_empty() {
        // A range, so that the index serves it: ids that start with the text are not less than it.
        let prefix =
            "select * from event where id >= $1 and substr(id, 1, length($1)) = $1 order by id limit $2";
        rows = session.all(prefix, values![id, BY_PREFIX_MAX]).await?;
    }
    rows.iter().map(read_event).collect()
}

pub(crate) async fn list(session: &mut Session, query: &EventQuery) -> Result<Page<StoredEvent>> {
    let mut conditions = Where::new(session.dialect());
    conditions.maybe("topic = ?", query.topic.as_ref());
    conditions.maybe("substr(topic, 1, length(?)) = ?", query.topic_prefix.as_ref());
    conditions.maybe("source = ?", query.source.as_ref());
    conditions.maybe("received_at >= ?", query.since);
    conditions.maybe("received_at < ?", query.until);
    let (before, order) = if query.oldest_first { ("seq > ?", "seq") } else { ("seq < ?", "seq desc") };
    conditions.maybe(before, query.before);
    let (sql, values) = conditions.statement("select * from event", order, query.limit);
    let events = session.all(sql, values).await?.iter().map(read_event).collect::<Result<_>>()?;
    Ok(page(events, query.limit, |event| event.seq.to_string()))
}

pub(crate) async fn firings(session: &mut Session, event: EventSeq) -> Result<Vec<Firing>> {
    let sql = "select * from firing where event_seq = $1 order by id";
    let read = |row: &Row| {
        Ok(Firing {
            event: EventSeq(row.int("event_seq")?),
            generation: row.number("generation")?,
            revision: row.text("revision")?.into(),
            verdict: row.json("verdict")?,
            at: row.time("at")?,
        })
    };
    session.all(sql, values![event]).await?.iter().map(read).collect()
}
