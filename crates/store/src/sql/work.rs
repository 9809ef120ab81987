//! What happens to tasks inside of a transaction: queueing in turn, ending, letting the next of a group in,
//! counting batches, and telling all of it.

use super::{
    SqlStore,
    lanes::{KnownWorker, known_workers},
    outgoing::Outgoing,
    session::{Session, Sql},
    task_row::{TaskRow, refused, select_task},
    value::{Row, values},
};
use crate::{Result, StoreError};
use chrono::{DateTime, Utc};
use model::{
    Outcome, TaskState,
    ids::{BatchId, GroupName, QueueName, Submitter},
    message::{EndedTasks, NewMessage, TaskChange},
    task::{Stop, TaskKind, WaitReason},
};
use std::collections::{BTreeMap, BTreeSet};

const GROUP_BUSY: &str = "select count(*) as n from task \
    where group_name = $1 and state in ('queued', 'delayed', 'running')";
const GROUP_NEXT: Sql = Sql {
    sqlite: select_task!(
        "where t.group_name = $1 and t.state = 'waiting' and t.wait_reason = 'group' \
         order by t.priority desc, t.id limit 1"
    ),
    postgres: select_task!(
        "where t.group_name = $1 and t.state = 'waiting' and t.wait_reason = 'group' \
         order by t.priority desc, t.id limit 1 for update of t"
    ),
};
/// How far the queue has come, where its lane stands, and the submitter's last turn.
const TURNS: &str = "select (select v.turn from turn v where v.queue = $1 and v.priority = $2) as come, \
    (select h.turn from task h where h.lane_id = $3 and h.state = 'queued' and h.priority = $2 \
        order by h.turn, h.id limit 1) as head, \
    (select m.turn from task m where m.queue = $1 and m.submitter = $4 and m.priority = $2 \
        and m.state = 'queued' order by m.turn desc limit 1) as last";
const FIRST_TURN: &str = "insert into turn (queue, priority, turn) values ($1, $2, 0) \
    on conflict (queue, priority) do nothing";
const UNMET: &str = "update lane set unmet = $2 where id = $1 and (unmet is null or unmet <> $2)";
const COUNT_BATCH: &str = "update batch set tasks = tasks + $2, final_tasks = final_tasks + $3 where id = $1 \
    returning name, tasks, final_tasks";
const BATCH_OUTCOMES: &str = "select name, case when state = 'finished' then outcome else state end as word, \
    count(*) as n from task where batch_id = $1 group by 1, 2 order by 1, 2";

/// Turns that a transaction gave out, by lane, priority and submitter.
type Turns = BTreeMap<(QueueName, i64, i32, Submitter), i64>;

/// A transaction's work on tasks.
pub(crate) struct Work<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) store: &'a SqlStore,
    pub(crate) out: Outgoing,
    pub(crate) now: DateTime<Utc>,
    workers: Option<Vec<KnownWorker>>,
    /// Why nobody can serve a lane, for those that were looked at.
    unmet: BTreeMap<i64, Option<String>>,
    turns: Turns,
    /// Tasks made and ended, and the depth of the last that ended.
    batches: BTreeMap<BatchId, (i64, i64, u32)>,
    /// How the tasks of batches ended that somebody else counts.
    counted: BTreeMap<BatchId, Vec<EndedTasks>>,
    left: BTreeSet<GroupName>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(session: &'a mut Session, store: &'a SqlStore) -> Self {
        let now = session.now;
        Self {
            session,
            store,
            out: Outgoing::default(),
            now,
            workers: None,
            unmet: BTreeMap::new(),
            turns: Turns::new(),
            batches: BTreeMap::new(),
            counted: BTreeMap::new(),
            left: BTreeSet::new(),
        }
    }

    /// Makes the task's state `queued`, in its lane and in its turn. The caller saves it and tells.
    pub(crate) async fn queue(&mut self, row: &mut TaskRow, not_before: Option<DateTime<Utc>>) -> Result<()> {
        let lane = row.lane.ok_or_else(|| StoreError::Inconsistent {
            table: "task",
            message: format!("{} has no lane", row.task.id),
        })?;
        row.turn = self.next_turn(row, lane).await?;
        row.task.state = row.task.state.clone().queue(self.now, not_before).map_err(refused)?;
        self.note_unmet(row, lane).await
    }

    /// Start-time fair queueing: a task starts one turn after its submitter's last one, and not before where
    /// the queue has come; so a newcomer is not held off by what another queued long before.
    async fn next_turn(&mut self, row: &TaskRow, lane: i64) -> Result<i64> {
        let task = &row.task;
        let key = (task.queue.clone(), lane, task.priority, task.submitter.clone());
        if let Some(turn) = self.turns.get_mut(&key) {
            *turn += 1;
            return Ok(*turn);
        }
        let values = values![&task.queue, task.priority, lane, &task.submitter];
        let found = self.session.one(TURNS, values).await?;
        let come = found.int_opt("come")?;
        if come.is_none() {
            self.session.run(FIRST_TURN, values![&task.queue, task.priority]).await?;
        }
        // Another lane of the queue may have come further than this one: here counts this one's head.
        let come = come.unwrap_or(0).min(found.int_opt("head")?.map_or(i64::MAX, |head| head - 1));
        let turn = come.max(found.int_opt("last")?.unwrap_or(0)) + 1;
        self.turns.insert(key, turn);
        Ok(turn)
    }

    /// Says so when no known worker can serve the lane.
    async fn note_unmet(&mut self, row: &mut TaskRow, lane: i64) -> Result<()> {
        if !self.unmet.contains_key(&lane) {
            let why = self.why_unmet(lane).await?;
            if let Some(why) = &why {
                self.session.run(UNMET, values![lane, why]).await?;
            }
            self.unmet.insert(lane, why);
        }
        if let (TaskState::Queued { unmet, .. }, Some(why)) = (&mut row.task.state, self.unmet.get(&lane)) {
            unmet.clone_from(why);
        }
        Ok(())
    }

    async fn why_unmet(&mut self, lane: i64) -> Result<Option<String>> {
        if self.workers.is_none() {
            self.workers = Some(known_workers(self.session, self.now).await?);
        }
        let lanes = self.store.lanes(self.session, &[lane]).await?;
        let workers = self.workers.as_deref().unwrap_or_default();
        Ok(lanes.first().and_then(|lane| lane.unmet(workers)))
    }

    /// Queues a task for another attempt. It keeps its turn: it has waited already. The caller saves it.
    pub(crate) async fn requeue(
        &mut self,
        row: &mut TaskRow,
        not_before: Option<DateTime<Utc>>,
    ) -> Result<()> {
        row.fence += 1;
        row.task.state = row.task.state.clone().queue(self.now, not_before).map_err(refused)?;
        if let Some(lane) = row.lane {
            self.note_unmet(row, lane).await?;
        }
        self.tell_queued(row, TaskChange::Retried);
        Ok(())
    }

    /// Tells that a task was queued, and that nobody can run it.
    pub(crate) fn tell_queued(&mut self, row: &TaskRow, change: TaskChange) {
        self.out.task(&row.task, change);
        if matches!(row.task.state, TaskState::Queued { unmet: Some(_), .. }) {
            self.out.task(&row.task, TaskChange::Unmet);
        }
    }

    /// Queues a task that may go on, or lets it wait for its group. It is saved and told.
    pub(crate) async fn queue_or_wait(&mut self, row: &mut TaskRow) -> Result<()> {
        if self.group_is_full(row).await? {
            row.task.state = row.task.state.clone().wait(self.now, WaitReason::Group).map_err(refused)?;
            row.save_whole(self.session).await?;
            self.out.task(&row.task, TaskChange::Waiting);
            return Ok(());
        }
        self.queue(row, None).await?;
        row.save_whole(self.session).await?;
        self.tell_queued(row, TaskChange::Queued);
        Ok(())
    }

    async fn group_is_full(&mut self, row: &TaskRow) -> Result<bool> {
        let Some(group) = &row.task.group else { return Ok(false) };
        let Some(max) = group.max_running else { return Ok(false) };
        let busy = self.session.one(GROUP_BUSY, values![&group.name]).await?.int("n")?;
        Ok(busy >= i64::from(max))
    }

    /// Notes that a task was made.
    pub(crate) fn made(&mut self, row: &TaskRow) {
        if let Some(batch) = row.task.batch {
            self.batches.entry(batch).or_default().0 += 1;
        }
    }

    /// Notes that a task which had ended goes on, or ends in another way. Only those that are reported to us do.
    pub(crate) fn reopened(&mut self, row: &TaskRow) {
        if let Some(batch) = row.task.batch {
            self.batches.entry(batch).or_default().1 -= 1;
        }
    }

    /// Says how the tasks of a batch ended, so that they need not be read.
    pub(crate) fn ended_as(&mut self, batch: BatchId, ended: Vec<EndedTasks>) {
        self.counted.insert(batch, ended);
    }

    /// Notes that the next of a group may come in.
    pub(crate) fn let_in(&mut self, group: &GroupName) {
        self.left.insert(group.clone());
    }

    /// Stops a task: at once, or by its worker. It is saved and told. Whether anything changed.
    pub(crate) async fn stop(&mut self, row: &mut TaskRow, stop: Stop) -> Result<bool> {
        let before = row.task.state.clone();
        row.task.state = before.clone().stop(stop, self.now).map_err(refused)?;
        if matches!(row.task.kind, TaskKind::Reported) && !row.task.state.is_final() {
            // Nobody of ours runs it, who could be told.
            row.task.state = row.task.state.clone().finish(Outcome::Info, None, self.now).map_err(refused)?;
        }
        if row.task.state == before {
            return Ok(false);
        }
        if row.task.state.is_final() {
            self.ended(row);
        }
        row.save(self.session).await?;
        super::paddles_job::stopped(self.session, &row.task).await?;
        Ok(true)
    }

    /// A task has become final: tells it, also as an event of ours. The caller saves it.
    pub(crate) fn ended(&mut self, row: &mut TaskRow) {
        row.fence += 1;
        let task = &row.task;
        let change = TaskChange::into_final(&task.state);
        let what = change.topic().trim_start_matches("taskbot.");
        let id = format!("{what}/{}/{}", task.id, task.attempts);
        self.out.chain(NewMessage::task(task, change), id, task.depth, Some(task.id), self.now);
        if let Some(batch) = task.batch {
            let counts = self.batches.entry(batch).or_default();
            counts.1 += 1;
            counts.2 = counts.2.max(task.depth);
        }
        if let Some(group) = row.group() {
            self.left.insert(group.clone());
        }
    }

    /// Ends the work: lets the next of groups in, counts batches, writes what is told.
    pub(crate) async fn done(mut self) -> Result<()> {
        for group in std::mem::take(&mut self.left) {
            self.admit(&group).await?;
        }
        for (batch, (made, ended, depth)) in std::mem::take(&mut self.batches) {
            self.count_batch(batch, made, ended, depth).await?;
        }
        self.out.write(self.session).await
    }

    /// Lets in as many of a group as it has room for, the highest priority and the oldest first.
    async fn admit(&mut self, group: &GroupName) -> Result<()> {
        loop {
            let Some(row) = self.session.first(GROUP_NEXT, values![group]).await? else { return Ok(()) };
            let mut row = TaskRow::read(&row)?;
            if self.group_is_full(&row).await? {
                return Ok(());
            }
            self.queue(&mut row, None).await?;
            row.save(self.session).await?;
            self.tell_queued(&row, TaskChange::Queued);
        }
    }

    async fn count_batch(&mut self, batch: BatchId, made: i64, ended: i64, depth: u32) -> Result<()> {
        let row = self.session.one(COUNT_BATCH, values![batch, made, ended]).await?;
        let (tasks, final_tasks) = (row.int("tasks")?, row.int("final_tasks")?);
        if ended == 0 || tasks != final_tasks {
            return Ok(());
        }
        let name = row.text("name")?;
        let ended = match self.counted.remove(&batch) {
            Some(ended) => ended,
            None => self.outcomes_of(batch).await?,
        };
        let message = NewMessage::batch(batch, &name, &ended, depth);
        self.out.chain(message, format!("batch.finished/{batch}/{final_tasks}"), depth, None, self.now);
        Ok(())
    }

    async fn outcomes_of(&mut self, batch: BatchId) -> Result<Vec<EndedTasks>> {
        let rows = self.session.all(BATCH_OUTCOMES, values![batch]).await?;
        let read = |row: &Row| {
            Ok(EndedTasks {
                name: row.text("name")?.into(),
                word: row.text("word")?,
                count: row.number("n")?,
            })
        };
        rows.iter().map(read).collect()
    }
}
