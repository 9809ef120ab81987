//! A mass rebuild: tens of thousands of events of one kind within a minute, and others who want their tasks.

use crate::support::{
    bus::Publication,
    environment::sized,
    installation::{DURABLE, Installation, Plan},
    repository::task_file,
    wait::{until, until_equal, until_holds},
};
use serde_json::{Value, json};
use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How many packages are rebuilt, in full as many as a mass rebuild has.
const STORM: (usize, usize) = (4_000, 50_000);
/// How many tasks the storm's rule may make in an hour: more than are done before the others come.
const PER_HOUR: (usize, usize) = (200, 2_000);
/// How many events somebody else has, in the middle of the storm.
const OTHERS: usize = 20;
/// How long the slowest but one in a hundred answers of the API may take meanwhile: so much, or on a machine that does
/// other things too so many times what it takes when nothing is to be done.
const API_P99_MAX: Duration = Duration::from_secs(1);
const API_P99_RATIO_MAX: u32 = 30;
/// How often it is asked before the storm.
const QUIET_ROUNDS: usize = 25;
/// How often the API is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

const RULES: &str = r#"rules:
  - name: rebuilds
    on: drill.rebuild
    then:
      - task: cheap
        item: {type: koji_build, id: "${event.body.nvr}"}
        with: {nvr: "${event.body.nvr}"}
    limits: {per_hour: PER_HOUR, on_excess: park}

  - name: others
    on: drill.other
    then:
      - task: cheap
        item: {type: koji_build, id: "${event.body.nvr}"}
        with: {nvr: "${event.body.nvr}"}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_rebuild_starves_nobody_and_keeps_to_its_limit() {
    let (storm, per_hour) = (sized(STORM.0, STORM.1), sized(PER_HOUR.0, PER_HOUR.1));
    // Long enough that the storm's share is not done when the others come.
    let cheap = task_file("cheap", "local: {}", "sleep 0.2");
    let plan = Plan {
        servers: 2,
        workers: 1,
        slots: 4,
        rules: &[("drill.yaml", &RULES.replace("PER_HOUR", &per_hour.to_string()))],
        repositories: &[("cheap", &[("task.yaml", &cheap)])],
        ..Plan::default()
    };
    let installation = Installation::start(&plan).await;
    let quiet = p99(ask(&installation, QUIET_ROUNDS, &AtomicBool::new(false)).await);
    let (begun, over) = (Instant::now(), AtomicBool::new(false));
    let (answers, ()) = tokio::join!(ask(&installation, usize::MAX, &over), async {
        installation.bus.publish(events("rebuild", 0..storm / 2)).await;
        let (others, ()) = tokio::join!(
            others(&installation),
            installation.bus.publish(events("rebuild", storm / 2..storm))
        );
        let published = begun.elapsed();
        until_equal("messages that are not acknowledged", Some(0), async || {
            installation.bus.unacknowledged(DURABLE).await
        })
        .await;
        println!(
            "drill storm: {storm} events published within {published:?}, taken in after {:?}; the others' tasks took {others:?}",
            begun.elapsed()
        );
        over.store(true, Ordering::Relaxed);
    });
    println!("drill storm: {} answers of the API", answers.len());
    let busy = p99(answers);
    println!("drill storm: p99 of the API {busy:?}, before {quiet:?}");
    assert!(busy < API_P99_MAX.max(quiet * API_P99_RATIO_MAX), "the API took {busy:?}, before {quiet:?}");
    nothing_lost(&installation, storm, per_hour).await;
    installation.remove().await;
}

fn events(kind: &str, numbers: Range<usize>) -> impl Iterator<Item = Publication> {
    let (topic, name) = (format!("drill.{kind}"), kind.to_owned());
    numbers.map(move |number| Publication {
        topic: topic.clone(),
        headers: vec![("message-id", format!("{name}-{number}"))],
        payload: json!({"nvr": format!("{name}-1.0-{number}.fc44")}).to_string().into_bytes(),
    })
}

fn p99(mut answers: Vec<Duration>) -> Duration {
    answers.sort();
    answers[answers.len() * 99 / 100]
}

/// Asks the API again and again; how long each answer took.
async fn ask(installation: &Installation, rounds: usize, over: &AtomicBool) -> Vec<Duration> {
    let mut answers = Vec::new();
    for _ in 0..rounds {
        if over.load(Ordering::Relaxed) {
            break;
        }
        for path in ["/api/v1/tasks?limit=20", "/api/v1/queues", "/api/v1/rules", "/api/v1/events?limit=20"] {
            let begun = Instant::now();
            installation.get(path).await;
            answers.push(begun.elapsed());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    answers
}

/// Somebody else's events come amid the storm; their tasks are done before the storm's share is. How long it took.
async fn others(installation: &Installation) -> Duration {
    let queued = "select count(*) from task where rule = 'rebuilds' and state = 'queued'";
    until("the storm's tasks wait for a worker", async || {
        (installation.database.number(queued).await > i64::try_from(OTHERS).unwrap()).then_some(())
    })
    .await;
    let begun = Instant::now();
    installation.bus.publish(events("other", 0..OTHERS)).await;
    let done =
        "select count(*) from task where rule = 'others' and state = 'finished' and outcome = 'passed'";
    let taken_in = "select count(*) from event";
    // Their events stand behind the storm's in the bus.
    until_holds(
        "the others' tasks are done, with events taken in",
        async || (installation.database.number(done).await, installation.database.number(taken_in).await),
        |(done, _)| *done == i64::try_from(OTHERS).unwrap(),
    )
    .await;
    let took = begun.elapsed();
    let storms = "select count(*) from task where rule = 'rebuilds' and state in ('waiting', 'queued', 'running') \
        and wait_reason is distinct from 'parked'";
    assert!(installation.database.number(storms).await > 0, "the others waited for the whole storm");
    took
}

/// Every event is there with its task; what the limit allows runs, the rest waits and is shown by rule.
async fn nothing_lost(installation: &Installation, storm: usize, per_hour: usize) {
    let count = async |sql| usize::try_from(installation.database.number(sql).await).unwrap();
    assert_eq!(count("select count(*) from event where source = 'bus'").await, storm + OTHERS);
    assert_eq!(count("select count(distinct item_id) from task").await, storm + OTHERS);
    assert_eq!(count("select count(*) from task").await, storm + OTHERS);
    assert_eq!(count("select count(*) from dead_letter").await, 0);
    let parked = "select count(*) from task where rule = 'rebuilds' and wait_reason = 'parked'";
    assert_eq!(count(parked).await, storm - per_hour, "parked tasks");
    let backlog = installation.get("/api/v1/backlog").await;
    let shown = backlog["rules"].as_array().unwrap().iter().find(|entry| entry["rule"] == "rebuilds");
    assert_eq!(shown.map(|entry| &entry["parked_tasks"]), Some(&Value::from(storm - per_hour)), "{backlog}");
    let done = "select count(*) from task where state = 'finished' and outcome = 'passed'";
    until_equal("what the limit allows is done", per_hour + OTHERS, async || count(done).await).await;
}
