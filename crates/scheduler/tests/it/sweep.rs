//! Bytes that nothing names.

use super::bed::{Bed, build, finish};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::time::Duration;
use store::LogChunk;
use taskbot_scheduler::files::Files;

#[tokio::test]
async fn what_fenced_off_attempts_left_goes_and_the_rest_stays() {
    let mut bed = Bed::new().await;
    bed.start();
    bed.take(build("a")).await;
    let given = bed.claim_one("w").await;
    let (task, attempt) = (given.task.id, given.attempt);
    let (number, fence) = (attempt.attempt, attempt.fence);
    let files = bed.scheduler.files();
    let log = Files::log_key(task, number, fence, 0);
    let next = Files::log_key(task, number, fence, 1);
    let fenced = Files::log_key(task, number, fence - 1, 0);
    let artifact = Files::artifact_key(task, number, fence - 1, "a.iso");
    let part = format!("{artifact}.parts/00000000000000000000");
    let running_part =
        format!("{}.parts/00000000000000000000", Files::artifact_key(task, number, fence, "b"));
    let strange = "logs/readme".to_owned();
    for key in [&log, &next, &fenced, &artifact, &part, &running_part, &strange] {
        files.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    let chunk = LogChunk { attempt: number, seq: 0, size_bytes: 1, key: log.clone() };
    bed.store.add_log_chunk(task, attempt, &chunk).await.unwrap();
    assert_eq!(bed.scheduler.sweep_files(Duration::from_secs(3600)).await.unwrap(), 0, "all are young");
    assert_eq!(bed.scheduler.sweep_files(Duration::ZERO).await.unwrap(), 3);
    assert_eq!(left(files).await, sorted(&[&log, &next, &running_part, &strange]));
    // Nothing comes under the fence any more.
    bed.scheduler.finish(task, &finish(attempt, "passed")).await.unwrap();
    assert_eq!(bed.scheduler.sweep_files(Duration::ZERO).await.unwrap(), 2);
    assert_eq!(left(files).await, sorted(&[&log, &strange]));
    bed.end().await;
}

fn sorted(keys: &[&String]) -> Vec<String> {
    let mut keys: Vec<_> = keys.iter().map(|key| (*key).clone()).collect();
    keys.sort();
    keys
}

async fn left(files: &Files) -> Vec<String> {
    let mut keys = Vec::new();
    for folder in ["logs", "artifacts"] {
        let found: Vec<_> = files.list(folder).try_collect().await.unwrap();
        keys.extend(found.into_iter().map(|file| file.key));
    }
    keys.sort();
    keys
}
