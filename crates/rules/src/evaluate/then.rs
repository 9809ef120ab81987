//! Wishes from the entries of `then`.

use super::{Clock, EMIT_BYTES_MAX, Firing, Input, Turn, WISHES_MAX, matrix, with_scope};
use crate::{
    compile::{RuleSet, check_git, check_topic},
    language::{
        Action, Approve, CancelEntry, EmitEntry, Entry, GroupEntry, ItemEntry, Mode, NeedsEntry,
        PriorityEntry, QueueEntry, Rule, TaskEntry, Text,
    },
    repo,
    script::{Engine, Scope},
    source::{Place, RuleError},
    wish::{CancelWhat, CancelWish, Dedupe, EmitWish, TaskWish},
};
use model::{
    Item, QueueName, Requirements, TaskKey, Topic,
    event::json_kind,
    ids::{EventId, GroupName},
    task::Trust,
    task::{Group, INPUTS_BYTES_MAX, PRIORITY_MAX, Repo, TASK_TEXT_BYTES_MAX},
    units::parse_size,
};
use serde_json::{Map, Value};
use std::{collections::HashSet, sync::Arc};

/// What is wished already for this event by this rule: the same wish counts once.
#[derive(Default)]
struct Seen {
    tasks: HashSet<TaskKey>,
    cancels: HashSet<CancelWhat>,
    emits: HashSet<EventId>,
}

/// The wishes of all entries for each turn of the loops. One mistake costs them all: nothing is half done.
pub(super) fn wishes(
    rules: &RuleSet,
    rule: &Rule,
    input: &Input<'_>,
    turns: &[Turn],
    clock: &Clock,
) -> Result<Firing, RuleError> {
    let (firing, seen) = (Firing::default(), Seen::default());
    let mut make = Make { rules, rule, input, clock, made: 0, firing, seen };
    for turn in turns {
        let turn = &make.with_lets(turn)?;
        for entry in &rule.then {
            make.entry(entry, turn)?;
        }
    }
    Ok(make.firing)
}

struct Make<'a, 'e> {
    rules: &'a RuleSet,
    rule: &'a Rule,
    input: &'a Input<'e>,
    clock: &'a Clock,
    /// How many wishes were made, the same ones counted again: each costs its rendering.
    made: usize,
    firing: Firing,
    seen: Seen,
}

impl Make<'_, '_> {
    /// The turn's variables, and those of `let`.
    fn with_lets(&self, turn: &Turn) -> Result<Turn, RuleError> {
        let mut vars = turn.clone();
        for one in &self.rule.lets {
            self.clock.check(&self.rule.place)?;
            let value =
                with_scope(&self.input.scope(), &vars, |scope| one.value.value(&self.rules.engine, scope))?;
            vars.push((one.name.clone(), value));
        }
        Ok(vars)
    }

    fn entry(&mut self, entry: &Entry, turn: &Turn) -> Result<(), RuleError> {
        let input = self.input;
        match &entry.action {
            Action::Task(task) if task.matrix.is_empty() => {
                with_scope(&input.scope(), turn, |scope| self.task(entry, task, Map::new(), scope))
            }
            Action::Task(task) => {
                let cells = with_scope(&input.scope(), turn, |scope| {
                    matrix::cells(&task.matrix, &entry.place, &self.rules.engine, scope)
                })?;
                for cell in cells {
                    let mut vars = turn.to_vec();
                    vars.push(("matrix".to_owned(), Value::Object(cell.clone())));
                    with_scope(&input.scope(), &vars, |scope| self.task(entry, task, cell, scope))?;
                }
                Ok(())
            }
            Action::Cancel(cancel) => {
                with_scope(&input.scope(), turn, |scope| self.cancel(entry, cancel, scope))
            }
            Action::Emit(emit) => with_scope(&input.scope(), turn, |scope| self.emit(entry, emit, scope)),
        }
    }

    fn shadow(&self) -> bool {
        self.rule.mode == Mode::Shadow
    }

    /// Counts a wish, before it is made.
    fn count(&mut self, place: &Place) -> Result<(), RuleError> {
        if self.made > 0 {
            self.clock.check(place)?;
        }
        self.made += 1;
        if self.made <= WISHES_MAX {
            return Ok(());
        }
        Err(mistake(place, format!("the rule wishes more than {WISHES_MAX} things for one event")))
    }

    fn task(
        &mut self,
        entry: &Entry,
        task: &TaskEntry,
        cell: Map<String, Value>,
        scope: &Scope,
    ) -> Result<(), RuleError> {
        self.count(&entry.place)?;
        let engine = &self.rules.engine;
        let name = |text: &Text, what: &str| self.name(text, what, &entry.place, scope);
        let inputs = task.with.map(engine, scope)?;
        let bytes = json_bytes(&inputs);
        if bytes > INPUTS_BYTES_MAX {
            let message = format!("the inputs have {bytes} bytes, at most {INPUTS_BYTES_MAX} are taken");
            return Err(mistake(&entry.place, message));
        }
        let dedupe = match &self.rule.dedupe {
            None => None,
            Some(dedupe) => Some(Dedupe {
                // Names of rules have no `/`, and the cell is one JSON value: no two scopes run together.
                key: format!(
                    "{}/{}/{}/{}",
                    self.rule.name,
                    entry.number,
                    Value::Object(cell.clone()),
                    name(&dedupe.key, "the key of `dedupe`")?
                ),
                window: dedupe.window,
            }),
        };
        let trust = self.trust(task, &entry.place, scope)?;
        let trusted = trust == Trust::Trusted;
        let wish = TaskWish {
            rule: self.rule.name.clone(),
            revision: self.rules.revision.clone(),
            entry: entry.number,
            task: task.task.clone(),
            repo: self.repo(task, &entry.place, scope)?,
            item: task.item.as_ref().map(|item| self.item(item, &entry.place, scope)).transpose()?,
            cell,
            inputs,
            queue: match &task.queue {
                QueueEntry::Registered(queue) => queue.clone(),
                QueueEntry::Text(text) => QueueName::from(name(text, "a queue's name")?),
            },
            priority: self.priority(&task.priority, &entry.place, scope)?,
            needs: self.needs(&task.needs, &entry.place, scope)?,
            group: task.group.as_ref().map(|group| self.group(group, &entry.place, scope)).transpose()?,
            batch: entry.batch.as_ref().map(|batch| name(batch, "a batch's name")).transpose()?,
            dedupe,
            limits: self.rule.limits,
            trust,
            secrets: if trusted { task.secrets.clone() } else { Vec::new() },
            approve: match task.approve {
                Approve::Never => false,
                Approve::Untrusted => !trusted,
                Approve::Always => true,
            },
            timeout_cap: task.timeout_cap,
            discover: task.discover,
            shadow: self.shadow(),
        };
        if self.is_new(&wish) {
            if self.firing.tasks.is_empty() {
                // Most rules wish one task, and a wish is large.
                self.firing.tasks.reserve_exact(1);
            }
            self.firing.tasks.push(wish);
        }
        Ok(())
    }

    /// A repository that the entry gives is trusted only when its author is; a registered one as it is
    /// registered, unless the entry names an author that is not trusted.
    fn trust(&self, task: &TaskEntry, place: &Place, scope: &Scope) -> Result<Trust, RuleError> {
        let vouched = match &task.author {
            None => task.overrides.is_empty(),
            Some(author) => {
                let author = self.name(author, "an author's name", place, scope)?;
                self.rules.options.trusted_authors.contains(&author)
            }
        };
        Ok(if vouched { task.trust } else { Trust::Untrusted })
    }

    /// Whether it was not wished yet. A sole wish needs no key.
    fn is_new(&mut self, wish: &TaskWish) -> bool {
        let event = self.input.event;
        match self.firing.tasks.as_slice() {
            [] => return true,
            [first] => drop(self.seen.tasks.insert(first.key(event, 0))),
            _ => {}
        }
        self.seen.tasks.insert(wish.key(event, 0))
    }

    fn name(&self, text: &Text, what: &str, place: &Place, scope: &Scope) -> Result<String, RuleError> {
        name_text(&self.rules.engine, text, what, place, scope)
    }

    fn item(&self, item: &ItemEntry, place: &Place, scope: &Scope) -> Result<Item, RuleError> {
        Ok(Item {
            kind: self.name(&item.kind, "an item's type", place, scope)?,
            id: self.name(&item.id, "an item's id", place, scope)?,
        })
    }

    fn group(&self, group: &GroupEntry, place: &Place, scope: &Scope) -> Result<Group, RuleError> {
        Ok(Group {
            name: GroupName::from(self.name(&group.name, "a group's name", place, scope)?),
            on_new: group.on_new,
            max_running: group.max_running,
        })
    }

    fn repo(&self, task: &TaskEntry, place: &Place, scope: &Scope) -> Result<Arc<Repo>, RuleError> {
        if task.overrides.is_empty() {
            return Ok(Arc::clone(&task.repo));
        }
        let hosts = &self.rules.options.trusted_hosts;
        let part = |text: &Text, check: &dyn Fn(&str) -> Result<(), String>| {
            let value = text.text(&self.rules.engine, scope)?;
            check(&value).map_err(|why| text.mistake(place, why))?;
            Ok::<_, RuleError>(value)
        };
        let mut repo = Repo::clone(&task.repo);
        if let Some(git) = &task.overrides.git {
            // Another repository: the registered ref and folder are not in it.
            repo = Repo { git: part(git, &|text| check_git(text, hosts))?, reference: None, path: None };
        }
        if let Some(reference) = &task.overrides.reference {
            repo.reference = Some(part(reference, &repo::check_ref)?);
        }
        if let Some(path) = &task.overrides.path {
            repo.path = Some(part(path, &repo::check_folder)?);
        }
        Ok(Arc::new(repo))
    }

    fn priority(&self, priority: &PriorityEntry, place: &Place, scope: &Scope) -> Result<i32, RuleError> {
        let text = match priority {
            PriorityEntry::Constant(priority) => return Ok(*priority),
            PriorityEntry::Text(text) => text,
        };
        let value = text.value(&self.rules.engine, scope)?;
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        number
            .and_then(|number| i32::try_from(number).ok())
            .filter(|number| (-PRIORITY_MAX..=PRIORITY_MAX).contains(number))
            .ok_or_else(|| {
                let bounds = format!("a whole number from {} to {PRIORITY_MAX}", -PRIORITY_MAX);
                text.mistake(place, format!("`priority` must be {bounds}, it is {value}"))
            })
    }

    fn needs(&self, needs: &NeedsEntry, place: &Place, scope: &Scope) -> Result<Requirements, RuleError> {
        let mut out = needs.constant.clone();
        if let Some(arch) = &needs.arch {
            out.arch = Some(self.name(arch, "an architecture", place, scope)?);
        }
        for label in &needs.labels {
            out.labels.insert(self.name(label, "a label", place, scope)?);
        }
        let size = |text: &Text| {
            let value = text.text(&self.rules.engine, scope)?;
            parse_size(&value).map_err(|why| text.mistake(place, why))
        };
        if let Some(memory) = &needs.memory {
            out.memory_bytes = Some(size(memory)?);
        }
        if let Some(disk) = &needs.disk {
            out.disk_bytes = Some(size(disk)?);
        }
        if let Some(cpus) = &needs.cpus {
            let value = cpus.text(&self.rules.engine, scope)?;
            let count = value.parse().ok().filter(|count| (1..=10_000).contains(count));
            let count = count.ok_or_else(|| {
                cpus.mistake(place, format!("`cpus` must be a whole number from 1 to 10000, it is {value}"))
            })?;
            out.cpus = Some(count);
        }
        if let Some(kvm) = &needs.kvm {
            match kvm.value(&self.rules.engine, scope)? {
                Value::Bool(wanted) => out.kvm = wanted,
                other => {
                    let kind = json_kind(&other);
                    return Err(kvm.mistake(place, format!("`kvm` must be true or false, it is {kind}")));
                }
            }
        }
        Ok(out)
    }

    fn cancel(&mut self, entry: &Entry, cancel: &CancelEntry, scope: &Scope) -> Result<(), RuleError> {
        self.count(&entry.place)?;
        let what = match cancel {
            CancelEntry::Item(item) => CancelWhat::Item(self.item(item, &entry.place, scope)?),
            CancelEntry::Group(name) => {
                CancelWhat::Group(GroupName::from(self.name(name, "a group's name", &entry.place, scope)?))
            }
        };
        if self.seen.cancels.insert(what.clone()) {
            let (rule, revision) = (self.rule.name.clone(), self.rules.revision.clone());
            let wish = CancelWish { rule, revision, entry: entry.number, what, shadow: self.shadow() };
            self.firing.cancels.push(wish);
        }
        Ok(())
    }

    fn emit(&mut self, entry: &Entry, emit: &EmitEntry, scope: &Scope) -> Result<(), RuleError> {
        self.count(&entry.place)?;
        let topic = emit.topic.text(&self.rules.engine, scope)?;
        check_topic(&topic).map_err(|why| emit.topic.mistake(&entry.place, why))?;
        let body = emit.body.map(&self.rules.engine, scope)?;
        let bytes = json_bytes(&body);
        if bytes > EMIT_BYTES_MAX {
            let message = format!("the body has {bytes} bytes, at most {EMIT_BYTES_MAX} are taken");
            return Err(mistake(&entry.place, message));
        }
        let wish = EmitWish {
            rule: self.rule.name.clone(),
            revision: self.rules.revision.clone(),
            entry: entry.number,
            topic: Topic::new(topic),
            body,
            depth: self.input.event.depth + 1,
            shadow: self.shadow(),
        };
        if self.seen.emits.insert(wish.id(self.input.event, 0)) {
            self.firing.emits.push(wish);
        }
        Ok(())
    }
}

/// A text that becomes a name or id: not empty, not too long, no control characters.
pub(super) fn name_text(
    engine: &Engine,
    text: &Text,
    what: &str,
    place: &Place,
    scope: &Scope,
) -> Result<String, RuleError> {
    let name = text.text(engine, scope)?;
    let why = if name.trim().is_empty() {
        format!("{what} must not be empty")
    } else if name.len() > TASK_TEXT_BYTES_MAX {
        format!("{what} has at most {TASK_TEXT_BYTES_MAX} bytes, this one has {}", name.len())
    } else if let Some(odd) = name.chars().find(|c| c.is_control()) {
        format!("{what} must not hold {odd:?}")
    } else {
        return Ok(name);
    };
    Err(text.mistake(place, why))
}

fn mistake(place: &Place, message: String) -> RuleError {
    RuleError { message, place: place.clone() }
}

/// How long an object is as JSON text.
fn json_bytes(fields: &Map<String, Value>) -> usize {
    if fields.is_empty() {
        return "{}".len();
    }
    serde_json::to_vec(fields).map_or(usize::MAX, |text| text.len())
}
