//! The Test Anything Protocol, versions 13 and 14, as <https://testanything.org/tap-version-14-specification.html>
//! states them, with subtests by indentation of four spaces.
//!
//! A document without a version line is read as version 13. What is read more strictly than harnesses do,
//! since a lost line must never turn into a pass:
//! - there must be exactly one plan, before or after all points, and it must agree with the points;
//! - a number that comes twice or lies outside of the plan is an error (any order is fine);
//! - a subtest must be closed by a point of its parent, and that point is not better than its children;
//! - what looks like a failing point but is none (`NOT OK`, `not  ok`, odd indentation) is an error.
//!
//! `not ok … # TODO` is [`Outcome::Info`], `# SKIP` is [`Outcome::Skipped`] on any point.

use crate::{
    parse_error::Fault,
    parsed::{
        DEPTH_MAX, Parsed, ParsedResult, RESULTS_MAX, Stop, append, clean_name, clean_text, worse, worst,
    },
    tap_line::{Directive, Line, Point, classify},
};
use model::{
    Outcome,
    outcome::words::{self, TapDirective},
};
use std::collections::BTreeSet;

/// How many spaces a subtest is indented by.
const SUBTEST_INDENT: usize = 4;
/// How many spaces a YAML block is indented by, beyond its point.
const YAML_INDENT: usize = 2;

/// Reads a document to its end.
pub(crate) fn read(text: &str) -> Result<Parsed, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::default();
    let mut number = 0;
    for line in text.lines() {
        number += 1;
        if let Some(stop) = reader.line(number, line)? {
            return Ok(Parsed { results: reader.bail(), stop: Some(stop) });
        }
    }
    reader.end(number.max(1))
}

/// A document or a subtest that is being read.
#[derive(Debug, Default)]
struct Level {
    /// The line on which it began.
    begun: u32,
    plan: Option<Plan>,
    points: Vec<ParsedResult>,
    numbers: BTreeSet<u64>,
    /// The name that a `# Subtest:` comment gave to the next subtest.
    next_name: Option<String>,
}

#[derive(Debug)]
struct Plan {
    count: u64,
    line: u32,
    /// Whether points stood before it.
    last: bool,
    comment: Option<String>,
}

/// What the line before allows.
#[derive(Debug, Default)]
enum Context {
    #[default]
    Plain,
    /// Right behind a point: a YAML block may begin.
    Point,
    /// In a YAML block that began on this line.
    Yaml { begun: u32, text: String },
}

#[derive(Debug, Default)]
struct Reader {
    /// The document, and the subtests that are open inside it.
    outer: Level,
    subtests: Vec<Level>,
    context: Context,
    strict: bool,
    /// How many points there are, at all depths.
    count: usize,
    /// Whether any line of TAP was seen; a version line must be the first.
    begun: bool,
}

impl Reader {
    fn depth(&self) -> usize {
        self.subtests.len()
    }

    fn level(&mut self) -> &mut Level {
        self.subtests.last_mut().unwrap_or(&mut self.outer)
    }

    fn line(&mut self, number: u32, line: &str) -> Result<Option<Stop>, Fault> {
        let line = line.trim_end();
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        if self.yaml(number, text, indent)? || text.is_empty() {
            return Ok(None);
        }
        self.context = Context::Plain;
        match classify(text) {
            Line::BailOut(reason) => {
                return Ok(Some(Stop::BailedOut { line: number, reason: reason.to_owned() }));
            }
            Line::Comment(comment) => self.comment(comment),
            Line::Other => self.other(number, text)?,
            Line::NearMiss => {
                return Err(Fault::new(
                    number,
                    format!("`{}` looks like a failing test point, but is none", shown(text)),
                )
                .help("write `not ok`, in lower case and with one space"));
            }
            Line::Pragma(pragmas) => pragmas.split([',', ' ']).for_each(|pragma| match pragma {
                "+strict" => self.strict = true,
                "-strict" => self.strict = false,
                _ => {}
            }),
            Line::Plan { count, comment } => {
                self.enter(number, indent, text)?;
                self.plan(number, count, comment)?;
            }
            Line::Version(version) => {
                self.version(number, version)?;
                self.enter(number, indent, text)?;
            }
            Line::Point(point) => {
                let children = self.enter_or_close(number, indent, text)?;
                self.point(number, point, children)?;
            }
        }
        Ok(None)
    }

    /// Takes a line that belongs to a YAML block; says whether it did.
    fn yaml(&mut self, number: u32, text: &str, indent: usize) -> Result<bool, Fault> {
        let block = self.depth() * SUBTEST_INDENT + YAML_INDENT;
        match &mut self.context {
            Context::Plain => Ok(false),
            Context::Point => {
                let begins = indent == block && text == "---";
                if begins {
                    self.context = Context::Yaml { begun: number, text: String::new() };
                }
                Ok(begins)
            }
            Context::Yaml { text: yaml, .. } if indent == block && text == "..." => {
                let yaml = std::mem::take(yaml);
                self.context = Context::Plain;
                if let Some(point) = self.level().points.last_mut() {
                    diagnose(point, &yaml);
                }
                Ok(true)
            }
            Context::Yaml { text: yaml, .. } if text.is_empty() || indent >= block => {
                yaml.extend(std::iter::repeat_n(' ', indent.saturating_sub(block)));
                yaml.push_str(text);
                yaml.push('\n');
                Ok(true)
            }
            Context::Yaml { begun, .. } => Err(unclosed_yaml(number, *begun)),
        }
    }

    fn comment(&mut self, comment: &str) {
        let level = self.level();
        if let Some(name) = comment.strip_prefix("Subtest") {
            level.next_name = Some(clean_name(name.trim_start_matches(':')));
            return;
        }
        // Many producers explain a failure in comments behind it.
        if let Some(point) = level.points.last_mut().filter(|point| !point.outcome.is_good()) {
            append(point.detail.get_or_insert_default(), comment);
        }
    }

    fn other(&self, number: u32, text: &str) -> Result<(), Fault> {
        if self.strict {
            return Err(Fault::new(
                number,
                format!("`{}` is no TAP, and the document set `pragma +strict`", shown(text)),
            )
            .help("print other output to standard error or behind `#`"));
        }
        Ok(())
    }

    fn version(&mut self, number: u32, version: &str) -> Result<(), Fault> {
        if !matches!(version, "13" | "14") {
            return Err(Fault::new(number, format!("TAP version `{}` is not known", shown(version)))
                .help("known are 13 and 14; version 12 and older have no version line"));
        }
        if self.begun && self.depth() == 0 && (self.outer.plan.is_some() || !self.outer.points.is_empty()) {
            return Err(Fault::new(
                number,
                "a second document begins: the version must be the first line of TAP",
            )
            .help("write one document per file, or make the parts subtests"));
        }
        Ok(())
    }

    /// Goes to the level that the indentation says: the present one, or a new subtest inside it.
    fn enter(&mut self, number: u32, indent: usize, text: &str) -> Result<(), Fault> {
        let depth = depth_of(number, indent, text)?;
        if depth < self.depth() {
            return Err(Fault::new(
                number,
                format!("the subtest from line {} is not closed by a test point", self.level().begun),
            )
            .help("print `ok` or `not ok` for the subtest behind it, at its parent's indentation"));
        }
        if depth > self.depth() + 1 {
            return Err(Fault::new(
                number,
                format!("`{}` is indented by {indent} spaces, deeper than a subtest here", shown(text)),
            )
            .help(format!("indent a subtest by {SUBTEST_INDENT} spaces more than its parent")));
        }
        if depth > DEPTH_MAX {
            return Err(Fault::new(number, format!("subtests are nested deeper than {DEPTH_MAX}"))
                .help("flatten them"));
        }
        if depth > self.depth() {
            self.subtests.push(Level { begun: number, ..Level::default() });
        }
        self.begun = true;
        Ok(())
    }

    /// As [`Reader::enter`]; a point right above an open subtest closes it and gets its results.
    fn enter_or_close(&mut self, number: u32, indent: usize, text: &str) -> Result<Option<Level>, Fault> {
        let closes = depth_of(number, indent, text)? + 1 == self.depth();
        if !closes {
            self.enter(number, indent, text)?;
            return Ok(None);
        }
        let level = self.subtests.pop();
        if let Some(level) = &level {
            check_plan(level, number)?;
        }
        Ok(level)
    }

    fn plan(&mut self, number: u32, count: &str, comment: Option<&str>) -> Result<(), Fault> {
        let count = count.parse().map_err(|_| {
            Fault::new(number, format!("the plan's count {} is too large", shown(count)))
                .help("count the points")
        })?;
        let level = self.level();
        if let Some(plan) = &level.plan {
            return Err(Fault::new(number, format!("a second plan; the first is on line {}", plan.line))
                .help("print one plan, before or after all points"));
        }
        let comment = comment.map(str::to_owned);
        level.plan = Some(Plan { count, line: number, last: !level.points.is_empty(), comment });
        Ok(())
    }

    fn point(&mut self, number: u32, point: Point<'_>, subtest: Option<Level>) -> Result<(), Fault> {
        self.count += 1;
        if self.count > RESULTS_MAX {
            return Err(
                Fault::new(number, format!("more than {RESULTS_MAX} test points")).help("report fewer")
            );
        }
        let level = self.level();
        if let Some(plan) = level.plan.as_ref().filter(|plan| plan.last) {
            return Err(Fault::new(
                number,
                format!("a test point behind the plan on line {}, which stood behind others", plan.line),
            )
            .help("print the plan before or after all points, not between them"));
        }
        let id = match point.number {
            Some(digits) => digits.parse().map_err(|_| {
                Fault::new(number, format!("the test number {} is too large", shown(digits)))
                    .help("count from 1")
            })?,
            None => level.points.len() as u64 + 1,
        };
        if id == 0 {
            return Err(Fault::new(number, "test number 0").help("count from 1"));
        }
        if !level.numbers.insert(id) {
            return Err(Fault::new(number, format!("test number {id} comes twice"))
                .help("number every point once; two programs may be writing into one file"));
        }
        let name = level.next_name.take().filter(|name| !name.is_empty() && point.description.is_empty());
        let result = result(&name.unwrap_or_else(|| point.description.clone()), id, &point, subtest);
        level.points.push(result);
        self.context = Context::Point;
        Ok(())
    }

    fn end(mut self, number: u32) -> Result<Parsed, Fault> {
        if let Context::Yaml { begun, .. } = self.context {
            return Err(unclosed_yaml(number, begun));
        }
        if let Some(level) = self.subtests.last() {
            return Err(Fault::new(
                number,
                format!("the document ends inside the subtest from line {}", level.begun),
            )
            .help("the document is truncated, or the subtest lacks the test point that closes it"));
        }
        check_plan(&self.outer, number)?;
        self.outer.points.iter_mut().for_each(tidy);
        let stop = skipped(&self.outer).map(Stop::Skipped);
        Ok(Parsed { results: self.outer.points, stop })
    }

    /// What was reported before the tests bailed out; open subtests count with what they have.
    fn bail(mut self) -> Vec<ParsedResult> {
        let mut results = std::mem::take(&mut self.outer.points);
        results.extend(self.subtests.into_iter().flat_map(|level| level.points));
        results.iter_mut().for_each(tidy);
        results
    }
}

/// How deep an indentation is.
fn depth_of(number: u32, indent: usize, text: &str) -> Result<usize, Fault> {
    if !indent.is_multiple_of(SUBTEST_INDENT) {
        return Err(Fault::new(number, format!("`{}` is indented by {indent} spaces", shown(text))).help(
            format!(
                "test points and plans are indented by {SUBTEST_INDENT} spaces per subtest, or not at all"
            ),
        ));
    }
    Ok(indent / SUBTEST_INDENT)
}

fn unclosed_yaml(number: u32, begun: u32) -> Fault {
    Fault::new(number, format!("the YAML block from line {begun} is not closed"))
        .help("end it with a line `  ...`, indented as its start")
}

/// Checks a finished level: one plan, as many points, all numbers inside.
fn check_plan(level: &Level, number: u32) -> Result<(), Fault> {
    let points = level.points.len() as u64;
    let Some(plan) = &level.plan else {
        return Err(Fault::new(number, format!("no plan for {points} test points"))
            .help("print `1..N` before or after the points; without it a truncated document looks whole"));
    };
    if plan.count != points {
        return Err(Fault::new(
            number,
            format!("the plan on line {} says {} test points, but there are {points}", plan.line, plan.count),
        )
        .help("the tests died early, the document is truncated, or the plan is wrong"));
    }
    match level.numbers.last() {
        Some(&last) if last > plan.count => {
            Err(Fault::new(number, format!("test number {last} is outside of the plan 1..{}", plan.count))
                .help("number the points from 1 without holes"))
        }
        _ => Ok(()),
    }
}

/// The reason of a level that planned nothing.
fn skipped(level: &Level) -> Option<String> {
    let plan = level.plan.as_ref().filter(|plan| plan.count == 0)?;
    let comment = plan.comment.as_deref().unwrap_or_default();
    let reason = match comment.get(..4) {
        Some(word) if word.eq_ignore_ascii_case("skip") => {
            comment[4..].trim_start_matches(|c: char| c.is_alphabetic() || c == ':').trim()
        }
        _ => comment,
    };
    Some(if reason.is_empty() { "nothing to test".to_owned() } else { reason.to_owned() })
}

/// A point with its subtest, if it closes one.
fn result(name: &str, id: u64, point: &Point<'_>, subtest: Option<Level>) -> ParsedResult {
    let name = if name.trim().is_empty() { id.to_string() } else { name.to_owned() };
    let own = words::tap(point.ok, None);
    let mut result = ParsedResult::new(&name, own);
    result.duration_ms = point.duration_ms;
    if let Some(level) = subtest {
        // An `ok` over a subtest that ran nothing says no more than the subtest did.
        if let Some(reason) = skipped(&level) {
            result.message = Some(reason);
            if point.ok {
                result.outcome = Outcome::Skipped;
            }
        }
        if let Some(children) = worst(level.points.iter().map(|point| point.outcome)) {
            result.outcome = if point.ok { worse_or_skipped(children) } else { worse(own, children) };
            if point.ok && !result.outcome.is_good() {
                result.message = Some("reported as ok, but its subtest is not".to_owned());
            }
        }
        result.children = level.points;
    }
    match point.directive {
        Some(Directive::Skip(reason)) => {
            result.outcome = words::tap(point.ok, Some(TapDirective::Skip));
            result.message = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
        }
        Some(Directive::Todo(reason)) => {
            if !result.outcome.is_good() {
                result.outcome = words::tap(false, Some(TapDirective::Todo));
            }
            let how = if point.ok { "to do, but passes" } else { "to do" };
            result.message =
                Some(if reason.is_empty() { how.to_owned() } else { format!("{how}: {reason}") });
        }
        None => {}
    }
    result
}

/// The outcome of an `ok` over children whose worst is this: what did not run is not passed.
fn worse_or_skipped(children: Outcome) -> Outcome {
    match children {
        Outcome::NotApplicable | Outcome::Skipped => children,
        _ => worse(Outcome::Passed, children),
    }
}

/// Adds a YAML block to its point: whole as text, and what has a place of its own there.
fn diagnose(point: &mut ParsedResult, yaml: &str) {
    append(point.detail.get_or_insert_default(), yaml);
    for line in yaml.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        match key {
            "message"
                if point.message.is_none()
                    && !value.is_empty()
                    && !matches!(value, "|" | ">" | "|-" | ">-") =>
            {
                point.message = Some(value.to_owned());
            }
            "duration_ms" if point.duration_ms.is_none() => {
                point.duration_ms = crate::duration::millis(value, 1.0);
            }
            _ => {}
        }
    }
}

/// Cuts texts to their limits, once all of them is known.
fn tidy(result: &mut ParsedResult) {
    result.message = result.message.take().and_then(|text| clean_text(&text));
    result.detail = result.detail.take().and_then(|text| clean_text(&text));
    result.children.iter_mut().for_each(tidy);
}

/// A line of the document, short enough for an error.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
