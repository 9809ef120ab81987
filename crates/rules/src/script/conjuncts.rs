//! What a script asks of the event: the fields that it reads, and conjuncts that clauses can say.
//!
//! The only reader of Rhai's syntax tree beside the checks: the tree is marked volatile upstream, and the
//! version of Rhai is pinned.

use super::{Script, value};
use crate::path::path_text;
use rhai::{ASTNode, Expr, FnCallExpr, Stmt};
use serde_json::{Value, json};

/// A conjunct of an `if` as a clause of `when`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) path: String,
    pub(crate) wanted: Value,
}

/// The conjuncts that a `when` could say: comparisons of one field of the event with something written out.
pub(crate) fn proposals(script: &Script) -> Vec<Proposal> {
    let mut found = Vec::new();
    match script.ast.statements() {
        [Stmt::Expr(expr)] => conjuncts(expr, &mut found),
        [Stmt::FnCall(call, _)] => found.extend(of_call(call)),
        _ => {}
    }
    found
}

/// The fields of the event that a script reads, as paths; those behind an index that is computed are cut there.
pub(crate) fn event_paths(script: &Script) -> Vec<String> {
    let mut found = Vec::new();
    script.ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(expr)) = path.last()
            && let Some(chain) = of_event(expr)
        {
            let mut parts = Vec::new();
            let _ = follow(chain, &mut parts);
            if parts.len() > 1 {
                found.push(path_text(&parts));
            }
        }
        true
    });
    found.sort();
    found.dedup();
    found
}

fn conjuncts(expr: &Expr, into: &mut Vec<Proposal>) {
    match expr {
        Expr::And(parts, _) => parts.iter().for_each(|part| conjuncts(part, into)),
        Expr::FnCall(call, _) => into.extend(of_call(call)),
        Expr::Dot(..) => into.extend(of_chain(expr)),
        _ => {}
    }
}

/// `event.body.x.starts_with("a")`, or a field alone.
fn of_chain(expr: &Expr) -> Option<Proposal> {
    let mut parts = Vec::new();
    let call = follow(of_event(expr)?, &mut parts)?;
    let path = path_of(&parts)?;
    let Some(call) = call else { return Some(Proposal { path, wanted: true.into() }) };
    let [argument] = call.args.as_slice() else { return None };
    let text = literal(argument).filter(Value::is_string)?;
    let wanted = match call.name.as_str() {
        "starts_with" => json!({"prefix": text}),
        "ends_with" => json!({"suffix": text}),
        "contains" => json!({"contains": text}),
        _ => return None,
    };
    Some(Proposal { path, wanted })
}

fn of_call(call: &FnCallExpr) -> Option<Proposal> {
    let [left, right] = call.args.as_slice() else { return None };
    if call.name == "contains" {
        // `field in [a, b]`
        let wanted = literal(left).filter(Value::is_array)?;
        return Some(Proposal { path: field(right)?, wanted });
    }
    let (path, wanted, turned) = match (field(left), field(right)) {
        (Some(path), None) => (path, literal(right)?, false),
        (None, Some(path)) => (path, literal(left)?, true),
        _ => return None,
    };
    let number = |relation: &str| wanted.is_number().then(|| json!({relation: wanted}));
    let scalar = || (!wanted.is_array() && !wanted.is_object()).then(|| wanted.clone());
    let wanted = match (call.name.as_str(), turned) {
        ("==", _) => scalar()?,
        ("!=", _) => json!({"not": scalar()?}),
        (">", false) | ("<", true) => number("gt")?,
        (">=", false) | ("<=", true) => number("gte")?,
        ("<", false) | (">", true) => number("lt")?,
        ("<=", false) | (">=", true) => number("lte")?,
        ("glob", false) if wanted.is_string() => json!({"glob": wanted}),
        ("regex", false) if wanted.is_string() => json!({"regex": wanted}),
        _ => return None,
    };
    Some(Proposal { path, wanted })
}

fn literal(expr: &Expr) -> Option<Value> {
    value::to_json(&expr.get_literal_value(None)?).ok()
}

/// The path of a field of the event, and of nothing else.
fn field(expr: &Expr) -> Option<String> {
    let mut parts = Vec::new();
    let call = follow(of_event(expr)?, &mut parts)?;
    if call.is_some() { None } else { path_of(&parts) }
}

fn path_of(parts: &[String]) -> Option<String> {
    let (root, rest) = parts.split_first()?;
    let whole = matches!(root.as_str(), "topic" | "source") && rest.is_empty();
    let inner = matches!(root.as_str(), "body" | "headers") && !rest.is_empty();
    (whole || inner).then(|| path_text(parts))
}

/// What follows `event.`
fn of_event(expr: &Expr) -> Option<&Expr> {
    let Expr::Dot(chain, ..) = expr else { return None };
    match &chain.lhs {
        Expr::Variable(variable, ..) if variable.1 == "event" => Some(&chain.rhs),
        _ => None,
    }
}

/// Collects the names of a chain; gives the call that it ends with, and nothing where it goes on otherwise.
fn follow<'a>(expr: &'a Expr, parts: &mut Vec<String>) -> Option<Option<&'a FnCallExpr>> {
    match expr {
        Expr::Property(property, _) => parts.push(property.2.to_string()),
        Expr::StringConstant(name, _) => parts.push(name.to_string()),
        Expr::MethodCall(call, _) => return Some(Some(call)),
        Expr::Dot(chain, ..) | Expr::Index(chain, ..) => {
            if follow(&chain.lhs, parts)?.is_some() {
                return None;
            }
            return follow(&chain.rhs, parts);
        }
        _ => return None,
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Engine;
    use std::sync::Arc;

    fn script(source: &str) -> Script {
        Engine::new(Arc::default()).compile(source).unwrap()
    }

    #[test]
    fn conjuncts_become_clauses() {
        let check = |source: &str, expect: &[(&str, Value)]| {
            let found: Vec<_> =
                proposals(&script(source)).into_iter().map(|one| (one.path, one.wanted)).collect();
            let expect: Vec<_> =
                expect.iter().map(|(path, wanted)| ((*path).to_owned(), wanted.clone())).collect();
            assert_eq!(found, expect, "{source}");
        };
        check("event.body.new == 1", &[("body.new", json!(1))]);
        check(
            "\"x\" == event.body.a.b && event.topic != \"t\"",
            &[("body.a.b", json!("x")), ("topic", json!({"not": "t"}))],
        );
        check("event?.body?.a?.b == 1", &[("body.a.b", json!(1))]);
        check(
            "event.body.n >= 2 && 5 > event.body.n",
            &[("body.n", json!({"gte": 2})), ("body.n", json!({"lt": 5}))],
        );
        check("event.body.x in [\"a\", \"b\"]", &[("body.x", json!(["a", "b"]))]);
        check("event.body.x.starts_with(\"a\")", &[("body.x", json!({"prefix": "a"}))]);
        check("event.headers[\"sent-at\"] == \"x\"", &[("headers.\"sent-at\"", json!("x"))]);
        check("event.body[\"a b\"].c.ends_with(\"y\")", &[("body.\"a b\".c", json!({"suffix": "y"}))]);
        check(
            "glob(event.body.x, \"a*\") && event.body.critpath",
            &[("body.x", json!({"glob": "a*"})), ("body.critpath", json!(true))],
        );
        check("event.body.a == 1 || event.body.b == 2", &[]);
        check("event.body.a == event.body.b", &[]);
        check("event.body.a[0] == 1", &[]);
        check(
            "nvr(event.body.nvr).name == \"x\" && event.body.a == 1 && (event.body.b == 1 || true)",
            &[("body.a", json!(1))],
        );
        check("event.body.list.len() > 3", &[]);
        check("event.body.list.some(|x| x == 1)", &[]);
    }

    #[test]
    fn fields_that_are_read() {
        let check =
            |source: &str, expect: &[&str]| assert_eq!(event_paths(&script(source)), expect, "{source}");
        check("event.body.a.b == 1 || event.headers.x", &["body.a.b", "headers.x"]);
        check("event.body.builds.map(|b| b.nvr).len() > event.body.list[0].x", &["body.builds", "body.list"]);
        check("event.topic == \"x\"", &[]);
    }
}
