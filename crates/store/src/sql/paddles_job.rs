//! Reports of jobs: the job, its run's counts, its task and its result, in one transaction that reads no other job.

use super::{
    SqlStore,
    paddles_row::{RANK_MAX, make_run, read_counts},
    results::store_results,
    session::{Session, Sql},
    task_row::TaskRow,
    value::{Row, Value, json, values},
    work::Work,
};
use crate::{NewTask, PADDLES_JOB_BYTES_MAX, PaddlesJob, PaddlesReported, Result, StoreError};
use chrono::{DateTime, Utc};
use model::{
    Task, TaskId, TaskState,
    message::{EndedTasks, TaskChange},
    paddles::{JOB_STATUSES, Job, JobCounts, JobReport, JobStatus, RunName, SYSTEM},
    task::{Stop, TaskKind},
};
use serde_json::{Map, Value as Json};

/// How many numbers are tried for a job that has no id.
const NUMBERS_MAX: i64 = 1000;

const RUN_ID: &str = "select id from paddles_run where name = $1";
const TAKEN: &str = "select 1::bigint as one from paddles_job where run_id = $1 and job_id = $2";
const TAKEN_SQLITE: &str = "select 1 as one from paddles_job where run_id = $1 and job_id = $2";
const INSERT: &str = "insert into paddles_job (run_id, job_id, task_id, status, rank, posted, updated, body) \
    values ($1, $2, $3, 'unknown', 0, $4, $4, '{}') on conflict (run_id, job_id) do nothing returning seq";
const RENAME: &str = "update paddles_job set job_id = $2 where seq = $1";
const UPDATE: &str = "update paddles_job set status = $2, name = $3, description = $4, sha1 = $5, branch = $6, by_user = $7, \
    queue = $8, rank = $9, handed_until = $10, started = $11, updated = $12, body = $13 where seq = $1";
const BY_ID: Sql = Sql {
    sqlite: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from paddles_job j join paddles_run r on r.id = j.run_id where r.name = $1 and j.job_id = $2",
    postgres: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from paddles_job j join paddles_run r on r.id = j.run_id where r.name = $1 and j.job_id = $2 for update of j",
};
const BY_TASK: Sql = Sql {
    sqlite: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from paddles_job j where j.task_id = $1",
    postgres: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from paddles_job j where j.task_id = $1 for update of j",
};
/// Counts, what the run is called by, and what it takes over from its first job.
const COUNT: &str = "update paddles_run set queued = queued + $2, pass = pass + $3, running = running + $4, \
    waiting = waiting + $5, fail = fail + $6, dead = dead + $7, unknown = unknown + $8, \
    suite = coalesce($9, suite), branch = coalesce($10, branch), machine_type = coalesce($11, machine_type), \
    started = coalesce(started, $12), updated = case when updated is null or updated < $13 then $13 else updated end, \
    sha1 = case when coalesce(first_job, $14) = $14 then $15 else sha1 end, \
    flavor = case when coalesce(first_job, $14) = $14 then $16 else flavor end, \
    priority = case when coalesce(first_job, $14) = $14 then $17 else priority end, \
    first_job = coalesce(first_job, $14) where id = $1 returning name, status, queued, pass, running, waiting, fail, dead, unknown";
const UNCOUNT: &str = "update paddles_run set queued = queued + $2, pass = pass + $3, running = running + $4, \
    waiting = waiting + $5, fail = fail + $6, dead = dead + $7, unknown = unknown + $8 where id = $1 \
    returning name, status, queued, pass, running, waiting, fail, dead, unknown";
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
struct JobRow {
    seq: i64,
    run_id: i64,
    task: TaskId,
    handed_until: Option<DateTime<Utc>>,
    job: Job,
}

impl JobRow {
    fn read(row: &Row) -> Result<Self> {
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

    async fn save(&self, session: &mut Session) -> Result<()> {
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
        let values = values![
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
        ];
        session.run(UPDATE, values).await?;
        Ok(())
    }

    /// Counts the run anew; how many of its jobs have which status, and its name.
    async fn count(
        &self,
        session: &mut Session,
        before: Option<JobStatus>,
        report: Option<&JobReport>,
    ) -> Result<(String, JobCounts)> {
        let job = &self.job;
        let said = |key: &str| {
            let text = report.and_then(|report| report.fields.get(key)).and_then(Json::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let mut values = values![self.run_id];
        values.extend(changes(JobCounts::change(before, Some(job.status))));
        values.extend(values![
            said("suite"),
            said("branch"),
            said("machine_type"),
            job.started,
            job.updated,
            self.seq,
            job.text("sha1"),
            job.text("flavor"),
            job.priority(),
        ]);
        let row = session.one(COUNT, values).await?;
        settle_status(session, self.run_id, &row).await
    }
}

fn changes(change: JobCounts) -> impl Iterator<Item = Value> {
    JOB_STATUSES.into_iter().map(move |status| change.of(status).into())
}

/// Writes the run's status where it changed.
async fn settle_status(session: &mut Session, run: i64, row: &Row) -> Result<(String, JobCounts)> {
    let counts = read_counts(row)?;
    if row.text("status")? != counts.status() {
        session.run(SET_STATUS, values![run, counts.status()]).await?;
    }
    Ok((row.text("name")?, counts))
}

pub(crate) async fn add(
    store: &SqlStore,
    session: &mut Session,
    run: &str,
    name: &RunName,
    new: &NewTask,
    report: &JobReport,
) -> Result<PaddlesReported> {
    let now = session.now;
    let mut found = session.first(RUN_ID, values![run]).await?;
    if found.is_none() {
        make_run(session, run, name).await?;
        found = session.first(RUN_ID, values![run]).await?;
    }
    let run_id =
        found.ok_or_else(|| StoreError::Conflict(format!("run {run} is being removed")))?.int("id")?;
    // One without an id is called by its number, which is known once it is there.
    let job_id = report.job_id.clone().unwrap_or_else(|| new.id.to_string());
    let Some(row) = session.first(INSERT, values![run_id, &job_id, new.id, now]).await? else {
        return Ok(PaddlesReported::Exists(job_id));
    };
    let seq = row.int("seq")?;
    let job_id = if report.job_id.is_some() { job_id } else { rename(session, run_id, seq).await? };
    let row = JobRow { seq, run_id, task: new.id, handed_until: None, job: Job::new(job_id, report, now) };
    row.save(session).await?;
    place(session, &row, report).await?;
    let (name, counts) = row.count(session, None, Some(report)).await?;
    let mut work = Work::new(session, store);
    let mut task = TaskRow::new(new, None, new.batch.as_deref().and_then(|name| store.batch_id(name)), now);
    // Waiting is what a task begins with; nothing of it is told.
    task.task.state = row.job.task_state(&queued(&task.task, now), 1, now);
    let running = task.task.state.running().is_some();
    (task.fence, task.task.attempts) = (1, u32::from(running));
    TaskRow::insert(work.session, &[&task]).await?;
    work.made(&task);
    work.out.task(&task.task, TaskChange::Created);
    tell(&mut work, &mut task, &row.job, &name, &counts).await?;
    work.done().await?;
    Ok(PaddlesReported::Done(row.job.job_id))
}

/// The task as if it were queued: what follows does not depend on how it was made.
fn queued(task: &Task, now: DateTime<Utc>) -> Task {
    Task { state: TaskState::Queued { since: now, not_before: None, unmet: None }, ..task.clone() }
}

/// Calls a job by the first number from its own on that is free.
async fn rename(session: &mut Session, run_id: i64, seq: i64) -> Result<String> {
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
async fn place(session: &mut Session, row: &JobRow, report: &JobReport) -> Result<()> {
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

pub(crate) async fn change(
    store: &SqlStore,
    session: &mut Session,
    run: &str,
    job_id: &str,
    report: &JobReport,
) -> Result<PaddlesReported> {
    let Some(row) = session.first(BY_ID, values![run, job_id]).await? else {
        return Ok(PaddlesReported::Missing);
    };
    let mut row = JobRow::read(&row)?;
    let now = session.now;
    let (before, targets) = (row.job.status, row.job.fields.get("targets").cloned());
    row.job.report(report, now);
    // Who says that it is queued gives it back; what else is said of it leaves it with whom it was handed.
    if row.job.status != JobStatus::Queued || report.status.is_some() {
        row.handed_until = None;
    }
    row.save(session).await?;
    if row.job.fields.get("targets") != targets.as_ref() {
        place(session, &row, report).await?;
    }
    let (name, counts) = row.count(session, Some(before), Some(report)).await?;
    if before != row.job.status {
        follow(store, session, &row, &name, &counts).await?;
    }
    Ok(PaddlesReported::Done(row.job.job_id))
}

/// Lets the task follow its job.
async fn follow(
    store: &SqlStore,
    session: &mut Session,
    row: &JobRow,
    run: &str,
    counts: &JobCounts,
) -> Result<()> {
    let mut work = Work::new(session, store);
    let mut task = match TaskRow::lock(work.session, row.task).await {
        Ok(task) => task,
        // It was kept long enough.
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let before = task.task.state.clone();
    let after = row.job.task_state(&task.task, task.fence + 1, work.now);
    if after == before {
        return Ok(());
    }
    let starts = after.running().is_some() && before.running().is_none();
    if before.is_final() {
        work.reopened(&task);
    }
    // Each end is told by a number of its own.
    task.task.attempts += u32::from(starts || before.is_final());
    task.fence += 1;
    task.task.state = row.job.task_state(&task.task, task.fence, work.now);
    if let TaskState::Running { attempt, .. } = &mut task.task.state {
        *attempt = task.task.attempts;
    }
    tell(&mut work, &mut task, &row.job, run, counts).await?;
    task.save(work.session).await?;
    work.done().await
}

/// Tells where the task stands, and stores the result that it is.
async fn tell(
    work: &mut Work<'_>,
    task: &mut TaskRow,
    job: &Job,
    run: &str,
    counts: &JobCounts,
) -> Result<()> {
    if !task.task.state.is_final() {
        let running = task.task.state.running().is_some();
        work.out.task(&task.task, if running { TaskChange::Started } else { TaskChange::Queued });
        return Ok(());
    }
    if let Some(batch) = task.task.batch {
        work.ended_as(batch, ended(&task.task, counts));
    }
    work.ended(task);
    if let Some(result) = job.result(&task.task, run) {
        store_results(work, Some((&task.task, task.task.attempts)), &[result], false).await?;
    }
    Ok(())
}

/// How a run's tasks ended, by its counts.
fn ended(task: &Task, counts: &JobCounts) -> Vec<EndedTasks> {
    let words = JOB_STATUSES.into_iter().filter_map(|status| {
        let outcome = model::outcome::words::from_paddles(status.as_str())?;
        let count = u64::try_from(counts.of(status)).ok().filter(|count| *count > 0)?;
        Some(EndedTasks { name: task.name.clone(), word: outcome.as_str().to_owned(), count })
    });
    words.collect()
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
    row.count(session, Some(before), None).await?;
    Ok(())
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
