//! Versions of the server.

use std::fmt;

/// A server's version; what follows the three numbers does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

/// The oldest server that can be used.
pub const MINIMUM: Version = Version { major: 2, minor: 10, patch: 0 };
/// What older servers lack: they accept these settings and drop them without a word.
const NEEDED: &str = "`filter_subjects` (several filters on one consumer) and a stored configuration that is \
                      what was asked for";

impl Version {
    /// Reads `2.10.26`, `2.11.0-RC.3`, `2.10.0-beta.1`.
    ///
    /// # Errors
    /// The text, when it is no version.
    pub fn parse(text: &str) -> Result<Self, String> {
        let core = text.split(['-', '+']).next().unwrap_or_default();
        let numbers: Result<Vec<u32>, _> = core.split('.').map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[major, minor, patch]) => Ok(Self { major, minor, patch }),
            _ => Err(format!("{text:?} is no version of nats-server (expected such as 2.10.26)")),
        }
    }

    /// Refuses servers older than [`MINIMUM`].
    ///
    /// # Errors
    /// Which version it is, and what needs a newer one.
    pub fn check(text: &str) -> Result<Self, String> {
        let version = Self::parse(text)?;
        if version < MINIMUM {
            return Err(format!("nats-server {version} is too old: {NEEDED} need {MINIMUM} or newer"));
        }
        Ok(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |text: &str, expect: Result<&str, &str>| match (Version::check(text), expect) {
            (Ok(version), Ok(expect)) => assert_eq!(version.to_string(), expect),
            (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}"),
            (got, expect) => panic!("{text}: {got:?}, not {expect:?}"),
        };
        check("2.10.0", Ok("2.10.0"));
        check("2.10.26", Ok("2.10.26"));
        check("2.15.1", Ok("2.15.1"));
        check("2.11.0-RC.3", Ok("2.11.0"));
        check("3.0.0+dirty", Ok("3.0.0"));
        check("2.9.10", Err("nats-server 2.9.10 is too old: `filter_subjects`"));
        check("2.9.99", Err("need 2.10.0 or newer"));
        check("1.4.1", Err("too old"));
        check("", Err("is no version"));
        check("2.10", Err("is no version"));
        check("2.x.1", Err("is no version"));
    }
}
