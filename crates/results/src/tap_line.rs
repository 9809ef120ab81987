//! One line of TAP: what it is, without regard to where it stands.

use crate::duration::millis;

/// A line without its indentation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// `TAP version 14`; the text after `version`.
    Version(&'a str),
    /// `1..N # reason`
    Plan { count: &'a str, comment: Option<&'a str> },
    /// `ok 1 - name # SKIP reason`
    Point(Point<'a>),
    /// `Bail out! reason`
    BailOut(&'a str),
    /// `pragma +strict`
    Pragma(&'a str),
    /// `# text`
    Comment(&'a str),
    /// What looks like a failing point and is none; ignoring it could hide a failure.
    NearMiss,
    /// Anything else.
    Other,
}

/// A test point as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Point<'a> {
    pub(crate) ok: bool,
    /// The digits, if there is a number.
    pub(crate) number: Option<&'a str>,
    /// Without escapes.
    pub(crate) description: String,
    pub(crate) directive: Option<Directive<'a>>,
    pub(crate) duration_ms: Option<u64>,
}

/// What stands behind the `#` of a point, with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive<'a> {
    Skip(&'a str),
    Todo(&'a str),
}

/// In any case, as harnesses take it.
const BAIL_OUT: &str = "Bail out!";

/// Says what a line is. `text` has neither indentation nor line end.
pub(crate) fn classify(text: &str) -> Line<'_> {
    if let Some(comment) = text.strip_prefix('#') {
        return Line::Comment(comment.trim());
    }
    if let Some(version) = text.strip_prefix("TAP version ") {
        return Line::Version(version.trim());
    }
    if let Some((words, rest)) = text.split_at_checked(BAIL_OUT.len())
        && words.eq_ignore_ascii_case(BAIL_OUT)
    {
        return Line::BailOut(rest.trim());
    }
    if let Some(rest) = text.strip_prefix("pragma ") {
        return Line::Pragma(rest.trim());
    }
    if let Some(plan) = plan(text) {
        return plan;
    }
    if let Some(rest) = word(text, "not ok") {
        return Line::Point(point(false, rest));
    }
    if let Some(rest) = word(text, "ok") {
        return Line::Point(point(true, rest));
    }
    if looks_like_failure(text) { Line::NearMiss } else { Line::Other }
}

/// The rest of a text behind a word, if the word ends there.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.strip_prefix(word).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

fn plan(text: &str) -> Option<Line<'_>> {
    let rest = text.strip_prefix("1..")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (count, rest) = rest.split_at(digits);
    let rest = rest.trim();
    let comment = rest.strip_prefix('#').map(str::trim);
    let whole = !count.is_empty() && (rest.is_empty() || comment.is_some());
    whole.then_some(Line::Plan { count, comment })
}

/// `not  ok`, `NOT OK`, `notok`, `not ok:` … No producer means anything else by these.
fn looks_like_failure(text: &str) -> bool {
    let Some(not) = text.get(..3).filter(|not| not.eq_ignore_ascii_case("not")) else { return false };
    let rest = text[not.len()..].trim_start();
    let Some(ok) = rest.get(..2).filter(|ok| ok.eq_ignore_ascii_case("ok")) else { return false };
    !rest[ok.len()..].starts_with(|c: char| c.is_alphanumeric())
}

fn point(ok: bool, rest: &str) -> Point<'_> {
    let rest = rest.trim();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = match rest.split_at(digits) {
        (number, after) if !number.is_empty() && (after.is_empty() || after.starts_with([' ', '\t'])) => {
            (Some(number), after.trim_start())
        }
        _ => (None, rest),
    };
    let (description, directive, duration_ms) = split(rest);
    let description = unescape(description.trim());
    let description = match description.strip_prefix('-') {
        Some(name) if name.is_empty() || name.starts_with(char::is_whitespace) => {
            name.trim_start().to_owned()
        }
        _ => description,
    };
    Point { ok, number, description, directive, duration_ms }
}

/// Parts a description from the directive and from `# time=12ms`, at the first `#` that starts one of them,
/// stands at the start or behind white space, and is not escaped.
fn split(rest: &str) -> (&str, Option<Directive<'_>>, Option<u64>) {
    let bytes = rest.as_bytes();
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' => escaped = !escaped,
            b'#' if !escaped && (at == 0 || bytes[at - 1].is_ascii_whitespace()) => {
                let after = rest[at + 1..].trim();
                if let Some(directive) = directive(after) {
                    return (&rest[..at], Some(directive), None);
                }
                if let Some(duration_ms) = after.strip_prefix("time=").and_then(time_ms) {
                    return (&rest[..at], None, Some(duration_ms));
                }
            }
            _ => escaped = false,
        }
    }
    (rest, None, None)
}

/// `SKIP`, also as `Skipped:`, and `TODO`, in any case, with the reason behind.
fn directive(text: &str) -> Option<Directive<'_>> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, reason) = text.split_at(end);
    let word = word.to_ascii_lowercase();
    if word.starts_with("skip") {
        return Some(Directive::Skip(reason.trim()));
    }
    (word.trim_end_matches(':') == "todo").then_some(Directive::Todo(reason.trim()))
}

/// `12ms`, `1.5s`, `12` (milliseconds).
fn time_ms(text: &str) -> Option<u64> {
    if let Some(number) = text.strip_suffix("ms") {
        return millis(number, 1.0);
    }
    match text.strip_suffix('s') {
        Some(number) => millis(number, 1000.0),
        None => millis(text, 1.0),
    }
}

/// `\#` is `#`, `\\` is `\`; any other backslash is itself.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (c, characters.peek()) {
            ('\\', Some(&next @ ('#' | '\\'))) => {
                plain.push(next);
                characters.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}
