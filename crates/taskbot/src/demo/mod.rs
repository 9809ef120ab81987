//! `taskbot demo`: the whole way of an event, with everything embedded, and shown as it goes.
//!
//! Nothing in it is for show only: it is a server and a worker as `taskbot up` runs them, asked over HTTP as every
//! client asks, and a task repository that is cloned and run.

mod story;
mod unpack;

use crate::{
    cli::Demo,
    client::Client,
    config::{Config, PORT},
    fault,
    output::{self, paint},
    server::{running::Running, work::Work},
};
use anyhow::{Context, Result};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};
use story::Story;
use tempfile::TempDir;

/// The image that the demo's tasks run in, where an engine has it or can get it.
const IMAGE: &str = "docker.io/library/busybox:latest";

/// Carries `demo` out.
///
/// # Errors
/// Something cannot be opened or run.
pub(crate) async fn run(args: Demo, file: Option<&Path>) -> Result<u8> {
    let place = Place::make(args.data_dir)?;
    let rules = unpack::unpack(place.path())?;
    let mut config = config(place.path(), rules);
    // Which engine there is, and which image it has, is a matter of the machine and not of the demo.
    let machine = Config::load(file)?.config.worker.executors;
    config.worker.executors.sockets = machine.sockets;
    if machine.default_image.is_some() {
        config.worker.executors.default_image = machine.default_image;
    }
    config.server.listen.set_port(if args.once { 0 } else { free_port() });
    let mut server = Running::start(&config).await?;
    let played = play(&config, &mut server, args.once).await;
    server.stop().await;
    match &place {
        Place::Given(folder) => {
            output::note(format_args!("everything is kept in {}; to look around in it:", folder.display()));
            let (data, rules) = (config.data_dir.display(), folder.join("rules"));
            output::note(format_args!("  taskbot up --data-dir {data} --rules {}", rules.display()));
        }
        Place::Temporary(_) if args.once => {
            output::note("to look further:");
            for (command, what) in [
                ("taskbot demo", "the same, and stays: events, tasks, logs and results can be asked for"),
                ("taskbot demo --once --data-dir DIR", "the same, and everything is kept"),
                ("taskbot up --rules DIR", "a server and a worker with your own rules"),
            ] {
                output::note(format_args!("  {command:<36} {}", paint(output::faint(), what)));
            }
        }
        Place::Temporary(_) => {}
    }
    place.remove()?;
    played
}

async fn play(config: &Config, server: &mut Running, once: bool) -> Result<u8> {
    let token = server.agent_token().await?;
    let mut work = Work::start(config, &server.inner_url(), Some(token), false).await?;
    let opening = opening(server, &work);
    let url = server.url();
    let told = tokio::select! {
        told = tell(&opening, &url, once) => told,
        ended = server.ended() => ended.map(|()| fault::INFRA),
        ended = work.ended() => return ended.map(|()| fault::INFRA),
        _ = tokio::signal::ctrl_c() => {
            output::note("stopping");
            work.kill();
            Ok(fault::INTERRUPTED)
        }
    };
    work.stop();
    work.ended().await?;
    told
}

/// What runs, in lines.
fn opening(server: &Running, work: &Work) -> String {
    let line =
        |name: &str, text: &str| format!("\n  {} {text}", paint(output::faint(), format_args!("{name:<9}")));
    let mut text = paint(output::title(), "taskbot demo: everything runs in this process");
    text += &line("server", &server.url());
    text += &line("database", server.backend());
    text += &line("rules", &server.rules_words());
    text.extend(work.executor_lines().iter().map(|executor| line("executor", executor)));
    text
}

async fn tell(opening: &str, url: &str, once: bool) -> Result<u8> {
    output::say(opening)?;
    let story = Story::new(Client::new(url, None)?);
    let code = story.play(unpack::EVENT).await?;
    if once {
        return Ok(code);
    }
    look_further(url, &story)?;
    tokio::signal::ctrl_c().await.context("cannot catch signals")?;
    output::note("stopping");
    Ok(fault::DONE)
}

/// Says where to go on while the demo stays.
fn look_further(url: &str, story: &Story) -> Result<()> {
    let (event, task) = (story.event(), story.task());
    output::say(paint(output::title(), "\nlook around, in another terminal:"))?;
    if url != crate::cli::SERVER_DEFAULT {
        output::say(format_args!("  export TASKBOT_SERVER={url}"))?;
    }
    for (command, what) in [
        ("taskbot event tail --terse".to_owned(), "what comes in and what is told of it"),
        (format!("taskbot event why {event}"), "why each rule fired or did not"),
        ("taskbot task list".to_owned(), "tasks"),
        (format!("taskbot task logs {task}"), "a task's log"),
        (format!("taskbot task rerun {task} --watch"), "the same once more"),
        ("taskbot result list --parts".to_owned(), "results"),
    ] {
        output::say(format_args!("  {command:<62} {}", paint(output::faint(), what)))?;
    }
    output::say(format_args!("  {url}/docs"))?;
    Ok(output::say(paint(output::faint(), "Ctrl-C ends the demo"))?)
}

/// Where the demo lives.
enum Place {
    /// A folder that goes with it.
    Temporary(TempDir),
    /// A folder that stays.
    Given(PathBuf),
}

impl Place {
    fn make(given: Option<PathBuf>) -> Result<Self> {
        match given {
            Some(folder) => {
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
                Ok(Self::Given(
                    folder.canonicalize().with_context(|| format!("cannot use {}", folder.display()))?,
                ))
            }
            None => Ok(Self::Temporary(
                tempfile::Builder::new().prefix("taskbot-demo-").tempdir().context("no temporary folder")?,
            )),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Given(folder) => folder,
        }
    }

    fn remove(self) -> Result<()> {
        match self {
            Self::Temporary(folder) => folder.close().context("the temporary folder cannot be removed"),
            Self::Given(_) => Ok(()),
        }
    }
}

fn config(folder: &Path, rules: PathBuf) -> Config {
    let mut config =
        Config { installation: "demo".to_owned(), data_dir: folder.join("data"), ..Config::default() };
    config.rules.folder = Some(rules);
    config.server.listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    config.worker.name = Some("demo".to_owned());
    config.worker.slots = 2;
    config.worker.executors.default_image = Some(IMAGE.to_owned());
    // The last resort, for tasks that this program brought along itself.
    config.worker.executors.local_untrusted = true;
    config
}

/// The usual port, or any when it is taken.
fn free_port() -> u16 {
    let usual = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
    if std::net::TcpListener::bind(usual).is_ok() { PORT } else { 0 }
}
