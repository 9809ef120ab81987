//! What a task needs, what workers offer, and the tasks that nobody can run.

use crate::harness::*;
use model::{Offer, Requirements, TaskId, TaskState, requirements::ContainerImages};
use store::{Claim, IMAGE_PATIENCE_MS, NewTask, PASSED_OVER_MAX_MS, WORKER_ALIVE_MS, WorkerMode, WorkerWish};

conformance!(
    workers_get_what_they_can_run,
    images_are_where_tasks_go_first,
    unmet_tasks_say_why_until_a_worker_comes,
    the_drained_and_the_silent_meet_nothing,
    forgotten_workers_leave_their_tasks_unmet,
    sizes_are_kept_as_long_as_tasks_run,
    what_does_not_fit_is_not_passed_over_for_ever,
    two_claims_of_a_worker_never_keep_more_than_it_has,
    the_held_up_say_what_they_wait_for,
    maintenance_ends_with_its_time,
);

const GIB: u64 = 1 << 30;

/// A task that needs so much memory, of the 4 GiB that workers here have.
fn large(memory_gib: u64) -> NewTask {
    let needs = Requirements { memory_bytes: Some(memory_gib * GIB), ..Requirements::default() };
    NewTask { needs, ..ready("a") }
}

fn ids(claimed: &[model::protocol::Assignment]) -> Vec<TaskId> {
    claimed.iter().map(|one| one.task.id).collect()
}

async fn sizes_are_kept_as_long_as_tasks_run(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    let tasks = [large(3), large(2), large(1), ready("a")];
    bed.queue(&tasks).await;
    let first = bed.claim("w1", 9).await;
    assert_eq!(
        ids(&first),
        [tasks[0].id, tasks[2].id, tasks[3].id],
        "the second does not fit beside the first"
    );
    assert!(bed.claim("w1", 9).await.is_empty());
    let reserved = bed.store.workers(60_000).await.unwrap().remove(0).reserved;
    assert_eq!((reserved.slots, reserved.memory_bytes, reserved.disk_bytes), (3, 4 * GIB, 0));
    // Another worker has room of its own; there is only one task for it.
    bed.finish(&first[0], "passed").await;
    assert_eq!(ids(&bed.claim("w1", 9).await), [tasks[1].id]);
    let disk = Requirements { disk_bytes: Some(12 << 30), ..Requirements::default() };
    let disks = [NewTask { needs: disk.clone(), ..ready("a") }, NewTask { needs: disk, ..ready("a") }];
    bed.queue(&disks).await;
    assert_eq!(ids(&bed.claim("w1", 9).await), [disks[0].id], "16 GiB of disk");
    assert_eq!(ids(&bed.claim("w2", 9).await), [disks[1].id]);
}

async fn what_does_not_fit_is_not_passed_over_for_ever(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    bed.queue(&[large(2)]).await;
    let runs = bed.claim("w1", 9).await.remove(0);
    let (whole, small) = (large(4), large(1));
    bed.queue(&[whole.clone(), small.clone()]).await;
    assert_eq!(ids(&bed.claim("w1", 9).await), [small.id], "passed over at first");
    bed.pass(i64::try_from(PASSED_OVER_MAX_MS).unwrap() + 1).await;
    let (late, free) = (large(1), ready("a"));
    bed.queue(&[late.clone(), free.clone()]).await;
    assert_eq!(ids(&bed.claim("w1", 9).await), [free.id], "only what takes no room goes before it");
    bed.finish(&runs, "passed").await;
    for held in bed.store.held(&"w1".into()).await.unwrap() {
        bed.finish(&held, "passed").await;
    }
    assert_eq!(ids(&bed.claim("w1", 9).await), [whole.id]);
    assert_eq!(ids(&bed.claim("w2", 9).await), [late.id], "another worker is not held back by it now");
}

async fn two_claims_of_a_worker_never_keep_more_than_it_has(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    let tasks: Vec<_> = (0..20).map(|_| large(1)).collect();
    bed.queue(&tasks).await;
    let claims: Vec<_> = (0..6)
        .map(|_| {
            let store = std::sync::Arc::clone(&bed.store);
            tokio::spawn(async move { store.claim(&claim("w1", 3)).await.unwrap().len() })
        })
        .collect();
    let mut taken = 0;
    for claim in claims {
        taken += claim.await.unwrap();
    }
    assert!((1..=4).contains(&taken), "{taken} GiB of 4 are taken");
}

async fn the_held_up_say_what_they_wait_for(bed: &Bed) {
    let small = Offer { slots: 1, ..offer() };
    bed.store.hello(&"w1".into(), "1", &small).await.unwrap();
    let (first, second, never) = (large(3), large(2), large(9));
    bed.queue(&[first.clone(), second.clone(), never.clone()]).await;
    let held_up = async |task: &NewTask| bed.store.held_up(task.id).await.unwrap();
    assert_eq!(held_up(&first).await, None, "the next claim takes it");
    assert_eq!(unmet(bed, never.id).await.as_deref(), Some("w1 lacks memory 9 GiB (offered: 4 GiB)"));
    assert_eq!(held_up(&never).await, None, "it is unmet, which says more");
    bed.claim("w1", 1).await;
    assert_eq!(held_up(&first).await, None, "it runs");
    assert_eq!(
        held_up(&second).await.as_deref(),
        Some("w1 has no room: it needs a slot (0 of 1 left), memory 2 GiB (1 GiB of 4 GiB left)")
    );
    bed.store.pause_queue(&"main".into(), "ada", Some("disk"), false).await.unwrap();
    assert_eq!(held_up(&second).await, None, "that is told with the queue");
}

async fn maintenance_ends_with_its_time(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    let task = ready("a");
    bed.queue(std::slice::from_ref(&task)).await;
    let until = bed.store.now().await.unwrap() + chrono::Duration::hours(1);
    let wish = WorkerWish {
        mode: WorkerMode::Maintenance,
        by: Some("ada".to_owned()),
        why: Some("new disks".to_owned()),
        since: None,
        until: Some(until),
    };
    bed.store.set_worker_mode(&"w1".into(), &wish).await.unwrap();
    let why = format!("w1 is in maintenance until {} (new disks)", until.format("%Y-%m-%d %H:%M UTC"));
    assert_eq!(unmet(bed, task.id).await, Some(why), "said of what is queued already");
    assert!(bed.topics_of(task.id).await.contains(&"task.unmet".to_owned()));
    assert_eq!(bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap(), WorkerMode::Maintenance);
    assert!(bed.claim("w1", 1).await.is_empty());
    let shown = bed.store.workers(60_000).await.unwrap().remove(0).wish;
    assert_eq!(
        (shown.by.as_deref(), shown.until.is_some(), shown.since.is_some()),
        (Some("ada"), true, true)
    );
    bed.pass(3_600_001).await;
    assert_eq!(bed.store.worker_mode(&"w1".into()).await.unwrap(), Some(WorkerMode::Active));
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    assert_eq!(unmet(bed, task.id).await, None);
    assert_eq!(bed.store.workers(60_000).await.unwrap().remove(0).wish, WorkerWish::default());
    assert_eq!(ids(&bed.claim("w1", 1).await), [task.id]);
    // A word for good follows at once, without a word of the worker.
    bed.store.set_worker_mode(&"w1".into(), &WorkerMode::Cordon.into()).await.unwrap();
    let next = ready("a");
    bed.queue(std::slice::from_ref(&next)).await;
    assert_eq!(unmet(bed, next.id).await.as_deref(), Some("w1 is cordoned"));
    bed.store.set_worker_mode(&"w1".into(), &WorkerMode::Active.into()).await.unwrap();
    assert_eq!(unmet(bed, next.id).await, None);
}

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

async fn images_are_where_tasks_go_first(bed: &Bed) {
    let with = |image: &str| {
        let needs = Requirements {
            executors: offer().executors,
            container_images: [image.to_owned()].into(),
            ..Requirements::default()
        };
        NewTask { needs, ..ready("a") }
    };
    let has = |image: &str, pulls: bool| Offer {
        containers: Some(ContainerImages { there: [image.to_owned()].into(), pulls }),
        ..offer()
    };
    let (here, there, nowhere) = (with("here:1"), with("there:1"), with("nowhere:1"));
    bed.store.hello(&"w1".into(), "1", &has("here:1", true)).await.unwrap();
    bed.store.hello(&"w2".into(), "1", &has("there:1", false)).await.unwrap();
    bed.queue(&[here.clone(), there.clone(), nowhere.clone()]).await;
    let take = async |worker: &str, offer: Offer| {
        let claimed = bed.store.claim(&Claim { offer, ..claim(worker, 9) }).await.unwrap();
        claimed.iter().map(|one| one.task.id).collect::<Vec<_>>()
    };
    assert_eq!(take("w1", has("here:1", true)).await, [here.id, nowhere.id], "what is elsewhere is left");
    bed.pass(i64::try_from(IMAGE_PATIENCE_MS).unwrap() + 1).await;
    assert_eq!(take("w1", has("here:1", true)).await, [there.id], "but not for long");
    // Nobody pulls any more.
    bed.store.hello(&"w1".into(), "1", &has("here:1", false)).await.unwrap();
    let late = with("nowhere:1");
    bed.queue(std::slice::from_ref(&late)).await;
    let why = unmet(bed, late.id).await.unwrap();
    assert!(
        why.contains("w1 lacks") && why.contains("image nowhere:1 (it pulls none; there: here:1)"),
        "{why}"
    );
    assert_eq!(take("w2", has("there:1", false)).await, []);
    bed.store.hello(&"w2".into(), "1", &has("nowhere:1", false)).await.unwrap();
    assert_eq!(unmet(bed, late.id).await, None);
    assert_eq!(take("w2", has("nowhere:1", false)).await, [late.id]);
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
    bed.store.set_worker_mode(&"w1".into(), &WorkerMode::Drain.into()).await.unwrap();
    let task = ready("a");
    bed.queue(std::slice::from_ref(&task)).await;
    assert_eq!(unmet(bed, task.id).await.as_deref(), Some("w1 is drained"));
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    assert!(unmet(bed, task.id).await.is_some());
    bed.store.set_worker_mode(&"w1".into(), &WorkerMode::Active.into()).await.unwrap();
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    assert_eq!(unmet(bed, task.id).await, None);
    bed.pass(i64::try_from(WORKER_ALIVE_MS).unwrap() + 1).await;
    let late = NewTask { needs: needs("x86_64"), ..ready("a") };
    bed.queue(std::slice::from_ref(&late)).await;
    let why = unmet(bed, late.id).await.unwrap();
    assert!(why.starts_with("w1 was last heard of at "), "{why}");
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    bed.store.set_worker_mode(&"w1".into(), &WorkerMode::Drain.into()).await.unwrap();
    bed.store.leave(&"w1".into()).await.unwrap();
    let after = NewTask { needs: needs("x86_64"), ..ready("a") };
    bed.queue(std::slice::from_ref(&after)).await;
    assert_eq!(unmet(bed, after.id).await.as_deref(), Some("w1 is drained and has stopped"));
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
