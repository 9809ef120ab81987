//! Texts with `${…}`, each of which is a script.

use crate::script::{Engine, ErrorKind, Scope, Script, ScriptError, reset_tokens, span_at};
use rhai::Token;
use serde_json::Value;
use std::ops::Range;

/// The longest text that a template gives, in bytes.
pub const RENDERED_BYTES_MAX: usize = 64 * 1024;
/// The most `${…}` of a template.
pub const HOLES_MAX: usize = 64;

/// A text with `${expression}` in it; `$${` stands for `${` itself.
#[derive(Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Hole { script: Script, span: Range<usize> },
}

/// A part of the text, before its script is compiled.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(String),
    /// Where the source stands in the text.
    Hole(&'t str, usize),
}

impl Template {
    /// Splits the text and compiles its scripts, which see `event` and these variables.
    ///
    /// # Errors
    /// The first mistake; its place is in the text.
    pub fn parse(engine: &Engine, text: &str, variables: &[&str]) -> Result<Self, ScriptError> {
        let mut parts = Vec::new();
        for piece in split(engine, text)? {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text),
                Piece::Hole(source, at) => {
                    let script = engine.compile_with(source, variables).map_err(|error| error.shifted(at))?;
                    Part::Hole { script, span: at..at + source.len() }
                }
            });
        }
        let holes = parts.iter().filter(|part| matches!(part, Part::Hole { .. })).count();
        if holes > HOLES_MAX {
            let message = format!("a text has at most {HOLES_MAX} `${{…}}`, this one has {holes}");
            return Err(ScriptError::new(ErrorKind::Parse, 0..text.len(), message));
        }
        Ok(Self { parts })
    }

    /// Whether it has no `${…}`.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The variables that its scripts read.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts
            .iter()
            .flat_map(|part| match part {
                Part::Text(_) => &[][..],
                Part::Hole { script, .. } => script.variables(),
            })
            .map(String::as_str)
    }

    /// Its scripts.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = &Script> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Hole { script, .. } => Some(script),
        })
    }

    /// The error of a script that reads nothing; its place is in the text.
    pub(crate) fn constant_error(&self, engine: &Engine, scope: &Scope<'_>) -> Option<ScriptError> {
        self.parts.iter().find_map(|part| match part {
            Part::Hole { script, span } if script.variables().is_empty() => {
                let value = script.eval(engine, scope).map_err(|error| error.shifted(span.start));
                match (value, self.parts.len()) {
                    (Ok(_), 1) => None,
                    (Ok(value), _) => text_of(value, script, span).err(),
                    (Err(error), _) => Some(error),
                }
            }
            _ => None,
        })
    }

    /// The value: what a sole `${…}` gives, whatever it is, and else a text.
    ///
    /// # Errors
    /// What a script erred with; in a text, also null, a list or an object. The place is in the text.
    pub fn render(&self, engine: &Engine, scope: &Scope) -> Result<Value, ScriptError> {
        if let [Part::Hole { script, span }] = self.parts.as_slice() {
            return script.eval(engine, scope).map_err(|error| error.shifted(span.start));
        }
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Hole { script, span } => {
                    let value = script.eval(engine, scope).map_err(|error| error.shifted(span.start))?;
                    out.push_str(&text_of(value, script, span)?);
                }
            }
            if out.len() > RENDERED_BYTES_MAX {
                let end = self.parts.iter().rev().find_map(|part| match part {
                    Part::Hole { span, .. } => Some(span.end),
                    Part::Text(_) => None,
                });
                let message = format!("the text grows beyond {RENDERED_BYTES_MAX} bytes");
                return Err(ScriptError::new(ErrorKind::TooLarge, 0..end.unwrap_or(0), message));
            }
        }
        Ok(Value::String(out))
    }
}

/// What a hole gives, inside of a text.
fn text_of(value: Value, script: &Script, span: &Range<usize>) -> Result<String, ScriptError> {
    let (kind, help) = match value {
        Value::String(text) => return Ok(text),
        Value::Bool(_) | Value::Number(_) => return Ok(value.to_string()),
        Value::Null => ("nothing", "a field is missing: give a default (`… ?? \"\"`)"),
        Value::Array(_) => ("a list", "make a text of it (`….join(\", \")`)"),
        Value::Object(_) => ("an object", "take one of its fields, or make a text of it (`….to_json()`)"),
    };
    let message = format!("`${{{}}}` gives {kind}, which is no text", script.source().trim());
    Err(ScriptError::new(ErrorKind::Runtime, span.clone(), message).help(help))
}

/// Splits a text at its holes. A hole ends at its own closing brace, as the tokenizer of scripts sees it:
/// braces in texts, comments, maps and closures do not count.
fn split<'t>(engine: &Engine, text: &'t str) -> Result<Vec<Piece<'t>>, ScriptError> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("${").map(|found| at + found) {
        if found > at && text[..found].ends_with('$') {
            plain.push_str(&text[at..found - 1]);
            plain.push_str("${");
            at = found + 2;
            continue;
        }
        plain.push_str(&text[at..found]);
        let start = found + 2;
        let Some(len) = hole_len(engine, &text[start..]) else {
            let message = "this `${` has no closing brace";
            let error = ScriptError::new(ErrorKind::Parse, found..start, message);
            return Err(error.help("a `${` that is meant as text is written `$${`"));
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Hole(&text[start..start + len], start));
        at = start + len + 1;
    }
    plain.push_str(&text[at..]);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// The bytes before the brace that closes a hole.
fn hole_len(engine: &Engine, rest: &str) -> Option<usize> {
    reset_tokens();
    let inputs = [rest];
    let (tokens, control) = engine.rhai().lex(&inputs);
    let mut depth = 0_usize;
    // The depths at which holes of back-tick texts end; what follows is text again.
    let mut texts = Vec::new();
    for (token, position) in tokens {
        match token {
            // Its opening brace comes as a token of its own.
            Token::InterpolatedString(_) => texts.push(depth + 1),
            Token::LeftBrace | Token::MapStart => depth += 1,
            Token::RightBrace if depth == 0 => return Some(span_at(rest, position).start),
            Token::RightBrace => {
                if texts.last() == Some(&depth) {
                    texts.pop();
                    control.borrow_mut().is_within_text = true;
                }
                depth -= 1;
            }
            Token::EOF => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
