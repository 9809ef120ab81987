//! An environment that a program made, used through its session.

use super::{
    super::{
        CollectLimits, Collected, ExecError, ExecRequest, Exit, LogSink, OUTPUT_DIR, Prepared, Profile,
        Provisioned,
        archive::{self, SLACK_BYTES},
        cgroup::Cgroup,
        collect::Collector,
        host::{self, Place, infra, start_folder},
        supervise::{Ended, WRAPPER, Watched, check_env, supervise, variables},
    },
    protocol::{Capabilities, CommandEnd, Fate, Held, Made, Request, Said, parse},
    scaled,
    session::{CallError, GIVE_UP_LIMIT, Session},
};
use crate::files;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use model::{attempt::EnvironmentReport, requirements::ExecutorKind};
use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a program may take to move files, before the worker's factor.
pub(super) const COPY_LIMIT: Duration = Duration::from_secs(240);
/// How long a reboot may take, before the worker's factor.
pub(super) const REBOOT_LIMIT: Duration = Duration::from_secs(600);
/// How long a program may take to let a person in, before the worker's factor.
pub(super) const HOLD_LIMIT: Duration = Duration::from_secs(120);
/// How long a program may take to remove its environment, before the worker's factor.
pub(super) const DESTROY_LIMIT: Duration = Duration::from_secs(240);
/// How long a program may take to end a command, before it is killed.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(8);
/// How many pieces of output wait for the log.
const OUTPUT_WAITING: usize = 16;

/// See the module.
pub(super) struct External {
    pub(super) place: Place,
    pub(super) session: Arc<Session>,
    pub(super) made: Made,
    pub(super) found: Capabilities,
    /// Whether it is rebooted after `prepare`.
    pub(super) reboot: bool,
    pub(super) time_factor: f64,
    /// The attempt's own, for what is not told when to stop.
    pub(super) stop: CancellationToken,
}

/// A command that runs in it.
struct Running<'a> {
    session: &'a Arc<Session>,
    id: u64,
    /// Cancelled when the command has ended.
    over: &'a CancellationToken,
    place: &'a Place,
}

impl Watched for Running<'_> {
    /// What lies in the attempt's folder: where the program puts its environments is its own affair.
    async fn disk_bytes(&self) -> Option<u64> {
        let (root, enough) = (self.place.root.clone(), self.place.sizes.disk_bytes);
        tokio::task::spawn_blocking(move || files::usage(&root, enough)).await.ok()
    }

    async fn kill(&self) {
        self.session.stop(self.id, STOP_LIMIT, self.over.clone()).await;
    }

    async fn tidy(&self) {}
}

impl External {
    fn limit(&self, limit: Duration) -> Duration {
        scaled(limit, self.time_factor)
    }

    fn oom_kills(&self) -> u64 {
        self.place.cgroup.as_ref().map_or(0, Cgroup::oom_kills)
    }

    /// The command line that a program runs as it is.
    fn argv(&self, request: &ExecRequest<'_>) -> Vec<String> {
        let work = &self.made.work_dir;
        let mark = format!("{work}/{}/started", super::super::OWN_DIR);
        let mut argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), WRAPPER.to_owned(), mark];
        argv.push(start_folder(work, request.dir));
        argv.extend_from_slice(request.lines);
        argv
    }

    fn env(&self, request: &ExecRequest<'_>) -> BTreeMap<String, String> {
        let ours = variables(request, &self.made.work_dir, &self.made.home);
        ours.into_iter().chain([("PATH".to_owned(), host::PATH.to_owned())]).collect()
    }

    /// Hears a command out. Its output goes to `output`, until it ends.
    async fn hear(&self, id: u64, output: mpsc::Sender<Bytes>) -> Result<Exit, ExecError> {
        loop {
            let said = match self.session.hear(id, "exec").await {
                Ok(said) => said,
                // We killed it, since it did not stop: that the command is gone with it is what was wanted.
                Err(_) if self.session.take_stopping() => return Ok(Exit::Gone),
                Err(error) => return Err(error.into()),
            };
            let bytes = match said {
                Said::Output(bytes) => Bytes::from(bytes),
                Said::Log(text) => Bytes::from(format!("{text}\n")),
                Said::Error(refusal) => return Err(CallError::Refused(refusal).into()),
                Said::Ok(answer) => {
                    let end = parse::<CommandEnd>(answer.clone());
                    let end = end.map_err(|why| self.session.bad_answer("exec", &why, &answer))?;
                    return Ok(match end {
                        CommandEnd::Code(code) => Exit::from_shell(code.into()),
                        CommandEnd::Signal(signal) => Exit::Signal(signal.into()),
                        CommandEnd::Ended(Fate::Oom) => Exit::Oom,
                        CommandEnd::Ended(Fate::Disk) => Exit::OutOfDisk,
                        CommandEnd::Ended(Fate::Gone) => Exit::Gone,
                    });
                }
            };
            // Nobody listens any more when the command was given up: its end is still waited for.
            _ = output.send(bytes).await;
        }
    }

    /// Asks for files and takes them apart.
    async fn take(&self, paths: &[&str], collector: Collector) -> Result<Collected, ExecError> {
        let file = super::archive(&self.place, "out.tar");
        let bytes_max = self.place.sizes.disk_bytes.saturating_add(SLACK_BYTES);
        let request = Request::CopyOut { archive: &file, paths, bytes_max };
        let limit = self.limit(COPY_LIMIT);
        // Also after a stop: what was left says why.
        self.session.call(&request, limit, &super::Nowhere, &CancellationToken::new()).await?;
        let path = file.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let found = fs::symlink_metadata(&path).map_err(|error| not_there(&path, &error))?;
            if !found.is_file() || found.len() > bytes_max {
                let why = format!("it is no file, or larger than {bytes_max} bytes");
                return Err(ExecError::Infra(format!("the program's archive {}: {why}", path.display())));
            }
            let opened = fs::File::open(&path).map_err(|error| not_there(&path, &error))?;
            let place = |path: &Path| path.strip_prefix(".").unwrap_or(path).to_owned();
            archive::take(io::BufReader::new(opened), place, |_| false, collector, bytes_max)
        });
        let taken = taken.await.map_err(infra)??;
        fs::remove_file(&file).map_err(infra)?;
        Ok(taken)
    }
}

fn not_there(path: &Path, error: &io::Error) -> ExecError {
    ExecError::Infra(format!("the program's archive {}: {error}", path.display()))
}

const fn word(profile: Profile) -> &'static str {
    match profile {
        Profile::Install => "install",
        Profile::Run => "run",
        Profile::Cleanup => "cleanup",
    }
}

#[async_trait]
impl Provisioned for External {
    fn report(&self) -> EnvironmentReport {
        let mut notes = self.place.notes.clone();
        notes.extend(self.made.notes.iter().cloned());
        EnvironmentReport {
            executor: ExecutorKind::External,
            image: self.made.image.clone(),
            image_digest: self.made.image_digest.clone(),
            engine: Some(format!("{} {}", self.found.name, self.found.version)),
            arch: self.made.arch.clone().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            prepared_from_cache: false,
            notes,
        }
    }

    fn work_dir(&self) -> String {
        self.made.work_dir.clone()
    }

    async fn copy_in(&mut self, from: &Path) -> Result<(), ExecError> {
        let file = super::archive(&self.place, "in.tar");
        let (from, to) = (from.to_owned(), file.clone());
        let packed = tokio::task::spawn_blocking(move || {
            let writer = io::BufWriter::new(fs::File::create(&to)?);
            archive::pack(Some(&from), Path::new("."), 0, true, writer).map(drop)
        });
        packed.await.map_err(infra)?.map_err(infra)?;
        let request = Request::CopyIn { archive: &file };
        let limit = self.limit(COPY_LIMIT);
        self.session.call(&request, limit, &super::Nowhere, &self.stop).await?;
        fs::remove_file(&file).map_err(infra)
    }

    async fn prepare(
        &mut self,
        request: &ExecRequest<'_>,
        _cache_key: Option<&str>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Prepared, ExecError> {
        let exit = self.exec(request, log, stop).await?;
        if exit == Exit::Code(0) && self.reboot {
            let limit = self.limit(REBOOT_LIMIT);
            let request = Request::Reboot { limit_s: limit.as_secs() };
            self.session.call(&request, limit, log, stop).await?;
            log.write(b"rebooted\n");
        }
        Ok(Prepared { exit, from_cache: false })
    }

    async fn exec(
        &mut self,
        request: &ExecRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Exit, ExecError> {
        check_env(request)?;
        if request.lines.is_empty() {
            return Ok(Exit::Code(0));
        }
        let (argv, env) = (self.argv(request), self.env(request));
        let oom_kills = self.oom_kills();
        let (profile, limit_s) = (word(request.profile), request.limit.as_secs());
        let id = self.session.send(&Request::Exec { profile, argv: &argv, env: &env, limit_s }).await?;
        let (send, receive) = mpsc::channel(OUTPUT_WAITING);
        let output = Box::pin(stream::unfold(receive, |mut receive| async {
            let bytes: Bytes = receive.recv().await?;
            Some((Ok(bytes), receive))
        }));
        let over = CancellationToken::new();
        let running = Running { session: &self.session, id, over: &over, place: &self.place };
        let end = async {
            let ended = self.hear(id, send).await;
            over.cancel();
            ended
        };
        let ended = supervise(request, self.place.sizes.disk_bytes, output, end, &running, log, stop).await?;
        self.session.take_stopping();
        Ok(match ended {
            Ended::ByUs(exit) => exit,
            Ended::Itself(exit @ Exit::Code(0)) => exit,
            // Where the program's commands run on this host, our own group knows.
            Ended::Itself(_) if self.oom_kills() > oom_kills => Exit::Oom,
            Ended::Itself(exit) => exit,
        })
    }

    async fn copy_out(
        &mut self,
        globs: &[String],
        limits: CollectLimits,
        to: &Path,
    ) -> Result<Collected, ExecError> {
        let collector = Collector::new(globs, limits, to)?;
        let paths: &[&str] = if globs.is_empty() { &[OUTPUT_DIR] } else { &["."] };
        self.take(paths, collector).await
    }

    async fn keep(&mut self) -> Result<Vec<String>, ExecError> {
        if !self.found.hold {
            let program = &self.found.name;
            return Err(ExecError::BadTask(format!("the program `{program}` does not offer `hold`")));
        }
        let limit = self.limit(HOLD_LIMIT);
        let request = Request::Hold { limit_s: limit.as_secs() };
        let never = CancellationToken::new();
        let answer = self.session.call(&request, limit, &super::Nowhere, &never).await?;
        Held::enter(answer.clone()).map_err(|why| self.session.bad_answer("hold", &why, &answer).into())
    }

    async fn destroy(self: Box<Self>) -> Result<(), ExecError> {
        let limit = self.limit(DESTROY_LIMIT);
        let asked =
            self.session.call(&Request::Destroy, limit, &super::Nowhere, &CancellationToken::new()).await;
        self.session.close(GIVE_UP_LIMIT).await;
        let place = self.place;
        tokio::task::spawn_blocking(move || place.remove()).await.map_err(infra)?.map_err(infra)?;
        asked.map(drop).map_err(ExecError::from)
    }
}
