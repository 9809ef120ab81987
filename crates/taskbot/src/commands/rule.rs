//! `rule …`: files without a server, and what is in force on one.

use super::{Context, backtest, check, explain, hold, new_rule};
use crate::{
    cli::{Format, Global, RuleCommand},
    client::escape,
    config::Config,
    fault::{self, Fault},
    output::{self, Column, column, paint, style_of, text_at},
};
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use model::{RuleName, diagnostic::Report};
use rules::{Options, Rule, RuleSet, rule_test::TestOutcome, schema::Kind};
use serde_json::{Value, json};
use std::path::Path;

/// The name of the rule set in force on the server.
const ACTIVE: &str = "active";

/// Carries `rule …` out.
pub(super) fn run(command: RuleCommand, global: &Global) -> Result<u8> {
    match command {
        RuleCommand::Backtest(args) => backtest::run(&args, global),
        RuleCommand::Check { path, history } => check::run(&path, &history, global),
        RuleCommand::Test { path, junit, update: accept } => {
            if accept {
                update(&path, global)?;
            }
            test(&path, junit.as_deref(), global)
        }
        RuleCommand::Schema { kind } => {
            let known = Kind::parse(&kind).ok_or_else(|| {
                Fault::usage(format!("`{kind}` is no kind of file; expected rules, tasks or task"))
            })?;
            output::write(format!("{}\n", rules::schema::text(known).trim_end()).as_bytes())?;
            Ok(fault::DONE)
        }
        RuleCommand::New(args) => new_rule::run(&args, global),
        RuleCommand::Explain { name, path, event } => explain::run(&name, path.as_deref(), &event, global),
        RuleCommand::List { path: Some(path) } => {
            let items: Vec<Value> = compile(&path, global)?.0.rules().iter().map(Rule::summary).collect();
            output::list(global.output, &items, &columns(), "no rules")?;
            Ok(fault::DONE)
        }
        RuleCommand::Show { name, path: Some(path) } => {
            let (set, texts) = compile(&path, global)?;
            let rule = set.rule(&RuleName::new(name.clone()));
            let rule = rule.ok_or_else(|| {
                Fault::new(fault::NOT_FOUND, format!("no rule `{name}` in {}", path.display()))
            })?;
            let mut shown = rule.summary();
            shown["source"] = json!(texts.files.get(&*rule.place.file).map(|text| text.to_string()));
            show(global.output, &shown)?;
            Ok(fault::DONE)
        }
        command => super::block_on(on_server(command, Context::of(global)?)),
    }
}

async fn on_server(command: RuleCommand, context: Context) -> Result<u8> {
    match command {
        // Those of files were carried out already.
        RuleCommand::Check { .. }
        | RuleCommand::Test { .. }
        | RuleCommand::Explain { .. }
        | RuleCommand::New(_)
        | RuleCommand::Schema { .. }
        | RuleCommand::Backtest(_) => {}
        RuleCommand::List { .. } => {
            let found = context.client.get("rules", &[]).await?;
            if let Some(problem) = found["problem"].as_str() {
                output::note(format_args!(
                    "{}: the newest rules are not taken:\n{problem}",
                    paint(output::bad(), "problem")
                ));
            }
            let items = found["rules"].as_array().cloned().unwrap_or_default();
            let mut all = columns();
            all.extend(counters(context.now()));
            output::list(context.format, &items, &all, "no rules are in force")?;
        }
        RuleCommand::Show { name, .. } => {
            let rule = context.client.get(&format!("rules/{}", escape(&name)), &[]).await?;
            show(context.format, &rule)?;
        }
        RuleCommand::Enable { name } => switch(&context, &name, "active").await?,
        RuleCommand::Disable { name, shadow } => {
            switch(&context, &name, if shadow { "shadow" } else { "off" }).await?;
        }
        RuleCommand::Hold(command) => hold::run(command, &context).await?,
        RuleCommand::Shadow { name } => switch(&context, &name, "shadow").await?,
        RuleCommand::Rollback { revision } => {
            let body = revision.as_ref().map_or_else(|| json!({}), |revision| json!({"revision": revision}));
            activated(&context, &context.client.post("rules/rollback", &body).await?)?;
        }
        RuleCommand::History => {
            let past = context.client.get("rule-sets", &[]).await?;
            let now = context.now();
            let columns = [
                column("SERIAL", |set| text_at(set, "serial")),
                column("REVISION", |set| text_at(set, "revision").chars().take(12).collect()),
                column("AGE", move |set| output::age(&set["at"], now)),
                column("BY", |set| text_at(set, "by")),
                column("COMMIT", |set| text_at(set, "commit").chars().take(12).collect()),
            ];
            let past = past.as_array().cloned().unwrap_or_default();
            output::list(context.format, &past, &columns, "no rules were in force yet")?;
        }
        RuleCommand::Reload => activated(&context, &context.client.post("rules/reload", &json!({})).await?)?,
    }
    Ok(fault::DONE)
}

async fn switch(context: &Context, name: &str, mode: &str) -> Result<()> {
    let path = format!("rules/{}/mode", escape(name));
    activated(context, &context.client.post(&path, &json!({"mode": mode})).await?)
}

fn activated(context: &Context, activation: &Value) -> Result<()> {
    output::document(context.format, activation, || {
        output::say(text_at(activation, "revision"))?;
        output::note("this revision is in force");
        Ok(())
    })
}

/// What the configuration says about rules; the defaults without one.
pub(super) fn options(global: &Global) -> Result<Options> {
    let rules = Config::load(global.config.as_deref())?.config.rules;
    Ok(Options { trusted_hosts: rules.hosts, trusted_authors: rules.authors, file_urls: rules.file_urls })
}

/// Reads a folder of rules. One that is not there is no mistake in rules.
pub(super) fn read(path: &Path) -> Result<Result<rules::RuleFiles, Report>, Fault> {
    if path.exists() {
        let read = rules::read_folder(path);
        if read.as_ref().is_ok_and(|read| !read.has_rules()) {
            let message = format!(
                "there are no rules in {}; give the folder with the rule files (*.yaml with `rules:`)",
                path.display()
            );
            return Err(Fault::new(fault::NOT_FOUND, message));
        }
        return Ok(read);
    }
    Err(Fault::new(
        fault::NOT_FOUND,
        format!("there is no folder {}; give the folder that the rules are in", path.display()),
    ))
}

pub(super) fn compile(path: &Path, global: &Global) -> Result<(RuleSet, rules::RuleFiles)> {
    let options = options(global)?;
    let files = read(path)?.map_err(|report| wrong(path, &report))?;
    let compiled = rules::compile(&files, &options).map_err(|report| wrong(path, &report))?;
    Ok((compiled.rule_set, files))
}

/// A rule set by a folder, or by a revision of the server; `active` is the one in force there.
pub(super) fn named_set(name: &str, global: &Global) -> Result<RuleSet> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(compile(path, global)?.0);
    }
    if name.contains(['/', '.']) {
        return Err(Fault::new(fault::NOT_FOUND, format!("there is no folder {name}")).into());
    }
    let files = super::block_on(async {
        let client = Context::of(global)?.client;
        let revision = match name {
            ACTIVE => text_at(&client.get("rules", &[]).await?, "revision"),
            revision => revision.to_owned(),
        };
        let stored = client.get(&format!("rule-sets/{}", escape(&revision)), &[]).await?;
        let content = stored["content"].as_str().unwrap_or_default();
        serde_json::from_str::<rules::RuleFiles>(content).context("the server sent no rule set")
    })?;
    let compiled = rules::compile(&files, &options(global)?);
    Ok(compiled.map_err(|report| wrong(path, &report))?.rule_set)
}

fn wrong(path: &Path, report: &Report) -> Fault {
    Fault::new(fault::FAILED, format!("the rules in {} are wrong\n{}", path.display(), render(report)))
}

pub(super) fn render(report: &Report) -> String {
    report.render(std::io::IsTerminal::is_terminal(&std::io::stderr()))
}

/// Tells what is wrong with a folder of rules, and no more.
///
/// # Errors
/// There is no such folder.
pub(super) fn check_quietly(path: &Path, global: &Global) -> Result<()> {
    let options = options(global)?;
    let report = match read(path)?.and_then(|files| rules::compile(&files, &options)) {
        Ok(compiled) => compiled.report,
        Err(report) => report,
    };
    if !report.diagnostics.is_empty() {
        output::note(render(&report));
    }
    Ok(())
}

/// Writes into the tests what the rules say now, then runs them.
fn update(path: &Path, global: &Global) -> Result<()> {
    let (set, files) = compile(path, global)?;
    let changed = rules::rule_test::accept(&files, &set);
    for (name, text) in &changed {
        let file = path.join(name);
        std::fs::write(&file, text)
            .map_err(|error| Fault::usage(format!("cannot write {}: {error}", file.display())))?;
        output::note(format_args!("{} says what the rules say now", file.display()));
    }
    if changed.is_empty() {
        output::note("nothing to update");
    }
    Ok(())
}

fn test(path: &Path, junit: Option<&Path>, global: &Global) -> Result<u8> {
    let (set, _) = compile(path, global)?;
    let outcomes = rules::rule_test::run(&set);
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    if let Some(file) = junit {
        let text = rules::rule_test::junit(&outcomes);
        // Standard output is for the document alone.
        if file.as_os_str() == "-" {
            output::write(text.as_bytes())?;
            return Ok(if failed == 0 { fault::DONE } else { fault::FAILED });
        }
        std::fs::write(file, text)
            .map_err(|error| Fault::usage(format!("cannot write {}: {error}", file.display())))?;
    }
    let items: Vec<Value> = outcomes.iter().map(as_json).collect();
    if global.output == Format::Jsonl {
        output::list(global.output, &items, &[], "")?;
    } else {
        output::document(global.output, &items, || {
            for outcome in &outcomes {
                let word =
                    if outcome.passed { paint(output::good(), "ok") } else { paint(output::bad(), "FAILED") };
                output::say(format_args!("{word} {}:{} {}", outcome.file, outcome.line, outcome.name))?;
                for line in outcome.difference.iter().flat_map(|difference| difference.lines()) {
                    output::say(format_args!("    {line}"))?;
                }
            }
            Ok(output::say(format_args!("{} passed, {failed} failed", outcomes.len() - failed))?)
        })?;
    }
    if outcomes.is_empty() {
        output::note("there are no tests; docs/rules.md says how to write them");
    }
    Ok(if failed == 0 { fault::DONE } else { fault::FAILED })
}

fn as_json(outcome: &TestOutcome) -> Value {
    let TestOutcome { file, name, line, passed, difference } = outcome;
    json!({"file": file, "line": line, "name": name, "passed": passed, "difference": difference})
}

fn columns() -> Vec<Column> {
    vec![
        column("RULE", |rule| text_at(rule, "name")),
        column("MODE", |rule| text_at(rule, "mode")),
        column("ON", |rule| match text_at(rule, "on") {
            // A timer instead of a topic.
            on if on == "-" || on.is_empty() => format!("schedule {}", text_at(rule, "schedule")),
            on => on,
        }),
        column("TASKS", |rule| text_at(rule, "tasks")),
        column("FILE", |rule| format!("{}:{}", text_at(rule, "file"), text_at(rule, "line"))),
    ]
}

/// What rules did, as the server counts it.
fn counters(now: DateTime<Utc>) -> Vec<Column> {
    let of = |head: &'static str, name: &'static str| {
        column(head, move |rule| text_at(rule, &format!("counts.{name}")))
    };
    vec![
        column("HELD", |rule| text_at(rule, "hold.kind")),
        of("SEEN", "candidates"),
        of("FIRED", "fired"),
        of("ERRORS", "errors"),
        of("SUPPRESSED", "suppressed"),
        column("LAST", move |rule| output::age(&rule["counts"]["last_fired_at"], now)),
    ]
}

fn show(format: Format, rule: &Value) -> Result<()> {
    output::document(format, rule, || {
        let mode = text_at(rule, "mode");
        output::say(format_args!(
            "{} {}",
            paint(output::title(), text_at(rule, "name")),
            paint(style_of(&mode), &mode)
        ))?;
        for name in ["description", "on", "tasks", "revision"] {
            let text = text_at(rule, name);
            if text != "-" {
                output::say(format_args!("{} {text}", paint(output::faint(), format_args!("{name:<11}"))))?;
            }
        }
        output::say(format_args!(
            "{} {}:{}",
            paint(output::faint(), "file       "),
            text_at(rule, "file"),
            text_at(rule, "line")
        ))?;
        let source = rule["source"].as_str().unwrap_or_default();
        let from = usize::try_from(rule["line"].as_u64().unwrap_or(1)).unwrap_or(1).saturating_sub(1);
        for line in rule_lines(source, from) {
            output::say(line)?;
        }
        Ok(())
    })
}

/// The lines of one rule: from its first up to the next entry of the same depth or a shallower one.
fn rule_lines(source: &str, from: usize) -> impl Iterator<Item = &str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = source.lines().collect();
    // The name need not be the rule's first field.
    let first = (0..=from.min(lines.len().saturating_sub(1)))
        .rev()
        .find(|at| lines.get(*at).is_some_and(|line| line.trim_start().starts_with("- ")))
        .unwrap_or(from);
    let own = lines.get(first).map_or(0, |line| depth(line));
    let count =
        lines.iter().skip(first + 1).take_while(|line| line.trim().is_empty() || depth(line) > own).count();
    lines.into_iter().skip(first).take(count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_own_lines() {
        let source = "rules:\n  - name: a\n    on: x\n\n  - on: y\n    name: b\n    then:\n      - task: t\ntests: []\n";
        assert_eq!(rule_lines(source, 1).collect::<Vec<_>>(), ["  - name: a", "    on: x", ""]);
        assert_eq!(
            rule_lines(source, 5).collect::<Vec<_>>(),
            ["  - on: y", "    name: b", "    then:", "      - task: t"]
        );
        assert_eq!(rule_lines("", 5).count(), 0);
    }
}
