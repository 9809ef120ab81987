//! Workers: who is there, what they offer and have taken on, what operators want of them, and what nobody can run.

use super::{
    SqlStore,
    lanes::{Lane, known_workers, some_of},
    outgoing::Outgoing,
    session::{Session, Sql},
    task_row::{TaskRow, not_found, select_task},
    value::{Row, json, values},
};
use crate::{Reserved, Result, StoreError, WORKER_WHY_CHARS_MAX, WorkerMode, WorkerStatus, WorkerWish};
use chrono::{DateTime, Duration, Utc};
use model::{Offer, TaskId, ids::WorkerName, message::TaskChange};
use std::{collections::HashMap, sync::Arc};

/// A worker that was heard of so lately, and offers the same, is not written again.
const HELLO_GRAIN: Duration = Duration::seconds(5);
/// How long a worker that is not heard of keeps its name from another one.
const NAME_HELD: Duration = Duration::seconds(60);
/// How many tasks of a lane are told of when nobody is left for it.
const UNMET_TOLD_MAX: u32 = 100;

const WORKER: &str = "select version, offer, mode, mode_by, mode_why, mode_since, mode_until, last_seen, left_at \
    from worker where name = $1";
const HELLO: &str = "insert into worker (name, version, offer, mode, last_seen) values ($1, $2, $3, 'active', $4) \
    on conflict (name) do update set version = excluded.version, offer = excluded.offer, \
    last_seen = excluded.last_seen, left_at = null";
const LEAVE: &str = "update worker set left_at = $2 where name = $1";
const WISH: &str = "update worker set mode = $2, mode_by = $3, mode_why = $4, mode_since = $5, mode_until = $6 \
    where name = $1";
const UNMET_LANES: &str = "select id from lane where unmet is not null order by id";
const MET: &str = "update lane set unmet = null where id = $1";
const WORKERS: &str = "select name, version, offer, mode, mode_by, mode_why, mode_since, mode_until, last_seen, \
    left_at from worker order by name";
const RUNNING: &str = "select id, worker, lane_id from task where state = 'running' order by id";
const RUNNING_BY: &str = "select lane_id from task where worker = $1 and state = 'running'";
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
const QUEUED: &str = "select t.state, t.lane_id, q.paused_since from task t \
    left join queue q on q.name = t.queue where t.id = $1";

/// A worker's wish as it was given, also when its time is over.
pub(crate) fn read_wish(row: &Row) -> Result<WorkerWish> {
    Ok(WorkerWish {
        mode: row.parsed("mode")?,
        by: row.text_opt("mode_by")?,
        why: row.text_opt("mode_why")?,
        since: row.time_opt("mode_since")?,
        until: row.time_opt("mode_until")?,
    })
}

/// What an operator wants of a worker now; nothing when it is not known.
pub(crate) async fn wish_of(session: &mut Session, worker: &WorkerName) -> Result<Option<WorkerWish>> {
    let Some(row) = session.first(WORKER, values![worker]).await? else { return Ok(None) };
    let wish = read_wish(&row)?;
    if wish.until.is_some() {
        // Only then the time counts; a claim is spared the question.
        session.read_clock().await?;
    }
    Ok(Some(wish.at(session.now)))
}

/// What the tasks that a worker runs keep of it.
pub(crate) async fn reserved_by(
    store: &SqlStore,
    session: &mut Session,
    worker: &WorkerName,
) -> Result<Reserved> {
    let rows = session.all(RUNNING_BY, values![worker]).await?;
    let ids = rows.iter().map(|row| row.int_opt("lane_id")).collect::<Result<Vec<_>>>()?;
    let ids: Vec<_> = ids.into_iter().flatten().collect();
    let mut reserved = Reserved::default();
    for lane in store.lanes(session, &ids).await? {
        reserved.add(&lane.needs);
    }
    Ok(reserved)
}

impl SqlStore {
    /// What is wanted of a worker of which nothing new is to be written.
    pub(crate) async fn heard_lately(
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
        let wish = read_wish(&row)?.at(now);
        let fresh = same && met_lanes(self, &mut session, &wish, offer).await?.is_empty();
        Ok(fresh.then_some(wish.mode))
    }
}

/// The unmet lanes that this worker can serve.
async fn met_lanes(
    store: &SqlStore,
    session: &mut Session,
    wish: &WorkerWish,
    offer: &Offer,
) -> Result<Vec<i64>> {
    if !wish.takes_tasks() {
        return Ok(Vec::new());
    }
    let rows = session.all(UNMET_LANES, Vec::new()).await?;
    let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>>>()?;
    let lanes = store.lanes(session, &ids).await?;
    Ok(lanes.iter().filter(|lane| lane.met_by(offer)).map(|lane| lane.id).collect())
}

pub(crate) async fn hello(
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
    let wish = read_wish(&session.one(WORKER, values![worker]).await?)?.at(now);
    for lane in met_lanes(store, session, &wish, offer).await? {
        session.run(MET, values![lane]).await?;
    }
    Ok(wish.mode)
}

/// Sets what is wanted of a worker. How many workers of the name there are.
pub(crate) async fn set_wish(
    store: &SqlStore,
    session: &mut Session,
    worker: &WorkerName,
    wish: &WorkerWish,
) -> Result<u64> {
    let now = session.now;
    let why = wish.why.as_ref().map(|why| why.chars().take(WORKER_WHY_CHARS_MAX).collect::<String>());
    let values = values![worker, wish.mode.as_str(), wish.by.as_ref(), why, now, wish.until];
    let known = session.run(WISH, values).await?;
    if known > 0 && wish.takes_tasks() {
        let offer: Offer = session.one(WORKER, values![worker]).await?.json("offer")?;
        for lane in met_lanes(store, session, wish, &offer).await? {
            session.run(MET, values![lane]).await?;
        }
    }
    mark_unmet(store, session).await?;
    Ok(known)
}

pub(crate) async fn leave(store: &SqlStore, session: &mut Session, worker: &WorkerName) -> Result<()> {
    let now = session.now;
    session.run(LEAVE, values![worker, now]).await?;
    mark_unmet(store, session).await
}

/// Marks the lanes that nobody is left for.
pub(crate) async fn mark_unmet(store: &SqlStore, session: &mut Session) -> Result<()> {
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

/// What the workers run: the tasks, and what is kept for them.
async fn at_work(
    store: &SqlStore,
    session: &mut Session,
) -> Result<HashMap<String, (Vec<TaskId>, Reserved)>> {
    let rows = session.all(RUNNING, Vec::new()).await?;
    let ids = rows.iter().map(|row| row.int_opt("lane_id")).collect::<Result<Vec<_>>>()?;
    let lanes = store.lanes(session, &ids.iter().copied().flatten().collect::<Vec<_>>()).await?;
    let lanes: HashMap<i64, Arc<Lane>> = lanes.into_iter().map(|lane| (lane.id, lane)).collect();
    let mut found: HashMap<String, (Vec<TaskId>, Reserved)> = HashMap::new();
    for (row, lane) in rows.iter().zip(ids) {
        let (running, reserved) = found.entry(row.text("worker")?).or_default();
        running.push(row.id("id")?.into());
        match lane.and_then(|lane| lanes.get(&lane)) {
            Some(lane) => reserved.add(&lane.needs),
            None => reserved.slots += 1,
        }
    }
    Ok(found)
}

pub(crate) async fn workers(
    store: &SqlStore,
    session: &mut Session,
    now: DateTime<Utc>,
    alive_since: DateTime<Utc>,
) -> Result<Vec<WorkerStatus>> {
    let mut at_work = at_work(store, session).await?;
    let rows = session.all(WORKERS, Vec::new()).await?;
    let mut read = |row: &Row| {
        let name = row.text("name")?;
        let last_seen = row.time("last_seen")?;
        let left_at = row.time_opt("left_at")?;
        let (running, reserved) = at_work.remove(&name).unwrap_or_default();
        Ok(WorkerStatus {
            version: row.text("version")?,
            offer: row.json("offer")?,
            wish: read_wish(row)?.at(now),
            reserved,
            last_seen,
            alive: last_seen >= alive_since && left_at.is_none(),
            left_at,
            running,
            name: name.into(),
        })
    };
    rows.iter().map(&mut read).collect()
}

/// Why a queued task that known workers can run is not run yet.
pub(crate) async fn held_up(
    store: &SqlStore,
    session: &mut Session,
    task: TaskId,
    now: DateTime<Utc>,
) -> Result<Option<String>> {
    let row = session.first(QUEUED, values![task]).await?.ok_or_else(|| not_found(task))?;
    let (Some(lane), "queued") = (row.int_opt("lane_id")?, row.text("state")?.as_str()) else {
        return Ok(None);
    };
    if row.time_opt("paused_since")?.is_some() {
        return Ok(None);
    }
    let lanes = store.lanes(session, &[lane]).await?;
    let Some(lane) = lanes.first() else { return Ok(None) };
    let mut known = known_workers(session, now).await?;
    known.retain(|worker| worker.serves(lane));
    let at_work = at_work(store, session).await?;
    let mut short = Vec::with_capacity(known.len());
    for worker in &known {
        let reserved = at_work.get(&worker.name).map(|(_, reserved)| *reserved).unwrap_or_default();
        let mut lacks = reserved.short_of(&worker.offer, &lane.needs);
        if reserved.slots >= worker.offer.slots {
            lacks.insert(0, format!("a slot (0 of {} left)", worker.offer.slots));
        }
        if lacks.is_empty() {
            return Ok(None);
        }
        short.push(format!("{} has no room: it needs {}", worker.name, lacks.join(", ")));
    }
    Ok((!short.is_empty()).then(|| some_of(short.into_iter())))
}
