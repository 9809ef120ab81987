//! Keeping secrets out of logs and files: a stream in which their values, also encoded and also in pieces, are
//! replaced by their names.
//!
//! A value is found as it is, in base64 (both alphabets, at each of the three places where it can begin), in
//! hexadecimal digits, percent-encoded and as a JSON text. Line ends do not count, so that what a tool wraps is
//! found. What might be the beginning of a value is held back until it is known to be none; everything else goes
//! on at once. For that it must be known how much of a value has been seen, which the search of the
//! `aho-corasick` library does not tell: hence the automaton here.

use super::{SECRET_BYTES_MIN, Secret};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

/// How much of a file is read to see whether it is text, in bytes.
const TEXT_LOOK_BYTES: usize = 8 * 1024;
/// How much of a file is masked at once, in bytes.
const FILE_CHUNK_BYTES: usize = 64 * 1024;
/// The first node.
const ROOT: u32 = 0;

/// A node of the automaton: so much of some value was seen last.
#[derive(Debug, Clone, Default)]
struct Node {
    byte: u8,
    /// How many bytes that are.
    depth: u32,
    /// The first of the nodes with one byte more; the root is none.
    child: u32,
    /// The next node with the same beginning; the root is none.
    sibling: u32,
    /// The longest other beginning that was seen with it.
    fail: u32,
    /// The longest pattern that ends here; 0 for none.
    longest: u32,
    /// Whose pattern that is, counted from 1.
    secret: u16,
}

#[derive(Debug)]
struct Automaton {
    nodes: Vec<Node>,
    names: Vec<String>,
}

impl Automaton {
    fn new(secrets: &[Secret]) -> Self {
        let mut automaton = Self { nodes: vec![Node::default()], names: Vec::new() };
        for secret in secrets {
            automaton.names.push(secret.name.clone());
            let number = u16::try_from(automaton.names.len()).unwrap_or(u16::MAX);
            for pattern in patterns(&secret.value) {
                automaton.add(&pattern, number);
            }
        }
        automaton.link();
        automaton
    }

    fn add(&mut self, pattern: &[u8], secret: u16) {
        let mut at = ROOT;
        for byte in pattern {
            at = self.child(at, *byte).unwrap_or_else(|| {
                let new = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
                let parent = &mut self.nodes[at as usize];
                let (depth, sibling) = (parent.depth + 1, parent.child);
                parent.child = new;
                self.nodes.push(Node { byte: *byte, depth, sibling, ..Node::default() });
                new
            });
        }
        let end = &mut self.nodes[at as usize];
        if end.longest == 0 {
            (end.longest, end.secret) = (end.depth, secret);
        }
    }

    fn child(&self, of: u32, byte: u8) -> Option<u32> {
        let mut child = self.nodes[of as usize].child;
        while child != ROOT {
            let node = &self.nodes[child as usize];
            if node.byte == byte {
                return Some(child);
            }
            child = node.sibling;
        }
        None
    }

    /// From the shortest beginnings to the longest: where to go on when a byte does not fit.
    fn link(&mut self) {
        let mut todo = VecDeque::from([ROOT]);
        while let Some(at) = todo.pop_front() {
            let mut child = self.nodes[at as usize].child;
            while child != ROOT {
                let (byte, next) = (self.nodes[child as usize].byte, self.nodes[child as usize].sibling);
                let fail = if at == ROOT { ROOT } else { self.next(self.nodes[at as usize].fail, byte) };
                let (longest, secret) = (self.nodes[fail as usize].longest, self.nodes[fail as usize].secret);
                let node = &mut self.nodes[child as usize];
                node.fail = fail;
                if node.longest == 0 {
                    (node.longest, node.secret) = (longest, secret);
                }
                todo.push_back(child);
                child = next;
            }
        }
    }

    fn next(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            match self.child(at, byte) {
                Some(child) => return child,
                None if at == ROOT => return ROOT,
                None => at = self.nodes[at as usize].fail,
            }
        }
    }
}

/// Whether a byte ends a line: those do not count.
pub(crate) const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// All texts that tell a value.
fn patterns(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let end = value.iter().rposition(|byte| !is_line_end(*byte)).map_or(0, |at| at + 1);
    let value = &value[..end];
    let mut all = BTreeSet::new();
    let lines = value.split(|byte| is_line_end(*byte)).map(<[u8]>::trim_ascii);
    for part in [value].into_iter().chain(lines) {
        all.extend([part.to_vec(), json(part)]);
    }
    all.extend(base64s(value));
    for (escape, plain) in [("%", true), ("%", false), ("", false), ("\\x", false)] {
        for upper in [true, false] {
            all.insert(escaped(value, escape, plain, upper));
        }
    }
    let strip =
        |pattern: Vec<u8>| pattern.into_iter().filter(|byte| !is_line_end(*byte)).collect::<Vec<u8>>();
    all.into_iter().map(strip).filter(|pattern| pattern.len() >= SECRET_BYTES_MIN).collect()
}

/// The value within a longer text in base64: the digits that it alone decides.
fn base64s(value: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for before in 0..3_usize {
        let padded = [&[0; 2][..before], value].concat();
        let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            all.push(engine.encode(&padded).as_bytes()[from..to].to_vec());
        }
    }
    all
}

/// Each byte in hexadecimal digits, `plain` ones as they are.
fn escaped(value: &[u8], escape: &str, plain: bool, upper: bool) -> Vec<u8> {
    let mut text = String::new();
    for byte in value {
        // Writing to a text does not fail.
        let _ = match byte {
            b if plain && (b.is_ascii_alphanumeric() || b"-._~".contains(b)) => {
                text.push(char::from(*b));
                Ok(())
            }
            b if upper => write!(text, "{escape}{b:02X}"),
            b => write!(text, "{escape}{b:02x}"),
        };
    }
    text.into_bytes()
}

/// As a text of JSON, without its quotes.
fn json(value: &[u8]) -> Vec<u8> {
    let text = serde_json::Value::from(String::from_utf8_lossy(value)).to_string();
    text.as_bytes()[1..text.len() - 1].to_vec()
}

/// A stream in which secrets are replaced by their names: `[secret NAME]`.
#[derive(Debug, Clone)]
pub struct Masker {
    automaton: Arc<Automaton>,
    at: u32,
    /// What is held back; with whose value each byte belongs to.
    held: VecDeque<(u8, u16)>,
    /// How many bytes were let go.
    gone: u64,
    /// Where the bytes are that the automaton has seen as a beginning, counted from the start of the stream.
    seen: VecDeque<u64>,
    /// Whose value was written last.
    last: u16,
    found: bool,
}

impl Masker {
    /// A stream of its own.
    #[must_use]
    pub fn new(secrets: &[Secret]) -> Self {
        Self::over(Arc::new(Automaton::new(secrets)))
    }

    fn over(automaton: Arc<Automaton>) -> Self {
        Self {
            automaton,
            at: ROOT,
            held: VecDeque::new(),
            gone: 0,
            seen: VecDeque::new(),
            last: 0,
            found: false,
        }
    }

    /// Takes bytes in; what is known to be no secret, and names of secrets, go out.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.take(*byte);
            self.let_go(out);
        }
    }

    /// Lets out what is held back. The beginning of a value that is as long as a secret is masked as one.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.seen.len() >= SECRET_BYTES_MIN
            && let Some(from) = self.seen.front().copied()
        {
            let mut below = self.at;
            while self.automaton.nodes[below as usize].child != ROOT {
                below = self.automaton.nodes[below as usize].child;
            }
            self.mark(from, self.automaton.nodes[below as usize].secret);
        }
        self.seen.clear();
        self.at = ROOT;
        self.let_go(out);
        self.last = 0;
    }

    /// A whole text, apart from the stream.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut alone = Self::over(Arc::clone(&self.automaton));
        let mut out = Vec::with_capacity(text.len());
        alone.push(text.as_bytes(), &mut out);
        alone.flush(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn take(&mut self, byte: u8) {
        let here = self.gone + self.held.len() as u64;
        self.held.push_back((byte, 0));
        if is_line_end(byte) {
            return;
        }
        self.seen.push_back(here);
        self.at = self.automaton.next(self.at, byte);
        let Node { depth, longest, secret, .. } = self.automaton.nodes[self.at as usize];
        if longest > 0
            && let Some(from) = self.seen.get(self.seen.len() - longest as usize).copied()
        {
            self.mark(from, secret);
        }
        let surplus = self.seen.len() - depth as usize;
        self.seen.drain(..surplus);
    }

    fn mark(&mut self, from: u64, secret: u16) {
        self.found = true;
        let skip = usize::try_from(from.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        for (_, whose) in self.held.iter_mut().skip(skip).filter(|(_, whose)| *whose == 0) {
            *whose = secret;
        }
    }

    fn let_go(&mut self, out: &mut Vec<u8>) {
        let keep_from = self.seen.front().copied().unwrap_or(u64::MAX);
        while let Some((byte, whose)) = self.held.front().copied() {
            if whose == 0 && self.gone >= keep_from && !is_line_end(byte) {
                return;
            }
            self.held.pop_front();
            self.gone += 1;
            if whose == 0 {
                out.push(byte);
            } else if whose != self.last {
                let name = &self.automaton.names[usize::from(whose) - 1];
                out.extend_from_slice(format!("[secret {name}]").as_bytes());
            }
            self.last = whose;
        }
    }
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masked {
    /// It holds no secret.
    Clean,
    /// It is text, and has names in place of secrets now.
    Rewritten,
    /// It is no text, so that nothing can be replaced in it: it was removed.
    Removed,
}

impl Masker {
    /// Masks a file.
    ///
    /// # Errors
    /// The disk; then the file must not be used.
    pub fn file(&self, path: &Path) -> io::Result<Masked> {
        if !self.stream(path, &mut io::sink())? {
            return Ok(Masked::Clean);
        }
        let mut start = Vec::new();
        File::open(path)?.take(TEXT_LOOK_BYTES as u64).read_to_end(&mut start)?;
        if start.contains(&0) {
            std::fs::remove_file(path)?;
            return Ok(Masked::Removed);
        }
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut masked = tempfile::NamedTempFile::new_in(folder)?;
        self.stream(path, masked.as_file_mut())?;
        masked.persist(path).map_err(|error| error.error)?;
        Ok(Masked::Rewritten)
    }

    /// Copies a file through the mask; says whether there was anything to mask.
    fn stream(&self, path: &Path, to: &mut dyn Write) -> io::Result<bool> {
        let mut alone = Self::over(Arc::clone(&self.automaton));
        let (mut file, mut buffer, mut out) = (File::open(path)?, vec![0; FILE_CHUNK_BYTES], Vec::new());
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            alone.push(&buffer[..read], &mut out);
            to.write_all(&out)?;
            out.clear();
        }
        alone.flush(&mut out);
        to.write_all(&out)?;
        Ok(alone.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &[u8] = b"s3cr3t+/ value?>";

    fn secret(name: &str, value: &[u8]) -> Secret {
        Secret { name: name.to_owned(), value: value.to_vec() }
    }

    fn through(masker: &Masker, chunks: &[&[u8]]) -> String {
        let (mut masker, mut out) = (masker.clone(), Vec::new());
        chunks.iter().for_each(|chunk| masker.push(chunk, &mut out));
        masker.flush(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn values_are_found_in_every_dress() {
        let masker = Masker::new(&[
            secret("a", VALUE),
            secret("pem", b"-- BEGIN --\nline one of it\nand two \"x\"\n"),
        ]);
        let check =
            |text: &str, expect: &str| assert_eq!(through(&masker, &[text.as_bytes()]), expect, "{text}");
        check("nothing s3cr3t here", "nothing s3cr3t here");
        check("x s3cr3t+/ value?> y\n", "x [secret a] y\n");
        check("s3cr3t+/ value?>s3cr3t+/ value?>", "[secret a]");
        check("s3cr3t+/ val\nue?>", "[secret a]");
        check("s3cr3t+/ s3cr3t+/ value?>", "s3cr3t+/ [secret a]");
        check("733363723374 2b", "733363723374 2b");
        check("x7333637233742b2f2076616c75653f3ex", "x[secret a]x");
        check("7333637233742B2F2076616C75653F3E", "[secret a]");
        check("s3cr3t%2B%2F%20value%3F%3E.", "[secret a].");
        check("s3cr3t%2b%2f%20value%3f%3e.", "[secret a].");
        check("a line one of it b", "a [secret pem] b");
        check(
            "-- BEGIN --\r\nline one of it\r\nand two \"x\"\r\n.",
            "[secret pem]\r\n[secret pem]\r\n[secret pem]\r\n.",
        );
        check(r#"{"k":"-- BEGIN --\nline one of it\nand two \"x\"\n"}"#, r#"{"k":"[secret pem]\n"}"#);
    }

    #[test]
    fn base64_is_found_wherever_the_value_begins() {
        let long: Vec<u8> = (0..200_u8).map(|n| n.wrapping_mul(37)).collect();
        for value in [VALUE, b"12345678", b"123456789", b"1234567890", long.as_slice()] {
            let masker = Masker::new(&[secret("a", value)]);
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                for (before, after) in [("", ""), ("x", "\n"), ("xy", "yz"), ("user:", "@host")] {
                    let all = [before.as_bytes(), value, after.as_bytes()].concat();
                    let text = engine.encode(&all);
                    let wrapped: Vec<u8> = text.as_bytes().chunks(76).collect::<Vec<_>>().join(&b'\n');
                    for text in [text.as_bytes(), &wrapped] {
                        let masked = through(&masker, &[text]);
                        assert!(masked.contains("[secret a]"), "{masked}");
                        let left = masked.replace("[secret a]", "").len();
                        assert!(left <= (before.len() + after.len()) * 4 / 3 + 6, "{masked}");
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_change_nothing() {
        let masker =
            Masker::new(&[secret("a", VALUE), secret("b", b"value?>12345"), secret("c", b"aabaabaab")]);
        let texts = [
            "x s3cr3t+/ value?>12345 y",
            "aabaabaabaabaab aabaab\naab aabaabaac",
            "s3cr3t+/ value?s3cr3t+/ value?>",
            "czNjcjN0Ky8gdmFsdWU/Pg and czNjcjN0Ky8gdmFs\ndWU_Pg",
        ];
        // A sequence of its own, so that every run tries the same.
        let mut state = 7_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for text in texts {
            let whole = through(&masker, &[text.as_bytes()]);
            assert!(!whole.contains("value?>") && !whole.contains("aabaabaab"), "{whole}");
            for _ in 0..500 {
                let (mut rest, mut chunks) = (text.as_bytes(), Vec::new());
                while !rest.is_empty() {
                    let (chunk, more) = rest.split_at(1 + random(rest.len()));
                    chunks.push(chunk);
                    rest = more;
                }
                assert_eq!(through(&masker, &chunks), whole, "{chunks:?}");
            }
        }
    }

    #[test]
    fn only_what_may_be_a_beginning_waits() {
        let mut masker = Masker::new(&[secret("a", VALUE)]);
        let mut now = |bytes: &[u8]| {
            let mut out = Vec::new();
            masker.push(bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(now(b"at once\n"), "at once\n");
        assert_eq!(now(b"x s3cr3"), "x ");
        assert_eq!(now(b"t?\n"), "s3cr3t?\n");
        assert_eq!(now(b"s3cr3t+/ value?>\n"), "[secret a]\n");
        assert_eq!(now(b"s3cr3t+/ val"), "");
        let mut out = Vec::new();
        masker.flush(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "[secret a]", "a long beginning is no less secret");
        assert_eq!(masker.text("s3cr3t+/ value?>, s3c"), "[secret a], s3c");
    }

    #[test]
    fn files_are_masked_or_removed() {
        let temp = tempfile::tempdir().unwrap();
        let masker = Masker::new(&[secret("a", VALUE)]);
        let check = |bytes: &[u8], expect: Masked, left: Option<&str>| {
            let path = temp.path().join("file");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(masker.file(&path).unwrap(), expect);
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), left);
        };
        check(b"clean\n", Masked::Clean, Some("clean\n"));
        check(b"a s3cr3t+/ value?>\n", Masked::Rewritten, Some("a [secret a]\n"));
        check(b"\0s3cr3t+/ value?>\n", Masked::Removed, None);
        let long = [vec![b'x'; FILE_CHUNK_BYTES - 3], VALUE.to_vec()].concat();
        let masked = format!("{}[secret a]", "x".repeat(FILE_CHUNK_BYTES - 3));
        check(&long, Masked::Rewritten, Some(&masked));
    }
}
