//! What is told: the relay stamps rows of the outbox, which makes them visible to live streams, and publishes
//! them on the bus. While the bus is away, live streams go on and rows wait.

use crate::{Scheduler, settings::RELAY_BATCH_MAX, wake::Pace};
use model::message::{JsonText, Message};
use serde_json::Value;
use std::{borrow::Cow, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The names of the works under whose leases one server at a time stamps and publishes.
const STAMP: &str = "outbox.stamp";
const PUBLISH: &str = "outbox.publish";
/// How long such a lease is. A relay that dies is replaced after it.
const LEASE: Duration = Duration::from_secs(10);
/// How long before its end a lease is extended. Asking each time would write to an idle database.
const LEASE_RENEW: Duration = Duration::from_secs(5);
/// How long to wait after the bus refused something.
const RETRY: Duration = Duration::from_secs(1);

/// A lease as this server knows it.
pub(crate) struct Lease {
    work: Cow<'static, str>,
    held_until: Option<Instant>,
}

impl Lease {
    pub(crate) fn of(work: impl Into<Cow<'static, str>>) -> Self {
        Self { work: work.into(), held_until: None }
    }

    /// Whether this server holds it, asking the database only when that is not known for long enough.
    pub(crate) async fn holds(&mut self, scheduler: &Scheduler) -> store::Result<bool> {
        let now = Instant::now();
        if self.held_until.is_some_and(|until| until > now + LEASE_RENEW) {
            return Ok(true);
        }
        let ttl_ms = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let held = scheduler.store().try_lease(&self.work, &scheduler.settings().server, ttl_ms).await?;
        // Counted from before the asking, so that this server never thinks it longer than the database does.
        self.held_until = held.then_some(now + LEASE);
        Ok(held)
    }

    /// Gives it back, so that another server need not wait for its end.
    pub(crate) async fn end(self, scheduler: &Scheduler) {
        if let Err(error) = scheduler.store().end_lease(&self.work, &scheduler.settings().server).await {
            tracing::debug!(%error, work = %self.work, "the lease ends by itself");
        }
    }
}

/// Stamps rows until told to stop.
pub(crate) async fn run_stamper(scheduler: Scheduler, stop: CancellationToken) {
    let mut lease = Lease::of(STAMP);
    let mut bell = scheduler.wake().outbox.listen();
    let mut pace = Pace::default();
    loop {
        let stamped = stamp(&scheduler, &mut lease).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the live stream waits");
            0
        });
        if stamped > 0 {
            scheduler.wake().stream.ring();
        }
        if stamped < u64::from(RELAY_BATCH_MAX) {
            tokio::select! {
                () = stop.cancelled() => break,
                () = bell.heard(scheduler.settings().poll_every) => pace.turn().await,
            }
        } else if stop.is_cancelled() {
            break;
        }
    }
    lease.end(&scheduler).await;
}

async fn stamp(scheduler: &Scheduler, lease: &mut Lease) -> store::Result<u64> {
    if !lease.holds(scheduler).await? {
        return Ok(0);
    }
    scheduler.store().stamp(RELAY_BATCH_MAX).await
}

/// Publishes stamped rows until told to stop. Without a bus they count as published at once.
pub(crate) async fn run_publisher(scheduler: Scheduler, stop: CancellationToken) {
    let mut lease = Lease::of(PUBLISH);
    let mut bell = scheduler.wake().stream.listen();
    while !stop.is_cancelled() {
        let failed = match publish(&scheduler, &mut lease).await {
            Ok(Published::All { more: true }) => continue,
            Ok(Published::All { more: false } | Published::NotOurs) => false,
            Ok(Published::Refused(reason)) => {
                tracing::warn!(%reason, "messages wait for the bus");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "messages wait for the database");
                true
            }
        };
        // New messages are no reason to try sooner what was just refused.
        let wait = async {
            if failed {
                tokio::time::sleep(RETRY).await;
            } else {
                bell.heard(scheduler.settings().poll_every).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = wait => {}
        }
    }
    lease.end(&scheduler).await;
}

enum Published {
    /// Whether there may be more.
    All {
        more: bool,
    },
    NotOurs,
    Refused(String),
}

async fn publish(scheduler: &Scheduler, lease: &mut Lease) -> store::Result<Published> {
    if !lease.holds(scheduler).await? {
        return Ok(Published::NotOurs);
    }
    let messages = scheduler.store().unpublished(RELAY_BATCH_MAX).await?;
    if messages.is_empty() {
        return Ok(Published::All { more: false });
    }
    let more = messages.len() >= RELAY_BATCH_MAX as usize;
    let mut done = Vec::with_capacity(messages.len());
    let mut refused = None;
    match scheduler.outlet() {
        None => done.extend(messages.iter().map(|message| message.id)),
        Some(outlet) => {
            let messages: Vec<_> =
                messages.into_iter().map(|message| with_whole_links(scheduler, message)).collect();
            for (message, sent) in messages.iter().zip(outlet.publish(&messages).await) {
                match sent {
                    Ok(()) => done.push(message.id),
                    Err(error) => refused = refused.or(Some(error.to_string())),
                }
            }
        }
    }
    scheduler.store().published(&done).await?;
    scheduler.metrics().messages_published(done.len());
    Ok(refused.map_or(Published::All { more }, Published::Refused))
}

/// A link that leaves names this installation.
pub(crate) fn with_whole_links(scheduler: &Scheduler, mut message: Message) -> Message {
    let data = &mut message.message.data;
    // Most messages hold no link, and are not read for it.
    if let Some(base) = &scheduler.settings().public_url
        && data.get().contains("\"href\"")
    {
        let mut value = data.value();
        if let Some(Value::String(href)) = value.get_mut("href")
            && href.starts_with('/')
        {
            *href = format!("{}{href}", base.trim_end_matches('/'));
            *data = JsonText::of(&value);
        }
    }
    message
}
