//! Runs and jobs as paddles knows them: what is kept of a job, how its status follows what is reported, what the
//! status of a run is, and who may lock a node.
//!
//! The rules and their order are paddles'; its clients rely on them.

mod job;
mod lock;
mod run_name;

pub use job::*;
pub use lock::*;
pub use run_name::*;

use serde::{Deserialize, Serialize};
use std::fmt;

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// It waits for its turn.
    Queued,
    /// It passed.
    Pass,
    /// It runs.
    Running,
    /// It waits for machines.
    Waiting,
    /// It failed.
    Fail,
    /// It was ended from outside, or what it ran on broke.
    Dead,
    /// Nobody said.
    Unknown,
}

/// All of them, in the order in which runs count them.
pub const JOB_STATUSES: [JobStatus; 7] = [
    JobStatus::Queued,
    JobStatus::Pass,
    JobStatus::Running,
    JobStatus::Waiting,
    JobStatus::Fail,
    JobStatus::Dead,
    JobStatus::Unknown,
];

impl JobStatus {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Pass => "pass",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Fail => "fail",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        JOB_STATUSES.into_iter().find(|status| status.as_str() == word)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many jobs of a run have each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCounts {
    counts: [i64; 7],
}

impl JobCounts {
    /// One job's change: it leaves a status, and takes another.
    #[must_use]
    pub fn change(before: Option<JobStatus>, after: Option<JobStatus>) -> Self {
        let mut change = Self::default();
        if let Some(before) = before {
            *change.of_mut(before) -= 1;
        }
        if let Some(after) = after {
            *change.of_mut(after) += 1;
        }
        change
    }

    /// How many have this status.
    #[must_use]
    pub const fn of(&self, status: JobStatus) -> i64 {
        self.counts[status as usize]
    }

    /// The same, to be changed.
    pub const fn of_mut(&mut self, status: JobStatus) -> &mut i64 {
        &mut self.counts[status as usize]
    }

    /// How many jobs there are.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.counts.iter().sum()
    }

    /// What the run's status is, by the first rule that fits.
    #[must_use]
    pub fn status(&self) -> &'static str {
        let (total, of) = (self.total(), |status| self.of(status));
        if total == 0 {
            "empty"
        } else if of(JobStatus::Queued) == total {
            "queued"
        } else if of(JobStatus::Running) > 0 {
            "running"
        } else if of(JobStatus::Waiting) > 0 {
            "waiting"
        } else if of(JobStatus::Dead) == total {
            "finished dead"
        } else if of(JobStatus::Fail) > 0 || of(JobStatus::Dead) > 0 {
            "finished fail"
        } else if of(JobStatus::Pass) == total {
            "finished pass"
        } else if of(JobStatus::Queued) > 0 {
            "queued"
        } else {
            "unknown"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_run_by_its_jobs() {
        let check = |jobs: &str, expect: &str| {
            let mut counts = JobCounts::default();
            for word in jobs.split_whitespace() {
                *counts.of_mut(JobStatus::parse(word).unwrap()) += 1;
            }
            assert_eq!(counts.status(), expect, "{jobs}");
        };
        check("", "empty");
        check("queued queued", "queued");
        check("queued running", "running");
        check("running dead fail pass waiting", "running");
        check("waiting dead fail queued", "waiting");
        check("dead dead", "finished dead");
        check("dead pass", "finished fail");
        check("fail dead", "finished fail");
        check("fail queued", "finished fail");
        check("dead queued", "finished fail");
        check("pass pass", "finished pass");
        check("pass queued", "queued");
        check("unknown queued", "queued");
        check("unknown", "unknown");
        check("pass unknown", "unknown");
    }

    #[test]
    fn the_place_in_the_table_is_that_of_the_enum() {
        for (at, status) in JOB_STATUSES.into_iter().enumerate() {
            assert_eq!((status as usize, JobStatus::parse(status.as_str())), (at, Some(status)));
        }
    }
}
