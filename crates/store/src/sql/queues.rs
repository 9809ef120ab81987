//! Queues, workers, and the calls of those who run tasks.

use super::{
    SqlStore, claim, finish,
    heartbeat::heartbeat,
    lanes::known_workers,
    outgoing::Outgoing,
    session::{Session, Sql, transaction},
    task_row::{TaskRow, select_task},
    tasks::milliseconds,
    value::{json, values},
};
use crate::{Claim, Finished, Paused, Queue, QueueStatus, Result, StoreError, WorkerMode, WorkerStatus};
use async_trait::async_trait;
use chrono::Duration;
use model::{
    Offer, TaskId,
    ids::{QueueName, WorkerName},
    message::TaskChange,
    protocol::{Assignment, FinishRequest, HeartbeatEntry, Held, Order},
};
use std::collections::HashMap;

/// A worker that was heard of so lately, and offers the same, is not written again.
const HELLO_GRAIN: Duration = Duration::seconds(5);
/// How long a worker that is not heard of keeps its name from another one.
const NAME_HELD: Duration = Duration::seconds(60);
/// How many tasks of a lane are told of when nobody is left for it.
const UNMET_TOLD_MAX: u32 = 100;

const WORKER: &str = "select version, offer, mode, last_seen, left_at from worker where name = $1";
const HELLO: &str = "insert into worker (name, version, offer, mode, last_seen) values ($1, $2, $3, 'active', $4) \
    on conflict (name) do update set version = excluded.version, offer = excluded.offer, \
    last_seen = excluded.last_seen, left_at = null";
const LEAVE: &str = "update worker set left_at = $2 where name = $1";
const UNMET_LANES: &str = "select id from lane where unmet is not null order by id";
const MET: &str = "update lane set unmet = null where id = $1";
const QUEUES: &str = "select name, paused_by, paused_why, paused_since from queue order by name";
const OPEN: &str = "select queue, state, count(*) as n, min(since) as oldest from task \
    where state in ('waiting', 'queued', 'delayed', 'running') group by queue, state";
const UNMET_COUNTS: &str = "select t.queue, count(*) as n from lane l join task t on t.lane_id = l.id \
    where l.unmet is not null and t.state in ('queued', 'delayed') group by t.queue";
const PAUSE: &str = "update queue set paused_by = $2, paused_why = $3, paused_since = $4 where name = $1";
const MAKE_PAUSED: &str = "insert into queue (name, paused_by, paused_why, paused_since) values ($1, $2, $3, $4) \
    on conflict (name) do update set paused_by = excluded.paused_by, paused_why = excluded.paused_why, \
    paused_since = excluded.paused_since";
const RESUME: &str =
    "update queue set paused_by = null, paused_why = null, paused_since = null where name = $1";
const WORKERS: &str = "select name, version, offer, mode, last_seen, left_at from worker order by name";
const RUNNING: &str = "select id, worker from task where state = 'running' order by id";
const FORGET: &str = "delete from worker where last_seen < $1";
/// Lanes with queued tasks that are not known to be unmet.
const MET_LANES: &str = "select l.id from lane l where l.unmet is null \
    and exists (select 1 from task t where t.lane_id = l.id and t.state in ('queued', 'delayed')) order by l.id";
const MARK_UNMET: &str = "update lane set unmet = $2 where id = $1 and unmet is null";
const HEADS: Sql = Sql {
    sqlite: select_task!(
        "where t.lane_id = $1 and t.state = 'queued' order by t.priority desc, t.turn, t.id limit $2"
    ),
    postgres: select_task!(
        "where t.lane_id = $1 and t.state = 'queued' order by t.priority desc, t.turn, t.id limit $2 \
         for update of t skip locked"
    ),
};

#[async_trait]
impl Queue for SqlStore {
    async fn hello(&self, worker: &WorkerName, version: &str, offer: &Offer) -> Result<WorkerMode> {
        if let Some(mode) = self.heard_lately(worker, version, offer).await? {
            return Ok(mode);
        }
        transaction!(self, |session| hello(self, session, worker, version, offer))
    }

    async fn claim(&self, request: &Claim) -> Result<Vec<Assignment>> {
        if request.max == 0 {
            return Ok(Vec::new());
        }
        let lanes = claim::lanes_for(self, &mut self.read().await?, request).await?;
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        transaction!(self, |session| claim::claim(session, request, &lanes))
    }

    async fn held(&self, worker: &WorkerName) -> Result<Vec<Assignment>> {
        claim::held(&mut self.read().await?, worker).await
    }

    async fn heartbeat(
        &self,
        worker: &WorkerName,
        entries: &[HeartbeatEntry],
        lease_ms: u64,
    ) -> Result<Vec<Order>> {
        transaction!(self, |session| heartbeat(session, worker, entries, lease_ms))
    }

    async fn finish(&self, task: TaskId, request: &FinishRequest) -> Result<Finished> {
        finish::finish(self, task, request).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<Held>> {
        finish::reap(self, limit).await
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        queues(&mut self.read().await?).await
    }

    async fn pause_queue(&self, queue: &QueueName, by: &str, why: Option<&str>, make: bool) -> Result<()> {
        let sql = if make { MAKE_PAUSED } else { PAUSE };
        let paused = transaction!(self, |session| {
            let now = session.now;
            session.run(sql, values![queue, by, why, now])
        })?;
        match paused {
            0 => Err(StoreError::NotFound { what: "queue", id: queue.to_string() }),
            _ => Ok(()),
        }
    }

    async fn resume_queue(&self, queue: &QueueName) -> Result<()> {
        match transaction!(self, |session| session.run(RESUME, values![queue]))? {
            0 => Err(StoreError::NotFound { what: "queue", id: queue.to_string() }),
            _ => Ok(()),
        }
    }

    async fn workers(&self, alive_ms: u64) -> Result<Vec<WorkerStatus>> {
        let now = self.now_of_database().await?;
        workers(&mut self.read().await?, now - milliseconds(alive_ms)).await
    }

    async fn leave(&self, worker: &WorkerName) -> Result<()> {
        transaction!(self, |session| leave(self, session, worker))
    }

    async fn worker_mode(&self, worker: &WorkerName) -> Result<Option<WorkerMode>> {
        let row = self.read().await?.first(WORKER, values![worker]).await?;
        row.map(|row| row.parsed("mode")).transpose()
    }

    async fn set_worker_mode(&self, worker: &WorkerName, mode: WorkerMode) -> Result<()> {
        let sql = "update worker set mode = $2 where name = $1";
        match transaction!(self, |session| session.run(sql, values![worker, mode.as_str()]))? {
            0 => Err(StoreError::NotFound { what: "worker", id: worker.to_string() }),
            _ => Ok(()),
        }
    }

    async fn forget_workers(&self, silent_ms: u64) -> Result<u64> {
        let forgotten = transaction!(self, |session| {
            let since = session.now - milliseconds(silent_ms);
            session.run(FORGET, values![since])
        })?;
        transaction!(self, |session| mark_unmet(self, session))?;
        Ok(forgotten)
    }
}

impl SqlStore {
    /// The mode of a worker of which nothing new is to be written.
    async fn heard_lately(
        &self,
        worker: &WorkerName,
        version: &str,
        offer: &Offer,
    ) -> Result<Option<WorkerMode>> {
        let now = self.now_of_database().await?;
        let mut session = self.read().await?;
        let Some(row) = session.first(WORKER, values![worker]).await? else { return Ok(None) };
        let same = row.text("version")? == version
            && row.json::<Offer>("offer")? == *offer
            && row.time_opt("left_at")?.is_none()
            && (now - row.time("last_seen")?).abs() < HELLO_GRAIN;
        let mode = row.parsed("mode")?;
        let fresh = same && met_lanes(self, &mut session, mode, offer).await?.is_empty();
        Ok(fresh.then_some(mode))
    }
}

/// The unmet lanes that this worker can serve.
async fn met_lanes(
    store: &SqlStore,
    session: &mut Session,
    mode: WorkerMode,
    offer: &Offer,
) -> Result<Vec<i64>> {
    if mode == WorkerMode::Drain {
        return Ok(Vec::new());
    }
    let rows = session.all(UNMET_LANES, Vec::new()).await?;
    let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>>>()?;
    let lanes = store.lanes(session, &ids).await?;
    Ok(lanes.iter().filter(|lane| lane.met_by(offer)).map(|lane| lane.id).collect())
}

async fn hello(
    store: &SqlStore,
    session: &mut Session,
    worker: &WorkerName,
    version: &str,
    offer: &Offer,
) -> Result<WorkerMode> {
    let now = session.now;
    if let Some(row) = session.first(WORKER, values![worker]).await? {
        let known: Offer = row.json("offer")?;
        let other = known.identity.is_some() && offer.identity.is_some() && known.identity != offer.identity;
        let last_seen = row.time("last_seen")?;
        if other && row.time_opt("left_at")?.is_none() && (now - last_seen).abs() < NAME_HELD {
            return Err(StoreError::Conflict(format!(
                "another worker is named `{worker}`, heard of at {}; give this one a name of its own (`worker.name`)",
                last_seen.format("%H:%M:%S UTC")
            )));
        }
    }
    session.run(HELLO, values![worker, version, json(offer)?, now]).await?;
    let mode = session.one(WORKER, values![worker]).await?.parsed("mode")?;
    for lane in met_lanes(store, session, mode, offer).await? {
        session.run(MET, values![lane]).await?;
    }
    Ok(mode)
}

async fn leave(store: &SqlStore, session: &mut Session, worker: &WorkerName) -> Result<()> {
    let now = session.now;
    session.run(LEAVE, values![worker, now]).await?;
    mark_unmet(store, session).await
}

/// Marks the lanes that nobody is left for.
async fn mark_unmet(store: &SqlStore, session: &mut Session) -> Result<()> {
    let now = session.now;
    let workers = known_workers(session, now).await?;
    let rows = session.all(MET_LANES, Vec::new()).await?;
    let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>>>()?;
    let mut out = Outgoing::default();
    for lane in store.lanes(session, &ids).await? {
        let Some(why) = lane.unmet(&workers) else { continue };
        if session.run(MARK_UNMET, values![lane.id, why]).await? == 0 {
            continue;
        }
        for row in session.all(HEADS, values![lane.id, UNMET_TOLD_MAX]).await? {
            out.task(&TaskRow::read(&row)?.task, TaskChange::Unmet);
        }
    }
    out.write(session).await
}

async fn queues(session: &mut Session) -> Result<Vec<QueueStatus>> {
    let mut queues = Vec::new();
    for row in session.all(QUEUES, Vec::new()).await? {
        let paused = match (row.text_opt("paused_by")?, row.time_opt("paused_since")?) {
            (Some(by), Some(since)) => Some(Paused { by, why: row.text_opt("paused_why")?, since }),
            _ => None,
        };
        let name = QueueName::from(row.text("name")?);
        queues.push(QueueStatus {
            name,
            paused,
            queued: 0,
            unmet: 0,
            waiting: 0,
            running: 0,
            oldest_queued_at: None,
        });
    }
    let index: HashMap<_, _> =
        queues.iter().enumerate().map(|(at, queue)| (queue.name.as_str().to_owned(), at)).collect();
    for row in session.all(OPEN, Vec::new()).await? {
        let Some(queue) = index.get(&row.text("queue")?).and_then(|at| queues.get_mut(*at)) else { continue };
        let n: u64 = row.number("n")?;
        match row.text("state")?.as_str() {
            "waiting" => queue.waiting += n,
            "running" => queue.running += n,
            _ => {
                queue.queued += n;
                let oldest = row.time_opt("oldest")?;
                queue.oldest_queued_at = [queue.oldest_queued_at, oldest].into_iter().flatten().min();
            }
        }
    }
    for row in session.all(UNMET_COUNTS, Vec::new()).await? {
        if let Some(queue) = index.get(&row.text("queue")?).and_then(|at| queues.get_mut(*at)) {
            queue.unmet = row.number("n")?;
        }
    }
    Ok(queues)
}

async fn workers(
    session: &mut Session,
    alive_since: chrono::DateTime<chrono::Utc>,
) -> Result<Vec<WorkerStatus>> {
    let mut running: HashMap<String, Vec<TaskId>> = HashMap::new();
    for row in session.all(RUNNING, Vec::new()).await? {
        running.entry(row.text("worker")?).or_default().push(row.id("id")?.into());
    }
    let rows = session.all(WORKERS, Vec::new()).await?;
    let read = |row: &super::value::Row| {
        let name = row.text("name")?;
        let last_seen = row.time("last_seen")?;
        let left_at = row.time_opt("left_at")?;
        Ok(WorkerStatus {
            version: row.text("version")?,
            offer: row.json("offer")?,
            mode: row.parsed("mode")?,
            last_seen,
            alive: last_seen >= alive_since && left_at.is_none(),
            left_at,
            running: running.get(&name).cloned().unwrap_or_default(),
            name: name.into(),
        })
    };
    rows.iter().map(read).collect()
}
