//! The live stream.

use super::bed::Bed;
use reqwest::{Method, Response};
use serde_json::json;
use std::time::Duration;

/// Reads server-sent events until one of this name is there; its lines.
async fn read_until(response: &mut Response, name: &str) -> String {
    let mut text = String::new();
    let wanted = format!("event: {name}\n");
    let read = async {
        loop {
            let found = text.split("\n\n").find(|event| format!("{event}\n").contains(&wanted));
            if let (Some(event), true) = (found, text.ends_with("\n\n")) {
                return event.to_owned();
            }
            let chunk = response.chunk().await.unwrap().expect("the stream goes on");
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap()
}

fn id(event: &str) -> i64 {
    event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_stream_is_followed_and_resumed() {
    let bed = Bed::open().await;
    let open =
        async |query: &str| bed.request(Method::GET, &format!("/api/v1/stream{query}")).send().await.unwrap();
    let mut all = open("").await;
    let mut whole = open("?events=true&topics=build.*").await;
    bed.queued("e1").await;
    let received = read_until(&mut all, "taskbot.event.received").await;
    let event = read_until(&mut whole, "build.done").await;
    assert!(event.contains("\"nvr\":\"e1\""), "{event}");
    bed.queued("e2").await;
    let mut resumed = open(&format!("?topics=taskbot.event.received&after={}", id(&received))).await;
    let next = read_until(&mut resumed, "taskbot.event.received").await;
    assert!(id(&next) > id(&received) && next.contains("\"e2\""), "{next}");
    let strange = bed.request(Method::GET, "/api/v1/stream").header("last-event-id", "999999");
    read_until(&mut strange.send().await.unwrap(), "resync").await;
    bed.end().await;
}

#[tokio::test]
async fn a_stop_ends_long_polls_and_streams_at_once() {
    let bed = Bed::open().await;
    let task = bed.queued("e1").await;
    let mut stream = bed.request(Method::GET, "/api/v1/stream").send().await.unwrap();
    let mut log = bed
        .request(Method::GET, &format!("/api/v1/tasks/{task}/log?follow=true&attempt=3"))
        .send()
        .await
        .unwrap();
    let claim = json!({
        "protocol": model::protocol::PROTOCOL_VERSION, "worker": "w", "version": "1", "free_slots": 1, "running": [],
        "wait_seconds": 30, "offer": {"queues": ["other"], "arches": [], "executors": [], "labels": [],
            "memory_bytes": 1, "disk_bytes": 1, "cpus": 1, "kvm": false, "slots": 1},
    });
    let request = bed.request(Method::POST, "/api/v1/worker/claim").json(&claim);
    let poll =
        tokio::spawn(async move { request.send().await.unwrap().json::<serde_json::Value>().await.unwrap() });
    super::bed::until("the worker to be known", || async {
        (!bed.get("/api/v1/workers").await.as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    let took = bed.end().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(poll.await.unwrap()["drain"], true);
    // What was told before the stop may come still; then it ends.
    while stream.chunk().await.unwrap().is_some() {}
    while log.chunk().await.unwrap().is_some() {}
}
