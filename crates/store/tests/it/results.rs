//! Results, artifacts, logs.

use crate::harness::*;
use model::Ids as _;
use model::{
    Item, SystemIds,
    ids::ResultId,
    protocol::LOG_BYTES_MAX,
    result::{Artifact, NewResult},
};
use serde_json::json;
use store::{Fenced, LogChunk, ResultQuery, StoreError};

conformance!(
    results_are_kept_as_trees,
    results_know_the_outcome_before,
    a_task_file_publishes_parts_too,
    results_from_elsewhere_belong_to_no_task,
    result_lists_filter_and_are_cut_into_pages,
    artifacts_are_kept_once_and_told_when_published,
    log_chunks_are_kept_once,
    a_log_has_a_limit,
    what_has_a_row_or_a_fence_is_kept,
);

fn tree(outcome: &str) -> NewResult {
    NewResult {
        children: vec![
            NewResult { children: vec![result("dist.lint.a.b", "failed")], ..result("dist.lint.a", outcome) },
            NewResult { item: Some(Item::new("file", "x")), ..result("dist.lint.c", "passed") },
        ],
        note: Some("n".repeat(20_000)),
        data: [("arch".to_owned(), json!("x86_64"))].into_iter().collect(),
        ..result("dist.lint", outcome)
    }
}

async fn reported(bed: &Bed, results: Vec<NewResult>) -> model::TaskId {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "failed");
    request.results = results;
    bed.store.finish(claimed.task.id, &request).await.unwrap();
    claimed.task.id
}

async fn list(bed: &Bed, query: ResultQuery) -> Vec<model::result::StoredResult> {
    bed.store.results(&ResultQuery { limit: 100, ..query }).await.unwrap().items
}

async fn results_are_kept_as_trees(bed: &Bed) {
    let task = reported(bed, vec![tree("failed")]).await;
    let all = list(bed, ResultQuery { task: Some(task), ..Default::default() }).await;
    assert_eq!(all.len(), 4);
    let top = &list(bed, ResultQuery { top_level: true, ..Default::default() }).await[0];
    assert_eq!((top.task, top.attempt, top.testcase.as_str()), (Some(task), Some(1), "dist.lint"));
    assert_eq!(top.note.as_ref().unwrap().len(), 16 * 1024, "long notes are cut");
    assert_eq!(top.item.as_ref().unwrap().id, "audit-2.8-1.fc26", "the task's item");
    let parts = list(bed, ResultQuery { parent: Some(top.id), ..Default::default() }).await;
    let names: Vec<_> = parts.iter().map(|part| part.testcase.as_str()).collect();
    assert_eq!(names, ["dist.lint.c", "dist.lint.a"]);
    assert_eq!(parts[0].item.as_ref().unwrap().id, "x");
    assert_eq!(parts[1].item, top.item);
    let deep = list(bed, ResultQuery { parent: Some(parts[1].id), ..Default::default() }).await;
    assert_eq!(deep[0].testcase, "dist.lint.a.b");
    assert_eq!(bed.store.result(top.id).await.unwrap(), *top);
    assert!(matches!(bed.store.result(ResultId(0)).await, Err(StoreError::NotFound { .. })));
    let told = bed.topics_of(task).await.iter().filter(|topic| *topic == "result.new").count();
    assert_eq!(told, 1, "the task's own one");
}

async fn results_know_the_outcome_before(bed: &Bed) {
    let on = |outcome: &str, arch: &str| {
        let mut one = result("dist.lint", outcome);
        one.data.insert("arch".to_owned(), json!(arch));
        one.children = vec![result("dist.lint.part", outcome)];
        one
    };
    let mut befores = Vec::new();
    for (outcome, arch) in
        [("passed", "x86_64"), ("failed", "x86_64"), ("info", "aarch64"), ("passed", "x86_64")]
    {
        reported(bed, vec![on(outcome, arch)]).await;
        let all = list(bed, ResultQuery::default()).await;
        let before = |n: usize| all[n].previous_outcome.map_or("-", |outcome| outcome.as_str());
        befores.push(format!("{} {}", before(1), before(0)));
    }
    assert_eq!(befores, ["- -", "passed passed", "- -", "failed failed"]);
    let last =
        bed.messages().await.into_iter().rfind(|one| one.message.topic.as_str() == "taskbot.result.new");
    assert_eq!(last.unwrap().message.data.value()["previous_outcome"], "failed");
}

async fn a_task_file_publishes_parts_too(bed: &Bed) {
    let new = wished("lint");
    bed.event("e1", vec![new.clone()]).await;
    bed.resolve(new.id, &found("results: {publish: all}", needs("x86_64"))).await.unwrap();
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "failed");
    request.results = vec![tree("failed")];
    bed.store.finish(new.id, &request).await.unwrap();
    let told = bed.topics_of(new.id).await.iter().filter(|topic| *topic == "result.new").count();
    assert_eq!(told, 4);
}

async fn results_from_elsewhere_belong_to_no_task(bed: &Bed) {
    let ids = bed.store.add_results(&[tree("failed"), result("other", "passed")]).await.unwrap();
    assert_eq!(ids.len(), 2);
    let stored = bed.store.result(ids[1]).await.unwrap();
    assert_eq!((stored.testcase.as_str(), stored.task, stored.item), ("other", None, None));
    assert_eq!(bed.topics().await, ["result.new", "result.new"]);
    assert_eq!(bed.store.unjudged(10, 1000).await.unwrap().len(), 2);
}

async fn result_lists_filter_and_are_cut_into_pages(bed: &Bed) {
    let long = "t".repeat(3000);
    let one = |testcase: &str, outcome: &str, item: &str| NewResult {
        item: Some(Item::new("koji_build", item)),
        ..result(testcase, outcome)
    };
    let results = [one("a", "passed", "x"), one("a", "error(oom)", "y"), one(&long, "failed", &long)];
    bed.store.add_results(&results).await.unwrap();
    let count = |query: ResultQuery| async move { list(bed, query).await.len() };
    let all = ResultQuery::default;
    assert_eq!(count(ResultQuery { testcase: Some("a".into()), ..all() }).await, 2);
    assert_eq!(count(ResultQuery { testcase: Some(long.clone()), ..all() }).await, 1);
    assert_eq!(count(ResultQuery { item_id: Some(long), ..all() }).await, 1);
    assert_eq!(count(ResultQuery { item_type: Some("koji_build".into()), ..all() }).await, 3);
    assert_eq!(count(ResultQuery { outcomes: vec!["error".into(), "failed".into()], ..all() }).await, 2);
    assert_eq!(count(ResultQuery { outcomes: vec!["bogus".into()], ..all() }).await, 0);
    assert_eq!(count(ResultQuery { since: Some(time("2000-01-01T00:00:00Z")), ..all() }).await, 3);
    assert_eq!(count(ResultQuery { since: Some(time("2999-01-01T00:00:00Z")), ..all() }).await, 0);
    let page = bed.store.results(&ResultQuery { limit: 2, ..all() }).await.unwrap();
    let before = Some(ResultId(page.next.unwrap().parse().unwrap()));
    let rest = bed.store.results(&ResultQuery { limit: 2, before, ..all() }).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
}

async fn artifacts_are_kept_once_and_told_when_published(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let artifact = |name: &str, published: bool| Artifact {
        id: SystemIds.next().into(),
        task: claimed.task.id,
        attempt: 1,
        name: name.to_owned(),
        size_bytes: 12,
        sha256: "ab".repeat(32),
        key: format!("artifacts/{name}"),
        published,
        created_at: time("2026-11-01T10:00:00Z"),
    };
    let (log, iso) = (artifact("b.log", false), artifact("a.iso", true));
    for one in [&log, &iso] {
        assert_eq!(bed.store.add_artifact(claimed.attempt, one).await.unwrap(), Fenced::Written(one.id));
    }
    let again = bed.store.add_artifact(claimed.attempt, &artifact("a.iso", true)).await.unwrap();
    assert_eq!(again, Fenced::Written(iso.id), "the first one stays");
    let kept = bed.store.artifacts(claimed.task.id).await.unwrap();
    assert_eq!(kept.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a.iso", "b.log"]);
    assert_eq!(bed.store.artifact(iso.id).await.unwrap(), kept[0]);
    let told =
        bed.topics_of(claimed.task.id).await.iter().filter(|topic| *topic == "artifact.published").count();
    assert_eq!(told, 1);
    let events = bed.store.unjudged(10, 1000).await.unwrap();
    assert_eq!(events[0].event.id.as_str(), format!("artifact.published/{}", iso.id));
    assert_eq!(events[0].event.body().unwrap()["earlier"], json!({}));
    let log = artifact("c.log", true);
    assert_eq!(bed.store.add_artifact(claimed.attempt, &log).await.unwrap(), Fenced::Written(log.id));
    let events = bed.store.unjudged(10, 1000).await.unwrap();
    let event = events.iter().find(|event| event.event.body().unwrap()["name"] == "c.log").unwrap();
    let file = json!({
        "href": format!("/api/v1/tasks/{}/artifacts/{}", claimed.task.id, iso.id), "id": iso.id,
        "sha256": iso.sha256, "size_bytes": 12,
    });
    assert_eq!(
        event.event.body().unwrap()["earlier"],
        json!({"a.iso": file}),
        "what is not published is not told"
    );
    let mut stale = claimed.attempt;
    stale.fence += 1;
    assert_eq!(bed.store.add_artifact(stale, &artifact("c", true)).await.unwrap(), Fenced::Stale);
    assert!(matches!(bed.store.artifact(log.task.uuid().into()).await, Err(StoreError::NotFound { .. })));
}

async fn log_chunks_are_kept_once(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let chunk = |seq: u32, key: &str| LogChunk { attempt: 1, seq, size_bytes: 5, key: key.to_owned() };
    for one in [chunk(1, "b"), chunk(0, "a"), chunk(0, "late")] {
        let written = bed.store.add_log_chunk(claimed.task.id, claimed.attempt, &one).await.unwrap();
        assert_eq!(written, Fenced::Written(()));
    }
    let all = bed.store.log_chunks(claimed.task.id, 1, 0).await.unwrap();
    assert_eq!(all, [chunk(0, "a"), chunk(1, "b")]);
    assert_eq!(bed.store.log_chunks(claimed.task.id, 1, 1).await.unwrap(), all[1..]);
    assert!(bed.store.log_chunks(claimed.task.id, 2, 0).await.unwrap().is_empty());
    bed.finish(&claimed, "passed").await;
    let late = bed.store.add_log_chunk(claimed.task.id, claimed.attempt, &chunk(2, "c")).await.unwrap();
    assert_eq!(late, Fenced::Stale);
}

async fn a_log_has_a_limit(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let (task, attempt) = (claimed.task.id, claimed.attempt);
    let room = async || bed.store.log_room(task, attempt).await.unwrap();
    let chunk = |seq: u32, size_bytes: u64| LogChunk { attempt: 1, seq, size_bytes, key: format!("{seq}") };
    assert_eq!(room().await, Fenced::Written(LOG_BYTES_MAX));
    bed.store.add_log_chunk(task, attempt, &chunk(0, LOG_BYTES_MAX - 10)).await.unwrap();
    // The same again costs nothing.
    bed.store.add_log_chunk(task, attempt, &chunk(0, LOG_BYTES_MAX - 10)).await.unwrap();
    assert_eq!(room().await, Fenced::Written(10));
    let more = bed.store.add_log_chunk(task, attempt, &chunk(1, 11)).await;
    assert!(matches!(&more, Err(StoreError::Poison(why)) if why.contains("at most")), "{more:?}");
    bed.store.add_log_chunk(task, attempt, &chunk(1, 10)).await.unwrap();
    assert_eq!(room().await, Fenced::Written(0));
    assert_eq!(bed.store.log_chunks(task, 1, 0).await.unwrap().len(), 2);
    bed.finish(&claimed, "passed").await;
    assert_eq!(room().await, Fenced::Stale);
}

async fn what_has_a_row_or_a_fence_is_kept(bed: &Bed) {
    bed.queue(&[ready("a"), ready("b")]).await;
    let claimed = bed.claim("w1", 2).await;
    let (one, other) = (&claimed[0], &claimed[1]);
    let chunk = LogChunk { attempt: 1, seq: 0, size_bytes: 5, key: "logs/one".to_owned() };
    bed.store.add_log_chunk(one.task.id, one.attempt, &chunk).await.unwrap();
    bed.finish(one, "passed").await;
    let kept = bed.store.kept_files(&[one.task.id, other.task.id]).await.unwrap();
    assert_eq!(kept.keys.into_iter().collect::<Vec<_>>(), ["logs/one"]);
    assert_eq!(kept.running.into_iter().collect::<Vec<_>>(), [(other.task.id, other.attempt.fence)]);
}
