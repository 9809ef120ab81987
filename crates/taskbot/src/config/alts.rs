//! `interfaces.alts`.

use super::{
    section::Section,
    signed::{self, web_url},
};
use anyhow::{Context, Result};
use api::{
    alts::{BuildSystem, PLATFORMS_MAX, Platform, Secret, Settings, known_platforms},
    jwt::{self, Algorithm},
};
use model::{
    ids::{QueueName, TaskName},
    yaml::{Node, Reader, Value as Yaml},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// `interfaces.alts`
#[derive(Debug, Clone)]
pub(crate) struct Alts {
    /// Whether it is served.
    pub(crate) enabled: bool,
    /// Where it listens by itself, beside the server's own address.
    pub(crate) listen: Option<SocketAddr>,
    /// A file with what its clients' tokens are signed with.
    pub(crate) secret_file: Option<PathBuf>,
    /// The algorithm that signs them.
    pub(crate) algorithm: Algorithm,
    /// The registered task that tests packages.
    pub(crate) task: String,
    /// The queue of its tasks.
    pub(crate) queue: Option<String>,
    /// What can be tested on; what is known when missing.
    pub(crate) platforms: Option<Vec<Platform>>,
    /// The build system that is told.
    pub(crate) callback_url: Option<reqwest::Url>,
    /// A file with the token that is shown there.
    pub(crate) callback_token_file: Option<PathBuf>,
}

impl Default for Alts {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            enabled: true,
            listen: None,
            secret_file: None,
            algorithm: settings.algorithm,
            task: settings.task.to_string(),
            queue: None,
            platforms: None,
            callback_url: None,
            callback_token_file: None,
        }
    }
}

impl Alts {
    /// As the API takes it.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub(super) fn served(&self) -> Result<Option<Settings>> {
        if !self.enabled {
            return Ok(None);
        }
        let secret = self.secret_file.as_deref().map(signed::secret).transpose();
        let secret = secret.context("interfaces.alts.secret_file")?;
        let token = self.callback_token_file.as_deref().map(super::read_secret).transpose();
        let token = token.context("interfaces.alts.callback.token_file")?;
        Ok(Some(Settings {
            secret: secret.map(|secret| Secret(secret.into_bytes().into())),
            algorithm: self.algorithm,
            task: TaskName::new(self.task.clone()),
            queue: self.queue.clone().map(QueueName::new),
            platforms: self.platforms.clone().unwrap_or_else(known_platforms),
            build_system: self.callback_url.clone().map(|url| BuildSystem { url, token }),
            ..Settings::default()
        }))
    }

    /// As `config show` has it.
    pub(super) fn shown(&self) -> Value {
        let platform = |platform: &Platform| {
            json!({
                "dist": platform.dist, "aliases": platform.aliases, "version": platform.version,
                "arches": platform.arches, "container": platform.container, "vm": platform.vm,
                "external": platform.external,
            })
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        json!({
            "enabled": self.enabled,
            "listen": self.listen.map(|listen| listen.to_string()),
            "secret_file": path(&self.secret_file),
            "algorithm": format!("{:?}", self.algorithm),
            "task": self.task,
            "queue": self.queue,
            "platforms": self.platforms.as_ref().map(|all| all.iter().map(platform).collect::<Vec<_>>()),
            "callback": {
                "url": self.callback_url.as_ref().map(ToString::to_string),
                "token_file": path(&self.callback_token_file),
            },
        })
    }
}

/// Reads `interfaces.alts`.
pub(super) fn read(mut section: Section<'_, '_>, alts: &mut Alts) {
    section.bool("enabled", &mut alts.enabled);
    section.parsed("listen", &mut alts.listen, |text| super::read::address(text).map(Some));
    section.maybe_path("secret_file", &mut alts.secret_file);
    section.parsed("algorithm", &mut alts.algorithm, by_secret);
    section.parsed("task", &mut alts.task, |text| super::read::check_word("task", text));
    section.parsed("queue", &mut alts.queue, |text| super::read::check_word("queue", text).map(Some));
    if let Some(node) = section.node("platforms") {
        alts.platforms = Some(platforms(&section, node));
    }
    if let Some(mut callback) = section.section("callback", "`interfaces.alts.callback`") {
        callback.require("url");
        callback.parsed("url", &mut alts.callback_url, |text| web_url(text).map(Some));
        callback.maybe_path("token_file", &mut alts.callback_token_file);
        callback.finish();
    }
    section.finish();
}

/// An algorithm that signs by a secret.
pub(crate) fn by_secret(text: &str) -> Result<Algorithm, String> {
    let algorithm = signed::algorithm(text)?;
    if jwt::BY_SECRET.contains(&algorithm) {
        return Ok(algorithm);
    }
    Err(format!("`{text}` does not sign by a secret; expected one of {:?}", jwt::BY_SECRET))
}

fn platforms(section: &Section<'_, '_>, node: &Node) -> Vec<Platform> {
    let file = section.file;
    let items = file.reader.list_of(node, "`interfaces.alts.platforms`").unwrap_or_default();
    if items.len() > PLATFORMS_MAX {
        let message =
            format!("`interfaces.alts.platforms` has {} entries, at most {PLATFORMS_MAX}", items.len());
        file.reader.error(&node.span, message);
    }
    let read = |(at, item): (usize, &Node)| {
        Section::of(file, item, "a platform", &format!("interfaces.alts.platforms[{at}]")).and_then(platform)
    };
    items.iter().take(PLATFORMS_MAX).enumerate().filter_map(read).collect()
}

fn platform(mut section: Section<'_, '_>) -> Option<Platform> {
    let (file, span) = (section.file, section.span().clone());
    let (mut dist, mut version, mut arches) = (String::new(), String::new(), BTreeSet::new());
    let (mut container, mut vm, mut external) = (None, None, None);
    let mut aliases = Vec::new();
    section.require("dist");
    section.name("dist", &mut dist);
    section.texts("aliases", &mut aliases);
    section.require("version");
    section.name("version", &mut version);
    section.require("arches");
    section.set("arches", &mut arches);
    section.maybe_name("container", &mut container);
    section.maybe_name("vm", &mut vm);
    section.maybe_name("external", &mut external);
    section.finish();
    if container.is_none() && vm.is_none() && external.is_none() {
        let message = "a platform needs one of `container` (an image), `vm` (a machine's image), `external` (a program)";
        file.reader.error(&span, message);
        return None;
    }
    let small = |text: String| text.to_lowercase();
    let aliases = aliases.into_iter().map(small).collect();
    Some(Platform { dist: dist.to_lowercase(), aliases, version, arches, container, vm, external })
}

/// What signs tokens, by a configuration of ALTS itself (`jwt_secret`, `hashing_algorithm`), or by ours.
///
/// # Errors
/// The file cannot be read, or names no secret.
pub(crate) fn secret_of(path: &Path) -> Result<(String, Algorithm)> {
    let text =
        std::fs::read_to_string(path).map_err(|error| crate::fault::Fault::unread(path.display(), &error))?;
    let reader = Reader::new(&path.display().to_string(), &text);
    let root = reader.parse();
    let entry = |name: &str| match &root.as_ref()?.value {
        Yaml::Map(entries) => {
            entries.iter().find(|(key, _)| key.text == name).and_then(|(_, node)| node.as_text())
        }
        _ => None,
    };
    if let Some(secret) = entry("jwt_secret") {
        let algorithm = entry("hashing_algorithm").map_or(Ok(Algorithm::HS256), by_secret);
        let algorithm =
            algorithm.map_err(|why| crate::fault::Fault::usage(format!("hashing_algorithm: {why}")))?;
        return Ok((secret.to_owned(), algorithm));
    }
    let loaded = super::Config::load(Some(path))?;
    let alts = &loaded.config.interfaces.alts;
    let file = alts.secret_file.as_ref().ok_or_else(|| {
        crate::fault::Fault::usage(format!(
            "{} has neither `jwt_secret` (ALTS' own) nor `interfaces.alts.secret_file` (ours)",
            path.display()
        ))
    })?;
    Ok((signed::secret(file)?, alts.algorithm))
}
