//! Where a character of a decoded scalar stands in the file.

use std::ops::Range;

/// For each character of the decoded `value`, and one past its end, the byte offset in `text` where the
/// scalar stands at `span`. Works for plain, quoted, folded and literal scalars, also with CRLF.
pub(super) fn offsets(text: &str, span: &Range<usize>, value: &str) -> Option<Vec<usize>> {
    let raw = text.get(span.clone())?;
    ['"', '\'', ' '].into_iter().find_map(|style| aligned(raw, span.start, value, style))
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// The length of the white space that `text` starts with.
fn blank_run(text: &str) -> usize {
    text.len() - text.trim_start_matches(BLANKS).len()
}

/// Walks raw and decoded text side by side. `style` is the quote, or a space for plain and block scalars.
fn aligned(raw: &str, start: usize, value: &str, style: char) -> Option<Vec<usize>> {
    if style != ' ' && !(raw.len() >= 2 && raw.starts_with(style) && raw.ends_with(style)) {
        return None;
    }
    let mut at = usize::from(style != ' ');
    let mut out = Vec::with_capacity(value.len() + 1);
    for c in value.chars() {
        if c.is_whitespace() && c != '\u{a0}' && !escaped(raw.get(at..)?, style) {
            at = align_blank(raw, at, style, start, &mut out)?;
            continue;
        }
        if !escaped(raw.get(at..)?, style) {
            at += skipped(raw.get(at..)?, style);
        }
        let rest = raw.get(at..)?;
        out.push(start + at);
        if escaped(rest, style) {
            at += escape_len(rest)?;
        } else if rest.starts_with(c) {
            at += if style == '\'' && c == '\'' { 2 } else { c.len_utf8() };
        } else {
            return None;
        }
    }
    out.push(start + at);
    Some(out)
}

/// Whether an escape of a double-quoted text starts here (a line continuation is none).
fn escaped(rest: &str, style: char) -> bool {
    style == '"' && rest.starts_with('\\') && !rest[1..].starts_with(['\n', '\r'])
}

fn escape_len(rest: &str) -> Option<usize> {
    Some(match rest.get(1..)?.chars().next()? {
        'x' => 4,
        'u' => 6,
        'U' => 10,
        other => 1 + other.len_utf8(),
    })
}

/// A blank of the decoded text: in folded text one blank may stand for a line break with its indentation.
fn align_blank(raw: &str, at: usize, style: char, start: usize, out: &mut Vec<usize>) -> Option<usize> {
    let rest = raw.get(at..)?;
    let run = blank_run(rest);
    out.push(start + at);
    let continued = style == '"' && rest[run..].starts_with("\\\n");
    let folded = rest[..run].contains('\n') || continued;
    let literal_blank = rest.starts_with(' ') && style == '"' && !rest[..run].contains('\n');
    Some(if !folded || literal_blank { at + 1 } else { at })
}

/// Indentation, folds and line continuations that the decoded text does not have.
fn skipped(raw: &str, style: char) -> usize {
    let mut at = 0;
    loop {
        let rest = &raw[at..];
        let run = blank_run(rest);
        if run > 0 {
            at += run;
        } else if style == '"' && (rest.starts_with("\\\n") || rest.starts_with("\\\r\n")) {
            at += 1;
        } else {
            return at;
        }
    }
}
