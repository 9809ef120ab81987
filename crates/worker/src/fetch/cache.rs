//! The cache of fetched files: a folder for each URL and checksum, locked while it is used.
//!
//! `data` is the whole file, `meta.json` what is known of it, `part` and `part.json` a transfer that broke off.
//! Several workers on a machine can share it.

use super::FetchError;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use url::Url;

/// How often a locked entry is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// What is known of a fetched file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) url: String,
    pub(super) sha256: String,
    pub(super) size_bytes: u64,
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// An entry of the cache, locked.
#[derive(Debug)]
pub(super) struct Entry {
    folder: PathBuf,
    _lock: File,
}

impl Entry {
    /// Opens and locks the entry; waits while another attempt or worker has it.
    pub(super) async fn open(cache: &Path, url: &Url, sha256: Option<&str>) -> Result<Self, FetchError> {
        let key = format!("{url}\n{}", sha256.unwrap_or_default());
        let folder = cache.join(hex::encode(Sha256::digest(key)));
        loop {
            match Self::try_open(&folder).map_err(|error| FetchError::disk(&folder, &error))? {
                Some(entry) => return Ok(entry),
                None => tokio::time::sleep(LOCK_POLL).await,
            }
        }
    }

    fn try_open(folder: &Path) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // It may have been pruned between making and locking.
        Ok(folder.join("lock").exists().then(|| Self { folder: folder.to_owned(), _lock: lock }))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn part(&self) -> PathBuf {
        self.folder.join("part")
    }

    /// The whole file, if it is there; `checked` only if it was stored under its checksum and needs no asking.
    pub(super) fn kept(&self, checked: bool) -> Option<Meta> {
        if checked { self.meta() } else { None }
    }

    /// What is known of the whole file, if it is there and as long as it should be.
    pub(super) fn meta(&self) -> Option<Meta> {
        let meta: Meta = read_json(&self.folder.join("meta.json"))?;
        (std::fs::metadata(self.data()).ok()?.len() == meta.size_bytes).then_some(meta)
    }

    /// What is known of the part, with its length in bytes.
    pub(super) fn part_meta(&self) -> Option<(Meta, u64)> {
        let meta = read_json(&self.folder.join("part.json"))?;
        Some((meta, std::fs::metadata(self.part()).ok()?.len()))
    }

    pub(super) fn begin_part(&self, meta: &Meta) -> Result<(), FetchError> {
        self.write_json("part.json", meta)
    }

    pub(super) fn drop_part(&self) {
        // What is left over is overwritten by the next transfer.
        drop(std::fs::remove_file(self.folder.join("part.json")));
        drop(std::fs::remove_file(self.part()));
    }

    /// Makes the part the whole file.
    pub(super) fn complete(&self, meta: &Meta) -> Result<(), FetchError> {
        drop(std::fs::remove_file(self.folder.join("meta.json")));
        std::fs::rename(self.part(), self.data()).map_err(|error| FetchError::disk(&self.data(), &error))?;
        drop(std::fs::remove_file(self.folder.join("part.json")));
        self.write_json("meta.json", meta)
    }

    /// Notes that it was used, for [`prune`].
    pub(super) fn touch(&self, now: DateTime<Utc>) {
        let touched = File::options()
            .write(true)
            .open(self.folder.join("meta.json"))
            .and_then(|file| file.set_modified(SystemTime::from(now)));
        if let Err(error) = touched {
            tracing::debug!(%error, folder = %self.folder.display(), "the use of a cached file is not noted");
        }
    }

    fn write_json(&self, name: &str, meta: &Meta) -> Result<(), FetchError> {
        let path = self.folder.join(name);
        let text = serde_json::to_vec(meta).map_err(|error| FetchError::infra(error.to_string()))?;
        std::fs::write(&path, text).map_err(|error| FetchError::disk(&path, &error))
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Removes the longest unused entries until the cache has at most `bytes_max`; those in use stay. Returns how
/// many were removed.
///
/// # Errors
/// The cache cannot be listed, or an entry not be removed.
pub fn prune(cache: &Path, bytes_max: u64) -> io::Result<usize> {
    let mut entries = Vec::new();
    let folders = match std::fs::read_dir(cache) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    for folder in folders {
        let folder = folder?.path();
        let size: u64 = ["data", "part"]
            .iter()
            .filter_map(|name| std::fs::metadata(folder.join(name)).ok())
            .map(|found| found.len())
            .sum();
        let used = ["meta.json", "part.json"]
            .iter()
            .find_map(|name| std::fs::metadata(folder.join(name)).and_then(|found| found.modified()).ok());
        entries.push((used.unwrap_or(SystemTime::UNIX_EPOCH), size, folder));
    }
    entries.sort();
    let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
    let mut removed = 0;
    for (_, size, folder) in entries {
        if total <= bytes_max {
            break;
        }
        if let Some(entry) = Entry::try_open(&folder)? {
            std::fs::remove_dir_all(&entry.folder)?;
            total -= size;
            removed += 1;
        }
    }
    Ok(removed)
}
