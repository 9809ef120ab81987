//! The rule language as its users meet it: files go in, diagnostics, verdicts and wishes come out.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod check;
mod docs;
mod due;
mod evaluate;
mod explain;
mod index;
mod lint;
mod load;
mod mistakes;
mod robust;
mod rule_new;
mod rule_tests;
mod schema;
mod shipped;
mod wishes;

use model::{Event, diagnostic::Report, event::RecordedMessage};
use serde_json::{Value, json};
use taskbot_rules::{Compiled, Evaluation, Options, RuleFiles, RuleSet, compile};

/// A registry that most tests use.
const TASKS: &str = r#"
tasks:
  rpmlint: {git: "https://git.example.org/rpmlint.git", ref: main}
  depcheck: {git: "https://git.example.org/depcheck.git", queue: slow, trust: trusted, secrets: [token], timeout: 30m}
"#;

/// The body of an update, as a build system and an update system tell of it.
fn update() -> Value {
    json!({
        "new": 1,
        "agent": "alice",
        "update": {
            "alias": "UPD-2026-1",
            "notes": "Fixes things.",
            "critpath": false,
            "release": {"name": "F42", "version": 42},
            "builds": [{"nvr": "bash-5.2-1.fc42"}, {"nvr": "kernel-6.14-2.fc42"}],
        },
    })
}

const TOPIC: &str = "org.example.update.request.testing";

fn event(topic: &str, body: &Value) -> Event {
    let line =
        json!({"id": "e-1", "topic": topic, "headers": {"sent-at": "2026-11-01T10:00:00Z"}, "body": body});
    let message: RecordedMessage = serde_json::from_str(&line.to_string()).unwrap();
    message.into_event(&"bus".into(), now())
}

fn now() -> chrono::DateTime<chrono::Utc> {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn options() -> Options {
    Options {
        trusted_hosts: ["src.example.org".to_owned()].into(),
        trusted_authors: ["releng".to_owned()].into(),
        file_urls: false,
    }
}

fn files(rules: &str) -> RuleFiles {
    RuleFiles::of([("tasks.yaml", TASKS), ("rules.yaml", rules)])
}

fn compiled(files: &RuleFiles) -> Compiled {
    compile(files, &options()).unwrap_or_else(|report| panic!("{report}"))
}

/// A rule set of a file that is without mistakes.
fn rule_set(rules: &str) -> RuleSet {
    compiled(&files(rules)).rule_set
}

/// What is wrong with files.
fn refused(files: &RuleFiles) -> Report {
    match compile(files, &options()) {
        Ok(_) => panic!("these files were taken"),
        Err(report) => report,
    }
}

/// What rules say to the update.
fn evaluated(rules: &str) -> Evaluation {
    let body = update();
    rule_set(rules).evaluate(&event(TOPIC, &body), now()).unwrap()
}

/// A rule with some fields on the update's topic.
fn rule(fields: &str) -> String {
    format!("rules:\n  - name: r\n    on: {TOPIC}\n{}", indented(fields))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
