//! Rules from YAML: everything around `then`.

use super::{BLOCKS_MAX, Document, LOOPS_MAX, ON_MAX, then, values::Context};
use crate::{
    language::{Action, DedupeEntry, Entry, ForEach, Mode, Rule, Values},
    load::{FileKind, Options},
    predicate::{Block, Roots, read_block},
    registry::{Registry, check_name},
    script::{Engine, Script},
    source::Scripted,
};
use model::{
    RuleName,
    topic::TopicPattern,
    yaml::{Fields, Node, Value as Yaml},
};

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
        let on = fields.require(reader, "on").map(|node| self.on(node)).unwrap_or_default();
        let when = fields.get("when").map(|node| read_block(reader, node, "`when`", Roots::Event));
        let unless = fields.get("unless").map(|node| self.blocks(node, "`unless`")).unwrap_or_default();
        let any = fields.get("any").map(|node| self.any(node)).unwrap_or_default();
        let condition = fields.get("if").and_then(|node| self.script(node, "`if`", &[]));
        let for_each = fields.get("for_each").map(|node| self.for_each(node)).unwrap_or_default();
        let vars: Vec<&str> = for_each.iter().map(|each| each.variable.as_str()).collect();
        let then_node = fields.require(reader, "then");
        let then = then_node.map(|node| then::read(self, node, &vars)).unwrap_or_default();
        let dedupe = fields.get("dedupe").and_then(|node| self.dedupe(node, &then, &vars));
        let mode = fields.get("mode").and_then(|node| self.mode(node)).unwrap_or_default();
        self.refuse_later(&mut fields);
        fields.finish(reader);
        let name_node = name_node?;
        Some(Rule {
            name: name?,
            description,
            place: self.file.place(name_node.span.start),
            span: name_node.span.clone(),
            on,
            mode,
            when: when.unwrap_or_default(),
            unless,
            any,
            condition,
            for_each,
            then,
            dedupe,
        })
    }

    fn rule_name(&self, node: &Node) -> Option<RuleName> {
        let name = self.reader.name_of(node, "`name`")?;
        if let Err(why) = check_name("a rule", &name) {
            self.reader.error(&node.span, why);
        }
        Some(RuleName::from(name))
    }

    /// What the language has, but not this version.
    fn refuse_later(&self, fields: &mut Fields<'_>) {
        for name in ["collect", "limits"] {
            if let Some(node) = fields.get(name) {
                let help = format!("leave `{name}` out; the rule would otherwise not do what it says");
                self.reader.error_help(&node.span, format!("this version does not have `{name}` yet"), help);
            }
        }
    }

    fn on(&self, node: &Node) -> Vec<TopicPattern> {
        if matches!(node.value, Yaml::Map(_)) {
            let (message, help) = if node.get("schedule").is_some() {
                (
                    "this version does not have `on: {schedule: …}` yet",
                    "send an event from a timer of the system",
                )
            } else {
                ("`on` must be a topic pattern or a list of them", "write `on: org.example.topic`")
            };
            self.reader.error_help(&node.span, message, help);
            return Vec::new();
        }
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

    fn for_each(&self, node: &Node) -> Vec<ForEach> {
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
        let mut vars = Vec::new();
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
        let window = window_node.and_then(|node| self.reader.duration_of(node, "`window`"));
        fields.finish(self.reader);
        if let (Some(node), Some(window)) = (window_node, window)
            && window.is_zero()
        {
            self.reader.error(&node.span, "`window` must be above nothing");
        }
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
    if ["event", "matrix"].contains(&name) {
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
