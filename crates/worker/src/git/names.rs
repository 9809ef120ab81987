//! References and URLs, checked before git sees them.

use super::GitError;
use std::{fmt, path::Path};
use url::Url;

/// The longest URL or reference, in bytes.
const NAME_BYTES_MAX: usize = 2048;

/// A way of reaching a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `https://`
    Https,
    /// `ssh://`
    Ssh,
    /// `http://`: anybody on the way can change what is fetched.
    Http,
    /// `git://`: anybody on the way can change what is fetched.
    Git,
}

impl Protocol {
    /// The text form, which is also the URL's scheme and git's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Git => "git",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the text is a full commit id (SHA-1 or SHA-256, lower case).
#[must_use]
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a branch, tag or full commit id. Stricter than git: nothing that could be read as an option, a
/// revision expression or a refspec.
///
/// # Errors
/// What it must look like.
pub fn check_reference(text: &str) -> Result<(), GitError> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/+-".contains(&b));
    let shape = !text.contains("..")
        && !text.contains("//")
        && !text.ends_with('/')
        && !text.ends_with('.')
        && !text.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock"));
    if starts_well && plain && shape && text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(GitError::BadName(format!(
        "`{}` cannot be a git reference: give a branch, a tag or a full commit id, of letters, digits and `._/+-`",
        shown(text)
    )))
}

/// Checks a URL: an allowed protocol, a host, no password, nothing that could be read as an option.
/// `host:path` and paths are no URLs.
///
/// # Errors
/// What is wrong and what would do.
pub fn check_url(text: &str, protocols: &[Protocol], hosts: &[String]) -> Result<Url, GitError> {
    let bad = |why: String| GitError::BadName(format!("the repository URL `{}` {why}", shown(text)));
    if text.len() > NAME_BYTES_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(bad(format!("holds blanks or is longer than {NAME_BYTES_MAX} bytes")));
    }
    let url = Url::parse(text).map_err(|error| {
        bad(format!("cannot be read ({error}); write it in full, such as `https://host/path.git`"))
    })?;
    let known = [Protocol::Https, Protocol::Ssh, Protocol::Http, Protocol::Git];
    let allowed: Vec<_> = protocols.iter().map(|protocol| protocol.as_str()).collect();
    match known.iter().find(|protocol| protocol.as_str() == url.scheme()) {
        None => return Err(bad(format!("has protocol `{}`; allowed: {}", url.scheme(), allowed.join(", ")))),
        Some(protocol) if !protocols.contains(protocol) => {
            return Err(GitError::Denied(format!(
                "protocol `{protocol}` is not allowed for repositories (`{}`); allowed: {} (`git.protocols` of the configuration)",
                shown(text),
                allowed.join(", ")
            )));
        }
        Some(_) => {}
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("has no host".to_owned()))?;
    if host.starts_with('-') || url.username().starts_with('-') || url.path().starts_with("/-") {
        return Err(bad("has a part that begins with `-`".to_owned()));
    }
    if url.password().is_some() || (url.scheme() != "ssh" && !url.username().is_empty()) {
        return Err(GitError::BadName(
            "the repository URL holds a user name or password: credentials do not belong into task files and rules"
                .to_owned(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has a query or fragment; give the reference apart".to_owned()));
    }
    if !hosts.is_empty() && !hosts.iter().any(|pattern| host_matches(pattern, host)) {
        return Err(GitError::Denied(format!(
            "host `{host}` is not among the hosts that repositories may come from ({})",
            hosts.join(", ")
        )));
    }
    Ok(url)
}

/// `*.example.org` covers every host below; anything else is compared as it is.
fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// Checks a folder or file path inside a repository.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_inner(path: &str) -> Result<String, GitError> {
    crate::files::inner_path(Path::new(path)).map(|path| path.to_string_lossy().into_owned()).map_err(|why| {
        GitError::BadName(format!("`{}` cannot be a path in a repository: {why}", shown(path)))
    })
}

/// A stranger's text, short and without control characters.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    short.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let check = |text: &str, good: bool| assert_eq!(check_reference(text).is_ok(), good, "{text:?}");
        for good in
            ["main", "v1.0", "feature/x-1", "f42", "1.2+3", "0123456789012345678901234567890123456789"]
        {
            check(good, true);
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=touch /tmp/x",
            "a b",
            "a..b",
            "a;b",
            "$(id)",
            "a:b",
            "HEAD^",
            "a@{1}",
            "a//b",
            "a/",
            "x.lock",
            "a/.b",
            "ä",
            "a\nb",
        ] {
            check(bad, false);
        }
    }

    #[test]
    fn urls() {
        let protocols = [Protocol::Https, Protocol::Ssh];
        let check = |text: &str, expect: &str| {
            let got = match check_url(text, &protocols, &[]) {
                Ok(_) => "ok".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(got.contains(expect), "{text:?}: {got}");
        };
        check("https://example.org/a.git", "ok");
        check("ssh://git@example.org/a.git", "ok");
        check("http://example.org/a.git", "protocol `http` is not allowed");
        check("ext::sh -c id", "holds blanks");
        check("ext::id", "has protocol `ext`; allowed: https, ssh");
        check("file:///etc", "has protocol `file`");
        check("--upload-pack=id", "cannot be read");
        check("git@example.org:a.git", "cannot be read");
        check("https://-oProxyCommand=x/a", "begins with `-`");
        check("ssh://-oProxyCommand=x/a", "begins with `-`");
        check("ssh://-x@example.org/a", "begins with `-`");
        check("ssh://example.org/-x", "begins with `-`");
        check("https://me:secret@example.org/a", "credentials do not belong");
        check("https://example.org/a?x=1", "has a query");
    }

    #[test]
    fn hosts() {
        let hosts = ["src.example.org".to_owned(), "*.forge.example".to_owned()];
        let check = |url: &str, good: bool| {
            assert_eq!(check_url(url, &[Protocol::Https], &hosts).is_ok(), good, "{url}");
        };
        check("https://src.example.org/a", true);
        check("https://SRC.example.org/a", true);
        check("https://git.forge.example/a", true);
        check("https://forge.example/a", false);
        check("https://evilforge.example/a", false);
        check("https://src.example.org.evil/a", false);
    }
}
