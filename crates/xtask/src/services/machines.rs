//! What virtual machines of tests boot: Debian's kernel for clouds, and an initial RAM disk with BusyBox and the
//! drivers of paravirtual devices. No service: files in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Cleanup, Context, Running, image};
use crate::environment::variable;
use crate::install;
use crate::shell::step_done;

pub(super) const KERNEL: &str = "TASKBOT_TEST_VM_KERNEL";
const INITRD: &str = "TASKBOT_TEST_VM_INITRD";
const MODULES: &str = "TASKBOT_TEST_VM_MODULES";

/// What machines need to find their disks, drives and ports; the initial RAM disk has all of them.
const DRIVERS: &[&str] = &[
    "virtio",
    "virtio_ring",
    "virtio_pci",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_blk",
    "virtio_console",
];
/// What reads media besides: only in the folder of drivers.
const MEDIA_DRIVERS: &[&str] = &[
    "scsi_common",
    "scsi_mod",
    "virtio_scsi",
    "cdrom",
    "sr_mod",
    "isofs",
    "failover",
    "net_failover",
    "virtio_net",
];

pub(super) fn start(context: &Context) -> Result<Running> {
    let folder = match (&context.existing, variable(INITRD), variable(MODULES)) {
        (Some(kernel), Some(initrd), Some(modules)) => {
            return Ok(running(kernel.into(), initrd.into(), modules.into()));
        }
        _ => provide(context)?,
    };
    Ok(running(folder.join("vmlinuz"), folder.join("initrd"), folder.join("modules")))
}

fn running(kernel: PathBuf, initrd: PathBuf, modules: PathBuf) -> Running {
    let text = |path: PathBuf| path.display().to_string();
    Running {
        description: format!("a kernel for virtual machines at {}", kernel.display()),
        exports: vec![(KERNEL, text(kernel)), (INITRD, text(initrd)), (MODULES, text(modules))],
        daemon: None,
        _cleanup: Cleanup::default(),
    }
}

/// Puts everything into the cache, unless it is there.
fn provide(context: &Context) -> Result<PathBuf> {
    let folder = context.cache.join("machine-1");
    if folder.join("initrd").exists() {
        return Ok(folder);
    }
    let started = Instant::now();
    // Beside its final place, so that it appears there whole.
    let new = context.cache.join(format!("machine-1.{}", std::process::id()));
    let made = make(context, &new);
    if made.is_ok() && fs::rename(&new, &folder).is_ok() {
        step_done(started, "a kernel for virtual machines fetched");
    }
    // What is left of a failure, or of a race that another run has won.
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    made?;
    Ok(folder)
}

fn make(context: &Context, folder: &Path) -> Result<()> {
    let unpacked = context.folder.join("kernel");
    fs::create_dir_all(&unpacked)?;
    fs::create_dir_all(folder.join("modules"))?;
    let package = kernel_package()?;
    install::download(&context.shell, &package, &context.folder)?;
    let archive = files_below(&context.folder, 1)
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt did not fetch {package}"))?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(&archive).arg(&unpacked);
    context.shell.run_quietly(&mut unpack, &context.folder.join("dpkg.log"))?;
    let all = files_below(&unpacked, 16);
    let kernel =
        all.iter().find(|path| name_of(path).starts_with("vmlinuz-")).context("it holds no kernel")?;
    fs::copy(kernel, folder.join("vmlinuz"))?;
    let root = context.folder.join("machine-root");
    image::fill(&root)?;
    fs::create_dir_all(root.join("lib/modules"))?;
    for driver in DRIVERS.iter().chain(MEDIA_DRIVERS) {
        // What is built into the kernel has no file.
        let file = format!("{driver}.ko");
        let Some(path) = all.iter().find(|path| name_of(path) == file) else { continue };
        fs::copy(path, folder.join("modules").join(&file))?;
        if DRIVERS.contains(driver) {
            fs::copy(path, root.join("lib/modules").join(&file))?;
        }
    }
    pack(&root, &folder.join("initrd"))
}

/// The package of the kernel that Debian's package for clouds stands for.
fn kernel_package() -> Result<String> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => {
            bail!("no kernel for virtual machines is known for {other}: set {KERNEL}, {INITRD}, {MODULES}")
        }
    };
    let output = Command::new("apt-cache").args(["depends", &format!("linux-image-cloud-{arch}")]).output();
    let text = String::from_utf8_lossy(&output.context("cannot run apt-cache")?.stdout).into_owned();
    let found = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let rest =
        found.with_context(|| format!("apt knows no linux-image-cloud-{arch}; run `apt-get update`"))?;
    Ok(format!("linux-image-{rest}"))
}

/// Packs a folder as an initial RAM disk.
fn pack(root: &Path, to: &Path) -> Result<()> {
    let script = "find . | busybox cpio -o -H newc 2>/dev/null | gzip -1";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(root).stdin(Stdio::null()).stdout(fs::File::create(to)?);
    ensure!(command.status()?.success(), "cannot pack {}", root.display());
    Ok(())
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The plain files below a folder.
fn files_below(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files = Vec::new();
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 1 => files.extend(files_below(&entry.path(), depth - 1)),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}
