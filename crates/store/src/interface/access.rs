//! Tokens, and the record of who changed what.

use super::{Page, Result};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    ids::{QueueName, TokenId},
    task::PRIORITY_MAX,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// What a token may do; each role may do what those before it may, except `agent`, which stands apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but secrets.
    Viewer,
    /// Also submits events and tasks, re-runs, and cancels its own.
    Submitter,
    /// Claims and reports: for workers. Reads nothing else.
    Agent,
    /// Also manages queues, workers, rules, dead letters and other people's tasks.
    Manager,
    /// Everything, tokens too.
    Admin,
}

/// All roles with their text form.
pub const ROLES: [(Role, &str); 5] = [
    (Role::Viewer, "viewer"),
    (Role::Submitter, "submitter"),
    (Role::Agent, "agent"),
    (Role::Manager, "manager"),
    (Role::Admin, "admin"),
];

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ROLES.iter().find(|(role, _)| role == self).map_or("viewer", |(_, text)| text))
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        ROLES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role).ok_or_else(|| {
            format!("`{text}` is no role; known are {}", ROLES.map(|(_, name)| name).join(", "))
        })
    }
}

/// The most queues that bounds name.
pub const BOUND_QUEUES_MAX: usize = 1000;
/// The longest time that bounds name, in seconds (a year).
pub const BOUND_RUN_SECONDS_MAX: u64 = 366 * 24 * 3600;

/// Within what somebody works who may submit tasks or run them. What is missing sets no bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Only these queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<BTreeSet<QueueName>>,
    /// The highest priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_max: Option<i32>,
    /// The longest that the run of a task may hold a machine, in seconds; longer ones are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_seconds_max: Option<u64>,
}

impl Bounds {
    /// Whether there are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a role can have them: those above submit and run nothing that is not theirs to.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, role: Role) -> std::result::Result<(), String> {
        if !self.is_none() && !matches!(role, Role::Submitter | Role::Agent) {
            return Err(format!("the role {role} has no bounds; submitter and agent can have them"));
        }
        if self.queues.as_ref().is_some_and(|queues| queues.is_empty() || queues.len() > BOUND_QUEUES_MAX) {
            return Err(format!("bounds name 1 to {BOUND_QUEUES_MAX} queues"));
        }
        if self.priority_max.is_some_and(|most| !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&most)) {
            return Err(format!("the highest priority must be from -{PRIORITY_MAX} to {PRIORITY_MAX}"));
        }
        if self.run_seconds_max.is_some_and(|most| !(1..=BOUND_RUN_SECONDS_MAX).contains(&most)) {
            return Err(format!("the longest run must be from 1 to {BOUND_RUN_SECONDS_MAX} seconds"));
        }
        Ok(())
    }

    /// Whether a queue is within them.
    #[must_use]
    pub fn allow_queue(&self, queue: &QueueName) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.contains(queue))
    }
}

/// A token. Its secret is known only by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// Who or what it is for; appears as `who` in records.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Within what it works.
    #[serde(default, skip_serializing_if = "Bounds::is_none")]
    pub bounds: Bounds,
    /// SHA-256 of its secret.
    #[serde(skip)]
    pub secret_hash: [u8; 32],
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<DateTime<Utc>>,
}

/// One change that somebody made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When; given by the store.
    pub at: DateTime<Utc>,
    /// Who.
    pub who: String,
    /// What was done: `task.cancel`.
    pub action: String,
    /// To what: `task/0193…`.
    pub object: String,
    /// Anything else, as JSON.
    pub detail: serde_json::Value,
}

/// Tokens and the audit record.
#[async_trait]
pub trait Access: Send + Sync {
    /// Keeps a token.
    async fn add_token(&self, token: &Token) -> Result<()>;

    /// A token by its public part; notes its use.
    async fn use_token(&self, id: TokenId) -> Result<Option<Token>>;

    /// All tokens, by name.
    async fn tokens(&self) -> Result<Vec<Token>>;

    /// Revokes a token.
    async fn revoke_token(&self, id: TokenId) -> Result<()>;

    /// Records a change; `at` is ignored.
    async fn audit(&self, record: &AuditRecord) -> Result<()>;

    /// The record, newest first; `before` is the `next` of a page.
    async fn audit_log(&self, before: Option<i64>, limit: u32) -> Result<Page<AuditRecord>>;
}
