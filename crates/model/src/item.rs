//! What is tested.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is tested, as Taskotron and ResultsDB name it: a type such as `koji_build`, `bodhi_update`,
/// `pagure_pr`, `compose`, and an id such as `audit-2.8-1.fc26`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The kind of thing.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which one.
    pub id: String,
}

impl Item {
    /// An item of a type and an id.
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

impl fmt::Display for Item {
    /// `koji_build/audit-2.8-1.fc26`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}
