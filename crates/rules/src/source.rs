//! Where things stand in the files they come from, and mistakes that show only later.

use crate::{
    script::{Engine, Scope, Script, ScriptError},
    template::Template,
};
use model::{
    verdict::VerdictKind,
    yaml::{Node, Reader},
};
use serde_json::Value;
use std::{fmt, ops::Range, sync::Arc};

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named when loading.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    /// `file:line:column`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A file that was read.
#[derive(Debug)]
pub struct SourceFile {
    name: Arc<str>,
    text: Arc<str>,
    /// The byte that each line begins with.
    lines: Vec<usize>,
}

impl SourceFile {
    /// A file of a name and a text.
    #[must_use]
    pub fn new(name: &str, text: &Arc<str>) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { name: name.into(), text: Arc::clone(text), lines: std::iter::once(0).chain(breaks).collect() }
    }

    /// Its text.
    #[must_use]
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The place of a byte.
    #[must_use]
    pub fn place(&self, byte: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= byte);
        let start = self.lines[line - 1];
        let column = self.text.get(start..byte).map_or(0, |before| before.chars().count()) + 1;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Place { file: Arc::clone(&self.name), line: number(line), column: number(column) }
    }
}

/// A script or template, and the text in a file that it was made from.
#[derive(Debug)]
pub struct Scripted<T> {
    /// What it became.
    pub compiled: T,
    file: Arc<SourceFile>,
    node: Node,
}

impl<T> Scripted<T> {
    /// Keeps where it came from; the node must be a text.
    #[must_use]
    pub const fn new(compiled: T, file: Arc<SourceFile>, node: Node) -> Self {
        Self { compiled, file, node }
    }

    /// Its text.
    #[must_use]
    pub fn source(&self) -> &str {
        self.node.as_text().unwrap_or_default()
    }

    /// The place of a part of the text.
    #[must_use]
    pub fn place(&self, bytes: Range<usize>) -> Place {
        let reader = Reader::new(&self.file.name, &self.file.text);
        self.file.place(reader.inside(&self.node, bytes).start)
    }

    /// A mistake in the text as a whole.
    #[must_use]
    pub fn mistake(&self, message: impl Into<String>) -> RuleError {
        RuleError { message: message.into(), place: self.place(0..0) }
    }

    fn script_error(&self, error: ScriptError) -> RuleError {
        let place = self.place(error.span.clone());
        let message = match error.help {
            Some(help) => format!("{} ({help})", error.message),
            None => error.message,
        };
        RuleError { message, place }
    }
}

impl Scripted<Template> {
    /// The error of an expression that reads nothing, and so errs for every event.
    pub(crate) fn constant_error(&self, engine: &Engine, scope: &Scope<'_>) -> Option<RuleError> {
        self.compiled.constant_error(engine, scope).map(|error| self.script_error(error))
    }

    /// The template's value: a text, or what a sole `${…}` gives.
    ///
    /// # Errors
    /// What an expression erred with, and where.
    pub fn render(&self, engine: &Engine, scope: &Scope) -> Result<Value, RuleError> {
        self.compiled.render(engine, scope).map_err(|error| self.script_error(error))
    }
}

impl Scripted<Script> {
    /// The script's value.
    ///
    /// # Errors
    /// What the script erred with, and where.
    pub fn value(&self, engine: &Engine, scope: &Scope) -> Result<Value, RuleError> {
        self.compiled.eval(engine, scope).map_err(|error| self.script_error(error))
    }

    /// The script's value, which must be a boolean.
    ///
    /// # Errors
    /// What the script erred with, and where; also when it gives anything but a boolean.
    pub fn holds(&self, engine: &Engine, scope: &Scope) -> Result<bool, RuleError> {
        self.compiled.eval_bool(engine, scope).map_err(|error| self.script_error(error))
    }
}

/// A mistake that shows only when a rule is evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct RuleError {
    /// What went wrong.
    pub message: String,
    /// Where.
    pub place: Place,
}

impl From<RuleError> for VerdictKind {
    fn from(error: RuleError) -> Self {
        let RuleError { message, place } = error;
        Self::Error { message, file: place.file.to_string(), line: place.line, column: place.column }
    }
}
