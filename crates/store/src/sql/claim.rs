//! Handing tasks out.

use super::{
    SqlStore,
    lanes::{Lane, known_workers},
    outgoing::Outgoing,
    session::{Bulk, Dialect, Kind, Session, Sql},
    task_row::{TaskRow, select_task},
    tasks::milliseconds,
    value::{Row, Value, values},
    workers::{reserved_by, wish_of},
};
use crate::{Claim, IMAGE_PATIENCE_MS, PASSED_OVER_MAX_MS, Reserved, Result};
use chrono::{DateTime, Utc};
use model::{
    Task, TaskId, TaskState,
    attempt::AttemptRef,
    ids::{QueueName, WorkerName},
    message::TaskChange,
    protocol::Assignment,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How many delayed tasks whose time has come a claim lets into their lanes.
const PROMOTED_MAX: u32 = 1000;

const LANES: Sql = Sql {
    sqlite: "select l.id from lane l left join queue q on q.name = l.queue \
        where l.queue in (select value from json_each($1)) and q.paused_since is null",
    postgres: "select l.id from lane l left join queue q on q.name = l.queue \
        where l.queue = any($1) and q.paused_since is null",
};
/// A worker's claims follow each other: what one keeps, the next must count.
const LOCK_WORKER: Sql = Sql {
    sqlite: "select name from worker where name = $1",
    postgres: "select name from worker where name = $1 for update",
};
const PROMOTE: Sql = Sql {
    sqlite: "update task set state = 'queued' where id in (\
        select id from task where state = 'delayed' and not_before <= $1 order by not_before limit $2)",
    postgres: "update task t set state = 'queued' from (\
        select id from task where state = 'delayed' and not_before <= $1 order by not_before limit $2 \
        for update skip locked) as due where t.id = due.id",
};
/// The heads of one lane.
const HEADS_SQLITE: &str = "select id, lane_id, priority, turn, since from task where lane_id = $1 and state = 'queued' \
    order by priority desc, turn, id limit $2";
const HEADS_POSTGRES: &str = "select h.* from unnest($1::bigint[]) as l (id) cross join lateral (\
    select t.id, t.lane_id, t.priority, t.turn, t.since from task t \
    where t.lane_id = l.id and t.state = 'queued' \
    order by t.priority desc, t.turn, t.id limit $2 for update skip locked) as h";
const TAKE_SQLITE: &str = "update task set state = 'running', worker = $2, phase = 'provision', since = $3, \
    lease_until = $4, stop = null, not_before = null, fence = fence + 1, attempts = attempts + 1 \
    where id in (select unhex(value) from json_each($1)) returning *, null as unmet";
const TAKE_THESE_POSTGRES: &str = "update task set state = 'running', worker = $2, phase = 'provision', \
    since = $3, lease_until = $4, stop = null, not_before = null, fence = fence + 1, attempts = attempts + 1 \
    where id = any($1) returning *, null::text as unmet";
/// Each lane gives its heads, the best of them are taken. What others have locked is passed over.
const TAKE_POSTGRES: &str = "with picked as (\
        select h.id from unnest($1::bigint[], $6::bigint[]) as l (id, rank) cross join lateral (\
            select t.id, t.priority, t.turn from task t where t.lane_id = l.id and t.state = 'queued' \
            order by t.priority desc, t.turn, t.id limit $5 for update skip locked) as h \
        order by h.priority desc, l.rank, h.turn, h.id limit $5) \
    update task t set state = 'running', worker = $2, phase = 'provision', since = $3, lease_until = $4, \
        stop = null, not_before = null, fence = t.fence + 1, attempts = t.attempts + 1 \
    from picked where t.id = picked.id returning t.*, null::text as unmet";
const ATTEMPT: Bulk = Bulk {
    table: "attempt",
    columns: &[
        ("task_id", Kind::Id),
        ("number", Kind::Int),
        ("fence", Kind::Int),
        ("worker", Kind::Text),
        ("started_at", Kind::Time),
        ("phases", Kind::Text),
        ("log_bytes", Kind::Int),
        ("log_truncated", Kind::Bool),
    ],
    tail: "",
};
/// Who cannot have the row leaves it: the next claim advances it.
const ADVANCE: Sql = Sql {
    sqlite: "update turn set turn = $3 where queue = $1 and priority = $2 and turn < $3",
    postgres: "update turn v set turn = $3 from (\
        select queue, priority from turn where queue = $1 and priority = $2 and turn < $3 \
        for update skip locked) as late where v.queue = late.queue and v.priority = late.priority",
};
const HELD: &str = select_task!("where t.worker = $1 and t.state = 'running' order by t.id");

/// The lanes that the worker can serve now.
pub(crate) async fn lanes_for(
    store: &SqlStore,
    session: &mut Session,
    claim: &Claim,
) -> Result<Vec<Arc<Lane>>> {
    if wish_of(session, &claim.worker).await?.is_some_and(|wish| !wish.takes_tasks()) {
        return Ok(Vec::new());
    }
    let rows = session.all(LANES, vec![Value::texts(&claim.offer.queues)]).await?;
    let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>>>()?;
    let lanes = store.lanes(session, &ids).await?;
    Ok(lanes.into_iter().filter(|lane| lane.met_by(&claim.offer)).collect())
}

/// Hands out the best tasks of these lanes.
pub(crate) async fn claim(
    store: &SqlStore,
    session: &mut Session,
    claim: &Claim,
    lanes: &[Arc<Lane>],
) -> Result<Vec<Assignment>> {
    let now = session.now;
    session.run(PROMOTE, values![now, PROMOTED_MAX]).await?;
    let rows = take(store, session, claim, lanes).await?;
    let mut taken = rows.iter().map(TaskRow::read).collect::<Result<Vec<_>>>()?;
    taken.sort_by_key(|row| (-i64::from(row.task.priority), row.turn, row.task.id));
    let mut out = Outgoing::default();
    let mut attempts = Vec::with_capacity(taken.len());
    let mut turns: BTreeMap<(&QueueName, i32), i64> = BTreeMap::new();
    for row in &taken {
        let task = &row.task;
        out.task(task, TaskChange::Started);
        super::foreign::started(session, task).await?;
        attempts.push(values![task.id, task.attempts, row.fence, &claim.worker, now, "[]", 0_i64, false]);
        let turn = turns.entry((&task.queue, task.priority)).or_default();
        *turn = row.turn.max(*turn);
    }
    session.insert(&ATTEMPT, attempts).await?;
    for ((queue, priority), turn) in turns {
        session.run(ADVANCE, values![queue, priority, turn]).await?;
    }
    out.write(session).await?;
    Ok(taken.into_iter().filter_map(assignment).collect())
}

/// Makes the best tasks of these lanes run. Only where sizes count, they are looked at before they are taken.
async fn take(
    store: &SqlStore,
    session: &mut Session,
    claim: &Claim,
    lanes: &[Arc<Lane>],
) -> Result<Vec<Row>> {
    let now = session.now;
    let mut values = values![&claim.worker, now, now + milliseconds(claim.lease_ms)];
    let ids: Vec<_> = lanes.iter().map(|lane| lane.id).collect();
    let sized = lanes.iter().any(|lane| lane.needs.has_size());
    let elsewhere = images_elsewhere(session, claim, lanes).await?;
    if session.dialect() == Dialect::Postgres && !sized && elsewhere.is_empty() {
        values.insert(0, Value::Ints(ids));
        values.extend(values![claim.max]);
        values.push(Value::Ints(lanes.iter().map(|lane| rank(claim, lane)).collect()));
        return session.all(TAKE_POSTGRES, values).await;
    }
    let mut reserved = Reserved::default();
    if sized {
        session.first(LOCK_WORKER, values![&claim.worker]).await?;
        reserved = reserved_by(store, session, &claim.worker).await?;
    }
    let heads = heads(session, claim, lanes).await?;
    let picked = pick(&heads, lanes, claim, (reserved, &elsewhere), now);
    if picked.is_empty() {
        return Ok(Vec::new());
    }
    values.insert(0, Value::ids(picked));
    session.all(Sql { sqlite: TAKE_SQLITE, postgres: TAKE_THESE_POSTGRES }, values).await
}

/// A task that could be handed out, in the order of handing out.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    urgency: i64,
    /// Of its queue.
    rank: i64,
    turn: i64,
    id: TaskId,
    lane: i64,
    since: DateTime<Utc>,
}

/// A lane's queue's place in the claim's order.
fn rank(claim: &Claim, lane: &Lane) -> i64 {
    let place = claim.order.iter().position(|ordered| *ordered == lane.queue);
    i64::try_from(place.unwrap_or(claim.order.len())).unwrap_or(i64::MAX)
}

/// The best tasks of each lane, the best first.
async fn heads(session: &mut Session, claim: &Claim, lanes: &[Arc<Lane>]) -> Result<Vec<Head>> {
    let ranks: BTreeMap<_, _> = lanes.iter().map(|lane| (lane.id, rank(claim, lane))).collect();
    let mut rows = Vec::new();
    match session.dialect() {
        Dialect::Postgres => {
            let ids = ranks.keys().copied().collect();
            rows = session.all(HEADS_POSTGRES, vec![Value::Ints(ids), claim.max.into()]).await?;
        }
        Dialect::Sqlite => {
            for lane in ranks.keys() {
                rows.extend(session.all(HEADS_SQLITE, values![*lane, claim.max]).await?);
            }
        }
    }
    let read = |row: &Row| {
        let lane = row.int("lane_id")?;
        Ok(Head {
            urgency: -row.int("priority")?,
            rank: ranks.get(&lane).copied().unwrap_or(i64::MAX),
            turn: row.int("turn")?,
            id: row.id("id")?.into(),
            lane,
            since: row.time("since")?,
        })
    };
    let mut heads = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    heads.sort_unstable();
    Ok(heads)
}

/// The lanes whose image this worker would have to pull, and another has.
async fn images_elsewhere(
    session: &mut Session,
    claim: &Claim,
    lanes: &[Arc<Lane>],
) -> Result<BTreeSet<i64>> {
    let pulled: Vec<_> = lanes.iter().filter(|lane| lane.needs.must_pull(&claim.offer)).collect();
    if pulled.is_empty() {
        return Ok(BTreeSet::new());
    }
    let workers = known_workers(session, session.now).await?;
    let has = |lane: &Lane| workers.iter().any(|one| one.serves(lane) && !lane.needs.must_pull(&one.offer));
    Ok(pulled.into_iter().filter(|lane| has(lane)).map(|lane| lane.id).collect())
}

/// Those that fit, in order. What does not fit is passed over, but not for ever.
fn pick(
    heads: &[Head],
    lanes: &[Arc<Lane>],
    claim: &Claim,
    (mut reserved, elsewhere): (Reserved, &BTreeSet<i64>),
    now: DateTime<Utc>,
) -> Vec<TaskId> {
    let needs: BTreeMap<_, _> = lanes.iter().map(|lane| (lane.id, &lane.needs)).collect();
    let (mut picked, mut held_back) = (Vec::new(), false);
    for head in heads {
        let Some(needs) = needs.get(&head.lane) else { continue };
        if picked.len() >= claim.max as usize {
            break;
        }
        let patient = now - head.since < milliseconds(IMAGE_PATIENCE_MS);
        if patient && elsewhere.contains(&head.lane) {
            continue;
        }
        if needs.has_size() {
            if held_back {
                continue;
            }
            if !reserved.short_of(&claim.offer, needs).is_empty() {
                held_back = now - head.since > milliseconds(PASSED_OVER_MAX_MS);
                continue;
            }
            reserved.add(needs);
        }
        picked.push(head.id);
    }
    picked
}

fn assignment(row: TaskRow) -> Option<Assignment> {
    let TaskState::Running { attempt, fence, .. } = row.task.state else { return None };
    let task: Box<Task> = Box::new(row.task);
    Some(Assignment { task, attempt: AttemptRef { attempt, fence } })
}

/// What the worker runs.
pub(crate) async fn held(session: &mut Session, worker: &WorkerName) -> Result<Vec<Assignment>> {
    let rows = session.all(HELD, values![worker]).await?;
    let rows = rows.iter().map(TaskRow::read).collect::<Result<Vec<_>>>()?;
    Ok(rows.into_iter().filter_map(assignment).collect())
}
