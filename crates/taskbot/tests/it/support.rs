//! Running the binary.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
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
    said: Option<thread::JoinHandle<String>>,
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
        Self::start_on(folder, "127.0.0.1:0", arguments)
    }

    /// Starts `up` in a folder that has rules, on this address.
    pub(crate) fn start_on(folder: TempDir, listen: &str, arguments: &[&str]) -> Self {
        Self::start_configured(folder, "", listen, arguments)
    }

    /// The same, with more in its configuration; what is indented is below `worker`.
    pub(crate) fn start_configured(folder: TempDir, more: &str, listen: &str, arguments: &[&str]) -> Self {
        let config = folder.path().join("taskbot.yaml");
        let text =
            "rules: {folder: rules}\nworker:\n  executors: {container: false, local_untrusted: true}\n";
        fs::write(&config, format!("{text}{more}")).unwrap();
        let mut command = taskbot();
        command.arg("--config").arg(config).arg("up").arg("--data-dir").arg(folder.path().join("data"));
        command.args(["--listen", listen]).args(arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = drain(child.stderr.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| _ = sender.send(line)));
        let line = receiver.recv_timeout(LIMIT).expect("the server says where it listens");
        let url = line.strip_prefix("listening on ").expect("the first line is the address").to_owned();
        Self { url, folder, child: Some(child), said: Some(said) }
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

    /// Ends it as by `kill -9`; gives its folder and where it listened.
    pub(crate) fn kill(mut self) -> (TempDir, String) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let listened = self.url.trim_start_matches("http://").to_owned();
        (std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()), listened)
    }

    /// Stops it; gives its log.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        self.wait();
        self.said.take().unwrap().join().unwrap()
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

/// A command that runs beside the test; what it prints is kept.
pub(crate) struct Beside {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Beside {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, into) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&said));
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, said, reader: Some(reader) }
    }

    /// What it printed so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it prints a text.
    pub(crate) fn says(&self, text: &str) {
        let found = until(|| self.said().contains(text).then_some(()));
        assert!(found.is_some(), "`{text}` is not in:\n{}", self.said());
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end; gives its exit code and all that it printed.
    pub(crate) fn ended(mut self) -> (i32, String) {
        let status = wait(&mut self.child).unwrap_or_else(|| panic!("it does not end:\n{}", self.said()));
        self.reader.take().unwrap().join().unwrap();
        (status.code().unwrap_or(-1), self.said())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
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

fn drain(mut from: ChildStderr) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut said = String::new();
        _ = from.read_to_string(&mut said);
        if !said.is_empty() {
            eprintln!("{said}");
        }
        said
    })
}
