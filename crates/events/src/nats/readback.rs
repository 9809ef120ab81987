//! Streams and consumers: made when missing, read back, and compared with what was asked for.

use super::{Trouble, version::Version};
use crate::config::{NatsSourceConfig, Start, StreamConfig};
use async_nats::{
    Client,
    jetstream::{
        self, Context, ErrorCode,
        consumer::{
            self, AckPolicy, Consumer, DeliverPolicy, ReplayPolicy,
            pull::{self, Config as PullConfig},
        },
        context::{ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind},
        stream::{self, ConsumerCreateStrictErrorKind, DiscardPolicy, RetentionPolicy, StorageType, Stream},
    },
};
use std::{fmt::Debug, time::Duration};

/// A field that the server stored otherwise than asked.
#[derive(Debug, PartialEq, Eq)]
struct Difference(String);

/// Collects the fields that differ.
fn compare<T: PartialEq + Debug>(differences: &mut Vec<Difference>, field: &str, asked: &T, stored: &T) {
    if asked != stored {
        differences.push(Difference(format!("`{field}` is {stored:?}, asked was {asked:?}")));
    }
}

fn refuse(what: &str, differences: &[Difference], mend: &str) -> Result<(), Trouble> {
    if differences.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = differences.iter().map(|difference| difference.0.as_str()).collect();
    Err(Trouble::Refusal(format!("{what} is not as configured: {}; {mend}", list.join("; "))))
}

/// Checks the server's version and that it has `JetStream`.
pub(super) fn check_server(client: &Client) -> Result<Version, Trouble> {
    let info = client.server_info();
    let version = Version::check(&info.version).map_err(Trouble::Refusal)?;
    if !info.jetstream {
        return Err(Trouble::Refusal(format!(
            "nats-server {version} runs without JetStream: start it with `jetstream {{}}` in its configuration"
        )));
    }
    Ok(version)
}

/// Finds the stream, or creates it if it is ours; compares what the server stored.
pub(super) async fn ensure_stream(context: &Context, config: &StreamConfig) -> Result<Stream, Trouble> {
    match find_stream(context, config).await? {
        Some(stream) => Ok(stream),
        None => {
            let stream = create_stream(context, config).await?;
            compare_stream(config, &stream)?;
            Ok(stream)
        }
    }
}

/// Finds the stream, and compares what the server stored; nothing when it is not there.
pub(super) async fn find_stream(context: &Context, config: &StreamConfig) -> Result<Option<Stream>, Trouble> {
    let name = &config.name;
    match context.get_stream(name).await {
        Ok(stream) => {
            compare_stream(config, &stream)?;
            Ok(Some(stream))
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(None)
            }
            _ => Err(Trouble::Passing(format!("cannot look at stream {name}: {error}"))),
        },
    }
}

/// What a look at a stream says, without making it.
pub(super) fn missing_stream(config: &StreamConfig) -> Result<String, Trouble> {
    if config.create {
        return Ok(format!("stream {} will be made by the first start", config.name));
    }
    Err(no_stream(config))
}

fn no_stream(config: &StreamConfig) -> Trouble {
    let name = &config.name;
    Trouble::Refusal(format!(
        "stream {name} does not exist; create it, correct its name, or set `create: true`"
    ))
}

fn compare_stream(config: &StreamConfig, stream: &Stream) -> Result<(), Trouble> {
    if !config.create {
        return Ok(());
    }
    let differences = stream_differences(&stream_config(config), &stream.cached_info().config);
    let mend = "change the configuration, or the stream by `nats stream edit`";
    refuse(&format!("stream {}", config.name), &differences, mend)
}

async fn create_stream(context: &Context, config: &StreamConfig) -> Result<Stream, Trouble> {
    let name = &config.name;
    if !config.create {
        return Err(no_stream(config));
    }
    match context.create_stream(stream_config(config)).await {
        Ok(stream) => {
            tracing::info!(stream = name, subjects = ?config.subjects, "created the stream");
            Ok(stream)
        }
        Err(error) => match error.kind() {
            // Another server was faster with other settings: the comparison says so.
            CreateStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                Err(Trouble::Passing(format!("stream {name} was created by somebody else just now")))
            }
            CreateStreamErrorKind::JetStream(cause) => {
                Err(Trouble::Refusal(format!("cannot create stream {name}: {cause}")))
            }
            _ => Err(Trouble::Passing(format!("cannot create stream {name}: {error}"))),
        },
    }
}

fn stream_config(config: &StreamConfig) -> stream::Config {
    stream::Config {
        name: config.name.clone(),
        subjects: config.subjects.clone(),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_age: config.max_age,
        max_bytes: config.max_bytes.unwrap_or(-1),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        duplicate_window: config.duplicate_window.min(config.max_age),
        num_replicas: config.replicas,
        ..stream::Config::default()
    }
}

fn stream_differences(asked: &stream::Config, stored: &stream::Config) -> Vec<Difference> {
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects
    };
    let mut all = Vec::new();
    compare(&mut all, "subjects", &sorted(&asked.subjects), &sorted(&stored.subjects));
    compare(&mut all, "retention", &asked.retention, &stored.retention);
    compare(&mut all, "discard", &asked.discard, &stored.discard);
    compare(&mut all, "storage", &asked.storage, &stored.storage);
    compare(&mut all, "max_age", &asked.max_age, &stored.max_age);
    compare(&mut all, "max_bytes", &asked.max_bytes, &stored.max_bytes);
    compare(&mut all, "max_msgs", &asked.max_messages, &stored.max_messages);
    compare(&mut all, "duplicate_window", &asked.duplicate_window, &stored.duplicate_window);
    compare(&mut all, "replicas", &asked.num_replicas, &stored.num_replicas);
    compare(&mut all, "no_ack", &asked.no_ack, &stored.no_ack);
    compare(&mut all, "sealed", &asked.sealed, &stored.sealed);
    all
}

/// Finds the durable consumer or creates it; compares what the server stored.
pub(super) async fn ensure_consumer(
    stream: &Stream,
    config: &NatsSourceConfig,
) -> Result<Consumer<PullConfig>, Trouble> {
    let name = &config.durable;
    if !find_consumer(stream, config).await? {
        let info = create_consumer(stream, consumer_config(config)).await?;
        compare_consumer(config, &info)?;
    }
    stream
        .get_consumer(name)
        .await
        .map_err(|error| Trouble::Passing(format!("cannot look at consumer {name}: {error}")))
}

/// Whether the durable consumer is there; compares what the server stored.
pub(super) async fn find_consumer(stream: &Stream, config: &NatsSourceConfig) -> Result<bool, Trouble> {
    let name = &config.durable;
    match stream.consumer_info(name).await {
        Ok(info) => compare_consumer(config, &info).map(|()| true),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(false),
        Err(error) => Err(Trouble::Passing(format!("cannot look at consumer {name}: {error}"))),
    }
}

fn compare_consumer(config: &NatsSourceConfig, info: &consumer::Info) -> Result<(), Trouble> {
    let differences = consumer_differences(&consumer_config(config), &info.config);
    let mend = "change the configuration, or the consumer by `nats consumer edit`, or remove it";
    refuse(&format!("consumer {} of stream {}", config.durable, config.stream.name), &differences, mend)
}

async fn create_consumer(stream: &Stream, wanted: PullConfig) -> Result<consumer::Info, Trouble> {
    let name = wanted.durable_name.clone().unwrap_or_default();
    match stream.create_consumer_strict(wanted).await {
        Ok(consumer) => {
            tracing::info!(consumer = name, "created the consumer");
            Ok(consumer.cached_info().clone())
        }
        Err(error) => match error.kind() {
            ConsumerCreateStrictErrorKind::AlreadyExists => {
                Err(Trouble::Passing(format!("consumer {name} was created by somebody else just now")))
            }
            ConsumerCreateStrictErrorKind::JetStream(cause) => {
                Err(Trouble::Refusal(format!("cannot create consumer {name}: {cause}")))
            }
            _ => Err(Trouble::Passing(format!("cannot create consumer {name}: {error}"))),
        },
    }
}

fn consumer_config(config: &NatsSourceConfig) -> PullConfig {
    // A single filter goes where every server looks for it.
    let (filter_subject, filter_subjects) = match config.filters.as_slice() {
        [one] => (one.clone(), Vec::new()),
        several => (String::new(), several.to_vec()),
    };
    let mut backoff: Vec<Duration> = Vec::new();
    if !config.backoff.is_empty() {
        // The first step takes the place of `ack_wait`.
        backoff.push(config.ack_wait);
        backoff.extend(&config.backoff);
    }
    PullConfig {
        durable_name: Some(config.durable.clone()),
        deliver_policy: match config.start {
            Start::All => DeliverPolicy::All,
            Start::New => DeliverPolicy::New,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: config.ack_wait,
        // Whether a message is given up is decided by who takes it in, with its bytes stored.
        max_deliver: -1,
        max_ack_pending: i64::from(config.max_ack_pending),
        filter_subject,
        filter_subjects,
        replay_policy: ReplayPolicy::Instant,
        backoff,
        ..pull::Config::default()
    }
}

fn consumer_differences(asked: &PullConfig, stored: &consumer::Config) -> Vec<Difference> {
    let mut all = Vec::new();
    compare(&mut all, "deliver_subject", &None, &stored.deliver_subject);
    compare(&mut all, "deliver_policy", &asked.deliver_policy, &stored.deliver_policy);
    compare(&mut all, "ack_policy", &asked.ack_policy, &stored.ack_policy);
    compare(&mut all, "ack_wait", &asked.ack_wait, &stored.ack_wait);
    compare(&mut all, "max_deliver", &asked.max_deliver, &stored.max_deliver);
    compare(&mut all, "max_ack_pending", &asked.max_ack_pending, &stored.max_ack_pending);
    compare(&mut all, "filter_subject", &asked.filter_subject, &stored.filter_subject);
    compare(&mut all, "filter_subjects", &asked.filter_subjects, &stored.filter_subjects);
    compare(&mut all, "replay_policy", &asked.replay_policy, &stored.replay_policy);
    compare(&mut all, "headers_only", &asked.headers_only, &stored.headers_only);
    compare(&mut all, "backoff", &asked.backoff, &stored.backoff);
    all
}

/// The `JetStream` context of a connection, whose requests end within the time.
pub(super) fn context(client: &Client, wait: Duration) -> Context {
    jetstream::ContextBuilder::new().timeout(wait).backpressure_on_inflight(true).build(client.clone())
}
