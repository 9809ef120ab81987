//! Running many tasks again at once: those of a batch that failed, those that a filter holds for.

use crate::{
    Scheduler,
    service::{Rerun, ServiceError, keep_within},
};
use model::{Item, Task, TaskId, TaskName, task::TaskKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Bounds, NewTask, TaskQuery};

/// The most tasks that one call runs again.
pub const RERUN_MAX: usize = 500;
/// How many of them, when it is not said.
pub const RERUN_DEFAULT: usize = 100;
/// How many newer tasks of the same name and item are looked at.
const NEWER_MAX: u32 = 200;

/// A task that is run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    /// The task that is repeated.
    pub of: TaskId,
    /// Its name.
    pub name: TaskName,
    /// What it tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    /// How it ended, in one word.
    pub ended: String,
    /// The new task; none when it was only to be shown what would be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
}

/// A task that is not run again, though it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAlone {
    /// The task.
    pub of: TaskId,
    /// Its name.
    pub name: TaskName,
    /// Why, in one line.
    pub why: String,
}

/// What came of running many tasks again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reruns {
    /// Whether nothing was made.
    pub dry_run: bool,
    /// Those that are run again, in the order in which they were given.
    pub tasks: Vec<Repeated>,
    /// Those that are not.
    pub left: Vec<LeftAlone>,
}

impl Scheduler {
    /// Runs tasks again, all in one transaction or none: with the same inputs, and at the same commits unless the newest
    /// are asked for. What was run again since is not run once more for what it was before: only the newest of the same
    /// name, item and inputs counts. What has not ended, or was run elsewhere, is left alone.
    ///
    /// # Errors
    /// One of them is not within the bounds, or the database is away: nothing was made.
    pub async fn rerun_all(
        &self,
        tasks: Vec<Task>,
        rerun: &Rerun,
        who: &str,
        bounds: &Bounds,
        dry_run: bool,
    ) -> Result<Reruns, ServiceError> {
        let mut done = Reruns { dry_run, ..Reruns::default() };
        let mut make: Vec<NewTask> = Vec::new();
        for task in tasks {
            if let Some(why) = self.why_left(&task).await? {
                done.left.push(LeftAlone { of: task.id, name: task.name, why });
                continue;
            }
            let (of, name, item) = (task.id, task.name.clone(), task.item.clone());
            let ended = task.state.label();
            let mut new = self.repetition(task, rerun.clone(), who)?;
            keep_within(&mut new, bounds, who)?;
            done.tasks.push(Repeated { of, name, item, ended, task: (!dry_run).then_some(new.id) });
            make.push(new);
        }
        if dry_run || make.is_empty() {
            return Ok(done);
        }
        self.store().create_tasks(&make).await?;
        self.wake().committed();
        for one in &done.tasks {
            let Some(task) = one.task else { continue };
            let detail = json!({"name": one.name, "of": one.of, "why": rerun.why});
            self.audit(who, "task.rerun", format!("task/{task}"), detail).await?;
        }
        Ok(done)
    }

    /// Why a task is not run again among many.
    async fn why_left(&self, task: &Task) -> Result<Option<String>, ServiceError> {
        if task.kind == TaskKind::Reported {
            return Ok(Some("it was run elsewhere and only reported".to_owned()));
        }
        if !task.state.is_final() {
            return Ok(Some("it has not ended".to_owned()));
        }
        let item = task.item.as_ref();
        let query = TaskQuery {
            name: Some(task.name.clone()),
            item_type: item.map(|item| item.kind.clone()),
            item_id: item.map(|item| item.id.clone()),
            since: Some(task.created_at),
            limit: NEWER_MAX,
            ..TaskQuery::default()
        };
        let same =
            |other: &Task| other.item == task.item && other.inputs == task.inputs && other.id > task.id;
        let newest = self.store().tasks(&query).await?.items.into_iter().find(same);
        Ok(newest.map(|newest| {
            format!("task {} of the same inputs is newer: {}", newest.id, newest.state.label())
        }))
    }
}
