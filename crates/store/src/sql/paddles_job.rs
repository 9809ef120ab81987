//! Jobs and their runs' counts: reading, writing, and what comes of them by other means than reports.

use super::{
    SqlStore,
    paddles_row::{RANK_MAX, read_counts},
    session::{Bulk, Kind, Session, Sql},
    task_row::TaskRow,
    value::{Row, Value, json, values},
    work::Work,
};
use crate::{PADDLES_JOB_BYTES_MAX, PaddlesJob, Result, StoreError};
use chrono::{DateTime, Utc};
use model::{
    Task, TaskId,
    paddles::{JOB_STATUSES, Job, JobCounts, JobReport, JobStatus, SYSTEM},
    task::{Stop, TaskKind},
};
use serde_json::{Map, Value as Json};

/// How many numbers are tried for a job that has no id.
const NUMBERS_MAX: i64 = 1000;

const TAKEN: &str = "select 1::bigint as one from paddles_job where run_id = $1 and job_id = $2";
const TAKEN_SQLITE: &str = "select 1 as one from paddles_job where run_id = $1 and job_id = $2";
const RENAME: &str = "update paddles_job set job_id = $2 where seq = $1";
/// The columns of what can change of a job, behind others.
macro_rules! changing {
    ($($before:expr),* $(,)?) => {
        &[
            $($before,)*
            ("status", Kind::Text),
            ("name", Kind::Text),
            ("description", Kind::Text),
            ("sha1", Kind::Text),
            ("branch", Kind::Text),
            ("by_user", Kind::Text),
            ("queue", Kind::Text),
            ("rank", Kind::Int),
            ("handed_until", Kind::Time),
            ("started", Kind::Time),
            ("updated", Kind::Time),
            ("body", Kind::Text),
        ]
    };
}
pub(crate) use changing;

/// What can change of a job, by its number.
pub(crate) static JOBS: Bulk =
    Bulk { table: "paddles_job", columns: changing!(("seq", Kind::Int)), tail: "" };
const BY_TASK: Sql = Sql {
    sqlite: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from paddles_job j where j.task_id = $1",
    postgres: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from paddles_job j where j.task_id = $1 for update of j",
};
const COUNT: &str = "update paddles_run set queued = queued + $2, pass = pass + $3, running = running + $4, \
    waiting = waiting + $5, fail = fail + $6, dead = dead + $7, unknown = unknown + $8, \
    updated = case when updated is null or updated < $9 then $9 else updated end where id = $1 \
    returning status, queued, pass, running, waiting, fail, dead, unknown";
const UNCOUNT: &str = "update paddles_run set queued = queued + $2, pass = pass + $3, running = running + $4, \
    waiting = waiting + $5, fail = fail + $6, dead = dead + $7, unknown = unknown + $8 where id = $1 \
    returning status, queued, pass, running, waiting, fail, dead, unknown";
const SET_STATUS: &str = "update paddles_run set status = $2 where id = $1";
const ADD_NODE: &str = "insert into paddles_node (name, machine_type, is_vm, locked) values ($1, $2, $3, $3) \
    on conflict (name) do nothing";
const ADD_TO_NODE: &str = "insert into paddles_job_node (node, seq) values ($1, $2) on conflict do nothing";
const LEAVE_NODES: &str = "delete from paddles_job_node where seq = $1";
const DELETE: &str = "delete from paddles_job where seq = $1 returning run_id, status";
const FIRST_GONE: &str = "select id from paddles_run where id = $1 and first_job = $2";
const NEXT_FIRST: &str = "select seq, body from paddles_job where run_id = $1 order by seq limit 1";
const SET_FIRST: &str =
    "update paddles_run set first_job = $2, sha1 = $3, flavor = $4, priority = $5 where id = $1";

/// A job with what only the store knows of it.
pub(crate) struct JobRow {
    pub(crate) seq: i64,
    pub(crate) run_id: i64,
    pub(crate) task: TaskId,
    pub(crate) handed_until: Option<DateTime<Utc>>,
    pub(crate) job: Job,
}

impl JobRow {
    pub(crate) fn read(row: &Row) -> Result<Self> {
        let mut fields: Map<String, Json> = row.json("body")?;
        let success = fields.remove("success").and_then(|success| success.as_bool());
        fields.remove("job_id");
        fields.remove("status");
        let job = Job {
            job_id: row.text("job_id")?,
            status: super::paddles_row::read_status(row)?,
            success,
            posted: row.time("posted")?,
            started: row.time_opt("started")?,
            updated: row.time("updated")?,
            fields,
        };
        Ok(Self {
            seq: row.int("seq")?,
            run_id: row.int("run_id")?,
            task: row.id("task_id")?.into(),
            handed_until: row.time_opt("handed_until")?,
            job,
        })
    }

    /// The values of [`JOBS`].
    pub(crate) fn values(&self) -> Result<Vec<Value>> {
        let job = &self.job;
        let body = json(&job.document())?;
        if body.len() > PADDLES_JOB_BYTES_MAX {
            let message = format!(
                "a job has at most {PADDLES_JOB_BYTES_MAX} bytes, job {} would have {}",
                job.job_id,
                body.len()
            );
            return Err(StoreError::Poison(message));
        }
        let text = |key: &str| job.text(key).map(str::to_owned);
        Ok(values![
            self.seq,
            job.status.as_str(),
            text("name"),
            text("description"),
            text("sha1"),
            text("branch"),
            text("user"),
            text("queue"),
            job.priority().unwrap_or(RANK_MAX),
            self.handed_until,
            job.started,
            job.updated,
            body,
        ])
    }

    pub(crate) async fn save(&self, session: &mut Session) -> Result<()> {
        let values = self.values()?;
        session.update(&JOBS, vec![values]).await
    }
}

fn changes(change: JobCounts) -> impl Iterator<Item = Value> {
    JOB_STATUSES.into_iter().map(move |status| change.of(status).into())
}

/// Writes the run's status where it changed.
async fn settle_status(session: &mut Session, run: i64, row: &Row) -> Result<()> {
    let counts = read_counts(row)?;
    if row.text("status")? != counts.status() {
        session.run(SET_STATUS, values![run, counts.status()]).await?;
    }
    Ok(())
}

/// Calls a job by the first number from its own on that is free.
pub(crate) async fn rename(session: &mut Session, run_id: i64, seq: i64) -> Result<String> {
    let taken = Sql { sqlite: TAKEN_SQLITE, postgres: TAKEN };
    for number in seq..seq + NUMBERS_MAX {
        let job_id = number.to_string();
        if session.first(taken, values![run_id, &job_id]).await?.is_none() {
            session.run(RENAME, values![seq, &job_id]).await?;
            return Ok(job_id);
        }
    }
    Err(StoreError::Conflict("no number is free for a job without an id".to_owned()))
}

/// Notes on which nodes it runs.
pub(crate) async fn place(session: &mut Session, row: &JobRow, report: &JobReport) -> Result<()> {
    if !report.fields.contains_key("targets") {
        return Ok(());
    }
    session.run(LEAVE_NODES, values![row.seq]).await?;
    let machine_type =
        row.job.text("machine_type").filter(|kind| !kind.contains([',', '|'])).map(str::to_owned);
    for node in report.nodes() {
        session.run(ADD_NODE, values![&node, machine_type.as_deref(), false]).await?;
        session.run(ADD_TO_NODE, values![&node, row.seq]).await?;
    }
    Ok(())
}

/// The task of a job was stopped by other means: so is the job.
pub(crate) async fn stopped(session: &mut Session, task: &Task) -> Result<()> {
    if !matches!(task.kind, TaskKind::Reported) || !task.state.is_final() {
        return Ok(());
    }
    let Some(row) = session.first(BY_TASK, values![task.id]).await? else { return Ok(()) };
    let mut row = JobRow::read(&row)?;
    if matches!(row.job.status, JobStatus::Pass | JobStatus::Fail | JobStatus::Dead) {
        return Ok(());
    }
    let before = row.job.status;
    let report =
        JobReport { status: Some(JobStatus::Dead), success: Some(Some(false)), ..JobReport::default() };
    row.job.report(&report, session.now);
    row.handed_until = None;
    row.save(session).await?;
    let mut values = values![row.run_id];
    values.extend(changes(JobCounts::change(Some(before), Some(row.job.status))));
    values.extend(values![row.job.updated]);
    let counted = session.one(COUNT, values).await?;
    settle_status(session, row.run_id, &counted).await
}

/// Removes jobs; how many there were.
pub(crate) async fn remove_jobs(
    store: &SqlStore,
    session: &mut Session,
    jobs: &[PaddlesJob],
    who: &str,
) -> Result<u64> {
    let mut removed = 0;
    for job in jobs {
        let Some(row) = session.first(DELETE, values![job.seq]).await? else { continue };
        removed += 1;
        let run = row.int("run_id")?;
        let status = super::paddles_row::read_status(&row)?;
        session.run(LEAVE_NODES, values![job.seq]).await?;
        let mut values = values![run];
        values.extend(changes(JobCounts::change(Some(status), None)));
        let row = session.one(UNCOUNT, values).await?;
        settle_status(session, run, &row).await?;
        if session.first(FIRST_GONE, values![run, job.seq]).await?.is_some() {
            next_first(session, run).await?;
        }
    }
    // The lists of the jobs are newest first; tasks are locked in the order of their ids.
    for job in jobs.iter().rev() {
        let mut work = Work::new(session, store);
        let Ok(mut task) = TaskRow::lock(work.session, job.task).await else { continue };
        if !task.task.state.is_final() {
            let why = Some(format!("removed by {SYSTEM}"));
            work.stop(&mut task, Stop::Cancel { who: who.to_owned(), why }).await?;
        }
        work.done().await?;
    }
    Ok(removed)
}

async fn next_first(session: &mut Session, run: i64) -> Result<()> {
    let next = session.first(NEXT_FIRST, values![run]).await?;
    let Some(next) = next else {
        session.run(SET_FIRST, values![run, None::<i64>, None::<&str>, None::<&str>, None::<i64>]).await?;
        return Ok(());
    };
    let body: Map<String, Json> = next.json("body")?;
    let text = |key: &str| body.get(key).and_then(Json::as_str).map(str::to_owned);
    let priority = body.get("priority").and_then(Json::as_i64);
    session.run(SET_FIRST, values![run, next.int("seq")?, text("sha1"), text("flavor"), priority]).await?;
    Ok(())
}

/// Removes a run that has no jobs.
pub(crate) async fn remove_run(session: &mut Session, name: &str) -> Result<bool> {
    const REMOVE: &str = "delete from paddles_run where name = $1 \
        and not exists (select 1 from paddles_job j where j.run_id = paddles_run.id)";
    Ok(session.run(REMOVE, values![name]).await? > 0)
}
