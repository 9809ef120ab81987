//! Bytes: logs and artifacts, in an object store. Their rows are in SQL, their bytes never.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use model::{TaskId, protocol::ARTIFACT_BYTES_MAX};
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart, path::Path};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use store::LogChunk;
use tokio::sync::Mutex as AsyncMutex;

/// How many bytes a part of a large file has.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// How many parts are written at the same time.
const PARTS_PARALLEL_MAX: usize = 4;

/// What can go wrong with bytes.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There are no such bytes (any more).
    #[error("the bytes at `{0}` are not there (any more)")]
    NotFound(String),
    /// The sender stopped, sent too much, or sent other bytes than it said.
    #[error("{0}")]
    Refused(String),
    /// The store of the bytes is away or full.
    #[error("the store of logs and artifacts: {0}")]
    Store(String),
}

impl From<object_store::Error> for FileError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { path, .. } => Self::NotFound(path),
            other => Self::Store(other.to_string()),
        }
    }
}

/// What a file is said to be; its bytes are checked against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The whole file's size in bytes.
    pub size_bytes: u64,
    /// The whole file's SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// An object as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its path.
    pub key: String,
    /// When it was written, by the store's clock.
    pub modified_at: DateTime<Utc>,
}

/// Where the bytes lie.
#[derive(Debug, Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    /// Uploads under way, so that two requests for one file do not join its parts at the same time.
    uploads: Arc<Mutex<HashMap<String, Weak<AsyncMutex<()>>>>>,
}

impl Files {
    /// Over any object store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, uploads: Arc::default() }
    }

    /// Where a chunk of an attempt's log lies. The fence is part of it, so that a worker that lost its lease
    /// cannot write over what its successor wrote.
    #[must_use]
    pub fn log_key(task: TaskId, attempt: u32, fence: i64, seq: u32) -> String {
        format!("logs/{task}/{attempt}-{fence}/{seq:08}")
    }

    /// Where an artifact lies. Its name is only in SQL: the path is made of hexadecimal digits.
    #[must_use]
    pub fn artifact_key(task: TaskId, attempt: u32, fence: i64, name: &str) -> String {
        let name = hex::encode(&Sha256::digest(name)[..16]);
        format!("artifacts/{task}/{attempt}-{fence}/{name}")
    }

    /// Writes a small object whole.
    ///
    /// # Errors
    /// The store is away or full.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), FileError> {
        self.store.put(&Path::from(key), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// Writes what comes as one object, as it comes, at most `bytes_max` bytes. Returns its size and its SHA-256 in
    /// hexadecimal digits.
    ///
    /// # Errors
    /// More came, or the sender broke off: nothing is kept. The store is away or full.
    pub async fn write(
        &self,
        key: &str,
        bytes_max: u64,
        body: impl Stream<Item = Result<Bytes, String>> + Send,
    ) -> Result<(u64, String), FileError> {
        let upload = self.store.put_multipart(&Path::from(key)).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let (mut size_bytes, mut hash) = (0, Sha256::new());
        let mut body = std::pin::pin!(body);
        while let Some(bytes) = body.next().await {
            let refused = match &bytes {
                Err(why) => Some(format!("the file did not come whole: {why}")),
                Ok(bytes) if size_bytes + bytes.len() as u64 > bytes_max => {
                    Some(format!("a file has at most {bytes_max} bytes"))
                }
                Ok(_) => None,
            };
            let (Ok(bytes), None) = (bytes, &refused) else {
                writer.abort().await?;
                return Err(FileError::Refused(refused.unwrap_or_default()));
            };
            size_bytes += bytes.len() as u64;
            hash.update(&bytes);
            writer.wait_for_capacity(PARTS_PARALLEL_MAX).await?;
            writer.put(bytes);
        }
        writer.finish().await?;
        Ok((size_bytes, hex::encode(hash.finalize())))
    }

    /// The size of an object in bytes; nothing when it is not there.
    ///
    /// # Errors
    /// The store is away.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, FileError> {
        match self.store.head(&Path::from(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// The store is away.
    pub async fn remove(&self, key: &str) -> Result<(), FileError> {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All objects under a folder, in no order.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<StoredFile, FileError>> {
        let file = |meta: object_store::ObjectMeta| StoredFile {
            key: meta.location.to_string(),
            modified_at: meta.last_modified,
        };
        self.store.list(Some(&Path::from(folder))).map_ok(file).map_err(FileError::from).boxed()
    }

    /// Reads an object, or a part of it.
    ///
    /// # Errors
    /// It is not there, or the store is away.
    pub async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<BoxStream<'static, Result<Bytes, FileError>>, FileError> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let got = self.store.get_opts(&Path::from(key), options).await?;
        Ok(got.into_stream().map_err(FileError::from).boxed())
    }

    /// The bytes of log chunks in their order, from a byte offset on.
    pub fn log(
        &self,
        chunks: Vec<LogChunk>,
        skip_bytes: u64,
    ) -> BoxStream<'static, Result<Bytes, FileError>> {
        let files = self.clone();
        let mut skip = skip_bytes;
        let wanted = chunks.into_iter().filter_map(move |chunk| {
            let skipped = skip.min(chunk.size_bytes);
            skip -= skipped;
            (skipped < chunk.size_bytes).then_some((chunk.key, skipped..chunk.size_bytes))
        });
        futures_util::stream::iter(wanted.collect::<Vec<_>>())
            .then(move |(key, range)| {
                let files = files.clone();
                async move { files.get(&key, Some(range)).await }
            })
            .try_flatten()
            .boxed()
    }

    /// How many bytes of a file the store has from an upload that was broken off.
    ///
    /// # Errors
    /// The store is away.
    pub async fn received(&self, key: &str) -> Result<u64, FileError> {
        Ok(self.parts(key).await?.last().map_or(0, |part| part.1.end))
    }

    /// The parts of an upload that was broken off, without gaps, from its start.
    async fn parts(&self, key: &str) -> Result<Vec<(String, Range<u64>)>, FileError> {
        let folder = Path::from(format!("{key}.parts"));
        let mut found: Vec<_> = self
            .store
            .list(Some(&folder))
            .map_ok(|meta| (meta.location, meta.size))
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .filter_map(|(path, size)| Some((path.filename()?.parse::<u64>().ok()?, path, size)))
            .collect();
        found.sort_by_key(|part| part.0);
        let mut parts = Vec::new();
        let mut end = 0;
        for (start, path, size) in found {
            if start != end {
                break;
            }
            end += size;
            parts.push((path.to_string(), start..end));
        }
        Ok(parts)
    }

    /// Takes a part of a file in, from `offset` on; one that begins elsewhere than the file so far ends is not
    /// taken. A sender that breaks off can go on where its bytes end. Returns how many bytes there are; the file
    /// is whole, summed and readable when that is its declared size.
    ///
    /// # Errors
    /// The bytes are not what was declared, or more; the store is away or full.
    pub async fn receive(
        &self,
        key: &str,
        offset: u64,
        declared: &Declared,
        body: impl Stream<Item = Result<Bytes, String>> + Send,
    ) -> Result<u64, FileError> {
        if declared.size_bytes > ARTIFACT_BYTES_MAX {
            return Err(FileError::Refused(format!("a file has at most {ARTIFACT_BYTES_MAX} bytes")));
        }
        if self.is_whole(key, declared).await? {
            // Joined before, and the answer was lost.
            return Ok(declared.size_bytes);
        }
        let mut have = self.received(key).await?;
        if offset == have && (offset < declared.size_bytes || declared.size_bytes == 0) {
            let part = format!("{key}.parts/{offset:020}");
            have = self.receive_part(key, &part, offset, declared, body).await?;
        }
        // Otherwise nothing is taken: the sender hears where to go on.
        if have == declared.size_bytes {
            let upload = self.upload(key);
            let _alone = upload.lock().await;
            if !self.is_whole(key, declared).await? {
                self.join(key, declared).await?;
            }
        }
        Ok(have)
    }

    fn upload(&self, key: &str) -> Arc<AsyncMutex<()>> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.retain(|_, upload| upload.strong_count() > 0);
        if let Some(upload) = uploads.get(key).and_then(Weak::upgrade) {
            return upload;
        }
        let upload = Arc::new(AsyncMutex::new(()));
        uploads.insert(key.to_owned(), Arc::downgrade(&upload));
        upload
    }

    /// Whether the file was joined: its sum was checked then.
    async fn is_whole(&self, key: &str, declared: &Declared) -> Result<bool, FileError> {
        Ok(self.size(key).await? == Some(declared.size_bytes))
    }

    /// Writes what comes as one part, also when the sender breaks off. Returns the offset after it.
    async fn receive_part(
        &self,
        key: &str,
        part: &str,
        offset: u64,
        declared: &Declared,
        body: impl Stream<Item = Result<Bytes, String>> + Send,
    ) -> Result<u64, FileError> {
        let upload = self.store.put_multipart(&Path::from(part)).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut at = offset;
        let mut body = std::pin::pin!(body);
        while let Some(bytes) = body.next().await {
            // A broken connection ends the part; its bytes are kept for the next try.
            let Ok(bytes) = bytes else { break };
            at += bytes.len() as u64;
            if at > declared.size_bytes {
                writer.abort().await?;
                return Err(FileError::Refused(format!(
                    "more than the declared {} bytes came",
                    declared.size_bytes
                )));
            }
            writer.wait_for_capacity(PARTS_PARALLEL_MAX).await?;
            writer.put(bytes);
        }
        if at == offset && declared.size_bytes != offset {
            writer.abort().await?;
            return Ok(at);
        }
        let have = self.received(key).await?;
        if have != offset {
            // Another request for the same part was faster; it must not be written over with less.
            writer.abort().await?;
            return Ok(have);
        }
        writer.finish().await?;
        Ok(at)
    }

    /// Joins the parts to the whole file, checks its hash, and removes the parts.
    async fn join(&self, key: &str, declared: &Declared) -> Result<(), FileError> {
        let parts = self.parts(key).await?;
        let upload = self.store.put_multipart(&Path::from(key)).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut hash = Sha256::new();
        for (part, _) in &parts {
            let mut bytes = self.get(part, None).await?;
            while let Some(bytes) = bytes.try_next().await? {
                hash.update(&bytes);
                writer.wait_for_capacity(PARTS_PARALLEL_MAX).await?;
                writer.put(bytes);
            }
        }
        let found = hex::encode(hash.finalize());
        let right = found.eq_ignore_ascii_case(&declared.sha256);
        if right {
            writer.finish().await?;
        } else {
            writer.abort().await?;
        }
        for (part, _) in parts {
            self.remove(&part).await?;
        }
        if right {
            return Ok(());
        }
        Err(FileError::Refused(format!(
            "the file's SHA-256 is {found}, not the declared {}",
            declared.sha256
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn files() -> Files {
        Files::new(Arc::new(InMemory::new()))
    }

    fn body(chunks: &[&str]) -> impl Stream<Item = Result<Bytes, String>> + Send + use<> {
        let chunks: Vec<_> =
            chunks
                .iter()
                .map(|chunk| {
                    if *chunk == "!" { Err("gone".to_owned()) } else { Ok(Bytes::from((*chunk).to_owned())) }
                })
                .collect();
        futures_util::stream::iter(chunks)
    }

    fn declared(text: &str) -> Declared {
        Declared { size_bytes: text.len() as u64, sha256: hex::encode(Sha256::digest(text)) }
    }

    async fn read(files: &Files, key: &str) -> String {
        let bytes: Vec<Bytes> = files.get(key, None).await.unwrap().try_collect().await.unwrap();
        String::from_utf8(bytes.concat()).unwrap()
    }

    #[tokio::test]
    async fn an_upload_that_broke_off_goes_on() {
        let files = files();
        let whole = declared("hello world");
        assert_eq!(files.receive("a/b", 0, &whole, body(&["hel", "lo", "!"])).await.unwrap(), 5);
        assert_eq!(files.received("a/b").await.unwrap(), 5);
        let elsewhere = files.receive("a/b", 3, &whole, body(&["lo world"])).await.unwrap();
        assert_eq!(elsewhere, 5, "nothing is taken of a part that begins elsewhere");
        assert_eq!(files.receive("a/b", 5, &whole, body(&[" world"])).await.unwrap(), 11);
        assert_eq!(read(&files, "a/b").await, "hello world");
        assert_eq!(files.received("a/b").await.unwrap(), 0, "no parts are left");
    }

    #[tokio::test]
    async fn other_bytes_than_declared_are_refused() {
        let files = files();
        let error = files.receive("a", 0, &declared("hello"), body(&["hellx"])).await.unwrap_err();
        assert!(error.to_string().contains("SHA-256"), "{error}");
        let error = files.receive("a", 0, &declared("hello"), body(&["hello world"])).await.unwrap_err();
        assert!(error.to_string().contains("more than the declared 5 bytes"), "{error}");
        assert!(matches!(files.get("a", None).await, Err(FileError::NotFound(_))));
    }

    #[tokio::test]
    async fn an_empty_file_is_a_file() {
        let files = files();
        assert_eq!(files.receive("a", 0, &declared(""), body(&[])).await.unwrap(), 0);
        assert_eq!(read(&files, "a").await, "");
    }

    #[tokio::test]
    async fn logs_start_anywhere() {
        let files = files();
        let mut chunks = Vec::new();
        for (seq, text) in (0..).zip(["abc", "def", "ghi"]) {
            let key = format!("log/{seq}");
            files.put(&key, Bytes::from(text)).await.unwrap();
            chunks.push(LogChunk { attempt: 1, seq, size_bytes: 3, key });
        }
        for (skip, expect) in [(0, "abcdefghi"), (4, "efghi"), (6, "ghi"), (9, "")] {
            let bytes: Vec<Bytes> = files.log(chunks.clone(), skip).try_collect().await.unwrap();
            assert_eq!(String::from_utf8(bytes.concat()).unwrap(), expect, "from {skip}");
        }
    }
}
