//! What can be known of a script without running it.

use super::{
    EVENT_FIELDS,
    error::{self, ErrorKind, ScriptError, other_word, span_at},
    functions::{FUNCTIONS, documentation},
    patterns,
};
use crate::facts::Facts;
use model::diagnostic::nearest;
use rhai::{AST, ASTNode, Expr, FnCallExpr, ParseError, ParseErrorType, Position, Stmt};
use std::collections::BTreeSet;

/// An error of the parser; knows which variables there would be.
pub(super) fn of_parser(source: &str, error: &ParseError, variables: &[&str]) -> ScriptError {
    let out = error::of_parser(source, error);
    let ParseErrorType::VariableUndefined(name) = error.err_type() else { return out };
    if let Some(help) = other_word(name) {
        return out.help(help);
    }
    if let Some(help) = dashed(source, out.span.start) {
        return out.help(help);
    }
    if EVENT_FIELDS.contains(&name.as_str()) {
        return out.help(format!("write `event.{name}`"));
    }
    let known = || std::iter::once("event").chain(variables.iter().copied());
    match nearest(name, known()) {
        Some(near) => out.help(format!("did you mean `{near}`?")),
        None if documentation(name).is_some() => out.help(format!("`{name}` is a function: `{name}(…)`")),
        None => {
            let list: Vec<_> = known().map(|name| format!("`{name}`")).collect();
            out.help(format!("there is {}; texts stand in double quotes", list.join(", ")))
        }
    }
}

/// `event.headers.sent-at` is a subtraction.
fn dashed(source: &str, at: usize) -> Option<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let before = source.get(..at)?;
    let start = before.rfind(|c: char| !is_word(c)).map_or(0, |at| at + 1);
    let end = at + source.get(at..)?.find(|c: char| !is_word(c)).unwrap_or(source.len() - at);
    let (owner, name) =
        (before.get(..start)?.trim_end_matches('.').trim_end_matches('?'), source.get(start..end)?);
    let is_field = before.ends_with('-') && owner.len() < start;
    is_field.then(|| format!("a field with `-` in its name is written [\"{name}\"]"))
}

/// Checks calls, fields of `event`, tables and patterns, and lists the variables that are read.
pub(super) fn check(source: &str, ast: &AST, facts: &Facts) -> Result<Vec<String>, ScriptError> {
    let mut variables = BTreeSet::new();
    for statement in ast.statements() {
        // What a closure reads from outside stands here too, as what is passed into it.
        statement.walk(&mut Vec::new(), &mut |path| {
            if let Some(ASTNode::Expr(Expr::Variable(variable, ..))) = path.last() {
                variables.insert(variable.1.to_string());
            }
            true
        });
    }
    let mut found = None;
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Expr(expr)) => found = check_expr(source, expr, facts).err(),
            // A call that is the whole script is a statement to the parser.
            Some(ASTNode::Stmt(Stmt::FnCall(call, position))) if !call.is_operator_call() => {
                found = check_function(source, call, *position, facts).err();
            }
            _ => {}
        }
        found.is_none()
    });
    found.map_or_else(|| Ok(variables.into_iter().collect()), Err)
}

fn check_expr(source: &str, expr: &Expr, facts: &Facts) -> Result<(), ScriptError> {
    match expr {
        Expr::FnCall(call, position) if !call.is_operator_call() => {
            check_function(source, call, *position, facts)
        }
        Expr::MethodCall(call, position) => check_call(source, call, 1, *position),
        Expr::Dot(chain, ..) => match (&chain.lhs, event_field(&chain.rhs)) {
            (Expr::Variable(variable, ..), Some((field, position))) if variable.1 == "event" => {
                check_event_field(source, field, position)
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn check_function(
    source: &str,
    call: &FnCallExpr,
    position: Position,
    facts: &Facts,
) -> Result<(), ScriptError> {
    check_call(source, call, 0, position)?;
    check_constants(source, call, facts)
}

/// The first field of a chain.
fn event_field(rest: &Expr) -> Option<(&str, Position)> {
    match rest {
        Expr::Property(property, position) => Some((property.2.as_str(), *position)),
        Expr::Dot(chain, ..) | Expr::Index(chain, ..) => event_field(&chain.lhs),
        _ => None,
    }
}

fn check_event_field(source: &str, field: &str, position: Position) -> Result<(), ScriptError> {
    if EVENT_FIELDS.contains(&field) {
        return Ok(());
    }
    let error = ScriptError::new(
        ErrorKind::Parse,
        span_at(source, position),
        format!("`event` has no field `{field}`"),
    );
    Err(match nearest(field, EVENT_FIELDS) {
        Some(near) => error.help(format!("did you mean `event.{near}`?")),
        None => error.help(format!("it has topic, source, headers and body: `event.body.{field}`?")),
    })
}

/// Operators are calls, too, and so is what the parser makes of closures that read outer variables.
fn is_made_by_parser(name: &str) -> bool {
    name == "curry" || !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// `before` is how many arguments stand before the dot.
fn check_call(source: &str, call: &FnCallExpr, before: usize, position: Position) -> Result<(), ScriptError> {
    let (name, given) = (call.name.as_str(), call.args.len() + before);
    let span = span_at(source, position);
    if is_made_by_parser(name) {
        return Ok(());
    }
    let Some(function) = documentation(name) else {
        let error = ScriptError::new(ErrorKind::Parse, span, format!("there is no function `{name}`"));
        return Err(match nearest(name, FUNCTIONS.iter().map(|function| function.name)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("the functions are listed in the documentation of rules"),
        });
    };
    if function.arguments.contains(&given) {
        return Ok(());
    }
    let wanted: Vec<_> = function.arguments.iter().map(usize::to_string).collect();
    let plural = if wanted == ["1"] { "" } else { "s" };
    let counted = if before > 0 { ", what stands before the dot counted" } else { "" };
    let message =
        format!("`{name}` takes {} argument{plural}, here are {given}{counted}", wanted.join(" or "));
    Err(ScriptError::new(ErrorKind::Parse, span, message).help(format!("it is {}", function.signature)))
}

/// Tables and patterns that are written out.
fn check_constants(source: &str, call: &FnCallExpr, facts: &Facts) -> Result<(), ScriptError> {
    let text = |at: usize| match call.args.get(at) {
        Some(Expr::StringConstant(text, position)) => Some((text.as_str(), *position)),
        _ => None,
    };
    let error = |position, message| ScriptError::new(ErrorKind::Parse, span_at(source, position), message);
    match call.name.as_str() {
        "fact" => {
            let Some((table, position)) = text(0).filter(|(table, _)| !facts.has(table)) else {
                return Ok(());
            };
            let error = error(position, format!("there is no table `{table}`"));
            Err(error.help(facts.advice(table)))
        }
        "regex" => text(1).map_or(Ok(()), |(pattern, position)| {
            patterns::regex(pattern).map(drop).map_err(|why| error(position, why))
        }),
        "glob" => text(1).map_or(Ok(()), |(pattern, position)| {
            patterns::glob(pattern).map(drop).map_err(|why| error(position, why))
        }),
        _ => Ok(()),
    }
}
