//! Lanes: the tasks of a queue that need the same. Which lanes a worker can serve is decided once for each
//! lane, not for each task, and whether anybody can serve a lane is kept with the lane.

use super::{
    SqlStore,
    session::{Session, Sql},
    value::{Row, Value, json, values},
    workers::read_wish,
};
use crate::{Result, WORKER_ALIVE_MS, WorkerWish};
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
    pub(crate) wish: WorkerWish,
}

impl KnownWorker {
    /// Whether it takes tasks of this lane, sooner or later.
    pub(crate) fn serves(&self, lane: &Lane) -> bool {
        self.wish.takes_tasks() && lane.met_by(&self.offer)
    }
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
        if workers.iter().any(|worker| worker.serves(self)) {
            return None;
        }
        if workers.is_empty() {
            return Some("no worker has made itself known".to_owned());
        }
        Some(some_of(workers.iter().map(|worker| self.lack(worker))))
    }

    fn lack(&self, worker: &KnownWorker) -> String {
        let name = &worker.name;
        if !worker.offer.queues.contains(&self.queue) {
            return format!("{name} does not serve queue {}", self.queue);
        }
        // What it lacks for good says more than that it takes nothing now.
        let lacks = self.needs.lacking(&worker.offer).join(", ");
        if lacks.is_empty() {
            return format!("{name} is {}", worker.wish);
        }
        let cut = lacks.char_indices().nth(200).map_or(lacks.as_str(), |(at, _)| &lacks[..at]);
        format!("{name} lacks {cut}")
    }
}

/// The first of what is said of workers, and how many more there are.
pub(crate) fn some_of(said: impl ExactSizeIterator<Item = String>) -> String {
    let more = said.len().saturating_sub(UNMET_WORKERS_MAX);
    let mut some: Vec<_> = said.take(UNMET_WORKERS_MAX).collect();
    if more > 0 {
        some.push(format!("and {more} more"));
    }
    some.join("; ")
}

const BY_IDS: Sql = Sql {
    sqlite: "select id, queue, requirements from lane where id in (select value from json_each($1))",
    postgres: "select id, queue, requirements from lane where id = any($1)",
};
const WORKERS: &str = "select name, offer, mode, mode_by, mode_why, mode_since, mode_until from worker where last_seen > $1 and left_at is null \
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
        Ok(KnownWorker { name: row.text("name")?, offer: row.json("offer")?, wish: read_wish(row)?.at(now) })
    };
    rows.iter().map(read).collect()
}
