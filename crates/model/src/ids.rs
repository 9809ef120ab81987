//! Newtypes for every id and name, so that no function takes a bare string for one.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// A name: an opaque, non-empty text. A copy shares it: names are copied with every wish of every rule.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any text as it is.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// An id that is a UUID.
macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            #[must_use]
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    };
}

/// A number that the database counts up.
macro_rules! serial {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(
    /// The id that an event's maker gave it. Opaque: old buses give `2015-<uuid>`, webhooks give delivery ids.
    EventId
);
name!(
    /// Where an event came in: the name of a configured source, `api`, or `taskbot` for our own.
    SourceName
);
name!(
    /// The unique name of a rule.
    RuleName
);
name!(
    /// The content address of a rule set: 64 hexadecimal digits (SHA-256).
    Revision
);
name!(
    /// The name under which a task is registered, or that its task file gives it.
    TaskName
);
name!(
    /// A queue, where tasks wait for a worker.
    QueueName
);
name!(
    /// A worker's or agent's name, unique among those that are connected.
    WorkerName
);
name!(
    /// A group of tasks, of which a limited number run or the newest supersedes the older.
    GroupName
);
name!(
    /// Who a task is made for: `rule:NAME` or `user:NAME`. Turns go round among these.
    Submitter
);
uuid!(
    /// One wish, made once.
    TaskId
);
uuid!(
    /// A named group of tasks.
    BatchId
);
uuid!(
    /// An API token (the public part).
    TokenId
);
uuid!(
    /// A wish to run a test once more.
    RetestId
);
uuid!(
    /// A file that an attempt left.
    ArtifactId
);
serial!(
    /// An event's place in the inbox of this installation.
    EventSeq
);
serial!(
    /// A result. 64-bit, since the clients of older stores expect a number.
    ResultId
);
serial!(
    /// A message's row in the outbox, in the order of writing (which is not the order of commits).
    OutboxId
);
serial!(
    /// A published message's place in the live stream, stamped by the relay; streams resume by it.
    Position
);
serial!(
    /// A letter that could not be processed.
    DeadLetterId
);

impl Revision {
    /// The first 12 digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl Submitter {
    /// The submitter of all tasks that a rule makes.
    #[must_use]
    pub fn rule(name: &RuleName) -> Self {
        Self(format!("rule:{name}").into())
    }

    /// A person or program that asked by the API.
    #[must_use]
    pub fn user(name: &str) -> Self {
        Self(format!("user:{name}").into())
    }
}
