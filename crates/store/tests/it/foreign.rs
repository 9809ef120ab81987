//! Jobs of other systems' agents, and the documents of their interfaces.

use crate::harness::{Bed, LEASE_MS, claim, conformance, offer, ready};
use model::{
    Ids, Outcome, Requirements, SystemIds, TaskState,
    ids::QueueName,
    requirements::{ForeignAgent, ForeignNeed},
    retry::{RetryOn, RetryPolicy},
    task::{TaskKind, WaitReason},
};
use serde_json::{Map, Value, json};
use store::{Claim, ForeignFile, ForeignQuery, ForeignReport, Fragment, NewTask, Retention, StoreError};

conformance![
    our_workers_and_their_agents_never_mix,
    queues_are_served_in_the_claims_order,
    a_report_counts_for_the_running_attempt_only,
    a_report_of_an_unknown_job_is_kept,
    a_job_waits_for_its_attachments,
    jobs_are_found_by_queue_and_tags,
    fragments_and_files_are_kept_by_attempt,
    documents_are_changed_by_one_at_a_time,
    leases_are_renewed_and_attempts_given_up,
    what_jobs_left_goes_with_their_age,
];

const SYSTEM: &str = "testflinger";

fn job(queue: &str, job: Value) -> NewTask {
    let mut task = ready("user:testflinger");
    let retry = Some(RetryPolicy { on: vec![RetryOn::Lost], max: 2 });
    task.kind = TaskKind::Foreign { system: SYSTEM.to_owned(), job, retry };
    task.queue = queue.into();
    let foreign = ForeignNeed { system: SYSTEM.to_owned(), exclude: ["bad".to_owned()].into() };
    task.needs = Requirements { foreign: Some(foreign), ..Requirements::default() };
    task
}

fn ask(agent: &str, queues: &[&str]) -> Claim {
    let queues: Vec<QueueName> = queues.iter().map(|queue| (*queue).into()).collect();
    let foreign = Some(ForeignAgent { system: SYSTEM.to_owned(), agent: agent.to_owned() });
    let offer = model::Offer { queues: queues.clone(), foreign, ..offer() };
    Claim { offer, order: queues, ..claim(agent, 1) }
}

fn report(state: Option<&str>, data: Value) -> ForeignReport {
    ForeignReport { state: state.map(str::to_owned), data: data.as_object().cloned().unwrap_or_default() }
}

async fn our_workers_and_their_agents_never_mix(bed: &Bed) {
    let own = ready("user:me");
    let foreign = job("main", json!({}));
    bed.store.create_tasks(&[own.clone(), foreign.clone()]).await.unwrap();
    assert!(bed.store.claim(&ask("bad", &["main"])).await.unwrap().is_empty());
    let given = bed.store.claim(&Claim { max: 9, ..ask("agent", &["main"]) }).await.unwrap();
    assert_eq!(given.iter().map(|one| one.task.id).collect::<Vec<_>>(), [foreign.id]);
    let given = bed.store.claim(&claim("worker", 9)).await.unwrap();
    assert_eq!(given.iter().map(|one| one.task.id).collect::<Vec<_>>(), [own.id]);
}

/// Everything of a job of this queue: a piece of its log, and a file.
async fn fill(bed: &Bed, id: uuid::Uuid) {
    let fragment = Fragment {
        kind: "output".to_owned(),
        number: 0,
        phase: "test".to_owned(),
        at: chrono::DateTime::UNIX_EPOCH,
        size_bytes: 3,
        key: format!("logs/{id}"),
    };
    bed.store.add_fragment(id, 1, &fragment).await.unwrap();
    let file = ForeignFile { size_bytes: 3, key: format!("artifacts/{id}") };
    bed.store.put_foreign_file(id, "artifact", &file).await.unwrap();
}

async fn what_jobs_left_goes_with_their_age(bed: &Bed) {
    let (waits, done) = (job("q", json!({"tags": ["a"]})), job("q", json!({"tags": ["a"]})));
    bed.store.create_tasks(&[waits.clone(), done.clone()]).await.unwrap();
    let stop = model::task::Stop::Cancel { who: "me".to_owned(), why: None };
    bed.store.stop(done.id, &stop).await.unwrap();
    let reported = SystemIds.next();
    bed.store.report_foreign(SYSTEM, reported, &report(None, json!({"exit_code": 0})), None).await.unwrap();
    for id in [waits.id.uuid(), done.id.uuid(), reported] {
        fill(bed, id).await;
    }
    let day = std::time::Duration::from_secs(24 * 3600);
    let keep = Retention { files: Some(day), tasks: Some(day), ..Retention::default() };
    let soon = bed.store.prune(&keep, 100, false).await.unwrap();
    assert!(soon.rows.is_empty(), "nothing is old yet: {soon:?}");
    bed.store.shift_clock(2 * 24 * 3_600_000).await.unwrap();
    let mut gone = bed.store.prune(&keep, 100, false).await.unwrap();
    gone.keys.sort();
    let mut expect: Vec<_> = [done.id.uuid(), reported]
        .iter()
        .flat_map(|id| [format!("logs/{id}"), format!("artifacts/{id}")])
        .collect();
    expect.sort();
    assert_eq!(gone.keys, expect, "what waits keeps its attachments");
    assert_eq!((gone.rows["foreign_jobs"], gone.rows["tasks"]), (2, 1), "{gone:?}");
    assert!(bed.store.foreign_job(SYSTEM, waits.id.uuid()).await.unwrap().is_some());
    assert!(bed.store.foreign_job(SYSTEM, done.id.uuid()).await.unwrap().is_none());
}

async fn queues_are_served_in_the_claims_order(bed: &Bed) {
    let mut jobs = [job("b", json!({})), job("a", json!({})), job("b", json!({})), job("a", json!({}))];
    jobs[2].priority = 5;
    bed.store.create_tasks(&jobs).await.unwrap();
    for place in [2, 1, 3, 0] {
        let given = bed.store.claim(&ask("agent", &["a", "b"])).await.unwrap();
        assert_eq!(given[0].task.id, jobs[place].id, "{place}");
    }
}

async fn a_report_counts_for_the_running_attempt_only(bed: &Bed) {
    let new = job("q", json!({}));
    let id = new.id.uuid();
    bed.store.create_tasks(std::slice::from_ref(&new)).await.unwrap();
    let first = bed.store.claim(&ask("agent", &["q"])).await.unwrap().remove(0).attempt;
    let held = bed.store.foreign_job(SYSTEM, id).await.unwrap().unwrap();
    assert_eq!((held.acknowledged, held.attempt, held.started_at.is_some()), (false, 1, true));
    let say = async |attempt, state, data| {
        bed.store.report_foreign(SYSTEM, id, &report(Some(state), data), Some(attempt)).await.unwrap()
    };
    say(first, "provision", json!({"status": {"setup": 0}, "a": 1})).await;
    let job = say(first, "test", json!({"status": {"setup": 0, "provision": 0}})).await;
    assert_eq!(Value::Object(job.data.clone()), json!({"a": 1, "status": {"setup": 0, "provision": 0}}));
    assert_eq!((job.state.as_deref(), job.acknowledged), (Some("test"), true));

    assert!(bed.store.lose_attempt(new.id, first).await.unwrap());
    assert!(!bed.store.lose_attempt(new.id, first).await.unwrap());
    let second = bed.store.claim(&ask("agent", &["q"])).await.unwrap().remove(0).attempt;
    let job = say(first, "complete", json!({"late": true})).await;
    assert_eq!((job.state, job.data, job.acknowledged), (None, Map::new(), false));
    assert_eq!(say(second, "setup", json!({})).await.state.as_deref(), Some("setup"));
}

async fn a_report_of_an_unknown_job_is_kept(bed: &Bed) {
    let id = SystemIds.next();
    assert_eq!(bed.store.foreign_job(SYSTEM, id).await.unwrap(), None);
    bed.store.report_foreign(SYSTEM, id, &report(None, json!({"exit_code": 0})), None).await.unwrap();
    let job = bed.store.foreign_job(SYSTEM, id).await.unwrap().unwrap();
    assert_eq!((job.task, Value::Object(job.data)), (None, json!({"exit_code": 0})));
    assert_eq!(bed.store.foreign_job("other", id).await.unwrap(), None);
    let huge = report(None, json!({"output": "x".repeat(store::FOREIGN_DATA_BYTES_MAX)}));
    let refused = bed.store.report_foreign(SYSTEM, id, &huge, None).await;
    assert!(matches!(refused, Err(StoreError::Poison(_))), "{refused:?}");
}

async fn a_job_waits_for_its_attachments(bed: &Bed) {
    let new = NewTask { wait: Some(WaitReason::Attachments), ..job("q", json!({})) };
    bed.store.create_tasks(std::slice::from_ref(&new)).await.unwrap();
    assert!(bed.store.claim(&ask("agent", &["q"])).await.unwrap().is_empty());
    assert_eq!(bed.store.attached(new.id).await.unwrap().state.label(), "queued");
    let again = bed.store.attached(new.id).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    assert_eq!(bed.store.claim(&ask("agent", &["q"])).await.unwrap().len(), 1);
}

async fn jobs_are_found_by_queue_and_tags(bed: &Bed) {
    let given = SystemIds.next();
    let a = job("q", json!({"tags": ["x", "y"], "job_id": given.to_string()}));
    let b = job("q", json!({"tags": ["y"]}));
    let c = job("r", json!({}));
    for new in [&a, &b, &c] {
        bed.store.create_tasks(std::slice::from_ref(new)).await.unwrap();
    }
    let find = async |query: ForeignQuery| {
        let found = bed.store.foreign_jobs(SYSTEM, &query).await.unwrap();
        found.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let ids = |all: &[&NewTask]| all.iter().map(|new| new.id.uuid()).collect::<Vec<_>>();
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    assert_eq!(find(ForeignQuery::default()).await, ids(&[&c, &b, &a]));
    assert_eq!(
        find(ForeignQuery { queue: Some("q".into()), ..ForeignQuery::default() }).await,
        ids(&[&b, &a])
    );
    assert_eq!(find(ForeignQuery { tags: tags(&["y"]), ..ForeignQuery::default() }).await, ids(&[&b, &a]));
    assert_eq!(find(ForeignQuery { tags: tags(&["x", "z"]), ..ForeignQuery::default() }).await, ids(&[&a]));
    let stop = model::task::Stop::Cancel { who: "me".to_owned(), why: None };
    bed.store.stop(b.id, &stop).await.unwrap();
    assert_eq!(find(ForeignQuery { open: true, ..ForeignQuery::default() }).await, ids(&[&c, &a]));
    assert_eq!(bed.store.foreign_job(SYSTEM, given).await.unwrap().unwrap().id, a.id.uuid());
}

async fn fragments_and_files_are_kept_by_attempt(bed: &Bed) {
    let id = SystemIds.next();
    let fragment = |kind: &str, number, key: &str| Fragment {
        kind: kind.to_owned(),
        number,
        phase: "test".to_owned(),
        at: "2026-11-21T00:19:34.374959Z".parse().unwrap(),
        size_bytes: 3,
        key: key.to_owned(),
    };
    for (attempt, one) in [
        (1, fragment("output", 1, "b")),
        (1, fragment("output", 0, "a")),
        (1, fragment("serial", 0, "s")),
        (2, fragment("output", 0, "later")),
        (1, fragment("output", 1, "again")),
    ] {
        bed.store.add_fragment(id, attempt, &one).await.unwrap();
    }
    let keys = async |attempt, kind| {
        let all = bed.store.fragments(id, attempt, kind).await.unwrap();
        all.into_iter().map(|one| one.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(1, None).await, ["a", "again", "s"]);
    assert_eq!(keys(1, Some("serial")).await, ["s"]);
    assert_eq!(keys(2, Some("output")).await, ["later"]);
    let file = |key: &str| ForeignFile { size_bytes: 5, key: key.to_owned() };
    assert_eq!(bed.store.put_foreign_file(id, "artifact", &file("one")).await.unwrap(), None);
    assert_eq!(bed.store.put_foreign_file(id, "artifact", &file("two")).await.unwrap(), Some(file("one")));
    assert_eq!(bed.store.foreign_file(id, "artifact").await.unwrap(), Some(file("two")));
    assert_eq!(bed.store.foreign_file(id, "attachments").await.unwrap(), None);
    // Who clears away what nothing names must find them named.
    let kept = bed.store.kept_files(&[model::TaskId::new(id)]).await.unwrap();
    for key in ["a", "s", "two"] {
        assert!(kept.keys.contains(key), "{key}: {:?}", kept.keys);
    }
}

async fn documents_are_changed_by_one_at_a_time(bed: &Bed) {
    let put = async |name: &'static str, version, body: Value, expires_at| {
        bed.store.put_foreign_record(SYSTEM, "agent", name, version, &body, expires_at).await.unwrap()
    };
    assert!(put("b", None, json!(1), None).await);
    assert!(!put("b", None, json!(2), None).await, "it is there");
    assert!(put("b", Some(1), json!({"x": "y"}), None).await);
    assert!(!put("b", Some(1), json!(3), None).await, "somebody else changed it");
    let read = bed.store.foreign_record(SYSTEM, "agent", "b").await.unwrap().unwrap();
    assert_eq!((read.version, read.body), (2, json!({"x": "y"})));
    let past = bed.store.now().await.unwrap() - chrono::TimeDelta::seconds(1);
    assert!(put("a", None, json!(1), Some(past)).await);
    let names = bed.store.foreign_records(SYSTEM, "agent").await.unwrap();
    assert_eq!(names.iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(bed.store.foreign_record(SYSTEM, "agent", "a").await.unwrap(), None);
    assert!(put("a", None, json!(2), None).await, "what has expired is not there");
    assert_eq!(bed.store.foreign_records("other", "agent").await.unwrap(), []);
    assert!(bed.store.remove_foreign_record(SYSTEM, "agent", "b").await.unwrap());
    assert!(!bed.store.remove_foreign_record(SYSTEM, "agent", "b").await.unwrap());
}

async fn leases_are_renewed_and_attempts_given_up(bed: &Bed) {
    let new = job("q", json!({}));
    bed.store.create_tasks(std::slice::from_ref(&new)).await.unwrap();
    let given = bed.store.claim(&ask("agent", &["q"])).await.unwrap().remove(0);
    let agent = "agent".into();
    assert_eq!(bed.store.renew_foreign(&agent, LEASE_MS).await.unwrap(), 0, "nearly all of it is left");
    assert_eq!(bed.store.renew_foreign(&agent, 10 * LEASE_MS).await.unwrap(), 1);
    assert_eq!(bed.store.renew_foreign(&"other".into(), 10 * LEASE_MS).await.unwrap(), 0);
    let waits = bed.store.foreign_waits(SYSTEM, &[]).await.unwrap();
    assert_eq!(waits[&QueueName::from("q")].len(), 1);
    let mut attempt = given.attempt;
    for tries in 1..=3 {
        assert!(bed.store.lose_attempt(new.id, attempt).await.unwrap());
        let task = bed.store.task(new.id).await.unwrap();
        if tries == 3 {
            let lost: Outcome = "error(lost)".parse().unwrap();
            assert!(matches!(task.state, TaskState::Finished { outcome, .. } if outcome == lost));
        } else {
            attempt = bed.store.claim(&ask("agent", &["q"])).await.unwrap().remove(0).attempt;
        }
    }
}
