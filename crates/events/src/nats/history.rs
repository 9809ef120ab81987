//! What a stream still holds, read once: for judging the past again.
//!
//! It only looks: an ephemeral consumer of its own is asked, so that the source's consumer keeps its place.

use super::{
    Trouble, connection,
    health::Monitor,
    readback::{check_server, context, find_stream, missing_stream},
    source::{mapping, received, stored_at},
};
use crate::{
    config::NatsSourceConfig,
    mapping::{Mapped, Mapping},
    source::{SourceError, SourceHealth},
};
use async_nats::{
    Client,
    jetstream::{
        consumer::{DeliverPolicy, ReplayPolicy, pull},
        stream::Stream,
    },
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt};
use std::time::Duration;

/// How long a server is waited for, and how long the next message.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer about the stream may take.
const REQUEST_WAIT: Duration = Duration::from_secs(5);

/// The messages of a source's stream, the oldest first, up to the last one that was there at the beginning.
pub struct JetStreamHistory {
    config: NatsSourceConfig,
    mapping: Mapping,
    /// Ends with this; the messages come by it.
    _client: Client,
    messages: pull::Ordered,
    /// How many are still to come.
    left: u64,
}

impl std::fmt::Debug for JetStreamHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStreamHistory").field("config", &self.config).finish_non_exhaustive()
    }
}

impl JetStreamHistory {
    /// Begins with the first message that the stream stored at or after `since`, or the first that it has.
    ///
    /// # Errors
    /// The configuration cannot work, the server does not answer, or it has no such stream.
    pub async fn open(
        config: NatsSourceConfig,
        installation: &str,
        since: Option<DateTime<Utc>>,
    ) -> Result<Self, SourceError> {
        let wrong = |reason| SourceError::Config { source_name: config.name.clone(), reason };
        config.check().map_err(wrong)?;
        let monitor = Monitor::<SourceHealth>::new();
        let name = format!("taskbot {installation} history of {}", config.name);
        let client = connection::connect(&config.connection, &name, &monitor).await.map_err(wrong)?;
        let opened = tokio::time::timeout(PATIENCE, async {
            monitor.linked().await;
            ask(&client, &config, since).await
        });
        let servers = config.connection.servers.join(", ");
        let late = || Trouble::Passing(format!("no answer from {servers} within {} s", PATIENCE.as_secs()));
        let opened = opened.await.map_err(|_| late()).flatten();
        let (messages, left) = opened.map_err(|trouble| refused(&config, trouble))?;
        let mapping = mapping(&config, installation);
        Ok(Self { config, mapping, _client: client, messages, left })
    }

    /// How many messages are still to come.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// The next messages, at most so many; none at the end. An event counts as received when the stream stored it.
    ///
    /// # Errors
    /// The server went away, or gives no more messages though there are some.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Mapped>, SourceError> {
        let mut batch = Vec::new();
        while self.left > 0 && batch.len() < max {
            let next = if batch.is_empty() {
                let next = tokio::time::timeout(PATIENCE, self.messages.next()).await;
                next.map_err(|_| {
                    let (left, seconds) = (self.left, PATIENCE.as_secs());
                    let reason = format!("{left} messages are left, and none came for {seconds} s");
                    refused(&self.config, Trouble::Passing(reason))
                })?
            } else {
                // What is there already.
                match self.messages.next().now_or_never() {
                    Some(next) => next,
                    None => break,
                }
            };
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(refused(&self.config, Trouble::Passing(error.to_string()))),
                None => break,
            };
            let (pending, at) = message
                .info()
                .map_or((self.left - 1, None), |info| (info.pending.min(self.left - 1), stored_at(&info)));
            self.left = pending;
            let received_at = at.unwrap_or(DateTime::UNIX_EPOCH);
            batch.push(self.mapping.map(received(message.split().0, at, received_at)));
        }
        Ok(batch)
    }
}

async fn ask(
    client: &Client,
    config: &NatsSourceConfig,
    since: Option<DateTime<Utc>>,
) -> Result<(pull::Ordered, u64), Trouble> {
    check_server(client)?;
    let Some(stream) = find_stream(&context(client, REQUEST_WAIT), &config.stream).await? else {
        return Err(match missing_stream(&config.stream) {
            Err(trouble) => trouble,
            Ok(words) => Trouble::Refusal(words),
        });
    };
    messages(&stream, config, since).await
}

async fn messages(
    stream: &Stream,
    config: &NatsSourceConfig,
    since: Option<DateTime<Utc>>,
) -> Result<(pull::Ordered, u64), Trouble> {
    // A single filter goes where every server looks for it.
    let (filter_subject, filter_subjects) = match config.filters.as_slice() {
        [one] => (one.clone(), Vec::new()),
        several => (String::new(), several.to_vec()),
    };
    let nanos = since.and_then(|since| since.timestamp_nanos_opt());
    let start = nanos.and_then(|nanos| async_nats::datetime::from_nanos(nanos.into()).ok());
    let asked = pull::OrderedConfig {
        filter_subject,
        filter_subjects,
        replay_policy: ReplayPolicy::Instant,
        deliver_policy: start
            .map_or(DeliverPolicy::All, |start_time| DeliverPolicy::ByStartTime { start_time }),
        ..pull::OrderedConfig::default()
    };
    let consumer = stream
        .create_consumer(asked)
        .await
        .map_err(|error| Trouble::Refusal(format!("cannot read stream {}: {error}", config.stream.name)))?;
    let left = consumer.cached_info().num_pending;
    let messages = consumer.messages().await;
    Ok((messages.map_err(|error| Trouble::Passing(format!("cannot ask for messages: {error}")))?, left))
}

fn refused(config: &NatsSourceConfig, trouble: Trouble) -> SourceError {
    let (Trouble::Passing(reason) | Trouble::Refusal(reason)) = trouble;
    SourceError::Refused { source_name: config.name.clone(), reason }
}
