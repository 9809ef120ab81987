//! Tasks handed out and taken back: claims, heartbeats, finishing, and the reaping of lost attempts.

use crate::{Scheduler, settings::REAP_BATCH_MAX};
use model::{
    TaskId,
    ids::WorkerName,
    protocol::{
        CLAIM_TASKS_MAX, CLAIM_WAIT_SECONDS_MAX, ClaimReply, ClaimRequest, FinishRequest, HeartbeatReply,
        HeartbeatRequest, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN,
    },
};
use std::{collections::HashSet, time::Duration};
use store::{Claim, Finished, StoreError, WorkerMode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a worker is not served.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// It speaks a protocol that this server does not serve.
    #[error(
        "this server serves workers of protocol {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}, this one speaks {0}: update {who}",
        who = if *.0 < PROTOCOL_VERSION_MIN { "the worker" } else { "the server" }
    )]
    Protocol(u32),
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
        let deadline =
            Instant::now() + Duration::from_secs(request.wait_seconds.min(CLAIM_WAIT_SECONDS_MAX).into());
        let mode = self.store().hello(&request.worker, &request.version, &request.offer).await?;
        let lease_seconds = u32::try_from(self.settings().lease.as_secs()).unwrap_or(u32::MAX);
        let reply = |assignments, drain| ClaimReply { assignments, lease_seconds, drain };

        let known: HashSet<_> = request.running.iter().copied().collect();
        let mut lost = self.store().held(&request.worker).await?;
        lost.retain(|assignment| {
            !known.contains(&model::protocol::Held { task: assignment.task.id, attempt: assignment.attempt })
        });
        if !lost.is_empty() {
            tracing::info!(worker = %request.worker, tasks = lost.len(), "handing out again what the worker does not know of");
            return Ok(reply(lost, mode == WorkerMode::Drain));
        }
        if mode == WorkerMode::Drain || stop.is_cancelled() {
            return Ok(reply(Vec::new(), true));
        }
        if request.free_slots == 0 {
            return Ok(reply(Vec::new(), false));
        }
        let claim = Claim {
            worker: request.worker.clone(),
            offer: request.offer.clone(),
            max: request.free_slots.min(CLAIM_TASKS_MAX),
            lease_ms: self.settings().lease_ms(),
        };
        loop {
            let assignments = self.store().claim(&claim).await?;
            let now = Instant::now();
            if !assignments.is_empty() || now >= deadline || stop.is_cancelled() {
                if !assignments.is_empty() {
                    self.wake().outbox.ring();
                }
                return Ok(reply(assignments, stop.is_cancelled()));
            }
            let wait = self.settings().poll_every.min(deadline - now);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake().queued.wait(wait) => {}
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
        let drain = self.worker_mode(&request.worker).await? == WorkerMode::Drain;
        Ok(HeartbeatReply { orders, drain })
    }

    async fn worker_mode(&self, worker: &WorkerName) -> store::Result<WorkerMode> {
        let workers = self.store().workers(self.settings().alive_ms()).await?;
        Ok(workers
            .into_iter()
            .find(|known| known.name == *worker)
            .map_or(WorkerMode::Active, |known| known.mode))
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
        self.wake().committed();
        Ok(finished)
    }
}

/// Ends attempts whose lease is over, until told to stop. After a start and after each time that the database
/// was away nothing is reaped for one full lease, so that workers can be heard of first.
pub(crate) async fn run_reaper(scheduler: Scheduler, stop: CancellationToken) {
    let lease = scheduler.settings().lease;
    let mut reap_from = Instant::now() + lease;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(scheduler.settings().reap_every) => {}
        }
        match reap(&scheduler, Instant::now() >= reap_from).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "leases are not looked at; nothing is reaped for one lease");
                reap_from = Instant::now() + lease;
            }
        }
    }
}

/// One look at the leases. Asking for the time also says whether the database was there all along.
async fn reap(scheduler: &Scheduler, allowed: bool) -> store::Result<()> {
    scheduler.store().now().await?;
    if !allowed {
        return Ok(());
    }
    let lost = scheduler.store().reap(REAP_BATCH_MAX).await?;
    for held in &lost {
        tracing::warn!(task = %held.task, attempt = held.attempt.attempt, "attempt lost: its worker was not heard of");
    }
    if !lost.is_empty() {
        scheduler.metrics().attempts_lost(lost.len());
        scheduler.wake().committed();
    }
    Ok(())
}
