//! Events that are too large or too deep, by each way in; the others go on.

use crate::support::{
    bus::Publication,
    embedded::Embedded,
    installation::{Installation, Plan},
    wait::until_equal,
};

/// Over what is taken in, and below what the bus carries.
const LARGE_BYTES: usize = 10_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_deep_events_of_the_bus_lie_with_the_dead_letters() {
    let installation = Installation::start(&Plan { workers: 0, ..Plan::default() }).await;
    let send = |id: &str, payload: Vec<u8>| Publication {
        topic: "drill.any".to_owned(),
        headers: vec![("message-id", id.to_owned())],
        payload,
    };
    let before = installation.servers[0].memory_bytes();
    let batch = vec![
        send("first", b"{}".to_vec()),
        send("large", format!("{{\"a\": \"{}\"}}", "x".repeat(LARGE_BYTES)).into_bytes()),
        send("deep", deep()),
        send("last", b"{}".to_vec()),
    ];
    installation.bus.publish(batch).await;
    // What no client library would send: headers that are no text.
    installation.bus.publish_raw("drill.raw", b"NATS/1.0\r\nx: \xff\xfe\r\n\r\n", b"{\"raw\": 1}").await;
    installation.bus.publish([send("after", b"{}".to_vec())]).await;
    until_equal("good events", 3, async || installation.database.number("select count(*) from event").await)
        .await;
    until_equal("dead letters", 3, async || {
        installation.database.number("select count(*) from dead_letter").await
    })
    .await;
    let letters: Vec<(String, i64, String)> = installation
        .database
        .rows("select event_id, size_bytes, reason from dead_letter order by event_id")
        .await;
    let expect = [("deep", "recursion limit exceeded"), ("large", "at most 8388608"), ("sha256:", "header")];
    for ((id, _, reason), (expected, words)) in letters.iter().zip(expect) {
        assert!(id.starts_with(expected) && reason.contains(words), "{id}: {reason}");
    }
    assert_eq!(letters[1].1, i64::try_from(LARGE_BYTES).unwrap() + 9, "bytes that are kept");
    let grown = installation.servers[0].memory_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "the server grew by {grown} bytes");
    installation.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_deep_events_of_people_are_refused_with_a_reason() {
    let embedded = Embedded::start(&["--no-worker"]).await;
    let file = embedded.folder().join("event.json");
    let check = |payload: &[u8], words: &[&str]| {
        std::fs::write(&file, payload).unwrap();
        let output = embedded.command(&["event", "send", "drill.any", "-f", file.to_str().unwrap()]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "it was taken");
        for word in words {
            assert!(complaint.contains(word), "`{word}` is not in: {complaint}");
        }
    };
    check(&deep(), &["recursion limit exceeded"]);
    check(b"{\"a\": ", &["EOF"]);
    check(b"[1, 2]", &["object"]);
    check(format!("{{\"a\": \"{}\"}}", "x".repeat(LARGE_BYTES)).as_bytes(), &["8388608"]);
    let listed = embedded.lines(&["event", "list", "-o", "jsonl"]);
    assert!(listed.is_empty(), "{listed:?}");
    embedded.succeeds(&["event", "send", "drill.any", "--data", "{}"]);
    assert_eq!(embedded.lines(&["event", "list", "-o", "jsonl"]).len(), 1);
}

/// A body that is 10,000 levels deep.
fn deep() -> Vec<u8> {
    format!("{{\"a\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes()
}
