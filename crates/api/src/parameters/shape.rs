//! Which fields what is shown can have, below its first level: as the description of the interface says.

use serde_json::Value;
use std::sync::LazyLock;

/// The described types, by name.
static SCHEMAS: LazyLock<Value> = LazyLock::new(|| {
    let whole = serde_json::to_value(crate::server::openapi()).unwrap_or_default();
    whole["components"]["schemas"].clone()
});
/// References in references are followed at most so far; types do not hold themselves.
const REFERENCES_MAX: usize = 16;

/// A part of a path that leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing<'a> {
    /// The part.
    pub(super) name: &'a str,
    /// What could stand there.
    pub(super) known: Vec<String>,
}

/// How a type is described; nothing when it is not.
pub(super) fn of<T>() -> Option<&'static Value> {
    let name = std::any::type_name::<T>();
    SCHEMAS.get(name.rsplit("::").next().unwrap_or(name))
}

/// The first part of a path that leads to nothing which is described so.
pub(super) fn missing<'a>(schema: Option<&'static Value>, parts: &'a [String]) -> Option<Missing<'a>> {
    let mut here: Vec<&'static Value> = schema.into_iter().collect();
    for part in parts {
        let mut objects = Vec::new();
        for schema in &here {
            if !alternatives(schema, &mut objects, REFERENCES_MAX) {
                return None;
            }
        }
        if here.is_empty() {
            return None;
        }
        let fields = || objects.iter().filter_map(|object| object["properties"].as_object());
        here = fields().filter_map(|fields| fields.get(part)).collect();
        if here.is_empty() {
            let mut known: Vec<_> = fields().flat_map(|fields| fields.keys().cloned()).collect();
            known.sort_unstable();
            known.dedup();
            return Some(Missing { name: part, known });
        }
    }
    None
}

/// The objects that a value may be, also within arrays; `false` when it may be anything.
fn alternatives(schema: &'static Value, objects: &mut Vec<&'static Value>, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return SCHEMAS.get(name).is_some_and(|schema| alternatives(schema, objects, depth));
    }
    if let Some(list) = ["oneOf", "anyOf", "allOf"].iter().find_map(|key| schema[*key].as_array()) {
        return list.iter().all(|schema| alternatives(schema, objects, depth));
    }
    if let Some(items) = schema.get("items") {
        return alternatives(items, objects, depth);
    }
    let kind = &schema["type"];
    let is_object =
        kind == "object" || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "object"));
    if is_object {
        let open = schema["properties"].as_object().is_none_or(serde_json::Map::is_empty)
            || schema.get("additionalProperties").is_some_and(|more| more != false);
        objects.push(schema);
        return !open;
    }
    // A plain value has no fields; one that is not described has any.
    !kind.is_null() || schema.get("enum").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Task, result::StoredResult};

    fn said<T>(path: &str) -> Option<(String, Vec<String>)> {
        let parts: Vec<_> = path.split('.').map(str::to_owned).collect();
        missing(of::<T>(), &parts).map(|missing| (missing.name.to_owned(), missing.known))
    }

    #[test]
    fn fields_below_the_first() {
        for path in [
            "state.state",
            "state.outcome",
            "state.since",
            "origin.rule",
            "origin.by",
            "origin.cell.anything.at.all",
            "inputs.x.y",
            "item.type",
            "kind.repo.git",
            "kind.job.provision_data.url",
            "kind.resolved.file.anything",
            "needs.arch",
            "group.name",
        ] {
            assert_eq!(said::<Task>(path), None, "{path}");
        }
        assert_eq!(said::<StoredResult>("data.log.x"), None);
        let item = |name: &str| Some((name.to_owned(), vec!["id".to_owned(), "type".to_owned()]));
        assert_eq!(said::<Task>("item.typ"), item("typ"));
        assert_eq!(said::<StoredResult>("item.name"), item("name"));
        assert_eq!(said::<Task>("name.x"), Some(("x".to_owned(), Vec::new())));
        assert_eq!(said::<Task>("state.outcom").unwrap().0, "outcom");
        assert_eq!(said::<String>("x"), None, "what is not described is not judged");
    }
}
