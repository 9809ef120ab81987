//! `result …`.

use super::{Context, paging};
use crate::{
    cli::ResultCommand,
    fault,
    output::{self, Column, column, paint, style_of, text_at},
};
use anyhow::Result;
use chrono::{DateTime, Utc};
use model::units::format_duration;
use serde_json::Value;
use std::time::Duration;

/// Carries `result …` out.
pub(super) async fn run(command: ResultCommand, context: Context) -> Result<u8> {
    match command {
        ResultCommand::List { paging: page, testcase, item_type, item, outcome, task, parts, since } => {
            let task = match task {
                Some(task) => Some(context.client.task_id(&task).await?),
                None => None,
            };
            let mut query = paging(&page);
            query.extend([
                ("testcase", testcase),
                ("item_type", item_type),
                ("item", item),
                ("outcome", outcome),
                ("task", task),
                ("parts", parts.then(|| "true".to_owned())),
                ("since", context.time("--since", since.as_deref())?),
            ]);
            let page = context.client.get("results", &query).await?;
            output::page(context.format, &page, &columns(context.now()), "no results")?;
        }
        ResultCommand::Export { junit, testcase, item, task, since } => {
            let task = match task {
                Some(task) => Some(context.client.task_id(&task).await?),
                None => None,
            };
            let since = context.time("--since", since.as_deref())?;
            let query = vec![("testcase", testcase), ("item", item), ("task", task), ("since", since)];
            return super::junit::export(&context, query, &junit).await;
        }
        ResultCommand::Show { id } => {
            let whole = context.client.get(&format!("results/{id}"), &[]).await?;
            output::document(context.format, &whole, || show(&whole))?;
        }
    }
    Ok(fault::DONE)
}

fn columns(now: DateTime<Utc>) -> Vec<Column> {
    vec![
        column("RESULT", |result| text_at(result, "id")),
        column("AGE", move |result| output::age(&result["created_at"], now)),
        column("OUTCOME", |result| text_at(result, "outcome")),
        column("TESTCASE", |result| text_at(result, "testcase")),
        column("ITEM", |result| text_at(result, "item.id")),
        column("TASK", |result| text_at(result, "task")),
        column("NOTE", |result| text_at(result, "note")),
    ]
}

fn show(whole: &Value) -> Result<()> {
    let result = &whole["result"];
    output::say(paint(output::title(), format_args!("result #{}", result["id"])))?;
    for (name, path) in [
        ("testcase", "testcase"),
        ("item", "item.id"),
        ("outcome", "outcome"),
        ("before", "previous_outcome"),
        ("note", "note"),
        ("task", "task"),
        ("stored", "created_at"),
    ] {
        let text = text_at(result, path);
        if text != "-" {
            output::say(format_args!(
                "{} {}",
                paint(output::faint(), format_args!("{name:<10}")),
                paint(style_of(&text), &text)
            ))?;
        }
    }
    for part in whole["parts"].as_array().into_iter().flatten() {
        output::say(format_args!("  {}", part_line(part)))?;
    }
    Ok(())
}

/// A part of a result in one line.
pub(crate) fn part_line(part: &Value) -> String {
    let outcome = text_at(part, "outcome");
    let took =
        part["duration_ms"].as_u64().map(|ms| format!(" {}", format_duration(Duration::from_millis(ms))));
    let note = part["note"].as_str().map(|note| format!(": {}", output::shortened(note)));
    format!(
        "{} {}{}{}",
        paint(style_of(&outcome), format_args!("{outcome:<8}")),
        text_at(part, "testcase"),
        took.unwrap_or_default(),
        note.unwrap_or_default()
    )
}
