//! Tasks handed out and taken back: claims, heartbeats, finishing, and the reaping of lost attempts.

use crate::{Scheduler, settings::REAP_BATCH_MAX};
use model::{
    TaskId, WorkerName,
    protocol::{
        CLAIM_TASKS_MAX, CLAIM_WAIT_SECONDS_MAX, ClaimReply, ClaimRequest, FinishRequest, HeartbeatReply,
        HeartbeatRequest, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN,
    },
};
use std::{collections::HashSet, time::Duration};
use store::{Claim, Finished, StoreError, WorkerMode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the mode of a worker that takes no tasks is looked at: it may be over by itself.
const MODE_LOOK: Duration = Duration::from_secs(5);

/// Why a worker is not served.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// It speaks a protocol that this server does not serve.
    #[error(
        "this server serves workers of protocol {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, this one speaks {0}: update {who}",
        who = if *.0 < PROTOCOL_VERSION_MIN { "the worker" } else { "the server" }
    )]
    Protocol(u32),
    /// Its name is another's.
    #[error("{0}")]
    NameTaken(String),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scheduler {
    /// A worker asks for tasks, by long poll. What the database thinks it runs and it does not know of is
    /// handed out again first: the answer to its last claim was lost.
    ///
    /// # Errors
    /// The worker's protocol is not served, or the database is away.
    pub async fn claim(
        &self,
        request: &ClaimRequest,
        stop: &CancellationToken,
    ) -> Result<ClaimReply, DispatchError> {
        if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&request.protocol) {
            return Err(DispatchError::Protocol(request.protocol));
        }
        // What was handed out in a lost answer is heard of by the next claim, which must come within its lease.
        let wait = Duration::from_secs(request.wait_seconds.min(CLAIM_WAIT_SECONDS_MAX).into());
        let deadline = Instant::now() + wait.min(self.settings().lease / 2);
        let mut modes = self.wake().modes.listen();
        let hello = self.store().hello(&request.worker, &request.version, &request.offer).await;
        let mut mode = hello.map_err(|error| match error {
            StoreError::Conflict(why) => DispatchError::NameTaken(why),
            error => error.into(),
        })?;
        let lease_seconds = u32::try_from(self.settings().lease.as_secs()).unwrap_or(u32::MAX);
        let reply = |assignments, drain, mode| ClaimReply {
            assignments,
            lease_seconds,
            drain,
            end: mode == WorkerMode::Drain,
        };

        let known: HashSet<_> = request.running.iter().copied().collect();
        let mut lost = self.store().held(&request.worker).await?;
        lost.retain(|assignment| {
            !known.contains(&model::protocol::Held { task: assignment.task.id, attempt: assignment.attempt })
        });
        if !lost.is_empty() {
            tracing::info!(worker = %request.worker, tasks = lost.len(), "handing out again what the worker does not know of");
            return Ok(reply(lost, mode != WorkerMode::Active, mode));
        }
        // One that is to take none waits for the word that it may again, if it means to wait at all.
        while mode != WorkerMode::Active
            && request.free_slots == 0
            && Instant::now() < deadline
            && !stop.is_cancelled()
        {
            tokio::select! {
                () = stop.cancelled() => {}
                () = modes.heard(MODE_LOOK.min(deadline - Instant::now())) => {}
            }
            mode = self.store().worker_mode(&request.worker).await?.unwrap_or(mode);
        }
        if mode != WorkerMode::Active || stop.is_cancelled() {
            return Ok(reply(Vec::new(), true, mode));
        }
        if request.free_slots == 0 {
            return Ok(reply(Vec::new(), false, mode));
        }
        let claim = Claim {
            worker: request.worker.clone(),
            offer: request.offer.clone(),
            max: request.free_slots.min(CLAIM_TASKS_MAX),
            lease_ms: self.settings().lease_ms(),
            order: Vec::new(),
        };
        let mut bell = self.wake().queued.listen();
        loop {
            let assignments = self.store().claim(&claim).await?;
            let now = Instant::now();
            if !assignments.is_empty() || now >= deadline || stop.is_cancelled() {
                if !assignments.is_empty() {
                    self.wake().outbox.ring();
                }
                return Ok(reply(assignments, stop.is_cancelled(), mode));
            }
            let wait = self.settings().poll_every.min(deadline - now);
            tokio::select! {
                () = stop.cancelled() => {}
                () = bell.heard(wait) => {}
                // One that nobody wants to take tasks is told at once, not when its patience is over.
                () = modes.rung() => {
                    let mode = self.store().worker_mode(&request.worker).await?.unwrap_or(mode);
                    if mode != WorkerMode::Active {
                        return Ok(reply(Vec::new(), true, mode));
                    }
                }
            }
        }
    }

    /// A worker says what it runs; it hears what to do with each.
    ///
    /// # Errors
    /// The database is away: the worker tries again.
    pub async fn heartbeat(&self, request: &HeartbeatRequest) -> Result<HeartbeatReply, DispatchError> {
        let lease_ms = self.settings().lease_ms();
        let orders = self.store().heartbeat(&request.worker, &request.running, lease_ms).await?;
        self.wake().outbox.ring();
        let mode = self.store().worker_mode(&request.worker).await?;
        Ok(HeartbeatReply { orders, drain: mode.is_some_and(|mode| mode != WorkerMode::Active) })
    }

    /// A worker stops in an orderly way.
    ///
    /// # Errors
    /// The database is away.
    pub async fn leave(&self, worker: &WorkerName) -> Result<(), DispatchError> {
        self.store().leave(worker).await?;
        self.wake().outbox.ring();
        Ok(())
    }

    /// A worker ends an attempt.
    ///
    /// # Errors
    /// The database is away: the worker tries again.
    pub async fn finish(&self, task: TaskId, request: &FinishRequest) -> Result<Finished, DispatchError> {
        let finished = self.store().finish(task, request).await?;
        if let Finished::Accepted(task) = &finished {
            self.metrics().task_finished(task);
        }
        self.wake().moved();
        self.wake().logs.ring();
        Ok(finished)
    }
}

/// Ends attempts whose lease is over, until told to stop. After a start and after each time that the database
/// was away nothing is reaped for one full lease, so that workers can be heard of first.
pub(crate) async fn run_reaper(scheduler: Scheduler, stop: CancellationToken) {
    let lease = scheduler.settings().lease;
    let mut reap_from = Some(Instant::now() + lease);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(scheduler.settings().reap_every) => {}
        }
        match look(&scheduler, reap_from).await {
            // Counted from when the database is back, not from when it was last seen to be away.
            Ok(None) => reap_from = reap_from.or_else(|| Some(Instant::now() + lease)),
            Ok(Some(waited)) => {
                tracing::warn!(
                    waited_ms = waited.as_millis(),
                    "the database was slow; nothing is reaped for one lease"
                );
                reap_from = Some(Instant::now() + lease);
            }
            Err(error) => {
                tracing::warn!(%error, "leases are not looked at; nothing is reaped for one lease after");
                reap_from = None;
            }
        }
    }
}

/// One look at the leases. Asking for the time first says whether the database is there: when the answer took
/// as long as heartbeats may be late, it was away, and how long it took is returned. Nothing is reaped before
/// `reap_from`, nor without one.
async fn look(scheduler: &Scheduler, reap_from: Option<Instant>) -> store::Result<Option<Duration>> {
    let asked = Instant::now();
    scheduler.store().now().await?;
    let waited = asked.elapsed();
    if waited >= scheduler.settings().lease / 3 {
        return Ok(Some(waited));
    }
    if reap_from.is_some_and(|from| Instant::now() >= from) {
        reap(scheduler).await?;
    }
    Ok(None)
}

async fn reap(scheduler: &Scheduler) -> store::Result<()> {
    let lost = scheduler.store().reap(REAP_BATCH_MAX).await?;
    for held in &lost {
        tracing::warn!(task = %held.task, attempt = held.attempt.attempt, "attempt lost: its worker was not heard of");
    }
    if !lost.is_empty() {
        scheduler.metrics().attempts_lost(lost.len());
        scheduler.wake().committed();
        scheduler.wake().logs.ring();
    }
    Ok(())
}
