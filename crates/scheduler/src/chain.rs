//! Events of our own, and those to be replayed: they are in the inbox already and wait to be judged.

use crate::{Scheduler, settings::CHAIN_BATCH_MAX, wish};
use model::verdict::{Verdict, VerdictKind};
use rules::compile::RuleSet;
use std::{sync::Arc, time::Duration};
use store::{Judgement, StoreError, Unjudged};
use tokio_util::sync::CancellationToken;

/// How long a server has to judge what it took before another one may.
const HOLD: Duration = Duration::from_secs(15);

/// Judges what waits, until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    let mut bell = scheduler.wake().unjudged.listen();
    loop {
        match judge_waiting(&scheduler).await {
            Ok(n) if n > 0 => {}
            Ok(_) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = bell.heard(scheduler.settings().poll_every) => {}
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
    let rules = scheduler.rules_in_force().await?;
    let waiting = scheduler.store().unjudged(CHAIN_BATCH_MAX, hold_ms).await?;
    let count = waiting.len();
    for unjudged in waiting {
        let judgement = judge_one(scheduler, &rules, &unjudged).await;
        match scheduler.store().judge(unjudged.seq, unjudged.generation, &judgement).await {
            Ok(_) => scheduler.wake().judged(),
            Err(error) if error.is_transient() => return Err(error),
            // Whatever the database refuses in it, the events behind it must not wait for it for ever.
            Err(error) => refuse(scheduler, &rules, &unjudged, &error).await?,
        }
    }
    Ok(count)
}

/// Writes down that what rules said to an event cannot be stored; the event stays, and can be replayed.
async fn refuse(
    scheduler: &Scheduler,
    rules: &RuleSet,
    unjudged: &Unjudged,
    error: &StoreError,
) -> store::Result<()> {
    tracing::error!(event = %unjudged.seq, %error, "what the rules wish for this event cannot be stored");
    let judgement = fault(rules, format!("the database refuses what the rules wish: {error}"));
    scheduler.store().judge(unjudged.seq, unjudged.generation, &judgement).await.map(drop)
}

/// A judgement that says that there is none.
fn fault(rules: &RuleSet, message: String) -> Judgement {
    let verdict = VerdictKind::Error { message, file: String::new(), line: 0, column: 0 };
    let verdicts = vec![Verdict { rule: "(all)".into(), verdict, clauses: Vec::new() }];
    Judgement { verdicts, ..nothing(rules) }
}

/// A judgement that says nothing.
pub(crate) fn nothing(rules: &RuleSet) -> Judgement {
    Judgement::none(rules.revision().clone())
}

async fn judge_one(scheduler: &Scheduler, rules: &Arc<RuleSet>, unjudged: &Unjudged) -> Judgement {
    let set = Arc::clone(rules);
    let judging = scheduler.clone();
    let (event, generation) = (unjudged.event.clone(), unjudged.generation);
    let judge = move || {
        let mut evaluation =
            set.evaluate(&event, judging.clock().now()).map_err(|error| error.to_string())?;
        let candidates = std::mem::take(&mut evaluation.candidates);
        Ok((wish::judgement(&judging, set.revision(), &event, generation, evaluation), candidates))
    };
    let judged = tokio::task::spawn_blocking(judge).await;
    match judged.unwrap_or_else(|error| Err(format!("judging stopped: {error}"))) {
        Ok((judgement, candidates)) => {
            scheduler.counters().judged(rules, &candidates, &judgement.verdicts, scheduler.clock().now());
            judgement
        }
        Err(message) => {
            tracing::error!(event = %unjudged.seq, message, "event could not be judged");
            fault(rules, message)
        }
    }
}
