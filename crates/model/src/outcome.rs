//! How a task or a test ended. Failure (the thing under test is broken) and error (we could not tell) are
//! never mixed: a broken machine is not a broken package.

pub mod words;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// How a task or a single testcase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All is well.
    Passed,
    /// The thing under test is broken.
    Failed,
    /// Something worth knowing, neither good nor bad.
    Info,
    /// A person must look.
    NeedsInspection,
    /// The test did not run, on purpose.
    Skipped,
    /// The test does not apply to this item.
    NotApplicable,
    /// The test could not tell: something other than the thing under test broke.
    Error(ErrorReason),
}

/// Why a test could not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorReason {
    /// The task itself said so (its exit code or its results).
    Task,
    /// The machine, the network, the engine or the image let us down.
    Infra,
    /// A time limit was reached.
    Timeout,
    /// Memory ran out.
    Oom,
    /// The worker was not heard of within its lease.
    Lost,
    /// The task's results could not be read.
    BadResults,
    /// The task's repository, file or inputs are wrong.
    BadTask,
    /// A limit other than time or memory was reached: disk, artifacts, processes.
    Limit,
    /// No known worker can run it.
    NoWorker,
}

/// All outcomes with their text forms: the one list that parsing, printing and docs go by.
pub const OUTCOMES: [(Outcome, &str); 15] = [
    (Outcome::Passed, "passed"),
    (Outcome::Failed, "failed"),
    (Outcome::Info, "info"),
    (Outcome::NeedsInspection, "needs_inspection"),
    (Outcome::Skipped, "skipped"),
    (Outcome::NotApplicable, "not_applicable"),
    (Outcome::Error(ErrorReason::Task), "error(task)"),
    (Outcome::Error(ErrorReason::Infra), "error(infra)"),
    (Outcome::Error(ErrorReason::Timeout), "error(timeout)"),
    (Outcome::Error(ErrorReason::Oom), "error(oom)"),
    (Outcome::Error(ErrorReason::Lost), "error(lost)"),
    (Outcome::Error(ErrorReason::BadResults), "error(bad_results)"),
    (Outcome::Error(ErrorReason::BadTask), "error(bad_task)"),
    (Outcome::Error(ErrorReason::Limit), "error(limit)"),
    (Outcome::Error(ErrorReason::NoWorker), "error(no_worker)"),
];

impl Outcome {
    /// The text form, such as `passed` or `error(timeout)`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        // OUTCOMES holds every value (a test walks them), so the default is never reached.
        OUTCOMES.iter().find(|(outcome, _)| *outcome == self).map_or("error(task)", |(_, text)| text)
    }

    /// The text form without the reason: `error` for every error.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            other => other.as_str(),
        }
    }

    /// Whether it is an error of any reason.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// Whether nobody needs to act: passed, information, or not run on purpose.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Passed | Self::Info | Self::Skipped | Self::NotApplicable)
    }

    /// The exit code of commands that wait for a task.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Passed | Self::Info | Self::Skipped | Self::NotApplicable => 0,
            Self::Failed | Self::NeedsInspection => 1,
            Self::Error(ErrorReason::Timeout) => 124,
            Self::Error(_) => 3,
        }
    }

    /// How bad it is, for "the worst of": an error outweighs a failure, since it hides what would have been.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            Self::NotApplicable => 0,
            Self::Skipped => 1,
            Self::Passed => 2,
            Self::Info => 3,
            Self::NeedsInspection => 4,
            Self::Failed => 5,
            Self::Error(_) => 6,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no outcome; known are passed, failed, info, needs_inspection, skipped, not_applicable, error"
)]
pub struct UnknownOutcome(pub String);

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    /// Takes the text forms; a bare `error` is [`ErrorReason::Task`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "error" {
            return Ok(Self::Error(ErrorReason::Task));
        }
        OUTCOMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(outcome, _)| *outcome)
            .ok_or_else(|| UnknownOutcome(text.to_owned()))
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Outcome {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .enum_values(Some(OUTCOMES.map(|(_, text)| text)))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Outcome {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_go_both_ways() {
        for (outcome, text) in OUTCOMES {
            assert_eq!(outcome.as_str(), text);
            assert_eq!(text.parse::<Outcome>().unwrap(), outcome);
        }
        assert_eq!("error".parse::<Outcome>().unwrap(), Outcome::Error(ErrorReason::Task));
        assert!("ok".parse::<Outcome>().is_err());
    }
}
