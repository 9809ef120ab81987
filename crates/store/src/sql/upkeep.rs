//! Health, figures, and leases of periodic work.

use super::{
    SqlStore,
    session::{Session, Sql, transaction},
    tasks::milliseconds,
    value::values,
};
use crate::{Figures, Pruned, Result, Retention, Upkeep};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

const VERSION: Sql = Sql {
    sqlite: "select 'sqlite ' || sqlite_version() as version",
    postgres: "select 'postgres ' || current_setting('server_version') as version",
};
const SHIFT: &str = "update clock set shift_us = shift_us + $1 returning shift_us";
const TAKE: &str = "insert into lease (work, holder, until) values ($1, $2, $3) \
    on conflict (work) do update set holder = excluded.holder, until = excluded.until \
    where lease.holder = excluded.holder or lease.until <= $4";
const END: &str = "delete from lease where work = $1 and holder = $2";
const TASKS: &str = "select queue, state, count(*) as n from task \
    where state in ('waiting', 'queued', 'delayed', 'running') group by queue, state order by queue, state";
const COUNTS: &str = "select (select count(*) from outbox where position is null) + \
    (select count(*) from outbox where position is not null and published_at is null) as outbox_pending, \
    (select count(*) from event where hold_until is not null) as unjudged, \
    (select count(*) from dead_letter) as dead_letters";

#[async_trait]
impl Upkeep for SqlStore {
    async fn backend(&self) -> Result<String> {
        self.read().await?.one(VERSION, Vec::new()).await?.text("version")
    }

    async fn now(&self) -> Result<DateTime<Utc>> {
        self.now_of_database().await
    }

    async fn shift_clock(&self, by_ms: i64) -> Result<()> {
        let row = transaction!(self, |session| session.one(SHIFT, values![by_ms.saturating_mul(1000)]))?;
        self.backend.shifted(row.int("shift_us")?);
        Ok(())
    }

    async fn try_lease(&self, work: &str, holder: &str, ttl_ms: u64) -> Result<bool> {
        let taken = transaction!(self, |session| {
            let now = session.now;
            session.run(TAKE, values![work, holder, now + milliseconds(ttl_ms), now])
        })?;
        Ok(taken > 0)
    }

    async fn end_lease(&self, work: &str, holder: &str) -> Result<()> {
        transaction!(self, |session| session.run(END, values![work, holder]))?;
        Ok(())
    }

    async fn figures(&self) -> Result<Figures> {
        let mut figures = figures(&mut self.read().await?).await?;
        figures.connections = self.backend.connections();
        Ok(figures)
    }

    async fn prune(&self, retention: &Retention, limit: u32, dry_run: bool) -> Result<Pruned> {
        transaction!(self, |session| super::prune::prune(session, retention, limit, dry_run))
    }

    async fn close(&self) {
        self.backend.close().await;
    }
}

impl SqlStore {
    /// The database's clock. Asks the database, so that it also says whether it answers.
    pub(crate) async fn now_of_database(&self) -> Result<DateTime<Utc>> {
        let mut session = self.read().await?;
        session.read_clock().await?;
        Ok(session.now)
    }
}

async fn figures(session: &mut Session) -> Result<Figures> {
    let mut tasks: Vec<(String, String, u64)> = Vec::new();
    for row in session.all(TASKS, Vec::new()).await? {
        let (queue, n) = (row.text("queue")?, row.number("n")?);
        let state = match row.text("state")?.as_str() {
            "delayed" => "queued".to_owned(),
            other => other.to_owned(),
        };
        match tasks.iter_mut().find(|(of, is, _)| *of == queue && *is == state) {
            Some((_, _, count)) => *count += n,
            None => tasks.push((queue, state, n)),
        }
    }
    let row = session.one(COUNTS, Vec::new()).await?;
    Ok(Figures {
        tasks,
        outbox_pending: row.number("outbox_pending")?,
        unjudged: row.number("unjudged")?,
        dead_letters: row.number("dead_letters")?,
        connections: (0, 0),
    })
}
