//! Broken rules: the old ones stay in force, and it is told.

use crate::support::{
    bus::Publication,
    installation::{Installation, Plan},
    repository::task_file,
    wait::{until, until_equal},
};
use std::fs;

const RULES: &str = "rules:
  - name: each
    on: drill.any
    then: [{task: good}]
";

/// Files that are wrong, with words of what must be said of each.
const BROKEN: &[(&str, &[&str])] = &[
    ("rules: [", &["drill.yaml:1"]),
    (
        "rules:\n  - name: each\n    on: drill.any\n    wehn: {}\n    then: [{task: good}]\n",
        &["drill.yaml:4:5", "wehn", "did you mean `when`"],
    ),
    (
        "rules:\n  - name: each\n    on: drill.any\n    on: drill.other\n    then: [{task: good}]\n",
        &["drill.yaml:4", "on"],
    ),
    (
        "rules:\n  - name: each\n    on: drill.any\n    when: {body.version: 3.10}\n    then: [{task: good}]\n",
        &["drill.yaml:4", "3.10", "quote"],
    ),
    (
        "rules:\n  - name: each\n    on: drill.any\n    if: |\n      event.body.a ==\n    then: [{task: good}]\n",
        &["drill.yaml:5"],
    ),
    (
        "rules:\n  - name: each\n    on: drill.any\n    then: [{task: godo}]\n",
        &["drill.yaml:4", "godo", "did you mean `good`"],
    ),
    (
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n\
         d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e]\n",
        &["drill.yaml"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_rules_leave_the_old_ones_in_force_and_it_is_told() {
    let good = task_file("good", "local: {}", "true");
    let plan = Plan {
        servers: 2,
        workers: 0,
        rules: &[("drill.yaml", RULES)],
        repositories: &[("good", &[("task.yaml", &good)])],
        ..Plan::default()
    };
    let installation = Installation::start(&plan).await;
    let file = installation.rules().join("drill.yaml");
    let revision = installation.get("/api/v1/rules").await["revision"].clone();
    for (number, (text, words)) in BROKEN.iter().enumerate() {
        fs::write(&file, text).unwrap();
        until(&format!("it is told of rules {number}, with {words:?}"), async || {
            let told = installation.get("/api/v1/rules").await["problem"].as_str().map(str::to_owned);
            told.filter(|told| words.iter().all(|word| told.contains(word)))
        })
        .await;
        let rules = installation.get("/api/v1/rules").await;
        assert_eq!(rules["revision"], revision, "{text}");
        let ready = installation.get("/readyz").await;
        assert_eq!(ready["checks"]["rules"]["ok"], false, "{ready}");
        send(&installation, &format!("event-{number}")).await;
        let expect = i64::try_from(number + 1).unwrap();
        until_equal("tasks by the old rules", expect, async || tasks(&installation).await).await;
    }

    fs::write(&file, RULES.replace("drill.any", "drill.other")).unwrap();
    until("the mended rules are in force on both servers", async || {
        let mut taken = 0;
        for server in 0..2 {
            let rules = reqwest::get(format!("{}/api/v1/rules", installation.url(server))).await.ok()?;
            let rules: serde_json::Value = rules.json().await.ok()?;
            taken += usize::from(rules["revision"] != revision && rules["problem"].is_null());
        }
        (taken == 2).then_some(())
    })
    .await;
    let before = tasks(&installation).await;
    send(&installation, "no-more").await;
    until_equal("the event is in the inbox", 1, async || {
        installation.database.number("select count(*) from event where id = 'no-more'").await
    })
    .await;
    assert_eq!(tasks(&installation).await, before, "tasks by rules that are no more");
    installation.remove().await;
}

async fn send(installation: &Installation, id: &str) {
    let headers = vec![("message-id", id.to_owned())];
    let event = Publication { topic: "drill.any".to_owned(), headers, payload: b"{}".to_vec() };
    installation.bus.publish([event]).await;
}

async fn tasks(installation: &Installation) -> i64 {
    installation.database.number("select count(*) from task").await
}
