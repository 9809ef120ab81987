//! Requests of programs: our own form, and the one that RATS tells those who listen.

use model::{Item, retest::EXTRAS_BYTES_MAX};
use serde_json::{Map, Value, json};

/// A program's request for a test to be run once more.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// What is tested.
    pub(super) item: Option<Item>,
    /// The test.
    pub(super) test: Option<String>,
    /// The result that it is to replace, by its number.
    pub(super) result: Option<String>,
    /// What goes into the messages as it is.
    pub(super) extras: Value,
    /// Why.
    pub(super) why: Option<String>,
    /// Also when the same was asked a short time ago.
    pub(super) force: bool,
    /// Who asks.
    pub(super) agent: Option<String>,
    /// The pull request, where it is told.
    pub(super) pull_request: Value,
}

/// Who asks, as far as it can be told.
pub(super) fn agent(body: &Value) -> Option<&str> {
    body["agent"].as_str().filter(|agent| !agent.is_empty())
}

impl Request {
    /// Reads `{type, item, test, result_id, extras, why, force, agent}`; RATS' messages say `identifier` for the item, and
    /// leave its type to be told from what else they hold.
    ///
    /// # Errors
    /// A field is none of what it can be.
    pub(super) fn read(body: &Value) -> Result<Self, String> {
        if !body.is_object() {
            return Err("the request must be a JSON object".to_owned());
        }
        let text = |names: &[&str]| {
            let found = names.iter().find(|name| !body[**name].is_null());
            let Some(name) = found else { return Ok(None) };
            match &body[*name] {
                Value::String(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
                Value::Number(number) => Ok(Some(number.to_string())),
                other => Err(format!("`{name}` must be a text, not {other}")),
            }
        };
        let extras = match &body["extras"] {
            Value::Null => Value::Object(Map::new()),
            extras if extras.to_string().len() > EXTRAS_BYTES_MAX => {
                return Err(format!("`extras` has more than {EXTRAS_BYTES_MAX} bytes"));
            }
            extras => extras.clone(),
        };
        let kind = text(&["type", "item_type"])?.or_else(|| told_type(body));
        let id = text(&["item", "identifier"])?;
        let item = match (kind, id) {
            (Some(kind), Some(id)) => Some(Item { kind, id }),
            (None, Some(id)) => Some(Item { kind: type_of(&id).to_owned(), id }),
            (_, None) => None,
        };
        Ok(Self {
            item,
            test: text(&["test"])?,
            result: text(&["result_id", "result"])?,
            extras,
            why: text(&["why"])?,
            force: body["force"] == json!(true),
            agent: agent(body).map(str::to_owned),
            pull_request: body["pull_request"].clone(),
        })
    }
}

/// The type as the rest of the message tells it.
fn told_type(body: &Value) -> Option<String> {
    if body["pull_request"].is_object() {
        return Some("pagure_pr".to_owned());
    }
    let of_result = &body["old_result"]["data"]["type"];
    of_result.as_str().or_else(|| of_result[0].as_str()).map(str::to_owned)
}

/// The type that an item looks like: a path to a pull request, an update, else a build.
fn type_of(id: &str) -> &'static str {
    let is_update = |id: &str| {
        let mut parts = id.rsplitn(3, '-');
        let (last, year, name) = (parts.next(), parts.next(), parts.next());
        last.is_some_and(|last| last.len() >= 8 && last.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && year.is_some_and(|year| year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()))
            && name.is_some_and(|name| {
                name.bytes().all(|byte| byte.is_ascii_uppercase() || b"-0123456789".contains(&byte))
            })
    };
    if id.contains("/pull-request/") {
        "pagure_pr"
    } else if is_update(id) {
        "bodhi_update"
    } else {
        "koji_build"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |body: Value, expect: &str| {
            let got = match Request::read(&body) {
                Ok(request) => format!(
                    "{} {:?} {:?} {} {:?} {}",
                    request.item.map_or_else(|| "-".to_owned(), |item| format!("{}:{}", item.kind, item.id)),
                    request.test,
                    request.result,
                    request.extras,
                    request.agent,
                    request.force
                ),
                Err(why) => why,
            };
            assert!(got.contains(expect), "{body}: {got}");
        };
        check(
            json!({"type": "koji_build", "item": "tool-1-1", "test": "smoke", "agent": "bodhi", "force": true}),
            r#"koji_build:tool-1-1 Some("smoke") None {} Some("bodhi") true"#,
        );
        check(json!({"result_id": 12, "extras": {"a": 1}}), r#"- None Some("12") {"a":1} None false"#);
        // As RATS tells them.
        check(
            json!({"agent": "ada", "extras": {}, "groups": [], "test": null, "identifier": null, "result_id": "77"}),
            r#"- None Some("77") {} Some("ada") false"#,
        );
        check(
            json!({"identifier": "rpms/tool/pull-request/3", "test": "smoke", "pull_request": {"id": 3}}),
            "pagure_pr:rpms/tool/pull-request/3",
        );
        check(json!({"identifier": "x", "old_result": {"data": {"type": ["compose"]}}}), "compose:x");
        check(json!({"identifier": "FEDORA-EPEL-2026-0a1b2c3d4e"}), "bodhi_update:");
        check(json!({"identifier": "tool-2026-1.fc44"}), "koji_build:");
        check(json!({"item": ["a"]}), "`item` must be a text");
        check(json!("smoke"), "must be a JSON object");
        check(json!({"extras": "x".repeat(70_000)}), "more than 65536 bytes");
    }
}
