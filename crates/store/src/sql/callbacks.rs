//! Who is to be told when a task has ended.

use super::{
    SqlStore,
    session::{Session, transaction},
    value::{Row, values},
};
use crate::{Callback, Callbacks, Result};
use async_trait::async_trait;
use chrono::TimeDelta;
use model::TaskId;
use std::time::Duration;

/// How long one without a task is kept: its task was never made, or is no longer there.
const ORPHAN_KEPT: TimeDelta = TimeDelta::days(1);

const ADD: &str = "insert into callback (task, href, tried, next_try_at) values ($1, $2, 0, $3)";
const DUE: &str = "select callback.task as task, href, tried from callback join task on task.id = callback.task \
    where next_try_at <= $1 and task.state in ('finished', 'cancelled', 'superseded') order by next_try_at limit $2";
const HOLD: &str = "update callback set next_try_at = $2, tried = tried + 1 where task = $1";
const ORPHANS: &str = "delete from callback where next_try_at < $1 \
    and not exists (select 1 from task where task.id = callback.task)";
const PUT_OFF: &str = "update callback set next_try_at = $2, error = $3 where task = $1";
const END: &str = "delete from callback where task = $1";

#[async_trait]
impl Callbacks for SqlStore {
    async fn add_callback(&self, task: TaskId, href: &str) -> Result<()> {
        transaction!(self, |session| add(session, task, href))
    }

    async fn due_callbacks(&self, limit: u32, held: Duration) -> Result<Vec<Callback>> {
        let now = self.now_of_database().await?;
        let due = self.read().await?.all(DUE, values![now, limit]).await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        transaction!(self, |session| hold(session, limit, held))
    }

    async fn put_off_callback(&self, task: TaskId, after: Duration, why: &str) -> Result<()> {
        transaction!(self, |session| put_off(session, task, after, why))
    }

    async fn end_callback(&self, task: TaskId) -> Result<()> {
        transaction!(self, |session| session.run(END, values![task])).map(|_| ())
    }
}

async fn add(session: &mut Session, task: TaskId, href: &str) -> Result<()> {
    let now = session.now;
    session.run(ADD, values![task, href, now]).await?;
    Ok(())
}

async fn hold(session: &mut Session, limit: u32, held: Duration) -> Result<Vec<Callback>> {
    let now = session.now;
    session.run(ORPHANS, values![now - ORPHAN_KEPT]).await?;
    let rows = session.all(DUE, values![now, limit]).await?;
    let due = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    for callback in &due {
        session.run(HOLD, values![callback.task, now + held]).await?;
    }
    Ok(due)
}

async fn put_off(session: &mut Session, task: TaskId, after: Duration, why: &str) -> Result<()> {
    let at = session.now + after;
    session.run(PUT_OFF, values![task, at, why]).await?;
    Ok(())
}

fn read(row: &Row) -> Result<Callback> {
    let tried = u32::try_from(row.int("tried")?).unwrap_or(u32::MAX);
    Ok(Callback { task: row.id("task")?.into(), href: row.text("href")?, tried })
}
