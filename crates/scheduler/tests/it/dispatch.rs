//! Tasks handed out and taken back.

use super::bed::{Bed, build, claim, finish, quick, until};
use model::{
    Phase,
    protocol::{HeartbeatEntry, HeartbeatRequest, Held, Order},
};
use std::time::Duration;
use store::{Finished, WorkerMode};
use taskbot_scheduler::{Settings, dispatch::DispatchError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_long_poll_is_woken_by_a_task() {
    let mut bed = Bed::with(Settings { poll_every: Duration::from_secs(20), ..quick() }, |parts| parts).await;
    bed.start();
    let scheduler = bed.scheduler.clone();
    let start = Instant::now();
    let poll =
        tokio::spawn(async move { scheduler.claim(&claim("w", 1, 60), &CancellationToken::new()).await });
    until("the worker to be known", || async {
        (!bed.store.workers(60_000).await.unwrap().is_empty()).then_some(())
    })
    .await;
    bed.take(build("a")).await;
    let reply = poll.await.unwrap().unwrap();
    assert_eq!(reply.assignments.len(), 1);
    assert!(start.elapsed() < Duration::from_secs(15), "it was found by looking only");
    bed.end().await;
}

#[tokio::test]
async fn a_stop_and_a_protocol_end_a_claim_at_once() {
    let bed = Bed::new().await;
    let stop = CancellationToken::new();
    let scheduler = bed.scheduler.clone();
    let stopped = stop.clone();
    let poll = tokio::spawn(async move { scheduler.claim(&claim("w", 1, 60), &stopped).await });
    stop.cancel();
    let reply = poll.await.unwrap().unwrap();
    assert!(reply.drain && reply.assignments.is_empty());
    let other = model::protocol::ClaimRequest { protocol: 99, ..claim("w", 1, 0) };
    let error = bed.scheduler.claim(&other, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, DispatchError::Protocol(99)) && error.to_string().contains("update the server"));
    bed.end().await;
}

#[tokio::test]
async fn a_worker_that_waits_for_tasks_hears_at_once_that_it_is_to_take_none() {
    let bed = Bed::new().await;
    let known = || async { (!bed.store.workers(60_000).await.unwrap().is_empty()).then_some(()) };
    for (mode, end) in [(WorkerMode::Drain, true), (WorkerMode::Cordon, false)] {
        bed.store.hello(&"w".into(), "1", &Default::default()).await.unwrap();
        bed.store.set_worker_mode(&"w".into(), &WorkerMode::Active.into()).await.unwrap();
        let (scheduler, start) = (bed.scheduler.clone(), Instant::now());
        let poll =
            tokio::spawn(async move { scheduler.claim(&claim("w", 1, 60), &CancellationToken::new()).await });
        until("the worker to be known", known).await;
        bed.store.set_worker_mode(&"w".into(), &mode.into()).await.unwrap();
        bed.scheduler.wake().modes.ring();
        let reply = poll.await.unwrap().unwrap();
        assert!(reply.drain && reply.end == end && reply.assignments.is_empty(), "{mode:?}: {reply:?}");
        assert!(start.elapsed() < Duration::from_secs(15), "it was told when its patience was over");
    }
    // It waits for the word that it may again.
    for mode in [WorkerMode::Drain, WorkerMode::Cordon, WorkerMode::Maintenance] {
        bed.store.set_worker_mode(&"w".into(), &mode.into()).await.unwrap();
        let (scheduler, start) = (bed.scheduler.clone(), Instant::now());
        let mut poll =
            tokio::spawn(async move { scheduler.claim(&claim("w", 0, 60), &CancellationToken::new()).await });
        let early = tokio::time::timeout(Duration::from_millis(200), &mut poll).await;
        assert!(early.is_err(), "{mode:?}: it is not let wait: {early:?}");
        bed.store.set_worker_mode(&"w".into(), &WorkerMode::Active.into()).await.unwrap();
        bed.scheduler.wake().modes.ring();
        let reply = poll.await.unwrap().unwrap();
        assert!(!reply.drain && reply.assignments.is_empty(), "{mode:?}: {reply:?}");
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{mode:?}: it was told when its patience was over"
        );
    }
    bed.end().await;
}

#[tokio::test]
async fn an_attempt_goes_from_claim_to_finish() {
    let mut bed = Bed::new().await;
    bed.start();
    bed.take(build("a")).await;
    let given = bed.claim_one("w").await;
    let held = Held { task: given.task.id, attempt: given.attempt };
    // The answer was lost: the worker does not know of it.
    assert_eq!(bed.claim("w").await.len(), 1);
    assert_eq!(bed.claim("other").await.len(), 0);
    let known = model::protocol::ClaimRequest { running: vec![held], ..claim("w", 1, 0) };
    assert!(bed.poll(known).await.assignments.is_empty());

    let beat = HeartbeatRequest {
        worker: "w".into(),
        running: vec![
            HeartbeatEntry { held, phase: Phase::Run, kept: None },
            HeartbeatEntry {
                held: Held {
                    attempt: model::attempt::AttemptRef { fence: held.attempt.fence - 1, ..held.attempt },
                    ..held
                },
                phase: Phase::Run,
                kept: None,
            },
        ],
    };
    let reply = bed.scheduler.heartbeat(&beat).await.unwrap();
    assert_eq!(reply.orders, [Order::Continue, Order::Fenced]);
    assert!(!reply.drain);
    bed.store.set_worker_mode(&"w".into(), &WorkerMode::Drain.into()).await.unwrap();
    assert!(bed.scheduler.heartbeat(&beat).await.unwrap().drain);
    bed.take(build("b")).await;
    until("the second task", || async { (bed.tasks().await[1].state.label() == "queued").then_some(()) })
        .await;
    let reply = bed.poll(model::protocol::ClaimRequest { running: vec![held], ..claim("w", 1, 30) }).await;
    assert!(
        reply.drain && reply.assignments.is_empty(),
        "a drained worker is answered at once, with nothing"
    );

    let request = finish(given.attempt, "passed");
    assert!(matches!(bed.scheduler.finish(held.task, &request).await.unwrap(), Finished::Accepted(_)));
    assert!(matches!(bed.scheduler.finish(held.task, &request).await.unwrap(), Finished::Repeated(_)));
    let stale = finish(model::attempt::AttemptRef { fence: 0, ..given.attempt }, "failed");
    assert_eq!(bed.scheduler.finish(held.task, &stale).await.unwrap(), Finished::Fenced);
    assert_eq!(bed.label(held.task).await, "finished(passed)");
    bed.end().await;
}

#[tokio::test]
async fn nothing_is_reaped_for_one_lease_after_a_start() {
    let lease = Duration::from_millis(1500);
    let mut bed = Bed::with(Settings { lease, ..quick() }, |parts| parts).await;
    let stop = bed.start();
    bed.take(build("a")).await;
    let given = bed.claim_one("w").await;
    stop.cancel();
    // The server was away for long; its successor hears the workers first.
    bed.store.shift_clock(3_600_000).await.unwrap();
    let successor = bed.second(Settings { lease, ..quick() }, |parts| parts).await;
    let start = Instant::now();
    bed.run(&successor, Vec::new());
    let task = until("the attempt to be lost", || async {
        let task = bed.store.task(given.task.id).await.unwrap();
        (!task.state.label().starts_with("running")).then_some(task)
    })
    .await;
    assert!(start.elapsed() >= lease, "reaped after {:?}", start.elapsed());
    assert!(!task.state.is_final(), "a lost attempt is tried again: {}", task.state.label());
    bed.end().await;
}
