//! Where things are, as `cargo metadata` tells it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::environment;

/// The checkout we work on.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where cargo builds to; respects `CARGO_TARGET_DIR`.
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let output = Command::new(environment::cargo())
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(&manifest)
            .output()
            .context("cannot run `cargo metadata`")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`cargo metadata` failed: {}", complaint.trim());
        serde_json::from_slice(&output.stdout).context("cannot read the output of `cargo metadata`")
    }

    /// Benchmarks as (package, name), by name.
    pub(crate) fn benches(&self) -> Vec<(&str, &str)> {
        let mut benches: Vec<(&str, &str)> = self
            .packages
            .iter()
            .flat_map(|package| package.targets.iter().map(move |target| (package.name.as_str(), target)))
            .filter(|(_, target)| target.kind.iter().any(|kind| kind == "bench"))
            .map(|(package, target)| (package, target.name.as_str()))
            .collect();
        benches.sort_by_key(|&(_, name)| name);
        benches
    }

    /// Cargo, run in the root folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(environment::cargo());
        command.current_dir(&self.root);
        command
    }
}
