//! PostgreSQL 15 or newer, in a cluster of its own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{User, chown, geteuid};

use super::daemon::{Daemon, Stop};
use super::{Cleanup, Context, Running, START_TIMEOUT, tied_to_us};
use crate::environment::{find_program, variable};

pub(super) const URL: &str = "TASKBOT_TEST_POSTGRES_URL";
const BINARIES: &str = "TASKBOT_TEST_POSTGRES_BIN";

const MIN_VERSION: u32 = 15;
/// Tests run side by side, each with pools of its own.
const MAX_CONNECTIONS: u32 = 300;
/// Another program may take the free port between our look and PostgreSQL's bind.
const START_ATTEMPTS: u32 = 5;
/// Who runs the server when we are root, which PostgreSQL refuses.
const SERVER_USER: &str = "postgres";

pub(super) fn start(context: &Context) -> Result<Running> {
    let binaries = find_binaries()?;
    let exported = (BINARIES, binaries.display().to_string());
    if let Some(url) = &context.existing {
        let exports = vec![(URL, url.clone()), exported];
        return Ok(Running {
            description: format!("PostgreSQL at {url}"),
            exports,
            daemon: None,
            _cleanup: Cleanup::default(),
        });
    }
    let folder = &context.folder;
    if geteuid().is_root() {
        let user =
            User::from_name(SERVER_USER)?.with_context(|| format!("there is no user {SERVER_USER}"))?;
        chown(folder, Some(user.uid), Some(user.gid)).context("cannot give the data folder away")?;
    }
    let data = folder.join("data");
    let mut initdb = as_server_user("TERM");
    initdb.arg(binaries.join("initdb")).arg("--pgdata").arg(&data);
    initdb.args(["--auth", "trust", "--username", "postgres", "--encoding", "UTF8", "--locale", "C.UTF-8"]);
    initdb.args(["--no-sync", "--no-instructions"]).current_dir("/");
    // Its log lies beside: the folder is no longer ours.
    let logs = folder.parent().context("the data folder has a parent")?;
    context.shell.run_quietly(&mut initdb, &logs.join("initdb.log"))?;
    let mut failure = String::new();
    for _ in 0..START_ATTEMPTS {
        match serve(context, &binaries, &data, &logs.join("postgres.log"))? {
            Ok((daemon, port)) => {
                let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
                return Ok(Running {
                    description: format!("PostgreSQL {} at {url}", version_of(&binaries).unwrap_or_default()),
                    exports: vec![(URL, url), exported],
                    daemon: Some(daemon),
                    _cleanup: Cleanup::default(),
                });
            }
            Err(end) => failure = end,
        }
    }
    bail!("it ended at once: {failure}");
}

/// The server and its port, or how it ended.
fn serve(
    context: &Context,
    binaries: &Path,
    data: &Path,
    log: &Path,
) -> Result<Result<(Daemon, u16), String>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    // SIGQUIT ends it at once: nobody needs a shutdown checkpoint of data that is about to be removed.
    let mut postgres = as_server_user("QUIT");
    postgres.arg(binaries.join("postgres")).arg("-D").arg(data).current_dir("/");
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        format!("unix_socket_directories={}", context.folder.display()),
        format!("max_connections={MAX_CONNECTIONS}"),
    ] {
        postgres.arg("-c").arg(setting);
    }
    let mut daemon = Daemon::spawn(&mut postgres, log, Stop::Signal(Signal::SIGQUIT))?;
    let mut end = None;
    let answers = context.shell.wait_until(START_TIMEOUT, || {
        end = daemon.ended();
        Ok(end.is_some() || is_ready(data))
    })?;
    ensure!(answers, "it did not become ready within {START_TIMEOUT:?}");
    Ok(end.map_or(Ok((daemon, port)), Err))
}

/// Whether connections are accepted: the last line of the lock file says so.
fn is_ready(data: &Path) -> bool {
    fs::read_to_string(data.join("postmaster.pid"))
        .is_ok_and(|text| text.lines().last().is_some_and(|line| line.trim() == "ready"))
}

/// A command as the user that may run PostgreSQL, ended with us by this signal.
fn as_server_user(signal: &str) -> Command {
    let mut command = tied_to_us(signal);
    if geteuid().is_root() {
        command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--init-groups"]);
    }
    command
}

/// The folder of `initdb` and `postgres`, the newest one: as the environment says, as Debian lays them out, or
/// in `PATH`.
pub(crate) fn find_binaries() -> Result<PathBuf> {
    if let Some(folder) = variable(BINARIES) {
        return Ok(folder.into());
    }
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path =
        find_program("postgres").and_then(|program| Some(program.canonicalize().ok()?.parent()?.to_owned()));
    let (version, folder) = debian
        .map(|entry| entry.path().join("bin"))
        .chain(path)
        .filter(|folder| folder.join("initdb").exists())
        .filter_map(|folder| Some((major(&version_of(&folder)?)?, folder)))
        .max()
        .context("no PostgreSQL server found")?;
    ensure!(version >= MIN_VERSION, "PostgreSQL {version} is too old, {MIN_VERSION} is needed");
    Ok(folder)
}

/// As in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn version_of(binaries: &Path) -> Option<String> {
    let output = Command::new(binaries.join("postgres")).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).split_whitespace().nth(2)?.to_owned())
}

/// The major number, also of `18beta1`.
fn major(version: &str) -> Option<u32> {
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn major_versions() {
        for (version, expect) in
            [("15.18", Some(15)), ("18beta1", Some(18)), ("17", Some(17)), ("devel", None)]
        {
            assert_eq!(super::major(version), expect, "{version}");
        }
    }
}
