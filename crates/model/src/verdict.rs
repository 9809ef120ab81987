//! What one rule said to one event.

use crate::ids::RuleName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one rule said to one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verdict {
    /// The rule.
    pub rule: RuleName,
    /// What it said.
    pub verdict: VerdictKind,
    /// Every clause in the order of the rule; empty where only firings are recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clauses: Vec<ClauseVerdict>,
}

/// The kinds of verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VerdictKind {
    /// All clauses held; these many tasks, cancellations and messages were wished.
    Fired {
        /// How many tasks.
        tasks: u32,
    },
    /// The rule is in shadow mode: it would have fired.
    Shadow {
        /// How many tasks it would have made.
        tasks: u32,
    },
    /// A clause did not hold.
    NoMatch,
    /// A script or template erred, with its place in the rule file.
    Error {
        /// What happened.
        message: String,
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: u32,
        /// The column, counted from 1.
        column: u32,
    },
    /// The wish had been made before (`dedupe`).
    Duplicate {
        /// The key.
        key: String,
    },
    /// A limit dropped the wish.
    Limited {
        /// Which limit.
        limit: String,
    },
    /// A limit parked the wish for an operator.
    Parked {
        /// Which limit.
        limit: String,
    },
    /// The event was collected for a later firing.
    Collected {
        /// The key.
        key: String,
    },
    /// The rule is held: the event waits for the hold's end, and is judged then.
    Held {
        /// By what, in words.
        why: String,
    },
    /// A chain of our own events was cut at this depth.
    TooDeep {
        /// The event's depth.
        depth: u32,
    },
}

/// What one rule says to an event, and what became of it when it was acted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explained {
    /// The rule with every clause.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was recorded beyond it at the newest replay: wishes that were held, parked, dropped or made before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub became: Vec<VerdictKind>,
}

impl VerdictKind {
    /// The kind in one word, as stored and shown.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fired { .. } => "fired",
            Self::Shadow { .. } => "shadow",
            Self::NoMatch => "no_match",
            Self::Error { .. } => "error",
            Self::Duplicate { .. } => "duplicate",
            Self::Limited { .. } => "limited",
            Self::Parked { .. } => "parked",
            Self::Collected { .. } => "collected",
            Self::Held { .. } => "held",
            Self::TooDeep { .. } => "too_deep",
        }
    }
}

/// One clause of a rule against one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClauseVerdict {
    /// Where it stands: `on`, `when`, `unless`, `any[0]`, `if`, `for_each`.
    pub block: String,
    /// The path it reads, such as `body.update.release.name`; empty for scripts.
    pub path: String,
    /// What was wanted, in words: `is any of [F42, F43]`.
    pub wanted: String,
    /// What was found, shortened to a line; nothing when it was missing or not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
    /// How it went.
    pub state: ClauseState,
    /// The error or the type found, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How a clause went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ClauseState {
    /// It held.
    Held,
    /// The value is another.
    Failed,
    /// The field is not there.
    Missing,
    /// The value has another type than the clause can judge.
    WrongType,
    /// The script erred.
    Error,
    /// An earlier clause decided.
    NotReached,
}
