//! What a task needs, what workers offer, and the tasks that nobody can run.

use crate::harness::*;
use model::{Offer, Requirements, TaskId, TaskState};
use store::{Claim, NewTask, WORKER_ALIVE_MS, WorkerMode};

conformance!(
    workers_get_what_they_can_run,
    unmet_tasks_say_why_until_a_worker_comes,
    the_drained_and_the_silent_meet_nothing,
    forgotten_workers_leave_their_tasks_unmet,
);

async fn unmet(bed: &Bed, task: TaskId) -> Option<String> {
    match bed.store.task(task).await.unwrap().state {
        TaskState::Queued { unmet, .. } => unmet,
        other => panic!("{other:?}"),
    }
}

async fn workers_get_what_they_can_run(bed: &Bed) {
    let with = |needs: Requirements| NewTask { needs, ..ready("a") };
    let tasks = [
        with(needs("aarch64")),
        with(Requirements { labels: ["big".to_owned()].into(), ..Requirements::default() }),
        with(Requirements { memory_bytes: Some(1 << 40), ..Requirements::default() }),
        NewTask { queue: "other".into(), ..ready("a") },
        with(needs("x86_64")),
    ];
    bed.queue(&tasks).await;
    let claimed = bed.claim("w1", 9).await;
    assert_eq!(claimed.iter().map(|one| one.task.id).collect::<Vec<_>>(), [tasks[4].id]);
    let big = Offer {
        queues: vec!["main".into(), "other".into(), "none".into()],
        labels: ["big".to_owned(), "red".to_owned()].into(),
        ..offer()
    };
    let request = Claim { offer: big, ..claim("w2", 9) };
    let claimed = bed.store.claim(&request).await.unwrap();
    let mut ids: Vec<_> = claimed.iter().map(|one| one.task.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [tasks[1].id, tasks[3].id]);
}

async fn unmet_tasks_say_why_until_a_worker_comes(bed: &Bed) {
    let arm = |_| NewTask { needs: needs("aarch64"), ..ready("a") };
    let (first, second) = (arm(1), arm(2));
    bed.queue(std::slice::from_ref(&first)).await;
    assert_eq!(unmet(bed, first.id).await.as_deref(), Some("no worker has made itself known"));
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    assert!(unmet(bed, first.id).await.is_some(), "not by this one");
    bed.queue(std::slice::from_ref(&second)).await;
    let told = bed.topics_of(second.id).await.iter().filter(|topic| *topic == "task.unmet").count();
    assert_eq!(told, 1);
    assert_eq!(bed.store.queues().await.unwrap()[0].unmet, 2);
    let able = Offer { arches: ["aarch64".to_owned()].into(), ..offer() };
    bed.store.hello(&"w2".into(), "1", &able).await.unwrap();
    assert_eq!((unmet(bed, first.id).await, unmet(bed, second.id).await), (None, None));
    assert_eq!(bed.store.queues().await.unwrap()[0].unmet, 0);
    let met = arm(3);
    bed.queue(std::slice::from_ref(&met)).await;
    assert_eq!(bed.topics_of(met.id).await, ["task.created", "task.queued"]);
}

async fn the_drained_and_the_silent_meet_nothing(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    bed.store.set_worker_mode(&"w1".into(), WorkerMode::Drain).await.unwrap();
    let task = ready("a");
    bed.queue(std::slice::from_ref(&task)).await;
    assert_eq!(unmet(bed, task.id).await.as_deref(), Some("w1 is drained"));
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    assert!(unmet(bed, task.id).await.is_some());
    bed.store.set_worker_mode(&"w1".into(), WorkerMode::Active).await.unwrap();
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    assert_eq!(unmet(bed, task.id).await, None);
    bed.pass(i64::try_from(WORKER_ALIVE_MS).unwrap() + 1).await;
    let late = NewTask { needs: needs("x86_64"), ..ready("a") };
    bed.queue(std::slice::from_ref(&late)).await;
    assert_eq!(unmet(bed, late.id).await.as_deref(), Some("no worker has made itself known"));
}

async fn forgotten_workers_leave_their_tasks_unmet(bed: &Bed) {
    let able = Offer { queues: vec!["main".into(), "other".into()], ..offer() };
    bed.store.hello(&"w1".into(), "1", &able).await.unwrap();
    let tasks = [ready("a"), ready("a")];
    bed.queue(&tasks).await;
    assert_eq!(bed.store.forget_workers(1_000).await.unwrap(), 0);
    assert_eq!(unmet(bed, tasks[0].id).await, None);
    bed.pass(300_000).await;
    let other = Offer { queues: vec!["other".into()], ..offer() };
    bed.store.hello(&"w2".into(), "1", &other).await.unwrap();
    assert_eq!(bed.store.forget_workers(200_000).await.unwrap(), 1);
    assert_eq!(bed.store.forget_workers(200_000).await.unwrap(), 0);
    assert_eq!(unmet(bed, tasks[0].id).await.as_deref(), Some("w2 does not serve queue main"));
    assert_eq!(bed.topics_of(tasks[1].id).await, ["task.created", "task.queued", "task.unmet"]);
}
