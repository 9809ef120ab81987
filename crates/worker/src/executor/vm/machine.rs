//! One attempt's machine: put together, started when its files are there, and removed.

use super::{
    super::{
        CollectLimits, Collected, ExecError, ExecRequest, Exit, LogSink, OUTPUT_DIR, Prepared, Profile,
        Provisioned, StartError,
        collect::Collector,
        host::{Place, infra},
        supervise::{Ended, Watched, check_env, supervise},
    },
    arch::Arch,
    archive::{pack, pack_small, take},
    arguments::{INPUT_DISK, Kernel, Machine, Network, OUTPUT_DISK},
    boot::{Patience, Running, Setback},
    guest::{self, Ender, Guest, Input, ScriptEnd},
    media,
    process::{self, Process},
    scripts,
};
use crate::secrets::Secret;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use model::{
    attempt::EnvironmentReport,
    requirements::ExecutorKind,
    task_file::{ConsoleStep, VmLogin, VmWish},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

/// How large the disk is that files go in by, in bytes; it is sparse.
const INPUT_BYTES: u64 = 256 << 30;
/// How much of the task's files comes with the initial RAM disk, in bytes of their archive, where there is one; more
/// comes by the disk. Emulated, unpacking by programs takes its time, and what is unpacked by the kernel is in memory
/// twice for a moment.
const FILES_IN_INITRD_BYTES_MAX: usize = 8 << 20;
/// How long our own scripts in a machine may take, before the worker's factor.
const SCRIPT_LIMIT: Duration = Duration::from_secs(300);
/// How much of the output of our own scripts is kept for reasons, in bytes.
const SAID_BYTES: usize = 500;
/// What an emulated kernel is told when the task says nothing: its tests of its own ciphers are a tenth of its boot.
const EMULATED: &str = "quiet cryptomgr.notests";
/// Below what name the files about the machine are among the artifacts.
const FILES: &str = "vm";
/// A longer console is cut in what is collected: the limits of artifacts are the task's.
const COPY_BYTES_MAX: u64 = 4 << 20;

/// The image that the worker's configuration names.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) digest: Option<String>,
}

/// One attempt's machine.
pub(super) struct Vm {
    pub(super) place: Place,
    pub(super) wish: VmWish,
    pub(super) login: VmLogin,
    pub(super) arch: Arch,
    pub(super) kvm: bool,
    pub(super) engine: String,
    pub(super) time_factor: f64,
    pub(super) firmware: Option<(PathBuf, PathBuf)>,
    pub(super) network: Network,
    pub(super) base: Option<Base>,
    /// What our agent in this machine begins its words with.
    pub(super) mark: String,
    pub(super) notes: Vec<String>,
    pub(super) running: Option<Running>,
    /// Where the archives that were moved in are on the disk: the MiB that they begin at, and their bytes.
    pub(super) moved_in: Vec<(u64, u64)>,
    /// What the commands of `run` and `cleanup` may read.
    pub(super) secrets: Arc<[Secret]>,
    /// Whether the machine has them in its memory.
    pub(super) has_secrets: bool,
    /// Whether a person's shell is what runs in it.
    pub(super) is_held: bool,
}

impl Vm {
    pub(super) fn limit(&self, limit: Duration) -> Duration {
        limit.mul_f64(self.time_factor)
    }

    /// Steps of a dialogue with the limits that they have here.
    pub(super) fn steps(&self, steps: &[ConsoleStep]) -> Vec<ConsoleStep> {
        let here =
            |step: &ConsoleStep| ConsoleStep { idle: step.idle.map(|idle| self.limit(idle)), ..step.clone() };
        steps.iter().map(here).collect()
    }

    /// Where the files about the machine are kept.
    pub(super) fn files(&self) -> PathBuf {
        self.place.root.join(FILES)
    }

    /// A machine as the wish has it; with what it boots from to be filled in.
    pub(super) fn machine(&self) -> Machine {
        Machine {
            name: format!("taskbot-{}", self.place.label),
            arch: self.arch,
            kvm: self.kvm,
            memory_bytes: self.place.sizes.memory_bytes,
            cpus: self.place.sizes.cpus,
            folder: self.place.root.clone(),
            kernel: None,
            firmware: self.firmware.clone(),
            disk: None,
            seed: None,
            media: Vec::new(),
            boot_medium: false,
            agent: self.login != VmLogin::None,
            ends_at_reset: false,
            stays_at_end: false,
            network: self.network.clone(),
        }
    }

    pub(super) fn inside(&self, path: &str) -> Result<PathBuf, ExecError> {
        media::inside(&self.place.work(), path)
    }

    pub(super) fn all_inside(&self, paths: &[String]) -> Result<Vec<PathBuf>, ExecError> {
        paths.iter().map(|path| self.inside(path)).collect()
    }

    /// Installs, boots, and waits for our agent.
    async fn bring_up(&mut self, log: &dyn LogSink, stop: &CancellationToken) -> Result<(), Setback> {
        let disk = self.place.root.join("disk.qcow2");
        let size = self.place.sizes.disk_bytes;
        let mut machine = self.machine();
        let mut input = Input::create(self.place.root.join(INPUT_DISK), INPUT_BYTES).map_err(infra)?;
        let mut is_in = false;
        File::create(self.place.root.join(OUTPUT_DISK)).and_then(|file| file.set_len(size)).map_err(infra)?;
        if let Some(install) = self.wish.install.clone() {
            media::disk(None, &disk, size).await?;
            self.install(&install, &disk, log, stop).await?;
            machine.disk = Some(disk);
        } else if let Some(kernel) = &self.wish.kernel {
            let initrd = self.place.root.join("initrd");
            let files = if machine.agent { self.small_inputs().await? } else { None };
            is_in = files.is_some();
            let drivers = match machine.network {
                Network::None => "virtio_pci virtio_console\n",
                Network::Only(_) | Network::All => {
                    "virtio_pci virtio_console failover net_failover virtio_net\n"
                }
            };
            let own = media::Own { mark: &self.mark, drivers, files: files.as_deref() };
            media::initrd(&self.all_inside(&self.wish.initrd)?, machine.agent.then_some(&own), &initrd)?;
            let init = if machine.agent { format!("rdinit={} ", media::INIT_PATH) } else { String::new() };
            let unsaid = if self.kvm { "quiet" } else { EMULATED };
            let more = self.wish.append.as_deref().unwrap_or(unsaid);
            let append = format!("console={} {init}panic=-1 {more}", self.arch.console);
            let initrd = (machine.agent || !self.wish.initrd.is_empty()).then_some(initrd);
            machine.kernel = Some(Kernel { kernel: self.inside(kernel)?, initrd, append });
            machine.ends_at_reset = true;
        } else {
            let image = match (&self.base, &self.wish.image_file) {
                (Some(base), _) => base.path.clone(),
                (None, Some(file)) => self.inside(file)?,
                (None, None) => return Err(infra("there is nothing to boot from").into()),
            };
            let format = media::format(&image)?;
            if format.disk_bytes > size.max(super::IMAGE_BYTES_MAX) {
                let message =
                    format!("the image's disk has {} bytes; ask for more `disk`", format.disk_bytes);
                return Err(ExecError::BadTask(message).into());
            }
            media::disk(Some((&image, format)), &disk, size).await?;
            machine.disk = Some(disk);
        }
        if !machine.agent {
            // Its last words count, also when it ends with them.
            machine.stays_at_end = true;
            return self.watch(&machine, log, stop).await;
        }
        let agent_bytes = guest::agent(&self.mark).len() as u64;
        match &self.login {
            VmLogin::None => {}
            VmLogin::CloudInit if machine.disk.is_some() => {
                let seed = self.place.root.join("seed.iso");
                media::seed(&self.mark, &self.place.label.to_string(), &seed)?;
                machine.seed = Some(seed);
            }
            VmLogin::CloudInit => {}
            VmLogin::Console { .. } => {
                let agent = guest::agent(&self.mark);
                input.put(move |file| io::Write::write_all(file, agent.as_bytes())).await?;
            }
        }
        let archive = if is_in { None } else { Some(self.pack_inputs(&mut input).await?) };
        log.write(format!("booting {} ({})\n", machine.name, self.engine).as_bytes());
        let running =
            Running::start(&self.place, &machine, Some((&self.mark, input)), &self.files(), "boot").await?;
        let boot = self.limit(self.wish.boot_limit());
        self.running = Some(running);
        self.come_up(boot, agent_bytes, true, log, stop).await?;
        self.settle(machine.kernel.is_some(), archive, log).await?;
        Ok(())
    }

    /// A machine that nothing gets into: it comes up as its console says.
    async fn watch(
        &mut self,
        machine: &Machine,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<(), Setback> {
        log.write(format!("booting {} ({})\n", machine.name, self.engine).as_bytes());
        let running = Running::start(&self.place, machine, None, &self.files(), "boot").await?;
        let patience = Patience { until: Instant::now() + self.limit(self.wish.boot_limit()), idle: None };
        let steps = self.steps(&self.wish.console);
        let running = self.running.insert(running);
        running.dialogue(&steps, patience, log, stop).await.map(drop)
    }

    /// From power-on or a reset to our agent.
    async fn come_up(
        &mut self,
        limit: Duration,
        agent_bytes: u64,
        first: bool,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<(), Setback> {
        let patience = Patience { until: Instant::now() + limit, idle: None };
        let from_disk = self.wish.kernel.is_none();
        let steps = if first { self.steps(&self.wish.console) } else { Vec::new() };
        let Some(running) = &mut self.running else { return Err(infra("no machine runs").into()) };
        let mut position = match steps.as_slice() {
            [] if first => 0,
            [] => running.console.news(0).1,
            steps => running.dialogue(steps, patience, log, stop).await?,
        };
        if let (true, VmLogin::Console { user, password }) = (from_disk, &self.login) {
            const PROMPTS: [&str; 3] = ["login: ", "# ", "$ "];
            let (prompt, after) = running.text(&PROMPTS, position, patience, log, stop).await?;
            position = after;
            if prompt == 0 {
                running.console.send(&format!("{user}\n")).await?;
                if let Some(password) = password {
                    (_, position) = running.text(&["assword:"], position, patience, log, stop).await?;
                    running.console.send(&format!("{password}\n")).await?;
                }
                let refused = [PROMPTS[1], PROMPTS[2], "ogin incorrect"];
                let (answer, _) = running.text(&refused, position, patience, log, stop).await?;
                if answer == 2 {
                    let message =
                        format!("the machine does not let `{user}` in: name and password are `login`'s");
                    return Err(ExecError::BadTask(message).into());
                }
            }
            running.console.send(&scripts::typed(agent_bytes)).await?;
        }
        running.agent(patience, log, stop).await
    }

    /// Moves the files in and sets up the network, once.
    async fn settle(
        &mut self,
        direct: bool,
        archive: Option<(u64, u64)>,
        log: &dyn LogSink,
    ) -> Result<(), ExecError> {
        if let Some(archive) = archive {
            self.take_in(archive).await?;
        }
        let hosts = match &self.network {
            Network::Only(ways) => ways.iter().map(|way| (way.address.clone(), way.host.clone())).collect(),
            Network::None | Network::All => Vec::new(),
        };
        if self.network != Network::None {
            self.ours("setting up the network", scripts::network(direct, &hosts)).await?;
        }
        if let Some(running) = &mut self.running {
            running.show(log);
        }
        Ok(())
    }

    /// Packs what was copied in, without what the machine itself is made of.
    async fn pack_inputs(&self, input: &mut Input) -> Result<(u64, u64), ExecError> {
        let (work, large) = (self.place.work().canonicalize().map_err(infra)?, self.own_files());
        input.put(move |file| pack(&work, &large, file)).await
    }

    /// The same when it is not much.
    async fn small_inputs(&self) -> Result<Option<Vec<u8>>, ExecError> {
        let (work, large) = (self.place.work().canonicalize().map_err(infra)?, self.own_files());
        let packed =
            tokio::task::spawn_blocking(move || pack_small(&work, &large, FILES_IN_INITRD_BYTES_MAX)).await;
        packed.map_err(infra)?.map_err(infra)
    }

    /// The files that the machine itself is made of.
    fn own_files(&self) -> BTreeSet<PathBuf> {
        let mut wish = self.wish.clone();
        wish.files_mut().filter_map(|path| media::inside(&self.place.work(), path).ok()).collect()
    }

    /// Runs a script of ours; its output is for reasons only.
    async fn ours(&mut self, what: &str, script: String) -> Result<(), ExecError> {
        let (running, guest) = self.alive(what)?;
        let (output, ended) = guest.start(script).await?;
        self.to_its_end(what, running, output, ended).await
    }

    /// Unpacks an archive that is on the disk that the machine reads.
    async fn take_in(&mut self, (at_mib, bytes): (u64, u64)) -> Result<(), ExecError> {
        self.moved_in.push((at_mib, bytes));
        let what = "moving files in";
        let (running, guest) = self.alive(what)?;
        let (output, ended) = guest.take(at_mib, bytes).await?;
        self.to_its_end(what, running, output, ended).await
    }

    fn alive(&self, what: &str) -> Result<(&Running, &Guest), ExecError> {
        let running = self.running.as_ref().filter(|running| running.process.is_running());
        running
            .and_then(|running| Some((running, running.guest.as_ref()?)))
            .ok_or_else(|| ExecError::BadTask(format!("{what}: the machine has ended")))
    }

    async fn to_its_end(
        &self,
        what: &str,
        running: &Running,
        output: impl Stream<Item = Result<Bytes, String>> + Send,
        ended: oneshot::Receiver<ScriptEnd>,
    ) -> Result<(), ExecError> {
        let limit = self.limit(SCRIPT_LIMIT);
        let mut output = pin!(output);
        let mut said = Vec::new();
        let listening = async {
            while let Some(Ok(bytes)) = output.next().await {
                let space = SAID_BYTES.saturating_sub(said.len()).min(bytes.len());
                said.extend_from_slice(&bytes[..space]);
            }
            ended.await.ok()
        };
        let end = tokio::select! {
            end = tokio::time::timeout(limit, listening) => {
                end.map_err(|_| infra(format!("{what}: the machine does not answer")))?
            }
            _ = running.process.ended() => None,
        };
        match end {
            Some(ScriptEnd { code: 0, .. }) => Ok(()),
            Some(ScriptEnd { code, .. }) => {
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                Err(ExecError::BadTask(format!("{what} in the machine ended with exit code {code}: {said}")))
            }
            None => Err(ExecError::BadTask(format!("{what}: the machine has ended"))),
        }
    }

    /// Starts a person's shell, which runs until it is ended.
    async fn let_in(&self) -> Result<(), ExecError> {
        const UP: &str = "a person can get in";
        let (running, guest) = self.alive("holding")?;
        let (output, _ended) = guest.start(scripts::for_a_person(UP, &self.place.dir)).await?;
        let mut output = pin!(output);
        let listening = async {
            let mut said = Vec::new();
            while let Some(Ok(bytes)) = output.next().await {
                said.extend_from_slice(&bytes);
                if String::from_utf8_lossy(&said).contains(UP) {
                    return true;
                }
            }
            false
        };
        let up = tokio::select! {
            up = tokio::time::timeout(self.limit(SCRIPT_LIMIT), listening) => up.unwrap_or(false),
            _ = running.process.ended() => false,
        };
        if up { Ok(()) } else { Err(infra("the machine gives no shell that a person could get into")) }
    }

    /// Ends a person's shell, so that the agent is free for what comes then.
    async fn end_hold(&mut self) -> Result<(), ExecError> {
        if !std::mem::take(&mut self.is_held) {
            return Ok(());
        }
        let (running, guest) = self.alive("ending the hold")?;
        guest.ender().end(&running.process).await;
        guest.idle(&running.process).await;
        Ok(())
    }

    pub(super) async fn switch_off(&mut self) {
        if let Some(running) = self.running.take() {
            running.process.kill();
            running.process.ended().await;
        }
    }

    /// Runs one line to its end.
    async fn line(
        &mut self,
        request: &ExecRequest<'_>,
        line: &str,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<LineEnd, ExecError> {
        let running = self.running.as_ref().filter(|running| running.process.is_running());
        let Some((running, guest)) = running.and_then(|running| Some((running, running.guest.as_ref()?)))
        else {
            return Ok(LineEnd::Exit(Exit::Gone));
        };
        let host_ooms = process::oom_kills(&self.place);
        let mut seen = running.qmp.seen.clone();
        let resets = seen.borrow_and_update().resets;
        let (_, quiet) = running.console.news(u64::MAX);
        let secret = request.profile != Profile::Install && !self.secrets.is_empty();
        if secret && !self.has_secrets {
            guest.keep(&self.secrets).await?;
            self.has_secrets = true;
        }
        let (output, ended) = guest.start(scripts::line(request, line, secret)).await?;
        let end = async {
            tokio::select! {
                biased;
                Ok(end) = ended => Ok(ScriptOutcome::Ended(end)),
                Ok(_) = seen.wait_for(|seen| seen.resets > resets) => Ok(ScriptOutcome::Reset),
                _ = running.process.ended() => Ok(ScriptOutcome::Gone),
                () = running.console.panicked(quiet) => Ok(ScriptOutcome::Panicked),
            }
        };
        let watched = WatchedScript { ender: guest.ender(), process: &running.process };
        let ended = supervise(request, u64::MAX, output, end, &watched, log, stop).await?;
        Ok(match ended {
            Ended::ByUs(exit) => LineEnd::Exit(exit),
            Ended::Itself(ScriptOutcome::Reset) => LineEnd::Reset,
            Ended::Itself(ScriptOutcome::Gone) if process::oom_kills(&self.place) > host_ooms => {
                LineEnd::Exit(Exit::Oom)
            }
            Ended::Itself(ScriptOutcome::Gone) => LineEnd::Exit(Exit::Gone),
            Ended::Itself(ScriptOutcome::Panicked) => {
                log.write(b"\nthe machine's kernel panicked\n");
                // It says nothing more, and nothing can be asked of it.
                running.process.kill();
                running.process.ended().await;
                LineEnd::Exit(Exit::Gone)
            }
            Ended::Itself(ScriptOutcome::Ended(ScriptEnd { code: 0, .. })) => LineEnd::Exit(Exit::Code(0)),
            Ended::Itself(ScriptOutcome::Ended(ScriptEnd { ooms: 1.., .. })) => LineEnd::Exit(Exit::Oom),
            Ended::Itself(ScriptOutcome::Ended(end)) => LineEnd::Exit(Exit::from_shell(end.code)),
        })
    }

    /// Waits for a machine that resets itself.
    async fn again(
        &mut self,
        left: Duration,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Option<Exit>, ExecError> {
        log.write(b"\nthe machine resets itself\n");
        let limit = left.min(self.limit(self.wish.boot_limit()));
        let agent_bytes = guest::agent(&self.mark).len() as u64;
        if let Some(running) = &mut self.running {
            running.begins_again();
        }
        match self.come_up(limit, agent_bytes, false, log, stop).await {
            Ok(()) => {
                self.has_secrets = false;
                let archives: Vec<_> =
                    self.moved_in.iter().map(|(at, bytes)| scripts::unpack(*at, *bytes)).collect();
                self.ours("moving files in again", scripts::unless_there(&archives)).await?;
                Ok(None)
            }
            Err(Setback::Stopped) => Ok(Some(Exit::Stopped)),
            Err(Setback::Ours(error)) => Err(error),
            Err(Setback::TooLong(_)) if limit == left => Ok(Some(Exit::TimedOut)),
            Err(Setback::TooLong(why) | Setback::Ended(why)) => {
                log.write(format!("{why}\n").as_bytes());
                Ok(Some(Exit::Gone))
            }
        }
    }

    /// What was kept about the machine on the host.
    fn take_files(&self, collector: &mut Collector) -> Result<(), ExecError> {
        let entries = fs::read_dir(self.files()).into_iter().flatten().flatten();
        for entry in entries {
            let Ok(mut file) = File::open(entry.path()) else { continue };
            let size = file.metadata().map_err(infra)?.len().min(COPY_BYTES_MAX);
            let name = format!("{FILES}/{}", entry.file_name().to_string_lossy());
            collector.take(name, size, &mut file)?;
        }
        Ok(())
    }
}

/// How a line ended.
enum LineEnd {
    Exit(Exit),
    /// The machine reset itself.
    Reset,
}

#[derive(Debug)]
enum ScriptOutcome {
    Ended(ScriptEnd),
    Reset,
    Gone,
    /// Its kernel gave up and stays as it is.
    Panicked,
}

struct WatchedScript<'a> {
    ender: Ender<'a>,
    process: &'a Arc<Process>,
}

impl Watched for WatchedScript<'_> {
    async fn disk_bytes(&self) -> Option<u64> {
        // A machine's disks cannot grow over their size.
        None
    }

    async fn kill(&self) {
        self.ender.end(self.process).await;
    }

    async fn tidy(&self) {
        // The agent does so before it tells the end.
    }
}

#[async_trait]
impl Provisioned for Vm {
    fn report(&self) -> EnvironmentReport {
        EnvironmentReport {
            executor: ExecutorKind::Vm,
            image: self.base.as_ref().map(|base| base.name.clone()).or_else(|| self.wish.image_file.clone()),
            image_digest: self.base.as_ref().and_then(|base| base.digest.clone()),
            engine: Some(self.engine.clone()),
            arch: self.arch.name.to_owned(),
            prepared_from_cache: false,
            notes: self.notes.iter().chain(&self.place.notes).cloned().collect(),
        }
    }

    fn work_dir(&self) -> String {
        scripts::WORK_DIR.to_owned()
    }

    fn give_secrets(&mut self, secrets: &Arc<[Secret]>) -> Result<(), String> {
        self.secrets = Arc::clone(secrets);
        Ok(())
    }

    async fn copy_in(&mut self, from: &Path) -> Result<(), ExecError> {
        let Some(guest) = self.running.as_ref().and_then(|running| running.guest.as_ref()) else {
            return self.place.take_in(from).map_err(|error| infra(format!("{}: {error}", from.display())));
        };
        let from = from.to_owned();
        let archive = guest.put(move |file| pack(&from, &BTreeSet::new(), file)).await?;
        self.take_in(archive).await
    }

    async fn start(&mut self, log: &dyn LogSink, stop: &CancellationToken) -> Result<(), StartError> {
        let done = self.bring_up(log, stop).await;
        let Err(setback) = done else { return Ok(()) };
        if let Some(running) = &mut self.running {
            running.show(log);
            if running.process.is_running()
                && let Err(error) = running.picture("failure").await
            {
                tracing::debug!(%error, "no picture of the screen");
            }
        }
        self.switch_off().await;
        Err(setback.into_start(self.base.is_some()))
    }

    async fn prepare(
        &mut self,
        request: &ExecRequest<'_>,
        _cache_key: Option<&str>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Prepared, ExecError> {
        let exit = self.exec(request, log, stop).await?;
        Ok(Prepared { exit, from_cache: false })
    }

    async fn exec(
        &mut self,
        request: &ExecRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Exit, ExecError> {
        check_env(request)?;
        request.dir.clone_into(&mut self.place.dir);
        let deadline = Instant::now() + request.limit;
        // A machine that is gone is told of below.
        self.end_hold().await.ok();
        for line in request.lines {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = self.line(&ExecRequest { limit: left, ..*request }, line, log, stop).await?;
            let exit = match ended {
                LineEnd::Exit(exit) => Some(exit),
                LineEnd::Reset => {
                    self.again(deadline.saturating_duration_since(Instant::now()), log, stop).await?
                }
            };
            if let Some(exit) = exit.filter(|exit| *exit != Exit::Code(0)) {
                if exit == Exit::Gone
                    && let Some(running) = &mut self.running
                {
                    running.show(log);
                }
                return Ok(exit);
            }
        }
        Ok(Exit::Code(0))
    }

    async fn copy_out(
        &mut self,
        globs: &[String],
        limits: CollectLimits,
        to: &Path,
    ) -> Result<Collected, ExecError> {
        let mut collector = Collector::new(globs, limits, to)?;
        self.take_files(&mut collector)?;
        let alive = self.running.as_ref().is_some_and(|running| running.process.is_running());
        if !alive || self.login == VmLogin::None {
            return Ok(collector.done());
        }
        self.end_hold().await?;
        let disk = self.place.root.join(OUTPUT_DISK);
        let blank = File::options()
            .write(true)
            .open(&disk)
            .and_then(|mut file| io::Write::write_all(&mut file, &[0; 65536]));
        blank.map_err(infra)?;
        if let Err(ExecError::BadTask(why)) =
            self.ours("moving files out", scripts::pack(!globs.is_empty())).await
        {
            collector.skip(OUTPUT_DIR, why);
        }
        let file = File::open(&disk).map_err(infra)?;
        let bytes_max = self.place.sizes.disk_bytes;
        tokio::task::spawn_blocking(move || take(file, collector, bytes_max)).await.map_err(infra)?
    }

    async fn keep(&mut self) -> Result<Vec<String>, ExecError> {
        self.secrets = Arc::default();
        self.is_held = true;
        self.let_in().await?;
        Ok(vec![format!("taskbot worker enter {}", self.place.root.display())])
    }

    async fn destroy(mut self: Box<Self>) -> Result<(), ExecError> {
        self.switch_off().await;
        let place = self.place;
        tokio::task::spawn_blocking(move || place.remove()).await.map_err(infra)?.map_err(infra)
    }
}
