//! The suite that every store of files passes: copies of what tasks left.

use super::bed::{Bed, build, finish, variable};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use model::{
    Task,
    attempt::AttemptRef,
    ids::ArtifactId,
    message::{Message, NewMessage, TaskChange},
    result::{Artifact, NewResult},
    sink::{Sink, SinkError},
};
use object_store::{
    ObjectStore, aws::AmazonS3Builder, local::LocalFileSystem, memory::InMemory, prefix::PrefixStore,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use store::LogChunk;
use taskbot_scheduler::{
    copies::{Copies, Places},
    files::Files,
};

/// More than one part, so that stores have to join them.
const LARGE_BYTES: usize = 17 * 1024 * 1024 + 3;

fn s3(key: &str) -> Arc<dyn ObjectStore> {
    let store = AmazonS3Builder::new()
        .with_endpoint(variable("TASKBOT_TEST_S3_URL"))
        .with_allow_http(true)
        .with_bucket_name("taskbot-test")
        .with_region("us-east-1")
        .with_access_key_id("taskbot-test")
        .with_secret_access_key(key);
    Arc::new(store.build().unwrap())
}

/// A bed with a task that failed and left a log and two artifacts, one of which is large.
async fn ended() -> (Bed, Files, Task, Vec<u8>) {
    let files = Files::new(Arc::new(InMemory::new()));
    let kept = files.clone();
    let mut bed = Bed::with(super::bed::quick(), |mut parts| {
        parts.files = kept;
        parts
    })
    .await;
    bed.start();
    bed.take(build("a")).await;
    let given = bed.claim_one("w").await;
    let (task, attempt) = (given.task.id, given.attempt);
    for (seq, text) in (0..).zip(["first\n", "second\n"]) {
        let key = Files::log_key(task, attempt.attempt, attempt.fence, seq);
        files.put(&key, Bytes::from(text)).await.unwrap();
        let chunk = LogChunk { attempt: attempt.attempt, seq, size_bytes: text.len() as u64, key };
        bed.store.add_log_chunk(task, attempt, &chunk).await.unwrap();
    }
    let large: Vec<u8> = (0..LARGE_BYTES).map(|at| (at % 251) as u8).collect();
    leave(&bed, &files, &given.task, attempt, "logs/build ü.log", b"built").await;
    leave(&bed, &files, &given.task, attempt, "image.raw", &large).await;
    let mut end = finish(attempt, "failed");
    end.results = vec![result()];
    bed.scheduler.finish(task, &end).await.unwrap();
    let task = bed.store.task(task).await.unwrap();
    (bed, files, task, large)
}

fn result() -> NewResult {
    serde_json::from_value(serde_json::json!({
        "testcase": "dist.lint", "outcome": "failed", "note": "too long", "data": {},
    }))
    .unwrap()
}

async fn leave(bed: &Bed, files: &Files, task: &Task, attempt: AttemptRef, name: &str, bytes: &[u8]) {
    let key = Files::artifact_key(task.id, attempt.attempt, attempt.fence, name);
    let body = stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
    files.write(&key, bytes.len() as u64, body).await.unwrap();
    let artifact = Artifact {
        id: ArtifactId::new(bed.scheduler.ids().next()),
        task: task.id,
        attempt: attempt.attempt,
        name: name.to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(bytes)),
        key,
        published: false,
        created_at: bed.scheduler.clock().now(),
    };
    bed.store.add_artifact(attempt, &artifact).await.unwrap();
}

fn message(task: &Task) -> Message {
    Message {
        id: model::ids::OutboxId(1),
        message: NewMessage::task(task, TaskChange::into_final(&task.state)),
        created_at: "2026-11-21T10:00:00Z".parse().unwrap(),
        position: Some(model::Position(1)),
    }
}

fn copies(bed: &Bed, files: &Files, place: &dyn Fn(&str) -> Arc<dyn ObjectStore>) -> Copies {
    let at = |part: &str| Files::new(place(part));
    let report = Box::new(|results: &[model::result::StoredResult]| format!("{} results", results.len()));
    let places = Places {
        artifacts: Some(at("artifacts")),
        logs: Some(at("logs")),
        summaries: Some(at("summaries")),
        reports: Some((at("reports"), report)),
    };
    Copies::new("copies", Arc::clone(&bed.store), files.clone(), places)
}

async fn read(store: &Arc<dyn ObjectStore>, key: &str) -> Vec<u8> {
    let files = Files::new(Arc::clone(store));
    let pieces: Vec<Bytes> = files
        .get(key, None)
        .await
        .unwrap_or_else(|error| panic!("{key}: {error}"))
        .try_collect()
        .await
        .unwrap();
    pieces.concat()
}

/// What every store must do.
async fn suite(name: &str, store: &Arc<dyn ObjectStore>) {
    let (bed, files, task, large) = ended().await;
    let base = format!("base/{}", task.id);
    let below = |part: &str| -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(store), format!("{base}/{part}")))
    };
    let sink = copies(&bed, &files, &below);
    let message = message(&task);
    assert!(sink.wants(&message.message), "{name}");
    // Twice the same is the same.
    for _ in 0..2 {
        assert_eq!(sink.deliver(&message).await, Ok(()), "{name}");
    }
    let id = task.id;
    assert_eq!(read(store, &format!("{base}/artifacts/{id}/1/image.raw")).await, large, "{name}");
    assert_eq!(read(store, &format!("{base}/artifacts/{id}/1/logs/build ü.log")).await, b"built", "{name}");
    assert_eq!(read(store, &format!("{base}/logs/{id}/1.log")).await, b"first\nsecond\n", "{name}");
    let summary: Value =
        serde_json::from_slice(&read(store, &format!("{base}/summaries/{id}.json")).await).unwrap();
    assert_eq!(
        (
            &summary["task"]["state"]["outcome"],
            &summary["results"][0]["testcase"],
            summary["artifacts"].as_array().unwrap().len()
        ),
        (&"failed".into(), &"dist.lint".into(), 2),
        "{name}: {summary}"
    );
    assert_eq!(read(store, &format!("{base}/reports/{id}.xml")).await, b"1 results", "{name}");
    // What is not there any more here keeps nothing else from being there.
    let expired = copies(&bed, &Files::new(Arc::new(InMemory::new())), &|_| Arc::new(InMemory::new()));
    assert_eq!(expired.deliver(&message).await, Ok(()), "{name}");
    bed.end().await;
}

#[tokio::test]
async fn memory() {
    suite("memory", &(Arc::new(InMemory::new()) as Arc<dyn ObjectStore>)).await;
}

#[tokio::test]
async fn a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    suite("a folder", &(Arc::new(store) as Arc<dyn ObjectStore>)).await;
}

#[tokio::test]
async fn s3_by_a_real_server() {
    suite("S3", &s3("taskbot-test-secret")).await;
}

#[tokio::test]
async fn a_place_that_is_closed_or_away_is_waited_for() {
    let (bed, files, task, _) = ended().await;
    let message = message(&task);
    let retry = object_store::RetryConfig { max_retries: 0, ..object_store::RetryConfig::default() };
    let away: Arc<dyn ObjectStore> = Arc::new(
        AmazonS3Builder::new()
            .with_endpoint("http://127.0.0.1:1")
            .with_allow_http(true)
            .with_bucket_name("b")
            .with_access_key_id("a")
            .with_secret_access_key("b")
            .with_retry(retry)
            .build()
            .unwrap(),
    );
    for (name, store) in [("closed", s3("wrong")), ("away", away)] {
        let sink = copies(&bed, &files, &|_| Arc::clone(&store));
        let error = sink.deliver(&message).await.unwrap_err();
        assert!(matches!(error, SinkError::Away(_)), "{name}: {error}");
    }
    bed.end().await;
}
