//! Sinks: each goes through what was told in its order, at its own pace. Its place is kept in the database, so that any
//! server goes on where another stopped.

use crate::{Scheduler, relay::Lease, service::ServiceError};
use model::{
    ids::DeadLetterId,
    message::Message,
    sink::{Sink, SinkError},
};
use serde::Serialize;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{DeadLetter, NewDeadLetter, SinkPlace, StoreError};
use tokio_util::sync::CancellationToken;

/// The most messages that are read at a time.
const BATCH_MAX: u32 = 200;
/// How long a delivery that is under way may go on when the server is to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The first pause after a failure; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often a message is tried that its place breaks over.
const BROKEN_TRIES_MAX: u32 = 6;
/// What the source of a sink's dead letters begins with; its name follows.
pub const LETTER_SOURCE: &str = "sink:";

/// How a sink is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SinkHealth {
    /// What went wrong last, while it goes wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How often the message that waits was tried.
    pub tries: u32,
}

/// A sink with its place.
#[derive(Debug, Clone, Serialize)]
pub struct SinkStatus {
    /// Its place.
    #[serde(flatten)]
    pub place: SinkPlace,
    /// How many messages it has still to look at.
    pub behind: i64,
    /// Whether this server has it in its configuration. Messages are kept for one that is not, until it is forgotten.
    pub configured: bool,
    /// How it is doing, as far as this server knows.
    #[serde(flatten)]
    pub health: SinkHealth,
}

/// A configured sink, and how it is doing.
#[derive(Debug)]
pub(crate) struct Served {
    sink: Arc<dyn Sink>,
    health: Mutex<SinkHealth>,
}

impl Served {
    pub(crate) fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink, health: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &str {
        self.sink.name()
    }

    fn note(&self, health: SinkHealth) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    fn health(&self) -> SinkHealth {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes messages to a sink until told to stop.
pub(crate) async fn run(scheduler: Scheduler, served: Arc<Served>, stop: CancellationToken) {
    let name = served.sink.name().to_owned();
    let mut lease = Lease::of(format!("sink.{name}"));
    let mut bell = scheduler.wake().stream.listen();
    let mut tries = 0;
    let mut ready = false;
    while !stop.is_cancelled() {
        let step = match made_ready(&scheduler, &served, &mut ready, &mut tries).await {
            Ok(None) => step(&scheduler, &served, &mut lease, &stop, &mut tries).await,
            Ok(Some(problem)) => Ok(Step::Failed(problem)),
            Err(error) => Err(error),
        };
        let pause = match step {
            Ok(Step::More) => continue,
            Ok(Step::Idle) => None,
            Ok(Step::Failed(problem)) => {
                tracing::warn!(sink = name, tries, problem, "a message waits for its sink");
                served.note(SinkHealth { problem: Some(problem), tries });
                Some(RETRY_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(RETRY_MAX))
            }
            Err(error) => {
                tracing::warn!(sink = name, %error, "a sink waits for the database");
                Some(RETRY_FIRST)
            }
        };
        let wait = async {
            match pause {
                // New messages are no reason to try sooner what just failed.
                Some(pause) => tokio::time::sleep(pause).await,
                None => bell.heard(scheduler.settings().poll_every).await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = wait => {}
        }
    }
    lease.end(&scheduler).await;
}

/// Makes a sink's place ready, once; why it is not. What is told meanwhile is kept for it.
async fn made_ready(
    scheduler: &Scheduler,
    served: &Served,
    ready: &mut bool,
    tries: &mut u32,
) -> Result<Option<String>, StoreError> {
    if *ready {
        return Ok(None);
    }
    scheduler.store().sink(served.sink.name()).await?;
    Ok(match served.sink.ready().await {
        Ok(()) => {
            *ready = true;
            *tries = 0;
            served.note(SinkHealth::default());
            None
        }
        Err(error) => {
            *tries = tries.saturating_add(1);
            Some(error.to_string())
        }
    })
}

enum Step {
    More,
    Idle,
    Failed(String),
}

async fn step(
    scheduler: &Scheduler,
    served: &Served,
    lease: &mut Lease,
    stop: &CancellationToken,
    tries: &mut u32,
) -> store::Result<Step> {
    if !lease.holds(scheduler).await? {
        return Ok(Step::Idle);
    }
    let (store, name) = (scheduler.store(), served.sink.name());
    let place = store.sink(name).await?;
    let messages = store.stream(place.position, BATCH_MAX).await?;
    let full = messages.len() >= BATCH_MAX as usize;
    let (mut seen, mut failed) = (None, None);
    for message in messages {
        let Some(position) = message.position else { continue };
        if !served.sink.wants(&message.message) {
            seen = Some(position);
            continue;
        }
        if stop.is_cancelled() || !lease.holds(scheduler).await? {
            break;
        }
        let message = crate::relay::with_whole_links(scheduler, message);
        let tried = tries.saturating_add(1);
        let stopping = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        let done = tokio::select! {
            done = try_once(served, &message) => done,
            // It is taken there again, by whoever serves the sink next.
            () = stopping => break,
        };
        match done {
            Ok(()) => {}
            Err(SinkError::Away(problem)) => failed = Some(problem),
            Err(SinkError::Broken(problem)) if tried < BROKEN_TRIES_MAX => failed = Some(problem),
            Err(SinkError::Broken(problem) | SinkError::Refused(problem)) => {
                bury(scheduler, name, &message, &problem, tried).await?;
            }
        }
        if failed.is_some() {
            *tries = tried;
            break;
        }
        // At once: what is not noted is taken there again after a crash.
        store.advance_sink(name, position).await?;
        seen = None;
        *tries = 0;
        served.note(SinkHealth::default());
    }
    if let Some(seen) = seen {
        store.advance_sink(name, seen).await?;
    }
    Ok(match failed {
        Some(problem) => Step::Failed(problem),
        None if full => Step::More,
        None => Step::Idle,
    })
}

async fn try_once(served: &Served, message: &Message) -> Result<(), SinkError> {
    let limit = served.sink.patience();
    match tokio::time::timeout(limit, served.sink.deliver(message)).await {
        Ok(done) => done,
        Err(_) => Err(SinkError::Away(format!("no answer within {} s", limit.as_secs()))),
    }
}

async fn bury(
    scheduler: &Scheduler,
    name: &str,
    message: &Message,
    reason: &str,
    tries: u32,
) -> store::Result<()> {
    tracing::warn!(sink = name, subject = message.message.subject, reason, "a message is not wanted");
    let letter = NewDeadLetter {
        source: format!("{LETTER_SOURCE}{name}").as_str().into(),
        topic: Some(message.message.topic.to_string()),
        event_id: Some(message.id.to_string()),
        headers: "{}".to_owned(),
        payload: serde_json::to_vec(message).unwrap_or_default(),
        reason: reason.to_owned(),
        deliveries: u64::from(tries),
    };
    scheduler.store().bury(&[letter]).await.map(drop)
}

impl Scheduler {
    /// All sinks, by name.
    ///
    /// # Errors
    /// The database is away.
    pub async fn sink_statuses(&self) -> Result<Vec<SinkStatus>, ServiceError> {
        let (last, _) = self.store().positions().await?;
        let status = |place: SinkPlace| {
            let served = self.sinks().iter().find(|served| served.sink.name() == place.name);
            SinkStatus {
                behind: (last.0 - place.position.0).max(0),
                configured: served.is_some(),
                health: served.map(|served| served.health()).unwrap_or_default(),
                place,
            }
        };
        Ok(self.store().sinks().await?.into_iter().map(status).collect())
    }

    /// Takes a sink's dead letter there once more; it is gone when it arrives.
    ///
    /// # Errors
    /// It is no such letter, this server does not have its sink, or it is refused again.
    pub async fn redeliver(&self, letter: &DeadLetter) -> Result<(), ServiceError> {
        let name = letter.source.as_str().strip_prefix(LETTER_SOURCE).unwrap_or_default();
        let served = self.sinks().iter().find(|served| served.sink.name() == name);
        let served = served.ok_or_else(|| {
            ServiceError::Bad(format!("there is no sink `{name}` in this server's configuration any more"))
        })?;
        let message: Message = serde_json::from_slice(&letter.payload)
            .map_err(|error| ServiceError::Bad(format!("the letter holds no message: {error}")))?;
        try_once(served, &message)
            .await
            .map_err(|error| StoreError::Conflict(format!("sink `{name}` does not take it: {error}")))?;
        Ok(self.store().drop_dead_letter(DeadLetterId(letter.id.0)).await?)
    }
}
