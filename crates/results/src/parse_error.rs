//! Why a result document could not be read, and where.

/// A result document is malformed, truncated or over a limit. Nothing of it counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file}:{line}{}: {message}{}",
    column.map(|column| format!(":{column}")).unwrap_or_default(),
    help.as_ref().map(|help| format!("; {help}")).unwrap_or_default()
)]
pub struct ParseError {
    /// The file, as the task named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1, where it is known.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
}

impl ParseError {
    /// An error of a result file as a whole, such as one that could not be taken.
    #[must_use]
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Fault::new(1, message).in_file(file)
    }
}

/// A [`ParseError`] before the file is known: what the parsers return inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: u32,
    pub(crate) column: Option<u32>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(line: u32, message: impl Into<String>) -> Self {
        Self { line, column: None, message: message.into(), help: None }
    }

    /// At a line and column, both counted from 1; parsers that know neither say 0.
    pub(crate) fn at(line: u64, column: u64, message: impl Into<String>) -> Self {
        let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            column: Some(count(column)).filter(|column| *column > 0),
            ..Self::new(count(line).max(1), message)
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn in_file(self, file: &str) -> ParseError {
        ParseError {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            message: self.message,
            help: self.help,
        }
    }
}

/// The line on which a byte offset lies, counted from 1.
pub(crate) fn line_at(text: &[u8], offset: usize) -> u32 {
    let newlines = text.iter().take(offset).filter(|byte| **byte == b'\n').count();
    u32::try_from(newlines).unwrap_or(u32::MAX).saturating_add(1)
}
