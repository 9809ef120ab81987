//! Events in: checked, judged, and written with their tasks in one transaction; only then acknowledged.

use crate::{Scheduler, door, resolve, settings::INGEST_BATCH_MAX, wish};
use events::{Acknowledge, Delivery, Malformed, Source};
use model::{
    Event, TaskId,
    event::EventError,
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
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long to wait before a batch that the database could not take is tried again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often the bus is told that a batch is being worked on which waits for the one before it.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

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

/// Events that were judged, each with its place in the batch that they came in.
#[derive(Default)]
struct JudgedBatch {
    commits: Vec<EventCommit>,
    /// The place of each commit.
    places: Vec<usize>,
    refused: Vec<(usize, Refused)>,
    /// The rules that judged, and for each commit those that were looked at.
    rules: Option<Arc<RuleSet>>,
    candidates: Vec<Vec<u32>>,
}

impl JudgedBatch {
    fn len(&self) -> usize {
        self.commits.len() + self.refused.len()
    }
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
        let judged = self.judge_batch(self.rules_in_force().await?, events).await?;
        self.write_batch(&judged).await
    }

    /// Checks and judges off the threads that serve others: scripts may take their time.
    async fn judge_batch(&self, rules: Arc<RuleSet>, events: Vec<Incoming>) -> store::Result<JudgedBatch> {
        let scheduler = self.clone();
        let judge = move || {
            let now = scheduler.clock().now();
            let foreign_sources = &scheduler.settings().foreign_sources;
            let mut batch = JudgedBatch::default();
            for (place, incoming) in events.into_iter().enumerate() {
                if let Err(reason) = door::check(&incoming.event, foreign_sources) {
                    batch.refused.push((place, Refused { event: incoming.event, reason }));
                    continue;
                }
                match judge_one(&rules, &scheduler, incoming, now) {
                    Ok((commit, candidates)) => {
                        batch.places.push(place);
                        batch.candidates.push(candidates);
                        batch.commits.push(commit);
                    }
                    Err(refused) => batch.refused.push((place, *refused)),
                }
            }
            batch.rules = Some(rules);
            batch
        };
        tokio::task::spawn_blocking(judge)
            .await
            .map_err(|error| StoreError::Conflict(format!("judging stopped: {error}")))
    }

    /// Writes a batch. After an error nothing of what failed is written, and the whole can be given again.
    async fn write_batch(&self, batch: &JudgedBatch) -> store::Result<Vec<Taken>> {
        let mut taken: Vec<Option<Taken>> = vec![None; batch.len()];
        for (place, Refused { event, reason }) in &batch.refused {
            taken[*place] = Some(self.bury(event, reason.clone()).await?);
        }
        self.commit_halving(batch, &mut taken).await?;
        self.wake().told();
        let taken: Vec<_> = taken.into_iter().flatten().collect();
        self.metrics().events_taken(&taken);
        Ok(taken)
    }

    /// Commits a batch; when the database refuses something in it, halves it until the poisoned event stands
    /// alone and can be put to the dead letters.
    async fn commit_halving(&self, batch: &JudgedBatch, taken: &mut [Option<Taken>]) -> store::Result<()> {
        let mut work: Vec<_> = std::iter::once(0..batch.commits.len()).collect();
        while let Some(part) = work.pop() {
            let (commits, places) = (&batch.commits[part.clone()], &batch.places[part.clone()]);
            if commits.is_empty() {
                continue;
            }
            let wished = wished(commits);
            let room = self.handover().keep(wished);
            match self.store().commit_and_take(commits, room.places(), resolve::HOLD_MS).await {
                Ok((committed, made)) => {
                    if made.len() < wished {
                        self.wake().unresolved.ring();
                    }
                    self.handover().give(room, made);
                    for (n, committed) in part.zip(committed) {
                        if let Committed::New { .. } = committed {
                            self.count(batch, n);
                        }
                        taken[batch.places[n]] = Some(committed.into());
                    }
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(StoreError::Locked(path)) => return Err(StoreError::Locked(path)),
                Err(StoreError::Schema(reason)) => return Err(StoreError::Schema(reason)),
                // Anything else is about the data. If it is about the database all the same, burying fails too,
                // and the batch is held.
                Err(error) if commits.len() == 1 => {
                    let reason = match error {
                        StoreError::Poison(reason) => format!("the database refuses it: {reason}"),
                        other => format!("the database refuses it: {other}"),
                    };
                    taken[places[0]] = Some(self.bury(&commits[0].event, reason).await?);
                }
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    work.push(middle..part.end);
                    work.push(part.start..middle);
                }
            }
        }
        Ok(())
    }

    /// Counts what rules said to an event that was new.
    fn count(&self, batch: &JudgedBatch, n: usize) {
        if let (Some(rules), Some(judgement)) = (&batch.rules, &batch.commits[n].judgement) {
            let now = self.clock().now();
            self.counters().judged(rules, &batch.candidates[n], &judgement.verdicts, now);
        }
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

/// How many tasks there are to be made.
fn wished(commits: &[EventCommit]) -> usize {
    commits.iter().filter_map(|commit| commit.judgement.as_ref()).map(|said| said.tasks.len()).sum()
}

/// A text that every database keeps: it may be what is wrong with the event.
fn printable(text: &str) -> String {
    text.chars().take(1024).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Checks and judges one event.
fn judge_one(
    rules: &RuleSet,
    scheduler: &Scheduler,
    incoming: Incoming,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(EventCommit, Vec<u32>), Box<Refused>> {
    let Incoming { event, body } = incoming;
    // What a source has parsed, it has checked.
    if let (None, Err(error)) = (body, event.check_head()) {
        return Err(Box::new(Refused { event, reason: error.to_string() }));
    }
    // A fault of ours in judging one event must not hold up the others for ever.
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let mut evaluation = rules.evaluate(&event, now)?;
        let candidates = std::mem::take(&mut evaluation.candidates);
        Ok((wish::judgement(scheduler, rules.revision(), &event, 0, evaluation), candidates))
    }));
    match judged {
        Ok(Ok((judgement, candidates))) => {
            Ok((EventCommit { event, judgement: Some(judgement) }, candidates))
        }
        Ok(Err::<_, EventError>(error)) => Err(Box::new(Refused { event, reason: error.to_string() })),
        Err(_) => {
            let reason = "judging it broke; a fault of this program".to_owned();
            Err(Box::new(Refused { event, reason }))
        }
    }
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

/// Takes in what a source delivers, until told to stop: while a batch is written, the next is fetched and judged.
/// A batch is acknowledged after its commit; while the database is away it is held, and the bus is told that it is
/// being worked on.
pub async fn run_source(scheduler: Scheduler, mut source: Box<dyn Source>, stop: CancellationToken) {
    let name = source.name().clone();
    // At most one; it ends with this.
    let mut writing = JoinSet::new();
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            batch = source.next_batch(INGEST_BATCH_MAX) => batch,
        };
        match batch {
            Ok(batch) => {
                let Some(batch) = judge_held(&scheduler, &name, batch, &stop).await else { continue };
                wait_for(&mut writing, &batch.handles).await;
                writing.spawn(write_held(scheduler.clone(), batch, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(source = %name, %error, "source gave an error; asking again");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(RETRY_MAX) => {}
                }
            }
        }
    }
    wait_for(&mut writing, &[]).await;
    source.close().await;
    tracing::info!(source = %name, "source stopped");
}

/// A batch of a source that was judged and is to be written.
struct HeldBatch {
    judged: JudgedBatch,
    letters: Vec<NewDeadLetter>,
    handles: Vec<Box<dyn Acknowledge>>,
}

/// Waits until the batch before is written; the next one is being worked on.
async fn wait_for(writing: &mut JoinSet<()>, next: &[Box<dyn Acknowledge>]) {
    loop {
        match tokio::time::timeout(PROGRESS_EVERY, writing.join_next()).await {
            Ok(None | Some(Ok(()))) => return,
            Ok(Some(Err(error))) => {
                // A fault of ours ends the loop that it happened in, as if it had happened here.
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
                return;
            }
            Err(_) => tell_progress(next).await,
        }
    }
}

async fn tell_progress(handles: &[Box<dyn Acknowledge>]) {
    for handle in handles {
        // Not heard of, it comes again, and the inbox drops it.
        let _ = handle.progress().await;
    }
}

/// Waits before another try; `false` when it is time to stop.
async fn pause(delay: &mut Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(*delay) => {
            *delay = (*delay * 2).min(RETRY_MAX);
            true
        }
    }
}

/// Judges what was delivered; nothing when that cannot be, or it is time to stop: then the bus delivers it again.
async fn judge_held(
    scheduler: &Scheduler,
    source: &SourceName,
    batch: Vec<Delivery>,
    stop: &CancellationToken,
) -> Option<HeldBatch> {
    let (mut events, mut letters) = (Vec::with_capacity(batch.len()), Vec::new());
    let mut handles = Vec::with_capacity(batch.len());
    for delivery in batch {
        handles.push(delivery.handle);
        match delivery.content {
            _ if delivery.own => {}
            Ok(event) => events.push(Incoming { event, body: Some(delivery.body) }),
            Err(malformed) => letters.push(letter(source, &malformed, delivery.deliveries)),
        }
    }
    let mut delay = RETRY_FIRST;
    let rules = loop {
        match scheduler.rules_in_force().await {
            Ok(rules) => break rules,
            Err(error) => {
                tracing::warn!(%error, held = handles.len(), "batch is held until there are rules");
                tell_progress(&handles).await;
            }
        }
        if !pause(&mut delay, stop).await {
            return None;
        }
    };
    match scheduler.judge_batch(rules, events).await {
        Ok(judged) => Some(HeldBatch { judged, letters, handles }),
        Err(error) => {
            tracing::error!(%error, messages = handles.len(), "a batch was not judged");
            None
        }
    }
}

/// Writes a batch and acknowledges it; while the database does not take it, it is held.
async fn write_held(scheduler: Scheduler, batch: HeldBatch, stop: CancellationToken) {
    let mut delay = RETRY_FIRST;
    while let Err(error) = write_once(&scheduler, &batch).await {
        tracing::warn!(%error, held = batch.handles.len(), "batch is held until the database takes it");
        tell_progress(&batch.handles).await;
        if !pause(&mut delay, &stop).await {
            // Not acknowledged, so the bus delivers it again.
            return;
        }
    }
    for handle in batch.handles {
        // A lost acknowledgement means another delivery, which the inbox drops.
        let _ = handle.ack().await;
    }
}

async fn write_once(scheduler: &Scheduler, batch: &HeldBatch) -> store::Result<()> {
    if !batch.letters.is_empty() {
        scheduler.store().bury(&batch.letters).await?;
        scheduler.metrics().events_malformed(batch.letters.len());
    }
    scheduler.write_batch(&batch.judged).await.map(drop)
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
