//! Wishes that come as events: comments on pull requests, and requests of programs.

use super::bed::{Bed, event, files, finish, quick, until};
use async_trait::async_trait;
use model::{
    Event, Task, TaskId,
    retest::{Refused, ResultsElsewhere, Served},
    task::Origin,
    topic::TopicPattern,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use store::Bounds;
use taskbot_scheduler::{
    Settings,
    heard::{Comments, HEARD, Requests},
    retest::RetestSettings,
    service::Rerun,
};

const URL: &str = "https://git.example.org/qa/tool/pulls/9";
const RULES: &str = r#"rules:
  - name: check-changes
    on: change.new
    then:
      - task: lint
        matrix: {cell: [one, two]}
        item: {type: pull_request, id: "${event.body.url}"}
        with: {nvr: "${matrix.cell}"}
"#;

fn settings() -> Settings {
    let topics = |text: &str| vec![TopicPattern::parse(text).unwrap()];
    let retest = RetestSettings {
        comments: vec![Comments {
            topics: topics("forge.issue_comment"),
            authors: BTreeSet::from(["ada".to_owned()]),
        }],
        requests: vec![
            Requests { topics: topics("qa.retest"), agents: BTreeSet::from(["gate".to_owned()]) },
            Requests { topics: topics("org.example.rats.test.us"), agents: BTreeSet::new() },
        ],
        ..RetestSettings::default()
    };
    Settings { retest, ..quick() }
}

/// A ResultsDB that knows one result.
#[derive(Debug)]
struct Elsewhere;

#[async_trait]
impl ResultsElsewhere for Elsewhere {
    async fn result(&self, id: &str) -> Result<Option<Value>, Refused> {
        Ok((id == "77").then(|| {
            json!({
                "id": 77, "testcase": {"name": "lint"}, "outcome": "FAILED", "groups": ["g"],
                "data": {"type": ["pull_request"], "item": [URL]},
            })
        }))
    }
}

/// A running scheduler, on which both cells of a change have ended: the first passed, the second failed.
async fn bed() -> (Bed, TaskId, TaskId) {
    let mut bed = Bed::with(settings(), |mut parts| {
        parts.results_elsewhere = Some(Arc::new(Elsewhere));
        parts
    })
    .await;
    bed.scheduler.activate_rules(files(RULES), "test", "tester").await.unwrap();
    bed.start();
    until("the place of what hears", || async {
        bed.store.sinks().await.unwrap().iter().any(|sink| sink.name == HEARD).then_some(())
    })
    .await;
    let tasks = bed.take(event("change", "change.new", &json!({"url": URL}))).await;
    for _ in &tasks {
        let given = bed.claim_one("w").await;
        let outcome = if given.task.inputs["nvr"] == "one" { "passed" } else { "failed" };
        bed.scheduler.finish(given.task.id, &finish(given.attempt, outcome)).await.unwrap();
    }
    let mut failed = None;
    for task in &tasks {
        let task = bed.store.task(*task).await.unwrap();
        failed = failed.or((task.state.label() == "finished(failed)").then_some(task.id));
    }
    let failed = failed.unwrap();
    let passed = tasks.into_iter().find(|task| *task != failed).unwrap();
    (bed, passed, failed)
}

fn comment(id: &str, author: &str, text: &str) -> Event {
    let body = json!({
        "action": "created", "is_pull": true, "comment": {"id": 1, "body": text, "user": {"login": author}},
        "repository": {"full_name": "qa/tool"},
        "issue": {"number": 9, "html_url": "https://git.example.org/qa/tool/issues/9"},
    });
    event(id, "forge.issue_comment", &body)
}

/// The tasks that were run again: what each repeats, who wished it and why.
fn repeated(tasks: &[Task]) -> Vec<(TaskId, String, String)> {
    let of = |task: &Task| match &task.origin {
        Origin::Rerun { of, who, why, .. } => Some((*of, who.clone(), why.clone().unwrap_or_default())),
        _ => None,
    };
    tasks.iter().filter_map(of).collect()
}

#[tokio::test]
async fn comments_of_those_who_are_named_run_tests_again() {
    let (bed, passed, failed) = bed().await;
    bed.take(comment("c1", "eve", "recheck")).await;
    bed.take(comment("c2", "ada", "looks fine to me")).await;
    bed.take(comment("c3", "ada", "/taskbot rerun --failed")).await;
    let tasks = bed.until_tasks(3).await;
    let why = format!("`/taskbot rerun --failed` on {URL}");
    assert_eq!(
        repeated(&tasks),
        [(failed, "forgejo/ada".to_owned(), why)],
        "only hers, and only what failed"
    );
    // What runs is not run twice; the other is.
    bed.take(comment("c4", "ada", "now?\nrecheck")).await;
    let tasks = bed.until_tasks(4).await;
    assert_eq!(repeated(&tasks)[1].0, passed);
    // What was done is written down after it was done.
    until("the audit to know both", || async {
        let audit = bed.store.audit_log(None, 20).await.unwrap().items;
        let hers = audit.iter().filter(|one| one.who == "forgejo/ada" && one.action == "task.rerun");
        (hers.count() == 2).then_some(())
    })
    .await;
    bed.end().await;
}

#[tokio::test]
async fn a_test_that_is_named_is_run_again_and_remembered() {
    let (bed, ..) = bed().await;
    bed.take(comment("c1", "ada", "/taskbot rerun lint")).await;
    bed.until_tasks(3).await;
    bed.take(comment("c2", "ada", "/taskbot rerun lint")).await;
    let asked = until("the second to be counted", || async {
        let retests = bed.store.retests(None, 10).await.unwrap().items;
        (retests[0].asked == 2).then_some(retests)
    })
    .await;
    assert_eq!((asked.len(), asked[0].who.as_str()), (1, "forgejo/ada"));
    // What nobody can serve lies with the dead letters, and can go there again.
    bed.take(comment("c3", "ada", "/taskbot rerun nosuch")).await;
    bed.take(comment("c4", "ada", "/taskbot dance")).await;
    let letters = until("the letters", || async {
        Some(bed.store.dead_letters(None, 10).await.unwrap().items).filter(|letters| letters.len() == 2)
    })
    .await;
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert!(reasons[0].contains("`/taskbot dance` is no command"), "{reasons:?}");
    assert!(reasons[1].contains("nosuch"), "{reasons:?}");
    assert_eq!(bed.tasks().await.len(), 3);
    bed.end().await;
}

#[tokio::test]
async fn programs_ask_by_messages() {
    let (bed, ..) = bed().await;
    let ask = |id: &str, topic: &str, body: Value| event(id, topic, &body);
    let item = json!({"type": "pull_request", "item": URL, "test": "lint"});
    let with = |agent: &str| {
        let mut body = item.clone();
        body["agent"] = json!(agent);
        body
    };
    bed.take(ask("r1", "qa.retest", with("mallory"))).await;
    bed.take(ask("r2", "qa.retest", with("gate"))).await;
    bed.until_tasks(3).await;
    // As RATS tells it: only the number of a result, which is known elsewhere.
    let rats =
        json!({"agent": "ada", "extras": {"bug": 1}, "test": null, "identifier": null, "result_id": "77"});
    let mut forced = rats.clone();
    forced["force"] = json!(true);
    bed.take(ask("r3", "org.example.rats.test.us", rats)).await;
    bed.take(ask("r4", "org.example.rats.test.us", forced)).await;
    bed.until_tasks(4).await;
    let retests = bed.store.retests(None, 10).await.unwrap().items;
    let whose: Vec<_> = retests.iter().map(|one| (one.who.as_str(), one.asked)).collect();
    assert_eq!(whose, [("bus/ada", 1), ("bus/gate", 2)], "the third was asked a short time ago");
    assert_eq!((retests[0].result.as_deref(), &retests[0].extras["bug"]), (Some("77"), &json!(1)));
    assert!(matches!(retests[0].served, Served::Rerun { .. }), "{retests:?}");
    bed.end().await;
}

#[tokio::test]
async fn many_are_run_again_all_or_none() {
    let (bed, passed, failed) = bed().await;
    let all = bed.tasks().await;
    let (rerun, everything) = (Rerun { why: Some("disk".to_owned()), ..Rerun::default() }, Bounds::default());
    let shown = bed.scheduler.rerun_all(all.clone(), &rerun, "me", &everything, true).await.unwrap();
    assert_eq!((shown.tasks.len(), bed.tasks().await.len()), (2, 2), "nothing is made");
    let nowhere = Bounds { queues: Some([].into()), ..Bounds::default() };
    assert!(bed.scheduler.rerun_all(all.clone(), &rerun, "me", &nowhere, false).await.is_err());
    assert_eq!(bed.tasks().await.len(), 2);
    let one = vec![bed.store.task(failed).await.unwrap()];
    let done = bed.scheduler.rerun_all(one.clone(), &rerun, "me", &everything, false).await.unwrap();
    let again = done.tasks[0].task.unwrap();
    // What was run again since is left alone, whatever became of it.
    let left = bed.scheduler.rerun_all(one, &rerun, "me", &everything, false).await.unwrap();
    assert!(left.tasks.is_empty() && left.left[0].why.contains(&format!("task {again}")), "{left:?}");
    let running = vec![bed.store.task(again).await.unwrap(), bed.store.task(passed).await.unwrap()];
    let left = bed.scheduler.rerun_all(running, &rerun, "me", &everything, false).await.unwrap();
    assert_eq!((left.left[0].why.as_str(), left.tasks[0].of), ("it has not ended", passed));
    bed.end().await;
}
