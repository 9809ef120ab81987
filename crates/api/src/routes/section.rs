//! The part of a log that one phase wrote.
//!
//! Workers open a phase's section by a line `TIME === run ===`, with a time stamp of fixed length.

use model::Phase;

/// How long the stamp at the start of a line is, with the space after it, in bytes.
const STAMP_BYTES: usize = "2026-02-03T04:05:06.789Z ".len();
/// The longest line that can open a section, in bytes.
const HEADER_BYTES_MAX: usize = 80;

/// Lets one phase's lines through.
#[derive(Debug)]
pub(super) struct Section {
    wanted: Phase,
    inside: bool,
    /// The start of a line that may open a section.
    pending: Vec<u8>,
    /// Whether the line is known to open none.
    mid_line: bool,
}

impl Section {
    pub(super) const fn of(wanted: Phase) -> Self {
        Self { wanted, inside: false, pending: Vec::new(), mid_line: false }
    }

    /// What is let through of the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if self.mid_line {
                self.pass(piece, &mut out);
            } else {
                self.pending.extend_from_slice(piece);
                if !ends && self.pending.len() <= HEADER_BYTES_MAX {
                    continue;
                }
                if let Some(phase) = opens(&self.pending) {
                    self.inside = phase == self.wanted;
                }
                let line = std::mem::take(&mut self.pending);
                self.pass(&line, &mut out);
            }
            self.mid_line = !ends;
        }
        out
    }

    /// The rest, when the log is over.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.pending);
        if self.inside { rest } else { Vec::new() }
    }

    fn pass(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.inside {
            out.extend_from_slice(bytes);
        }
    }
}

/// The phase whose section a line opens.
fn opens(line: &[u8]) -> Option<Phase> {
    let text = std::str::from_utf8(line.get(STAMP_BYTES..)?).ok()?;
    text.trim_end().strip_prefix("=== ")?.strip_suffix(" ===")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_phase_is_let_through_however_the_bytes_come() {
        let stamp = "2026-02-03T04:05:06.789Z ";
        let long = "x".repeat(300);
        let log = format!(
            "{stamp}--- begins\n{stamp}=== prepare ===\n{stamp}p1\n{stamp}=== run ===\n{stamp}{long}\n{stamp}=== nothing ===\n{stamp}r2\n{stamp}=== cleanup ===\n{stamp}c1"
        );
        let check = |phase: &str, expect: &str| {
            for size in [1, 7, 64, 1000] {
                let mut section = Section::of(phase.parse().unwrap());
                let mut got: Vec<u8> =
                    log.as_bytes().chunks(size).flat_map(|piece| section.feed(piece)).collect();
                got.extend(section.finish());
                assert_eq!(String::from_utf8(got).unwrap().replace(stamp, ""), expect, "{phase} by {size}");
            }
        };
        check("prepare", "=== prepare ===\np1\n");
        check("run", &format!("=== run ===\n{long}\n=== nothing ===\nr2\n"));
        check("cleanup", "=== cleanup ===\nc1");
        check("collect", "");
    }
}
