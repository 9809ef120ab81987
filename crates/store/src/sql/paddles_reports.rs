//! Reports of jobs: the jobs, their runs' counts, their tasks and their results. Each statement is for all that is
//! reported at once, and reads no job that nothing is said of.

use super::{
    SqlStore,
    paddles_job::{JOBS, JobRow, changing, place, rename},
    paddles_row::{make_run, read_counts},
    results::store_results,
    session::{Bulk, Kind, Session, Sql},
    task_row::TaskRow,
    value::{Row, Value, values},
    work::Work,
};
use crate::{NewTask, PaddlesReport, PaddlesReported, PaddlesTarget, Result, StoreError};
use chrono::{DateTime, Utc};
use model::{
    Task, TaskState,
    message::{EndedTasks, TaskChange},
    paddles::{JOB_STATUSES, Job, JobCounts, JobReport, JobStatus},
};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Locked in the order of their numbers, and before any job.
const LOCK_RUNS: Sql = Sql {
    sqlite: "select * from paddles_run where name in (select value from json_each($1)) order by id",
    // There is a row in any case: it has the time.
    postgres: "select taskbot_now() as now, r.* from (select 1) as one left join lateral \
        (select * from paddles_run where name = any($1) order by id for update) r on true",
};
static RUNS: Bulk = Bulk {
    table: "paddles_run",
    columns: &[
        ("id", Kind::Int),
        ("status", Kind::Text),
        ("queued", Kind::Int),
        ("pass", Kind::Int),
        ("running", Kind::Int),
        ("waiting", Kind::Int),
        ("fail", Kind::Int),
        ("dead", Kind::Int),
        ("unknown", Kind::Int),
        ("suite", Kind::Text),
        ("branch", Kind::Text),
        ("machine_type", Kind::Text),
        ("started", Kind::Time),
        ("updated", Kind::Time),
        ("first_job", Kind::Int),
        ("sha1", Kind::Text),
        ("flavor", Kind::Text),
        ("priority", Kind::Int),
    ],
    tail: "",
};
/// The columns of [`JOBS`] but for the number, which is given, behind those that never change.
const INSERT: Bulk = Bulk {
    table: "paddles_job",
    columns: changing!(
        ("run_id", Kind::Int),
        ("job_id", Kind::Text),
        ("task_id", Kind::Id),
        ("posted", Kind::Time),
    ),
    tail: "on conflict (run_id, job_id) do nothing returning seq, run_id, job_id",
};
const LOCK_JOBS: Sql = Sql {
    sqlite: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from json_each($1) r join json_each($2) w on w.key = r.key \
        join paddles_job j on j.run_id = r.value and j.job_id = w.value order by j.seq",
    postgres: "select j.seq, j.run_id, j.job_id, j.task_id, j.status, j.posted, j.started, j.updated, j.body, j.handed_until \
        from unnest($1::bigint[], $2::text[]) as w (run_id, job_id) \
        join paddles_job j on j.run_id = w.run_id and j.job_id = w.job_id order by j.seq for update of j",
};

/// A run as it is written in the end.
struct RunRow {
    id: i64,
    counts: JobCounts,
    /// What it is called by.
    suite: Option<String>,
    branch: Option<String>,
    machine_type: Option<String>,
    started: Option<DateTime<Utc>>,
    updated: Option<DateTime<Utc>>,
    /// The job that it takes what follows over from.
    first_job: Option<i64>,
    sha1: Option<String>,
    flavor: Option<String>,
    priority: Option<i64>,
    /// Whether anything was reported of it.
    changed: bool,
}

impl RunRow {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.int("id")?,
            counts: read_counts(row)?,
            suite: row.text_opt("suite")?,
            branch: row.text_opt("branch")?,
            machine_type: row.text_opt("machine_type")?,
            started: row.time_opt("started")?,
            updated: row.time_opt("updated")?,
            first_job: row.int_opt("first_job")?,
            sha1: row.text_opt("sha1")?,
            flavor: row.text_opt("flavor")?,
            priority: row.int_opt("priority")?,
            changed: false,
        })
    }

    /// The values of [`RUNS`].
    fn values(&self) -> Vec<Value> {
        let mut values = values![self.id, self.counts.status()];
        values.extend(JOB_STATUSES.into_iter().map(|status| Value::from(self.counts.of(status))));
        values.extend(values![
            self.suite.as_ref(),
            self.branch.as_ref(),
            self.machine_type.as_ref(),
            self.started,
            self.updated,
            self.first_job,
            self.sha1.as_ref(),
            self.flavor.as_ref(),
            self.priority,
        ]);
        values
    }

    /// Counts a job that was reported, and takes over what its run shows of it.
    fn count(&mut self, row: &JobRow, before: Option<JobStatus>, report: &JobReport) {
        let job = &row.job;
        let change = JobCounts::change(before, Some(job.status));
        for status in JOB_STATUSES {
            *self.counts.of_mut(status) += change.of(status);
        }
        let said = |key: &str| {
            let text = report.fields.get(key).and_then(Json::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        self.suite = said("suite").or(self.suite.take());
        self.branch = said("branch").or(self.branch.take());
        self.machine_type = said("machine_type").or(self.machine_type.take());
        self.started = self.started.or(job.started);
        self.updated = self.updated.max(Some(job.updated));
        if *self.first_job.get_or_insert(row.seq) == row.seq {
            let text = |key: &str| job.text(key).map(str::to_owned);
            (self.sha1, self.flavor, self.priority) = (text("sha1"), text("flavor"), job.priority());
        }
        self.changed = true;
    }
}

/// A job that was reported.
struct Reported<'a> {
    /// The place of its report.
    at: usize,
    row: JobRow,
    before: Option<JobStatus>,
    report: &'a PaddlesReport,
    /// Whether it runs on other nodes than before.
    moved: bool,
}

/// Takes reports over, in their order.
pub(crate) async fn take_over(
    store: &SqlStore,
    session: &mut Session,
    reports: &[PaddlesReport],
) -> Result<Vec<PaddlesReported>> {
    let mut work = Work::new(session, store);
    let mut said = Vec::with_capacity(reports.len());
    let mut rest = reports;
    while !rest.is_empty() {
        let (round, later) = rest.split_at(of_different_jobs(rest));
        said.extend(take_round(&mut work, round).await?);
        rest = later;
    }
    work.done().await?;
    Ok(said)
}

/// How many of the first reports are about different jobs.
fn of_different_jobs(reports: &[PaddlesReport]) -> usize {
    let mut jobs = HashSet::new();
    let repeated = |report: &PaddlesReport| {
        let job = match &report.target {
            PaddlesTarget::New { .. } => report.report.job_id.as_deref(),
            PaddlesTarget::Existing { job_id } => Some(job_id.as_str()),
        };
        job.is_some_and(|job| !jobs.insert((report.run.clone(), job.to_owned())))
    };
    reports.iter().position(repeated).unwrap_or(reports.len())
}

async fn take_round(work: &mut Work<'_>, round: &[PaddlesReport]) -> Result<Vec<PaddlesReported>> {
    let mut said = vec![PaddlesReported::Missing; round.len()];
    let mut runs = lock_runs(work.session, round).await?;
    work.now = work.session.now;
    let mut jobs = insert(work.session, round, &runs, &mut said).await?;
    jobs.extend(update(work.session, round, &runs).await?);
    for Reported { at, row, before, report, moved } in &jobs {
        if *moved {
            place(work.session, row, &report.report).await?;
        }
        if let Some(run) = runs.get_mut(report.run.as_str()) {
            run.count(row, *before, &report.report);
        }
        said[*at] = PaddlesReported::Done(row.job.job_id.clone());
    }
    let changed = runs.values().filter(|run| run.changed).map(RunRow::values).collect();
    work.session.update_later(&RUNS, changed).await?;
    make_tasks(work, &jobs, &runs).await?;
    follow(work, &jobs, &runs).await?;
    Ok(said)
}

type Runs<'a> = BTreeMap<&'a str, RunRow>;

/// The runs that are reported of; those of new jobs are made.
async fn lock_runs<'a>(session: &mut Session, round: &'a [PaddlesReport]) -> Result<Runs<'a>> {
    let names: BTreeMap<&str, &PaddlesReport> =
        round.iter().map(|report| (report.run.as_str(), report)).collect();
    let mut runs = read_runs(session, names.keys().copied().collect()).await?;
    let mut made = Vec::new();
    for report in round {
        if let PaddlesTarget::New { name, .. } = &report.target
            && !runs.contains_key(report.run.as_str())
            && !made.contains(&report.run.as_str())
        {
            make_run(session, &report.run, name).await?;
            made.push(&report.run);
        }
    }
    if !made.is_empty() {
        runs.extend(read_runs(session, made).await?);
    }
    Ok(runs)
}

async fn read_runs<'a>(session: &mut Session, names: Vec<&'a str>) -> Result<Runs<'a>> {
    let mut runs = Runs::new();
    for row in session.all(LOCK_RUNS, vec![Value::texts(&names)]).await? {
        session.take_clock(&row)?;
        let name = row.text_opt("name")?;
        if let Some(name) = names.iter().find(|known| Some(**known) == name.as_deref()) {
            runs.insert(name, RunRow::read(&row)?);
        }
    }
    Ok(runs)
}

/// Inserts new jobs. Of those that are there it says so.
async fn insert<'a>(
    session: &mut Session,
    round: &'a [PaddlesReport],
    runs: &Runs<'_>,
    said: &mut [PaddlesReported],
) -> Result<Vec<Reported<'a>>> {
    let now = session.now;
    let (mut jobs, mut rows) = (Vec::new(), Vec::new());
    for (at, report) in round.iter().enumerate() {
        let PaddlesTarget::New { task, .. } = &report.target else { continue };
        let run = runs.get(report.run.as_str());
        let gone = || StoreError::Conflict(format!("run {} is being removed", report.run));
        let run_id = run.ok_or_else(gone)?.id;
        // One without an id is called by its number, which is known once it is there.
        let job_id = report.report.job_id.clone().unwrap_or_else(|| task.id.to_string());
        let job = Job::new(job_id, &report.report, now);
        let row = JobRow { seq: 0, run_id, task: task.id, handed_until: None, job };
        let mut values = values![run_id, &row.job.job_id, row.task, row.job.posted];
        values.extend(row.values()?.into_iter().skip(1));
        rows.push(values);
        let moved = report.report.fields.contains_key("targets");
        jobs.push(Reported { at, row, before: None, report, moved });
    }
    let mut numbers = HashMap::new();
    for row in session.insert(&INSERT, rows).await? {
        numbers.insert((row.int("run_id")?, row.text("job_id")?), row.int("seq")?);
    }
    let mut made = Vec::with_capacity(jobs.len());
    for mut job in jobs {
        let key = (job.row.run_id, job.row.job.job_id.clone());
        let Some(seq) = numbers.get(&key) else {
            said[job.at] = PaddlesReported::Exists(key.1);
            continue;
        };
        job.row.seq = *seq;
        if job.report.report.job_id.is_none() {
            job.row.job.job_id = rename(session, job.row.run_id, *seq).await?;
            job.row.save(session).await?;
        }
        made.push(job);
    }
    Ok(made)
}

/// Changes the jobs that are there.
async fn update<'a>(
    session: &mut Session,
    round: &'a [PaddlesReport],
    runs: &Runs<'_>,
) -> Result<Vec<Reported<'a>>> {
    let mut wanted = HashMap::new();
    for (at, report) in round.iter().enumerate() {
        if let (PaddlesTarget::Existing { job_id }, Some(run)) =
            (&report.target, runs.get(report.run.as_str()))
        {
            wanted.insert((run.id, job_id.clone()), (at, report));
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (run_ids, job_ids): (Vec<_>, Vec<_>) = wanted.keys().cloned().unzip();
    let now = session.now;
    let (mut jobs, mut rows) = (Vec::new(), Vec::new());
    for row in session.all(LOCK_JOBS, vec![Value::Ints(run_ids), Value::Texts(job_ids)]).await? {
        let mut row = JobRow::read(&row)?;
        let Some((at, report)) = wanted.remove(&(row.run_id, row.job.job_id.clone())) else { continue };
        let (before, targets) = (row.job.status, row.job.fields.get("targets").cloned());
        row.job.report(&report.report, now);
        // Who says that it is queued gives it back; what else is said of it leaves it with whom it was handed.
        if row.job.status != JobStatus::Queued || report.report.status.is_some() {
            row.handed_until = None;
        }
        rows.push(row.values()?);
        let moved = row.job.fields.get("targets") != targets.as_ref();
        jobs.push(Reported { at, row, before: Some(before), report, moved });
    }
    session.update_later(&JOBS, rows).await?;
    // As they were said, not as they were found.
    jobs.sort_by_key(|job| job.at);
    Ok(jobs)
}

/// Makes the tasks of new jobs.
async fn make_tasks(work: &mut Work<'_>, jobs: &[Reported<'_>], runs: &Runs<'_>) -> Result<()> {
    let now = work.now;
    let new = jobs.iter().filter_map(|job| match &job.report.target {
        PaddlesTarget::New { task, .. } => Some((job, task_of(work.store, &job.row.job, task, now))),
        PaddlesTarget::Existing { .. } => None,
    });
    let mut new: Vec<_> = new.collect();
    let rows: Vec<_> = new.iter().map(|(_, task)| task).collect();
    TaskRow::insert(work.session, &rows).await?;
    for (job, task) in &mut new {
        work.made(task);
        work.out.task(&task.task, TaskChange::Created);
        tell(work, task, job, runs).await?;
    }
    Ok(())
}

/// A task that stands where its job does.
fn task_of(store: &SqlStore, job: &Job, new: &NewTask, now: DateTime<Utc>) -> TaskRow {
    let mut row = TaskRow::new(new, None, new.batch.as_deref().and_then(|name| store.batch_id(name)), now);
    // Waiting is what a task begins with; nothing of it is told.
    row.task.state = job.task_state(&queued(&row.task, now), 1, now);
    let running = row.task.state.running().is_some();
    (row.fence, row.task.attempts) = (1, u32::from(running));
    row
}

/// The task as if it were queued: what follows does not depend on how it was made.
fn queued(task: &Task, now: DateTime<Utc>) -> Task {
    Task { state: TaskState::Queued { since: now, not_before: None, unmet: None }, ..task.clone() }
}

/// Lets tasks follow the jobs whose status changed.
async fn follow(work: &mut Work<'_>, jobs: &[Reported<'_>], runs: &Runs<'_>) -> Result<()> {
    let changed = jobs.iter().filter(|job| job.before.is_some_and(|before| before != job.row.job.status));
    let changed: Vec<_> = changed.collect();
    // Those that are missing were kept long enough.
    let mut tasks = TaskRow::lock_all(work.session, changed.iter().map(|job| job.row.task)).await?;
    let mut followed = Vec::with_capacity(changed.len());
    for job in changed {
        let Some(mut task) = tasks.remove(&job.row.task) else { continue };
        let before = task.task.state.clone();
        let after = job.row.job.task_state(&task.task, task.fence + 1, work.now);
        if after == before {
            continue;
        }
        let starts = after.running().is_some() && before.running().is_none();
        if before.is_final() {
            work.reopened(&task);
        }
        // Each end is told by a number of its own.
        task.task.attempts += u32::from(starts || before.is_final());
        task.fence += 1;
        task.task.state = job.row.job.task_state(&task.task, task.fence, work.now);
        if let TaskState::Running { attempt, .. } = &mut task.task.state {
            *attempt = task.task.attempts;
        }
        tell(work, &mut task, job, runs).await?;
        followed.push(task);
    }
    TaskRow::save_all(work.session, &followed).await
}

/// Tells where the task stands, and stores the result that it is.
async fn tell(work: &mut Work<'_>, task: &mut TaskRow, job: &Reported<'_>, runs: &Runs<'_>) -> Result<()> {
    if !task.task.state.is_final() {
        let running = task.task.state.running().is_some();
        work.out.task(&task.task, if running { TaskChange::Started } else { TaskChange::Queued });
        return Ok(());
    }
    let run = job.report.run.as_str();
    if let (Some(batch), Some(run)) = (task.task.batch, runs.get(run)) {
        work.ended_as(batch, ended(&task.task, &run.counts));
    }
    work.ended(task);
    if let Some(result) = job.row.job.result(&task.task, run) {
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
