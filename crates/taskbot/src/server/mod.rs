//! Servers and workers in this process: their parts put together, kept going, and stopped in order.
//!
//! The modules stand in the order of a start: the store, files and buses are opened ([`open`]), who may come in
//! is decided ([`access`]), repositories are read by the worker's git ([`repositories`]); the server runs
//! ([`running`]), and beside it a worker with its executors ([`work`]), until a signal comes ([`signals`]).

pub(crate) mod access;
mod in_folders;
pub(crate) mod machine;
pub(crate) mod object_stores;
pub(crate) mod open;
pub(crate) mod repositories;
mod result_messages;
pub(crate) mod running;
pub(crate) mod signals;
pub(crate) mod work;

pub(crate) use in_folders::InFolders;
pub(crate) use result_messages::ResultMessages;

use crate::{
    cli::{Given, Givens, Global},
    client,
    config::Loaded,
    fault,
    output::{self, paint},
};
use anyhow::Result;
use running::Running;
use signals::{Signal, Signals};
use work::Work;

/// Runs a server, and with it a worker when one is wanted, until stopped.
///
/// # Errors
/// Something cannot be opened, or ends by itself.
pub(crate) async fn up(loaded: Loaded, with_worker: bool) -> Result<u8> {
    let config = loaded.config;
    let mut signals = Signals::new()?;
    let mut server = Running::start(&config).await?;
    let mut work = match with_worker {
        true => {
            let token = server.agent_token().await?;
            Some(Work::start(&config, &server.inner_url(), Some(token), false).await?)
        }
        false => None,
    };
    greet(&config, &server, work.as_ref())?;
    let failed = wait(&mut signals, &mut server, work.as_mut()).await;
    if let Some(work) = work {
        stop_worker(&mut signals, work).await;
    }
    tokio::select! {
        () = server.stop() => {}
        () = signals.stop() => tracing::warn!("stopped at once; what was under way is taken up again by the next start"),
    }
    failed.map(|()| fault::DONE)
}

/// Waits for a signal to stop; carries out the others.
async fn wait(signals: &mut Signals, server: &mut Running, mut work: Option<&mut Work>) -> Result<()> {
    loop {
        let worker_ended = async {
            match work.as_mut() {
                Some(work) => work.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => return Ok(()),
                Signal::Reload => server.reload().await,
            },
            ended = server.ended() => return ended,
            ended = worker_ended => return ended,
        }
    }
}

/// Runs a worker of a server elsewhere, until stopped.
///
/// # Errors
/// Something cannot be opened, or the server refuses it.
pub(crate) async fn worker(loaded: Loaded, global: &Global, given: &Givens) -> Result<u8> {
    let mut signals = Signals::new()?;
    let token = match (&global.token_file, &global.token) {
        (Some(file), _) => Some(client::read_token(file)?),
        (None, token) => token.clone(),
    };
    if !given.contains_key("server") {
        tracing::info!(server = global.server, "no --server given");
    }
    let mut work = Work::start(&loaded.config, &global.server, token, true).await?;
    output::note(format_args!(
        "worker {} serves {} of {}",
        work.name(),
        loaded.config.worker.queues.join(", "),
        global.server
    ));
    for line in work.executor_lines() {
        output::note(format_args!("  {line}"));
    }
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => {}
            },
            ended = work.ended() => return ended.map(|()| fault::DONE),
        }
    }
    stop_worker(&mut signals, work).await;
    Ok(fault::DONE)
}

/// Lets a worker finish what it runs; a second signal makes it hand everything back.
async fn stop_worker(signals: &mut Signals, mut work: Work) {
    tracing::info!("stopping: tasks that run are finished; once more to hand them back at once");
    work.stop();
    let ended = tokio::select! {
        ended = work.ended() => ended,
        () = signals.stop() => {
            work.kill();
            work.ended().await
        }
    };
    match ended {
        Ok(()) => tracing::info!("the worker has stopped"),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "the worker did not end well"),
    }
}

/// Says where things are.
fn greet(config: &crate::config::Config, server: &Running, work: Option<&Work>) -> Result<()> {
    // On standard output: scripts read the address of a server that took any port.
    output::say(format_args!("listening on http://{}", server.address()))?;
    let line = |name: &str, text: String| {
        output::note(format_args!("  {} {text}", paint(output::faint(), format_args!("{name:<10}"))));
    };
    if config.server.public_url.is_some() {
        line("public", server.url());
    }
    line("data", config.data_dir.display().to_string());
    line("database", server.backend().to_owned());
    line("access", server.access_words());
    line("rules", server.rules_words());
    for source in &config.sources {
        line(
            "source",
            format!("{} from {}", source.config().name, source.config().connection.servers.join(", ")),
        );
    }
    if let Some(outlet) = &config.outlet {
        line("outlet", outlet.config().connection.servers.join(", "));
    }
    match work {
        Some(work) => {
            line("worker", format!("{}, {} slots", work.name(), config.worker.slots));
            for executor in work.executor_lines() {
                line("", executor.clone());
            }
        }
        None => line("worker", "none in this process".to_owned()),
    }
    for (name, url) in server.interfaces() {
        line(name, url);
    }
    line("docs", format!("{}/docs", server.url()));
    Ok(())
}

/// Whether an argument was given on the command line or by the environment.
pub(crate) fn is_given(given: &Givens, argument: &str) -> bool {
    matches!(given.get(argument), Some(Given::Flag | Given::Env))
}
