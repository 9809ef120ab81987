//! One line for people about any event, guessed from what bodies commonly hold. It never fails: what says
//! nothing gives its topic alone.

use super::{busy, columns::one_line, faint, paint, style_of};
use serde_json::Value;

/// The longest line without time and topic, in characters.
const SUMMARY_CHARS_MAX: usize = 120;
/// The longest list that is looked into for the shorter of its texts.
const LIST_SHOWN_MAX: usize = 3;
/// What the bus of a distribution puts before every topic ends with the environment.
const ENVIRONMENTS: [&str; 4] = ["prod", "stg", "dev", "stage"];

/// What an event is about: the first of these that is there.
const ABOUT: [&str; 44] = [
    "item.id",
    "update.alias",
    "comment.update_alias",
    "comment.update_title",
    "update.title",
    "nvr",
    "build.nvr",
    "override.nvr",
    "override.build.nvr",
    "artifact.nvr",
    "pullrequest.project.fullname",
    "pull_request.project.fullname",
    "issue.project.fullname",
    "repository.full_name",
    "repo.fullname",
    "commit.repo",
    "project.fullname",
    "project.path_with_namespace",
    "body.repository.full_name",
    "body.project.path_with_namespace",
    "data.item",
    "task.item",
    "subject_identifier",
    "artifact.id",
    "compose_id",
    "compose.compose_id",
    "compose.id",
    "image_name",
    "srpm",
    "BUILD",
    "pkg",
    "package",
    "tag.package",
    "project.name",
    "distro.name",
    "name",
    "repo.name",
    "repo",
    "project",
    "host",
    "playbook",
    "rule",
    "id",
    "title",
];
/// Which one of several.
const WHICH: [&str; 17] = [
    "pullrequest.id",
    "pull_request.id",
    "pull_request.number",
    "issue.number",
    "issue.id",
    "number",
    "body.object_attributes.iid",
    "bug.id",
    "bug.bug_id",
    "testcase.name",
    "testcase",
    "task.name",
    "TEST",
    "event_id",
    "calendar.calendar_name",
    "stack.name",
    "job_id",
];
/// What it says of itself in words.
const WORDS: [&str; 16] = [
    "pullrequest.title",
    "pull_request.title",
    "issue.title",
    "body.object_attributes.title",
    "bug.summary",
    "commit.summary",
    "head_commit.message",
    "commit.commit.message",
    "comment.text",
    "comment.body",
    "summary",
    "what",
    "reason",
    "message.project",
    "meeting_topic",
    "description",
];
/// How it stands.
const STATE: [&str; 18] = [
    "label",
    "outcome",
    "result.outcome",
    "test.result",
    "result",
    "update.status",
    "status",
    "state_name",
    "compose.state_name",
    "state.state",
    "state",
    "action",
    "decision",
    "log",
    "success",
    "policies_satisified",
    "verdict.kind",
    "waived",
];
/// Who.
const WHO: [&str; 13] = [
    "agent",
    "comment.author",
    "sender.login",
    "body.user.username",
    "submitter",
    "username",
    "user.name",
    "user.username",
    "user",
    "owner",
    "userid",
    "message.agent",
    "who",
];
/// What topics of messages about tasks begin with.
const OF_TASKS: &str = "taskbot.task.";
/// Build states of Koji, by their number.
const KOJI_BUILD_STATES: [&str; 5] = ["building", "complete", "deleted", "failed", "cancelled"];

/// A topic, whole, so that it can be asked for; what every topic of the bus has (`org.fedoraproject.prod.`) is faint.
pub(crate) fn topic(topic: &str) -> String {
    let topic = one_line(topic);
    match topic.split_at_checked(common_bytes(&topic)) {
        Some((common, rest)) if !common.is_empty() => {
            format!("{}{}", paint(faint(), common), paint(busy(), rest))
        }
        _ => paint(busy(), topic),
    }
}

/// How many bytes of a topic every topic of the bus has: up to the environment, which is at most its fourth token.
pub(super) fn common_bytes(topic: &str) -> usize {
    let mut end = 0;
    for (at, token) in topic.split('.').take(4).enumerate() {
        end += token.len() + 1;
        if at > 0 && ENVIRONMENTS.contains(&token) && end < topic.len() {
            return end;
        }
    }
    0
}

/// The line of an event: time, topic, summary.
pub(crate) fn terse(time: &str, topic: &str, body: &Value) -> String {
    let summary = if topic.starts_with(OF_TASKS) { of_task(body) } else { summary(body) };
    format!("{} {} {summary}", paint(faint(), time), self::topic(topic)).trim_end().to_owned()
}

/// A message of a task: its name, its item, how it stands, and its id, by which it can be asked for.
fn of_task(body: &Value) -> String {
    let item = at(body, "item.id").map(|item| format!(" {}", shorten(&one_line(&item))));
    let name = at(body, "name").map(|name| shorten(&one_line(&name))).unwrap_or_default();
    let label = at(body, "label").map(|label| format!(" [{}]", paint(style_of(&label), &label)));
    let id = at(body, "id").unwrap_or_default();
    format!("{name}{}{} {}", item.unwrap_or_default(), label.unwrap_or_default(), paint(faint(), id))
}

/// What a body says, in one line; empty when nothing in it is known.
pub(crate) fn summary(body: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut add = |text: Option<String>| {
        if let Some(text) = text.filter(|text| !text.is_empty())
            && !parts.contains(&text)
        {
            parts.push(text);
        }
    };
    add(build(body).or_else(|| first(body, &ABOUT)));
    add(first(body, &WHICH).map(|which| {
        if which.starts_with(|c: char| c.is_ascii_digit()) { format!("#{which}") } else { which }
    }));
    add(["version", "chroot", "tag", "branch", "arch", "ARCH"]
        .iter()
        .find_map(|path| at(body, path))
        .filter(|_| build(body).is_none()));
    add(first(body, &WORDS));
    let state = state(body);
    let who = first(body, &WHO).map(|who| who.rsplit('/').next().unwrap_or_default().to_owned());
    let mut line = shorten(&one_line(&parts.join(" ")));
    if let Some(state) = state {
        line.push(if line.is_empty() { '[' } else { ' ' });
        let shown = paint(style_of(&state.to_lowercase()), &state);
        line.push_str(&if line.ends_with('[') { format!("{shown}]") } else { format!("[{shown}]") });
    }
    if let Some(who) = who.filter(|who| !who.is_empty()) {
        let by = paint(faint(), format_args!("by {who}"));
        line = if line.is_empty() { by } else { format!("{line} {by}") };
    }
    line
}

/// A build as name, version and release side by side, also below `info`; with the tag that it got.
fn build(body: &Value) -> Option<String> {
    let build = if body.get("version").is_some() { body } else { body.get("info")? };
    let [name, version, release] = ["name", "version", "release"].map(|key| at(build, key));
    let nvr = format!("{}-{}-{}", name?, version?, release?);
    Some(at(body, "tag").map_or(nvr.clone(), |tag| format!("{nvr} {tag}")))
}

/// How it stands: `old → new`, Koji's numbers in words, or the first state that is there.
fn state(body: &Value) -> Option<String> {
    if let Some(new) = body.get("new").filter(|new| new.is_string() || new.is_u64()) {
        let word = |value: &Value| {
            let koji = value.as_u64().and_then(|number| KOJI_BUILD_STATES.get(usize::try_from(number).ok()?));
            koji.map_or_else(|| scalar(value), |word| Some((*word).to_owned()))
        };
        let new = word(new)?;
        return Some(body.get("old").and_then(word).map_or(new.clone(), |old| format!("{old} → {new}")));
    }
    first(body, &STATE).map(|state| shorten(&one_line(&state)))
}

fn first(body: &Value, paths: &[&str]) -> Option<String> {
    paths.iter().find_map(|path| at(body, path)).map(|text| shorten(&one_line(&text)))
}

/// The text at a path of keys; numbers and booleans in words, of lists the first entries.
fn at(body: &Value, path: &str) -> Option<String> {
    let found = path.split('.').try_fold(body, |value, key| value.get(key))?;
    if let Value::Array(items) = found {
        let texts: Vec<String> = items.iter().take(LIST_SHOWN_MAX).filter_map(scalar).collect();
        return (!texts.is_empty()).then(|| texts.join(", "));
    }
    scalar(found)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let line = text.trim().lines().next().unwrap_or_default().trim();
            (!line.is_empty() && line != "''").then(|| line.to_owned())
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= SUMMARY_CHARS_MAX {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(SUMMARY_CHARS_MAX - 1).collect();
    short.push('…');
    short
}
