//! The course of an attempt: its phases with their times, errors and log sections.

use super::{Halt, control::Control};
use crate::{executor::ExecError, fetch::FetchError, git::GitError, logs::AttemptLog};
use model::{Clock, ErrorReason, Outcome, Phase, attempt::PhaseReport};
use std::{future::Future, time::Duration};
use tokio::time::Instant;

/// How long an executor may overrun a limit, or go on after a stop, before it is given up.
pub const EXECUTOR_GRACE: Duration = Duration::from_secs(60);

/// The phases that an attempt went through.
pub(super) struct Course<'a> {
    pub(super) clock: &'a dyn Clock,
    pub(super) log: &'a AttemptLog,
    pub(super) control: &'a Control,
    pub(super) phases: Vec<PhaseReport>,
}

impl Course<'_> {
    /// Goes through a phase, unless the attempt is to stop.
    pub(super) async fn phase<T>(
        &mut self,
        phase: Phase,
        work: impl Future<Output = Result<T, Halt>>,
    ) -> Result<T, Halt> {
        self.control.enter(phase)?;
        self.log.section(phase);
        let (started_at, begin) = (self.clock.now(), Instant::now());
        let done = work.await;
        // A stop shows up as all kinds of errors; what people want to know is that it was one.
        let done = match (done, self.control.why()) {
            (Err(_), Some(why)) if phase != Phase::Cleanup => Err(why.halt()),
            (done, _) => done,
        };
        if let Err(halt) = &done {
            self.log.note(&halt.reason);
        }
        self.phases.push(PhaseReport {
            phase,
            started_at,
            duration_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: done.as_ref().err().map(|halt| halt.reason.clone()),
        });
        done
    }
}

/// Waits for an executor, which keeps its limits and stops by itself; one that does not is given up.
pub(super) async fn guarded<T>(
    what: &str,
    limit: Duration,
    control: &Control,
    work: impl Future<Output = T>,
) -> Result<T, Halt> {
    let overdue = async {
        tokio::select! {
            () = tokio::time::sleep(limit) => {}
            () = control.stopped().cancelled() => {}
        }
        tokio::time::sleep(EXECUTOR_GRACE).await;
    };
    tokio::select! {
        done = work => Ok(done),
        () = overdue => Err(Halt::infra(format!("{what} does not end, neither by its time limit nor when stopped"))),
    }
}

/// Waits for our own work, which may be dropped at any moment.
pub(super) async fn limited<T, E: Into<Halt>>(
    what: &str,
    limit: Duration,
    control: &Control,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Halt> {
    tokio::select! {
        done = work => done.map_err(Into::into),
        () = tokio::time::sleep(limit) => {
            let limit = model::units::format_duration(limit);
            Err(Halt { outcome: Outcome::Error(ErrorReason::Timeout), reason: format!("{what} took longer than {limit}") })
        }
        () = control.stopped().cancelled() => Err(Halt::infra("stopped")),
    }
}

impl Halt {
    pub(super) fn infra(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Error(ErrorReason::Infra), reason: reason.into() }
    }

    pub(super) fn bad_task(reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Error(ErrorReason::BadTask), reason: reason.into() }
    }
}

impl From<ExecError> for Halt {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Infra(reason) => Self::infra(reason),
            ExecError::BadTask(reason) => Self::bad_task(reason),
        }
    }
}

impl From<FetchError> for Halt {
    fn from(error: FetchError) -> Self {
        Self { outcome: Outcome::Error(error.reason), reason: error.message }
    }
}

impl From<GitError> for Halt {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Infra(_) | GitError::Timeout(_) => Self::infra(error.to_string()),
            GitError::TooLarge(_) => {
                Self { outcome: Outcome::Error(ErrorReason::Limit), reason: error.to_string() }
            }
            GitError::NotFound(_) | GitError::Denied(_) | GitError::BadName(_) | GitError::Hostile(_) => {
                Self::bad_task(error.to_string())
            }
        }
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Self::infra(format!("this machine's disk: {error}"))
    }
}
