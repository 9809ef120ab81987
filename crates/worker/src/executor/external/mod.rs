//! Environments that a configured program provides: a cloud, a lab, a chroot.
//!
//! For each attempt the program is started with a folder of its own as its working folder. It reads requests from
//! its standard input and says what came of them on its standard output, one JSON object a line, as
//! `docs/external-executors.md` describes. The end of its input means that it must remove its environment and end;
//! what is left of it after that is killed.

pub mod conformance;

mod environment;
mod protocol;
mod session;

use super::{
    AttemptLabel, Environment, Executor, LogSink, Probe, ProvisionError, ProvisionRequest, Provisioned,
    Swept,
    host::{self, HostConfig, Place},
};
use async_trait::async_trait;
use environment::External as Made;
use model::{Clock, WorkerName, requirements::ExecutorKind, task::Trust, task_file::ExternalWish};
use protocol::{Capabilities, Request};
use serde_json::{Map, Value};
use session::{CallError, Session};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// How long a program may take to say what it can, before the worker's factor.
pub(super) const CAPABILITIES_LIMIT: Duration = Duration::from_secs(30);
/// How long a program may take to remove what dead attempts left, before the worker's factor.
pub(super) const SWEEP_LIMIT: Duration = Duration::from_secs(120);
/// How long the program of a dead worker may take to remove its environment before it is killed.
pub(super) const ORPHAN_LIMIT: Duration = Duration::from_secs(20);
/// How often an orphan is looked for.
const ORPHAN_INTERVAL: Duration = Duration::from_millis(50);

/// How the executor `external` is set up.
#[derive(Debug, Clone)]
pub struct ExternalConfig {
    /// What it shares with `local` and `sandbox`; the folder is for programs alone.
    pub host: HostConfig,
    /// The programs by the names that tasks call them.
    pub programs: BTreeMap<String, Program>,
    /// What the limits of our own requests are multiplied by.
    pub time_factor: f64,
}

/// A program that provides environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program (an absolute path, or a name on the usual path) and its arguments.
    pub command: Vec<String>,
    /// Its environment variables, besides `PATH` and `HOME`.
    pub env: BTreeMap<String, String>,
    /// Whether tasks that are not trusted may use it: only where what it provides isolates.
    pub untrusted: bool,
}

/// The executor `external`.
#[derive(Debug)]
pub struct External {
    config: ExternalConfig,
    clock: Arc<dyn Clock>,
    /// What the programs said when they were probed last; those that failed are missing.
    working: Mutex<BTreeMap<String, Capabilities>>,
}

impl External {
    /// Sets it up.
    #[must_use]
    pub fn new(config: ExternalConfig, clock: Arc<dyn Clock>) -> Self {
        Self { config, clock, working: Mutex::default() }
    }

    fn limit(&self, limit: Duration) -> Duration {
        scaled(limit, self.config.time_factor)
    }

    /// Starts a program that makes no environment, in a folder that is removed afterwards.
    async fn aside<T>(
        &self,
        name: &str,
        program: &Program,
        work: impl AsyncFnOnce(&Session, Capabilities) -> Result<T, CallError>,
    ) -> Result<T, String> {
        let folder = tempfile::Builder::new().prefix("taskbot-external-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let command =
            command(Command::new(&program.command[0]), &program.command[1..], program, folder.path());
        let mark = folder.path().to_string_lossy().into_owned();
        let session = Session::spawn(name, &mark, command)?;
        let limit = self.limit(CAPABILITIES_LIMIT);
        let done = async {
            let found = capabilities(&session, limit, &CancellationToken::new()).await?;
            work(&session, found).await
        };
        let done = done.await.map_err(|error| super::ExecError::from(error).to_string());
        session.close(session::GIVE_UP_LIMIT).await;
        done
    }

    /// Starts the program for an attempt, and has it make the environment.
    async fn make(
        &self,
        wish: &ExternalWish,
        program: &Program,
        place: Place,
        request: &ProvisionRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Made, ProvisionError> {
        let label = request.label.to_string();
        let mut outer = place.command("prlimit");
        outer.args(place.rlimits()).arg(&program.command[0]);
        // Empty: what is ours there must not be in the way of what the program makes.
        let folder = place.root.join("home");
        let command = command(outer, &program.command[1..], program, &folder);
        let session = match Session::spawn(&wish.provider, &label, command) {
            Ok(session) => Arc::new(session),
            Err(why) => return Err(given_up(place, ProvisionError::Infra(why))),
        };
        let made = async {
            let found = capabilities(&session, self.limit(CAPABILITIES_LIMIT), stop).await?;
            if wish.reboot && !found.reboot {
                let why = format!("the program `{}` cannot reboot what it provides", wish.provider);
                return Err(ProvisionError::Unavailable(why));
            }
            let asked = Request::Provision {
                label: &label,
                worker: request.label.worker.as_str(),
                task: request.label.task.to_string(),
                attempt: request.label.attempt,
                trusted: request.trust == Trust::Trusted,
                with: &wish.with,
                memory_bytes: place.sizes.memory_bytes,
                cpus: place.sizes.cpus,
                disk_bytes: place.sizes.disk_bytes,
                processes: place.sizes.processes,
                limit_s: request.limit.as_secs(),
                deadline: request.deadline,
            };
            let answer = session.call(&asked, request.limit, log, stop).await?;
            let made = protocol::Made::of(answer.clone());
            let made = made.map_err(|why| session.bad_answer(asked.name(), &why, &answer))?;
            Ok((found, made))
        };
        match made.await {
            Ok((found, made)) => Ok(Made {
                place,
                session,
                made,
                found,
                reboot: wish.reboot,
                time_factor: self.config.time_factor,
                stop: stop.clone(),
            }),
            Err(error) => {
                session.close(session::GIVE_UP_LIMIT).await;
                Err(given_up(place, error))
            }
        }
    }
}

/// Removes the folder of an environment that was not made.
fn given_up(place: Place, error: ProvisionError) -> ProvisionError {
    match place.remove() {
        Ok(()) => error,
        Err(left) => ProvisionError::Infra(format!("{error}; the attempt's folder is left: {left}")),
    }
}

/// A program's command, with nothing of the worker's own surroundings.
fn command(mut command: Command, args: &[String], program: &Program, folder: &Path) -> Command {
    command
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("PATH", host::PATH)
        .env("HOME", folder)
        .envs(&program.env);
    command
}

async fn capabilities(
    session: &Session,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<Capabilities, CallError> {
    let request = Request::Capabilities { protocol: protocol::PROTOCOL };
    let answer = session.call(&request, limit, &Nowhere, stop).await?;
    Capabilities::of(answer.clone()).map_err(|why| session.bad_answer(request.name(), &why, &answer))
}

/// A limit by the worker's factor.
fn scaled(limit: Duration, factor: f64) -> Duration {
    if factor.is_finite() { limit.mul_f64(factor.clamp(0.01, 1000.0)) } else { limit }
}

/// For what no attempt's log is there.
struct Nowhere;

impl LogSink for Nowhere {
    fn write(&self, bytes: &[u8]) {
        tracing::debug!(line = %String::from_utf8_lossy(bytes).trim_end(), "a program says");
    }
}

#[async_trait]
impl Executor for External {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::External
    }

    async fn probe(&self) -> Result<Probe, String> {
        if host::program("prlimit").is_none() {
            return Err("`prlimit` is missing; install util-linux".to_owned());
        }
        let mut working = BTreeMap::new();
        let mut notes = Vec::new();
        for (name, program) in &self.config.programs {
            match self.aside(name, program, async |_, found| Ok(found)).await {
                Ok(found) => {
                    notes.push(format!("{name}: {} {}", found.name, found.version));
                    notes.extend(found.notes.iter().map(|note| format!("{name}: {note}")));
                    working.insert(name.clone(), found);
                }
                Err(why) => notes.push(format!("{name} does not work: {why}")),
            }
        }
        let count = working.len();
        *self.working.lock().unwrap_or_else(PoisonError::into_inner) = working;
        match count {
            0 if notes.is_empty() => Err("no program is configured (`worker.external`)".to_owned()),
            0 => Err(notes.join("; ")),
            1 => Ok(Probe { version: "1 program".to_owned(), notes }),
            _ => Ok(Probe { version: format!("{count} programs"), notes }),
        }
    }

    fn providers(&self) -> BTreeSet<String> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    async fn provision(
        &self,
        request: &ProvisionRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Box<dyn Provisioned>, ProvisionError> {
        let Environment::External(wish) = request.environment else {
            return Err(ProvisionError::Unavailable(format!("not a wish for {}", self.kind())));
        };
        let Some(program) = self.config.programs.get(&wish.provider) else {
            let known: Vec<_> = self.config.programs.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let provider = &wish.provider;
            let why = format!("this worker has no program `{provider}`; it has: {known}");
            return Err(ProvisionError::Unavailable(why));
        };
        if request.trust == Trust::Untrusted && !program.untrusted {
            let why = format!("the task is not trusted, and `{}` is for trusted tasks", wish.provider);
            return Err(ProvisionError::Unavailable(why));
        }
        let sizes = self.config.host.sizes.grant(&wish.sizes)?;
        let place = Place::make(&self.config.host, request, sizes, None)?;
        Ok(Box::new(self.make(wish, program, place, request, log, stop).await?))
    }

    async fn sweep(&self, alive: &HashSet<AttemptLabel>) -> Result<Swept, String> {
        let (config, clock, living) = (self.config.host.clone(), Arc::clone(&self.clock), alive.clone());
        let local = tokio::task::spawn_blocking(move || {
            // Programs whose worker died see the end of their input: they clean up better than we can.
            let until = Instant::now() + ORPHAN_LIMIT;
            for (name, _) in host::left_over(&config, &clock, &living)? {
                while host::is_marked(&name) && Instant::now() < until {
                    std::thread::sleep(ORPHAN_INTERVAL);
                }
            }
            host::sweep(&config, &clock, &living)
        });
        let mut swept = local.await.map_err(|error| error.to_string())??;
        let sweeping = self.working.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let labels: Vec<_> = alive.iter().map(ToString::to_string).collect();
        let mut errors = Vec::new();
        for (name, _) in sweeping.iter().filter(|(_, found)| found.sweep) {
            let Some(program) = self.config.programs.get(name) else { continue };
            match self.sweep_one(name, program, &self.config.host.worker, &labels).await {
                Ok(removed) => swept.machines += removed,
                Err(why) => errors.push(why),
            }
        }
        if errors.is_empty() { Ok(swept) } else { Err(errors.join("; ")) }
    }
}

impl External {
    /// Has a program remove the environments of a worker's attempts that are not alive; how many there were.
    async fn sweep_one(
        &self,
        name: &str,
        program: &Program,
        worker: &WorkerName,
        alive: &[String],
    ) -> Result<usize, String> {
        let limit = self.limit(SWEEP_LIMIT);
        self.aside(name, program, async |session, _| {
            let request = Request::Sweep { worker: worker.as_str(), alive };
            let answer = session.call(&request, limit, &Nowhere, &CancellationToken::new()).await?;
            let removed = removed(&answer);
            removed.ok_or_else(|| session.bad_answer("sweep", "`removed` must be a number", &answer))
        })
        .await
    }
}

fn removed(answer: &Map<String, Value>) -> Option<usize> {
    usize::try_from(answer.get("removed")?.as_u64()?).ok()
}

/// The file of an archive in an attempt's folder.
fn archive(place: &Place, name: &str) -> PathBuf {
    place.root.join("state").join(name)
}
