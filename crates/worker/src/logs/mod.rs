//! An attempt's log: stamped line by line, kept on disk, sent in chunks.
//!
//! The form of a log, which `docs/tasks.md` shows: every line begins with the time in UTC to the millisecond
//! (`2026-02-03T04:05:06.789Z `). `=== run ===` opens a phase's section, `--- text` is the worker's own word;
//! every other line is output of the task, byte by byte, also where it is not UTF-8. One that would begin as the
//! worker's lines do gets a blank before it, so that what begins so right behind the time is the worker's. A line over
//! [`LOG_LINE_BYTES_MAX`] is broken in several. Of a log over its cap, head and tail are kept.

pub mod spool;
mod upload;

pub use upload::upload;

use crate::{executor::LogSink, secrets::mask::Masker};
use chrono::{DateTime, SecondsFormat, Utc};
use model::{Clock, Phase};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The longest line of a log in bytes, without its time stamp.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;
/// How the worker's own lines begin.
const OWN_MARKS: [&[u8]; 2] = [b"=== ", b"--- "];
/// How long output waits at most until it is sent.
pub const LOG_FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How much of the last output is kept at hand, to be quoted in reasons, in bytes.
pub const LAST_OUTPUT_BYTES_MAX: usize = 4096;

/// Where stamped bytes go.
pub type Out = Box<dyn FnMut(&[u8]) + Send>;

/// A log that is being written. Writing never blocks on the network and never fails.
pub struct AttemptLog {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

struct Inner {
    out: Out,
    stamper: Stamper,
    /// The end of the output since the last section began, without time stamps.
    last: VecDeque<u8>,
    buffer: Vec<u8>,
    /// What output goes through before anything else sees it, and its other end.
    masker: Option<(Masker, Vec<u8>)>,
}

impl Inner {
    fn output(&mut self, now: DateTime<Utc>, bytes: &[u8]) {
        self.buffer.clear();
        self.stamper.stamp(now, bytes, &mut self.buffer);
        (self.out)(&self.buffer);
        let kept = &bytes[bytes.len().saturating_sub(LAST_OUTPUT_BYTES_MAX)..];
        let surplus = (self.last.len() + kept.len()).saturating_sub(LAST_OUTPUT_BYTES_MAX);
        self.last.drain(..surplus);
        self.last.extend(kept);
    }

    /// Lets out what the masker and the stamper hold back.
    fn flush(&mut self, now: DateTime<Utc>) {
        if let Some((mut masker, mut masked)) = self.masker.take() {
            masked.clear();
            masker.flush(&mut masked);
            if !masked.is_empty() {
                self.output(now, &masked);
            }
            self.masker = Some((masker, masked));
        }
        self.buffer.clear();
        self.stamper.release(now, &mut self.buffer);
        if !self.buffer.is_empty() {
            (self.out)(&self.buffer);
        }
    }
}

impl fmt::Debug for AttemptLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptLog").finish_non_exhaustive()
    }
}

impl AttemptLog {
    /// A log that hands stamped bytes on.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, out: Out) -> Self {
        let inner = Inner {
            out,
            stamper: Stamper::default(),
            last: VecDeque::with_capacity(LAST_OUTPUT_BYTES_MAX),
            buffer: Vec::new(),
            masker: None,
        };
        Self { clock, inner: Mutex::new(inner) }
    }

    /// From now on what the masker knows is replaced in it.
    pub fn mask(&self, masker: &Masker) {
        self.lock().masker = Some((masker.clone(), Vec::new()));
    }

    /// Lets out what was held back since it might have been the beginning of a secret or of a line like ours.
    pub fn flush(&self) {
        let now = self.clock.now();
        self.lock().flush(now);
    }

    /// Opens a phase's section.
    pub fn section(&self, phase: Phase) {
        self.flush();
        self.lock().last.clear();
        self.own_line(&format!("=== {phase} ==="));
    }

    /// Says something of the worker's own.
    pub fn note(&self, text: &str) {
        for line in text.lines() {
            self.own_line(&format!("--- {line}"));
        }
    }

    /// The last lines of output since the section began, at most `lines` of them, on one line.
    #[must_use]
    pub fn last_output(&self, lines: usize) -> String {
        self.flush();
        let mut inner = self.lock();
        let text = String::from_utf8_lossy(inner.last.make_contiguous()).into_owned();
        let mut last: Vec<&str> =
            text.lines().rev().map(str::trim).filter(|line| !line.is_empty()).take(lines).collect();
        last.reverse();
        last.join(" | ")
    }

    fn own_line(&self, line: &str) {
        let now = self.clock.now();
        let mut inner = self.lock();
        inner.flush(now);
        let line = inner.masker.as_ref().map_or_else(|| line.to_owned(), |(masker, _)| masker.text(line));
        let Inner { out, stamper, buffer, .. } = &mut *inner;
        buffer.clear();
        stamper.own_line(now, &line, buffer);
        out(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for AttemptLog {
    fn write(&self, bytes: &[u8]) {
        let now = self.clock.now();
        let mut inner = self.lock();
        let Some((mut masker, mut masked)) = inner.masker.take() else { return inner.output(now, bytes) };
        masked.clear();
        masker.push(bytes, &mut masked);
        if !masked.is_empty() {
            inner.output(now, &masked);
        }
        inner.masker = Some((masker, masked));
    }
}

/// Puts the time before every line, breaks lines that are too long, and keeps the task's apart from the worker's.
#[derive(Debug, Default)]
struct Stamper {
    /// How long the line is so far; nothing before its first byte.
    line_bytes: Option<usize>,
    /// How a line begins of which too little is known to say whether it looks like the worker's.
    begin: Vec<u8>,
}

impl Stamper {
    /// Output of the task.
    fn stamp(&mut self, now: DateTime<Utc>, bytes: &[u8], out: &mut Vec<u8>) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = line.ends_with(b"\n");
            let mut text = &line[..line.len() - usize::from(ends)];
            while !text.is_empty() {
                text = self.take(now, text, out);
            }
            if ends {
                self.open(now, out);
                out.append(&mut self.begin);
                self.end_line(out);
            }
        }
    }

    /// Takes some of a line's text; gives the rest.
    fn take<'a>(&mut self, now: DateTime<Utc>, text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some(used) = self.line_bytes else {
            let (byte, rest) = text.split_at(1);
            self.begin.extend_from_slice(byte);
            match OWN_MARKS.iter().find(|mark| mark.starts_with(&self.begin)) {
                Some(mark) if mark.len() > self.begin.len() => {}
                Some(_) => self.release(now, out),
                None => {
                    self.open(now, out);
                    self.line_bytes = Some(self.begin.len());
                    out.append(&mut self.begin);
                }
            }
            return rest;
        };
        let (part, rest) = text.split_at(text.len().min(LOG_LINE_BYTES_MAX - used));
        out.extend_from_slice(part);
        self.line_bytes = Some(used + part.len());
        if !rest.is_empty() {
            self.end_line(out);
        }
        rest
    }

    /// Lets out a beginning like the worker's, or what may yet become one, behind a blank.
    fn release(&mut self, now: DateTime<Utc>, out: &mut Vec<u8>) {
        if !self.begin.is_empty() {
            self.open(now, out);
            out.push(b' ');
            self.line_bytes = Some(self.begin.len() + 1);
            out.append(&mut self.begin);
        }
    }

    /// A line of the worker's.
    fn own_line(&mut self, now: DateTime<Utc>, line: &str, out: &mut Vec<u8>) {
        self.release(now, out);
        self.end_line(out);
        self.open(now, out);
        out.extend_from_slice(line.as_bytes());
        self.end_line(out);
    }

    fn open(&mut self, now: DateTime<Utc>, out: &mut Vec<u8>) {
        if self.line_bytes.is_none() {
            out.extend_from_slice(now.to_rfc3339_opts(SecondsFormat::Millis, true).as_bytes());
            out.push(b' ');
            self.line_bytes = Some(0);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        if self.line_bytes.take().is_some() {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH + Duration::from_secs(12 * 3600)
        }
    }

    fn log() -> (AttemptLog, Arc<Mutex<Vec<u8>>>) {
        let all = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&all);
        let out = Box::new(move |bytes: &[u8]| out.lock().unwrap().extend_from_slice(bytes));
        (AttemptLog::new(Arc::new(Noon), out), all)
    }

    #[test]
    fn lines_are_stamped_whatever_the_chunks() {
        let (log, all) = log();
        log.section(Phase::Run);
        for part in [&b"one\ntw"[..], b"o\n\nbad \xff", b" byte\nno line end"] {
            log.write(part);
        }
        log.note("first\nsecond");
        let bytes = all.lock().unwrap().clone();
        insta::assert_snapshot!(String::from_utf8_lossy(&bytes), @r"
        1970-01-01T12:00:00.000Z === run ===
        1970-01-01T12:00:00.000Z one
        1970-01-01T12:00:00.000Z two
        1970-01-01T12:00:00.000Z 
        1970-01-01T12:00:00.000Z bad � byte
        1970-01-01T12:00:00.000Z no line end
        1970-01-01T12:00:00.000Z --- first
        1970-01-01T12:00:00.000Z --- second
        ");
        assert!(bytes.windows(6).any(|part| part == b"bad \xff "), "bytes that are not UTF-8 are kept");
    }

    #[test]
    fn nobody_but_the_worker_writes_its_lines() {
        let check = |parts: &[&str], expect: &str| {
            for masked in [false, true] {
                let (log, all) = log();
                if masked {
                    let secret =
                        crate::secrets::Secret { name: "s".to_owned(), value: b"not in there".to_vec() };
                    log.mask(&Masker::new(&[secret]));
                }
                parts.iter().for_each(|part| log.write(part.as_bytes()));
                log.note("ours");
                let text = String::from_utf8(all.lock().unwrap().clone()).unwrap();
                let lines: Vec<_> = text.lines().map(|line| &line[25..]).collect();
                let expect = format!("{expect}\n--- ours");
                assert_eq!(lines.join("\n"), expect.trim_start_matches('\n'), "{parts:?}");
            }
        };
        check(&[], "");
        check(&["--- passed\n"], " --- passed");
        check(&["=== cleanup ===\n"], " === cleanup ===");
        check(&["-", "-", "-", " ", "forged"], " --- forged");
        check(&["a\n==", "= run ===\n--"], "a\n === run ===\n --");
        check(&["---\n--\n-x\n---y\n\n", "==\n"], "---\n--\n-x\n---y\n\n==");
        check(&[" --- ", "x\n"], " --- x");
        // Also where a long line is broken.
        let long = "x".repeat(LOG_LINE_BYTES_MAX);
        check(&[&format!("{long}--- forged\n")], &format!("{long}\n --- forged"));
    }

    #[test]
    fn what_was_let_out_early_does_not_become_a_line_of_the_workers() {
        let (log, all) = log();
        log.write(b"---");
        log.flush();
        log.write(b" forged\n");
        let text = String::from_utf8(all.lock().unwrap().clone()).unwrap();
        assert_eq!(&text[24..], "  --- forged\n");
    }

    #[test]
    fn a_flood_without_line_ends_is_broken_into_lines() {
        let (log, all) = log();
        for _ in 0..100 {
            log.write(&[b'x'; 1000]);
        }
        let bytes = all.lock().unwrap().clone();
        let lines: Vec<usize> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).collect();
        assert_eq!(lines.len(), 100_000_usize.div_ceil(LOG_LINE_BYTES_MAX));
        assert!(lines.iter().all(|bytes| *bytes <= LOG_LINE_BYTES_MAX + 25), "{lines:?}");
    }

    #[test]
    fn the_last_output_can_be_quoted() {
        let (log, _) = log();
        log.write(b"before");
        log.section(Phase::Prepare);
        assert_eq!(log.last_output(2), "");
        log.write(b"a\nb\n\n");
        log.write(b"  c\n");
        assert_eq!(log.last_output(2), "b | c");
        log.write(&[b'z'; 2 * LAST_OUTPUT_BYTES_MAX]);
        assert_eq!(log.last_output(1).len(), LAST_OUTPUT_BYTES_MAX);
    }
}
