//! Tables.

use super::{paint, style_of};
use comfy_table::{Cell, ContentArrangement, Table, presets::NOTHING};
use serde_json::Value;

/// The longest cell in characters.
const CELL_CHARS_MAX: usize = 120;

/// A column: its head, and what it shows of an entry.
pub(crate) struct Column {
    head: &'static str,
    show: Box<dyn Fn(&Value) -> String>,
}

/// A column whose cells a function makes.
pub(crate) fn column(head: &'static str, show: impl Fn(&Value) -> String + 'static) -> Column {
    Column { head, show: Box::new(show) }
}

/// The text at a path of an entry (`state.worker`); a dash where there is none.
pub(crate) fn text_at(value: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(value, |value, part| value.get(part));
    match found {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => one_line(text),
        Some(Value::Array(items)) => {
            let texts =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            one_line(&texts.collect::<Vec<_>>().join(","))
        }
        Some(other) => one_line(&other.to_string()),
    }
}

/// A whole text for people, its further lines below the first.
pub(crate) fn whole(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let lines: Vec<String> = text.trim_end().lines().map(|line| line.chars().map(clean).collect()).collect();
    lines.join(&format!("\n{:11}", ""))
}

/// A text on one line and not too long.
pub(crate) fn one_line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= CELL_CHARS_MAX {
        return clean;
    }
    let mut short: String = clean.chars().take(CELL_CHARS_MAX - 1).collect();
    short.push('…');
    short
}

/// A terminal of fewer columns has not said how wide it is.
const TERMINAL_WIDTH_MIN: u16 = 20;

/// The table of entries.
pub(super) fn table(items: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    let is_wide = super::is_terminal() && table.width().is_none_or(|width| width >= TERMINAL_WIDTH_MIN);
    table.load_preset(NOTHING).set_content_arrangement(if is_wide {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    table.set_header(columns.iter().map(|column| Cell::new(column.head)));
    for item in items {
        table.add_row(columns.iter().map(|column| Cell::new((column.show)(item))));
    }
    for at in 0..columns.len() {
        if let Some(column) = table.column_mut(at) {
            column.set_padding((0, 2));
        }
    }
    let plain = table.to_string();
    let lines = plain.lines().enumerate().map(|(at, line)| {
        if at == 0 { paint(super::title(), line.trim_end()) } else { colour_words(line.trim_end()) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The table of entries in Markdown.
pub(crate) fn markdown(items: &[Value], columns: &[Column]) -> String {
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let heads = row(columns.iter().map(|column| column.head.to_lowercase()).collect());
    let line = row(columns.iter().map(|_| "---".to_owned()).collect());
    let plain = |text: String| anstream::adapter::strip_str(&text).to_string().replace('|', "\\|");
    let rows =
        items.iter().map(|item| row(columns.iter().map(|column| plain((column.show)(item))).collect()));
    [heads, line].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

/// Colours the words that are states or outcomes, so that widths are counted without colours.
fn colour_words(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for part in line.split_inclusive(' ') {
        let word = part.trim_end();
        let style = style_of(word);
        if word.is_empty() || style.is_plain() {
            out.push_str(part);
        } else {
            out.push_str(&paint(style, word));
            out.push_str(&part[word.len()..]);
        }
    }
    out
}
