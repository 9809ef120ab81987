//! The dead letters.

use super::{
    SqlStore,
    session::{Session, transaction},
    tasks::cut,
    value::{Row, values},
    where_clause::{Where, page},
};
use crate::{DeadLetter, DeadLetters, NewDeadLetter, Page, Result, StoreError};
use async_trait::async_trait;
use model::ids::DeadLetterId;
use sha2::{Digest, Sha256};

/// The longest topic, id or reason that is kept of a letter, in bytes.
const LETTER_TEXT_BYTES_MAX: usize = 4096;

const BURY: &str = "insert into dead_letter (hash, source, topic, event_id, headers, payload, size_bytes, reason, \
    deliveries, created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    on conflict (hash) do update set reason = excluded.reason, \
    deliveries = case when excluded.deliveries > dead_letter.deliveries then excluded.deliveries \
        else dead_letter.deliveries end \
    returning id";

#[async_trait]
impl DeadLetters for SqlStore {
    async fn bury(&self, letters: &[NewDeadLetter]) -> Result<Vec<DeadLetterId>> {
        transaction!(self, |session| bury(session, letters))
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<DeadLetter> {
        let row = self.read().await?.first("select * from dead_letter where id = $1", values![id]).await?;
        let row = row.ok_or_else(|| not_found(id))?;
        Ok(DeadLetter { payload: row.bytes("payload")?, ..read(&row)? })
    }

    async fn dead_letters(&self, before: Option<DeadLetterId>, limit: u32) -> Result<Page<DeadLetter>> {
        let mut session = self.read().await?;
        let mut conditions = Where::new(session.dialect());
        conditions.maybe("id < ?", before);
        let select = "select id, source, topic, event_id, headers, size_bytes, reason, deliveries, created_at \
            from dead_letter";
        let (sql, values) = conditions.statement(select, "id desc", limit);
        let letters = session.all(sql, values).await?.iter().map(read).collect::<Result<_>>()?;
        Ok(page(letters, limit, |letter| letter.id.to_string()))
    }

    async fn drop_dead_letter(&self, id: DeadLetterId) -> Result<()> {
        let sql = "delete from dead_letter where id = $1";
        match transaction!(self, |session| session.run(sql, values![id]))? {
            0 => Err(not_found(id)),
            _ => Ok(()),
        }
    }
}

fn not_found(id: DeadLetterId) -> StoreError {
    StoreError::NotFound { what: "dead letter", id: id.to_string() }
}

/// Writes letters. Whatever their texts hold, they are kept: NUL characters are replaced.
pub(crate) async fn bury(session: &mut Session, letters: &[NewDeadLetter]) -> Result<Vec<DeadLetterId>> {
    let now = session.now;
    let text = |text: &str| cut(text, LETTER_TEXT_BYTES_MAX);
    let mut ids = Vec::with_capacity(letters.len());
    // In the order of hashes, so that no two transactions wait for each other.
    let mut order: Vec<_> = letters.iter().map(hash_of).enumerate().collect();
    order.sort_by_key(|(_, hash)| *hash);
    for (at, hash) in order {
        let Some(letter) = letters.get(at) else { continue };
        let values = values![
            hash,
            text(letter.source.as_str()),
            letter.topic.as_deref().map(text),
            letter.event_id.as_deref().map(text),
            letter.headers.replace('\0', "\u{fffd}"),
            letter.payload.as_slice(),
            letter.payload.len() as u64,
            text(&letter.reason),
            letter.deliveries,
            now,
        ];
        ids.push((at, DeadLetterId(session.one(BURY, values).await?.int("id")?)));
    }
    ids.sort_by_key(|(at, _)| *at);
    Ok(ids.into_iter().map(|(_, id)| id).collect())
}

/// The hash of source, id and bytes.
fn hash_of(letter: &NewDeadLetter) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [letter.source.as_str(), letter.event_id.as_deref().unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(&letter.payload);
    hash.finalize().into()
}

fn read(row: &Row) -> Result<DeadLetter> {
    Ok(DeadLetter {
        id: DeadLetterId(row.int("id")?),
        source: row.text("source")?.into(),
        topic: row.text_opt("topic")?,
        event_id: row.text_opt("event_id")?,
        headers: row.text("headers")?,
        payload: Vec::new(),
        size_bytes: row.number("size_bytes")?,
        reason: row.text("reason")?,
        deliveries: row.number("deliveries")?,
        created_at: row.time("created_at")?,
    })
}
