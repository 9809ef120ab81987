//! The outbox: stamping, publishing, streaming.

use super::{
    SqlStore,
    session::{Session, Sql, transaction},
    value::{Row, Value, values},
};
use crate::{Outbox, Result};
use async_trait::async_trait;
use model::{
    Topic,
    ids::{OutboxId, Position},
    message::{Message, NewMessage},
};

/// The row of the last position is locked: a second caller waits, and no position is given twice.
const LOCK_RELAY: Sql =
    Sql { sqlite: "select position from relay", postgres: "select position from relay for update" };
const STAMP: Sql = Sql {
    sqlite: "update outbox set position = next.position from (\
        select id, $1 + row_number() over (order by id) as position from (\
            select id from outbox where position is null order by id limit $2)) as next \
        where outbox.id = next.id",
    postgres: "update outbox o set position = next.position from (\
        select id, $1::bigint + row_number() over (order by id) as position from (\
            select id from outbox where position is null order by id limit $2) as heads) as next \
        where o.id = next.id",
};
const STAMPED: &str = "update relay set position = position + $1";
const UNPUBLISHED: &str = "select * from outbox where position is not null and published_at is null \
    order by position limit $1";
const PUBLISHED: Sql = Sql {
    sqlite: "update outbox set published_at = $2 where id in (select value from json_each($1))",
    postgres: "update outbox set published_at = $2 where id = any($1)",
};
const STREAM: &str =
    "select * from outbox where position is not null and position > $1 order by position limit $2";
const POSITIONS: &str = "select r.position as last, \
    (select min(o.position) from outbox o where o.position is not null) as oldest from relay r";

#[async_trait]
impl Outbox for SqlStore {
    async fn stamp(&self, limit: u32) -> Result<u64> {
        transaction!(self, |session| stamp(session, limit))
    }

    async fn unpublished(&self, limit: u32) -> Result<Vec<Message>> {
        read_all(&self.read().await?.all(UNPUBLISHED, values![limit]).await?)
    }

    async fn published(&self, ids: &[OutboxId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        // Forgotten, they are published once more, under the same ids.
        transaction!(
            self,
            passing | session | {
                let values = vec![Value::Ints(ids.clone()), session.now.into()];
                session.run(PUBLISHED, values)
            }
        )?;
        Ok(())
    }

    async fn stream(&self, after: Position, limit: u32) -> Result<Vec<Message>> {
        read_all(&self.read().await?.all(STREAM, values![after, limit]).await?)
    }

    async fn positions(&self) -> Result<(Position, Position)> {
        let row = self.read().await?.one(POSITIONS, Vec::new()).await?;
        let last = row.int("last")?;
        Ok((Position(last), Position(row.int_opt("oldest")?.unwrap_or(last))))
    }
}

async fn stamp(session: &mut Session, limit: u32) -> Result<u64> {
    let last = session.one(LOCK_RELAY, Vec::new()).await?.int("position")?;
    let stamped = session.run(STAMP, values![last, limit]).await?;
    if stamped > 0 {
        session.run(STAMPED, values![stamped]).await?;
    }
    Ok(stamped)
}

fn read_all(rows: &[Row]) -> Result<Vec<Message>> {
    let read = |row: &Row| {
        Ok(Message {
            id: OutboxId(row.int("id")?),
            message: NewMessage {
                topic: Topic::new(row.text("topic")?),
                subject: row.text("subject")?,
                order_key: row.text("order_key")?,
                data: row.json_text("data")?,
                task: row.id_opt("task_id")?.map(Into::into),
                depth: row.number("depth")?,
                traceparent: row.text_opt("traceparent")?,
            },
            created_at: row.time("created_at")?,
            position: row.int_opt("position")?.map(Position),
        })
    };
    rows.iter().map(read).collect()
}
