//! What the drills make kernel builds of: Debian's packages of the kernel for clouds and of BusyBox, for each
//! architecture that is tested. No service: files in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{Cleanup, Context, Running};
use crate::shell::step_done;

pub(super) const PACKAGES: &str = "TASKBOT_TEST_KERNEL_PACKAGES";
/// Architectures in Debian's words.
const ARCHES: &[&str] = &["amd64", "arm64"];

pub(super) fn start(context: &Context) -> Result<Running> {
    let folder = match &context.existing {
        Some(folder) => folder.into(),
        None => provide(context)?,
    };
    Ok(Running {
        description: format!("packages of kernels at {}", folder.display()),
        exports: vec![(PACKAGES, folder.display().to_string())],
        daemon: None,
        _cleanup: Cleanup::default(),
    })
}

/// Puts the packages into the cache, unless they are there.
fn provide(context: &Context) -> Result<PathBuf> {
    let folder = context.cache.join("kernel-packages-1");
    if folder.exists() {
        return Ok(folder);
    }
    let started = Instant::now();
    // Beside its final place, so that it appears there whole.
    let new = context.cache.join(format!("kernel-packages-1.{}", std::process::id()));
    fs::create_dir_all(&new)?;
    let made = ARCHES.iter().try_for_each(|arch| fetch(context, arch, &new));
    if made.is_ok() && fs::rename(&new, &folder).is_ok() {
        step_done(started, "packages of kernels fetched");
    }
    // What is left of a failure, or of a race that another run has won.
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    made?;
    Ok(folder)
}

/// Fetches both packages for an architecture. Its lists of packages are kept apart: this machine need not know it.
fn fetch(context: &Context, arch: &str, to: &Path) -> Result<()> {
    let state = context.folder.join(arch);
    for inner in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(state.join(inner))?;
    }
    let apt = |program: &str| {
        let mut command = Command::new(program);
        let state = state.display();
        for option in [
            format!("APT::Architecture={arch}"),
            format!("APT::Architectures={arch}"),
            format!("Dir::State::lists={state}/lists"),
            format!("Dir::Cache={state}"),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // Not needed, and large.
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    };
    let run = |arguments: &[&str]| {
        let mut command = apt("apt-get");
        command.arg("--quiet").args(arguments).current_dir(to);
        context.shell.run_quietly(&mut command, &state.join("apt.log"))
    };
    run(&["update"])?;
    let cloud = format!("linux-image-cloud-{arch}");
    let output = apt("apt-cache").args(["depends", &cloud]).output().context("cannot run apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kernel = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel = kernel.with_context(|| format!("apt knows no {cloud}"))?;
    run(&["download", kernel, "busybox-static"])
}
