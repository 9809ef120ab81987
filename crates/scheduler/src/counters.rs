//! What rules did, counted in memory and added to the database every few seconds: a write for each event would cost
//! more than the event. What a killed server had counted since is lost; nothing is decided by it.

use crate::Scheduler;
use chrono::{DateTime, Utc};
use model::{
    RuleName,
    verdict::{Verdict, VerdictKind},
};
use rules::compile::RuleSet;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::RuleCount;
use tokio_util::sync::CancellationToken;

/// How often counters are written.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// How long writing them may take when the server stops.
const LAST_WRITE_LIMIT: Duration = Duration::from_secs(2);

/// The counts that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<HashMap<RuleName, RuleCount>>);

impl Counters {
    fn lock(&self) -> MutexGuard<'_, HashMap<RuleName, RuleCount>> {
        // Sums are whole after each addition.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what rules said to an event. `candidates` are places among the rules of the set.
    pub(crate) fn judged(
        &self,
        rules: &RuleSet,
        candidates: &[u32],
        verdicts: &[Verdict],
        now: DateTime<Utc>,
    ) {
        if candidates.is_empty() && verdicts.is_empty() {
            return;
        }
        let mut counts = self.lock();
        for place in candidates {
            if let Some(rule) = rules.rules().get(*place as usize) {
                of(&mut counts, &rule.name).candidates += 1;
            }
        }
        for Verdict { rule, verdict, .. } in verdicts {
            match verdict {
                VerdictKind::Fired { .. } | VerdictKind::Shadow { .. } | VerdictKind::Collected { .. } => {
                    let count = of(&mut counts, rule);
                    count.fired += 1;
                    count.last_fired_at = Some(now);
                }
                VerdictKind::Error { .. } | VerdictKind::TooDeep { .. } => of(&mut counts, rule).errors += 1,
                // The store counts what it suppresses.
                _ => {}
            }
        }
    }

    fn take(&self) -> Vec<RuleCount> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }

    fn give_back(&self, taken: Vec<RuleCount>) {
        let mut counts = self.lock();
        for one in taken {
            let count = of(&mut counts, &one.rule);
            count.candidates += one.candidates;
            count.fired += one.fired;
            count.errors += one.errors;
            count.last_fired_at = count.last_fired_at.max(one.last_fired_at);
        }
    }
}

fn of<'a>(counts: &'a mut HashMap<RuleName, RuleCount>, rule: &RuleName) -> &'a mut RuleCount {
    counts.entry(rule.clone()).or_insert_with(|| RuleCount::new(rule.clone()))
}

impl Scheduler {
    /// Writes what was counted. Counters that are read are right after it.
    ///
    /// # Errors
    /// The database is away: nothing is lost, and it is tried again.
    pub async fn write_counters(&self) -> store::Result<()> {
        let taken = self.counters().take();
        if taken.is_empty() {
            return Ok(());
        }
        let written = self.store().count_rules(&taken).await;
        if written.is_err() {
            self.counters().give_back(taken);
        }
        written
    }
}

/// Writes counters until told to stop, and once more then.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(WRITE_EVERY) => {}
        }
        let written = tokio::time::timeout(LAST_WRITE_LIMIT, scheduler.write_counters()).await;
        if let Ok(Err(error)) = written {
            tracing::debug!(%error, "counters of rules are written later");
        }
    }
}
