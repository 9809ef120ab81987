//! Events in: checked, judged, and written with their tasks in one transaction; only then acknowledged.

use crate::{Scheduler, settings::INGEST_BATCH_MAX, wish};
use events::{Delivery, Malformed, Source};
use model::{
    Event, TaskId,
    ids::{DeadLetterId, EventSeq, SourceName},
};
use rules::compile::RuleSet;
use serde_json::Value;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use store::{Committed, EventCommit, NewDeadLetter, StoreError};
use tokio_util::sync::CancellationToken;

/// How long to wait before a batch that the database could not take is tried again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// An event that comes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// The event.
    pub event: Event,
    /// Its body, when it was checked and parsed already.
    pub body: Option<Value>,
}

impl From<Event> for Incoming {
    fn from(event: Event) -> Self {
        Self { event, body: None }
    }
}

/// An event that cannot be taken in.
struct Refused {
    event: Event,
    reason: String,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It was new.
    New {
        /// Its place in the inbox.
        seq: EventSeq,
        /// The tasks that it led to.
        tasks: Vec<TaskId>,
    },
    /// It was there already: nothing was done.
    Known {
        /// Its place in the inbox.
        seq: EventSeq,
    },
    /// Its id was there already with another content; it lies with the dead letters.
    Conflict {
        /// The place of the first one.
        seq: EventSeq,
    },
    /// It could not be taken in; it lies with the dead letters.
    Dead {
        /// Its letter.
        letter: DeadLetterId,
        /// Why.
        reason: String,
    },
}

impl Scheduler {
    /// Takes events in: bad ones go to the dead letters without disturbing the others, the rest is judged by
    /// the rules in force and written in one transaction for each [`INGEST_BATCH_MAX`]. The answer has an
    /// entry for each event, in order.
    ///
    /// # Errors
    /// The database is away or full: nothing of the failing batch was written, and the same events can be
    /// given again.
    pub async fn ingest(&self, events: Vec<Incoming>) -> store::Result<Vec<Taken>> {
        let mut taken = Vec::with_capacity(events.len());
        let mut rest = events;
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(INGEST_BATCH_MAX));
            taken.extend(self.ingest_batch(rest).await?);
            rest = later;
        }
        Ok(taken)
    }

    async fn ingest_batch(&self, events: Vec<Incoming>) -> store::Result<Vec<Taken>> {
        let judged = self.judge_batch(events).await?;
        let mut taken: Vec<Option<Taken>> = vec![None; judged.len()];
        let mut good = Vec::with_capacity(judged.len());
        for (at, judged) in judged.into_iter().enumerate() {
            match judged {
                Ok(commit) => good.push((at, commit)),
                Err(refused) => taken[at] = Some(self.bury(&refused.event, refused.reason).await?),
            }
        }
        self.commit_halving(good, &mut taken).await?;
        self.wake().judged();
        let taken: Vec<_> = taken.into_iter().flatten().collect();
        self.metrics().events_taken(&taken);
        Ok(taken)
    }

    /// Checks and judges off the threads that serve others: scripts may take their time.
    async fn judge_batch(
        &self,
        events: Vec<Incoming>,
    ) -> store::Result<Vec<Result<EventCommit, Box<Refused>>>> {
        let rules = self.rules_in_force().await?;
        let (clock, ids) = (Arc::clone(self.clock()), Arc::clone(self.ids()));
        let judge = move || {
            let now = clock.now();
            let judge_one = |incoming: Incoming| {
                let Incoming { event, body } = incoming;
                let refused = |reason| Box::new(Refused { event: event.clone(), reason });
                let body =
                    body.map_or_else(|| event.check(), Ok).map_err(|error| refused(error.to_string()))?;
                // A fault of ours in judging one event must not hold up the others for ever.
                let judged = AssertUnwindSafe(|| judge(&rules, &*ids, event.clone(), &body, now));
                catch_unwind(judged)
                    .map_err(|_| refused("judging it broke; a fault of this program".to_owned()))
            };
            events.into_iter().map(judge_one).collect()
        };
        tokio::task::spawn_blocking(judge)
            .await
            .map_err(|error| StoreError::Conflict(format!("judging stopped: {error}")))
    }

    /// Commits a batch; when the database refuses something in it, halves it until the poisoned event stands
    /// alone and can be put to the dead letters.
    async fn commit_halving(
        &self,
        batch: Vec<(usize, EventCommit)>,
        taken: &mut [Option<Taken>],
    ) -> store::Result<()> {
        let mut work = vec![batch];
        while let Some(mut batch) = work.pop() {
            if batch.is_empty() {
                continue;
            }
            let (places, commits): (Vec<usize>, Vec<EventCommit>) = batch.iter().cloned().unzip();
            match self.store().commit_events(&commits).await {
                Ok(committed) => {
                    for (place, committed) in places.into_iter().zip(committed) {
                        taken[place] = Some(committed.into());
                    }
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(StoreError::Locked(path)) => return Err(StoreError::Locked(path)),
                Err(StoreError::Schema(reason)) => return Err(StoreError::Schema(reason)),
                // Anything else is about the data. If it is about the database all the same, burying fails too,
                // and the batch is held.
                Err(error) if batch.len() == 1 => {
                    let reason = match error {
                        StoreError::Poison(reason) => format!("the database refuses it: {reason}"),
                        other => format!("the database refuses it: {other}"),
                    };
                    taken[places[0]] = Some(self.bury(&commits[0].event, reason).await?);
                }
                Err(_) => {
                    let second = batch.split_off(batch.len() / 2);
                    work.push(second);
                    work.push(batch);
                }
            }
        }
        Ok(())
    }

    /// Puts an event to the dead letters.
    async fn bury(&self, event: &Event, reason: String) -> store::Result<Taken> {
        let letter = NewDeadLetter {
            source: event.source.clone(),
            topic: Some(printable(event.topic.as_str())),
            event_id: Some(printable(event.id.as_str())),
            headers: Value::Object(event.headers.clone()).to_string(),
            payload: event.payload.to_vec(),
            reason: reason.clone(),
            deliveries: 1,
        };
        let letters = self.store().bury(&[letter]).await?;
        let letter = letters.first().copied().unwrap_or(DeadLetterId(0));
        tracing::warn!(source = %event.source, id = %event.id, %reason, "event put to the dead letters");
        Ok(Taken::Dead { letter, reason })
    }
}

/// A text that every database keeps: it may be what is wrong with the event.
fn printable(text: &str) -> String {
    text.chars().take(1024).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Judges one event.
pub(crate) fn judge(
    rules: &RuleSet,
    ids: &dyn model::Ids,
    event: Event,
    body: &Value,
    now: chrono::DateTime<chrono::Utc>,
) -> EventCommit {
    let evaluation = rules.evaluate(&event, body, now);
    let judgement = Some(wish::judgement(ids, rules.revision(), &event, 0, evaluation));
    EventCommit { event, judgement }
}

impl From<Committed> for Taken {
    fn from(committed: Committed) -> Self {
        match committed {
            Committed::New { seq, tasks } => Self::New { seq, tasks },
            Committed::Known { seq } => Self::Known { seq },
            Committed::Conflict { seq } => Self::Conflict { seq },
        }
    }
}

/// Takes in what a source delivers, until told to stop. A batch is acknowledged after its commit; while the
/// database is away it is held, and the bus is told that it is being worked on.
pub(crate) async fn run_source(scheduler: Scheduler, mut source: Box<dyn Source>, stop: CancellationToken) {
    let name = source.name().clone();
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => break,
            batch = source.next_batch(INGEST_BATCH_MAX) => batch,
        };
        match batch {
            Ok(batch) => take_batch(&scheduler, &name, batch, &stop).await,
            Err(error) => {
                tracing::warn!(source = %name, %error, "source gave an error; asking again");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(RETRY_MAX) => {}
                }
            }
        }
    }
    source.close().await;
    tracing::info!(source = %name, "source stopped");
}

async fn take_batch(
    scheduler: &Scheduler,
    source: &SourceName,
    batch: Vec<Delivery>,
    stop: &CancellationToken,
) {
    let mut delay = RETRY_FIRST;
    loop {
        match take_once(scheduler, source, &batch).await {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(%error, held = batch.len(), "batch is held until the database takes it");
                for delivery in &batch {
                    // Not heard of, it comes again, and the inbox drops it.
                    let _ = delivery.progress().await;
                }
            }
        }
        tokio::select! {
            // Not acknowledged, so the bus delivers it again.
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay) => delay = (delay * 2).min(RETRY_MAX),
        }
    }
    for delivery in batch {
        // A lost acknowledgement means another delivery, which the inbox drops.
        let _ = delivery.ack().await;
    }
}

async fn take_once(scheduler: &Scheduler, source: &SourceName, batch: &[Delivery]) -> store::Result<()> {
    let mut events = Vec::with_capacity(batch.len());
    let mut letters = Vec::new();
    for delivery in batch.iter().filter(|delivery| !delivery.own) {
        match &delivery.content {
            Ok(event) => events.push(Incoming { event: event.clone(), body: Some(delivery.body.clone()) }),
            Err(malformed) => letters.push(letter(source, malformed, delivery.deliveries)),
        }
    }
    if !letters.is_empty() {
        scheduler.store().bury(&letters).await?;
        scheduler.metrics().events_malformed(letters.len());
    }
    scheduler.ingest(events).await.map(drop)
}

fn letter(source: &SourceName, malformed: &Malformed, deliveries: u64) -> NewDeadLetter {
    NewDeadLetter {
        source: source.clone(),
        topic: Some(printable(malformed.topic.as_str())),
        event_id: Some(printable(malformed.id.as_str())),
        headers: Value::Object(malformed.headers.clone()).to_string(),
        payload: malformed.payload.to_vec(),
        reason: malformed.reason.clone(),
        deliveries,
    }
}
