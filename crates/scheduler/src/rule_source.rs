//! Where rules are read from: a folder, or a git repository. Nothing, when they come by the API only.

use crate::resolve::LookUpError;
use async_trait::async_trait;
use rules::load::{RuleFiles, read_folder};
use std::{
    any::Any,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::StoreError;

use crate::rulebook::RuleSetError;

/// Reads the repository that rules are kept in. The worker's git does it; the binary passes it in.
#[async_trait]
pub trait RuleRepository: Send + Sync + fmt::Debug {
    /// What it is called where rule sets are shown: URL, ref and path.
    fn origin(&self) -> String;

    /// How often its ref is looked at.
    fn poll_every(&self) -> Duration;

    /// The full id of the commit that its ref names now.
    async fn head(&self) -> Result<String, LookUpError>;

    /// The rules folder at a commit.
    async fn check_out(&self, commit: &str) -> Result<RuleCheckout, LookUpError>;
}

/// A rules folder that was checked out.
pub struct RuleCheckout {
    /// The folder.
    pub folder: PathBuf,
    /// What keeps the folder as long as it is read.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for RuleCheckout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleCheckout").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Where rules are read from.
#[derive(Debug)]
pub(crate) enum RuleSource {
    Nowhere,
    Folder(PathBuf),
    Git {
        repository: Arc<dyn RuleRepository>,
        /// The last commit that was read, whether its rules were good or not.
        read: Mutex<Option<String>>,
    },
}

/// Rules as they were read.
#[derive(Debug)]
pub(crate) struct ReadRules {
    pub(crate) files: RuleFiles,
    pub(crate) origin: String,
    pub(crate) commit: Option<String>,
}

impl RuleSource {
    pub(crate) fn git(repository: Arc<dyn RuleRepository>) -> Self {
        Self::Git { repository, read: Mutex::default() }
    }

    /// Reads all files.
    pub(crate) async fn read(&self) -> Result<ReadRules, RuleSetError> {
        match self {
            Self::Nowhere => Err(RuleSetError::NoFolder),
            Self::Folder(folder) => {
                let files = read_files(folder.clone()).await?;
                Ok(ReadRules { files, origin: folder.display().to_string(), commit: None })
            }
            Self::Git { repository, read } => {
                let commit = repository.head().await?;
                let checkout = repository.check_out(&commit).await?;
                let files = read_files(checkout.folder.clone()).await;
                drop(checkout.keep);
                *read.lock().unwrap_or_else(PoisonError::into_inner) = Some(commit.clone());
                // The folder of a moment is no place beside which anything lies, and no part of the content.
                let files = RuleFiles { base: None, ..files? };
                Ok(ReadRules { files, origin: repository.origin(), commit: Some(commit) })
            }
        }
    }

    /// Whether a repository's ref names another commit than the one that was read last.
    pub(crate) async fn has_moved(&self) -> Result<bool, RuleSetError> {
        let Self::Git { repository, read } = self else { return Ok(false) };
        let head = repository.head().await?;
        Ok(read.lock().unwrap_or_else(PoisonError::into_inner).as_ref() != Some(&head))
    }

    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Nowhere | Self::Git { .. } => None,
        }
    }

    /// How often to look whether a repository's ref has moved.
    pub(crate) fn poll_every(&self) -> Option<Duration> {
        match self {
            Self::Git { repository, .. } => Some(repository.poll_every()),
            Self::Nowhere | Self::Folder(_) => None,
        }
    }

    pub(crate) const fn is_anywhere(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }
}

async fn read_files(folder: PathBuf) -> Result<RuleFiles, RuleSetError> {
    match tokio::task::spawn_blocking(move || read_folder(&folder)).await {
        Ok(read) => read.map_err(RuleSetError::Wrong),
        Err(error) => Err(StoreError::Conflict(format!("reading the rules stopped: {error}")).into()),
    }
}
