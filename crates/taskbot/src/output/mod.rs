//! What commands show: tables for people, JSON, JSON lines or YAML for programs.
//!
//! Colours and widths follow the terminal, `NO_COLOR` and its kin; without a terminal, text is plain.

mod columns;
pub(crate) mod line;
mod terminal;
mod times;

pub(crate) use columns::{Column, column, markdown, one_line as shortened, text_at, whole};
pub(crate) use terminal::LogOut;
pub(crate) use times::{age, clock_time, duration_between, parse_time, parse_time_to_come};

use crate::{cli::Format, fault::Fault};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// Writes a line to standard output.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn say(text: impl Display) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    if is_terminal() {
        writeln!(out, "{}", terminal::harmless(&text.to_string()))?;
    } else {
        writeln!(out, "{text}")?;
    }
    out.flush()
}

/// Writes text as it is to standard output: our own, or what a person wants as it is.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn write(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

/// A count with its word, which takes an `s`: `1 error`, `2 errors`.
pub(crate) fn counted(count: impl TryInto<u64>, word: &str) -> String {
    let count: u64 = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Writes a line to standard error: for people only.
pub(crate) fn note(text: impl Display) {
    if io::stderr().is_terminal() {
        anstream::eprintln!("{}", terminal::harmless(&text.to_string()));
    } else {
        anstream::eprintln!("{text}");
    }
}

/// Writes an error with its causes to standard error.
pub(crate) fn error(error: &anyhow::Error) {
    note(format_args!("{}: {error:#}", paint(bad(), "error")));
}

/// Whether a person watches standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A text in a style; anstream takes the style away where it does not belong.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Good news.
pub(crate) const fn good() -> Style {
    AnsiColor::Green.on_default()
}

/// Bad news.
pub(crate) const fn bad() -> Style {
    AnsiColor::Red.on_default().bold()
}

/// Something to look at.
pub(crate) const fn odd() -> Style {
    AnsiColor::Yellow.on_default()
}

/// Something on its way.
pub(crate) const fn busy() -> Style {
    AnsiColor::Cyan.on_default()
}

/// What matters less.
pub(crate) const fn faint() -> Style {
    Style::new().dimmed()
}

/// What stands over something.
pub(crate) const fn title() -> Style {
    Style::new().bold()
}

/// The style of a state's or outcome's text form.
pub(crate) fn style_of(label: &str) -> Style {
    let inner = label.strip_prefix("finished(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(label);
    match inner {
        "passed" | "fired" | "held" | "ok" | "new" | "active" => good(),
        "failed" | "fail" | "conflict" | "malformed" => bad(),
        error if error.starts_with("error") => bad(),
        "needs_inspection" | "warn" | "cancelled" | "superseded" | "missing" | "wrong_type" | "shadow" => {
            odd()
        }
        running if running.starts_with("running") => busy(),
        "skipped" | "not_applicable" | "not_reached" | "known" | "no_match" | "off" => faint(),
        _ => Style::new(),
    }
}

/// Prints one document; in the table format `people` writes it.
///
/// # Errors
/// Standard output is closed or full, or `people` fails.
pub(crate) fn document(
    format: Format,
    value: &impl Serialize,
    people: impl FnOnce() -> Result<()>,
) -> Result<()> {
    match format {
        Format::Table | Format::Markdown => people()?,
        Format::Json => say(serde_json::to_string_pretty(value)?)?,
        Format::Jsonl => say(serde_json::to_string(value)?)?,
        Format::Yaml => say(yaml(value)?.trim_end())?,
    }
    Ok(())
}

/// Prints a list: a table, one document with all entries, or a document a line.
///
/// # Errors
/// Standard output is closed or full.
pub(crate) fn list(format: Format, items: &[Value], columns: &[Column], nothing: &str) -> Result<()> {
    if format == Format::Jsonl {
        for item in items {
            say(serde_json::to_string(item)?)?;
        }
        return Ok(());
    }
    document(format, &items, || {
        if items.is_empty() {
            note(nothing);
            return Ok(());
        }
        let text = match format {
            Format::Markdown => columns::markdown(items, columns),
            _ => columns::table(items, columns),
        };
        Ok(say(text)?)
    })
}

/// Prints a page of a list: as [`list`], and says how to get the next page.
///
/// # Errors
/// Standard output is closed or full, or the page is none.
pub(crate) fn page(format: Format, page: &Value, columns: &[Column], nothing: &str) -> Result<()> {
    let items =
        page["items"].as_array().ok_or_else(|| Fault::new(crate::fault::INFRA, "the server sent no list"))?;
    list(format, items, columns, nothing)?;
    if let Some(next) = page["next"].as_str() {
        note(paint(faint(), format_args!("there is more: --before {next}")));
    }
    Ok(())
}

/// A value as YAML.
///
/// # Errors
/// The value cannot be written.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String> {
    // By way of JSON, so that every form shows the same fields in the same way.
    let value = serde_json::to_value(value)?;
    let mut text = serde_yaml::to_string(&value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
