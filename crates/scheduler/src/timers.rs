//! What comes by time and not by an event: windows that are due, times of schedules, and events that a hold let go.

use crate::{Scheduler, chain, relay::Lease, settings::TIMERS_BATCH_MAX, wish};
use chrono::{DateTime, Utc};
use model::{
    RuleName,
    verdict::{Verdict, VerdictKind},
};
use rules::{Schedule, compile::RuleSet, schedule::Missed};
use std::{sync::Arc, time::Duration};
use store::{DueHeld, Judgement};
use tokio_util::sync::CancellationToken;

/// The name of the work under whose lease one server at a time looks at times.
const TIMERS: &str = "timers";
/// How long a server has to judge the held events that it took before another one may.
const HOLD: Duration = Duration::from_secs(15);
/// How late a time of a schedule may be seen and still counts as met: looking goes round every second or so.
const ON_TIME: chrono::Duration = chrono::Duration::seconds(60);
/// The most missed times that are counted.
const MISSED_COUNTED_MAX: u64 = 10_000;

/// Looks at times until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    let mut lease = Lease::of(TIMERS);
    let mut bell = scheduler.wake().timers.listen();
    loop {
        let more = look(&scheduler, &mut lease).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "windows, schedules and held events wait");
            false
        });
        if stop.is_cancelled() {
            break;
        }
        if !more {
            tokio::select! {
                () = stop.cancelled() => break,
                () = bell.heard(scheduler.settings().poll_every) => {}
            }
        }
    }
    lease.end(&scheduler).await;
}

/// One look; whether there is more to do at once.
async fn look(scheduler: &Scheduler, lease: &mut Lease) -> store::Result<bool> {
    if !lease.holds(scheduler).await? {
        return Ok(false);
    }
    let rules = scheduler.rules_in_force().await?;
    let closed = scheduler.store().close_due_windows(TIMERS_BATCH_MAX).await?;
    let fired = look_at_schedules(scheduler, &rules).await?;
    if closed > 0 || fired {
        scheduler.wake().judged();
    }
    let judged = judge_held(scheduler, &rules).await?;
    Ok(closed == u64::from(TIMERS_BATCH_MAX) || judged > 0)
}

/// Tells rules that their time has come; whether any was told.
async fn look_at_schedules(scheduler: &Scheduler, rules: &RuleSet) -> store::Result<bool> {
    let schedules = rules.schedules();
    if schedules.is_empty() {
        return Ok(false);
    }
    let names: Vec<_> = schedules.iter().map(|schedule| schedule.rule.clone()).collect();
    let times = scheduler.store().schedule_times(&names).await?;
    let now = scheduler.store().now().await?;
    let mut fired = false;
    for schedule in &schedules {
        let Some(last) = times.get(&schedule.rule) else { continue };
        let Some(step) = step(schedule, *last, now) else { continue };
        let passed = scheduler.store().pass_schedule(&schedule.rule, *last, step.to, step.missed).await?;
        fired |= passed && step.missed.is_some();
    }
    Ok(fired)
}

/// How far a schedule goes on.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    to: DateTime<Utc>,
    /// The time is due, and so many before it were missed. Nothing when it is let go.
    missed: Option<u64>,
}

fn step(schedule: &Schedule, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<Step> {
    let mut to = schedule.next_after(last).filter(|time| *time <= now)?;
    let mut missed = 0;
    while let Some(next) = schedule.next_after(to).filter(|next| *next <= now) {
        to = next;
        missed += 1;
        if missed == MISSED_COUNTED_MAX {
            // The times between are many and old: the next look goes on from near to now.
            to = to.max(now - ON_TIME);
            break;
        }
    }
    let due = now - to <= ON_TIME || schedule.missed == Missed::Once;
    Some(Step { to, missed: due.then_some(missed) })
}

/// Judges events that nothing holds any more, by the rules of now and for their rule alone. Returns how many.
async fn judge_held(scheduler: &Scheduler, rules: &Arc<RuleSet>) -> store::Result<usize> {
    let hold_ms = u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX);
    let due = scheduler.store().due_held(TIMERS_BATCH_MAX, hold_ms).await?;
    let count = due.len();
    for held in due {
        let judgement = judge_one(scheduler, rules, &held).await;
        match scheduler.store().judge_held(&held, &judgement).await {
            Ok(_) => scheduler.wake().judged(),
            Err(error) if error.is_transient() => return Err(error),
            // Whatever the database refuses in it, the events behind it must not wait for it for ever.
            Err(error) => {
                tracing::error!(event = %held.seq, rule = %held.rule, %error, "what a rule wishes for a held event cannot be stored");
                let message = format!("the database refuses what the rule wishes: {error}");
                let fault = fault(rules, &held.rule, message);
                scheduler.store().judge_held(&held, &fault).await?;
            }
        }
    }
    Ok(count)
}

async fn judge_one(scheduler: &Scheduler, rules: &Arc<RuleSet>, held: &DueHeld) -> Judgement {
    let set = Arc::clone(rules);
    let judging = scheduler.clone();
    let DueHeld { rule, generation, event, .. } = held.clone();
    let judge = move || {
        let now = judging.clock().now();
        let evaluation = set.evaluate_rule(&rule, &event, now).map_err(|error| error.to_string())?;
        Ok(evaluation
            .map(|evaluation| wish::judgement(&judging, set.revision(), &event, generation, evaluation)))
    };
    let judged = tokio::task::spawn_blocking(judge).await;
    match judged.unwrap_or_else(|error| Err(format!("judging stopped: {error}"))) {
        Ok(Some(judgement)) => {
            let now = scheduler.clock().now();
            scheduler.counters().judged(rules, &[], &judgement.verdicts, now);
            judgement
        }
        Ok(None) => {
            tracing::info!(event = %held.seq, rule = %held.rule, "a held event is let go: its rule is gone or off");
            Judgement::none(rules.revision().clone())
        }
        Err(message) => {
            tracing::error!(event = %held.seq, rule = %held.rule, message, "a held event could not be judged");
            fault(rules, &held.rule, message)
        }
    }
}

fn fault(rules: &RuleSet, rule: &RuleName, message: String) -> Judgement {
    let verdict = VerdictKind::Error { message, file: String::new(), line: 0, column: 0 };
    let verdicts = vec![Verdict { rule: rule.clone(), verdict, clauses: Vec::new() }];
    Judgement { verdicts, ..chain::nothing(rules) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::schedule::Times;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn how_far_a_schedule_goes_on() {
        let check = |missed: Missed, last: &str, now: &str, expect: Option<(&str, Option<u64>)>| {
            let times = Times::parse("*/15 * * * *", rules::schedule::timezone("UTC").unwrap()).unwrap();
            let schedule = Schedule { rule: "r".into(), times, missed };
            let got = step(&schedule, time(last), time(now));
            let expect = expect.map(|(to, missed)| Step { to: time(to), missed });
            assert_eq!(got, expect, "{last} {now}");
        };
        let (skip, once) = (Missed::Skip, Missed::Once);
        check(skip, "2026-11-01T10:00:00Z", "2026-11-01T10:14:59Z", None);
        check(
            skip,
            "2026-11-01T10:03:00.5Z",
            "2026-11-01T10:15:00Z",
            Some(("2026-11-01T10:15:00Z", Some(0))),
        );
        check(skip, "2026-11-01T10:15:00Z", "2026-11-01T10:30:01Z", Some(("2026-11-01T10:30:00Z", Some(0))));
        // Nobody was there for two hours.
        check(skip, "2026-11-01T10:00:00Z", "2026-11-01T12:05:00Z", Some(("2026-11-01T12:00:00Z", None)));
        check(once, "2026-11-01T10:00:00Z", "2026-11-01T12:05:00Z", Some(("2026-11-01T12:00:00Z", Some(7))));
        check(skip, "2026-11-01T10:00:00Z", "2026-11-01T12:00:30Z", Some(("2026-11-01T12:00:00Z", Some(7))));
        // For years.
        let (last, now) = (time("2001-01-01T00:00:00Z"), time("2026-11-01T12:00:30Z"));
        let times = Times::parse("* * * * *", rules::schedule::timezone("UTC").unwrap()).unwrap();
        let schedule = Schedule { rule: "r".into(), times, missed: once };
        assert_eq!(
            step(&schedule, last, now),
            Some(Step { to: now - ON_TIME, missed: Some(MISSED_COUNTED_MAX) })
        );
    }
}
