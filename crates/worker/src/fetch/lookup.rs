//! Builds, updates and composes: which files they hold is looked up by the URLs of the worker's configuration.
//!
//! A build's folder is a page of links, as web servers show folders; an update is JSON that names its builds; a
//! compose tells its images, with checksums, in `metadata/images.json`.

use super::{FetchError, Fetcher, Wanted};
use crate::{config::FetchLookups, logs::AttemptLog};
use globset::{GlobBuilder, GlobMatcher};
use model::{
    ErrorReason,
    task_file::{Fetch, FetchKind, LIST_MAX, is_inner_path, substitute},
};
use serde_json::{Map, Value};
use std::path::Path;
use url::Url;

/// The largest page or document that is read, in bytes.
pub const LOOKUP_BYTES_MAX: u64 = 32 << 20;
/// The most builds of one update.
pub const UPDATE_BUILDS_MAX: usize = 500;
/// What is taken of a build when `files` does not say.
const PACKAGES: &str = "*.rpm";
/// What is left out of it then.
const DEBUG: [&str; 2] = ["-debuginfo-", "-debugsource-"];

/// The variables of each kind's URL.
#[must_use]
pub const fn url_variables(kind: FetchKind) -> &'static [&'static str] {
    match kind {
        FetchKind::Koji => &["name", "version", "release", "arch", "nvr"],
        FetchKind::Bodhi | FetchKind::Compose => &["id"],
        FetchKind::Url => &[],
    }
}

impl Fetcher {
    /// Replaces builds, updates and composes by the files that they hold. Entries with URLs stay as they are.
    ///
    /// # Errors
    /// The worker's configuration does not say where to look, what was looked up is not there, holds nothing of
    /// what is wanted, or is malformed.
    pub async fn look_up(
        &self,
        entries: &[Fetch],
        inputs: &Map<String, Value>,
        log: &AttemptLog,
    ) -> Result<Vec<Fetch>, FetchError> {
        let mut all = Vec::new();
        for entry in entries {
            if entry.kind == FetchKind::Url {
                all.push(entry.clone());
                continue;
            }
            let before = all.len();
            for name in names(entry, inputs)? {
                let lookup = Lookup { fetcher: self, entry, log, matchers: matchers(entry, inputs)? };
                let found = match entry.kind {
                    FetchKind::Koji => lookup.build(&name).await?,
                    FetchKind::Bodhi => lookup.update(&name).await?,
                    FetchKind::Compose | FetchKind::Url => lookup.compose(&name).await?,
                };
                if found.is_empty() {
                    let (kind, arches) = (entry.kind.as_str(), lookup.arches().join(", "));
                    return Err(FetchError::bad_task(format!(
                        "{kind} `{name}` holds no such file for {arches}"
                    )));
                }
                all.extend(found);
                if all.len() - before > LIST_MAX {
                    return Err(FetchError::limit(format!("there are more than {LIST_MAX} files to fetch")));
                }
            }
        }
        Ok(all)
    }

    /// Reads a page or document, which is asked for again each time.
    async fn page(&self, url: &Url, log: &AttemptLog) -> Result<String, FetchError> {
        let folder = tempfile::tempdir().map_err(|error| FetchError::infra(error.to_string()))?;
        let to = folder.path().join("page");
        let wanted = Wanted { url: url.clone(), to: "page".to_owned(), sha256: None };
        let fetched = self.fetch_one(&wanted, &to, log).await?;
        if fetched.size_bytes > LOOKUP_BYTES_MAX {
            return Err(super::too_large(url, Some(fetched.size_bytes), LOOKUP_BYTES_MAX));
        }
        read(&to)
    }
}

fn read(path: &Path) -> Result<String, FetchError> {
    let bytes = std::fs::read(path).map_err(|error| FetchError::disk(path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names that an entry's one input gives, or its text.
fn names(entry: &Fetch, inputs: &Map<String, Value>) -> Result<Vec<String>, FetchError> {
    let names = super::texts(&entry.what, inputs, || format!("`{}`", entry.what))?;
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        let kind = entry.kind.as_str();
        return Err(FetchError::bad_task(format!("`{bad}` is no name of a {kind} to be fetched")));
    }
    Ok(names)
}

/// Names become parts of URLs.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '~' | '^' | '-');
    !text.is_empty() && text.len() <= 512 && text.chars().all(fits) && !text.starts_with('.')
}

fn matchers(entry: &Fetch, inputs: &Map<String, Value>) -> Result<Vec<GlobMatcher>, FetchError> {
    let matcher = |glob: &String| {
        let glob = substitute(glob, inputs);
        let built = GlobBuilder::new(&glob).literal_separator(false).build();
        built
            .map(|glob| glob.compile_matcher())
            .map_err(|error| FetchError::bad_task(format!("`files`: {error}")))
    };
    entry.files.iter().map(matcher).collect()
}

/// One entry that is being looked up.
struct Lookup<'a> {
    fetcher: &'a Fetcher,
    entry: &'a Fetch,
    log: &'a AttemptLog,
    matchers: Vec<GlobMatcher>,
}

impl Lookup<'_> {
    fn arches(&self) -> Vec<&str> {
        if self.entry.arch.is_empty() {
            return vec![std::env::consts::ARCH, "noarch"];
        }
        self.entry.arch.iter().map(String::as_str).collect()
    }

    fn url(&self, kind: FetchKind, variables: &[(&str, &str)]) -> Result<Url, FetchError> {
        let FetchLookups { koji, bodhi, compose } = &self.fetcher.config.lookups;
        let template = match kind {
            FetchKind::Koji => koji,
            FetchKind::Bodhi => bodhi,
            FetchKind::Compose | FetchKind::Url => compose,
        };
        let Some(template) = template else {
            let name = kind.as_str();
            let message =
                format!("this worker's configuration does not say where {name} is: `worker.fetch.{name}`");
            return Err(FetchError { reason: ErrorReason::Infra, message, missing: false });
        };
        let variables =
            variables.iter().map(|(name, text)| ((*name).to_owned(), Value::from(*text))).collect();
        let text = substitute(template, &variables);
        Url::parse(&text).map_err(|error| FetchError::infra(format!("`{text}` is no URL: {error}")))
    }

    fn wants(&self, name: &str) -> bool {
        if self.matchers.is_empty() {
            return self.entry.kind == FetchKind::Compose
                || (name.ends_with(&PACKAGES[1..]) && !DEBUG.iter().any(|debug| name.contains(debug)));
        }
        self.matchers.iter().any(|glob| glob.is_match(name))
    }

    fn file(&self, url: &Url, sha256: Option<String>) -> Fetch {
        Fetch { sha256, ..Fetch::of_url(url.to_string(), self.entry.to.clone()) }
    }

    async fn build(&self, nvr: &str) -> Result<Vec<Fetch>, FetchError> {
        let mut parts = nvr.rsplitn(3, '-');
        let (Some(release), Some(version), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(FetchError::bad_task(format!("`{nvr}` is no build: expected NAME-VERSION-RELEASE")));
        };
        let mut found = Vec::new();
        let mut there = false;
        for arch in self.arches() {
            let variables =
                [("name", name), ("version", version), ("release", release), ("arch", arch), ("nvr", nvr)];
            let folder = self.url(FetchKind::Koji, &variables)?;
            let page = match self.fetcher.page(&folder, self.log).await {
                Ok(page) => page,
                // A build has folders for the architectures that it was built for.
                Err(error) if error.missing => continue,
                Err(error) => return Err(error),
            };
            there = true;
            for link in links(&page) {
                if let Ok(url) = folder.join(&link)
                    && url
                        .path()
                        .strip_prefix(folder.path())
                        .is_some_and(|name| !name.is_empty() && !name.contains('/'))
                    && url.origin() == folder.origin()
                    && self.wants(&super::file_name(&url))
                {
                    found.push(self.file(&url, None));
                }
            }
        }
        if !there {
            let arches = self.arches().join(", ");
            return Err(FetchError::bad_task(format!("there is no build `{nvr}` for {arches}")));
        }
        found.sort_by(|a, b| a.what.cmp(&b.what));
        found.dedup();
        Ok(found)
    }

    async fn json(&self, kind: FetchKind, name: &str, file: &str) -> Result<(Url, Value), FetchError> {
        let base = self.url(kind, &[("id", name)])?;
        let url = base.join(file).map_err(|error| FetchError::infra(format!("`{base}{file}`: {error}")))?;
        let text = self.fetcher.page(&url, self.log).await?;
        let value = serde_json::from_str(&text)
            .map_err(|error| FetchError::infra(format!("`{url}` holds no JSON: {error}")))?;
        Ok((base, value))
    }

    async fn update(&self, id: &str) -> Result<Vec<Fetch>, FetchError> {
        let (url, document) = self.json(FetchKind::Bodhi, id, "").await?;
        let builds = document.pointer("/update/builds").or_else(|| document.get("builds"));
        let malformed =
            || FetchError::infra(format!("`{url}` names no builds: expected `update.builds[].nvr`"));
        let builds = builds.and_then(Value::as_array).ok_or_else(malformed)?;
        if builds.len() > UPDATE_BUILDS_MAX {
            return Err(FetchError::limit(format!("update `{id}` has more than {UPDATE_BUILDS_MAX} builds")));
        }
        let mut found = Vec::new();
        for build in builds {
            let nvr = build.get("nvr").and_then(Value::as_str).ok_or_else(malformed)?;
            if !is_name(nvr) {
                return Err(malformed());
            }
            found.extend(self.build(nvr).await?);
        }
        Ok(found)
    }

    async fn compose(&self, id: &str) -> Result<Vec<Fetch>, FetchError> {
        let (base, document) = self.json(FetchKind::Compose, id, "metadata/images.json").await?;
        let malformed = |what: &str| FetchError::infra(format!("the images of compose `{id}`: {what}"));
        let variants = document.pointer("/payload/images").and_then(Value::as_object);
        let variants = variants.ok_or_else(|| malformed("expected `payload.images`"))?;
        let arches = self.arches();
        let by_arch = variants.values().filter_map(Value::as_object).flatten();
        let images =
            by_arch.filter(|(arch, _)| arches.contains(&arch.as_str())).filter_map(|(_, all)| all.as_array());
        let mut found = Vec::new();
        for image in images.flatten() {
            let path =
                image.get("path").and_then(Value::as_str).ok_or_else(|| malformed("one has no `path`"))?;
            if !is_inner_path(path) {
                return Err(malformed("one lies outside of the compose"));
            }
            if !self.wants(path) {
                continue;
            }
            let sha256 = image.pointer("/checksums/sha256").and_then(Value::as_str).map(str::to_owned);
            let url = base.join(path).map_err(|error| malformed(&format!("{path}: {error}")))?;
            found.push(self.file(&url, sha256));
        }
        found.sort_by(|a, b| a.what.cmp(&b.what));
        found.dedup();
        Ok(found)
    }
}

/// Where a page's links lead, as they are written.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find("href=") {
        rest = &rest[at + "href=".len()..];
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        let Some((link, after)) = rest[1..].split_once(quote) else { break };
        links.push(link.replace("&amp;", "&"));
        rest = after;
    }
    links
}
