//! bubblewrap on this host, for machines without a container engine.
//!
//! Commands see `/usr` and chosen files of `/etc`, read-only, and their work folder; they have no network,
//! no capabilities, a process space of their own, and with a worker that is root a user of their own. Without
//! root the sandbox needs user namespaces; what runs inside cannot make any.
//!
//! What network there is would be this host's own, with its loopback and its metadata service: `prepare` has it
//! only for trusted tasks on workers that allow it, `run` only if the task also asks for it.

use super::{
    AttemptLabel, Environment, ExecRequest, Executor, LogSink, Probe, Profile, ProvisionError,
    ProvisionRequest, Provisioned, Swept, WORK_DIR,
    host::{self, HostConfig, HostEnvironment, Place, Style, check_programs, start_folder},
    seccomp,
    supervise::variables,
};
use crate::secrets::{SECRETS_DIR, SECRETS_FOLDER_BYTES, SECRETS_VARIABLE};
use async_trait::async_trait;
use model::{Clock, attempt::EnvironmentReport, requirements::ExecutorKind, task::Trust};
use std::{
    collections::{BTreeSet, HashSet},
    fs,
    io::Write as _,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};
use tokio::{process::Command, sync::OnceCell};
use tokio_util::sync::CancellationToken;

/// What commands see of `/etc`. Nothing that tells secrets or of this host's configuration.
const ETC: [&str; 24] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "debian_version",
    "fedora-release",
    "fonts",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/rpm-gpg",
    "pki/tls",
    "protocols",
    "python3",
    "rpm",
    "services",
    "ssl/certs",
    "xdg/rpmlint",
];
/// What commands with network see of it, too.
const ETC_NETWORK: [&str; 4] = ["gai.conf", "host.conf", "hosts", "resolv.conf"];
/// The file in an attempt's folder that holds the filter for system calls.
const FILTER_FILE: &str = "filter";
/// Starts bubblewrap with the filter in the file that is named first. It reads it by a descriptor.
const WITH_FILTER: &str = r#"exec 9<"$0" && exec bwrap --seccomp 9 "$@""#;
/// What a worker says where the filter is not to be had.
const OPEN: &str = "commands can make user namespaces: there is no filter for this architecture";
/// The file in the sandbox that marks that commands began.
const STARTED: &str = "/run/taskbot/started";

/// How the sandbox is set up.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// What it shares with `local`.
    pub host: HostConfig,
    /// Folders and files of the host that commands see besides, read-only.
    pub binds: Vec<PathBuf>,
    /// The users that commands run as when the worker is root, one for each attempt. Nobody else's.
    pub uids: Range<u32>,
}

/// The default of [`SandboxConfig::uids`].
pub const UIDS: Range<u32> = 62_000..62_256;

/// The executor `sandbox`.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    clock: Arc<dyn Clock>,
    used_uids: Arc<Mutex<BTreeSet<u32>>>,
    version: OnceCell<String>,
}

impl Sandbox {
    /// Sets it up.
    #[must_use]
    pub fn new(config: SandboxConfig, clock: Arc<dyn Clock>) -> Self {
        Self { config, clock, used_uids: Arc::default(), version: OnceCell::new() }
    }

    /// Makes a sandbox with nothing in it, once; the result of a working one is kept.
    async fn version(&self) -> Result<&String, String> {
        self.version.get_or_try_init(try_out).await
    }

    fn take_uid(&self) -> Result<Option<Uid>, ProvisionError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let infra = |why: &str| ProvisionError::Infra(why.to_owned());
        let mut used = self.used_uids.lock().map_err(|_| infra("the list of users is broken"))?;
        let free = self.config.uids.clone().find(|uid| !used.contains(uid));
        let uid = free.ok_or_else(|| infra("no user is free for the sandbox; give the worker more uids"))?;
        used.insert(uid);
        Ok(Some(Uid { uid, used: Arc::clone(&self.used_uids) }))
    }
}

/// Runs `true` in a sandbox; gives the version.
async fn try_out() -> Result<String, String> {
    for program in ["bwrap", "prlimit", "setpriv"] {
        if host::program(program).is_none() {
            return Err(format!("`{program}` is missing; install bubblewrap and util-linux"));
        }
    }
    let run = async |mut command: Command, args: Vec<String>| {
        command.args(args).env_clear().env("PATH", host::PATH).stdin(Stdio::null()).kill_on_drop(true);
        command.output().await.map_err(|error| format!("bwrap cannot be started: {error}"))
    };
    let version = run(Command::new("bwrap"), vec!["--version".to_owned()]).await?;
    let mut args = isolation(false, nix::unistd::geteuid().is_root());
    args.extend(system(false, &[]));
    let filter = seccomp::filter(std::env::consts::ARCH);
    // Only what was tried is known to hold.
    let inside = if filter.is_some() { "! unshare --user true 2>/dev/null" } else { "true" };
    args.extend(["--", "sh", "-c", inside].map(str::to_owned));
    let mut file = tempfile::NamedTempFile::new().map_err(|error| format!("no temporary file: {error}"))?;
    let command = match &filter {
        Some(filter) => {
            file.write_all(filter).map_err(|error| format!("a temporary file: {error}"))?;
            with_filter(Command::new("/bin/sh"), file.path())
        }
        None => Command::new("bwrap"),
    };
    let tried = run(command, args).await?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        return Err(format!(
            "bubblewrap does not work here ({said}); it needs root or user namespaces \
             (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
        ));
    }
    Ok(String::from_utf8_lossy(&version.stdout).trim().to_owned())
}

/// A shell that becomes bubblewrap with a filter.
fn with_filter(mut shell: Command, filter: &Path) -> Command {
    shell.args(["-c", WITH_FILTER]).arg(filter);
    shell
}

#[async_trait]
impl Executor for Sandbox {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Sandbox
    }

    async fn probe(&self) -> Result<Probe, String> {
        let open = seccomp::filter(std::env::consts::ARCH).is_none().then(|| OPEN.to_owned());
        Ok(Probe { version: self.version().await?.clone(), notes: open.into_iter().collect() })
    }

    async fn provision(
        &self,
        request: &ProvisionRequest<'_>,
        _log: &dyn LogSink,
        _stop: &CancellationToken,
    ) -> Result<Box<dyn Provisioned>, ProvisionError> {
        let Environment::Sandbox(wish) = request.environment else {
            return Err(ProvisionError::Unavailable(format!("not a wish for {}", self.kind())));
        };
        let version = self.version().await.map_err(ProvisionError::Unavailable)?.clone();
        let relaxed = self.config.host.allow.grant(&wish.relaxed, request.trust)?;
        if relaxed.root || relaxed.writable_root || !relaxed.capabilities.is_empty() {
            return Err(ProvisionError::Unavailable(
                "a sandbox gives neither root nor a writable root file system nor capabilities; \
                 only a container can"
                    .to_owned(),
            ));
        }
        check_programs(&wish.programs)?;
        let sizes = self.config.host.sizes.grant(&wish.sizes)?;
        let uid = self.take_uid()?;
        let mut place = Place::make(&self.config.host, request, sizes, uid.as_ref().map(|uid| uid.uid))?;
        let filter = seccomp::filter(std::env::consts::ARCH);
        if let Some(filter) = &filter {
            if let Err(error) = fs::write(place.root.join(FILTER_FILE), filter) {
                let _ = place.remove();
                return Err(ProvisionError::Infra(format!("the attempt's folder: {error}")));
            }
        } else {
            place.notes.push(OPEN.to_owned());
        }
        let prepare_network = self.config.host.allow.network && request.trust == Trust::Trusted;
        let binds = self.config.binds.clone();
        let filtered = filter.is_some();
        let style = Bubblewrap { version, network: relaxed.network, prepare_network, binds, uid, filtered };
        Ok(Box::new(HostEnvironment { place, style }))
    }

    async fn sweep(&self, alive: &HashSet<AttemptLabel>) -> Result<Swept, String> {
        host::sweep(&self.config.host, &self.clock, alive)
    }
}

/// A user that is taken until this is dropped.
#[derive(Debug)]
struct Uid {
    uid: u32,
    used: Arc<Mutex<BTreeSet<u32>>>,
}

impl Drop for Uid {
    fn drop(&mut self) {
        if let Ok(mut used) = self.used.lock() {
            used.remove(&self.uid);
        }
    }
}

/// Commands in bubblewrap.
struct Bubblewrap {
    version: String,
    /// Whether `run` has network.
    network: bool,
    /// Whether `prepare` has it.
    prepare_network: bool,
    binds: Vec<PathBuf>,
    uid: Option<Uid>,
    /// Whether there is a filter for system calls.
    filtered: bool,
}

impl Style for Bubblewrap {
    fn report(&self, _place: &Place) -> EnvironmentReport {
        EnvironmentReport {
            executor: ExecutorKind::Sandbox,
            image: None,
            image_digest: None,
            engine: Some(self.version.clone()),
            arch: std::env::consts::ARCH.to_owned(),
            prepared_from_cache: false,
            notes: Vec::new(),
        }
    }

    fn work_dir(&self, _place: &Place) -> String {
        WORK_DIR.to_owned()
    }

    fn command(&self, place: &Place, request: &ExecRequest<'_>) -> Command {
        let network = self.network || self.prepare_network && request.profile == Profile::Install;
        let mut command = if self.filtered {
            with_filter(place.command("/bin/sh"), &place.root.join(FILTER_FILE))
        } else {
            place.command("bwrap")
        };
        command.args(isolation(network, self.uid.is_some())).args(system(network, &self.binds));
        let tmp_bytes = place.sizes.tmp_bytes.to_string();
        for folder in ["/tmp", "/dev/shm"] {
            command.args(["--size", &tmp_bytes, "--tmpfs", folder, "--chmod", "1777", folder]);
        }
        let has_secrets = !place.secrets_for(request.profile).is_empty();
        if has_secrets {
            let bytes = SECRETS_FOLDER_BYTES.to_string();
            command.args(["--size", &bytes, "--tmpfs", SECRETS_DIR, "--chmod", "1777", SECRETS_DIR]);
        }
        command.args(["--symlink", "../tmp", "/var/tmp"]);
        command.arg("--bind").arg(place.work()).arg(WORK_DIR);
        command.arg("--bind").arg(place.root.join("state")).arg("/run/taskbot");
        // What is not a mount of its own is bubblewrap's root, in memory and without a limit: read-only.
        command.args(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]);
        if let Some(uid) = &self.uid {
            let uid = uid.uid.to_string();
            command.args(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"]);
            command.args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]);
        }
        command
            .arg("prlimit")
            .args(place.rlimits())
            .args(["/bin/sh", "-c", &place.wrapper(request.profile), STARTED])
            .arg(start_folder(WORK_DIR, request.dir))
            .args(request.lines)
            .env_clear()
            .envs(variables(request, WORK_DIR, "/tmp"));
        if has_secrets {
            command.env(SECRETS_VARIABLE, SECRETS_DIR);
        }
        command
    }
}

/// What is taken away. As root there is no user namespace: commands become a user of their own, which needs
/// three capabilities until then.
fn isolation(network: bool, root: bool) -> Vec<String> {
    let mut args: Vec<&str> = vec![
        "--die-with-parent",
        "--new-session",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--hostname",
        "taskbot",
        "--cap-drop",
        "ALL",
    ];
    if root {
        for capability in ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"] {
            args.extend(["--cap-add", capability]);
        }
    } else {
        args.push("--unshare-user");
    }
    if !network {
        args.push("--unshare-net");
    }
    args.into_iter().map(str::to_owned).collect()
}

/// What is installed, as the tools of packages ask it: what tests need is looked up there.
const PACKAGES: [&str; 2] = ["/var/lib/dpkg", "/var/lib/rpm"];

/// What is seen of this host.
fn system(network: bool, binds: &[PathBuf]) -> Vec<String> {
    let mut args: Vec<String> = ["--ro-bind", "/usr", "/usr"].map(str::to_owned).to_vec();
    for folder in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        match fs::read_link(folder) {
            Ok(target) => {
                args.extend([
                    "--symlink".to_owned(),
                    target.to_string_lossy().into_owned(),
                    folder.to_owned(),
                ]);
            }
            Err(_) if Path::new(folder).is_dir() => {
                args.extend(["--ro-bind", folder, folder].map(str::to_owned));
            }
            Err(_) => {}
        }
    }
    let etc = ETC.iter().chain(ETC_NETWORK.iter().filter(|_| network));
    let etc = etc.map(|name| format!("/etc/{name}"));
    let packages = PACKAGES.iter().map(|path| (*path).to_owned());
    for path in etc.chain(packages).chain(binds.iter().map(|path| path.to_string_lossy().into_owned())) {
        // The folders above that bubblewrap makes by itself are open to root alone.
        let above = Path::new(&path).ancestors().skip(1).filter(|folder| folder.parent().is_some());
        let above: Vec<_> = above.map(|folder| folder.to_string_lossy().into_owned()).collect();
        args.extend(above.into_iter().rev().flat_map(|folder| ["--dir".to_owned(), folder]));
        args.extend(["--ro-bind-try".to_owned(), path.clone(), path]);
    }
    args.extend(["--proc", "/proc", "--dev", "/dev", "--dir", "/var", "--dir", "/run"].map(str::to_owned));
    args
}
