//! JSON as programs in Python write it: theirs takes halves of characters alone (`\ud800`), which are no text here.

use serde_json::Value;

/// What stands in place of half a character.
const REPLACEMENT: &[u8] = br"\ufffd";
/// How long an escape is that names a character by its number.
const ESCAPE_BYTES: usize = 6;

/// Reads a body. Halves of characters alone become the replacement character: nothing of a log is lost for one.
///
/// # Errors
/// It is no JSON.
pub(crate) fn read(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(body).or_else(|error| match mended(body) {
        Some(mended) => serde_json::from_slice(&mended),
        None => Err(error),
    })
}

/// The number that the escape at the start names.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(br"\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The same text without halves of characters that stand alone; nothing when there are none.
fn mended(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut rest, mut changed) = (text, false);
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let low = |text: &[u8]| number(text).is_some_and(|number| (0xdc00..0xe000).contains(&number));
        let (written, length) = match number(rest) {
            Some(0xd800..0xdc00) if rest.get(ESCAPE_BYTES..).is_some_and(low) => (None, 2 * ESCAPE_BYTES),
            Some(0xd800..0xe000) => (Some(REPLACEMENT), ESCAPE_BYTES),
            // Another escape, a backslash's own among them.
            _ => (None, 2.min(rest.len())),
        };
        changed |= written.is_some();
        out.extend_from_slice(written.unwrap_or(&rest[..length]));
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn halves_of_characters() {
        let check =
            |text: &str, expect: Option<Value>| assert_eq!(read(text.as_bytes()).ok(), expect, "{text}");
        check(r#"{"a": "x\ud800y"}"#, Some(json!({"a": "x\u{fffd}y"})));
        check(
            r#"["\udc80\ud83d\ude00\ud83d", "\\ud800"]"#,
            Some(json!(["\u{fffd}\u{1f600}\u{fffd}", "\\ud800"])),
        );
        check(r#"["\ud800\u0041\n"]"#, Some(json!(["\u{fffd}A\n"])));
        check(r#"["\ud800"#, None);
        check(r#"["\"#, None);
        check(r#"["\ud8"]"#, None);
        check("[1]", Some(json!([1])));
    }
}
