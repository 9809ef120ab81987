//! Groups: how many of them run, and who supersedes whom.

use crate::harness::*;
use model::task::{OnNew, Stop};
use std::{collections::BTreeSet, sync::Arc};
use store::NewTask;

conformance!(
    a_group_admits_as_many_as_it_may,
    the_highest_priority_of_a_group_comes_next,
    resolved_tasks_wait_for_their_group,
    a_retry_keeps_its_place_in_the_group,
    newer_tasks_supersede_what_waits,
    newer_tasks_stop_what_runs_when_asked_to,
    tasks_of_one_event_do_not_supersede_each_other,
    each_event_of_a_batch_supersedes_the_one_before,
    concurrent_endings_admit_each_once,
);

fn one_at_a_time(submitter: &str, priority: i32) -> NewTask {
    in_group(NewTask { priority, ..ready(submitter) }, "g", OnNew::Keep, Some(1))
}

async fn a_group_admits_as_many_as_it_may(bed: &Bed) {
    let tasks: Vec<_> = (0..4).map(|_| in_group(ready("a"), "g", OnNew::Keep, Some(2))).collect();
    bed.queue(&tasks).await;
    let labels = |bed: &Bed| {
        let (store, ids) = (Arc::clone(&bed.store), tasks.iter().map(|task| task.id).collect::<Vec<_>>());
        async move {
            let mut labels = Vec::new();
            for id in ids {
                labels.push(store.task(id).await.unwrap().state.label());
            }
            labels.join(" ")
        }
    };
    assert_eq!(labels(bed).await, "queued queued waiting(group) waiting(group)");
    let claimed = bed.claim("w1", 9).await;
    assert_eq!(claimed.len(), 2);
    bed.finish(&claimed[0], "passed").await;
    assert_eq!(labels(bed).await, "finished(passed) running(provision) queued waiting(group)");
    // Cancelling one that is queued lets the next in too.
    bed.store.stop(tasks[2].id, &Stop::Cancel { who: "ada".into(), why: None }).await.unwrap();
    assert_eq!(labels(bed).await, "finished(passed) running(provision) cancelled queued");
    assert_eq!(bed.topics_of(tasks[3].id).await, ["task.created", "task.queued", "task.unmet"]);
}

async fn the_highest_priority_of_a_group_comes_next(bed: &Bed) {
    let tasks = [one_at_a_time("a", 0), one_at_a_time("a", 1), one_at_a_time("a", 5), one_at_a_time("a", 5)];
    bed.queue(&tasks).await;
    let mut order = Vec::new();
    while let Some(claimed) = bed.claim("w1", 9).await.pop() {
        order.push(claimed.task.id);
        bed.finish(&claimed, "passed").await;
    }
    assert_eq!(order, [tasks[2].id, tasks[3].id, tasks[1].id, tasks[0].id]);
}

async fn resolved_tasks_wait_for_their_group(bed: &Bed) {
    let tasks: Vec<_> = (0..2).map(|_| in_group(wished("lint"), "g", OnNew::Keep, Some(1))).collect();
    bed.event("e1", tasks.clone()).await;
    for task in &tasks {
        bed.resolve(task.id, &found("", needs("x86_64"))).await.unwrap();
    }
    assert_eq!(bed.label(tasks[0].id).await, "queued");
    assert_eq!(bed.label(tasks[1].id).await, "waiting(group)");
    assert_eq!(bed.topics_of(tasks[1].id).await, ["task.created", "task.waiting"]);
    bed.finish(&bed.claim_one().await, "failed").await;
    let second = bed.claim_one().await;
    assert_eq!(second.task.id, tasks[1].id);
    assert_eq!(second.task.needs, needs("x86_64"), "what was found is kept while it waits");
}

async fn a_retry_keeps_its_place_in_the_group(bed: &Bed) {
    bed.queue(&[one_at_a_time("a", 0), one_at_a_time("a", 0)]).await;
    let claimed = bed.claim_one().await;
    bed.finish(&claimed, "error(infra)").await;
    assert!(bed.claim("w1", 9).await.is_empty(), "delayed, and nobody else comes in");
    bed.pass(5_001).await;
    assert_eq!(bed.claim_one().await.task.id, claimed.task.id);
}

async fn newer_tasks_supersede_what_waits(bed: &Bed) {
    let group = |task| in_group(task, "g", OnNew::SupersedeQueued, None);
    let (waits, queued, runs) =
        (group(wished("lint")), group(ready("a")), in_group(ready("a"), "g", OnNew::Keep, None));
    bed.queue(std::slice::from_ref(&runs)).await;
    let running = bed.claim_one().await;
    bed.queue(std::slice::from_ref(&queued)).await;
    assert_eq!(bed.label(runs.id).await, "running(provision)", "what runs goes on");
    let keep = in_group(wished("lint"), "g", OnNew::Keep, None);
    bed.event("e1", vec![keep.clone()]).await;
    assert_eq!(bed.label(queued.id).await, "queued", "this one supersedes nothing");
    bed.event("e2", vec![waits.clone()]).await;
    assert_eq!(bed.label(queued.id).await, "superseded");
    assert_eq!(bed.label(keep.id).await, "superseded");
    bed.finish(&running, "passed").await;
    assert_eq!(bed.label(runs.id).await, "finished(passed)");
    assert_eq!(bed.label(waits.id).await, "waiting(resolving)");
    let topics = bed.topics_of(queued.id).await;
    assert_eq!(topics.last().unwrap(), "task.superseded");
    let other = in_group(ready("a"), "another", OnNew::Supersede, None);
    bed.queue(std::slice::from_ref(&other)).await;
    assert_eq!(bed.label(waits.id).await, "waiting(resolving)", "of another group");
}

async fn newer_tasks_stop_what_runs_when_asked_to(bed: &Bed) {
    let group = |_| in_group(ready("a"), "g", OnNew::Supersede, Some(1));
    bed.queue(&[group(1)]).await;
    let running = bed.claim_one().await;
    let new = group(2);
    bed.queue(std::slice::from_ref(&new)).await;
    let stop = bed.store.task(running.task.id).await.unwrap().state;
    let model::TaskState::Running { stop: Some(Stop::Supersede { by }), .. } = stop else {
        panic!("{stop:?}")
    };
    assert_eq!(by, new.id);
    assert_eq!(bed.label(new.id).await, "waiting(group)", "until the older one is gone");
    bed.finish(&running, "passed").await;
    assert_eq!(bed.label(running.task.id).await, "superseded");
    assert_eq!(bed.claim_one().await.task.id, new.id);
}

async fn tasks_of_one_event_do_not_supersede_each_other(bed: &Bed) {
    // The cells of a matrix in one group.
    let cell = |_| in_group(wished("lint"), "g", OnNew::SupersedeQueued, None);
    let first: Vec<_> = (0..2).map(cell).collect();
    bed.event("e1", first.clone()).await;
    let second: Vec<_> = (0..2).map(cell).collect();
    bed.event("e2", second.clone()).await;
    for task in &first {
        assert_eq!(bed.label(task.id).await, "superseded");
    }
    for task in &second {
        assert_eq!(bed.label(task.id).await, "waiting(resolving)");
    }
}

async fn each_event_of_a_batch_supersedes_the_one_before(bed: &Bed) {
    let tasks: Vec<_> = (0..3).map(|_| in_group(wished("lint"), "g", OnNew::SupersedeQueued, None)).collect();
    let batch: Vec<_> = tasks
        .iter()
        .enumerate()
        .map(|(n, task)| store::EventCommit {
            event: event(&format!("e{n}"), "{}"),
            judgement: Some(judgement(vec![task.clone()])),
        })
        .collect();
    bed.store.commit_events(&batch).await.unwrap();
    for (older, newer) in [(0, 1), (1, 2)] {
        let state = bed.store.task(tasks[older].id).await.unwrap().state;
        let model::TaskState::Superseded { by, .. } = state else { panic!("{state:?}") };
        assert_eq!(by, tasks[newer].id);
    }
    assert_eq!(bed.label(tasks[2].id).await, "waiting(resolving)");
}

async fn concurrent_endings_admit_each_once(bed: &Bed) {
    const TASKS: usize = 24;
    let tasks: Vec<_> = (0..TASKS).map(|_| in_group(ready("a"), "g", OnNew::Keep, Some(4))).collect();
    bed.queue(&tasks).await;
    let mut workers = Vec::new();
    let done = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    for n in 0..6 {
        let (store, done) = (Arc::clone(&bed.store), Arc::clone(&done));
        workers.push(tokio::spawn(async move {
            while done.lock().unwrap().len() < TASKS {
                for one in store.claim(&claim(&format!("w{n}"), 1)).await.unwrap() {
                    let running = store.queues().await.unwrap()[0].running;
                    assert!(running <= 4, "{running} at once");
                    store.finish(one.task.id, &finish(one.attempt, "passed")).await.unwrap();
                    assert!(done.lock().unwrap().insert(one.task.id));
                }
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(done.lock().unwrap().len(), TASKS);
}
