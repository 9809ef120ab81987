//! What the phases of a job may say where `strict` asks for no more than Testflinger 1.5 takes.

use super::{allowed::seconds, schema};
use serde_json::{Map, Value, json};

/// A kind of field of what a device connector is told.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Url,
    Urls,
    Email,
    Int,
    Bool,
    Texts,
    Object,
    /// Objects, and whether there must be one.
    Objects(bool),
    /// Files, and how many there are at most.
    Files(usize),
    Media,
}

/// Which of several fields there must be.
#[derive(Debug, Clone, Copy)]
enum Of {
    Any,
    /// One of these, or both.
    Either(&'static str, &'static str),
    /// One of these, and only one.
    One(&'static [&'static str]),
}

use Kind::{Bool, Email, Files, Int, Media, Object, Objects, Text, Texts, Url, Urls};

/// The sources of an image for a control host: one of them.
const IMAGE: Of = Of::One(&["url", "urls", "attachments"]);
/// How many files a list may name that nobody bounds.
const FILES_MAX: usize = usize::MAX;

/// What one device connector takes: the fields that it needs, those that it knows beside them, and which of several.
type Connector = (&'static [(&'static str, Kind)], &'static [(&'static str, Kind)], Of);

/// All of them; a job does not say which it is for, and what one of them takes is right.
const CONNECTORS: [Connector; 13] = [
    // cm3
    (&[("url", Url)], &[], Of::Any),
    // maas
    (
        &[],
        &[
            ("distro", Text),
            ("kernel", Text),
            ("user_data", Text),
            ("disks", Objects(false)),
            ("ephemeral", Bool),
        ],
        Of::Any,
    ),
    // multi
    (&[("jobs", Objects(true))], &[], Of::Any),
    // muxpi
    (
        &[],
        &[
            ("url", Url),
            ("use_attachment", Text),
            ("attachments", Files(FILES_MAX)),
            ("create_user", Bool),
            ("boot_check_url", Text),
            ("media", Media),
        ],
        Of::Either("url", "use_attachment"),
    ),
    // noprovision
    (&[], &[("skip", Bool)], Of::Any),
    // oem_autoinstall
    (
        &[],
        &[
            ("url", Url),
            ("attachments", Files(FILES_MAX)),
            ("token_file", Text),
            ("user_data", Text),
            ("redeploy_cfg", Text),
            ("authorized_keys", Text),
            ("control_host_iso_url", Text),
            ("control_host_iso_type", Text),
            ("update_user_data", Bool),
        ],
        Of::Any,
    ),
    // oem_script
    (&[("url", Url)], &[], Of::Any),
    // control_host_iot_custom
    (
        &[("provision_plan", Object)],
        &[
            ("url", Url),
            ("urls", Urls),
            ("attachments", Files(1)),
            ("agent_ssh_access", Bool),
            ("ubuntu_sso_email", Email),
            ("provisioning_timeout", Int),
        ],
        IMAGE,
    ),
    // control_host_iot_preset
    (
        &[("preset", Text)],
        &[
            ("url", Url),
            ("urls", Urls),
            ("attachments", Files(1)),
            ("agent_ssh_access", Bool),
            ("preset_kwargs", Object),
            ("provisioning_timeout", Int),
        ],
        IMAGE,
    ),
    // control_host_kvm_autoinstall
    (
        &[("url", Url), ("robot_tasks", Texts)],
        &[
            ("robot_retries", Int),
            ("autoinstall_storage_layout", Text),
            ("ubuntu_sso_email", Email),
            ("autoinstall_base_user_data", Text),
            ("autoinstall_oem", Bool),
            ("cmdline_append", Text),
            ("provisioning_timeout", Int),
        ],
        Of::Any,
    ),
    // control_host_kvm_generic
    (
        &[("url", Url), ("robot_tasks", Texts), ("live_image", Bool), ("wait_until_ssh", Bool)],
        &[("robot_retries", Int), ("provisioning_timeout", Int)],
        Of::Any,
    ),
    // control_host_kvm_oem_2204
    (
        &[("alloem_url", Url), ("robot_tasks", Texts)],
        &[("robot_retries", Int), ("url", Url), ("oem", Text), ("provisioning_timeout", Int)],
        Of::Any,
    ),
    // control_host_kvm_preset
    (
        &[("preset", Text)],
        &[
            ("alloem_url", Url),
            ("autoinstall_base_user_data", Text),
            ("autoinstall_oem", Bool),
            ("autoinstall_storage_layout", Text),
            ("cmdline_append", Text),
            ("live_image", Bool),
            ("oem", Text),
            ("robot_tasks", Texts),
            ("ubuntu_sso_email", Email),
            ("url", Url),
            ("wait_until_ssh", Bool),
            ("provisioning_timeout", Int),
        ],
        Of::Any,
    ),
];
const NO_FIELD: &str = "Unknown field.";
pub(super) const NULL: &str = "Field may not be null.";
pub(super) const NO_TEXT: &str = "Not a valid string.";
pub(super) const NO_INT: &str = "Not a valid integer.";
pub(super) const NO_BOOL: &str = "Not a valid boolean.";
const NO_LIST: &str = "Not a valid list.";
pub(super) const NO_MAPPING: &str = "Not a valid mapping type.";
const NO_INPUT: &str = "Invalid input type.";
const NO_CONNECTOR: &str = "Invalid provision data schema.";
const MISSING: &str = "Missing data for required field.";
const NO_MATCH: &str = "String does not match expected pattern.";

impl Kind {
    fn fits(self, value: &Value) -> bool {
        let list = value.as_array();
        match self {
            Text => value.is_string(),
            Url => is_url(value),
            Urls => list.is_some_and(|list| !list.is_empty() && list.iter().all(is_url)),
            Email => value.as_str().is_some_and(is_address),
            Int => schema::whole(value).is_some(),
            Bool => schema::truth(value).is_some(),
            Texts => texts(value).is_none(),
            Object => value.is_object(),
            Objects(any) => {
                list.is_some_and(|list| list.iter().all(Value::is_object) && !(any && list.is_empty()))
            }
            Files(most) => attachments(value).is_none() && list.is_some_and(|list| list.len() <= most),
            Media => matches!(value.as_str(), Some("sd" | "usb")),
        }
    }
}

/// An address with a whole name of a host.
fn is_url(value: &Value) -> bool {
    let url = value.as_str().and_then(|text| reqwest::Url::parse(text).ok());
    url.is_some_and(|url| {
        let host = url.host_str().unwrap_or_default();
        matches!(url.scheme(), "http" | "https" | "ftp" | "ftps")
            && (host == "localhost" || host.contains(['.', ':']))
    })
}

fn is_address(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'))
}

impl Of {
    fn holds(self, data: &Map<String, Value>) -> bool {
        // An empty text or list is no source.
        let given = |name: &&&str| match data.get(**name) {
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            _ => false,
        };
        match self {
            Self::Any => true,
            Self::Either(one, other) => data.contains_key(one) || data.contains_key(other),
            Self::One(names) => names.iter().filter(given).count() == 1,
        }
    }
}

/// Whether the inside of a part of a job is looked at.
pub(super) fn is_looked_into(field: &str) -> bool {
    matches!(field, "provision_data" | "test_data" | "reserve_data")
}

/// What is wrong with a part of a job whose inside is looked at; nothing when it is right.
pub(super) fn mistakes(field: &str, value: &Value) -> Option<Value> {
    let all = match (field, value) {
        ("provision_data", Value::Null) => None,
        ("provision_data", value) => provision(value),
        (_, Value::Null) => Some(json!([NULL])),
        ("test_data", Value::Object(data)) => by_field(data, test),
        ("reserve_data", Value::Object(data)) => by_field(data, reserve),
        _ => Some(json!({"_schema": [NO_INPUT]})),
    };
    all.filter(|all| *all != json!({}))
}

fn by_field(data: &Map<String, Value>, check: fn(&str, &Value) -> Option<Value>) -> Option<Value> {
    let wrong = data.iter().filter_map(|(name, value)| Some((name.clone(), check(name, value)?)));
    Some(Value::Object(wrong.collect()))
}

fn provision(value: &Value) -> Option<Value> {
    let takes = |data: &Map<String, Value>, (needed, known, of): &Connector| {
        let fields = needed.iter().chain(*known);
        let mut all = data.iter();
        needed.iter().all(|(name, _)| data.contains_key(*name))
            && all.all(|(name, value)| fields.clone().any(|(own, kind)| own == name && kind.fits(value)))
            && of.holds(data)
    };
    let right = value.as_object().is_some_and(|data| CONNECTORS.iter().any(|one| takes(data, one)));
    (!right).then(|| json!({"_schema": [NO_CONNECTOR]}))
}

fn test(name: &str, value: &Value) -> Option<Value> {
    match name {
        _ if value.is_null() => Some(json!([NULL])),
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

/// Texts, and nothing else.
pub(super) fn texts(value: &Value) -> Option<Value> {
    each(value, |one| (!one.is_string()).then(|| json!([NO_TEXT])))
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
        let mut mistakes = Map::new();
        if !is_variable(name) {
            mistakes.insert("key".to_owned(), json!([NO_MATCH]));
        }
        let message = match path.as_str() {
            Some(path) if !path.is_empty() && path.chars().all(fits) => None,
            Some(_) => Some(NO_MATCH),
            None => Some(NO_TEXT),
        };
        mistakes.extend(message.map(|message| ("value".to_owned(), json!([message]))));
        if !mistakes.is_empty() {
            wrong.insert(name.clone(), mistakes.into());
        }
    }
    (!wrong.is_empty()).then(|| wrong.into())
}

fn is_variable(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(fits) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn reserve(name: &str, value: &Value) -> Option<Value> {
    match name {
        "ssh_keys" if value.is_null() => Some(json!([NULL])),
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
