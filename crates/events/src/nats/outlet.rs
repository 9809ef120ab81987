//! A stream as an outlet.

mod encode;

use super::{
    Trouble, connection,
    health::Monitor,
    readback::{check_server, context, ensure_stream, find_stream, missing_stream},
};
use crate::{
    config::NatsOutletConfig,
    outlet::{Outlet, OutletError, OutletHealth},
};
use async_nats::{
    Client, HeaderMap,
    connection::State,
    header::NATS_MESSAGE_ID,
    jetstream::{Context, context::PublishErrorKind, message::PublishMessage},
};
use async_trait::async_trait;
use encode::{Encoded, Encoder};
use futures_util::StreamExt;
use model::{Clock, message::Message};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Mutex, watch};

/// How many messages are in flight at a time.
const PUBLISH_IN_FLIGHT_MAX: usize = 256;

/// NATS `JetStream` as an outlet: `CloudEvents` in binary mode, each stored by the stream before it counts.
pub struct JetStreamOutlet {
    config: NatsOutletConfig,
    clock: Arc<dyn Clock>,
    client: Client,
    context: Context,
    monitor: Arc<Monitor<OutletHealth>>,
    /// The largest message that the stream takes, once the stream was found to be right.
    stream_bytes_max: Mutex<Option<usize>>,
}

impl std::fmt::Debug for JetStreamOutlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JetStreamOutlet").field("config", &self.config).finish_non_exhaustive()
    }
}

impl JetStreamOutlet {
    /// Starts connecting, and returns at once.
    ///
    /// # Errors
    /// The configuration cannot work, or names a file that cannot be read.
    pub async fn connect(config: NatsOutletConfig, clock: Arc<dyn Clock>) -> Result<Self, OutletError> {
        config.check().map_err(OutletError::Refused)?;
        let monitor = Monitor::new();
        let name = format!("taskbot {} outlet", config.installation);
        let client = connection::connect(&config.connection, &name, &monitor).await;
        let client = client.map_err(OutletError::Refused)?;
        let context = context(&client, config.publish_wait);
        Ok(Self { config, clock, client, context, monitor, stream_bytes_max: Mutex::new(None) })
    }

    /// Waits until the server is there and the stream is as configured, for at most the configured time.
    ///
    /// # Errors
    /// The server is away, too old, or its stream is another than the configured one.
    pub async fn establish(&self) -> Result<(), OutletError> {
        self.limit().await.map(|_| ())
    }

    /// Says how the server and the stream are, and makes neither.
    ///
    /// # Errors
    /// The server is too old, or the stream is another than the configured one. Waits for a server that is away.
    pub async fn inspect(&self) -> Result<String, OutletError> {
        self.monitor.linked().await;
        let look = async {
            check_server(&self.client)?;
            match find_stream(&self.context, &self.config.stream).await? {
                Some(_) => Ok(format!("stream {} is as configured", self.config.stream.name)),
                None => missing_stream(&self.config.stream),
            }
        };
        look.await.map_err(|trouble: Trouble| {
            let (Trouble::Passing(reason) | Trouble::Refusal(reason)) = trouble;
            OutletError::Refused(reason)
        })
    }

    /// The largest message in bytes, headers included, that the server and the stream take.
    async fn limit(&self) -> Result<usize, OutletError> {
        let wait = self.config.publish_wait;
        let ready = async {
            self.monitor.linked().await;
            let mut known = self.stream_bytes_max.lock().await;
            let stream_bytes_max = match *known {
                Some(bytes) => bytes,
                None => *known.insert(self.check_stream().await?),
            };
            Ok(stream_bytes_max.min(self.client.max_payload()))
        };
        let trouble = match tokio::time::timeout(wait, ready).await {
            Ok(Ok(limit)) => return Ok(limit),
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::Passing(format!("no server within {wait:?}")),
        };
        Err(match trouble {
            Trouble::Passing(reason) => {
                self.monitor.note(&reason);
                OutletError::Unavailable(reason)
            }
            Trouble::Refusal(reason) => {
                self.monitor.not_ready(&reason);
                OutletError::Refused(reason)
            }
        })
    }

    async fn check_stream(&self) -> Result<usize, Trouble> {
        check_server(&self.client)?;
        let stream = ensure_stream(&self.context, &self.config.stream).await?;
        let stored = &stream.cached_info().config;
        if stored.no_ack {
            let name = &self.config.stream.name;
            return Err(Trouble::Refusal(format!("stream {name} does not acknowledge (`no_ack`)")));
        }
        self.monitor.ready();
        Ok(usize::try_from(stored.max_message_size).ok().filter(|bytes| *bytes > 0).unwrap_or(usize::MAX))
    }

    /// Publishes the messages of one order key (the group names their places), one after the other.
    async fn publish_in_order(
        &self,
        messages: &[Message],
        group: Vec<usize>,
        limit: usize,
        away: &AtomicBool,
    ) -> Vec<(usize, Result<(), OutletError>)> {
        let mut results = Vec::with_capacity(group.len());
        let mut failed = false;
        for at in group {
            let result = if failed {
                Err(OutletError::Held)
            } else if away.load(Ordering::Relaxed) || self.client.connection_state() != State::Connected {
                // Not handed to the client, which would keep it and send it at some later time.
                Err(OutletError::Unavailable("the connection is lost".to_owned()))
            } else {
                self.publish_one(&messages[at], limit).await
            };
            if let Err(error) = &result {
                failed = true;
                away.fetch_or(matches!(error, OutletError::Unavailable(_)), Ordering::Relaxed);
            }
            results.push((at, result));
        }
        results
    }

    async fn publish_one(&self, message: &Message, limit: usize) -> Result<(), OutletError> {
        let encoder = Encoder {
            installation: &self.config.installation,
            subject_prefix: self.config.subject_prefix.as_deref(),
            dataref_base: self.config.dataref_base.as_deref(),
        };
        let Encoded { subject, headers, payload, id, shortened } = encoder.encode(message, limit);
        if shortened {
            tracing::warn!(id, limit, "shortened a message that is too large for the bus");
            self.monitor.update(|health| health.shortened += 1);
        }
        let mut map = HeaderMap::new();
        map.insert(NATS_MESSAGE_ID, id.as_str());
        for (name, value) in &headers {
            map.insert(*name, value.as_str());
        }
        let publish = PublishMessage::build().payload(payload.into()).headers(map);
        let publish = publish.expected_stream(&self.config.stream.name);
        let stored = match self.context.send_publish(subject.clone(), publish).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(_) => {
                let now = self.clock.now();
                self.monitor.update(|health| health.last_published_at = Some(now));
                Ok(())
            }
            Err(error) => Err(self.failed(&subject, &error).await),
        }
    }

    async fn failed(
        &self,
        subject: &str,
        error: &async_nats::jetstream::context::PublishError,
    ) -> OutletError {
        use std::error::Error;
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        match error.kind() {
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
                OutletError::Unavailable(format!("{error}{cause}"))
            }
            kind => {
                // The stream may be gone or changed: it is looked at again before the next batch.
                *self.stream_bytes_max.lock().await = None;
                if kind == PublishErrorKind::StreamNotFound {
                    return OutletError::Refused(format!(
                        "no stream takes subject {subject}; add it to the subjects of stream {}",
                        self.config.stream.name
                    ));
                }
                OutletError::Refused(format!("subject {subject}: {error}{cause}"))
            }
        }
    }
}

#[async_trait]
impl Outlet for JetStreamOutlet {
    fn name(&self) -> &str {
        &self.config.stream.name
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), OutletError>> {
        if messages.is_empty() {
            return Vec::new();
        }
        let limit = match self.limit().await {
            Ok(limit) => limit,
            Err(error) => return vec![Err(error); messages.len()],
        };
        let mut keys: HashMap<&str, usize> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (at, message) in messages.iter().enumerate() {
            let group = *keys.entry(message.message.order_key.as_str()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(at);
        }
        let away = AtomicBool::new(false);
        let mut results = vec![Err(OutletError::Held); messages.len()];
        let running = groups.into_iter().map(|group| self.publish_in_order(messages, group, limit, &away));
        let mut done = futures_util::stream::iter(running).buffer_unordered(PUBLISH_IN_FLIGHT_MAX);
        while let Some(group) = done.next().await {
            for (at, result) in group {
                results[at] = result;
            }
        }
        results
    }

    fn health(&self) -> watch::Receiver<OutletHealth> {
        self.monitor.watch()
    }
}
