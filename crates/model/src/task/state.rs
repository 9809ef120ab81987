//! Where a task stands, and how it goes on from there.

use crate::{
    attempt::AttemptRef,
    ids::{TaskId, WorkerName},
    outcome::Outcome,
    phase::Phase,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a task stands. Each state carries its data; transitions consume and say what is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// It cannot be queued yet.
    Waiting {
        /// Why.
        reason: WaitReason,
        /// Since when.
        since: DateTime<Utc>,
        /// What went wrong when it was last tried to end the waiting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// When it is tried again after that; a time that has passed means that it is being tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_try_at: Option<DateTime<Utc>>,
    },
    /// It waits for a worker.
    Queued {
        /// Since when.
        since: DateTime<Utc>,
        /// Not to be claimed before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<DateTime<Utc>>,
        /// Why no known worker can run it, as long as none can.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unmet: Option<String>,
    },
    /// A worker runs it, under a lease.
    Running {
        /// The attempt.
        attempt: u32,
        /// The worker.
        worker: WorkerName,
        /// The fencing token.
        fence: i64,
        /// What the worker last reported.
        phase: Phase,
        /// Since when.
        since: DateTime<Utc>,
        /// Until when the worker must be heard of again.
        lease_until: DateTime<Utc>,
        /// Set when it is to stop.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<Stop>,
    },
    /// It ended with an outcome.
    Finished {
        /// The outcome.
        outcome: Outcome,
        /// The attempt that gave it; 0 when none was started.
        attempt: u32,
        /// One line for people: why it failed or erred.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Somebody or a rule cancelled it.
    Cancelled {
        /// Who.
        who: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// A newer task of its group took its place.
    Superseded {
        /// That task.
        by: TaskId,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Why a task cannot be queued yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// A limit parked it for an operator.
    Parked,
    /// Its events are being collected.
    Collecting,
    /// Its group has enough tasks queued or running.
    Group,
    /// Its commit and task file are being looked up.
    Resolving,
    /// A maintainer must let it run.
    Approval,
    /// Its attachments have not arrived.
    Attachments,
}

impl WaitReason {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Collecting => "collecting",
            Self::Group => "group",
            Self::Resolving => "resolving",
            Self::Approval => "approval",
            Self::Attachments => "attachments",
        }
    }
}

/// The names of all states, in the order of a task's life.
pub const STATES: [&str; 6] = ["waiting", "queued", "running", "finished", "cancelled", "superseded"];

/// Why a running task is to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "stop", rename_all = "snake_case")]
pub enum Stop {
    /// Cancelled.
    Cancel {
        /// Who.
        who: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Superseded.
    Supersede {
        /// By which task.
        by: TaskId,
    },
}

impl fmt::Display for Stop {
    /// In words: `cancelled by NAME: WHY`, `superseded by task ID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancel { who, why: None } => write!(f, "cancelled by {who}"),
            Self::Cancel { who, why: Some(why) } => write!(f, "cancelled by {who}: {why}"),
            Self::Supersede { by } => write!(f, "superseded by task {by}"),
        }
    }
}

/// A transition that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {state} cannot be {wanted}")]
pub struct TransitionError {
    /// The state it is in.
    pub state: String,
    /// What was wanted of it.
    pub wanted: &'static str,
}

impl TaskState {
    /// The state in one word, as stored and shown: `waiting(resolving)`, `queued`, `running(run)`,
    /// `finished(passed)`, `cancelled`, `superseded`.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Waiting { reason, .. } => format!("waiting({})", reason.as_str()),
            Self::Queued { .. } => "queued".to_owned(),
            Self::Running { phase, .. } => format!("running({phase})"),
            Self::Finished { outcome, .. } => format!("finished({outcome})"),
            Self::Cancelled { .. } => "cancelled".to_owned(),
            Self::Superseded { .. } => "superseded".to_owned(),
        }
    }

    /// The state without its data, one of [`STATES`]: `waiting`, `queued`, `running`, `finished`, `cancelled`, `superseded`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Queued { .. } => "queued",
            Self::Running { .. } => "running",
            Self::Finished { .. } => "finished",
            Self::Cancelled { .. } => "cancelled",
            Self::Superseded { .. } => "superseded",
        }
    }

    /// Whether nothing will change it any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Cancelled { .. } | Self::Superseded { .. })
    }

    /// Since when it is so, by the clock of the database: of two states of a task the later one came later.
    #[must_use]
    pub const fn since(&self) -> DateTime<Utc> {
        match self {
            Self::Waiting { since, .. } | Self::Queued { since, .. } | Self::Running { since, .. } => *since,
            Self::Finished { at, .. } | Self::Cancelled { at, .. } | Self::Superseded { at, .. } => *at,
        }
    }

    /// The outcome, once there is one.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Finished { outcome, .. } => Some(*outcome),
            _ => None,
        }
    }

    /// The running attempt.
    #[must_use]
    pub const fn running(&self) -> Option<AttemptRef> {
        match self {
            Self::Running { attempt, fence, .. } => Some(AttemptRef { attempt: *attempt, fence: *fence }),
            _ => None,
        }
    }

    /// Waiting since now, and nothing went wrong yet.
    #[must_use]
    pub const fn waiting(reason: WaitReason, since: DateTime<Utc>) -> Self {
        Self::Waiting { reason, since, error: None, next_try_at: None }
    }

    fn refuse<T>(&self, wanted: &'static str) -> Result<T, TransitionError> {
        Err(TransitionError { state: self.label(), wanted })
    }

    /// `waiting` or `running` → `queued`: it can be claimed from `not_before` on.
    ///
    /// # Errors
    /// It is queued already, or final.
    pub fn queue(
        self,
        now: DateTime<Utc>,
        not_before: Option<DateTime<Utc>>,
    ) -> Result<Self, TransitionError> {
        match self {
            Self::Waiting { .. } | Self::Running { .. } => {
                Ok(Self::Queued { since: now, not_before, unmet: None })
            }
            _ => self.refuse("queued"),
        }
    }

    /// `waiting` → `waiting` for another reason.
    ///
    /// # Errors
    /// It does not wait.
    pub fn wait(self, now: DateTime<Utc>, reason: WaitReason) -> Result<Self, TransitionError> {
        match self {
            Self::Waiting { .. } => Ok(Self::waiting(reason, now)),
            _ => self.refuse("made to wait"),
        }
    }

    /// `waiting` → `waiting` for the same reason, with what went wrong and when it is tried again.
    ///
    /// # Errors
    /// It does not wait.
    pub fn put_off(self, error: String, next_try_at: DateTime<Utc>) -> Result<Self, TransitionError> {
        match self {
            Self::Waiting { reason, since, .. } => {
                Ok(Self::Waiting { reason, since, error: Some(error), next_try_at: Some(next_try_at) })
            }
            _ => self.refuse("put off"),
        }
    }

    /// `queued` → `running`.
    ///
    /// # Errors
    /// It is not queued.
    pub fn claim(
        self,
        attempt: AttemptRef,
        worker: WorkerName,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Self, TransitionError> {
        match self {
            Self::Queued { .. } => Ok(Self::Running {
                attempt: attempt.attempt,
                worker,
                fence: attempt.fence,
                phase: Phase::Provision,
                since: now,
                lease_until,
                stop: None,
            }),
            _ => self.refuse("claimed"),
        }
    }

    /// Any state that is not final → `finished`. A running task that was told to stop ends as `cancelled`
    /// or `superseded` instead: its outcome says nothing about the item.
    ///
    /// # Errors
    /// It is final.
    pub fn finish(
        self,
        outcome: Outcome,
        reason: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<Self, TransitionError> {
        match self {
            Self::Running { stop: Some(Stop::Cancel { who, why }), .. } => {
                Ok(Self::Cancelled { who, why, at: now })
            }
            Self::Running { stop: Some(Stop::Supersede { by }), .. } => Ok(Self::Superseded { by, at: now }),
            Self::Running { attempt, .. } => Ok(Self::Finished { outcome, attempt, reason, at: now }),
            Self::Waiting { .. } | Self::Queued { .. } => {
                Ok(Self::Finished { outcome, attempt: 0, reason, at: now })
            }
            _ => self.refuse("finished"),
        }
    }

    /// `waiting` or `queued` → `cancelled` or `superseded` at once; `running` keeps running with the wish
    /// noted, until its worker has stopped it. A second wish changes nothing.
    ///
    /// # Errors
    /// It is final.
    pub fn stop(self, stop: Stop, now: DateTime<Utc>) -> Result<Self, TransitionError> {
        match self {
            Self::Waiting { .. } | Self::Queued { .. } => Ok(match stop {
                Stop::Cancel { who, why } => Self::Cancelled { who, why, at: now },
                Stop::Supersede { by } => Self::Superseded { by, at: now },
            }),
            Self::Running { attempt, worker, fence, phase, since, lease_until, stop: earlier } => {
                let stop = Some(earlier.unwrap_or(stop));
                Ok(Self::Running { attempt, worker, fence, phase, since, lease_until, stop })
            }
            _ => self.refuse("cancelled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorReason;

    const T0: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn states() -> [TaskState; 6] {
        let waiting = TaskState::waiting(WaitReason::Resolving, T0);
        let queued = waiting.clone().queue(T0, None).unwrap();
        let running = queued.clone().claim(AttemptRef { attempt: 1, fence: 1 }, "w".into(), T0, T0).unwrap();
        let finished = running.clone().finish(Outcome::Passed, None, T0).unwrap();
        let cancel = Stop::Cancel { who: "me".into(), why: None };
        let cancelled = queued.clone().stop(cancel, T0).unwrap();
        let superseded =
            queued.clone().stop(Stop::Supersede { by: TaskId::new(uuid::Uuid::nil()) }, T0).unwrap();
        [waiting, queued, running, finished, cancelled, superseded]
    }

    /// One row for each transition: where it leads from each of the six states (`-`: refused).
    #[test]
    fn the_whole_table_of_transitions() {
        type Step = fn(TaskState) -> Result<TaskState, TransitionError>;
        let check = |step: Step, expect: [&str; 6]| {
            let got = states().map(|state| step(state).map_or("-".to_owned(), |state| state.label()));
            assert_eq!(got, expect.map(str::to_owned));
        };
        check(|s| s.queue(T0, None), ["queued", "-", "queued", "-", "-", "-"]);
        check(|s| s.wait(T0, WaitReason::Group), ["waiting(group)", "-", "-", "-", "-", "-"]);
        check(|s| s.put_off("away".into(), T0), ["waiting(resolving)", "-", "-", "-", "-", "-"]);
        check(
            |s| s.claim(AttemptRef { attempt: 2, fence: 2 }, "w".into(), T0, T0),
            ["-", "running(provision)", "-", "-", "-", "-"],
        );
        check(
            |s| s.finish(Outcome::Error(ErrorReason::Lost), None, T0),
            ["finished(error(lost))", "finished(error(lost))", "finished(error(lost))", "-", "-", "-"],
        );
        check(
            |s| s.stop(Stop::Cancel { who: "me".into(), why: None }, T0),
            ["cancelled", "cancelled", "running(provision)", "-", "-", "-"],
        );
    }

    #[test]
    fn a_stopped_task_ends_as_stopped_whatever_its_outcome() {
        let [_, _, running, ..] = states();
        let stopped = running.stop(Stop::Cancel { who: "me".into(), why: None }, T0).unwrap();
        let again = stopped.stop(Stop::Supersede { by: TaskId::new(uuid::Uuid::nil()) }, T0).unwrap();
        assert_eq!(again.finish(Outcome::Passed, None, T0).unwrap().label(), "cancelled");
    }
}
