//! JUnit XML, written: what CI systems and forges show without being taught.
//!
//! The elements and attributes are those that Jenkins, GitLab and Surefire's schema have in common.

use crate::parsed::worst;
use chrono::{DateTime, SecondsFormat, Utc};
use model::{Outcome, ResultId, result::StoredResult};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

/// A `testsuite`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// When it was reported.
    pub at: Option<DateTime<Utc>>,
    /// Named values.
    pub properties: Vec<(String, String)>,
    /// What it holds.
    pub cases: Vec<Case>,
}

/// A `testcase`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Case {
    /// What it belongs to; most readers group by it.
    pub classname: String,
    /// Its name.
    pub name: String,
    /// The file that it stands in.
    pub file: Option<String>,
    /// The line there, counted from 1.
    pub line: Option<u32>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Named values.
    pub properties: Vec<(String, String)>,
    /// How it ended, where it did not pass.
    pub mark: Option<Mark>,
    /// What was said of it, where it passed.
    pub output: Option<String>,
}

/// The element that says how a test case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// `<failure type="…" message="…">text</failure>`
    Failure(Said),
    /// `<error type="…" message="…">text</error>`
    Error(Said),
    /// `<skipped message="…"/>`
    Skipped(Said),
}

/// What a mark says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The kind of it, such as `error(timeout)`.
    pub kind: Option<String>,
    /// One line.
    pub message: String,
    /// All of it, where that is more than the line.
    pub text: String,
}

impl Said {
    /// The first line as the message, the whole as the text where there is more.
    fn of(kind: Option<&str>, note: &str) -> Self {
        let first = note.lines().next().unwrap_or_default();
        let text = if first.len() < note.len() { note } else { "" };
        Self { kind: kind.map(str::to_owned), message: first.to_owned(), text: text.to_owned() }
    }
}

/// Stored results as suites: one for each that is no part of another among them, with all its parts as cases.
/// Of several results of one task for the same testcase and item only the last is one. A result with parts is a case of
/// its own only if it ended worse than they did.
#[must_use]
pub fn suites(results: &[StoredResult]) -> Vec<Suite> {
    let known: HashSet<ResultId> = results.iter().map(|result| result.id).collect();
    let mut parts: HashMap<ResultId, Vec<&StoredResult>> = HashMap::new();
    let mut roots = Vec::new();
    for result in results {
        match result.parent.filter(|parent| known.contains(parent) && *parent != result.id) {
            Some(parent) => parts.entry(parent).or_default().push(result),
            None => roots.push(result),
        }
    }
    let last = last_words(&roots);
    roots.into_iter().filter(|root| last.contains(&root.id)).map(|root| suite(root, &parts)).collect()
}

/// Of what a task said more than once of the same testcase and item, as jobs of paddles do whose verdict is
/// overturned, the last.
fn last_words(roots: &[&StoredResult]) -> HashSet<ResultId> {
    let mut last = HashMap::new();
    for root in roots {
        let of = root.task.map(|task| (task, &root.testcase, root.item.as_ref()));
        // What no task said stands for itself.
        let key = of.ok_or(root.id);
        let id = last.entry(key).or_insert(root.id);
        *id = root.id.max(*id);
    }
    last.into_values().collect()
}

fn suite(root: &StoredResult, parts: &HashMap<ResultId, Vec<&StoredResult>>) -> Suite {
    let item = root.item.as_ref().map(|item| ("item".to_owned(), item.to_string()));
    let task = root.task.map(|task| ("task".to_owned(), task.to_string()));
    let mut suite = Suite {
        name: root.testcase.clone(),
        duration_ms: root.duration_ms,
        at: Some(root.created_at),
        properties: item.into_iter().chain(task).collect(),
        cases: Vec::new(),
    };
    // Not by recursion: nothing here limits how deep parts are nested.
    let mut open = vec![root];
    while let Some(result) = open.pop() {
        let below = parts.get(&result.id).map_or(&[] as &[_], Vec::as_slice);
        let theirs = worst(below.iter().map(|part| part.outcome));
        if theirs.is_none_or(|theirs| result.outcome.severity() > theirs.severity()) {
            suite.cases.push(case(root, result));
        }
        open.extend(below.iter().rev());
    }
    suite
}

fn case(root: &StoredResult, result: &StoredResult) -> Case {
    let inner = result.testcase.strip_prefix(&root.testcase).and_then(|rest| rest.strip_prefix('.'));
    let text = |key: &str| result.data.get(key).map(plain);
    let note = result.note.as_deref().unwrap_or_default();
    let mut properties = vec![("outcome".to_owned(), result.outcome.to_string())];
    let item = result.item.as_ref().filter(|item| Some(*item) != root.item.as_ref());
    properties.extend(item.map(|item| ("item".to_owned(), item.to_string())));
    properties.extend(result.data.iter().map(|(key, value)| (key.clone(), plain(value))));
    let kind = result.outcome.as_str();
    let mark = match result.outcome {
        Outcome::Passed | Outcome::Info => None,
        Outcome::Failed => Some(Mark::Failure(Said::of(None, note))),
        Outcome::NeedsInspection => Some(Mark::Failure(Said::of(Some(kind), note))),
        Outcome::Skipped => Some(Mark::Skipped(Said::of(None, note))),
        Outcome::NotApplicable => {
            Some(Mark::Skipped(Said::of(None, if note.is_empty() { kind } else { note })))
        }
        Outcome::Error(_) => Some(Mark::Error(Said::of(Some(kind), note))),
    };
    Case {
        classname: root.testcase.clone(),
        name: inner.unwrap_or(&result.testcase).to_owned(),
        file: text("file"),
        line: text("line").and_then(|line| line.parse().ok()),
        duration_ms: result.duration_ms,
        properties,
        output: Some(note.to_owned()).filter(|note| mark.is_none() && !note.is_empty()),
        mark,
    }
}

/// A value as text: texts as they are, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// How many cases there are, and how many of each kind.
#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Counts {
    fn of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Self {
        let mut counts = Self::default();
        for case in cases {
            counts.tests += 1;
            match case.mark {
                None => {}
                Some(Mark::Failure(_)) => counts.failures += 1,
                Some(Mark::Error(_)) => counts.errors += 1,
                Some(Mark::Skipped(_)) => counts.skipped += 1,
            }
        }
        counts
    }

    fn attributes(&self) -> String {
        let Self { tests, failures, errors, skipped } = self;
        format!(" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\"")
    }
}

/// Suites as a document.
#[must_use]
pub fn document(suites: &[Suite]) -> String {
    let counts = Counts::of(suites.iter().flat_map(|suite| &suite.cases));
    let mut out = Out(String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"));
    out.line(0, format_args!("<testsuites{}>", counts.attributes()));
    for suite in suites {
        let head = [
            attribute("name", Some(&suite.name)),
            Counts::of(&suite.cases).attributes(),
            seconds(suite.duration_ms),
            attribute(
                "timestamp",
                suite.at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).as_deref(),
            ),
        ];
        out.line(1, format_args!("<testsuite{}>", head.concat()));
        out.properties(2, &suite.properties);
        suite.cases.iter().for_each(|case| out.case(case));
        out.line(1, format_args!("</testsuite>"));
    }
    out.line(0, format_args!("</testsuites>"));
    out.0
}

/// The document so far.
struct Out(String);

impl Out {
    fn line(&mut self, depth: usize, written: std::fmt::Arguments<'_>) {
        self.0.extend(std::iter::repeat_n("  ", depth));
        // Writing to a text never fails.
        _ = self.0.write_fmt(written);
        self.0.push('\n');
    }

    fn properties(&mut self, depth: usize, properties: &[(String, String)]) {
        if properties.is_empty() {
            return;
        }
        self.line(depth, format_args!("<properties>"));
        for (name, value) in properties {
            let attributes = [attribute("name", Some(name)), attribute("value", Some(value))].concat();
            self.line(depth + 1, format_args!("<property{attributes}/>"));
        }
        self.line(depth, format_args!("</properties>"));
    }

    fn case(&mut self, case: &Case) {
        let head = [
            attribute("classname", Some(&case.classname)),
            attribute("name", Some(&case.name)),
            attribute("file", case.file.as_deref()),
            attribute("line", case.line.map(|line| line.to_string()).as_deref()),
            seconds(case.duration_ms),
        ]
        .concat();
        if case.properties.is_empty() && case.mark.is_none() && case.output.is_none() {
            return self.line(2, format_args!("<testcase{head}/>"));
        }
        self.line(2, format_args!("<testcase{head}>"));
        self.properties(3, &case.properties);
        match &case.mark {
            None => {}
            Some(Mark::Failure(said)) => self.mark("failure", said),
            Some(Mark::Error(said)) => self.mark("error", said),
            Some(Mark::Skipped(said)) => self.mark("skipped", said),
        }
        if let Some(output) = &case.output {
            self.line(3, format_args!("<system-out>{}</system-out>", escaped(output)));
        }
        self.line(2, format_args!("</testcase>"));
    }

    fn mark(&mut self, tag: &str, said: &Said) {
        let message = Some(said.message.as_str()).filter(|message| !message.is_empty());
        let head = [attribute("type", said.kind.as_deref()), attribute("message", message)].concat();
        if said.text.is_empty() {
            self.line(3, format_args!("<{tag}{head}/>"));
        } else {
            self.line(3, format_args!("<{tag}{head}>{}</{tag}>", escaped(&said.text)));
        }
    }
}

fn attribute(name: &str, value: Option<&str>) -> String {
    value.map(|value| format!(" {name}=\"{}\"", escaped(value).replace('\n', "&#10;"))).unwrap_or_default()
}

fn seconds(duration_ms: Option<u64>) -> String {
    duration_ms.map(|ms| format!(" time=\"{}.{:03}\"", ms / 1000, ms % 1000)).unwrap_or_default()
}

/// A text in XML; characters that XML cannot hold become the replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
