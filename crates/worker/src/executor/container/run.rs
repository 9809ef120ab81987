//! Commands in a container.

use super::{
    super::{
        ExecError, ExecRequest, Exit, LogSink, Profile,
        host::{shell_word, start_folder},
        supervise::{Ended, Watched, supervise, variables, wrapper},
    },
    Container, LABEL_ATTEMPT, LABEL_DEADLINE, LABEL_WORKER, VOLUME_DIR, WORK_DIR,
    engine::{Engine, Mounted, reason, status},
    transfer::UID,
};
use crate::{
    files,
    secrets::{SECRETS_DIR, SECRETS_FOLDER_BYTES, SECRETS_VARIABLE, payload},
};
use bollard::{
    container::AttachContainerResults,
    errors::Error,
    exec::StartExecResults,
    models::{
        ContainerCreateBody, ContainerStateStatusEnum, ExecConfig, HealthConfig, HostConfig,
        HostConfigLogConfig, Mount, MountType, MountVolumeOptions, ResourcesUlimits, VolumeCreateRequest,
    },
    query_parameters::{
        AttachContainerOptionsBuilder, ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder,
        KillContainerOptionsBuilder,
    },
};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use nix::sys::resource::{Resource, getrlimit};
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    time::Duration,
};
use tokio::{io::AsyncWriteExt, sync::OnceCell, time::timeout};
use tokio_util::sync::CancellationToken;

/// The capabilities that package managers need; all of `Profile::Install`, and of a `run` that may be root.
const INSTALL_CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"];
/// The limit on processes of a user that Podman gets: what it may give is the kernel's default at most. It is
/// `pids_limit` that holds a container.
const PODMAN_PROCESSES_MAX: u64 = 32_768;
/// How long the engine may take to measure a work folder that we cannot read ourselves.
const MEASURE_LIMIT: Duration = Duration::from_secs(30);
/// How long a container may take to read its secrets.
const SECRETS_LIMIT: Duration = Duration::from_secs(60);
/// How often the end of a container is asked for again after the engine's answer broke off.
const WAIT_TRIES_MAX: u32 = 5;

/// The exit code of what was killed.
const KILLED: i64 = 137;
/// How often, and after which pauses, it is looked whether a killed container is being removed.
const VANISH_LOOKS: u32 = 3;
const VANISH_LOOK_EVERY: Duration = Duration::from_millis(200);

/// Ends the container at its deadline, also when its worker is dead. `%` is the time in seconds.
const OWN_DEADLINE: &str = "( sleep % && kill -9 -1 ) </dev/null >/dev/null 2>&1 &\n";
/// Podman does not tell that memory ran out; the container's own counter does.
const TELL_OOM: &str = r#"
told() {
  for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r "$file" ] || continue
    while read -r key count; do [ "$key" = oom_kill ] && [ "$count" != 0 ] && : >"$0.oom"; done <"$file"
  done
}
trap told EXIT
"#;
/// Gives what `prepare` left to the user of `run`.
const HAND_OVER: &str = "\nchown -hR 65534:65534 \"$TASKBOT_WORK\" 2>/dev/null || :";

impl Container {
    /// Runs lines in a new container, which stays as the holder.
    pub(super) async fn run(
        &mut self,
        request: &ExecRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Exit, ExecError> {
        self.drop_holder().await?;
        let id = self.create(request).await?;
        let options = AttachContainerOptionsBuilder::default();
        let stdin = !self.secrets_for(request.profile).is_empty();
        let options = options.stdin(stdin).stdout(true).stderr(true).stream(true).build();
        let engine = std::sync::Arc::clone(&self.engine);
        // Before the start, so that nothing is lost; logs are off, so that nothing fills the engine's disk.
        let attaching = engine.docker.attach_container(&id, Some(options));
        let (uploaded, attached) = tokio::join!(self.upload(&id), attaching);
        uploaded?;
        if stop.is_cancelled() {
            return Ok(Exit::Stopped);
        }
        let AttachContainerResults { output, mut input } =
            attached.map_err(|error| self.start_error(&error))?;
        let (docker, secrets) = (&self.engine.docker, self.secrets_for(request.profile));
        docker.start_container(&id, None).await.map_err(|error| self.start_error(&error))?;
        if !secrets.is_empty() {
            let payload = payload(secrets);
            // It reads them before all else; one that ends before that tells so itself.
            let sent = async {
                input.write_all(payload.as_bytes()).await?;
                input.flush().await
            };
            if let Ok(Err(error)) | Err(error) =
                timeout(SECRETS_LIMIT, sent).await.map_err(std::io::Error::from)
            {
                tracing::debug!(%error, container = id, "secrets are not taken");
            }
        }
        let output = output.map(|chunk| chunk.map(bollard::container::LogOutput::into_bytes));
        let output = output.map(|chunk| chunk.map_err(|error| error.to_string()));
        let root_writable = self.root_is_writable(request.profile);
        let watch = Watch { engine: &self.engine, id: &id, volumes: OnceCell::new(), root_writable };
        let ended = supervise(request, self.sizes.disk_bytes, output, watch.end(), &watch, log, stop).await;
        drop(input);
        match ended? {
            Ended::ByUs(exit) => Ok(exit),
            Ended::Itself(code) => self.explain(&id, code).await,
        }
    }

    /// A container that files can be moved through; one is made if there is none.
    pub(super) async fn any_container(&mut self) -> Result<String, ExecError> {
        let id = match self.holder.clone() {
            Some(id) => id,
            None => {
                let env = std::collections::BTreeMap::new();
                let limit = Duration::ZERO;
                let request =
                    ExecRequest { profile: Profile::Run, lines: &[], dir: "", env: &env, limit, idle: None };
                self.create(&request).await?
            }
        };
        self.upload(&id).await?;
        Ok(id)
    }

    /// A container of the last image and the work folder, as strict as `run`, that does nothing.
    pub(super) async fn wait_for_a_person(&mut self) -> Result<Vec<String>, ExecError> {
        self.secrets = std::sync::Arc::default();
        self.drop_holder().await?;
        let (env, limit) = (std::collections::BTreeMap::new(), Duration::ZERO);
        let lines = ["while :; do sleep 60; done".to_owned()];
        let request =
            ExecRequest { profile: Profile::Run, lines: &lines, dir: "", env: &env, limit, idle: None };
        let id = self.create(&request).await?;
        self.upload(&id).await?;
        let started = self.engine.docker.start_container(&id, None).await;
        started.map_err(|error| self.start_error(&error))?;
        let program = if self.engine.podman { "podman --url" } else { "docker --host" };
        let (socket, name) = (self.engine.socket.display(), self.name());
        let folder = shell_word(&start_folder(WORK_DIR, &self.dir));
        Ok(vec![format!("{program} unix://{socket} exec -it -w {folder} {name} sh")])
    }

    /// The name of the newest container.
    fn name(&self) -> String {
        format!("taskbot-{}-{}", self.label, self.count)
    }

    async fn create(&mut self, request: &ExecRequest<'_>) -> Result<String, ExecError> {
        if self.count == 0 {
            // On its own, since Podman forgets the labels of volumes that come with a container.
            let volume = VolumeCreateRequest {
                name: Some(self.volume()),
                labels: Some(self.labels()),
                ..VolumeCreateRequest::default()
            };
            let made = self.engine.docker.create_volume(volume).await;
            made.map_err(|error| self.engine.infra("create a volume", &error))?;
        }
        self.count += 1;
        let name = self.name();
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let mut body = self.body(request);
        let docker = &self.engine.docker;
        let mut created = docker.create_container(Some(options.clone()), body.clone()).await;
        if let Err(error) = &created
            && reason(error).contains("container-init")
        {
            // Podman without catatonit has no init program; our shell is process 1 then.
            if let Some(host) = &mut body.host_config {
                host.init = Some(false);
            }
            created = docker.create_container(Some(options), body).await;
        }
        let created = created.map_err(|error| self.engine.infra("create a container", &error))?;
        self.holder = Some(created.id.clone());
        if self.is_kept_from_link_local(self.network(request.profile)) {
            self.keep_from_link_local(&created.id).await?;
        }
        Ok(created.id)
    }

    /// The file that commands make when they begin; with `.oom` behind it, when memory ran out.
    fn mark(&self) -> String {
        format!("{WORK_DIR}/{}/began-{}", super::super::OWN_DIR, self.count)
    }

    fn body(&self, request: &ExecRequest<'_>) -> ContainerCreateBody {
        let install = request.profile == Profile::Install;
        let root = install || self.relaxed.root;
        let seconds_left = (self.deadline - self.clock.now()).num_seconds().max(1).to_string();
        let deadline = OWN_DEADLINE.replace('%', &seconds_left);
        let script = [
            deadline.as_str(),
            if self.engine.podman { TELL_OOM } else { "" },
            "exec 2>&1\n",
            &wrapper(self.secrets_for(request.profile)),
            if install { HAND_OVER } else { "" },
        ];
        let command = ["-c".to_owned(), script.concat(), self.mark(), start_folder(WORK_DIR, request.dir)];
        let has_secrets = !self.secrets_for(request.profile).is_empty();
        let secrets = has_secrets.then(|| (SECRETS_VARIABLE.to_owned(), SECRETS_DIR.to_owned()));
        let variables = variables(request, WORK_DIR, "/tmp").into_iter().chain(secrets);
        let env = variables.map(|(name, value)| format!("{name}={value}"));
        ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: Some("taskbot".to_owned()),
            user: Some(if root { "0:0".to_owned() } else { format!("{UID}:{UID}") }),
            entrypoint: Some(vec!["sh".to_owned()]),
            cmd: Some(command.into_iter().chain(request.lines.iter().cloned()).collect()),
            env: Some(env.collect()),
            working_dir: Some("/".to_owned()),
            // The image's own would run beside the commands.
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            attach_stdin: Some(has_secrets),
            open_stdin: Some(has_secrets),
            stdin_once: Some(has_secrets),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(self.host_config(request.profile, root)),
            labels: Some(self.labels()),
            ..ContainerCreateBody::default()
        }
    }

    /// How everything of this attempt is found again.
    fn labels(&self) -> HashMap<String, String> {
        let labels = [
            (LABEL_WORKER, self.label.worker.to_string()),
            (LABEL_ATTEMPT, self.label.to_string()),
            (LABEL_DEADLINE, self.deadline.to_rfc3339()),
        ];
        labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The engine's network that a container is in.
    fn network(&self, profile: Profile) -> &str {
        let open = profile == Profile::Install || self.relaxed.network;
        if open { &self.config.network } else { "none" }
    }

    fn host_config(&self, profile: Profile, root: bool) -> HostConfig {
        let install = profile == Profile::Install;
        let sizes = &self.sizes;
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let tmpfs = format!("rw,exec,nosuid,nodev,mode=1777,size={}", sizes.tmp_bytes);
        let secrets = (!self.secrets_for(profile).is_empty()).then(|| {
            let options = format!("rw,noexec,nosuid,nodev,mode=1777,size={SECRETS_FOLDER_BYTES}");
            (SECRETS_DIR.to_owned(), options)
        });
        let folders: &[&str] = if install { &["/tmp"] } else { &["/tmp", "/var/tmp", "/run"] };
        let mut capabilities: Vec<String> =
            if install { Vec::new() } else { self.relaxed.capabilities.clone() };
        if root {
            capabilities.extend(INSTALL_CAPABILITIES.map(str::to_owned));
        }
        let work = Mount {
            target: Some(VOLUME_DIR.to_owned()),
            source: Some(self.volume()),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..Mount::default()
        };
        HostConfig {
            memory: Some(signed(sizes.memory_bytes)),
            memory_swap: Some(signed(sizes.memory_bytes)),
            nano_cpus: Some(i64::from(sizes.cpus) * 1_000_000_000),
            pids_limit: Some(sizes.processes.into()),
            ulimits: Some(self.ulimits()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(capabilities),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(!self.root_is_writable(profile)),
            tmpfs: Some(
                folders.iter().map(|folder| ((*folder).to_owned(), tmpfs.clone())).chain(secrets).collect(),
            ),
            network_mode: Some(self.network(profile).to_owned()),
            init: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(vec![work]),
            runtime: self.config.runtime.clone(),
            ..HostConfig::default()
        }
    }

    fn ulimits(&self) -> Vec<ResourcesUlimits> {
        let limit = |name: &str, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
        };
        let mut limits = vec![
            limit("nofile", self.sizes.open_files),
            limit("fsize", self.sizes.disk_bytes),
            limit("core", 0),
        ];
        // Podman's default may be over the host's limit, and then nothing starts.
        if self.engine.podman
            && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NPROC)
        {
            limits.push(limit("nproc", hard.min(PODMAN_PROCESSES_MAX)));
        }
        limits
    }

    fn start_error(&self, error: &Error) -> ExecError {
        let said = reason(error);
        if said.contains("executable file not found") || said.contains("no such file or directory") {
            return no_shell(&self.base.name);
        }
        self.engine.infra("start a container", error)
    }

    /// What a container's exit code means.
    async fn explain(&mut self, id: &str, code: i64) -> Result<Exit, ExecError> {
        if code == 0 {
            return Ok(Exit::Code(0));
        }
        let found = self.engine.inspect(id, false).await;
        let state = found.map_err(|why| could_not(&self.engine, "tell how a container ended", &why))?.state;
        if state.oom_killed || self.engine.podman && self.is_there(id, ".oom").await? {
            return Ok(Exit::Oom);
        }
        if code == KILLED && self.vanishes(id).await? {
            return Err(ExecError::Infra("somebody else removed the container".to_owned()));
        }
        if code == 127 && !self.is_there(id, "").await? {
            return Err(no_shell(&self.base.name));
        }
        let exit = Exit::from_shell(i32::try_from(code).unwrap_or(i32::MAX));
        Ok(if exit == Exit::Signal(nix::libc::SIGXFSZ) { Exit::OutOfDisk } else { exit })
    }

    /// Whether a container that was killed is being removed, which nobody but us should do.
    async fn vanishes(&self, id: &str) -> Result<bool, ExecError> {
        for _ in 0..VANISH_LOOKS {
            match self.engine.docker.inspect_container(id, None).await {
                Ok(found) => {
                    let status = found.state.and_then(|state| state.status);
                    if status == Some(ContainerStateStatusEnum::REMOVING) {
                        return Ok(true);
                    }
                }
                Err(error) if status(&error) == Some(404) => return Ok(true),
                Err(error) => return Err(self.engine.infra("tell how a container ended", &error)),
            }
            tokio::time::sleep(VANISH_LOOK_EVERY).await;
        }
        Ok(false)
    }

    /// Whether commands left their mark.
    async fn is_there(&self, id: &str, suffix: &str) -> Result<bool, ExecError> {
        let path = format!("{}{suffix}", self.mark());
        let options = ContainerArchiveInfoOptionsBuilder::default().path(&path).build();
        match self.engine.docker.get_container_archive_info(id, Some(options)).await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(self.engine.infra("look into a container", &error)),
        }
    }
}

/// A place outside of a container's layer that it can write to: the work folder's volume, and those that its
/// image asks for.
struct Volume {
    /// Where it is in the container.
    inside: String,
    /// Where it is on this host, if we can read it there.
    here: Option<PathBuf>,
}

async fn volumes(engine: &Engine, id: &str) -> Result<Vec<Volume>, ExecError> {
    let found = engine.inspect(id, false).await;
    let found = found.map_err(|why| could_not(engine, "tell a container's volumes", &why))?;
    let volume = |mount: Mounted| Volume {
        here: Some(mount.source).filter(|folder| std::fs::read_dir(folder).is_ok()),
        inside: mount.destination,
    };
    Ok(found.mounts.unwrap_or_default().into_iter().filter(|mount| mount.writable).map(volume).collect())
}

fn could_not(engine: &Engine, what: &str, why: &str) -> ExecError {
    ExecError::Infra(format!("{} could not {what}: {why}", engine.version))
}

fn no_shell(image: &str) -> ExecError {
    ExecError::BadTask(format!("image {image} has no shell (`sh`), so that no commands can run in it"))
}

/// A running container.
struct Watch<'a> {
    engine: &'a Engine,
    id: &'a str,
    /// Asked for when they are first measured: most commands end before.
    volumes: OnceCell<Vec<Volume>>,
    root_writable: bool,
}

impl Watch<'_> {
    async fn volumes(&self) -> Result<&[Volume], ExecError> {
        self.volumes.get_or_try_init(|| volumes(self.engine, self.id)).await.map(Vec::as_slice)
    }

    /// Waits for the end; gives the exit code.
    async fn end(&self) -> Result<i64, ExecError> {
        let mut tries = 0;
        loop {
            let mut answers = std::pin::pin!(self.engine.docker.wait_container(self.id, None));
            let error = match answers.next().await {
                Some(Ok(answer)) => return Ok(answer.status_code),
                // A code other than 0 is no failure of the engine.
                Some(Err(Error::DockerContainerWaitError { code, .. })) => return Ok(code),
                Some(Err(error)) => reason(&error),
                None => "the answer broke off".to_owned(),
            };
            tries += 1;
            let state = match self.engine.inspect(self.id, false).await {
                Ok(found) => found.state,
                Err(gone) => {
                    return Err(ExecError::Infra(format!(
                        "{} went away while a container ran ({error}; {gone})",
                        self.engine.version
                    )));
                }
            };
            if !state.running {
                return Ok(state.exit_code);
            }
            // Waiting is longer than an answer may take, so this is usual; but not at once and for ever.
            if tries > WAIT_TRIES_MAX && error != reason(&Error::RequestTimeoutError) {
                return Err(ExecError::Infra(format!(
                    "{} does not tell the end: {error}",
                    self.engine.version
                )));
            }
        }
    }

    /// Measures a volume from inside the container, by the image's own program.
    async fn measure_inside(&self, folder: &str) -> Option<u64> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            cmd: Some(["du", "-sk", folder].map(str::to_owned).to_vec()),
            ..ExecConfig::default()
        };
        let exec = self.engine.docker.create_exec(self.id, config).await.ok()?;
        let started = self.engine.docker.start_exec(&exec.id, None).await.ok()?;
        let StartExecResults::Attached { mut output, .. } = started else { return None };
        let mut text = Vec::new();
        let read = async {
            while let Some(Ok(chunk)) = output.next().await {
                text.extend_from_slice(&chunk.into_bytes());
            }
        };
        tokio::time::timeout(MEASURE_LIMIT, read).await.ok()?;
        let text = String::from_utf8_lossy(&text);
        text.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    }
}

impl Watched for Watch<'_> {
    async fn disk_bytes(&self) -> Option<u64> {
        let volumes = match self.volumes().await {
            Ok(volumes) => volumes,
            Err(error) => {
                // The next look asks again.
                tracing::warn!(%error, container = self.id, "what a container uses of the disk is not measured");
                return Some(0);
            }
        };
        let mut used = 0;
        for volume in volumes.iter().filter(|volume| volume.here.is_none()) {
            used += self.measure_inside(&volume.inside).await.unwrap_or(0);
        }
        let here: Vec<_> = volumes.iter().filter_map(|volume| volume.here.clone()).collect();
        let id = self.id.to_owned();
        let measured = tokio::task::spawn_blocking(move || {
            let named: u64 = here.iter().map(|folder| files::usage(folder, u64::MAX)).sum();
            named.saturating_add(files::held_open(&processes(&id)))
        });
        used += measured.await.ok()?;
        if !self.root_writable {
            return Some(used);
        }
        let sized = self.engine.inspect(self.id, true).await.ok();
        let layer = sized.and_then(|found| found.size_rw);
        Some(used + layer.unwrap_or(0))
    }

    fn disk_is_full(&self) -> bool {
        let volumes = self.volumes.get().map(Vec::as_slice).unwrap_or_default();
        let mut here = volumes.iter().filter_map(|volume| volume.here.as_ref());
        here.any(|folder| files::disk_is_full(folder))
    }

    async fn kill(&self) {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        if let Err(error) = self.engine.docker.kill_container(self.id, Some(options)).await {
            // It may have ended by itself; if it did not, the wait for its end tells.
            tracing::debug!(%error, container = self.id, "cannot kill a container");
        }
    }

    async fn tidy(&self) {}
}

/// A container's processes, as far as they are to be seen from here: their control groups carry its id.
fn processes(id: &str) -> BTreeSet<u32> {
    let found = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = found.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_its = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id))
    };
    pids.filter(is_its).collect()
}

/// Reads a deadline from its label.
pub(super) fn deadline(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}
