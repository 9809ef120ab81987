//! What people ask for.

use super::bed::{Bed, build, finish};
use model::task::Repo;
use serde_json::json;
use taskbot_scheduler::service::{Rerun, Submission};

fn of(task: &str) -> Submission {
    Submission { task: Some(task.into()), ..Submission::default() }
}

#[tokio::test]
async fn submissions_are_checked_and_made_once() {
    let bed = Bed::new().await;
    let repo = || Repo { git: "https://git.example.org/own.git".to_owned(), reference: None, path: None };
    let check = async |submission: Submission, expect: &str| {
        let error = bed.scheduler.submit(submission, "me").await.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(of("lnit"), "did you mean `lint`?").await;
    check(Submission::default(), "either a registered `task` or a `repo`").await;
    check(Submission { repo: Some(repo()), ..of("lint") }, "either a registered `task` or a `repo`").await;
    check(Submission { priority: 1_000_000_000, ..of("lint") }, "`priority` must be from").await;
    check(Submission { why: Some("x\0".to_owned()), ..of("lint") }, "`why` must have").await;
    let keyed = || Submission { key: Some("once".to_owned()), ..of("lint") };
    let first = bed.scheduler.submit(keyed(), "me").await.unwrap();
    assert_eq!(bed.scheduler.submit(keyed(), "me").await.unwrap().id, first.id);
    assert_ne!(bed.scheduler.submit(keyed(), "you").await.unwrap().id, first.id, "keys are one's own");
    let own =
        bed.scheduler.submit(Submission { repo: Some(repo()), ..Submission::default() }, "me").await.unwrap();
    assert_eq!((own.name.as_str(), own.trust), ("own", model::task::Trust::Untrusted));
    let audit = bed.store.audit_log(None, 10).await.unwrap().items;
    assert!(audit.iter().all(|record| record.action == "task.submit"), "{audit:?}");
    bed.end().await;
}

#[tokio::test]
async fn only_queues_that_something_names_are_paused() {
    let bed = Bed::new().await;
    let mut worker = super::bed::claim("w", 0, 0);
    worker.offer.queues = vec!["gpu".into()];
    bed.poll(worker).await;
    let check = async |queue: &str, there: bool| {
        let paused = bed.scheduler.pause_queue(&queue.into(), Some("disk".to_owned()), "me").await;
        assert_eq!(paused.is_ok(), there, "{queue}: {paused:?}");
    };
    check("default", true).await;
    check("gpu", true).await;
    check("nosuch", false).await;
    let names: Vec<_> = bed.store.queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
    assert_eq!(names, ["default".into(), "gpu".into()]);
    bed.end().await;
}

#[tokio::test]
async fn a_task_is_run_again_and_cancelled() {
    let mut bed = Bed::new().await;
    bed.start();
    bed.take(build("a")).await;
    let given = bed.claim_one("w").await;
    bed.scheduler.finish(given.task.id, &finish(given.attempt, "failed")).await.unwrap();
    let rerun = Rerun { why: Some("flaky".to_owned()), ..Rerun::default() };
    let again = bed.scheduler.rerun(given.task.id, rerun, "me", &store::Bounds::default()).await.unwrap();
    assert_eq!(again.kind, given.task.kind, "at the same commit");
    assert_eq!(again.state.label(), "queued");
    let bad =
        Rerun { inputs: serde_json::Map::from_iter([("nvr".to_owned(), json!(1))]), ..Rerun::default() };
    assert!(bed.scheduler.rerun(given.task.id, bad, "me", &store::Bounds::default()).await.is_err());
    let stopped = bed.scheduler.cancel(again.id, Some("no need".to_owned()), "me").await.unwrap();
    assert!(stopped.changed && stopped.task.state.label().starts_with("cancelled"));
    assert!(bed.scheduler.cancel(again.id, None, "me").await.is_err(), "a final one is a conflict");
    assert!(bed.scheduler.release(given.task.id, "me").await.is_err());
    let short = &given.task.id.to_string()[..35];
    assert_eq!(bed.scheduler.find_task(short).await.unwrap().id, given.task.id);
    for nothing in ["", "zz", "ffffffff", "'; drop table task; --"] {
        assert!(bed.scheduler.find_task(nothing).await.is_err(), "{nothing}");
    }
    bed.end().await;
}
