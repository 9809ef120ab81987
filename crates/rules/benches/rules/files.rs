//! Rules of the workload as rule files, each wishing one task.

use crate::workload::{Op, Rule};
use serde_json::{Value, json};

/// How many rules stand in one file.
const FILE_RULES: usize = 1_000;
const TASKS: &str = "tasks: {check: {git: \"https://git.example.org/check.git\"}}\n";

/// The files of a rules folder: their paths and texts.
pub(crate) fn texts(rules: &[Rule]) -> Vec<(String, String)> {
    let mut files = vec![("tasks.yaml".to_owned(), TASKS.to_owned())];
    for (number, rules) in rules.chunks(FILE_RULES).enumerate() {
        let first = number * FILE_RULES;
        let lines = (first..).zip(rules).map(|(at, rule)| line(at, rule));
        files.push((format!("{number}.yaml"), std::iter::once("rules:\n".to_owned()).chain(lines).collect()));
    }
    files
}

fn line(at: usize, rule: &Rule) -> String {
    let (topic, clauses) = rule.split_first().unwrap();
    let on = match &topic.op {
        Op::Prefix(start) => format!("{start}>"),
        Op::Is(Value::String(topic)) => topic.clone(),
        _ => unreachable!("the first clause is about the topic"),
    };
    let when: Vec<String> =
        clauses.iter().map(|clause| format!("{}: {}", clause.path, predicate(&clause.op))).collect();
    format!("- {{name: r{at}, on: {on}, when: {{{}}}, then: [{{task: check}}]}}\n", when.join(", "))
}

fn predicate(op: &Op) -> Value {
    match op {
        Op::Is(value) => value.clone(),
        Op::Prefix(start) => json!({"prefix": start}),
        Op::Glob(before, after) => json!({"glob": format!("{before}*{after}")}),
        Op::In(values) => json!(values),
        Op::AtLeast(bound) => json!({"gte": bound}),
        Op::Below(bound) => json!({"lt": bound}),
        Op::Contains(value) => json!({"contains": value}),
    }
}
