//! `rule check`: mistakes in rule files, and what is worth a second look.

use super::{backtest::history::History, rule};
use crate::{
    cli::{Format, Global, HistoryArgs},
    fault,
    output::{self, paint},
};
use anyhow::Result;
use model::{TaskName, diagnostic::Report, task_file};
use rules::{
    RuleSet,
    lint::{Evidence, FieldStats, Input, lint},
};
use serde_json::json;
use std::{fs, path::Path};

/// How many recorded events are looked at for their fields.
const EVENTS_MAX: usize = 200_000;
/// The largest task file that is read for its inputs, in bytes.
const TASK_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Carries `rule check` out.
///
/// # Errors
/// There is no such folder, or the history cannot be read.
pub(super) fn run(path: &Path, history: &HistoryArgs, global: &Global) -> Result<u8> {
    let options = rule::options(global)?;
    let (report, rules) = match rule::read(path)?.and_then(|files| rules::compile(&files, &options)) {
        Ok(compiled) => {
            let mut report = compiled.report;
            report.merge(lints(&compiled.rule_set, history, global)?);
            (report, Some(compiled.rule_set.rules().len()))
        }
        Err(report) => (report, None),
    };
    let ok = rules.is_some() && report.errors() == 0;
    let found = json!({"ok": ok, "rules": rules, "diagnostics": report.diagnostics});
    if global.output == Format::Jsonl {
        output::list(global.output, found["diagnostics"].as_array().unwrap_or(&Vec::new()), &[], "")?;
    } else {
        output::document(global.output, &found, || {
            if !report.diagnostics.is_empty() {
                output::note(rule::render(&report));
            }
            Ok(output::say(words(ok, rules, &report))?)
        })?;
    }
    Ok(if ok { fault::DONE } else { fault::FAILED })
}

fn words(ok: bool, rules: Option<usize>, report: &Report) -> String {
    let errors = report.errors();
    let warnings = report.diagnostics.len() - errors;
    let warnings = output::counted(warnings, "warning");
    let count = rules.map(|rules| format!("{}, ", output::counted(rules, "rule"))).unwrap_or_default();
    if ok {
        format!("{}: {count}{warnings}", paint(output::good(), "ok"))
    } else {
        let errors = output::counted(errors, "error");
        format!("{}: {count}{errors}, {warnings}", paint(output::bad(), "wrong"))
    }
}

/// What is worth a second look in rules that compile.
fn lints(set: &RuleSet, history: &HistoryArgs, global: &Global) -> Result<Report> {
    let mut fields = FieldStats::default();
    if history.is_given() {
        let mut seen = 0;
        History::of(history, global)?.read(&mut |batch| {
            for event in batch.into_events() {
                fields.add(&event);
                seen += 1;
            }
            seen < EVENTS_MAX
        })?;
    }
    let inputs = |task: &TaskName| inputs_of(set, task);
    Ok(lint(set, &Evidence { fields, inputs: Some(&inputs) }))
}

/// The inputs of a task whose repository is a folder of this machine, which must be there; others are not fetched for a
/// check.
fn inputs_of(set: &RuleSet, task: &TaskName) -> Result<Option<Vec<Input>>, String> {
    let Some(registered) = set.tasks().get(task.as_str()) else { return Ok(None) };
    let repo = &registered.repo;
    let folder = Path::new(repo.git.strip_prefix("file://").unwrap_or(&repo.git));
    if !folder.is_absolute() {
        return Ok(None);
    }
    if !folder.is_dir() {
        return Err(format!("there is no folder {}", folder.display()));
    }
    // Another ref than what lies there may have other inputs.
    if repo.reference.is_some() {
        return Ok(None);
    }
    Ok(inputs_in(&folder.join(repo.path.as_deref().unwrap_or_default()).join(task_file::TASK_FILE)))
}

fn inputs_in(file: &Path) -> Option<Vec<Input>> {
    if fs::metadata(file).ok()?.len() > TASK_FILE_BYTES_MAX {
        return None;
    }
    let text = fs::read_to_string(file).ok()?;
    let (parsed, _) = task_file::parse(&file.display().to_string(), &text).ok()?;
    let input = |(name, input): (String, task_file::Input)| Input { name, required: input.required };
    Some(parsed.inputs.into_iter().map(input).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let report = Report::default();
        assert!(words(true, Some(3), &report).ends_with(": 3 rules, 0 warnings"));
        assert!(words(false, None, &report).ends_with(": 0 errors, 0 warnings"));
    }
}
