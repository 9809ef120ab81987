//! JUnit XML: `testsuites`, nested `testsuite`s and `testcase`s, in the dialects of Ant, Maven Surefire,
//! pytest, GoogleTest and CTest.
//!
//! - `failure` is [`Outcome::Failed`], `error` an error of the test, `skipped` is [`Outcome::Skipped`]; the
//!   worst of them counts. A `status` or `result` attribute that says so counts as well.
//! - Surefire's `flakyFailure` and `flakyError` mark a test that failed and then passed: [`Outcome::Info`].
//!   Its `rerunFailure` and `rerunError` are further failures beside a `failure`.
//! - A test case is called `classname.name`; a suite is the worst of what it holds; empty suites do not count.
//! - A suite whose counts tell of failures or tests that it does not hold is an error, not a pass.
//! - A document type, and with it every entity of one's own, is refused; nothing is ever loaded.

use crate::{
    duration::millis,
    parse_error::{Fault, line_at},
    parsed::{
        DATA_FIELDS_MAX, DEPTH_MAX, NAME_BYTES_MAX, Parsed, ParsedResult, RESULTS_MAX, append, clean_name,
        clean_text, worse, worst,
    },
};
use model::{ErrorReason, Outcome};
use quick_xml::{
    Reader as Xml,
    escape::{resolve_predefined_entity, unescape},
    events::{BytesRef, BytesStart, Event},
};

/// How deep elements can be nested, those that are not read included.
pub const ELEMENT_DEPTH_MAX: usize = 64;
/// The most attributes of one element.
pub const ATTRIBUTES_MAX: usize = 64;

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let mut xml = Xml::from_str(text);
    let mut reader = Reader { text, at: 0, line: 1, stack: Vec::new(), done: None, count: 0 };
    loop {
        let event = xml.read_event();
        let offset = if event.is_err() { xml.error_position() } else { xml.buffer_position() };
        let event = match event {
            Ok(Event::Eof) => break,
            Ok(event) => event,
            Err(error) => return Err(reader.broken(usize::try_from(offset).unwrap_or(usize::MAX), &error)),
        };
        reader.event(&event)?;
        reader.advance(usize::try_from(offset).unwrap_or(usize::MAX));
    }
    reader.end()
}

/// What an element is to us.
#[derive(Debug)]
enum Kind {
    /// `testsuites`: nothing but a frame.
    Suites,
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

struct Reader<'a> {
    text: &'a str,
    /// The byte offset up to which lines are counted.
    at: usize,
    line: u32,
    stack: Vec<Frame>,
    /// The root, once it is closed.
    done: Option<Vec<ParsedResult>>,
    count: usize,
}

impl Reader<'_> {
    /// Counts the lines up to an offset; offsets only grow, so that the whole document is walked once.
    fn advance(&mut self, offset: usize) {
        let offset = offset.min(self.text.len());
        if offset > self.at {
            self.line = self
                .line
                .saturating_add(line_at(&self.text.as_bytes()[self.at..offset], offset - self.at) - 1);
            self.at = offset;
        }
    }

    fn broken(&mut self, offset: usize, error: &quick_xml::Error) -> Fault {
        self.advance(offset);
        let fault = Fault::new(self.line, format!("broken XML: {error}"));
        match self.stack.last() {
            Some(frame) => fault.help(format!(
                "the element <{}> from line {} is open here; the document may be truncated",
                frame.tag, frame.line
            )),
            None => fault.help("write well-formed XML"),
        }
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Start(start) => self.open(start),
            Event::Empty(start) => {
                self.open(start)?;
                self.close()
            }
            Event::End(_) => self.close(),
            Event::Text(text) => {
                self.words(&text.decode().map_err(|error| Fault::new(self.line, error.to_string()))?)
            }
            Event::CData(text) => {
                self.words(&text.decode().map_err(|error| Fault::new(self.line, error.to_string()))?)
            }
            Event::GeneralRef(reference) => {
                let word = self.resolve(reference)?;
                self.words(&word)
            }
            Event::DocType(_) => Err(Fault::new(self.line, "a document type is not read").help(
                "remove `<!DOCTYPE …>`; entities of its own are refused, external ones are never loaded",
            )),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn resolve(&self, reference: &BytesRef<'_>) -> Result<String, Fault> {
        if let Ok(Some(c)) = reference.resolve_char_ref() {
            return Ok(c.to_string());
        }
        let name = String::from_utf8_lossy(reference).into_owned();
        resolve_predefined_entity(&name).map(str::to_owned).ok_or_else(|| self.unknown_entity(&name))
    }

    fn unknown_entity(&self, name: &str) -> Fault {
        Fault::new(self.line, format!("the entity `&{};` is not known", clean_name(name)))
            .help("known are amp, lt, gt, quot, apos and characters by number; write `&amp;` for `&`")
    }

    fn words(&mut self, words: &str) -> Result<(), Fault> {
        // Text inside elements that we do not know belongs to the nearest one that we do.
        let known = self.stack.iter_mut().rev().find(|frame| !matches!(frame.kind, Kind::Other));
        match known {
            Some(frame) => frame.text.push_str(words),
            None if words.trim().is_empty() => {}
            None => {
                return Err(Fault::new(self.line, "text outside of the root element")
                    .help("the document is not XML alone; write other output elsewhere"));
            }
        }
        Ok(())
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), Fault> {
        let tag = clean_name(&String::from_utf8_lossy(start.local_name().as_ref()));
        if self.done.is_some() {
            return Err(Fault::new(self.line, format!("<{tag}> behind the end of the root element"))
                .help("write one document per file"));
        }
        if self.stack.len() >= ELEMENT_DEPTH_MAX {
            return Err(Fault::new(
                self.line,
                format!("elements are nested deeper than {ELEMENT_DEPTH_MAX}"),
            ));
        }
        let attributes = self.attributes(start)?;
        let kind = self.kind(&tag, &attributes)?;
        let mut result = ParsedResult::new("", Outcome::Passed);
        let mut outcome = None;
        match &kind {
            Kind::Suite(_) | Kind::Case => {
                result.name = self.name(&kind, &attributes);
                result.duration_ms = value(&attributes, "time").and_then(|text| millis(text, 1000.0));
                keep(&mut result, &attributes, &["file", "line", "hostname", "timestamp", "package"]);
                self.count += 1;
                if matches!(kind, Kind::Case) {
                    outcome = stated(&attributes);
                }
            }
            Kind::Mark(_) => {
                let message = value(&attributes, "message").or_else(|| value(&attributes, "type"));
                result.message = message.and_then(clean_text);
            }
            Kind::Property => {
                result.name = clean_name(value(&attributes, "name").unwrap_or_default());
                result.message = value(&attributes, "value").and_then(clean_text);
            }
            Kind::Suites | Kind::Output | Kind::Other => {}
        }
        if self.count > RESULTS_MAX {
            return Err(Fault::new(self.line, format!("more than {RESULTS_MAX} test suites and cases"))
                .help("report fewer"));
        }
        self.stack.push(Frame { tag, line: self.line, kind, result, outcome, text: String::new() });
        Ok(())
    }

    /// What an element is, by its name and by the element around it.
    fn kind(&self, tag: &str, attributes: &[(String, String)]) -> Result<Kind, Fault> {
        let around = self.stack.last().map(|frame| &frame.kind);
        let kind = match (tag, around) {
            ("testsuites", None) => Kind::Suites,
            ("testsuite", None | Some(Kind::Suites | Kind::Suite(_))) => {
                Kind::Suite(self.claims(attributes)?)
            }
            ("testcase", Some(Kind::Suite(_) | Kind::Suites)) => Kind::Case,
            (other, None) => {
                return Err(Fault::new(self.line, format!("the root element is <{other}>"))
                    .help("JUnit XML begins with <testsuites> or <testsuite>"));
            }
            ("testsuites" | "testsuite" | "testcase", Some(_)) => {
                let inside = self.stack.last().map(|frame| frame.tag.as_str()).unwrap_or_default();
                return Err(Fault::new(self.line, format!("<{tag}> inside of <{inside}>"))
                    .help("a test case stands in a test suite, a test suite in another or in <testsuites>"));
            }
            ("failure" | "rerunFailure", Some(Kind::Case | Kind::Suite(_))) => Kind::Mark(Outcome::Failed),
            ("error" | "rerunError", Some(Kind::Case | Kind::Suite(_))) => {
                Kind::Mark(Outcome::Error(ErrorReason::Task))
            }
            ("skipped", Some(Kind::Case | Kind::Suite(_))) => Kind::Mark(Outcome::Skipped),
            ("flakyFailure" | "flakyError", Some(Kind::Case)) => Kind::Mark(Outcome::Info),
            ("system-out" | "system-err", Some(_)) => Kind::Output,
            ("property", Some(_)) => Kind::Property,
            _ => Kind::Other,
        };
        let suites = self.stack.iter().filter(|frame| matches!(frame.kind, Kind::Suite(_))).count();
        if matches!(kind, Kind::Suite(_)) && suites >= DEPTH_MAX {
            return Err(Fault::new(self.line, format!("test suites are nested deeper than {DEPTH_MAX}")));
        }
        Ok(kind)
    }

    fn claims(&self, attributes: &[(String, String)]) -> Result<Claims, Fault> {
        let count = |name: &str| match value(attributes, name).map(str::trim) {
            None | Some("") => Ok(0),
            Some(text) => text.replace(',', "").parse::<u64>().map_err(|_| {
                Fault::new(self.line, format!("{name}=\"{}\" is no number", clean_name(text)))
                    .help(format!("write how many there are, or leave `{name}` out"))
            }),
        };
        Ok(Claims { tests: count("tests")?, bad: count("failures")?.saturating_add(count("errors")?) })
    }

    /// The name of a suite or a case; a case without any is called by its place.
    fn name(&self, kind: &Kind, attributes: &[(String, String)]) -> String {
        let name = value(attributes, "name").map(clean_name).unwrap_or_default();
        let class = value(attributes, "classname").map(clean_name).unwrap_or_default();
        let full = match (class.as_str(), name.as_str()) {
            ("", name) => name.to_owned(),
            (class, "") => class.to_owned(),
            (class, name) => clean_name(&format!("{class}.{name}")),
        };
        if !full.is_empty() {
            return full;
        }
        let what = if matches!(kind, Kind::Case) { "test case" } else { "test suite" };
        format!("{what} on line {}", self.line)
    }

    fn attributes(&self, start: &BytesStart<'_>) -> Result<Vec<(String, String)>, Fault> {
        let mut attributes: Vec<(String, String)> = Vec::new();
        // The library's own check for duplicates is quadratic in a hostile number of attributes.
        for attribute in start.attributes().with_checks(false) {
            let attribute =
                attribute.map_err(|error| Fault::new(self.line, format!("broken attribute: {error}")))?;
            if attributes.len() == ATTRIBUTES_MAX {
                return Err(Fault::new(self.line, format!("more than {ATTRIBUTES_MAX} attributes")));
            }
            let key = String::from_utf8_lossy(attribute.key.local_name().as_ref()).into_owned();
            let raw = String::from_utf8_lossy(&attribute.value);
            let value = unescape(&raw).map_err(|error| {
                Fault::new(self.line, format!("attribute `{}`: {error}", clean_name(&key)))
                    .help("known entities are amp, lt, gt, quot, apos and characters by number; write `&amp;` for `&`")
            })?;
            if attributes.iter().any(|(known, _)| *known == key) {
                return Err(Fault::new(self.line, format!("attribute `{}` comes twice", clean_name(&key))));
            }
            attributes.push((key, value.into_owned()));
        }
        Ok(attributes)
    }

    fn close(&mut self) -> Result<(), Fault> {
        // The XML reader pairs tags, so there is always one.
        let Some(mut frame) = self.stack.pop() else { return Ok(()) };
        let line = self.line;
        if let Kind::Suite(claims) = frame.kind {
            check_claims(&frame, claims, line)?;
        }
        let Some(around) = self.stack.last_mut() else {
            self.done = Some(match frame.kind {
                Kind::Suites => frame.result.children,
                _ => finish(frame).into_iter().collect(),
            });
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
            Kind::Suites | Kind::Other => {}
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

    fn end(self) -> Result<Parsed, Fault> {
        match (self.stack.last(), self.done) {
            (Some(frame), _) => Err(Fault::new(
                self.line,
                format!("the document ends inside <{}> from line {}", frame.tag, frame.line),
            )
            .help("the document is truncated")),
            (None, None) => {
                Err(Fault::new(self.line, "the document is empty")
                    .help("the tests died before they wrote it"))
            }
            (None, Some(results)) => Ok(Parsed { results, stop: None }),
        }
    }
}

fn value<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Keeps attributes that say where a result comes from.
fn keep(result: &mut ParsedResult, attributes: &[(String, String)], names: &[&str]) {
    for name in names {
        if let Some(value) =
            value(attributes, name).filter(|value| !value.is_empty() && value.len() <= NAME_BYTES_MAX)
        {
            result.data.insert((*name).to_owned(), clean_name(value));
        }
    }
}

/// What GoogleTest and CTest state in an attribute, beside or instead of an element.
fn stated(attributes: &[(String, String)]) -> Option<Outcome> {
    let one = |name: &str| match value(attributes, name)?.trim().to_ascii_lowercase().as_str() {
        "fail" | "failed" | "failure" => Some(Outcome::Failed),
        "error" | "broken" => Some(Outcome::Error(ErrorReason::Task)),
        "skipped" | "notrun" | "disabled" | "suppressed" | "ignored" => Some(Outcome::Skipped),
        _ => None,
    };
    worst(one("status").into_iter().chain(one("result")))
}

/// Gives what a mark says to the element around it.
fn mark(around: &mut Frame, frame: &Frame, outcome: Outcome) {
    let first = around.outcome.is_none_or(|known| outcome.severity() > known.severity());
    around.outcome = Some(around.outcome.map_or(outcome, |known| worse(known, outcome)));
    if first && frame.result.message.is_some() {
        around.result.message.clone_from(&frame.result.message);
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
            format!("the suite from line {} claims {} tests, but holds none", frame.line, claims.tests),
        )
        .help("the document is incomplete"));
    }
    let bad =
        |outcome: Outcome| !matches!(outcome, Outcome::Passed | Outcome::Skipped | Outcome::NotApplicable);
    if claims.bad > 0 && !frame.outcome.is_some_and(bad) && !children.iter().any(|child| bad(child.outcome)) {
        return Err(Fault::new(
            line,
            format!(
                "the suite from line {} claims {} failures and errors, but holds none",
                frame.line, claims.bad
            ),
        )
        .help("the document is incomplete"));
    }
    Ok(())
}
