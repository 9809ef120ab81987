//! Other engines on the same messages and rules: each is given the message's bytes and says which rules match.

use crate::{
    best, naive, number, print,
    workload::{Clause, Op, Rule, Workload},
};
use serde_json::{Value, json};
use std::{
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Judges one message; returns how many rules match.
type Judge = Box<dyn FnMut(&[u8]) -> usize>;

/// Compiles rules.
type Make = fn(&[Rule]) -> Judge;

/// Measures all of them; `index` is what an event costs by the index, in microseconds.
pub(crate) fn measure(workload: &Workload, rules: &[Rule], index: f64) {
    let lines: Vec<Vec<u8>> =
        workload.messages.iter().map(|message| message.to_string().into_bytes()).collect();
    // Rule by rule more events would take minutes.
    let some = (500_000 / rules.len()).clamp(50, lines.len());
    let peers: [(&str, Make, usize); 4] = [
        ("quamina", quamina, lines.len()),
        ("rhai, rule by rule", rhai, some),
        ("cel, rule by rule", cel, some),
        ("zen-expression, rule by rule", zen, some),
    ];
    for (peer, make, events) in peers {
        let name = format!("{} rules, {peer}", rules.len());
        let run = || {
            let mut judge = make(rules);
            let mut matches = 0;
            let time =
                best(2, || matches = lines.iter().take(events).map(|line| black_box(judge(line))).sum());
            (time / number(events), matches)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Err(_) => print(&format!("{name}: it panics"), 0.0, "µs/event", None),
            Ok((cost, matches)) => {
                let expected = naive(rules, workload, events);
                let note = if matches == expected {
                    String::new()
                } else {
                    format!(": {matches} of {expected} matches")
                };
                print(&format!("{name}{note}"), cost, "µs/event", Some(index));
            }
        }
    }
}

fn quamina(rules: &[Rule]) -> Judge {
    let mut all = ::quamina::Quamina::new();
    for (at, rule) in rules.iter().enumerate() {
        let mut pattern = json!({});
        for Clause { path, op } in rule {
            let leaf = path.split('.').fold(&mut pattern, |node, part| &mut node[part]);
            *leaf = match op {
                Op::Is(value) => json!([value]),
                Op::Prefix(start) => json!([{"prefix": start}]),
                Op::Glob(before, after) => json!([{"wildcard": format!("{before}*{after}")}]),
                Op::In(values) => json!(values),
                Op::AtLeast(bound) => json!([{"numeric": [">=", bound]}]),
                Op::Below(bound) => json!([{"numeric": ["<", bound]}]),
                Op::Contains(value) => json!([value]),
            };
        }
        all.add_pattern(at, &pattern.to_string()).unwrap();
    }
    Box::new(move |line| all.matches_for_event(line).unwrap().len())
}

fn rhai(rules: &[Rule]) -> Judge {
    let mut engine = ::rhai::Engine::new_raw();
    {
        use ::rhai::packages::{BasicArrayPackage, CorePackage, MoreStringPackage, Package};
        engine
            .register_global_module(CorePackage::new().as_shared_module())
            .register_global_module(BasicArrayPackage::new().as_shared_module())
            .register_global_module(MoreStringPackage::new().as_shared_module());
    }
    engine.set_max_operations(100_000).set_max_string_size(65_536).set_max_array_size(10_000);
    let expression = |Clause { path, op }: &Clause| {
        // Words that are reserved are no fields after a dot, but any text is one in brackets.
        let value: String = path.split('.').map(|part| format!("?[\"{part}\"]")).collect();
        let value = format!("e{value}");
        match op {
            Op::Is(wanted) => format!("{value} == {wanted}"),
            Op::Prefix(start) => format!("{value}.starts_with({})", json!(start)),
            Op::Glob(before, after) => {
                format!("{value}.starts_with({}) && {value}.ends_with({})", json!(before), json!(after))
            }
            Op::In(wanted) => format!("{value} in {}", json!(wanted)),
            Op::AtLeast(bound) => format!("{value} >= {bound}"),
            Op::Below(bound) => format!("{value} < {bound}"),
            Op::Contains(wanted) => format!("{} in {value}", json!(wanted)),
        }
    };
    let compile = |rule: &Rule| {
        let text = rule.iter().map(expression).collect::<Vec<_>>().join(" && ");
        engine.compile_expression(text).unwrap()
    };
    let all: Vec<_> = rules.iter().map(compile).collect();
    Box::new(move |line| {
        let event: ::rhai::Dynamic = serde_json::from_slice(line).unwrap();
        let mut scope = ::rhai::Scope::new();
        scope.push_dynamic("e", event);
        // What errs, for want of a field, does not match.
        let held = |ast| engine.eval_ast_with_scope::<bool>(&mut scope, ast).unwrap_or_default();
        all.iter().map(held).filter(|held| *held).count()
    })
}

/// A clause in the words that two of the languages share, but for these functions.
fn expression(
    clause: &Clause,
    root: &str,
    starts: fn(&str, &str) -> String,
    ends: fn(&str, &str) -> String,
) -> String {
    let Clause { path, op } = clause;
    let value = format!("{root}{path}");
    match op {
        Op::Is(wanted) => format!("{value} == {wanted}"),
        Op::Prefix(start) => starts(&value, start),
        Op::Glob(before, after) => match (before.as_str(), after.as_str()) {
            ("", after) => ends(&value, after),
            (before, _) => starts(&value, before),
        },
        Op::In(wanted) => format!("{value} in {}", json!(wanted)),
        Op::AtLeast(bound) => format!("{value} >= {bound}"),
        Op::Below(bound) => format!("{value} < {bound}"),
        Op::Contains(wanted) => format!("{} in {value}", json!(wanted)),
    }
}

fn cel(rules: &[Rule]) -> Judge {
    let starts = |value: &str, text: &str| format!("{value}.startsWith({})", json!(text));
    let ends = |value: &str, text: &str| format!("{value}.endsWith({})", json!(text));
    let compile = |rule: &Rule| {
        let clauses: Vec<_> = rule.iter().map(|clause| expression(clause, "e.", starts, ends)).collect();
        ::cel::Program::compile(&clauses.join(" && ")).unwrap()
    };
    let all: Vec<_> = rules.iter().map(compile).collect();
    Box::new(move |line| {
        let event: Value = serde_json::from_slice(line).unwrap();
        let mut context = ::cel::Context::default();
        context.add_variable("e", ::cel::to_value(&event).unwrap()).unwrap();
        all.iter().filter(|rule| matches!(rule.execute(&context), Ok(::cel::Value::Bool(true)))).count()
    })
}

fn zen(rules: &[Rule]) -> Judge {
    use zen_expression::{Expression, expression::Standard, variable::Variable, vm::VM};
    let starts = |value: &str, text: &str| format!("startsWith({value}, {})", json!(text));
    let ends = |value: &str, text: &str| format!("endsWith({value}, {})", json!(text));
    let compile = |rule: &Rule| {
        let clauses = rule.iter().map(|clause| match &clause.op {
            Op::Contains(wanted) => format!("contains({}, {})", clause.path, json!(wanted)),
            _ => expression(clause, "", starts, ends),
        });
        zen_expression::compile_expression(&clauses.collect::<Vec<_>>().join(" and ")).unwrap()
    };
    let all: Vec<Expression<Standard>> = rules.iter().map(compile).collect();
    let mut vm = VM::new();
    Box::new(move |line| {
        let event: Value = serde_json::from_slice(line).unwrap();
        let event = Variable::from(event);
        let mut held = |rule: &&Expression<Standard>| {
            matches!(rule.evaluate_with(event.clone(), &mut vm), Ok(Variable::Bool(true)))
        };
        all.iter().filter(&mut held).count()
    })
}
