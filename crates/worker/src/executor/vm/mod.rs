//! Virtual machines by QEMU, with KVM where it works and by emulation elsewhere.
//!
//! A machine boots a kernel with an initial RAM disk, a layer over an image, or what an installation left on a
//! blank disk. It starts when its files are there. Our agent in it runs commands as root: the machine is what
//! isolates. Scripts and files go in by a disk and come out by another, output comes by a port; no network and
//! no file system of the guest is needed for it. All of a machine is in its attempt's folder, and its process
//! carries the attempt's mark, so that a sweep finds what a dead worker left.

mod arch;
mod archive;
mod arguments;
mod boot;
mod console;
mod cpio;
mod guest;
mod installing;
mod iso;
mod kvm;
mod machine;
mod media;
mod process;
mod qmp;
mod scripts;

pub use arguments::PERSON_SOCKET;

use super::{
    AttemptLabel, Environment, Executor, GrantedSizes, LogSink, Probe, ProvisionError, ProvisionRequest,
    Provisioned, Swept,
    host::{self, HostConfig, Place},
};
use arch::Arch;
use arguments::{Forward, Network};
use async_trait::async_trait;
use machine::{Base, Vm};
use model::{
    Clock, Ids,
    requirements::ExecutorKind,
    task::Trust,
    task_file::{Firmware, VmLogin, VmNetwork, VmWish},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{process::Command, sync::OnceCell};
use tokio_util::sync::CancellationToken;

/// The largest disk of an image that is taken when the task asks for less.
const IMAGE_BYTES_MAX: u64 = 64 << 30;
/// How long an installed machine may take to switch itself off, before the worker's factor.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);
/// What QEMU itself needs beside the guest's memory, in bytes.
const OWN_MEMORY_BYTES: u64 = 512 << 20;
/// The most processes and threads of QEMU.
const OWN_PROCESSES: u32 = 512;

/// How machines are set up.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// What it shares with `local` and `sandbox`; the folder is for machines alone.
    pub host: HostConfig,
    /// The images that tasks can name.
    pub images: BTreeMap<String, VmImage>,
    /// The `HOST:PORT`s that trusted tasks may reach from their machines.
    pub network: BTreeSet<String>,
    /// What the limits of booting, installing and our own work are multiplied by.
    pub time_factor: f64,
    /// Whether KVM is used; found out by starting a guest when missing.
    pub kvm: Option<bool>,
}

/// An image that tasks can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmImage {
    /// Where it is: qcow2 or raw.
    pub path: PathBuf,
    /// Its architecture; this machine's when missing.
    pub arch: Option<String>,
    /// How commands get in.
    pub login: VmLogin,
    /// How it boots.
    pub firmware: Firmware,
    /// Its SHA-256, as it is reported.
    pub sha256: Option<String>,
}

/// The executor `vm`.
pub struct Machines {
    config: VmConfig,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    kvm: OnceCell<Result<(), String>>,
    version: OnceCell<String>,
}

impl fmt::Debug for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machines").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Machines {
    /// Sets it up.
    #[must_use]
    pub fn new(config: VmConfig, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { config, clock, ids, kvm: OnceCell::new(), version: OnceCell::new() }
    }

    /// Whether machines of this architecture run with KVM.
    async fn has_kvm(&self, arch: &str) -> bool {
        if arch != std::env::consts::ARCH {
            return false;
        }
        match self.config.kvm {
            Some(kvm) => kvm,
            None => self.kvm.get_or_init(kvm_works).await.is_ok(),
        }
    }

    /// QEMU's version.
    async fn version(&self) -> Result<&String, String> {
        self.version.get_or_try_init(version).await
    }

    /// What a wish comes to on this worker.
    fn resolve(&self, wish: &VmWish, trust: Trust) -> Result<Resolved, ProvisionError> {
        let unavailable = ProvisionError::Unavailable;
        let image = match &wish.image {
            None => None,
            Some(name) => Some((
                name,
                self.config.images.get(name).ok_or_else(|| {
                    let known: Vec<_> = self.config.images.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    unavailable(format!("this worker has no image `{name}`; it has: {known}"))
                })?,
            )),
        };
        let base = image.map(|(name, image)| Base {
            name: name.clone(),
            path: image.path.clone(),
            digest: image.sha256.as_ref().map(|sum| format!("sha256:{sum}")),
        });
        let image = image.map(|(_, image)| image);
        let arch_name = image.and_then(|image| image.arch.as_deref()).unwrap_or(std::env::consts::ARCH);
        let arch_name = wish.arch.as_deref().unwrap_or(arch_name);
        let arch = Arch::find(arch_name).filter(|arch| Arch::present().contains(arch)).ok_or_else(|| {
            unavailable(format!(
                "this worker has no QEMU for `{arch_name}` (offered: {})",
                arches().join(", ")
            ))
        })?;
        let firmware = match wish.firmware {
            Firmware::Default => image.map_or(Firmware::Default, |image| image.firmware),
            asked => asked,
        };
        let firmware =
            if wish.kernel.is_some() { None } else { arch.firmware(firmware).map_err(unavailable)? };
        let login = wish.login.clone().or_else(|| image.map(|image| image.login.clone()));
        self.check_network(&wish.network, trust)?;
        Ok(Resolved { arch, firmware, base, login: login.unwrap_or(VmLogin::CloudInit) })
    }

    fn check_network(&self, wish: &VmNetwork, trust: Trust) -> Result<(), ProvisionError> {
        let refused = match (wish, trust) {
            (VmNetwork::None, _) => return Ok(()),
            (_, Trust::Untrusted) => "asks for network: the task is not trusted".to_owned(),
            (VmNetwork::All, Trust::Trusted) if self.config.host.allow.network => return Ok(()),
            (VmNetwork::All, Trust::Trusted) => {
                "asks for network: this worker's configuration does not allow it".to_owned()
            }
            (VmNetwork::Only(wanted), Trust::Trusted) => {
                let refused: Vec<_> =
                    wanted.iter().filter(|one| !self.config.network.contains(*one)).cloned().collect();
                if refused.is_empty() {
                    return Ok(());
                }
                format!("asks to reach {}: this worker's configuration does not allow it", refused.join(", "))
            }
        };
        Err(ProvisionError::Unavailable(refused))
    }
}

/// What a wish comes to.
struct Resolved {
    arch: Arch,
    firmware: Option<(PathBuf, PathBuf)>,
    base: Option<Base>,
    login: VmLogin,
}

/// The architectures of machines that this host can have, by the emulators that are installed.
#[must_use]
pub fn arches() -> Vec<&'static str> {
    Arch::present().into_iter().map(|arch| arch.name).collect()
}

/// Whether KVM works here: a guest is started with it, under a time limit. The device's presence tells nothing.
///
/// # Errors
/// Why it does not.
pub async fn kvm_works() -> Result<(), String> {
    if !std::path::Path::new("/dev/kvm").exists() {
        return Err("there is no /dev/kvm".to_owned());
    }
    kvm::guest_runs(std::env::consts::ARCH, true).await
}

async fn version() -> Result<String, String> {
    let Some(arch) = Arch::present().first().copied() else {
        return Err("QEMU is missing; install qemu-system-x86 or qemu-system-arm, and qemu-utils".to_owned());
    };
    if host::program("qemu-img").is_none() {
        return Err("`qemu-img` is missing; install qemu-utils".to_owned());
    }
    let mut command = Command::new(arch.program);
    command.arg("--version").env_clear().env("PATH", host::PATH).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| format!("{}: {error}", arch.program))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(3).unwrap_or("of an unknown version");
    Ok(format!("QEMU {version}"))
}

#[async_trait]
impl Executor for Machines {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Vm
    }

    async fn probe(&self) -> Result<Probe, String> {
        let version = self.version().await?.clone();
        let kvm = if self.has_kvm(std::env::consts::ARCH).await {
            "with KVM".to_owned()
        } else {
            match self.kvm.get() {
                Some(Err(why)) => format!("without KVM ({why}): by emulation, many times slower"),
                _ => "without KVM: by emulation, many times slower".to_owned(),
            }
        };
        let images: Vec<_> = self.config.images.keys().map(String::as_str).collect();
        let missing = self.config.images.iter().filter(|(_, image)| !image.path.is_file());
        let missing: Vec<_> = missing.map(|(name, _)| name.as_str()).collect();
        let mut notes = vec![kvm, format!("machines: {}", arches().join(", "))];
        if !images.is_empty() {
            notes.push(format!("images: {}", images.join(", ")));
        }
        if !missing.is_empty() {
            notes.push(format!("images whose file is missing: {}", missing.join(", ")));
        }
        Ok(Probe { version, notes })
    }

    fn images(&self) -> Option<BTreeSet<String>> {
        let there = self.config.images.iter().filter(|(_, image)| image.path.is_file());
        Some(there.map(|(name, _)| name.clone()).collect())
    }

    async fn provision(
        &self,
        request: &ProvisionRequest<'_>,
        _log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Box<dyn Provisioned>, ProvisionError> {
        let Environment::Vm(wish) = request.environment else {
            return Err(ProvisionError::Unavailable(format!("not a wish for {}", self.kind())));
        };
        let version = self.version().await.map_err(ProvisionError::Unavailable)?.clone();
        let resolved = self.resolve(wish, request.trust)?;
        if let Some(base) = &resolved.base
            && !base.path.is_file()
        {
            let message = format!("the image `{}` is missing at {}", base.name, base.path.display());
            return Err(ProvisionError::Infra(message));
        }
        let sizes = self.config.host.sizes.grant(&wish.sizes)?;
        let kvm = tokio::select! {
            kvm = self.has_kvm(resolved.arch.name) => kvm,
            () = stop.cancelled() => return Err(ProvisionError::Stopped),
        };
        let around = GrantedSizes {
            memory_bytes: sizes.memory_bytes + sizes.memory_bytes / 8 + OWN_MEMORY_BYTES,
            cpus: sizes.cpus + 1,
            processes: OWN_PROCESSES,
            ..sizes
        };
        let mut place = Place::make(&self.config.host, request, around, None)?;
        place.sizes = sizes;
        let made = self.fill(&place, wish, resolved.firmware);
        let (firmware, network) = match made {
            Ok(made) => made,
            Err(error) => {
                place.remove().map_err(|error| ProvisionError::Infra(error.to_string()))?;
                return Err(ProvisionError::Infra(format!("the machine's folder: {error}")));
            }
        };
        let mut notes = Vec::new();
        if network != Network::None {
            notes.push("isolation relaxed: network".to_owned());
        }
        Ok(Box::new(Vm {
            place,
            wish: (**wish).clone(),
            login: resolved.login,
            arch: resolved.arch,
            kvm,
            engine: format!("{version} ({})", if kvm { "kvm" } else { "emulation" }),
            time_factor: if self.config.time_factor.is_finite() {
                self.config.time_factor.clamp(0.01, 1000.0)
            } else {
                1.0
            },
            firmware,
            network,
            base: resolved.base,
            mark: hex::encode(&self.ids.secret()[..16]),
            notes,
            running: None,
            moved_in: Vec::new(),
            secrets: Arc::default(),
            has_secrets: false,
            is_held: false,
        }))
    }

    async fn sweep(&self, alive: &HashSet<AttemptLabel>) -> Result<Swept, String> {
        host::sweep(&self.config.host, &self.clock, alive)
    }
}

/// The firmware's code and this machine's variables, and its network.
type Filled = (Option<(PathBuf, PathBuf)>, Network);

impl Machines {
    /// Puts into a machine's folder what it has from the start.
    fn fill(
        &self,
        place: &Place,
        wish: &VmWish,
        firmware: Option<(PathBuf, PathBuf)>,
    ) -> std::io::Result<Filled> {
        let firmware = match firmware {
            None => None,
            Some((code, template)) => {
                let own = place.root.join("firmware-variables.fd");
                std::fs::copy(template, &own)?;
                Some((code, own))
            }
        };
        let network = match &wish.network {
            VmNetwork::None => Network::None,
            VmNetwork::All => Network::All,
            VmNetwork::Only(ends) => {
                let mut ways = Vec::new();
                for (number, end) in ends.iter().enumerate() {
                    let Some((host, port)) = end.rsplit_once(':') else { continue };
                    let script = format!("forward-{number}.sh");
                    let text =
                        format!("exec 3<>/dev/tcp/{host}/{port} || exit 1\ncat <&3 &\ncat >&3\nkill $!\n");
                    std::fs::write(place.root.join(&script), text)?;
                    let address = format!("10.0.2.{}", 100 + number.min(100));
                    ways.push(Forward {
                        host: host.to_owned(),
                        address,
                        port: port.parse().unwrap_or(0),
                        script,
                    });
                }
                Network::Only(ways)
            }
        };
        Ok((firmware, network))
    }
}
