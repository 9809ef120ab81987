//! `task reproduce`: the same attempt on this machine, from what was recorded of it.

use super::{Context, local};
use crate::{
    cli::{Global, RunLocal},
    config::Config,
    fault::{self, Fault},
    output,
    server::repositories::git_config,
};
use anyhow::{Context as _, Result};
use model::{
    Task,
    attempt::{Attempt, EnvironmentReport},
    requirements::ExecutorKind,
    task::{Repo, TaskKind, Trust},
};
use serde_json::json;
use std::path::{Path, PathBuf};
use worker::git::{GitCache, TreeLimits};

/// What is needed to do the same again.
struct Recipe {
    task: Task,
    repo: Repo,
    commit: String,
    environment: Option<EnvironmentReport>,
}

/// Prints how an attempt is run again, or with `run` (and where to keep what it leaves) runs it.
pub(super) async fn run(
    context: &Context,
    id: &str,
    attempt: Option<u64>,
    run: Option<Option<PathBuf>>,
    global: &Global,
) -> Result<u8> {
    let recipe = recipe(context, id, attempt).await?;
    match run {
        Some(keep) => recipe.run(keep, global).await,
        None => recipe.print(context).map(|()| 0),
    }
}

async fn recipe(context: &Context, id: &str, number: Option<u64>) -> Result<Recipe> {
    let id = context.client.task_id(id).await?;
    let whole = context.client.get(&format!("tasks/{id}"), &[]).await?;
    let task: Task = serde_json::from_value(whole["task"].clone()).context("the server's answer")?;
    let attempts: Vec<Attempt> =
        serde_json::from_value(whole["attempts"].clone()).context("the server's answer")?;
    let TaskKind::Repo { repo, resolved: Some(resolved), .. } = &task.kind else {
        let message = match &task.kind {
            TaskKind::Repo { .. } => format!("the commit of task {id} is not known: it was never resolved"),
            other => format!("task {id} is of kind {}: it has no task repository", other.as_str()),
        };
        return Err(Fault::new(fault::CONFLICT, message).into());
    };
    let found = match number {
        None => attempts.last(),
        Some(number) => {
            let found = attempts.iter().find(|attempt| u64::from(attempt.number) == number);
            let missing = || Fault::new(fault::NOT_FOUND, format!("task {id} has no attempt {number}"));
            Some(found.ok_or_else(missing)?)
        }
    };
    let environment = found.and_then(|attempt| attempt.environment.clone());
    let (repo, commit) = (repo.clone(), resolved.commit.clone());
    Ok(Recipe { task, repo, commit, environment })
}

impl Recipe {
    /// The image, by its digest: only containers are made of one that can be named.
    fn image(&self) -> Option<String> {
        let environment = self.environment.as_ref()?;
        let container = environment.executor == ExecutorKind::Container;
        environment.image_digest.clone().filter(|_| container)
    }

    /// The arguments of `task run-local` for a checkout.
    fn local(&self, checkout: &Path, keep: Option<PathBuf>) -> RunLocal {
        let inputs = self.task.inputs.iter().map(|(name, value)| format!("{name}={value}"));
        RunLocal {
            path: self.repo.path.as_ref().map_or_else(|| checkout.to_owned(), |path| checkout.join(path)),
            inputs: inputs.collect(),
            item: self.task.item.as_ref().map(|item| format!("{}:{}", item.kind, item.id)),
            executor: self.environment.as_ref().map(|environment| environment.executor.to_string()),
            image: self.image(),
            // Their values are the worker's.
            secrets: Vec::new(),
            keep,
        }
    }

    fn script(&self) -> Vec<String> {
        let folder = format!("{}-{}", self.task.name, &self.commit[..self.commit.len().min(12)]);
        let git = quoted(&self.repo.git);
        let local = self.local(Path::new(&folder), None);
        let mut run = vec!["taskbot task run-local".to_owned(), quoted(&local.path.to_string_lossy())];
        let mut option = |name: &str, value: &str| run.push(format!("{name} {}", quoted(value)));
        for (name, value) in
            [("--executor", &local.executor), ("--image", &local.image), ("--item", &local.item)]
        {
            value.iter().for_each(|value| option(name, value));
        }
        local.inputs.iter().for_each(|input| option("--input", input));
        self.task.secrets.iter().for_each(|name| option("--secret", &format!("{name}=FILE")));
        vec![
            format!("git clone --no-checkout -- {git} {}", quoted(&folder)),
            format!("git -C {} checkout --detach {}", quoted(&folder), self.commit),
            run.join(" "),
        ]
    }

    fn print(&self, context: &Context) -> Result<()> {
        let script = self.script();
        let found = json!({
            "task": self.task.id,
            "repo": self.repo,
            "commit": self.commit,
            "inputs": self.task.inputs,
            "environment": self.environment,
            "script": script,
        });
        output::document(context.format, &found, || {
            for line in &script {
                output::say(line)?;
            }
            if self.environment.is_none() {
                output::note("what it ran in is not known (yet): the task file decides");
            }
            if self.task.trust == Trust::Untrusted {
                output::note(
                    "the task is not trusted: read what it does first; with --run it gets no more than it had",
                );
            }
            Ok(())
        })
    }

    async fn run(&self, keep: Option<PathBuf>, global: &Global) -> Result<u8> {
        let mut git = git_config(&Config::load(global.config.as_deref())?.config);
        // One on this machine's disk is the caller's to read.
        git.local_roots
            .extend(Path::new(&self.repo.git).is_absolute().then(|| PathBuf::from(&self.repo.git)));
        let scratch =
            tempfile::Builder::new().prefix("taskbot-reproduce-").tempdir().context("no temporary folder")?;
        let cache = GitCache::new(scratch.path().join("mirrors"), git)
            .map_err(|error| Fault::new(fault::INFRA, error.to_string()))?;
        let tree = scratch.path().join("tree");
        let checkout = cache.checkout(&self.repo, &self.commit, &tree, TreeLimits::default()).await;
        checkout.map_err(|error| {
            Fault::new(fault::INFRA, format!("{} at {}: {error}", self.repo, self.commit))
        })?;
        let trusted = self.task.trust == Trust::Trusted;
        local::run_as(self.local(&tree, keep), trusted, global).await
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for word in ["", "plain/x:1", "a b", "it's", "$(id)", "x=\"y\"", "n\nl"] {
            let script = format!("printf %s {}", quoted(word));
            let said = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word, "{script}");
        }
    }
}
