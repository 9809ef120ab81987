//! A durable pull consumer as a source.

use super::{
    Trouble, connection,
    health::Monitor,
    readback::{
        check_server, context, ensure_consumer, ensure_stream, find_consumer, find_stream, missing_stream,
    },
    unreadable::{self, Unreadable},
};
use crate::{
    cloudevent::own_source,
    config::NatsSourceConfig,
    mapping::{Mapped, Mapping, Received, collect_headers},
    source::{AckError, Acknowledge, Delivery, Source, SourceError, SourceHealth},
};
use async_nats::{
    Client,
    jetstream::{
        AckKind, Context,
        consumer::pull,
        message::{Acker, Info},
    },
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt};
use model::{Clock, SourceName};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// How many messages are asked for at a time, and so kept ready.
const PULL_MESSAGES: usize = 256;
/// How many bytes of messages are asked for at a time. More than the largest message that NATS can carry.
const PULL_BYTES: usize = 96 * 1024 * 1024;
/// How long one request for messages stands.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How often the server gives a sign of life when no message comes; two missed ones mean a lost request.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long an answer about streams and consumers may take.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// The pause after a passing trouble, before the next attempt.
const PASSING_PAUSE: Duration = Duration::from_millis(500);
/// The pause after a refusal, before the next attempt.
const REFUSAL_PAUSE: Duration = Duration::from_secs(5);
/// How long closing may take.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// NATS `JetStream` as a source: one durable pull consumer, shared by all servers of the installation.
///
/// It connects in the background, survives restarts of the server by itself, and makes its consumer again if
/// that was lost. After each loss of the connection it looks for a message that may have caused it: the client
/// drops the connection when it cannot read a message's headers, each time that message comes.
pub struct JetStreamSource {
    config: NatsSourceConfig,
    mapping: Mapping,
    clock: Arc<dyn Clock>,
    client: Client,
    monitor: Arc<Monitor<SourceHealth>>,
    /// The standing request for messages, when there is one.
    messages: Option<pull::Stream>,
    /// How many losses of the connection are dealt with.
    losses: u64,
    /// Messages that the client cannot read, found after a loss of the connection.
    unreadable: Vec<Delivery>,
    /// When the last refusal was.
    refused_at: Option<Instant>,
}

impl std::fmt::Debug for JetStreamSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStreamSource").field("config", &self.config).finish_non_exhaustive()
    }
}

impl JetStreamSource {
    /// Starts connecting, and returns at once. `installation` is the name that the outlets of this
    /// installation carry, so that its own messages are known when they come back.
    ///
    /// # Errors
    /// The configuration cannot work, or names a file that cannot be read.
    pub async fn connect(
        config: NatsSourceConfig,
        installation: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let wrong = |reason| SourceError::Config { source_name: config.name.clone(), reason };
        config.check().map_err(wrong)?;
        let monitor = Monitor::new();
        let name = format!("taskbot {installation} source {}", config.name);
        let client = connection::connect(&config.connection, &name, &monitor).await.map_err(wrong)?;
        let mapping = mapping(&config, installation);
        Ok(Self {
            config,
            mapping,
            clock,
            client,
            monitor,
            messages: None,
            losses: 0,
            unreadable: Vec::new(),
            refused_at: None,
        })
    }

    /// Waits until the server is there, and the stream and the consumer are as configured.
    ///
    /// # Errors
    /// See [`Source::next_batch`].
    pub async fn establish(&mut self) -> Result<(), SourceError> {
        if let Some(refused_at) = self.refused_at {
            tokio::time::sleep_until(refused_at + REFUSAL_PAUSE).await;
        }
        while self.messages.is_none() {
            self.monitor.linked().await;
            let losses = self.monitor.losses();
            match self.try_establish(losses).await {
                Ok((messages, unreadable)) => {
                    self.messages = Some(messages);
                    self.unreadable.extend(unreadable);
                    self.losses = losses;
                    self.refused_at = None;
                    self.monitor.ready();
                }
                Err(Trouble::Passing(reason)) => {
                    tracing::warn!(source = %self.config.name, reason, "the source is not ready yet");
                    self.monitor.not_ready(&reason);
                    tokio::time::sleep(PASSING_PAUSE).await;
                }
                Err(Trouble::Refusal(reason)) => {
                    self.monitor.not_ready(&reason);
                    self.refused_at = Some(Instant::now());
                    return Err(SourceError::Refused { source_name: self.config.name.clone(), reason });
                }
            }
        }
        Ok(())
    }

    /// Says how the server, the stream and the consumer are, and makes none of them.
    ///
    /// # Errors
    /// The server is too old, or what it has is not as configured. Waits for a server that is away.
    pub async fn inspect(&self) -> Result<String, SourceError> {
        self.monitor.linked().await;
        self.try_inspect().await.map_err(|trouble| {
            let (Trouble::Passing(reason) | Trouble::Refusal(reason)) = trouble;
            SourceError::Refused { source_name: self.config.name.clone(), reason }
        })
    }

    async fn try_inspect(&self) -> Result<String, Trouble> {
        check_server(&self.client)?;
        let Some(stream) = find_stream(&context(&self.client, REQUEST_WAIT), &self.config.stream).await?
        else {
            return missing_stream(&self.config.stream);
        };
        let (name, durable) = (&self.config.stream.name, &self.config.durable);
        Ok(if find_consumer(&stream, &self.config).await? {
            format!("stream {name} and consumer {durable} are as configured")
        } else {
            format!("stream {name} is as configured; consumer {durable} will be made by the first start")
        })
    }

    async fn try_establish(&self, losses: u64) -> Result<(pull::Stream, Vec<Delivery>), Trouble> {
        check_server(&self.client)?;
        let context = context(&self.client, REQUEST_WAIT);
        let stream = ensure_stream(&context, &self.config.stream).await?;
        let consumer = ensure_consumer(&stream, &self.config).await?;
        let pending = consumer.cached_info().num_pending;
        self.monitor.update(|health| health.pending = pending);
        let mut unreadable = Vec::new();
        if losses > self.losses {
            let found = unreadable::find(&context, consumer.cached_info(), &self.config.filters).await?;
            unreadable.extend(found.into_iter().map(|message| self.unreadable(&context, message)));
        }
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL_MESSAGES)
            .max_bytes_per_batch(PULL_BYTES)
            .expires(PULL_EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(|error| Trouble::Passing(format!("cannot ask for messages: {error}")))?;
        Ok((messages, unreadable))
    }

    fn unreadable(&self, context: &Context, message: Unreadable) -> Delivery {
        tracing::warn!(source = %self.config.name, sequence = message.sequence, "found a message that cannot be read");
        let handle = Handle(Acker::new(context.clone(), Some(message.reply(&self.config).into())));
        let received_at = self.clock.now();
        let received = Received {
            subject: message.subject,
            headers: collect_headers(
                message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            ),
            payload: message.payload,
            stored_at: None,
            received_at,
        };
        let (malformed, own) = self.mapping.malformed(&received, message.reason);
        Delivery {
            content: Err(malformed),
            body: serde_json::Value::Null,
            deliveries: 1,
            position: Some(message.sequence),
            own,
            handle: Box::new(handle),
        }
    }

    fn delivery(&self, message: async_nats::jetstream::Message) -> Delivery {
        // A message without a readable reply subject cannot come from a consumer; it counts as a first delivery.
        let info = message.info().ok();
        let deliveries = info.as_ref().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
        let position = info.as_ref().map(|info| info.stream_sequence);
        let stored_at = info.as_ref().and_then(stored_at);
        let pending = info.as_ref().map_or(0, |info| info.pending);
        let received_at = self.clock.now();
        self.monitor.update(|health| {
            health.last_message_at = Some(received_at);
            health.pending = pending;
            health.redelivered += u64::from(deliveries > 1);
        });
        let (message, acker) = message.split();
        let Mapped { content, body, own } = self.mapping.map(received(message, stored_at, received_at));
        Delivery { content, body, deliveries, position, own, handle: Box::new(Handle(acker)) }
    }
}

/// How the messages of a source become events.
pub(super) fn mapping(config: &NatsSourceConfig, installation: &str) -> Mapping {
    Mapping {
        source: config.name.clone(),
        domain: config.domain.clone().unwrap_or_else(|| config.name.clone()),
        form: config.form,
        strip_prefix: config.strip_prefix.clone(),
        own_source: own_source(installation),
    }
}

/// When the stream stored a message.
pub(super) fn stored_at(info: &Info<'_>) -> Option<DateTime<Utc>> {
    let nanos = i64::try_from(info.published.unix_timestamp_nanos()).ok()?;
    Some(DateTime::from_timestamp_nanos(nanos))
}

/// A message without the client's types.
pub(super) fn received(
    message: async_nats::Message,
    stored_at: Option<DateTime<Utc>>,
    received_at: DateTime<Utc>,
) -> Received {
    let pairs = message.headers.iter().flat_map(|headers| headers.iter()).flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value.as_str()))
    });
    let headers = collect_headers(pairs);
    let subject = message.subject.to_string();
    Received { subject, headers, payload: message.payload, stored_at, received_at }
}

#[async_trait]
impl Source for JetStreamSource {
    fn name(&self) -> &SourceName {
        &self.config.name
    }

    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, SourceError> {
        loop {
            self.establish().await?;
            if !self.unreadable.is_empty() {
                return Ok(std::mem::take(&mut self.unreadable));
            }
            let Some(messages) = self.messages.as_mut() else { continue };
            let next = tokio::select! {
                // What already came in goes first.
                biased;
                next = messages.next() => next,
                () = self.monitor.lost_since(self.losses) => {
                    self.messages = None;
                    continue;
                }
            };
            let reason = match next {
                Some(Ok(first)) => {
                    let mut taken = vec![first];
                    // Outside of tokio's budget for one turn, which would cut batches short.
                    while taken.len() < max
                        && let Some(Some(Ok(more))) =
                            tokio::task::unconstrained(messages.next()).now_or_never()
                    {
                        taken.push(more);
                    }
                    return Ok(taken.into_iter().map(|message| self.delivery(message)).collect());
                }
                Some(Err(error)) => error.to_string(),
                None => "the request for messages ended".to_owned(),
            };
            // What the lost request had in store comes again after `ack_wait`.
            tracing::warn!(source = %self.config.name, reason, "asking for messages anew");
            self.messages = None;
            self.monitor.not_ready(&reason);
            tokio::time::sleep(PASSING_PAUSE).await;
        }
    }

    fn health(&self) -> watch::Receiver<SourceHealth> {
        self.monitor.watch()
    }

    async fn close(&mut self) {
        self.messages = None;
        if !matches!(tokio::time::timeout(CLOSE_WAIT, self.client.flush()).await, Ok(Ok(()))) {
            tracing::warn!(source = %self.config.name, "the bus did not answer when it was left; messages whose acknowledgement was under way come again");
        }
    }
}

/// Tells the server about one delivery. Not confirmed by the server: what gets lost comes again.
struct Handle(Acker);

impl Handle {
    async fn tell(&self, kind: AckKind) -> Result<(), AckError> {
        self.0.ack_with(kind).await.map_err(|error| AckError(error.to_string()))
    }
}

#[async_trait]
impl Acknowledge for Handle {
    async fn ack(&self) -> Result<(), AckError> {
        self.tell(AckKind::Ack).await
    }

    async fn retry(&self, delay: Duration) -> Result<(), AckError> {
        self.tell(AckKind::Nak(Some(delay))).await
    }

    async fn progress(&self) -> Result<(), AckError> {
        self.tell(AckKind::Progress).await
    }

    async fn discard(&self) -> Result<(), AckError> {
        self.tell(AckKind::Term).await
    }
}
