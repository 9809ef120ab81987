//! A new revision of the rules every 100 ms while events pass through two servers.

use crate::{
    load::{Load, RULES},
    support::{
        environment::{seed, sized},
        installation::{Installation, Plan},
        repository::task_file,
        wait::until,
    },
    verify::{settled, verify},
};
use reqwest::Method;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// How many events, in full more.
const EVENTS: (usize, usize) = (1_500, 10_000);
/// How many revisions come while they pass.
const REVISIONS: (usize, usize) = (30, 150);
const EVERY: Duration = Duration::from_millis(100);
/// How many revisions must at least have judged events, for the drill to say something.
const JUDGED_BY_MIN: i64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_change_all_the_time_lose_nothing_and_double_nothing() {
    let mut load = Load::generate(seed("reload"), sized(EVENTS.0, EVENTS.1));
    let cheap = task_file("cheap", "local: {}", "test \"$TASKBOT_INPUT_NVR\" != none");
    let rules = RULES.replace("task: boxed", "task: cheap");
    load.tasks = load.tasks.into_iter().map(|task| task.replace(" boxed ", " cheap ")).collect();
    let plan = Plan {
        servers: 2,
        workers: 2,
        slots: 4,
        rules: &[("drill.yaml", &rules), ("changes.yaml", &changing(0))],
        repositories: &[("cheap", &[("task.yaml", &cheap)])],
        ..Plan::default()
    };
    let installation = Installation::start(&plan).await;
    let begun = Instant::now();
    let revisions = sized(REVISIONS.0, REVISIONS.1);
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let parts = load.publications.chunks(load.publications.len().div_ceil(revisions));
    for (number, part) in (1..).zip(parts) {
        tick.tick().await;
        tokio::join!(change(&installation, number), installation.bus.publish(part.iter().cloned()));
    }
    let published = begun.elapsed();
    settled(&installation, &load).await;
    let judged_by =
        installation.database.number("select count(distinct revision) from event where source = 'bus'").await;
    println!(
        "drill reload: {} events published within {published:?}, judged by {judged_by} revisions, {} tasks settled after {:?}",
        load.events.len(),
        load.tasks.len(),
        begun.elapsed()
    );
    assert!(judged_by >= JUDGED_BY_MIN, "{judged_by} revisions judged events");
    verify(&installation, &load).await;
    both_follow(&installation, revisions).await;
    installation.remove().await;
}

/// A rule that matches nothing, and is another one each time.
fn changing(number: usize) -> String {
    format!("rules:\n  - name: passing-{number}\n    on: drill.never\n    then: [{{task: cheap}}]\n")
}

/// Changes a rule file, which both servers see, and asks one of them to look at once.
async fn change(installation: &Installation, number: usize) {
    let (beside, file) =
        (installation.folder().join("changes.new"), installation.rules().join("changes.yaml"));
    write_at_once(&beside, &file, &changing(number));
    if number.is_multiple_of(2) {
        let (status, answer) = installation.request(Method::POST, "/api/v1/rules/reload", None).await;
        assert!(status.is_success(), "{status} {answer}");
    }
}

/// As editors do, so that nobody reads half a file.
fn write_at_once(beside: &Path, file: &Path, text: &str) {
    fs::write(beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

/// Both servers end with the newest rules.
async fn both_follow(installation: &Installation, revisions: usize) {
    let http = reqwest::Client::new();
    for server in 0..installation.servers.len() {
        until("a server has the newest rules", async || {
            let url = format!("{}/api/v1/rules/passing-{revisions}", installation.url(server));
            let answer = http.get(url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }
}
