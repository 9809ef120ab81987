//! Events of our own, and those to be replayed: they are in the inbox already and wait to be judged.

use crate::{Scheduler, settings::CHAIN_BATCH_MAX, wake::Pace, wish};
use model::{
    ids::EventSeq,
    verdict::{Verdict, VerdictKind},
};
use rules::compile::RuleSet;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use store::{Judgement, StoreError, Unjudged};
use tokio_util::sync::CancellationToken;

/// How long a server has to judge what it took before another one may.
const HOLD: Duration = Duration::from_secs(15);

/// Judges what waits, until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    let mut bell = scheduler.wake().unjudged.listen();
    let mut pace = Pace::default();
    loop {
        match judge_waiting(&scheduler).await {
            Ok(n) if n >= CHAIN_BATCH_MAX as usize => {}
            Ok(_) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = bell.heard(scheduler.settings().poll_every) => pace.turn().await,
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
    if waiting.is_empty() {
        return Ok(0);
    }
    let (waiting, judged) = judge(scheduler, &rules, waiting).await;
    match scheduler.store().judge_all(&judged).await {
        Ok(_) => {
            if !judged.iter().all(|(_, _, judgement)| judgement.is_quiet()) {
                scheduler.wake().judged();
            }
        }
        Err(error) if error.is_transient() => return Err(error),
        // One of them: each by itself.
        Err(error) => {
            tracing::debug!(%error, "events are judged one by one");
            for (unjudged, (seq, generation, judgement)) in waiting.iter().zip(&judged) {
                match scheduler.store().judge(*seq, *generation, judgement).await {
                    Ok(_) => scheduler.wake().judged(),
                    Err(error) if error.is_transient() => return Err(error),
                    // Whatever the database refuses in it, the events behind it must not wait for it for ever.
                    Err(error) => refuse(scheduler, &rules, unjudged, &error).await?,
                }
            }
        }
    }
    Ok(waiting.len())
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

/// Asks the rules about events, away from the threads that answer requests.
async fn judge(
    scheduler: &Scheduler,
    rules: &Arc<RuleSet>,
    waiting: Vec<Unjudged>,
) -> (Vec<Unjudged>, Vec<(EventSeq, u32, Judgement)>) {
    let (set, judging) = (Arc::clone(rules), scheduler.clone());
    let waiting = Arc::new(waiting);
    let events = Arc::clone(&waiting);
    let judge = move || {
        let one = |unjudged| {
            let judged = catch_unwind(AssertUnwindSafe(|| judge_one(&judging, &set, unjudged)));
            judged.unwrap_or_else(|_| fault(&set, "judging stopped".to_owned()))
        };
        events.iter().map(one).collect()
    };
    let judged: Vec<_> = tokio::task::spawn_blocking(judge).await.unwrap_or_else(|error| {
        waiting.iter().map(|_| fault(rules, format!("judging stopped: {error}"))).collect()
    });
    let places = waiting.iter().map(|unjudged| (unjudged.seq, unjudged.generation));
    let judged =
        places.zip(judged).map(|((seq, generation), judgement)| (seq, generation, judgement)).collect();
    (Arc::unwrap_or_clone(waiting), judged)
}

fn judge_one(scheduler: &Scheduler, rules: &RuleSet, unjudged: &Unjudged) -> Judgement {
    let Unjudged { seq, generation, event } = unjudged;
    match rules.evaluate(event, scheduler.clock().now()) {
        Ok(mut evaluation) => {
            let candidates = std::mem::take(&mut evaluation.candidates);
            let judgement = wish::judgement(scheduler, rules.revision(), event, *generation, evaluation);
            scheduler.counters().judged(rules, &candidates, &judgement.verdicts, scheduler.clock().now());
            judgement
        }
        Err(error) => {
            tracing::error!(event = %seq, %error, "event could not be judged");
            fault(rules, error.to_string())
        }
    }
}
