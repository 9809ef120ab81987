//! JSON Schemas of the files that people write, for completion and checks in editors.
//!
//! They say which fields there are and of what type; what needs the other files (names of tasks, expressions)
//! only `rule check` knows.

mod rules;
mod task_file;

use serde_json::{Value, json};

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rules and tests.
    Rules,
    /// `tasks.yaml`.
    Tasks,
    /// `task.yaml`, at the root of a task's repository.
    TaskFile,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Rules, Self::Tasks, Self::TaskFile];

    /// Its name, as of `taskbot rule schema NAME`, and of the schema's file before `.schema.json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Tasks => "tasks",
            Self::TaskFile => "task",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The schema, by the draft 2020-12 of JSON Schema.
#[must_use]
pub fn schema(kind: Kind) -> Value {
    let mut schema = match kind {
        Kind::Rules => rules::rule_file(),
        Kind::Tasks => rules::registry(),
        Kind::TaskFile => task_file::task_file(),
    };
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema
}

/// The schema as text, with a line's end.
#[must_use]
pub fn text(kind: Kind) -> String {
    format!("{:#}\n", schema(kind))
}

/// The line that tells editors where the schema of a file is: its first line. `place` is a URL, or a path from
/// the file.
#[must_use]
pub fn modeline(place: &str) -> String {
    format!("# yaml-language-server: $schema={place}\n")
}

/// A mapping with these fields and no others.
fn object(description: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "description": description,
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

/// A text with this description.
fn text_of(description: &str) -> Value {
    json!({"type": "string", "minLength": 1, "description": description})
}

/// One of these, or a list of them.
fn one_or_list(of: &Value) -> Value {
    json!({"anyOf": [of, {"type": "array", "items": of}]})
}

fn duration(description: &str) -> Value {
    json!({"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d|w) *)+$|\\$\\{", "description": description})
}

fn size(description: &str) -> Value {
    json!({"type": ["string", "integer"], "description": description})
}
