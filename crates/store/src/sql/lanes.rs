//! Lanes: the tasks of a queue that need the same. Which lanes a worker can serve is decided once for each
//! lane, not for each task, and whether anybody can serve a lane is kept with the lane.

use super::{
    SqlStore,
    session::{Session, Sql},
    value::{Row, Value, json},
    workers::read_wish,
};
use crate::{Result, WORKER_ALIVE_MS, WorkerWish};
use chrono::{DateTime, Duration, Utc};
use model::{Offer, Requirements, ids::QueueName};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// The longest list of what one of them lacks, in characters.
const LACKS_CHARS_MAX: usize = 200;
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
    /// Set when it is not there any more.
    pub(crate) gone: Option<Gone>,
}

/// How a worker went.
#[derive(Debug)]
pub(crate) enum Gone {
    /// It said goodbye.
    Stopped,
    /// It was last heard of then.
    Silent(DateTime<Utc>),
}

impl KnownWorker {
    /// Whether it takes tasks of this lane, sooner or later.
    pub(crate) fn serves(&self, lane: &Lane) -> bool {
        self.gone.is_none() && self.wish.takes_tasks() && lane.met_by(&self.offer)
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
        let mut said: Vec<_> = workers.iter().map(|worker| self.lack(worker)).collect();
        said.sort_by_key(|(worth, _)| *worth);
        // Those that are gone and would not do either are named only where there are no others.
        let any = said.first().is_some_and(|(worth, _)| *worth != Worth::GoneAndUnfit);
        said.retain(|(worth, _)| !any || *worth != Worth::GoneAndUnfit);
        Some(some_of(said.into_iter().map(|(_, why)| why)))
    }

    /// Why a worker does not run its tasks, and how much that is worth knowing (the least is worth the most).
    fn lack(&self, worker: &KnownWorker) -> (Worth, String) {
        let (name, gone) = (&worker.name, worker.gone.is_some());
        let lacks = self.needs.lacking(&worker.offer).join(", ");
        // What it lacks for good says more than that it takes nothing now.
        let (worth, why) = if !worker.offer.queues.contains(&self.queue) {
            (Worth::OtherQueue, format!("does not serve queue {}", self.queue))
        } else if let Some(stranger) = self.needs.stranger(worker.offer.foreign.as_ref()) {
            (Worth::OtherQueue, stranger)
        } else if !lacks.is_empty() {
            let cut = lacks.char_indices().nth(LACKS_CHARS_MAX);
            (Worth::Lacks, cut.map_or(format!("lacks {lacks}"), |(at, _)| format!("lacks {}…", &lacks[..at])))
        } else if worker.wish.takes_tasks() {
            (Worth::Fits, String::new())
        } else {
            (Worth::Fits, format!("is {}", worker.wish))
        };
        let worth = if gone && worth != Worth::Fits { Worth::GoneAndUnfit } else { worth };
        let gone = worker.gone.as_ref().map(ToString::to_string);
        let parts: Vec<_> = [Some(why), gone].into_iter().flatten().filter(|part| !part.is_empty()).collect();
        (worth, format!("{name} {}", parts.join(" and ")))
    }
}

/// What a reason is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// It would run them, but takes none, or is gone.
    Fits,
    Lacks,
    OtherQueue,
    GoneAndUnfit,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("has stopped"),
            Self::Silent(since) => {
                write!(f, "was last heard of at {}", since.format("%Y-%m-%d %H:%M UTC"))
            }
        }
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
const WORKERS: &str = "select name, offer, mode, mode_by, mode_why, mode_since, mode_until, last_seen, left_at \
    from worker order by name";

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

/// The workers, also those that are gone and not forgotten yet.
pub(crate) async fn known_workers(session: &mut Session, now: DateTime<Utc>) -> Result<Vec<KnownWorker>> {
    let since = now - Duration::milliseconds(i64::try_from(WORKER_ALIVE_MS).unwrap_or(i64::MAX));
    let rows = session.all(WORKERS, Vec::new()).await?;
    let read = |row: &Row| {
        let last_seen = row.time("last_seen")?;
        let gone = match row.time_opt("left_at")? {
            Some(_) => Some(Gone::Stopped),
            None => (last_seen <= since).then_some(Gone::Silent(last_seen)),
        };
        let wish = read_wish(row)?.at(now);
        Ok(KnownWorker { name: row.text("name")?, offer: row.json("offer")?, wish, gone })
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerMode;
    use serde_json::json;

    /// A worker by its name, what it offers and how it stands.
    fn worker(name: &str, offer: serde_json::Value, mode: WorkerMode, gone: Option<Gone>) -> KnownWorker {
        let mut whole = json!({"queues": ["main"], "arches": ["x86_64"], "executors": ["container"],
            "labels": [], "memory_bytes": 4096, "disk_bytes": 0, "cpus": 1, "kvm": false, "slots": 1});
        let changed = offer.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(changed);
        let offer = serde_json::from_value(whole).unwrap();
        KnownWorker { name: name.to_owned(), offer, wish: mode.into(), gone }
    }

    #[test]
    fn why_nobody_runs_it() {
        let (active, drained) = (WorkerMode::Active, WorkerMode::Drain);
        let silent = || Some(Gone::Silent(DateTime::UNIX_EPOCH));
        let arm = || json!({"arches": ["aarch64"]});
        let elsewhere = || json!({"queues": ["other"]});
        let agent = || json!({"foreign": {"system": "testflinger", "agent": "a"}});
        let check = |needs: serde_json::Value, workers: Vec<KnownWorker>, expect: Option<&str>| {
            let needs = serde_json::from_value(needs).unwrap();
            let lane = Lane { id: 1, queue: "main".into(), needs };
            assert_eq!(lane.unmet(&workers).as_deref(), expect, "{workers:?}");
        };
        let x86 = || json!({"arch": "x86_64"});
        check(x86(), vec![], Some("no worker has made itself known"));
        check(x86(), vec![worker("a", json!({}), active, None)], None);
        check(x86(), vec![worker("a", json!({}), drained, None)], Some("a is drained"));
        check(x86(), vec![worker("a", json!({}), WorkerMode::Cordon, None)], Some("a is cordoned"));
        check(
            x86(),
            vec![worker("a", json!({}), WorkerMode::Maintenance, None)],
            Some("a is in maintenance"),
        );
        check(
            x86(),
            vec![worker("a", json!({}), drained, Some(Gone::Stopped))],
            Some("a is drained and has stopped"),
        );
        check(x86(), vec![worker("a", json!({}), active, Some(Gone::Stopped))], Some("a has stopped"));
        check(
            x86(),
            vec![worker("a", json!({}), active, silent())],
            Some("a was last heard of at 1970-01-01 00:00 UTC"),
        );
        check(x86(), vec![worker("a", arm(), drained, None)], Some("a lacks arch x86_64 (offered: aarch64)"));
        check(x86(), vec![worker("a", elsewhere(), active, None)], Some("a does not serve queue main"));
        check(x86(), vec![worker("a", agent(), active, None)], Some("a is an agent of testflinger"));
        check(
            json!({"foreign": {"system": "testflinger"}}),
            vec![worker("a", json!({}), active, None)],
            Some("a is no agent of testflinger"),
        );
        // What would do is named first; what is gone and would not do, only where there is nothing else.
        check(
            x86(),
            vec![
                worker("a", elsewhere(), active, None),
                worker("b", arm(), active, None),
                worker("c", arm(), active, Some(Gone::Stopped)),
                worker("d", json!({}), drained, None),
            ],
            Some("d is drained; b lacks arch x86_64 (offered: aarch64); a does not serve queue main"),
        );
        check(
            x86(),
            vec![worker("a", arm(), active, Some(Gone::Stopped))],
            Some("a lacks arch x86_64 (offered: aarch64) and has stopped"),
        );
    }
}
