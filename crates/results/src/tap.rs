//! The Test Anything Protocol, versions 13 and 14, as <https://testanything.org/tap-version-14-specification.html>
//! states them, with subtests by indentation of four spaces, and those in
//! braces that node-tap prints: `ok 1 - name {`, the subtest, `}`.
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
    parsed::{DEPTH_MAX, Parsed, ParsedResult, RESULTS_MAX, Stop, append, clean_name},
    tap_level::{Level, Plan, check_plan, diagnose, result, skipped, tidy},
    tap_line::{Line, Point, classify},
};
use model::Outcome;

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
            Line::Other => {
                if !self.brace(number, indent, text)? {
                    self.other(number, text)?;
                }
            }
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
                self.point(number, text, point, children)?;
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
            level.opens = false;
            level.next_name = Some(clean_name(name.trim_start_matches(':')));
            return;
        }
        // Many producers explain a failure in comments behind it.
        if let Some(point) = level.points.last_mut().filter(|point| explained(point.outcome)) {
            append(point.detail.get_or_insert_default(), comment);
        }
    }

    /// Takes the braces around the subtest of the point before, as node-tap prints those that it buffers; says
    /// whether it did.
    fn brace(&mut self, number: u32, indent: usize, text: &str) -> Result<bool, Fault> {
        let outer = self.depth() * SUBTEST_INDENT;
        let level = self.level();
        match text {
            "{" if indent == outer && level.last_point.is_some() => level.opens = true,
            "}" if indent + SUBTEST_INDENT == outer && level.owner.is_some() => {
                let Some(level) = self.subtests.pop() else { return Ok(false) };
                check_plan(&level, number)?;
                self.level().adopt(level);
            }
            _ => return Ok(false),
        }
        Ok(true)
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
        let above = self.level();
        let owner = above.last_point.take().filter(|_| above.opens);
        above.opens = false;
        if depth > self.depth() {
            self.subtests.push(Level { begun: number, owner, ..Level::default() });
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
            if level.owner.is_some() {
                return Err(Fault::new(
                    number,
                    format!("the subtest from line {} is not closed", level.begun),
                )
                .help("its point ends with `{`: print `}` behind it, at the point's indentation"));
            }
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

    fn point(
        &mut self,
        number: u32,
        text: &str,
        point: Point<'_>,
        subtest: Option<Level>,
    ) -> Result<(), Fault> {
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
        level.last_point = Some((text.to_owned(), id));
        level.opens = text.ends_with(" {");
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

/// Whether comments behind a point of this outcome are about it.
fn explained(outcome: Outcome) -> bool {
    !outcome.is_good() || outcome == Outcome::Info
}

/// A line of the document, short enough for an error.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
