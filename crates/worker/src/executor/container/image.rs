//! Images: pulled with progress, and the layers that `prepare` makes, kept for the next attempt.

use super::{
    super::{ExecError, ExecRequest, LogSink, ProvisionError},
    ContainerConfig, LABEL_WORKER, Pull,
    engine::{Engine, gone_is_fine, reason, status},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bollard::{
    auth::DockerCredentials,
    errors::Error,
    models,
    query_parameters::{
        CommitContainerOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder,
        RemoveImageOptionsBuilder,
    },
};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use model::{
    WorkerName,
    requirements::{ContainerImages, IMAGES_TOLD_MAX, image_name},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The repository of layers that later attempts use, too.
pub(super) const LAYER_REPO: &str = "taskbot-layer";
/// The repository of images that belong to one attempt.
pub(super) const ATTEMPT_REPO: &str = "taskbot-attempt";
/// Changes whenever what `prepare` runs in changes: older layers are not used then.
const LAYER_VERSION: &str = "1";
/// How old the layer of another worker may grow: it may have been given up.
const FOREIGN_LAYER_AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often progress is told in the log, at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// The longest name of an image, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// An image that the engine has.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// As the task names it.
    pub(super) name: String,
    /// The engine's id of it.
    pub(super) id: String,
    /// The registry's digest; the id, for images from no registry.
    pub(super) digest: String,
    /// The architecture in the kernel's words.
    pub(super) arch: String,
}

/// An image's name, checked and taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// With tag or digest.
    full: String,
    /// Without the tag; with the digest.
    from: String,
    tag: Option<String>,
    /// The registry's host.
    registry: String,
}

impl Reference {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:@-".contains(&b));
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !plain || !starts || name.len() > NAME_BYTES_MAX || name.contains("//") || name.contains("..") {
            return Err(format!(
                "`{}` cannot be an image's name; write it like `fedora:42` or `registry.example.org/group/name:tag`",
                name.escape_debug()
            ));
        }
        let host = name.split_once('/').map(|(host, _)| host);
        let is_host = |host: &&str| host.contains(['.', ':']) || *host == "localhost";
        let registry = host.filter(is_host).unwrap_or("docker.io").to_owned();
        let last = name.rsplit('/').next().unwrap_or(name);
        let (from, tag) = if name.contains('@') {
            (name, None)
        } else if last.contains(':') {
            // Without a tag the engine would pull every tag there is.
            name.rsplit_once(':').map_or((name, Some("latest")), |(from, tag)| (from, Some(tag)))
        } else {
            (name, Some("latest"))
        };
        let full = tag.map_or_else(|| from.to_owned(), |tag| format!("{from}:{tag}"));
        Ok(Self { full, from: from.to_owned(), tag: tag.map(str::to_owned), registry })
    }
}

/// Sees to it that the engine has an image.
pub(super) async fn provide(
    engine: &Engine,
    config: &ContainerConfig,
    reference: &Reference,
    log: &dyn LogSink,
) -> Result<Image, ProvisionError> {
    let name = &reference.full;
    if config.pull == Pull::Always {
        pull(engine, config, reference, log).await?;
    }
    let failed =
        |error: &Error| ProvisionError::Infra(format!("{}: image {name}: {}", engine.version, reason(error)));
    let found = match engine.docker.inspect_image(name).await {
        Ok(found) => found,
        Err(error) if status(&error) == Some(404) => {
            if config.pull == Pull::Never {
                return Err(ProvisionError::Unavailable(format!(
                    "the engine does not have image {name}, and pulling is switched off"
                )));
            }
            pull(engine, config, reference, log).await?;
            engine.docker.inspect_image(name).await.map_err(|error| failed(&error))?
        }
        Err(error) => return Err(failed(&error)),
    };
    let id = found.id.unwrap_or_else(|| name.clone());
    let digest =
        found.repo_digests.and_then(|digests| digests.into_iter().next()).unwrap_or_else(|| id.clone());
    let arch = match found.architecture.as_deref() {
        Some("amd64") => "x86_64",
        Some("arm64") => "aarch64",
        Some("386") => "i686",
        Some(other) if !other.is_empty() => other,
        _ => std::env::consts::ARCH,
    };
    Ok(Image { name: name.clone(), id, digest, arch: arch.to_owned() })
}

/// What is told of the engine's images, but for our own layers; nothing when it does not say, or has more than can
/// be told of and pulls none.
pub(super) async fn told(engine: &Engine, pulls: bool) -> Option<ContainerImages> {
    let options = ListImagesOptionsBuilder::default().build();
    let found = match engine.docker.list_images(Some(options)).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = reason(&error), "the engine does not tell its images");
            return None;
        }
    };
    let names = found.iter().flat_map(|image| image.repo_tags.iter().chain(&image.repo_digests));
    let own = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or(name);
        last.starts_with(LAYER_REPO) || last.starts_with(ATTEMPT_REPO) || name.contains("<none>")
    };
    let mut there: BTreeSet<_> = names.filter(|name| !own(name)).map(|name| image_name(name)).collect();
    there.retain(|name| name.len() <= NAME_BYTES_MAX);
    if there.len() > IMAGES_TOLD_MAX {
        if !pulls {
            return None;
        }
        there = there.into_iter().take(IMAGES_TOLD_MAX).collect();
    }
    Some(ContainerImages { there, pulls })
}

async fn pull(
    engine: &Engine,
    config: &ContainerConfig,
    reference: &Reference,
    log: &dyn LogSink,
) -> Result<(), ProvisionError> {
    let name = &reference.full;
    let credentials = match &config.registry_config {
        Some(path) => credentials(path, &reference.registry).map_err(ProvisionError::Infra)?,
        None => None,
    };
    log.write(format!("pulling image {name}\n").as_bytes());
    let options = CreateImageOptionsBuilder::default().from_image(&reference.from);
    let options = match &reference.tag {
        Some(tag) => options.tag(tag),
        None => options,
    };
    let mut progress = engine.docker.create_image(Some(options.build()), None, credentials);
    let mut told = Instant::now();
    let mut layers: HashMap<String, (i64, i64)> = HashMap::new();
    while let Some(step) = progress.next().await {
        let step = step.map_err(|error| {
            ProvisionError::Infra(format!("image {name} cannot be pulled: {}", reason(&error)))
        })?;
        if let (Some(id), Some(detail)) = (&step.id, &step.progress_detail)
            && let (Some(current), Some(total)) = (detail.current, detail.total)
        {
            layers.insert(id.clone(), (current, total));
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let (current, total) = layers.values().fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
            let status = step.status.unwrap_or_default();
            log.write(format!("pulling image {name}: {status} ({current} of {total} bytes)\n").as_bytes());
        }
    }
    log.write(format!("image {name} is there\n").as_bytes());
    Ok(())
}

/// Looks up a registry in a Docker `config.json`.
fn credentials(path: &Path, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let bad = |why: String| format!("the registry credentials in {}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let config: serde_json::Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let mut names =
        vec![registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/v2/")];
    if registry == "docker.io" {
        names.extend(["https://index.docker.io/v1/", "index.docker.io"].map(str::to_owned));
    }
    let Some(entry) = names.iter().find_map(|name| config["auths"].get(name)) else { return Ok(None) };
    let text = |key: &str| entry[key].as_str().map(str::to_owned);
    let (mut username, mut password) = (text("username"), text("password"));
    if let Some(auth) = text("auth").filter(|auth| !auth.is_empty()) {
        let decoded = BASE64_STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
        let (user, secret) =
            pair.ok_or_else(|| bad(format!("`auth` of {registry} is not base64 of user:password")))?;
        (username, password) = (Some(user.to_owned()), Some(secret.trim_end_matches('\0').to_owned()));
    }
    Ok(Some(DockerCredentials {
        username,
        password,
        serveraddress: Some(registry.to_owned()),
        identitytoken: text("identitytoken"),
        ..DockerCredentials::default()
    }))
}

/// Commits a container's layer as an image.
pub(super) async fn commit(engine: &Engine, id: &str, repo: &str, tag: &str) -> Result<String, ExecError> {
    let options =
        CommitContainerOptionsBuilder::default().container(id).repo(repo).tag(tag).pause(false).build();
    let committed = engine.docker.commit_container(options, models::ContainerConfig::default()).await;
    Ok(committed.map_err(|error| engine.infra("commit what `prepare` installed", &error))?.id)
}

/// What a prepared layer is known by: all that `prepare` can see.
pub(super) fn layer_tag(base: &str, request: &ExecRequest<'_>, key: &str) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(text.as_bytes());
    };
    [LAYER_VERSION, base, key, request.dir].into_iter().for_each(&mut add);
    add(&request.lines.len().to_string());
    request.lines.iter().for_each(|line| add(line));
    for (name, value) in request.env {
        add(name);
        add(value);
    }
    hex::encode(&hash.finalize()[..16])
}

pub(super) fn layer_name(tag: &str) -> String {
    format!("{LAYER_REPO}:{tag}")
}

/// When which layer was used last: a file for each, whose time is that of its last use and whose content is
/// the layer's size in bytes.
#[derive(Debug)]
pub(super) struct Layers {
    folder: PathBuf,
    count_max: usize,
    bytes_max: u64,
}

impl Layers {
    pub(super) fn new(folder: PathBuf, count_max: usize, bytes_max: u64) -> Self {
        Self { folder, count_max, bytes_max }
    }

    /// Whether the engine has a layer; notes its use.
    pub(super) async fn find(&self, engine: &Engine, tag: &str) -> Result<bool, ExecError> {
        match engine.docker.inspect_image(&layer_name(tag)).await {
            Ok(_) => {
                let size = self.size(tag).unwrap_or(0);
                self.note(tag, size)?;
                Ok(true)
            }
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(engine.infra("look for a prepared layer", &error)),
        }
    }

    /// Notes a new layer.
    pub(super) async fn made(&self, engine: &Engine, tag: &str, base: &str) -> Result<(), ExecError> {
        let size = async |name: &str| {
            let image = engine.docker.inspect_image(name).await;
            let image = image.map_err(|error| engine.infra("measure a prepared layer", &error))?;
            Ok::<_, ExecError>(image.size.unwrap_or(0))
        };
        let bytes = size(&layer_name(tag)).await? - size(base).await?;
        self.note(tag, u64::try_from(bytes).unwrap_or(0))
    }

    fn note(&self, tag: &str, bytes: u64) -> Result<(), ExecError> {
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(self.folder.join(tag), bytes.to_string()))
            .map_err(|error| ExecError::Infra(format!("{}: {error}", self.folder.display())))
    }

    fn size(&self, tag: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(tag)).ok()?.parse().ok()
    }

    fn used(&self, tag: &str) -> Option<SystemTime> {
        fs::metadata(self.folder.join(tag)).and_then(|meta| meta.modified()).ok()
    }

    /// Removes this worker's least recently used layers over the caps, and those of other workers that are
    /// older than [`FOREIGN_LAYER_AGE_MAX`]; says how many.
    pub(super) async fn trim(
        &self,
        engine: &Engine,
        worker: &WorkerName,
        now: DateTime<Utc>,
    ) -> Result<usize, String> {
        let filters = HashMap::from([("reference", vec![LAYER_REPO])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = engine.docker.list_images(Some(options)).await.map_err(|error| reason(&error))?;
        let oldest = now.timestamp() - FOREIGN_LAYER_AGE_MAX.as_secs().cast_signed();
        let (ours, foreign): (Vec<_>, Vec<_>) = images
            .iter()
            .partition(|image| image.labels.get(LABEL_WORKER).is_some_and(|name| name == worker.as_str()));
        let mut removed = 0;
        for tag in foreign.into_iter().filter(|image| image.created < oldest).flat_map(tags) {
            removed += usize::from(self.remove(engine, &tag).await?);
        }
        let mut layers: Vec<_> = ours.into_iter().flat_map(tags).map(|tag| (self.used(&tag), tag)).collect();
        layers.sort();
        let mut bytes: u64 = layers.iter().filter_map(|(_, tag)| self.size(tag)).sum();
        let mut left = layers.len();
        for (_, tag) in layers {
            if left <= self.count_max && bytes <= self.bytes_max {
                break;
            }
            left -= 1;
            bytes = bytes.saturating_sub(self.size(&tag).unwrap_or(0));
            removed += usize::from(self.remove(engine, &tag).await?);
        }
        Ok(removed)
    }

    /// Removes a layer, unless a container uses it right now.
    async fn remove(&self, engine: &Engine, tag: &str) -> Result<bool, String> {
        let options = RemoveImageOptionsBuilder::default().build();
        let done = engine.docker.remove_image(&layer_name(tag), Some(options), None).await.map(drop);
        match gone_is_fine(done) {
            Ok(()) => {}
            Err(error) if status(&error) == Some(409) => return Ok(false),
            Err(error) => return Err(reason(&error)),
        }
        match fs::remove_file(self.folder.join(tag)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(true),
        }
    }
}

/// The tags under which an image is a layer.
fn tags(image: &models::ImageSummary) -> Vec<String> {
    let names = image.repo_tags.iter();
    // Podman puts a host before the name.
    let tags = names.filter_map(|name| name.rsplit('/').next()?.strip_prefix(LAYER_REPO)?.strip_prefix(':'));
    tags.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let check = |name: &str, expect: Option<(&str, &str, &str)>| {
            let got = Reference::parse(name).ok();
            let got =
                got.as_ref().map(|r| (r.from.as_str(), r.tag.as_deref().unwrap_or(""), r.registry.as_str()));
            assert_eq!(got, expect, "{name}");
        };
        check("fedora", Some(("fedora", "latest", "docker.io")));
        check("fedora:42", Some(("fedora", "42", "docker.io")));
        check("library/fedora:42", Some(("library/fedora", "42", "docker.io")));
        check("quay.example/a/b", Some(("quay.example/a/b", "latest", "quay.example")));
        check("localhost:5000/a:1", Some(("localhost:5000/a", "1", "localhost:5000")));
        check("localhost:5000/a", Some(("localhost:5000/a", "latest", "localhost:5000")));
        let digest = format!("fedora@sha256:{}", "0".repeat(64));
        check(&digest, Some((&digest, "", "docker.io")));
        for bad in ["", "-x", "a b", "a;b", "../x", "a//b", "$(id)", "ä"] {
            check(bad, None);
        }
    }

    #[test]
    fn credentials_of_registries() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = serde_json::json!({"auths": {
            "quay.example": {"auth": BASE64_STANDARD.encode("me:secret:x")},
            "https://index.docker.io/v1/": {"username": "you", "password": "p"},
            "broken.example": {"auth": "%%%"},
        }});
        fs::write(file.path(), config.to_string()).unwrap();
        let check = |registry: &str, expect: Option<(&str, &str)>| {
            let found = credentials(file.path(), registry).unwrap();
            let pair = found.map(|c| (c.username.unwrap(), c.password.unwrap()));
            assert_eq!(pair.as_ref().map(|(user, password)| (user.as_str(), password.as_str())), expect);
        };
        check("quay.example", Some(("me", "secret:x")));
        check("docker.io", Some(("you", "p")));
        check("other.example", None);
        assert!(credentials(file.path(), "broken.example").unwrap_err().contains("not base64"));
        assert!(credentials(Path::new("/nonexistent"), "x").is_err());
    }
}
