//! Making tasks, and what that does to older ones: superseding and cancelling, in the same transaction.

use super::{
    session::{Dialect, Session, Sql},
    task_row::{TaskRow, select_task},
    value::{Value, values},
    work::Work,
};
use crate::{CancelWhat, CancelWish, Result};
use model::{
    TaskId, TaskState,
    ids::GroupName,
    message::TaskChange,
    task::{OnNew, Stop, WaitReason},
};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A task to be made by the wish number `order` of the transaction: wishes of one event have one number, and
/// do not count as older than each other.
#[derive(Debug)]
pub(crate) struct Making {
    pub(crate) row: TaskRow,
    pub(crate) order: usize,
    /// Whether it waits for nothing but its group.
    pub(crate) queue: bool,
}

/// A wish to cancel, with its number.
#[derive(Debug)]
pub(crate) struct Cancelling<'a> {
    pub(crate) wish: &'a CancelWish,
    pub(crate) order: usize,
}

const OPEN_OF_GROUPS: Sql = Sql {
    sqlite: select_task!(
        "where t.group_name in (select value from json_each($1)) \
         and t.state in ('waiting', 'queued', 'delayed', 'running') order by t.id"
    ),
    postgres: select_task!(
        "where t.group_name = any($1) \
         and t.state in ('waiting', 'queued', 'delayed', 'running') order by t.id for update of t"
    ),
};
const OPEN_OF_ITEM: Sql = Sql {
    sqlite: select_task!(
        "where t.item_id = $2 and t.item_type = $1 \
         and t.state in ('waiting', 'queued', 'delayed', 'running') order by t.id"
    ),
    postgres: select_task!(
        "where left(t.item_id, 256) = left($2, 256) and t.item_id = $2 and t.item_type = $1 \
         and t.state in ('waiting', 'queued', 'delayed', 'running') order by t.id for update of t"
    ),
};
const GROUPS_OF_ITEM: Sql = Sql {
    sqlite: "select distinct group_name from task where item_id = $2 and item_type = $1 \
        and group_name is not null and state in ('waiting', 'queued', 'delayed', 'running')",
    postgres: "select distinct group_name from task where left(item_id, 256) = left($2, 256) and item_id = $2 \
        and item_type = $1 and group_name is not null and state in ('waiting', 'queued', 'delayed', 'running')",
};

impl Work<'_> {
    /// Makes tasks whose key is not there yet, and stops the older ones that they or the wishes name. Gives
    /// the ids of those that were made.
    pub(crate) async fn make(
        &mut self,
        mut makings: Vec<Making>,
        cancels: &[Cancelling<'_>],
    ) -> Result<HashSet<TaskId>> {
        self.lock_groups_for(&makings, cancels).await?;
        for making in &mut makings {
            let capped = making.row.task.group.as_ref().is_some_and(|group| group.max_running.is_some());
            if making.queue && !capped {
                self.queue(&mut making.row, None).await?;
            }
        }
        let rows: Vec<_> = makings.iter().map(|making| &making.row).collect();
        let made: HashSet<_> = TaskRow::insert(self.session, &rows).await?.into_iter().collect();
        makings.retain(|making| made.contains(&making.row.task.id));
        for Making { row, queue, .. } in &makings {
            self.made(row);
            super::foreign::made(self.session, &row.task).await?;
            self.out.task(&row.task, TaskChange::Created);
            if matches!(row.task.state, TaskState::Queued { .. }) {
                self.tell_queued(row, TaskChange::Queued);
            } else if let (true, Some(group)) = (*queue, row.group()) {
                self.let_in(group);
            }
        }
        let order = makings.iter().map(|making| (making.row.task.id, making.order)).collect();
        self.supersede(&makings, &order).await?;
        for cancel in cancels {
            self.cancel(cancel, &order).await?;
        }
        Ok(made)
    }

    async fn lock_groups_for(&mut self, makings: &[Making], cancels: &[Cancelling<'_>]) -> Result<()> {
        let mut groups: BTreeSet<GroupName> = makings
            .iter()
            .filter_map(|making| making.row.task.group.as_ref())
            .filter(|group| group.on_new != OnNew::Keep || group.max_running.is_some())
            .map(|group| group.name.clone())
            .collect();
        if self.session.dialect() == Dialect::Postgres {
            for Cancelling { wish, .. } in cancels {
                match &wish.what {
                    CancelWhat::Group(group) => _ = groups.insert(group.clone()),
                    CancelWhat::Item(item) => {
                        let rows = self.session.all(GROUPS_OF_ITEM, values![&item.kind, &item.id]).await?;
                        for row in rows {
                            groups.insert(row.text("group_name")?.into());
                        }
                    }
                }
            }
        }
        self.session.lock_groups(&groups).await
    }

    async fn supersede(&mut self, makings: &[Making], order: &HashMap<TaskId, usize>) -> Result<()> {
        let superseding: Vec<_> = makings
            .iter()
            .filter_map(|making| making.row.task.group.as_ref().map(|group| (making, group)))
            .filter(|(making, group)| group.on_new != OnNew::Keep && !is_parked(&making.row))
            .collect();
        if superseding.is_empty() {
            return Ok(());
        }
        let groups: BTreeSet<_> = superseding.iter().map(|(_, group)| &group.name).collect();
        for mut row in open(self.session, OPEN_OF_GROUPS, vec![Value::texts(groups)]).await? {
            let running = matches!(row.task.state, TaskState::Running { .. });
            let age = order.get(&row.task.id);
            let newer = superseding.iter().find(|(making, group)| {
                Some(&group.name) == row.group()
                    && age.is_none_or(|age| *age < making.order)
                    && (!running || group.on_new == OnNew::Supersede)
            });
            if let Some((making, _)) = newer {
                self.stop(&mut row, Stop::Supersede { by: making.row.task.id }).await?;
            }
        }
        Ok(())
    }

    /// Supersedes what is older than a task that was parked: it took nobody's place while it waited for an operator.
    pub(crate) async fn supersede_older(&mut self, newer: &TaskRow) -> Result<()> {
        let Some(group) = newer.task.group.as_ref().filter(|group| group.on_new != OnNew::Keep) else {
            return Ok(());
        };
        for mut row in open(self.session, OPEN_OF_GROUPS, vec![Value::texts([&group.name])]).await? {
            let running = matches!(row.task.state, TaskState::Running { .. });
            // Ids grow with time.
            if row.task.id < newer.task.id && (!running || group.on_new == OnNew::Supersede) {
                self.stop(&mut row, Stop::Supersede { by: newer.task.id }).await?;
            }
        }
        Ok(())
    }

    async fn cancel(&mut self, cancel: &Cancelling<'_>, order: &HashMap<TaskId, usize>) -> Result<()> {
        let rows = match &cancel.wish.what {
            CancelWhat::Item(item) => open(self.session, OPEN_OF_ITEM, values![&item.kind, &item.id]).await?,
            CancelWhat::Group(group) => {
                open(self.session, OPEN_OF_GROUPS, vec![Value::texts([group])]).await?
            }
        };
        for mut row in rows {
            if order.get(&row.task.id).is_none_or(|age| *age < cancel.order) {
                let who = format!("rule:{}", cancel.wish.rule);
                self.stop(&mut row, Stop::Cancel { who, why: None }).await?;
            }
        }
        Ok(())
    }
}

fn is_parked(row: &TaskRow) -> bool {
    matches!(row.task.state, TaskState::Waiting { reason: WaitReason::Parked, .. })
}

async fn open(session: &mut Session, sql: Sql, values: Vec<Value>) -> Result<Vec<TaskRow>> {
    session.all(sql, values).await?.iter().map(TaskRow::read).collect()
}
