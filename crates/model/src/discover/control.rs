//! `debian/tests/control`, as autopkgtest reads it: stanzas of fields, of which each names tests or a command.
//! <https://salsa.debian.org/ci-team/autopkgtest/-/blob/master/doc/README.package-tests.rst>

use crate::{diagnostic::Report, yaml::Reader};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};

/// The largest file in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// The most tests of a package.
const TESTS_MAX: usize = 1000;
/// The folder of tests when the stanza names none.
const TESTS_DIRECTORY: &str = "debian/tests";

/// The fields that are known; autopkgtest skips a test with any other.
const FIELDS: [&str; 8] = [
    "tests",
    "test-command",
    "restrictions",
    "features",
    "depends",
    "tests-directory",
    "classes",
    "architecture",
];

/// The restrictions that are known; autopkgtest skips a test with any other.
const RESTRICTIONS: [&str; 17] = [
    "allow-stderr",
    "breaks-testbed",
    "build-needed",
    "flaky",
    TRIGGERS,
    "isolation-container",
    "isolation-machine",
    "needs-internet",
    "needs-reboot",
    "needs-recommends",
    "needs-root",
    "needs-sudo",
    "rw-build-tree",
    "skip-foreign-architecture",
    "skip-not-installable",
    "skippable",
    "superficial",
];

/// The restriction of stanzas that run nothing: they only name packages whose updates call for the tests.
const TRIGGERS: &str = "hint-testsuite-triggers";

/// A test of a Debian source package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebianTest {
    /// Its name: that of its file, or `command1` … for commands.
    pub name: String,
    /// What is run.
    pub run: DebianTestRun,
    /// The packages that it needs, as they are written; `@` is all of the source package's own.
    pub depends: Vec<String>,
    /// What it needs of its surroundings, or how its result counts: `needs-root`, `isolation-machine`, `flaky` …
    pub restrictions: Vec<String>,
    /// Features; none is defined but `test-name=`.
    pub features: Vec<String>,
    /// Classes, free words.
    pub classes: Vec<String>,
    /// The architectures that it is for, or with `!` is not for; none for all.
    pub architectures: Vec<String>,
    /// The line of its stanza, counted from 1.
    pub line: u32,
    /// Why autopkgtest skips it wherever it is run.
    pub skipped: Option<String>,
}

/// What a test runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DebianTestRun {
    /// A program, by its path in the source package.
    Program(String),
    /// A line of shell.
    Command(String),
}

/// A field's value, with its lines joined, and where it stands.
struct Field {
    value: String,
    span: Range<usize>,
}

type Stanza = BTreeMap<String, Field>;

/// Reads the file. What autopkgtest would skip comes as a warning and is marked.
///
/// # Errors
/// All mistakes for which autopkgtest refuses the file, each with its place.
pub fn read_control(file: &str, text: &str) -> Result<(Vec<DebianTest>, Report), Report> {
    let reader = Reader::new(file, text);
    let mut tests = Vec::new();
    let mut commands = 0;
    if text.len() > FILE_BYTES_MAX {
        reader
            .error(&(0..0), format!("the file has {} bytes, at most {FILE_BYTES_MAX} are read", text.len()));
    } else {
        for stanza in stanzas(&reader) {
            read_stanza(&reader, &stanza, &mut commands, &mut tests);
        }
        if tests.is_empty() && !reader.failed() {
            reader.error_help(&(0..0), "the file names no test", "write a stanza such as `Tests: smoke`");
        }
        if let Some(test) = tests.get(TESTS_MAX) {
            let message = format!(
                "more than {TESTS_MAX} tests; the stanza on line {} has the first too many",
                test.line
            );
            reader.error(&(0..0), message);
        }
        duplicates(&reader, &tests);
    }
    let failed = reader.failed();
    let report = reader.into_report();
    if failed { Err(report) } else { Ok((tests, report)) }
}

fn duplicates(reader: &Reader, tests: &[DebianTest]) {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for test in tests {
        if let Some(first) = seen.insert(&test.name, test.line) {
            let message =
                format!("the test `{}` is named twice, on lines {first} and {}", test.name, test.line);
            reader.warn(&(0..0), message, "results of the two cannot be told apart");
        }
    }
}

/// Parts the text into stanzas. Comments go from `#` to the end of the line, as autopkgtest cuts them.
fn stanzas(reader: &Reader) -> Vec<Stanza> {
    let mut stanzas = vec![Stanza::new()];
    let mut last: Option<String> = None;
    let mut at = 0;
    for whole in reader.text().split_inclusive('\n') {
        let begin = at;
        at += whole.len();
        let whole = whole.trim_end_matches(['\n', '\r']);
        let line = whole.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            // A line that is nothing but a comment does not end the stanza.
            if whole.trim().is_empty() {
                last = None;
                stanzas.push(Stanza::new());
            }
            continue;
        }
        let span = begin..begin + line.len();
        let Some(stanza) = stanzas.last_mut() else { continue };
        if line.starts_with([' ', '\t']) {
            match last.as_ref().and_then(|name| stanza.get_mut(name)) {
                Some(field) => {
                    field.value.push(' ');
                    field.value.push_str(line.trim());
                }
                None => reader.error(&span, "a continued line without a field before it"),
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            reader.error_help(
                &span,
                format!("`{}` is no field", line.trim_end()),
                "write `Field: value`, and indent continued lines",
            );
            continue;
        };
        let name = name.trim().to_ascii_lowercase();
        let field = Field { value: value.trim().to_owned(), span: span.clone() };
        if stanza.insert(name.clone(), field).is_some() {
            reader.error(&span, format!("the field `{name}` comes twice in one stanza"));
        }
        last = Some(name);
    }
    stanzas.retain(|stanza| !stanza.is_empty());
    stanzas
}

/// Words that are parted by commas, spaces or both.
fn words(stanza: &Stanza, name: &str) -> Vec<String> {
    let value = stanza.get(name).map_or("", |field| field.value.as_str());
    value.split([',', ' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn read_stanza(reader: &Reader, stanza: &Stanza, commands: &mut usize, tests: &mut Vec<DebianTest>) {
    let Some(span) = stanza.values().map(|field| &field.span).min_by_key(|span| span.start) else { return };
    let features = words(stanza, "features");
    let test_name = features.iter().find_map(|feature| feature.strip_prefix("test-name=")).map(str::to_owned);
    let mut runs = Vec::new();
    match (stanza.get("tests"), stanza.get("test-command")) {
        (Some(_), Some(command)) => {
            reader.error(&command.span, "only one of `Tests` and `Test-Command` may be given");
        }
        (None, None) => reader.error(span, "the stanza has neither `Tests` nor `Test-Command`"),
        (Some(field), None) => {
            let folder = stanza.get("tests-directory").map_or(TESTS_DIRECTORY, |field| field.value.as_str());
            let names = words(stanza, "tests");
            if names.is_empty() {
                reader.error(&field.span, "`Tests` is empty");
            }
            if test_name.is_some() {
                reader.error(&field.span, "the feature `test-name` is for `Test-Command` only");
            }
            let folder = folder.trim_end_matches('/');
            runs.extend(names.into_iter().map(|name| {
                let path = format!("{folder}/{name}");
                (name, DebianTestRun::Program(path))
            }));
        }
        (None, Some(command)) => {
            let name = test_name.unwrap_or_else(|| {
                *commands += 1;
                format!("command{commands}")
            });
            runs.push((name, DebianTestRun::Command(command.value.clone())));
        }
    }
    let restrictions = words(stanza, "restrictions");
    let skipped = skipped(stanza, &restrictions);
    let line = 1 + reader.text()[..span.start].matches('\n').count();
    let depends = stanza.get("depends").map_or("@", |field| field.value.as_str());
    let depends: Vec<String> =
        depends.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for (name, run) in runs {
        let skipped = skipped.clone().or_else(|| name.contains('/').then(|| "its name holds `/`".to_owned()));
        if let Some(why) = skipped.as_ref().filter(|_| !restrictions.iter().any(|word| word == TRIGGERS)) {
            reader.warn(span, format!("autopkgtest skips the test `{name}`: {why}"), "it would never run");
        }
        tests.push(DebianTest {
            name,
            run,
            depends: depends.clone(),
            restrictions: restrictions.clone(),
            features: features.clone(),
            classes: words(stanza, "classes"),
            architectures: words(stanza, "architecture"),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            skipped,
        });
    }
}

/// Why autopkgtest would not run a stanza's tests anywhere.
fn skipped(stanza: &Stanza, restrictions: &[String]) -> Option<String> {
    let field = stanza.keys().find(|name| !FIELDS.contains(&name.as_str()));
    let restriction = restrictions.iter().find(|word| !RESTRICTIONS.contains(&word.as_str()));
    let all = words(stanza, "architecture").iter().any(|arch| arch == "all");
    field
        .map(|name| format!("it does not know the field `{name}`"))
        .or_else(|| restriction.map(|word| format!("it does not know the restriction `{word}`")))
        .or_else(|| {
            restrictions.iter().any(|word| word == TRIGGERS).then(|| format!("`{TRIGGERS}` runs nothing"))
        })
        .or_else(|| all.then(|| "`all` is no architecture that a test can be for; write `any`".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (tests, report) = match read_control("debian/tests/control", text) {
            Ok(read) => read,
            Err(report) => return report.to_string(),
        };
        let mut lines: Vec<String> = tests
            .iter()
            .map(|test| {
                let run = match &test.run {
                    DebianTestRun::Program(path) => format!("program {path}"),
                    DebianTestRun::Command(line) => format!("command `{line}`"),
                };
                let more =
                    [&test.depends, &test.restrictions, &test.features, &test.classes, &test.architectures];
                let more = more.map(|words| words.join("; ")).join(" | ");
                let skipped =
                    test.skipped.as_ref().map(|why| format!(" (skipped: {why})")).unwrap_or_default();
                format!("{}: {} {run} | {more}{skipped}", test.line, test.name)
            })
            .collect();
        lines.extend((!report.diagnostics.is_empty()).then(|| report.to_string().trim_end().to_owned()));
        lines.join("\n")
    }

    #[test]
    fn stanzas_become_tests() {
        insta::assert_snapshot!(shown(
            "# The smoke tests\nTests: smoke, all-of-it\n  more\nDepends: @, python3 (>= 3.11) | pypy3,\n # not this\n git [amd64]\nRestrictions: needs-root allow-stderr,flaky # here too\nClasses: desktop\n\n\nTest-Command: cd \"$AUTOPKGTEST_TMP\" &&\n  hello --version\nFeatures: test-name=version\narchitecture: !s390x, !i386\n\nTest-Command: true\nDepends:\n\nTests: unit\nTests-Directory: test/\r\n\nTest-Command: false\n"
        ), @r#"
        2: smoke program debian/tests/smoke | @; python3 (>= 3.11) | pypy3; git [amd64] | needs-root; allow-stderr; flaky |  | desktop | 
        2: all-of-it program debian/tests/all-of-it | @; python3 (>= 3.11) | pypy3; git [amd64] | needs-root; allow-stderr; flaky |  | desktop | 
        2: more program debian/tests/more | @; python3 (>= 3.11) | pypy3; git [amd64] | needs-root; allow-stderr; flaky |  | desktop | 
        11: version command `cd "$AUTOPKGTEST_TMP" && hello --version` | @ |  | test-name=version |  | !s390x; !i386
        16: command1 command `true` |  |  |  |  | 
        19: unit program test/unit | @ |  |  |  | 
        22: command2 command `false` | @ |  |  |  | 
        "#);
    }

    #[test]
    fn what_is_skipped_is_told() {
        insta::assert_snapshot!(shown(
            "Tests: a\nRestrictions: needs-flux-capacitor\n\nTests: b\nTimeout: 5m\n\nTests: c/d\n\nTests: e\nArchitecture: all\n\nTests: f f\n\nTest-Command: none\nRestrictions: hint-testsuite-triggers\n"
        ), @r#"
        1: a program debian/tests/a | @ | needs-flux-capacitor |  |  |  (skipped: it does not know the restriction `needs-flux-capacitor`)
        4: b program debian/tests/b | @ |  |  |  |  (skipped: it does not know the field `timeout`)
        7: c/d program debian/tests/c/d | @ |  |  |  |  (skipped: its name holds `/`)
        9: e program debian/tests/e | @ |  |  |  | all (skipped: `all` is no architecture that a test can be for; write `any`)
        12: f program debian/tests/f | @ |  |  |  | 
        12: f program debian/tests/f | @ |  |  |  | 
        14: command1 command `none` | @ | hint-testsuite-triggers |  |  |  (skipped: `hint-testsuite-triggers` runs nothing)
        debian/tests/control:1:1: warning: autopkgtest skips the test `a`: it does not know the restriction `needs-flux-capacitor` (it would never run)
        debian/tests/control:1:1: warning: the test `f` is named twice, on lines 12 and 12 (results of the two cannot be told apart)
        debian/tests/control:4:1: warning: autopkgtest skips the test `b`: it does not know the field `timeout` (it would never run)
        debian/tests/control:7:1: warning: autopkgtest skips the test `c/d`: its name holds `/` (it would never run)
        debian/tests/control:9:1: warning: autopkgtest skips the test `e`: `all` is no architecture that a test can be for; write `any` (it would never run)
        "#);
    }

    #[test]
    fn mistakes() {
        insta::assert_snapshot!(shown(
            " continued\nTests: a\nTest-Command: b\n\nDepends: x\n\nTests:\n\nTests: a\nno field\nTests: b\n\nTests: c\nFeatures: test-name=x\n"
        ), @r#"
        debian/tests/control:1:1: error: a continued line without a field before it
        debian/tests/control:3:1: error: only one of `Tests` and `Test-Command` may be given
        debian/tests/control:5:1: error: the stanza has neither `Tests` nor `Test-Command`
        debian/tests/control:7:1: error: `Tests` is empty
        debian/tests/control:10:1: error: `no field` is no field (write `Field: value`, and indent continued lines)
        debian/tests/control:11:1: error: the field `tests` comes twice in one stanza
        debian/tests/control:13:1: error: the feature `test-name` is for `Test-Command` only
        "#);
        insta::assert_snapshot!(shown("# nothing\n"), @"debian/tests/control:1:1: error: the file names no test (write a stanza such as `Tests: smoke`)");
        assert!(shown(&"Tests: a\n\n".repeat(1001)).contains("more than 1000 tests"));
        assert!(shown(&"#".repeat(FILE_BYTES_MAX + 1)).contains("at most 1048576 are read"));
    }
}
