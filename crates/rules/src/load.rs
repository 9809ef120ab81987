//! Rule files: what a rule set is made from, and reading them from a folder (the only I/O of this crate).

use crate::{language::Mode, registry::REGISTRY_FILE};
use model::{Revision, RuleName, diagnostic::Report, event::EVENT_BYTES_MAX, yaml};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The most files of one rule set.
pub const FILES_MAX: usize = 10_000;
/// The most bytes of all files of one rule set.
pub const FILES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The largest table of facts in bytes.
pub const FACTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The deepest nesting of folders.
pub const FOLDERS_DEPTH_MAX: usize = 16;
/// The folder of tables, at the root of the rules folder.
pub const FACTS_FOLDER: &str = "facts";

/// What loading allows; it comes from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The hosts that a rule may take repositories from that are not registered (`git` in an entry).
    pub trusted_hosts: BTreeSet<String>,
    /// Authors of events whose tasks may be trusted, as `author` of an entry renders them.
    pub trusted_authors: BTreeSet<String>,
    /// Whether registered repositories may be `file://` URLs.
    pub file_urls: bool,
}

/// The files of a rule set, and what was switched since they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFiles {
    /// The texts by path relative to the rules folder, with `/`.
    #[serde(with = "texts")]
    pub files: BTreeMap<String, Arc<str>>,
    /// Rules that were switched, whatever their file says.
    #[serde(default)]
    pub modes: BTreeMap<RuleName, Mode>,
    /// The absolute path of the folder they came from; repositories beside the rules are found from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
}

mod texts {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::{collections::BTreeMap, sync::Arc};

    pub(super) fn serialize<S: Serializer>(
        files: &BTreeMap<String, Arc<str>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(files.iter().map(|(name, text)| (name, &**text)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Arc<str>>, D::Error> {
        let files = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(files.into_iter().map(|(name, text)| (name, text.into())).collect())
    }
}

/// What a file of a rules folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Rules, and perhaps tests.
    Rules,
    /// Tests only: `*.test.yaml`.
    Tests,
    /// `tasks.yaml`.
    Registry,
    /// A table of facts.
    Facts,
    /// A recorded message for tests: `*.json`.
    Message,
}

impl FileKind {
    /// What a path relative to the rules folder is; nothing for files that are none of ours.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let yaml = path.ends_with(".yaml") || path.ends_with(".yml");
        if path.strip_prefix(FACTS_FOLDER).is_some_and(|rest| rest.starts_with('/')) {
            return (yaml || path.ends_with(".csv") || path.ends_with(".json")).then_some(Self::Facts);
        }
        if path == REGISTRY_FILE {
            return Some(Self::Registry);
        }
        if path.ends_with(".test.yaml") || path.ends_with(".test.yml") {
            return Some(Self::Tests);
        }
        if yaml {
            return Some(Self::Rules);
        }
        path.ends_with(".json").then_some(Self::Message)
    }

    /// The largest such file in bytes.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Rules | Self::Tests | Self::Registry => yaml::FILE_BYTES_MAX,
            Self::Facts => FACTS_BYTES_MAX,
            Self::Message => EVENT_BYTES_MAX,
        }
    }
}

impl RuleFiles {
    /// Files that come from no folder.
    pub fn of<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), Arc::from(text)));
        Self { files: files.collect(), ..Self::default() }
    }

    /// Whether there is a file with rules among them.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.files.keys().any(|name| FileKind::of(name) == Some(FileKind::Rules))
    }

    /// The content address: SHA-256 over everything that decides what the rules do.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let mut hash = Sha256::new();
        // Each part goes in with its length, so that no two sets give the same bytes.
        let mut put = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for (name, text) in &self.files {
            put(b"file");
            put(name.as_bytes());
            put(text.as_bytes());
        }
        for (rule, mode) in &self.modes {
            put(b"mode");
            put(rule.as_str().as_bytes());
            put(mode.as_str().as_bytes());
        }
        if let Some(base) = &self.base {
            put(b"base");
            put(base.as_os_str().as_encoded_bytes());
        }
        Revision::new(hex::encode(hash.finalize()))
    }
}

/// Reads a rules folder, or one rule file with the `tasks.yaml`, `facts/` and `fixtures/` beside it.
///
/// Hidden files are left out, and so are folders below it that have a `tasks.yaml` of their own: they are
/// rules folders themselves.
///
/// # Errors
/// Everything that cannot be read: unreadable or too many files, no UTF-8, links that lead out of the folder.
pub fn read_folder(path: &Path) -> Result<RuleFiles, Report> {
    let mut read =
        ReadFolder { root: PathBuf::new(), files: BTreeMap::new(), bytes: 0, report: Report::default() };
    match fs::canonicalize(path) {
        Ok(found) if found.is_dir() => {
            read.root = found;
            read.folder("", 0);
        }
        Ok(found) => {
            let name = found.file_name().unwrap_or_default().to_string_lossy().into_owned();
            read.root = found.parent().unwrap_or(Path::new("/")).to_path_buf();
            if FileKind::of(&name).is_none() {
                read.report.push_file_error(&name, "a rule file ends with .yaml or .yml");
            }
            read.entry(&name, 0);
            for beside in [REGISTRY_FILE, FACTS_FOLDER, "fixtures"] {
                if beside != name && read.root.join(beside).exists() {
                    read.entry(beside, 0);
                }
            }
        }
        Err(error) => read.report.push_file_error(&path.display().to_string(), error.to_string()),
    }
    if read.report.has_errors() {
        return Err(read.report);
    }
    Ok(RuleFiles { files: read.files, modes: BTreeMap::new(), base: Some(read.root) })
}

struct ReadFolder {
    root: PathBuf,
    files: BTreeMap<String, Arc<str>>,
    bytes: usize,
    report: Report,
}

impl ReadFolder {
    /// Reads what is in a folder; `name` is relative to the root.
    fn folder(&mut self, name: &str, depth: usize) {
        if depth > FOLDERS_DEPTH_MAX {
            self.report.push_file_error(name, format!("folders are nested deeper than {FOLDERS_DEPTH_MAX}"));
            return;
        }
        let entries = match fs::read_dir(self.root.join(name)) {
            Ok(entries) => entries,
            Err(error) => return self.report.push_file_error(name, error.to_string()),
        };
        // Sorted, so that the same folder always gives the same errors.
        let mut names = BTreeSet::new();
        for entry in entries {
            match entry.map(|entry| entry.file_name().into_string()) {
                Ok(Ok(name)) => {
                    names.insert(name);
                }
                Ok(Err(odd)) => {
                    self.report.push_file_error(name, format!("the name {} is no UTF-8", odd.display()));
                }
                Err(error) => self.report.push_file_error(name, error.to_string()),
            }
        }
        if depth > 0 && names.contains(REGISTRY_FILE) {
            return;
        }
        for entry in names {
            let path = if name.is_empty() { entry } else { format!("{name}/{entry}") };
            self.entry(&path, depth);
        }
    }

    fn entry(&mut self, name: &str, depth: usize) {
        if name.rsplit('/').next().is_some_and(|last| last.starts_with('.')) {
            return;
        }
        let path = match fs::canonicalize(self.root.join(name)) {
            Ok(path) => path,
            Err(error) if FileKind::of(name).is_some() => {
                return self.report.push_file_error(name, error.to_string());
            }
            Err(_) => return,
        };
        if path.is_dir() {
            if path.starts_with(&self.root) {
                self.folder(name, depth + 1);
            } else {
                self.report.push_file_error(name, "the link leads out of the rules folder");
            }
            return;
        }
        let Some(kind) = FileKind::of(name) else { return };
        if path.starts_with(&self.root) {
            self.file(name, &path, kind);
        } else {
            self.report.push_file_error(name, "the link leads out of the rules folder");
        }
    }

    fn file(&mut self, name: &str, path: &Path, kind: FileKind) {
        // The size is asked for first, so that no huge file is read in; a device has none that counts.
        let max = kind.bytes_max();
        match fs::metadata(path) {
            Ok(about) if !about.is_file() => return self.report.push_file_error(name, "it is no plain file"),
            Ok(about) if about.len() > max as u64 => {
                let message = format!("the file has {} bytes, at most {max} are read", about.len());
                return self.report.push_file_error(name, message);
            }
            Ok(_) => {}
            Err(error) => return self.report.push_file_error(name, error.to_string()),
        }
        if self.files.len() >= FILES_MAX {
            if !self.report.has_errors() {
                self.report.push_file_error(name, format!("there are more than {FILES_MAX} files"));
            }
            return;
        }
        match fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => {
                self.bytes += text.len();
                if self.bytes > FILES_BYTES_MAX {
                    let message = format!("the files have more than {FILES_BYTES_MAX} bytes together");
                    return self.report.push_file_error(name, message);
                }
                self.files.insert(name.to_owned(), text.into());
            }
            Ok(Err(error)) => {
                let at = error.utf8_error().valid_up_to();
                self.report.push_file_error(name, format!("the file is no UTF-8 text (byte {at})"));
            }
            Err(error) => self.report.push_file_error(name, error.to_string()),
        }
    }
}
