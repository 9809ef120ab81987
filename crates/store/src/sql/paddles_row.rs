//! The rows of runs and jobs.

use super::{
    session::Session,
    value::{Row, values},
};
use crate::{PaddlesJob, PaddlesRun, Result};
use model::paddles::{JOB_STATUSES, JobCounts, JobStatus, RunName};

/// Whether a queued job whose priority nobody said comes after all others.
pub(crate) const RANK_MAX: i64 = 1 << 40;

pub(crate) const RUN_COLUMNS: &str = "r.id, r.name, r.by_user, r.scheduled, r.suite, r.branch, r.machine_type, r.posted, \
    r.started, r.updated, r.first_job, r.sha1, r.flavor, r.priority, r.status, r.queued, r.pass, r.running, r.waiting, r.fail, \
    r.dead, r.unknown";
pub(crate) const JOB_COLUMNS: &str =
    "j.seq, r.name as run, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated";

const INSERT_RUN: &str = "insert into paddles_run (name, by_user, scheduled, suite, branch, machine_type, listed_at, posted, \
    status, queued, pass, running, waiting, fail, dead, unknown) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, 'empty', 0, 0, 0, 0, 0, 0, 0) on conflict (name) do nothing";

/// Makes a run; `false` when it is there.
pub(crate) async fn make_run(session: &mut Session, name: &str, parsed: &RunName) -> Result<bool> {
    let now = session.now;
    let RunName { user, scheduled, suite, branch, machine_type } = parsed;
    let values = values![
        name,
        user.as_deref(),
        *scheduled,
        suite.as_deref(),
        branch.as_deref(),
        machine_type.as_deref(),
        scheduled.unwrap_or(now),
        now,
    ];
    Ok(session.run(INSERT_RUN, values).await? > 0)
}

pub(crate) fn read_counts(row: &Row) -> Result<JobCounts> {
    let mut counts = JobCounts::default();
    for status in JOB_STATUSES {
        *counts.of_mut(status) = row.int(status.as_str())?;
    }
    Ok(counts)
}

pub(crate) fn read_run(row: &Row) -> Result<PaddlesRun> {
    Ok(PaddlesRun {
        name: row.text("name")?,
        user: row.text_opt("by_user")?,
        scheduled: row.time_opt("scheduled")?,
        suite: row.text_opt("suite")?,
        branch: row.text_opt("branch")?,
        machine_type: row.text_opt("machine_type")?,
        posted: row.time("posted")?,
        started: row.time_opt("started")?,
        updated: row.time_opt("updated")?,
        sha1: row.text_opt("sha1")?,
        flavor: row.text_opt("flavor")?,
        priority: row.int_opt("priority")?,
        counts: read_counts(row)?,
    })
}

pub(crate) fn read_status(row: &Row) -> Result<JobStatus> {
    let word = row.text("status")?;
    JobStatus::parse(&word).ok_or_else(|| crate::StoreError::Inconsistent {
        table: "paddles_job",
        message: format!("`{word}` is no status"),
    })
}

/// A job; `brief` rows have no body.
pub(crate) fn read_job(row: &Row, brief: bool) -> Result<PaddlesJob> {
    Ok(PaddlesJob {
        seq: row.int("seq")?,
        run: row.text("run")?,
        job_id: row.text("job_id")?,
        task: row.id("task_id")?.into(),
        status: read_status(row)?,
        posted: row.time("posted")?,
        started: row.time_opt("started")?,
        updated: row.time("updated")?,
        body: if brief { String::new() } else { row.text("body")? },
    })
}
