//! Repositories without a task file whose tests are in a format that is known: which it is, by the names of
//! their files, and what tests they hold.
//!
//! Nothing here reads files: names and texts are passed in.

mod adapter;
mod control;
mod fmf;

pub use adapter::{DEBIAN_PACKAGES, ForeignTests, RepositoryTests};
pub use control::{DebianTest, DebianTestRun, read_control};
pub use fmf::{DEFAULT_PLAN, FMF_FILES_MAX, FMF_NODES_MAX, FmfNode, FmfTree, is_fmf_file, read_fmf};

use crate::{diagnostic::nearest, task_file::TASK_FILE};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The file that makes a folder the root of an FMF tree.
pub const FMF_VERSION: &str = ".fmf/version";
/// The file that names a Debian source package's tests.
pub const DEBIAN_CONTROL: &str = "debian/tests/control";
/// The folders that bats files are looked for in, beside the repository's own.
pub const BATS_FOLDERS: [&str; 2] = ["test", "tests"];
/// How many of the names that are there an error shows.
const NAMES_SHOWN_MAX: usize = 8;

/// How a repository says what its tests are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum RepositoryFormat {
    /// A task file of ours.
    TaskFile,
    /// tmt: plans and tests in FMF files.
    Tmt,
    /// autopkgtest: the tests of a Debian source package.
    Autopkgtest,
    /// bats: these files, in order.
    Bats {
        /// Their paths.
        files: Vec<String>,
    },
}

impl RepositoryFormat {
    /// The text form.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TaskFile => TASK_FILE,
            Self::Tmt => "tmt",
            Self::Autopkgtest => "autopkgtest",
            Self::Bats { .. } => "bats",
        }
    }
}

/// Nothing says what the tests are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoKnownFormat {
    /// Some of the names that are there.
    pub seen: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// What may have been meant.
    pub hint: Option<String>,
}

impl std::error::Error for NoKnownFormat {}

impl fmt::Display for NoKnownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folders = BATS_FOLDERS.join(" and ");
        write!(
            f,
            "there is no {TASK_FILE}, and no tests in a known format: looked for {FMF_VERSION} (tmt), \
             {DEBIAN_CONTROL} (autopkgtest), and *.bats here, in {folders} (bats)"
        )?;
        match self.seen.as_slice() {
            [] => write!(f, "; the folder is empty")?,
            seen if seen.len() < self.count => {
                write!(f, "; of {} files there are {} …", self.count, seen.join(", "))?;
            }
            seen => write!(f, "; there is {}", seen.join(", "))?,
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// The format of a repository or of the folder in it that a task names, from the paths of its files relative
/// to that folder, with `/`. The first of [`RepositoryFormat`]'s that is there counts.
///
/// # Errors
/// Nothing known is there: what was looked for, and what is there instead.
pub fn format_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<RepositoryFormat, NoKnownFormat> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let has = |name: &str| names.binary_search(&name).is_ok();
    if has(TASK_FILE) {
        return Ok(RepositoryFormat::TaskFile);
    }
    if has(FMF_VERSION) {
        return Ok(RepositoryFormat::Tmt);
    }
    if has(DEBIAN_CONTROL) {
        return Ok(RepositoryFormat::Autopkgtest);
    }
    let files: Vec<String> =
        names.iter().filter(|name| is_bats(name)).map(|name| (*name).to_owned()).collect();
    if !files.is_empty() {
        return Ok(RepositoryFormat::Bats { files });
    }
    let seen = names.iter().take(NAMES_SHOWN_MAX).map(|name| shown(name)).collect();
    Err(NoKnownFormat { seen, count: names.len(), hint: hint(&names) })
}

fn is_bats(name: &str) -> bool {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    (folder.is_empty() || BATS_FOLDERS.contains(&folder)) && file.len() > 5 && file.ends_with(".bats")
}

/// A name as it can stand in a message.
fn shown(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What may have been meant by what is there.
fn hint(names: &[&str]) -> Option<String> {
    let ends = |end: &str| names.iter().find(|name| name.ends_with(end));
    if let Some(inner) = ends(&format!("/{TASK_FILE}")) {
        let folder = inner.trim_end_matches(TASK_FILE).trim_end_matches('/');
        return Some(format!("`{}` has one: name that folder as `path`", shown(folder)));
    }
    if names.iter().any(|name| name.starts_with("tests/tests") && name.ends_with(".yml")) {
        return Some(
            "tests/tests*.yml is the Standard Test Interface, which is not run: make it a tmt plan"
                .to_owned(),
        );
    }
    if names.iter().any(|name| is_fmf_file(name)) {
        return Some(format!("there are *.fmf files but no {FMF_VERSION}: `tmt init` makes it"));
    }
    let near = nearest(TASK_FILE, names.iter().copied().filter(|name| !name.contains('/')))?;
    Some(format!("`{}` must be called {TASK_FILE}", shown(near)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_it_panic(
            text in "(Tests|Test-Command|Depends|Restrictions|[a-z]{0,4}|/[a-z/]{0,6}|test|execute|enabled|\\{|\\}|\\[|: |,|#|\n| |\t|\\PC){0,40}",
        ) {
            if let Ok((tests, _)) = read_control(DEBIAN_CONTROL, &text) {
                prop_assert!(!tests.is_empty());
            }
            let files = [("a.fmf".to_owned(), text.clone()), ("a/b.fmf".to_owned(), text.clone())].into();
            if let Ok(tree) = read_fmf(&files) {
                prop_assert!(!tree.plans.is_empty() || !tree.tests.is_empty());
            }
            let names: Vec<&str> = text.split(' ').collect();
            let told = format_of(names.iter().copied()).map_or_else(|error| error.to_string(), |found| found.as_str().to_owned());
            prop_assert!(!told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn formats_by_their_files() {
        let check = |names: &[&str], expect: &str| {
            let got = format_of(names.iter().copied()).map(|found| match found {
                RepositoryFormat::Bats { files } => format!("bats {}", files.join(" ")),
                other => other.as_str().to_owned(),
            });
            assert_eq!(got.unwrap_or_else(|error| error.to_string()), expect, "{names:?}");
        };
        check(&["task.yaml", ".fmf/version", "debian/tests/control"], "task.yaml");
        check(&["plans/ci.fmf", ".fmf/version", "debian/tests/control", "a.bats"], "tmt");
        check(
            &["debian/control", "debian/tests/control", "debian/tests/smoke", "test/a.bats"],
            "autopkgtest",
        );
        check(
            &["test/b.bats", "a.bats", "tests/c.bats", "src/d.bats", "lib/.bats", ".bats"],
            "bats a.bats test/b.bats tests/c.bats",
        );
        let none = "there is no task.yaml, and no tests in a known format: looked for .fmf/version (tmt), debian/tests/control (autopkgtest), and *.bats here, in test and tests (bats)";
        check(&[], &format!("{none}; the folder is empty"));
        check(&["README.md", "src/a.c"], &format!("{none}; there is README.md, src/a.c"));
        check(
            &["checks/lint/task.yaml"],
            &format!(
                "{none}; there is checks/lint/task.yaml; `checks/lint` has one: name that folder as `path`"
            ),
        );
        check(&["task.yml"], &format!("{none}; there is task.yml; `task.yml` must be called task.yaml"));
        check(
            &["tests/tests.yml"],
            &format!(
                "{none}; there is tests/tests.yml; tests/tests*.yml is the Standard Test Interface, which is not run: make it a tmt plan"
            ),
        );
        check(
            &["plans.fmf"],
            &format!(
                "{none}; there is plans.fmf; there are *.fmf files but no .fmf/version: `tmt init` makes it"
            ),
        );
        let many: Vec<String> = (10..30).map(|n| format!("f{n}\n")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(
            &many,
            &format!(
                "{none}; of 20 files there are f10\u{fffd}, f11\u{fffd}, f12\u{fffd}, f13\u{fffd}, f14\u{fffd}, f15\u{fffd}, f16\u{fffd}, f17\u{fffd} …"
            ),
        );
    }
}
