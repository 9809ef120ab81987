//! From an event on the bus to a task that can be claimed, at 100 events a second, through the whole program.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "its results go to standard output")]

#[path = "common/database.rs"]
mod database;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/parts.rs"]
mod parts;
#[path = "common/quantile.rs"]
mod quantile;
#[path = "common/services.rs"]
mod services;

use async_nats::jetstream;
use database::Database;
use events::{
    config::{NatsConnection, NatsSourceConfig, StreamConfig},
    nats::JetStreamSource,
};
use measure::print;
use model::{Ids, Offer, SystemClock, SystemIds, WorkerName, ids::QueueName, requirements::ExecutorKind};
use quantile::{median, quantile};
use scheduler::wake::Listener;
use services::required;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use store::Queue;
use tokio_util::sync::CancellationToken;

const EVENTS: usize = 1_000;
const EVERY: Duration = Duration::from_millis(10);
/// How long a waiting worker sleeps when nothing wakes it.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(100);
/// Figures without a warm connection are not what is asked.
const WARM_UP: usize = 50;

#[tokio::main]
async fn main() {
    let url = required("TASKBOT_TEST_NATS_URL");
    let name = format!("BENCH{}", SystemIds.next().simple());
    let client = jetstream::new(async_nats::connect(&url).await.unwrap());
    let config = jetstream::stream::Config {
        name: name.clone(),
        subjects: vec![format!("{name}.>")],
        ..Default::default()
    };
    client.create_stream(config).await.unwrap();
    let database = Database::fresh().await;
    let scheduler = parts::scheduler(database.store.clone()).await;
    // Somebody who could run the tasks: else each of them would have to be told that nobody can.
    let queues = vec![QueueName::from("default")];
    let executors = [ExecutorKind::Container, ExecutorKind::Sandbox].into();
    let offer = Offer { queues, executors, slots: 1, memory_bytes: 1 << 34, cpus: 8, ..Offer::default() };
    database.store.hello(&WorkerName::from("w1"), "1", &offer).await.unwrap();
    let stream = StreamConfig::existing(&name);
    let mut config = NatsSourceConfig::new("bus", NatsConnection::to(&url), stream, "bench");
    config.strip_prefix = Some(name.clone());
    let mut source = JetStreamSource::connect(config, "bench", Arc::new(SystemClock)).await.unwrap();
    source.establish().await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (scheduler, stop) = (scheduler.clone(), stop.clone());
        async move { scheduler.run(vec![Box::new(source)], stop).await }
    });

    let (published, seen) =
        tokio::join!(publish(&client, &name), look(&database, scheduler.wake().queued.listen()));
    stop.cancel();
    running.await.unwrap().unwrap();
    client.delete_stream(&name).await.unwrap();
    let mut latencies: Vec<f64> = (WARM_UP..EVENTS)
        .map(|number| (seen[&item(number)] - published[number]).as_secs_f64() * 1000.0)
        .collect();
    print("event to claimable task, 100/s: p50", median(latencies.clone()), "ms", None);
    print("event to claimable task, 100/s: p99", quantile(&mut latencies, 0.99), "ms", None);
    let tasks: i64 = sqlx::query_scalar("select count(*) from task").fetch_one(&database.pool).await.unwrap();
    assert_eq!(usize::try_from(tasks).unwrap(), EVENTS);
}

/// The item of an event's task.
fn item(number: usize) -> String {
    format!("audit-1.0-{number}.fc42")
}

/// When each was handed to the bus.
async fn publish(client: &jetstream::Context, name: &str) -> Vec<Instant> {
    let mut published = Vec::with_capacity(EVENTS);
    let mut tick = tokio::time::interval(EVERY);
    for number in 0..EVENTS {
        tick.tick().await;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("message-id", format!("event-{number}"));
        published.push(Instant::now());
        let subject = format!("{name}.bench.build.done");
        client.publish_with_headers(subject, headers, parts::body(number).into()).await.unwrap();
    }
    published
}

/// When each task was first seen in its queue, by somebody who is woken as a worker that waits for a task is.
async fn look(database: &Database, mut bell: Listener) -> HashMap<String, Instant> {
    let mut seen = HashMap::with_capacity(EVENTS);
    let mut connection = database.pool.acquire().await.unwrap();
    let (mut all_seen_to, mut beyond) = (0, BTreeSet::new());
    while seen.len() < EVENTS {
        bell.heard(LOOK_AT_LEAST_EVERY).await;
        // Not by the index of what is queued, all of which it would read each time.
        let sql = "select event_seq, item_id from task where event_seq > $1 and state || '' = 'queued'";
        let queued: Vec<(i64, String)> =
            sqlx::query_as(sql).bind(all_seen_to).fetch_all(&mut *connection).await.unwrap();
        let now = Instant::now();
        for (seq, item) in queued {
            seen.entry(item).or_insert(now);
            beyond.insert(seq);
        }
        // Looked for is only what comes after the last before which nothing is missing.
        while beyond.remove(&(all_seen_to + 1)) {
            all_seen_to += 1;
        }
    }
    seen
}
