//! Documents of other systems' interfaces, by kind and name.

use super::{
    SqlStore,
    session::transaction,
    value::{Row, json, values},
};
use crate::{FOREIGN_RECORD_BYTES_MAX, ForeignRecord, Result, StoreError};
use chrono::{DateTime, Utc};
use serde_json::Value;

const ONE: &str = "select name, version, body, expires_at, updated_at from foreign_record \
    where system = $1 and kind = $2 and name = $3 and (expires_at is null or expires_at > $4)";
const ALL: &str = "select name, version, body, expires_at, updated_at from foreign_record \
    where system = $1 and kind = $2 and (expires_at is null or expires_at > $3) order by name";
const FORGET: &str =
    "delete from foreign_record where system = $1 and kind = $2 and name = $3 and expires_at <= $4";
const INSERT: &str = "insert into foreign_record (system, kind, name, version, body, expires_at, updated_at) \
    values ($1, $2, $3, 1, $4, $5, $6) on conflict (system, kind, name) do nothing";
const UPDATE: &str = "update foreign_record set version = version + 1, body = $4, expires_at = $5, updated_at = $6 \
    where system = $1 and kind = $2 and name = $3 and version = $7";
const REMOVE: &str = "delete from foreign_record where system = $1 and kind = $2 and name = $3";

fn read(row: &Row) -> Result<ForeignRecord> {
    Ok(ForeignRecord {
        name: row.text("name")?,
        version: row.int("version")?,
        body: row.json("body")?,
        expires_at: row.time_opt("expires_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(crate) async fn one(
    store: &SqlStore,
    system: &str,
    kind: &str,
    name: &str,
) -> Result<Option<ForeignRecord>> {
    let now = store.now_of_database().await?;
    let row = store.read().await?.first(ONE, values![system, kind, name, now]).await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn all(store: &SqlStore, system: &str, kind: &str) -> Result<Vec<ForeignRecord>> {
    let now = store.now_of_database().await?;
    let rows = store.read().await?.all(ALL, values![system, kind, now]).await?;
    rows.iter().map(read).collect()
}

pub(crate) async fn put(
    store: &SqlStore,
    (system, kind, name): (&str, &str, &str),
    version: Option<i64>,
    body: &Value,
    expires_at: Option<DateTime<Utc>>,
) -> Result<bool> {
    let body = json(body)?;
    if body.len() > FOREIGN_RECORD_BYTES_MAX {
        return Err(StoreError::Poison(format!(
            "{kind} {name} would have {} bytes; at most {FOREIGN_RECORD_BYTES_MAX} are kept",
            body.len()
        )));
    }
    let written = transaction!(store, |session| async {
        let now = session.now;
        match version {
            None => {
                session.run(FORGET, values![system, kind, name, now]).await?;
                session.run(INSERT, values![system, kind, name, &body, expires_at, now]).await
            }
            Some(version) => {
                session.run(UPDATE, values![system, kind, name, &body, expires_at, now, version]).await
            }
        }
    })?;
    Ok(written > 0)
}

pub(crate) async fn remove(store: &SqlStore, system: &str, kind: &str, name: &str) -> Result<bool> {
    Ok(transaction!(store, |session| session.run(REMOVE, values![system, kind, name]))? > 0)
}
