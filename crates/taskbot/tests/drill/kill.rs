//! `kill -9` of servers at random moments, and of workers in the middle of tasks.

use crate::{
    load::{Load, RULES},
    support::{
        database::Database,
        engine,
        environment::{seed, sized},
        installation::{Installation, Plan},
        program::Program,
        random::Random,
        repository::task_file,
        wait::until,
    },
    verify::{nothing_left, settled, verify},
};
use std::time::Instant;

/// How many events, in full more.
const EVENTS: (usize, usize) = (2_000, 10_000);
/// How often a server is killed.
const SERVER_KILLS: (usize, usize) = (8, 25);
/// How often a worker is killed.
const WORKER_KILLS: (usize, usize) = (4, 12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_servers_and_workers_lose_nothing_and_double_nothing() {
    let seed = seed("kill");
    let load = Load::generate(seed, sized(EVENTS.0, EVENTS.1));
    // Long enough to be met in the middle; what it starts must not outlive it.
    let cheap = task_file("cheap", "local: {}", "sleep 0.3 & wait\ntest \"$TASKBOT_INPUT_NVR\" != none");
    let container = format!("container: {{image: \"{}\"}}", engine::image());
    let boxed = task_file("boxed", &container, "sleep 1");
    let plan = Plan {
        servers: 2,
        workers: 2,
        slots: 6,
        rules: &[("drill.yaml", RULES)],
        repositories: &[("cheap", &[("task.yaml", &cheap)]), ("boxed", &[("task.yaml", &boxed)])],
        ..Plan::default()
    };
    let mut installation = Installation::start(&plan).await;
    let begun = Instant::now();
    let Installation { bus, servers, workers, database, .. } = &mut installation;
    tokio::join!(
        bus.publish(load.publications.iter().cloned()),
        kill_servers(servers, Random::new(seed ^ 1)),
        kill_workers(workers, database, Random::new(seed ^ 2)),
    );
    let quiet = Instant::now();
    installation.ready().await;
    settled(&installation, &load).await;
    println!(
        "drill kill: {} tasks; faults for {:?}, settled {:?} later",
        load.tasks.len(),
        quiet - begun,
        quiet.elapsed()
    );
    verify(&installation, &load).await;
    nothing_left(&installation).await;
    installation.remove().await;
}

/// Kills servers and starts them again.
async fn kill_servers(servers: &mut [Program], mut random: Random) {
    for _ in 0..sized(SERVER_KILLS.0, SERVER_KILLS.1) {
        // The fault's own moment, not a wait for something.
        tokio::time::sleep(random.between_ms(50, 900)).await;
        let server = random.below(servers.len());
        servers[server].kill();
        servers[server].start();
    }
}

/// Kills workers while they run tasks, and starts them again; the last one not before its tasks were given away.
async fn kill_workers(workers: &mut [Program], database: &Database, mut random: Random) {
    let kills = sized(WORKER_KILLS.0, WORKER_KILLS.1);
    for kill in 1..=kills {
        let victim = until("a worker runs tasks", async || {
            let running: Vec<(String, String)> = database
                .rows("select worker, phase from task where state = 'running' and phase <> 'resolve'")
                .await;
            (!running.is_empty()).then(|| running[random.below(running.len())].0.clone())
        })
        .await;
        tokio::time::sleep(random.between_ms(1, 300)).await;
        let worker = workers.iter_mut().find(|worker| worker.name == victim).expect("the worker is ours");
        worker.kill();
        if kill == kills {
            until("a dead worker's tasks are given away", async || {
                (database.running_on(&victim).await == 0).then_some(())
            })
            .await;
        }
        worker.start();
    }
}
