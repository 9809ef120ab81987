//! Tasks: making, resolving, stopping, listing.

use crate::harness::*;
use model::{
    ErrorReason, Item, Outcome, Task, TaskState,
    task::{Approval, Origin, Stop, TaskKind, Trust, WaitReason},
};
use std::time::Duration;
use store::{EventCommit, NewOrigin, NewTask, Resolution, StoreError, TaskQuery, Unresolved};

conformance!(
    a_key_that_is_there_gives_its_task,
    resolving_queues_with_what_was_found,
    resolving_can_end_a_task,
    resolving_later_waits_and_counts_the_tries,
    unresolved_tasks_are_held_by_one_server,
    whoever_makes_tasks_takes_some_of_them_at_once,
    a_second_answer_to_resolving_changes_nothing,
    tasks_are_cancelled_in_every_state,
    parked_tasks_are_released,
    what_needs_approval_waits_for_it_at_its_commit,
    batches_count_and_are_told_once,
    lists_filter_and_are_cut_into_pages,
    tasks_are_found_by_the_start_of_their_id,
    attempts_of_no_task_are_an_error,
);

async fn a_key_that_is_there_gives_its_task(bed: &Bed) {
    let first = ready("user:ada");
    let again = NewTask { id: task_id(), ..first.clone() };
    assert_eq!(bed.queue(std::slice::from_ref(&first)).await[0].id, first.id);
    let made = bed.queue(&[again, ready("user:ada")]).await;
    assert_eq!(made[0].id, first.id);
    assert_eq!(bed.all_tasks().await.len(), 2);
    assert_eq!(bed.topics_of(first.id).await, ["task.created", "task.queued", "task.unmet"]);
}

async fn resolving_queues_with_what_was_found(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    let new = wished("lint");
    bed.event("e1", vec![new.clone()]).await;
    let unresolved = bed.store.unresolved(10, 60_000).await.unwrap();
    assert_eq!((unresolved.len(), unresolved[0].tries), (1, 0));
    assert_eq!(unresolved[0].task.id, new.id);
    let task = bed.resolve(new.id, &found("retry: {on: [error], max: 1}", needs("x86_64"))).await.unwrap();
    assert_eq!(task.state.label(), "queued");
    let read = bed.store.task(new.id).await.unwrap();
    assert_eq!(read, task);
    let TaskKind::Repo { resolved: Some(resolved), .. } = &read.kind else { panic!("{:?}", read.kind) };
    assert_eq!(resolved.commit, "c".repeat(40));
    assert_eq!(read.needs, needs("x86_64"));
    assert_eq!(bed.topics_of(new.id).await, ["task.created", "task.queued"]);
    assert_eq!(bed.store.position(new.id).await.unwrap(), Some(0));
}

async fn what_needs_approval_waits_for_it_at_its_commit(bed: &Bed) {
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    let new = NewTask {
        trust: Trust::Untrusted,
        approval: Some(Approval::Needed),
        secrets: vec!["token".to_owned()],
        ..wished("lint")
    };
    bed.event("e1", vec![new.clone()]).await;
    let early = bed.store.approve(new.id, "ada", None).await;
    assert!(matches!(early, Err(StoreError::Conflict(_))), "before its commit is known: {early:?}");
    let task = bed.resolve(new.id, &found("", needs("x86_64"))).await.unwrap();
    assert_eq!(task.state.label(), "waiting(approval)");
    assert_eq!(bed.store.task(new.id).await.unwrap(), task);
    let released = bed.store.release(new.id).await;
    assert!(matches!(released, Err(StoreError::Conflict(_))), "it is not parked: {released:?}");
    assert!(bed.store.claim(&claim("w1", 1)).await.unwrap().is_empty());
    let approved = bed.store.approve(new.id, "ada", Some("read it")).await.unwrap();
    assert_eq!(approved.state.label(), "queued");
    let read = bed.store.task(new.id).await.unwrap();
    let Some(Approval::Given { who, why, .. }) = &read.approval else { panic!("{:?}", read.approval) };
    assert_eq!((who.as_str(), why.as_deref()), ("ada", Some("read it")));
    assert_eq!(read.secrets, ["token"]);
    assert!(bed.store.approve(new.id, "ada", None).await.is_err(), "once");
    assert_eq!(bed.store.claim(&claim("w1", 1)).await.unwrap().len(), 1);
}

async fn resolving_can_end_a_task(bed: &Bed) {
    let new = wished("lint");
    bed.event("e1", vec![new.clone()]).await;
    let outcome = Outcome::Error(ErrorReason::BadTask);
    let wrong = Resolution::Wrong { outcome, reason: "no task.yaml".to_owned() };
    let task = bed.resolve(new.id, &wrong).await.unwrap();
    let TaskState::Finished { outcome, attempt: 0, reason, .. } = &task.state else { panic!("{task:?}") };
    assert_eq!((outcome.as_str(), reason.as_deref()), ("error(bad_task)", Some("no task.yaml")));
    assert_eq!(bed.store.task(new.id).await.unwrap(), task);
    assert_eq!(bed.topics_of(new.id).await, ["task.created", "task.finished"]);
}

async fn resolving_later_waits_and_counts_the_tries(bed: &Bed) {
    let new = wished("lint");
    bed.event("e1", vec![new.clone()]).await;
    let later = Resolution::Later { delay: Duration::from_secs(30), reason: "no route to host".to_owned() };
    bed.store.unresolved(10, 1_000).await.unwrap();
    let waits = bed.resolve(new.id, &later).await.unwrap();
    let TaskState::Waiting { error, next_try_at, since, .. } = &waits.state else { panic!("{waits:?}") };
    assert_eq!(error.as_deref(), Some("no route to host"));
    let delay = next_try_at.unwrap() - *since;
    assert!((30..40).contains(&delay.num_seconds()), "{delay}");
    assert_eq!(bed.store.task(new.id).await.unwrap().state, waits.state);
    assert_eq!(bed.topics_of(new.id).await, ["task.created", "task.waiting"]);
    bed.pass(20_000).await;
    assert!(bed.store.unresolved(10, 1_000).await.unwrap().is_empty());
    bed.pass(10_001).await;
    let unresolved = bed.store.unresolved(10, 1_000).await.unwrap();
    assert_eq!((unresolved.len(), unresolved[0].tries), (1, 1));
    bed.store.hello(&"w1".into(), "1", &offer()).await.unwrap();
    bed.resolve(new.id, &found("", needs("x86_64"))).await.unwrap();
    let task = bed.store.task(new.id).await.unwrap();
    assert!(matches!(&task.state, TaskState::Queued { not_before: None, .. }), "{task:?}");
}

async fn unresolved_tasks_are_held_by_one_server(bed: &Bed) {
    bed.event("e1", (0..5).map(|_| wished("lint")).collect()).await;
    let first = bed.store.unresolved(3, 10_000).await.unwrap();
    let second = bed.store.unresolved(10, 10_000).await.unwrap();
    assert_eq!((first.len(), second.len()), (3, 2));
    assert!(first.iter().all(|one| second.iter().all(|two| one.task.id < two.task.id)), "oldest first");
    bed.pass(10_001).await;
    assert_eq!(bed.store.unresolved(10, 10_000).await.unwrap().len(), 5);
}

async fn whoever_makes_tasks_takes_some_of_them_at_once(bed: &Bed) {
    let commit = |id: &str, tasks: &[NewTask]| EventCommit {
        event: event(id, "{}"),
        judgement: Some(judgement(tasks.to_vec())),
    };
    let made: Vec<_> = ["a", "b", "c"].map(wished).into();
    let ready = NewTask { wait: None, ..wished("ready") };
    let batch = [commit("e1", &[ready, made[0].clone()]), commit("e2", &made[1..])];
    let (committed, taken) = bed.store.commit_and_take(&batch, 2, 10_000).await.unwrap();
    assert_eq!(committed.len(), 2);
    let ids = |list: &[Unresolved]| list.iter().map(|one| one.task.id).collect::<Vec<_>>();
    assert_eq!(ids(&taken), [made[0].id, made[1].id], "what waits for nothing is not taken");
    assert_eq!(taken[0], Unresolved { task: bed.store.task(made[0].id).await.unwrap(), tries: 0 });
    assert_eq!(ids(&bed.store.unresolved(10, 10_000).await.unwrap()), [made[2].id], "others take the rest");
    // What is there already is not taken again.
    let (_, again) = bed.store.commit_and_take(&batch, 2, 10_000).await.unwrap();
    assert_eq!(again, []);
    let known = commit("e3", &[NewTask { id: task_id(), ..made[0].clone() }]);
    assert_eq!(bed.store.commit_and_take(&[known], 2, 10_000).await.unwrap().1, []);
    // Who took them may have died.
    bed.pass(10_001).await;
    assert_eq!(bed.store.unresolved(10, 10_000).await.unwrap().len(), 3);
}

async fn a_second_answer_to_resolving_changes_nothing(bed: &Bed) {
    let new = wished("lint");
    bed.event("e1", vec![new.clone()]).await;
    bed.resolve(new.id, &found("", needs("x86_64"))).await.unwrap();
    let outcome = Outcome::Error(ErrorReason::BadTask);
    let wrong = Resolution::Wrong { outcome, reason: String::new() };
    assert_eq!(bed.resolve(new.id, &wrong).await.unwrap().state.label(), "queued");
    let gone = Task { id: task_id(), ..bed.store.task(new.id).await.unwrap() };
    let error = bed.store.resolve(&gone, &wrong).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }));
}

async fn tasks_are_cancelled_in_every_state(bed: &Bed) {
    let cancel = Stop::Cancel { who: "user:ada".to_owned(), why: Some("mistake".to_owned()) };
    let waiting = wished("lint");
    bed.event("e1", vec![waiting.clone()]).await;
    let tasks = bed.queue(&[ready("a"), ready("a")]).await;
    let running = bed.claim_one().await;
    let queued = tasks.iter().find(|task| task.id != running.task.id).unwrap();
    for id in [waiting.id, queued.id] {
        let stopped = bed.store.stop(id, &cancel).await.unwrap();
        assert!(stopped.changed);
        assert_eq!(stopped.task.state.label(), "cancelled");
        assert_eq!(bed.store.task(id).await.unwrap(), stopped.task);
        let error = bed.store.stop(id, &cancel).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    }
    // A running one keeps running until its worker has stopped it.
    assert!(bed.store.stop(running.task.id, &cancel).await.unwrap().changed);
    assert!(!bed.store.stop(running.task.id, &cancel).await.unwrap().changed);
    assert_eq!(bed.label(running.task.id).await, "running(provision)");
    bed.finish(&running, "passed").await;
    assert_eq!(bed.label(running.task.id).await, "cancelled");
    let error = bed.store.stop(task_id(), &cancel).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }));
    assert_eq!(bed.topics_of(running.task.id).await.last().unwrap(), "task.cancelled");
    let events = bed.store.unjudged(10, 1000).await.unwrap();
    assert_eq!(events.len(), 3, "each is an event of ours once");
}

async fn parked_tasks_are_released(bed: &Bed) {
    let parked = NewTask { wait: Some(WaitReason::Parked), ..wished("lint") };
    bed.event("e1", vec![parked.clone()]).await;
    assert!(bed.store.unresolved(10, 1000).await.unwrap().is_empty());
    assert_eq!(bed.store.release(parked.id).await.unwrap().state.label(), "waiting(resolving)");
    assert_eq!(bed.store.unresolved(10, 1000).await.unwrap().len(), 1);
    assert!(matches!(bed.store.release(parked.id).await, Err(StoreError::Conflict(_))));
    // What needs no resolving is queued.
    let job = NewTask { wait: Some(WaitReason::Parked), ..ready("a") };
    bed.queue(std::slice::from_ref(&job)).await;
    assert_eq!(bed.store.release(job.id).await.unwrap().state.label(), "queued");
    assert_eq!(bed.claim_one().await.task.id, job.id);
}

async fn batches_count_and_are_told_once(bed: &Bed) {
    let of_batch = |_| NewTask { batch: Some("nightly".to_owned()), ..ready("a") };
    let tasks = bed.queue(&[of_batch(1), of_batch(2)]).await;
    let batch = bed.store.batch("nightly").await.unwrap();
    assert_eq!((batch.tasks, batch.final_tasks), (2, 0));
    assert_eq!(tasks[0].batch, Some(batch.id));
    assert_eq!(bed.store.batch(&batch.id.to_string()).await.unwrap(), batch);
    for assignment in bed.claim("w1", 2).await {
        bed.finish(&assignment, "passed").await;
        bed.finish(&assignment, "passed").await;
    }
    let batch = bed.store.batch("nightly").await.unwrap();
    assert_eq!((batch.tasks, batch.final_tasks), (2, 2));
    let told = |topics: Vec<String>| topics.iter().filter(|topic| *topic == "batch.finished").count();
    assert_eq!(told(bed.topics().await), 1);
    // A task that comes later opens it again.
    bed.queue(&[of_batch(3)]).await;
    bed.finish(&bed.claim_one().await, "failed").await;
    assert_eq!(told(bed.topics().await), 2);
    let events = bed.store.unjudged(100, 1000).await.unwrap();
    let own: Vec<_> =
        events.iter().filter(|one| one.event.topic.as_str() == "taskbot.batch.finished").collect();
    assert_eq!(own.len(), 2);
    let body = own[1].event.check().unwrap();
    assert_eq!(body["outcomes"], serde_json::json!({"job": "failed"}), "{body}");
    assert_eq!(body["counts"], serde_json::json!({"failed": 1, "passed": 2}), "{body}");
    assert!(matches!(bed.store.batch("weekly").await, Err(StoreError::NotFound { .. })));
}

async fn lists_filter_and_are_cut_into_pages(bed: &Bed) {
    let long = "x".repeat(3000);
    let mut tasks: Vec<_> = (0..5).map(|_| ready("user:ada")).collect();
    tasks[1].queue = "slow".into();
    tasks[2].item = Some(Item::new("compose", &long));
    tasks[3].name = "other".into();
    tasks[4].submitter = "user:bob".into();
    bed.queue(&tasks).await;
    let seq = bed.event("e1", vec![wished("lint")]).await;
    let ids: Vec<_> = tasks.iter().map(|task| task.id).collect();
    let count = |query: TaskQuery| async move {
        bed.store.tasks(&TaskQuery { limit: 100, ..query }).await.unwrap().items.len()
    };
    let all = TaskQuery::default;
    assert_eq!(count(all()).await, 6);
    assert_eq!(count(TaskQuery { queue: Some("slow".into()), ..all() }).await, 1);
    assert_eq!(count(TaskQuery { item_id: Some(long.clone()), ..all() }).await, 1);
    assert_eq!(count(TaskQuery { item_id: Some(long[..2999].to_owned()), ..all() }).await, 0);
    assert_eq!(count(TaskQuery { item_type: Some("compose".into()), ..all() }).await, 1);
    assert_eq!(count(TaskQuery { name: Some("other".into()), ..all() }).await, 1);
    assert_eq!(count(TaskQuery { submitter: Some("user:bob".into()), ..all() }).await, 1);
    assert_eq!(count(TaskQuery { rule: Some("lint".into()), ..all() }).await, 1);
    assert_eq!(count(TaskQuery { event: Some(seq), ..all() }).await, 1);
    assert_eq!(count(TaskQuery { states: vec!["queued".into()], ..all() }).await, 5);
    assert_eq!(count(TaskQuery { states: vec!["waiting".into(), "queued".into()], ..all() }).await, 6);
    assert_eq!(count(TaskQuery { states: vec!["' or 1=1 --".into()], ..all() }).await, 0);
    let claimed = bed.claim("w1", 1).await;
    bed.finish(&claimed[0], "error(oom)").await;
    assert_eq!(count(TaskQuery { outcomes: vec!["error".into()], ..all() }).await, 1);
    assert_eq!(count(TaskQuery { outcomes: vec!["error(oom)".into()], ..all() }).await, 1);
    assert_eq!(count(TaskQuery { outcomes: vec!["failed".into()], ..all() }).await, 0);
    let page = bed.store.tasks(&TaskQuery { limit: 4, ..all() }).await.unwrap();
    assert!(page.items.is_sorted_by(|a, b| a.id > b.id), "newest first");
    let before = Some(page.next.unwrap().parse().unwrap());
    let rest = bed.store.tasks(&TaskQuery { limit: 4, before, ..all() }).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (2, None));
    assert!(rest.items.iter().any(|task| task.id == *ids.iter().min().unwrap()));
}

async fn tasks_are_found_by_the_start_of_their_id(bed: &Bed) {
    let task = bed.queue(&[ready("a")]).await.remove(0);
    let text = task.id.to_string();
    for (prefix, expect) in [
        (text.as_str(), 1),
        (&text[..10], 1),
        (&text.replace('-', "")[..9], 1),
        ("ffff", 0),
        ("01", 0),
        ("xyz%", 0),
    ] {
        assert_eq!(bed.store.tasks_by_prefix(prefix).await.unwrap().len(), expect, "{prefix}");
    }
}

async fn attempts_of_no_task_are_an_error(bed: &Bed) {
    assert!(matches!(bed.store.attempts(task_id()).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(bed.store.position(task_id()).await, Err(StoreError::NotFound { .. })));
    let given = NewTask {
        origin: NewOrigin::Given(Origin::Submitted { who: "ada".into(), why: None }),
        ..wished("lint")
    };
    bed.queue(std::slice::from_ref(&given)).await;
    assert!(bed.store.attempts(given.id).await.unwrap().is_empty());
    assert_eq!(bed.store.position(given.id).await.unwrap(), None);
}
