//! Rules that say the same, or of which one says all that another does.

use super::{Lint, contradictions::implies};
use crate::{
    compile::RuleSet,
    language::{Action, Mode, Rule},
    predicate::Block,
};
use model::{TopicPattern, topic::Topic};
use std::collections::{BTreeMap, HashMap};

/// The most rules with the same wishes that are compared one with another.
const COMPARED_MAX: usize = 300;

pub(super) fn lint(rules: &RuleSet, lint: &mut Lint) {
    // Only rules that wish the same can make the same task twice.
    let mut alike: BTreeMap<Vec<String>, Vec<&Rule>> = BTreeMap::new();
    for rule in rules.rules().iter().filter(|rule| rule.mode == Mode::Active) {
        if let Some(wishes) = wishes(rule) {
            alike.entry(wishes).or_default().push(rule);
        }
    }
    for rules in alike.values().filter(|rules| rules.len() > 1) {
        let mut same: HashMap<String, &Rule> = HashMap::new();
        let mut different: Vec<&Rule> = Vec::new();
        for rule in rules {
            match same.get(&conditions(rule)) {
                Some(first) => {
                    let message =
                        format!("`{}` says the same as `{}` ({})", rule.name, first.name, first.place);
                    lint.warn(
                        rule,
                        rule.name.as_str(),
                        message,
                        "remove one of them: each event makes the task twice",
                    );
                }
                None => {
                    same.insert(conditions(rule), rule);
                    different.push(rule);
                }
            }
        }
        different.truncate(COMPARED_MAX);
        for narrow in &different {
            let wide = different.iter().find(|wide| wide.name != narrow.name && subsumes(wide, narrow));
            if let Some(wide) = wide {
                let message = format!(
                    "whenever `{}` fires, `{}` ({}) fires with the same wishes",
                    narrow.name, wide.name, wide.place
                );
                lint.warn(
                    narrow,
                    narrow.name.as_str(),
                    message,
                    "remove one of them, or let their clauses exclude each other",
                );
            }
        }
    }
}

/// What a rule wishes, as texts; nothing for rules that do more than make tasks.
fn wishes(rule: &Rule) -> Option<Vec<String>> {
    let entry = |action: &Action| match action {
        Action::Task(task) => Some(format!(
            "{} {} {} {} {}",
            task.task,
            task.item.as_ref().map_or_else(String::new, |item| format!(
                "{}/{}",
                item.kind.source(),
                item.id.source()
            )),
            task.with.source(),
            task.matrix.source(),
            task.overrides.git.as_ref().map_or("", |git| git.source()),
        )),
        Action::Cancel(_) | Action::Emit(_) => None,
    };
    rule.then.iter().map(|wish| entry(&wish.action)).collect()
}

fn block_words(block: &Block) -> Vec<String> {
    let mut words: Vec<_> = block.iter().map(ToString::to_string).collect();
    words.sort();
    words
}

/// What is asked beside topics and `when`.
fn rest(rule: &Rule) -> String {
    let blocks = |blocks: &[Block]| {
        let mut words: Vec<_> = blocks.iter().map(block_words).collect();
        words.sort();
        words
    };
    let loops: Vec<_> = rule
        .for_each
        .iter()
        .map(|each| {
            let condition = each.condition.as_ref().map_or("", |script| script.source());
            (each.variable.as_str(), each.values.source(), condition)
        })
        .collect();
    let lets: Vec<_> = rule.lets.iter().map(|one| (one.name.as_str(), one.value.source())).collect();
    let schedule = rule.schedule.as_ref().map(|entry| (entry.times.source(), entry.times.timezone()));
    let collect = rule.collect.as_ref().map(|entry| entry.key.source());
    let condition = rule.condition.as_ref().map(|script| script.source().trim());
    format!(
        "{:?} {:?} {condition:?} {loops:?} {lets:?} {schedule:?} {collect:?}",
        blocks(&rule.unless),
        blocks(&rule.any)
    )
}

fn conditions(rule: &Rule) -> String {
    let mut on: Vec<_> = rule.on.iter().map(TopicPattern::as_str).collect();
    on.sort_unstable();
    format!("{on:?} {:?} {}", block_words(&rule.when), rest(rule))
}

/// Whether the one fires whenever the other does.
fn subsumes(wide: &Rule, narrow: &Rule) -> bool {
    let covered = |pattern: &TopicPattern| {
        let topic = Topic::new(pattern.as_str());
        wide.on.iter().any(|wide| wide == pattern || (pattern.is_exact() && wide.matches(&topic)))
    };
    let asked = |clause: &crate::predicate::Clause| {
        narrow.when.iter().any(|own| {
            own.path.as_str() == clause.path.as_str() && implies(&own.predicate, &clause.predicate)
        })
    };
    !narrow.on.is_empty()
        && narrow.on.iter().all(covered)
        && wide.when.iter().all(asked)
        && rest(wide) == rest(narrow)
}
