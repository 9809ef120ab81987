//! A document of TAP or a subtest inside it, and how points become results.

use crate::{
    parse_error::Fault,
    parsed::{ParsedResult, append, clean_text, worse, worst},
    tap_line::{Directive, Line, Point, classify},
};
use model::{
    Outcome,
    outcome::words::{self, TapDirective},
};
use std::collections::BTreeSet;

/// A document or a subtest that is being read.
#[derive(Debug, Default)]
pub(crate) struct Level {
    /// The line on which it began.
    pub(crate) begun: u32,
    pub(crate) plan: Option<Plan>,
    pub(crate) points: Vec<ParsedResult>,
    pub(crate) numbers: BTreeSet<u64>,
    /// The name that a `# Subtest:` comment gave to the next subtest.
    pub(crate) next_name: Option<String>,
    /// The last point as it is written, and its number.
    pub(crate) last_point: Option<(String, u64)>,
    /// Whether that point may begin a buffered subtest: it ends with `{`, or one stands behind it.
    pub(crate) opens: bool,
    /// The point that this buffered subtest belongs to.
    pub(crate) owner: Option<(String, u64)>,
}

impl Level {
    /// Gives a subtest to the last point, which began it with `{`.
    pub(crate) fn adopt(&mut self, mut subtest: Self) {
        let Some((text, id)) = subtest.owner.take() else { return };
        let text = text.strip_suffix('{').unwrap_or(&text).trim_end();
        let (Line::Point(point), Some(last)) = (classify(text), self.points.last_mut()) else { return };
        let whole = result(&point.description, id, &point, Some(subtest));
        let before = std::mem::replace(last, whole);
        // What its YAML block said stays.
        last.detail = before.detail;
        last.message = last.message.take().or(before.message);
        last.duration_ms = last.duration_ms.or(before.duration_ms);
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) count: u64,
    pub(crate) line: u32,
    /// Whether points stood before it.
    pub(crate) last: bool,
    pub(crate) comment: Option<String>,
}

/// Checks a finished level: one plan, as many points, all numbers inside.
pub(crate) fn check_plan(level: &Level, number: u32) -> Result<(), Fault> {
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
pub(crate) fn skipped(level: &Level) -> Option<String> {
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
pub(crate) fn result(name: &str, id: u64, point: &Point<'_>, subtest: Option<Level>) -> ParsedResult {
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

/// Adds a YAML block to its point: what has a place of its own there, and the rest as text.
pub(crate) fn diagnose(point: &mut ParsedResult, yaml: &str) {
    let mut rest = String::new();
    let mut lines = yaml.lines().peekable();
    while let Some(line) = lines.next() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim().trim_matches(['"', '\'']);
        match key {
            "message" if point.message.is_none() => {
                let is_block = matches!(value, "|" | ">" | "|-" | ">-" | "|+" | ">+");
                // The block's lines are the message and what belongs to it.
                let first = if is_block { lines.next().map_or("", str::trim) } else { value };
                point.message = Some(first.to_owned()).filter(|message| !message.is_empty());
                while let Some(line) = lines.next_if(|line| is_block && line.starts_with(' ')) {
                    rest.push_str(line.strip_prefix("  ").unwrap_or(line));
                    rest.push('\n');
                }
                continue;
            }
            "duration_ms" if point.duration_ms.is_none() => {
                point.duration_ms = crate::duration::millis(value, 1.0);
            }
            _ => {}
        }
        rest.push_str(line);
        rest.push('\n');
    }
    if !rest.is_empty() {
        append(point.detail.get_or_insert_default(), &rest);
    }
}

/// Cuts texts to their limits, once all of them is known.
pub(crate) fn tidy(result: &mut ParsedResult) {
    result.message = result.message.take().and_then(|text| clean_text(&text));
    result.detail = result.detail.take().and_then(|text| clean_text(&text));
    result.children.iter_mut().for_each(tidy);
}
