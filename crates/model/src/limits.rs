//! How many tasks a rule may make in a time, and what becomes of the rest.

use serde::{Deserialize, Serialize};

/// How many tasks a rule may make; at least one of both is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Tasks within any hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Tasks within any day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// What becomes of the surplus.
    #[serde(default)]
    pub on_excess: OnExcess,
}

/// What becomes of the tasks beyond a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnExcess {
    /// They are made, and wait for an operator.
    #[default]
    Park,
    /// They are not made.
    Drop,
    /// The rule is held: it makes nothing more until an operator resumes it.
    Pause,
}

impl OnExcess {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Park => "park",
            Self::Drop => "drop",
            Self::Pause => "pause",
        }
    }
}
