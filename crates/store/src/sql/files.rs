//! What of the object store's bytes has a row: how much log an attempt may still send, and which files are kept.

use super::{
    session::{Session, Sql},
    task_row::TaskRow,
    value::{Value, values},
};
use crate::{Fenced, KeptFiles, LogChunk, Result, StoreError};
use model::{TaskId, attempt::AttemptRef, protocol::LOG_BYTES_MAX};

const LOG_BYTES: &str = "select log_bytes from attempt where task_id = $1 and number = $2";
const GROW_LOG: &str = "update attempt set log_bytes = log_bytes + $3 \
    where task_id = $1 and number = $2 and log_bytes + $3 <= $4";
const KEYS: Sql = Sql {
    sqlite: "select key from log_chunk where task_id in (select unhex(value) from json_each($1)) \
        union all select key from artifact where task_id in (select unhex(value) from json_each($1)) \
        union all select key from foreign_file where id in (select unhex(value) from json_each($1)) \
        union all select key from foreign_fragment where id in (select unhex(value) from json_each($1))",
    postgres: "select key from log_chunk where task_id = any($1) \
        union all select key from artifact where task_id = any($1) \
        union all select key from foreign_file where id = any($1) \
        union all select key from foreign_fragment where id = any($1)",
};
const RUNNING: Sql = Sql {
    sqlite: "select id, fence from task where id in (select unhex(value) from json_each($1)) and state = 'running'",
    postgres: "select id, fence from task where id = any($1) and state = 'running'",
};

/// How many bytes of log a running attempt may still send.
pub(crate) async fn log_room(
    session: &mut Session,
    task: TaskId,
    attempt: AttemptRef,
) -> Result<Fenced<u64>> {
    if TaskRow::get(session, task).await?.task.state.running() != Some(attempt) {
        return Ok(Fenced::Stale);
    }
    let row = session.first(LOG_BYTES, values![task, attempt.attempt]).await?;
    let sent: u64 = row.map_or(Ok(0), |row| row.number("log_bytes"))?;
    Ok(Fenced::Written(LOG_BYTES_MAX.saturating_sub(sent)))
}

/// Counts a new chunk; the attempt's row is that of the locked task.
pub(crate) async fn grow_log(session: &mut Session, task: TaskId, chunk: &LogChunk) -> Result<()> {
    let values = values![task, chunk.attempt, chunk.size_bytes, LOG_BYTES_MAX];
    if session.run(GROW_LOG, values).await? == 0 {
        return Err(StoreError::Poison(format!("an attempt's log has at most {LOG_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// The files of tasks that have a row, and the fences under which more may come.
pub(crate) async fn kept(session: &mut Session, tasks: &[TaskId]) -> Result<KeptFiles> {
    let ids = || vec![Value::ids(tasks.iter().copied())];
    let mut kept = KeptFiles::default();
    for row in session.all(RUNNING, ids()).await? {
        kept.running.insert(row.id("id")?.into(), row.int("fence")?);
    }
    // After the fences: what came in between has a row or is still under its fence.
    for row in session.all(KEYS, ids()).await? {
        kept.keys.insert(row.text("key")?);
    }
    Ok(kept)
}
