//! Results, artifacts, and where the log's bytes lie.

use super::{Page, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    TaskId,
    attempt::AttemptRef,
    ids::{ArtifactId, ResultId},
    result::{Artifact, NewResult, StoredResult},
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// Which results to list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResultQuery {
    /// Only of this testcase.
    pub testcase: Option<String>,
    /// Only of items of this type.
    pub item_type: Option<String>,
    /// Only of this item.
    pub item_id: Option<String>,
    /// Only with one of these outcomes, by class.
    pub outcomes: Vec<String>,
    /// Only of this task.
    pub task: Option<TaskId>,
    /// Only the parts of this result; without it, with `top_level`, only those that are no part.
    pub parent: Option<ResultId>,
    /// Only those that are no part of another.
    pub top_level: bool,
    /// Only stored at or after.
    pub since: Option<DateTime<Utc>>,
    /// Only older than this one (the `next` of a page).
    pub before: Option<ResultId>,
    /// The most entries, at most [`super::PAGE_MAX`].
    pub limit: u32,
}

/// A chunk of an attempt's log: its bytes lie in the object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunk {
    /// The attempt.
    pub attempt: u32,
    /// Its number, counted from 0.
    pub seq: u32,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The path in the object store.
    pub key: String,
}

/// What writing under a fence did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced<T> {
    /// It was written, or had been written before.
    Written(T),
    /// The fence is stale: nothing was written.
    Stale,
}

/// Which files of some tasks are not to be swept away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptFiles {
    /// The paths in the object store that rows name.
    pub keys: HashSet<String>,
    /// The fences of the attempts that run, by task: what comes under them may have no row yet.
    pub running: HashMap<TaskId, i64>,
}

/// Results, artifacts and logs.
#[async_trait]
pub trait Results: Send + Sync {
    /// Stores results that belong to no task of ours, with their messages. Results of attempts come by
    /// [`super::Queue::finish`].
    async fn add_results(&self, results: &[NewResult]) -> Result<Vec<ResultId>>;

    /// A result.
    async fn result(&self, id: ResultId) -> Result<StoredResult>;

    /// A list of results.
    async fn results(&self, query: &ResultQuery) -> Result<Page<StoredResult>>;

    /// Whether the fence is that of the running attempt; asked before bytes are taken in.
    async fn holds(&self, task: TaskId, attempt: AttemptRef) -> Result<bool>;

    /// How many bytes of log a running attempt may still send, of [`model::protocol::LOG_BYTES_MAX`]; asked before
    /// bytes are taken in.
    async fn log_room(&self, task: TaskId, attempt: AttemptRef) -> Result<Fenced<u64>>;

    /// Which files of these tasks are kept: all others that bear their ids were left by attempts that lost their
    /// fence.
    async fn kept_files(&self, tasks: &[TaskId]) -> Result<KeptFiles>;

    /// Notes a chunk of an attempt's log whose bytes lie in the object store. More than an attempt may send is
    /// [`super::StoreError::Poison`].
    async fn add_log_chunk(&self, task: TaskId, attempt: AttemptRef, chunk: &LogChunk) -> Result<Fenced<()>>;

    /// The chunks of an attempt from a number on, in order.
    async fn log_chunks(&self, task: TaskId, attempt: u32, from_seq: u32) -> Result<Vec<LogChunk>>;

    /// Notes an artifact whose bytes lie in the object store, and tells `taskbot.artifact.published` when it is
    /// published. One of the same attempt and name that is there already stays and is returned.
    async fn add_artifact(&self, attempt: AttemptRef, artifact: &Artifact) -> Result<Fenced<ArtifactId>>;

    /// The artifacts of a task, by attempt and name.
    async fn artifacts(&self, task: TaskId) -> Result<Vec<Artifact>>;

    /// An artifact.
    async fn artifact(&self, id: ArtifactId) -> Result<Artifact>;
}
