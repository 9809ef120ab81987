//! Reading tasks.

use super::{
    session::Session,
    task_row::{TaskRow, not_found, select_task},
    value::{Row, values},
    where_clause::{Where, page},
};
use crate::{Batch, Page, Result, StoreError, TaskQuery};
use model::{Attempt, Task, TaskId, attempt::PhaseReport, ids::QueueName};
use uuid::Uuid;

/// How many tasks are found by the start of an id.
const BY_PREFIX_MAX: u32 = 10;
/// The shortest start of an id that is looked for, in hexadecimal digits.
const PREFIX_DIGITS_MIN: usize = 4;

const BETWEEN: &str = select_task!("where t.id >= $1 and t.id <= $2 order by t.id desc limit $3");
const ATTEMPTS: &str = "select * from attempt where task_id = $1 order by number";
const POSITION: &str = "select count(*) as n from task o join task t on t.id = $1 \
    where o.queue = t.queue and o.state = 'queued' and (o.priority > t.priority or (o.priority = t.priority \
    and (o.turn < t.turn or (o.turn = t.turn and o.id < t.id))))";
const QUEUED_BEFORE: &str =
    "select count(*) as n from task where queue = $1 and state = 'queued' and priority >= $2";
const STATE: &str = "select state from task where id = $1";
const BATCH: &str =
    "select * from batch where id = $1 or name = $2 order by case when id = $1 then 0 else 1 end";

/// Tasks whose id starts with these hexadecimal digits, the newest first.
pub(crate) async fn by_prefix(session: &mut Session, prefix: &str) -> Result<Vec<Task>> {
    let digits: String = prefix.chars().filter(|c| *c != '-').collect();
    let hexadecimal = digits.len() <= 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
    if !hexadecimal || digits.len() < PREFIX_DIGITS_MIN {
        return Ok(Vec::new());
    }
    let bound = |fill: &str| Uuid::parse_str(&format!("{digits}{}", fill.repeat(32 - digits.len())));
    let (Ok(first), Ok(last)) = (bound("0"), bound("f")) else { return Ok(Vec::new()) };
    let rows = session.all(BETWEEN, values![first, last, BY_PREFIX_MAX]).await?;
    rows.iter().map(|row| Ok(TaskRow::read(row)?.task)).collect()
}

pub(crate) async fn list(session: &mut Session, query: &TaskQuery) -> Result<Page<Task>> {
    let mut conditions = Where::new(session.dialect());
    let mut states = query.states.clone();
    if states.iter().any(|state| state == "queued") {
        states.push("delayed".to_owned());
    }
    conditions.any_of("t.state", states);
    conditions.any_of("t.outcome", with_reasons(&query.outcomes));
    conditions.maybe("t.name = ?", query.name.as_ref());
    conditions.maybe("t.queue = ?", query.queue.as_ref());
    conditions.maybe("t.rule = ?", query.rule.as_ref());
    conditions.maybe("t.submitter = ?", query.submitter.as_ref());
    conditions.maybe("t.item_type = ?", query.item_type.as_ref());
    conditions.long_text("t.item_id", query.item_id.as_ref());
    conditions.maybe("t.batch_id = ?", query.batch);
    conditions.maybe("t.group_name = ?", query.group.as_ref());
    conditions.maybe("t.event_seq = ?", query.event);
    conditions.maybe("t.created_at >= ?", query.since);
    conditions.maybe("t.created_at < ?", query.until);
    conditions.maybe("t.id < ?", query.before);
    let (sql, values) = conditions.statement(select_task!(""), "t.id desc", query.limit);
    let rows = session.all(sql, values).await?;
    let tasks = rows.iter().map(|row| Ok(TaskRow::read(row)?.task)).collect::<Result<_>>()?;
    Ok(page(tasks, query.limit, |task: &Task| task.id.to_string()))
}

/// Classes of outcomes as the outcomes that belong to them.
pub(crate) fn with_reasons(classes: &[String]) -> Vec<String> {
    let of_class = |class: &String| {
        let all = model::outcome::OUTCOMES.into_iter();
        let mut texts: Vec<_> = all
            .filter(|(outcome, text)| outcome.class() == class || text == class)
            .map(|(_, text)| text.to_owned())
            .collect();
        if texts.is_empty() {
            // An unknown class finds nothing, rather than everything.
            texts.push(class.clone());
        }
        texts
    };
    classes.iter().flat_map(of_class).collect()
}

pub(crate) async fn attempts(session: &mut Session, task: TaskId) -> Result<Vec<Attempt>> {
    let read = |row: &Row| {
        Ok(Attempt {
            number: row.number("number")?,
            fence: row.int("fence")?,
            worker: row.text("worker")?.into(),
            started_at: row.time("started_at")?,
            ended_at: row.time_opt("ended_at")?,
            outcome: row.parsed_opt("outcome")?,
            reason: row.text_opt("reason")?,
            phases: row.json::<Vec<PhaseReport>>("phases")?,
            environment: row.json_opt("environment")?,
            log_bytes: row.number("log_bytes")?,
            log_truncated: row.bool("log_truncated")?,
        })
    };
    let rows = session.all(ATTEMPTS, values![task]).await?;
    if rows.is_empty() {
        session.first(STATE, values![task]).await?.ok_or_else(|| not_found(task))?;
    }
    rows.iter().map(read).collect()
}

pub(crate) async fn position(session: &mut Session, task: TaskId) -> Result<Option<u64>> {
    let row = session.first(STATE, values![task]).await?.ok_or_else(|| not_found(task))?;
    match row.text("state")?.as_str() {
        "queued" | "delayed" => Ok(Some(session.one(POSITION, values![task]).await?.number("n")?)),
        _ => Ok(None),
    }
}

pub(crate) async fn queued_before(session: &mut Session, queue: &QueueName, priority: i32) -> Result<u64> {
    session.one(QUEUED_BEFORE, values![queue, priority]).await?.number("n")
}

pub(crate) async fn batch(session: &mut Session, id_or_name: &str) -> Result<Batch> {
    let row = session.first(BATCH, values![Uuid::parse_str(id_or_name).ok(), id_or_name]).await?;
    let row = row.ok_or_else(|| StoreError::NotFound { what: "batch", id: id_or_name.to_owned() })?;
    Ok(Batch {
        id: row.id("id")?.into(),
        name: row.text("name")?,
        tasks: row.number("tasks")?,
        final_tasks: row.number("final_tasks")?,
        created_at: row.time("created_at")?,
    })
}
