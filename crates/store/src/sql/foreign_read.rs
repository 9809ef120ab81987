//! Jobs of other systems' agents: what is read of them.

use super::{
    session::{Session, Sql},
    task_row::TaskRow,
    value::{Row, Value, values},
};
use crate::{FOREIGN_JOBS_MAX, FOREIGN_WAITS_MAX, ForeignFile, ForeignJob, ForeignQuery, Fragment, Result};
use model::{TaskId, ids::QueueName};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

const COLUMNS: &str = "select f.id, f.job_id, f.attempt, f.state, f.data, f.acknowledged, f.started_at, f.created_at \
    from foreign_job f ";
const TASKS: Sql = Sql {
    sqlite: super::task_row::select_task!("where t.id in (select unhex(value) from json_each($1))"),
    postgres: super::task_row::select_task!("where t.id = any($1)"),
};
const FRAGMENTS: &str = "select kind, number, phase, at, size_bytes, key from foreign_fragment \
    where id = $1 and attempt = $2 order by kind, number";
const FILE: &str = "select size_bytes, key from foreign_file where id = $1 and kind = $2";
const QUEUES: &str = "select distinct queue from foreign_job where system = $1 and queue <> ''";
const WAITS: &str = "select waited_ms from foreign_job where system = $1 and queue = $2 and waited_ms is not null \
    order by created_at desc limit $3";

/// The rows with their tasks.
async fn read(session: &mut Session, rows: &[Row]) -> Result<Vec<ForeignJob>> {
    let ids = rows.iter().map(|row| Ok(TaskId::new(row.id("id")?))).collect::<Result<Vec<_>>>()?;
    let mut tasks = HashMap::new();
    for row in session.all(TASKS, vec![Value::ids(ids)]).await? {
        let task = TaskRow::read(&row)?.task;
        tasks.insert(task.id.uuid(), task);
    }
    let job = |row: &Row| {
        let id = row.id("id")?;
        Ok(ForeignJob {
            id,
            job_id: row.id("job_id")?,
            task: tasks.remove(&id),
            attempt: row.number("attempt")?,
            state: row.text_opt("state")?,
            data: row.json("data")?,
            acknowledged: row.bool("acknowledged")?,
            started_at: row.time_opt("started_at")?,
            created_at: row.time("created_at")?,
        })
    };
    rows.iter().map(job).collect()
}

pub(crate) async fn job(session: &mut Session, system: &str, job_id: Uuid) -> Result<Option<ForeignJob>> {
    let sql = format!(
        "{COLUMNS}where f.system = $1 and f.job_id = $2 order by f.created_at desc, f.id desc limit 1"
    );
    let rows = session.all(sql, values![system, job_id]).await?;
    Ok(read(session, &rows).await?.pop())
}

pub(crate) async fn jobs(
    session: &mut Session,
    system: &str,
    query: &ForeignQuery,
) -> Result<Vec<ForeignJob>> {
    let mut sql = COLUMNS.to_owned();
    let mut values = values![system];
    let next = |values: &mut Vec<Value>, value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    if query.open {
        sql += "join task t on t.id = f.id and t.state in ('waiting', 'queued', 'delayed', 'running') ";
    }
    sql += "where f.system = $1";
    if let Some(queue) = &query.queue {
        sql += &format!(" and f.queue = {}", next(&mut values, queue.into()));
    }
    if !query.tags.is_empty() {
        let mut places = Vec::new();
        for tag in &query.tags {
            places.push(next(&mut values, tag.into()));
        }
        sql += &format!(
            " and f.id in (select g.id from foreign_tag g where g.system = $1 and g.tag in ({}))",
            places.join(", ")
        );
    }
    sql += &format!(
        " order by f.created_at desc, f.id desc limit {}",
        next(&mut values, FOREIGN_JOBS_MAX.into())
    );
    let rows = session.all(sql, values).await?;
    read(session, &rows).await
}

pub(crate) async fn fragments(
    session: &mut Session,
    id: Uuid,
    attempt: u32,
    kind: Option<&str>,
) -> Result<Vec<Fragment>> {
    let rows = session.all(FRAGMENTS, values![id, attempt]).await?;
    let read = |row: &Row| {
        Ok(Fragment {
            kind: row.text("kind")?,
            number: row.int("number")?,
            phase: row.text("phase")?,
            at: row.time("at")?,
            size_bytes: row.number("size_bytes")?,
            key: row.text("key")?,
        })
    };
    let mut all = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    all.retain(|fragment| kind.is_none_or(|kind| kind == fragment.kind));
    Ok(all)
}

pub(crate) async fn file(session: &mut Session, id: Uuid, kind: &str) -> Result<Option<ForeignFile>> {
    let row = session.first(FILE, values![id, kind]).await?;
    row.map(|row| Ok(ForeignFile { size_bytes: row.number("size_bytes")?, key: row.text("key")? }))
        .transpose()
}

pub(crate) async fn waits(
    session: &mut Session,
    system: &str,
    queues: &[QueueName],
) -> Result<BTreeMap<QueueName, Vec<u64>>> {
    let mut all = BTreeMap::new();
    let queues = if queues.is_empty() {
        let rows = session.all(QUEUES, values![system]).await?;
        rows.iter().map(|row| Ok(row.text("queue")?.into())).collect::<Result<Vec<QueueName>>>()?
    } else {
        queues.to_vec()
    };
    for queue in queues {
        let rows = session.all(WAITS, values![system, &queue, FOREIGN_WAITS_MAX]).await?;
        let waits = rows.iter().map(|row| row.number("waited_ms")).collect::<Result<Vec<u64>>>()?;
        if !waits.is_empty() {
            all.insert(queue, waits);
        }
    }
    Ok(all)
}
