//! Clock, leases of periodic work, figures, retention.

use crate::harness::*;
use model::{Ids as _, SystemIds, result::Artifact, task::Stop};
use std::time::Duration;
use store::{LogChunk, Retention, StoreError};

conformance!(
    the_clock_can_be_shifted,
    one_holder_has_a_lease,
    figures_count,
    what_is_old_goes_and_the_rest_stays,
    expired_bodies_say_so,
);

async fn the_clock_can_be_shifted(bed: &Bed) {
    let before = bed.store.now().await.unwrap();
    bed.pass(3_600_000).await;
    let after = bed.store.now().await.unwrap();
    assert!((after - before).num_seconds() >= 3600);
    bed.pass(-3_600_000).await;
    assert!((bed.store.now().await.unwrap() - before).num_seconds() < 3600);
    let backend = bed.store.backend().await.unwrap();
    assert!(backend.starts_with(if bed.file().is_some() { "sqlite 3." } else { "postgres 1" }), "{backend}");
}

async fn one_holder_has_a_lease(bed: &Bed) {
    let store = &bed.store;
    assert!(store.try_lease("reaper", "one", 10_000).await.unwrap());
    assert!(!store.try_lease("reaper", "two", 10_000).await.unwrap());
    assert!(store.try_lease("relay", "two", 10_000).await.unwrap());
    bed.pass(8_000).await;
    assert!(store.try_lease("reaper", "one", 10_000).await.unwrap(), "extended");
    bed.pass(8_000).await;
    assert!(!store.try_lease("reaper", "two", 10_000).await.unwrap());
    bed.pass(2_001).await;
    assert!(store.try_lease("reaper", "two", 10_000).await.unwrap());
    store.end_lease("reaper", "one").await.unwrap();
    assert!(!store.try_lease("reaper", "one", 10_000).await.unwrap(), "not the holder's to end");
    store.end_lease("reaper", "two").await.unwrap();
    assert!(store.try_lease("reaper", "one", 10_000).await.unwrap());
}

async fn figures_count(bed: &Bed) {
    bed.event("e1", vec![wished("lint")]).await;
    bed.queue(&[ready("a"), ready("a"), ready("a")]).await;
    let claimed = bed.claim("w1", 2).await;
    bed.finish(&claimed[0], "error(infra)").await;
    let figures = bed.store.figures().await.unwrap();
    let mut tasks: Vec<_> =
        figures.tasks.iter().map(|(queue, state, n)| format!("{queue} {state} {n}")).collect();
    tasks.sort_unstable();
    assert_eq!(tasks, ["main queued 2", "main running 1", "main waiting 1"]);
    assert_eq!((figures.unjudged, figures.dead_letters), (0, 0));
    assert!(figures.outbox_pending > 5);
    assert!(figures.connections.1 >= 1);
    let ids: Vec<_> = bed.messages().await.iter().map(|message| message.id).collect();
    bed.store.published(&ids).await.unwrap();
    assert_eq!(bed.store.figures().await.unwrap().outbox_pending, 0);
}

async fn what_is_old_goes_and_the_rest_stays(bed: &Bed) {
    let open = ready("a");
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let task = claimed.task.id;
    let chunk = LogChunk { attempt: 1, seq: 0, size_bytes: 5, key: "logs/1".to_owned() };
    bed.store.add_log_chunk(task, claimed.attempt, &chunk).await.unwrap();
    let artifact = Artifact {
        id: SystemIds.next().into(),
        task,
        attempt: 1,
        name: "a".to_owned(),
        size_bytes: 1,
        sha256: String::new(),
        key: "artifacts/1".to_owned(),
        published: false,
        created_at: time("2026-11-01T10:00:00Z"),
    };
    bed.store.add_artifact(claimed.attempt, &artifact).await.unwrap();
    let mut request = finish(claimed.attempt, "passed");
    request.results = vec![result("dist.lint", "passed")];
    bed.store.finish(task, &request).await.unwrap();
    bed.queue(std::slice::from_ref(&open)).await;
    bed.event("e1", vec![]).await;
    bed.store.stop(open.id, &Stop::Cancel { who: "ada".to_owned(), why: None }).await.unwrap();
    let late = ready("a");
    bed.queue(std::slice::from_ref(&late)).await;
    // A year: samples of events carry a time of their own.
    bed.pass(366 * 24 * 3_600_000).await;
    let day = Some(Duration::from_secs(24 * 3600));
    let retention = Retention {
        bodies: day,
        events: day,
        messages: day,
        tasks: day,
        files: day,
        results: day,
        dead_letters: day,
        audit: day,
    };
    let would = bed.store.prune(&retention, 100, true).await.unwrap();
    assert_eq!((would.rows["tasks"], would.rows["artifacts"], would.keys.len()), (2, 1, 0));
    let ids: Vec<_> = bed.messages().await.iter().map(|message| message.id).collect();
    bed.store.published(&ids).await.unwrap();
    let limited = bed.store.prune(&Retention { tasks: day, ..Retention::default() }, 1, false).await.unwrap();
    assert_eq!(limited.rows["tasks"], 1);
    let mut gone = bed.store.prune(&retention, 1000, false).await.unwrap();
    gone.keys.sort_unstable();
    assert_eq!(gone.keys, ["artifacts/1", "logs/1"]);
    assert_eq!(gone.rows["events"], 1, "those that wait to be judged stay");
    assert_eq!(bed.store.unjudged(10, 1000).await.unwrap().len(), 3);
    assert!(matches!(bed.store.task(task).await, Err(StoreError::NotFound { .. })));
    assert_eq!(bed.label(late.id).await, "queued", "what is not final stays");
    assert!(bed.messages().await.is_empty());
    assert!(bed.store.prune(&retention, 1000, false).await.unwrap().rows.is_empty());
}

async fn expired_bodies_say_so(bed: &Bed) {
    let seq = bed.event("e1", vec![]).await;
    bed.pass(366 * 24 * 3_600_000).await;
    let retention = Retention { bodies: Some(Duration::from_secs(60)), ..Retention::default() };
    assert_eq!(bed.store.prune(&retention, 10, false).await.unwrap().rows["bodies"], 1);
    let stored = bed.store.event(seq).await.unwrap();
    assert!(stored.body_expired && stored.event.payload.is_empty());
    assert!(matches!(bed.store.replay(seq).await, Err(StoreError::Conflict(_))));
    // The same event again is still known.
    let again = store::EventCommit { event: event("e1", "{}"), judgement: Some(judgement(vec![])) };
    assert_eq!(bed.store.commit_events(&[again]).await.unwrap(), [store::Committed::Known { seq }]);
}
