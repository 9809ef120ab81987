//! Podman's service with the interface of Docker's engine, in namespaces that end with it, and the test image.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use super::daemon::Daemon;
use super::engine_api::Engine;
use super::{Cleanup, Context, Running, START_TIMEOUT, docker, image};
use crate::environment::find_program;

pub(super) const SOCKET: &str = "TASKBOT_TEST_PODMAN_SOCKET";

pub(super) fn start(context: &Context) -> Result<Running> {
    if let Some(socket) = &context.existing {
        let socket = PathBuf::from(socket.strip_prefix("unix://").unwrap_or(socket));
        let engine = Engine::new(&socket);
        engine.ping().with_context(|| format!("no engine answers at {}", socket.display()))?;
        let provided = image::provide(&engine, context)?;
        let cleanup =
            if provided { Cleanup::new(move || image::remove(&engine)) } else { Cleanup::default() };
        let description = format!("Podman at {}", socket.display());
        let exports = vec![(SOCKET, socket.display().to_string())];
        return Ok(Running { description, exports, daemon: None, _cleanup: cleanup });
    }
    let podman = find_program("podman").context("there is no podman")?;
    let socket = context.folder.join("podman.sock");
    let mut argv: Vec<OsString> = vec![podman.into_os_string()];
    for (option, path) in [("root", "root"), ("runroot", "run"), ("tmpdir", "state")] {
        argv.extend([format!("--{option}").into(), context.folder.join(path).into_os_string()]);
    }
    // No systemd is needed then; crun refuses machines that have both kinds of control groups.
    argv.extend(["--cgroup-manager", "cgroupfs", "--runtime", "runc"].map(OsString::from));
    argv.extend(["system", "service", "--time", "0"].map(OsString::from));
    argv.push(format!("unix://{}", socket.display()).into());
    let (daemon, cleanup) = docker::in_namespaces(context, &argv, "podman.log", None)?;
    let engine = Engine::new(&socket);
    let mut running =
        Running { description: String::new(), exports: vec![], daemon: Some(daemon), _cleanup: cleanup };
    let answers = context.shell.wait_until(START_TIMEOUT, || {
        if let Some(end) = running.daemon.as_mut().and_then(Daemon::ended) {
            bail!("it ended at once: {end}");
        }
        Ok(engine.ping().is_ok())
    })?;
    ensure!(answers, "it did not answer within {START_TIMEOUT:?}");
    image::provide(&engine, context)?;
    running.description =
        format!("Podman {} at {} with {}", engine.version()?, socket.display(), image::NAME);
    running.exports = vec![(SOCKET, socket.display().to_string())];
    Ok(running)
}
