//! Plain folders (task repositories that ship beside the rules), committed as they are.

use super::{
    GitCache, GitError,
    cache::{LISTING_BYTES_MAX, Mirror},
    command::infra,
};
use crate::files;
use model::task::Repo;
use std::{fs, path::Path};

/// Who commits a shipped folder, and when: always the same, so that the commit depends on the files alone.
const IMPORT_NAME: &str = "taskbot";
const IMPORT_EMAIL: &str = "taskbot@localhost";
const IMPORT_DATE: &str = "1000000000 +0000";

impl GitCache {
    /// Commits a folder's files; the same files give the same commit.
    pub(super) async fn import(&self, mirror: &Mirror, folder: &Path) -> Result<String, GitError> {
        let (measured, max) = (folder.to_owned(), self.config.repo_bytes_max);
        let used = tokio::task::spawn_blocking(move || files::usage(&measured, max)).await.map_err(infra)?;
        if used > max {
            return Err(GitError::TooLarge(format!("{} is larger than {max} bytes", folder.display())));
        }
        let what = format!("import {}", folder.display());
        let index = mirror.dir.join("import.index");
        match fs::remove_file(&index) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(infra(error)),
            _ => {}
        }
        let add = self.git(mirror, &what).env("GIT_INDEX_FILE", &index).env("GIT_WORK_TREE", folder);
        add.args(["add", "--all", "--force"]).run(LISTING_BYTES_MAX).await?;
        let write = self.git(mirror, &what).env("GIT_INDEX_FILE", &index).args(["write-tree"]);
        let tree = write.run(LISTING_BYTES_MAX).await?;
        let tree = String::from_utf8_lossy(&tree).trim().to_owned();
        let commit = self.git(mirror, &what).args(["commit-tree", "-m", "Import", &tree]);
        let commit = ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"]
            .into_iter()
            .fold(commit, |git, name| git.env(name, IMPORT_NAME));
        let commit = ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"]
            .into_iter()
            .fold(commit, |git, name| git.env(name, IMPORT_EMAIL));
        let commit = ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"]
            .into_iter()
            .fold(commit, |git, name| git.env(name, IMPORT_DATE));
        let commit = commit.run(LISTING_BYTES_MAX).await?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        self.keep(mirror, &commit).await?;
        Ok(commit)
    }

    /// A state of the folder that was imported before.
    pub(super) async fn local_commit(
        &self,
        mirror: &Mirror,
        repo: &Repo,
        commit: &str,
    ) -> Result<String, GitError> {
        if self.has(mirror, commit).await? {
            return Ok(commit.to_owned());
        }
        Err(GitError::NotFound(format!(
            "{} is a plain folder; its state {commit} was never imported here and cannot be had again",
            repo.git
        )))
    }
}
