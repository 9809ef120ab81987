//! Queues, workers, and the calls of those who run tasks.

use super::{
    SqlStore, claim, finish,
    heartbeat::heartbeat,
    paddles_queues,
    session::{Session, transaction},
    tasks::milliseconds,
    value::{Row, values},
    workers,
};
use crate::{
    Claim, Finished, Paused, Queue, QueueStatus, Result, StoreError, WorkerMode, WorkerStatus, WorkerWish,
};
use async_trait::async_trait;
use model::{
    Offer, TaskId,
    ids::{QueueName, WorkerName},
    protocol::{Assignment, FinishRequest, HeartbeatEntry, Held, Order},
};
use std::collections::HashMap;

const QUEUES: &str = "select name, paused_by, paused_why, paused_since from queue order by name";
const PAUSED: &str = "select paused_by, paused_why, paused_since from queue where name = $1";
const OPEN: &str = "select queue, state, count(*) as n, min(since) as oldest from task \
    where state in ('waiting', 'queued', 'delayed', 'running') group by queue, state";
const UNMET_COUNTS: &str = "select t.queue, count(*) as n from lane l join task t on t.lane_id = l.id \
    where l.unmet is not null and t.state in ('queued', 'delayed') group by t.queue";
const PAUSE: &str = "update queue set paused_by = $2, paused_why = $3, paused_since = $4, paused_until = null where name = $1";
const MAKE_PAUSED: &str = "insert into queue (name, paused_by, paused_why, paused_since) values ($1, $2, $3, $4) \
    on conflict (name) do update set paused_by = excluded.paused_by, paused_why = excluded.paused_why, \
    paused_since = excluded.paused_since, paused_until = null";
const RESUME: &str = "update queue set paused_by = null, paused_why = null, paused_since = null, paused_until = null where name = $1";
const FORGET: &str = "delete from worker where last_seen < $1";

#[async_trait]
impl Queue for SqlStore {
    async fn hello(&self, worker: &WorkerName, version: &str, offer: &Offer) -> Result<WorkerMode> {
        if let Some(mode) = self.heard_lately(worker, version, offer).await? {
            return Ok(mode);
        }
        transaction!(self, |session| workers::hello(self, session, worker, version, offer))
    }

    async fn claim(&self, request: &Claim) -> Result<Vec<Assignment>> {
        if request.max == 0 {
            return Ok(Vec::new());
        }
        let lanes = claim::lanes_for(self, &mut self.read().await?, request).await?;
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        transaction!(self, |session| claim::claim(self, session, request, &lanes))
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
        let now = self.now_of_database().await?;
        if paddles_queues::has_lapsed(&mut self.read().await?, now).await? {
            transaction!(self, |session| paddles_queues::end_pauses(session))?;
        }
        finish::reap(self, limit).await
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        queues(&mut self.read().await?).await
    }

    async fn paused(&self, queue: &QueueName) -> Result<Option<Paused>> {
        let row = self.read().await?.first(PAUSED, values![queue]).await?;
        row.as_ref().map_or(Ok(None), read_paused)
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
        workers::workers(self, &mut self.read().await?, now, now - milliseconds(alive_ms)).await
    }

    async fn leave(&self, worker: &WorkerName) -> Result<()> {
        transaction!(self, |session| workers::leave(self, session, worker))
    }

    async fn worker_mode(&self, worker: &WorkerName) -> Result<Option<WorkerMode>> {
        let wish = workers::wish_of(&mut self.read().await?, worker).await?;
        Ok(wish.map(|wish| wish.mode))
    }

    async fn set_worker_mode(&self, worker: &WorkerName, wish: &WorkerWish) -> Result<()> {
        match transaction!(self, |session| workers::set_wish(self, session, worker, wish))? {
            0 => Err(StoreError::NotFound { what: "worker", id: worker.to_string() }),
            _ => Ok(()),
        }
    }

    async fn held_up(&self, task: TaskId) -> Result<Option<String>> {
        let now = self.now_of_database().await?;
        workers::held_up(self, &mut self.read().await?, task, now).await
    }

    async fn forget_workers(&self, silent_ms: u64) -> Result<u64> {
        let forgotten = transaction!(self, |session| {
            let since = session.now - milliseconds(silent_ms);
            session.run(FORGET, values![since])
        })?;
        transaction!(self, |session| workers::mark_unmet(self, session))?;
        Ok(forgotten)
    }
}

fn read_paused(row: &Row) -> Result<Option<Paused>> {
    Ok(match (row.text_opt("paused_by")?, row.time_opt("paused_since")?) {
        (Some(by), Some(since)) => Some(Paused { by, why: row.text_opt("paused_why")?, since }),
        _ => None,
    })
}

async fn queues(session: &mut Session) -> Result<Vec<QueueStatus>> {
    let mut queues = Vec::new();
    for row in session.all(QUEUES, Vec::new()).await? {
        let paused = read_paused(&row)?;
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
