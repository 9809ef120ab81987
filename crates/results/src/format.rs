//! The one way into the parsers: a document's format says which.
//!
//! A new format is a variant of [`ResultFormat`], a parser module here and an arm in [`parse`].

use crate::{
    autopkgtest, firehose, json, junit,
    parse_error::{Fault, ParseError, line_at},
    parsed::{DOCUMENT_BYTES_MAX, Parsed},
    result_yaml, sarif, tap, tmt,
};
use model::task_file::{RESULT_FORMATS, ResultFormat};
use std::borrow::Cow;

/// Reads a result document. `file` is its name in errors, as the task wrote it.
///
/// # Errors
/// The document is malformed, truncated, contradicts itself or is over a limit; [`ResultFormat::Exit`] has none.
pub fn parse(format: ResultFormat, file: &str, document: &[u8]) -> Result<Parsed, ParseError> {
    read(format, document).map_err(|fault| fault.in_file(file))
}

fn read(format: ResultFormat, document: &[u8]) -> Result<Parsed, Fault> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(Fault::new(
            1,
            format!("the document has {} bytes, the limit is {DOCUMENT_BYTES_MAX}", document.len()),
        )
        .help("report fewer results, or move output into artifacts"));
    }
    match format {
        ResultFormat::Exit => {
            let known = RESULT_FORMATS.iter().filter(|(format, _)| *format != ResultFormat::Exit);
            let known: Vec<_> = known.map(|(_, name)| *name).collect();
            Err(Fault::new(1, "format `exit` has no result document")
                .help(format!("name the document's format in `results`: {}", known.join(", "))))
        }
        // TAP often shares its stream with output of programs in any encoding: no verdict depends on those bytes.
        ResultFormat::Tap => tap::read(&String::from_utf8_lossy(document)),
        ResultFormat::Junit => junit::read(&utf8(document)?),
        ResultFormat::Json => json::read(&utf8(document)?),
        ResultFormat::Tmt => tmt::read(&utf8(document)?),
        // Test names are ASCII; reasons quote programs in any encoding.
        ResultFormat::Autopkgtest => autopkgtest::read(&String::from_utf8_lossy(document)),
        ResultFormat::Sarif => sarif::read(&utf8(document)?),
        ResultFormat::Firehose => firehose::read(&utf8(document)?),
        ResultFormat::Resultyaml => result_yaml::read(&utf8(document)?),
    }
}

/// The document as text, without a byte order mark.
fn utf8(document: &[u8]) -> Result<Cow<'_, str>, Fault> {
    match str::from_utf8(document) {
        Ok(text) => Ok(Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text))),
        Err(error) => Err(Fault::new(line_at(document, error.valid_up_to()), "the document is not UTF-8")
            .help("write it in UTF-8; other encodings are not read")),
    }
}
