//! JUnit XML: `testsuites`, nested `testsuite`s and `testcase`s, in the dialects of Ant, Maven Surefire,
//! pytest, GoogleTest and CTest.
//!
//! - `failure` is [`Outcome::Failed`], `error` an error of the test, `skipped` is [`Outcome::Skipped`]; the
//!   worst of them counts. A `status` or `result` attribute that says so counts as well.
//! - Surefire's `flakyFailure` and `flakyError` mark a test that failed and then passed: [`Outcome::Info`].
//!   Its `rerunFailure` and `rerunError` are further failures beside a `failure`.
//! - A test case is called `classname.name`; a suite is the worst of what it holds; empty suites do not count.
//! - A suite whose counts tell of failures or tests that it does not hold is an error, not a pass.

use crate::{
    duration::millis,
    parse_error::Fault,
    parsed::{
        DATA_FIELDS_MAX, DEPTH_MAX, NAME_BYTES_MAX, Parsed, ParsedResult, RESULTS_MAX, append, clean_name,
        clean_text, worse, worst,
    },
    xml::{Attributes, Node, Xml},
};
use model::{Outcome, outcome::words};

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let mut xml = Xml::new(text);
    let mut reader = Reader { line: 1, stack: Vec::new(), done: Vec::new(), count: 0 };
    while let Some(node) = xml.next()? {
        reader.line = xml.line();
        match node {
            Node::Open(tag, attributes) => reader.open(tag, &attributes)?,
            Node::Words(words) => reader.words(&words),
            Node::Close => reader.close()?,
        }
    }
    Ok(Parsed { results: reader.done, stop: None })
}

/// What an element is to us.
#[derive(Debug)]
enum Kind {
    /// `testsuites`: nothing but a frame, with what its attributes claim, unless something is said of it itself.
    Suites(Claims),
    /// `testsuite`, with what its attributes claim.
    Suite(Claims),
    /// `testcase`
    Case,
    /// `failure`, `error`, `skipped` and their kin; the outcome goes to the element around it.
    Mark(Outcome),
    /// `system-out` or `system-err`.
    Output,
    /// `property`, also with its value as text.
    Property,
    /// Anything else; text inside counts for the element around it when that is a mark.
    Other,
}

/// The counts that a suite's attributes state.
#[derive(Debug, Default, Clone, Copy)]
struct Claims {
    tests: u64,
    bad: u64,
}

/// An open element.
#[derive(Debug)]
struct Frame {
    tag: String,
    line: u32,
    kind: Kind,
    /// The result that it becomes, for suites and cases; a carrier of name and message for the others.
    result: ParsedResult,
    /// Outcomes that marks inside gave it.
    outcome: Option<Outcome>,
    text: String,
}

struct Reader {
    line: u32,
    stack: Vec<Frame>,
    /// What the root held, once it is closed.
    done: Vec<ParsedResult>,
    count: usize,
}

impl Reader {
    /// Text inside elements that we do not know belongs to the nearest one that we do.
    fn words(&mut self, words: &str) {
        let known = self.stack.iter_mut().rev().find(|frame| !matches!(frame.kind, Kind::Other));
        if let Some(frame) = known {
            frame.text.push_str(words);
        }
    }

    fn open(&mut self, tag: String, attributes: &Attributes) -> Result<(), Fault> {
        let kind = self.kind(&tag, attributes)?;
        let mut result = ParsedResult::new("", Outcome::Passed);
        let mut outcome = None;
        match &kind {
            Kind::Suite(_) | Kind::Case => {
                result.name = self.name(&kind, attributes);
                result.duration_ms = attributes.get("time").and_then(|text| millis(text, 1000.0));
                keep(&mut result, attributes, &["file", "line", "hostname", "timestamp", "package"]);
                self.count += 1;
                if matches!(kind, Kind::Case) {
                    outcome = self.stated(attributes)?;
                }
            }
            Kind::Mark(_) => {
                let message = attributes.get("message").or_else(|| attributes.get("type"));
                result.message = message.and_then(clean_text);
            }
            Kind::Property => {
                result.name = clean_name(attributes.get("name").unwrap_or_default());
                result.message = attributes.get("value").and_then(clean_text);
            }
            Kind::Suites(_) => result.name = self.name(&kind, attributes),
            Kind::Output | Kind::Other => {}
        }
        if self.count > RESULTS_MAX {
            return Err(Fault::new(self.line, format!("more than {RESULTS_MAX} test suites and cases"))
                .help("report fewer"));
        }
        self.stack.push(Frame { tag, line: self.line, kind, result, outcome, text: String::new() });
        Ok(())
    }

    /// What an element is, by its name and by the element around it.
    fn kind(&self, tag: &str, attributes: &Attributes) -> Result<Kind, Fault> {
        let around = self.stack.last().map(|frame| &frame.kind);
        let kind = match (tag, around) {
            ("testsuites", None) => Kind::Suites(self.claims(attributes)?),
            ("testsuite", None | Some(Kind::Suites(_) | Kind::Suite(_))) => {
                Kind::Suite(self.claims(attributes)?)
            }
            ("testcase", Some(Kind::Suite(_) | Kind::Suites(_))) => Kind::Case,
            (other, None) => {
                return Err(Fault::new(self.line, format!("the root element is <{other}>"))
                    .help("JUnit XML begins with <testsuites> or <testsuite>"));
            }
            ("testsuites" | "testsuite" | "testcase", Some(_)) => {
                let inside = self.stack.last().map(|frame| frame.tag.as_str()).unwrap_or_default();
                return Err(Fault::new(self.line, format!("<{tag}> inside of <{inside}>"))
                    .help("a test case stands in a test suite, a test suite in another or in <testsuites>"));
            }
            ("system-out" | "system-err", Some(_)) => Kind::Output,
            ("property", Some(_)) => Kind::Property,
            (_, Some(Kind::Case | Kind::Suite(_) | Kind::Suites(_))) => {
                words::junit(tag).map_or(Kind::Other, Kind::Mark)
            }
            _ => Kind::Other,
        };
        let suites = self.stack.iter().filter(|frame| matches!(frame.kind, Kind::Suite(_))).count();
        if matches!(kind, Kind::Suite(_)) && suites >= DEPTH_MAX {
            return Err(Fault::new(self.line, format!("test suites are nested deeper than {DEPTH_MAX}")));
        }
        Ok(kind)
    }

    fn claims(&self, attributes: &Attributes) -> Result<Claims, Fault> {
        let count = |name: &str| match attributes.get(name).map(str::trim) {
            None | Some("") => Ok(0),
            Some(text) => text.replace(',', "").parse::<u64>().map_err(|_| {
                Fault::new(self.line, format!("{name}=\"{}\" is no number", clean_name(text)))
                    .help(format!("write how many there are, or leave `{name}` out"))
            }),
        };
        Ok(Claims { tests: count("tests")?, bad: count("failures")?.saturating_add(count("errors")?) })
    }

    /// What GoogleTest, CTest and others state in an attribute, beside or instead of an element. One that passed is left
    /// to its elements.
    fn stated(&self, attributes: &Attributes) -> Result<Option<Outcome>, Fault> {
        let mut said = Vec::new();
        for name in ["status", "result"] {
            let Some(word) = attributes.get(name).filter(|word| !word.trim().is_empty()) else { continue };
            said.push(words::junit_status(word).ok_or_else(|| {
                Fault::new(self.line, format!("{name}=\"{}\" of a test case is not known", clean_name(word)))
                    .help("known are passed, failed, error, skipped and what docs/outcomes.md lists; leave it out where an element says it")
            })?);
        }
        Ok(worst(said.into_iter().filter(|outcome| *outcome != Outcome::Passed)))
    }

    /// The name of a suite or a case; a case without any is called by its place.
    fn name(&self, kind: &Kind, attributes: &Attributes) -> String {
        let name = attributes.get("name").map(clean_name).unwrap_or_default();
        let class = attributes.get("classname").map(clean_name).unwrap_or_default();
        let full = match (class.as_str(), name.as_str()) {
            ("", name) => name.to_owned(),
            (class, "") => class.to_owned(),
            (class, name) => clean_name(&format!("{class}.{name}")),
        };
        if !full.is_empty() {
            return full;
        }
        let what = match kind {
            Kind::Case => "test case",
            Kind::Suites(_) => "test suites",
            _ => "test suite",
        };
        format!("{what} on line {}", self.line)
    }

    fn close(&mut self) -> Result<(), Fault> {
        // The XML reader pairs tags, so there is always one.
        let Some(mut frame) = self.stack.pop() else { return Ok(()) };
        let line = self.line;
        if let Kind::Suite(claims) | Kind::Suites(claims) = frame.kind {
            check_claims(&frame, claims, line)?;
        }
        let Some(around) = self.stack.last_mut() else {
            self.done = match frame.kind {
                Kind::Suites(_) if frame.outcome.is_none() => frame.result.children,
                _ => finish(frame).into_iter().collect(),
            };
            return Ok(());
        };
        match frame.kind {
            Kind::Suite(_) | Kind::Case => around.result.children.extend(finish(frame)),
            Kind::Mark(outcome) => mark(around, &frame, outcome),
            Kind::Output => {
                if !frame.text.trim().is_empty() {
                    append(
                        around.result.detail.get_or_insert_default(),
                        &format!("{}:\n{}", frame.tag, frame.text),
                    );
                }
            }
            Kind::Property => self.property(&mut frame),
            Kind::Suites(_) | Kind::Other => {}
        }
        Ok(())
    }

    fn property(&mut self, frame: &mut Frame) {
        let owner =
            self.stack.iter_mut().rev().find(|frame| matches!(frame.kind, Kind::Suite(_) | Kind::Case));
        let Some(owner) = owner else { return };
        let value = frame.result.message.take().or_else(|| clean_text(&frame.text)).unwrap_or_default();
        if !frame.result.name.is_empty() && owner.result.data.len() < DATA_FIELDS_MAX {
            owner.result.data.insert(std::mem::take(&mut frame.result.name), value);
        }
    }
}

/// Keeps attributes that say where a result comes from.
fn keep(result: &mut ParsedResult, attributes: &Attributes, names: &[&str]) {
    for name in names {
        if let Some(value) =
            attributes.get(name).filter(|value| !value.is_empty() && value.len() <= NAME_BYTES_MAX)
        {
            result.data.insert((*name).to_owned(), clean_name(value));
        }
    }
}

/// Gives what a mark says to the element around it.
fn mark(around: &mut Frame, frame: &Frame, outcome: Outcome) {
    // An attribute may have stated the outcome already, but no element has said why.
    let first = around.outcome.is_none_or(|known| {
        outcome.severity() > known.severity() || (outcome == known && around.result.message.is_none())
    });
    around.outcome = Some(around.outcome.map_or(outcome, |known| worse(known, outcome)));
    if first && frame.result.message.is_some() {
        around.result.message.clone_from(&frame.result.message);
    }
    let text = frame.text.trim();
    if outcome == Outcome::Skipped && around.result.message.is_none() && text.lines().count() == 1 {
        // bats and others give the reason as text alone.
        around.result.message = clean_text(text);
        return;
    }
    let detail = around.result.detail.get_or_insert_default();
    let head = frame.result.message.as_deref().filter(|_| !first);
    append(detail, head.unwrap_or_default());
    append(detail, &frame.text);
    if let Some(inner) = &frame.result.detail {
        append(detail, inner);
    }
}

/// The result of a suite or a case; nothing for a suite that holds nothing.
fn finish(frame: Frame) -> Option<ParsedResult> {
    let mut result = frame.result;
    let children = worst(result.children.iter().map(|child| child.outcome));
    result.outcome = match (frame.outcome, children) {
        (Some(own), Some(children)) => worse(children, own),
        (Some(outcome), None) | (None, Some(outcome)) => outcome,
        (None, None) if matches!(frame.kind, Kind::Case) => Outcome::Passed,
        (None, None) => return None,
    };
    result.message = result.message.take().and_then(|text| clean_text(&text));
    result.detail = result.detail.take().and_then(|text| clean_text(&text));
    if result.outcome == Outcome::Info && result.message.is_none() {
        result.message = Some("passed after it had failed".to_owned());
    }
    Some(result)
}

/// Compares what a suite claims with what it holds.
fn check_claims(frame: &Frame, claims: Claims, line: u32) -> Result<(), Fault> {
    let children = &frame.result.children;
    let nothing = children.is_empty() && frame.outcome.is_none();
    if claims.tests > 0 && nothing {
        return Err(Fault::new(
            line,
            format!("<{}> from line {} claims {} tests, but holds none", frame.tag, frame.line, claims.tests),
        )
        .help("the document is incomplete"));
    }
    let bad =
        |outcome: Outcome| !matches!(outcome, Outcome::Passed | Outcome::Skipped | Outcome::NotApplicable);
    if claims.bad > 0 && !frame.outcome.is_some_and(bad) && !children.iter().any(|child| bad(child.outcome)) {
        return Err(Fault::new(
            line,
            format!(
                "<{}> from line {} claims {} failures and errors, but holds none",
                frame.tag, frame.line, claims.bad
            ),
        )
        .help("the document is incomplete"));
    }
    Ok(())
}
