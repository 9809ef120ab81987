//! All scripts and templates of a rule, in their order.

use super::{
    Action, CancelEntry, ItemEntry, NeedsEntry, PriorityEntry, QueueEntry, Rule, TaskEntry, Text, Tree,
    Values,
};
use crate::{script::Script, source::Scripted, template::Template};

/// A script or a template.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'r> {
    Script(&'r Scripted<Script>),
    Template(&'r Scripted<Template>),
}

impl<'r> Found<'r> {
    /// Its scripts, and its text.
    pub(crate) fn scripts(self) -> (Vec<&'r Script>, &'r str) {
        match self {
            Self::Script(script) => (vec![&script.compiled], script.source()),
            Self::Template(template) => (template.compiled.scripts().collect(), template.source()),
        }
    }
}

/// Shows each script and template of a rule.
pub(crate) fn scripts<'r>(rule: &'r Rule, show: &mut dyn FnMut(Found<'r>)) {
    rule.condition.iter().for_each(|script| show(Found::Script(script)));
    rule.collect.iter().for_each(|entry| text(&entry.key, show));
    for each in &rule.for_each {
        values(&each.values, show);
        each.condition.iter().for_each(|script| show(Found::Script(script)));
    }
    rule.lets.iter().for_each(|one| show(Found::Script(&one.value)));
    for entry in &rule.then {
        entry.batch.iter().for_each(|name| text(name, show));
        match &entry.action {
            Action::Task(entry) => task(entry, show),
            Action::Cancel(CancelEntry::Item(entry)) => item(entry, show),
            Action::Cancel(CancelEntry::Group(name)) => text(name, show),
            Action::Emit(emit) => {
                text(&emit.topic, show);
                tree(&emit.body, show);
            }
        }
    }
    rule.dedupe.iter().for_each(|entry| text(&entry.key, show));
}

fn task<'r>(task: &'r TaskEntry, show: &mut dyn FnMut(Found<'r>)) {
    let overrides = [&task.overrides.git, &task.overrides.reference, &task.overrides.path];
    overrides.into_iter().flatten().for_each(|part| text(part, show));
    task.item.iter().for_each(|entry| item(entry, show));
    tree(&task.with, show);
    task.matrix.axes.iter().for_each(|axis| values(&axis.values, show));
    [&task.matrix.exclude, &task.matrix.include].into_iter().flatten().for_each(|cells| values(cells, show));
    needs(&task.needs, show);
    if let QueueEntry::Text(queue) = &task.queue {
        text(queue, show);
    }
    if let PriorityEntry::Text(priority) = &task.priority {
        text(priority, show);
    }
    task.group.iter().for_each(|group| text(&group.name, show));
}

fn needs<'r>(needs: &'r NeedsEntry, show: &mut dyn FnMut(Found<'r>)) {
    let parts = [&needs.arch, &needs.memory, &needs.disk, &needs.cpus, &needs.kvm];
    parts.into_iter().flatten().chain(&needs.labels).for_each(|part| text(part, show));
}

fn item<'r>(item: &'r ItemEntry, show: &mut dyn FnMut(Found<'r>)) {
    text(&item.kind, show);
    text(&item.id, show);
}

fn text<'r>(text: &'r Text, show: &mut dyn FnMut(Found<'r>)) {
    if let Text::Template(template) = text {
        show(Found::Template(template));
    }
}

fn values<'r>(values: &'r Values, show: &mut dyn FnMut(Found<'r>)) {
    match values {
        Values::List(items, _) => items.iter().for_each(|item| tree(item, show)),
        Values::Script(script) => show(Found::Script(script)),
        Values::Template(template) => show(Found::Template(template)),
    }
}

fn tree<'r>(node: &'r Tree, show: &mut dyn FnMut(Found<'r>)) {
    match node {
        Tree::Constant(_) => {}
        Tree::Text(template) => show(Found::Template(template)),
        Tree::List(items) => items.iter().for_each(|item| tree(item, show)),
        Tree::Map(entries) => entries.iter().for_each(|(_, item)| tree(item, show)),
    }
}
