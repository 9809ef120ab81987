//! JSON and YAML into typed documents, with the place of the first mistake.

use crate::parse_error::Fault;
use serde::de::DeserializeOwned;

/// The deepest nesting of a YAML document.
const YAML_DEPTH_MAX: usize = 64;
/// The most nodes of a YAML document, aliases counted as often as they are used.
const YAML_NODES_MAX: usize = 1_000_000;
/// The most events of a YAML document: nodes, and the ends of lists and mappings.
const YAML_EVENTS_MAX: usize = 3_000_000;
/// The most aliases of a YAML document.
const YAML_ALIASES_MAX: usize = 1_000;

/// Reads a JSON document; `shape` says what it should look like.
pub(crate) fn json<T: DeserializeOwned>(text: &str, shape: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line() as u64, json_column(text, &error));
        let said = error.to_string();
        let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
        let fault = Fault::at(line, column, said);
        match error.classify() {
            serde_json::error::Category::Eof => fault.help("the document is truncated"),
            _ => fault.help(shape),
        }
    })
}

/// The column of an error in characters: serde_json counts bytes.
fn json_column(text: &str, error: &serde_json::Error) -> u64 {
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    line.char_indices().take_while(|(at, _)| *at < error.column()).count() as u64
}

/// Reads a YAML document, or JSON where it begins as JSON does: not all of JSON is YAML. Duplicate keys are
/// errors, and what aliases can blow up is limited.
pub(crate) fn yaml<T: DeserializeOwned>(text: &str, shape: &str) -> Result<T, Fault> {
    if text.trim_start().starts_with(['{', '[']) {
        return json(text, shape);
    }
    if text.trim().is_empty() {
        return Err(Fault::new(1, "the document is empty").help("the tests died before they wrote it"));
    }
    let options = serde_yaml::options! {
        reject_unsupported_tags: true,
        merge_keys: serde_yaml::options::MergeKeyPolicy::Error,
        with_snippet: false,
        budget: serde_yaml::budget! {
            max_depth: YAML_DEPTH_MAX,
            max_nodes: YAML_NODES_MAX,
            max_events: YAML_EVENTS_MAX,
            max_aliases: YAML_ALIASES_MAX,
            max_documents: 1,
        },
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((1, 0), |at| (at.line(), at.column()));
        let said = error.without_snippet().to_string();
        let said = said.lines().next().unwrap_or_default();
        // The place is told apart, and the parser's options are none of the author's.
        let said = said.split(" at line ").next().unwrap_or(said);
        let said = said.split(", set DuplicateKeyPolicy").next().unwrap_or(said);
        Fault::at(line, column, said).help(shape)
    })
}
