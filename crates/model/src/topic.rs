//! Topics (bus subjects) and the patterns that match them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The topics of our own events and messages start with this token.
pub const OWN_PREFIX: &str = "taskbot";

/// The longest topic in bytes that is taken in (AMQP's limit for a routing key).
pub const TOPIC_BYTES_MAX: usize = 255;

/// A topic: dot-separated tokens, such as `org.fedoraproject.prod.buildsys.tag`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Topic(String);

impl Topic {
    /// Takes any text as it is; [`Topic::parse`] checks.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Checks that the text can be a topic: 1 to 255 bytes, no white space or control characters, no empty token,
    /// none that is a wildcard.
    ///
    /// # Errors
    /// The text is empty, too long, or holds something that no bus carries.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(TopicError::TooLong { bytes: text.len() });
        }
        if let Some(character) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(TopicError::Character { character });
        }
        if text.split('.').any(str::is_empty) {
            return Err(TopicError::EmptyToken);
        }
        if let Some(token) = text.split('.').find(|token| matches!(*token, "*" | ">" | "#")) {
            return Err(TopicError::Wildcard { token: token.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens between the dots.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether it is one of our own (`taskbot` or `taskbot.…`).
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.tokens().next() == Some(OWN_PREFIX)
    }

    /// Whether an event of this topic may enter the inbox, so that rules can react to it: what tells of events
    /// and rules never does, since it would feed itself.
    #[must_use]
    pub fn may_chain(&self) -> bool {
        !self.is_own() || !matches!(self.tokens().nth(1), None | Some("event" | "rule"))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Topic {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Why a text cannot be a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No text at all.
    #[error("a topic must not be empty")]
    Empty,
    /// Over [`TOPIC_BYTES_MAX`].
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// White space or a control character.
    #[error("a topic must not hold {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
    /// Two dots side by side, or one at an end.
    #[error("a topic must have a token between its dots, and none at its ends")]
    EmptyToken,
    /// A token that stands for others in patterns.
    #[error("`{token}` stands for other tokens in patterns; the topic of an event names each of its tokens")]
    Wildcard {
        /// The first such token.
        token: String,
    },
}

/// A pattern over topics: `*` stands for one token, a last `>` for one or more.
///
/// `>` alone does not cover our own topics (`taskbot.>`), so that a rule on everything does not feed itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Checks the pattern's form.
    ///
    /// # Errors
    /// It is empty, has an empty token, a `>` that is not last, or a wildcard glued to other text.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let last = text.split('.').count() - 1;
        for (at, token) in text.split('.').enumerate() {
            match token {
                "" => return Err(PatternError::EmptyToken),
                ">" if at != last => return Err(PatternError::NotLast),
                "*" | ">" => {}
                glued if glued.contains(['*', '>']) => {
                    return Err(PatternError::Glued { token: glued.to_owned() });
                }
                odd if odd.contains(char::is_whitespace) => {
                    return Err(PatternError::Space { token: odd.to_owned() });
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the topic is covered.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let names_own = self.0.split('.').next() == Some(OWN_PREFIX);
        if topic.is_own() && !names_own {
            return false;
        }
        let mut tokens = topic.tokens();
        for want in self.0.split('.') {
            match (want, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (want, Some(got)) if want == got => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// What each topic that is covered begins with: the tokens up to the first wildcard.
    #[must_use]
    pub fn literal_start(&self) -> &str {
        let end = self.0.find(['*', '>']).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// Whether the pattern names one topic only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.split('.').any(|token| matches!(token, "*" | ">"))
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text cannot be a topic pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No text at all.
    #[error("a topic pattern must not be empty")]
    Empty,
    /// Two dots in a row, or one at an end.
    #[error("a token between two dots must not be empty")]
    EmptyToken,
    /// `>` before the end.
    #[error("`>` stands for the rest of a topic and can only be the last token")]
    NotLast,
    /// `a*` or `b>`.
    #[error(
        "`{token}`: a wildcard stands for a whole token; for parts of one use `when: {{topic: {{glob: …}}}}`"
    )]
    Glued {
        /// The token.
        token: String,
    },
    /// White space.
    #[error("`{token}`: a topic has no white space")]
    Space {
        /// The token.
        token: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_topics() {
        let check = |pattern: &str, topic: &str, expect: bool| {
            let covered = TopicPattern::parse(pattern).unwrap().matches(&Topic::from(topic));
            assert_eq!(covered, expect, "{pattern} over {topic}");
        };
        check("a.b", "a.b", true);
        check("a.b", "a.b.c", false);
        check("a.*", "a.b", true);
        check("a.*", "a", false);
        check("a.*", "a.b.c", false);
        check("*.b", "a.b", true);
        check("a.>", "a.b.c", true);
        check("a.>", "a", false);
        check(">", "a.b.c", true);
        check(">", "taskbot.task.finished", false);
        check("*.task.finished", "taskbot.task.finished", false);
        check("taskbot.>", "taskbot.task.finished", true);
        check("taskbot.task.*", "taskbot.task.finished", true);
        check(">", "taskbotty.x", true);
    }

    #[test]
    fn bad_patterns_say_why() {
        for (pattern, expect) in [
            ("", "a topic pattern must not be empty"),
            ("a..b", "a token between two dots must not be empty"),
            (">.a", "`>` stands for the rest of a topic and can only be the last token"),
            (
                "a.b*",
                "`b*`: a wildcard stands for a whole token; for parts of one use `when: {topic: {glob: …}}`",
            ),
            ("a b", "`a b`: a topic has no white space"),
        ] {
            assert_eq!(TopicPattern::parse(pattern).unwrap_err().to_string(), expect);
        }
    }

    #[test]
    fn bad_topics_say_why() {
        for (topic, expect) in [
            (
                "a.*",
                "`*` stands for other tokens in patterns; the topic of an event names each of its tokens",
            ),
            (">", "`>` stands for other tokens in patterns; the topic of an event names each of its tokens"),
            ("a..b", "a topic must have a token between its dots, and none at its ends"),
            ("a b", "a topic must not hold ' '"),
            ("", "a topic must not be empty"),
        ] {
            assert_eq!(Topic::parse(topic).unwrap_err().to_string(), expect);
        }
        assert!(Topic::parse("a.b*.c#").is_ok());
    }

    #[test]
    fn topics_that_may_chain() {
        for (topic, expect) in [
            ("taskbot.task.finished", true),
            ("taskbot.event.received", false),
            ("taskbot.rule.fired", false),
            ("taskbot", false),
            ("org.example.task", true),
        ] {
            assert_eq!(Topic::from(topic).may_chain(), expect, "{topic}");
        }
    }
}
