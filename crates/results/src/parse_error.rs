//! Why a result document could not be read, and where.

/// A result document is malformed, truncated or over a limit. Nothing of it counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}{}", help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct ParseError {
    /// The file, as the task named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
}

/// A [`ParseError`] before the file is known: what the parsers return inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(line: u32, message: impl Into<String>) -> Self {
        Self { line, message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn in_file(self, file: &str) -> ParseError {
        ParseError { file: file.to_owned(), line: self.line, message: self.message, help: self.help }
    }
}

/// The line on which a byte offset lies, counted from 1.
pub(crate) fn line_at(text: &[u8], offset: usize) -> u32 {
    let newlines = text.iter().take(offset).filter(|byte| **byte == b'\n').count();
    u32::try_from(newlines).unwrap_or(u32::MAX).saturating_add(1)
}
