//! The same id again with other bytes: a conflict, unless both say the same.

use super::{session::Session, value::values};
use crate::{NewDeadLetter, Result, sql::value::json};
use model::{Event, ids::EventSeq};
use serde_json::Value;

const STORED: &str = "select topic, payload from event where seq = $1";

/// Whether the event that is there says the same in other bytes: one topic, and bodies that are equal once they are
/// parsed. A bridge that writes a message anew changes white space and the order of fields, and nothing that a
/// rule can see. Looked at only when the bytes differ.
pub(crate) async fn says_the_same(session: &mut Session, event: &Event, first: EventSeq) -> Result<bool> {
    let Some(row) = session.first(STORED, values![first]).await? else { return Ok(false) };
    // A body that has expired cannot be compared.
    let Some(payload) = row.bytes_opt("payload")? else { return Ok(false) };
    if row.text("topic")? != event.topic.as_str() {
        return Ok(false);
    }
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    Ok(parse(&payload).is_some_and(|stored| parse(&event.payload) == Some(stored)))
}

/// The dead letter of an event whose id was there with another content.
pub(crate) fn letter(event: &Event, first: EventSeq) -> Result<NewDeadLetter> {
    Ok(NewDeadLetter {
        source: event.source.clone(),
        topic: Some(event.topic.as_str().to_owned()),
        event_id: Some(event.id.as_str().to_owned()),
        headers: json(&event.headers)?,
        payload: event.payload.to_vec(),
        reason: format!("event {first} has the same id and another content"),
        deliveries: 1,
    })
}
