//! Every recorded message is taken in, judged by the shipped rules, and shown.

use crate::support::{
    embedded::Embedded,
    environment::{optional, root},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_message_is_taken_in_judged_and_shown() {
    let folder =
        optional("TASKBOT_MESSAGES_DIR").map_or_else(|| root().join("rules/fixtures"), PathBuf::from);
    let messages = recorded(&folder);
    assert!(messages.len() >= 10, "{} holds {} messages", folder.display(), messages.len());
    let embedded = Embedded::start(&["--rules", root().join("rules").to_str().unwrap(), "--no-worker"]).await;

    // As one dump, in lines.
    let dump = embedded.folder().join("dump.jsonl");
    let lines: Vec<String> = messages.values().map(Value::to_string).collect();
    fs::write(&dump, lines.join("\n")).unwrap();
    embedded.succeeds(&["event", "send", "-f", dump.to_str().unwrap()]);
    // And once more: nothing new comes of it.
    embedded.succeeds(&["event", "send", "-f", dump.to_str().unwrap()]);

    let count = messages.len().to_string();
    let listed = embedded.lines(&["event", "list", "-n", "1000", "-o", "jsonl"]);
    assert_eq!(listed.len(), messages.len(), "events in the inbox");
    let tailed = embedded.succeeds(&["event", "tail", "--terse", "--in", "--since", "1h", "--count", &count]);
    assert_eq!(tailed.lines().count(), messages.len(), "lines of `event tail --terse`:\n{tailed}");
    for (id, message) in &messages {
        let shown = embedded.succeeds(&["event", "show", id]);
        let topic = message["topic"].as_str().unwrap();
        assert!(shown.contains(topic), "`event show {id}` does not name {topic}:\n{shown}");
        let json: Value =
            serde_json::from_str(&embedded.succeeds(&["event", "show", id, "-o", "json"])).unwrap();
        let event = json.get("event").unwrap_or(&json);
        assert_eq!(event["body"], message["body"], "{id}");
    }
    let whys = embedded.succeeds(&["event", "why", "@latest"]);
    for rule in ["rpmlint-on-testing", "static-analysis-on-c-build", "kernel-tests-on-build"] {
        assert!(whys.contains(rule), "`event why` says nothing of {rule}:\n{whys}");
    }
    let letters = embedded.lines(&["dlq", "list", "-o", "jsonl"]);
    assert!(letters.is_empty(), "dead letters: {letters:?}");
    println!("drill corpus: {} messages of {}", messages.len(), folder.display());
}

/// The messages of a folder by their ids; those without one have got theirs as `event send` gives it.
fn recorded(folder: &Path) -> BTreeMap<String, Value> {
    let mut messages = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path).unwrap();
        let message: model::event::RecordedMessage =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // What a taskbot tells is not taken in from outside.
        if message.topic.as_str().starts_with("taskbot.") {
            continue;
        }
        let id = message.id_or_hash().to_string();
        messages.insert(id, serde_json::to_value(&message).unwrap());
    }
    messages
}
