//! When an attempt is followed by another: after errors of the machinery, never after a failed test.

use crate::outcome::{ErrorReason, Outcome};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most attempts that a task can ask for beyond the first.
pub const RETRIES_MAX: u32 = 10;
/// The first delay before a retry; it doubles each time.
pub const RETRY_DELAY_FIRST: Duration = Duration::from_secs(5);
/// The longest delay before a retry.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(300);

/// A class of errors after which a task wants another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Errors of the machinery: [`ErrorReason::Infra`].
    Error,
    /// The worker was lost: [`ErrorReason::Lost`].
    Lost,
    /// A time limit was reached.
    Timeout,
    /// Memory ran out.
    Oom,
}

/// A task's wish for further attempts (`retry:` in its task file).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// After which errors.
    pub on: Vec<RetryOn>,
    /// How many attempts beyond the first, at most [`RETRIES_MAX`].
    pub max: u32,
}

impl Default for RetryPolicy {
    /// Broken machinery and lost workers are retried twice.
    fn default() -> Self {
        Self { on: vec![RetryOn::Error, RetryOn::Lost], max: 2 }
    }
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The task ends with this outcome.
    Finish,
    /// Another attempt, not before this delay.
    Retry {
        /// How long to wait.
        delay: Duration,
    },
}

impl RetryPolicy {
    /// What follows attempt number `attempt` (the first is 1) that ended so.
    #[must_use]
    pub fn decide(&self, outcome: Outcome, attempt: u32) -> Decision {
        let wanted = match outcome {
            Outcome::Error(ErrorReason::Infra) => RetryOn::Error,
            Outcome::Error(ErrorReason::Lost) => RetryOn::Lost,
            Outcome::Error(ErrorReason::Timeout) => RetryOn::Timeout,
            Outcome::Error(ErrorReason::Oom) => RetryOn::Oom,
            _ => return Decision::Finish,
        };
        if attempt > self.max.min(RETRIES_MAX) || !self.on.contains(&wanted) {
            return Decision::Finish;
        }
        // A lost worker is no reason to wait: another one can start at once.
        let delay = match wanted {
            RetryOn::Lost => Duration::ZERO,
            _ => RETRY_DELAY_FIRST.saturating_mul(1 << (attempt - 1).min(16)).min(RETRY_DELAY_MAX),
        };
        Decision::Retry { delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machinery_is_retried() {
        let policy = RetryPolicy::default();
        let check = |outcome: &str, attempt, expect: Option<u64>| {
            let expect =
                expect.map_or(Decision::Finish, |secs| Decision::Retry { delay: Duration::from_secs(secs) });
            assert_eq!(policy.decide(outcome.parse().unwrap(), attempt), expect, "{outcome} at {attempt}");
        };
        check("failed", 1, None);
        check("passed", 1, None);
        check("error(task)", 1, None);
        check("error(bad_task)", 1, None);
        check("error(timeout)", 1, None);
        check("error(infra)", 1, Some(5));
        check("error(infra)", 2, Some(10));
        check("error(infra)", 3, None);
        check("error(lost)", 1, Some(0));
        check("error(lost)", 3, None);
    }
}
