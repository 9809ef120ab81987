//! Events from JetStream into PostgreSQL, one task each, against a bare program that takes the same messages from
//! the same bus and writes the same rows in the same batches.

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
#[path = "common/rate.rs"]
mod rate;
#[path = "common/rows.rs"]
mod rows;
#[path = "common/services.rs"]
mod services;

use async_nats::jetstream::{self, consumer::pull};
use async_trait::async_trait;
use database::Database;
use events::{
    Delivery, Source, SourceError, SourceHealth,
    config::{NatsConnection, NatsSourceConfig, StreamConfig},
    nats::JetStreamSource,
};
use futures_util::{FutureExt, StreamExt, stream};
use measure::print;
use model::{Ids, SystemClock, SystemIds, ids::SourceName};
use quantile::median;
use rate::rate;
use rows::Rows;
use scheduler::{ingest::run_source, settings::INGEST_BATCH_MAX};
use services::required;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const EVENTS: usize = 10_000;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let url = required("TASKBOT_TEST_NATS_URL");
    let name = format!("BENCH{}", SystemIds.next().simple());
    let client = jetstream::new(async_nats::connect(&url).await.unwrap());
    client
        .create_stream(jetstream::stream::Config {
            name: name.clone(),
            subjects: vec![format!("{name}.>")],
            ..Default::default()
        })
        .await
        .unwrap();
    publish(&client, &name).await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let database = Database::fresh().await;
        ours.push(rate(EVENTS, with_the_scheduler(&url, &name, round, &database).await));
        let rows = Written::read(&database).await;
        let empty = Database::fresh().await;
        bare.push(rate(EVENTS, bare_program(&client, &name, round, &empty, &rows).await));
        let count = "select (select count(*) from event) + (select count(*) from task)";
        let written: i64 = sqlx::query_scalar(count).fetch_one(&empty.pool).await.unwrap();
        assert_eq!(written, 2 * i64::try_from(EVENTS).unwrap());
    }
    client.delete_stream(&name).await.unwrap();
    print("ingest: JetStream to PostgreSQL", median(ours), "events/s", Some(median(bare)));
}

async fn publish(client: &jetstream::Context, name: &str) {
    let send = |number| async move {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("message-id", format!("event-{number}"));
        let subject = format!("{name}.bench.build.done");
        let sent = client.publish_with_headers(subject, headers, parts::body(number).into()).await;
        sent.unwrap().await.unwrap();
    };
    stream::iter(0..EVENTS).map(send).buffered(256).collect::<Vec<()>>().await;
}

/// A source that stops its reader with the last event.
struct Counted {
    source: JetStreamSource,
    left: usize,
    stop: CancellationToken,
}

#[async_trait]
impl Source for Counted {
    fn name(&self) -> &SourceName {
        self.source.name()
    }

    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        let batch = self.source.next_batch(max).await?;
        self.left -= batch.len();
        if self.left == 0 {
            self.stop.cancel();
        }
        Ok(batch)
    }

    fn health(&self) -> watch::Receiver<SourceHealth> {
        self.source.health()
    }

    async fn close(&mut self) {
        self.source.close().await;
    }
}

/// The server's own loop: what is there, at most a batch, judged, written, acknowledged.
async fn with_the_scheduler(url: &str, name: &str, round: usize, database: &Database) -> Duration {
    let stream = StreamConfig::existing(name);
    let mut config = NatsSourceConfig::new("bus", NatsConnection::to(url), stream, format!("ours{round}"));
    config.strip_prefix = Some(name.to_owned());
    let mut source = JetStreamSource::connect(config, "bench", Arc::new(SystemClock)).await.unwrap();
    let scheduler = parts::scheduler(database.store.clone()).await;
    source.establish().await.unwrap();
    let stop = CancellationToken::new();
    let source = Counted { source, left: EVENTS, stop: stop.clone() };
    let begun = Instant::now();
    run_source(scheduler, Box::new(source), stop).await;
    begun.elapsed()
}

/// What the scheduler wrote.
struct Written {
    events: Rows,
    firings: Rows,
    tasks: Rows,
    outbox: Rows,
}

impl Written {
    async fn read(database: &Database) -> Self {
        let pool = &database.pool;
        Self {
            events: Rows::read(pool, "event", "seq", "on conflict (domain, id) do nothing").await,
            firings: Rows::read(pool, "firing", "id", "").await,
            tasks: Rows::read(pool, "task", "event_seq", "on conflict (key) do nothing").await,
            outbox: Rows::read(pool, "outbox", "id", "").await,
        }
    }
}

/// The same messages, parsed, and the same rows, in batches of the same size.
async fn bare_program(
    client: &jetstream::Context,
    name: &str,
    round: usize,
    database: &Database,
    rows: &Written,
) -> Duration {
    let config = pull::Config {
        durable_name: Some(format!("bare{round}")),
        max_ack_pending: 2_000,
        ..Default::default()
    };
    let stream = client.get_stream(name).await.unwrap();
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut messages = consumer.stream().max_messages_per_batch(INGEST_BATCH_MAX).messages().await.unwrap();
    let mut connection = database.pool.acquire().await.unwrap();
    let begun = Instant::now();
    let mut taken = 0;
    while taken < EVENTS {
        let mut batch = vec![messages.next().await.unwrap().unwrap()];
        while batch.len() < INGEST_BATCH_MAX
            && let Some(Some(Ok(more))) = tokio::task::unconstrained(messages.next()).now_or_never()
        {
            batch.push(more);
        }
        for message in &batch {
            let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(body["new"], 1);
        }
        let to = taken + batch.len();
        let mut transaction = sqlx::Connection::begin(&mut *connection).await.unwrap();
        for table in [&rows.events, &rows.firings, &rows.tasks, &rows.outbox] {
            let at = |event: usize| event * table.count / EVENTS;
            table.insert(&mut transaction, at(taken), at(to)).await;
        }
        transaction.commit().await.unwrap();
        for message in batch {
            message.ack().await.unwrap();
        }
        taken = to;
    }
    begun.elapsed()
}
