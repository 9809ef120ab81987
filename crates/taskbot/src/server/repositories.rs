//! Task repositories for the scheduler, read by the worker's git.

use async_trait::async_trait;
use model::{
    discover::{self, FMF_FILES_MAX, ForeignTests, RepositoryTests},
    task::Repo,
    task_file::TASK_FILE,
};
use scheduler::{
    resolve::{Found, LookUpError, Repositories},
    rule_source::{RuleCheckout, RuleRepository},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use worker::{
    git::{GitCache, GitConfig, GitError, TreeLimits},
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
        let tests = match self.read(repo, &commit, folder, TASK_FILE).await? {
            Some(text) => RepositoryTests::TaskFile(text),
            None => RepositoryTests::Foreign(self.foreign(repo, &commit, folder).await?),
        };
        Ok(Found { commit, tests })
    }
}

impl GitRepositories {
    async fn read(
        &self,
        repo: &Repo,
        commit: &str,
        folder: &str,
        name: &str,
    ) -> Result<Option<String>, LookUpError> {
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let bytes = self.0.read_file(repo, commit, &path, TASK_FILE_BYTES_MAX).await.map_err(refused)?;
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|error| LookUpError::Wrong(format!("{path} of {repo} is no UTF-8: {error}")))
    }

    /// The tests of a folder without a task file.
    async fn foreign(&self, repo: &Repo, commit: &str, folder: &str) -> Result<ForeignTests, LookUpError> {
        let names = self.0.list(repo, commit, folder).await.map_err(refused)?;
        let names = || names.iter().map(String::as_str);
        let format = discover::format_of(names())
            .map_err(|none| LookUpError::Wrong(format!("{repo} at commit {commit}: {none}")))?;
        let mut texts = BTreeMap::new();
        for name in ForeignTests::wanted(&format, names()).into_iter().take(FMF_FILES_MAX + 1) {
            if let Some(text) = self.read(repo, commit, folder, name).await? {
                texts.insert(name.to_owned(), text);
            }
        }
        Ok(ForeignTests { format, texts })
    }
}

/// The most that a repository of rules may hold.
const RULES_LIMITS: TreeLimits = TreeLimits { total_bytes: 512 << 20, entries: 50_000 };

/// Rules that are kept in a git repository.
#[derive(Debug)]
pub(crate) struct GitRules {
    cache: Arc<GitCache>,
    repo: Repo,
    poll: Duration,
}

impl GitRules {
    /// The repository of a configuration; nothing when rules are in a folder, or come by the API.
    pub(crate) fn of(config: &Config, cache: &Arc<GitCache>) -> Option<Self> {
        let rules = &config.rules;
        let repo =
            Repo { git: rules.git.clone()?, reference: rules.reference.clone(), path: rules.path.clone() };
        Some(Self { cache: Arc::clone(cache), repo, poll: rules.poll })
    }
}

#[async_trait]
impl RuleRepository for GitRules {
    fn origin(&self) -> String {
        self.repo.to_string()
    }

    fn poll_every(&self) -> Duration {
        self.poll
    }

    async fn head(&self) -> Result<String, LookUpError> {
        self.cache.resolve(&self.repo).await.map_err(refused)
    }

    async fn check_out(&self, commit: &str) -> Result<RuleCheckout, LookUpError> {
        let later = |error: std::io::Error| LookUpError::Later(format!("a folder for the rules: {error}"));
        let temporary = tempfile::Builder::new().prefix("taskbot-rules-").tempdir().map_err(later)?;
        let into = temporary.path().join("rules");
        self.cache.checkout(&self.repo, commit, &into, RULES_LIMITS).await.map_err(refused)?;
        let folder = into.join(self.repo.path.as_deref().unwrap_or_default().trim_matches('/'));
        if !folder.is_dir() {
            return Err(LookUpError::Wrong(format!("{} has no such folder at {commit}", self.repo)));
        }
        Ok(RuleCheckout { folder, keep: Box::new(temporary) })
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
