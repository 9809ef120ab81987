//! What a job may say. By default only what matters here is checked; `strict` takes nothing else than Testflinger 1.5.

use super::{answer::Refusal, shapes, view::names_attachments, who::NAME_BYTES_MAX};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A kind of field.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Int,
    Bool,
    Texts,
    Object,
}

/// The fields that Testflinger 1.5 knows.
const FIELDS: [(&str, Kind); 19] = [
    ("job_queue", Kind::Text),
    ("job_id", Kind::Text),
    ("parent_job_id", Kind::Text),
    ("name", Kind::Text),
    ("tags", Kind::Texts),
    ("global_timeout", Kind::Int),
    ("output_timeout", Kind::Int),
    ("allocation_timeout", Kind::Int),
    ("job_priority", Kind::Int),
    ("exclude_agents", Kind::Texts),
    ("job_status_webhook", Kind::Text),
    ("debug", Kind::Bool),
    ("provision_data", Kind::Object),
    ("firmware_update_data", Kind::Object),
    ("test_data", Kind::Object),
    ("allocate_data", Kind::Object),
    ("reserve_data", Kind::Object),
    ("attachments_status", Kind::Text),
    ("started_at", Kind::Text),
];

impl Kind {
    fn wrong(self, value: &Value) -> Option<&'static str> {
        let (right, message) = match self {
            Self::Text => (value.is_string(), "Not a valid string."),
            Self::Int => (value.is_i64(), "Not a valid integer."),
            Self::Bool => (value.is_boolean(), "Not a valid boolean."),
            Self::Texts => {
                let texts = value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
                (texts, "Not a valid list.")
            }
            Self::Object => (value.is_object(), "Not a valid mapping type."),
        };
        (!right).then_some(message)
    }
}

/// What of a job matters here.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) queue: String,
    pub(crate) job_id: Option<Uuid>,
    pub(crate) name: Option<String>,
    pub(crate) priority: i64,
    pub(crate) exclude: Vec<String>,
    pub(crate) attachments: bool,
}

/// Reads a job.
///
/// # Errors
/// Each field that is wrong.
pub(crate) fn read(job: &Map<String, Value>, strict: bool) -> Result<Wanted, Refusal> {
    let mut wrong = Map::new();
    for (field, value) in job {
        if strict && let Some(mistakes) = shapes::mistakes(field, value) {
            wrong.insert(field.clone(), mistakes);
            continue;
        }
        match FIELDS.iter().find(|(name, _)| name == field) {
            Some((_, kind)) if strict || is_read(field) => {
                let left_out = value.is_null() && (!strict || field == "provision_data");
                if let Some(message) = kind.wrong(value)
                    && !left_out
                {
                    wrong.insert(field.clone(), json!([message]));
                }
            }
            None if strict => {
                wrong.insert(field.clone(), json!(["Unknown field."]));
            }
            _ => {}
        }
    }
    let text = |field: &str| job.get(field).and_then(Value::as_str).map(str::to_owned);
    let queue = text("job_queue").unwrap_or_default();
    if !job.contains_key("job_queue") {
        wrong.insert("job_queue".to_owned(), json!(["Missing data for required field."]));
    } else if queue.is_empty() && !wrong.contains_key("job_queue") {
        wrong.insert("job_queue".to_owned(), json!(["Shorter than minimum length 1."]));
    } else if queue.len() > NAME_BYTES_MAX || queue.chars().any(char::is_control) {
        wrong.insert("job_queue".to_owned(), json!(["Not a valid queue name."]));
    }
    if !wrong.is_empty() {
        return Err(Refusal::Invalid("json", wrong));
    }
    let job_id = text("job_id").filter(|id| !id.is_empty());
    let job_id = job_id.map(|id| Uuid::try_parse(&id)).transpose();
    let texts = |field: &str| {
        let list = job.get(field).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Ok(Wanted {
        queue,
        job_id: job_id.map_err(|_| Refusal::bad("Invalid job_id specified"))?,
        name: text("name").filter(|name| !name.is_empty()),
        priority: job.get("job_priority").and_then(Value::as_i64).unwrap_or(0),
        exclude: texts("exclude_agents"),
        attachments: names_attachments(job),
    })
}

/// The fields that this server goes by: a wrong type in them is told in any case.
fn is_read(field: &str) -> bool {
    matches!(field, "job_queue" | "job_id" | "name" | "tags" | "job_priority" | "exclude_agents")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_are_taken_and_refused() {
        let check = |job: Value, strict: bool, expect: &str| {
            let got = match read(job.as_object().unwrap(), strict) {
                Ok(wanted) => format!("{} {}", wanted.queue, wanted.priority),
                Err(Refusal::Invalid(_, fields)) => Value::Object(fields).to_string(),
                Err(Refusal::Abort(_, message)) => message,
                Err(other) => format!("{other:?}"),
            };
            assert_eq!(got, expect, "{job} {strict}");
        };
        check(json!({"job_queue": "myqueue", "option": "foo"}), false, "myqueue 0");
        check(json!({"job_queue": "myqueue", "option": "foo"}), true, r#"{"option":["Unknown field."]}"#);
        check(json!({"job_queue": "q", "job_priority": 5}), true, "q 5");
        check(json!({}), false, r#"{"job_queue":["Missing data for required field."]}"#);
        check(json!({"job_queue": ""}), false, r#"{"job_queue":["Shorter than minimum length 1."]}"#);
        check(json!({"job_queue": 1}), false, r#"{"job_queue":["Not a valid string."]}"#);
        check(json!({"job_queue": "q", "tags": "x"}), false, r#"{"tags":["Not a valid list."]}"#);
        check(json!({"job_queue": "q", "provision_data": null}), true, "q 0");
        check(
            json!({"job_queue": "q", "global_timeout": "1"}),
            true,
            r#"{"global_timeout":["Not a valid integer."]}"#,
        );
        check(json!({"job_queue": "q", "global_timeout": "1"}), false, "q 0");
        check(
            json!({"job_queue": "q", "allocate_data": null}),
            true,
            r#"{"allocate_data":["Not a valid mapping type."]}"#,
        );
        check(json!({"job_queue": "q", "job_id": "x"}), false, "Invalid job_id specified");
    }

    #[test]
    fn strict_phases() {
        let check = |part: &str, value: Value, expect: Value| {
            let mut job = json!({"job_queue": "q"});
            job[part] = value.clone();
            let job = job.as_object().unwrap();
            assert!(read(job, false).is_ok(), "{part} {value}");
            let got = match read(job, true) {
                Err(Refusal::Invalid(_, mut fields)) => fields.remove(part).unwrap(),
                other => json!(other.is_ok()),
            };
            assert_eq!(got, expect, "{part} {value}");
        };
        let right = json!(true);
        check("provision_data", json!({"skip": true}), right.clone());
        check("provision_data", json!({"url": "http://x", "attachments": [{"agent": "a"}]}), right.clone());
        check("provision_data", json!({"odd": 1}), json!({"odd": ["Unknown field."]}));
        let test = json!({"test_cmds": "true", "test_username": "ubuntu", "secrets": {"A": "team/a_1"},
            "attachments": [{"agent": "a", "device": "b"}]});
        check("test_data", test, right.clone());
        check("test_data", json!({"test_cmds": ["true"]}), json!({"test_cmds": ["Not a valid string."]}));
        check("test_data", json!({"odd": 1}), json!({"odd": ["Unknown field."]}));
        check(
            "test_data",
            json!({"attachments": [{"agent": "a"}, {"local": "x"}]}),
            json!({"attachments": {"1": {
                "agent": ["Missing data for required field."], "local": ["Unknown field."],
            }}}),
        );
        check(
            "test_data",
            json!({"secrets": {"A": "../x"}}),
            json!({"secrets": {"A": {"value": ["String does not match expected pattern."]}}}),
        );
        check("test_data", json!("true"), json!({"_schema": ["Invalid input type."]}));
        check("reserve_data", json!({"ssh_keys": ["lp:me", "gh:me"], "timeout": "1h"}), right.clone());
        check("reserve_data", json!({"timeout": 60}), right);
        check(
            "reserve_data",
            json!({"ssh_keys": ["lp:me", "me"]}),
            json!({"ssh_keys": {"1": ["String does not match expected pattern."]}}),
        );
        check(
            "reserve_data",
            json!({"timeout": "soon"}),
            json!({"timeout": ["Not a valid integer or duration."]}),
        );
    }
}
