//! Windows that collect events for one later firing. A window that is due becomes an event of ours in the
//! transaction that closes it, so that it fires once.

use super::{
    SqlStore,
    inbox_read::read_event,
    session::{Bulk, Kind, Session, Sql, transaction},
    value::{Row, json, values},
    work::Work,
};
use crate::{
    COLLECT_BYTES_MAX, COLLECT_EVENTS_MAX, COLLECT_NESTING_MAX, CollectWindow, NewCollect, Result,
    StoredEvent,
};
use chrono::{DateTime, SecondsFormat, Utc};
use model::{
    Event, RuleName, Topic,
    event::OWN_SOURCE,
    ids::{EventId, EventSeq, SourceName},
    message::{JsonText, NewMessage},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The topic of the event that a window becomes.
const DUE: &str = "taskbot.collect.due";
/// How much longer than a window's bodies its event is at most for each event: ids, topics, punctuation.
const EVENT_FRAME_BYTES: u64 = 2048;

const OPEN: &str = "insert into collect_window (rule, key_hash, key, first_at, last_at, due_at, events, size_bytes) \
    values ($1, $2, $3, $4, $4, $5, 0, 0) \
    on conflict (rule, key_hash) do update set last_at = excluded.last_at \
    returning id, rule, key, first_at, last_at, due_at, events, size_bytes";
const GROW: &str = "update collect_window set due_at = $2, events = $3, size_bytes = $4 where id = $1";
const ADD: Bulk = Bulk {
    table: "collect_event",
    columns: &[("window_id", Kind::Int), ("place", Kind::Int), ("event_seq", Kind::Int)],
    tail: "",
};
const DUE_WINDOWS: Sql = Sql {
    sqlite: "select * from collect_window where due_at <= $1 order by due_at, id limit $2",
    postgres: "select * from collect_window where due_at <= $1 order by due_at, id limit $2 for update skip locked",
};
const ANY_DUE: &str = "select 1 as one from collect_window where due_at <= $1 limit 1";
const EVENTS: &str = "select e.* from collect_event c join event e on e.seq = c.event_seq where c.window_id = $1 \
    order by c.place";
const CLOSE: &str = "delete from collect_window where id = $1";
const EMPTY: &str = "delete from collect_event where window_id = $1";
const WINDOWS: &str =
    "select * from collect_window where $1 is null or rule = $1 order by due_at, id limit $2";
const WINDOWS_POSTGRES: &str =
    "select * from collect_window where $1::text is null or rule = $1 order by due_at, id limit $2";

/// Events that a transaction collects, by rule and key, in their order.
#[derive(Debug, Default)]
pub(crate) struct Collecting<'a>(BTreeMap<(&'a RuleName, &'a str), OfKey<'a>>);

/// What a transaction collects under one key.
#[derive(Debug)]
struct OfKey<'a> {
    /// The last wish: it decides when the window is due.
    wish: &'a NewCollect,
    /// With the bytes that each takes.
    events: Vec<(EventSeq, u64)>,
}

/// A window's row.
struct Window {
    id: i64,
    shown: CollectWindow,
    size_bytes: u64,
}

impl Window {
    fn read(row: &Row) -> Result<Self> {
        let shown = CollectWindow {
            rule: row.text("rule")?.into(),
            key: row.text("key")?,
            first_at: row.time("first_at")?,
            last_at: row.time("last_at")?,
            due_at: row.time("due_at")?,
            events: row.number("events")?,
        };
        Ok(Self { id: row.int("id")?, shown, size_bytes: row.number("size_bytes")? })
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        self.shown.events == 0
            || (self.shown.events < COLLECT_EVENTS_MAX && self.size_bytes + bytes <= COLLECT_BYTES_MAX)
    }
}

impl<'a> Collecting<'a> {
    /// Collects an event.
    pub(crate) fn add(&mut self, wish: &'a NewCollect, seq: EventSeq, event: &Event) -> Result<()> {
        let bytes = json(&event.headers)?.len() as u64 + body_bytes(event) + EVENT_FRAME_BYTES;
        let of_key = || OfKey { wish, events: Vec::new() };
        let entry = self.0.entry((&wish.rule, &wish.key)).or_insert_with(of_key);
        entry.wish = wish;
        entry.events.push((seq, bytes));
        Ok(())
    }

    /// Writes what was collected; windows that are full are closed.
    pub(crate) async fn write(self, work: &mut Work<'_>) -> Result<()> {
        for OfKey { wish, events } in self.0.into_values() {
            collect(work, wish, &events).await?;
        }
        Ok(())
    }
}

/// How many bytes of an event's body a window takes.
fn body_bytes(event: &Event) -> u64 {
    if is_left_out(&event.payload) { 0 } else { event.payload.len() as u64 }
}

/// Whether a body is too large, or nested too deep, to be put into another.
fn is_left_out(payload: &[u8]) -> bool {
    payload.len() as u64 > COLLECT_BYTES_MAX || nesting(payload) > COLLECT_NESTING_MAX
}

/// How deep JSON is nested.
fn nesting(payload: &[u8]) -> usize {
    let (mut depth, mut deepest, mut text, mut escaped) = (0_usize, 0, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'{' | b'[' if !text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

async fn collect(work: &mut Work<'_>, wish: &NewCollect, events: &[(EventSeq, u64)]) -> Result<()> {
    let mut left = events;
    while !left.is_empty() {
        let mut window = open(work, wish).await?;
        let mut rows = Vec::new();
        while let [(seq, bytes), rest @ ..] = left
            && window.has_room_for(*bytes)
        {
            rows.push(values![window.id, window.shown.events, *seq]);
            window.shown.events += 1;
            window.size_bytes += bytes;
            left = rest;
        }
        work.session.insert(&ADD, rows).await?;
        if left.is_empty() {
            let due = due_at(wish, window.shown.first_at, work.now);
            let values = values![window.id, due, window.shown.events, window.size_bytes];
            work.session.run(GROW, values).await?;
        } else {
            close(work, &window).await?;
        }
    }
    Ok(())
}

async fn open(work: &mut Work<'_>, wish: &NewCollect) -> Result<Window> {
    let now = work.now;
    let values = values![&wish.rule, hash_of(&wish.rule, &wish.key), &wish.key, now, due_at(wish, now, now)];
    Window::read(&work.session.one(OPEN, values).await?)
}

fn due_at(wish: &NewCollect, first_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    let quiet = now + wish.quiet;
    wish.at_most_every.map_or(quiet, |most| quiet.min(first_at + most))
}

fn hash_of(rule: &RuleName, key: &str) -> [u8; 32] {
    let length = (rule.as_str().len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(rule.as_str()).chain_update(key).finalize().into()
}

/// Makes a window an event of ours, and forgets it.
async fn close(work: &mut Work<'_>, window: &Window) -> Result<()> {
    let rows = work.session.all(EVENTS, values![window.id]).await?;
    let events = rows.iter().map(read_event).collect::<Result<Vec<_>>>()?;
    let CollectWindow { rule, key, first_at, last_at, .. } = &window.shown;
    let number = window.id;
    let time = |time: &DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut told = json!({
        "rule": rule, "key": key, "window": number, "first_at": time(first_at), "last_at": time(last_at),
    });
    let depth = events.iter().map(|stored| stored.event.depth).max().unwrap_or(0);
    let traceparent = events.last().and_then(|stored| stored.event.traceparent.clone());
    work.out.own_event(Event {
        source: SourceName::from(OWN_SOURCE),
        domain: SourceName::from(OWN_SOURCE),
        id: EventId::new(format!("collect:{}:{number}", hex::encode(&hash_of(rule, key)[..12]))),
        topic: Topic::from(DUE),
        time: Some(work.now),
        received_at: work.now,
        headers: serde_json::Map::new(),
        payload: body(&told, &events)?.into_bytes().into(),
        depth: depth.saturating_add(1),
        cause: None,
        traceparent: traceparent.clone(),
    });
    // On the bus it is told without its events, which are told already.
    told["events"] = events.len().into();
    work.out.tell(NewMessage {
        topic: DUE.into(),
        subject: rule.to_string(),
        order_key: format!("rule:{rule}"),
        data: JsonText::of(&told),
        task: None,
        depth,
        traceparent,
    });
    work.session.run(EMPTY, values![number]).await?;
    work.session.run(CLOSE, values![number]).await?;
    Ok(())
}

/// The body of the event: what is told, and the events, whose bodies go in as they came.
fn body(told: &serde_json::Value, events: &[StoredEvent]) -> Result<String> {
    let mut text = json(told)?;
    text.pop();
    text.push_str(",\"events\":[");
    for (n, stored) in events.iter().enumerate() {
        let StoredEvent { seq, event, .. } = stored;
        let mut one = json(&json!({
            "seq": seq, "id": event.id, "topic": event.topic, "source": event.source, "time": event.time,
            "headers": event.headers,
        }))?;
        one.pop();
        text.push_str(if n == 0 { "" } else { "," });
        text.push_str(&one);
        match std::str::from_utf8(&event.payload) {
            Ok(payload) if !payload.is_empty() && !is_left_out(&event.payload) => {
                text.push_str(",\"body\":");
                text.push_str(payload);
            }
            _ => text.push_str(",\"body\":null,\"body_left_out\":true"),
        }
        text.push('}');
    }
    text.push_str("]}");
    Ok(text)
}

/// Whether a window is due, looked at often.
pub(crate) async fn any_due(session: &mut Session, now: DateTime<Utc>) -> Result<bool> {
    Ok(session.first(ANY_DUE, values![now]).await?.is_some())
}

/// Closes windows that are due.
pub(crate) async fn close_due(store: &SqlStore, limit: u32) -> Result<u64> {
    transaction!(store, |session| close_due_in(store, session, limit))
}

async fn close_due_in(store: &SqlStore, session: &mut Session, limit: u32) -> Result<u64> {
    let now = session.now;
    let mut windows = Vec::new();
    for row in session.all(DUE_WINDOWS, values![now, limit]).await? {
        windows.push(Window::read(&row)?);
    }
    let mut work = Work::new(session, store);
    for window in &windows {
        close(&mut work, window).await?;
    }
    work.done().await?;
    Ok(windows.len() as u64)
}

pub(crate) async fn windows(
    session: &mut Session,
    rule: Option<&RuleName>,
    limit: u32,
) -> Result<Vec<CollectWindow>> {
    let sql = Sql { sqlite: WINDOWS, postgres: WINDOWS_POSTGRES };
    let rows = session.all(sql, values![rule, limit]).await?;
    rows.iter().map(|row| Ok(Window::read(row)?.shown)).collect()
}

#[cfg(test)]
mod tests {
    use super::nesting;

    #[test]
    fn nesting_is_counted_outside_of_texts() {
        for (text, expect) in [
            ("{}", 1),
            (r#"{"a": [1, {"b": []}], "c": {}}"#, 4),
            (r#"{"a": "[[[[", "b": "\"[[", "c": "\\"}"#, 1),
            ("1", 0),
        ] {
            assert_eq!(nesting(text.as_bytes()), expect, "{text}");
        }
    }
}
