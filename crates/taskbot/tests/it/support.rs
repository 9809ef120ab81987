//! Running the binary.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A command of the binary, without what this machine's user has set.
pub(crate) fn taskbot() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbot"));
    let variables =
        ["CONFIG", "SERVER", "TOKEN", "TOKEN_FILE", "LISTEN", "DATA_DIR", "DATABASE", "RULES", "NATS", "LOG"];
    for name in variables {
        command.env_remove(format!("TASKBOT_{name}"));
    }
    command.env("NO_COLOR", "1");
    command
}

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Given {
    /// Asserts the exit code and that both outputs together hold each text.
    pub(crate) fn expect(self, code: i32, texts: &[&str]) -> Self {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{all}");
        for text in texts {
            assert!(all.contains(text), "`{text}` is not in:\n{all}");
        }
        self
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Given {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input closes it.
    _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Given {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A server with a worker, and its folder.
pub(crate) struct Up {
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    child: Option<Child>,
    /// Keeps what the server says from blocking it.
    _said: thread::JoinHandle<()>,
}

impl Up {
    /// Starts `up` in a fresh folder, with these rules and these further arguments.
    pub(crate) fn start(rules: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("rules");
        fs::create_dir_all(&at).unwrap();
        for (name, text) in rules {
            fs::write(at.join(name), text).unwrap();
        }
        Self::start_in(folder, arguments)
    }

    /// Starts `up` in a folder that has rules.
    pub(crate) fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let config = folder.path().join("taskbot.yaml");
        fs::write(
            &config,
            "rules: {folder: rules}\nworker: {executors: {container: false, local_untrusted: true}}\n",
        )
        .unwrap();
        let mut command = taskbot();
        command.arg("--config").arg(config).arg("up").arg("--data-dir").arg(folder.path().join("data"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = drain(child.stderr.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| _ = sender.send(line)));
        let line = receiver.recv_timeout(LIMIT).expect("the server says where it listens");
        let url = line.strip_prefix("listening on ").expect("the first line is the address").to_owned();
        Self { url, folder, child: Some(child), _said: said }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Given {
        self.run_with(arguments, "")
    }

    /// Runs a command against it with this input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Given {
        run(taskbot().env("TASKBOT_SERVER", &self.url).args(arguments), input)
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let end = wait(&mut child);
        end.unwrap_or_else(|| {
            child.kill().unwrap();
            panic!("the server did not end within {LIMIT:?}");
        })
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    until(|| child.try_wait().unwrap())
}

/// Waits until a condition gives something.
pub(crate) fn until<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if let Some(found) = condition() {
            return Some(found);
        }
        thread::park_timeout(Duration::from_millis(20));
    }
    None
}

fn drain(mut from: ChildStderr) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut said = String::new();
        _ = from.read_to_string(&mut said);
        if !said.is_empty() {
            eprintln!("{said}");
        }
    })
}
