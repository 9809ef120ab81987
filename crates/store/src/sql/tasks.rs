//! Tasks: making, resolving, stopping.

use super::{
    SqlStore,
    making::Making,
    places::Wanted,
    session::{Session, Sql, transaction},
    task_row::{TaskRow, refused, select_task},
    value::{Value, values},
    work::Work,
};
use crate::{Batch, NewTask, Page, Resolution, Result, Stopped, StoreError, TaskQuery, Tasks, Unresolved};
use async_trait::async_trait;
use chrono::Duration;
use model::{
    Attempt, Outcome, Phase, Task, TaskId, TaskKey, TaskState,
    ids::QueueName,
    message::TaskChange,
    task::{Approval, Stop, TaskKind, WaitReason},
};

/// The longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = model::task::TASK_TEXT_BYTES_MAX;

const BY_KEYS: Sql = Sql {
    sqlite: select_task!("where t.key in (select unhex(value) from json_each($1))"),
    postgres: select_task!("where t.key = any($1)"),
};
const TAKE_UNRESOLVED: Sql = Sql {
    sqlite: "update task set hold_until = $2 where id in (\
        select id from task where state = 'waiting' and wait_reason = 'resolving' and hold_until <= $1 \
        order by hold_until, id limit $3) returning *, null as unmet",
    postgres: "update task t set hold_until = $2 from (\
        select id from task where state = 'waiting' and wait_reason = 'resolving' and hold_until <= $1 \
        order by hold_until, id limit $3 for update skip locked) as due \
        where t.id = due.id returning t.*, null::text as unmet",
};

#[async_trait]
impl Tasks for SqlStore {
    async fn create_tasks(&self, tasks: &[NewTask]) -> Result<Vec<Task>> {
        self.make_places(Wanted::by(tasks)).await?;
        transaction!(self, |session| create(self, session, tasks))
    }

    async fn unresolved(&self, limit: u32, hold_ms: u64) -> Result<Vec<Unresolved>> {
        transaction!(self, passing | session | unresolved(session, limit, hold_ms))
    }

    async fn pinned_commit(&self, task: &Task) -> Result<Option<String>> {
        super::pins::pinned(&mut self.read().await?, task).await
    }

    async fn resolve(&self, task: &Task, resolution: &Resolution) -> Result<Task> {
        // Lanes are made outside of the transaction that needs them; a task never changes its queue or group.
        let id = task.id;
        let lane = match resolution {
            Resolution::Found { needs, .. } => {
                let lane = Some(self.make_lane(&task.queue, needs).await?);
                if task.group.is_none() {
                    // A crash of the database that forgets it leaves a task to be resolved again: whoever claims the
                    // task or tells of it waits for the disk, and with that for this as well.
                    return transaction!(
                        self,
                        unclocked | session | {
                            async {
                                let row = TaskRow::lock_with_clock(session, id).await?;
                                resolve(self, session, row, lane, resolution).await
                            }
                        }
                    );
                }
                lane
            }
            Resolution::Spread { tasks, .. } => {
                self.make_places(Wanted::by(tasks)).await?;
                None
            }
            Resolution::Wrong { .. } | Resolution::Later { .. } => None,
        };
        transaction!(self, on id, |session| async {
            let row = TaskRow::lock(session, id).await?;
            resolve(self, session, row, lane, resolution).await
        })
    }

    async fn stop(&self, task: TaskId, stop: &Stop) -> Result<Stopped> {
        transaction!(self, on task, |session| stop_task(self, session, task, stop))
    }

    async fn release(&self, task: TaskId) -> Result<Task> {
        let before = TaskRow::get(&mut self.read().await?, task).await?;
        let lane = self.make_lane(&before.task.queue, &before.task.needs).await?;
        transaction!(self, on task, |session| release(self, session, task, lane))
    }

    async fn approve(&self, task: TaskId, who: &str, why: Option<&str>) -> Result<Task> {
        let before = TaskRow::get(&mut self.read().await?, task).await?;
        let lane = self.make_lane(&before.task.queue, &before.task.needs).await?;
        transaction!(self, on task, |session| approve(self, session, task, lane, who, why))
    }

    async fn unhold(&self, task: TaskId, who: &str) -> Result<Task> {
        transaction!(self, on task, |session| unhold(self, session, task, who))
    }

    async fn task(&self, id: TaskId) -> Result<Task> {
        Ok(TaskRow::get(&mut self.read().await?, id).await?.task)
    }

    async fn tasks_by_prefix(&self, prefix: &str) -> Result<Vec<Task>> {
        super::tasks_read::by_prefix(&mut self.read().await?, prefix).await
    }

    async fn tasks(&self, query: &TaskQuery) -> Result<Page<Task>> {
        super::tasks_read::list(&mut self.read().await?, query).await
    }

    async fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>> {
        super::tasks_read::attempts(&mut self.read().await?, task).await
    }

    async fn position(&self, task: TaskId) -> Result<Option<u64>> {
        super::tasks_read::position(&mut self.read().await?, task).await
    }

    async fn queued_before(&self, queue: &QueueName, priority: i32) -> Result<u64> {
        super::tasks_read::queued_before(&mut self.read().await?, queue, priority).await
    }

    async fn batch(&self, id_or_name: &str) -> Result<Batch> {
        super::tasks_read::batch(&mut self.read().await?, id_or_name).await
    }
}

/// A task to be made, with its lane when it waits for nothing.
pub(crate) fn making(
    store: &SqlStore,
    new: &NewTask,
    event: Option<model::EventSeq>,
    order: usize,
    now: chrono::DateTime<chrono::Utc>,
) -> Making {
    let batch = new.batch.as_deref().and_then(|name| store.batch_id(name));
    let mut row = TaskRow::new(new, event, batch, now);
    if new.wait.is_none() {
        row.lane = store.lane_id(&new.queue, &new.needs);
    }
    Making { row, order, queue: new.wait.is_none() }
}

async fn create(store: &SqlStore, session: &mut Session, tasks: &[NewTask]) -> Result<Vec<Task>> {
    let now = session.now;
    let mut work = Work::new(session, store);
    let makings = tasks.iter().map(|new| making(store, new, None, 0, now)).collect();
    work.make(makings, &[]).await?;
    work.done().await?;
    let keys = tasks.iter().map(|task| task.key.0.to_vec()).collect();
    let rows = session.all(BY_KEYS, vec![Value::Hashes(keys)]).await?;
    let rows = rows.iter().map(TaskRow::read).collect::<Result<Vec<_>>>()?;
    let by_key = |key: TaskKey| rows.iter().find(|row| row.task.key == key).map(|row| row.task.clone());
    tasks
        .iter()
        .map(|task| {
            by_key(task.key).ok_or_else(|| {
                StoreError::Conflict(format!("a task with the id {} and another key is there", task.id))
            })
        })
        .collect()
}

async fn unresolved(session: &mut Session, limit: u32, hold_ms: u64) -> Result<Vec<Unresolved>> {
    let now = session.now;
    let until = now + milliseconds(hold_ms);
    let rows = session.all(TAKE_UNRESOLVED, values![now, until, limit]).await?;
    let mut rows = rows.iter().map(TaskRow::read).collect::<Result<Vec<_>>>()?;
    rows.sort_by_key(|row| row.task.id);
    Ok(rows.into_iter().map(|row| Unresolved { task: row.task, tries: row.tries }).collect())
}

async fn resolve(
    store: &SqlStore,
    session: &mut Session,
    mut row: TaskRow,
    lane: Option<i64>,
    resolution: &Resolution,
) -> Result<Task> {
    let mut work = Work::new(session, store);
    if !matches!(row.task.state, TaskState::Waiting { reason: WaitReason::Resolving, .. }) {
        return Ok(row.task);
    }
    match resolution {
        Resolution::Found { resolved: found, inputs, needs } => {
            if !super::pins::pin(work.session, &row.task, &found.commit).await? {
                // Its siblings use another commit: it is taken again at once, and looked up at that one.
                row.hold_until = work.now;
                row.save(work.session).await?;
                return Ok(row.task);
            }
            let TaskKind::Repo { resolved, .. } = &mut row.task.kind else {
                return Err(StoreError::Conflict(format!("task {} has no repository", row.task.id)));
            };
            *resolved = Some(found.clone());
            row.task.inputs = inputs.clone();
            row.task.needs = needs.clone();
            row.lane = lane;
            if row.task.approval == Some(Approval::Needed) {
                row.task.state =
                    row.task.state.clone().wait(work.now, WaitReason::Approval).map_err(refused)?;
                row.save_whole(work.session).await?;
                work.out.task(&row.task, TaskChange::Waiting);
            } else {
                work.queue_or_wait(&mut row).await?;
            }
        }
        Resolution::Spread { commit, tasks, reason } => {
            if !super::pins::pin(work.session, &row.task, commit).await? {
                row.hold_until = work.now;
                row.save(work.session).await?;
                return Ok(row.task);
            }
            let event = row.task.origin.event();
            let made = tasks.iter().map(|new| {
                let mut making = making(store, new, event, 0, work.now);
                making.row.generation = row.generation;
                making.row.task.batch = row.task.batch;
                making
            });
            let made = made.collect();
            work.make(made, &[]).await?;
            let reason = Some(cut(reason, REASON_BYTES_MAX));
            row.task.state =
                row.task.state.clone().finish(Outcome::Info, reason, work.now).map_err(refused)?;
            work.ended(&mut row);
            row.save(work.session).await?;
        }
        Resolution::Wrong { outcome, reason } => {
            let reason = Some(cut(reason, REASON_BYTES_MAX));
            row.task.state = row.task.state.clone().finish(*outcome, reason, work.now).map_err(refused)?;
            work.ended(&mut row);
            row.save(work.session).await?;
        }
        Resolution::Later { delay, reason } => {
            row.tries += 1;
            row.hold_until = work.now + milliseconds(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            let error = cut(reason, REASON_BYTES_MAX);
            row.task.state = row.task.state.clone().put_off(error, row.hold_until).map_err(refused)?;
            row.save(work.session).await?;
            work.out.task(&row.task, TaskChange::Waiting);
        }
    }
    work.done().await?;
    Ok(row.task)
}

async fn stop_task(store: &SqlStore, session: &mut Session, task: TaskId, stop: &Stop) -> Result<Stopped> {
    let mut work = Work::new(session, store);
    let mut row = TaskRow::lock(work.session, task).await?;
    let changed = work.stop(&mut row, stop.clone()).await?;
    work.done().await?;
    Ok(Stopped { task: row.task, changed })
}

async fn release(store: &SqlStore, session: &mut Session, task: TaskId, lane: i64) -> Result<Task> {
    let mut work = Work::new(session, store);
    let mut row = TaskRow::lock(work.session, task).await?;
    if !matches!(row.task.state, TaskState::Waiting { reason: WaitReason::Parked, .. }) {
        let message = format!("task {} is {}, not parked", row.task.id, row.task.state.label());
        return Err(StoreError::Conflict(message));
    }
    work.supersede_older(&row).await?;
    if matches!(row.task.kind, TaskKind::Repo { resolved: None, .. }) {
        row.task.state = row.task.state.clone().wait(work.now, WaitReason::Resolving).map_err(refused)?;
        row.hold_until = work.now;
        row.save(work.session).await?;
        work.out.task(&row.task, TaskChange::Waiting);
    } else {
        row.lane = Some(lane);
        work.queue_or_wait(&mut row).await?;
    }
    work.done().await?;
    Ok(row.task)
}

async fn approve(
    store: &SqlStore,
    session: &mut Session,
    task: TaskId,
    lane: i64,
    who: &str,
    why: Option<&str>,
) -> Result<Task> {
    let mut work = Work::new(session, store);
    let mut row = TaskRow::lock(work.session, task).await?;
    if !matches!(row.task.state, TaskState::Waiting { reason: WaitReason::Approval, .. }) {
        let message = format!("task {} is {}: it waits for no approval", row.task.id, row.task.state.label());
        return Err(StoreError::Conflict(message));
    }
    row.task.approval =
        Some(Approval::Given { who: who.to_owned(), why: why.map(str::to_owned), at: work.now });
    row.lane = Some(lane);
    work.queue_or_wait(&mut row).await?;
    work.done().await?;
    Ok(row.task)
}

async fn unhold(store: &SqlStore, session: &mut Session, task: TaskId, who: &str) -> Result<Task> {
    let mut work = Work::new(session, store);
    let mut row = TaskRow::lock(work.session, task).await?;
    match &mut row.task.hold {
        Some(hold) if matches!(row.task.state, TaskState::Running { phase: Phase::Hold, .. }) => {
            hold.ended_by.get_or_insert_with(|| who.to_owned());
        }
        _ => {
            let message =
                format!("task {} is {}: nothing is held of it", row.task.id, row.task.state.label());
            return Err(StoreError::Conflict(message));
        }
    }
    row.save_whole(work.session).await?;
    work.out.task(&row.task, TaskChange::Phase);
    work.done().await?;
    Ok(row.task)
}

/// So many milliseconds; too many for the calendar are a hundred years.
pub(crate) fn milliseconds(ms: u64) -> Duration {
    const MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;
    Duration::milliseconds(i64::try_from(ms.min(MS_MAX)).unwrap_or(i64::MAX))
}

/// The text, cut at a character's end, without NUL characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max.min(text.len()));
    text[..end].replace('\0', "\u{fffd}")
}
