//! Rules held and let go by people, and what waits for them.

use crate::{Scheduler, service::ServiceError, settings::PARKED_BATCH_MAX};
use model::{RuleName, task::Stop};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Backlog, Hold, StoreError};

/// What is held, and what waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The hold of all rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Hold>,
    /// By rule: its own hold, held events, parked tasks.
    pub rules: Vec<Backlog>,
}

/// What became of parked tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// How many were released or dropped.
    pub tasks: u64,
    /// Whether there are more: the call can be made again.
    pub more: bool,
}

impl Scheduler {
    /// Holds a rule, or all of them: its events are kept and judged when it is resumed.
    ///
    /// # Errors
    /// There is no such rule, or the database is away.
    pub async fn pause_rule(
        &self,
        rule: Option<&RuleName>,
        why: Option<String>,
        who: &str,
    ) -> Result<Hold, ServiceError> {
        if let Some(rule) = rule
            && self.rulebook().current().rule(rule).is_none()
        {
            return Err(StoreError::NotFound { what: "rule", id: rule.to_string() }.into());
        }
        let hold = self.store().hold_rule(rule, who, why.as_deref()).await?;
        self.audit(who, "rule.pause", object(rule), json!({"why": why})).await?;
        Ok(hold)
    }

    /// Ends a hold, by whatever it came. What was held back is judged, oldest first, by the rules of then, or dropped.
    /// Returns how many events were dropped.
    ///
    /// # Errors
    /// It is not held, or the database is away.
    pub async fn resume_rule(
        &self,
        rule: Option<&RuleName>,
        drop: bool,
        who: &str,
    ) -> Result<u64, ServiceError> {
        let dropped = self.store().end_hold(rule, drop).await?;
        self.wake().timers.ring();
        self.audit(who, "rule.resume", object(rule), json!({"drop": drop, "dropped": dropped})).await?;
        Ok(dropped)
    }

    /// What is held, and what waits for an operator, by rule.
    ///
    /// # Errors
    /// The database is away.
    pub async fn held(&self) -> store::Result<Held> {
        let all = self.store().rule_holds().await?.into_iter().find(|hold| hold.rule.is_none());
        Ok(Held { all, rules: self.store().backlog().await? })
    }

    /// Lets the tasks of a rule go on that a limit parked, oldest first, at most [`PARKED_BATCH_MAX`] at a time.
    ///
    /// # Errors
    /// The database is away.
    pub async fn release_parked(&self, rule: &RuleName, who: &str) -> Result<Parked, ServiceError> {
        let parked = self.store().parked(rule, PARKED_BATCH_MAX).await?;
        let mut done = Parked { tasks: 0, more: parked.len() == PARKED_BATCH_MAX as usize };
        for task in parked {
            match self.store().release(task).await {
                Ok(_) => done.tasks += 1,
                // Somebody else was faster.
                Err(StoreError::Conflict(_) | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.wake().committed();
        self.audit(who, "rule.release", object(Some(rule)), json!({"tasks": done.tasks})).await?;
        Ok(done)
    }

    /// Cancels the tasks of a rule that a limit parked, oldest first, at most [`PARKED_BATCH_MAX`] at a time.
    ///
    /// # Errors
    /// The database is away.
    pub async fn drop_parked(&self, rule: &RuleName, who: &str) -> Result<Parked, ServiceError> {
        let parked = self.store().parked(rule, PARKED_BATCH_MAX).await?;
        let mut done = Parked { tasks: 0, more: parked.len() == PARKED_BATCH_MAX as usize };
        let stop =
            Stop::Cancel { who: who.to_owned(), why: Some("parked by a limit, and dropped".to_owned()) };
        for task in parked {
            match self.store().stop(task, &stop).await {
                Ok(_) => done.tasks += 1,
                Err(StoreError::Conflict(_) | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.wake().committed();
        self.audit(who, "rule.drop", object(Some(rule)), json!({"tasks": done.tasks})).await?;
        Ok(done)
    }
}

fn object(rule: Option<&RuleName>) -> String {
    rule.map_or_else(|| "rules".to_owned(), |rule| format!("rule/{rule}"))
}
