//! Rule sets, by content, and which one is active.

use super::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::Revision;
use serde::{Deserialize, Serialize};

/// A rule set as it was imported: everything that judging by it again needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRuleSet {
    /// Its content address.
    pub revision: Revision,
    /// Its files and the modes of its rules, as JSON text (the rules crate's form).
    pub content: String,
    /// Where it came from: a folder, a repository, the API.
    pub origin: String,
    /// The commit, when it came from a git repository.
    pub commit: Option<String>,
    /// Who imported it.
    pub by: String,
    /// When it was first imported.
    pub created_at: DateTime<Utc>,
}

/// The active rule set. The row that every server follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// Counts up with each activation, also back to an older revision.
    pub serial: i64,
    /// The revision.
    pub revision: Revision,
    /// Who made it active.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The commit of the rule set, when it came from a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What a rollback took out of force: as long as the folder or repository that rules are read from holds the
    /// same, it is not made active again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<Revision>,
}

/// Whether the folder or repository that rules are read from is followed after an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// It is.
    Follow,
    /// As it was before.
    Keep,
    /// Not while it holds what is active now: a rollback.
    HoldBack,
}

/// Rule sets.
#[async_trait]
pub trait RuleSets: Send + Sync {
    /// Keeps a rule set; one that is there already stays as it is.
    async fn put_rule_set(&self, set: &StoredRuleSet) -> Result<()>;

    /// A rule set by its whole revision, or by a prefix of at least 6 digits that only one has.
    async fn rule_set(&self, revision: &str) -> Result<StoredRuleSet>;

    /// Makes a revision that is kept the active one. Making the active one active again in the same way changes
    /// nothing. `expected` is the revision that must be active now, when given; else it is a conflict.
    async fn activate(
        &self,
        revision: &Revision,
        expected: Option<&Revision>,
        by: &str,
        pin: Pin,
    ) -> Result<Activation>;

    /// The active one.
    async fn active(&self) -> Result<Option<Activation>>;

    /// The last activations, newest first.
    async fn activations(&self, limit: u32) -> Result<Vec<Activation>>;
}
