//! A program that runs until it is dropped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::shell::log_tail;

/// How long a daemon may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a daemon that is being stopped is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How a daemon is told to end.
pub(super) enum Stop {
    Signal(Signal),
    /// For what runs as another user, and so cannot be signalled by us.
    Command(Box<dyn Fn(u32) -> Command>),
}

/// A running program with a log; dropping it ends it and waits until it is gone.
pub(super) struct Daemon {
    child: Child,
    stop: Stop,
    pub(super) log: PathBuf,
}

impl Daemon {
    /// Starts it out of reach of the terminal's Ctrl-C, which is for us to act upon.
    pub(super) fn spawn(command: &mut Command, log: &Path, stop: Stop) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run `{}`", command.get_program().to_string_lossy()))?;
        Ok(Self { child, stop, log: log.to_owned() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, with the end of its log, if it did.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{status}\n{}", log_tail(&self.log)))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        match &self.stop {
            Stop::Signal(number) => {
                if let Ok(pid) = i32::try_from(self.child.id()) {
                    let _ = signal::kill(Pid::from_raw(pid), *number);
                }
            }
            Stop::Command(command) => {
                if let Err(error) = command(self.child.id()).status() {
                    eprintln!("warning: cannot stop process {}: {error}", self.child.id());
                }
            }
        }
        let asked_at = Instant::now();
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            if asked_at.elapsed() > STOP_TIMEOUT {
                eprintln!("warning: process {} does not stop and is killed", self.child.id());
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}
