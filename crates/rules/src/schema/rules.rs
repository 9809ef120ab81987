//! Rule files and `tasks.yaml`.

use super::{duration, object, one_or_list, size, text_of};
use crate::predicate::NAMES;
use serde_json::{Map, Value, json};

pub(super) fn rule_file() -> Value {
    let mut schema = object(
        "Rules, and tests of rules",
        &[],
        json!({
            "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
            "tests": {"type": "array", "items": {"$ref": "#/$defs/test"}},
        }),
    );
    schema["title"] = json!("taskbot rules");
    schema["$defs"] = json!({
        "rule": rule(),
        "block": block(),
        "predicate": predicate(),
        "values": values(),
        "item": item(),
        "entry": {"anyOf": [{"$ref": "#/$defs/task"}, {"$ref": "#/$defs/cancel"}, {"$ref": "#/$defs/emit"}, {"$ref": "#/$defs/batch"}]},
        "task": task(),
        "cancel": cancel(),
        "emit": emit(),
        "batch": batch(),
        "test": test(),
    });
    schema
}

fn rule() -> Value {
    object(
        "If this event comes in, make these tasks",
        &["name", "on", "then"],
        json!({
            "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", "description": "Unique over all files"},
            "description": text_of("One sentence for people"),
            "on": {"anyOf": [one_or_list(&text_of("A topic: * is one token, > at the end the rest")), schedule()]},
            "when": {"$ref": "#/$defs/block", "description": "Clauses that must all hold"},
            "unless": one_or_list(&json!({"$ref": "#/$defs/block"})),
            "any": {"type": "array", "items": {"$ref": "#/$defs/block"}, "minItems": 1, "description": "One of these blocks must hold"},
            "if": text_of("An expression that gives true or false, for what clauses cannot say"),
            "collect": object("Collect events, and fire once for all of them", &["key", "quiet"], json!({
                "key": text_of("Events with the same key are collected together"),
                "quiet": duration("Fire when no further event came for so long"),
                "at_most_every": duration("But at the latest so long after the first event"),
            })),
            "for_each": {"type": "object", "minProperties": 1, "additionalProperties": {"anyOf": [
                {"type": "array"},
                object("A loop", &["in"], json!({
                    "in": {"$ref": "#/$defs/values"},
                    "if": text_of("Values of which this does not hold are left out"),
                })),
            ]}, "description": "Variables that take each value of a list"},
            "let": {"type": "object", "minProperties": 1, "additionalProperties": text_of("An expression"), "description": "Names for values"},
            "then": {"type": "array", "items": {"$ref": "#/$defs/entry"}, "minItems": 1, "description": "What is wished"},
            "dedupe": object("Join the same wish from two events", &["key", "window"], json!({
                "key": text_of("Wishes with the same key are the same"),
                "window": duration("For how long"),
            })),
            "limits": object("How many tasks the rule may make", &[], json!({
                "per_hour": {"type": "integer", "minimum": 1},
                "per_day": {"type": "integer", "minimum": 1},
                "on_excess": {"enum": ["park", "drop", "pause"], "default": "park"},
            })),
            "mode": {"enum": ["active", "shadow", "off"], "default": "active"},
        }),
    )
}

fn schedule() -> Value {
    object(
        "Times instead of topics",
        &["schedule"],
        json!({
            "schedule": text_of("Minute, hour, day of the month, month, day of the week; or @daily and the like"),
            "timezone": {"type": "string", "default": "UTC", "examples": ["Europe/Prague"]},
            "missed": {"enum": ["skip", "once"], "default": "skip"},
        }),
    )
}

fn block() -> Value {
    json!({
        "type": "object",
        "propertyNames": {"pattern": "^(topic|source|headers|body)($|\\.)"},
        "additionalProperties": {"$ref": "#/$defs/predicate"},
    })
}

fn scalar() -> Value {
    json!({"type": ["string", "number", "boolean", "null"]})
}

fn predicate() -> Value {
    let inner = json!({"$ref": "#/$defs/predicate"});
    let texts = one_or_list(&json!({"type": "string"}));
    let relations = |of: &Value| {
        let names = ["gt", "gte", "lt", "lte", "eq"].map(|name| (name.to_owned(), of.clone()));
        json!({"type": "object", "additionalProperties": false, "properties": Map::from_iter(names)})
    };
    let fields = json!({"type": "object", "additionalProperties": inner});
    let of = |name: &str| match name {
        "not" => inner.clone(),
        "exists" | "null" => json!({"type": "boolean"}),
        "prefix" | "suffix" | "ieq" | "glob" | "regex" => texts.clone(),
        "gt" | "gte" | "lt" | "lte" => json!({"type": "number"}),
        "rpm_version" | "debian_version" => relations(&json!({"type": "string"})),
        "age" => relations(&duration("A duration")),
        "size" => json!({"anyOf": [{"type": "integer", "minimum": 0}, {
            "type": "object",
            "additionalProperties": false,
            "properties": {"min": {"type": "integer", "minimum": 0}, "max": {"type": "integer", "minimum": 0}},
        }]}),
        "contains" => json!({"anyOf": [inner, {
            "type": "object",
            "additionalProperties": false,
            "properties": {"any": {"type": "array"}, "all": {"type": "array"}},
        }]}),
        "any" | "all" => fields.clone(),
        _ => json!({}),
    };
    let properties: Map<String, Value> = NAMES.iter().map(|name| ((*name).to_owned(), of(name))).collect();
    json!({"anyOf": [
        scalar(),
        {"type": "array", "items": inner},
        {"type": "object", "additionalProperties": false, "minProperties": 1, "properties": properties},
    ]})
}

/// A list, or an expression that gives one.
fn values() -> Value {
    json!({"type": ["array", "string"]})
}

fn item() -> Value {
    object(
        "What is tested",
        &["type", "id"],
        json!({
            "type": text_of("koji_build, bodhi_update …"),
            "id": text_of("Which one"),
        }),
    )
}

fn task() -> Value {
    let or_text = |other: &str| json!({"type": [other, "string"]});
    let cells = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]});
    object(
        "A task",
        &["task"],
        json!({
            "task": text_of("Its name in tasks.yaml"),
            "item": {"$ref": "#/$defs/item"},
            "with": {"type": "object", "description": "The inputs"},
            "matrix": {
                "type": "object",
                "minProperties": 1,
                "properties": {"include": cells, "exclude": cells},
                "additionalProperties": {"$ref": "#/$defs/values"},
                "description": "Axes: the task is made once for each combination",
            },
            "needs": object("What it needs of a worker", &[], json!({
                "arch": text_of("x86_64, aarch64 …"),
                "labels": one_or_list(&json!({"type": "string"})),
                "memory": size("Such as 2G"),
                "disk": size("Such as 20G"),
                "cpus": or_text("integer"),
                "kvm": or_text("boolean"),
            })),
            "author": text_of("Who caused the event: the task is trusted only if the configuration lists them"),
            "approve": {"enum": ["never", "untrusted", "always"], "default": "never", "description": "Which tasks wait for a maintainer's word"},
            "queue": text_of("Where it waits"),
            "priority": or_text("integer"),
            "group": object("Tasks that know of each other", &["name"], json!({
                "name": text_of("Global"),
                "on_new": {"enum": ["keep", "supersede_queued", "supersede"], "default": "keep"},
                "max_running": {"type": "integer", "minimum": 1},
            })),
            "timeout": duration("The longest it may take"),
            "discover": {"type": "boolean", "description": "A task for each of its tests, if it has no task.yaml"},
            "git": text_of("Another repository, on an allowed host"),
            "ref": text_of("A branch, a tag or a commit"),
            "path": text_of("The folder with the task.yaml"),
        }),
    )
}

fn cancel() -> Value {
    object(
        "End tasks that have not ended",
        &["cancel"],
        json!({
            "cancel": object("Which tasks", &[], json!({
                "item": {"$ref": "#/$defs/item"},
                "group": text_of("A group's name"),
            })),
        }),
    )
}

fn emit() -> Value {
    object(
        "Send a message",
        &["emit"],
        json!({
            "emit": object("The message", &["topic"], json!({
                "topic": text_of("Any but the system's own"),
                "body": {"type": "object"},
            })),
        }),
    )
}

fn batch() -> Value {
    object(
        "Entries whose tasks belong together",
        &["batch", "then"],
        json!({
            "batch": object("The batch", &["name"], json!({"name": text_of("Its name")})),
            "then": {"type": "array", "items": {"$ref": "#/$defs/entry"}, "minItems": 1},
        }),
    )
}

fn test() -> Value {
    let message = object(
        "A message",
        &["topic", "body"],
        json!({
            "topic": {"type": "string"},
            "body": {"type": "object"},
            "headers": {"type": "object"},
            "id": {"type": "string"},
            "source": {"type": "string"},
            "depth": {"type": "integer", "minimum": 0},
        }),
    );
    let patched = object(
        "A recorded message, changed",
        &["file"],
        json!({
            "file": {"type": "string"},
            "patch": {"type": "object", "description": "Merged over the message; null removes"},
        }),
    );
    let wish = crate::rule_test::Expected::FIELDS.map(|name| (name.to_owned(), json!({})));
    let wish = json!({"type": "object", "additionalProperties": false, "properties": Map::from_iter(wish)});
    let what = json!({"anyOf": [
        {"type": "array", "items": wish},
        object("It does not fire", &["no_match"], json!({"no_match": one_or_list(&text_of("A clause's path, on, if or for_each"))})),
        object("It errs", &["error"], json!({"error": text_of("A part of the message")})),
    ]});
    object(
        "A message, and what rules are expected to wish",
        &["name", "event", "expect"],
        json!({
            "name": text_of("One sentence"),
            "event": {"anyOf": [{"type": "string", "description": "The path of a recorded message"}, message, patched]},
            "now": {"type": "string", "description": "The time that ages count from"},
            "expect": {"type": "object", "additionalProperties": what},
        }),
    )
}

pub(super) fn registry() -> Value {
    let mut task = object(
        "A registered task",
        &[],
        json!({
            "description": text_of("One line for people"),
            "git": text_of("Its repository"),
            "testflinger": text_of("In place of a repository: a queue of Testflinger's agents"),
            "ref": text_of("A branch, a tag or a commit"),
            "path": text_of("The folder with the task.yaml"),
            "discover": {"type": "boolean", "default": false, "description": "A task for each of its tests, if it has no task.yaml"},
            "queue": text_of("Where its tasks wait"),
            "trust": {"enum": ["untrusted", "trusted"], "default": "untrusted"},
            "secrets": one_or_list(&json!({"type": "string"})),
            "timeout": duration("The longest that a task may take"),
        }),
    );
    task["anyOf"] = json!([{"required": ["git"]}, {"required": ["testflinger"]}]);
    let mut schema = object(
        "The tasks that rules may name",
        &["tasks"],
        json!({
            "tasks": {"type": "object", "additionalProperties": task},
        }),
    );
    schema["title"] = json!("taskbot tasks");
    schema
}
