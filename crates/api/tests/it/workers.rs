//! The workers' protocol.

use super::bed::{Bed, until};
use reqwest::{Method, header};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) fn claim(wait_seconds: u32) -> Value {
    json!({
        "protocol": model::protocol::PROTOCOL_VERSION, "worker": "w", "version": "1", "free_slots": 1,
        "running": [], "wait_seconds": wait_seconds,
        "offer": {
            "queues": ["default"], "arches": ["x86_64"], "executors": ["container", "sandbox", "local"], "labels": [],
            "memory_bytes": 1_u64 << 33, "disk_bytes": 1_u64 << 36, "cpus": 4, "kvm": false, "slots": 4,
        },
    })
}

pub(crate) fn finish(attempt: &Value, fence: &Value) -> Value {
    json!({
        "attempt": attempt, "fence": fence, "end": {"end": "outcome", "outcome": "passed"}, "phases": [],
        "environment": null, "results": [], "log_chunks": 2, "log_bytes": 10, "log_truncated": false,
    })
}

/// A task that a worker runs: its id, attempt and fence.
async fn running(bed: &Bed, event: &str) -> (String, Value, Value) {
    let task = bed.queued(event).await;
    let (status, reply) = bed.post("/api/v1/worker/claim", &claim(10)).await;
    assert_eq!(status, 200, "{reply}");
    let given = &reply["assignments"][0];
    assert_eq!(given["task"]["id"], json!(task));
    (task, given["attempt"].clone(), given["fence"].clone())
}

#[tokio::test]
async fn an_attempt_is_told_from_claim_to_finish() {
    let bed = Bed::open().await;
    let (task, attempt, fence) = running(&bed, "e1").await;
    let old = json!({"protocol": 0, "worker": "w", "version": "1", "free_slots": 1, "running": [], "wait_seconds": 0, "offer": claim(0)["offer"]});
    assert_eq!(bed.post("/api/v1/worker/claim", &old).await.0, 426);

    let log = async |seq: u32, fence: &Value, bytes: Vec<u8>| {
        let path = format!("/api/v1/worker/tasks/{task}/log?attempt={attempt}&fence={fence}&seq={seq}");
        bed.request(Method::POST, &path).body(bytes).send().await.unwrap().status().as_u16()
    };
    let stamp = "2026-02-03T04:05:06.789Z ";
    let first = format!("{stamp}=== prepare ===\n{stamp}ä\n");
    // Between the bytes of one character.
    let cut = first.len() - 2;
    let second = format!("{stamp}=== run ===\n{stamp}done\n");
    assert_eq!(log(0, &fence, first.as_bytes()[..cut].to_vec()).await, 204);
    assert_eq!(log(0, &fence, b"something else".to_vec()).await, 204, "the same number again is answered");
    assert_eq!(log(1, &fence, [&first.as_bytes()[cut..], second.as_bytes()].concat()).await, 204);
    assert_eq!(log(2, &json!(0), b"stale".to_vec()).await, 409);
    assert_eq!(log(2, &fence, vec![b'x'; model::protocol::LOG_CHUNK_BYTES_MAX + 1]).await, 413);
    let whole = format!("{first}{second}");
    let read = async |query: &str, range: Option<&str>| {
        let mut request = bed.request(Method::GET, &format!("/api/v1/tasks/{task}/log{query}"));
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(read("", None).await, (200, whole.clone()));
    assert_eq!(read("", Some("bytes=0-3")).await, (206, whole[..4].to_owned()));
    assert_eq!(read("", Some("bytes=-5")).await, (206, "done\n".to_owned()));
    assert_eq!(read("", Some("bytes=9999-")).await.0, 416);
    assert_eq!(read("?phase=run", None).await, (200, second.clone()));
    assert_eq!(read("?phase=nothing", None).await.0, 400);
    assert_eq!(read("?attempt=7", None).await.0, 404);

    let beat = json!({"worker": "w", "running": [{"task": task, "attempt": attempt, "fence": fence, "phase": "run"}]});
    let (_, reply) = bed.post("/api/v1/worker/heartbeat", &beat).await;
    assert_eq!(reply, json!({"orders": [{"order": "continue"}], "drain": false}));

    let path = format!("/api/v1/worker/tasks/{task}/finish");
    assert_eq!(bed.post(&path, &finish(&attempt, &json!(0))).await.0, 409);
    assert_eq!(bed.post(&path, &finish(&attempt, &fence)).await.0, 200);
    assert_eq!(
        bed.post(&path, &finish(&attempt, &fence)).await.0,
        200,
        "the same again is answered the same"
    );
    // Followed from the place that the server names when a character is cut, to its end.
    let followed = bed.request(Method::GET, &format!("/api/v1/tasks/{task}/log?follow=true"));
    let text =
        followed.header("last-event-id", (cut - 1).to_string()).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("event: end") && text.contains("passed"), "{text}");
    assert!(text.contains("done") && !text.contains("prepare") && !text.contains('\u{fffd}'), "{text}");
    let all = bed
        .request(Method::GET, &format!("/api/v1/tasks/{task}/log?follow=true"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(all.contains('ä') && !all.contains('\u{fffd}'), "{all}");
    bed.end().await;
}

#[tokio::test]
async fn an_artifact_comes_in_parts() {
    let bed = Bed::open().await;
    let (task, attempt, fence) = running(&bed, "e1").await;
    let sha256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    let put = async |name: &str, sha256: &str, fence: &Value, offset: u64, bytes: &str| {
        let path = format!("/api/v1/worker/tasks/{task}/artifacts");
        let query = [
            ("attempt", attempt.to_string()),
            ("fence", fence.to_string()),
            ("name", name.to_owned()),
            ("sha256", sha256.to_owned()),
            ("size_bytes", "11".to_owned()),
            ("offset", offset.to_string()),
        ];
        let request = bed.request(Method::PUT, &path).query(&query).body(bytes.to_owned());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(put("out/a.txt", sha256, &fence, 0, "hello").await.1["received_bytes"], 5);
    assert_eq!(
        put("out/a.txt", sha256, &fence, 2, "llo").await.1["received_bytes"],
        5,
        "nothing is taken of it"
    );
    let (status, whole) = put("out/a.txt", sha256, &fence, 5, " world").await;
    assert_eq!((status, whole["id"].is_string()), (200, true));
    assert_eq!(put("out/a.txt", sha256, &fence, 5, " world").await.1["id"], whole["id"]);
    assert_eq!(put("b", &"0".repeat(64), &fence, 0, "hello world").await.0, 422);
    assert_eq!(put("c", sha256, &json!(0), 0, "hello").await.0, 409);
    for name in ["../a", "/etc/passwd", "a/../../b", "", "a\nb"] {
        assert_eq!(put(name, sha256, &fence, 0, "hello").await.0, 400, "{name:?}");
    }
    for path in ["out%2Fa.txt".to_owned(), whole["id"].as_str().unwrap().to_owned(), "out/a.txt".to_owned()] {
        let got = bed.request(Method::GET, &format!("/api/v1/tasks/{task}/artifacts/{path}"));
        let got = got.header(header::RANGE, "bytes=6-").send().await.unwrap();
        assert_eq!(got.status(), 206, "{path}");
        assert!(got.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().starts_with("attachment"));
        assert_eq!(got.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(got.text().await.unwrap(), "world");
    }
    // Another task's worker gets it by its id together with its checksum, and by nothing less.
    let id = whole["id"].as_str().unwrap();
    for (id, sum, status) in [
        (id, sha256.to_uppercase(), 200),
        (id, "0".repeat(64), 404),
        ("out%2Fa.txt", sha256.to_owned(), 404),
        (id, String::new(), 404),
    ] {
        let path = format!("/api/v1/worker/tasks/{task}/artifacts/{id}?sha256={sum}");
        assert_eq!(bed.request(Method::GET, &path).send().await.unwrap().status(), status, "{path}");
    }
    bed.end().await;
}

#[tokio::test]
async fn a_claim_that_is_broken_off_loses_no_task() {
    let bed = Bed::open().await;
    let broken = bed.request(Method::POST, "/api/v1/worker/claim").json(&claim(30));
    let error = broken.timeout(Duration::from_millis(300)).send().await.unwrap_err();
    assert!(error.is_timeout());
    let task = bed.queued("e1").await;
    let given = until("the task", || async {
        let (_, reply) = bed.post("/api/v1/worker/claim", &claim(5)).await;
        reply["assignments"].get(0).cloned()
    })
    .await;
    assert_eq!(given["task"]["id"], json!(task));
    // An answer that was lost: what the worker does not know of is given again, as the same attempt.
    let (_, again) = bed.post("/api/v1/worker/claim", &claim(0)).await;
    assert_eq!(again["assignments"][0]["fence"], given["fence"]);
    bed.end().await;
}

#[tokio::test]
async fn a_worker_says_goodbye_and_comes_back() {
    let bed = Bed::open().await;
    bed.post("/api/v1/worker/claim", &claim(0)).await;
    let leave = bed.post("/api/v1/worker/leave", &json!({"worker": "w"})).await;
    assert_eq!(leave.0, 204, "{leave:?}");
    let workers = bed.get("/api/v1/workers").await;
    assert_eq!(workers[0]["alive"], json!(false), "{workers}");
    assert!(workers[0]["left_at"].is_string(), "{workers}");
    bed.post("/api/v1/worker/claim", &claim(0)).await;
    let workers = bed.get("/api/v1/workers").await;
    assert_eq!((&workers[0]["alive"], &workers[0]["left_at"]), (&json!(true), &Value::Null), "{workers}");
    bed.end().await;
}

#[tokio::test]
async fn a_log_has_a_limit_at_the_server_too() {
    let bed = Bed::open().await;
    let (task, attempt, fence) = running(&bed, "e1").await;
    let chunk = store::LogChunk {
        attempt: 1,
        seq: 0,
        size_bytes: model::protocol::LOG_BYTES_MAX - 3,
        key: "logs/elsewhere".to_owned(),
    };
    let held = model::attempt::AttemptRef { attempt: 1, fence: fence.as_i64().unwrap() };
    bed.store().add_log_chunk(task.parse().unwrap(), held, &chunk).await.unwrap();
    let log = async |seq: u32, bytes: &'static str| {
        let path = format!("/api/v1/worker/tasks/{task}/log?attempt={attempt}&fence={fence}&seq={seq}");
        bed.request(Method::POST, &path).body(bytes).send().await.unwrap().status().as_u16()
    };
    assert_eq!(log(1, "four").await, 413);
    assert_eq!(log(1, "abc").await, 204);
    assert_eq!(log(2, "x").await, 413);
    bed.end().await;
}
