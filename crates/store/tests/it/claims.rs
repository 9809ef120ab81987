//! Claims, leases, heartbeats, and what becomes of the lost.

use crate::harness::*;
use model::{
    Offer, Phase, TaskId, TaskState,
    attempt::AttemptRef,
    protocol::{Assignment, HeartbeatEntry, Held, Order},
    task::{Hold, Kept, Stop},
};
use std::{collections::BTreeMap, sync::Arc};
use store::{Claim, Fenced, Finished, LogChunk, NewTask, StoreError, WorkerMode};

conformance!(
    a_living_worker_keeps_its_name,
    a_claim_starts_attempts,
    eight_claimers_take_each_task_once,
    higher_priorities_go_first,
    heartbeats_extend_leases_and_carry_orders,
    lost_attempts_are_reaped_and_retried_by_policy,
    the_lost_who_are_to_stop_are_stopped,
    a_zombie_can_write_nothing,
    paused_queues_hand_nothing_out,
    drained_workers_get_nothing,
    who_says_goodbye_is_not_counted_on,
    what_is_held_is_told_and_ended,
    workers_are_known_while_they_are_heard_of,
);

fn beat(assignment: &Assignment, phase: Phase) -> HeartbeatEntry {
    HeartbeatEntry { held: Held { task: assignment.task.id, attempt: assignment.attempt }, phase, kept: None }
}

async fn a_claim_starts_attempts(bed: &Bed) {
    bed.queue(&[ready("a"), ready("a")]).await;
    assert!(bed.claim("w1", 0).await.is_empty());
    let claimed = bed.claim("w1", 5).await;
    assert_eq!(claimed.len(), 2);
    let [first, ..] = &claimed[..] else { panic!() };
    assert_eq!(first.attempt, AttemptRef { attempt: 1, fence: 1 });
    let stored = bed.store.task(first.task.id).await.unwrap();
    assert_eq!(&stored, &*first.task);
    let TaskState::Running { since, lease_until, phase, .. } = &stored.state else { panic!("{stored:?}") };
    assert_eq!(*lease_until - *since, chrono::Duration::milliseconds(LEASE_MS as i64));
    assert_eq!(*phase, Phase::Provision);
    let attempts = bed.store.attempts(first.task.id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].number, attempts[0].outcome), (1, 1, None));
    assert_eq!(attempts[0].worker.as_str(), "w1");
    // A lost answer can be asked for again.
    let held = bed.store.held(&"w1".into()).await.unwrap();
    assert_eq!(held.len(), 2);
    assert!(bed.store.held(&"w2".into()).await.unwrap().is_empty());
    assert!(bed.claim("w2", 5).await.is_empty());
    assert_eq!(bed.topics_of(first.task.id).await.last().unwrap(), "task.started");
    assert!(bed.store.holds(first.task.id, first.attempt).await.unwrap());
}

async fn eight_claimers_take_each_task_once(bed: &Bed) {
    const TASKS: usize = 500;
    let tasks: Vec<_> = (0..TASKS).map(|n| ready(if n % 3 == 0 { "a" } else { "b" })).collect();
    bed.queue(&tasks).await;
    let mut claimers = Vec::new();
    for n in 0..8 {
        let store = Arc::clone(&bed.store);
        claimers.push(tokio::spawn(async move {
            let mut taken: Vec<TaskId> = Vec::new();
            let mut dry = 0;
            // What others have locked for a moment looks like nothing at all.
            while dry < 50 {
                let claimed = store.claim(&claim(&format!("w{n}"), 7)).await.unwrap();
                dry = if claimed.is_empty() { dry + 1 } else { 0 };
                taken.extend(claimed.iter().map(|one| one.task.id));
            }
            taken
        }));
    }
    let mut taken: BTreeMap<TaskId, u32> = BTreeMap::new();
    for claimer in claimers {
        for id in claimer.await.unwrap() {
            *taken.entry(id).or_default() += 1;
        }
    }
    assert_eq!(taken.len(), TASKS);
    assert!(taken.values().all(|times| *times == 1));
}

async fn higher_priorities_go_first(bed: &Bed) {
    let with = |priority: i32, arch: &str| NewTask { priority, needs: needs(arch), ..ready("a") };
    let mut both = offer();
    both.arches.insert("aarch64".to_owned());
    let tasks =
        [with(0, "x86_64"), with(5, "aarch64"), with(-5, "x86_64"), with(9, "x86_64"), with(7, "aarch64")];
    bed.queue(&tasks).await;
    assert_eq!(bed.store.position(tasks[2].id).await.unwrap(), Some(4));
    assert_eq!(bed.store.position(tasks[3].id).await.unwrap(), Some(0));
    let request = Claim { offer: both, ..claim("w1", 3) };
    let order = |claimed: Vec<Assignment>| claimed.iter().map(|one| one.task.priority).collect::<Vec<_>>();
    assert_eq!(order(bed.store.claim(&request).await.unwrap()), [9, 7, 5]);
    assert_eq!(order(bed.store.claim(&request).await.unwrap()), [0, -5]);
}

async fn heartbeats_extend_leases_and_carry_orders(bed: &Bed) {
    bed.queue(&[ready("a"), ready("a"), ready("a")]).await;
    let claimed = bed.claim("w1", 3).await;
    let [goes_on, to_stop, fenced] = &claimed[..] else { panic!() };
    let stop = Stop::Cancel { who: "ada".to_owned(), why: None };
    bed.store.stop(to_stop.task.id, &stop).await.unwrap();
    bed.finish(fenced, "passed").await;
    bed.pass(50_000).await;
    let entries: Vec<_> = claimed.iter().map(|one| beat(one, Phase::Run)).collect();
    let orders = bed.store.heartbeat(&"w1".into(), &entries, LEASE_MS).await.unwrap();
    assert_eq!(orders, [Order::Continue, Order::Stop { why: stop }, Order::Fenced]);
    bed.pass(50_000).await;
    assert!(bed.store.reap(10).await.unwrap().is_empty(), "extended");
    assert_eq!(bed.label(goes_on.task.id).await, "running(run)");
    bed.store.heartbeat(&"w1".into(), &entries[..1], LEASE_MS).await.unwrap();
    let phases = bed.topics_of(goes_on.task.id).await.iter().filter(|topic| *topic == "task.phase").count();
    assert_eq!(phases, 1, "told when it changes");
    let unknown = HeartbeatEntry {
        held: Held { task: task_id(), attempt: goes_on.attempt },
        phase: Phase::Run,
        kept: None,
    };
    assert_eq!(bed.store.heartbeat(&"w1".into(), &[unknown], LEASE_MS).await.unwrap(), [Order::Fenced]);
}

async fn what_is_held_is_told_and_ended(bed: &Bed) {
    let asked = store::NewTask { hold: Some(Hold::of(60)), ..ready("a") };
    bed.queue(&[asked, ready("a")]).await;
    let claimed = bed.claim("w1", 2).await;
    let (held, other) =
        if claimed[0].task.hold.is_some() { (&claimed[0], &claimed[1]) } else { (&claimed[1], &claimed[0]) };
    let id = held.task.id;
    let early = bed.store.unhold(id, "ada").await;
    assert!(matches!(early, Err(store::StoreError::Conflict(_))), "{early:?}");
    let kept = Kept { until: held.task.created_at, enter: vec!["docker exec x".to_owned()] };
    let beats =
        [HeartbeatEntry { kept: Some(kept.clone()), ..beat(held, Phase::Hold) }, beat(other, Phase::Hold)];
    let told = async || bed.store.heartbeat(&"w1".into(), &beats, LEASE_MS).await.unwrap();
    assert_eq!(told().await, [Order::Continue, Order::Continue]);
    let task = bed.store.task(id).await.unwrap();
    assert_eq!(
        (task.state.label().as_str(), task.hold.and_then(|hold| hold.kept)),
        ("running(hold)", Some(kept))
    );
    let phases = |topics: Vec<String>| topics.iter().filter(|topic| *topic == "task.phase").count();
    assert_eq!(phases(bed.topics_of(id).await), 2, "the phase is told, and then how to get in");
    let unasked = bed.store.unhold(other.task.id, "ada").await;
    assert!(matches!(unasked, Err(store::StoreError::Conflict(_))), "{unasked:?}");
    let ended = bed.store.unhold(id, "ada").await.unwrap();
    assert_eq!(ended.hold.and_then(|hold| hold.ended_by).as_deref(), Some("ada"));
    assert_eq!(told().await, [Order::EndHold, Order::Continue]);
    bed.pass(LEASE_MS as i64 - 2_000).await;
    assert_eq!(told().await, [Order::EndHold, Order::Continue]);
    bed.pass(LEASE_MS as i64 - 2_000).await;
    assert!(bed.store.reap(10).await.unwrap().is_empty(), "a hold keeps its lease");
    bed.finish(held, "failed").await;
    assert_eq!(bed.label(id).await, "finished(failed)");
}

async fn lost_attempts_are_reaped_and_retried_by_policy(bed: &Bed) {
    let task = bed.queue(&[ready("a")]).await.remove(0);
    // The policy of tasks without a task file: lost ones are retried twice, at once.
    for attempt in 1..=3 {
        let claimed = bed.claim_one().await;
        assert_eq!(claimed.attempt.attempt, attempt);
        bed.pass(LEASE_MS as i64 - 2_000).await;
        assert!(bed.store.reap(10).await.unwrap().is_empty(), "not before its time");
        bed.pass(2_001).await;
        let ended = bed.store.reap(10).await.unwrap();
        assert_eq!(ended, [Held { task: task.id, attempt: claimed.attempt }]);
        assert!(bed.store.reap(10).await.unwrap().is_empty());
    }
    assert_eq!(bed.label(task.id).await, "finished(error(lost))");
    let attempts = bed.store.attempts(task.id).await.unwrap();
    assert_eq!(attempts.len(), 3);
    assert!(
        attempts.iter().all(|one| one.outcome.unwrap().as_str() == "error(lost)" && one.ended_at.is_some())
    );
    let topics = bed.topics_of(task.id).await;
    assert_eq!(topics.iter().filter(|topic| *topic == "task.retried").count(), 2);
    assert_eq!(topics.iter().filter(|topic| *topic == "task.finished").count(), 1);
}

async fn the_lost_who_are_to_stop_are_stopped(bed: &Bed) {
    let task = bed.queue(&[ready("a")]).await.remove(0);
    bed.claim_one().await;
    bed.store.stop(task.id, &Stop::Cancel { who: "ada".to_owned(), why: None }).await.unwrap();
    bed.pass(LEASE_MS as i64 + 1).await;
    assert_eq!(bed.store.reap(10).await.unwrap().len(), 1);
    assert_eq!(bed.label(task.id).await, "cancelled");
}

async fn a_zombie_can_write_nothing(bed: &Bed) {
    let task = bed.queue(&[ready("a")]).await.remove(0);
    let zombie = bed.claim_one().await;
    bed.pass(LEASE_MS as i64 + 1).await;
    bed.store.reap(10).await.unwrap();
    let second = bed.claim("w2", 1).await.remove(0);
    assert!(second.attempt.fence > zombie.attempt.fence);
    assert_eq!(bed.finish(&zombie, "failed").await, Finished::Fenced);
    let orders = bed.store.heartbeat(&"w1".into(), &[beat(&zombie, Phase::Run)], LEASE_MS).await.unwrap();
    assert_eq!(orders, [Order::Fenced]);
    let chunk = LogChunk { attempt: 1, seq: 0, size_bytes: 3, key: "log".to_owned() };
    let written = bed.store.add_log_chunk(task.id, zombie.attempt, &chunk).await.unwrap();
    assert_eq!(written, Fenced::Stale);
    assert!(!bed.store.holds(task.id, zombie.attempt).await.unwrap());
    // Another fence of the right attempt, and the other way round.
    let odd = AttemptRef { attempt: second.attempt.attempt, fence: zombie.attempt.fence };
    let finished = bed.store.finish(task.id, &finish(odd, "failed")).await.unwrap();
    assert_eq!(finished, Finished::Fenced);
    assert!(matches!(bed.finish(&second, "passed").await, Finished::Accepted(_)));
    assert_eq!(bed.label(task.id).await, "finished(passed)");
}

async fn paused_queues_hand_nothing_out(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    bed.store.pause_queue(&"main".into(), "ada", Some("disk"), false).await.unwrap();
    let unknown = bed.store.pause_queue(&"empty".into(), "ada", None, false).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
    bed.store.pause_queue(&"empty".into(), "ada", None, true).await.unwrap();
    assert!(bed.claim("w1", 1).await.is_empty());
    let queues = bed.store.queues().await.unwrap();
    let names: Vec<_> = queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["empty", "main"]);
    let paused = queues[1].paused.as_ref().unwrap();
    assert_eq!((paused.by.as_str(), paused.why.as_deref()), ("ada", Some("disk")));
    assert_eq!(bed.store.paused(&"main".into()).await.unwrap().as_ref(), Some(paused));
    assert_eq!(bed.store.paused(&"nowhere".into()).await.unwrap(), None);
    assert_eq!((queues[1].queued, queues[1].running), (1, 0));
    assert!(queues[1].oldest_queued_at.is_some());
    bed.store.resume_queue(&"main".into()).await.unwrap();
    assert_eq!(bed.store.paused(&"main".into()).await.unwrap(), None);
    assert_eq!(bed.claim("w1", 1).await.len(), 1);
    let queues = bed.store.queues().await.unwrap();
    assert_eq!((queues[1].queued, queues[1].running, &queues[1].paused), (0, 1, &None));
    assert!(matches!(bed.store.resume_queue(&"none".into()).await, Err(StoreError::NotFound { .. })));
}

async fn drained_workers_get_nothing(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    assert_eq!(bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap(), WorkerMode::Active);
    bed.store.set_worker_mode(&"w1".into(), &WorkerMode::Drain.into()).await.unwrap();
    assert_eq!(bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap(), WorkerMode::Drain);
    assert!(bed.claim("w1", 1).await.is_empty());
    bed.store.set_worker_mode(&"w1".into(), &WorkerMode::Active.into()).await.unwrap();
    assert_eq!(bed.claim("w1", 1).await.len(), 1);
    let error = bed.store.set_worker_mode(&"w9".into(), &WorkerMode::Drain.into()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }));
}

async fn who_says_goodbye_is_not_counted_on(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    let task = bed.queue(&[ready("a")]).await.remove(0);
    let unmet = async || match bed.store.task(task.id).await.unwrap().state {
        model::TaskState::Queued { unmet, .. } => unmet,
        other => panic!("{other:?}"),
    };
    assert_eq!(unmet().await, None);
    bed.store.leave(&"w1".into()).await.unwrap();
    bed.store.leave(&"w9".into()).await.unwrap();
    let worker = bed.store.workers(60_000).await.unwrap().remove(0);
    assert!(!worker.alive && worker.left_at.is_some(), "{worker:?}");
    assert!(unmet().await.is_some(), "nobody is left for it");
    assert!(bed.topics_of(task.id).await.contains(&"task.unmet".to_owned()));
    // The same worker again, at once.
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    let worker = bed.store.workers(60_000).await.unwrap().remove(0);
    assert!(worker.alive && worker.left_at.is_none(), "{worker:?}");
    assert_eq!(unmet().await, None);
}

async fn workers_are_known_while_they_are_heard_of(bed: &Bed) {
    let small = Offer { slots: 1, ..offer() };
    bed.store.hello(&"w1".into(), "1.0", &offer()).await.unwrap();
    bed.store.hello(&"w2".into(), "1.0", &small).await.unwrap();
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim("w1", 1).await;
    bed.pass(20_000).await;
    bed.store.hello(&"w2".into(), "1.1", &small).await.unwrap();
    let workers = bed.store.workers(10_000).await.unwrap();
    let shown: Vec<_> =
        workers.iter().map(|one| (one.name.as_str(), one.version.as_str(), one.alive)).collect();
    assert_eq!(shown, [("w1", "1.0", false), ("w2", "1.1", true)]);
    assert_eq!(workers[0].running, [claimed[0].task.id]);
    assert_eq!(workers[1].offer, small);
    assert_eq!(bed.store.forget_workers(10_000).await.unwrap(), 1);
    assert_eq!(bed.store.workers(10_000).await.unwrap().len(), 1);
    // A heartbeat also says that it is there.
    bed.pass(20_000).await;
    bed.store.heartbeat(&"w2".into(), &[], LEASE_MS).await.unwrap();
    assert!(bed.store.workers(10_000).await.unwrap()[0].alive);
}

async fn a_living_worker_keeps_its_name(bed: &Bed) {
    let hello = async |identity: Option<&str>| {
        let offer = model::Offer { identity: identity.map(str::to_owned), ..offer() };
        bed.store.hello(&"w1".into(), "1", &offer).await
    };
    hello(Some("aa")).await.unwrap();
    let refused = hello(Some("bb")).await;
    assert!(
        matches!(&refused, Err(store::StoreError::Conflict(why)) if why.contains("another worker is named `w1`")),
        "{refused:?}"
    );
    // The same worker, and one of a version that does not say.
    hello(Some("aa")).await.unwrap();
    bed.store.leave(&"w1".into()).await.unwrap();
    hello(Some("bb")).await.unwrap();
    bed.pass(61_000).await;
    hello(Some("cc")).await.unwrap();
}
