//! paddles' runs, jobs, nodes and queues.

use super::harness::{Bed, conformance, run_sql, wished};
use model::{
    TaskKey,
    paddles::{JobReport, JobStatus, LockError, Node, RunName},
    task::{Origin, Stop, TaskKind, WaitReason},
};
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::time::{Duration, Instant};
use store::{
    NewOrigin, NewTask, PADDLES_JOB_BYTES_MAX, PaddlesField, PaddlesJob, PaddlesJobQuery, PaddlesNodeChange,
    PaddlesNodeQuery, PaddlesNodes, PaddlesPause, PaddlesPopped, PaddlesReport, PaddlesReported, PaddlesRun,
    PaddlesRunQuery, PaddlesTarget, ResultQuery, Retention, StoreError,
};

conformance![
    jobs_and_their_run_and_tasks,
    many_reports_at_once_are_as_one_by_one,
    ids_of_jobs,
    stopping_and_removing,
    lists,
    queues_hand_out_once,
    nodes_are_locked_all_or_none,
    writes_cost_the_same_in_a_large_run,
    runs_that_are_over_go_with_their_age,
];

const RUN: &str = "me-2026-11-20_10:00:00-rados-main-distro-default-smithi";

fn report(body: &Value) -> JobReport {
    JobReport::read(body.as_object().unwrap(), |time| time.and_utc()).unwrap()
}

fn target(run: &str) -> PaddlesTarget {
    let task = wished("rados");
    let task = NewTask {
        key: TaskKey::of_id("paddles", &task.id.to_string()),
        kind: TaskKind::Reported,
        origin: NewOrigin::Given(Origin::Submitted { who: "me".to_owned(), why: None }),
        submitter: "user:me".into(),
        queue: "smithi".into(),
        batch: Some(run.to_owned()),
        wait: Some(WaitReason::Group),
        ..task
    };
    PaddlesTarget::New { name: RunName::parse(run), task: Box::new(task) }
}

fn new(run: &str, body: &Value) -> PaddlesReport {
    PaddlesReport { run: run.to_owned(), target: target(run), report: report(body) }
}

fn changed(run: &str, job_id: &str, body: &Value) -> PaddlesReport {
    let target = PaddlesTarget::Existing { job_id: job_id.to_owned() };
    PaddlesReport { run: run.to_owned(), target, report: report(body) }
}

async fn post(bed: &Bed, run: &str, body: &Value) -> PaddlesReported {
    bed.store.report_paddles_jobs(&[new(run, body)]).await.unwrap().remove(0)
}

async fn put(bed: &Bed, run: &str, job_id: &str, body: &Value) -> PaddlesReported {
    bed.store.report_paddles_jobs(&[changed(run, job_id, body)]).await.unwrap().remove(0)
}

async fn runs_that_are_over_go_with_their_age(bed: &Bed) {
    let day = Duration::from_secs(24 * 3600);
    let keep = Retention { tasks: Some(day), ..Retention::default() };
    for (run, status) in [("over", "pass"), ("open", "running")] {
        post(bed, run, &json!({"job_id": "1", "status": "running", "targets": {"u@node1": "key"}})).await;
        post(bed, run, &json!({"job_id": "2", "status": "fail"})).await;
        put(bed, run, "1", &json!({"status": status})).await;
    }
    bed.store.add_paddles_run("empty", &RunName::parse("empty")).await.unwrap();
    assert!(bed.store.prune(&keep, 100, false).await.unwrap().rows.is_empty(), "nothing is old yet");
    bed.store.shift_clock(2 * 24 * 3_600_000).await.unwrap();
    let gone = bed.store.prune(&keep, 100, false).await.unwrap();
    assert_eq!((gone.rows["paddles_jobs"], gone.rows["paddles_runs"]), (2, 2), "{gone:?}");
    assert!(bed.store.paddles_run("over").await.unwrap().is_none());
    assert!(bed.store.paddles_run("empty").await.unwrap().is_none());
    assert_eq!(run(bed, "open").await.counts.total(), 2);
    let left = jobs(bed, PaddlesJobQuery { node: Some("node1".to_owned()), ..PaddlesJobQuery::default() });
    assert_eq!(left.await.iter().map(|job| job.run.as_str()).collect::<Vec<_>>(), ["open"]);
    assert!(bed.store.prune(&keep, 100, false).await.unwrap().rows.is_empty());
}

async fn run(bed: &Bed, name: &str) -> PaddlesRun {
    bed.store.paddles_run(name).await.unwrap().unwrap()
}

async fn jobs(bed: &Bed, query: PaddlesJobQuery) -> Vec<PaddlesJob> {
    bed.store.paddles_jobs(&PaddlesJobQuery { limit: 100, ..query }).await.unwrap()
}

async fn job(bed: &Bed, name: &str, job_id: &str) -> PaddlesJob {
    let query = PaddlesJobQuery {
        run: Some(name.to_owned()),
        job_id: Some(job_id.to_owned()),
        ..PaddlesJobQuery::default()
    };
    jobs(bed, query).await.remove(0)
}

/// The run's status, and where the task of a job stands.
async fn stands(bed: &Bed, job_id: &str) -> (String, String) {
    let task = job(bed, RUN, job_id).await.task;
    (run(bed, RUN).await.counts.status().to_owned(), bed.label(task).await)
}

async fn jobs_and_their_run_and_tasks(bed: &Bed) {
    let first = json!({"job_id": "1", "status": "queued", "sha1": "abc", "suite": "rbd", "priority": 50});
    assert_eq!(post(bed, RUN, &first).await, PaddlesReported::Done("1".to_owned()));
    assert_eq!(post(bed, RUN, &first).await, PaddlesReported::Exists("1".to_owned()));
    assert_eq!(
        post(bed, RUN, &json!({"job_id": "2", "status": "queued", "sha1": "def"})).await,
        PaddlesReported::Done("2".to_owned())
    );
    let made = run(bed, RUN).await;
    assert_eq!(
        (made.user.as_deref(), made.suite.as_deref(), made.branch.as_deref()),
        (Some("me"), Some("rbd"), Some("main"))
    );
    assert_eq!((made.sha1.as_deref(), made.priority, made.counts.total()), (Some("abc"), Some(50), 2));
    assert_eq!(made.scheduled.unwrap().to_string(), "2026-11-20 10:00:00 UTC");
    let check = async |body: Value, run: &str, task: &str| {
        assert_eq!(put(bed, RUN, "1", &body).await, PaddlesReported::Done("1".to_owned()));
        assert_eq!(stands(bed, "1").await, (run.to_owned(), task.to_owned()), "{body}");
    };
    check(json!({"status": "running"}), "running", "running(run)").await;
    check(json!({"status": "waiting"}), "waiting", "running(provision)").await;
    check(json!({"status": "running", "targets": {"ubuntu@smithi1": "key"}}), "running", "running(run)")
        .await;
    check(
        json!({"success": false, "failure_reason": "it broke", "duration": 12}),
        "finished fail",
        "finished(failed)",
    )
    .await;
    assert_eq!(
        bed.topics_of(job(bed, RUN, "1").await.task).await,
        [
            "task.created",
            "task.queued",
            "task.started",
            "task.started",
            "task.started",
            "task.finished",
            "result.new"
        ]
    );
    // The word of a machine may be overturned.
    check(json!({"success": true}), "queued", "finished(passed)").await;
    let done = job(bed, RUN, "1").await;
    let results = bed
        .store
        .results(&ResultQuery { task: Some(done.task), limit: 10, ..ResultQuery::default() })
        .await
        .unwrap();
    let outcomes: Vec<_> =
        results.items.iter().map(|result| (result.outcome.as_str(), result.duration_ms)).collect();
    assert_eq!(outcomes, [("passed", Some(12_000)), ("failed", Some(12_000))]);
    let body: Value = serde_json::from_str(&done.body).unwrap();
    assert_eq!(
        (&body["status"], &body["suite"], &body["roles"]),
        (&json!("pass"), &json!("rbd"), &json!({}))
    );
    assert!(done.started.is_some());
    check(json!({"status": "dead"}), "queued", "finished(passed)").await;
    assert_eq!(put(bed, RUN, "2", &json!({"status": "dead"})).await, PaddlesReported::Done("2".to_owned()));
    assert_eq!(stands(bed, "2").await, ("finished fail".to_owned(), "finished(error(infra))".to_owned()));
    let batch = bed.store.batch(RUN).await.unwrap();
    assert_eq!((batch.tasks, batch.final_tasks), (2, 2));
    let told = bed.messages().await;
    let ended: Vec<_> =
        told.iter().filter(|one| one.message.topic.as_str() == "taskbot.batch.finished").collect();
    let data: Value = serde_json::from_str(ended.last().unwrap().message.data.get()).unwrap();
    assert_eq!((&data["tasks"], &data["counts"]), (&json!(2), &json!({"passed": 1, "error": 1})));
    // What died may go on.
    put(bed, RUN, "2", &json!({"status": "running"})).await;
    assert_eq!(stands(bed, "2").await, ("running".to_owned(), "running(run)".to_owned()));
    assert_eq!(bed.store.batch(RUN).await.unwrap().final_tasks, 1);
    assert!(bed.store.reap(10).await.unwrap().is_empty());
    assert_eq!(put(bed, RUN, "3", &json!({"status": "dead"})).await, PaddlesReported::Missing);
    assert_eq!(put(bed, "other", "1", &json!({"status": "dead"})).await, PaddlesReported::Missing);
    assert!(bed.claim("w1", 10).await.is_empty());
}

async fn many_reports_at_once_are_as_one_by_one(bed: &Bed) {
    let queued = |job_id: &str, sha1: &str| json!({"job_id": job_id, "status": "queued", "sha1": sha1});
    let done = |job_id: &str| PaddlesReported::Done(job_id.to_owned());
    let reports = [
        new(RUN, &queued("1", "first")),
        new("other", &queued("1", "other")),
        new(RUN, &queued("2", "second")),
        new(RUN, &queued("1", "again")),
        changed(RUN, "1", &json!({"status": "running", "suite": "rbd"})),
        changed(RUN, "3", &json!({"status": "running"})),
        changed(RUN, "1", &json!({"success": true})),
        new(RUN, &queued("3", "third")),
    ];
    let said = bed.store.report_paddles_jobs(&reports);
    let exists = PaddlesReported::Exists("1".to_owned());
    assert_eq!(
        said.await.unwrap(),
        [done("1"), done("1"), done("2"), exists, done("1"), PaddlesReported::Missing, done("1"), done("3")]
    );
    let made = run(bed, RUN).await;
    assert_eq!(
        (made.sha1.as_deref(), made.suite.as_deref(), made.counts.total()),
        (Some("first"), Some("rbd"), 3)
    );
    assert_eq!((made.counts.of(JobStatus::Pass), made.counts.of(JobStatus::Queued)), (1, 2));
    assert_eq!(stands(bed, "1").await, ("queued".to_owned(), "finished(passed)".to_owned()));
    assert_eq!(
        bed.topics_of(job(bed, RUN, "1").await.task).await,
        ["task.created", "task.queued", "task.started", "task.finished", "result.new"]
    );
    assert_eq!(run(bed, "other").await.sha1.as_deref(), Some("other"));
    // Several tasks follow in one go.
    let running = json!({"status": "running"});
    bed.store.report_paddles_jobs(&[changed(RUN, "3", &running), changed(RUN, "2", &running)]).await.unwrap();
    for job_id in ["2", "3"] {
        assert_eq!(stands(bed, job_id).await, ("running".to_owned(), "running(run)".to_owned()));
    }
    let batch = bed.store.batch(RUN).await.unwrap();
    assert_eq!((batch.tasks, batch.final_tasks), (3, 1));
    // One that cannot be kept takes all with it.
    let large = json!({"job_id": "9", "description": "x".repeat(PADDLES_JOB_BYTES_MAX)});
    let refused = bed.store.report_paddles_jobs(&[new(RUN, &queued("8", "")), new(RUN, &large)]).await;
    assert!(matches!(refused, Err(StoreError::Poison(_))), "{refused:?}");
    assert_eq!(run(bed, RUN).await.counts.total(), 3);
}

async fn ids_of_jobs(bed: &Bed) {
    let PaddlesReported::Done(first) = post(bed, "r", &json!({"name": "x"})).await else {
        panic!("not made")
    };
    let number: i64 = first.parse().unwrap();
    let taken = (number + 2).to_string();
    assert_eq!(post(bed, "r", &json!({"job_id": taken})).await, PaddlesReported::Done(taken.clone()));
    let PaddlesReported::Done(next) = post(bed, "r", &json!({"name": "x"})).await else { panic!("not made") };
    assert_ne!(next, taken);
    put(bed, "r", &first, &json!({"job_id": "other", "status": "pass"})).await;
    assert_eq!(job(bed, "r", &first).await.status.as_str(), "pass");
    assert_eq!(run(bed, "r").await.counts.status(), "unknown");
}

async fn stopping_and_removing(bed: &Bed) {
    for job_id in ["1", "2", "3", "4"] {
        post(bed, RUN, &json!({"job_id": job_id, "status": "queued", "sha1": format!("s{job_id}")})).await;
    }
    put(bed, RUN, "2", &json!({"status": "running"})).await;
    let stop = Stop::Cancel { who: "me".to_owned(), why: None };
    for job_id in ["1", "2"] {
        let task = job(bed, RUN, job_id).await.task;
        bed.store.stop(task, &stop).await.unwrap();
        assert_eq!(
            (job(bed, RUN, job_id).await.status.as_str(), &*bed.label(task).await),
            ("dead", "cancelled")
        );
    }
    assert_eq!(run(bed, RUN).await.counts.status(), "finished fail");
    let third = job(bed, RUN, "3").await.task;
    assert!(bed.store.remove_paddles_job(RUN, "1", "me").await.unwrap());
    assert!(!bed.store.remove_paddles_job(RUN, "1", "me").await.unwrap());
    let left = run(bed, RUN).await;
    assert_eq!((left.counts.total(), left.sha1.as_deref()), (3, Some("s2")));
    assert!(bed.store.remove_paddles_run(RUN, "me").await.unwrap());
    assert!(!bed.store.remove_paddles_run(RUN, "me").await.unwrap());
    assert_eq!(bed.label(third).await, "cancelled");
    assert_eq!(bed.store.paddles_run(RUN).await.unwrap(), None);
    // The same may come again.
    assert_eq!(post(bed, RUN, &json!({"job_id": "3"})).await, PaddlesReported::Done("3".to_owned()));
}

async fn lists(bed: &Bed) {
    for (day, suite, branch, sha1) in
        [(1, "rados", "main", "aaa1"), (2, "rbd", "main", "aab2"), (3, "rados", "next", "abc3")]
    {
        let name = format!("me-2026-11-0{day}_10:00:00-{suite}-{branch}-distro-default-smithi");
        post(bed, &name, &json!({"job_id": "1", "status": "queued", "sha1": sha1, "description": format!("{suite} 50% of _it")})).await;
    }
    assert!(bed.store.add_paddles_run("plain", &RunName::default()).await.unwrap());
    assert!(!bed.store.add_paddles_run("plain", &RunName::default()).await.unwrap());
    let names = async |query: PaddlesRunQuery| {
        let query = PaddlesRunQuery { limit: 100, ..query };
        let runs = bed.store.paddles_runs(&query).await.unwrap();
        runs.iter().map(|run| run.name.chars().nth(12).unwrap_or('p')).collect::<String>()
    };
    let by = |fields: &[(PaddlesField, &str)]| PaddlesRunQuery {
        fields: fields.iter().map(|(field, value)| (*field, (*value).to_owned())).collect(),
        ..PaddlesRunQuery::default()
    };
    // By day of the name; the one without is listed as of now.
    assert_eq!(names(PaddlesRunQuery::default()).await.trim_start_matches('p'), "321");
    assert_eq!(names(by(&[(PaddlesField::Suite, "rados")])).await, "31");
    assert_eq!(names(by(&[(PaddlesField::Suite, "rados"), (PaddlesField::Branch, "next")])).await, "3");
    assert_eq!(names(by(&[(PaddlesField::Status, "empty")])).await, "p");
    assert_eq!(
        names(PaddlesRunQuery { sha1: Some("aa".to_owned()), ..PaddlesRunQuery::default() }).await,
        "21"
    );
    assert_eq!(names(PaddlesRunQuery { queued: true, offset: 1, ..PaddlesRunQuery::default() }).await, "21");
    let day = |day: &str| Some(format!("2026-11-{day}T00:00:00Z").parse().unwrap());
    let between = PaddlesRunQuery { from: day("02"), until: day("03"), ..PaddlesRunQuery::default() };
    assert_eq!(names(between.clone()).await, "2");
    let all = PaddlesRunQuery::default();
    let values = async |field, query: &PaddlesRunQuery| bed.store.paddles_values(field, query).await.unwrap();
    assert_eq!(values(PaddlesField::Branch, &all).await, ["main", "next"]);
    assert_eq!(values(PaddlesField::Branch, &between).await, ["main"]);
    let posted = run(bed, "plain").await.posted.format("%F").to_string();
    let mut days = vec!["2026-11-01".to_owned(), "2026-11-02".to_owned(), "2026-11-03".to_owned(), posted];
    days.sort();
    days.dedup();
    assert_eq!(values(PaddlesField::Date, &all).await, days);
    assert_eq!(values(PaddlesField::Sha1, &all).await, ["aaa1", "aab2", "abc3"]);
    let oldest_first = PaddlesRunQuery { oldest_first: true, queued: true, ..PaddlesRunQuery::default() };
    assert_eq!(names(oldest_first).await, "123");
    assert_eq!(values(PaddlesField::Status, &all).await, ["empty", "queued"]);
    let found = jobs(
        bed,
        PaddlesJobQuery { description: Some("rados 50% of _".to_owned()), ..PaddlesJobQuery::default() },
    )
    .await;
    assert_eq!(found.iter().map(|job| job.seq).collect::<Vec<_>>(), [3, 1]);
    let brief =
        jobs(bed, PaddlesJobQuery { before: Some(3), brief: true, ..PaddlesJobQuery::default() }).await;
    assert_eq!(brief.iter().map(|job| (job.seq, job.body.as_str())).collect::<Vec<_>>(), [(2, ""), (1, "")]);
}

async fn popped(bed: &Bed) -> Option<String> {
    match bed.store.pop_paddles_job("smithi", 60_000).await.unwrap() {
        PaddlesPopped::Job(job) => Some(job.job_id),
        PaddlesPopped::Nothing => None,
        PaddlesPopped::Paused => Some("paused".to_owned()),
    }
}

async fn queues_hand_out_once(bed: &Bed) {
    for (job_id, priority) in [("1", json!(100)), ("2", json!(50)), ("3", json!(50)), ("4", json!(null))] {
        post(
            bed,
            RUN,
            &json!({"job_id": job_id, "status": "queued", "queue": "smithi", "priority": priority}),
        )
        .await;
    }
    post(bed, RUN, &json!({"job_id": "5", "status": "queued", "queue": "mira"})).await;
    assert_eq!(bed.store.count_paddles_queue("smithi").await.unwrap(), 4);
    assert_eq!(popped(bed).await.as_deref(), Some("2"));
    assert_eq!(popped(bed).await.as_deref(), Some("3"));
    put(bed, RUN, "2", &json!({"description": "about to run"})).await;
    put(bed, RUN, "3", &json!({"status": "running"})).await;
    assert_eq!(popped(bed).await.as_deref(), Some("1"));
    put(bed, RUN, "1", &json!({"status": "queued"})).await;
    assert_eq!(popped(bed).await.as_deref(), Some("1"));
    assert_eq!(popped(bed).await.as_deref(), Some("4"));
    assert_eq!(popped(bed).await, None);
    bed.pass(61_000).await;
    assert_eq!(popped(bed).await.as_deref(), Some("2"));
    bed.pass(61_000).await;
    let all = futures_util::future::join_all((0..6).map(|_| popped(bed))).await;
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    all.sort();
    assert_eq!(all, ["1", "2", "4"]);
    bed.pass(61_000).await;
    assert_eq!(
        bed.store.pause_paddles_queue("smithi", "me", Some(1000)).await.unwrap(),
        PaddlesPause::Missing
    );
    assert!(bed.store.add_paddles_queue("smithi").await.unwrap());
    assert!(!bed.store.add_paddles_queue("smithi").await.unwrap());
    assert_eq!(bed.store.pause_paddles_queue("smithi", "me", Some(1000)).await.unwrap(), PaddlesPause::Done);
    assert_eq!(
        bed.store.pause_paddles_queue("smithi", "you", Some(1000)).await.unwrap(),
        PaddlesPause::Paused
    );
    assert_eq!(popped(bed).await.as_deref(), Some("paused"));
    let queues = bed.store.paddles_queues().await.unwrap();
    assert_eq!((queues.len(), queues[0].paused_by.as_deref()), (1, Some("me")));
    bed.pass(1500).await;
    assert_eq!(bed.store.paddles_queues().await.unwrap()[0].paused_by, None);
    assert_eq!(popped(bed).await.as_deref(), Some("2"));
    bed.store.reap(10).await.unwrap();
    let native = bed.store.queues().await.unwrap();
    assert!(native.iter().all(|queue| queue.paused.is_none()), "{native:?}");
    // A pause of our own holds for them, too, and they may end it.
    bed.store.pause_queue(&"smithi".into(), "you", None, false).await.unwrap();
    assert_eq!(popped(bed).await.as_deref(), Some("paused"));
    assert_eq!(bed.store.pause_paddles_queue("smithi", "me", None).await.unwrap(), PaddlesPause::Done);
    assert_eq!(popped(bed).await.as_deref(), Some("1"));
}

async fn nodes_are_locked_all_or_none(bed: &Bed) {
    let node = |name: String, up: bool| Node {
        name,
        up: Some(up),
        machine_type: Some("smithi".to_owned()),
        os_type: Some("ubuntu".to_owned()),
        ..Node::default()
    };
    for number in 0..10 {
        assert!(bed.store.add_paddles_node(&node(format!("n{number}"), number > 0)).await.unwrap());
    }
    assert!(!bed.store.add_paddles_node(&node("n1".to_owned(), true)).await.unwrap());
    let query = PaddlesNodeQuery {
        machine_types: vec!["smithi".to_owned(), "mira".to_owned()],
        ..PaddlesNodeQuery::default()
    };
    let lock = async |count: u32, by: &str| {
        bed.store.lock_paddles_nodes(&query, count, by, Some("a run")).await.unwrap()
    };
    assert_eq!(lock(10, "me").await, PaddlesNodes::Short(9));
    // Nine are free: of four who want three each, one goes without, and nobody has another's.
    let all = futures_util::future::join_all(["a", "b", "c", "d"].map(|by| lock(3, by))).await;
    let mut names = Vec::new();
    for done in &all {
        match done {
            PaddlesNodes::Done(nodes) => names.extend(nodes.iter().map(|node| node.name.clone())),
            other => assert_eq!(other, &PaddlesNodes::Short(0)),
        }
    }
    names.sort();
    assert_eq!(names, (1..10).map(|number| format!("n{number}")).collect::<Vec<_>>());
    let one = bed.store.paddles_node("n5").await.unwrap().unwrap();
    let owner = one.locked_by.clone().unwrap();
    let own = PaddlesNodeQuery {
        locked_by: Some(owner.clone()),
        locked: Some(true),
        ..PaddlesNodeQuery::default()
    };
    let own: Vec<_> =
        bed.store.paddles_nodes(&own).await.unwrap().into_iter().map(|node| node.name).collect();
    let unlock = async |names: &[String], by: &str| bed.store.unlock_paddles_nodes(names, by).await.unwrap();
    assert_eq!(unlock(&own, "nobody").await, PaddlesNodes::Refused(LockError::Owner));
    assert_eq!(unlock(&[own[0].clone(), "n99".to_owned()], &owner).await, PaddlesNodes::Missing);
    assert_eq!(bed.store.paddles_node("n5").await.unwrap().unwrap(), one);
    assert!(matches!(unlock(&own, &owner).await, PaddlesNodes::Done(nodes) if nodes.len() == 3));
    let change = PaddlesNodeChange {
        node: Node { description: Some("broken".to_owned()), up: Some(false), ..Node::default() },
        keys: vec!["up".to_owned(), "description".to_owned()],
        ..PaddlesNodeChange::default()
    };
    let changed = bed.store.change_paddles_node("n5", &change).await.unwrap();
    assert!(
        matches!(&changed, PaddlesNodes::Done(nodes) if nodes[0].os_type.as_deref() == Some("ubuntu") && nodes[0].up == Some(false))
    );
    assert_eq!(bed.store.change_paddles_node("n99", &change).await.unwrap(), PaddlesNodes::Missing);
    assert_eq!(bed.store.paddles_machine_types().await.unwrap(), ["smithi"]);
    post(bed, RUN, &json!({"job_id": "1", "status": "pass", "targets": {"ubuntu@n5": "k", "ubuntu@new": "k"}, "machine_type": "mira"})).await;
    post(bed, RUN, &json!({"job_id": "2", "status": "fail", "targets": {"ubuntu@n5": "k"}})).await;
    assert_eq!(bed.store.paddles_node("new").await.unwrap().unwrap().machine_type.as_deref(), Some("mira"));
    let on = PaddlesJobQuery { node: Some("n5".to_owned()), ..PaddlesJobQuery::default() };
    assert_eq!(jobs(bed, on).await.iter().map(|job| &*job.job_id).collect::<Vec<_>>(), ["2", "1"]);
    let stats = bed.store.paddles_node_stats(None, Some("smithi"), None).await.unwrap();
    assert_eq!(json!(stats), json!({"n5": {"pass": 1, "fail": 1}}));
    let stats = bed.store.paddles_node_stats(Some("new"), None, None).await.unwrap();
    assert_eq!(json!(stats), json!({"new": {"pass": 1}}));
    assert!(bed.store.remove_paddles_node("new").await.unwrap());
    assert!(!bed.store.remove_paddles_node("new").await.unwrap());
}

/// Runs statements on the database itself, beside the store.
async fn sql(bed: &Bed, sqlite: &str, postgres: &str) {
    if let Some(url) = bed.url() {
        return run_sql(&url, postgres.to_owned()).await;
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(bed.file().unwrap());
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sqlite.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A run with so many jobs more, as if they had been reported, with their tasks.
async fn fill(bed: &Bed, run: &str, count: u32) {
    let columns = "name, kind, submitter, queue, priority, batch_id, depth, created_at, state, since, turn, attempts, \
        handed_back, fence, tries, hold_until, body, generation";
    let job = "status, rank, posted, updated, body, queue";
    let count_up = format!(
        "update paddles_run set pass = pass + {count} where name = '{run}'; \
        update batch set tasks = tasks + {count}, final_tasks = final_tasks + {count} where name = '{run}';"
    );
    let of = format!("(select id from paddles_run where name = '{run}')");
    let sqlite = format!(
        "insert into task (id, key, outcome, {columns}) with recursive n (i) as (select 1 union all select i + 1 from n where i < {count}) \
            select randomblob(16), randomblob(32), 'passed', {} from n, task t where t.id = \
            (select task_id from paddles_job where run_id = {of} order by seq limit 1); \
        insert into paddles_job (run_id, job_id, task_id, {job}) \
            with recursive n (i) as (select 1 union all select i + 1 from n where i < {count}) \
            select j.run_id, 'x' || i, randomblob(16), {} from n, paddles_job j where j.seq = \
            (select min(seq) from paddles_job where run_id = {of}); {count_up} analyze;",
        columns.replace("state", "'finished'"),
        job.split(", ")
            .map(|column| if column == "status" { "'pass'".to_owned() } else { format!("j.{column}") })
            .collect::<Vec<_>>()
            .join(", "),
    );
    let postgres = format!(
        "insert into task (id, key, outcome, {columns}) select gen_random_uuid(), sha256(i::text::bytea || '{run}'), 'passed', {} \
            from generate_series(1, {count}) i, task t where t.id = \
            (select task_id from paddles_job where run_id = {of} order by seq limit 1); \
        insert into paddles_job (run_id, job_id, task_id, {job}) \
            select j.run_id, 'x' || i, gen_random_uuid(), {} from generate_series(1, {count}) i, paddles_job j where j.seq = \
            (select min(seq) from paddles_job where run_id = {of}); {count_up} analyze;",
        columns.replace("state", "'finished'"),
        job.split(", ")
            .map(|column| if column == "status" { "'pass'".to_owned() } else { format!("j.{column}") })
            .collect::<Vec<_>>()
            .join(", "),
    );
    sql(bed, &sqlite, &postgres).await;
}

async fn writes_cost_the_same_in_a_large_run(bed: &Bed) {
    const JOBS: u32 = 100_000;
    for run in ["small", "large"] {
        post(bed, run, &json!({"job_id": "0", "status": "queued", "queue": "q"})).await;
    }
    fill(bed, "small", 10).await;
    fill(bed, "large", JOBS).await;
    assert_eq!(run(bed, "large").await.counts.total(), i64::from(JOBS) + 1);
    let mut took = [("small", Vec::new()), ("large", Vec::new())];
    for round in 0..25 {
        // By turns, so that what else the machine does weighs on both.
        for (run, took) in &mut took {
            let start = Instant::now();
            let job_id = format!("new-{round}");
            post(bed, run, &json!({"job_id": job_id, "status": "queued", "queue": "q"})).await;
            put(bed, run, &job_id, &json!({"status": "running"})).await;
            // Each time all jobs but the first have ended; and at last all have.
            put(bed, run, &job_id, &json!({"success": true})).await;
            put(bed, run, "0", &json!({"status": if round % 2 == 0 { "dead" } else { "running" }})).await;
            took.push(start.elapsed());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let [small, large] = &mut took;
    let (small, large) = (median(&mut small.1), median(&mut large.1));
    assert!(large < small * 3, "in a run of 10 jobs {small:?}, in one of {JOBS} {large:?}");
}
