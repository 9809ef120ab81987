//! The services that tests run against: real ones, each in a folder of its own that goes with it.
//!
//! A service that the environment names already is used instead, and left running.

mod daemon;
mod docker;
mod engine_api;
mod image;
mod kernels;
mod machines;
mod nats;
mod podman;
pub(crate) mod postgres;
mod s3;
mod wheel;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::environment::variable;
use crate::install::{self, Privilege};
use crate::services::daemon::Daemon;
use crate::shell::{Shell, step_done};
use crate::workspace::Workspace;

/// How often a running service is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a service may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Variables and their values, for tests.
pub(crate) type Exports = Vec<(&'static str, String)>;

/// One kind of service: a row here, and a module for it, are all that a further one needs.
struct Service {
    name: &'static str,
    /// Variable that, when set, names an existing service.
    variable: &'static str,
    start: fn(&Context) -> Result<Running>,
}

const SERVICES: &[Service] = &[
    Service { name: "NATS", variable: nats::URL, start: nats::start },
    Service { name: "PostgreSQL", variable: postgres::URL, start: postgres::start },
    Service { name: "virtual machines", variable: machines::KERNEL, start: machines::start },
    Service { name: "kernel packages", variable: kernels::PACKAGES, start: kernels::start },
    Service { name: "Docker engine", variable: docker::SOCKET, start: docker::start },
    Service { name: "S3", variable: s3::URL, start: s3::start },
    Service { name: "Podman", variable: podman::SOCKET, start: podman::start },
];

/// What a service gets to start with.
struct Context {
    shell: Shell,
    /// Cache that outlives this run.
    cache: PathBuf,
    /// An existing folder of the service's own; removed afterwards.
    folder: PathBuf,
    /// The value of its variable: use that service and only prepare it.
    existing: Option<String>,
}

/// A service that answers. Dropping it stops the daemon, then cleans up: the order of the fields.
struct Running {
    /// What it is and where, for the report.
    description: String,
    exports: Exports,
    /// None for a service that is not ours.
    daemon: Option<Daemon>,
    _cleanup: Cleanup,
}

/// What is left to do after a service has stopped.
#[derive(Default)]
struct Cleanup(Option<Box<dyn FnOnce()>>);

impl Cleanup {
    fn new(action: impl FnOnce() + 'static) -> Self {
        Self(Some(Box::new(action)))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some(action) = self.0.take() {
            action();
        }
    }
}

/// All services, running. Dropping it stops them and removes their data.
pub(crate) struct Services {
    exports: Exports,
    threads: Vec<ServiceThread>,
    folder: Folder,
}

struct ServiceThread {
    thread: Option<JoinHandle<()>>,
    /// Dropped to stop the service.
    stop: Option<Sender<()>>,
}

impl Drop for Services {
    fn drop(&mut self) {
        let started = Instant::now();
        // All at once, then wait: they stop in parallel.
        self.threads.iter_mut().for_each(|service| service.stop = None);
        for service in &mut self.threads {
            if service.thread.take().is_some_and(|thread| thread.join().is_err()) {
                eprintln!("warning: a service's thread panicked");
            }
        }
        if !self.threads.is_empty() {
            step_done(started, "services stopped");
        }
    }
}

impl Services {
    /// Installs what is missing and starts all services side by side. What started is stopped if one fails.
    pub(crate) fn start(shell: &Shell, workspace: &Workspace) -> Result<Self> {
        let folder = Folder::create()?;
        install::missing_programs(shell, &folder.0)?;
        let cache = workspace.target.join("xtask");
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let mut services = Self { exports: Vec::new(), threads: Vec::new(), folder };
        let (report, reports) = mpsc::channel();
        for (index, service) in SERVICES.iter().enumerate() {
            let context = Context {
                shell: shell.clone(),
                cache: cache.clone(),
                folder: services.folder.subfolder(service.variable)?,
                existing: variable(service.variable),
            };
            let (stop, stopped) = mpsc::channel::<()>();
            let report = report.clone();
            // A thread that lives as long as the service: the kernel ends a daemon with the thread it is a
            // child of (parent-death signal), so nothing stays behind even if we are killed.
            let thread = thread::spawn(move || {
                let started = Instant::now();
                let result = (service.start)(&context);
                let mut running = match result {
                    Ok(running) => running,
                    Err(error) => {
                        // The receiver may have given up already; so have we.
                        let _ = report.send((index, Err(error)));
                        return;
                    }
                };
                step_done(started, &running.description);
                let _ = report.send((index, Ok(std::mem::take(&mut running.exports))));
                // The receiver waits until all senders are gone, however the threads end.
                drop(report);
                while stopped.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    if let Some(end) = running.daemon.as_mut().and_then(Daemon::ended) {
                        eprintln!("error: {} ended by itself: {end}", service.name);
                        break;
                    }
                }
            });
            services.threads.push(ServiceThread { thread: Some(thread), stop: Some(stop) });
        }
        drop(report);
        let mut outcomes: Vec<_> = reports.iter().collect();
        outcomes.sort_by_key(|&(index, _)| index);
        if outcomes.len() < SERVICES.len() {
            bail!("the thread of a service panicked");
        }
        shell.check()?;
        let mut failures = Vec::new();
        for (index, outcome) in outcomes {
            match outcome {
                Ok(exports) => services.exports.extend(exports),
                Err(error) => failures.push(format!("cannot have {}: {error:#}", SERVICES[index].name)),
            }
        }
        if !failures.is_empty() {
            bail!("{}", failures.join("\n"));
        }
        Ok(services)
    }

    /// What tests find the services by.
    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }
}

/// `cargo xtask services`.
pub(crate) fn serve(shell: &Shell, workspace: &Workspace, env_file: Option<&Path>) -> Result<bool> {
    let services = Services::start(shell, workspace)?;
    let lines: String = services.exports().iter().map(|(name, value)| export_line(name, value)).collect();
    print!("{lines}");
    if let Some(file) = env_file {
        write_atomically(file, &lines)?;
    }
    eprintln!("           Ctrl-C stops them");
    let signal = shell.wait_for_signal();
    if let Some(file) = env_file {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    drop(services);
    eprintln!("           stopped by {signal}");
    Ok(true)
}

/// One line for `source` in a shell.
fn export_line(name: &str, value: &str) -> String {
    format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
}

fn write_atomically(file: &Path, text: &str) -> Result<()> {
    let mut name = file.file_name().context("the name of a file is expected")?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = file.with_file_name(name);
    fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))
}

/// The folder of one run, removed with all that is in it when dropped.
struct Folder(PathBuf);

impl Folder {
    /// In `/tmp`, whatever `TMPDIR` says: PostgreSQL's user must get in, and socket paths must be short.
    fn create() -> Result<Self> {
        let stem = format!("/tmp/taskbot-test-{}", std::process::id());
        for number in 1.. {
            let path = PathBuf::from(format!("{stem}-{number}"));
            match fs::create_dir(&path) {
                // Left by a run that was killed, or held by another of this process.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => {
                    created.with_context(|| format!("cannot create {}", path.display()))?;
                    let folder = Self(path);
                    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755))?;
                    return Ok(folder);
                }
            }
        }
        bail!("cannot create a folder {stem}-*")
    }

    fn subfolder(&self, variable: &str) -> Result<PathBuf> {
        let name = variable.trim_start_matches("TASKBOT_TEST_").split('_').next().unwrap_or(variable);
        let path = self.0.join(name.to_lowercase());
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.0).is_ok() {
            return;
        }
        // Data of a service that runs as another user.
        let removed = Privilege::find().and_then(|privilege| {
            Ok(privilege.command("rm").arg("-rf").arg(&self.0).stdin(std::process::Stdio::null()).status()?)
        });
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("warning: cannot remove {}", self.0.display());
        }
    }
}

/// A command that the kernel ends with the thread that started it.
fn tied_to_us(signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_lines_survive_a_shell() {
        let value = "a'b $HOME \"c\"";
        let script = format!("{}printf %s \"$X\"", export_line("X", value));
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), value);
    }

    #[test]
    fn files_are_replaced_whole() {
        let folder = std::env::temp_dir().join(format!("xtask-atomic-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("services.env");
        write_atomically(&file, "old").unwrap();
        write_atomically(&file, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
