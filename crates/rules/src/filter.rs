//! Filters for lists and tails: the clauses of `when` in one line.
//!
//! Two forms, told apart by the first character:
//!
//! - a YAML mapping, exactly what stands under `when`: `{body.update.release.name: [F42, F43], topic: {prefix:
//!   org.fedora}}`;
//! - terms between blanks, all of which must hold:
//!
//! | term | holds when the value |
//! |---|---|
//! | `path` | is there |
//! | `!path` | is not there |
//! | `path=value`, `path=a,b` | is it, is any of them |
//! | `path!=value`, `path!=a,b` | is not it, is none of them (or is not there) |
//! | `path^=text`, `path$=text`, `path*=text` | begins with it, ends with it, contains it (lists too) |
//! | `path~=regex` | has a match of the regular expression |
//! | `path>1`, `path>=1`, `path<1`, `path<=1` | is a number in that relation |
//!
//! A value that reads as a JSON number, `true`, `false` or `null` is that, anything else is a text; quotes
//! make it a text, too: `"…"` with JSON's escapes, `'…'` as it stands.
//!
//! Paths start with the fields of what is listed: `topic`, `source`, `headers`, `body` of events; `name`,
//! `state.state`, `queue` and so on of tasks.

use crate::{
    path::{Path, Subject},
    predicate::{self, Block, Clause, Predicate, Quantity, Relation, Roots, Test},
};
use chrono::{DateTime, Utc};
use model::{diagnostic::Report, yaml::Reader};
use serde_json::{Number, Value};
use std::{fmt, ops::Range};

/// The longest filter in bytes.
pub const FILTER_BYTES_MAX: usize = 16 * 1024;

/// The name under which mistakes in a filter are reported.
pub const FILTER_FILE: &str = "where";

/// A filter over JSON objects.
#[derive(Debug, Clone)]
pub struct Filter {
    text: String,
    clauses: Block,
}

impl Filter {
    /// Reads a filter in either form.
    ///
    /// # Errors
    /// What is wrong, each with its place in the text.
    pub fn parse(text: &str) -> Result<Self, Report> {
        let reader = Reader::new(FILTER_FILE, text);
        let mut clauses = Vec::new();
        if text.len() > FILTER_BYTES_MAX {
            let message =
                format!("a filter has at most {FILTER_BYTES_MAX} bytes, this one has {}", text.len());
            reader.error(&(0..0), message);
        } else if text.trim().is_empty() {
            reader.error_help(
                &(0..text.len()),
                "the filter asks nothing",
                "write a term such as body.user=alice",
            );
        } else if text.trim_start().starts_with('{') {
            if let Some(node) = reader.parse() {
                clauses = predicate::read_block(&reader, &node, "a filter", Roots::Free);
            }
        } else if let Some(key) = words(text).into_iter().find(|word| text[word.clone()].ends_with(':')) {
            let help = format!("write {{{}}}, or a term such as body.user=alice", text.trim());
            reader.error_help(&key, "a mapping stands in braces", help);
        } else {
            clauses = terms(text, &reader);
        }
        if reader.failed() {
            return Err(reader.into_report());
        }
        Ok(Self { text: text.to_owned(), clauses })
    }

    /// What its paths start with.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        self.clauses.iter().map(|clause| clause.path.root())
    }

    /// The paths of its clauses.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.clauses.iter().map(|clause| &clause.path)
    }

    /// Whether the object passes; `now` is the time that ages count from.
    #[must_use]
    pub fn matches(&self, object: &Value, now: DateTime<Utc>) -> bool {
        predicate::block_holds(&self.clauses, Subject::Value(object), now)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The operators, the longer ones first.
const OPERATORS: [&str; 10] = ["!=", "^=", "$=", "*=", "~=", ">=", "<=", "=", ">", "<"];

/// Reads the terms; mistakes are noted in the reader.
fn terms(text: &str, reader: &Reader) -> Block {
    words(text)
        .into_iter()
        .filter_map(|word| match term(&text[word.clone()], word.start) {
            Ok(clause) => Some(clause),
            Err(mistake) => {
                match mistake.help {
                    Some(help) => reader.error_help(&mistake.span, mistake.message, help),
                    None => reader.error(&mistake.span, mistake.message),
                }
                None
            }
        })
        .collect()
}

/// What is wrong with a term; the span counts from the filter's beginning.
struct Mistake {
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

impl Mistake {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }
}

/// The words between blanks; quotes keep blanks together.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c.is_whitespace() => words.extend(start.take().map(|start| start..at)),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                start = start.or(Some(at));
            }
            None => start = start.or(Some(at)),
        }
    }
    words.extend(start.map(|start| start..text.len()));
    words
}

fn term(word: &str, offset: usize) -> Result<Clause, Mistake> {
    if let Some(operator) = OPERATORS.into_iter().find(|operator| word.starts_with(operator)) {
        let mut mistake =
            Mistake::new(offset..offset + operator.len(), format!("there is no path before `{operator}`"));
        mistake.help = Some("leave no blanks around the operator".to_owned());
        return Err(mistake);
    }
    let absent = word.starts_with('!');
    let from = usize::from(absent);
    let end = from + path_len(&word[from..]);
    let path = Path::parse(&word[from..end]).map_err(|error| Mistake {
        span: offset + from + error.span.start..offset + from + error.span.end,
        message: error.message,
        help: error.help,
    })?;
    let rest = &word[end..];
    let at = offset + end;
    let span = at..offset + word.len();
    if rest.is_empty() {
        return Ok(Clause { path, predicate: Predicate { exists: Some(!absent), ..Predicate::default() } });
    }
    let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) else {
        let message = format!("expected one of {} after the path", OPERATORS.join(" "));
        return Err(Mistake::new(span, message));
    };
    if absent {
        let mut mistake = Mistake::new(offset..offset + 1, "`!` before a path asks that it is not there");
        mistake.help = Some(format!("write {path}!=value"));
        return Err(mistake);
    }
    let value = &rest[operator.len()..];
    let span = at + operator.len()..offset + word.len();
    if value.is_empty() {
        let mut mistake =
            Mistake::new(at..offset + word.len(), format!("there is no value after `{operator}`"));
        mistake.help = Some("write \"\" for an empty text; leave no blanks around the operator".to_owned());
        return Err(mistake);
    }
    predicate_of(operator, value, span).map(|predicate| Clause { path, predicate })
}

/// How long the path at the beginning is: up to an operator outside of quotes.
fn path_len(text: &str) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '=' | '!' | '^' | '$' | '*' | '~' | '<' | '>' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

fn predicate_of(operator: &str, text: &str, span: Range<usize>) -> Result<Predicate, Mistake> {
    let test = |test: Test| Ok(Predicate { tests: vec![test], ..Predicate::default() });
    let relation = |relation: Relation| match scalar(text, &span)? {
        Value::Number(number) => test(Test::Number(relation, number)),
        other => Err(Mistake::new(span.clone(), format!("`{operator}` compares numbers, {other} is none"))),
    };
    match operator {
        "=" => test(any_of(text, &span)?),
        "!=" => {
            let negated = Predicate { tests: vec![any_of(text, &span)?], ..Predicate::default() };
            Ok(Predicate { negated: vec![negated], ..Predicate::default() })
        }
        "^=" => test(Test::Prefix(texts(text, &span)?)),
        "$=" => test(Test::Suffix(texts(text, &span)?)),
        "*=" => test(Test::Contains(Quantity::Any, alternatives(values(text, &span)?))),
        "~=" => {
            // A comma belongs to the expression.
            let pattern =
                if text.starts_with(['"', '\'']) { as_text(scalar(text, &span)?) } else { text.to_owned() };
            let regex = predicate::regex(&pattern).map_err(|why| Mistake::new(span.clone(), why))?;
            test(Test::Regex(vec![regex]))
        }
        ">" => relation(Relation::Gt),
        ">=" => relation(Relation::Gte),
        "<" => relation(Relation::Lt),
        _ => relation(Relation::Lte),
    }
}

fn any_of(text: &str, span: &Range<usize>) -> Result<Test, Mistake> {
    let mut values = values(text, span)?;
    Ok(match values.len() {
        1 => Test::Equals(values.remove(0)),
        _ => Test::AnyOf(alternatives(values)),
    })
}

fn alternatives(values: Vec<Value>) -> Vec<Predicate> {
    let one = |value| Predicate { tests: vec![Test::Equals(value)], ..Predicate::default() };
    values.into_iter().map(one).collect()
}

fn texts(text: &str, span: &Range<usize>) -> Result<Vec<String>, Mistake> {
    Ok(values(text, span)?.into_iter().map(as_text).collect())
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The values between commas outside of quotes.
fn values(text: &str, span: &Range<usize>) -> Result<Vec<Value>, Mistake> {
    let mut values = Vec::new();
    let mut start = 0;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ',' => {
                values.push(scalar(&text[start..at], &(span.start + start..span.start + at))?);
                start = at + 1;
            }
            _ => {}
        }
    }
    values.push(scalar(&text[start..], &(span.start + start..span.end))?);
    Ok(values)
}

/// A JSON number, `true`, `false`, `null`, a quoted text, or any other text as it stands.
fn scalar(text: &str, span: &Range<usize>) -> Result<Value, Mistake> {
    if text.is_empty() {
        return Err(Mistake::new(span.clone(), "a value between two commas is missing"));
    }
    if let Some(text) = text.strip_prefix('\'') {
        return match text.strip_suffix('\'') {
            Some(inner) if !inner.contains('\'') => Ok(inner.into()),
            _ => Err(Mistake::new(span.clone(), "the quoted text is not closed, or something follows it")),
        };
    }
    if text.starts_with('"') {
        let text = serde_json::from_str::<String>(text);
        return text.map(Value::String).map_err(|_| {
            let mut mistake =
                Mistake::new(span.clone(), "the quoted text is not closed, or has a wrong escape");
            mistake.help = Some("single quotes take the text as it stands".to_owned());
            mistake
        });
    }
    Ok(match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" => Value::Null,
        text => match text.parse::<Number>() {
            Ok(number) => Value::Number(number),
            Err(_) => text.into(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Value {
        json!({
            "topic": "org.fedoraproject.prod.bodhi.update.request.testing",
            "source": "fedora",
            "headers": {"sent-at": "2026-11-01T10:00:00Z"},
            "body": {
                "new": 1,
                "owner": "alice",
                "note": "a, b and \"c\"",
                "id": "1",
                "empty": "",
                "none": null,
                "tags": ["f42", "critpath"],
                "update": {"release": {"name": "F42"}, "builds": [{"nvr": "a-1-1"}, {"nvr": "b-2-1"}]},
            },
        })
    }

    #[test]
    fn filters_pass_and_hold_back() {
        let now = "2026-11-01T12:00:00Z".parse().unwrap();
        for (filter, expect) in [
            ("{body.update.release.name: [F42, F43], topic: {prefix: org.fedora}}", true),
            ("{body.update.release.name: F43}", false),
            ("{headers.\"sent-at\": {age: {lt: 3h}}}", true),
            ("  {body.new: {not: 1}}", false),
            ("body.update.release.name=F42", true),
            ("body.update.release.name=F41,F42", true),
            ("body.update.release.name=F41,F43", false),
            ("body.update.release.name!=F41,F43", true),
            ("body.new=1", true),
            ("body.new=1.0", true),
            ("body.new=\"1\"", false),
            ("body.new=2,true,1", true),
            ("body.id=1", false),
            ("body.id='1'", true),
            ("body.new!=1", false),
            ("body.nope!=1", true),
            ("body.nope=1", false),
            ("body.none=null", true),
            ("body.empty=\"\"", true),
            ("topic^=org.fedora", true),
            ("topic^=com,org", true),
            ("topic$=.testing", true),
            ("topic$=.stable", false),
            ("body.tags*=critpath", true),
            ("body.tags*=crit", false),
            ("topic*=bodhi", true),
            ("body.owner~=^al.{2,3}$", true),
            ("body.owner~='^b'", false),
            ("body.new>0 body.new<=1", true),
            ("body.new>=1.5", false),
            ("body.update.builds.nvr^=b-", true),
            ("body.owner", true),
            ("body.nope", false),
            ("!body.nope", true),
            ("!body.owner", false),
            ("headers.\"sent-at\"^=2026-11", true),
            ("body.note='a, b and \"c\"'", true),
            (r#"body.note="a, b and \"c\"""#, true),
            ("body.owner=alice   body.new=1", true),
            ("body.owner=alice body.new=2", false),
        ] {
            let parsed = Filter::parse(filter).unwrap_or_else(|report| panic!("{filter}: {report}"));
            assert_eq!(parsed.matches(&event(), now), expect, "{filter}");
            assert_eq!(parsed.to_string(), filter);
        }
    }

    #[test]
    fn fields_of_any_object_can_be_asked_for() {
        let task =
            json!({"name": "rpmlint", "state": {"state": "finished", "outcome": "passed"}, "attempts": 2});
        for (filter, expect) in [
            ("name=rpmlint state.state=finished attempts>1", true),
            ("{state.outcome: {not: passed}}", false),
        ] {
            assert_eq!(
                Filter::parse(filter).unwrap().matches(&task, DateTime::UNIX_EPOCH),
                expect,
                "{filter}"
            );
        }
    }

    #[test]
    fn mistakes_are_marked() {
        let found: Vec<String> = [
            "",
            "body.owner=",
            "body.owner = alice",
            "=alice",
            "body..x=1",
            "body.sent-at=1",
            "!body.x=1",
            "body.x>many",
            "body.x~=(",
            "body.x=\"a",
            "body.x='a",
            "body.x=a,,b",
            "body.x=1 body.y^",
            "body.x: true",
            "{body.x: {prefx: a}}",
            "{body.x: 3.10}",
            "{body.x: [}",
        ]
        .into_iter()
        .map(|filter| format!("{filter} => {}", Filter::parse(filter).unwrap_err()))
        .collect();
        insta::assert_snapshot!(found.join("\n"), @r#"
         => where:1:1: error: the filter asks nothing (write a term such as body.user=alice)
        body.owner= => where:1:11: error: there is no value after `=` (write "" for an empty text; leave no blanks around the operator)
        body.owner = alice => where:1:12: error: there is no path before `=` (leave no blanks around the operator)
        =alice => where:1:1: error: there is no path before `=` (leave no blanks around the operator)
        body..x=1 => where:1:6: error: a part of a path between two dots must not be empty
        body.sent-at=1 => where:1:10: error: `-` cannot stand in a path without quotes (quote the part: body."sent-at")
        !body.x=1 => where:1:1: error: `!` before a path asks that it is not there (write body.x!=value)
        body.x>many => where:1:8: error: `>` compares numbers, "many" is none
        body.x~=( => where:1:9: error: `(` is no regular expression: unclosed group
        body.x="a => where:1:8: error: the quoted text is not closed, or has a wrong escape (single quotes take the text as it stands)
        body.x='a => where:1:8: error: the quoted text is not closed, or something follows it
        body.x=a,,b => where:1:10: error: a value between two commas is missing
        body.x=1 body.y^ => where:1:16: error: expected one of != ^= $= *= ~= >= <= = > < after the path
        body.x: true => where:1:1: error: a mapping stands in braces (write {body.x: true}, or a term such as body.user=alice)
        {body.x: {prefx: a}} => where:1:11: error: there is no predicate `prefx` (did you mean `prefix`?)
        {body.x: 3.10} => where:1:10: error: YAML reads `3.10` as the number 3.1 (quote it: "3.10")
        {body.x: [} => where:1:10: error: mismatched bracket '[' closed by '}'
        "#);
        let long = format!("body.x={}", "a".repeat(FILTER_BYTES_MAX));
        assert!(Filter::parse(&long).unwrap_err().to_string().contains("at most 16384 bytes"));
    }
}
