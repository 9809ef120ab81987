//! The entries of `then`.

use super::{ENTRIES_MAX, LOOPS_MAX, rules::check_variable, values::Context};
use crate::{
    language::{
        Action, Approve, Axis, CancelEntry, EmitEntry, Entry, GroupEntry, ItemEntry, Matrix, NeedsEntry,
        PriorityEntry, QueueEntry, RepoOverrides, TaskEntry, Text, Tree, Values, default_queue,
    },
    registry::{Registered, check_name, read_timeout},
    repo::{self, Scheme},
};
use model::{
    TaskName, Topic,
    requirements::Requirements,
    task::{OnNew, PRIORITY_MAX, Repo, Trust},
    task_file::read_needs,
    yaml::{Fields, Node, Reader, Value as Yaml},
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Reads `then`; `vars` are the variables that its expressions may read.
pub(super) fn read(context: &Context<'_>, node: &Node, vars: &[&str]) -> Vec<Entry> {
    let nodes = context.reader.list_of(node, "`then`").unwrap_or_default();
    if nodes.is_empty() && matches!(node.value, Yaml::List(_)) {
        context.reader.error(&node.span, "`then` must not be empty");
    }
    let mut entries = Vec::new();
    for node in nodes {
        context.entry(node, vars, None, &mut entries);
    }
    if entries.len() > ENTRIES_MAX {
        let count = entries.len();
        context
            .reader
            .error(&node.span, format!("`then` has at most {ENTRIES_MAX} entries, these are {count}"));
    }
    entries
}

impl Context<'_> {
    fn entry(&self, node: &Node, vars: &[&str], batch: Option<&Arc<Text>>, into: &mut Vec<Entry>) {
        const KINDS: [&str; 4] = ["task", "cancel", "emit", "batch"];
        let Yaml::Map(keys) = &node.value else {
            let message = format!("an entry of `then` must be a mapping, it is {}", node.value.kind());
            return self.reader.error_help(&node.span, message, "write `- task: name`");
        };
        let kinds: Vec<_> = KINDS.into_iter().filter(|kind| node.get(kind).is_some()).collect();
        let action = match kinds.as_slice() {
            ["batch"] => return self.batch(node, vars, batch.is_some(), into),
            ["task"] => self.task(node, vars).map(|task| Action::Task(Box::new(task))),
            ["cancel"] => self.cancel(node, vars).map(Action::Cancel),
            ["emit"] => self.emit(node, vars).map(Action::Emit),
            [] => {
                let near = keys
                    .iter()
                    .find_map(|(key, _)| Some((key, model::diagnostic::nearest(&key.text, KINDS)?)));
                let span = near.map_or(&node.span, |(key, _)| &key.span);
                let help = near.map_or_else(
                    || "write `- task: name`".to_owned(),
                    |(_, near)| format!("did you mean `{near}`?"),
                );
                let message = "an entry of `then` must have one of task, cancel, emit and batch";
                return self.reader.error_help(span, message, help);
            }
            several => {
                let message = format!("{} cannot stand in one entry of `then`", several.join(" and "));
                return self.reader.error_help(&node.span, message, "make two entries of it");
            }
        };
        if let Some(action) = action {
            let number = u32::try_from(into.len()).unwrap_or(u32::MAX);
            into.push(Entry {
                number,
                place: self.file.place(node.span.start),
                batch: batch.cloned(),
                action,
            });
        }
    }

    /// `{batch: {name}, then: [entries]}`
    fn batch(&self, node: &Node, vars: &[&str], nested: bool, into: &mut Vec<Entry>) {
        if nested {
            return self.reader.error(&node.span, "a batch cannot stand in another batch");
        }
        let Some(mut fields) = self.reader.fields(node, "a batch entry") else { return };
        let name = fields.require(self.reader, "batch").and_then(|node| {
            let mut fields = self.reader.fields(node, "`batch`")?;
            let name = fields.require(self.reader, "name").and_then(|node| self.text(node, "`name`", vars));
            fields.finish(self.reader);
            name
        });
        let then = fields.require(self.reader, "then");
        fields.finish(self.reader);
        let nodes = then.and_then(|node| self.reader.list_of(node, "`then`")).unwrap_or_default();
        if let (Some(node), []) = (then, nodes) {
            self.reader.error(&node.span, "`then` must not be empty");
        }
        // With a wrong name the entries are still read, for their own mistakes.
        let name = Arc::new(name.unwrap_or_else(|| Text::Constant(String::new())));
        for node in nodes {
            self.entry(node, vars, Some(&name), into);
        }
    }

    fn task(&self, node: &Node, vars: &[&str]) -> Option<TaskEntry> {
        let reader = self.reader;
        let mut fields = reader.fields(node, "a task entry")?;
        let name_node = fields.require(reader, "task")?;
        let matrix = fields.get("matrix").map(|node| self.matrix(node, vars)).unwrap_or_default();
        let mut vars = vars.to_vec();
        if !matrix.is_empty() {
            vars.push("matrix");
        }
        let vars = vars.as_slice();
        let overrides = self.overrides(&mut fields, vars);
        let registered = self.registered(name_node, node.get("git").is_some());
        let item = fields.get("item").and_then(|node| self.item(node, vars));
        let with = fields.get("with").and_then(|node| self.mapping(node, "`with`", vars));
        let needs = fields.get("needs").map(|node| self.needs(node, vars)).unwrap_or_default();
        let queue = fields.get("queue").and_then(|node| self.text(node, "`queue`", vars));
        let priority = fields.get("priority").and_then(|node| self.priority(node, vars));
        let group = fields.get("group").and_then(|node| self.group(node, vars));
        let timeout = fields.get("timeout").and_then(|node| read_timeout(reader, node));
        let discover = fields.get("discover").and_then(|node| reader.bool_of(node, "`discover`"));
        let author = fields.get("author").and_then(|node| self.text(node, "`author`", vars));
        let approve = fields.get("approve").map(|node| read_approve(reader, node)).unwrap_or_default();
        fields.finish(reader);
        let (task, registered) = registered?;
        let queue = queue.map_or_else(
            || {
                let queue = registered.map_or_else(default_queue, |registered| registered.queue.clone());
                QueueEntry::Registered(queue)
            },
            QueueEntry::Text,
        );
        let cap = registered.and_then(|registered| registered.timeout_cap);
        Some(TaskEntry {
            task,
            repo: registered.map_or_else(
                || Arc::new(Repo { git: String::new(), reference: None, path: None }),
                |registered| Arc::clone(&registered.repo),
            ),
            overrides,
            discover: discover.unwrap_or_else(|| registered.is_some_and(|registered| registered.discover)),
            trust: registered.map_or(Trust::Trusted, |registered| registered.trust),
            secrets: registered.map(|registered| registered.secrets.clone()).unwrap_or_default(),
            author,
            approve,
            item,
            with: with.unwrap_or_else(|| Tree::Constant(Value::Object(Map::new()))),
            matrix,
            needs,
            queue,
            priority: priority.unwrap_or(PriorityEntry::Constant(0)),
            group,
            timeout_cap: [cap, timeout].into_iter().flatten().min(),
        })
    }

    /// The task's registration; a task with a `git` of its own may do without.
    fn registered(&self, node: &Node, has_git: bool) -> Option<(TaskName, Option<&Registered>)> {
        let name = self.reader.name_of(node, "`task`")?;
        let found = self.registry.get(&name);
        if found.is_none() && !has_git {
            let help = self.registry.nearest(&name).map_or_else(
                || "register it in tasks.yaml: `name: {git: URL}`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.reader.error_help(&node.span, format!("there is no task `{name}` in tasks.yaml"), help);
            return None;
        }
        if let Err(why) = check_name("a task", &name) {
            self.reader.error(&node.span, why);
            return None;
        }
        // One text for all entries of a task: what rules share stays near at hand.
        Some((found.map_or_else(|| TaskName::from(name), |found| found.name.clone()), found))
    }

    fn overrides(&self, fields: &mut Fields<'_>, vars: &[&str]) -> RepoOverrides {
        let git = |text: &str| check_git(text, &self.options.trusted_hosts);
        RepoOverrides {
            git: fields.get("git").and_then(|node| self.checked_text(node, "`git`", vars, git)),
            reference: fields
                .get("ref")
                .and_then(|node| self.checked_text(node, "`ref`", vars, repo::check_ref)),
            path: fields
                .get("path")
                .and_then(|node| self.checked_text(node, "`path`", vars, repo::check_folder)),
        }
    }

    fn item(&self, node: &Node, vars: &[&str]) -> Option<ItemEntry> {
        let mut fields = self.reader.fields(node, "`item`")?;
        let kind = fields.require(self.reader, "type").and_then(|node| self.text(node, "`type`", vars));
        let id = fields.require(self.reader, "id").and_then(|node| self.text(node, "`id`", vars));
        fields.finish(self.reader);
        Some(ItemEntry { kind: kind?, id: id? })
    }

    fn matrix(&self, node: &Node, vars: &[&str]) -> Matrix {
        let Yaml::Map(entries) = &node.value else {
            let message =
                format!("`matrix` must be a mapping from axes to lists, it is {}", node.value.kind());
            self.reader.error_help(&node.span, message, "write `matrix: {arch: [x86_64, aarch64]}`");
            return Matrix::default();
        };
        let is_axis = |name: &str| !matches!(name, "include" | "exclude");
        let count = entries.iter().filter(|(key, _)| is_axis(&key.text)).count();
        if count > LOOPS_MAX || (count == 0 && node.get("include").is_none()) {
            self.reader
                .error(&node.span, format!("`matrix` must have 1 to {LOOPS_MAX} axes, it has {count}"));
        }
        let mut axes = Vec::new();
        for (key, node) in entries.iter().filter(|(key, _)| is_axis(&key.text)) {
            if let Err(why) = check_variable(&key.text) {
                self.reader.error(&key.span, why);
                continue;
            }
            let values = self.values(node, "an axis", vars);
            // The axis is known, even if its list is wrong: no further errors because of it.
            let values = values.unwrap_or_else(|| Values::List(Vec::new(), self.file.place(key.span.start)));
            axes.push(Axis { name: key.text.clone(), values });
        }
        let exclude = node.get("exclude").and_then(|node| {
            let known = |name: &str| match axes.iter().any(|axis| axis.name == name) {
                true => Ok(()),
                false => Err(format!("`exclude` names `{name}`, which is no axis of this matrix")),
            };
            self.cells(node, "`exclude`", vars, known)
        });
        let include =
            node.get("include").and_then(|node| self.cells(node, "`include`", vars, check_variable));
        Matrix { axes, exclude, include }
    }

    /// A list of mappings, or an expression that gives one; each written name must be accepted by `check`.
    fn cells(
        &self,
        node: &Node,
        what: &str,
        vars: &[&str],
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Values> {
        if let Yaml::List(items) = &node.value {
            for item in items {
                let Yaml::Map(fields) = &item.value else {
                    let message = format!("{what} must be a list of mappings, one is {}", item.value.kind());
                    self.reader.error_help(&item.span, message, "write `- {arch: x86_64}`");
                    continue;
                };
                for (key, _) in fields {
                    if let Err(why) = check(&key.text) {
                        self.reader.error(&key.span, why);
                    }
                }
            }
        }
        self.values(node, what, vars)
    }

    fn needs(&self, node: &Node, vars: &[&str]) -> NeedsEntry {
        if !has_template(node) {
            return NeedsEntry { constant: read_needs(self.reader, node), ..NeedsEntry::default() };
        }
        let Some(mut fields) = self.reader.fields(node, "`needs`") else { return NeedsEntry::default() };
        let text = |node: Option<&Node>, what: &str| node.and_then(|node| self.text(node, what, vars));
        let arch = text(fields.get("arch"), "`arch`");
        let labels = fields.get("labels").map(|node| match &node.value {
            Yaml::List(items) => items.iter().filter_map(|node| text(Some(node), "`labels`")).collect(),
            _ => text(Some(node), "`labels`").into_iter().collect::<Vec<_>>(),
        });
        let mut constant = Requirements::default();
        let mut read = NeedsEntry { arch, labels: labels.unwrap_or_default(), ..NeedsEntry::default() };
        if let Some(node) = fields.get("memory") {
            if has_template(node) {
                read.memory = text(Some(node), "`memory`");
            } else {
                constant.memory_bytes = self.reader.size_of(node, "`memory`");
            }
        }
        if let Some(node) = fields.get("disk") {
            if has_template(node) {
                read.disk = text(Some(node), "`disk`");
            } else {
                constant.disk_bytes = self.reader.size_of(node, "`disk`");
            }
        }
        if let Some(node) = fields.get("cpus") {
            if has_template(node) {
                read.cpus = text(Some(node), "`cpus`");
            } else {
                let cpus = self.reader.int_of(node, "`cpus`", 1..10_001);
                constant.cpus = cpus.and_then(|cpus| u32::try_from(cpus).ok());
            }
        }
        if let Some(node) = fields.get("kvm") {
            if has_template(node) {
                read.kvm = text(Some(node), "`kvm`");
            } else {
                constant.kvm = self.reader.bool_of(node, "`kvm`").unwrap_or_default();
            }
        }
        fields.finish(self.reader);
        NeedsEntry { constant, ..read }
    }

    fn priority(&self, node: &Node, vars: &[&str]) -> Option<PriorityEntry> {
        if has_template(node) {
            return self.text(node, "`priority`", vars).map(PriorityEntry::Text);
        }
        let bounds = i64::from(-PRIORITY_MAX)..i64::from(PRIORITY_MAX) + 1;
        let number = self.reader.int_of(node, "`priority`", bounds)?;
        i32::try_from(number).ok().map(PriorityEntry::Constant)
    }

    fn group(&self, node: &Node, vars: &[&str]) -> Option<GroupEntry> {
        let mut fields = self.reader.fields(node, "`group`")?;
        let name = fields.require(self.reader, "name").and_then(|node| self.text(node, "`name`", vars));
        let on_new = fields.get("on_new").and_then(|node| {
            let text = self.reader.text_of(node, "`on_new`")?;
            match text.as_str() {
                "keep" => Some(OnNew::Keep),
                "supersede_queued" => Some(OnNew::SupersedeQueued),
                "supersede" => Some(OnNew::Supersede),
                other => {
                    let message =
                        format!("`on_new` must be keep, supersede_queued or supersede, not `{other}`");
                    self.reader.error(&node.span, message);
                    None
                }
            }
        });
        let max_running = fields
            .get("max_running")
            .and_then(|node| self.reader.int_of(node, "`max_running`", 1..1_000_001))
            .and_then(|count| u32::try_from(count).ok());
        fields.finish(self.reader);
        Some(GroupEntry { name: name?, on_new: on_new.unwrap_or_default(), max_running })
    }

    fn cancel(&self, node: &Node, vars: &[&str]) -> Option<CancelEntry> {
        let mut entry = self.reader.fields(node, "a cancel entry")?;
        let node = entry.require(self.reader, "cancel")?;
        entry.finish(self.reader);
        let mut fields = self.reader.fields(node, "`cancel`")?;
        let (item, group) = (fields.get("item"), fields.get("group"));
        fields.finish(self.reader);
        match (item, group) {
            (Some(item), None) => self.item(item, vars).map(CancelEntry::Item),
            (None, Some(group)) => self.text(group, "`group`", vars).map(CancelEntry::Group),
            _ => {
                let help = "write `cancel: {item: {type: …, id: …}}` or `cancel: {group: name}`";
                self.reader.error_help(&node.span, "`cancel` needs either `item` or `group`", help);
                None
            }
        }
    }

    fn emit(&self, node: &Node, vars: &[&str]) -> Option<EmitEntry> {
        let mut entry = self.reader.fields(node, "an emit entry")?;
        let node = entry.require(self.reader, "emit")?;
        entry.finish(self.reader);
        let mut fields = self.reader.fields(node, "`emit`")?;
        let topic = fields
            .require(self.reader, "topic")
            .and_then(|node| self.checked_text(node, "`topic`", vars, check_topic));
        let body = fields.get("body").map(|node| self.mapping(node, "`body`", vars));
        fields.finish(self.reader);
        let body = body.unwrap_or_else(|| Some(Tree::Constant(Value::Object(Map::new()))));
        Some(EmitEntry { topic: topic?, body: body? })
    }
}

/// Whether a text in the tree holds `${…}`.
fn has_template(node: &Node) -> bool {
    match &node.value {
        Yaml::Text(text) => text.contains("${"),
        Yaml::List(items) => items.iter().any(has_template),
        Yaml::Map(entries) => entries.iter().any(|(_, node)| has_template(node)),
        _ => false,
    }
}

/// A message may have any topic but ours: nobody is to forge a task's end.
///
/// # Errors
/// What is wrong with the topic, as one sentence.
pub(crate) fn check_topic(text: &str) -> Result<(), String> {
    let topic = Topic::parse(text).map_err(|error| error.to_string())?;
    if topic.is_own() {
        return Err(format!(
            "`{text}`: topics that start with `taskbot.` are the system's own; choose another"
        ));
    }
    if text.split('.').any(|token| token.is_empty() || token.contains(['*', '>'])) {
        return Err(format!("`{text}`: a topic has no wildcards and no empty tokens"));
    }
    Ok(())
}

/// A repository that a rule names itself must be on a host of the configuration's list.
///
/// # Errors
/// What is wrong with the URL, as one sentence.
pub(crate) fn check_git(text: &str, hosts: &std::collections::BTreeSet<String>) -> Result<(), String> {
    if repo::is_relative(text) {
        return Err(format!("`{text}`: only tasks.yaml may name folders beside the rules"));
    }
    let url = repo::parse_url(text, &Scheme::REMOTE)?;
    if hosts.contains(&url.host) {
        return Ok(());
    }
    Err(format!(
        "rules may not take repositories from `{}`; add the host to the configuration's list, or register the task in tasks.yaml",
        url.host
    ))
}

fn read_approve(reader: &Reader, node: &Node) -> Approve {
    match reader.text_of(node, "`approve`").as_deref() {
        Some("never") | None => Approve::Never,
        Some("untrusted") => Approve::Untrusted,
        Some("always") => Approve::Always,
        Some(other) => {
            let message = format!("`approve` must be never, untrusted or always, not `{other}`");
            reader.error(&node.span, message);
            Approve::Always
        }
    }
}
