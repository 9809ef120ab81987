//! What ends a command other than well, and the exit code that says so.

use std::fmt;

/// All is well, or the task passed.
pub(crate) const DONE: u8 = 0;
/// The task failed, or what was checked is wrong.
pub(crate) const FAILED: u8 = 1;
/// The command was used wrongly (clap's own code).
pub(crate) const USAGE: u8 = 2;
/// A machine, a service or the network let us down.
pub(crate) const INFRA: u8 = 3;
/// The token is missing, wrong, or may not do this.
pub(crate) const NOT_ALLOWED: u8 = 4;
/// There is no such thing.
pub(crate) const NOT_FOUND: u8 = 5;
/// The state does not allow it, or a name means several things.
pub(crate) const CONFLICT: u8 = 6;
/// Interrupted by a person.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit codes in words, for the help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 passed or done, 1 failed or mismatch, 2 usage, 3 infrastructure error, 4 not allowed,
5 not found, 6 conflict, 124 timeout, 130 interrupted.";

/// An error that knows its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The exit code.
    pub(crate) code: u8,
    /// What went wrong and how to mend it.
    pub(crate) message: String,
}

impl Fault {
    /// A fault with this exit code.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The command was used wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// A file that was named cannot be read: it is not there, or is none that can be used.
    pub(crate) fn unread(what: impl fmt::Display, error: &std::io::Error) -> Self {
        let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { USAGE };
        Self::new(code, format!("cannot read {what}: {error}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The exit code of an error: that of the fault in it, else an infrastructure error's. A reader that went away
/// (`taskbot … | head`) is no error.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.code;
    }
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) { DONE } else { INFRA }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn codes() {
        let fault = || anyhow::Error::new(Fault::new(NOT_FOUND, "no task `x`"));
        assert_eq!(exit_code(&fault()), NOT_FOUND);
        assert_eq!(exit_code(&fault().context("while showing it")), NOT_FOUND);
        assert_eq!(exit_code(&anyhow::anyhow!("something")), INFRA);
        let unread = |kind: std::io::ErrorKind| Fault::unread("x", &kind.into()).code;
        assert_eq!(unread(std::io::ErrorKind::NotFound), NOT_FOUND);
        assert_eq!(unread(std::io::ErrorKind::PermissionDenied), USAGE);
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(exit_code(&anyhow::Error::new(pipe)), DONE);
        let read: Result<(), _> = Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        assert_eq!(exit_code(&read.context("reading a file").unwrap_err()), INFRA);
    }
}
