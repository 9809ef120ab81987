//! The places of sinks.

use super::{
    SqlStore,
    session::transaction,
    value::{Row, values},
};
use crate::{Result, SinkPlace, Sinks, StoreError};
use async_trait::async_trait;
use model::ids::Position;

const NEW: &str = "insert into sink (name, position, since) select $1, position, $2 from relay \
    where true on conflict (name) do nothing";
const ONE: &str = "select name, position, since from sink where name = $1";
const ALL: &str = "select name, position, since from sink order by name";
const ADVANCE: &str = "update sink set position = $2, since = $3 where name = $1 and position < $2";
const FORGET: &str = "delete from sink where name = $1";

#[async_trait]
impl Sinks for SqlStore {
    async fn sink(&self, name: &str) -> Result<SinkPlace> {
        if let Some(row) = self.read().await?.first(ONE, values![name]).await? {
            return read(&row);
        }
        transaction!(self, |session| async {
            let now = session.now;
            session.run(NEW, values![name, now]).await?;
            read(&session.one(ONE, values![name]).await?)
        })
    }

    async fn advance_sink(&self, name: &str, to: Position) -> Result<()> {
        // Forgotten by a crash of the database, it comes there once more, as after any crash.
        transaction!(
            self,
            passing | session | {
                let now = session.now;
                session.run(ADVANCE, values![name, to, now])
            }
        )
        .map(drop)
    }

    async fn sinks(&self) -> Result<Vec<SinkPlace>> {
        self.read().await?.all(ALL, Vec::new()).await?.iter().map(read).collect()
    }

    async fn forget_sink(&self, name: &str) -> Result<()> {
        let gone = transaction!(self, |session| session.run(FORGET, values![name]))?;
        if gone == 0 {
            return Err(StoreError::NotFound { what: "sink", id: name.to_owned() });
        }
        Ok(())
    }
}

fn read(row: &Row) -> Result<SinkPlace> {
    Ok(SinkPlace {
        name: row.text("name")?,
        position: Position(row.int("position")?),
        since: row.time("since")?,
    })
}
