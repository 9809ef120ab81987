//! What each command does, a module for each noun.

mod backtest;
mod check;
mod config;
mod conformance;
mod database;
mod dead_letter;
mod doctor;
mod enter;
pub(crate) mod event;
mod explain;
mod hold;
mod inputs;
mod junit;
mod local;
mod new_rule;
mod queue;
mod record;
mod reproduce;
mod rerun;
pub(crate) mod result;
mod rule;
mod send;
mod sink;
mod tail;
mod task;
mod token;
pub(crate) mod watch;
mod worker;

use crate::{
    cli::{Cli, Command, Format, Givens, Global, Paging, WorkerCommand},
    client::Client,
    config::{Config, Loaded},
    demo, fault,
    fault::Fault,
    logging, output, server,
};
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use clap::CommandFactory;
use model::{Clock, SystemClock};
use std::{future::Future, sync::Arc};

/// What commands that talk to a server share.
#[derive(Debug)]
pub(crate) struct Context {
    /// The server.
    pub(crate) client: Client,
    /// How to print.
    pub(crate) format: Format,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Context {
    fn of(global: &Global) -> Result<Self> {
        Ok(Self { client: Client::of(global)?, format: global.output, clock: Arc::new(SystemClock) })
    }

    /// Now.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A point in time of the command line, as the API takes it.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn time(&self, flag: &str, text: Option<&str>) -> Result<Option<String>, Fault> {
        text.map(|text| Ok(output::parse_time(flag, text, self.now())?.to_rfc3339())).transpose()
    }
}

/// The parameters that all lists have.
pub(crate) fn paging(paging: &Paging) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("limit", Some(paging.limit.to_string())),
        ("before", paging.before.clone()),
        ("where", paging.filter.clone()),
    ]
}

/// Carries something out for each of several things. One that is refused is told and keeps the others from nothing; the
/// exit code is that of the first refusal.
///
/// # Errors
/// The only one is refused.
pub(crate) async fn each(ids: Vec<String>, act: impl AsyncFn(&str) -> Result<()>) -> Result<u8> {
    if let [id] = ids.as_slice() {
        return act(id).await.map(|()| fault::DONE);
    }
    let (mut code, mut refused) = (fault::DONE, 0);
    for id in &ids {
        if let Err(error) = act(id).await {
            refused += 1;
            code = if code == fault::DONE { fault::exit_code(&error) } else { code };
            output::error(&error.context(id.clone()));
        }
    }
    if refused > 0 {
        output::note(format_args!("{} of {} done, {refused} refused", ids.len() - refused, ids.len()));
    }
    Ok(code)
}

/// Carries a command out; gives its exit code.
///
/// # Errors
/// Whatever ends it otherwise; a [`Fault`] knows its exit code.
pub(crate) fn run(cli: Cli, given: &Givens) -> Result<u8> {
    let Cli { global, command } = cli;
    let long_lived =
        matches!(command, Command::Up(_) | Command::Server(_) | Command::Worker { command: None, .. });
    let level = match command {
        _ if long_lived => "info",
        // Its findings say it better.
        Command::Doctor => "error",
        _ => "warn",
    };
    logging::start(global.log.as_deref(), level, global.log_format)?;
    match command {
        Command::Up(up) => {
            let loaded = load(&global, &up.over, given)?;
            serve(server::up(loaded, !up.no_worker))
        }
        Command::Server(args) => {
            let loaded = load(&global, &args.over, given)?;
            serve(server::up(loaded, false))
        }
        Command::Worker { command: None, run } => {
            let mut loaded = Config::load(global.config.as_deref())?;
            loaded.config.worker.apply(&run);
            serve(server::worker(loaded, &global, given))
        }
        Command::Demo(args) => serve(demo::run(args, global.config.as_deref())),
        Command::Config(command) => config::run(command, &global),
        Command::Doctor => block_on(doctor::run(&global, given)),
        Command::Db(command) => block_on(database::run(command, &global)),
        Command::Token(command) => block_on(token::run(command, &global, given)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "taskbot", &mut script);
            output::write(&script)?;
            Ok(fault::DONE)
        }
        Command::Rule(command) => rule::run(command, &global),
        Command::Event(command) => block_on(event::run(command, Context::of(&global)?)),
        Command::Task(command) => block_on(task::run(command, &global)),
        Command::Result(command) => block_on(result::run(command, Context::of(&global)?)),
        Command::Queue(command) => block_on(queue::run(command, Context::of(&global)?)),
        Command::Sink(command) => block_on(sink::run(command, Context::of(&global)?)),
        Command::Dlq(command) => block_on(dead_letter::run(command, Context::of(&global)?)),
        Command::Worker { command: Some(WorkerCommand::Conformance(tried)), .. } => {
            block_on(conformance::run(tried, global.output))
        }
        Command::Worker { command: Some(WorkerCommand::Enter { folder }), .. } => {
            block_on(enter::run(&folder))
        }
        Command::Worker { command: Some(command), .. } => {
            block_on(worker::run(command, Context::of(&global)?))
        }
    }
}

/// The configuration with what the command line lays over it.
fn load(global: &Global, over: &crate::cli::Overrides, given: &Givens) -> Result<Loaded> {
    let mut loaded = Config::load(global.config.as_deref())?;
    loaded.lay_over(over, given)?;
    Ok(loaded)
}

/// Runs what talks to a server: one thread will do.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no runtime")?.block_on(work)
}

/// Runs a server or a worker.
fn serve(work: impl Future<Output = Result<u8>>) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let done = runtime.block_on(work);
    // Threads that hang in a system call must not keep the process.
    runtime.shutdown_background();
    done
}
