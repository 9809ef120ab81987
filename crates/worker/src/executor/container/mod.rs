//! Containers of a Docker or Podman engine.
//!
//! Each command runs in a fresh container; the work folder is a volume that they share. `prepare` runs with
//! network and a writable layer, which is committed; `run` starts from the committed image, read-only, without
//! network, capabilities or root.

mod engine;
mod image;
mod nowhere;
mod run;
mod sweep;
mod transfer;

use super::archive::Listing;
use super::{
    Allow, AttemptLabel, CollectLimits, Collected, DEADLINE_GRACE, Environment, ExecError, ExecRequest,
    Executor, Exit, GrantedSizes, LogSink, Prepared, Probe, Profile, ProvisionError, ProvisionRequest,
    Provisioned, SizeLimits, Swept, collect::Collector, supervise::check_env,
};
use crate::secrets::Secret;
use async_trait::async_trait;
use bollard::query_parameters::{
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use chrono::{DateTime, Utc};
use engine::Engine;
use image::Layers;
use model::{
    Clock, WorkerName,
    attempt::EnvironmentReport,
    requirements::{ContainerImages, ExecutorKind},
    task_file::Relaxed,
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Where the volume is mounted.
const VOLUME_DIR: &str = super::WORK_DIR;
/// The work folder in it. The engine makes a volume's root for root alone, and gives no way to change that
/// in a container whose root file system is read-only.
const WORK_FOLDER: &str = "work";
/// The work folder as commands see it.
const WORK_DIR: &str = "/task/work";
/// The label with the worker's name.
pub(super) const LABEL_WORKER: &str = "taskbot.worker";
/// The label with the attempt, as [`AttemptLabel`] prints it.
pub(super) const LABEL_ATTEMPT: &str = "taskbot.attempt";
/// The label with the time (RFC 3339) after which anybody may remove it.
pub(super) const LABEL_DEADLINE: &str = "taskbot.deadline";

/// When images are pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// When the engine does not have them.
    #[default]
    IfMissing,
    /// Never: they must be there.
    Never,
    /// Every time.
    Always,
}

/// How containers are set up.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// The worker, whose name marks what is made.
    pub worker: WorkerName,
    /// The engine's sockets, the first that answers is taken.
    pub sockets: Vec<PathBuf>,
    /// A folder of ours for what must be remembered of cached layers.
    pub state: PathBuf,
    /// The image for tasks that name none.
    pub default_image: Option<String>,
    /// When images are pulled.
    pub pull: Pull,
    /// A Docker `config.json` with credentials for registries (`auths`; credential helpers are not run).
    pub registry_config: Option<PathBuf>,
    /// The engine's network that `prepare`, and `run` where it is allowed, are in.
    pub network: String,
    /// Whether containers with network reach link-local addresses, where clouds have their metadata service.
    pub link_local: bool,
    /// The engine's runtime, such as `runsc`; its default when missing.
    pub runtime: Option<String>,
    /// What an attempt may use.
    pub sizes: SizeLimits,
    /// What trusted tasks may have relaxed.
    pub allow: Allow,
    /// How many prepared layers are kept.
    pub layers_max: usize,
    /// How large all prepared layers may be, in bytes.
    pub layers_bytes_max: u64,
}

impl ContainerConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(worker: WorkerName, sockets: Vec<PathBuf>, state: PathBuf) -> Self {
        Self {
            worker,
            sockets,
            state,
            default_image: None,
            pull: Pull::IfMissing,
            registry_config: None,
            network: "bridge".to_owned(),
            link_local: false,
            runtime: None,
            sizes: SizeLimits::default(),
            allow: Allow::default(),
            layers_max: 50,
            layers_bytes_max: 20 << 30,
        }
    }
}

/// The sockets at which engines usually listen. `runtime_dir` is the user's (`$XDG_RUNTIME_DIR`).
#[must_use]
pub fn usual_sockets(runtime_dir: Option<&Path>) -> Vec<PathBuf> {
    let own = runtime_dir.iter().flat_map(|dir| [dir.join("docker.sock"), dir.join("podman/podman.sock")]);
    own.chain(["/var/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from)).collect()
}

/// The executor `container`.
#[derive(Debug)]
pub struct Containers {
    config: Arc<ContainerConfig>,
    clock: Arc<dyn Clock>,
    layers: Arc<Layers>,
    /// The one that answered last.
    engine: Mutex<Option<Arc<Engine>>>,
}

impl Containers {
    /// Sets it up. The engine is looked for when it is needed, and again when it went away.
    #[must_use]
    pub fn new(config: ContainerConfig, clock: Arc<dyn Clock>) -> Self {
        let layers = Layers::new(config.state.clone(), config.layers_max, config.layers_bytes_max);
        Self { config: Arc::new(config), clock, layers: Arc::new(layers), engine: Mutex::new(None) }
    }

    /// The engine, if one answers.
    async fn engine(&self) -> Result<Arc<Engine>, String> {
        let mut known = self.engine.lock().await;
        if let Some(engine) = &*known
            && engine.docker.ping().await.is_ok()
        {
            return Ok(Arc::clone(engine));
        }
        let engine = Arc::new(Engine::connect(&self.config.sockets).await?);
        Ok(Arc::clone(known.insert(engine)))
    }
}

#[async_trait]
impl Executor for Containers {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Container
    }

    async fn probe(&self) -> Result<Probe, String> {
        let engine = self.engine().await?;
        let mut notes = vec![format!("socket {}", engine.socket.display())];
        if self.config.network != "none" {
            if engine.podman {
                notes.push(format!("{}: Podman has no means against it", nowhere::OPEN));
            } else if self.config.link_local || self.config.network == "host" {
                notes.push(format!("{}: by configuration", nowhere::OPEN));
            }
        }
        Ok(Probe { version: engine.version.clone(), notes })
    }

    async fn container_images(&self) -> Option<ContainerImages> {
        let engine = self.engine().await.ok()?;
        image::told(&engine, self.config.pull != Pull::Never).await
    }

    async fn provision(
        &self,
        request: &ProvisionRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Box<dyn Provisioned>, ProvisionError> {
        let Environment::Container(wish) = request.environment else {
            return Err(ProvisionError::Unavailable(format!("not a wish for {}", self.kind())));
        };
        let name = wish.image.as_ref().or(self.config.default_image.as_ref()).ok_or_else(|| {
            ProvisionError::Unavailable(
                "the task names no image and the worker's configuration has no default".to_owned(),
            )
        })?;
        let reference = image::Reference::parse(name).map_err(ProvisionError::BadTask)?;
        let relaxed = self.config.allow.grant(&wish.relaxed, request.trust)?;
        let sizes = self.config.sizes.grant(&wish.sizes)?;
        let made = async {
            let engine = match self.engine().await {
                Ok(engine) => engine,
                // One that went away comes back, as after an update: another attempt may find it.
                Err(why) if self.engine.lock().await.is_some() => return Err(ProvisionError::Infra(why)),
                Err(why) => return Err(ProvisionError::Unavailable(why)),
            };
            let image = image::provide(&engine, &self.config, &reference, log).await?;
            Ok::<_, ProvisionError>((engine, image))
        };
        let (engine, image) = tokio::select! {
            () = stop.cancelled() => return Err(ProvisionError::Stopped),
            made = tokio::time::timeout(request.limit, made) => made.map_err(|_| ProvisionError::TimedOut)??,
        };
        let mut notes = Vec::new();
        if !relaxed.capabilities.is_empty() || relaxed.network || relaxed.root || relaxed.writable_root {
            notes.push(format!("isolation relaxed: {}", shown(&relaxed)));
        }
        Ok(Box::new(Container {
            config: Arc::clone(&self.config),
            clock: Arc::clone(&self.clock),
            layers: Arc::clone(&self.layers),
            engine,
            label: request.label.clone(),
            deadline: request.deadline + DEADLINE_GRACE,
            base: image.clone(),
            image: image.id,
            prepared_from_cache: false,
            own_image: None,
            relaxed,
            sizes,
            notes,
            pending: Vec::new(),
            has_folders: false,
            listing: Listing::default(),
            holder: None,
            count: 0,
            dir: String::new(),
            secrets: Arc::default(),
        }))
    }

    async fn sweep(&self, alive: &HashSet<AttemptLabel>) -> Result<Swept, String> {
        // Without an engine there is nothing to sweep; that it is away is told where it is needed.
        let Ok(engine) = self.engine().await else { return Ok(Swept::default()) };
        sweep::sweep(&engine, &self.config.worker, self.clock.now(), alive, &self.layers).await
    }
}

fn shown(relaxed: &Relaxed) -> String {
    let flags = [
        (relaxed.network, "network"),
        (relaxed.root, "root"),
        (relaxed.writable_root, "writable root file system"),
    ];
    let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned());
    flags.chain(relaxed.capabilities.iter().cloned()).collect::<Vec<_>>().join(", ")
}

/// One attempt's volume, images and containers.
struct Container {
    config: Arc<ContainerConfig>,
    clock: Arc<dyn Clock>,
    layers: Arc<Layers>,
    engine: Arc<Engine>,
    label: AttemptLabel,
    /// When anybody may remove it.
    deadline: DateTime<Utc>,
    /// The image that the task asked for.
    base: image::Image,
    /// The id or name of the image that containers are made from now.
    image: String,
    prepared_from_cache: bool,
    /// The image that was committed for this attempt alone.
    own_image: Option<String>,
    relaxed: Relaxed,
    sizes: GrantedSizes,
    notes: Vec<String>,
    /// Folders to be uploaded with the next container.
    pending: Vec<PathBuf>,
    /// Whether the work folder has its owner and the folders that are always in it.
    has_folders: bool,
    /// What was uploaded.
    listing: Listing,
    /// The newest container: stopped, and kept since files can be moved through it.
    holder: Option<String>,
    /// How many containers there were.
    count: u32,
    /// The folder below the work folder that commands started in last.
    dir: String,
    /// What the commands of `run` and `cleanup` may read.
    secrets: Arc<[Secret]>,
}

impl Container {
    fn volume(&self) -> String {
        format!("taskbot-{}", self.label)
    }

    /// Removes the newest container, if there is one.
    async fn drop_holder(&mut self) -> Result<(), ExecError> {
        let Some(id) = self.holder.take() else { return Ok(()) };
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        engine::gone_is_fine(self.engine.docker.remove_container(&id, Some(options)).await)
            .map_err(|error| self.engine.infra("remove a container", &error))
    }
}

#[async_trait]
impl Provisioned for Container {
    fn report(&self) -> EnvironmentReport {
        EnvironmentReport {
            executor: ExecutorKind::Container,
            image: Some(self.base.name.clone()),
            image_digest: Some(self.base.digest.clone()),
            engine: Some(self.engine.version.clone()),
            arch: self.base.arch.clone(),
            prepared_from_cache: self.prepared_from_cache,
            notes: self.notes.clone(),
        }
    }

    fn work_dir(&self) -> String {
        WORK_DIR.to_owned()
    }

    fn give_secrets(&mut self, secrets: &Arc<[Secret]>) -> Result<(), String> {
        self.secrets = Arc::clone(secrets);
        Ok(())
    }

    async fn copy_in(&mut self, from: &Path) -> Result<(), ExecError> {
        self.pending.push(from.to_owned());
        // A container that waits is used at once; else the next one takes it along.
        match self.holder.clone() {
            Some(id) => self.upload(&id).await,
            None => Ok(()),
        }
    }

    async fn prepare(
        &mut self,
        request: &ExecRequest<'_>,
        cache_key: Option<&str>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Prepared, ExecError> {
        check_env(request)?;
        if request.lines.is_empty() {
            return Ok(Prepared { exit: Exit::Code(0), from_cache: false });
        }
        let tag = cache_key.map(|key| image::layer_tag(&self.base.id, request, key));
        if let Some(tag) = &tag
            && self.layers.find(&self.engine, tag).await?
        {
            log.write(format!("prepared layer {tag} from the cache\n").as_bytes());
            self.image = image::layer_name(tag);
            self.prepared_from_cache = true;
            return Ok(Prepared { exit: Exit::Code(0), from_cache: true });
        }
        let exit = self.exec(request, log, stop).await?;
        if exit == Exit::Code(0) {
            self.keep_layer(tag.as_deref(), log).await?;
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
        request.dir.clone_into(&mut self.dir);
        self.run(request, log, stop).await
    }

    async fn copy_out(
        &mut self,
        globs: &[String],
        limits: CollectLimits,
        to: &Path,
    ) -> Result<Collected, ExecError> {
        let collector = Collector::new(globs, limits, to)?;
        let id = self.any_container().await?;
        self.collect(&id, collector, !globs.is_empty()).await
    }

    async fn keep(&mut self) -> Result<Vec<String>, ExecError> {
        self.wait_for_a_person().await
    }

    async fn destroy(mut self: Box<Self>) -> Result<(), ExecError> {
        // What cannot be removed must not keep the rest from being.
        let mut left = vec![self.drop_holder().await];
        let docker = &self.engine.docker;
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        let removed = engine::gone_is_fine(docker.remove_volume(&self.volume(), Some(options)).await);
        left.push(removed.map_err(|error| self.engine.infra("remove a volume", &error)));
        if let Some(image) = &self.own_image {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            let removed = docker.remove_image(image, Some(options), None).await.map(drop);
            left.push(
                engine::gone_is_fine(removed).map_err(|error| self.engine.infra("remove an image", &error)),
            );
        }
        left.into_iter().collect()
    }
}

impl Container {
    /// Commits what `prepare` installed: for later attempts too, if nothing else of it would be missing there.
    async fn keep_layer(&mut self, tag: Option<&str>, log: &dyn LogSink) -> Result<(), ExecError> {
        let Some(id) = self.holder.clone() else { return Ok(()) };
        let shared = match tag {
            Some(tag) if self.work_unchanged(&id).await? => Some(tag),
            Some(_) => {
                log.write(b"`prepare` changed the work folder: its layer is not kept for later attempts\n");
                None
            }
            None => None,
        };
        match shared {
            Some(tag) => {
                self.image = image::commit(&self.engine, &id, image::LAYER_REPO, tag).await?;
                self.layers.made(&self.engine, tag, &self.base.id).await?;
                self.image = image::layer_name(tag);
            }
            None => {
                let tag = self.label.to_string();
                self.image = image::commit(&self.engine, &id, image::ATTEMPT_REPO, &tag).await?;
                self.own_image = Some(format!("{}:{tag}", image::ATTEMPT_REPO));
            }
        }
        Ok(())
    }

    /// The secrets that commands in a profile get.
    fn secrets_for(&self, profile: Profile) -> &[Secret] {
        if profile == Profile::Install { &[] } else { &self.secrets }
    }

    /// Whether a command in this profile can write outside the work folder.
    const fn root_is_writable(&self, profile: Profile) -> bool {
        matches!(profile, Profile::Install) || self.relaxed.writable_root
    }
}
