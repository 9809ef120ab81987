//! The program's processes.

use super::wait::until;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

/// How much of a log is shown when a drill fails, in bytes.
const LOG_TAIL_BYTES: usize = 6_000;

/// The built program, without anything of our environment that it would read.
pub(crate) fn taskbot() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbot"));
    for name in
        ["SERVER", "TOKEN_FILE", "TOKEN", "CONFIG", "LOG", "LISTEN", "DATA_DIR", "DATABASE", "RULES", "NATS"]
    {
        command.env_remove(format!("TASKBOT_{name}"));
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command of the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    taskbot().args(arguments).output().unwrap()
}

/// A process that goes on until it is stopped. Its log is kept over restarts.
pub(crate) struct Program {
    pub(crate) name: String,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// Nothing runs yet. `folder` takes its log.
    pub(crate) fn new(name: &str, folder: &Path, arguments: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = taskbot();
        command.args(&self.arguments).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// As by `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.as_ref().expect("it runs").id()).unwrap())
    }

    /// Waits for its end after a signal.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let name = self.name.clone();
        until(&format!("{name} ends"), async || child.try_wait().unwrap()).await
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Its memory in use now, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says VmRSS");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(LOG_TAIL_BYTES);
            let from = (from..log.len()).find(|&at| log.is_char_boundary(at)).unwrap_or(log.len());
            println!("---- end of the log of {} ----\n{}", self.name, &log[from..]);
        }
        self.kill();
    }
}
