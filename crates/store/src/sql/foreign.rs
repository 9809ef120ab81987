//! Jobs of other systems' agents: what is written of them.

use super::{
    SqlStore, finish, foreign_read,
    session::{Session, Sql, transaction},
    task_row::TaskRow,
    tasks::milliseconds,
    value::{json, values},
    work::Work,
};
use crate::{
    FOREIGN_DATA_BYTES_MAX, ForeignFile, ForeignJob, ForeignJobs, ForeignQuery, ForeignRecord, ForeignReport,
    Fragment, Result, StoreError,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    Task, TaskId, TaskState,
    attempt::AttemptRef,
    ids::{QueueName, WorkerName},
    protocol::Held,
    task::{TaskKind, WaitReason},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

const INSERT: &str = "insert into foreign_job (id, system, job_id, queue, attempt, state, data, acknowledged, created_at) \
    values ($1, $2, $3, $4, 0, null, '{}', $5, $6) on conflict (id) do nothing";
const TAG: &str = "insert into foreign_tag (system, tag, id) values ($1, $2, $3) on conflict do nothing";
const START: &str = "update foreign_job set attempt = $2, state = null, data = '{}', acknowledged = $3, \
    started_at = $4, waited_ms = coalesce(waited_ms, $5) where id = $1";
const WRITE: &str =
    "update foreign_job set attempt = $2, state = $3, data = $4, acknowledged = $5 where id = $1";
const ACKNOWLEDGE: &str = "update foreign_job set acknowledged = $2 where id = $1";
const LATE: &str = "select id from task where worker = $1 and state = 'running' and lease_until < $2 limit 1";
const RENEW: &str = "update task set lease_until = $2 where worker = $1 and state = 'running'";
const FRAGMENT: &str = "insert into foreign_fragment \
    (id, attempt, kind, number, phase, at, size_bytes, key, created_at) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (id, attempt, kind, phase, number) do update set \
    at = excluded.at, size_bytes = excluded.size_bytes, key = excluded.key";
const FILE: &str = "insert into foreign_file (id, kind, size_bytes, key, created_at) values ($1, $2, $3, $4, $5) \
    on conflict (id, kind) do update set size_bytes = excluded.size_bytes, key = excluded.key, \
    created_at = excluded.created_at";
/// A job that is reported by several at the same time is made by one of them.
const LOCK: Sql = Sql {
    sqlite: "select 1 as one",
    postgres: "select 1::bigint as one, pg_advisory_xact_lock(hashtextextended($1, 7262))::text as locked",
};

#[async_trait]
impl ForeignJobs for SqlStore {
    async fn foreign_job(&self, system: &str, job_id: Uuid) -> Result<Option<ForeignJob>> {
        foreign_read::job(&mut self.read().await?, system, job_id).await
    }

    async fn foreign_jobs(&self, system: &str, query: &ForeignQuery) -> Result<Vec<ForeignJob>> {
        foreign_read::jobs(&mut self.read().await?, system, query).await
    }

    async fn report_foreign(
        &self,
        system: &str,
        job_id: Uuid,
        report: &ForeignReport,
        attempt: Option<AttemptRef>,
    ) -> Result<ForeignJob> {
        transaction!(self, |session| write_report(session, system, job_id, report, attempt))
    }

    async fn acknowledge_foreign(&self, id: Uuid) -> Result<()> {
        transaction!(self, passing | session | session.run(ACKNOWLEDGE, values![id, true]))?;
        Ok(())
    }

    async fn renew_foreign(&self, worker: &WorkerName, lease_ms: u64) -> Result<u64> {
        let now = self.now_of_database().await?;
        let (until, late) = (now + milliseconds(lease_ms), now + milliseconds(lease_ms / 10 * 9));
        if self.read().await?.first(LATE, values![worker, late]).await?.is_none() {
            return Ok(0);
        }
        transaction!(self, |session| session.run(RENEW, values![worker, until]))
    }

    async fn lose_attempt(&self, task: TaskId, attempt: AttemptRef) -> Result<bool> {
        let held = Held { task, attempt };
        transaction!(self, on task, |session| finish::give_up(self, session, held))
    }

    async fn attached(&self, task: TaskId) -> Result<Task> {
        let before = TaskRow::get(&mut self.read().await?, task).await?;
        let lane = self.make_lane(&before.task.queue, &before.task.needs).await?;
        transaction!(self, on task, |session| attached(self, session, task, lane))
    }

    async fn add_fragment(&self, id: Uuid, attempt: u32, fragment: &Fragment) -> Result<()> {
        let Fragment { kind, number, phase, at, size_bytes, key } = fragment;
        transaction!(self, |session| {
            let now = session.now;
            session.run(FRAGMENT, values![id, attempt, kind, *number, phase, *at, *size_bytes, key, now])
        })?;
        Ok(())
    }

    async fn fragments(&self, id: Uuid, attempt: u32, kind: Option<&str>) -> Result<Vec<Fragment>> {
        foreign_read::fragments(&mut self.read().await?, id, attempt, kind).await
    }

    async fn put_foreign_file(
        &self,
        id: Uuid,
        kind: &str,
        file: &ForeignFile,
    ) -> Result<Option<ForeignFile>> {
        transaction!(self, |session| put_file(session, id, kind, file))
    }

    async fn foreign_file(&self, id: Uuid, kind: &str) -> Result<Option<ForeignFile>> {
        foreign_read::file(&mut self.read().await?, id, kind).await
    }

    async fn foreign_waits(
        &self,
        system: &str,
        queues: &[QueueName],
    ) -> Result<BTreeMap<QueueName, Vec<u64>>> {
        foreign_read::waits(&mut self.read().await?, system, queues).await
    }

    async fn foreign_record(&self, system: &str, kind: &str, name: &str) -> Result<Option<ForeignRecord>> {
        super::foreign_records::one(self, system, kind, name).await
    }

    async fn foreign_records(&self, system: &str, kind: &str) -> Result<Vec<ForeignRecord>> {
        super::foreign_records::all(self, system, kind).await
    }

    async fn put_foreign_record(
        &self,
        system: &str,
        kind: &str,
        name: &str,
        version: Option<i64>,
        body: &Value,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<bool> {
        super::foreign_records::put(self, (system, kind, name), version, body, expires_at).await
    }

    async fn remove_foreign_record(&self, system: &str, kind: &str, name: &str) -> Result<bool> {
        super::foreign_records::remove(self, system, kind, name).await
    }
}

/// The row of a task that is a foreign job; made with the task.
pub(crate) async fn made(session: &mut Session, task: &Task) -> Result<()> {
    let TaskKind::Foreign { system, job, .. } = &task.kind else { return Ok(()) };
    let id = task.id.uuid();
    let job_id = job.get("job_id").and_then(Value::as_str).and_then(|text| Uuid::try_parse(text).ok());
    let job_id = job_id.unwrap_or(id);
    session.run(INSERT, values![id, system, job_id, &task.queue, false, task.created_at]).await?;
    let tags = job.get("tags").and_then(Value::as_array).into_iter().flatten();
    for tag in tags.filter_map(Value::as_str) {
        session.run(TAG, values![system, tag, id]).await?;
    }
    Ok(())
}

/// An agent was given the job of a task: nothing was said of this attempt yet.
pub(crate) async fn started(session: &mut Session, task: &Task) -> Result<()> {
    if let (TaskKind::Foreign { .. }, Some(attempt)) = (&task.kind, task.state.running()) {
        let now = session.now;
        let waited_ms = u64::try_from((now - task.created_at).num_milliseconds()).unwrap_or(0);
        session.run(START, values![task.id, attempt.attempt, false, now, waited_ms]).await?;
    }
    Ok(())
}

async fn write_report(
    session: &mut Session,
    system: &str,
    job_id: Uuid,
    report: &ForeignReport,
    attempt: Option<AttemptRef>,
) -> Result<ForeignJob> {
    let now = session.now;
    session.one(LOCK, values![job_id.to_string()]).await?;
    let mut job = match foreign_read::job(session, system, job_id).await? {
        Some(job) => job,
        None => {
            session.run(INSERT, values![job_id, system, job_id, "", true, now]).await?;
            let made = foreign_read::job(session, system, job_id).await?;
            made.ok_or_else(|| StoreError::Conflict(format!("job {job_id} is made by somebody else")))?
        }
    };
    let running = job.task.as_ref().and_then(|task| task.state.running());
    if running.is_some() && running != attempt {
        return Ok(job);
    }
    let number = job.task.as_ref().map_or(0, |task| task.attempts);
    if job.attempt != number {
        (job.state, job.data) = (None, Map::new());
    }
    if report.state.is_some() {
        job.state.clone_from(&report.state);
    }
    job.data.extend(report.data.clone());
    (job.attempt, job.acknowledged) = (number, true);
    let data = json(&job.data)?;
    if data.len() > FOREIGN_DATA_BYTES_MAX {
        return Err(StoreError::Poison(format!(
            "what is reported of a job has at most {FOREIGN_DATA_BYTES_MAX} bytes"
        )));
    }
    session.run(WRITE, values![job.id, number, job.state.as_deref(), data, true]).await?;
    Ok(job)
}

async fn attached(store: &SqlStore, session: &mut Session, task: TaskId, lane: i64) -> Result<Task> {
    let mut work = Work::new(session, store);
    let mut row = TaskRow::lock(work.session, task).await?;
    if !matches!(row.task.state, TaskState::Waiting { reason: WaitReason::Attachments, .. }) {
        let message = format!("task {} is {}: it waits for no attachments", task, row.task.state.label());
        return Err(StoreError::Conflict(message));
    }
    row.lane = Some(lane);
    work.queue_or_wait(&mut row).await?;
    work.done().await?;
    Ok(row.task)
}

async fn put_file(
    session: &mut Session,
    id: Uuid,
    kind: &str,
    file: &ForeignFile,
) -> Result<Option<ForeignFile>> {
    let now = session.now;
    let before = foreign_read::file(session, id, kind).await?;
    session.run(FILE, values![id, kind, file.size_bytes, &file.key, now]).await?;
    Ok(before)
}
