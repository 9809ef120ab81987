//! What is told: the relay stamps rows of the outbox, which makes them visible to live streams, and publishes
//! them on the bus. While the bus is away, live streams go on and rows wait.

use crate::{Scheduler, settings::RELAY_BATCH_MAX};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The names of the works under whose leases one server at a time stamps and publishes.
const STAMP: &str = "outbox.stamp";
const PUBLISH: &str = "outbox.publish";
/// How long such a lease is. A relay that dies is replaced after it.
const LEASE: Duration = Duration::from_secs(5);
/// How long to wait after the bus refused something.
const RETRY: Duration = Duration::from_secs(1);

fn lease_ms() -> u64 {
    u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)
}

/// Stamps rows until told to stop.
pub(crate) async fn run_stamper(scheduler: Scheduler, stop: CancellationToken) {
    loop {
        let stamped = stamp(&scheduler).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the live stream waits");
            0
        });
        if stamped > 0 {
            scheduler.wake().stream.ring();
        }
        if stamped < u64::from(RELAY_BATCH_MAX) {
            tokio::select! {
                () = stop.cancelled() => break,
                () = scheduler.wake().outbox.wait(scheduler.settings().poll_every) => {}
            }
        } else if stop.is_cancelled() {
            break;
        }
    }
    end(&scheduler, STAMP).await;
}

async fn stamp(scheduler: &Scheduler) -> store::Result<u64> {
    if !scheduler.store().try_lease(STAMP, &scheduler.settings().server, lease_ms()).await? {
        return Ok(0);
    }
    scheduler.store().stamp(RELAY_BATCH_MAX).await
}

/// Publishes stamped rows until told to stop. Without a bus they count as published at once.
pub(crate) async fn run_publisher(scheduler: Scheduler, stop: CancellationToken) {
    loop {
        let wait = match publish(&scheduler).await {
            Ok(Published::All { some: true }) => Duration::ZERO,
            Ok(Published::All { some: false } | Published::NotOurs) => scheduler.settings().poll_every,
            Ok(Published::Refused(reason)) => {
                tracing::warn!(%reason, "messages wait for the bus");
                RETRY
            }
            Err(error) => {
                tracing::warn!(%error, "messages wait for the database");
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = scheduler.wake().stream.wait(wait), if !wait.is_zero() => {}
            () = std::future::ready(()), if wait.is_zero() => {}
        }
    }
    end(&scheduler, PUBLISH).await;
}

enum Published {
    All { some: bool },
    NotOurs,
    Refused(String),
}

async fn publish(scheduler: &Scheduler) -> store::Result<Published> {
    if !scheduler.store().try_lease(PUBLISH, &scheduler.settings().server, lease_ms()).await? {
        return Ok(Published::NotOurs);
    }
    let messages = scheduler.store().unpublished(RELAY_BATCH_MAX).await?;
    if messages.is_empty() {
        return Ok(Published::All { some: false });
    }
    let mut done = Vec::with_capacity(messages.len());
    let mut refused = None;
    match scheduler.outlet() {
        None => done.extend(messages.iter().map(|message| message.id)),
        Some(outlet) => {
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
    Ok(refused.map_or(Published::All { some: true }, Published::Refused))
}

/// Gives a lease back, so that another server need not wait for its end.
async fn end(scheduler: &Scheduler, work: &str) {
    if let Err(error) = scheduler.store().end_lease(work, &scheduler.settings().server).await {
        tracing::debug!(%error, work, "the lease ends by itself");
    }
}
