//! Windows that collect events for one later firing.

use crate::harness::*;
use model::{
    EventSeq,
    verdict::{Verdict, VerdictKind},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use store::{COLLECT_EVENTS_MAX, EventCommit, Judgement, NewCollect, Unjudged};

conformance!(
    a_window_is_due_when_it_was_quiet,
    a_window_is_due_at_the_latest_after_a_time,
    each_key_has_a_window_of_its_own,
    a_full_window_is_closed_at_once,
    bodies_that_cannot_be_put_in_are_left_out,
    a_window_survives_a_restart,
    two_servers_close_a_window_once,
);

fn collect(key: &str, at_most_secs: Option<u64>) -> Judgement {
    let verdict = VerdictKind::Collected { key: key.to_owned() };
    Judgement {
        verdicts: vec![Verdict { rule: "many".into(), verdict, clauses: Vec::new() }],
        collects: vec![NewCollect {
            rule: "many".into(),
            key: key.to_owned(),
            quiet: Duration::from_secs(600),
            at_most_every: at_most_secs.map(Duration::from_secs),
        }],
        ..Judgement::none(revision())
    }
}

/// The events that windows became.
async fn due(bed: &Bed) -> Vec<(Unjudged, Value)> {
    bed.store.close_due_windows(100).await.unwrap();
    let mut due = Vec::new();
    for unjudged in bed.store.unjudged(100, 1_000).await.unwrap() {
        assert_eq!(unjudged.event.topic.as_str(), "taskbot.collect.due");
        let body = body(&unjudged.event);
        bed.store.judge(unjudged.seq, unjudged.generation, &Judgement::none(revision())).await.unwrap();
        due.push((unjudged, body));
    }
    due
}

fn ids(body: &Value) -> Vec<&str> {
    body["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect()
}

async fn a_window_is_due_when_it_was_quiet(bed: &Bed) {
    let (first, _) = bed.judged("a", collect("k", None)).await;
    assert_eq!(bed.said(first).await, ["collected"]);
    bed.pass(500_000).await;
    bed.judged("b", collect("k", None)).await;
    bed.pass(500_000).await;
    assert!(due(bed).await.is_empty());
    let window = bed.store.collect_windows(Some(&"many".into()), 10).await.unwrap().remove(0);
    assert_eq!((window.key.as_str(), window.events), ("k", 2));
    bed.pass(100_001).await;
    let all = due(bed).await;
    let [(event, body)] = &all[..] else { panic!("{all:?}") };
    assert_eq!(ids(body), ["a", "b"]);
    assert_eq!((&body["rule"], &body["key"]), (&"many".into(), &"k".into()));
    assert_eq!(body["events"][0]["seq"], Value::from(first.0));
    assert_eq!(body["events"][0]["body"]["id"], Value::from("a"));
    assert_eq!(body["events"][0]["topic"], Value::from("org.example.build.done"));
    assert!(body["events"][0]["headers"]["sent-at"].is_string(), "{body}");
    assert!(event.event.id.as_str().starts_with("collect:"), "{}", event.event.id);
    assert_eq!(event.event.depth, 1);
    assert!(bed.store.collect_windows(None, 10).await.unwrap().is_empty());
    let messages = bed.messages().await;
    let told = messages.iter().find(|one| one.message.topic.as_str() == "taskbot.collect.due").unwrap();
    assert_eq!(told.message.data.value()["events"], Value::from(2), "on the bus without their bodies");
    // The next window has another number, so that it is another event.
    bed.judged("c", collect("k", None)).await;
    bed.pass(600_001).await;
    let next = due(bed).await;
    assert_eq!(ids(&next[0].1), ["c"]);
    assert_ne!(next[0].0.event.id, event.event.id);
}

async fn a_window_is_due_at_the_latest_after_a_time(bed: &Bed) {
    for id in ["a", "b", "c"] {
        bed.judged(id, collect("k", Some(1_000))).await;
        assert!(due(bed).await.is_empty());
        bed.pass(400_000).await;
    }
    assert_eq!(ids(&due(bed).await[0].1), ["a", "b", "c"]);
}

async fn each_key_has_a_window_of_its_own(bed: &Bed) {
    for (id, key) in [("a", "x"), ("b", "y"), ("c", "x")] {
        bed.judged(id, collect(key, None)).await;
    }
    bed.pass(600_001).await;
    let mut all: Vec<_> = due(bed).await.iter().map(|(_, body)| ids(body).join(" ")).collect();
    all.sort();
    assert_eq!(all, ["a c", "b"]);
}

async fn a_full_window_is_closed_at_once(bed: &Bed) {
    let count = usize::try_from(COLLECT_EVENTS_MAX).unwrap() + 5;
    let commits: Vec<_> = (0..count)
        .map(|n| EventCommit { event: event(&format!("e{n}"), "{}"), judgement: Some(collect("k", None)) })
        .collect();
    for batch in commits.chunks(300) {
        bed.store.commit_events(batch).await.unwrap();
    }
    let full = due(bed).await;
    assert_eq!((full.len(), ids(&full[0].1).len()), (1, count - 5));
    assert_eq!(bed.store.collect_windows(None, 10).await.unwrap()[0].events, 5);
    bed.pass(600_001).await;
    assert_eq!(ids(&due(bed).await[0].1), ["e1000", "e1001", "e1002", "e1003", "e1004"]);
    // Two bodies that do not fit into one window.
    let large = |id: &str| {
        let body = format!(r#"{{"text": "{}"}}"#, "x".repeat(3 * 1024 * 1024));
        EventCommit { event: event(id, &body), judgement: Some(collect("k", None)) }
    };
    bed.store.commit_events(&[large("l1"), large("l2")]).await.unwrap();
    assert_eq!(ids(&due(bed).await[0].1), ["l1"]);
}

async fn bodies_that_cannot_be_put_in_are_left_out(bed: &Bed) {
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(125), "]".repeat(125));
    let large = format!(r#"{{"text": "{}"}}"#, "x".repeat(5 * 1024 * 1024));
    for (id, payload) in [("deep", deep.as_str()), ("large", &large), ("good", r#"{"a": 1}"#)] {
        let commit = EventCommit { event: event(id, payload), judgement: Some(collect("k", None)) };
        bed.store.commit_events(&[commit]).await.unwrap();
    }
    bed.pass(600_001).await;
    let all = due(bed).await;
    let events = all[0].1["events"].as_array().unwrap();
    let left: Vec<_> = events.iter().map(|event| event["body_left_out"].as_bool() == Some(true)).collect();
    assert_eq!(left, [true, true, false]);
    assert!(all[0].0.event.body().is_ok());
}

async fn a_window_survives_a_restart(bed: &Bed) {
    bed.judged("a", collect("k", None)).await;
    let store = bed.restarted().await;
    store.shift_clock(600_001).await.unwrap();
    assert_eq!(store.close_due_windows(10).await.unwrap(), 1);
    let unjudged = store.unjudged(10, 1_000).await.unwrap();
    assert_eq!(ids(&body(&unjudged[0].event)), ["a"]);
    store.close().await;
}

async fn two_servers_close_a_window_once(bed: &Bed) {
    for n in 0..20 {
        bed.judged(&format!("e{n}"), collect(&format!("k{n}"), None)).await;
    }
    bed.pass(600_001).await;
    let mut servers = Vec::new();
    for _ in 0..4 {
        let store = Arc::clone(&bed.store);
        servers.push(tokio::spawn(async move {
            let mut closed = 0;
            for _ in 0..10 {
                closed += store.close_due_windows(3).await.unwrap();
            }
            closed
        }));
    }
    let mut closed = 0;
    for server in servers {
        closed += server.await.unwrap();
    }
    assert_eq!(closed, 20);
    let events: Vec<EventSeq> =
        bed.store.unjudged(100, 1_000).await.unwrap().iter().map(|one| one.seq).collect();
    assert_eq!(events.len(), 20);
}
