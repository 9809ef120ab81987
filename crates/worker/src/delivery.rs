//! What an attempt leaves, on its way to the server, safe on disk.
//!
//! Every attempt has a folder below `<work_dir>/attempts/`: its log, the files that it left, and, once it
//! ended, `delivery.json`. The folder goes when the server has taken the finish or has fenced it off. So a
//! server that is away for hours, or a worker that is killed, loses nothing: whoever starts with the same
//! work folder delivers what is there. A folder without `delivery.json` is an attempt that was cut off.

use crate::{
    artifacts::{self, ArtifactFile},
    client::{Client, ClientError},
    logs::spool::{Spool, SpoolLimits},
};
use model::{
    ErrorReason, Outcome, TaskId,
    attempt::AttemptRef,
    protocol::{AttemptEnd, FinishRequest, Held},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How long a server may be away before what an attempt left is dropped.
pub const DELIVERY_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How many deliveries that the server refused are kept.
pub const REFUSED_KEPT_MAX: usize = 20;

const DELIVERY_FILE: &str = "delivery.json";

/// What is to be sent once an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The end; what it says of the log is filled in when the log was sent.
    pub finish: FinishRequest,
    /// The files that it left.
    pub artifacts: Vec<ArtifactFile>,
}

/// An attempt's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFolder {
    path: PathBuf,
    held: Held,
}

impl AttemptFolder {
    /// The folder of an attempt; it is made, and must be new.
    ///
    /// # Errors
    /// It cannot be made, or it exists: this worker has run the attempt.
    pub fn create(work_dir: &Path, held: Held) -> io::Result<Self> {
        let attempts = attempts_of(work_dir);
        std::fs::create_dir_all(&attempts)?;
        let AttemptRef { attempt, fence } = held.attempt;
        let path = attempts.join(format!("{}.{attempt}.{fence}", held.task));
        std::fs::create_dir(&path)?;
        Ok(Self { path, held })
    }

    /// All folders that are there, whoever left them.
    ///
    /// # Errors
    /// The work folder cannot be read.
    pub fn list(work_dir: &Path) -> io::Result<Vec<Self>> {
        let attempts = attempts_of(work_dir);
        std::fs::create_dir_all(&attempts)?;
        let mut all = Vec::new();
        for entry in std::fs::read_dir(attempts)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(parse_held) {
                Some(held) => all.push(Self { path: entry.path(), held }),
                None => tracing::warn!(path = %entry.path().display(), "no attempt's folder; left alone"),
            }
        }
        Ok(all)
    }

    /// Which attempt.
    #[must_use]
    pub const fn held(&self) -> Held {
        self.held
    }

    /// Where its log lies.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the files that it left are collected.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.path.join("output")
    }

    /// Where its work folder is put together before it is given to the executor.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Notes on disk how it ended. After this the end is safe.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn save(&self, delivery: &Delivery) -> io::Result<()> {
        let fresh = self.path.join("delivery.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(delivery)?)?;
        file.sync_all()?;
        std::fs::rename(fresh, self.path.join(DELIVERY_FILE))
    }

    /// How it ended, if that was noted.
    #[must_use]
    pub fn load(&self) -> Option<Delivery> {
        let text = std::fs::read(self.path.join(DELIVERY_FILE)).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!(%error, path = %self.path.display(), "unreadable delivery"))
            .ok()
    }

    /// Removes it.
    pub fn remove(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "an attempt's folder cannot be removed");
        }
    }

    /// Puts it aside for people to look at, since the server refused it for good. Of these folders the last
    /// [`REFUSED_KEPT_MAX`] are kept.
    pub fn set_aside(&self, work_dir: &Path) {
        let refused = work_dir.join("refused");
        let done = self.path.file_name().map_or(Ok(()), |name| {
            std::fs::create_dir_all(&refused)?;
            let mut kept = std::fs::read_dir(&refused)?.collect::<io::Result<Vec<_>>>()?;
            kept.sort_by_key(|entry| entry.metadata().and_then(|found| found.modified()).ok());
            for old in kept.iter().take(kept.len().saturating_sub(REFUSED_KEPT_MAX - 1)) {
                std::fs::remove_dir_all(old.path())?;
            }
            std::fs::rename(&self.path, refused.join(name))
        });
        if let Err(error) = done {
            tracing::warn!(%error, path = %self.path.display(), "a refused delivery cannot be put aside");
        }
    }

    /// Makes of what a killed worker left something to be delivered: its end as noted, or that it was lost.
    #[must_use]
    pub fn recover(&self) -> Delivery {
        self.load().unwrap_or_else(|| Delivery { finish: lost(self.held.attempt), artifacts: Vec::new() })
    }

    /// Sends what is left of the log, the files, and the end. `spool` is the attempt's log; without it, it is
    /// read from the folder. What the server refuses for good is noted in the reason and left out.
    ///
    /// # Errors
    /// [`ClientError::Fenced`], [`ClientError::GivenUp`] after [`DELIVERY_LIMIT`] or when stopped, or the end
    /// itself is refused.
    pub async fn deliver(
        &self,
        delivery: &Delivery,
        spool: Option<&Spool>,
        client: &Client,
        stop: &CancellationToken,
    ) -> Result<(), ClientError> {
        let mut finish = delivery.finish.clone();
        let recovered;
        let spool = match spool {
            Some(spool) => Some(spool),
            None => {
                recovered = Spool::recover(&self.log(), SpoolLimits::default());
                recovered.as_ref().inspect_err(|error| tracing::warn!(%error, "no log to deliver")).ok()
            }
        };
        let mut left_out = Vec::new();
        if let Some(spool) = spool {
            spool.seal();
            match crate::logs::upload(spool, client, self.held, DELIVERY_LIMIT, stop).await {
                Ok(()) => {}
                Err(error @ (ClientError::Fenced(_) | ClientError::GivenUp(_))) => return Err(error),
                Err(error) => left_out.push(format!("the log is incomplete: {error}")),
            }
            let summary = spool.summary();
            finish.log_chunks = summary.chunks;
            finish.log_bytes = summary.bytes;
            finish.log_truncated = summary.truncated || !left_out.is_empty();
        }
        for file in &delivery.artifacts {
            let sent = artifacts::upload(&self.output(), file, client, self.held, DELIVERY_LIMIT, stop).await;
            match sent {
                Ok(()) => {}
                Err(error @ (ClientError::Fenced(_) | ClientError::GivenUp(_))) => return Err(error),
                Err(error) => left_out.push(format!("artifact `{}` is missing: {error}", file.name)),
            }
        }
        note_left_out(&mut finish.end, &left_out);
        let told = client.persist(DELIVERY_LIMIT, stop, || client.finish(self.held.task, &finish)).await;
        let Err(ClientError::Refused { status, message }) = told else { return told };
        // The attempt must end all the same, or it would be taken for lost and run again to the same end.
        tracing::error!(task = %self.held.task, status, message, "the server refuses how the attempt ended");
        let reason = format!("the server refused how the attempt ended ({status}): {message}");
        let outcome = Outcome::Error(ErrorReason::BadResults);
        let bare = FinishRequest {
            end: AttemptEnd::Outcome { outcome, reason: Some(reason) },
            phases: Vec::new(),
            environment: None,
            results: Vec::new(),
            ..finish
        };
        client.persist(DELIVERY_LIMIT, stop, || client.finish(self.held.task, &bare)).await
    }
}

fn attempts_of(work_dir: &Path) -> PathBuf {
    work_dir.join("attempts")
}

fn parse_held(name: &str) -> Option<Held> {
    let mut parts = name.split('.');
    let task = TaskId::from_str(parts.next()?).ok()?;
    let attempt = AttemptRef { attempt: parts.next()?.parse().ok()?, fence: parts.next()?.parse().ok()? };
    parts.next().is_none().then_some(Held { task, attempt })
}

/// The end of an attempt whose worker was killed in it.
fn lost(attempt: AttemptRef) -> FinishRequest {
    FinishRequest {
        attempt,
        end: AttemptEnd::Outcome {
            outcome: Outcome::Error(ErrorReason::Lost),
            reason: Some("the worker was killed while it ran the task".to_owned()),
        },
        phases: Vec::new(),
        environment: None,
        results: Vec::new(),
        log_chunks: 0,
        log_bytes: 0,
        log_truncated: false,
    }
}

fn note_left_out(end: &mut AttemptEnd, left_out: &[String]) {
    if left_out.is_empty() {
        return;
    }
    tracing::warn!(left_out = left_out.join("; "), "the server refused parts of what an attempt left");
    if let AttemptEnd::Outcome { reason, .. } = end {
        let said = reason.take().into_iter().chain(left_out.iter().take(3).cloned());
        *reason = Some(said.collect::<Vec<_>>().join("; "));
    }
}
