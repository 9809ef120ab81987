//! `task.yaml`.

use super::{duration, object, one_or_list, size, text_of};
use model::task_file::{INPUT_KINDS, InputKind, RESULT_FORMATS};
use serde_json::{Map, Value, json};

pub(super) fn task_file() -> Value {
    let commands = |description: &str| {
        let mut commands = one_or_list(&json!({"type": "string"}));
        commands["description"] = json!(description);
        commands
    };
    let mut schema = object(
        "How a task runs",
        &["name", "run"],
        json!({
            "name": text_of("Its name"),
            "owner": text_of("Whom to ask"),
            "description": text_of("One line for people"),
            "inputs": {"type": "object", "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"}, "additionalProperties": input()},
            "environment": one_or_list(&environment()),
            "needs": object("What it needs of a worker", &[], json!({
                "arch": text_of("x86_64, aarch64 …"),
                "labels": one_or_list(&json!({"type": "string"})),
                "memory": size("Such as 2G"),
                "disk": size("Such as 20G"),
                "cpus": {"type": "integer", "minimum": 1},
                "kvm": {"type": "boolean"},
            })),
            "fetch": {"type": "array", "items": object("An external file, or the files of a build, update or compose", &["to"], json!({
                "url": text_of("Where from"),
                "koji": text_of("A build, NAME-VERSION-RELEASE: its packages"),
                "bodhi": text_of("An update: the packages of its builds"),
                "compose": text_of("A compose: its images"),
                "arch": one_or_list(&json!({"type": "string"})),
                "files": one_or_list(&json!({"type": "string"})),
                "to": text_of("Where to, in the work folder"),
                "sha256": {"type": "string"},
            }))},
            "prepare": commands("With network, may install packages"),
            "run": commands("Without network, not root"),
            "cleanup": commands("Also after failure, time-out, cancellation"),
            "timeout": timeouts(),
            "results": results(),
            "artifacts": object("Files that are kept", &[], json!({
                "paths": one_or_list(&json!({"type": "string"})),
                "max": size("All together"),
                "publish": {"type": "boolean", "default": false},
            })),
            "secrets": one_or_list(&json!({"type": "string", "description": "The name of a secret that it cannot do without"})),
            "retry": object("When to try again; never on failed", &[], json!({
                "on": one_or_list(&json!({"enum": ["error", "lost", "timeout", "oom"]})),
                "max": {"type": "integer", "minimum": 0},
            })),
        }),
    );
    schema["title"] = json!("taskbot task");
    schema
}

fn input() -> Value {
    object(
        "An input",
        &[],
        json!({
            "type": {"enum": INPUT_KINDS.map(InputKind::as_str), "default": "string"},
            "required": {"type": "boolean", "default": false},
            "default": {},
            "description": text_of("One line for people"),
            "choices": {"type": "array"},
        }),
    )
}

/// Sizes, and what is relaxed.
fn with_sizes(own: Value) -> Value {
    let sizes = json!({
        "memory": size("Such as 2G"),
        "cpus": {"type": "integer", "minimum": 1},
        "disk": size("Such as 20G"),
        "processes": {"type": "integer", "minimum": 1},
        "network": {"type": "boolean"},
        "root": {"type": "boolean"},
        "writable_root": {"type": "boolean"},
        "capabilities": one_or_list(&json!({"type": "string"})),
    });
    let mut all = Map::new();
    for part in [sizes, own] {
        if let Value::Object(fields) = part {
            all.extend(fields);
        }
    }
    let mut schema = object("An environment", &[], Value::Object(all));
    schema["type"] = json!(["object", "null"]);
    schema
}

fn environment() -> Value {
    let programs = || with_sizes(json!({"programs": one_or_list(&json!({"type": "string"}))}));
    let external = object(
        "A configured program",
        &["provider"],
        json!({
            "provider": text_of("Its name in the worker's configuration"),
            "with": {"type": "object", "description": "What it is to provide, in the program's own words"},
            "reboot": {"type": "boolean", "description": "Reboot after `prepare`", "default": false},
            "memory": size("Such as 2G"),
            "cpus": {"type": "integer", "minimum": 1},
            "disk": size("Such as 20G"),
            "processes": {"type": "integer", "minimum": 1},
        }),
    );
    json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
        "properties": {
            "container": with_sizes(json!({"image": text_of("An image; the worker's default if not given")})),
            "vm": {"type": ["object", "null"], "description": "A virtual machine: image, kernel or install"},
            "sandbox": programs(),
            "local": programs(),
            "external": external,
        },
    })
}

fn timeouts() -> Value {
    let names = ["provision", "fetch", "prepare", "run", "idle", "cleanup"];
    let mut properties: Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), duration("More than nothing, at most 24h"))).collect();
    properties.insert("outcome".to_owned(), json!({"enum": ["error", "failed"], "default": "error"}));
    object("The longest that phases may take", &[], Value::Object(properties))
}

fn results() -> Value {
    object(
        "Where results come from",
        &[],
        json!({
            "testcase": text_of("The testcase of the summary"),
            "publish": {"enum": ["summary", "all"], "default": "summary"},
            "format": {"enum": RESULT_FORMATS.map(|(_, name)| name)},
            "path": text_of("The result file, in the work folder"),
            "exit": {
                "type": "object",
                "propertyNames": {"pattern": "^([0-9]{1,3}|\\*)$"},
                "additionalProperties": {"type": "string"},
                "description": "Outcomes by exit code; \"*\" for all others",
            },
        }),
    )
}
