//! An attempt's log on disk: its head and its tail, cut into numbered chunks for sending.
//!
//! The head is appended to `data` and can be sent at once. What comes after it goes round in `ring`, and is
//! put behind the head when the log is sealed, with a line that says how much is missing in between. So a log
//! of any length needs [`LOG_BYTES_MAX`] on disk and nothing in memory. Where chunks were cut is kept in
//! `bounds`, so that a worker that was killed sends the same chunk under the same number again.

use bytes::Bytes;
use model::protocol::{LOG_BYTES_MAX, LOG_CHUNK_BYTES_MAX};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// What is sent without waiting for the next [tick](super::LOG_FLUSH_EVERY), in bytes.
pub const LOG_FLUSH_BYTES: u64 = 256 * 1024;
/// What is kept free for the line that says what is missing, in bytes.
const MARK_BYTES_MAX: u64 = 256;
/// One end of a chunk in `bounds`, in bytes.
const BOUND_BYTES: u64 = 8;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    /// Of its head, in bytes.
    pub head_bytes: u64,
    /// Of its tail, in bytes.
    pub tail_bytes: u64,
    /// The largest chunk, in bytes.
    pub chunk_bytes: usize,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self {
            head_bytes: LOG_BYTES_MAX / 2,
            tail_bytes: LOG_BYTES_MAX / 2 - MARK_BYTES_MAX,
            chunk_bytes: LOG_CHUNK_BYTES_MAX,
        }
    }
}

/// A numbered piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, from 0.
    pub seq: u32,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What became of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// How many chunks were cut.
    pub chunks: u32,
    /// How many bytes were kept.
    pub bytes: u64,
    /// Whether anything was dropped.
    pub truncated: bool,
}

#[derive(Debug)]
struct Inner {
    data: File,
    data_bytes: u64,
    /// Up to where chunks were cut.
    cut: u64,
    bounds: File,
    chunks: u32,
    /// Where the next chunk must end, since it was cut before.
    cut_before: Option<u64>,
    ring: Option<File>,
    ring_bytes: u64,
    sealed: bool,
    /// Dropped in the middle, or lost since the disk was full.
    truncated: bool,
}

/// A log on disk.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limits: SpoolLimits,
    inner: Mutex<Inner>,
    /// Told when there is enough to send, and when the log was sealed.
    pub(super) grown: Notify,
}

impl Spool {
    /// An empty log in a folder, which is made.
    ///
    /// # Errors
    /// The folder or its files cannot be made.
    pub fn create(folder: &Path, limits: SpoolLimits) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self::new(folder, limits, open(folder, "data", true)?, open(folder, "bounds", true)?))
    }

    /// The log that a killed worker left in a folder; it is sealed. What was in the ring is lost, since
    /// nobody knows any more where it begins.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn recover(folder: &Path, limits: SpoolLimits) -> io::Result<Self> {
        let (data, mut bounds) = (open(folder, "data", false)?, open(folder, "bounds", false)?);
        let mut ends = Vec::new();
        bounds.read_to_end(&mut ends)?;
        let ends: Vec<u64> =
            ends.chunks_exact(8).filter_map(|end| end.try_into().ok()).map(u64::from_le_bytes).collect();
        let spool = Self::new(folder, limits, data, bounds);
        {
            let mut inner = spool.lock();
            inner.data_bytes = inner.data.metadata()?.len();
            let kept = ends.len().saturating_sub(1);
            inner.chunks = u32::try_from(kept).unwrap_or(u32::MAX);
            inner.cut = kept.checked_sub(1).and_then(|last| ends.get(last)).copied().unwrap_or(0);
            inner.cut_before = ends.last().copied();
            inner.bounds.set_len(kept as u64 * BOUND_BYTES)?;
            inner.bounds.seek(SeekFrom::End(0))?;
            inner.sealed = true;
            inner.truncated = folder.join("ring").exists();
        }
        Ok(spool)
    }

    fn new(folder: &Path, limits: SpoolLimits, data: File, bounds: File) -> Self {
        let inner = Inner {
            data,
            data_bytes: 0,
            cut: 0,
            bounds,
            chunks: 0,
            cut_before: None,
            ring: None,
            ring_bytes: 0,
            sealed: false,
            truncated: false,
        };
        Self { folder: folder.to_owned(), limits, inner: Mutex::new(inner), grown: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends. It never fails: what a full disk does not take is dropped and the log counts as truncated.
    /// After sealing nothing more is taken.
    pub fn append(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.sealed {
            return;
        }
        let room = self.limits.head_bytes.saturating_sub(inner.data_bytes);
        let split = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let (head, tail) = bytes.split_at(split);
        let done = inner.append_data(head).and_then(|()| self.append_ring(&mut inner, tail));
        if let Err(error) = done
            && !inner.truncated
        {
            inner.truncated = true;
            tracing::warn!(%error, folder = %self.folder.display(), "log lines are dropped");
        }
        if inner.data_bytes - inner.cut >= LOG_FLUSH_BYTES {
            self.grown.notify_one();
        }
    }

    fn append_ring(&self, inner: &mut Inner, mut bytes: &[u8]) -> io::Result<()> {
        let size = self.limits.tail_bytes;
        if bytes.is_empty() || size == 0 {
            inner.truncated |= !bytes.is_empty();
            return Ok(());
        }
        if inner.ring.is_none() {
            inner.ring = Some(open(&self.folder, "ring", true)?);
        }
        while !bytes.is_empty() {
            let at = inner.ring_bytes % size;
            let part = usize::try_from(size - at).unwrap_or(usize::MAX).min(bytes.len());
            if let Some(ring) = &inner.ring {
                ring.write_all_at(&bytes[..part], at)?;
            }
            inner.ring_bytes += part as u64;
            bytes = &bytes[part..];
        }
        Ok(())
    }

    /// Ends the log: puts the tail behind the head. Sealing twice changes nothing.
    pub fn seal(&self) {
        let mut inner = self.lock();
        if !inner.sealed {
            inner.sealed = true;
            if let Err(error) = self.unroll(&mut inner) {
                inner.truncated = true;
                tracing::warn!(%error, folder = %self.folder.display(), "the tail of a log is lost");
            }
        }
        self.grown.notify_one();
    }

    fn unroll(&self, inner: &mut Inner) -> io::Result<()> {
        let Some(ring) = inner.ring.take() else { return Ok(()) };
        let size = self.limits.tail_bytes;
        let dropped = inner.ring_bytes.saturating_sub(size);
        let start = if dropped == 0 { 0 } else { inner.ring_bytes % size };
        let mut left = inner.ring_bytes.min(size);
        let mut at = start;
        let mut buffer = vec![0; 64 * 1024];
        if dropped > 0 {
            inner.truncated = true;
            inner.append_data(format!("\n--- {dropped} bytes of log are missing here ---\n").as_bytes())?;
        }
        while left > 0 {
            let part = (size - at).min(left).min(buffer.len() as u64);
            let part_len = usize::try_from(part).unwrap_or(buffer.len());
            ring.read_exact_at(&mut buffer[..part_len], at)?;
            inner.append_data(&buffer[..part_len])?;
            at = (at + part) % size;
            left -= part;
        }
        std::fs::remove_file(self.folder.join("ring"))
    }

    /// Cuts the next chunk: when there is enough, or anything and it is `due` or the log is sealed.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn cut(&self, due: bool) -> io::Result<Option<Chunk>> {
        let mut inner = self.lock();
        let ready = inner.data_bytes - inner.cut;
        let due = due || inner.sealed || ready >= LOG_FLUSH_BYTES;
        if ready == 0 || !due {
            return Ok(None);
        }
        let end = match inner.cut_before.take() {
            Some(end) if end > inner.cut => end.min(inner.data_bytes),
            _ => inner.cut + ready.min(self.limits.chunk_bytes as u64),
        };
        let mut bytes = vec![0; usize::try_from(end - inner.cut).unwrap_or(0)];
        inner.data.read_exact_at(&mut bytes, inner.cut)?;
        inner.bounds.write_all(&end.to_le_bytes())?;
        let chunk = Chunk { seq: inner.chunks, bytes: bytes.into() };
        inner.chunks += 1;
        inner.cut = end;
        Ok(Some(chunk))
    }

    /// Whether the log is sealed and everything was cut.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let inner = self.lock();
        inner.sealed && inner.cut == inner.data_bytes
    }

    /// What became of it so far.
    #[must_use]
    pub fn summary(&self) -> LogSummary {
        let inner = self.lock();
        LogSummary { chunks: inner.chunks, bytes: inner.data_bytes, truncated: inner.truncated }
    }
}

impl Inner {
    fn append_data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.data.write_all_at(bytes, self.data_bytes)?;
        self.data_bytes += bytes.len() as u64;
        Ok(())
    }
}

fn open(folder: &Path, name: &str, fresh: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(fresh).open(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(head: u64, tail: u64, chunk: usize) -> SpoolLimits {
        SpoolLimits { head_bytes: head, tail_bytes: tail, chunk_bytes: chunk }
    }

    fn drain(spool: &Spool) -> (Vec<u8>, Vec<u32>) {
        let (mut all, mut seqs) = (Vec::new(), Vec::new());
        while let Some(chunk) = spool.cut(true).unwrap() {
            all.extend_from_slice(&chunk.bytes);
            seqs.push(chunk.seq);
        }
        (all, seqs)
    }

    #[test]
    fn head_and_tail_are_kept() {
        let check = |written: &str, expect: &str, truncated: bool| {
            for step in [1, 3, 7, 100] {
                let folder = tempfile::tempdir().unwrap();
                let spool = Spool::create(folder.path(), limits(8, 8, 5)).unwrap();
                written.as_bytes().chunks(step).for_each(|part| spool.append(part));
                spool.seal();
                let (all, seqs) = drain(&spool);
                assert_eq!(String::from_utf8(all).unwrap(), expect);
                assert_eq!(seqs, (0..u32::try_from(seqs.len()).unwrap()).collect::<Vec<_>>());
                let summary = spool.summary();
                assert_eq!((summary.truncated, summary.bytes), (truncated, expect.len() as u64), "{written}");
                assert!(spool.is_drained() && !folder.path().join("ring").exists());
            }
        };
        check("", "", false);
        check("abc", "abc", false);
        check("0123456789abcdef", "0123456789abcdef", false);
        check("0123456789abcdefgh", "01234567\n--- 2 bytes of log are missing here ---\nabcdefgh", true);
        let long = format!("{}{}", "x".repeat(1000), "tail5678");
        check(&long, "xxxxxxxx\n--- 992 bytes of log are missing here ---\ntail5678", true);
    }

    #[test]
    fn the_kept_log_is_within_the_protocol_limit() {
        let limits = SpoolLimits::default();
        assert!(limits.head_bytes + limits.tail_bytes + MARK_BYTES_MAX <= LOG_BYTES_MAX);
    }

    #[test]
    fn a_killed_workers_log_is_sent_again_with_the_same_cuts() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::create(folder.path(), limits(1000, 1000, 4)).unwrap();
        spool.append(b"abcdef");
        let first = spool.cut(true).unwrap().unwrap();
        let second = spool.cut(true).unwrap().unwrap();
        assert_eq!((first.seq, &first.bytes[..]), (0, &b"abcd"[..]));
        assert_eq!((second.seq, &second.bytes[..]), (1, &b"ef"[..]));
        // More was written, then the process was killed: nobody knows whether chunk 1 arrived.
        spool.append(b"ghij");
        drop(spool);
        let spool = Spool::recover(folder.path(), limits(1000, 1000, 4)).unwrap();
        assert_eq!(spool.cut(false).unwrap().unwrap(), second);
        let last = spool.cut(false).unwrap().unwrap();
        assert_eq!((last.seq, &last.bytes[..]), (2, &b"ghij"[..]));
        assert!(spool.is_drained());
        assert_eq!(spool.summary(), LogSummary { chunks: 3, bytes: 10, truncated: false });
    }

    #[test]
    fn small_output_waits_until_it_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::create(folder.path(), SpoolLimits::default()).unwrap();
        spool.append(b"x");
        assert_eq!(spool.cut(false).unwrap(), None);
        spool.append(&vec![b'y'; usize::try_from(LOG_FLUSH_BYTES).unwrap()]);
        assert!(spool.cut(false).unwrap().is_some());
    }
}
