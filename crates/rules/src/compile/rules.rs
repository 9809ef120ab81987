//! Rules from YAML: everything around `then`.

use super::{
    BLOCKS_MAX, Document, LETS_MAX, LIMIT_MAX, LOOPS_MAX, ON_MAX, WINDOW_MAX, then, values::Context,
};
use crate::{
    language::{
        Action, CollectEntry, DedupeEntry, EVENTS, Entry, ForEach, Let, Mode, Rule, ScheduleEntry, Values,
    },
    load::{FileKind, Options},
    predicate::{Block, Roots, read_block},
    registry::{Registry, check_name},
    schedule::{Missed, Times, timezone},
    script::{Engine, Script},
    source::Scripted,
};
use chrono::DateTime;
use chrono_tz::Tz;
use model::{
    Limits, OnExcess, RuleName,
    topic::TopicPattern,
    units::format_duration,
    yaml::{Node, Value as Yaml},
};
use std::{sync::Arc, time::Duration};

/// Reads a file's rules; returns also what stands under `tests`. Mistakes are noted in the reader.
pub(super) fn read(
    document: &Document,
    root: &Node,
    kind: FileKind,
    engine: &Engine,
    registry: &Registry,
    options: &Options,
) -> (Vec<Rule>, Option<Node>) {
    let reader = &document.reader;
    if matches!(root.value, Yaml::Null) {
        return (Vec::new(), None);
    }
    let what = if kind == FileKind::Tests { "a test file" } else { "a rule file" };
    let Some(mut fields) = reader.fields(root, what) else { return (Vec::new(), None) };
    let rules = if kind == FileKind::Rules { fields.get("rules") } else { None };
    let tests = fields.get("tests").cloned();
    fields.finish(reader);
    let context = Context { reader, file: &document.file, engine, registry, options };
    let nodes = rules.and_then(|node| reader.list_of(node, "`rules`")).unwrap_or_default();
    (nodes.iter().filter_map(|node| context.rule(node)).collect(), tests)
}

impl Context<'_> {
    fn rule(&self, node: &Node) -> Option<Rule> {
        let reader = self.reader;
        let mut fields = reader.fields(node, "a rule")?;
        let name_node = fields.require(reader, "name");
        let name = name_node.and_then(|node| self.rule_name(node));
        let description = fields.get("description").and_then(|node| reader.text_of(node, "`description`"));
        let on_node = fields.require(reader, "on");
        let schedule = on_node.filter(|node| matches!(node.value, Yaml::Map(_)));
        let schedule = schedule.and_then(|node| self.schedule(node));
        let on = on_node.filter(|node| !matches!(node.value, Yaml::Map(_)));
        let on = on.map(|node| self.on(node)).unwrap_or_default();
        let when = fields.get("when").map(|node| read_block(reader, node, "`when`", Roots::Event));
        let unless = fields.get("unless").map(|node| self.blocks(node, "`unless`")).unwrap_or_default();
        let any = fields.get("any").map(|node| self.any(node)).unwrap_or_default();
        let condition = fields.get("if").and_then(|node| self.script(node, "`if`", &[]));
        let outer: &[&str] = if node.get("collect").is_some() { &[EVENTS] } else { &[] };
        let for_each = fields.get("for_each").map(|node| self.for_each(node, outer)).unwrap_or_default();
        let collect_node = fields.get("collect");
        let mut vars = outer.to_vec();
        vars.extend(for_each.iter().map(|each| each.variable.as_str()));
        let lets = fields.get("let").map(|node| self.lets(node, &vars)).unwrap_or_default();
        vars.extend(lets.iter().map(|one| one.name.as_str()));
        let collect = collect_node.and_then(|node| self.collect(node, schedule.is_some(), &lets));
        let then_node = fields.require(reader, "then");
        let then = then_node.map(|node| then::read(self, node, &vars)).unwrap_or_default();
        let dedupe = fields.get("dedupe").and_then(|node| self.dedupe(node, &then, &vars));
        let limits = fields.get("limits").and_then(|node| self.limits(node));
        let mode = fields.get("mode").and_then(|node| self.mode(node)).unwrap_or_default();
        fields.finish(reader);
        let name_node = name_node?;
        Some(Rule {
            name: name?,
            description,
            place: self.file.place(name_node.span.start),
            span: name_node.span.clone(),
            source: Arc::clone(self.file),
            on,
            schedule,
            mode,
            when: when.unwrap_or_default(),
            unless,
            any,
            condition,
            collect,
            for_each,
            lets,
            then,
            dedupe,
            limits,
        })
    }

    fn rule_name(&self, node: &Node) -> Option<RuleName> {
        let name = self.reader.name_of(node, "`name`")?;
        if let Err(why) = check_name("a rule", &name) {
            self.reader.error(&node.span, why);
        }
        Some(RuleName::from(name))
    }

    /// `{schedule: cron pattern, timezone, missed}`
    fn schedule(&self, node: &Node) -> Option<ScheduleEntry> {
        let reader = self.reader;
        if node.get("schedule").is_none() {
            let message = "`on` must be a topic pattern, a list of them, or a schedule";
            let help = "write `on: org.example.topic` or `on: {schedule: \"0 6 * * *\"}`";
            reader.error_help(&node.span, message, help);
            return None;
        }
        let mut fields = reader.fields(node, "`on`")?;
        let pattern = fields.require(reader, "schedule");
        let zone = fields.get("timezone").map_or(Some(Tz::UTC), |node| self.timezone(node));
        let missed = fields.get("missed").and_then(|node| match reader.text_of(node, "`missed`")?.as_str() {
            "skip" => Some(Missed::Skip),
            "once" => Some(Missed::Once),
            other => {
                let message = format!("`missed` must be skip or once, not `{other}`");
                reader.error(&node.span, message);
                None
            }
        });
        fields.finish(reader);
        let pattern = pattern?;
        let text = reader.name_of(pattern, "`schedule`")?;
        let help = "minute, hour, day of the month, month, day of the week: `30 6 * * 1-5`";
        let times = Times::parse(&text, zone?);
        let times = times.map_err(|why| reader.error_help(&pattern.span, why, help)).ok()?;
        if times.next_after(DateTime::UNIX_EPOCH).is_none() {
            reader.error_help(&pattern.span, format!("`{text}` never comes"), help);
        }
        Some(ScheduleEntry { times, missed: missed.unwrap_or_default() })
    }

    fn timezone(&self, node: &Node) -> Option<Tz> {
        let name = self.reader.text_of(node, "`timezone`")?;
        let near = match timezone(&name) {
            Ok(zone) => return Some(zone),
            Err(near) => near,
        };
        let help = near.map_or_else(
            || "names are those of the IANA database, such as Europe/Prague or UTC".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        self.reader.error_help(&node.span, format!("there is no time zone `{name}`"), help);
        None
    }

    fn on(&self, node: &Node) -> Vec<TopicPattern> {
        let nodes =
            if let Yaml::List(items) = &node.value { items.as_slice() } else { std::slice::from_ref(node) };
        if nodes.is_empty() || nodes.len() > ON_MAX {
            let count = nodes.len();
            self.reader.error(&node.span, format!("`on` must have 1 to {ON_MAX} patterns, it has {count}"));
        }
        let read = |node: &Node| {
            let text = self.reader.text_of(node, "a topic pattern")?;
            TopicPattern::parse(&text).map_err(|why| self.reader.error(&node.span, why.to_string())).ok()
        };
        nodes.iter().filter_map(read).collect()
    }

    /// One block or a list of blocks.
    fn blocks(&self, node: &Node, what: &str) -> Vec<Block> {
        let nodes =
            if let Yaml::List(items) = &node.value { items.as_slice() } else { std::slice::from_ref(node) };
        if nodes.is_empty() || nodes.len() > BLOCKS_MAX {
            let count = nodes.len();
            self.reader
                .error(&node.span, format!("{what} must have 1 to {BLOCKS_MAX} blocks, it has {count}"));
        }
        nodes.iter().map(|node| read_block(self.reader, node, what, Roots::Event)).collect()
    }

    fn any(&self, node: &Node) -> Vec<Block> {
        if matches!(node.value, Yaml::List(_)) {
            return self.blocks(node, "`any`");
        }
        let message = format!("`any` must be a list of blocks, it is {}", node.value.kind());
        self.reader.error_help(&node.span, message, "write `any: [{…}, {…}]`; one block alone is a `when`");
        Vec::new()
    }

    /// `outer` are the variables that are there before the first loop.
    fn for_each(&self, node: &Node, outer: &[&str]) -> Vec<ForEach> {
        let Yaml::Map(entries) = &node.value else {
            let message =
                format!("`for_each` must be a mapping from variables to lists, it is {}", node.value.kind());
            self.reader.error_help(&node.span, message, "write `for_each: {build: {in: event.body.builds}}`");
            return Vec::new();
        };
        if entries.is_empty() || entries.len() > LOOPS_MAX {
            let count = entries.len();
            self.reader.error(
                &node.span,
                format!("`for_each` must have 1 to {LOOPS_MAX} variables, it has {count}"),
            );
        }
        let mut vars = outer.to_vec();
        let mut read = Vec::new();
        for (key, node) in entries {
            if let Err(why) = check_variable(&key.text) {
                self.reader.error(&key.span, why);
                continue;
            }
            let (values, condition) = self.for_each_entry(node, &vars, &key.text);
            vars.push(&key.text);
            // The variable is known, even if its list is wrong: no further errors because of it.
            let values = values.unwrap_or_else(|| Values::List(Vec::new(), self.file.place(key.span.start)));
            read.push(ForEach { variable: key.text.clone(), values, condition });
        }
        read
    }

    fn for_each_entry(
        &self,
        node: &Node,
        vars: &[&str],
        variable: &str,
    ) -> (Option<Values>, Option<Scripted<Script>>) {
        match &node.value {
            Yaml::List(_) => (self.values(node, "the list of a loop", vars), None),
            Yaml::Map(_) => {
                let Some(mut fields) = self.reader.fields(node, "a loop") else { return (None, None) };
                let list = fields.require(self.reader, "in");
                let values = list.and_then(|node| self.values(node, "`in`", vars));
                let mut vars = vars.to_vec();
                vars.push(variable);
                let condition = fields.get("if").and_then(|node| self.script(node, "`if`", &vars));
                fields.finish(self.reader);
                (values, condition)
            }
            other => {
                let message = format!("a loop must be a list or {{in: …, if: …}}, it is {}", other.kind());
                self.reader.error_help(&node.span, message, format!("write `{variable}: {{in: …}}`"));
                (None, None)
            }
        }
    }

    /// `let: {name: expression}`; `vars` are the variables of collected events and loops.
    fn lets(&self, node: &Node, vars: &[&str]) -> Vec<Let> {
        let Yaml::Map(entries) = &node.value else {
            let kind = node.value.kind();
            let message = format!("`let` must be a mapping from names to expressions, it is {kind}");
            self.reader.error_help(&node.span, message, "write `let: {name: event.body.name}`");
            return Vec::new();
        };
        if entries.is_empty() || entries.len() > LETS_MAX {
            let count = entries.len();
            self.reader.error(&node.span, format!("`let` must have 1 to {LETS_MAX} names, it has {count}"));
        }
        let mut known = vars.to_vec();
        let mut read: Vec<Let> = Vec::new();
        for (key, node) in entries {
            let name = key.text.as_str();
            let taken = vars.contains(&name).then(|| format!("`{name}` is a variable of `for_each` already"));
            if let Err(why) = taken.map_or_else(|| check_variable(name), Err) {
                self.reader.error(&key.span, why);
                continue;
            }
            let value = self.script(node, "an expression", &known);
            // The name is known, even if its expression is wrong: no further errors because of it.
            known.push(name);
            let Some(value) = value else { continue };
            let of_event = |read: &[Let], name: &str| {
                name == "event" || read.iter().any(|one| one.name == name && one.of_event)
            };
            let of_event = value.compiled.variables().iter().all(|name| of_event(&read, name));
            read.push(Let { name: name.to_owned(), value, of_event });
        }
        read
    }

    /// `{key, quiet, at_most_every}`
    fn collect(&self, node: &Node, scheduled: bool, lets: &[Let]) -> Option<CollectEntry> {
        let reader = self.reader;
        let mut fields = reader.fields(node, "`collect`")?;
        let vars: Vec<&str> = lets.iter().filter(|one| one.of_event).map(|one| one.name.as_str()).collect();
        let key = fields.require(reader, "key").and_then(|node| self.text(node, "`key`", &vars));
        let quiet_node = fields.require(reader, "quiet");
        let quiet = quiet_node.and_then(|node| self.window(node, "`quiet`"));
        let most_node = fields.get("at_most_every");
        let most = most_node.and_then(|node| self.window(node, "`at_most_every`"));
        fields.finish(reader);
        if scheduled {
            let help = "a rule listens either to topics, whose events it may collect, or to a schedule";
            reader.error_help(&node.span, "a rule on a schedule has nothing to collect", help);
        }
        if let (Some(node), Some(quiet), Some(most)) = (most_node, quiet, most)
            && most < quiet
        {
            let message = "`at_most_every` must not be shorter than `quiet`";
            reader.error_help(
                &node.span,
                message,
                "the firing comes at the latest `at_most_every` after the first event",
            );
        }
        Some(CollectEntry { key: key?, quiet: quiet?, at_most_every: most })
    }

    /// A duration above nothing and at most [`WINDOW_MAX`].
    fn window(&self, node: &Node, what: &str) -> Option<Duration> {
        let window = self.reader.duration_of(node, what)?;
        if window.is_zero() || window > WINDOW_MAX {
            let max = format_duration(WINDOW_MAX);
            self.reader.error(&node.span, format!("{what} must be above nothing and at most {max}"));
            return None;
        }
        Some(window)
    }

    /// `{per_hour, per_day, on_excess}`
    fn limits(&self, node: &Node) -> Option<Limits> {
        let reader = self.reader;
        let mut fields = reader.fields(node, "`limits`")?;
        let mut count = |name: &'static str, what: &str| {
            let count = fields.get(name).and_then(|node| reader.int_of(node, what, 1..LIMIT_MAX + 1));
            count.and_then(|count| u32::try_from(count).ok())
        };
        let (per_hour, per_day) = (count("per_hour", "`per_hour`"), count("per_day", "`per_day`"));
        let asked = node.get("per_hour").is_some() || node.get("per_day").is_some();
        let on_excess =
            fields.get("on_excess").and_then(|node| match reader.text_of(node, "`on_excess`")?.as_str() {
                "park" => Some(OnExcess::Park),
                "drop" => Some(OnExcess::Drop),
                "pause" => Some(OnExcess::Pause),
                other => {
                    let message = format!("`on_excess` must be park, drop or pause, not `{other}`");
                    reader.error(&node.span, message);
                    None
                }
            });
        fields.finish(reader);
        if !asked {
            let help = "write `limits: {per_hour: 500}`";
            reader.error_help(&node.span, "`limits` needs `per_hour` or `per_day`, or both", help);
        }
        Some(Limits { per_hour, per_day, on_excess: on_excess.unwrap_or_default() })
    }

    fn dedupe(&self, node: &Node, then: &[Entry], vars: &[&str]) -> Option<DedupeEntry> {
        let mut fields = self.reader.fields(node, "`dedupe`")?;
        let mut vars = vars.to_vec();
        let matrices = then.iter().filter_map(|entry| match &entry.action {
            Action::Task(task) => Some(!task.matrix.is_empty()),
            _ => None,
        });
        if matrices.clone().next().is_some() && matrices.clone().all(|has| has) {
            vars.push("matrix");
        }
        let key = fields.require(self.reader, "key").and_then(|node| self.text(node, "`key`", &vars));
        let window_node = fields.require(self.reader, "window");
        let window = window_node.and_then(|node| self.window(node, "`window`"));
        fields.finish(self.reader);
        Some(DedupeEntry { key: key?, window: window? })
    }

    fn mode(&self, node: &Node) -> Option<Mode> {
        match self.reader.text_of(node, "`mode`")?.as_str() {
            "active" => Some(Mode::Active),
            "shadow" => Some(Mode::Shadow),
            "off" => Some(Mode::Off),
            other => {
                let message = format!("`mode` must be active, shadow or \"off\", not `{other}`");
                self.reader.error(&node.span, message);
                None
            }
        }
    }
}

/// A variable of ours: what Rhai takes for one, and no name that has a meaning already.
pub(super) fn check_variable(name: &str) -> Result<(), String> {
    if ["event", EVENTS, "matrix", "include", "exclude"].contains(&name) {
        return Err(format!("`{name}` has a meaning of its own; choose another name"));
    }
    let good = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= 64;
    if good {
        return Ok(());
    }
    Err(format!("`{name}` cannot be a variable: expected a lower-case letter, then letters, digits and `_`"))
}
