//! Mixed events through two servers and two workers: exactly the expected tasks.

use crate::{
    load::{Load, RULES},
    support::{
        engine,
        environment::{seed, sized},
        installation::{Installation, Plan},
        repository::task_file,
    },
    verify::{nothing_left, settled, verify},
};
use std::time::Instant;

/// How many events: 2,000, in full 10,000.
const EVENTS: (usize, usize) = (2_000, 10_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_events_lead_to_exactly_the_expected_tasks() {
    let load = Load::generate(seed("mixed"), sized(EVENTS.0, EVENTS.1));
    let cheap = task_file("cheap", "local: {}", "test \"$TASKBOT_INPUT_NVR\" != none");
    let container = format!("container: {{image: \"{}\"}}", engine::image());
    let boxed = task_file("boxed", &container, "test \"$TASKBOT_INPUT_NVR\" != none");
    let plan = Plan {
        servers: 2,
        workers: 2,
        slots: 4,
        rules: &[("drill.yaml", RULES)],
        repositories: &[("cheap", &[("task.yaml", &cheap)]), ("boxed", &[("task.yaml", &boxed)])],
        ..Plan::default()
    };
    let installation = Installation::start(&plan).await;
    let begun = Instant::now();
    // What no client library would send, amid the others.
    let (first, rest) = load.publications.split_at(load.publications.len() / 2);
    installation.bus.publish(first.iter().cloned()).await;
    installation.bus.publish(rest.iter().cloned()).await;
    let published = begun.elapsed();
    settled(&installation, &load).await;
    println!(
        "drill mixed: {} publications in {published:?}, {} events, {} tasks and {} dead letters settled after {:?}",
        load.publications.len(),
        load.events.len(),
        load.tasks.len(),
        load.dead.len(),
        begun.elapsed()
    );
    verify(&installation, &load).await;
    nothing_left(&installation).await;
    installation.remove().await;
}
