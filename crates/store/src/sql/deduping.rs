//! Wishes with a `dedupe` key: one within a window, by the database's clock.

use super::{
    session::{Bulk, Kind, Session, Sql},
    value::{Value, values},
};
use crate::{Dedupe, Result};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};

/// `until - made_at` is the window: the new wish's decides.
const WISH: Bulk = Bulk {
    table: "wish",
    columns: &[("hash", Kind::Bytes), ("made_at", Kind::Time), ("until", Kind::Time)],
    tail: "on conflict (hash) do update set made_at = excluded.made_at, until = excluded.until \
        where wish.made_at <= excluded.made_at - (excluded.until - excluded.made_at) returning hash",
};

/// The hash that stands for scope and key.
pub(crate) fn hash_of(dedupe: &Dedupe) -> [u8; 32] {
    let length = (dedupe.scope.len() as u64).to_be_bytes();
    Sha256::new().chain_update(length).chain_update(&dedupe.scope).chain_update(&dedupe.key).finalize().into()
}

/// Wishes by hash, each with the end of its window: in this order no two transactions wait for each other.
pub(crate) type Wishes = BTreeMap<[u8; 32], DateTime<Utc>>;

/// Makes wishes; gives the hashes of those that were not made within their window before.
pub(crate) async fn make_wishes(session: &mut Session, wishes: Wishes) -> Result<HashSet<[u8; 32]>> {
    let now = session.now;
    let rows = wishes.into_iter().map(|(hash, until)| values![hash, now, until]).collect();
    let made = session.insert(&WISH, rows).await?;
    made.iter().map(|row| row.hash("hash")).collect()
}

const FORGET: Sql = Sql {
    sqlite: "delete from wish where hash in (select unhex(value) from json_each($1))",
    postgres: "delete from wish where hash = any($1)",
};

/// Forgets wishes that this transaction made, and that came to nothing.
pub(crate) async fn forget(session: &mut Session, hashes: &[[u8; 32]]) -> Result<()> {
    if !hashes.is_empty() {
        let hashes = hashes.iter().map(|hash| hash.to_vec()).collect();
        session.run(FORGET, vec![Value::Hashes(hashes)]).await?;
    }
    Ok(())
}

/// The end of a wish's window. One that is too long for the calendar is a hundred years.
pub(crate) fn until(now: DateTime<Utc>, dedupe: &Dedupe) -> DateTime<Utc> {
    const WINDOW_SECONDS_MAX: u64 = 100 * 366 * 24 * 3600;
    let seconds = dedupe.window.as_secs().min(WINDOW_SECONDS_MAX);
    let window = std::time::Duration::new(seconds, dedupe.window.subsec_nanos());
    now + window
}
