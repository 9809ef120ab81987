//! Scripts, templates, and lists and trees of values with templates in them.

use crate::{
    language::{Text, Tree, Values},
    load::Options,
    registry::Registry,
    script::{Engine, Script, ScriptError},
    source::{Scripted, SourceFile},
    template::Template,
};
use model::yaml::{Node, Reader, Value as Yaml};
use std::sync::Arc;

/// What reading a rule needs.
pub(super) struct Context<'a> {
    pub(super) reader: &'a Reader,
    pub(super) file: &'a Arc<SourceFile>,
    pub(super) engine: &'a Engine,
    pub(super) registry: &'a Registry,
    pub(super) options: &'a Options,
}

/// Whether a text holds an expression (or an escape of one).
fn is_template(text: &str) -> bool {
    text.contains("${")
}

impl Context<'_> {
    /// An expression; `vars` are the variables that it may read beside `event`.
    pub(super) fn script(&self, node: &Node, what: &str, vars: &[&str]) -> Option<Scripted<Script>> {
        let text = self.reader.name_of(node, what)?;
        match self.engine.compile_with(&text, vars) {
            Ok(script) => Some(Scripted::new(script, Arc::clone(self.file), node.clone())),
            Err(error) => {
                self.note(node, error);
                None
            }
        }
    }

    fn template(&self, node: &Node, text: &str, vars: &[&str]) -> Option<Scripted<Template>> {
        match Template::parse(self.engine, text, vars) {
            Ok(template) => Some(Scripted::new(template, Arc::clone(self.file), node.clone())),
            Err(error) => {
                self.note(node, error);
                None
            }
        }
    }

    fn note(&self, node: &Node, error: ScriptError) {
        let span = self.reader.inside(node, error.span);
        match error.help {
            Some(help) => self.reader.error_help(&span, error.message, help),
            None => self.reader.error(&span, error.message),
        }
    }

    /// A text that may hold `${…}`.
    pub(super) fn text(&self, node: &Node, what: &str, vars: &[&str]) -> Option<Text> {
        let text = self.reader.name_of(node, what)?;
        if is_template(&text) {
            return self.template(node, &text, vars).map(Text::Template);
        }
        Some(Text::Constant(text))
    }

    /// A text that may hold `${…}`; one that does not must be accepted by `check`.
    pub(super) fn checked_text(
        &self,
        node: &Node,
        what: &str,
        vars: &[&str],
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Text> {
        let text = self.text(node, what, vars)?;
        if let Text::Constant(constant) = &text
            && let Err(why) = check(constant)
        {
            self.reader.error(&node.span, why);
            return None;
        }
        Some(text)
    }

    /// Any value, with templates in its texts.
    pub(super) fn tree(&self, node: &Node, vars: &[&str]) -> Option<Tree> {
        let tree = match &node.value {
            Yaml::Text(text) if is_template(text) => Tree::Text(self.template(node, text, vars)?),
            Yaml::List(items) => {
                let read: Vec<_> = items.iter().filter_map(|item| self.tree(item, vars)).collect();
                if read.len() < items.len() {
                    return None;
                }
                Tree::List(read)
            }
            Yaml::Map(entries) => {
                let read: Vec<_> = entries
                    .iter()
                    .filter_map(|(key, node)| Some((key.text.clone(), self.tree(node, vars)?)))
                    .collect();
                if read.len() < entries.len() {
                    return None;
                }
                Tree::Map(read)
            }
            _ => Tree::Constant(node.to_json()),
        };
        let constant = match &tree {
            Tree::List(items) => items.iter().all(|item| matches!(item, Tree::Constant(_))),
            Tree::Map(entries) => entries.iter().all(|(_, tree)| matches!(tree, Tree::Constant(_))),
            Tree::Constant(_) | Tree::Text(_) => false,
        };
        Some(if constant { Tree::Constant(node.to_json()) } else { tree })
    }

    /// A mapping of any values, with templates in its texts.
    pub(super) fn mapping(&self, node: &Node, what: &str, vars: &[&str]) -> Option<Tree> {
        if matches!(node.value, Yaml::Map(_)) {
            return self.tree(node, vars);
        }
        self.reader.error(&node.span, format!("{what} must be a mapping, it is {}", node.value.kind()));
        None
    }

    /// A list, or an expression that gives one.
    pub(super) fn values(&self, node: &Node, what: &str, vars: &[&str]) -> Option<Values> {
        match &node.value {
            Yaml::List(items) => {
                let read: Vec<_> = items.iter().filter_map(|item| self.tree(item, vars)).collect();
                (read.len() == items.len()).then(|| Values::List(read, self.file.place(node.span.start)))
            }
            Yaml::Text(text) if is_template(text) => self.template(node, text, vars).map(Values::Template),
            Yaml::Text(_) => self.script(node, what, vars).map(Values::Script),
            other => {
                let message =
                    format!("{what} must be a list or an expression that gives one, it is {}", other.kind());
                self.reader.error(&node.span, message);
                None
            }
        }
    }
}
