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

/// What the paths of artifacts on a server begin with.
const ARTIFACTS: &str = "/api/v1/tasks/";

/// What is needed to do the same again.
struct Recipe {
    task: Task,
    repo: Repo,
    commit: String,
    /// The secrets that its task file says it cannot do without.
    needed: Vec<String>,
    environment: Option<EnvironmentReport>,
}

/// What it takes to run it on this machine.
pub(super) struct Here {
    /// Where what it leaves is kept.
    pub(super) keep: Option<PathBuf>,
    /// Its secrets, as `NAME=FILE`.
    pub(super) secrets: Vec<String>,
}

/// Prints how an attempt is run again, or runs it here.
pub(super) async fn run(
    context: &Context,
    id: &str,
    attempt: Option<u64>,
    here: Option<Here>,
    global: &Global,
) -> Result<u8> {
    let recipe = recipe(context, id, attempt).await?;
    match here {
        Some(here) => recipe.run(here, global).await,
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
    let needed = resolved.file.secrets.clone();
    Ok(Recipe { task, repo, commit, needed, environment })
}

impl Recipe {
    /// The image, by its digest: only containers are made of one that can be named.
    fn image(&self) -> Option<String> {
        let environment = self.environment.as_ref()?;
        let container = environment.executor == ExecutorKind::Container;
        environment.image_digest.clone().filter(|_| container)
    }

    /// The arguments of `task run-local` for a checkout.
    fn local(&self, checkout: &Path, here: Here) -> RunLocal {
        let inputs = self.task.inputs.iter().map(|(name, value)| format!("{name}={value}"));
        RunLocal {
            path: self.repo.path.as_ref().map_or_else(|| checkout.to_owned(), |path| checkout.join(path)),
            root: self.repo.path.as_ref().map(|_| checkout.to_owned()),
            inputs: inputs.collect(),
            item: self.task.item.as_ref().map(|item| format!("{}:{}", item.kind, item.id)),
            executor: self.environment.as_ref().map(|environment| environment.executor.to_string()),
            image: self.image(),
            secrets: here.secrets,
            keep: here.keep,
        }
    }

    fn script(&self, server: &str) -> Vec<String> {
        let folder = format!("{}-{}", self.task.name, &self.commit[..self.commit.len().min(12)]);
        let git = quoted(&self.repo.git);
        let local = self.local(Path::new(&folder), Here { keep: None, secrets: Vec::new() });
        let mut run = vec!["taskbot task run-local".to_owned(), quoted(&local.path.to_string_lossy())];
        let mut option = |name: &str, value: &str| run.push(format!("{name} {}", quoted(value)));
        local.root.iter().for_each(|root| option("--root", &root.to_string_lossy()));
        for (name, value) in
            [("--executor", &local.executor), ("--image", &local.image), ("--item", &local.item)]
        {
            value.iter().for_each(|value| option(name, value));
        }
        local.inputs.iter().for_each(|input| option("--input", input));
        // Artifacts of other tasks come from the server.
        if local.inputs.iter().any(|input| input.contains(ARTIFACTS)) {
            option("--server", server);
        }
        self.task.secrets.iter().for_each(|name| option("--secret", &format!("{name}=FILE")));
        vec![
            format!("git clone --no-checkout -- {git} {}", quoted(&folder)),
            format!("git -C {} checkout --detach {}", quoted(&folder), self.commit),
            run.join(" "),
        ]
    }

    fn print(&self, context: &Context) -> Result<()> {
        let script = self.script(context.client.base().as_str());
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

    /// Its secrets are the worker's, and nowhere recorded: what it cannot do without must be given.
    fn check_secrets(&self, given: &[String]) -> Result<(), Fault> {
        if self.task.trust == Trust::Untrusted {
            return Ok(());
        }
        let is_missing = |name: &&String| !given.iter().any(|one| one.split('=').next() == Some(name));
        let options = |names: &[&String]| {
            let options = names.iter().map(|name| format!("--secret {name}=FILE"));
            options.collect::<Vec<_>>().join(" ")
        };
        let needed: Vec<_> = self.needed.iter().filter(is_missing).collect();
        if !needed.is_empty() {
            return Err(Fault::usage(format!(
                "the task needs secrets, whose values only its worker knows; give them from files: {}",
                options(&needed)
            )));
        }
        let granted: Vec<_> = self.task.secrets.iter().filter(is_missing).collect();
        if !granted.is_empty() {
            output::note(format_args!(
                "run without secrets that it had: what it does may differ; {} gives them",
                options(&granted)
            ));
        }
        Ok(())
    }

    async fn run(&self, here: Here, global: &Global) -> Result<u8> {
        self.check_secrets(&here.secrets)?;
        let mut git = git_config(&Config::load(global.config.as_deref())?.config);
        // One on this machine's disk is the caller's to read.
        let folder = Path::new(self.repo.git.strip_prefix("file://").unwrap_or(&self.repo.git));
        git.local_roots.extend(folder.is_absolute().then(|| folder.to_owned()));
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
        local::run_as(self.local(&tree, here), trusted, global).await
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
