//! Bytes that no row names: an attempt that lost its fence wrote them, or a server died between the bytes and
//! their row. Rows are the truth; what has none goes once it is old enough.

use crate::{
    Scheduler,
    files::{FileError, StoredFile},
    settings::SWEEP_BATCH_MAX,
};
use futures_util::StreamExt;
use model::TaskId;
use std::time::Duration;
use store::{KeptFiles, StoreError};
use tokio_util::sync::CancellationToken;

/// The name of the work under whose lease one server at a time sweeps.
const SWEEP: &str = "files.sweep";
/// The folders that are swept; [`crate::files::Files::log_key`] and `artifact_key` write below them.
const FOLDERS: [&str; 2] = ["logs", "artifacts"];

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object store said no.
    #[error(transparent)]
    Files(#[from] FileError),
}

/// Sweeps now and then, until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    let settings = scheduler.settings();
    let every_ms = u64::try_from(settings.sweep_every.as_millis()).unwrap_or(u64::MAX);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(settings.sweep_every) => {}
        }
        let round = async {
            // Not given back: within its time no other server sweeps again.
            let ours = scheduler.store().try_lease(SWEEP, &settings.server, every_ms / 2).await?;
            if ours { scheduler.sweep_files(settings.sweep_older_than).await } else { Ok(0) }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            swept = round => match swept {
                Ok(0) => {}
                Ok(files) => tracing::info!(files, "removed bytes that nothing names"),
                Err(error) => tracing::warn!(%error, "sweeping is put off"),
            }
        }
    }
}

impl Scheduler {
    /// Removes logs and artifacts that no row names, that are older than this, and that no running attempt may still
    /// be about to note. Returns how many files.
    ///
    /// # Errors
    /// The database or the object store is away.
    pub async fn sweep_files(&self, older_than: Duration) -> Result<u64, SweepError> {
        let before = self.clock().now() - older_than;
        let mut swept = 0;
        for folder in FOLDERS {
            let mut batches = self.files().list(folder).chunks(SWEEP_BATCH_MAX);
            while let Some(batch) = batches.next().await {
                let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
                let old: Vec<_> = batch.into_iter().filter(|file| file.modified_at <= before).collect();
                swept += self.sweep_batch(&old).await?;
            }
        }
        Ok(swept)
    }

    async fn sweep_batch(&self, files: &[StoredFile]) -> Result<u64, SweepError> {
        let owners: Vec<_> = files.iter().filter_map(|file| Some((file, owner(&file.key)?))).collect();
        let mut tasks: Vec<_> = owners.iter().map(|(_, (task, _))| *task).collect();
        tasks.dedup();
        if tasks.is_empty() {
            return Ok(0);
        }
        let kept = self.store().kept_files(&tasks).await?;
        let mut swept = 0;
        for (file, (task, fence)) in owners {
            if !is_kept(&kept, &file.key, task, fence) {
                self.files().remove(&file.key).await?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

/// The task and the fence that a path names: `FOLDER/TASK/ATTEMPT-FENCE/…`.
fn owner(key: &str) -> Option<(TaskId, i64)> {
    let mut parts = key.split('/').skip(1);
    let task = parts.next()?.parse().ok()?;
    let (_, fence) = parts.next()?.split_once('-')?;
    Some((task, fence.parse().ok()?))
}

fn is_kept(kept: &KeptFiles, key: &str, task: TaskId, fence: i64) -> bool {
    kept.keys.contains(key) || kept.running.get(&task) == Some(&fence)
}
