//! Files into and out of containers, as tar streams. What comes out is a stranger's.

use super::{
    super::{
        Collected, ExecError, OUTPUT_DIR, OWN_DIR,
        archive::{self, Listing, file_state},
        collect::Collector,
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
    io::{self, Read},
    path::{Path, PathBuf},
};
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

/// The user (and group) that `run` is, and that owns the work folder.
pub(super) const UID: u32 = 65_534;
/// How much of a stream waits for the other end, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
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
                let top = Path::new(WORK_FOLDER);
                archive::pack(from.as_deref(), top, UID, folders, writer)
                    .map_err(|error| format!("{name}: {error}"))
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
        let bytes_max = self.sizes.disk_bytes.saturating_add(archive::SLACK_BYTES);
        let place = move |path: &Path| prefix.join(below(path));
        let take = move || archive::take(archive, place, is_absent, collector, bytes_max);
        let taken = tokio::task::spawn_blocking(take).await;
        taken.map_err(|error| ExecError::Infra(error.to_string()))?
    }
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

/// A folder that the task removed holds nothing.
fn is_absent(error: &io::Error) -> bool {
    let engine = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    engine.and_then(status) == Some(404)
}
