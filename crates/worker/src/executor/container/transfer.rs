//! Files into and out of containers, as tar streams. What comes out is a stranger's.

use super::{
    super::{
        Collected, ExecError, OUTPUT_DIR, OWN_DIR,
        collect::{Collector, Take},
    },
    Container, VOLUME_DIR, WORK_DIR, WORK_FOLDER,
    engine::status,
};
use bollard::{
    body_try_stream,
    errors::Error,
    query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder},
};
use futures_util::TryStreamExt;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

/// The user (and group) that `run` is, and that owns the work folder.
pub(super) const UID: u32 = 65_534;
/// How much of a stream waits for the other end, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// How much more than the allowed disk space a work folder's archive may be (files with holes), in bytes.
const ARCHIVE_SLACK_BYTES: u64 = 1 << 30;

/// What is in a work folder: the path, and the size with the time of the last change, or where a link leads.
pub(super) type Listing = BTreeMap<PathBuf, String>;

impl Container {
    /// Uploads what waits for a container; the first time with the folders that are always there.
    pub(super) async fn upload(&mut self, id: &str) -> Result<(), ExecError> {
        let mut waiting: Vec<_> = std::mem::take(&mut self.pending).into_iter().map(Some).collect();
        if waiting.is_empty() && !self.has_folders {
            waiting.push(None);
        }
        for from in waiting {
            let folders = !std::mem::replace(&mut self.has_folders, true);
            let (writer, reader) = tokio::io::duplex(BUFFER_BYTES);
            let handle = tokio::runtime::Handle::current();
            let packed = tokio::task::spawn_blocking(move || {
                let writer = SyncIoBridge::new_with_handle(writer, handle);
                let name = from.as_ref().map(|from| from.display().to_string()).unwrap_or_default();
                pack(from.as_deref(), folders, writer).map_err(|error| format!("{name}: {error}"))
            });
            let options = UploadToContainerOptionsBuilder::default().path(VOLUME_DIR).build();
            let body = body_try_stream(ReaderStream::with_capacity(reader, BUFFER_BYTES));
            let sent = self.engine.docker.upload_to_container(id, Some(options), body).await;
            let packed = packed.await.map_err(|error| ExecError::Infra(error.to_string()))?;
            sent.map_err(|error| self.engine.infra("take in the work folder", &error))?;
            self.listing.extend(packed.map_err(ExecError::Infra)?);
        }
        Ok(())
    }

    fn download(&self, id: &str, path: &str) -> impl Read + Send + use<> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let stream = self.engine.docker.download_from_container(id, Some(options));
        let stream = Box::pin(stream.map_err(io::Error::other));
        SyncIoBridge::new(StreamReader::new(stream))
    }

    /// Whether the work folder is as it was uploaded; our own folder apart.
    pub(super) async fn work_unchanged(&self, id: &str) -> Result<bool, ExecError> {
        let archive = self.download(id, WORK_DIR);
        let expect = self.listing.clone();
        let same = tokio::task::spawn_blocking(move || same_as(archive, &expect)).await;
        same.map_err(|error| ExecError::Infra(error.to_string()))?
            .map_err(|error| ExecError::Infra(format!("the work folder cannot be compared: {error}")))
    }

    /// Takes files out of the work folder, or of the output folder alone.
    pub(super) async fn collect(
        &self,
        id: &str,
        collector: Collector,
        whole: bool,
    ) -> Result<Collected, ExecError> {
        let (path, prefix) = if whole {
            (WORK_DIR.to_owned(), PathBuf::new())
        } else {
            (format!("{WORK_DIR}/{OUTPUT_DIR}"), PathBuf::from(OUTPUT_DIR))
        };
        let archive = self.download(id, &path);
        let bytes_max = self.sizes.disk_bytes.saturating_add(ARCHIVE_SLACK_BYTES);
        let taken = tokio::task::spawn_blocking(move || take(archive, &prefix, collector, bytes_max)).await;
        taken.map_err(|error| ExecError::Infra(error.to_string()))?
    }
}

/// Packs a folder's content, owned by the user of `run`; gives what is in it.
fn pack(from: Option<&Path>, folders: bool, writer: impl io::Write) -> io::Result<Listing> {
    let mut builder = tar::Builder::new(writer);
    let mut listing = Listing::new();
    if folders {
        for folder in ["".to_owned(), format!("{OWN_DIR}/"), format!("{OUTPUT_DIR}/")] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_uid(UID.into());
            header.set_gid(UID.into());
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, format!("{WORK_FOLDER}/{folder}"), io::empty())?;
        }
    }
    let mut todo: Vec<_> = from.map(|_| PathBuf::new()).into_iter().collect();
    let from = from.unwrap_or(Path::new(""));
    while let Some(inner) = todo.pop() {
        let path = from.join(&inner);
        let meta = fs::symlink_metadata(&path)?;
        let name = Path::new(WORK_FOLDER).join(&inner);
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&meta);
        header.set_uid(UID.into());
        header.set_gid(UID.into());
        if meta.is_dir() {
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, &name, io::empty())?;
            for entry in fs::read_dir(&path)? {
                todo.push(inner.join(entry?.file_name()));
            }
        } else if meta.is_symlink() {
            let target = fs::read_link(&path)?;
            header.set_size(0);
            builder.append_link(&mut header, &name, &target)?;
            listing.insert(inner, format!("-> {}", target.display()));
        } else if meta.is_file() {
            let executable = meta.permissions().mode() & 0o100 != 0;
            header.set_mode(if executable { 0o755 } else { 0o644 });
            listing.insert(inner.clone(), file_state(meta.len(), u64::try_from(meta.mtime()).unwrap_or(0)));
            builder.append_data(&mut header, &name, fs::File::open(&path)?.take(meta.len()))?;
        }
    }
    io::Write::flush(&mut builder.into_inner()?)?;
    Ok(listing)
}

fn file_state(size: u64, mtime: u64) -> String {
    format!("{size} bytes at {mtime}")
}

/// An entry's path below the folder that was downloaded: the archive names that folder first.
fn below(path: &Path) -> PathBuf {
    path.components().skip(1).collect()
}

fn same_as(archive: impl Read, expect: &Listing) -> io::Result<bool> {
    let ours = |path: &Path| path.starts_with(OWN_DIR);
    let mut left: Listing = expect
        .iter()
        .filter(|(path, _)| !ours(path))
        .map(|(path, state)| (path.clone(), state.clone()))
        .collect();
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        let path = below(&entry.path()?);
        let header = entry.header();
        if ours(&path) || header.entry_type().is_dir() {
            continue;
        }
        let state = match entry.link_name()? {
            Some(target) => format!("-> {}", target.display()),
            None => file_state(entry.size(), header.mtime()?),
        };
        if left.remove(&path) != Some(state) {
            return Ok(false);
        }
    }
    Ok(left.is_empty())
}

fn take(
    archive: impl Read,
    prefix: &Path,
    mut collector: Collector,
    bytes_max: u64,
) -> Result<Collected, ExecError> {
    let mut archive = tar::Archive::new(archive);
    let mut seen_bytes = 0_u64;
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => return absent_is_empty(error, collector),
    };
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => return absent_is_empty(error, collector),
        };
        seen_bytes = seen_bytes.saturating_add(entry.size());
        let path = entry.path().map_err(broken)?.into_owned();
        let path = prefix.join(below(&path));
        let kind = entry.header().entry_type();
        if seen_bytes > bytes_max {
            collector
                .skip(&path.to_string_lossy(), format!("the work folder is larger than {bytes_max} bytes"));
            break;
        }
        if kind.is_dir() {
            continue;
        }
        let Take::As(name) = collector.wants(&path)? else { continue };
        if kind.is_file() {
            let size = entry.size();
            collector.take(name, size, &mut entry)?;
        } else {
            collector.skip(&name, "it is a link or a device, not a file");
        }
    }
    Ok(collector.done())
}

/// A folder that the task removed holds nothing.
fn absent_is_empty(error: io::Error, collector: Collector) -> Result<Collected, ExecError> {
    let engine = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if engine.and_then(status) == Some(404) {
        return Ok(collector.done());
    }
    Err(broken(error))
}

fn broken(error: impl std::fmt::Display) -> ExecError {
    ExecError::Infra(format!("the files that the engine gives cannot be read: {error}"))
}
