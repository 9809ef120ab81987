//! What the demo brings along, written out as the repository has it: rules beside a task repository.

use crate::fault::{self, Fault};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A file of the repository, by its path below the demo's folder.
macro_rules! shipped {
    ($from:literal as $to:literal) => {
        ($to, include_str!(concat!("../../../../", $from)))
    };
}

/// The files, by their path below the demo's folder.
const FILES: [(&str, &str); 6] = [
    shipped!("rules/demo/rules.yaml" as "rules/rules.yaml"),
    shipped!("rules/demo/tasks.yaml" as "rules/tasks.yaml"),
    shipped!("rules/demo/event.json" as "rules/event.json"),
    shipped!("deploy/task-repos/demo-check/README.md" as "deploy/task-repos/demo-check/README.md"),
    shipped!("deploy/task-repos/demo-check/check.sh" as "deploy/task-repos/demo-check/check.sh"),
    shipped!("deploy/task-repos/demo-check/task.yaml" as "deploy/task-repos/demo-check/task.yaml"),
];
/// The recorded event.
pub(super) const EVENT: &str = include_str!("../../../../rules/demo/event.json");
/// The task repository.
const REPOSITORY: &str = "deploy/task-repos/demo-check";
/// Who commits the task repository, and when: always the same, so that the commit is.
const AUTHOR: [(&str, &str); 6] = [
    ("GIT_AUTHOR_NAME", "taskbot demo"),
    ("GIT_AUTHOR_EMAIL", "demo@localhost"),
    ("GIT_AUTHOR_DATE", "1748000000 +0000"),
    ("GIT_COMMITTER_NAME", "taskbot demo"),
    ("GIT_COMMITTER_EMAIL", "demo@localhost"),
    ("GIT_COMMITTER_DATE", "1748000000 +0000"),
];

/// Writes everything into the folder; returns the rules folder.
///
/// # Errors
/// The disk, or git is not there.
pub(super) fn unpack(folder: &Path) -> Result<PathBuf> {
    for (name, text) in FILES {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))
            .with_context(|| format!("cannot make {}", path.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    commit(&folder.join(REPOSITORY))?;
    Ok(folder.join("rules"))
}

/// Makes the folder a git repository with one commit; one that is there is left as it is.
fn commit(folder: &Path) -> Result<()> {
    if folder.join(".git").exists() {
        return Ok(());
    }
    git(folder, &["init", "--quiet", "--initial-branch=main"])?;
    git(folder, &["add", "--all"])?;
    git(
        folder,
        &["commit", "--quiet", "--no-verify", "--message=A check of what an update says about a build"],
    )
}

fn git(folder: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("git");
    // Whatever this user has configured (signing, hooks, templates) does not belong into the demo.
    command.args(["-c", "core.hooksPath=/dev/null", "-c", "commit.gpgsign=false"]).args(arguments);
    command.current_dir(folder).stdin(Stdio::null()).envs(AUTHOR);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TEMPLATE_DIR", "");
    for leaked in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(leaked);
    }
    let output = command.output().map_err(|error| {
        Fault::new(
            fault::INFRA,
            format!("cannot run git: {error}; install it, task repositories are cloned with it"),
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Fault::new(fault::INFRA, format!("git {} failed: {}", arguments.join(" "), said.trim())).into())
}
