//! The row of a task: reading, writing, and the columns that its state is kept in.

use super::{
    session::{Bulk, Dialect, Kind, Session, Sql},
    value::{Row, Value, json, values},
};
use crate::{NewOrigin, NewTask, Result, StoreError};
use chrono::{DateTime, Utc};
use model::{
    Item, Requirements, Task, TaskId, TaskKey, TaskState,
    ids::{BatchId, EventSeq, GroupName},
    task::{Approval, Group, Hold, Origin, Stop, TaskKind, Trust, WaitReason},
};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::{borrow::Cow, collections::HashMap};

/// What of a task is only shown.
#[derive(Debug, Serialize, Deserialize)]
struct Body<'a> {
    kind: Cow<'a, TaskKind>,
    origin: Cow<'a, Origin>,
    inputs: Cow<'a, Map<String, serde_json::Value>>,
    needs: Cow<'a, Requirements>,
    group: Cow<'a, Option<Group>>,
    trust: Trust,
    #[serde(default)]
    secrets: Cow<'a, [String]>,
    #[serde(default)]
    approval: Cow<'a, Option<Approval>>,
    #[serde(default)]
    hold: Cow<'a, Option<Hold>>,
    timeout_cap_seconds: Option<u64>,
    traceparent: Cow<'a, Option<String>>,
}

/// A task with what only the store knows of it.
#[derive(Debug, Clone)]
pub(crate) struct TaskRow {
    pub(crate) task: Task,
    /// The last fence that was given out; it grows whenever the task changes hands.
    pub(crate) fence: i64,
    /// The replay of its event that it was made by.
    pub(crate) generation: u32,
    /// How many attempts were handed back; they do not count as tries.
    pub(crate) handed_back: u32,
    /// Its lane, once it may be queued.
    pub(crate) lane: Option<i64>,
    pub(crate) turn: i64,
    /// How often resolving was tried.
    pub(crate) tries: u32,
    /// Until when nobody else resolves it.
    pub(crate) hold_until: DateTime<Utc>,
}

/// The columns that say where a task stands, between others.
macro_rules! standing {
    ([$($before:expr),* $(,)?], [$($after:expr),*]) => {
        &[
            $($before,)*
            ("state", Kind::Text),
            ("wait_reason", Kind::Text),
            ("since", Kind::Time),
            ("not_before", Kind::Time),
            ("worker", Kind::Text),
            ("phase", Kind::Text),
            ("lease_until", Kind::Time),
            ("stop", Kind::Text),
            ("outcome", Kind::Text),
            ("reason", Kind::Text),
            ("ended_attempt", Kind::Int),
            ("lane_id", Kind::Int),
            ("turn", Kind::Int),
            ("attempts", Kind::Int),
            ("handed_back", Kind::Int),
            ("fence", Kind::Int),
            ("tries", Kind::Int),
            ("hold_until", Kind::Time),
            $($after,)*
        ]
    };
}
const INSERT: Bulk = Bulk {
    table: "task",
    columns: standing!(
        [
            ("id", Kind::Id),
            ("key", Kind::Bytes),
            ("name", Kind::Text),
            ("kind", Kind::Text),
            ("submitter", Kind::Text),
            ("queue", Kind::Text),
            ("priority", Kind::Int),
            ("item_type", Kind::Text),
            ("item_id", Kind::Text),
            ("rule", Kind::Text),
            ("event_seq", Kind::Int),
            ("generation", Kind::Int),
            ("batch_id", Kind::Id),
            ("group_name", Kind::Text),
            ("group_max", Kind::Int),
            ("depth", Kind::Int),
            ("created_at", Kind::Time),
        ],
        [("body", Kind::Text)]
    ),
    tail: "on conflict (key) do nothing returning id",
};

/// By id alone: with a partial index's predicate the planner may read that index from end to end.
macro_rules! update_task {
    ($more:literal) => {
        concat!(
            "update task set state = $2, wait_reason = $3, since = $4, not_before = $5, worker = $6, \
             phase = $7, lease_until = $8, stop = $9, outcome = $10, reason = $11, ended_attempt = $12, \
             lane_id = $13, turn = $14, attempts = $15, handed_back = $16, fence = $17, tries = $18, \
             hold_until = $19",
            $more,
            " where id = $1"
        )
    };
}
const UPDATE: &str = update_task!("");
const UPDATE_WHOLE: &str = update_task!(", body = $20");
/// The same for many.
static UPDATE_ALL: Bulk = Bulk { table: "task", columns: standing!([("id", Kind::Id)], []), tail: "" };
/// How an attempt ended.
const END_ATTEMPT: &str = "update attempt set ended_at = $3, outcome = $4, reason = $5, digest = $6, phases = $7, \
    environment = $8, log_bytes = $9, log_truncated = $10 where task_id = $1 and number = $2";
/// PostgreSQL: both in one round trip.
const UPDATE_AND_END_ATTEMPT: &str = concat!(
    "with ended as (update attempt set ended_at = $21, outcome = $22, reason = $23, digest = $24, phases = $25, \
        environment = $26, log_bytes = $27, log_truncated = $28 where task_id = $1 and number = $20) ",
    update_task!("")
);

/// The start of every query of whole tasks.
macro_rules! select_task {
    ($tail:literal) => {
        concat!("select t.*, l.unmet from task t left join lane l on l.id = t.lane_id ", $tail)
    };
}
pub(crate) use select_task;

const BY_ID: &str = select_task!("where t.id = $1");
const BY_ID_LOCKED_WITH_CLOCK: Sql = Sql {
    sqlite: BY_ID,
    postgres: "select t.*, l.unmet, taskbot_now() as now from task t left join lane l on l.id = t.lane_id \
        where t.id = $1 for update of t",
};
const BY_ID_LOCKED: Sql = Sql { sqlite: BY_ID, postgres: select_task!("where t.id = $1 for update of t") };

const BY_IDS_LOCKED: Sql = Sql {
    sqlite: select_task!("where t.id in (select unhex(value) from json_each($1)) order by t.id"),
    postgres: select_task!("where t.id = any($1) order by t.id for update of t"),
};

impl TaskRow {
    /// A task as it is made now. One that waits for nothing is for the caller to queue.
    pub(crate) fn new(
        new: &NewTask,
        event: Option<EventSeq>,
        batch: Option<BatchId>,
        now: DateTime<Utc>,
    ) -> Self {
        let origin = match &new.origin {
            NewOrigin::Given(origin) => origin.clone(),
            NewOrigin::Rule { rule, revision, entry, cell } => Origin::Rule {
                event: event.unwrap_or(EventSeq(0)),
                rule: rule.clone(),
                revision: revision.clone(),
                entry: *entry,
                cell: cell.clone(),
            },
        };
        let task = Task {
            id: new.id,
            key: new.key,
            kind: new.kind.clone(),
            name: new.name.clone(),
            origin,
            submitter: new.submitter.clone(),
            item: new.item.clone(),
            inputs: new.inputs.clone(),
            queue: new.queue.clone(),
            priority: new.priority,
            needs: new.needs.clone(),
            group: new.group.clone(),
            batch,
            trust: new.trust,
            secrets: new.secrets.clone(),
            approval: new.approval.clone(),
            hold: new.hold.clone(),
            timeout_cap_seconds: new.timeout_cap_seconds,
            depth: new.depth,
            traceparent: new.traceparent.clone(),
            state: TaskState::waiting(new.wait.unwrap_or(WaitReason::Group), now),
            attempts: 0,
            created_at: now,
        };
        Self { task, generation: 0, fence: 0, handed_back: 0, lane: None, turn: 0, tries: 0, hold_until: now }
    }

    pub(crate) fn read(row: &Row) -> Result<Self> {
        let body: Body<'static> = row.json("body")?;
        let item = match (row.text_opt("item_type")?, row.text_opt("item_id")?) {
            (Some(kind), Some(id)) => Some(Item { kind, id }),
            _ => None,
        };
        let task = Task {
            id: row.id("id")?.into(),
            key: TaskKey(row.hash("key")?),
            kind: body.kind.into_owned(),
            name: row.text("name")?.into(),
            origin: body.origin.into_owned(),
            submitter: row.text("submitter")?.into(),
            item,
            inputs: body.inputs.into_owned(),
            queue: row.text("queue")?.into(),
            priority: row.number("priority")?,
            needs: body.needs.into_owned(),
            group: body.group.into_owned(),
            batch: row.id_opt("batch_id")?.map(Into::into),
            trust: body.trust,
            secrets: body.secrets.into_owned(),
            approval: body.approval.into_owned(),
            hold: body.hold.into_owned(),
            timeout_cap_seconds: body.timeout_cap_seconds,
            depth: row.number("depth")?,
            traceparent: body.traceparent.into_owned(),
            state: read_state(row)?,
            attempts: row.number("attempts")?,
            created_at: row.time("created_at")?,
        };
        Ok(Self {
            task,
            generation: row.number("generation")?,
            fence: row.int("fence")?,
            handed_back: row.number("handed_back")?,
            lane: row.int_opt("lane_id")?,
            turn: row.int("turn")?,
            tries: row.number("tries")?,
            hold_until: row.time("hold_until")?,
        })
    }

    /// Reads a task.
    pub(crate) async fn get(session: &mut Session, id: TaskId) -> Result<Self> {
        let row = session.first(BY_ID, values![id]).await?;
        Self::read(&row.ok_or_else(|| not_found(id))?)
    }

    /// Reads a task and locks it until the end of the transaction.
    pub(crate) async fn lock(session: &mut Session, id: TaskId) -> Result<Self> {
        let row = session.first(BY_ID_LOCKED, values![id]).await?;
        Self::read(&row.ok_or_else(|| not_found(id))?)
    }

    /// Reads those of many tasks that there are, and locks them until the end of the transaction.
    pub(crate) async fn lock_all(
        session: &mut Session,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<HashMap<TaskId, Self>> {
        let ids: Vec<_> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = session.all(BY_IDS_LOCKED, vec![Value::ids(ids)]).await?;
        let rows = rows.iter().map(|row| Self::read(row).map(|row| (row.task.id, row)));
        rows.collect()
    }

    /// As [`TaskRow::lock`], in a transaction that has not read its clock yet.
    pub(crate) async fn lock_with_clock(session: &mut Session, id: TaskId) -> Result<Self> {
        let row = session.first(BY_ID_LOCKED_WITH_CLOCK, values![id]).await?;
        let row = row.ok_or_else(|| not_found(id))?;
        session.take_clock(&row)?;
        Self::read(&row)
    }

    /// Inserts tasks; gives the ids of those whose key was not there.
    pub(crate) async fn insert(session: &mut Session, rows: &[&Self]) -> Result<Vec<TaskId>> {
        let now = session.now;
        let values = rows.iter().map(|row| row.insert_values(now)).collect::<Result<_>>()?;
        let inserted = session.insert(&INSERT, values).await?;
        inserted.iter().map(|row| Ok(row.id("id")?.into())).collect()
    }

    /// Writes all that can change but the body.
    pub(crate) async fn save(&self, session: &mut Session) -> Result<()> {
        let mut values = values![self.task.id];
        values.extend(self.changing_values(session.now)?);
        session.run(UPDATE, values).await?;
        Ok(())
    }

    /// As [`TaskRow::save`], for many.
    pub(crate) async fn save_all(session: &mut Session, rows: &[Self]) -> Result<()> {
        let now = session.now;
        let values = rows.iter().map(|row| {
            let mut values = values![row.task.id];
            values.extend(row.changing_values(now)?);
            Ok(values)
        });
        let values = values.collect::<Result<_>>()?;
        session.update_later(&UPDATE_ALL, values).await
    }

    /// Writes all that can change.
    pub(crate) async fn save_whole(&self, session: &mut Session) -> Result<()> {
        let mut values = values![self.task.id];
        values.extend(self.changing_values(session.now)?);
        values.push(self.body()?.into());
        session.run(UPDATE_WHOLE, values).await?;
        Ok(())
    }

    /// Writes what changes most, and how an attempt of it ended: `ended_at outcome reason digest phases environment
    /// log_bytes log_truncated`.
    pub(crate) async fn save_with_attempt(
        &self,
        session: &mut Session,
        number: u32,
        ended: Vec<Value>,
    ) -> Result<()> {
        let key = values![self.task.id, number];
        if session.dialect() == Dialect::Sqlite {
            session.run(END_ATTEMPT, [key, ended].concat()).await?;
            return self.save(session).await;
        }
        let mut values = values![self.task.id];
        values.extend(self.changing_values(session.now)?);
        values.extend(values![number]);
        values.extend(ended);
        session.run(UPDATE_AND_END_ATTEMPT, values).await?;
        Ok(())
    }

    /// The name of its group.
    pub(crate) fn group(&self) -> Option<&GroupName> {
        self.task.group.as_ref().map(|group| &group.name)
    }

    fn body(&self) -> Result<String> {
        let task = &self.task;
        json(&Body {
            kind: Cow::Borrowed(&task.kind),
            origin: Cow::Borrowed(&task.origin),
            inputs: Cow::Borrowed(&task.inputs),
            needs: Cow::Borrowed(&task.needs),
            group: Cow::Borrowed(&task.group),
            trust: task.trust,
            secrets: Cow::Borrowed(task.secrets.as_slice()),
            approval: Cow::Borrowed(&task.approval),
            hold: Cow::Borrowed(&task.hold),
            timeout_cap_seconds: task.timeout_cap_seconds,
            traceparent: Cow::Borrowed(&task.traceparent),
        })
    }

    fn insert_values(&self, now: DateTime<Utc>) -> Result<Vec<Value>> {
        let task = &self.task;
        let mut values = values![
            task.id,
            task.key,
            &task.name,
            task.kind.as_str(),
            &task.submitter,
            &task.queue,
            task.priority,
            task.item.as_ref().map(|item| &item.kind),
            task.item.as_ref().map(|item| &item.id),
            task.origin.rule(),
            task.origin.event(),
            self.generation,
            task.batch,
            self.group(),
            task.group.as_ref().and_then(|group| group.max_running),
            task.depth,
            task.created_at,
        ];
        values.extend(self.changing_values(now)?);
        values.push(self.body()?.into());
        Ok(values)
    }

    fn changing_values(&self, now: DateTime<Utc>) -> Result<Vec<Value>> {
        let mut values = state_values(&self.task.state, now)?;
        values.extend(values![
            self.lane,
            self.turn,
            self.task.attempts,
            self.handed_back,
            self.fence,
            self.tries,
            self.hold_until,
        ]);
        Ok(values)
    }
}

pub(crate) fn not_found(id: TaskId) -> StoreError {
    StoreError::NotFound { what: "task", id: id.to_string() }
}

/// The columns of a state: `state wait_reason since not_before worker phase lease_until stop outcome reason
/// ended_attempt`.
fn state_values(state: &TaskState, now: DateTime<Utc>) -> Result<Vec<Value>> {
    let (mut wait_reason, mut not_before, mut worker, mut phase, mut lease_until) =
        (None, None, None, None, None);
    let (mut stop, mut outcome, mut reason, mut ended_attempt) = (None, None, None, None);
    let mut name = state.name();
    let since = match state {
        TaskState::Waiting { reason: waits_for, since, error, next_try_at } => {
            wait_reason = Some(waits_for.as_str());
            reason = error.as_ref();
            not_before = *next_try_at;
            since
        }
        TaskState::Queued { since, not_before: from, .. } => {
            not_before = *from;
            if from.is_some_and(|from| from > now) {
                name = "delayed";
            }
            since
        }
        TaskState::Running { worker: by, phase: at, since, lease_until: until, stop: wish, .. } => {
            worker = Some(by);
            phase = Some(at.as_str());
            lease_until = Some(*until);
            stop = wish.as_ref().map(json).transpose()?;
            since
        }
        TaskState::Finished { outcome: how, attempt, reason: why, at } => {
            outcome = Some(*how);
            reason = why.as_ref();
            ended_attempt = Some(*attempt);
            at
        }
        TaskState::Cancelled { who, why, at } => {
            stop = Some(json(&Stop::Cancel { who: who.clone(), why: why.clone() })?);
            at
        }
        TaskState::Superseded { by, at } => {
            stop = Some(json(&Stop::Supersede { by: *by })?);
            at
        }
    };
    Ok(values![
        name,
        wait_reason,
        *since,
        not_before,
        worker,
        phase,
        lease_until,
        stop,
        outcome,
        reason,
        ended_attempt
    ])
}

fn read_state(row: &Row) -> Result<TaskState> {
    let odd = |message: String| StoreError::Inconsistent { table: "task", message };
    let since = row.time("since")?;
    let stop = || row.json_opt::<Stop>("stop");
    let name = row.text("state")?;
    Ok(match name.as_str() {
        "waiting" => {
            let text = row.text("wait_reason")?;
            let reason = serde_json::from_value(serde_json::Value::from(text.as_str()))
                .map_err(|_| odd(format!("`{text}` is no reason to wait")))?;
            let (error, next_try_at) = (row.text_opt("reason")?, row.time_opt("not_before")?);
            TaskState::Waiting { reason, since, error, next_try_at }
        }
        "queued" | "delayed" => TaskState::Queued {
            since,
            not_before: row.time_opt("not_before")?,
            unmet: row.text_opt("unmet")?,
        },
        "running" => TaskState::Running {
            attempt: row.number("attempts")?,
            worker: row.text("worker")?.into(),
            fence: row.int("fence")?,
            phase: row.parsed("phase")?,
            since,
            lease_until: row.time("lease_until")?,
            stop: stop()?,
        },
        "finished" => TaskState::Finished {
            outcome: row.parsed("outcome")?,
            attempt: row.number("ended_attempt")?,
            reason: row.text_opt("reason")?,
            at: since,
        },
        "cancelled" => match stop()? {
            Some(Stop::Cancel { who, why }) => TaskState::Cancelled { who, why, at: since },
            _ => return Err(odd("cancelled by nobody".to_owned())),
        },
        "superseded" => match stop()? {
            Some(Stop::Supersede { by }) => TaskState::Superseded { by, at: since },
            _ => return Err(odd("superseded by nothing".to_owned())),
        },
        other => return Err(odd(format!("`{other}` is no state"))),
    })
}

/// A transition that the state does not allow is a conflict.
pub(crate) fn refused(error: model::task::TransitionError) -> StoreError {
    StoreError::Conflict(error.to_string())
}
