//! Lanes: the tasks of a queue that need the same. Which lanes a worker can serve is decided once for each
//! lane, not for each task, and whether anybody can serve a lane is kept with the lane.

use super::{
    SqlStore,
    session::{Session, Sql},
    value::{Row, Value, json, values},
};
use crate::{Result, WORKER_ALIVE_MS, WorkerMode};
use chrono::{DateTime, Duration, Utc};
use model::{Offer, Requirements, ids::QueueName};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// How many workers are named in the text that says why a lane is unmet.
const UNMET_WORKERS_MAX: usize = 5;

/// A lane. It never changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) id: i64,
    pub(crate) queue: QueueName,
    pub(crate) needs: Requirements,
}

/// A worker, as far as it decides what can run.
#[derive(Debug)]
pub(crate) struct KnownWorker {
    pub(crate) name: String,
    pub(crate) offer: Offer,
    pub(crate) mode: WorkerMode,
}

/// The hash that stands for needs in the unique key (their text may be too long for an index).
pub(crate) fn hash_of(needs: &Requirements) -> Result<[u8; 32]> {
    Ok(Sha256::digest(json(needs)?).into())
}

impl Lane {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self { id: row.int("id")?, queue: row.text("queue")?.into(), needs: row.json("requirements")? })
    }

    /// Whether the worker serves its queue and has what it needs.
    pub(crate) fn met_by(&self, offer: &Offer) -> bool {
        offer.queues.contains(&self.queue) && self.needs.met_by(offer)
    }

    /// Why none of the workers can serve it; nothing when one can.
    pub(crate) fn unmet(&self, workers: &[KnownWorker]) -> Option<String> {
        if workers.iter().any(|worker| worker.mode == WorkerMode::Active && self.met_by(&worker.offer)) {
            return None;
        }
        if workers.is_empty() {
            return Some("no worker has made itself known".to_owned());
        }
        let mut lacks: Vec<_> =
            workers.iter().take(UNMET_WORKERS_MAX).map(|worker| self.lack(worker)).collect();
        if workers.len() > UNMET_WORKERS_MAX {
            lacks.push(format!("and {} more", workers.len() - UNMET_WORKERS_MAX));
        }
        Some(lacks.join("; "))
    }

    fn lack(&self, worker: &KnownWorker) -> String {
        let name = &worker.name;
        if worker.mode == WorkerMode::Drain {
            return format!("{name} is drained");
        }
        if !worker.offer.queues.contains(&self.queue) {
            return format!("{name} does not serve queue {}", self.queue);
        }
        let lacks = self.needs.lacking(&worker.offer).join(", ");
        let cut = lacks.char_indices().nth(200).map_or(lacks.as_str(), |(at, _)| &lacks[..at]);
        format!("{name} lacks {cut}")
    }
}

const BY_IDS: Sql = Sql {
    sqlite: "select id, queue, requirements from lane where id in (select value from json_each($1))",
    postgres: "select id, queue, requirements from lane where id = any($1)",
};
const WORKERS: &str = "select name, offer, mode from worker where last_seen > $1 and left_at is null \
    order by name";

impl SqlStore {
    /// The lanes of these ids; those that are not known yet are read.
    pub(crate) async fn lanes(&self, session: &mut Session, ids: &[i64]) -> Result<Vec<Arc<Lane>>> {
        let missing: Vec<_> = {
            let known = self.known();
            ids.iter().copied().filter(|id| !known.lanes.contains_key(id)).collect()
        };
        if !missing.is_empty() {
            let rows = session.all(BY_IDS, vec![Value::Ints(missing)]).await?;
            for row in &rows {
                self.known().add_lane(Lane::read(row)?);
            }
        }
        let known = self.known();
        Ok(ids.iter().filter_map(|id| known.lanes.get(id).cloned()).collect())
    }
}

/// The workers that were heard of lately.
pub(crate) async fn known_workers(session: &mut Session, now: DateTime<Utc>) -> Result<Vec<KnownWorker>> {
    let since = now - Duration::milliseconds(i64::try_from(WORKER_ALIVE_MS).unwrap_or(i64::MAX));
    let rows = session.all(WORKERS, values![since]).await?;
    let read = |row: &Row| {
        Ok(KnownWorker { name: row.text("name")?, offer: row.json("offer")?, mode: row.parsed("mode")? })
    };
    rows.iter().map(read).collect()
}
