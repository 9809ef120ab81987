//! Task repositories for the scheduler, read by the worker's git.

use async_trait::async_trait;
use model::{task::Repo, task_file::TASK_FILE};
use scheduler::resolve::{Found, LookUpError, Repositories};
use std::{path::PathBuf, sync::Arc};
use worker::{
    git::{GitCache, GitConfig, GitError},
    local_run::TASK_FILE_BYTES_MAX,
};

use crate::config::Config;

/// How the configuration lets git work: what lies beside the rules may be used too.
pub(crate) fn git_config(config: &Config) -> GitConfig {
    let mut local_roots = config.git.folders.clone();
    // `tasks.yaml` names shipped repositories relative to the rules folder: `../deploy/task-repos/…`.
    let beside = config.rules.folder.as_ref().and_then(|folder| folder.canonicalize().ok());
    local_roots.extend(beside.as_deref().and_then(|folder| folder.parent()).map(PathBuf::from));
    GitConfig {
        protocols: config.git.protocols.clone(),
        hosts: config.git.hosts.clone(),
        local_roots,
        cache_bytes_max: config.git.cache_bytes,
        ..GitConfig::default()
    }
}

/// Reads repositories by mirrors.
#[derive(Debug)]
pub(crate) struct GitRepositories(pub(crate) Arc<GitCache>);

#[async_trait]
impl Repositories for GitRepositories {
    async fn look_up(&self, repo: &Repo, at: Option<&str>) -> Result<Found, LookUpError> {
        let commit = match at {
            Some(commit) => commit.to_owned(),
            None => self.0.resolve(repo).await.map_err(refused)?,
        };
        let folder = repo.path.as_deref().unwrap_or_default().trim_matches('/');
        let path = if folder.is_empty() { TASK_FILE.to_owned() } else { format!("{folder}/{TASK_FILE}") };
        let bytes = self.0.read_file(repo, &commit, &path, TASK_FILE_BYTES_MAX).await.map_err(refused)?;
        let text = bytes.map(String::from_utf8).transpose();
        let task_file =
            text.map_err(|error| LookUpError::Wrong(format!("{path} of {repo} is no UTF-8: {error}")))?;
        Ok(Found { commit, task_file })
    }
}

/// What may go better later, and what will not.
fn refused(error: GitError) -> LookUpError {
    if error.is_infra() {
        LookUpError::Later(error.to_string())
    } else {
        LookUpError::Wrong(error.to_string())
    }
}
