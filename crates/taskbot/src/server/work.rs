//! A worker in this process, and the executors that it has.

use super::{machine, repositories::git_config};
use crate::{
    config::{self, Config},
    fault::Fault,
};
use anyhow::{Context, Result, anyhow};
use model::{Clock, Ids, QueueName, SystemClock, SystemIds, WorkerName, requirements::ExecutorKind};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio::{sync::OnceCell, task::JoinHandle};
use worker::{
    agent::{Agent, AgentError, Shutdown},
    client::ClientError,
    client::Token,
    config::{FetchConfig, FetchServer, RunConfig, VM_TIME_FACTOR_WITHOUT_KVM, WorkerConfig},
    executor::{
        ContainerConfig, Containers, Executor, External, ExternalConfig, HostConfig, Local, Machines,
        Program, Pull, Sandbox, SandboxConfig, UIDS, VmConfig, kvm_works, usual_sockets,
    },
    git::GitCache,
    secrets::Secrets,
};

/// The folder of the worker in the data folder.
const WORK_FOLDER: &str = "worker";

/// A worker that runs.
#[derive(Debug)]
pub(crate) struct Work {
    name: WorkerName,
    executors: Vec<String>,
    shutdown: Shutdown,
    job: JoinHandle<Result<(), AgentError>>,
}

impl Work {
    /// Starts a worker of the server at `url`. One that `ends_when_drained` does so when an operator says it and it
    /// runs nothing.
    ///
    /// # Errors
    /// Its folder cannot be used, or no executor works.
    pub(crate) async fn start(
        config: &Config,
        url: &str,
        token: Option<String>,
        ends_when_drained: bool,
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        let name = name(config);
        let dir = work_dir(config);
        super::open::private_folder(&dir)?;
        let kvm = kvm(config).await;
        let identity = worker::identity::of(&dir, &*ids).context("the worker's folder")?;
        let label = worker::identity::label(&name, &identity);
        let executors = executors(config, &label, &dir, &clock, kvm);
        let (lines, any) = probe(&executors).await;
        if !any {
            return Err(Fault::new(
                crate::fault::INFRA,
                format!("no executor works here, so that no task could run:\n  {}", lines.join("\n  ")),
            )
            .into());
        }
        let git =
            GitCache::new(dir.join("mirrors"), git_config(config)).map_err(|error| anyhow!("{error}"))?;
        let mut worker = worker_config(config, (name.clone(), identity), &dir, url, token, kvm)?;
        worker.ends_when_drained = ends_when_drained;
        let agent = Agent::new(worker, executors, Arc::new(git), clock, ids)?;
        let shutdown = Shutdown::default();
        let job = tokio::spawn(agent.run(shutdown.clone()));
        Ok(Self { name, executors: lines, shutdown, job })
    }

    /// Its name.
    pub(crate) const fn name(&self) -> &WorkerName {
        &self.name
    }

    /// Its executors, each in a line.
    pub(crate) fn executor_lines(&self) -> &[String] {
        &self.executors
    }

    /// Lets it finish what it runs.
    pub(crate) fn stop(&self) {
        self.shutdown.stop.cancel();
    }

    /// Lets it hand everything back at once.
    pub(crate) fn kill(&self) {
        self.shutdown.kill.cancel();
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// Why it does not go on.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        match (&mut self.job).await {
            // Starting it again would not help: who watches over it learns that by the exit code.
            Ok(Err(error @ AgentError::Server(ClientError::NotAllowed { .. }))) => {
                Err(Fault::new(crate::fault::NOT_ALLOWED, format!("the worker: {error}")).into())
            }
            Ok(ended) => ended.context("the worker"),
            Err(panic) => Err(anyhow!("the worker broke: {panic}")),
        }
    }
}

/// The name of the worker of a configuration.
pub(crate) fn name(config: &Config) -> WorkerName {
    WorkerName::new(config.worker.name.clone().unwrap_or_else(machine::host_name))
}

/// The folder of the worker of a configuration.
pub(crate) fn work_dir(config: &Config) -> PathBuf {
    config.worker.work_dir.clone().unwrap_or_else(|| config.data_dir.join(WORK_FOLDER))
}

/// Whether virtual machines have KVM: as the configuration says, or by starting a guest with it, once.
pub(crate) async fn kvm(config: &Config) -> bool {
    static WORKS: OnceCell<bool> = OnceCell::const_new();
    match (config.worker.executors.vm, config.worker.vm.kvm) {
        (false, _) => false,
        (true, Some(kvm)) => kvm,
        (true, None) => *WORKS.get_or_init(async || kvm_works().await.is_ok()).await,
    }
}

const fn vm_time_factor(kvm: bool) -> f64 {
    if kvm { 1.0 } else { VM_TIME_FACTOR_WITHOUT_KVM }
}

/// How tasks are run by a configuration.
pub(crate) fn run_config(config: &Config, dir: &std::path::Path, kvm: bool) -> RunConfig {
    let fetch = &config.worker.fetch;
    RunConfig {
        time_factor: config.worker.time_factor,
        vm_time_factor: vm_time_factor(kvm),
        fetch: FetchConfig {
            cache_dir: dir.join("fetched"),
            cache_bytes_max: fetch.cache_bytes,
            file_bytes_max: fetch.file_bytes,
            private_hosts: fetch.private_hosts.clone(),
            refused_networks: fetch.refused_networks.clone(),
            server: None,
            lookups: fetch.lookups.clone(),
            file_folders: fetch.folders.clone(),
        },
        hold_max: config.worker.hold_max,
        hold_untrusted: config.worker.hold_untrusted,
        secrets: Secrets(config.worker.secrets.clone()),
        ..RunConfig::default()
    }
}

fn worker_config(
    config: &Config,
    (name, identity): (WorkerName, String),
    dir: &std::path::Path,
    url: &str,
    token: Option<String>,
    kvm: bool,
) -> Result<WorkerConfig> {
    let worker = &config.worker;
    let server = reqwest::Url::parse(url).map_err(|_| {
        Fault::usage(format!("--server: `{url}` is no server; expected http://HOST:PORT or https://HOST"))
    })?;
    let arches =
        if worker.arches.is_empty() { [machine::arch().to_owned()].into() } else { worker.arches.clone() };
    let token = token.map(|token| Token::new(&token));
    let mut run = run_config(config, dir, kvm);
    run.secrets.check().map_err(|why| Fault::new(crate::fault::USAGE, format!("`worker.secrets`: {why}")))?;
    run.fetch.server = Some(FetchServer { url: server.clone(), token: token.clone() });
    Ok(WorkerConfig {
        name,
        identity,
        server,
        token,
        queues: worker.queues.iter().map(|queue| QueueName::new(queue.clone())).collect(),
        slots: worker.slots,
        labels: worker.labels.iter().cloned().chain(run.secrets.labels()).collect(),
        arches,
        memory_bytes: worker.memory_bytes.unwrap_or_else(machine::memory_bytes),
        disk_bytes: worker.disk_bytes.unwrap_or_else(|| machine::free_bytes(dir)),
        cpus: worker.cpus.unwrap_or_else(machine::cpus),
        kvm,
        ends_when_drained: false,
        work_dir: dir.join("attempts"),
        lost_contact_after: worker::config::LOST_CONTACT_AFTER_DEFAULT,
        run,
    })
}

/// The executors that a configuration sets up, whether they work here or not. `label` is put on what they make.
pub(crate) fn executors(
    config: &Config,
    label: &WorkerName,
    dir: &std::path::Path,
    clock: &Arc<dyn Clock>,
    kvm: bool,
) -> Vec<Arc<dyn Executor>> {
    let config::Worker { executors: set, allow, sizes, .. } = &config.worker;
    let host = HostConfig {
        worker: label.clone(),
        folder: dir.join("host"),
        sizes: sizes.clone(),
        allow: allow.clone(),
    };
    let mut executors: Vec<Arc<dyn Executor>> = Vec::new();
    if set.container {
        let sockets = if set.sockets.is_empty() {
            named_sockets().into_iter().chain(usual_sockets(runtime_dir().as_deref())).collect()
        } else {
            set.sockets.clone()
        };
        let containers = ContainerConfig {
            default_image: set.default_image.clone(),
            pull: match set.pull.as_str() {
                "always" => Pull::Always,
                "never" => Pull::Never,
                _ => Pull::IfMissing,
            },
            registry_config: set.registry_config.clone(),
            network: set.network.clone(),
            link_local: set.link_local,
            runtime: set.runtime.clone(),
            sizes: sizes.clone(),
            allow: allow.clone(),
            ..ContainerConfig::new(label.clone(), sockets, dir.join("containers"))
        };
        executors.push(Arc::new(Containers::new(containers, Arc::clone(clock))));
    }
    if set.vm {
        let machines = VmConfig {
            host: HostConfig { folder: dir.join("machines"), ..host.clone() },
            images: config.worker.vm.images.clone(),
            network: config.worker.vm.network.clone(),
            time_factor: config.worker.time_factor * vm_time_factor(kvm),
            kvm: Some(kvm),
        };
        executors.push(Arc::new(Machines::new(machines, Arc::clone(clock), Arc::new(SystemIds))));
    }
    if !config.worker.external.is_empty() {
        let external = ExternalConfig {
            host: HostConfig { folder: dir.join("external"), ..host.clone() },
            programs: absolute(&config.worker.external),
            time_factor: config.worker.time_factor,
        };
        executors.push(Arc::new(External::new(external, Arc::clone(clock))));
    }
    if set.sandbox {
        let sandbox = SandboxConfig { host: host.clone(), binds: set.binds.clone(), uids: UIDS };
        executors.push(Arc::new(Sandbox::new(sandbox, Arc::clone(clock))));
    }
    if set.local || set.local_untrusted {
        executors.push(Arc::new(Local::new(host, set.local_untrusted, Arc::clone(clock))));
    }
    executors
}

/// Programs whose paths hold wherever they are started: they run in folders of their own.
fn absolute(programs: &BTreeMap<String, Program>) -> BTreeMap<String, Program> {
    let mut programs = programs.clone();
    for program in programs.values_mut() {
        make_absolute(program);
    }
    programs
}

/// Makes a relative path of a program absolute; a plain name is looked for where programs are.
pub(crate) fn make_absolute(program: &mut Program) {
    if let Some(first) = program.command.first_mut()
        && first.contains('/')
        && let Ok(path) = std::path::absolute(&*first)
    {
        *first = path.to_string_lossy().into_owned();
    }
}

/// What each executor says of itself, in a line; and whether any works.
pub(crate) async fn probe(executors: &[Arc<dyn Executor>]) -> (Vec<String>, bool) {
    let mut lines = Vec::new();
    let mut any = false;
    for executor in executors {
        match executor.probe().await {
            Ok(probe) => {
                any = true;
                let notes = probe.notes.iter().map(|note| format!(", {note}")).collect::<String>();
                lines.push(format!("{}: {}{notes}", executor.kind(), probe.version));
            }
            Err(why) => lines.push(format!("{}: not here: {why}", executor.kind())),
        }
    }
    if executors.is_empty() {
        lines.push("none is switched on (`worker.executors`)".to_owned());
    }
    (lines, any)
}

/// Parses an executor's name.
///
/// # Errors
/// It is none.
pub(crate) fn parse_kind(text: &str) -> Result<ExecutorKind, Fault> {
    let known = [
        ExecutorKind::Container,
        ExecutorKind::Vm,
        ExecutorKind::Sandbox,
        ExecutorKind::Local,
        ExecutorKind::External,
    ];
    known.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let expected = "container, vm, sandbox, local or external";
        Fault::usage(format!("--executor: `{text}` is no executor; expected {expected}"))
    })
}

/// The sockets that the engines' own variables name.
#[expect(clippy::disallowed_methods, reason = "the binary reads the environment")]
fn named_sockets() -> Vec<PathBuf> {
    let named = ["DOCKER_HOST", "CONTAINER_HOST"].into_iter().filter_map(|name| std::env::var(name).ok());
    named.filter_map(|address| address.strip_prefix("unix://").map(PathBuf::from)).collect()
}

/// The user's own folder for sockets.
#[expect(clippy::disallowed_methods, reason = "the binary reads the environment")]
fn runtime_dir() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
}
