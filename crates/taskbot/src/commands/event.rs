//! `event list|show|why|replay`; sending, following and recording have modules of their own.

use super::{Context, each, paging, record, send, tail};
use crate::{
    cli::{EventCommand, Format},
    fault,
    output::{self, Column, column, line, paint, style_of, text_at},
};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// Carries `event …` out.
pub(super) async fn run(command: EventCommand, context: Context) -> Result<u8> {
    match command {
        EventCommand::Send(args) => return send::run(args, &context).await,
        EventCommand::Tail(args) => return tail::run(args, &context).await,
        EventCommand::Record(args) => return record::run(args, &context).await,
        EventCommand::List { paging: page, topic, prefix, source, since, until, own } => {
            let mut query = paging(&page);
            if let Some(topic) = &topic {
                tail::patterns(std::slice::from_ref(topic))?;
            }
            let outside = !own && topic.is_none() && prefix.is_none() && source.is_none();
            query.push(("outside", outside.then(|| "true".to_owned())));
            query.extend([("topic", topic), ("prefix", prefix), ("source", source)]);
            query.push(("since", context.time("--since", since.as_deref())?));
            query.push(("until", context.time("--until", until.as_deref())?));
            let page = context.client.get("events", &query).await?;
            output::page(context.format, &page, &columns(context.now()), "no events")?;
        }
        EventCommand::Show { id } => show(&context, &id).await?,
        EventCommand::Why { id, rule, near_misses } => why(&context, &id, rule, near_misses).await?,
        EventCommand::Replay { ids } => {
            return each(ids, async |id| {
                let id = context.client.event_id(id).await?;
                let done = context.client.post(&format!("events/{id}/replay"), &json!({})).await?;
                output::document(context.format, &done, || {
                    output::say(format_args!("{}", done["seq"]))?;
                    let generation = &done["generation"];
                    output::note(format_args!(
                        "event #{} is judged again (generation {generation})",
                        done["seq"]
                    ));
                    Ok(())
                })
            })
            .await;
        }
    }
    Ok(fault::DONE)
}

fn columns(now: DateTime<Utc>) -> Vec<Column> {
    vec![
        column("EVENT", |event| text_at(event, "seq")),
        column("AGE", move |event| output::age(&event["received_at"], now)),
        column("SOURCE", |event| text_at(event, "source")),
        column("TOPIC", |event| text_at(event, "topic")),
        column("WHAT", |event| anstream::adapter::strip_str(&line::summary(&event["body"])).to_string()),
    ]
}

async fn show(context: &Context, id: &str) -> Result<()> {
    let id = context.client.event_id(id).await?;
    let mut event = context.client.get(&format!("events/{id}"), &[]).await?;
    let verdicts = context.client.get(&format!("events/{}/verdicts", event["seq"]), &[]).await?;
    event["firings"] = verdicts["firings"].clone();
    event["tasks"] = verdicts["tasks"].clone();
    output::document(context.format, &event, || {
        let field = |name: &str, value: String| {
            output::say(format_args!("{} {value}", paint(output::faint(), format_args!("{name:<10}"))))
        };
        output::say(paint(output::title(), format_args!("event #{}", event["seq"])))?;
        field("id", text_at(&event, "id"))?;
        field("topic", text_at(&event, "topic"))?;
        field("source", text_at(&event, "source"))?;
        field("made", text_at(&event, "time"))?;
        field("received", text_at(&event, "received_at"))?;
        field("revision", text_at(&event, "revision"))?;
        if event["generation"] != json!(0) {
            field("replayed", format!("{} times", event["generation"]))?;
        }
        field("what", line::summary(&event["body"]))?;
        for firing in event["firings"].as_array().into_iter().flatten() {
            let verdict = &firing["verdict"];
            field("rule", format!("{} {}", text_at(verdict, "rule"), verdict_words(&verdict["verdict"])))?;
        }
        for task in event["tasks"].as_array().into_iter().flatten() {
            field("task", task.as_str().unwrap_or_default().to_owned())?;
        }
        if event["headers"].as_object().is_some_and(|headers| !headers.is_empty()) {
            output::say(paint(output::faint(), "headers"))?;
            output::say(serde_json::to_string_pretty(&event["headers"])?)?;
        }
        output::say(paint(output::faint(), "body"))?;
        Ok(output::say(serde_json::to_string_pretty(&event["body"])?)?)
    })
}

/// A verdict in words: `fired, 2 tasks`.
pub(crate) fn verdict_words(verdict: &Value) -> String {
    let kind = text_at(verdict, "kind");
    let more = match kind.as_str() {
        "fired" | "shadow" => {
            let tasks = verdict["tasks"].as_u64().unwrap_or_default();
            format!(", {tasks} {}", if tasks == 1 { "task" } else { "tasks" })
        }
        "error" => format!(
            ", {}:{}:{}: {}",
            text_at(verdict, "file"),
            verdict["line"],
            verdict["column"],
            text_at(verdict, "message")
        ),
        "duplicate" | "collected" => format!(", key {}", text_at(verdict, "key")),
        "limited" | "parked" => format!(" by {}", text_at(verdict, "limit")),
        "held" => format!(": {}", text_at(verdict, "why")),
        "too_deep" => format!(", depth {}", verdict["depth"]),
        _ => String::new(),
    };
    format!("{}{more}", paint(style_of(&kind), kind.replace('_', " ")))
}

async fn why(context: &Context, id: &str, rule: Option<String>, near: bool) -> Result<()> {
    let id = context.client.event_id(id).await?;
    let query = [("rule", rule.clone()), ("near_misses", near.then(|| "true".to_owned()))];
    let verdicts = context.client.get(&format!("events/{id}/why"), &query).await?;
    let items = verdicts.as_array().cloned().unwrap_or_default();
    if let (Some(rule), true, false) = (&rule, items.is_empty(), near) {
        return Err(fault::Fault::new(
            fault::NOT_FOUND,
            format!("the rules that judged it have no rule `{rule}`"),
        )
        .into());
    }
    if context.format == Format::Jsonl {
        return output::list(context.format, &items, &[], "");
    }
    output::document(context.format, &verdicts, || {
        if items.is_empty() {
            output::note(if near { "no rule misses by one clause" } else { "there were no rules" });
        }
        for verdict in &items {
            output::say(verdict_text(context.format, verdict))?;
        }
        Ok(())
    })
}

/// What one rule said, clause by clause, in the format that was asked for.
pub(crate) fn verdict_text(format: Format, verdict: &Value) -> String {
    if format == Format::Markdown { verdict_markdown(verdict) } else { verdict_lines(verdict) }
}

/// A heading and a table of the clauses.
fn verdict_markdown(verdict: &Value) -> String {
    let head = anstream::adapter::strip_str(&headline(verdict)).to_string();
    let columns = [
        column("STATE", |clause| text_at(clause, "state").replace('_', " ")),
        column("BLOCK", |clause| text_at(clause, "block")),
        column("PATH", |clause| text_at(clause, "path")),
        column("WANTED", |clause| text_at(clause, "wanted")),
        column("FOUND", |clause| clause.get("found").map_or_else(String::new, Value::to_string)),
        column("NOTE", |clause| text_at(clause, "note")),
    ];
    let clauses = verdict["clauses"].as_array().cloned().unwrap_or_default();
    if clauses.is_empty() {
        return format!("### {head}\n");
    }
    format!("### {head}\n\n{}\n", output::markdown(&clauses, &columns))
}

fn headline(verdict: &Value) -> String {
    let mut text = format!(
        "{}: {}",
        paint(output::title(), text_at(verdict, "rule")),
        verdict_words(&verdict["verdict"])
    );
    for became in verdict["became"].as_array().into_iter().flatten() {
        text.push_str(&format!("; then {}", verdict_words(became)));
    }
    text
}

/// What one rule said, clause by clause.
pub(crate) fn verdict_lines(verdict: &Value) -> String {
    let mut text = headline(verdict);
    for clause in verdict["clauses"].as_array().into_iter().flatten() {
        let state = text_at(clause, "state");
        let path = if text_at(clause, "path").is_empty() {
            String::new()
        } else {
            format!("{} ", text_at(clause, "path"))
        };
        text.push_str(&format!(
            "\n  {} {} {path}{}",
            paint(style_of(&state), format_args!("{:<12}", state.replace('_', " "))),
            text_at(clause, "block"),
            text_at(clause, "wanted"),
        ));
        if let Some(found) = clause.get("found").filter(|found| !found.is_null()) {
            text.push_str(&format!(", found {}", output::shortened(&found.to_string())));
        }
        if let Some(note) = clause["note"].as_str() {
            text.push_str(&format!(" ({note})"));
        }
    }
    text
}
