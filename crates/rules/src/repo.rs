//! Where task repositories may be: URLs, refs and folders, checked before anything is given to git.

use model::task_file::is_inner_path;
use std::path::{Component, Path, PathBuf};

/// The longest URL, ref or folder in bytes.
pub const REPO_TEXT_BYTES_MAX: usize = 2048;

/// A scheme of a repository's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// `https://`
    Https,
    /// `http://`
    Http,
    /// `ssh://` or `user@host:path`
    Ssh,
    /// `git://`
    Git,
    /// `file://`
    File,
}

impl Scheme {
    /// The schemes that reach over the network.
    pub const REMOTE: [Self; 4] = [Self::Https, Self::Http, Self::Ssh, Self::Git];

    /// The text before `://`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::Git => "git",
            Self::File => "file",
        }
    }
}

/// A repository's URL, taken apart as far as it decides about trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoUrl {
    /// The scheme.
    pub scheme: Scheme,
    /// The host in lower case, without user and port; empty for files.
    pub host: String,
}

/// Takes a URL apart.
///
/// # Errors
/// What is wrong with it, as one sentence.
pub fn parse_url(text: &str, allowed: &[Scheme]) -> Result<RepoUrl, String> {
    check_text("a repository's URL", text)?;
    let list = allowed.iter().map(|scheme| scheme.as_str()).collect::<Vec<_>>().join(", ");
    let Some((scheme, rest)) = text.split_once("://") else {
        return scp_like(text).filter(|_| allowed.contains(&Scheme::Ssh)).ok_or_else(|| {
            format!(
                "`{text}` is no URL of a repository; expected one of {list}, such as https://host/name.git"
            )
        });
    };
    let known = [Scheme::Https, Scheme::Http, Scheme::Ssh, Scheme::Git, Scheme::File];
    let scheme = known
        .into_iter()
        .find(|known| known.as_str() == scheme && allowed.contains(known))
        .ok_or_else(|| {
            let hint = if scheme == Scheme::File.as_str() {
                "; `rules: {file_urls: true}` in the configuration (--config) allows them"
            } else {
                ""
            };
            format!("repositories by `{scheme}://` are not allowed here; allowed are {list}{hint}")
        })?;
    if scheme == Scheme::File {
        return if rest.starts_with('/') {
            Ok(RepoUrl { scheme, host: String::new() })
        } else {
            Err(format!("`{text}` needs an absolute path: file:///folder"))
        };
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host_of(authority).ok_or_else(|| format!("`{text}` names no host"))?;
    if path.is_empty() {
        return Err(format!("`{text}` names a host but no repository"));
    }
    Ok(RepoUrl { scheme, host })
}

/// `git@host:path`
fn scp_like(text: &str) -> Option<RepoUrl> {
    let (authority, path) = text.split_once(':')?;
    let (user, _) = authority.split_once('@')?;
    if user.is_empty() || path.is_empty() || authority.contains('/') {
        return None;
    }
    Some(RepoUrl { scheme: Scheme::Ssh, host: host_of(authority)? })
}

/// The host of `user:password@host:port`.
fn host_of(authority: &str) -> Option<String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap_or(host)
    } else {
        host.split_once(':').map_or(host, |(host, _)| host)
    };
    let good = !host.is_empty()
        && !host.starts_with('-')
        && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_[]:".contains(c));
    good.then(|| host.to_ascii_lowercase())
}

/// Checks a branch, tag or commit as `git check-ref-format` does, and that it cannot be an option.
///
/// # Errors
/// What is wrong with it, as one sentence.
pub fn check_ref(text: &str) -> Result<(), String> {
    check_text("a ref", text)?;
    let odd = |c: char| " ~^:?*[\\".contains(c);
    let bad = text.contains(odd)
        || text.contains("..")
        || text.contains("@{")
        || text.contains("//")
        || text.ends_with(['/', '.'])
        || text.starts_with('/')
        || text == "@"
        || text.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock"));
    if bad { Err(format!("`{text}` cannot be a branch, a tag or a commit")) } else { Ok(()) }
}

/// Checks a folder in a repository.
///
/// # Errors
/// What is wrong with it, as one sentence.
pub fn check_folder(text: &str) -> Result<(), String> {
    check_text("a folder", text)?;
    if is_inner_path(text) {
        Ok(())
    } else {
        Err(format!("`{text}` leaves the repository; expected a relative path without `..`"))
    }
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} must not be empty"));
    }
    if text.len() > REPO_TEXT_BYTES_MAX {
        return Err(format!("{what} has at most {REPO_TEXT_BYTES_MAX} bytes, this one has {}", text.len()));
    }
    if text.starts_with('-') {
        return Err(format!("{what} must not begin with `-`: `{text}`"));
    }
    match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
        Some(odd) => Err(format!("{what} must not hold {odd:?}: `{}`", text.escape_debug())),
        None => Ok(()),
    }
}

/// Whether a repository is written as a path relative to the rules folder.
#[must_use]
pub fn is_relative(text: &str) -> bool {
    text.starts_with("./") || text.starts_with("../") || text == "." || text == ".."
}

/// The absolute path of a repository beside the rules. It must lie below the parent of the rules folder.
///
/// # Errors
/// What is wrong with it, as one sentence.
pub fn resolve_relative(text: &str, base: Option<&Path>) -> Result<PathBuf, String> {
    check_text("a path", text)?;
    let Some(base) = base else {
        return Err(format!(
            "`{text}` is relative to the folder of the rules, but these rules come from none"
        ));
    };
    let base = normal(base);
    let allowed = base.parent().unwrap_or(&base).to_path_buf();
    let path = normal(&base.join(text));
    if path.starts_with(&allowed) && path != allowed && path != base {
        Ok(path)
    } else {
        Err(format!("`{text}` leads outside of the folder that holds the rules folder"))
    }
}

/// The path without `.` and `..`; it asks no file system.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |text: &str, expect: Result<(Scheme, &str), &str>| match (
            parse_url(text, &Scheme::REMOTE),
            expect,
        ) {
            (Ok(url), Ok((scheme, host))) => {
                assert_eq!((url.scheme, url.host.as_str()), (scheme, host), "{text}");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check("https://Git.Example.org/a.git", Ok((Scheme::Https, "git.example.org")));
        check("https://user:secret@git.example.org:8443/a", Ok((Scheme::Https, "git.example.org")));
        check("https://git.example.org@evil.example/a", Ok((Scheme::Https, "evil.example")));
        check("git@git.example.org:a/b.git", Ok((Scheme::Ssh, "git.example.org")));
        check("ssh://git@[::1]:22/a", Ok((Scheme::Ssh, "[::1]")));
        check("file:///etc", Err("`file://` are not allowed"));
        check("ext::sh -c x", Err("must not hold ' '"));
        check("ext::sh", Err("is no URL"));
        check("--upload-pack=x", Err("must not begin with `-`"));
        check("https://-oProxyCommand=x/a", Err("names no host"));
        check("https:///a", Err("names no host"));
        check("https://host", Err("no repository"));
        check("../a", Err("is no URL"));
        check("", Err("must not be empty"));
        check(&format!("https://h/{}", "a".repeat(REPO_TEXT_BYTES_MAX)), Err("at most 2048 bytes"));
        assert_eq!(parse_url("file:///a", &[Scheme::File]).unwrap().host, "");
        assert!(parse_url("file://a", &[Scheme::File]).is_err());
    }

    #[test]
    fn refs() {
        for good in
            ["main", "feature/x-1", "v1.0", "0123456789abcdef0123456789abcdef01234567", "refs/pull/1/head"]
        {
            check_ref(good).unwrap();
        }
        for bad in [
            "", "-x", "a..b", "a b", "a~1", "a^", "a:b", "a\\b", "@{1}", "/a", "a/", "a.lock", ".a", "a//b",
            "@",
        ] {
            assert!(check_ref(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_beside_the_rules() {
        let check = |base: Option<&str>, text: &str, expect: Result<&str, &str>| match (
            resolve_relative(text, base.map(Path::new)),
            expect,
        ) {
            (Ok(path), Ok(expect)) => assert_eq!(path, Path::new(expect), "{text}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check(Some("/srv/qa/rules"), "../deploy/task-repos/rpmlint", Ok("/srv/qa/deploy/task-repos/rpmlint"));
        check(Some("/srv/qa/rules"), "./repos/x", Ok("/srv/qa/rules/repos/x"));
        check(Some("/srv/qa/rules"), "../../etc", Err("leads outside"));
        check(Some("/srv/qa/rules"), "..", Err("leads outside"));
        check(Some("/srv/qa/rules"), "../x/../../../etc", Err("leads outside"));
        check(Some("/srv/qa/rules"), "../../qa2/x", Err("leads outside"));
        check(None, "../x", Err("come from none"));
    }
}
