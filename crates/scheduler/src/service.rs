//! What people and programs ask for: submitting, re-running, cancelling, replaying, asking why.

use crate::{Scheduler, rulebook::RuleSetError};
use model::{
    EventId, Requirements, RuleName, Submitter, Task, TaskId, TaskKey, TaskName,
    ids::{EventSeq, QueueName, ResultId},
    item::Item,
    task::{
        Approval, Group, HOLD_SECONDS_MAX, Hold, INPUTS_BYTES_MAX, Origin, PRIORITY_MAX, Repo, Stop,
        TASK_TEXT_BYTES_MAX, TaskKind, Trust, WaitReason,
    },
    verdict::{Explained, Verdict, VerdictKind},
};
use rules::compile::RuleSet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use store::{AuditRecord, Bounds, NewOrigin, NewTask, Stopped, StoreError, StoredEvent};

/// The system whose clients may give their jobs ids of their own.
const TESTFLINGER: &str = "testflinger";

/// Why a request cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request itself is wrong.
    #[error("{0}")]
    Bad(String),
    /// What the request names is not there.
    #[error("{0}")]
    Unknown(String),
    /// Several things start with this prefix.
    #[error("`{prefix}` is not unique: {candidates}", candidates = .candidates.join(", "))]
    Ambiguous {
        /// The prefix.
        prefix: String,
        /// What starts with it.
        candidates: Vec<String>,
    },
    /// It is not within the bounds of who asks.
    #[error("{0}")]
    OutOfBounds(String),
    /// Another system that is needed for it is away.
    #[error("{0}")]
    Elsewhere(String),
    /// The rules of that time do not compile any more, or are not kept.
    #[error(transparent)]
    Rules(#[from] RuleSetError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A task asked for by hand: one that is registered, or any repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Submission {
    /// A registered task. Either this or `repo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskName>,
    /// A repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<Repo>,
    /// The inputs.
    pub inputs: Map<String, Value>,
    /// What is tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    /// The queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// Higher goes first.
    pub priority: i32,
    /// What it needs of a worker, beyond what its task file says.
    pub needs: Requirements,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The name of its batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// For how long the environment of an attempt that fails is kept for a person, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u64>,
    /// The same key again gives the same task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its id, where something refers to it before it is made; never from outside.
    #[serde(skip)]
    pub id: Option<TaskId>,
}

/// How a task is to be run again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rerun {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// At the newest commit of its ref, rather than at the same commit.
    pub newest: bool,
    /// Inputs that differ.
    pub inputs: Map<String, Value>,
    /// For how long the environment of an attempt that fails is kept for a person, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u64>,
    /// The result that it is to replace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultId>,
}

impl Scheduler {
    /// Makes a task that somebody asked for.
    ///
    /// # Errors
    /// The request is wrong (unknown task, neither or both of `task` and `repo`, too large), or the database is away.
    pub async fn submit(&self, submission: Submission, who: &str) -> Result<Task, ServiceError> {
        self.submit_within(submission, who, &Bounds::default()).await
    }

    /// As [`Scheduler::submit`], within bounds.
    ///
    /// # Errors
    /// See there; and it is not within them.
    pub async fn submit_within(
        &self,
        submission: Submission,
        who: &str,
        bounds: &Bounds,
    ) -> Result<Task, ServiceError> {
        check_submission(&submission)?;
        let id = submission.id.unwrap_or_else(|| TaskId::new(self.ids().next()));
        let rules = self.rulebook().current();
        let (name, repo, queue, trust, secrets, cap, discover) = match (&submission.task, submission.repo) {
            (Some(name), None) => {
                let registered =
                    rules.tasks().get(name.as_str()).ok_or_else(|| unknown_task(&rules, name))?;
                let cap = registered.timeout_cap.map(|cap| cap.as_secs());
                let (repo, queue) = (Repo::clone(&registered.repo), Some(registered.queue.clone()));
                let (trust, secrets) = (registered.trust, registered.secrets.clone());
                (name.clone(), repo, queue, trust, secrets, cap, registered.discover)
            }
            // A repository of anybody's choice: no secrets, no relaxed isolation.
            (None, Some(repo)) => {
                (TaskName::new(repo_name(&repo)), repo, None, Trust::Untrusted, Vec::new(), None, false)
            }
            _ => return Err(ServiceError::Bad("name either a registered `task` or a `repo`".to_owned())),
        };
        let key = submission.key.map_or_else(
            || TaskKey::of_id("submitted", &id.to_string()),
            |key| TaskKey::of_id("submitted by key", &format!("{who}\n{key}")),
        );
        let queue = submission.queue.or(queue);
        let queue = queue.unwrap_or_else(|| QueueName::new(self.settings().default_queue.clone()));
        let (kind, needs, wait) = if submission.task.is_some() && repo.is_testflinger() {
            let (kind, needs) =
                TaskKind::testflinger(submission.inputs.clone(), &queue, self.settings().requeue_foreign);
            (kind, needs.and(&submission.needs), None)
        } else {
            let kind = TaskKind::Repo { repo, resolved: None, discover };
            (kind, submission.needs, Some(WaitReason::Resolving))
        };
        let new = NewTask {
            id,
            key,
            kind,
            name,
            origin: NewOrigin::Given(Origin::Submitted { who: who.to_owned(), why: submission.why }),
            submitter: Submitter::user(who),
            item: submission.item,
            inputs: submission.inputs,
            queue,
            priority: submission.priority,
            needs,
            group: submission.group,
            batch: submission.batch,
            trust,
            secrets,
            approval: None,
            hold: hold(submission.hold_seconds)?,
            timeout_cap_seconds: cap,
            depth: 0,
            traceparent: None,
            wait,
            dedupe: None,
        };
        let (name, item, inputs) = (new.name.clone(), new.item.clone(), new.inputs.clone());
        let task = self.create(new, who, bounds, "task.submit").await?;
        // The same key is the same request; under another one nothing would be made, and nobody would notice.
        let same = task.name == name
            && task.item == item
            && inputs.iter().all(|(input, value)| task.inputs.get(input) == Some(value));
        if task.id != id && !same {
            let message = format!("this key stands for another request: task {} ({})", task.id, task.name);
            return Err(StoreError::Conflict(message).into());
        }
        Ok(task)
    }

    /// Makes a new task that repeats another: same inputs, and the same commit unless the newest is asked for.
    ///
    /// # Errors
    /// There is no such task, it was only reported to us, it is not within the bounds, or the database is away.
    pub async fn rerun(
        &self,
        of: TaskId,
        rerun: Rerun,
        who: &str,
        bounds: &Bounds,
    ) -> Result<Task, ServiceError> {
        let old = self.store().task(of).await?;
        let new = self.repetition(old, rerun, who)?;
        self.create(new, who, bounds, "task.rerun").await
    }

    /// A new task that repeats another, to be made.
    pub(crate) fn repetition(&self, old: Task, rerun: Rerun, who: &str) -> Result<NewTask, ServiceError> {
        let of = old.id;
        let mut kind = old.kind.clone();
        let mut inputs = old.inputs.clone();
        inputs.extend(rerun.inputs.clone());
        let wait = match &mut kind {
            TaskKind::Reported => {
                let message = format!(
                    "task {of} was run elsewhere and only reported to us; it cannot be run again here"
                );
                return Err(ServiceError::Bad(message));
            }
            TaskKind::Foreign { .. } => None,
            TaskKind::Repo { resolved, .. } => {
                if rerun.newest {
                    *resolved = None;
                }
                match resolved {
                    Some(resolved) => {
                        inputs = resolved.file.check_inputs(&inputs).map_err(ServiceError::Bad)?;
                        None
                    }
                    None => Some(WaitReason::Resolving),
                }
            }
        };
        // A maintainer's word is about one commit.
        let approval = match wait {
            Some(_) => old.approval.map(|_| Approval::Needed),
            None => old.approval,
        };
        let wait = wait.or_else(|| (approval == Some(Approval::Needed)).then_some(WaitReason::Approval));
        let id = TaskId::new(self.ids().next());
        let event = old.origin.event();
        let origin = Origin::Rerun { of, who: who.to_owned(), why: rerun.why, result: rerun.result, event };
        Ok(NewTask {
            id,
            key: TaskKey::of_id("rerun", &id.to_string()),
            kind,
            origin: NewOrigin::Given(origin),
            submitter: Submitter::user(who),
            inputs,
            name: old.name,
            item: old.item,
            queue: old.queue,
            priority: old.priority,
            needs: old.needs,
            // The group's rule is about what events lead to; a person's wish supersedes nothing.
            group: None,
            batch: None,
            trust: old.trust,
            secrets: old.secrets,
            approval,
            hold: hold(rerun.hold_seconds)?,
            timeout_cap_seconds: old.timeout_cap_seconds,
            depth: old.depth,
            traceparent: old.traceparent,
            wait,
            dedupe: None,
        })
    }

    async fn create(
        &self,
        mut new: NewTask,
        who: &str,
        bounds: &Bounds,
        action: &str,
    ) -> Result<Task, ServiceError> {
        keep_within(&mut new, bounds, who)?;
        let tasks = self.store().create_tasks(&[new]).await?;
        self.wake().committed();
        let task =
            tasks.into_iter().next().ok_or(StoreError::Conflict("the task was not made".to_owned()))?;
        self.audit(who, action, format!("task/{}", task.id), json!({"name": task.name})).await?;
        Ok(task)
    }

    /// Cancels a task: at once when it is not running, else its worker stops it.
    ///
    /// # Errors
    /// There is no such task, it is final, or the database is away.
    pub async fn cancel(&self, id: TaskId, why: Option<String>, who: &str) -> Result<Stopped, ServiceError> {
        let stop = Stop::Cancel { who: who.to_owned(), why: why.clone() };
        let stopped = self.store().stop(id, &stop).await?;
        self.wake().committed();
        self.audit(who, "task.cancel", format!("task/{id}"), json!({"why": why})).await?;
        Ok(stopped)
    }

    /// Lets a parked task go on.
    ///
    /// # Errors
    /// There is no such task, it is not parked, or the database is away.
    pub async fn release(&self, id: TaskId, who: &str) -> Result<Task, ServiceError> {
        let task = self.store().release(id).await?;
        self.wake().committed();
        self.audit(who, "task.release", format!("task/{id}"), Value::Null).await?;
        Ok(task)
    }

    /// Lets a task run that waits for a maintainer's word.
    ///
    /// # Errors
    /// There is no such task, it does not wait for that, or the database is away.
    pub async fn approve(&self, id: TaskId, why: Option<String>, who: &str) -> Result<Task, ServiceError> {
        if why.as_ref().is_some_and(|why| why.len() > TASK_TEXT_BYTES_MAX) {
            return Err(ServiceError::Bad(format!("`why` has at most {TASK_TEXT_BYTES_MAX} bytes")));
        }
        let task = self.store().approve(id, who, why.as_deref()).await?;
        self.wake().committed();
        self.audit(who, "task.approve", format!("task/{id}"), json!({"why": why})).await?;
        Ok(task)
    }

    /// Ends the hold of a task's environment before its time.
    ///
    /// # Errors
    /// There is no such task, nothing is held of it, or the database is away.
    pub async fn unhold(&self, id: TaskId, who: &str) -> Result<Task, ServiceError> {
        let task = self.store().unhold(id, who).await?;
        self.wake().committed();
        self.audit(who, "task.unhold", format!("task/{id}"), json!({})).await?;
        Ok(task)
    }

    /// Stops handing out of a queue. One that nothing was queued in yet can be paused when something names it: a
    /// registered task, a worker, or the configuration.
    ///
    /// # Errors
    /// Nothing knows of such a queue, or the database is away.
    pub async fn pause_queue(
        &self,
        queue: &QueueName,
        why: Option<String>,
        who: &str,
    ) -> Result<(), ServiceError> {
        let make = self.is_named(queue).await?;
        self.store().pause_queue(queue, who, why.as_deref(), make).await?;
        self.audit(who, "queue.pause", format!("queue/{queue}"), json!({"why": why})).await?;
        Ok(())
    }

    /// Whether a registered task, a worker or the configuration names a queue.
    async fn is_named(&self, queue: &QueueName) -> store::Result<bool> {
        let rules = self.rulebook().current();
        if queue.as_str() == self.settings().default_queue
            || rules.tasks().iter().any(|task| task.queue == *queue)
        {
            return Ok(true);
        }
        let workers = self.store().workers(self.settings().alive_ms()).await?;
        Ok(workers.iter().any(|worker| worker.offer.queues.contains(queue)))
    }

    /// Lets an event be judged again, by today's rules; its tasks are made anew.
    ///
    /// # Errors
    /// There is no such event, or the database is away.
    pub async fn replay(&self, seq: EventSeq, who: &str) -> Result<u32, ServiceError> {
        let generation = self.store().replay(seq).await?;
        self.wake().committed();
        self.audit(who, "event.replay", format!("event/{seq}"), json!({"generation": generation})).await?;
        Ok(generation)
    }

    /// What every rule of the set that judged an event says to it, with every clause; of one rule only, when
    /// it is named. An event that nothing judged yet is judged by the rules in force.
    ///
    /// # Errors
    /// The revision is not kept, the event's body has expired, or the database is away.
    pub async fn why(
        &self,
        event: &StoredEvent,
        rule: Option<&RuleName>,
    ) -> Result<Vec<Explained>, ServiceError> {
        let set = match &event.revision {
            Some(revision) => self.rule_set_of(revision).await?,
            None => self.rulebook().current(),
        };
        let body = event.event.body().map_err(|error| ServiceError::Bad(error.to_string()))?;
        let recorded = self.store().firings(event.seq).await?;
        let generation = event.generation;
        let (event, rule) = (event.event.clone(), rule.cloned());
        let now = event.received_at;
        let explain = move || match rule {
            Some(rule) => set.explain_rule(&rule, &event, &body, now).into_iter().collect(),
            None => set.explain(&event, &body, now),
        };
        let explained: Vec<Verdict> = tokio::task::spawn_blocking(explain)
            .await
            .map_err(|error| ServiceError::Bad(format!("explaining stopped: {error}")))?;
        let mut became: HashMap<RuleName, Vec<VerdictKind>> = HashMap::new();
        for firing in recorded.into_iter().filter(|firing| firing.generation == generation) {
            became.entry(firing.verdict.rule).or_default().push(firing.verdict.verdict);
        }
        let joined = explained.into_iter().map(|verdict| {
            let mut became = became.remove(&verdict.rule).unwrap_or_default();
            // What the clauses say already is not said twice; an event that was held is fired when it is let go.
            let said = became.iter().rposition(|kind| kind.as_str() == verdict.verdict.as_str());
            became.drain(..said.map_or(0, |at| at + 1));
            Explained { verdict, became }
        });
        Ok(joined.collect())
    }

    /// The event that people mean: by its place (`123` or `#123`), its id, or the start of its id.
    ///
    /// # Errors
    /// There is none, or several.
    pub async fn find_event(&self, text: &str) -> Result<StoredEvent, ServiceError> {
        if let Ok(seq) = text.strip_prefix('#').unwrap_or(text).parse() {
            match self.store().event(EventSeq(seq)).await {
                Err(StoreError::NotFound { .. }) if !text.starts_with('#') => {}
                found => return Ok(found?),
            }
        }
        let mut found = self.store().events_by_id(&EventId::from(text)).await?;
        match found.len() {
            0 => Err(StoreError::NotFound { what: "event", id: text.to_owned() }.into()),
            1 => Ok(found.remove(0)),
            _ => Err(ServiceError::Ambiguous {
                prefix: text.to_owned(),
                candidates: found.iter().map(|event| format!("#{} {}", event.seq, event.event.id)).collect(),
            }),
        }
    }

    /// The task that people mean: by its id or the start of it.
    ///
    /// # Errors
    /// There is none, or several.
    pub async fn find_task(&self, text: &str) -> Result<Task, ServiceError> {
        if let Ok(id) = text.parse::<TaskId>() {
            return match self.store().task(id).await {
                // Its submitter may have given it an id of his own.
                Err(error @ StoreError::NotFound { .. }) => {
                    let known = self.store().foreign_job(TESTFLINGER, id.uuid()).await?;
                    known.and_then(|job| job.task).ok_or_else(|| error.into())
                }
                found => Ok(found?),
            };
        }
        let not_found = || StoreError::NotFound { what: "task", id: text.to_owned() };
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(not_found().into());
        }
        let mut found = self.store().tasks_by_prefix(&digits.to_lowercase()).await?;
        match found.len() {
            0 => Err(not_found().into()),
            1 => Ok(found.remove(0)),
            _ => Err(ServiceError::Ambiguous {
                prefix: text.to_owned(),
                candidates: found.iter().map(|task| format!("{} {}", task.id, task.name)).collect(),
            }),
        }
    }

    /// Records who changed what.
    ///
    /// # Errors
    /// The database is away.
    pub async fn audit(&self, who: &str, action: &str, object: String, detail: Value) -> store::Result<()> {
        let record = AuditRecord {
            at: self.clock().now(),
            who: who.to_owned(),
            action: action.to_owned(),
            object,
            detail,
        };
        self.store().audit(&record).await
    }
}

/// Holds a task to bounds: its queue and priority must be within them, its time is cut to them.
pub(crate) fn keep_within(new: &mut NewTask, bounds: &Bounds, who: &str) -> Result<(), ServiceError> {
    if !bounds.allow_queue(&new.queue) {
        let known = bounds.queues.iter().flatten().map(QueueName::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("`{who}` may not use the queue {}; only {known}", new.queue);
        return Err(ServiceError::OutOfBounds(message));
    }
    if let Some(most) = bounds.priority_max
        && new.priority > most
    {
        let message = format!("`{who}` may ask for priority {most} at most, not {}", new.priority);
        return Err(ServiceError::OutOfBounds(message));
    }
    let caps = [new.timeout_cap_seconds, bounds.run_seconds_max];
    new.timeout_cap_seconds = caps.into_iter().flatten().min();
    Ok(())
}

fn hold(seconds: Option<u64>) -> Result<Option<Hold>, ServiceError> {
    match seconds {
        Some(0) | Some(HOLD_SECONDS_MAX..) => {
            Err(ServiceError::Bad(format!("`hold_seconds` must be from 1 to below {HOLD_SECONDS_MAX}")))
        }
        seconds => Ok(seconds.map(Hold::of)),
    }
}

fn check_submission(submission: &Submission) -> Result<(), ServiceError> {
    let bad = |message: String| Err(ServiceError::Bad(message));
    if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&submission.priority) {
        return bad(format!("`priority` must be from -{PRIORITY_MAX} to {PRIORITY_MAX}"));
    }
    let bytes = Value::Object(submission.inputs.clone()).to_string().len();
    if bytes > INPUTS_BYTES_MAX {
        return bad(format!("`inputs` has {bytes} bytes, at most {INPUTS_BYTES_MAX} are kept"));
    }
    let texts = [
        ("why", submission.why.as_deref()),
        ("key", submission.key.as_deref()),
        ("batch", submission.batch.as_deref()),
        ("queue", submission.queue.as_ref().map(QueueName::as_str)),
        ("item.type", submission.item.as_ref().map(|item| item.kind.as_str())),
        ("item.id", submission.item.as_ref().map(|item| item.id.as_str())),
    ];
    for (name, text) in texts {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > TASK_TEXT_BYTES_MAX || text.contains('\0') {
            return bad(format!("`{name}` must have 1 to {TASK_TEXT_BYTES_MAX} bytes and no NUL"));
        }
    }
    Ok(())
}

fn unknown_task(rules: &RuleSet, name: &TaskName) -> ServiceError {
    let known: Vec<_> = rules.tasks().iter().map(|task| task.name.as_str()).collect();
    let hint = match (rules.tasks().nearest(name.as_str()), known.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, true) => "none are registered".to_owned(),
        (None, false) => format!("known are {}", known.join(", ")),
    };
    ServiceError::Unknown(format!("no task is registered as `{name}`; {hint}"))
}

/// A name for a task of any repository: the last part of its path.
fn repo_name(repo: &Repo) -> String {
    let tail = repo.path.as_deref().filter(|path| !path.is_empty()).unwrap_or(&repo.git);
    let last = tail.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or(tail);
    last.strip_suffix(".git").unwrap_or(last).to_owned()
}
