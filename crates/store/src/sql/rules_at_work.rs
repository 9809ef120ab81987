//! Holds, backlogs, windows, schedules and counters: the calls.

use super::{SqlStore, collecting, counters, holds, limits, schedules, session::transaction};
use crate::{Backlog, CollectWindow, DueHeld, Hold, Judgement, Result, RuleCount, RulesAtWork, StoredEvent};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{RuleName, TaskId};
use std::collections::BTreeMap;

#[async_trait]
impl RulesAtWork for SqlStore {
    async fn hold_rule(&self, rule: Option<&RuleName>, by: &str, why: Option<&str>) -> Result<Hold> {
        transaction!(self, |session| holds::hold(session, rule, by, why))
    }

    async fn end_hold(&self, rule: Option<&RuleName>, drop: bool) -> Result<u64> {
        transaction!(self, |session| holds::end(session, rule, drop))
    }

    async fn rule_holds(&self) -> Result<Vec<Hold>> {
        holds::all(&mut self.read().await?).await
    }

    async fn backlog(&self) -> Result<Vec<Backlog>> {
        holds::backlog(&mut self.read().await?).await
    }

    async fn due_held(&self, limit: u32, hold_ms: u64) -> Result<Vec<DueHeld>> {
        if !holds::any(&mut self.read().await?).await? {
            return Ok(Vec::new());
        }
        transaction!(self, |session| holds::due(session, limit, hold_ms))
    }

    async fn judge_held(&self, held: &DueHeld, judgement: &Judgement) -> Result<bool> {
        self.make_places(super::places::Wanted::by(&judgement.tasks)).await?;
        holds::judge(self, held, judgement).await
    }

    async fn judge_past(&self, event: &StoredEvent, judgement: &Judgement) -> Result<Vec<TaskId>> {
        self.make_places(super::places::Wanted::by(&judgement.tasks)).await?;
        holds::judge_past(self, event, judgement).await
    }

    async fn would_make(&self, past: &[(StoredEvent, Judgement)]) -> Result<Vec<TaskId>> {
        for (_, judgement) in past {
            self.make_places(super::places::Wanted::by(&judgement.tasks)).await?;
        }
        holds::would_make(self, past).await
    }

    async fn parked(&self, rule: &RuleName, limit: u32) -> Result<Vec<TaskId>> {
        holds::parked(&mut self.read().await?, rule, limit).await
    }

    async fn close_due_windows(&self, limit: u32) -> Result<u64> {
        let now = self.now_of_database().await?;
        if !collecting::any_due(&mut self.read().await?, now).await? {
            return Ok(0);
        }
        collecting::close_due(self, limit).await
    }

    async fn collect_windows(&self, rule: Option<&RuleName>, limit: u32) -> Result<Vec<CollectWindow>> {
        collecting::windows(&mut self.read().await?, rule, limit).await
    }

    async fn schedule_times(&self, rules: &[RuleName]) -> Result<BTreeMap<RuleName, DateTime<Utc>>> {
        let times = schedules::times(&mut self.read().await?, rules).await?;
        let new: Vec<_> = rules.iter().filter(|rule| !times.contains_key(*rule)).cloned().collect();
        if new.is_empty() {
            return Ok(times);
        }
        transaction!(self, |session| schedules::begin(session, &new))?;
        schedules::times(&mut self.read().await?, rules).await
    }

    async fn pass_schedule(
        &self,
        rule: &RuleName,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        missed: Option<u64>,
    ) -> Result<bool> {
        transaction!(self, |session| schedules::pass(self, session, rule, (from, to), missed))
    }

    async fn count_rules(&self, counts: &[RuleCount]) -> Result<()> {
        transaction!(self, |session| counters::add(session, counts))
    }

    async fn rule_counts(&self) -> Result<Vec<RuleCount>> {
        counters::all(&mut self.read().await?).await
    }

    async fn forget_rates(&self) -> Result<u64> {
        transaction!(self, |session| limits::forget(session))
    }
}
