//! What a job may say. By default only what matters here is checked; `strict` takes nothing else than Testflinger 1.5.

use super::{
    allowed::seconds, answer::Refusal, shapes, shapes::NULL, view::names_attachments, who::NAME_BYTES_MAX,
};
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
    /// What is wrong with a value of this kind.
    fn wrong(self, value: &Value) -> Option<Value> {
        let (right, message) = match self {
            _ if value.is_null() => (false, NULL),
            Self::Text => (value.is_string(), shapes::NO_TEXT),
            Self::Int => (whole(value).is_some(), shapes::NO_INT),
            Self::Bool => (truth(value).is_some(), shapes::NO_BOOL),
            Self::Texts => return shapes::texts(value),
            Self::Object => (value.is_object(), shapes::NO_MAPPING),
        };
        (!right).then(|| json!([message]))
    }
}

/// A whole number, as theirs takes one: parts of it are dropped, and it may be a text.
#[expect(clippy::cast_possible_truncation, reason = "what does not fit is the largest")]
pub(super) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whether it is so, as theirs takes it.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "y" | "yes" | "1" => Some(true),
            "f" | "false" | "off" | "n" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Writes numbers, truths and times as those who are handed the job read them: a reservation is in seconds.
pub(super) fn settle(job: &mut Map<String, Value>) {
    for (field, kind) in FIELDS {
        let Some(value) = job.get_mut(field) else { continue };
        let settled = match kind {
            Kind::Int => whole(value).map(Value::from),
            Kind::Bool => truth(value).map(Value::from),
            _ => None,
        };
        if let Some(settled) = settled {
            *value = settled;
        }
    }
    let timeout = job.get_mut("reserve_data").and_then(|data| data.get_mut("timeout"));
    if let Some(timeout) = timeout
        && let Some(seconds) = seconds(timeout)
    {
        *timeout = seconds.into();
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
        if strict && shapes::is_looked_into(field) {
            wrong.extend(shapes::mistakes(field, value).map(|mistakes| (field.clone(), mistakes)));
            continue;
        }
        match FIELDS.iter().find(|(name, _)| name == field) {
            Some((_, kind)) if strict || is_read(field) => {
                let left_out = value.is_null() && !strict;
                if let Some(mistakes) = kind.wrong(value)
                    && !left_out
                {
                    wrong.insert(field.clone(), mistakes);
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
        priority: job.get("job_priority").and_then(whole).unwrap_or(0),
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
        check(json!({"job_queue": "q", "job_priority": "7"}), true, "q 7");
        check(
            json!({"job_queue": "q", "global_timeout": "soon"}),
            true,
            r#"{"global_timeout":["Not a valid integer."]}"#,
        );
        check(json!({"job_queue": "q", "global_timeout": "soon"}), false, "q 0");
        check(json!({"job_queue": "q", "debug": "perhaps"}), true, r#"{"debug":["Not a valid boolean."]}"#);
        check(
            json!({"job_queue": "q", "allocate_data": null}),
            true,
            r#"{"allocate_data":["Field may not be null."]}"#,
        );
        check(json!({"job_queue": "q", "tags": ["a", 1]}), true, r#"{"tags":{"1":["Not a valid string."]}}"#);
        check(json!({"job_queue": "q", "job_id": "x"}), false, "Invalid job_id specified");
    }

    #[test]
    fn what_is_written_otherwise() {
        let mut job = json!({
            "job_queue": "q", "global_timeout": "60", "output_timeout": 1.5, "debug": "yes", "job_priority": true,
            "reserve_data": {"timeout": "1h30m"},
        });
        settle(job.as_object_mut().unwrap());
        let expect = json!({
            "job_queue": "q", "global_timeout": 60, "output_timeout": 1, "debug": true, "job_priority": true,
            "reserve_data": {"timeout": 5400},
        });
        assert_eq!(job, expect);
        let mut job = json!({"reserve_data": {"timeout": "soon"}, "debug": null});
        settle(job.as_object_mut().unwrap());
        assert_eq!(job, json!({"reserve_data": {"timeout": "soon"}, "debug": null}));
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
        let url = "http://images.example.org/x";
        let none = json!({"_schema": ["Invalid provision data schema."]});
        for data in [
            json!(null),
            json!({}),
            json!({"skip": true}),
            json!({"url": url}),
            json!({"distro": "noble", "disks": [{"id": "a"}]}),
            json!({"jobs": [{"job_queue": "a"}]}),
            json!({"use_attachment": "a", "attachments": [{"agent": "a"}], "media": "sd"}),
            json!({"url": url, "token_file": "t", "update_user_data": false}),
            json!({"urls": [url], "preset": "p", "provisioning_timeout": "60"}),
            json!({"url": url, "provision_plan": {}, "ubuntu_sso_email": "me@example.org"}),
            json!({"url": url, "robot_tasks": ["a"], "live_image": true, "wait_until_ssh": "false"}),
            json!({"alloem_url": url, "robot_tasks": [], "oem": "x"}),
            json!({"preset": "p", "autoinstall_oem": true}),
        ] {
            check("provision_data", data, right.clone());
        }
        for data in [
            json!({"odd": 1}),
            json!("text"),
            json!({"url": "images"}),
            json!({"url": "http://x"}),
            json!({"jobs": []}),
            json!({"media": "floppy", "url": url}),
            json!({"distro": "noble", "url": url}),
            json!({"distro": null}),
            json!({"url": url, "urls": [url], "preset": "p"}),
            json!({"provision_plan": {}}),
            json!({"url": url, "robot_tasks": ["a"], "live_image": true, "skip": true}),
        ] {
            check("provision_data", data, none.clone());
        }
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
        check(
            "test_data",
            json!({"secrets": {"1A": "x"}}),
            json!({"secrets": {"1A": {"key": ["String does not match expected pattern."]}}}),
        );
        check("test_data", json!(null), json!(["Field may not be null."]));
        check("test_data", json!({"test_cmds": null}), json!({"test_cmds": ["Field may not be null."]}));
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
