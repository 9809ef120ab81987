//! Installs the programs that tests need and that this machine lacks, by apt and pip.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::services::postgres;
use crate::shell::{Shell, log_tail, step_done};

/// How often `apt-get` is tried: its own wait for locks does not cover the package lists.
const APT_ATTEMPTS: u32 = 3;
/// How long apt waits for another apt or dpkg.
const APT_LOCK_TIMEOUT_S: u32 = 120;

/// Something tests need, and the Debian packages that bring it.
struct Program {
    name: &'static str,
    present: fn() -> bool,
    packages: &'static [&'static str],
}

macro_rules! programs {
    ($($name:literal => $($package:literal)+;)*) => {
        &[$(Program {
            name: $name,
            present: || environment::find_program($name).is_some(),
            packages: &[$($package),+],
        }),*]
    };
}

/// What tests need, whichever services they use.
const PROGRAMS: &[Program] = programs! {
    "git" => "git" "ca-certificates";
    "ip" => "iproute2";
    "setpriv" => "util-linux";
    "bwrap" => "bubblewrap";
    "busybox" => "busybox-static";
    "dockerd" => "docker.io";
    "podman" => "podman" "containernetworking-plugins" "iptables";
    "runc" => "runc";
    "docker-registry" => "docker-registry";
    "gcc" => "gcc" "libc6-dev";
    "rpmbuild" => "rpm";
    "rpmlint" => "rpmlint";
    "cppcheck" => "cppcheck";
    "spatch" => "coccinelle";
    "createrepo_c" => "createrepo-c";
    "autopkgtest" => "autopkgtest";
    "bats" => "bats";
    "ansible-playbook" => "ansible-core";
    "rsync" => "rsync";
    "cpio" => "cpio";
    "qemu-system-x86_64" => "qemu-system-x86";
    "qemu-system-aarch64" => "qemu-system-arm";
    "qemu-img" => "qemu-utils";
    "grub-mkrescue" => "grub-common" "grub-pc-bin" "mtools";
    "xorriso" => "xorriso";
    "debootstrap" => "debootstrap";
};

/// What has no program of a fixed name in `PATH`.
const OTHERS: &[Program] = &[
    Program {
        name: "PostgreSQL 15 or newer",
        present: || postgres::find_binaries().is_ok(),
        packages: &["postgresql"],
    },
    Program {
        name: "Python bindings of RPM and libsolv",
        present: has_rpm_bindings,
        packages: &["python3-rpm", "python3-solv"],
    },
    Program { name: "environments of Python", present: has_ensurepip, packages: &["python3-venv"] },
    Program { name: "pip", present: has_pip, packages: &["python3-pip"] },
    Program {
        name: "UEFI for virtual machines",
        present: || Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists(),
        packages: &["ovmf"],
    },
    Program {
        name: "UEFI for virtual machines of ARM",
        present: || Path::new("/usr/share/AAVMF/AAVMF_CODE.fd").exists(),
        packages: &["qemu-efi-aarch64"],
    },
    Program {
        name: "C headers",
        present: || Path::new("/usr/include/stdio.h").exists(),
        packages: &["libc6-dev"],
    },
];

/// tmt, which Debian does not have: its version, and where it goes. Sandboxes see only `/usr` of their host.
const TMT: &str = "tmt==1.78.0";
const TMT_FOLDER: &str = "/usr/local/lib/taskbot-test-tmt";
const TMT_LINK: &str = "/usr/local/bin/tmt";

/// Installs tmt from the index of Python's packages, in an environment of its own.
fn missing_tmt(shell: &Shell, scratch: &Path) -> Result<()> {
    if environment::find_program("tmt").is_some() {
        return Ok(());
    }
    let started = Instant::now();
    let privilege = Privilege::find().context("cannot install tmt")?;
    let log = scratch.join("tmt.log");
    let pip = format!("{TMT_FOLDER}/bin/pip");
    let tmt = format!("{TMT_FOLDER}/bin/tmt");
    for (program, arguments) in [
        ("/usr/bin/python3", &["-m", "venv", TMT_FOLDER][..]),
        (&pip, &["install", "--quiet", TMT]),
        ("ln", &["-sf", &tmt, TMT_LINK]),
    ] {
        shell
            .run_quietly(privilege.command(program).args(arguments), &log)
            .with_context(|| format!("cannot install {TMT}"))?;
    }
    step_done(started, format_args!("installed {TMT}"));
    Ok(())
}

fn has_ensurepip() -> bool {
    Command::new("/usr/bin/python3")
        .args(["-c", "import ensurepip"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn has_pip() -> bool {
    Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// They belong to the distribution's own Python.
fn has_rpm_bindings() -> bool {
    Command::new("/usr/bin/python3")
        .args(["-c", "import rpm, solv"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// How we do what only root may.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Privilege {
    Root,
    Sudo,
}

impl Privilege {
    /// Root, or a sudo that asks no questions.
    pub(crate) fn find() -> Result<Self> {
        if nix::unistd::geteuid().is_root() {
            return Ok(Self::Root);
        }
        let sudo = Command::new("sudo").args(["-n", "true"]).output();
        match sudo {
            Ok(output) if output.status.success() => Ok(Self::Sudo),
            Ok(output) => bail!(
                "this needs root: run it as root, or allow sudo without a password (sudo says: {})",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            Err(_) => bail!("this needs root, and there is no sudo: run it as root"),
        }
    }

    /// A program that is run as root.
    pub(crate) fn command(self, program: &str) -> Command {
        match self {
            Self::Root => Command::new(program),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", program]);
                command
            }
        }
    }
}

/// Installs what is missing; does nothing and needs no rights when nothing is. `scratch` takes the log of apt.
pub(crate) fn missing_programs(shell: &Shell, scratch: &Path) -> Result<()> {
    missing_packages(shell, scratch)?;
    missing_tmt(shell, scratch)
}

fn missing_packages(shell: &Shell, scratch: &Path) -> Result<()> {
    let missing: Vec<&Program> =
        PROGRAMS.iter().chain(OTHERS).filter(|program| !(program.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|program| program.name).collect::<Vec<_>>().join(", ");
    if environment::find_program("apt-get").is_none() {
        bail!("missing: {names}; there is no apt-get here to install them, install them yourself");
    }
    let privilege = Privilege::find().with_context(|| format!("cannot install what is missing ({names})"))?;
    let started = Instant::now();
    let mut packages: Vec<&str> = missing.iter().flat_map(|program| program.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    eprintln!("           installing {}", packages.join(" "));
    let log = scratch.join("apt.log");
    apt(shell, privilege, &["update"], &log)?;
    let pinned = same_qemu(&packages);
    let mut install = vec!["install", "--yes", "--no-install-recommends", "--allow-downgrades"];
    install.extend(&packages);
    install.extend(pinned.as_deref());
    apt(shell, privilege, &install, &log)?;
    let still: Vec<&str> = missing.iter().filter(|program| !(program.present)()).map(|p| p.name).collect();
    if !still.is_empty() {
        bail!("installed {}, but these are still missing: {}", packages.join(" "), still.join(", "));
    }
    step_done(started, format_args!("installed {}", packages.join(" ")));
    Ok(())
}

/// QEMU's tools in the version of QEMU itself: tools from backports break an older QEMU.
fn same_qemu(packages: &[&str]) -> Option<String> {
    let wanted = packages.iter().find(|package| package.starts_with("qemu-system-"))?;
    let policy = Command::new("apt-cache").args(["policy", wanted]).output().ok()?;
    let policy = String::from_utf8_lossy(&policy.stdout).into_owned();
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    Some(format!("qemu-utils={version}"))
}

/// Fetches a package into a folder without installing it; the lists of packages are renewed if that is needed.
pub(crate) fn download(shell: &Shell, package: &str, folder: &Path) -> Result<()> {
    let log = folder.join("download.log");
    let fetch = || {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "download", package]).current_dir(folder);
        shell.run_quietly(&mut command, &log)
    };
    if fetch().is_ok() {
        return Ok(());
    }
    apt(shell, Privilege::find()?, &["update"], &folder.join("update.log"))?;
    fetch().with_context(|| format!("cannot fetch {package}"))
}

fn apt(shell: &Shell, privilege: Privilege, arguments: &[&str], log: &Path) -> Result<()> {
    for attempt in 1.. {
        shell.check()?;
        let output = std::fs::File::create(log)?;
        // Not through the shell: half an installation is worse than an interruption that waits for it.
        let mut command = privilege.command("env");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "-o"]);
        command.arg(format!("DPkg::Lock::Timeout={APT_LOCK_TIMEOUT_S}")).args(arguments);
        command.stdin(std::process::Stdio::null()).stdout(output.try_clone()?).stderr(output);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let status = command.status().context("cannot run apt-get")?;
        if status.success() {
            break;
        }
        if attempt == APT_ATTEMPTS {
            bail!("`apt-get {}` ended with {status}:\n{}", arguments.join(" "), log_tail(log));
        }
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    shell.check()
}
