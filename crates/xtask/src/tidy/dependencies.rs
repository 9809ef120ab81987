//! Who may use whom.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{cargo, expect_none};

/// Each crate's folder, and the crates of ours that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("rules", &["model"]),
    ("events", &["model"]),
    ("store", &["model"]),
    ("scheduler", &["model", "rules", "events", "store"]),
    ("results", &["model"]),
    ("worker", &["model", "results"]),
    ("api", &["model", "store", "scheduler"]),
    ("web", &["model", "store", "scheduler"]),
    ("taskbot", &["model", "rules", "events", "store", "scheduler", "results", "worker", "api", "web"]),
    ("xtask", &[]),
];

/// Libraries that only these crates know.
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("async-nats", &["events"]),
    ("lapin", &["events"]),
    ("bollard", &["worker"]),
    ("axum", &["api", "web"]),
    ("rhai", &["rules"]),
];

/// The binary: its tests and benchmarks compare with the bare services, so they may use any library.
const BINARY: &str = "taskbot";

/// Crates without I/O, and what must not be beneath them.
const PURE: &[&str] = &["taskbot-model", "taskbot-rules"];
const IO: &[&str] = &["tokio", "mio", "hyper", "reqwest", "sqlx", "async-nats", "lapin", "bollard", "axum"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    /// The package's name, also where the manifest renames it.
    name: String,
    /// `dev`, `build`, or none for a normal one.
    kind: Option<String>,
    /// Set for crates of ours.
    path: Option<String>,
}

/// The folder of one of our packages.
fn folder(package: &str) -> &str {
    package.strip_prefix("taskbot-").unwrap_or(package)
}

fn packages() -> Vec<Package> {
    let json = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_str::<Metadata>(&json).unwrap().packages
}

/// What is wrong with one package's dependencies.
fn findings(package: &Package) -> Vec<String> {
    let name = folder(&package.name);
    let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name}: a new crate; say in this test what it may use")];
    };
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        let used = folder(&dependency.name);
        let for_tests = dependency.kind.as_deref() == Some("dev");
        if dependency.path.is_some() {
            if used == BINARY {
                findings.push(format!("{name} uses {used}: nothing may depend on the binary"));
            } else if !for_tests && !may_use.contains(&used) {
                findings.push(format!("{name} uses {used}: it may use {may_use:?}"));
            }
        } else if let Some((_, owners)) = OWNERS.iter().find(|(library, _)| *library == dependency.name)
            && !owners.contains(&name)
            && !(name == BINARY && for_tests)
        {
            findings.push(format!("{name} uses {}: only {owners:?} may know it", dependency.name));
        }
    }
    findings
}

#[test]
fn crates_use_only_what_lies_before_them() {
    expect_none(packages().iter().flat_map(findings));
}

#[test]
fn wrong_dependencies_are_found() {
    let package = |name: &str, dependency: &str, kind: Option<&str>, ours: bool| Package {
        name: name.to_owned(),
        dependencies: vec![Dependency {
            name: dependency.to_owned(),
            kind: kind.map(str::to_owned),
            path: ours.then(|| format!("crates/{dependency}")),
        }],
    };
    for (name, dependency, kind, ours, expect) in [
        ("taskbot-rules", "taskbot-model", None, true, ""),
        ("taskbot-rules", "taskbot-store", None, true, "rules uses store: it may use [\"model\"]"),
        ("taskbot-rules", "taskbot-store", Some("dev"), true, ""),
        ("taskbot-api", "taskbot", Some("dev"), true, "api uses taskbot: nothing may depend on the binary"),
        ("taskbot-api", "sqlx", None, false, "api uses sqlx: only [\"store\"] may know it"),
        ("taskbot-api", "sqlx", Some("dev"), false, "api uses sqlx: only [\"store\"] may know it"),
        ("taskbot", "sqlx", None, false, "taskbot uses sqlx: only [\"store\"] may know it"),
        ("taskbot", "sqlx", Some("dev"), false, ""),
        ("taskbot-x", "sqlx", None, false, "x: a new crate; say in this test what it may use"),
    ] {
        assert_eq!(
            findings(&package(name, dependency, kind, ours)).join("; "),
            expect,
            "{name} {dependency}"
        );
    }
}

#[test]
fn pure_crates_have_no_io_beneath_them() {
    for package in PURE {
        let tree = cargo(&["tree", "-p", package, "--edges", "normal", "--prefix", "none", "--all-features"]);
        let beneath: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(beneath.contains("serde"), "not a list of packages: {tree}");
        let io: Vec<&&str> = IO.iter().filter(|&library| beneath.contains(library)).collect();
        assert!(
            io.is_empty(),
            "{package} does no I/O, yet has {io:?} beneath it; see `cargo tree -p {package}`"
        );
    }
}
