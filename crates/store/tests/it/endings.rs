//! How attempts end: accepted once, retried, handed back; with results, messages and own events.

use crate::harness::*;
use model::{
    Phase,
    attempt::{EnvironmentReport, PhaseReport},
    protocol::{AttemptEnd, FinishRequest},
    requirements::ExecutorKind,
    task::Stop,
};
use serde_json::json;
use store::{Finished, NewTask, StoreError};

conformance!(
    an_ending_is_accepted_once,
    what_is_reported_is_kept,
    errors_of_the_machinery_are_retried_after_a_delay,
    a_task_file_decides_about_retries,
    what_is_handed_back_is_queued_as_before,
    an_attempt_that_was_stopped_says_so,
    an_end_is_an_event_of_ours_once,
    results_of_attempts_that_decide_nothing_are_not_kept,
    poisoned_results_change_nothing,
    too_many_results_are_refused,
);

async fn an_attempt_that_was_stopped_says_so(bed: &Bed) {
    bed.queue(&[ready("a"), ready("b"), ready("c")]).await;
    let cancel = Stop::Cancel { who: "ada".to_owned(), why: Some("wrong build".to_owned()) };
    let claimed = bed.claim("w1", 3).await;
    for one in &claimed[..2] {
        bed.store.stop(one.task.id, &cancel).await.unwrap();
    }
    // Its worker tells what it made of the order; the other one is never heard of again.
    bed.finish(&claimed[0], "error(task)").await;
    bed.finish(&claimed[2], "error(task)").await;
    bed.pass(120_000).await;
    bed.store.reap(10).await.unwrap();
    let expect = [
        ("cancelled", None, "cancelled by ada: wrong build"),
        ("cancelled", None, "cancelled by ada: wrong build"),
        ("finished(error(task))", Some("error(task)"), "because"),
    ];
    for (one, (label, outcome, reason)) in claimed.iter().zip(expect) {
        assert_eq!(bed.label(one.task.id).await, label);
        let attempt = bed.store.attempts(one.task.id).await.unwrap().remove(0);
        assert_eq!(attempt.outcome.map(|outcome| outcome.as_str()), outcome);
        assert_eq!(attempt.reason.as_deref(), Some(reason));
        assert!(attempt.ended_at.is_some());
    }
}

async fn an_ending_is_accepted_once(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "passed");
    request.results = vec![result("dist.lint", "passed")];
    let id = claimed.task.id;
    let Finished::Accepted(task) = bed.store.finish(id, &request).await.unwrap() else { panic!() };
    assert_eq!(task.state.label(), "finished(passed)");
    let Finished::Repeated(again) = bed.store.finish(id, &request).await.unwrap() else { panic!() };
    assert_eq!(again, task);
    assert_eq!(*task, bed.store.task(id).await.unwrap());
    // The same fence with something else is not what was accepted.
    assert_eq!(bed.finish(&claimed, "failed").await, Finished::Fenced);
    assert_eq!(
        bed.store.results(&store::ResultQuery { limit: 9, ..Default::default() }).await.unwrap().items.len(),
        1
    );
    let topics = bed.topics_of(id).await;
    assert_eq!(topics[topics.len() - 3..], ["task.started", "task.finished", "result.new"]);
    let error = bed.store.finish(task_id(), &request).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }));
}

async fn what_is_reported_is_kept(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let request = FinishRequest {
        phases: vec![PhaseReport {
            phase: Phase::Run,
            started_at: time("2026-11-01T10:00:00Z"),
            duration_ms: 1500,
            error: Some("exit 1".to_owned()),
        }],
        environment: Some(EnvironmentReport {
            executor: ExecutorKind::Container,
            image: Some("fedora:42".to_owned()),
            image_digest: None,
            engine: None,
            arch: "x86_64".to_owned(),
            prepared_from_cache: true,
            notes: Vec::new(),
        }),
        log_bytes: 77,
        log_truncated: true,
        ..finish(claimed.attempt, "failed")
    };
    bed.store.finish(claimed.task.id, &request).await.unwrap();
    let attempt = bed.store.attempts(claimed.task.id).await.unwrap().remove(0);
    assert_eq!((attempt.phases, attempt.environment), (request.phases, request.environment));
    assert_eq!((attempt.log_bytes, attempt.log_truncated), (77, true));
    assert_eq!((attempt.outcome.unwrap().as_str(), attempt.reason.as_deref()), ("failed", Some("because")));
}

async fn errors_of_the_machinery_are_retried_after_a_delay(bed: &Bed) {
    let task = bed.queue(&[ready("a")]).await.remove(0);
    for delay_ms in [5_000, 10_000] {
        let claimed = bed.claim_one().await;
        let Finished::Accepted(after) = bed.finish(&claimed, "error(infra)").await else { panic!() };
        assert_eq!(after.state.label(), "queued");
        assert_eq!(after, Box::new(bed.store.task(task.id).await.unwrap()));
        bed.pass(delay_ms - 2_000).await;
        assert!(bed.claim("w1", 1).await.is_empty(), "its time has not come");
        assert_eq!(bed.store.queues().await.unwrap()[0].queued, 1);
        bed.pass(2_001).await;
    }
    let claimed = bed.claim_one().await;
    bed.finish(&claimed, "error(infra)").await;
    assert_eq!(bed.label(task.id).await, "finished(error(infra))");
    let topics = bed.topics_of(task.id).await;
    assert_eq!(topics.iter().filter(|topic| *topic == "task.retried").count(), 2);
    // A failed test is never tried again.
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    bed.finish(&claimed, "failed").await;
    assert_eq!(bed.label(claimed.task.id).await, "finished(failed)");
}

async fn a_task_file_decides_about_retries(bed: &Bed) {
    let new = wished("lint");
    bed.event("e1", vec![new.clone()]).await;
    bed.resolve(new.id, &found("retry: {on: [timeout], max: 1}", needs("x86_64"))).await.unwrap();
    bed.finish(&bed.claim_one().await, "error(timeout)").await;
    assert_eq!(bed.label(new.id).await, "queued");
    bed.pass(5_001).await;
    bed.finish(&bed.claim_one().await, "error(infra)").await;
    assert_eq!(bed.label(new.id).await, "finished(error(infra))");
}

async fn what_is_handed_back_is_queued_as_before(bed: &Bed) {
    let tasks = bed.queue(&[ready("a"), ready("a")]).await;
    // More often than there are retries: it does not count as one.
    for _ in 0..4 {
        let claimed = bed.claim_one().await;
        assert_eq!(claimed.task.id, tasks[0].id, "it keeps its turn");
        let back = AttemptEnd::HandedBack { reason: "the worker stops".to_owned() };
        let request = FinishRequest { end: back, ..finish(claimed.attempt, "passed") };
        let after = bed.store.finish(claimed.task.id, &request).await.unwrap();
        assert!(matches!(after, Finished::Accepted(ref task) if task.state.label() == "queued"));
        let repeated = bed.store.finish(claimed.task.id, &request).await.unwrap();
        assert!(matches!(repeated, Finished::Repeated(_)));
    }
    let attempts = bed.store.attempts(tasks[0].id).await.unwrap();
    assert_eq!(attempts.len(), 4);
    assert!(attempts.iter().all(|attempt| attempt.outcome.is_none() && attempt.ended_at.is_some()));
    bed.finish(&bed.claim_one().await, "error(infra)").await;
    assert_eq!(bed.label(tasks[0].id).await, "queued", "its first try");
}

async fn an_end_is_an_event_of_ours_once(bed: &Bed) {
    let new = NewTask { depth: 2, traceparent: Some("00-aa-bb-01".to_owned()), ..ready("a") };
    bed.queue(std::slice::from_ref(&new)).await;
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "failed");
    request.results = vec![result("dist.lint", "failed")];
    bed.store.finish(new.id, &request).await.unwrap();
    bed.store.finish(new.id, &request).await.unwrap();
    let events = bed.store.unjudged(10, 1000).await.unwrap();
    let topics: Vec<_> = events.iter().map(|one| one.event.topic.as_str()).collect();
    assert_eq!(topics.len(), 2);
    assert!(topics.contains(&"taskbot.result.new"));
    let finished =
        &events.iter().find(|one| one.event.topic.as_str() == "taskbot.task.finished").unwrap().event;
    assert_eq!((&finished.source, &finished.domain), (&own(), &own()));
    assert_eq!(finished.id.as_str(), format!("task.finished/{}/1", new.id));
    assert_eq!((finished.depth, finished.cause), (3, Some(new.id)));
    assert_eq!(finished.traceparent, new.traceparent);
    let body = body(finished);
    assert_eq!((&body["outcome"], &body["item"]["id"]), (&json!("failed"), &json!("audit-2.8-1.fc26")));
}

async fn results_of_attempts_that_decide_nothing_are_not_kept(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "error(infra)");
    request.results = vec![result("dist.lint", "error(infra)")];
    bed.store.finish(claimed.task.id, &request).await.unwrap();
    let query = store::ResultQuery { limit: 9, ..Default::default() };
    assert!(bed.store.results(&query).await.unwrap().items.is_empty());
}

async fn poisoned_results_change_nothing(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "passed");
    request.results = vec![result("dist\0lint", "passed")];
    let error = bed.store.finish(claimed.task.id, &request).await.unwrap_err();
    assert!(matches!(error, StoreError::Poison(_)), "{error:?}");
    assert_eq!(bed.label(claimed.task.id).await, "running(provision)");
    assert!(matches!(bed.finish(&claimed, "passed").await, Finished::Accepted(_)));
}

async fn too_many_results_are_refused(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "passed");
    let mut top = result("dist.lint", "passed");
    top.children = (0..model::result::RESULTS_PER_ATTEMPT_MAX).map(|_| result("part", "passed")).collect();
    request.results = vec![top];
    let error = bed.store.finish(claimed.task.id, &request).await.unwrap_err();
    assert!(error.to_string().contains("at most 10000 results"), "{error}");
}
