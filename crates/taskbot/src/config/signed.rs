//! `server.jwt`: whose signed tokens are believed, and what they let their callers do.

use super::section::{File, Section};
use anyhow::{Context, Result};
use api::jwt::{self, Algorithm, Issuer, KeySet, Keys, KeysFrom, Mapping, Verifier};
use model::{ids::QueueName, units::format_duration, yaml::Node};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::{BOUND_RUN_SECONDS_MAX, Bounds};

/// The most who are believed.
const ISSUERS_MAX: usize = 50;
/// The most entries of `roles`.
const MAPPINGS_MAX: usize = 500;
/// How long keys are kept before they are fetched anew.
const REFRESH: Duration = Duration::from_secs(600);
/// The claim that names callers.
const NAME_CLAIM: &str = "sub";

/// Where what signatures are checked with comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeysAt {
    /// A file with a secret.
    Secret(PathBuf),
    /// Public keys.
    Public(KeysFrom),
}

/// An entry of `server.jwt`.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// What its callers' names begin with.
    pub(crate) name: String,
    /// Its keys.
    pub(crate) keys: KeysAt,
    /// Its algorithms.
    pub(crate) algorithms: Vec<Algorithm>,
    /// What `iss` must be.
    pub(crate) issuer: Option<String>,
    /// What `aud` must hold.
    pub(crate) audience: Vec<String>,
    /// The claim that names callers.
    pub(crate) name_claim: String,
    /// How long keys are kept.
    pub(crate) refresh: Duration,
    /// What claims let callers do.
    pub(crate) roles: Vec<Mapping>,
}

impl Signed {
    fn revealed(&self) -> Result<Issuer> {
        let keys = match &self.keys {
            KeysAt::Secret(path) => Keys::Secret(secret(path)?.into_bytes().into()),
            KeysAt::Public(from) => Keys::Set(Arc::new(KeySet::new(
                &self.name,
                from.clone(),
                self.refresh,
                jwt::KEYS_REFRESH_MIN,
            ))),
        };
        Ok(Issuer {
            name: self.name.clone(),
            keys,
            algorithms: self.algorithms.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            must_expire: true,
            name_claim: self.name_claim.clone(),
            nameless: None,
            mappings: self.roles.clone(),
        })
    }

    /// As `config show` has it.
    pub(super) fn shown(&self) -> Value {
        let (mut secret, mut jwks, mut jwks_file) = (None, None, None);
        match &self.keys {
            KeysAt::Secret(path) => secret = Some(path.display().to_string()),
            KeysAt::Public(KeysFrom::File(path)) => jwks_file = Some(path.display().to_string()),
            KeysAt::Public(KeysFrom::Url(url)) => jwks = Some(url.to_string()),
            KeysAt::Public(KeysFrom::Issuer(_)) => {}
        }
        let role = |mapping: &Mapping| {
            json!({
                "claim": mapping.claim, "has": mapping.has, "role": mapping.role,
                "queues": mapping.bounds.queues, "priority_max": mapping.bounds.priority_max,
                "run_max": mapping.bounds.run_seconds_max.map(|most| format_duration(Duration::from_secs(most))),
            })
        };
        json!({
            "name": self.name, "secret_file": secret, "jwks": jwks, "jwks_file": jwks_file,
            "issuer": self.issuer, "audience": self.audience, "name_claim": self.name_claim,
            "algorithms": self.algorithms.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>(),
            "refresh": format_duration(self.refresh),
            "roles": self.roles.iter().map(role).collect::<Vec<_>>(),
        })
    }
}

/// A secret of a file that signs tokens; one that is too short warns.
///
/// # Errors
/// It cannot be read, or is empty.
pub(crate) fn secret(path: &Path) -> Result<String> {
    let secret = super::read_secret(path)?;
    anyhow::ensure!(!secret.is_empty(), "{}: the secret is empty", path.display());
    if secret.len() < jwt::SECRET_BYTES_MIN {
        tracing::warn!(
            file = %path.display(),
            "the secret that signs tokens has {} bytes; at least {} are safe: openssl rand -hex 32",
            secret.len(),
            jwt::SECRET_BYTES_MIN
        );
    }
    Ok(secret)
}

/// Who is believed.
///
/// # Errors
/// A secret cannot be read.
pub(crate) fn verifier(all: &[Signed]) -> Result<Arc<Verifier>> {
    let issuers = all.iter().map(|one| one.revealed().with_context(|| format!("server.jwt `{}`", one.name)));
    Ok(Arc::new(Verifier::new(issuers.collect::<Result<_>>()?)))
}

/// An algorithm by its name.
pub(crate) fn algorithm(text: &str) -> Result<Algorithm, String> {
    let known = [&jwt::BY_SECRET[..], &jwt::BY_KEYS[..]].concat();
    known
        .iter()
        .find(|algorithm| format!("{algorithm:?}") == text)
        .copied()
        .ok_or_else(|| format!("`{text}` is no algorithm that is taken; expected one of {known:?}"))
}

/// Reads `server.jwt`.
pub(super) fn read(file: &File<'_>, node: &Node) -> Vec<Signed> {
    let items = file.reader.list_of(node, "`server.jwt`").unwrap_or_default();
    if items.len() > ISSUERS_MAX {
        file.reader.error(
            &node.span,
            format!("`server.jwt` has {} entries, at most {ISSUERS_MAX} are read", items.len()),
        );
    }
    let mut all: Vec<Signed> = Vec::new();
    for (at, item) in items.iter().take(ISSUERS_MAX).enumerate() {
        let section = Section::of(file, item, "one who signs tokens", &format!("server.jwt[{at}]"));
        let Some(signed) = section.and_then(entry) else { continue };
        if all.iter().any(|other| other.name == signed.name) {
            file.reader.error(&item.span, format!("`server.jwt` has two entries `{}`", signed.name));
        }
        all.push(signed);
    }
    all
}

fn entry(mut section: Section<'_, '_>) -> Option<Signed> {
    let (file, span) = (section.file, section.span().clone());
    let (mut name, mut name_claim) = (String::new(), NAME_CLAIM.to_owned());
    let (mut secret, mut jwks_file, mut jwks, mut issuer) = (None, None, None, None);
    let (mut algorithms, mut audience, mut refresh, mut roles) =
        (Vec::new(), Vec::new(), REFRESH, Vec::new());
    section.require("name");
    section.parsed("name", &mut name, |text| super::read::check_word("name", text));
    section.maybe_path("secret_file", &mut secret);
    section.maybe_path("jwks_file", &mut jwks_file);
    section.parsed("jwks", &mut jwks, |text| web_url(text).map(Some));
    section.maybe_name("issuer", &mut issuer);
    section.texts("audience", &mut audience);
    section.parsed_list("algorithms", &mut algorithms, algorithm);
    section.name("name_claim", &mut name_claim);
    section.duration("refresh", &mut refresh);
    section.require("roles");
    if let Some(node) = section.node("roles") {
        roles = mappings(file, node);
    }
    section.finish();
    let wrong = |why: String| file.reader.error(&span, why);
    let keys = match (secret, jwks_file, jwks, &issuer) {
        (Some(path), None, None, _) => KeysAt::Secret(path),
        (None, Some(path), None, _) => KeysAt::Public(KeysFrom::File(path)),
        (None, None, Some(url), _) => KeysAt::Public(KeysFrom::Url(url)),
        (None, None, None, Some(issuer)) => match web_url(issuer) {
            Ok(url) => KeysAt::Public(KeysFrom::Issuer(url)),
            Err(why) => {
                wrong(format!("`issuer`: {why}"));
                return None;
            }
        },
        _ => {
            let why =
                "give one of `secret_file`, `jwks_file`, `jwks`, or an `issuer` that says where its keys are";
            wrong(why.to_owned());
            return None;
        }
    };
    let fitting = if matches!(keys, KeysAt::Secret(_)) { &jwt::BY_SECRET } else { &jwt::BY_KEYS };
    if algorithms.is_empty() {
        algorithms =
            if matches!(keys, KeysAt::Secret(_)) { vec![Algorithm::HS256] } else { fitting.to_vec() };
    }
    if let Some(other) = algorithms.iter().find(|algorithm| !fitting.contains(algorithm)) {
        wrong(format!("{other:?} does not sign by these keys; expected one of {fitting:?}"));
    }
    if matches!(keys, KeysAt::Public(_)) && (issuer.is_none() || audience.is_empty()) {
        // Whoever else trusts these keys would give us its tokens.
        wrong("with public keys, `issuer` and `audience` must say which tokens are for here".to_owned());
    }
    Some(Signed { name, keys, algorithms, issuer, audience, name_claim, refresh, roles })
}

fn mappings(file: &File<'_>, node: &Node) -> Vec<Mapping> {
    let items = file.reader.list_of(node, "`roles`").unwrap_or_default();
    if items.is_empty() || items.len() > MAPPINGS_MAX {
        file.reader.error(&node.span, format!("`roles` must have 1 to {MAPPINGS_MAX} entries"));
    }
    let read = |(at, item): (usize, &Node)| {
        Section::of(file, item, "an entry of `roles`", &format!("roles[{at}]")).and_then(mapping)
    };
    items.iter().take(MAPPINGS_MAX).enumerate().filter_map(read).collect()
}

fn mapping(mut section: Section<'_, '_>) -> Option<Mapping> {
    let (file, span) = (section.file, section.span().clone());
    let (mut claim, mut has, mut role) = (None, None, None);
    section.maybe_name("claim", &mut claim);
    section.maybe_name("has", &mut has);
    section.require("role");
    section.parsed("role", &mut role, |text| text.parse::<store::Role>().map(Some));
    let bounds = bounds(&mut section);
    section.finish();
    if claim.is_some() != has.is_some() {
        file.reader
            .error(&span, "`claim` and `has` belong together; without both, every token that holds fits");
    }
    let role = role?;
    if let Err(why) = bounds.check(role) {
        file.reader.error(&span, why);
    }
    Some(Mapping { claim, has: has.unwrap_or_default(), role, bounds })
}

/// `queues`, `priority_max`, `run_max`.
fn bounds(section: &mut Section<'_, '_>) -> Bounds {
    let mut bounds = Bounds::default();
    let mut queues = BTreeSet::new();
    section.set("queues", &mut queues);
    if !queues.is_empty() {
        bounds.queues = Some(queues.into_iter().map(QueueName::new).collect());
    }
    section.with("priority_max", &mut bounds.priority_max, |reader, node, what| {
        let most = i64::from(model::task::PRIORITY_MAX);
        Some(i32::try_from(reader.int_of(node, what, -most..most + 1)?).ok())
    });
    section.with("run_max", &mut bounds.run_seconds_max, |reader, node, what| {
        let most = reader.duration_of(node, what)?.as_secs();
        if !(1..=BOUND_RUN_SECONDS_MAX).contains(&most) {
            reader.error(&node.span, format!("{what} must be from 1s to 366d"));
        }
        Some(Some(most))
    });
    bounds
}

/// An address of the web. Without TLS only on this machine: whoever stands between could give any keys.
pub(crate) fn web_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|_| format!("`{text}` is no URL; expected https://HOST"))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        _ => Err(format!("`{text}` must be https; http only on this machine")),
    }
}
