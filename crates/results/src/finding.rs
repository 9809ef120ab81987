//! What static analysers find, in any format: each finding a result named by its rule.

use crate::{
    parse_error::Fault,
    parsed::{ParsedResult, RESULTS_MAX, clean_name, clean_text, worst},
};
use model::{ErrorReason, Outcome};
use std::collections::HashMap;

/// One finding.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    /// The rule or test of the analyser; it becomes the name.
    pub(crate) rule: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<String>,
    pub(crate) column: Option<String>,
    /// Further values by name.
    pub(crate) data: Vec<(String, String)>,
}

/// Where and what; two findings that agree in this are one.
type Identity = (String, Option<String>, Option<String>, Option<String>, Option<String>, Outcome);

/// The findings of one run of an analyser. The same header in many translation units gives the same finding
/// many times: it is kept once, with the number of times.
pub(crate) struct Findings {
    /// How many more results the document may hold.
    left: usize,
    results: Vec<(ParsedResult, u32)>,
    seen: HashMap<Identity, usize>,
}

impl Findings {
    /// For a run in a document that holds `count` results already.
    pub(crate) fn new(count: usize) -> Self {
        Self { left: RESULTS_MAX.saturating_sub(count), results: Vec::new(), seen: HashMap::new() }
    }

    /// Adds a finding. `line` is where it stands in the document.
    pub(crate) fn push(&mut self, line: u32, outcome: Outcome, found: Finding) -> Result<(), Fault> {
        let rule = clean_name(found.rule.as_deref().unwrap_or_default());
        let name = if rule.is_empty() { "finding" } else { rule.as_str() };
        let message = found.message.as_deref().and_then(clean_text);
        let place =
            [("file", found.file), ("line", found.line), ("column", found.column)].map(|(key, value)| {
                (key, value.map(|value| clean_name(&value)).filter(|value| !value.is_empty()))
            });
        let [(_, file), (_, at), (_, column)] = &place;
        let identity = (name.to_owned(), file.clone(), at.clone(), column.clone(), message.clone(), outcome);
        if let Some(known) = self.seen.get(&identity) {
            self.results[*known].1 += 1;
            return Ok(());
        }
        if self.results.len() >= self.left {
            return Err(Fault::new(line, format!("more than {RESULTS_MAX} findings"))
                .help("report fewer: leave out rules or files"));
        }
        let mut result = ParsedResult::new(name, outcome);
        result.message = message;
        result.detail = found.detail.as_deref().and_then(clean_text);
        let place = place.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let rule = Some(("rule".to_owned(), rule)).filter(|(_, rule)| !rule.is_empty());
        result.data.extend(rule.into_iter().chain(place));
        result
            .data
            .extend(found.data.into_iter().filter_map(|(key, value)| Some((key, clean_text(&value)?))));
        self.seen.insert(identity, self.results.len());
        self.results.push((result, 1));
        Ok(())
    }

    /// Adds what kept the analyser from its work. It is an error: nobody knows what it would have found.
    pub(crate) fn push_error(&mut self, line: u32, name: &str, message: Option<String>) -> Result<(), Fault> {
        let found = Finding { rule: Some(name.to_owned()), message, ..Finding::default() };
        self.push(line, Outcome::Error(ErrorReason::Task), found)
    }

    /// The run as one result: passed when nothing was found, else the worst of what was.
    pub(crate) fn finish(self, tool: &str, version: Option<&str>) -> ParsedResult {
        let children = self.results.into_iter().map(|(mut result, times)| {
            if times > 1 {
                result.data.insert("times".to_owned(), times.to_string());
            }
            result
        });
        let tool = clean_name(tool);
        let mut run = ParsedResult::new(if tool.is_empty() { "analysis" } else { &tool }, Outcome::Passed);
        run.children = children.collect();
        run.outcome = worst(run.children.iter().map(|child| child.outcome)).unwrap_or(Outcome::Passed);
        let version = version.map(clean_name).filter(|version| !version.is_empty());
        run.data.extend(version.map(|version| ("version".to_owned(), version)));
        run
    }
}
