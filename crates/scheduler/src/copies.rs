//! Copies of what tasks leave, in object stores that others read: artifacts, logs, summaries and reports, each in a
//! place of its own.

use crate::files::{FileError, Files};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use model::{
    Task, TaskId,
    message::{Message, NewMessage},
    result::{Artifact, StoredResult},
    sink::{Sink, SinkError},
};
use serde_json::json;
use std::{fmt, sync::Arc, time::Duration};
use store::{PAGE_MAX, ResultQuery, Store, StoreError};

/// What tells that a task has ended.
const ENDED: [&str; 3] = ["taskbot.task.finished", "taskbot.task.cancelled", "taskbot.task.superseded"];
/// How long the copies of one task may take: artifacts have gigabytes.
const COPY_MAX: Duration = Duration::from_secs(3600);
/// The longest log that is copied, in bytes: more is never kept.
const LOG_COPY_BYTES_MAX: u64 = 1 << 40;
/// The most results of a task that a summary or report has.
const RESULTS_MAX: usize = 10_000;

/// Writes a report of a task's results, with their parts.
pub type Report = dyn Fn(&[StoredResult]) -> String + Send + Sync;

/// Where copies go; what has no place is not copied.
#[derive(Default)]
pub struct Places {
    /// `TASK/ATTEMPT/NAME`: what attempts left.
    pub artifacts: Option<Files>,
    /// `TASK/ATTEMPT.log`: the whole log of each attempt.
    pub logs: Option<Files>,
    /// `TASK.json`: the task with its attempts, artifacts and results.
    pub summaries: Option<Files>,
    /// `TASK.xml`: its results, in the form that the function gives them.
    pub reports: Option<(Files, Box<Report>)>,
}

/// A sink that copies what a task left when it has ended.
pub struct Copies {
    name: String,
    store: Arc<dyn Store>,
    files: Files,
    places: Places,
}

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Copies {
    /// Copies from our store and files to these places.
    pub fn new(name: &str, store: Arc<dyn Store>, files: Files, places: Places) -> Self {
        Self { name: name.to_owned(), store, files, places }
    }

    async fn copy(&self, id: TaskId) -> Result<(), SinkError> {
        let task = match self.store.task(id).await {
            Err(StoreError::NotFound { .. }) => return Ok(()),
            found => found.map_err(own)?,
        };
        let artifacts = self.store.artifacts(id).await.map_err(own)?;
        if let Some(place) = &self.places.artifacts {
            for artifact in &artifacts {
                self.copy_artifact(place, artifact).await?;
            }
        }
        if let Some(place) = &self.places.logs {
            self.copy_logs(place, &task).await?;
        }
        if self.places.summaries.is_none() && self.places.reports.is_none() {
            return Ok(());
        }
        let results = self.results(id).await?;
        if let Some(place) = &self.places.summaries {
            let attempts = self.store.attempts(id).await.map_err(own)?;
            let summary = json!({
                "task": task, "attempts": attempts, "artifacts": artifacts, "results": results,
            });
            put(place, &format!("{id}.json"), format!("{summary:#}\n")).await?;
        }
        if let Some((place, report)) = &self.places.reports
            && !results.is_empty()
        {
            put(place, &format!("{id}.xml"), report(&results)).await?;
        }
        Ok(())
    }

    async fn results(&self, task: TaskId) -> Result<Vec<StoredResult>, SinkError> {
        let mut results = Vec::new();
        let mut before = None;
        loop {
            let query = ResultQuery { task: Some(task), before, limit: PAGE_MAX, ..ResultQuery::default() };
            let page = self.store.results(&query).await.map_err(own)?;
            before = page.items.last().map(|result| result.id);
            results.extend(page.items);
            if page.next.is_none() || results.len() >= RESULTS_MAX {
                results.truncate(RESULTS_MAX);
                results.reverse();
                return Ok(results);
            }
        }
    }

    async fn copy_artifact(&self, place: &Files, artifact: &Artifact) -> Result<(), SinkError> {
        let key = format!("{}/{}/{}", artifact.task, artifact.attempt, artifact.name);
        if place.size(&key).await.map_err(there)? == Some(artifact.size_bytes) {
            return Ok(());
        }
        let bytes = match self.files.get(&artifact.key, None).await {
            // What has expired here is not to be had any more.
            Err(FileError::NotFound(_)) => return Ok(()),
            got => got.map_err(|error| SinkError::Away(error.to_string()))?,
        };
        let bytes = bytes.map_err(|error| error.to_string());
        let (_, sha256) = place.write(&key, artifact.size_bytes, bytes).await.map_err(there)?;
        if sha256 == artifact.sha256 {
            return Ok(());
        }
        Err(SinkError::Broken(format!("{key} arrived with the SHA-256 {sha256}, not {}", artifact.sha256)))
    }

    async fn copy_logs(&self, place: &Files, task: &Task) -> Result<(), SinkError> {
        for attempt in 1..=task.attempts {
            let chunks = self.store.log_chunks(task.id, attempt, 0).await.map_err(own)?;
            let size: u64 = chunks.iter().map(|chunk| chunk.size_bytes).sum();
            let key = format!("{}/{attempt}.log", task.id);
            if chunks.is_empty() || place.size(&key).await.map_err(there)? == Some(size) {
                continue;
            }
            let mut bytes = self.files.log(chunks, 0);
            // Whether it is there still shows with its first piece.
            let first = match bytes.next().await {
                Some(Err(FileError::NotFound(_))) => continue,
                first => stream::iter(first),
            };
            let all = first.chain(bytes).map_err(|error| error.to_string());
            place.write(&key, LOG_COPY_BYTES_MAX, all).await.map_err(there)?;
        }
        Ok(())
    }
}

async fn put(place: &Files, key: &str, text: String) -> Result<(), SinkError> {
    place.put(key, Bytes::from(text)).await.map_err(there)
}

/// Our own database is away.
fn own(error: StoreError) -> SinkError {
    match error {
        error if error.is_transient() => SinkError::Away(error.to_string()),
        error => SinkError::Broken(error.to_string()),
    }
}

/// A place does not take something: it is away, full, or closed to us, all of which an operator can mend.
fn there(error: FileError) -> SinkError {
    SinkError::Away(error.to_string())
}

#[async_trait]
impl Sink for Copies {
    fn name(&self) -> &str {
        &self.name
    }

    fn wants(&self, message: &NewMessage) -> bool {
        ENDED.contains(&message.topic.as_str()) && message.task.is_some()
    }

    fn patience(&self) -> Duration {
        COPY_MAX
    }

    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let Some(task) = message.message.task else {
            return Err(SinkError::Refused("the message tells of no task".to_owned()));
        };
        self.copy(task).await
    }
}
