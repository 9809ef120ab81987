//! The description of an interface of another system where it is served by itself: its operations, and who may use them.

use serde_json::{Map, Value, json};

/// A description (OpenAPI) of these operations: method, path, and what is to be said of it.
pub(crate) fn of(title: &str, operations: impl IntoIterator<Item = (String, String, String)>) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, summary) in operations {
        let named = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters: Vec<_> = named
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        let operation = json!({
            "summary": summary,
            "parameters": parameters,
            "responses": {"default": {"description": "see the documentation of this interface"}},
        });
        if let Some(methods) = paths.entry(path).or_insert_with(|| json!({})).as_object_mut() {
            methods.insert(method, operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
    })
}
