//! Wishes to run a test once more, by what it tests rather than by a task: whoever asks need not know of tasks.

use crate::{
    ids::{EventSeq, RetestId, RuleName, TaskId},
    item::Item,
    topic::Topic,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The longest name of a test, in bytes.
pub const TEST_BYTES_MAX: usize = 512;
/// The largest extras, as JSON text, in bytes.
pub const EXTRAS_BYTES_MAX: usize = 64 * 1024;

/// A ResultsDB elsewhere, of which people know the numbers of results.
#[async_trait]
pub trait ResultsElsewhere: Send + Sync + fmt::Debug {
    /// The result with this number or URL, as that ResultsDB shows it; nothing when it has none.
    ///
    /// # Errors
    /// It is away, or answers what is no result.
    async fn result(&self, id: &str) -> Result<Option<Value>, Refused>;
}

/// Why a result could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The place is away: the same may do later.
    #[error("{0}")]
    Away(String),
    /// The place does not answer with a result.
    #[error("{0}")]
    Wrong(String),
}

/// A wish to run a test once more, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Retest {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: RetestId,
    /// When it was wished.
    pub at: DateTime<Utc>,
    /// Who wished it.
    pub who: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What is tested.
    pub item: Item,
    /// The test: a testcase, or a task's name.
    pub test: String,
    /// The result that it is to replace, by the number that was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// What goes into the messages as it is.
    #[serde(default)]
    pub extras: Value,
    /// How it is served.
    pub served: Served,
    /// The tasks that run it.
    pub tasks: Vec<TaskId>,
    /// The topic of the message for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub topic: Option<Topic>,
    /// How often the same was wished while this one was recent, itself included.
    pub asked: u32,
}

/// How a wish to run a test once more is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Served {
    /// The task that ran it is repeated, with its recorded inputs.
    Rerun {
        /// That task.
        of: TaskId,
    },
    /// A task of it has not ended yet: it is waited for.
    UnderWay,
    /// A rule would have made its task, and makes it now.
    Rule {
        /// The rule.
        rule: RuleName,
        /// The event that it judges.
        event: EventSeq,
    },
    /// Nothing here runs it: others are told.
    Others {
        /// Who listens.
        system: String,
    },
}
