//! Reading results, artifacts, and where logs lie.

use super::{
    session::Session,
    tasks_read::with_reasons,
    value::{Row, values},
    where_clause::{Where, page},
};
use crate::{LogChunk, Page, Result, ResultQuery, StoreError};
use model::{
    Item, TaskId,
    ids::{ArtifactId, ResultId},
    result::{Artifact, StoredResult},
};

fn read_result(row: &Row) -> Result<StoredResult> {
    let item = match (row.text_opt("item_type")?, row.text_opt("item_id")?) {
        (Some(kind), Some(id)) => Some(Item { kind, id }),
        _ => None,
    };
    Ok(StoredResult {
        id: ResultId(row.int("id")?),
        parent: row.int_opt("parent")?.map(ResultId),
        task: row.id_opt("task_id")?.map(Into::into),
        attempt: row.number_opt("attempt")?,
        testcase: row.text("testcase")?,
        item,
        outcome: row.parsed("outcome")?,
        previous_outcome: row.parsed_opt("previous_outcome")?,
        note: row.text_opt("note")?,
        duration_ms: row.number_opt("duration_ms")?,
        data: row.json("data")?,
        created_at: row.time("created_at")?,
    })
}

fn read_artifact(row: &Row) -> Result<Artifact> {
    Ok(Artifact {
        id: row.id("id")?.into(),
        task: row.id("task_id")?.into(),
        attempt: row.number("attempt")?,
        name: row.text("name")?,
        size_bytes: row.number("size_bytes")?,
        sha256: row.text("sha256")?,
        key: row.text("key")?,
        published: row.bool("published")?,
        created_at: row.time("created_at")?,
    })
}

pub(crate) async fn result(session: &mut Session, id: ResultId) -> Result<StoredResult> {
    let row = session.first("select * from result where id = $1", values![id]).await?;
    read_result(&row.ok_or_else(|| StoreError::NotFound { what: "result", id: id.to_string() })?)
}

pub(crate) async fn list(session: &mut Session, query: &ResultQuery) -> Result<Page<StoredResult>> {
    let mut conditions = Where::new(session.dialect());
    conditions.long_text("testcase", query.testcase.as_ref());
    conditions.maybe("item_type = ?", query.item_type.as_ref());
    conditions.long_text("item_id", query.item_id.as_ref());
    conditions.any_of("outcome", with_reasons(&query.outcomes));
    conditions.maybe("task_id = ?", query.task);
    conditions.maybe("parent = ?", query.parent);
    if query.top_level {
        conditions.plain("parent is null");
    }
    conditions.maybe("created_at >= ?", query.since);
    conditions.maybe("id < ?", query.before);
    let (sql, values) = conditions.statement("select * from result", "id desc", query.limit);
    let results = session.all(sql, values).await?.iter().map(read_result).collect::<Result<_>>()?;
    Ok(page(results, query.limit, |result| result.id.to_string()))
}

pub(crate) async fn log_chunks(
    session: &mut Session,
    task: TaskId,
    attempt: u32,
    from_seq: u32,
) -> Result<Vec<LogChunk>> {
    let sql = "select * from log_chunk where task_id = $1 and attempt = $2 and seq >= $3 order by seq";
    let read = |row: &Row| {
        Ok(LogChunk {
            attempt: row.number("attempt")?,
            seq: row.number("seq")?,
            size_bytes: row.number("size_bytes")?,
            key: row.text("key")?,
        })
    };
    session.all(sql, values![task, attempt, from_seq]).await?.iter().map(read).collect()
}

pub(crate) async fn artifacts(session: &mut Session, task: TaskId) -> Result<Vec<Artifact>> {
    let sql = "select * from artifact where task_id = $1 order by attempt, name";
    session.all(sql, values![task]).await?.iter().map(read_artifact).collect()
}

pub(crate) async fn artifact(session: &mut Session, id: ArtifactId) -> Result<Artifact> {
    let row = session.first("select * from artifact where id = $1", values![id]).await?;
    read_artifact(&row.ok_or_else(|| StoreError::NotFound { what: "artifact", id: id.to_string() })?)
}
