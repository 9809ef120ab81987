//! Results and artifacts.

use crate::{
    ids::{ArtifactId, ResultId, TaskId},
    item::Item,
    outcome::Outcome,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The most results, children included, that one attempt can report.
pub const RESULTS_PER_ATTEMPT_MAX: usize = 10_000;
/// The longest note of a result in bytes; longer ones are cut.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;

/// One testcase's outcome for one item, as an attempt reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewResult {
    /// The testcase, such as `dist.rpmlint` or `dist.rpmlint.no-binary`.
    pub testcase: String,
    /// What was tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    /// How it ended.
    pub outcome: Outcome,
    /// One or a few lines for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Anything else: file, line, architecture …
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: Map<String, Value>,
    /// Sub-results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(no_recursion))]
    pub children: Vec<NewResult>,
}

impl NewResult {
    /// How many results it is with all its children.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.children.iter().map(Self::count).sum::<usize>()
    }
}

/// A stored result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredResult {
    /// Its number.
    pub id: ResultId,
    /// The result that this one is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ResultId>,
    /// The task that reported it; results may come from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The attempt that reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The testcase.
    pub testcase: String,
    /// What was tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
    /// How it ended.
    pub outcome: Outcome,
    /// The outcome that the same testcase had for the same item before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_outcome: Option<Outcome>,
    /// A few lines for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Anything else.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: Map<String, Value>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// The values by key that a result has in ResultsDB's view: what is one text or number, or a list of such; what is
/// deeper is the native view's alone. Its item is there as `item` and `type`.
#[must_use]
pub fn resultsdb_values<'a>(
    data: &'a Map<String, Value>,
    item: Option<&'a Item>,
) -> BTreeMap<&'a str, Vec<String>> {
    let mut shown: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, value) in data {
        let values: Vec<String> = match value {
            Value::Array(values) => values.iter().filter_map(as_text).collect(),
            value => as_text(value).into_iter().collect(),
        };
        if !key.contains(':') && !values.is_empty() {
            shown.insert(key, values);
        }
    }
    if let Some(item) = item {
        shown.entry("item").or_insert_with(|| vec![item.id.clone()]);
        shown.entry("type").or_insert_with(|| vec![item.kind.clone()]);
    }
    shown
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A file that an attempt left. Its bytes lie in the object store under [`Artifact::key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// The task.
    pub task: TaskId,
    /// The attempt that left it.
    pub attempt: u32,
    /// The path inside the task's output, with `/`, never absolute, never with `..`.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The path in the object store.
    pub key: String,
    /// Whether it was told on the bus, so that rules can react.
    pub published: bool,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}
