//! Tokens and the audit record.

use super::{
    SqlStore,
    session::{Bulk, Kind, Session, transaction},
    value::{Row, json, values},
    where_clause::{Where, page},
};
use crate::{Access, AuditRecord, Page, Result, StoreError, Token};
use async_trait::async_trait;
use chrono::Duration;
use model::ids::TokenId;

/// A token's use is noted to so much.
const LAST_USED_GRAIN: Duration = Duration::minutes(1);

const ADD: &str = "insert into token (id, name, role, secret_hash, created_at, expires_at, last_used_at, \
    bounds) values ($1, $2, $3, $4, $5, $6, $7, $8)";
const USED: &str = "update token set last_used_at = $2 where id = $1";
static AUDIT: Bulk = Bulk {
    table: "audit",
    columns: &[
        ("at", Kind::Time),
        ("who", Kind::Text),
        ("action", Kind::Text),
        ("object", Kind::Text),
        ("detail", Kind::Text),
    ],
    tail: "",
};

#[async_trait]
impl Access for SqlStore {
    async fn add_token(&self, token: &Token) -> Result<()> {
        let bounds = if token.bounds.is_none() { None } else { Some(json(&token.bounds)?) };
        let values = values![
            token.id,
            &token.name,
            token.role.to_string(),
            token.secret_hash,
            token.created_at,
            token.expires_at,
            token.last_used_at,
            bounds,
        ];
        transaction!(self, |session| session.run(ADD, values.clone()))?;
        Ok(())
    }

    async fn use_token(&self, id: TokenId) -> Result<Option<Token>> {
        let row = self.read().await?.first("select * from token where id = $1", values![id]).await?;
        let Some(mut token) = row.as_ref().map(read).transpose()? else { return Ok(None) };
        let now = self.now_of_database().await?;
        if token.last_used_at.is_none_or(|last| now - last >= LAST_USED_GRAIN) {
            transaction!(self, |session| session.run(USED, values![id, now]))?;
            token.last_used_at = Some(now);
        }
        Ok(Some(token))
    }

    async fn tokens(&self) -> Result<Vec<Token>> {
        let rows = self.read().await?.all("select * from token order by name, id", Vec::new()).await?;
        rows.iter().map(read).collect()
    }

    async fn revoke_token(&self, id: TokenId) -> Result<()> {
        let sql = "delete from token where id = $1";
        match transaction!(self, |session| session.run(sql, values![id]))? {
            0 => Err(StoreError::NotFound { what: "token", id: id.to_string() }),
            _ => Ok(()),
        }
    }

    async fn audit(&self, record: &AuditRecord) -> Result<()> {
        transaction!(self, |session| audit(session, vec![record.clone()]))
    }

    async fn audit_log(&self, before: Option<i64>, limit: u32) -> Result<Page<AuditRecord>> {
        let mut session = self.read().await?;
        let mut conditions = Where::new(session.dialect());
        conditions.maybe("id < ?", before);
        let (sql, values) = conditions.statement("select * from audit", "id desc", limit);
        let rows = session.all(sql, values).await?;
        let records = rows.iter().map(read_record).collect::<Result<_>>()?;
        let Page { items, next } = page(records, limit, |(id, _): &(i64, AuditRecord)| id.to_string());
        Ok(Page { items: items.into_iter().map(|(_, record)| record).collect(), next })
    }
}

/// Writes audit records, at the time of the transaction.
pub(crate) async fn audit(session: &mut Session, records: Vec<AuditRecord>) -> Result<()> {
    let now = session.now;
    let row = |record: &AuditRecord| {
        Ok(values![now, &record.who, &record.action, &record.object, json(&record.detail)?])
    };
    let rows = records.iter().map(row).collect::<Result<_>>()?;
    session.insert_later(&AUDIT, rows).await
}

fn read(row: &Row) -> Result<Token> {
    Ok(Token {
        id: row.id("id")?.into(),
        name: row.text("name")?,
        role: row.parsed("role")?,
        secret_hash: row.hash("secret_hash")?,
        created_at: row.time("created_at")?,
        expires_at: row.time_opt("expires_at")?,
        last_used_at: row.time_opt("last_used_at")?,
        bounds: row.json_opt("bounds")?.unwrap_or_default(),
    })
}

fn read_record(row: &Row) -> Result<(i64, AuditRecord)> {
    let record = AuditRecord {
        at: row.time("at")?,
        who: row.text("who")?,
        action: row.text("action")?,
        object: row.text("object")?,
        detail: row.json("detail")?,
    };
    Ok((row.int("id")?, record))
}
