//! What a rule in force would have made of past events, made now: behind its limits, and once.

use crate::{Scheduler, service::ServiceError, wish};
use chrono::{DateTime, Utc};
use model::{Item, RuleName, TaskId, TaskName, ids::EventSeq, verdict::VerdictKind};
use rules::compile::RuleSet;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::HashSet, sync::Arc};
use store::{EventQuery, Judgement, NewTask, StoreError, StoredEvent};

/// The most events of one call.
pub const APPLY_EVENTS_MAX: u32 = 500;

/// Which events, and whether anything is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Only received at or after.
    pub since: DateTime<Utc>,
    /// Only received before.
    pub until: DateTime<Utc>,
    /// Only after this one: [`Applied::next`] of the call before.
    pub after: Option<EventSeq>,
    /// Only look.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// How many events were looked at.
    pub events: u64,
    /// On how many the rule fired.
    pub fired: u64,
    /// On how many it erred.
    pub errors: u64,
    /// How many tasks it wishes; those that were made before count.
    pub wishes: u64,
    /// The tasks that were made now.
    pub tasks: Vec<TaskId>,
    /// Of a look only: the tasks that would be made now, behind the rule's limits and without those of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_make: Vec<Wished>,
    /// Where to go on, when there are more.
    pub next: Option<EventSeq>,
}

/// A task that would be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wished {
    /// Of which event.
    pub event: EventSeq,
    /// Its name.
    pub name: TaskName,
    /// What it would test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Item>,
}

impl Scheduler {
    /// Lets a rule in force judge past events, oldest first, at most [`APPLY_EVENTS_MAX`] a call, and makes its tasks;
    /// nothing else that it wishes. Repeating it makes nothing twice. A rule in shadow mode makes nothing.
    ///
    /// # Errors
    /// There is no such rule, or the database is away.
    pub async fn apply_rule(&self, rule: &RuleName, past: Past, who: &str) -> Result<Applied, ServiceError> {
        let set = self.rulebook().current();
        if set.rule(rule).is_none() {
            return Err(StoreError::NotFound { what: "rule", id: rule.to_string() }.into());
        }
        let query = EventQuery {
            since: Some(past.since),
            until: Some(past.until),
            before: past.after,
            oldest_first: true,
            limit: APPLY_EVENTS_MAX,
            ..EventQuery::default()
        };
        let page = self.store().events(&query).await?;
        let more = page.next.is_some();
        let next = page.items.last().filter(|_| more).map(|event| event.seq);
        let mut applied = Applied { next, ..Applied::default() };
        let mut judged = Vec::new();
        for event in page.items.into_iter().filter(|event| !event.body_expired) {
            judged.extend(self.apply_to(&set, rule, event, &mut applied).await?);
        }
        if past.dry_run {
            applied.would_make = self.would_make(&judged).await?;
            return Ok(applied);
        }
        for (event, judgement) in &judged {
            applied.tasks.extend(self.store().judge_past(event, judgement).await?);
        }
        if !applied.tasks.is_empty() {
            self.wake().committed();
            let detail = json!({"since": past.since, "tasks": applied.tasks.len()});
            self.audit(who, "rule.apply", format!("rule/{rule}"), detail).await?;
        }
        Ok(applied)
    }

    /// What one rule comes to on a past event; nothing when it says nothing.
    pub(crate) async fn judge_by(
        &self,
        set: &Arc<RuleSet>,
        rule: &RuleName,
        stored: &StoredEvent,
    ) -> Result<Option<Judgement>, ServiceError> {
        let (set, judging) = (Arc::clone(set), self.clone());
        let (name, event, generation) = (rule.clone(), stored.event.clone(), stored.generation);
        let judge = move || {
            // As old as it was when it came in: ages count from then.
            let evaluation = set.evaluate_rule(&name, &event, event.received_at).ok().flatten()?;
            Some(wish::judgement(&judging, set.revision(), &event, generation, evaluation))
        };
        let judged = tokio::task::spawn_blocking(judge).await;
        judged.map_err(|error| ServiceError::Bad(format!("judging stopped: {error}")))
    }

    async fn would_make(&self, judged: &[(StoredEvent, Judgement)]) -> Result<Vec<Wished>, ServiceError> {
        let made: HashSet<_> = self.store().would_make(judged).await?.into_iter().collect();
        let of_event = |(event, judgement): &(StoredEvent, Judgement)| {
            let tasks = judgement.tasks.iter().filter(|task| made.contains(&task.id));
            let wished = |task: &NewTask| Wished {
                event: event.seq,
                name: task.name.clone(),
                item: task.item.clone(),
            };
            tasks.map(wished).collect::<Vec<_>>()
        };
        Ok(judged.iter().flat_map(of_event).collect())
    }

    /// What a rule comes to on an event, when there is something to make of it.
    async fn apply_to(
        &self,
        set: &Arc<RuleSet>,
        rule: &RuleName,
        stored: StoredEvent,
        applied: &mut Applied,
    ) -> Result<Option<(StoredEvent, Judgement)>, ServiceError> {
        applied.events += 1;
        let Some(judgement) = self.judge_by(set, rule, &stored).await? else { return Ok(None) };
        for verdict in &judgement.verdicts {
            match verdict.verdict {
                VerdictKind::Error { .. } => applied.errors += 1,
                VerdictKind::Fired { .. } | VerdictKind::Shadow { .. } => applied.fired += 1,
                _ => {}
            }
        }
        applied.wishes += judgement.tasks.len() as u64;
        if judgement.tasks.is_empty() {
            return Ok(None);
        }
        let mut judgement =
            Judgement { cancels: Vec::new(), emits: Vec::new(), collects: Vec::new(), ..judgement };
        // What it said before stands there already.
        let said = self.store().firings(stored.seq).await?;
        let known = |kind: &VerdictKind| {
            said.iter().any(|firing| {
                firing.generation == stored.generation
                    && firing.verdict.rule == *rule
                    && firing.verdict.verdict == *kind
            })
        };
        judgement.verdicts.retain(|verdict| !known(&verdict.verdict));
        Ok(Some((stored, judgement)))
    }
}
