//! One attempt of a task, from an assignment to its end: provision, checkout, fetch, prepare, run, collect,
//! report, cleanup.
//!
//! Each phase has its own time limit, log section and error; limits grow by the worker's factor. Whatever
//! happens, cleaning up is gone through and the environment destroyed, and what went wrong in it changes no
//! outcome. Every way of ending is mapped to an outcome here and in `verdict`: a machine, engine or network
//! that lets us down is `error(infra)`, what the task's author must mend is `error(bad_task)` or `error(task)`,
//! and only the exit code and the results say `failed`.
//!
//! Paths in a task file are relative to the folder that holds it, in which commands start.

mod brought;
mod control;
mod course;
mod steps;
mod surroundings;
mod verdict;

pub use control::{Control, StopWhy};
pub use course::EXECUTOR_GRACE;
pub use steps::{COLLECT_LIMIT, MOVE_LIMIT, REPORT_LIMIT};
pub use surroundings::VARIABLE_BYTES_MAX;
pub use verdict::QUOTED_LINES;

use crate::{
    artifacts::ArtifactFile, config::RunConfig, executor::Executor, fetch::Fetcher, git::GitCache,
    logs::AttemptLog,
};
use course::Course;
use model::{
    Clock, ErrorReason, Item, Outcome, WorkerName,
    ids::TaskName,
    protocol::{Assignment, AttemptEnd, FinishRequest, Held},
    requirements::ExecutorKind,
    result::NewResult,
    retry::Decision,
    task::{Repo, TASK_TEXT_BYTES_MAX, TaskKind, Trust},
    task_file::TaskFile,
};
use serde_json::{Map, Value};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The most that the results of one attempt have as JSON, in bytes.
pub const RESULT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where a task's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A repository at a commit.
    Git {
        /// The repository.
        repo: Repo,
        /// The full commit id.
        commit: String,
    },
    /// A folder of this machine, copied as it is.
    Folder(PathBuf),
}

impl Source {
    fn commit(&self) -> Option<&str> {
        match self {
            Self::Git { commit, .. } => Some(commit),
            Self::Folder(_) => None,
        }
    }
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Which attempt of which task.
    pub held: Held,
    /// The task's name.
    pub name: TaskName,
    /// What it tests.
    pub item: Option<Item>,
    /// Its inputs, checked, with defaults.
    pub inputs: Map<String, Value>,
    /// Whether relaxed isolation may be granted.
    pub trust: Trust,
    /// The names of the secrets that it is granted; it gets them only if it is trusted.
    pub secrets: Vec<String>,
    /// Its task file.
    pub file: TaskFile,
    /// Where its files come from.
    pub source: Source,
    /// The folder that holds the task file, below the work folder; empty for the work folder itself.
    pub dir: String,
    /// For how long its environment is kept for a person if it fails.
    pub hold: Option<Duration>,
    /// The longest that `run` may take, whatever the task file says.
    pub timeout_cap: Option<Duration>,
    /// The W3C trace context.
    pub traceparent: Option<String>,
}

impl Job {
    /// The job of an assignment.
    ///
    /// # Errors
    /// Why it can be none, in one line: it is of another kind, it was not resolved, or its inputs are wrong.
    pub fn from_assignment(assignment: &Assignment) -> Result<Self, String> {
        let task = &assignment.task;
        let TaskKind::Repo { repo, resolved, .. } = &task.kind else {
            return Err(format!("a task of kind {} is not for this worker", task.kind.as_str()));
        };
        let resolved = resolved.as_ref().ok_or("the task was not resolved before it was queued")?;
        let inputs = resolved.file.check_inputs(&task.inputs)?;
        let path = repo.path.as_deref().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if path.starts_with('/') || parts.contains(&"..") {
            return Err(format!("the task's folder `{path}` is not inside its repository"));
        }
        Ok(Self {
            held: Held { task: task.id, attempt: assignment.attempt },
            name: task.name.clone(),
            item: task.item.clone(),
            inputs,
            trust: task.trust,
            secrets: task.secrets.clone(),
            file: resolved.file.clone(),
            source: Source::Git { repo: repo.clone(), commit: resolved.commit.clone() },
            dir: parts.join("/"),
            hold: task.hold.as_ref().map(|hold| Duration::from_secs(hold.seconds)),
            timeout_cap: task.timeout_cap_seconds.map(Duration::from_secs),
            traceparent: task.traceparent.clone(),
        })
    }

    /// A path of the task file, below the work folder.
    fn inner(&self, path: &str) -> String {
        if self.dir.is_empty() { path.to_owned() } else { format!("{}/{path}", self.dir) }
    }
}

/// The folders on the host that an attempt may use; all are made by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Where the work folder is put together.
    pub work: PathBuf,
    /// Where what it leaves is collected.
    pub output: PathBuf,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What is told to the server; what it says of the log is filled in by whoever sends the log.
    pub finish: FinishRequest,
    /// The files that it left, below [`Folders::output`].
    pub artifacts: Vec<ArtifactFile>,
}

/// What stops an attempt short.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Halt {
    outcome: Outcome,
    reason: String,
}

/// Runs attempts: all that they share.
pub struct Runner {
    /// Who runs them.
    pub worker: WorkerName,
    /// How.
    pub config: RunConfig,
    /// In what.
    pub executors: Vec<Arc<dyn Executor>>,
    /// Where repositories come from.
    pub git: Arc<GitCache>,
    /// Where external files come from.
    pub fetcher: Arc<Fetcher>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("worker", &self.worker)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// Runs one attempt to its end. It never fails: whatever goes wrong is how the attempt ended.
    pub async fn run_attempt(
        &self,
        job: &Job,
        folders: &Folders,
        log: &AttemptLog,
        control: &Control,
    ) -> Ended {
        let course = Course { clock: self.clock.as_ref(), log, control, phases: Vec::new() };
        let mut attempt = steps::Attempt::new(self, job.clone(), folders, course);
        let done = Box::pin(attempt.go()).await;
        let outcome = done.as_ref().map_or_else(|halt| halt.outcome, |result| result.outcome);
        if control.why().is_none() {
            Box::pin(attempt.hold(outcome)).await;
        }
        Box::pin(attempt.clean_up()).await;
        log.flush();
        let artifacts = match &done {
            Ok(_) => attempt.artifacts().await,
            // What was cut short may have left logs that say why.
            Err(_) if control.why().is_none() => attempt.artifacts().await,
            Err(_) => Vec::new(),
        };
        let finish = self.finish(job, attempt, done, control);
        Ended { finish, artifacts }
    }

    fn finish(
        &self,
        job: &Job,
        attempt: steps::Attempt<'_>,
        done: Result<NewResult, Halt>,
        control: &Control,
    ) -> FinishRequest {
        let (end, results) = match (done, control.why()) {
            // A verdict is one, also when the stop came while cleaning up.
            (Ok(mut result), _) => {
                shorten(&mut result);
                let end = AttemptEnd::Outcome { outcome: result.outcome, reason: reason(&result) };
                (end, vec![result])
            }
            (Err(_), Some(why)) => (why.end(), Vec::new()),
            (Err(halt), None) => {
                let end = AttemptEnd::Outcome { outcome: halt.outcome, reason: Some(one_line(&halt.reason)) };
                (end, vec![attempt.own_result(halt)])
            }
        };
        FinishRequest {
            attempt: job.held.attempt,
            results: if is_last(job, &end) { results } else { Vec::new() },
            end,
            phases: attempt.phases(),
            environment: attempt.environment(),
            log_chunks: 0,
            log_bytes: 0,
            log_truncated: false,
        }
    }

    fn executor(&self, kind: ExecutorKind) -> Option<&Arc<dyn Executor>> {
        self.executors.iter().find(|executor| executor.kind() == kind)
    }

    /// A time limit of the task file, as it holds on this worker.
    fn limit(&self, limit: Duration, executor: Option<ExecutorKind>) -> Duration {
        let vm = if executor == Some(ExecutorKind::Vm) { self.config.vm_time_factor } else { 1.0 };
        let factor = self.config.time_factor * vm;
        let factor = if factor.is_finite() { factor.clamp(0.01, 1000.0) } else { 1.0 };
        limit.mul_f64(factor)
    }
}

/// Whether no other attempt follows. Only the last one reports results: those of an attempt that is followed
/// by another would say twice what is one verdict.
fn is_last(job: &Job, end: &AttemptEnd) -> bool {
    match end {
        AttemptEnd::Outcome { outcome, .. } => {
            job.file.retry.decide(*outcome, job.held.attempt.attempt) == Decision::Finish
        }
        AttemptEnd::HandedBack { .. } => false,
    }
}

/// Why an outcome that somebody must act on is what it is: the note, and which sub-results are to blame. Each is
/// called what it is: a test that failed beside one that could not tell is no error.
fn reason(result: &NewResult) -> Option<String> {
    if result.outcome.is_good() {
        return result.note.as_deref().map(one_line);
    }
    let mut bad = Vec::new();
    collect_bad(&result.children, &mut bad);
    bad.sort_by_key(|(outcome, _)| std::cmp::Reverse(outcome.severity()));
    let named = bad.chunk_by(|(one, _), (other, _)| one.class() == other.class()).map(|alike| {
        let (outcome, first) = alike[0];
        let more = if alike.len() > 1 { format!(" and {} more", alike.len() - 1) } else { String::new() };
        format!("{}: {first}{more}", outcome.class())
    });
    let text = result.note.iter().cloned().chain(named).collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then(|| one_line(&text))
}

/// Keeps a result within [`RESULT_BYTES_MAX`]: first the notes and data of its children go, then the children.
fn shorten(result: &mut NewResult) {
    let bytes = |result: &NewResult| serde_json::to_vec(result).map_or(usize::MAX, |json| json.len());
    let before = bytes(result);
    if before <= RESULT_BYTES_MAX {
        return;
    }
    result.children.iter_mut().for_each(strip);
    let mut note =
        format!("the notes of the sub-results were left out: with them the result has {before} bytes");
    if bytes(result) > RESULT_BYTES_MAX {
        result.children.clear();
        result.outcome = Outcome::Error(ErrorReason::BadResults);
        note = format!(
            "the result has {before} bytes, the limit is {RESULT_BYTES_MAX}; report fewer or shorter ones"
        );
    }
    let said = result.note.take().into_iter().chain([note]);
    result.note = Some(said.collect::<Vec<_>>().join("; "));
}

fn strip(result: &mut NewResult) {
    result.note = None;
    result.data.clear();
    result.children.iter_mut().for_each(strip);
}

/// The results without children that somebody must act on, and those that are worse than their children.
fn collect_bad<'a>(results: &'a [NewResult], bad: &mut Vec<(Outcome, &'a str)>) {
    for result in results {
        let blame = |child: &NewResult| child.outcome.severity() >= result.outcome.severity();
        if !result.outcome.is_good() && !result.children.iter().any(blame) {
            bad.push((result.outcome, &result.testcase));
        }
        collect_bad(&result.children, bad);
    }
}

/// A text on one line, not over [`TASK_TEXT_BYTES_MAX`].
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if !line.is_empty() {
            line.push_str(" | ");
        }
        line.push_str(&part.replace('\0', "\u{fffd}"));
    }
    if line.len() > TASK_TEXT_BYTES_MAX {
        let mut end = TASK_TEXT_BYTES_MAX - '…'.len_utf8();
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Copies a folder, without `.git` and without links that leave it.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            if entry.file_name() != ".git" {
                copy_folder(&entry.path(), &target)?;
            }
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
