//! What a backtest found, for people, for pull requests, and for programs.

use super::tally::{Diff, RuleDiff, RuleSummary, Summary};
use crate::{
    cli::Format,
    output::{self, Column, column, paint, text_at},
};
use anyhow::Result;
use model::units::format_duration;
use serde_json::Value;
use std::time::Duration;

/// Shows a summary.
///
/// # Errors
/// Standard output is closed or full.
pub(super) fn show(format: Format, summary: &Summary) -> Result<()> {
    output::document(format, summary, || {
        let markdown = format == Format::Markdown;
        output::say(if markdown { head_markdown(summary) } else { head(summary) })?;
        for line in &summary.first_unreadable {
            output::note(line);
        }
        // Rules that had nothing to say are counted, not listed.
        let heard: Vec<&RuleSummary> =
            summary.rules.iter().filter(|rule| rule.fired + rule.errors + rule.collected > 0).collect();
        if !heard.is_empty() {
            output::say("")?;
            table(format, &heard, &rule_columns(&heard))?;
        }
        let silent = summary.rules.len() - heard.len();
        if silent > 0 {
            output::say(format_args!("\n{silent} of {} rules did not fire", summary.rules.len()))?;
        }
        match &summary.diff {
            Some(diff) => show_diff(format, summary, diff),
            None => Ok(()),
        }
    })
}

fn table(format: Format, rows: &[&impl serde::Serialize], columns: &[Column]) -> Result<()> {
    let rows = rows.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let format = if format == Format::Markdown { format } else { Format::Table };
    output::list(format, &rows, columns, "")
}

fn period(summary: &Summary) -> String {
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    match (summary.first, summary.last) {
        (Some(first), Some(last)) => format!("{} to {} UTC", time(first), time(last)),
        _ => "of unknown times".to_owned(),
    }
}

fn counts(summary: &Summary) -> String {
    let mut words = format!("{} events", summary.events);
    for (count, what) in [(summary.repeated, "repeated"), (summary.unreadable, "unreadable")] {
        if count > 0 {
            words.push_str(&format!(", {count} {what}"));
        }
    }
    words
}

fn head(summary: &Summary) -> String {
    let line =
        |name: &str, text: String| format!("{} {text}", paint(output::faint(), format_args!("{name:<9}")));
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = summary.events as f64 / summary.took_seconds.max(0.001);
    [
        line("rules", format!("{}, revision {}", summary.rules.len(), short(&summary.revision))),
        line("events", format!("{}, {}", counts(summary), period(summary))),
        line("firings", format!("{}, {} errors", summary.fired, summary.errors)),
        line("tasks", summary.tasks.to_string()),
        line(
            "took",
            format!("{}, {rate:.0} events/s", format_duration(Duration::from_secs_f64(summary.took_seconds))),
        ),
    ]
    .join("\n")
}

fn head_markdown(summary: &Summary) -> String {
    format!(
        "**Backtest** of rule set `{}` over {}, {}: {} firings, {} errors, {} tasks.",
        short(&summary.revision),
        counts(summary),
        period(summary),
        summary.fired,
        summary.errors,
        summary.tasks
    )
}

fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

fn rule_columns(rules: &[&RuleSummary]) -> Vec<Column> {
    let mut columns = vec![
        column("RULE", |rule| text_at(rule, "rule")),
        column("MODE", |rule| text_at(rule, "mode")),
        column("FIRED", |rule| text_at(rule, "fired")),
        column("ERRORS", |rule| text_at(rule, "errors")),
        column("TASKS", |rule| text_at(rule, "tasks")),
        column("JOINED", |rule| text_at(rule, "joined")),
        column("PEAK/H", |rule| text_at(rule, "peak_per_hour")),
        column("AT", |rule| hour(&rule["peak_at"])),
    ];
    if rules.iter().any(|rule| rule.collected > 0) {
        columns.push(column("COLLECTED", |rule| text_at(rule, "collected")));
        columns.push(column("WINDOWS", |rule| text_at(rule, "windows")));
    }
    if rules.iter().any(|rule| rule.limits.is_some()) {
        columns.push(column("LIMITS", |rule| limits(&rule["limits"])));
        columns.push(column("OVER", |rule| text_at(rule, "over_limit")));
    }
    columns
}

/// Limits in words: `100/h 500/d park`.
fn limits(limits: &Value) -> String {
    let each = [("per_hour", "/h"), ("per_day", "/d"), ("on_excess", "")];
    let words = each.iter().filter(|(name, _)| !limits[name].is_null());
    let words: Vec<_> = words.map(|(name, unit)| format!("{}{unit}", text_at(limits, name))).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn hour(at: &Value) -> String {
    at.as_str().and_then(|text| text.get(..16)).map_or_else(|| "-".to_owned(), |text| text.replace('T', " "))
}

fn show_diff(format: Format, summary: &Summary, diff: &Diff) -> Result<()> {
    let markdown = format == Format::Markdown;
    let line = format!(
        "against {}: {} tasks became {}; {} added, {} removed",
        short(&diff.revision),
        diff.tasks_before,
        summary.tasks,
        diff.added,
        diff.removed
    );
    output::say(if markdown {
        format!("\n**Difference** {line}.\n")
    } else {
        format!("\n{}\n", paint(output::title(), line))
    })?;
    if diff.rules.is_empty() {
        return Ok(output::say("no rule makes other tasks")?);
    }
    let rows: Vec<&RuleDiff> = diff.rules.iter().collect();
    table(
        format,
        &rows,
        &[
            column("RULE", |rule| text_at(rule, "rule")),
            column("IS", |rule| text_at(rule, "state")),
            column("BEFORE", |rule| text_at(rule, "tasks_before")),
            column("NOW", |rule| text_at(rule, "tasks")),
            column("ADDED", |rule| text_at(rule, "added")),
            column("REMOVED", |rule| text_at(rule, "removed")),
        ],
    )?;
    let examples: Vec<String> = diff
        .rules
        .iter()
        .flat_map(|rule| {
            rule.examples.iter().map(move |example| {
                let sign = if example.change == "added" { "+" } else { "-" };
                format!("{sign} {}  {}  (event {})", rule.rule, example.task, example.event)
            })
        })
        .collect();
    if examples.is_empty() {
        return Ok(());
    }
    let text = examples.join("\n");
    output::say(if markdown { format!("\n```diff\n{text}\n```") } else { format!("\n{}", coloured(&text)) })?;
    Ok(())
}

fn coloured(text: &str) -> String {
    let line = |line: &str| paint(if line.starts_with('+') { output::good() } else { output::bad() }, line);
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
