//! Mistakes in files that people write, each with its place, what was expected and how to mend it.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc};

/// The most diagnostics that are kept of one set of files; after them the rest are counted only.
pub const DIAGNOSTICS_MAX: usize = 200;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth a look; the file is taken.
    Warning,
    /// The file is not taken.
    Error,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named when loading.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// The bytes in the file that are marked.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub span: Range<usize>,
    /// What is wrong, in one sentence without a final stop.
    pub message: String,
    /// How to mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: error: message (help)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// All that was found in a set of files, with their texts, so that the places can be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The texts by file name.
    pub sources: BTreeMap<String, Arc<str>>,
    /// What was found, in the order of finding.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Whether there is an error among them.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Error)
    }

    /// How many errors there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// Adds one; beyond [`DIAGNOSTICS_MAX`] only the first error is still kept, so that a bad file stays bad.
    pub fn push(&mut self, found: Diagnostic) {
        if self.diagnostics.len() < DIAGNOSTICS_MAX
            || (found.severity == Severity::Error && !self.has_errors())
        {
            self.diagnostics.push(found);
        }
    }

    /// Adds a diagnostic about a whole file.
    pub fn push_file_error(&mut self, file: &str, message: impl Into<String>) {
        self.push(Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 1,
            column: 1,
            span: 0..0,
            message: message.into(),
            help: None,
        });
    }

    /// Takes over what another report found.
    pub fn merge(&mut self, other: Self) {
        self.sources.extend(other.sources);
        other.diagnostics.into_iter().for_each(|found| self.push(found));
    }

    /// Sorts by file, place and severity.
    pub fn sort(&mut self) {
        self.diagnostics
            .sort_by(|a, b| (&a.file, a.span.start, b.severity).cmp(&(&b.file, b.span.start, a.severity)));
    }

    /// The whole report for a terminal, each place shown with the marked text.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false);
        let mut out = String::new();
        for found in &self.diagnostics {
            let source = self
                .sources
                .get(&found.file)
                .map(|text| NamedSource::new(&found.file, Arc::clone(text)).with_language("yaml"));
            // Writing into a String cannot fail; a place outside the text would only lose the picture.
            if handler.render_report(&mut out, &Shown { found, source }).is_err() {
                out.push_str(&found.to_string());
            }
            out.push('\n');
        }
        out
    }
}

impl fmt::Display for Report {
    /// One line for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, found) in self.diagnostics.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            found.fmt(f)?;
        }
        Ok(())
    }
}

/// A diagnostic with its source, in the form that miette shows.
#[derive(Debug)]
struct Shown<'a> {
    found: &'a Diagnostic,
    source: Option<NamedSource<Arc<str>>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found;
        write!(f, "{}:{}:{}: {}", found.file, found.line, found.column, found.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.found.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.found.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let span = SourceSpan::from((self.found.span.start, self.found.span.len()));
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".to_owned()), span))))
    }
}

/// The known word nearest to one that is not known, for "did you mean".
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 2.max(candidate.len() / 3) && *distance < word.len().max(2)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// An error with its causes: the text of many leaves out why.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
