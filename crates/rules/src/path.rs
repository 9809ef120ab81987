//! Paths into events: `body.update.release.name`, `headers."sent-at"`.

use serde_json::{Map, Value};
use std::{fmt, ops::Range};

/// The most parts of a path.
pub const PATH_PARTS_MAX: usize = 32;

/// A path. A part that meets an array goes on into each of its elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    text: String,
    parts: Vec<String>,
}

/// Why a text is no path, with the bytes in it that are meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PathError {
    /// What is wrong.
    pub message: String,
    /// The bytes of the text that are meant.
    pub span: Range<usize>,
    /// How to mend it.
    pub help: Option<String>,
}

/// What paths start from.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'v> {
    /// An event: the roots `topic`, `source`, `headers`, `body`.
    Event {
        /// A text.
        topic: &'v Value,
        /// A text.
        source: &'v Value,
        /// The headers.
        headers: &'v Map<String, Value>,
        /// The body.
        body: &'v Value,
    },
    /// Any value: the fields of an object, or those of the objects in an array.
    Value(&'v Value),
}

/// The values that a path leads to, in the order of the event; one needs no list.
#[derive(Debug, Clone, Default)]
pub enum Found<'v> {
    /// There is none.
    #[default]
    None,
    /// There is one.
    One(&'v Value),
    /// There are several, through arrays.
    Many(Vec<&'v Value>),
}

impl<'v> Found<'v> {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[&'v Value] {
        match self {
            Self::None => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    pub(crate) fn push(&mut self, value: &'v Value) {
        match self {
            Self::None => *self = Self::One(value),
            Self::One(first) => *self = Self::Many(vec![first, value]),
            Self::Many(values) => values.push(value),
        }
    }
}

impl Path {
    /// Parses a path: parts between dots; a part with other characters than letters, digits and `_` stands
    /// in double quotes, with `\"` and `\\` for those two.
    ///
    /// # Errors
    /// What is wrong, where, and how to mend it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut parts = Vec::new();
        let mut at = 0;
        loop {
            let rest = &text[at..];
            let (part, len) =
                if rest.starts_with('"') { quoted_part(text, at)? } else { bare_part(text, at)? };
            parts.push(part);
            at += len;
            match text[at..].chars().next() {
                None => break,
                Some('.') => at += 1,
                Some(other) => {
                    return Err(PathError {
                        message: format!("expected `.` after a part of a path, found `{other}`"),
                        span: at..at + other.len_utf8(),
                        help: None,
                    });
                }
            }
        }
        if parts.len() > PATH_PARTS_MAX {
            return Err(PathError {
                message: format!("a path has at most {PATH_PARTS_MAX} parts, this one has {}", parts.len()),
                span: 0..text.len(),
                help: None,
            });
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The first part.
    #[must_use]
    pub fn root(&self) -> &str {
        self.parts.first().map_or("", String::as_str)
    }

    /// All parts, unquoted.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The text that it was written as.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it leads.
    #[must_use]
    pub fn find<'v>(&self, subject: Subject<'v>) -> Found<'v> {
        let mut found = Found::None;
        let Some((root, rest)) = self.parts.split_first() else { return found };
        match subject {
            Subject::Value(value) => descend(value, &self.parts, &mut found),
            Subject::Event { topic, source, headers, body } => match (root.as_str(), rest) {
                ("topic", _) => descend(topic, rest, &mut found),
                ("source", _) => descend(source, rest, &mut found),
                ("body", _) => descend(body, rest, &mut found),
                ("headers", [name, rest @ ..]) => {
                    if let Some(value) = headers.get(name) {
                        descend(value, rest, &mut found);
                    }
                }
                _ => {}
            },
        }
        found
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A path's text, with quotes around odd parts.
pub(crate) fn path_text(parts: &[String]) -> String {
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let part =
        |part: &String| if plain(part) { part.clone() } else { Value::from(part.as_str()).to_string() };
    parts.iter().map(part).collect::<Vec<_>>().join(".")
}

pub(crate) fn descend<'v>(value: &'v Value, parts: &[String], found: &mut Found<'v>) {
    let Some((part, rest)) = parts.split_first() else { return found.push(value) };
    match value {
        Value::Object(fields) => {
            if let Some(value) = fields.get(part) {
                descend(value, rest, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| descend(item, parts, found)),
        _ => {}
    }
}

fn bare_part(text: &str, at: usize) -> Result<(String, usize), PathError> {
    let rest = &text[at..];
    let end = rest.find('.').unwrap_or(rest.len());
    let part = &rest[..end];
    if part.is_empty() {
        return Err(PathError {
            message: if text.is_empty() {
                "a path must not be empty".to_owned()
            } else {
                "a part of a path between two dots must not be empty".to_owned()
            },
            span: at..at,
            help: None,
        });
    }
    match part.char_indices().find(|(_, c)| !c.is_alphanumeric() && *c != '_') {
        None => Ok((part.to_owned(), part.len())),
        Some((odd, c)) => {
            let before = &text[..at];
            Err(PathError {
                message: format!("`{c}` cannot stand in a path without quotes"),
                span: at + odd..at + odd + c.len_utf8(),
                help: Some(format!("quote the part: {before}\"{part}\"")),
            })
        }
    }
}

fn quoted_part(text: &str, at: usize) -> Result<(String, usize), PathError> {
    let mut part = String::new();
    let mut chars = text[at..].char_indices().skip(1);
    while let Some((offset, c)) = chars.next() {
        match c {
            '"' => return Ok((part, offset + 1)),
            '\\' => match chars.next() {
                Some((_, next @ ('"' | '\\'))) => part.push(next),
                _ => {
                    return Err(PathError {
                        message: "only `\\\"` and `\\\\` are escapes in a path".to_owned(),
                        span: at + offset..at + offset + 1,
                        help: None,
                    });
                }
            },
            c => part.push(c),
        }
    }
    Err(PathError {
        message: "the quote is not closed".to_owned(),
        span: at..text.len(),
        help: Some("close it with `\"`".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_read_or_refused_with_a_place() {
        let check =
            |text: &str, expect: Result<&[&str], (&str, Range<usize>)>| match (Path::parse(text), expect) {
                (Ok(path), Ok(parts)) => assert_eq!(path.parts(), parts, "{text}"),
                (Err(error), Err((message, span))) => {
                    assert!(error.message.contains(message), "{text}: {error}");
                    assert_eq!(error.span, span, "{text}: {error}");
                }
                (got, expect) => panic!("{text}: {got:?}, expected {expect:?}"),
            };
        check("body.a", Ok(&["body", "a"]));
        check(r#"headers."sent-at""#, Ok(&["headers", "sent-at"]));
        check(r#"body."a.b".c"#, Ok(&["body", "a.b", "c"]));
        check(r#"body."a\"b\\""#, Ok(&["body", r#"a"b\"#]));
        check("body.größe", Ok(&["body", "größe"]));
        check("", Err(("must not be empty", 0..0)));
        check("body..a", Err(("between two dots", 5..5)));
        check("body.", Err(("between two dots", 5..5)));
        check("headers.sent-at", Err(("`-` cannot stand", 12..13)));
        check(r#"body."a"b"#, Err(("expected `.`", 8..9)));
        check(r#"body."a"#, Err(("not closed", 5..7)));
        check(r#"body."a\n""#, Err(("escapes", 7..8)));
        check(&vec!["a"; PATH_PARTS_MAX + 1].join("."), Err(("at most 32 parts", 0..65)));
        assert_eq!(
            Path::parse("headers.sent-at").unwrap_err().help.unwrap(),
            r#"quote the part: headers."sent-at""#
        );
    }

    #[test]
    fn paths_lead_through_arrays() {
        let body = json!({"a": [{"b": 1}, {"c": 2}, [{"b": [3, 4]}]], "n": null, "e": [], "a.b": {"x": 5}});
        let check = |path: &str, expect: &[Value]| {
            let path = Path::parse(path).unwrap();
            let found = path.find(Subject::Value(&body));
            let found: Vec<Value> = found.as_slice().iter().map(|value| (*value).clone()).collect();
            assert_eq!(found, expect, "{path}");
        };
        check("a.b", &[json!(1), json!([3, 4])]);
        check("a.c", &[json!(2)]);
        check("a.d", &[]);
        check("n", &[json!(null)]);
        check("n.x", &[]);
        check("e", &[json!([])]);
        check("e.x", &[]);
        check(r#""a.b".x"#, &[json!(5)]);
    }

    #[test]
    fn events_have_four_roots() {
        let (topic, source, body) = (json!("a.b"), json!("bus"), json!({"x": 1}));
        let Value::Object(headers) = json!({"sent-at": "now"}) else { unreachable!() };
        let event = Subject::Event { topic: &topic, source: &source, headers: &headers, body: &body };
        for (path, expect) in [
            ("topic", Some(json!("a.b"))),
            ("source", Some(json!("bus"))),
            ("headers.\"sent-at\"", Some(json!("now"))),
            ("body.x", Some(json!(1))),
            ("body", Some(json!({"x": 1}))),
            ("x", None),
            ("topic.a", None),
        ] {
            let path = Path::parse(path).unwrap();
            assert_eq!(path.find(event).as_slice().first().copied().cloned(), expect, "{path}");
        }
    }
}
