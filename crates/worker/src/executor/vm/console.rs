//! A machine's serial console: kept in a file, searched for texts, and typed on.

use super::super::ExecError;
use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::watch,
    time::timeout,
};

/// The most of a console that is kept, in bytes.
pub(super) const CONSOLE_BYTES_MAX: u64 = 16 << 20;
/// What a kernel says when it gives up. Most stay as they are then, with `panic=0`.
const PANIC: &str = "Kernel panic - not syncing";
/// How long the console must be silent after that: a kernel that resets itself does so before.
pub(super) const PANIC_REST: Duration = Duration::from_secs(20);
/// How much of the end can be searched, in bytes.
const TAIL_BYTES: usize = 256 * 1024;

/// The console of one boot.
pub(super) struct Console {
    text: Arc<Mutex<Text>>,
    /// How many bytes came.
    pub(super) came: watch::Receiver<u64>,
    keys: tokio::sync::Mutex<OwnedWriteHalf>,
}

#[derive(Default)]
struct Text {
    /// The end, without control sequences.
    tail: Vec<u8>,
    /// How many bytes were before it.
    before: u64,
    escape: Escape,
}

/// Where in a control sequence a terminal would be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Sequence,
}

impl Text {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.escape = match (self.escape, byte) {
                (_, 0x1b) => Escape::Begun,
                (Escape::Begun, b'[') => Escape::Sequence,
                (Escape::Sequence, b'@'..=b'~') | (Escape::Begun, _) => Escape::None,
                (Escape::Sequence, _) => Escape::Sequence,
                (Escape::None, b'\n' | b'\t' | 0x20..=0x7e | 0x80..) => {
                    self.tail.push(byte);
                    Escape::None
                }
                (Escape::None, _) => Escape::None,
            };
        }
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        self.before += surplus as u64;
    }

    /// What came after a position.
    fn since(&self, position: u64) -> &[u8] {
        let skip = usize::try_from(position.saturating_sub(self.before)).unwrap_or(usize::MAX);
        self.tail.get(skip..).unwrap_or_default()
    }

    const fn end(&self) -> u64 {
        self.before + self.tail.len() as u64
    }
}

impl Console {
    /// Begins to read; the file is added to.
    pub(super) fn open(stream: UnixStream, file: &Path) -> Result<Self, ExecError> {
        let mut file =
            File::options().create(true).append(true).open(file).map_err(super::super::host::infra)?;
        let mut left = CONSOLE_BYTES_MAX.saturating_sub(file.metadata().map_or(0, |meta| meta.len()));
        let (mut read, keys) = stream.into_split();
        let text = Arc::new(Mutex::new(Text::default()));
        let (tell, came) = watch::channel(0);
        let shared = Arc::clone(&text);
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                let kept = usize::try_from(left).unwrap_or(usize::MAX).min(count);
                left -= kept as u64;
                if let Err(error) = file.write_all(&buffer[..kept]) {
                    tracing::warn!(%error, "a machine's console cannot be kept");
                }
                shared.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..count]);
                tell.send_modify(|came| *came += count as u64);
            }
        });
        Ok(Self { text, came, keys: tokio::sync::Mutex::new(keys) })
    }

    fn text(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a text ends that comes after a position, if it came.
    pub(super) fn find(&self, wanted: &str, from: u64) -> Option<u64> {
        let text = self.text();
        let part = text.since(from);
        let at = part.windows(wanted.len()).position(|window| window == wanted.as_bytes())?;
        Some(text.end() - part.len() as u64 + (at + wanted.len()) as u64)
    }

    /// Whether a kernel gave up after a position; if not, where to look on from.
    pub(super) fn has_panicked(&self, from: u64) -> Result<(), u64> {
        let text = self.text();
        let part = text.since(from);
        if part.windows(PANIC.len()).any(|window| window == PANIC.as_bytes()) {
            return Ok(());
        }
        Err(from.max(text.end().saturating_sub(PANIC.len() as u64)))
    }

    /// Comes back once a kernel gave up after a position, and stays as it is.
    pub(super) async fn panicked(&self, mut from: u64) {
        let mut came = self.came.clone();
        loop {
            came.mark_unchanged();
            let more = match self.has_panicked(from) {
                Ok(()) => match timeout(PANIC_REST, came.changed()).await {
                    Ok(more) => more,
                    Err(_) => return,
                },
                Err(next) => {
                    from = next;
                    came.changed().await
                }
            };
            if more.is_err() {
                // Its end is seen by others.
                return std::future::pending().await;
            }
        }
    }

    /// What came after a position, and the new position.
    pub(super) fn news(&self, from: u64) -> (Vec<u8>, u64) {
        let text = self.text();
        (text.since(from).to_vec(), text.end())
    }

    /// The last lines, on one line.
    pub(super) fn last_lines(&self, count: usize) -> String {
        let (text, _) = self.news(0);
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].join(" | ")
    }

    /// Types.
    pub(super) async fn send(&self, text: &str) -> Result<(), ExecError> {
        let sent = self.keys.lock().await.write_all(text.as_bytes()).await;
        sent.map_err(|error| super::super::host::infra(format!("the console takes no input: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_across_control_sequences() {
        let mut text = Text::default();
        text.take(b"\x1b[2J\x1b[1;1Hboo\x1b[0mt: \r\n");
        text.take(b"\x1bcnext");
        assert_eq!(String::from_utf8_lossy(&text.tail), "boot: \nnext");
        text.take(&vec![b'x'; 2 * TAIL_BYTES]);
        assert_eq!(text.tail.len(), TAIL_BYTES);
        assert_eq!(text.end(), 11 + 2 * TAIL_BYTES as u64);
        assert_eq!(text.since(text.end() - 3), b"xxx");
        assert_eq!(text.since(0).len(), TAIL_BYTES);
    }
}
