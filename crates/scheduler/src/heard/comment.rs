//! Comments on pull requests, as forges tell of them, and what people ask for in them.

use model::{Item, retest::TEST_BYTES_MAX, topic::Topic};
use serde_json::{Map, Value};

/// The longest line that is read as a command, in bytes.
const LINE_BYTES_MAX: usize = 300;
/// The most tests that one comment can name.
const TESTS_MAX: usize = 20;
/// The longest URL of a pull request in bytes.
const URL_BYTES_MAX: usize = 500;
/// What our commands begin with.
const PREFIX: &str = "/taskbot";
/// The type of a pull request of any forge; its id is its URL.
const ANY_FORGE: &str = "pull_request";

/// A new comment on a pull request.
#[derive(Debug, Clone, PartialEq)]
pub struct Comment {
    /// The kind of forge: `pagure`, `forgejo`, `github`, `gitlab`.
    pub forge: &'static str,
    /// Who wrote it, by the name there.
    pub author: String,
    /// What was written.
    pub text: String,
    /// Where the pull request is.
    pub url: Option<String>,
    /// What the pull request may be called as an item; at least one.
    pub items: Vec<Item>,
    /// The pull request as the forge tells it, where listeners know that form.
    pub pull_request: Value,
}

impl Comment {
    /// The comment that an event tells of; nothing when it tells of something else: an edit, a comment on an issue.
    #[must_use]
    pub fn read(topic: &Topic, headers: &Map<String, Value>, body: &Value) -> Option<Self> {
        // Relays put what the forge sent, and its headers, below.
        let relayed = body["body"].is_object() && body["headers"].is_object();
        let (headers, body) =
            if relayed { (body["headers"].as_object()?, &body["body"]) } else { (headers, body) };
        if body["pullrequest"].is_object() {
            return pagure(topic, body);
        }
        if body["object_kind"] == "note" {
            return gitlab(body);
        }
        // Forgejo says that it is GitHub, too.
        let is_forgejo = body["is_pull"].is_boolean()
            || headers.keys().any(|name| {
                let name = name.to_ascii_lowercase();
                name.starts_with("x-forgejo-") || name.starts_with("x-gitea-")
            });
        if is_forgejo { forgejo(body) } else { github(body) }
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn url_of(value: &Value) -> Option<String> {
    text(value).filter(|url| url.len() <= URL_BYTES_MAX && url.starts_with("http")).map(str::to_owned)
}

/// What a pull request may be called: by its URL, and by the forge's own path.
fn items(url: Option<&String>, kind: &str, path: Option<String>) -> Vec<Item> {
    let item = |kind: &str, id: String| Item { kind: kind.to_owned(), id };
    let by_url = url.map(|url| item(ANY_FORGE, url.clone()));
    by_url.into_iter().chain(path.map(|path| item(kind, path))).collect()
}

fn of(
    forge: &'static str,
    author: &Value,
    said: &Value,
    url: Option<String>,
    items: Vec<Item>,
    pull_request: Value,
) -> Option<Comment> {
    let (author, text) = (text(author)?.to_owned(), text(said)?.to_owned());
    (!items.is_empty()).then_some(Comment { forge, author, text, url, items, pull_request })
}

fn pagure(topic: &Topic, body: &Value) -> Option<Comment> {
    if !topic.as_str().ends_with("pull-request.comment.added") {
        return None;
    }
    let change = &body["pullrequest"];
    let comments = change["comments"].as_array()?;
    let last = comments.iter().max_by_key(|comment| comment["id"].as_i64())?;
    if last["notification"] == Value::Bool(true) {
        return None;
    }
    let (project, number) = (&change["project"], change["id"].as_i64()?);
    let path = text(&project["url_path"]).or_else(|| text(&project["fullname"])).map(str::to_owned);
    let path = path.or_else(|| match (text(&project["namespace"]), text(&project["name"])) {
        (Some(space), Some(name)) => Some(format!("{space}/{name}")),
        (None, Some(name)) => Some(name.to_owned()),
        _ => None,
    });
    let of_project = url_of(&project["full_url"])
        .map(|url| format!("{}/pull-request/{number}", url.trim_end_matches('/')));
    let url = url_of(&change["full_url"]).or(of_project);
    let items = items(url.as_ref(), "pagure_pr", path.map(|path| format!("{path}/pull-request/{number}")));
    of("pagure", &last["user"]["name"], &last["comment"], url, items, change.clone())
}

fn forgejo(body: &Value) -> Option<Comment> {
    let issue = &body["issue"];
    let is_pull = body["is_pull"] == Value::Bool(true) || issue["pull_request"].is_object();
    if body["action"] != "created" || !is_pull {
        return None;
    }
    let (number, repo) = (issue["number"].as_i64()?, text(&body["repository"]["full_name"]));
    let url = url_of(&body["pull_request"]["html_url"]).or_else(|| url_of(&issue["html_url"]));
    let url = url.map(|url| url.replacen("/issues/", "/pulls/", 1));
    let items = items(url.as_ref(), "forgejo_pr", repo.map(|repo| format!("{repo}/pulls/{number}")));
    of("forgejo", &body["comment"]["user"]["login"], &body["comment"]["body"], url, items, Value::Null)
}

fn github(body: &Value) -> Option<Comment> {
    let issue = &body["issue"];
    // For issues it is missing, or in old messages there with nothing in it.
    let url = url_of(&issue["pull_request"]["html_url"])?;
    if body["action"] != "created" {
        return None;
    }
    let (number, repo) = (issue["number"].as_i64()?, text(&body["repository"]["full_name"]));
    let items = items(Some(&url), "github_pr", repo.map(|repo| format!("{repo}/pull/{number}")));
    of("github", &body["comment"]["user"]["login"], &body["comment"]["body"], Some(url), items, Value::Null)
}

fn gitlab(body: &Value) -> Option<Comment> {
    let note = &body["object_attributes"];
    let is_new = matches!(text(&note["action"]), None | Some("create"));
    if note["noteable_type"] != "MergeRequest" || !is_new {
        return None;
    }
    let (change, repo) = (&body["merge_request"], text(&body["project"]["path_with_namespace"]));
    let number = change["iid"].as_i64()?;
    let url = url_of(&change["url"]).or_else(|| {
        let base = url_of(&body["project"]["web_url"])?;
        Some(format!("{base}/-/merge_requests/{number}"))
    });
    let items =
        items(url.as_ref(), "gitlab_mr", repo.map(|repo| format!("{repo}/-/merge_requests/{number}")));
    of("gitlab", &body["user"]["username"], &note["note"], url, items, Value::Null)
}

/// What a comment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The line that asks.
    pub line: String,
    /// The tests; all that ran when there are none.
    pub tests: Vec<String>,
    /// Only those that failed.
    pub failed: bool,
}

impl Command {
    /// The first line that asks for something: `recheck`, or `/taskbot rerun [--failed] [TEST …]`. What is quoted or
    /// stands within a sentence asks for nothing.
    ///
    /// # Errors
    /// The line begins as ours do, and goes on as none does.
    pub fn read(text: &str) -> Result<Option<Self>, String> {
        for line in text.lines().map(str::trim) {
            if line.eq_ignore_ascii_case("recheck") {
                return Ok(Some(Self { line: line.to_owned(), tests: Vec::new(), failed: false }));
            }
            let mut words = line.split_whitespace();
            if words.next() == Some(PREFIX) {
                return Self::ours(line, words).map(Some);
            }
        }
        Ok(None)
    }

    fn ours<'a>(line: &str, mut words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("a command has at most {LINE_BYTES_MAX} bytes"));
        }
        match words.next() {
            Some("rerun") => {}
            other => {
                let other = other.unwrap_or_default();
                return Err(format!(
                    "`{PREFIX} {other}` is no command; expected `{PREFIX} rerun [--failed] [TEST …]`"
                ));
            }
        }
        let mut command = Self { line: line.to_owned(), tests: Vec::new(), failed: false };
        for word in words {
            match word {
                "--failed" => command.failed = true,
                flag if flag.starts_with('-') => {
                    return Err(format!(
                        "`{PREFIX} rerun` has no `{flag}`; expected --failed or names of tests"
                    ));
                }
                test if test.len() > TEST_BYTES_MAX => {
                    return Err(format!("the name of a test has at most {TEST_BYTES_MAX} bytes"));
                }
                test => command.tests.push(test.to_owned()),
            }
        }
        if command.tests.len() > TESTS_MAX {
            return Err(format!("one comment names at most {TESTS_MAX} tests"));
        }
        if command.failed && !command.tests.is_empty() {
            return Err(format!("`{PREFIX} rerun --failed` is about all that ran; name tests without it"));
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn commands() {
        let check = |text: &str, expect: &str| {
            let got = match Command::read(text) {
                Ok(None) => "nothing".to_owned(),
                Ok(Some(command)) => format!("{:?} {}", command.tests, command.failed),
                Err(why) => why,
            };
            assert!(got.contains(expect), "{text:?}: {got}");
        };
        check("recheck", "[] false");
        check("I fixed the spec.\r\n\r\n  Recheck  \r\n", "[] false");
        check("please recheck this", "nothing");
        check("> recheck\nno, not now", "nothing");
        check("/taskbot rerun", "[] false");
        check("/taskbot rerun --failed", "[] true");
        check("LGTM\n/taskbot rerun dist.rpmlint  smoke\nthanks", r#"["dist.rpmlint", "smoke"] false"#);
        check("run /taskbot rerun", "nothing");
        check("/taskbotrerun", "nothing");
        check("/taskbot", "is no command; expected `/taskbot rerun");
        check("/taskbot retry", "`/taskbot retry` is no command");
        check("/taskbot rerun --all", "has no `--all`");
        check("/taskbot rerun --failed smoke", "name tests without it");
        check(&format!("/taskbot rerun {}", "x".repeat(400)), "at most 300 bytes");
        check(&format!("/taskbot rerun {}", "x ".repeat(21)), "at most 20 tests");
    }

    fn read(topic: &str, body: &Value) -> String {
        let Some(comment) = Comment::read(&Topic::from(topic), &Map::new(), body) else {
            return "nothing".to_owned();
        };
        let items: Vec<_> = comment.items.iter().map(|item| format!("{} {}", item.kind, item.id)).collect();
        format!("{}/{}: {}: {}", comment.forge, comment.author, comment.text, items.join(", "))
    }

    #[test]
    fn comments_of_pagure() {
        let mut body = json!({
            "agent": "ada",
            "pullrequest": {
                "id": 7, "title": "Raise the limit", "project": {"name": "tool", "namespace": "rpms", "url_path": "rpms/tool"},
                "comments": [
                    {"id": 12, "comment": "recheck", "notification": false, "user": {"name": "ada"}},
                    {"id": 11, "comment": "why?", "notification": false, "user": {"name": "bob"}},
                ],
            },
        });
        let topic = "org.example.pagure.pull-request.comment.added";
        assert_eq!(read(topic, &body), "pagure/ada: recheck: pagure_pr rpms/tool/pull-request/7");
        body["pullrequest"]["full_url"] = json!("https://src.example.org/rpms/tool/pull-request/7");
        assert_eq!(
            read(topic, &body),
            "pagure/ada: recheck: pull_request https://src.example.org/rpms/tool/pull-request/7, \
             pagure_pr rpms/tool/pull-request/7"
        );
        assert_eq!(read("org.example.pagure.pull-request.comment.edited", &body), "nothing");
        body["pullrequest"]["comments"][0]["notification"] = json!(true);
        assert_eq!(read(topic, &body), "nothing", "what the forge itself says");
        assert_eq!(read(topic, &json!({"pullrequest": {"comments": [3]}})), "nothing");
    }

    #[test]
    fn comments_of_forgejo_and_github() {
        let comment = json!({"id": 5, "body": "/taskbot rerun", "user": {"login": "ada"}});
        let forgejo = json!({
            "action": "created", "is_pull": true, "comment": comment, "repository": {"full_name": "qa/tool"},
            "issue": {"number": 9, "html_url": "https://git.example.org/qa/tool/issues/9"},
        });
        let expect = "forgejo/ada: /taskbot rerun: pull_request https://git.example.org/qa/tool/pulls/9, \
            forgejo_pr qa/tool/pulls/9";
        assert_eq!(read("forgejo.issue_comment", &forgejo), expect);
        let relayed =
            json!({"agent": null, "headers": {"x-forgejo-event": "issue_comment"}, "body": forgejo});
        assert_eq!(read("forgejo.issue_comment", &relayed), expect);
        let mut other = forgejo.clone();
        other["action"] = json!("edited");
        assert_eq!(read("forgejo.issue_comment", &other), "nothing");
        let mut issue = forgejo;
        issue["is_pull"] = json!(false);
        assert_eq!(read("forgejo.issue_comment", &issue), "nothing");

        let mut github = json!({
            "action": "created", "comment": comment, "repository": {"full_name": "qa/tool"},
            "issue": {"number": 9, "pull_request": {"html_url": "https://github.com/qa/tool/pull/9"}},
        });
        assert_eq!(
            read("github.issue_comment", &github),
            "github/ada: /taskbot rerun: pull_request https://github.com/qa/tool/pull/9, github_pr qa/tool/pull/9"
        );
        github["issue"]["pull_request"]["html_url"] = Value::Null;
        assert_eq!(read("github.issue_comment", &github), "nothing", "an issue, as old messages have it");
    }

    #[test]
    fn comments_of_gitlab() {
        let mut body = json!({
            "object_kind": "note", "user": {"username": "ada"}, "project": {"path_with_namespace": "qa/tool"},
            "object_attributes": {"note": "recheck", "noteable_type": "MergeRequest", "action": "create"},
            "merge_request": {"iid": 3, "url": "https://gitlab.example.org/qa/tool/-/merge_requests/3"},
        });
        assert_eq!(
            read("gitlab.note", &body),
            "gitlab/ada: recheck: pull_request https://gitlab.example.org/qa/tool/-/merge_requests/3, \
             gitlab_mr qa/tool/-/merge_requests/3"
        );
        body["object_attributes"]["noteable_type"] = json!("Issue");
        assert_eq!(read("gitlab.note", &body), "nothing");
    }

    #[test]
    fn other_events_are_no_comments() {
        for body in
            [json!(null), json!([]), json!({}), json!({"comment": "x"}), json!({"issue": {"number": "9"}})]
        {
            assert_eq!(read("build.done", &body), "nothing", "{body}");
        }
    }
}
