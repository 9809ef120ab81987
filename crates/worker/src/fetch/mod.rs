//! External files: fetched over HTTP into a shared cache, checked, and copied into the work folder.
//!
//! It must never follow a task's URL into the worker's own network ([`address`]), never write outside of the
//! work folder, and never let an attempt change what others get from the cache (files are copied).

pub mod address;
mod cache;
mod download;
mod lookup;

pub use address::Network;
pub use cache::prune;
pub use download::{FETCH_REDIRECTS_MAX, FETCH_SILENCE_MAX, FETCH_TRIES_MAX};
pub use lookup::{LOOKUP_BYTES_MAX, UPDATE_BUILDS_MAX, url_variables};

use crate::{config::FetchConfig, logs::AttemptLog};
use address::AddressRules;
use cache::Entry;
use download::Downloader;
use model::{
    Clock, ErrorReason, Ids,
    task_file::{Fetch, LIST_MAX, is_inner_path, substitute},
    units::format_size,
};
use serde_json::{Map, Value};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::Url;

/// Why a file was not fetched, and whose fault that is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// Infra (may pass), bad task, or a limit.
    pub reason: ErrorReason,
    /// What happened, in one line.
    pub message: String,
    /// Whether a server said that there is no such thing.
    pub missing: bool,
}

impl FetchError {
    pub(super) fn bad_task(message: impl Into<String>) -> Self {
        Self { reason: ErrorReason::BadTask, message: message.into(), missing: false }
    }

    pub(super) fn infra(message: impl Into<String>) -> Self {
        Self { reason: ErrorReason::Infra, message: message.into(), missing: false }
    }

    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self { reason: ErrorReason::Limit, message: message.into(), missing: false }
    }

    pub(super) fn disk(path: &Path, error: &std::io::Error) -> Self {
        Self::infra(format!("{}: {error}", path.display()))
    }
}

/// A file to be fetched, its inputs filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is.
    pub url: Url,
    /// The file below the work folder.
    pub to: String,
    /// Its SHA-256 in lower-case hexadecimal digits, if it is known.
    pub sha256: Option<String>,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file below the work folder.
    pub to: String,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether nothing had to be transferred.
    pub from_cache: bool,
}

/// Fills the inputs into the `fetch` entries of a task file. An entry whose URL is one input alone that is a
/// list gives an entry for each of it; several files need a folder (a final `/`) to go to.
///
/// # Errors
/// A URL is none, a path leaves the work folder, two files would go to the same place, or there are too many.
pub fn plan(entries: &[Fetch], inputs: &Map<String, Value>) -> Result<Vec<Wanted>, FetchError> {
    let mut all: Vec<Wanted> = Vec::new();
    for entry in entries {
        for url in urls(entry, inputs)? {
            let wanted = wanted(entry, &url, inputs)?;
            if let Some(other) = all.iter().find(|other| other.to == wanted.to) {
                let (a, b) = (Shown(&other.url), Shown(&wanted.url));
                return Err(FetchError::bad_task(format!(
                    "`{a}` and `{b}` would both go to `{}`",
                    wanted.to
                )));
            }
            if all.len() >= LIST_MAX {
                return Err(FetchError::limit(format!("there are more than {LIST_MAX} files to fetch")));
            }
            all.push(wanted);
        }
    }
    Ok(all)
}

fn urls(entry: &Fetch, inputs: &Map<String, Value>) -> Result<Vec<String>, FetchError> {
    let items = texts(&entry.what, inputs, || format!("`{}`", entry.what))?;
    if items.len() > 1 && !entry.to.ends_with('/') {
        let message = format!(
            "`{}` names {} files, but `{}` is one: end it with `/`",
            entry.what,
            items.len(),
            entry.to
        );
        return Err(FetchError::bad_task(message));
    }
    if items.len() > 1 && entry.sha256.is_some() {
        let message = format!("`{}` names {} files, but there is one `sha256`", entry.what, items.len());
        return Err(FetchError::bad_task(message));
    }
    Ok(items)
}

/// A text with its inputs filled in; each of the list that it is, if it is one input alone.
fn texts(
    text: &str,
    inputs: &Map<String, Value>,
    what: impl Fn() -> String,
) -> Result<Vec<String>, FetchError> {
    let alone = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let Some(Value::Array(items)) = alone.and_then(|name| inputs.get(name)) else {
        return Ok(vec![substitute(text, inputs)]);
    };
    let text = |item: &Value| {
        item.as_str().map(str::to_owned).ok_or_else(|| {
            FetchError::bad_task(format!("{} must be a list of texts, it holds {item}", what()))
        })
    };
    items.iter().map(text).collect()
}

/// What an artifact's reference begins with in an event, `href`.
const ARTIFACTS: &str = "/api/v1/tasks/";
/// The scheme that marks such a reference: it is fetched from the worker's own server.
const OWN_SCHEME: &str = "taskbot";

/// The task's and the artifact's id in a reference.
fn artifact_ids(path: &str) -> Option<(&str, &str)> {
    let is_id =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let (task, artifact) = path.strip_prefix(ARTIFACTS)?.split_once("/artifacts/")?;
    (is_id(task) && is_id(artifact)).then_some((task, artifact))
}

fn wanted(entry: &Fetch, url: &str, inputs: &Map<String, Value>) -> Result<Wanted, FetchError> {
    let bad = |message: String| Err(FetchError::bad_task(message));
    let is_own = artifact_ids(url).is_some();
    let parsed = match Url::parse(&if is_own { format!("{OWN_SCHEME}:{url}") } else { url.to_owned() }) {
        Ok(parsed) if is_own || matches!(parsed.scheme(), "http" | "https" | "file") => parsed,
        Ok(parsed) => {
            return bad(format!("`{}` cannot be fetched: only http, https and file can", Shown(&parsed)));
        }
        Err(error) => return bad(format!("`{url}` is no URL: {error}")),
    };
    let mut to = substitute(&entry.to, inputs);
    if to.ends_with('/') {
        to.push_str(&file_name(&parsed));
    }
    let parts: Vec<&str> = to.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if !is_inner_path(&to) || parts.is_empty() || parts[0] == crate::executor::OWN_DIR {
        return bad(format!("`{to}` is no file below the work folder"));
    }
    let sha256 = entry.sha256.as_deref().map(|sha| substitute(sha, inputs).to_ascii_lowercase());
    let sha256 = sha256.filter(|sha| !sha.is_empty());
    if let Some(sha) = &sha256
        && (sha.len() != 64 || !sha.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return bad(format!("`{sha}` is no SHA-256: expected 64 hexadecimal digits"));
    }
    if is_own && sha256.is_none() {
        return bad(format!(
            "`{url}` is an artifact: it is fetched with its `sha256`, which the event tells"
        ));
    }
    Ok(Wanted { to: parts.join("/"), url: parsed, sha256 })
}

/// The last part of a URL's path; what cannot be in a file name becomes `_`.
fn file_name(url: &Url) -> String {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    let bytes = percent_decode(last);
    let name: String = String::from_utf8_lossy(&bytes)
        .chars()
        .map(|c| if c.is_control() || matches!(c, '/' | '\\') { '_' } else { c })
        .take(200)
        .collect();
    if name.is_empty() || name == "." || name == ".." { "index".to_owned() } else { name }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// A URL for people: without the password that it may carry.
struct Shown<'a>(&'a Url);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        if url.password().is_some() && url.set_password(Some("…")).is_err() {
            return f.write_str("(a URL with a password)");
        }
        f.write_str(url.as_str())
    }
}

/// Fetches files for attempts.
#[derive(Debug)]
pub struct Fetcher {
    config: FetchConfig,
    downloader: Downloader,
    clock: Arc<dyn Clock>,
}

impl Fetcher {
    /// A fetcher with a cache.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(config: &FetchConfig, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self, FetchError> {
        let rules = AddressRules::new(&config.private_hosts, &config.refused_networks);
        let downloader = Downloader::new(rules, config.server.clone(), config.file_bytes_max, ids)?;
        Ok(Self { config: config.clone(), downloader, clock })
    }

    /// Fetches all that is wanted into the host folder that becomes the work folder. May be dropped at any
    /// moment; what was transferred so far is used the next time.
    ///
    /// # Errors
    /// See [`FetchError`]; the first one ends it.
    pub async fn fetch(
        &self,
        wanted: &[Wanted],
        work: &Path,
        log: &AttemptLog,
    ) -> Result<Vec<Fetched>, FetchError> {
        let mut all = Vec::with_capacity(wanted.len());
        for one in wanted {
            let to = safe_path(work, &one.to)?;
            let fetched = match one.url.scheme() {
                "file" => self.copy_file(one, &to).await?,
                OWN_SCHEME => self.fetch_one(&self.artifact(one)?, &to, log).await?,
                _ => self.fetch_one(one, &to, log).await?,
            };
            let source = if fetched.from_cache { ", from the cache" } else { "" };
            log.note(&format!(
                "fetched {} to {} ({}, sha256 {}{source})",
                Shown(&one.url),
                fetched.to,
                format_size(fetched.size_bytes),
                fetched.sha256
            ));
            all.push(fetched);
        }
        Ok(all)
    }

    async fn fetch_one(&self, one: &Wanted, to: &Path, log: &AttemptLog) -> Result<Fetched, FetchError> {
        let entry = Entry::open(&self.config.cache_dir, &one.url, one.sha256.as_deref()).await?;
        let (meta, from_cache) = match entry.kept(one.sha256.is_some()) {
            Some(meta) => (meta, true),
            None => self.downloader.download(&entry, &one.url, one.sha256.as_deref(), log).await?,
        };
        entry.touch(self.clock.now());
        copy(entry.data(), to.to_owned()).await?;
        Ok(Fetched { to: one.to.clone(), sha256: meta.sha256, size_bytes: meta.size_bytes, from_cache })
    }

    /// An artifact of another task, as the server gives it to workers.
    fn artifact(&self, one: &Wanted) -> Result<Wanted, FetchError> {
        let (Some(server), Some((task, artifact)), Some(sha256)) =
            (&self.config.server, artifact_ids(one.url.path()), &one.sha256)
        else {
            let message = format!("`{}` is an artifact of a server, and there is none here", Shown(&one.url));
            return Err(FetchError::bad_task(message));
        };
        let path = format!("{}{task}/artifacts/{artifact}?sha256={sha256}", download::own_path(&server.url));
        let url = server.url.join(&path).map_err(|error| FetchError::infra(format!("{path}: {error}")))?;
        Ok(Wanted { url, ..one.clone() })
    }

    async fn copy_file(&self, one: &Wanted, to: &Path) -> Result<Fetched, FetchError> {
        let shown = Shown(&one.url);
        let no_path = || FetchError::bad_task(format!("`{shown}` is no path of this machine"));
        let path = one.url.to_file_path().map_err(|()| no_path())?;
        let path =
            path.canonicalize().map_err(|error| FetchError::bad_task(format!("`{shown}`: {error}")))?;
        let allowed = self.config.file_folders.iter().filter_map(|folder| folder.canonicalize().ok());
        if !allowed.into_iter().any(|folder| path.starts_with(folder)) || !path.is_file() {
            let message =
                format!("`{shown}` is no file below a folder that this worker's configuration allows");
            return Err(FetchError::bad_task(message));
        }
        let size_bytes = copy(path, to.to_owned()).await?;
        if size_bytes > self.config.file_bytes_max {
            return Err(too_large(&one.url, Some(size_bytes), self.config.file_bytes_max));
        }
        let sha256 = hash(to.to_owned()).await?;
        check_sha(&one.url, one.sha256.as_deref(), &sha256)?;
        Ok(Fetched { to: one.to.clone(), sha256, size_bytes, from_cache: false })
    }
}

/// With its size, where that is known.
fn too_large(url: &Url, bytes: Option<u64>, max: u64) -> FetchError {
    let (max, bytes) = (format_size(max), bytes.map(format_size));
    let size = bytes.filter(|bytes| *bytes != max).unwrap_or_else(|| format!("more than {max}"));
    FetchError::limit(format!("`{}` has {size}, this worker takes at most {max}", Shown(url)))
}

fn check_sha(url: &Url, expect: Option<&str>, got: &str) -> Result<(), FetchError> {
    match expect {
        Some(expect) if expect != got => {
            let message = format!("`{}` has SHA-256 {got}, expected {expect}", Shown(url));
            Err(FetchError::bad_task(message))
        }
        _ => Ok(()),
    }
}

/// Checks that a file can be put at a path of a tree: nothing else is there, and no link leads elsewhere.
///
/// # Errors
/// What is there instead.
pub fn check_free(tree: &Path, inner: &str) -> Result<(), FetchError> {
    let mut path = tree.to_owned();
    let mut parts = inner.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let last = parts.peek().is_none();
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() != last && (found.is_dir() || found.is_file()) => {}
            Ok(_) => {
                let message =
                    format!("`{inner}` cannot be written: the repository has something else at `{part}`");
                return Err(FetchError::bad_task(message));
            }
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// The host path of a file in the work folder; its folders are made.
fn safe_path(work: &Path, inner: &str) -> Result<PathBuf, FetchError> {
    check_free(work, inner)?;
    let path = work.join(inner);
    let folder = path.parent().unwrap_or(work);
    std::fs::create_dir_all(folder).map_err(|error| FetchError::disk(folder, &error))?;
    Ok(path)
}

async fn copy(from: PathBuf, to: PathBuf) -> Result<u64, FetchError> {
    blocking(move || std::fs::copy(&from, &to).map_err(|error| FetchError::disk(&to, &error))).await
}

async fn hash(path: PathBuf) -> Result<String, FetchError> {
    blocking(move || crate::artifacts::sha256_of(&path).map_err(|error| FetchError::disk(&path, &error)))
        .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(FetchError::infra(format!("file work ended: {error}"))))
}
