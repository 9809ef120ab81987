//! Licences, banned libraries and sources, as `deny.toml` has them.
//!
//! cargo-deny itself takes long to build; its file is read here, so that the rules are one and the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;
use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};

use super::{cargo, expect_none, root};

/// The part of `deny.toml` that is checked here.
#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    package: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

fn deny() -> Deny {
    toml::from_str(&fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap()
}

/// What is really built for the targets of `deny.toml`, with its licence. `cargo metadata` also lists optional
/// libraries that no feature turns on.
fn built(deny: &Deny) -> BTreeMap<String, String> {
    let mut arguments =
        vec!["tree", "--workspace", "--edges", "all", "--prefix", "none", "--format", "{p}|{l}"];
    for target in &deny.graph.targets {
        arguments.extend(["--target", target.as_str()]);
    }
    let tree = cargo(&arguments);
    let packages = tree.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('|'));
    packages
        .filter_map(|(package, licence)| Some((package.split(' ').next()?.to_owned(), licence.to_owned())))
        .collect()
}

impl Deny {
    /// Why a package's licence is not allowed.
    fn wrong_licence(&self, package: &str, licence: &str) -> Option<String> {
        if licence.is_empty() {
            return Some(format!("{package}: names no licence"));
        }
        let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => return Some(format!("{package}: `{licence}`: {}", error.reason)),
        };
        let exceptions = self.licenses.exceptions.iter().filter(|exception| exception.package == package);
        let allowed: Vec<Licensee> = exceptions
            .flat_map(|exception| &exception.allow)
            .chain(&self.licenses.allow)
            .map(|name| Licensee::parse(name).unwrap_or_else(|error| panic!("deny.toml: {name}: {error}")))
            .collect();
        let holds = expression.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)));
        (!holds).then(|| format!("{package}: `{licence}` is not allowed by deny.toml"))
    }
}

#[test]
fn licences_are_allowed() {
    let deny = deny();
    let built = built(&deny);
    assert!(built.contains_key("serde"), "not a list of packages: {built:?}");
    expect_none(built.iter().filter_map(|(package, licence)| deny.wrong_licence(package, licence)));
}

#[test]
fn exceptions_are_needed() {
    let mut deny = deny();
    let built = built(&deny);
    let exceptions = std::mem::take(&mut deny.licenses.exceptions);
    expect_none(exceptions.iter().filter_map(|exception| {
        let package = &exception.package;
        match built.get(package) {
            None => Some(format!("deny.toml: an exception for {package}, which is not used")),
            Some(licence) if deny.wrong_licence(package, licence).is_none() => {
                Some(format!("deny.toml: {package} needs no exception"))
            }
            Some(_) => None,
        }
    }));
}

#[test]
fn banned_libraries_are_not_built() {
    let deny = deny();
    let built = built(&deny);
    expect_none(
        deny.bans
            .deny
            .iter()
            .filter(|ban| built.contains_key(&ban.package))
            .map(|ban| format!("{0}: {1} (see `cargo tree -i {0}`)", ban.package, ban.reason)),
    );
}

#[test]
fn everything_comes_from_the_registry() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let sources: BTreeSet<(&str, &str)> = packages
        .iter()
        .filter_map(|package| Some((package["source"].as_str()?, package["name"].as_str()?)))
        .collect();
    assert!(!sources.is_empty(), "no packages");
    expect_none(
        sources
            .iter()
            .filter(|(source, _)| !source.starts_with("registry+") && !source.starts_with("sparse+"))
            .map(|(source, name)| format!("{name}: comes from {source}")),
    );
}

#[test]
fn wrong_licences_are_found() {
    let deny: Deny = toml::from_str(
        "[graph]\ntargets = []\n[licenses]\nallow = ['MIT', 'Apache-2.0']\n\
         exceptions = [{crate = 'special', allow = ['MPL-2.0']}]\n[bans]\ndeny = []\n",
    )
    .unwrap();
    for (package, licence, expect) in [
        ("a", "MIT", None),
        ("a", "GPL-3.0 OR MIT", None),
        ("a", "GPL-2.0/MIT", None),
        ("a", "GPL-3.0 AND MIT", Some("a: `GPL-3.0 AND MIT` is not allowed by deny.toml")),
        ("a", "MPL-2.0", Some("a: `MPL-2.0` is not allowed by deny.toml")),
        ("special", "MPL-2.0+", None),
        ("a", "", Some("a: names no licence")),
        ("a", "Mine", Some("a: `Mine`: unknown term")),
    ] {
        assert_eq!(deny.wrong_licence(package, licence).as_deref(), expect, "{package} {licence}");
    }
}
