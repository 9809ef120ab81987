//! Handing tasks out.

use super::{
    SqlStore,
    outgoing::Outgoing,
    session::{Bulk, Dialect, Kind, Session, Sql},
    task_row::{TaskRow, select_task},
    tasks::milliseconds,
    value::{Value, values},
};
use crate::{Claim, Result, WorkerMode};
use model::{
    Task, TaskId, TaskState,
    attempt::AttemptRef,
    ids::{QueueName, WorkerName},
    message::TaskChange,
    protocol::Assignment,
};
use std::collections::BTreeMap;

/// How many delayed tasks whose time has come a claim lets into their lanes.
const PROMOTED_MAX: u32 = 1000;

const LANES: Sql = Sql {
    sqlite: "select l.id from lane l left join queue q on q.name = l.queue \
        where l.queue in (select value from json_each($1)) and q.paused_since is null",
    postgres: "select l.id from lane l left join queue q on q.name = l.queue \
        where l.queue = any($1) and q.paused_since is null",
};
const MODE: &str = "select mode from worker where name = $1";
const PROMOTE: Sql = Sql {
    sqlite: "update task set state = 'queued' where id in (\
        select id from task where state = 'delayed' and not_before <= $1 order by not_before limit $2)",
    postgres: "update task t set state = 'queued' from (\
        select id from task where state = 'delayed' and not_before <= $1 order by not_before limit $2 \
        for update skip locked) as due where t.id = due.id",
};
/// The heads of one lane.
const HEADS_SQLITE: &str = "select id, priority, turn from task where lane_id = $1 and state = 'queued' \
    order by priority desc, turn, id limit $2";
const TAKE_SQLITE: &str = "update task set state = 'running', worker = $2, phase = 'provision', since = $3, \
    lease_until = $4, stop = null, not_before = null, fence = fence + 1, attempts = attempts + 1 \
    where id in (select unhex(value) from json_each($1)) returning *, null as unmet";
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

/// A lane that a claim looks at: its id, and its queue's place in the claim's order.
pub(crate) type RankedLane = (i64, i64);

/// The lanes that the worker can serve now.
pub(crate) async fn lanes_for(
    store: &SqlStore,
    session: &mut Session,
    claim: &Claim,
) -> Result<Vec<RankedLane>> {
    let mode = session.first(MODE, values![&claim.worker]).await?;
    if mode.map(|row| row.parsed::<WorkerMode>("mode")).transpose()? == Some(WorkerMode::Drain) {
        return Ok(Vec::new());
    }
    let rows = session.all(LANES, vec![Value::texts(&claim.offer.queues)]).await?;
    let ids = rows.iter().map(|row| row.int("id")).collect::<Result<Vec<_>>>()?;
    let lanes = store.lanes(session, &ids).await?;
    let rank = |queue: &QueueName| {
        let place = claim.order.iter().position(|ordered| ordered == queue).unwrap_or(claim.order.len());
        i64::try_from(place).unwrap_or(i64::MAX)
    };
    let met = lanes.iter().filter(|lane| lane.met_by(&claim.offer));
    Ok(met.map(|lane| (lane.id, rank(&lane.queue))).collect())
}

/// Hands out the best tasks of these lanes.
pub(crate) async fn claim(
    session: &mut Session,
    claim: &Claim,
    lanes: &[RankedLane],
) -> Result<Vec<Assignment>> {
    let now = session.now;
    session.run(PROMOTE, values![now, PROMOTED_MAX]).await?;
    let until = now + milliseconds(claim.lease_ms);
    let rows = match session.dialect() {
        Dialect::Postgres => {
            let (ids, ranks) = lanes.iter().copied().unzip();
            let mut values = vec![Value::Ints(ids)];
            values.extend(values![&claim.worker, now, until, claim.max]);
            values.push(Value::Ints(ranks));
            session.all(TAKE_POSTGRES, values).await?
        }
        Dialect::Sqlite => {
            let mut values = vec![Value::ids(heads(session, lanes, claim.max).await?)];
            values.extend(values![&claim.worker, now, until]);
            session.all(TAKE_SQLITE, values).await?
        }
    };
    let mut taken = rows.iter().map(TaskRow::read).collect::<Result<Vec<_>>>()?;
    taken.sort_by_key(|row| (-i64::from(row.task.priority), row.turn, row.task.id));
    let mut out = Outgoing::default();
    let mut attempts = Vec::with_capacity(taken.len());
    let mut turns: BTreeMap<(&QueueName, i32), i64> = BTreeMap::new();
    for row in &taken {
        let task = &row.task;
        out.task(task, TaskChange::Started);
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

/// SQLite: the best tasks of all lanes, from the heads of each.
async fn heads(session: &mut Session, lanes: &[RankedLane], max: u32) -> Result<Vec<TaskId>> {
    let mut heads = Vec::new();
    for (lane, rank) in lanes {
        for row in session.all(HEADS_SQLITE, values![*lane, max]).await? {
            let id = TaskId::new(row.id("id")?);
            heads.push((-row.int("priority")?, *rank, row.int("turn")?, id));
        }
    }
    heads.sort_unstable();
    heads.truncate(max as usize);
    Ok(heads.into_iter().map(|(.., id)| id).collect())
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
