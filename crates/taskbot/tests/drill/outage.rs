//! NATS and PostgreSQL stopped for a while under load, and started again.

use crate::{
    load::{Load, RULES},
    support::{
        bus::{Publication, Server},
        database::Cluster,
        environment::{seed, sized},
        installation::{Installation, Plan},
        repository::task_file,
        wait::{until, until_equal},
    },
    verify::{nothing_left, settled, verify},
};
use serde_json::json;
use std::time::{Duration, Instant};

/// How many events, in full more.
const EVENTS: (usize, usize) = (600, 4_000);
/// How long the services are away; longer than a lease.
const AWAY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(60));
const LEASE: Duration = Duration::from_secs(6);
/// How many tasks run all through the outage.
const LONG_TASKS: usize = 4;

/// One more rule: a task that ends when a file appears.
const LONG_RULE: &str = r#"rules:
  - name: check-builds
    on: drill.long
    then:
      - task: patient
        item: {type: any, id: "${event.body.name}"}
        with: {nvr: "${event.body.file}"}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_services_lose_nothing_and_start_no_running_task_again() {
    let mut load = Load::generate(seed("outage"), sized(EVENTS.0, EVENTS.1));
    let (mut nats, mut postgres) = (Server::started(), Cluster::started().await);
    let file = tempfile::tempdir().unwrap();
    let go = file.path().join("go");
    let cheap = task_file("cheap", "local: {}", "test \"$TASKBOT_INPUT_NVR\" != none");
    let patient =
        task_file("patient", "local: {}", "until test -e \"$TASKBOT_INPUT_NVR\"; do sleep 0.1; done");
    let rules = RULES.replace("task: boxed", "task: cheap");
    load.tasks = load.tasks.into_iter().map(|task| task.replace(" boxed ", " cheap ")).collect();
    let plan = Plan {
        servers: 2,
        workers: 2,
        slots: 5,
        lease: LEASE,
        rules: &[("drill.yaml", &rules), ("long.yaml", &LONG_RULE.replace("check-builds", "long"))],
        repositories: &[("cheap", &[("task.yaml", &cheap)]), ("patient", &[("task.yaml", &patient)])],
        nats: Some(nats.url()),
        postgres: Some(postgres.url()),
        ..Plan::default()
    };
    let mut installation = Installation::start(&plan).await;
    for number in 0..LONG_TASKS {
        let (id, name) = (format!("long-{number}"), format!("n{number}"));
        load.tasks.insert(crate::load::wish("long", &id, "patient", &name, None));
        load.events.insert(id.clone());
        let payload = json!({"name": name, "file": go}).to_string().into_bytes();
        let headers = vec![("message-id", id)];
        installation.bus.publish([Publication { topic: "drill.long".to_owned(), headers, payload }]).await;
    }
    let running = "select count(*) from task where state = 'running' and phase = 'run' and name = 'patient'";
    let all = i64::try_from(LONG_TASKS).unwrap();
    until_equal("long tasks run", all, async || installation.database.number(running).await).await;

    let (early, late) = load.publications.split_at(load.publications.len() / 2);
    installation.bus.publish(early.iter().cloned()).await;
    let (back, publishing) = tokio::join!(
        async {
            postgres.stop();
            nats.stop();
            tokio::time::sleep(sized(AWAY.0, AWAY.1)).await;
            nats.start();
            postgres.start().await;
            Instant::now()
        },
        installation.bus.publish(late.iter().cloned()),
    );
    let () = publishing;
    for program in installation.servers.iter_mut().chain(&mut installation.workers) {
        assert!(program.runs(), "{} ended during the outage", program.name);
    }
    installation.ready().await;
    println!("drill outage: ready {:?} after the services were back", back.elapsed());

    // The leases of what ran through are extended again, and so nobody else gets it.
    let kept = "select count(*) from task where state = 'running' and name = 'patient' and lease_until > taskbot_now()";
    until_equal("leases are extended", all, async || installation.database.number(kept).await).await;
    let begun = installation.database.number("select extract(epoch from taskbot_now())::bigint").await;
    until("a whole lease passes", async || {
        let now = installation.database.number("select extract(epoch from taskbot_now())::bigint").await;
        (now - begun > 2 * i64::try_from(LEASE.as_secs()).unwrap()).then_some(())
    })
    .await;
    assert_eq!(installation.database.number(running).await, all, "long tasks that still run");
    std::fs::write(&go, "").unwrap();

    settled(&installation, &load).await;
    verify(&installation, &load).await;
    let again = installation.database.number("select count(*) from task where attempts <> 1").await;
    assert_eq!(again, 0, "tasks that were started more than once");
    nothing_left(&installation).await;
    installation.remove().await;
}
