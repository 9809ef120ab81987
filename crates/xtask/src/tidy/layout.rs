//! What lies where, and how long it may be.

use std::fs;

use serde_json::Value;

use super::{NOT_OURS, cargo, expect_none, files, root};

/// Everything at the top level, apart from files and folders that begin with a dot.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "crates",
    "deny.toml",
    "deploy",
    "docs",
    "migrations",
    "rules",
    "rustfmt.toml",
];
/// Crates whose package has the name of its folder, without the project's prefix.
const WITHOUT_PREFIX: &[&str] = &["taskbot", "xtask"];
/// A longer file has more than one subject.
const MAX_RUST_LINES: usize = 700;
/// What fits on two screens is read.
const MAX_README_LINES: usize = 100;

#[test]
fn the_top_level_has_only_what_belongs_there() {
    let names = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let surplus = names.filter(|name| {
        !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) && !TOP_LEVEL.contains(&name.as_str())
    });
    expect_none(surplus.map(|name| format!("{name}: does not belong at the top level")));
}

#[test]
fn packages_are_named_after_their_folders() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(!packages.is_empty(), "no packages");
    expect_none(packages.iter().filter_map(|package| {
        let name = package["name"].as_str()?;
        let folder = package["manifest_path"].as_str()?.strip_suffix("/Cargo.toml")?.rsplit('/').next()?;
        let prefix = if WITHOUT_PREFIX.contains(&folder) { "" } else { "taskbot-" };
        (name != format!("{prefix}{folder}")).then(|| format!("crates/{folder}: its package is named {name}"))
    }));
}

#[test]
fn crates_say_first_what_they_are_for() {
    let roots = files().into_iter().filter(|file| {
        file.path.starts_with("crates/")
            && (file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs"))
    });
    expect_none(
        roots
            .filter(|file| !file.text.starts_with("//! "))
            .map(|file| format!("{}:1: `//!` and what the crate is for are expected", file.path)),
    );
}

#[test]
fn files_are_short() {
    expect_none(files().iter().filter(|file| file.extension() == "rs").filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > MAX_RUST_LINES)
            .then(|| format!("{}: {lines} lines, at most {MAX_RUST_LINES}: split it", file.path))
    }));
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README.md");
    let lines = readme.lines().count();
    assert!(lines <= MAX_README_LINES, "README.md: {lines} lines, at most {MAX_README_LINES}");
}
