//! What is wrong with a script, in words for people who write rules, and where.

use super::run::Refusal;
use rhai::{EvalAltResult, LexError, ParseError, ParseErrorType, Position};
use std::ops::Range;

/// A mistake in a script or template, found when compiling or when evaluating.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScriptError {
    /// What is wrong, in one sentence without a final stop.
    pub message: String,
    /// The bytes of the source that are meant.
    pub span: Range<usize>,
    /// How to mend it.
    pub help: Option<String>,
    /// What kind of mistake it is.
    pub kind: ErrorKind,
}

/// Kinds of mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It is no expression of the rule language; found when compiling.
    Parse,
    /// It met a value that it cannot work with.
    Runtime,
    /// It needs more operations than [`OPERATIONS_MAX`](super::limits::OPERATIONS_MAX).
    Operations,
    /// It makes something larger or deeper than it may.
    TooLarge,
    /// It took longer than [`TIME_MAX`](super::limits::TIME_MAX). Unlike all others this depends on the machine.
    Timeout,
}

impl ScriptError {
    pub(crate) fn new(kind: ErrorKind, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, help: None, kind }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same mistake in a text around the source, which starts at `offset` there.
    pub(crate) fn shifted(mut self, offset: usize) -> Self {
        self.span = self.span.start + offset..self.span.end + offset;
        self
    }
}

/// The bytes of the word, text or sign at a place.
pub(crate) fn span_at(source: &str, position: Position) -> Range<usize> {
    let (Some(line), Some(column)) = (position.line(), position.position()) else { return 0..source.len() };
    let line_start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = source.get(line_start..).unwrap_or_default();
    let in_line = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    let start = (line_start + in_line).min(source.len());
    start..start + token_len(&source[start..])
}

fn token_len(rest: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    match rest.chars().next() {
        None => 0,
        Some(quote @ ('"' | '`' | '\'')) => rest[1..].find(quote).map_or(1, |len| len + 2),
        Some(c) if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        Some('.') => rest.find(|c| c != '.' && !is_word(c)).unwrap_or(rest.len()),
        Some(c) if OPERATOR_SIGNS.contains(&c) => {
            rest.find(|c| !OPERATOR_SIGNS.contains(&c)).unwrap_or(rest.len())
        }
        Some(c) => c.len_utf8(),
    }
}

const OPERATOR_SIGNS: [char; 11] = ['=', '!', '<', '>', '&', '|', '?', '+', '-', '*', '/'];

/// Words of other languages, and what to write here.
const OTHER_WORDS: [(&str, &str); 14] = [
    ("and", "write `&&` for \"and\""),
    ("or", "write `||` for \"or\""),
    ("not", "write `!` for \"not\""),
    ("null", "a missing value is `()`"),
    ("nil", "a missing value is `()`"),
    ("None", "a missing value is `()`"),
    ("none", "a missing value is `()`"),
    ("undefined", "a missing value is `()`"),
    ("True", "write `true`"),
    ("False", "write `false`"),
    ("let", "only expressions are allowed, no variables"),
    ("for", "only expressions are allowed, no loops: use `.map(|x| …)`, `.filter(|x| …)`, `.some(|x| …)`"),
    ("while", "only expressions are allowed, no loops: use `.map(|x| …)`, `.filter(|x| …)`, `.some(|x| …)`"),
    ("return", "the value of the expression is what it gives: leave `return` away"),
];

/// Advice for a word of another language.
pub(super) fn other_word(word: &str) -> Option<&'static str> {
    OTHER_WORDS.iter().find(|(known, _)| *known == word).map(|(_, help)| *help)
}

/// An error of Rhai's parser.
pub(super) fn of_parser(source: &str, error: &ParseError) -> ScriptError {
    let span = span_at(source, error.position());
    let found = source.get(span.clone()).unwrap_or_default();
    let message = match error.err_type() {
        ParseErrorType::UnexpectedEOF => "the expression ends too early".to_owned(),
        ParseErrorType::BadInput(LexError::UnterminatedString) => "the text has no closing quote".to_owned(),
        ParseErrorType::BadInput(LexError::ImproperSymbol(_, why)) if !why.is_empty() => why.clone(),
        ParseErrorType::BadInput(LexError::UnexpectedInput(text)) => format!("`{text}` is not expected here"),
        ParseErrorType::Reserved(word) => format!("`{word}` is a reserved word"),
        ParseErrorType::MissingToken(token, what) => {
            let what = what.replace("this ", "the ");
            if found.is_empty() {
                format!("expected `{token}` {what}, the expression ends here")
            } else {
                format!("expected `{token}` {what}, found `{found}`")
            }
        }
        ParseErrorType::VariableUndefined(name) => format!("there is no variable `{name}`"),
        ParseErrorType::DuplicatedProperty(name) => format!("the key `{name}` stands here a second time"),
        ParseErrorType::PropertyExpected => "expected the name of a field".to_owned(),
        ParseErrorType::ExprTooDeep => "the expression is nested too deep".to_owned(),
        ParseErrorType::TooManyFunctions => "the expression has too many closures".to_owned(),
        ParseErrorType::LiteralTooLarge(what, max) => format!("{} is larger than {max}", what.to_lowercase()),
        other if found.is_empty() => format!("{other}, and the expression ends here"),
        other => format!("{other}, at `{found}`"),
    };
    let mut out = ScriptError::new(ErrorKind::Parse, span.clone(), message);
    out.help = other_word(found).map(str::to_owned).or_else(|| parse_help(source, &span));
    out
}

fn parse_help(source: &str, span: &Range<usize>) -> Option<String> {
    let (before, after) = (source.get(..span.start)?, source.get(span.start..)?);
    if &source[span.clone()] == "=" {
        return Some("compare with `==`".to_owned());
    }
    if after.starts_with(';') {
        return Some("one expression only, without `;`".to_owned());
    }
    // `x.if -1`: the sign is read as that of a number, since `if` cannot be subtracted from.
    if after.starts_with('-') && before.ends_with(' ') {
        return Some("put a space on both sides of `-`".to_owned());
    }
    None
}

/// An error while evaluating.
pub(super) fn of_evaluation(source: &str, error: EvalAltResult) -> ScriptError {
    use EvalAltResult as E;
    let position = error.position();
    let span = span_at(source, position);
    let make = |kind, message: String| ScriptError::new(kind, span.clone(), message);
    match error {
        // The inner place is nearer: closures stand in the same source.
        E::ErrorInFunctionCall(_, _, inner, _) if !inner.position().is_none() => {
            of_evaluation(source, *inner)
        }
        E::ErrorInFunctionCall(_, _, mut inner, _) => {
            inner.set_position(position);
            of_evaluation(source, *inner)
        }
        E::ErrorTooManyOperations(_) => Refusal::operations().at(span),
        E::ErrorStackOverflow(_) => make(ErrorKind::TooLarge, "the calls are nested too deep".to_owned()),
        E::ErrorTooManyVariables(_) => make(ErrorKind::TooLarge, "too many variables".to_owned()),
        E::ErrorDataTooLarge(what, _) => make(
            ErrorKind::TooLarge,
            format!("the script makes something too large: {}", what.to_lowercase()),
        ),
        E::ErrorRuntime(value, _) => match value.try_cast::<Refusal>() {
            Some(refusal) => refusal.at(span),
            None => make(ErrorKind::Runtime, "the script failed".to_owned()),
        },
        E::ErrorDotExpr(ref text, _) | E::ErrorIndexingType(ref text, _) => no_field(source, &span, text),
        E::ErrorFunctionNotFound(ref signature, _) => wrong_arguments(source, signature, &span),
        E::ErrorMismatchDataType(ref wanted, ref actual, _) => {
            let (wanted, actual) = (type_words(wanted), type_words(actual));
            let span = chain_around(source, &span);
            let make = |kind, message: String| ScriptError::new(kind, span.clone(), message);
            let mut out = make(ErrorKind::Runtime, format!("expected {wanted}, found {actual}"));
            if wanted == "a boolean" {
                out.help = Some("`&&`, `||`, `!` and `if` take true or false: compare the value, such as `… == true`, or give a default, such as `… ?? false`".to_owned());
            }
            out
        }
        E::ErrorArrayBounds(len, index, _) => {
            make(ErrorKind::Runtime, format!("the list has {len} elements, there is none at {index}"))
                .help("elements count from 0, from the end by -1; `.get(n)` gives () where there is none")
        }
        E::ErrorStringBounds(len, index, _) => {
            make(ErrorKind::Runtime, format!("the text has {len} characters, there is none at {index}"))
        }
        E::ErrorArithmetic(text, _) => make(ErrorKind::Runtime, text.to_lowercase()),
        mut other => {
            other.clear_position();
            make(ErrorKind::Runtime, other.to_string())
        }
    }
}

/// A field was asked of something that has none: mostly of a missing value.
fn no_field(source: &str, span: &Range<usize>, text: &str) -> ScriptError {
    let (parent, field) = parent_of(source, span);
    let on_nothing = text.contains("'()'") || text.contains("type ()") || text.starts_with("()");
    let kind = ErrorKind::Runtime;
    if on_nothing {
        let message = format!("`{parent}` is missing, so that it has no `{field}`");
        let help = match field.as_str() {
            field if field.starts_with('[') => format!("`{parent}?{field}` gives () then"),
            field => format!("`{parent}?.{field}` gives () then"),
        };
        return ScriptError::new(kind, span.clone(), message).help(help);
    }
    let of = text.rsplit_once("for type ").map_or(text, |(_, of)| of).trim_matches('\'');
    let of = type_words(of.split(" [").next().unwrap_or(of));
    ScriptError::new(kind, span.clone(), format!("`{parent}` is {of}, it has no `{field}`"))
}

/// The expression whose field stands at the place, and the field.
fn parent_of(source: &str, span: &Range<usize>) -> (String, String) {
    let rest = &source[span.start..];
    let before = source[..span.start].trim_end();
    let index = |at: usize| {
        let rest = &source[at..];
        rest.find(']').map_or(rest, |len| &rest[..=len]).to_owned()
    };
    let (end, field) = if rest.starts_with('[') {
        (span.start, index(span.start))
    } else if before.ends_with('[') {
        // The place is that of the index itself.
        (before.len() - 1, index(before.len() - 1))
    } else {
        let name = rest.trim_start_matches(['.', '?']).trim_start();
        (span.start, name[..token_len(name)].to_owned())
    };
    let before = source[..end].trim_end().trim_end_matches('.').trim_end_matches('?').trim_end();
    let parent = before[chain_start(before)..].trim_start_matches(['.', '?']);
    (if parent.is_empty() { "the value".to_owned() } else { parent.to_owned() }, field)
}

/// Where the chain of fields, indexes and calls begins with which a text ends.
fn chain_start(text: &str) -> usize {
    let mut start = text.len();
    let mut open = 0_usize;
    for (at, c) in text.char_indices().rev() {
        match c {
            ')' | ']' => open += 1,
            '(' | '[' if open == 0 => break,
            '(' | '[' => open -= 1,
            c if open == 0 && !(c.is_alphanumeric() || matches!(c, '_' | '.' | '?' | '"')) => break,
            _ => {}
        }
        start = at;
    }
    start
}

/// Rhai places a chain at one of its dots; this is all of it, as far as its calls and indexes.
fn chain_around(source: &str, span: &Range<usize>) -> Range<usize> {
    if !source[span.start..].starts_with(['.', '?', '[']) {
        return span.clone();
    }
    let is_field = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '?');
    let rest = &source[span.start..];
    let end = rest.find(|c| !is_field(c)).unwrap_or(rest.len());
    chain_start(&source[..span.start])..span.start + end
}

/// A function was called with values that it does not take.
fn wrong_arguments(source: &str, signature: &str, span: &Range<usize>) -> ScriptError {
    let Some((name, types)) = signature.split_once('(') else {
        return ScriptError::new(ErrorKind::Runtime, span.clone(), signature);
    };
    let is_operator = &source[span.clone()] == "in";
    let name = if is_operator { "in" } else { name.trim() };
    let types: Vec<_> =
        types.trim_end_matches(')').split(", ").filter(|name| !name.is_empty()).map(type_words).collect();
    // Types of nothing print as `()`, whose bracket the trimming took.
    let missing = types.contains(&"nothing (missing)");
    let listed = match types.as_slice() {
        [] => "nothing".to_owned(),
        types => types.join(" and "),
    };
    let message = format!("`{name}` does not work with {listed}");
    let out = ScriptError::new(ErrorKind::Runtime, span.clone(), message);
    if missing {
        return out
            .help("a field is missing: ask for it first (`… != () && …`) or give a default (`… ?? \"\"`)");
    }
    match super::functions::documentation(name) {
        Some(function) => out.help(format!("it is {}", function.signature)),
        None => out,
    }
}

/// Rhai's names of types, in words.
fn type_words(name: &str) -> &'static str {
    let name = name.trim().trim_start_matches("&mut ").trim_start_matches('&');
    match name {
        "()" | "(" => "nothing (missing)",
        "bool" => "a boolean",
        "i64" | "f64" | "u64" | "INT" => "a number",
        "char" => "a character",
        "array" => "a list",
        "map" => "a map",
        "Fn" => "a closure",
        name if name.contains("tring") || name.contains("str") => "a text",
        name if name.contains("ange") => "a range",
        _ => "a value",
    }
}
