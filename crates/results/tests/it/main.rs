//! The parsers over many documents, good and hostile, and the shipped task repositories run for real.

mod autopkgtest;
mod conclude;
mod elsewhere;
mod firehose;
mod hostile;
mod json;
mod junit;
mod junit_dialects;
mod junit_writer;
mod outcomes;
mod result_yaml;
mod sarif;
mod sinks;
mod tap;
mod task_repos;
mod tmt;

use model::task_file::ResultFormat;
use taskbot_results::{Parsed, ParsedResult, Stop, parse};

/// Reads a document and shows it: a line per result with outcome, name, item, duration, message, data and detail,
/// indented by depth; or the error.
fn shown(format: ResultFormat, document: &str) -> String {
    match parse(format, "results", document.as_bytes()) {
        Ok(parsed) => show(&parsed),
        Err(error) => error.to_string(),
    }
}

fn show(parsed: &Parsed) -> String {
    let mut lines = Vec::new();
    parsed.results.iter().for_each(|result| show_result(result, 0, &mut lines));
    match &parsed.stop {
        Some(Stop::Skipped(reason)) => lines.push(format!("all skipped: {reason}")),
        Some(Stop::BailedOut { line, reason }) => lines.push(format!("bailed out on line {line}: {reason}")),
        None => {}
    }
    lines.join("\n")
}

fn show_result(result: &ParsedResult, depth: usize, lines: &mut Vec<String>) {
    let mut line = format!("{}{} {}", "  ".repeat(depth), result.outcome, result.name);
    if let Some(item) = &result.item {
        line.push_str(&format!(" of {item}"));
    }
    if let Some(duration_ms) = result.duration_ms {
        line.push_str(&format!(" [{duration_ms} ms]"));
    }
    if let Some(message) = &result.message {
        line.push_str(&format!(" ({message})"));
    }
    for (key, value) in &result.data {
        line.push_str(&format!(" {key}={value}"));
    }
    if let Some(detail) = &result.detail {
        line.push_str(&format!(" <<{}>>", detail.replace('\n', "|")));
    }
    lines.push(line);
    result.children.iter().for_each(|child| show_result(child, depth + 1, lines));
}
