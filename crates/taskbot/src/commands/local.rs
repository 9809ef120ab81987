//! `task run-local`: a task repository run from a folder, without a server.

use super::inputs;
use crate::{
    cli::{Format, Global, RunLocal},
    client::Client,
    config::Config,
    fault::{self, Fault},
    output::{self, paint, style_of},
    server::{signals::Signals, work},
};
use anyhow::{Context as _, Result, anyhow};
use model::{
    Clock, Item, SystemClock, SystemIds,
    protocol::AttemptEnd,
    result::NewResult,
    task_file::{TASK_FILE, is_secret_name},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;
use worker::{
    client::Token,
    config::FetchServer,
    executor::Executor,
    fetch::Fetcher,
    git::{GitCache, GitConfig},
    local_run::{LocalError, LocalOptions, run_local},
    runner::{Control, Ended, Runner, StopWhy},
    secrets::SecretSource,
};

/// Carries `task run-local` out: the folder is the caller's own, and so trusted.
pub(super) async fn run(args: RunLocal, global: &Global) -> Result<u8> {
    run_as(args, true, global).await
}

/// Runs a task repository; relaxed isolation that the configuration allows is only for a trusted one.
pub(super) async fn run_as(args: RunLocal, trusted: bool, global: &Global) -> Result<u8> {
    let mut config = Config::load(global.config.as_deref())?.config;
    config.worker.secrets = args.secrets.iter().map(|text| secret(text)).collect::<Result<_, _>>()?;
    // Which executor is used is up to the caller: this machine is theirs.
    let wanted = args.executor.as_deref().map(work::parse_kind).transpose()?;
    if let Some(kind) = wanted {
        let set = &mut config.worker.executors;
        let only = |name: &str| kind.as_str() == name;
        (set.container, set.vm) = (only("container"), only("vm"));
        (set.sandbox, set.local, set.local_untrusted) = (only("sandbox"), only("local"), false);
        config.worker.external.retain(|_, _| only("external"));
    }
    let scratch =
        tempfile::Builder::new().prefix("taskbot-run-local-").tempdir().context("no temporary folder")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let name = work::name(&config);
    let kvm = work::kvm(&config).await;
    let executors = work::executors(&config, &name, scratch.path(), &clock, kvm);
    let (lines, any) = work::probe(&executors).await;
    if !any {
        let hint = "choose another (--executor sandbox, or --executor local for none at all)";
        return Err(Fault::new(
            fault::INFRA,
            format!("no executor works here; {hint}:\n  {}", lines.join("\n  ")),
        )
        .into());
    }
    let client = Client::of(global)?;
    // Inputs may be artifacts of the server's tasks.
    let server = FetchServer { url: client.base().clone(), token: client.token().map(Token::new) };
    let runner = runner(&config, executors, scratch.path(), &clock, (kvm, server))?;
    let item = args.item.as_deref().map(inputs::item).transpose()?;
    let item = item.map(serde_json::from_value::<Item>).transpose().context("--item")?;
    let options = LocalOptions {
        inputs: inputs::parse("--input", &args.inputs)?,
        item,
        trusted,
        root: args.root.clone(),
        executor: wanted,
        image: args.image.clone(),
        artifacts_to: args.keep.clone(),
    };
    let to_stderr = !matches!(global.output, Format::Table | Format::Markdown);
    // With another format standard output is for the outcome alone.
    let mut shown = if to_stderr { output::LogOut::stderr() } else { output::LogOut::stdout() };
    let out = Box::new(move |bytes: &[u8]| {
        if let Err(error) = shown.write(bytes) {
            tracing::debug!(%error, "the log is not shown");
        }
    });
    let mut signals = Signals::new()?;
    let kill = CancellationToken::new();
    let control = Control::new(kill.clone());
    // Once stops the task and cleans up; twice does not wait for that.
    let stopping = async {
        signals.stop().await;
        output::note("stopping; what the task made is cleaned up");
        control.stop(StopWhy::Killed);
        signals.stop().await;
        kill.cancel();
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = run_local(&runner, &args.path, scratch.path(), &options, out, &control, &SystemIds) => {
            ended.map_err(refused)?
        }
        () = stopping => return Ok(fault::INTERRUPTED),
    };
    let code = show(global.output, &ended, args.keep.as_deref())?;
    if code != fault::DONE
        && args.root.is_none()
        && uses_what_is_above(&args.path)
        && let Some(root) = repository_around(&args.path)
    {
        output::note(format_args!(
            "the task file names what lies above its folder; a worker has the whole repository: --root {}",
            root.display()
        ));
    }
    Ok(code)
}

/// Whether a task file speaks of files above its folder.
fn uses_what_is_above(path: &Path) -> bool {
    let file = if path.is_dir() { path.join(TASK_FILE) } else { path.to_owned() };
    std::fs::read_to_string(file).is_ok_and(|text| text.contains("../"))
}

/// The repository in a folder of which a task lies.
fn repository_around(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let folder = if path.is_file() { path.parent()? } else { &path };
    let root = folder.ancestors().find(|folder| folder.join(".git").exists())?;
    (root != folder).then(|| root.to_owned())
}

/// `NAME=FILE`: for the one task that is run.
fn secret(text: &str) -> Result<(String, SecretSource), Fault> {
    let (name, file) = text
        .split_once('=')
        .filter(|(name, _)| is_secret_name(name))
        .ok_or_else(|| Fault::usage(format!("--secret: `{text}` is not NAME=FILE")))?;
    let source = SecretSource { file: file.into(), tasks: ["*".to_owned()].into(), repos: [].into() };
    source.read(name).map_err(|why| Fault::usage(format!("--secret: {why}")))?;
    Ok((name.to_owned(), source))
}

fn runner(
    config: &Config,
    executors: Vec<Arc<dyn Executor>>,
    dir: &Path,
    clock: &Arc<dyn Clock>,
    (kvm, server): (bool, FetchServer),
) -> Result<Runner> {
    let mut run = work::run_config(config, dir, kvm);
    run.fetch.server = Some(server);
    let fetcher = Fetcher::new(&run.fetch, Arc::clone(clock), Arc::new(SystemIds))
        .map_err(|error| anyhow!("fetching: {}", error.message))?;
    let git = GitCache::new(dir.join("mirrors"), GitConfig::default()).map_err(|error| anyhow!("{error}"))?;
    Ok(Runner {
        worker: work::name(config),
        config: run,
        executors,
        git: Arc::new(git),
        fetcher: Arc::new(fetcher),
        clock: Arc::clone(clock),
    })
}

fn refused(error: LocalError) -> Fault {
    match error {
        LocalError::BadTaskFile(report) => {
            let shown = report.render(std::io::IsTerminal::is_terminal(&std::io::stderr()));
            // As it ends on a worker: `error(bad_task)`, not a failure of what is tested.
            Fault::new(fault::INFRA, format!("the task file is wrong\n{shown}"))
        }
        LocalError::BadInputs(why) => Fault::usage(format!("{why}; inputs are given by --input NAME=VALUE")),
        LocalError::NoEnvironment { wanted, .. } => {
            let option = if wanted.is_some() { "--executor" } else { "--image" };
            Fault::usage(format!("{option}: {error}"))
        }
        LocalError::BadTests(_) | LocalError::NoTests(..) | LocalError::NotInside(..) => {
            Fault::usage(error.to_string())
        }
        LocalError::Disk { .. } => Fault::new(fault::INFRA, error.to_string()),
    }
}

fn show(format: Format, ended: &Ended, kept: Option<&Path>) -> Result<u8> {
    let finish = &ended.finish;
    output::document(format, finish, || {
        for result in &finish.results {
            show_result(result, 0)?;
        }
        for artifact in &ended.artifacts {
            output::say(format_args!("{} {}", paint(output::faint(), "left"), artifact.name))?;
        }
        if let Some(kept) = kept {
            output::note(format_args!("what it left is in {}", kept.display()));
        }
        Ok(())
    })?;
    match &finish.end {
        AttemptEnd::Outcome { outcome, reason } => {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            output::note(format_args!("{}{reason}", paint(style_of(outcome.as_str()), outcome)));
            Ok(outcome.exit_code())
        }
        AttemptEnd::HandedBack { reason } => {
            output::note(reason);
            Ok(fault::INTERRUPTED)
        }
    }
}

fn show_result(result: &NewResult, depth: usize) -> Result<()> {
    let part = serde_json::to_value(result)?;
    output::say(format_args!("{}{}", "  ".repeat(depth), super::result::part_line(&part)))?;
    result.children.iter().try_for_each(|child| show_result(child, depth + 1))
}
