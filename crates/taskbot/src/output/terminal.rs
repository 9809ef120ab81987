//! Strangers' text on a terminal: what a task prints must not move the cursor, name windows, fill the clipboard or
//! make the terminal answer. Colours stay; so do bytes that do not go to a terminal.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};
use std::io::{self, Write};

/// What stands for a carriage return inside of a line: what comes after it would cover what came before.
const RETURN_SHOWN: char = '␍';

/// Standard output or standard error, for a log in pieces.
pub(crate) struct LogOut {
    filter: Option<Harmless>,
    to_stderr: bool,
}

impl LogOut {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Self { filter: super::is_terminal().then(|| Harmless::new(true)), to_stderr: false }
    }

    /// Standard error.
    pub(crate) fn stderr() -> Self {
        let terminal = io::IsTerminal::is_terminal(&io::stderr());
        Self { filter: terminal.then(|| Harmless::new(true)), to_stderr: true }
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// It is closed or full.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match (&mut self.filter, self.to_stderr) {
            (None, false) => super::write(bytes),
            (None, true) => io::stderr().write_all(bytes),
            (Some(filter), false) => {
                let mut out = anstream::stdout().lock();
                out.write_all(&filter.feed(bytes))?;
                out.flush()
            }
            (Some(filter), true) => anstream::stderr().lock().write_all(&filter.feed(bytes)),
        }
    }
}

/// A whole text as it may go to a terminal.
pub(super) fn harmless(text: &str) -> String {
    let mut filter = Harmless::new(false);
    let mut out = filter.feed(text.as_bytes());
    filter.screen.end_colour();
    out.append(&mut filter.screen.out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Lets through what is harmless. A sequence without an end ends with its line.
pub(super) struct Harmless {
    parser: Parser,
    screen: Screen,
    /// Whether colours end with their line, so that none goes over to the next writer's.
    by_line: bool,
}

impl Harmless {
    pub(super) fn new(by_line: bool) -> Self {
        Self { parser: Parser::<DefaultCharAccumulator>::new(), screen: Screen::default(), by_line }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        for byte in bytes {
            if *byte == b'\n' {
                self.parser = Parser::<DefaultCharAccumulator>::new();
                if self.by_line {
                    self.screen.end_colour();
                }
                self.screen.returned = false;
                self.screen.out.push(b'\n');
            } else {
                self.parser.advance(&mut self.screen, *byte);
            }
        }
        std::mem::take(&mut self.screen.out)
    }
}

/// What comes of the parser's findings.
#[derive(Default)]
struct Screen {
    out: Vec<u8>,
    /// A colour is on.
    coloured: bool,
    /// A carriage return came; at the end of a line it means nothing.
    returned: bool,
}

impl Screen {
    fn put(&mut self, c: char) {
        let returned = std::mem::take(&mut self.returned).then_some(RETURN_SHOWN);
        for c in returned.into_iter().chain([c]) {
            self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn end_colour(&mut self) {
        if std::mem::take(&mut self.coloured) {
            self.out.extend_from_slice(b"\x1b[0m");
        }
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        // As one character in UTF-8 come the control characters of old, that terminals may still take for sequences.
        if !c.is_control() {
            self.put(c);
        }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.put('\t'),
            b'\r' => self.returned = true,
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if action != b'm' || !intermediates.is_empty() || ignore {
            return;
        }
        let shown = colours(params);
        if shown.is_empty() {
            return;
        }
        self.coloured = shown != ["0"];
        self.out.extend_from_slice(format!("\x1b[{}m", shown.join(";")).as_bytes());
    }
}

/// The parameters of a colour sequence, without that which hides text.
fn colours(params: &Params) -> Vec<String> {
    const HIDDEN: u16 = 8;
    let mut shown = Vec::new();
    // How many of the next belong to the one before: `38;5;8` is a colour.
    let mut belong = 0;
    for param in params {
        let first = param.first().copied().unwrap_or_default();
        if belong > 0 {
            belong = match (belong, first) {
                (5, 5) => 1,
                (5, 2) => 3,
                (5, _) => 0,
                (left, _) => left - 1,
            };
        } else if matches!(first, 38 | 48 | 58) && param.len() == 1 {
            belong = 5;
        } else if first == HIDDEN {
            continue;
        }
        shown.push(param.iter().map(u16::to_string).collect::<Vec<_>>().join(":"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_gets_of_a_log() {
        let check = |text: &[u8], expect: &str| {
            for piece in [1, 2, text.len().max(1)] {
                let mut filter = Harmless::new(true);
                let got: Vec<u8> = text.chunks(piece).flat_map(|piece| filter.feed(piece)).collect();
                assert_eq!(String::from_utf8_lossy(&got), expect, "{:?}", text.escape_ascii().to_string());
            }
        };
        check("plain ä\ttext\n".as_bytes(), "plain ä\ttext\n");
        check(b"one\r\ntwo\r\r\n", "one\ntwo\n");
        check(b"10%\r20%\n", "10%␍20%\n");
        check(b"\x1b[1;31mred\x1b[0m\n", "\x1b[1;31mred\x1b[0m\n");
        check(b"\x1b[31mred\nplain\n", "\x1b[31mred\x1b[0m\nplain\n");
        check(b"\x1b[38;5;8mgrey\x1b[m\n", "\x1b[38;5;8mgrey\x1b[0m\n");
        check(b"\x1b[38;2;8;8;8mgrey\x1b[m\n", "\x1b[38;2;8;8;8mgrey\x1b[0m\n");
        check(b"\x1b[38:5:8mgrey\x1b[m\n", "\x1b[38:5:8mgrey\x1b[0m\n");
        check(b"\x1b[8mhidden\n", "hidden\n");
        check(b"\x1b[2Jup\x1b[1A\x1b[5;5Hthere\x1b[?1049h\n", "upthere\n");
        check(b"\x1b]0;title\x07a\x1b]52;c;aGk=\x1b\\b\n", "ab\n");
        check(b"\x1bP+q544e\x1b\\a\x1b[6n\x1b[c\x1bcb\n", "ab\n");
        check("\u{9b}2Ja\u{85}b\u{9d}0;x\n".as_bytes(), "2Jab0;x\n");
        check(b"a\x08\x0b\x0c\x0e\x07\x00\x7fb\n", "ab\n");
        // A sequence without an end takes no other line with it.
        check(b"\x1b]0;a\nb\x1bP\nc\x1b[\nd\n", "\nb\nc\nd\n");
    }

    #[test]
    fn what_a_terminal_gets_of_other_texts() {
        let check = |text: &str, expect: &str| assert_eq!(harmless(text), expect);
        check("\x1b[31mred\nstill\x1b[0m\n", "\x1b[31mred\nstill\x1b[0m\n");
        check("\x1b[31mred", "\x1b[31mred\x1b[0m");
        check("a\x1b]0;title\x07\u{9b}b", "ab");
    }
}
