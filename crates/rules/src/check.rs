//! Checks over all rules together: what each rule file cannot know by itself.

use crate::{
    language::{Action, EmitEntry, Rule, Text},
    predicate::{Predicate, Test},
};
use model::{
    diagnostic::{Diagnostic, Report, Severity},
    event::CHAIN_DEPTH_MAX,
    topic::{OWN_PREFIX, Topic, TopicPattern},
};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};

/// Notes warnings about single rules, and chains of rules that lead back to themselves.
pub(crate) fn check(rules: &[Rule], report: &mut Report) {
    for rule in rules {
        unselective(rule, report);
        never_enters(rule, report);
    }
    loops(rules, report);
}

fn note(report: &mut Report, severity: Severity, rule: &Rule, message: String, help: &str) {
    report.push(Diagnostic {
        severity,
        file: rule.place.file.to_string(),
        line: rule.place.line,
        column: rule.place.column,
        span: rule.span.clone(),
        message,
        help: Some(help.to_owned()),
    });
}

/// A rule that is judged for every event.
fn unselective(rule: &Rule, report: &mut Report) {
    let everything = rule.on.iter().any(|pattern| pattern.as_str() == ">");
    if everything && rule.when.is_empty() && rule.any.is_empty() {
        let message =
            format!("`{}` listens to everything and has no `when`: it is judged for each event", rule.name);
        note(report, Severity::Warning, rule, message, "name a topic in `on`, or add a clause to `when`");
    }
}

/// Whether the pattern covers only what tells of events and rules, or is for the rule that it names.
fn reserved(pattern: &TopicPattern) -> bool {
    let mut tokens = pattern.as_str().split('.');
    tokens.next() == Some(OWN_PREFIX)
        && matches!(tokens.next(), None | Some("event" | "rule" | "collect" | "schedule"))
}

/// What tells of events and rules never enters, since it would feed itself.
fn never_enters(rule: &Rule, report: &mut Report) {
    if !rule.on.is_empty() && rule.on.iter().all(reserved) {
        let message = format!(
            "`{}` never fires: `taskbot.event`, `rule`, `collect` and `schedule` never reach it",
            rule.name
        );
        note(
            report,
            Severity::Warning,
            rule,
            message,
            "listen to the event itself, or to `taskbot.task.finished`",
        );
    }
}

/// How one rule's wishes can lead to another rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    /// Always.
    Certain,
    /// Unless the other rule's clauses or a topic that is made by an expression prevent it.
    Possible,
}

/// Notes each chain of rules that leads back to its first one, once.
fn loops(rules: &[Rule], report: &mut Report) {
    let edges = edges(rules);
    let mut reported = vec![false; rules.len()];
    for start in 0..rules.len() {
        if reported[start] {
            continue;
        }
        // A chain that certainly leads back is worse than one that only may.
        let certain = shortest_loop(&edges, start, Edge::Certain);
        let Some(chain) = certain.clone().or_else(|| shortest_loop(&edges, start, Edge::Possible)) else {
            continue;
        };
        chain.iter().for_each(|at| reported[*at] = true);
        let names: Vec<&str> = chain.iter().chain([&start]).map(|at| rules[*at].name.as_str()).collect();
        let names = names.join(" → ");
        if certain.is_some() {
            let message = format!("these rules set each other off without end: {names}");
            let help = "add clauses to `when` that the wishes of the chain do not meet";
            note(report, Severity::Error, &rules[start], message, help);
        } else {
            let message = format!(
                "these rules may set each other off: {names}; if their clauses do not prevent it, the chain is cut after {CHAIN_DEPTH_MAX} events"
            );
            let help = "ask in `when` for what only the first event of the chain has, such as `body.name` of the task";
            note(report, Severity::Warning, &rules[start], message, help);
        }
    }
}

type Edges = HashMap<usize, Vec<(usize, Edge)>>;

fn edges(rules: &[Rule]) -> Edges {
    // Only rules that hear own events or emitted ones can be led to; most rules do not.
    let hears_own: Vec<usize> = (0..rules.len()).filter(|at| hears_own(&rules[*at])).collect();
    let mut edges = Edges::new();
    for (from, rule) in rules.iter().enumerate() {
        let mut out = Vec::new();
        if rule.task_names().next().is_some() {
            out.extend(hears_own.iter().filter_map(|to| Some((*to, by_task(rule, &rules[*to])?))));
        }
        for emit in emits(rule) {
            out.extend((0..rules.len()).filter_map(|to| Some((to, by_message(emit, &rules[to])?))));
        }
        if !out.is_empty() {
            edges.insert(from, out);
        }
    }
    edges
}

fn emits(rule: &Rule) -> impl Iterator<Item = &EmitEntry> {
    rule.then.iter().filter_map(|entry| match &entry.action {
        Action::Emit(emit) => Some(emit),
        _ => None,
    })
}

fn hears_own(rule: &Rule) -> bool {
    rule.on.iter().any(is_own)
}

fn is_own(pattern: &TopicPattern) -> bool {
    pattern.as_str().split('.').next() == Some(OWN_PREFIX)
}

/// The field of the body that names the task, in events of the topics that the pattern covers.
fn task_field(pattern: &TopicPattern) -> Option<&'static str> {
    match pattern.as_str().split('.').nth(1) {
        Some("task") => Some("name"),
        Some("artifact") => Some("task_name"),
        _ => None,
    }
}

/// Whether events about the first rule's tasks can fire the second rule.
fn by_task(from: &Rule, to: &Rule) -> Option<Edge> {
    let in_batch = from.then.iter().any(|entry| entry.batch.is_some());
    let of_batch = |pattern: &TopicPattern| pattern.as_str().split('.').nth(1) == Some("batch");
    let own = to.on.iter().filter(|pattern| is_own(pattern) && !reserved(pattern));
    // The end of a batch is told only of tasks that are in one.
    let own = own.filter(|pattern| in_batch || !of_batch(pattern));
    let reached: Vec<_> = own
        .filter(|pattern| {
            task_field(pattern)
                .is_none_or(|field| from.task_names().any(|name| may_be_named(to, field, name.as_str())))
        })
        .collect();
    // Every task is made, queued and ended; not every task leaves files or results.
    let always = ["taskbot.task.created", "taskbot.task.queued", "taskbot.task.finished"];
    let certain = !to.is_guarded()
        && reached.iter().any(|pattern| always.iter().any(|topic| pattern.matches(&Topic::new(*topic))));
    (!reached.is_empty()).then_some(if certain { Edge::Certain } else { Edge::Possible })
}

/// Whether the clauses of `when` let a task of this name pass.
fn may_be_named(rule: &Rule, field: &str, name: &str) -> bool {
    let name = Value::from(name);
    rule.when
        .iter()
        .filter(|clause| clause.path.parts() == ["body", field])
        .all(|clause| may_meet(&clause.predicate, &name))
}

/// Whether a value can meet a predicate; where its tests depend on the time, it can.
fn may_meet(predicate: &Predicate, value: &Value) -> bool {
    let timeless = predicate.tests.iter().all(|test| !matches!(test, Test::Age(..)));
    !timeless || predicate.judge_value(value, chrono::DateTime::UNIX_EPOCH).held()
}

/// Whether the message can fire the rule.
fn by_message(emit: &EmitEntry, to: &Rule) -> Option<Edge> {
    let covered = to.on.iter().any(|pattern| may_cover(pattern, &emit.topic));
    let certain = !to.is_guarded() && matches!(emit.topic, Text::Constant(_));
    covered.then_some(if certain { Edge::Certain } else { Edge::Possible })
}

/// Whether a pattern may cover a topic of which expressions may be a part.
fn may_cover(pattern: &TopicPattern, topic: &Text) -> bool {
    let text = match topic {
        Text::Constant(text) => return pattern.matches(&Topic::new(text.as_str())),
        Text::Template(template) => template.source(),
    };
    // The tokens before the one with the first expression are known; all after it may be anything.
    let known = text.split("${").next().unwrap_or_default();
    let known: Vec<&str> = known.split('.').collect();
    let known = &known[..known.len() - 1];
    if is_own(pattern) {
        return false;
    }
    for (at, wanted) in pattern.as_str().split('.').enumerate() {
        match (wanted, known.get(at)) {
            (">", _) | (_, None) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(got)) if wanted == *got => {}
            _ => return false,
        }
    }
    // The pattern ends before the first expression, the topic does not.
    false
}

/// The shortest chain from a rule back to itself over edges that are at least this certain.
fn shortest_loop(edges: &Edges, start: usize, least: Edge) -> Option<Vec<usize>> {
    let mut before: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for (to, edge) in edges.get(&at).into_iter().flatten() {
            if least == Edge::Certain && *edge != Edge::Certain {
                continue;
            }
            if *to == start {
                let mut chain = vec![at];
                while let Some(previous) = chain.last().and_then(|last| before.get(last)) {
                    chain.push(*previous);
                }
                chain.reverse();
                return Some(chain);
            }
            if !before.contains_key(to) {
                before.insert(*to, at);
                queue.push_back(*to);
            }
        }
    }
    None
}
