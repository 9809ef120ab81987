//! Events of our own, and those to be replayed: they are in the inbox already and wait to be judged.

use crate::{Scheduler, settings::CHAIN_BATCH_MAX, wish};
use std::{sync::Arc, time::Duration};
use store::{Judgement, Unjudged};
use tokio_util::sync::CancellationToken;

/// How long a server has to judge what it took before another one may.
const HOLD: Duration = Duration::from_secs(30);

/// Judges what waits, until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    loop {
        match judge_waiting(&scheduler).await {
            Ok(n) if n > 0 => {}
            Ok(_) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = scheduler.wake().unjudged.wait(scheduler.settings().poll_every) => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "own events wait");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(scheduler.settings().poll_every) => {}
                }
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

/// Judges one batch of what waits; returns how many there were.
pub(crate) async fn judge_waiting(scheduler: &Scheduler) -> store::Result<usize> {
    let hold_ms = u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX);
    let waiting = scheduler.store().unjudged(CHAIN_BATCH_MAX, hold_ms).await?;
    let count = waiting.len();
    for unjudged in waiting {
        let judgement = judge_one(scheduler, &unjudged).await;
        scheduler.store().judge(unjudged.seq, unjudged.generation, &judgement).await?;
    }
    if count > 0 {
        scheduler.wake().committed();
    }
    Ok(count)
}

async fn judge_one(scheduler: &Scheduler, unjudged: &Unjudged) -> Judgement {
    let rules = scheduler.rulebook().current();
    let revision = rules.revision().clone();
    let (clock, ids) = (Arc::clone(scheduler.clock()), Arc::clone(scheduler.ids()));
    let (event, generation) = (unjudged.event.clone(), unjudged.generation);
    let judge = move || {
        let body = event.body().ok()?;
        let evaluation = rules.evaluate(&event, &body, clock.now());
        Some(wish::judgement(&*ids, rules.revision(), &event, generation, evaluation))
    };
    // A body that does not parse was checked when it came in; if it is so all the same, no rule can fire.
    let judged = tokio::task::spawn_blocking(judge).await.ok().flatten();
    judged.unwrap_or_else(|| Judgement {
        revision,
        verdicts: Vec::new(),
        tasks: Vec::new(),
        cancels: Vec::new(),
        emits: Vec::new(),
    })
}
