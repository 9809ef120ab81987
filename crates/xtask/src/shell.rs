//! Running programs so that a signal to us ends them first, and nothing of them is left behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// How often a running program is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a program may take to end after our signal, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How many lines of a log are shown when a program failed.
const LOG_TAIL_LINES: usize = 20;
/// Marks, in their environment, all processes that descend from our tests.
const RUN_VARIABLE: &str = "TASKBOT_TEST_RUN";

/// We were asked to stop; everything is undone on the way out.
#[derive(Debug)]
pub(crate) struct Interrupted(Signal);

impl Interrupted {
    /// The exit code that shells use for "ended by a signal".
    pub(crate) fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.0 as i32).unwrap_or(u8::MAX)
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped by {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Runs programs, and knows whether we were told to stop.
#[derive(Clone)]
pub(crate) struct Shell {
    /// The number of the last signal received; 0 is none.
    signal: Arc<AtomicUsize>,
    /// The value of [`RUN_VARIABLE`] for what we run.
    run: String,
}

impl Shell {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    pub(crate) fn new() -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signal_hook::flag::register_usize(number as i32, signal.clone(), number as usize)
                .with_context(|| format!("cannot handle {number}"))?;
        }
        Ok(Self { signal, run: format!("xtask-{}", std::process::id()) })
    }

    fn received(&self) -> Option<Signal> {
        let number = i32::try_from(self.signal.load(Ordering::Relaxed)).ok()?;
        Signal::try_from(number).ok()
    }

    /// An error once we were told to stop.
    pub(crate) fn check(&self) -> Result<()> {
        match self.received() {
            Some(signal) => bail!(Interrupted(signal)),
            None => Ok(()),
        }
    }

    /// Waits until `ready` holds or the time is up; an error when told to stop.
    pub(crate) fn wait_until(
        &self,
        timeout: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        let started = Instant::now();
        loop {
            self.check()?;
            if ready()? {
                return Ok(true);
            }
            if started.elapsed() > timeout {
                return Ok(false);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sleeps until we are told to stop.
    pub(crate) fn wait_for_signal(&self) -> Signal {
        loop {
            if let Some(signal) = self.received() {
                return signal;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs a program with its output going through; a signal to us is passed on to it and its children.
    pub(crate) fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        let child = self.spawn(command)?;
        self.wait(child)
    }

    /// Starts a program in a process group of its own, so that only we decide which signals reach it.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.check()?;
        let program = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .process_group(0)
            .env(RUN_VARIABLE, &self.run)
            .spawn()
            .with_context(|| format!("cannot run `{program}`"))
    }

    /// Waits for what [`Shell::spawn`] started.
    pub(crate) fn wait(&self, mut child: Child) -> Result<ExitStatus> {
        let group = Pid::from_raw(i32::try_from(child.id())?);
        let mut asked_at: Option<Instant> = None;
        loop {
            if let Some(status) = child.try_wait()? {
                self.check()?;
                return Ok(status);
            }
            match (self.received(), asked_at) {
                (Some(signal), None) => {
                    // The group may be gone already: then the next round sees the exit.
                    let _ = signal::killpg(group, signal);
                    asked_at = Some(Instant::now());
                }
                (_, Some(at)) if at.elapsed() > STOP_TIMEOUT => {
                    let _ = signal::killpg(group, Signal::SIGKILL);
                }
                _ => {}
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs a program that says nothing unless it fails; the end of its output is then in the error.
    pub(crate) fn run_quietly(&self, command: &mut Command, log: &Path) -> Result<()> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(output.try_clone()?).stderr(output);
        let status = self.run(command)?;
        if !status.success() {
            bail!("`{}` ended with {status}:\n{}", describe(command), log_tail(log));
        }
        Ok(())
    }

    /// Kills what our programs left running and reports it as an error of `whose`; whether there was nothing.
    pub(crate) fn nothing_left(&self, whose: &str) -> bool {
        let leftovers = self.kill_leftovers();
        for process in &leftovers {
            eprintln!("error: left running by the {whose}, now killed: process {process}");
        }
        leftovers.is_empty()
    }

    /// The processes that were killed, with their command lines.
    fn kill_leftovers(&self) -> Vec<String> {
        let marker = format!("{RUN_VARIABLE}={}", self.run);
        let mut killed = BTreeSet::new();
        let mut found = Vec::new();
        let started = Instant::now();
        // Until none is left: a process may fork between being listed and being killed, and takes time to die.
        loop {
            let alive: Vec<i32> = processes_with(&marker).collect();
            if alive.is_empty() || started.elapsed() > STOP_TIMEOUT {
                return found;
            }
            for pid in alive {
                if killed.insert(pid) {
                    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    let words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
                    found.push(format!("{pid}: {}", words.collect::<Vec<_>>().join(" ").trim()));
                    // It may have ended meanwhile, which is as well.
                    let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Live processes that have this `NAME=value` in their environment.
fn processes_with(variable: &str) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).filter(move |pid| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes())
        })
    })
}

/// The command line of a command, for messages.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last lines of a log, for error messages.
pub(crate) fn log_tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Reports a finished step with its time on standard error.
pub(crate) fn step_done(started: Instant, what: impl std::fmt::Display) {
    eprintln!("{:7.1} s  {what}", started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Shell {
        // Without handlers: the test runner keeps its own. Each test may be a process or a thread.
        Shell {
            signal: Arc::new(AtomicUsize::new(0)),
            run: format!("unit-{}-{:?}", std::process::id(), thread::current().id()),
        }
    }

    #[test]
    fn a_signal_ends_the_program_and_is_the_error() {
        let shell = shell();
        let child = shell.spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        shell.signal.store(Signal::SIGTERM as usize, Ordering::Relaxed);
        let error = shell.wait(child).unwrap_err();
        assert_eq!(error.downcast_ref::<Interrupted>().unwrap().exit_code(), 143);
        assert!(signal::kill(pid, None).is_err(), "{pid} still runs");
        assert!(shell.spawn(&mut Command::new("true")).is_err(), "nothing is started after a signal");
    }

    #[test]
    fn leftovers_are_found_in_other_sessions_and_killed() {
        let shell = shell();
        let status =
            shell.run(Command::new("sh").args(["-c", "setsid sleep 601 >/dev/null 2>&1 &"])).unwrap();
        assert!(status.success());
        let marker = format!("{RUN_VARIABLE}={}", shell.run);
        // The marker is there from the fork on; the command line only after the exec.
        let execed = || {
            processes_with(&marker).any(|pid| {
                fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x00601\x00")
            })
        };
        assert!(shell.wait_until(STOP_TIMEOUT, || Ok(execed())).unwrap());
        let found = shell.kill_leftovers();
        assert!(found.len() == 1 && found[0].ends_with(": sleep 601"), "{found:?}");
        assert_eq!(shell.kill_leftovers(), Vec::<String>::new());
    }

    #[test]
    fn a_failed_program_shows_the_end_of_its_output() {
        let log = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        let script = "for i in $(seq 50); do echo line $i; done; exit 3";
        let error =
            shell().run_quietly(Command::new("sh").args(["-c", script]), &log).unwrap_err().to_string();
        fs::remove_file(&log).unwrap();
        assert!(error.contains("exit status: 3") && error.ends_with("line 49\nline 50"), "{error}");
        assert!(!error.contains("line 30\n"), "{error}");
    }
}
