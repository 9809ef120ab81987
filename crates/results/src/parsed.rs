//! The results that a document holds, whatever its format was.

use model::{Item, Outcome, result::NOTE_BYTES_MAX, result::RESULTS_PER_ATTEMPT_MAX};
use std::collections::BTreeMap;

/// The longest result document that is read, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most results, children included, that one attempt's documents can hold; the task's own comes on top.
pub const RESULTS_MAX: usize = RESULTS_PER_ATTEMPT_MAX - 1;
/// How deep results can be nested.
pub const DEPTH_MAX: usize = 16;
/// The longest name of a result in bytes; a longer one is cut and says so.
pub const NAME_BYTES_MAX: usize = 1024;
/// The longest message or detail of a result in bytes; a longer one is cut in its middle.
pub const TEXT_BYTES_MAX: usize = NOTE_BYTES_MAX;
/// The most data fields of one result.
pub const DATA_FIELDS_MAX: usize = 64;

/// One testcase's outcome, as a document tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedResult {
    /// The name inside the document; the testcase of the task goes before it. Empty for a result of that
    /// testcase itself.
    pub name: String,
    /// What was tested, where the document says so; else the item of the result around it or of the task.
    pub item: Option<Item>,
    /// How it ended; never better than that of a child, unless the document says on purpose that it is (a point
    /// of TAP marked as to do, a result that tmt turned round).
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Why, in a line.
    pub message: Option<String>,
    /// All that was said about it: diagnostics, a stack trace, output.
    pub detail: Option<String>,
    /// Named values: properties, the file and line of a finding.
    pub data: BTreeMap<String, String>,
    /// Sub-results, in the order of the document.
    pub children: Vec<ParsedResult>,
}

impl ParsedResult {
    /// A result with nothing but a name and an outcome.
    #[must_use]
    pub fn new(name: &str, outcome: Outcome) -> Self {
        Self {
            name: clean_name(name),
            item: None,
            outcome,
            duration_ms: None,
            message: None,
            detail: None,
            data: BTreeMap::new(),
            children: Vec::new(),
        }
    }

    /// How many results it is with all its children.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.children.iter().map(Self::count).sum::<usize>()
    }
}

/// A document that was read to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The results at the top level.
    pub results: Vec<ParsedResult>,
    /// Why there are no results, or no more.
    pub stop: Option<Stop>,
}

/// A document says that it stops short on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Nothing was run, with the reason (TAP's `1..0 # SKIP reason`).
    Skipped(String),
    /// The tests could not go on, with the reason (TAP's `Bail out!`).
    BailedOut {
        /// The line, counted from 1.
        line: u32,
        /// What the document says.
        reason: String,
    },
}

/// The worst of outcomes by [`Outcome::severity`]: error, failed, needs_inspection, info, passed, skipped,
/// not_applicable. Nothing for no outcomes: no results are not a pass.
pub fn worst(outcomes: impl IntoIterator<Item = Outcome>) -> Option<Outcome> {
    outcomes.into_iter().max_by_key(|outcome| outcome.severity())
}

/// The worse of two outcomes; the first when they are alike.
pub(crate) fn worse(one: Outcome, other: Outcome) -> Outcome {
    if other.severity() > one.severity() { other } else { one }
}

/// A name on one line, without what databases refuse, and not over [`NAME_BYTES_MAX`].
pub(crate) fn clean_name(name: &str) -> String {
    let words: Vec<&str> =
        name.split(|c: char| c.is_whitespace() || c == '\0').filter(|word| !word.is_empty()).collect();
    let name = words.join(" ");
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let mark = format!("… ({} bytes)", name.len());
    let end = floor_char_boundary(&name, NAME_BYTES_MAX - mark.len());
    format!("{}{mark}", &name[..end])
}

/// A text without what databases refuse, keeping head and tail within [`TEXT_BYTES_MAX`]; nothing if blank.
pub(crate) fn clean_text(text: &str) -> Option<String> {
    let text = text.trim_matches(['\n', '\r']).trim_end();
    if text.trim().is_empty() {
        return None;
    }
    let text = text.replace('\0', "\u{fffd}");
    if text.len() <= TEXT_BYTES_MAX {
        return Some(text);
    }
    let mark = format!("\n… {} bytes in all, the middle is cut …\n", text.len());
    let half = (TEXT_BYTES_MAX - mark.len()) / 2;
    let head = floor_char_boundary(&text, half);
    let mut tail = text.len() - half;
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    Some(format!("{}{mark}{}", &text[..head], &text[tail..]))
}

/// The greatest character boundary that is not after `at`.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut end = at.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// Appends a titled part to a growing text, so that several sources of output stay told apart.
pub(crate) fn append(text: &mut String, part: &str) {
    if part.trim().is_empty() {
        return;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_and_texts_are_cut_at_characters_and_say_so() {
        for c in ["a", "ä", "€", "🦀"] {
            let name = clean_name(&c.repeat(NAME_BYTES_MAX));
            assert!(name.len() <= NAME_BYTES_MAX, "{}", name.len());
            assert_eq!(name.ends_with(" bytes)"), c.len() > 1, "{name}");
            let text = clean_text(&c.repeat(TEXT_BYTES_MAX + 1)).unwrap();
            assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
            assert!(text.contains("the middle is cut"), "{c}");
        }
    }

    #[test]
    fn names_are_one_line_and_texts_hold_no_null() {
        assert_eq!(clean_name(" a\n\tb\0c "), "a b c");
        assert_eq!(clean_text("\nx\0y\n\n").unwrap(), "x\u{fffd}y");
        assert_eq!(clean_text(" \n "), None);
    }

    #[test]
    fn worst_of_outcomes() {
        let check = |given: &[&str], expect: Option<&str>| {
            let worst = worst(given.iter().map(|text| text.parse().unwrap()));
            assert_eq!(worst, expect.map(|text| text.parse().unwrap()), "{given:?}");
        };
        check(&[], None);
        check(&["not_applicable", "skipped"], Some("skipped"));
        check(&["skipped", "passed"], Some("passed"));
        check(&["passed", "info", "passed"], Some("info"));
        check(&["info", "needs_inspection"], Some("needs_inspection"));
        check(&["needs_inspection", "failed"], Some("failed"));
        check(&["failed", "error", "failed"], Some("error(task)"));
    }
}
