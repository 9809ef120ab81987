//! One assignment, from its folder to its delivery.

use super::Agent;
use crate::{
    client::ClientError,
    delivery::{AttemptFolder, DELIVERY_LIMIT, Delivery},
    logs::{
        AttemptLog,
        spool::{Spool, SpoolLimits},
    },
    runner::{Control, Ended, Folders, Job, StopWhy},
};
use model::{
    ErrorReason, Outcome,
    protocol::{Assignment, AttemptEnd, FinishRequest, Held},
};
use std::{io, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Runs an assignment and delivers how it ended. `give_up` leaves the delivery to the next start.
pub(super) async fn run(
    agent: Arc<Agent>,
    assignment: Assignment,
    control: Arc<Control>,
    give_up: CancellationToken,
) {
    let held = Held { task: assignment.task.id, attempt: assignment.attempt };
    tracing::info!(task = %held.task, attempt = held.attempt.attempt, name = %assignment.task.name, "attempt begins");
    match open(&agent, held) {
        Ok((folder, spool)) => {
            run_in(&agent, &assignment, &control, &give_up, &folder, spool).await;
        }
        Err(error) => {
            // Without a disk there is no log and nothing to keep; the server is told all the same.
            let reason = format!("this worker's folder {}: {error}", agent.config.work_dir.display());
            let finish = ended_early(held, ErrorReason::Infra, reason);
            let told = agent
                .client
                .persist(DELIVERY_LIMIT, &give_up, || agent.client.finish(held.task, &finish))
                .await;
            tracing::error!(task = %held.task, %error, told = told.is_ok(), "no folder for an attempt");
        }
    }
    agent.table.release(held);
}

/// Ends an attempt of a task that cannot be read. It is the machinery's fault: another worker may know better.
pub(super) async fn refuse(agent: Arc<Agent>, held: Held, why: String, give_up: CancellationToken) {
    let (name, version) = (&agent.config.name, env!("CARGO_PKG_VERSION"));
    let reason = format!("worker {name} (version {version}) is too old for this task, update it: {why}");
    let finish = ended_early(held, ErrorReason::Infra, reason);
    let told =
        agent.client.persist(DELIVERY_LIMIT, &give_up, || agent.client.finish(held.task, &finish)).await;
    if let Err(error) = told {
        tracing::warn!(%error, task = %held.task, "the server was not told that a task cannot be read");
    }
    agent.table.release(held);
}

fn open(agent: &Agent, held: Held) -> io::Result<(AttemptFolder, Arc<Spool>)> {
    let folder = AttemptFolder::create(&agent.config.work_dir, held)?;
    match Spool::create(&folder.log(), SpoolLimits::default()) {
        Ok(spool) => Ok((folder, Arc::new(spool))),
        Err(error) => {
            folder.remove();
            Err(error)
        }
    }
}

async fn run_in(
    agent: &Arc<Agent>,
    assignment: &Assignment,
    control: &Arc<Control>,
    give_up: &CancellationToken,
    folder: &AttemptFolder,
    spool: Arc<Spool>,
) {
    let held = folder.held();
    let out = Arc::clone(&spool);
    let log = AttemptLog::new(Arc::clone(&agent.runner.clock), Box::new(move |bytes| out.append(bytes)));
    let uploader = tokio::spawn(keep_uploading(
        Arc::clone(agent),
        Arc::clone(&spool),
        held,
        Arc::clone(control),
        give_up.clone(),
    ));
    let ended = match Job::from_assignment(assignment) {
        Ok(job) => {
            drop(agent.sweeping.read().await);
            let folders = Folders { work: folder.work(), output: folder.output() };
            agent.runner.run_attempt(&job, &folders, &log, control).await
        }
        Err(reason) => {
            log.note(&reason);
            Ended { finish: ended_early(held, ErrorReason::BadTask, reason), artifacts: Vec::new() }
        }
    };
    if matches!(ended.finish.end, AttemptEnd::Outcome { outcome: Outcome::Error(ErrorReason::Infra), .. }) {
        // An executor that does not work any more is not offered to the next attempt, or it would use that up too.
        agent.probe().await;
    }
    control.enter_delivery();
    spool.seal();
    if let Err(error) = crate::files::remove(&folder.work()) {
        tracing::warn!(%error, task = %held.task, "an attempt's work folder remains");
    }
    let delivery = Delivery { finish: ended.finish, artifacts: ended.artifacts };
    if let Err(error) = folder.save(&delivery) {
        tracing::warn!(%error, task = %held.task, "how the attempt ended is in memory only");
    }
    // The uploader ends when the sealed log is sent; what it could not send, the delivery tries again.
    if let Err(error) = uploader.await {
        tracing::warn!(%error, task = %held.task, "sending the log ended early");
    }
    deliver(agent, folder, &delivery, Some(&spool), control, give_up).await;
}

/// Sends the log while it grows; learning that the attempt is fenced stops it.
async fn keep_uploading(
    agent: Arc<Agent>,
    spool: Arc<Spool>,
    held: Held,
    control: Arc<Control>,
    give_up: CancellationToken,
) {
    match crate::logs::upload(&spool, &agent.client, held, DELIVERY_LIMIT, &give_up).await {
        Ok(()) => {}
        Err(ClientError::Fenced(_)) => control.stop(StopWhy::Fenced),
        Err(error) => tracing::warn!(%error, task = %held.task, "the log cannot be sent"),
    }
}

/// Delivers what a predecessor left.
pub(super) async fn redeliver(
    agent: Arc<Agent>,
    folder: AttemptFolder,
    control: Arc<Control>,
    give_up: CancellationToken,
) {
    let held = folder.held();
    control.enter_delivery();
    if let Err(error) = crate::files::remove(&folder.work()) {
        tracing::warn!(%error, task = %held.task, "an attempt's work folder remains");
    }
    let delivery = folder.recover();
    tracing::info!(task = %held.task, end = ?delivery.finish.end, "delivering what an earlier run of this worker left");
    deliver(&agent, &folder, &delivery, None, &control, &give_up).await;
    agent.table.release(held);
}

async fn deliver(
    agent: &Agent,
    folder: &AttemptFolder,
    delivery: &Delivery,
    spool: Option<&Spool>,
    control: &Control,
    give_up: &CancellationToken,
) {
    let task = folder.held().task;
    if control.why() == Some(StopWhy::Fenced) {
        tracing::info!(%task, "fenced off: nothing is delivered");
        return folder.remove();
    }
    match folder.deliver(delivery, spool, &agent.client, give_up).await {
        Ok(()) => {
            tracing::info!(%task, end = ?delivery.finish.end, "attempt delivered");
            folder.remove();
        }
        Err(error @ ClientError::Fenced(_)) => {
            tracing::info!(%task, %error, "fenced off: nothing more is delivered");
            folder.remove();
        }
        Err(error) if give_up.is_cancelled() => {
            tracing::warn!(%task, %error, "not delivered; the next start with this work folder will");
        }
        Err(error) => {
            tracing::error!(%task, %error, "not delivered, and put aside");
            folder.set_aside(&agent.config.work_dir);
        }
    }
}

fn ended_early(held: Held, reason: ErrorReason, text: String) -> FinishRequest {
    FinishRequest {
        attempt: held.attempt,
        end: AttemptEnd::Outcome { outcome: Outcome::Error(reason), reason: Some(text) },
        phases: Vec::new(),
        environment: None,
        results: Vec::new(),
        log_chunks: 0,
        log_bytes: 0,
        log_truncated: false,
    }
}
