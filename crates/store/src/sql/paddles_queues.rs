//! Queues of jobs: pausing, and handing out.

use super::{
    paddles_row::{JOB_COLUMNS, read_job},
    session::{Dialect, Session},
    value::{Row, values},
};
use crate::{PaddlesPause, PaddlesPopped, PaddlesQueue, Result};
use chrono::{DateTime, Duration, Utc};

const LIST: &str =
    "select name, paused_by, paused_since, paused_until from queue where announced order by name";
const STANDS: &str = "select announced, paused_since, paused_until from queue where name = $1";
const ADD: &str = "insert into queue (name, announced) values ($1, $2) on conflict (name) do update \
    set announced = excluded.announced where not queue.announced";
const PAUSE: &str = "update queue set paused_by = $2, paused_why = null, paused_since = $3, paused_until = $4 where name = $1";
const RESUME: &str = "update queue set paused_by = null, paused_why = null, paused_since = null, paused_until = null \
    where name = $1";
const LAPSED: &str = "update queue set paused_by = null, paused_why = null, paused_since = null, paused_until = null \
    where paused_until <= $1";
const ANY_LAPSED: &str = "select name from queue where paused_until <= $1 limit 1";
const COUNT: &str = "select count(*) as n from paddles_job where queue = $1 and status = 'queued'";
const HAND: &str = "update paddles_job set handed_until = $2 where seq = $1";

fn is_paused(row: &Row, now: DateTime<Utc>) -> Result<bool> {
    let until = row.time_opt("paused_until")?;
    Ok(row.time_opt("paused_since")?.is_some() && until.is_none_or(|until| until > now))
}

pub(crate) async fn list(session: &mut Session, now: DateTime<Utc>) -> Result<Vec<PaddlesQueue>> {
    let rows = session.all(LIST, Vec::new()).await?;
    let read = |row: &Row| {
        let mut queue =
            PaddlesQueue { name: row.text("name")?, paused_by: None, paused_since: None, paused_until: None };
        if is_paused(row, now)? {
            queue.paused_by = row.text_opt("paused_by")?;
            queue.paused_since = row.time_opt("paused_since")?;
            queue.paused_until = row.time_opt("paused_until")?;
        }
        Ok(queue)
    };
    rows.iter().map(read).collect()
}

pub(crate) async fn add(session: &mut Session, name: &str) -> Result<bool> {
    Ok(session.run(ADD, values![name, true]).await? > 0)
}

pub(crate) async fn pause(
    session: &mut Session,
    name: &str,
    by: &str,
    long: Option<Duration>,
) -> Result<PaddlesPause> {
    let now = session.now;
    let Some(row) = session.first(STANDS, values![name]).await? else { return Ok(PaddlesPause::Missing) };
    if !row.bool("announced")? {
        return Ok(PaddlesPause::Missing);
    }
    let Some(long) = long else {
        session.run(RESUME, values![name]).await?;
        return Ok(PaddlesPause::Done);
    };
    if is_paused(&row, now)? {
        return Ok(PaddlesPause::Paused);
    }
    session.run(PAUSE, values![name, by, now, now + long]).await?;
    Ok(PaddlesPause::Done)
}

/// Ends the pauses whose time is over.
pub(crate) async fn end_pauses(session: &mut Session) -> Result<u64> {
    let now = session.now;
    session.run(LAPSED, values![now]).await
}

/// Whether the time of a pause is over.
pub(crate) async fn has_lapsed(session: &mut Session, now: DateTime<Utc>) -> Result<bool> {
    Ok(session.first(ANY_LAPSED, values![now]).await?.is_some())
}

pub(crate) async fn count(session: &mut Session, name: &str) -> Result<u64> {
    session.one(COUNT, values![name]).await?.number("n")
}

pub(crate) async fn pop(session: &mut Session, queue: &str, lease: Duration) -> Result<PaddlesPopped> {
    let now = session.now;
    if let Some(row) = session.first(STANDS, values![queue]).await?
        && is_paused(&row, now)?
    {
        return Ok(PaddlesPopped::Paused);
    }
    // What somebody else is being handed is passed over.
    let lock = if session.dialect() == Dialect::Postgres { " for update of j skip locked" } else { "" };
    let sql = format!(
        "select {JOB_COLUMNS}, j.body from paddles_job j join paddles_run r on r.id = j.run_id \
        where j.queue = $1 and j.status = 'queued' and (j.handed_until is null or j.handed_until <= $2) \
        order by j.rank, j.seq limit 1{lock}"
    );
    let Some(row) = session.first(sql, values![queue, now]).await? else { return Ok(PaddlesPopped::Nothing) };
    let job = read_job(&row, false)?;
    session.run(HAND, values![job.seq, now + lease]).await?;
    Ok(PaddlesPopped::Job(Box::new(job)))
}
