//! Globs over whole texts.

use globset::{GlobBuilder, GlobMatcher};

/// A compiled glob.
#[derive(Debug, Clone)]
pub struct Glob {
    pattern: Box<str>,
    prefix: Box<str>,
    suffix: Box<str>,
    /// None where nothing but one `*` stands between prefix and suffix.
    matcher: Option<GlobMatcher>,
}

impl Glob {
    /// Compiles a glob: `*`, `?`, `[…]`, `{a,b}`; `*` also covers `/` and `.`.
    ///
    /// # Errors
    /// What is wrong with it, as one sentence.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let (prefix, suffix) = literals(pattern);
        let plain = pattern.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)) == Some("*");
        let matcher = if plain { None } else { Some(matcher(pattern)?) };
        Ok(Self { pattern: pattern.into(), prefix: prefix.into(), suffix: suffix.into(), matcher })
    }

    /// Whether it covers the text.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        text.starts_with(&*self.prefix)
            && text.ends_with(&*self.suffix)
            && match &self.matcher {
                None => text.len() >= self.prefix.len() + self.suffix.len(),
                Some(matcher) => matcher.is_match(text),
            }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether each text is covered that begins and ends so.
    pub(crate) fn is_one_end(&self) -> bool {
        self.matcher.is_none() && (self.prefix.is_empty() || self.suffix.is_empty())
    }

    /// What each text begins with that it covers.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What each text ends with that it covers.
    #[must_use]
    pub fn suffix(&self) -> &str {
        &self.suffix
    }
}

fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| format!("`{pattern}` is no glob: {}", error.kind()))
}

/// The texts before the first and after the last sign of a pattern.
fn literals(pattern: &str) -> (&str, &str) {
    const SIGNS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];
    let Some(first) = pattern.find(SIGNS) else { return (pattern, pattern) };
    let (prefix, rest) = pattern.split_at(first);
    let suffix = rest.rfind(SIGNS).map_or("", |last| &rest[last + 1..]);
    // The library lets `**/` stand for nothing, too, and so `/**`.
    if pattern.contains("**") {
        return (prefix.trim_end_matches('/'), suffix.trim_start_matches('/'));
    }
    (prefix, suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_of_patterns() {
        for (pattern, expect) in [
            ("a*b", ("a", "b")),
            ("*", ("", "")),
            ("abc", ("abc", "abc")),
            ("a?c[d]e", ("a", "e")),
            ("x{a,b}y", ("x", "y")),
            (r"a\*b", ("a", "*b")),
            (r"a*\*", ("a", "*")),
            ("**/b", ("", "b")),
            ("a/**", ("a", "")),
            ("[*]a", ("", "a")),
        ] {
            let (prefix, suffix) = literals(pattern);
            assert!(
                expect.0.starts_with(prefix) && expect.1.ends_with(suffix),
                "{pattern}: {prefix}, {suffix}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn shortcuts_change_nothing(pattern in r"[ab/*?\[\]{},\\]{1,7}", text in r"[ab/*,\\\n]{0,7}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                prop_assert_eq!(glob.is_match(&text), matcher(&pattern).unwrap().is_match(&text));
            }
        }
    }
}
