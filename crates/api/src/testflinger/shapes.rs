//! What the phases of a job may say where `strict` asks for no more than Testflinger 1.5 takes.

use super::allowed::seconds;
use serde_json::{Map, Value, json};

/// What the device connectors know; the keys of all of them, since a job does not say which it is for.
const PROVISION: [&str; 33] = [
    "alloem_url",
    "attachments",
    "authorized_keys",
    "autoinstall_conf",
    "base_user_data",
    "boot_check_url",
    "cmdline_append",
    "create_user",
    "disks",
    "distro",
    "jobs",
    "kernel",
    "live_image",
    "media",
    "password",
    "preset",
    "preset_kwargs",
    "provision_plan",
    "redeploy_cfg",
    "robot_retries",
    "robot_tasks",
    "skip",
    "skip_download",
    "storage_layout",
    "storage_password",
    "token_file",
    "ubuntu_sso_email",
    "url",
    "urls",
    "use_attachment",
    "user_data",
    "username",
    "wait_until_ssh",
];
const NO_FIELD: &str = "Unknown field.";
const NO_TEXT: &str = "Not a valid string.";
const NO_LIST: &str = "Not a valid list.";
const NO_MAPPING: &str = "Not a valid mapping type.";
const NO_INPUT: &str = "Invalid input type.";
const MISSING: &str = "Missing data for required field.";
const NO_MATCH: &str = "String does not match expected pattern.";

/// What is wrong with a part of a job whose inside is looked at; nothing when it is right, or no such part.
pub(super) fn mistakes(field: &str, value: &Value) -> Option<Value> {
    let all = match (field, value) {
        ("provision_data", Value::Null) => return None,
        ("provision_data", value) => provision(value),
        ("test_data", Value::Object(data)) => by_field(data, test),
        ("reserve_data", Value::Object(data)) => by_field(data, reserve),
        ("test_data" | "reserve_data", _) => Some(json!({"_schema": [NO_INPUT]})),
        _ => None,
    };
    all.filter(|all| *all != json!({}))
}

fn by_field(data: &Map<String, Value>, check: fn(&str, &Value) -> Option<Value>) -> Option<Value> {
    let wrong = data.iter().filter_map(|(name, value)| Some((name.clone(), check(name, value)?)));
    Some(Value::Object(wrong.collect()))
}

fn provision(value: &Value) -> Option<Value> {
    let Some(data) = value.as_object() else { return Some(json!({"_schema": [NO_INPUT]})) };
    let attached = data.get("attachments").and_then(attachments);
    let unknown = data.keys().filter(|name| !PROVISION.contains(&name.as_str()));
    let mut wrong: Map<_, _> = unknown.map(|name| (name.clone(), json!([NO_FIELD]))).collect();
    wrong.extend(attached.map(|mistakes| ("attachments".to_owned(), mistakes)));
    Some(wrong.into())
}

fn test(name: &str, value: &Value) -> Option<Value> {
    match name {
        "test_cmds" | "test_username" | "test_password" => (!value.is_string()).then(|| json!([NO_TEXT])),
        "attachments" => attachments(value),
        "secrets" => secrets(value),
        _ => Some(json!([NO_FIELD])),
    }
}

/// Each of them by its place, as the validator tells it.
fn each(value: &Value, check: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    let Some(list) = value.as_array() else { return Some(json!([NO_LIST])) };
    let wrong = list.iter().enumerate().filter_map(|(at, one)| Some((at.to_string(), check(one)?)));
    let wrong: Map<_, _> = wrong.collect();
    (!wrong.is_empty()).then(|| wrong.into())
}

fn attachments(value: &Value) -> Option<Value> {
    each(value, |one| {
        let Some(one) = one.as_object() else { return Some(json!({"_schema": [NO_INPUT]})) };
        let mut wrong = Map::new();
        for (name, value) in one {
            let message = match name.as_str() {
                "agent" | "device" => (!value.is_string()).then_some(NO_TEXT),
                _ => Some(NO_FIELD),
            };
            wrong.extend(message.map(|message| (name.clone(), json!([message]))));
        }
        if !one.contains_key("agent") {
            wrong.insert("agent".to_owned(), json!([MISSING]));
        }
        (!wrong.is_empty()).then(|| wrong.into())
    })
}

fn secrets(value: &Value) -> Option<Value> {
    let Some(secrets) = value.as_object() else { return Some(json!([NO_MAPPING])) };
    let mut wrong = Map::new();
    for (name, path) in secrets {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_/-".contains(c);
        let message = match path.as_str() {
            Some(path) if !path.is_empty() && path.chars().all(fits) => continue,
            Some(_) => NO_MATCH,
            None => NO_TEXT,
        };
        wrong.insert(name.clone(), json!({"value": [message]}));
    }
    (!wrong.is_empty()).then(|| wrong.into())
}

fn reserve(name: &str, value: &Value) -> Option<Value> {
    match name {
        "ssh_keys" => each(value, |key| match key.as_str() {
            Some(key) if is_key(key) => None,
            Some(_) => Some(json!([NO_MATCH])),
            None => Some(json!([NO_TEXT])),
        }),
        "timeout" if value.is_null() || seconds(value).is_some() => None,
        "timeout" => Some(json!(["Not a valid integer or duration."])),
        _ => Some(json!([NO_FIELD])),
    }
}

/// `lp:` or `gh:` and somebody's name there.
fn is_key(text: &str) -> bool {
    let name = text.strip_prefix("lp:").or_else(|| text.strip_prefix("gh:"));
    name.is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
}
