//! Heartbeats: leases are extended, phases noted, and orders given.

use super::{
    outgoing::Outgoing,
    session::{Session, Sql},
    task_row::TaskRow,
    tasks::milliseconds,
    value::{Value, values},
};
use crate::Result;
use model::{
    Phase, TaskId, TaskState,
    ids::WorkerName,
    message::TaskChange,
    protocol::{HeartbeatEntry, Order},
    task::Stop,
};
use std::collections::{BTreeSet, HashMap};

const LOCK: Sql = Sql {
    sqlite: "select id, state, fence, phase, stop from task where id in (select unhex(value) from json_each($1))",
    postgres: "select id, state, fence, phase, stop from task where id = any($1) order by id for update",
};
const EXTEND: Sql = Sql {
    sqlite: "update task set lease_until = $2 where id in (select unhex(value) from json_each($1))",
    postgres: "update task set lease_until = $2 where id = any($1)",
};
const PHASE: &str = "update task set phase = $2 where id = $1";
const SEEN: &str = "update worker set last_seen = $2 where name = $1";

/// What a heartbeat looks at.
struct Beat {
    fence: i64,
    phase: Phase,
    stop: Option<Stop>,
}

pub(crate) async fn heartbeat(
    session: &mut Session,
    worker: &WorkerName,
    entries: &[HeartbeatEntry],
    lease_ms: u64,
) -> Result<Vec<Order>> {
    let now = session.now;
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry.held.task).collect();
    let mut running: HashMap<TaskId, Beat> = HashMap::new();
    for row in session.all(LOCK, vec![Value::ids(ids)]).await? {
        if row.text("state")? == "running" {
            let beat =
                Beat { fence: row.int("fence")?, phase: row.parsed("phase")?, stop: row.json_opt("stop")? };
            running.insert(row.id("id")?.into(), beat);
        }
    }
    let mut orders = Vec::with_capacity(entries.len());
    let (mut extended, mut changed, mut held_back) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let held = running.get(&entry.held.task).filter(|beat| beat.fence == entry.held.attempt.fence);
        let Some(beat) = held else {
            orders.push(Order::Fenced);
            continue;
        };
        extended.push(entry.held.task);
        if beat.phase != entry.phase {
            changed.push((entry.held.task, entry.phase));
        }
        if entry.phase == Phase::Hold {
            held_back.push((orders.len(), entry));
        }
        orders.push(beat.stop.clone().map_or(Order::Continue, |why| Order::Stop { why }));
    }
    if !extended.is_empty() {
        session.run(EXTEND, vec![Value::ids(extended), (now + milliseconds(lease_ms)).into()]).await?;
    }
    let mut out = Outgoing::default();
    for (id, phase) in changed {
        session.run(PHASE, values![id, phase.as_str()]).await?;
        let row = TaskRow::get(session, id).await?;
        if matches!(row.task.state, TaskState::Running { .. }) {
            out.task(&row.task, TaskChange::Phase);
        }
    }
    for (number, entry) in held_back {
        let mut row = TaskRow::get(session, entry.held.task).await?;
        let Some(hold) = &mut row.task.hold else { continue };
        if hold.ended_by.is_some() && orders[number] == Order::Continue {
            orders[number] = Order::EndHold;
        }
        if entry.kept.is_some() && hold.kept != entry.kept {
            hold.kept.clone_from(&entry.kept);
            row.save_whole(session).await?;
            out.task(&row.task, TaskChange::Phase);
        }
    }
    session.run(SEEN, values![worker, now]).await?;
    out.write(session).await?;
    Ok(orders)
}
