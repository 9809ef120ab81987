//! Firehose, the common format of static analysers: <https://github.com/fedora-static-analysis/firehose>, as
//! XML by its schema or as the JSON of its library.
//!
//! The analysis is a result named by its generator; below it is one result for each `issue`, named by its
//! test, `failure`, which is an error, since the analysis is not whole, and `info`.

use crate::{
    decode,
    finding::{Finding, Findings},
    parse_error::Fault,
    parsed::{DATA_FIELDS_MAX, Parsed, append, clean_name},
    xml::{Attributes, Node, Xml},
};
use model::outcome::words;
use serde::Deserialize;
use serde_json::{Map, Value};

const SHAPE: &str = "expected Firehose's `analysis` with `metadata` and `results`";

/// A result as either form writes it.
#[derive(Debug, Default)]
struct Found {
    /// `issue`, `failure` or `info`.
    kind: &'static str,
    id: Option<String>,
    severity: Option<String>,
    finding: Finding,
}

/// The three kinds, with the attribute or field that holds their ids, in XML and in JSON.
const KINDS: [(&str, &str, &str); 3] =
    [("issue", "test-id", "testid"), ("failure", "failure-id", "failureid"), ("info", "info-id", "infoid")];

impl Found {
    fn push_into(mut self, line: u32, findings: &mut Findings) -> Result<(), Fault> {
        let Some(outcome) = words::firehose(self.kind, self.severity.as_deref()) else { return Ok(()) };
        self.finding.rule = Some(self.id.unwrap_or_else(|| self.kind.to_owned()));
        let severity = self.severity.map(|severity| ("severity".to_owned(), severity));
        self.finding.data.extend(severity);
        self.finding.data.push(("kind".to_owned(), self.kind.to_owned()));
        findings.push(line, outcome, self.finding)
    }

    fn field(&mut self, name: &str, value: String) {
        if self.finding.data.len() < DATA_FIELDS_MAX - 8 {
            self.finding.data.push((clean_name(name), value));
        }
    }

    /// A step of the way to the problem, as compilers print it.
    fn step(&mut self, step: &Finding) {
        let place = [&step.file, &step.line].map(|part| part.as_deref().unwrap_or("?")).join(":");
        let note = step.message.as_deref().unwrap_or_default().trim();
        append(self.finding.detail.get_or_insert_default(), &format!("{place}: {note}\n"));
    }
}

/// Reads a document to its end, in the form that it begins as.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    if text.trim_start().starts_with('{') { read_json(text) } else { read_xml(text) }
}

#[derive(Deserialize)]
struct Document {
    metadata: Metadata,
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Metadata {
    generator: Generator,
}

#[derive(Deserialize)]
struct Generator {
    name: String,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: EntryKind,
    #[serde(alias = "failureid", alias = "infoid")]
    testid: Option<String>,
    severity: Option<String>,
    cwe: Option<i64>,
    message: Option<Words>,
    notes: Option<Words>,
    location: Option<Location>,
    trace: Option<Trace>,
    customfields: Option<Map<String, Value>>,
}

#[derive(Deserialize, Clone, Copy)]
enum EntryKind {
    Issue,
    Failure,
    Info,
}

#[derive(Deserialize)]
struct Words {
    text: Option<String>,
}

#[derive(Deserialize)]
struct Location {
    file: Option<File>,
    function: Option<Function>,
    point: Option<Point>,
    #[serde(alias = "range_")]
    range: Option<Range>,
}

#[derive(Deserialize)]
struct File {
    givenpath: Option<String>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Point {
    line: Option<u64>,
    column: Option<u64>,
}

#[derive(Deserialize)]
struct Range {
    start: Option<Point>,
}

#[derive(Deserialize)]
struct Trace {
    #[serde(default)]
    states: Vec<State>,
}

#[derive(Deserialize)]
struct State {
    location: Option<Location>,
    notes: Option<Words>,
}

fn read_json(text: &str) -> Result<Parsed, Fault> {
    let document: Document = decode::json(text, SHAPE)?;
    let mut findings = Findings::new(1);
    for entry in document.results {
        let kind = match entry.kind {
            EntryKind::Issue => "issue",
            EntryKind::Failure => "failure",
            EntryKind::Info => "info",
        };
        let mut found = Found { kind, id: entry.testid, severity: entry.severity, ..Found::default() };
        place(entry.location, &mut found.finding);
        found.finding.message = entry.message.and_then(|words| words.text);
        found.finding.detail = entry.notes.and_then(|words| words.text);
        for state in entry.trace.map(|trace| trace.states).unwrap_or_default() {
            let mut step = Finding::default();
            place(state.location, &mut step);
            step.message = state.notes.and_then(|words| words.text);
            found.step(&step);
        }
        if let Some(cwe) = entry.cwe {
            found.field("cwe", cwe.to_string());
        }
        for (name, value) in entry.customfields.unwrap_or_default() {
            found.field(&name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        found.push_into(1, &mut findings)?;
    }
    let generator = document.metadata.generator;
    let run = findings.finish(&generator.name, generator.version.as_deref());
    Ok(Parsed { results: vec![run], stop: None })
}

fn place(location: Option<Location>, finding: &mut Finding) {
    let Some(location) = location else { return };
    let point = location.point.or_else(|| location.range?.start);
    finding.file = location.file.and_then(|file| file.givenpath);
    finding.line = point.as_ref().and_then(|point| point.line).map(|line| line.to_string());
    finding.column = point.and_then(|point| point.column).map(|column| column.to_string());
    let function = location.function.and_then(|function| function.name);
    finding.data.extend(function.map(|name| ("function".to_owned(), name)));
}

/// An XML document on its way: the open elements and what was read of the present result.
struct Reader {
    path: Vec<String>,
    text: String,
    generator: Option<(String, Option<String>)>,
    /// Whether `results` was seen; without it the document is not whole.
    complete: bool,
    found: Option<(u32, Found)>,
    /// The step of the trace that is open.
    step: Option<Finding>,
    /// The name of the custom field that is open, with its value if that is an attribute.
    field: Option<(String, Option<String>)>,
    findings: Findings,
}

fn read_xml(text: &str) -> Result<Parsed, Fault> {
    let mut xml = Xml::new(text);
    let mut reader = Reader {
        path: Vec::new(),
        text: String::new(),
        generator: None,
        complete: false,
        found: None,
        step: None,
        field: None,
        findings: Findings::new(1),
    };
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag, attributes) => reader.open(xml.line(), tag, &attributes)?,
            Node::Words(words) => reader.text.push_str(&words),
            Node::Close => reader.close()?,
        }
    }
    let missing =
        |what: &str| Err(Fault::new(xml.line(), format!("the analysis has no `{what}`")).help(SHAPE));
    match reader.generator {
        None => missing("metadata/generator"),
        Some(_) if !reader.complete => missing("results"),
        Some((name, version)) => {
            let run = reader.findings.finish(&name, version.as_deref());
            Ok(Parsed { results: vec![run], stop: None })
        }
    }
}

impl Reader {
    fn open(&mut self, line: u32, tag: String, attributes: &Attributes) -> Result<(), Fault> {
        self.text.clear();
        let get = |name: &str| attributes.get(name).map(str::to_owned);
        let around = self.path.last().map(String::as_str);
        match (around, tag.as_str(), self.path.len()) {
            (None, "analysis", _) => {}
            (None, other, _) => {
                return Err(Fault::new(line, format!("the root element is <{other}>")).help(SHAPE));
            }
            (Some("analysis"), "results", 1) => self.complete = true,
            (Some("metadata"), "generator", 2) => {
                self.generator = Some((get("name").unwrap_or_default(), get("version")));
            }
            (Some("results"), kind, 2) => {
                let Some((kind, id, _)) = KINDS.into_iter().find(|(known, ..)| *known == kind) else {
                    return Err(Fault::new(line, format!("<{kind}> inside of <results>"))
                        .help("a result is an <issue>, a <failure> or an <info>"));
                };
                let mut found = Found { kind, id: get(id), severity: get("severity"), ..Found::default() };
                if let Some(cwe) = get("cwe") {
                    found.field("cwe", cwe);
                }
                self.found = Some((line, found));
            }
            (Some("trace"), "state", _) => self.step = Some(Finding::default()),
            (Some("custom-fields"), _, _) => self.field = get("name").map(|name| (name, get("value"))),
            _ => self.place(&tag, attributes),
        }
        self.path.push(tag);
        Ok(())
    }

    /// Elements of a location. The first one counts: a range begins with its first point.
    fn place(&mut self, tag: &str, attributes: &Attributes) {
        let Some((_, found)) = &mut self.found else { return };
        let finding = self.step.as_mut().unwrap_or(&mut found.finding);
        let get = |name: &str| attributes.get(name).map(str::to_owned);
        match tag {
            "file" if finding.file.is_none() => finding.file = get("given-path"),
            "point" if finding.line.is_none() => {
                (finding.line, finding.column) = (get("line"), get("column"));
            }
            "function" => finding.data.extend(get("name").map(|name| ("function".to_owned(), name))),
            _ => {}
        }
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(tag) = self.path.pop() else { return Ok(()) };
        let text = std::mem::take(&mut self.text);
        let in_result = self.path.len() == 3;
        let Some((line, mut found)) = self.found.take() else { return Ok(()) };
        match (tag.as_str(), &mut self.step) {
            ("message", None) if in_result => found.finding.message = Some(text),
            // Notes stand before the trace in the schema, but not in every document.
            ("notes", None) if in_result => {
                let trace = found.finding.detail.take().unwrap_or_default();
                let notes = found.finding.detail.insert(text);
                append(notes, &trace);
            }
            ("notes", Some(step)) => step.message = Some(text),
            ("state", _) => {
                if let Some(step) = self.step.take() {
                    found.step(&step);
                }
            }
            _ if self.path.len() == 2 => return found.push_into(line, &mut self.findings),
            _ => {
                if let Some((name, value)) = self.field.take() {
                    found.field(&name, value.unwrap_or(text));
                }
            }
        }
        self.found = Some((line, found));
        Ok(())
    }
}
