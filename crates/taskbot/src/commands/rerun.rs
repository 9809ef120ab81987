//! `task rerun`: one task, one test by what it tests, or many by filters.

use super::{
    Context, inputs,
    task::{made, seconds},
};
use crate::{
    cli::RerunTasks,
    fault::{self, Fault},
    output::{self, column, paint, text_at},
};
use anyhow::Result;
use serde_json::{Map, Value, json};

/// Carries it out.
pub(super) async fn run(context: &Context, args: RerunTasks) -> Result<u8> {
    if let Some(id) = &args.id {
        return one(context, id, &args).await;
    }
    if args.test.is_some() || args.result.is_some() {
        return by_test(context, &args).await;
    }
    if args.force {
        return Err(Fault::usage("--force is for --test and --result").into());
    }
    many(context, &args).await
}

async fn one(context: &Context, id: &str, args: &RerunTasks) -> Result<u8> {
    let id = context.client.task_id(id).await?;
    let mut body = Map::new();
    body.insert("newest".to_owned(), json!(args.newest));
    body.insert("inputs".to_owned(), Value::Object(inputs::parse("--input", &args.inputs)?));
    if let Some(why) = &args.why {
        body.insert("why".to_owned(), json!(why));
    }
    if let Some(hold) = &args.hold {
        body.insert("hold_seconds".to_owned(), json!(seconds(hold)?));
    }
    let task = context.client.post(&format!("tasks/{id}/rerun"), &body).await?;
    made(context, &task, args.watch, args.timeout.as_deref()).await
}

/// A test once more, by what it tests or by the result that it gave.
async fn by_test(context: &Context, args: &RerunTasks) -> Result<u8> {
    let mut body = json!({"force": args.force, "test": args.test, "result": args.result, "why": args.why});
    if let Some(item) = &args.which.item {
        let (kind, id) = match &args.which.item_type {
            Some(kind) => (json!(kind), json!(item)),
            None => {
                let item = inputs::item(item)?;
                (item["type"].clone(), item["id"].clone())
            }
        };
        body["item_type"] = kind;
        body["item"] = id;
    }
    let answer = context.client.post("retests", &body).await?;
    output::document(context.format, &answer, || {
        for task in answer["tasks"].as_array().into_iter().flatten() {
            output::say(text_at(task, "id"))?;
        }
        output::note(paint(output::faint(), text_at(&answer, "message")));
        Ok(())
    })?;
    Ok(fault::DONE)
}

async fn many(context: &Context, args: &RerunTasks) -> Result<u8> {
    let which = &args.which;
    let mut body = json!({"failed": which.failed, "newest": args.newest, "dry_run": which.dry_run});
    let fields = [
        ("why", &args.why),
        ("outcome", &which.outcome),
        ("state", &which.state),
        ("name", &which.name),
        ("queue", &which.queue),
        ("rule", &which.rule),
        ("item_type", &which.item_type),
        ("item", &which.item),
        ("batch", &which.batch),
        ("group", &which.group),
        ("where", &which.filter),
        ("since", &context.time("--since", which.since.as_deref())?),
        ("until", &context.time("--until", which.until.as_deref())?),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if let Some(event) = which.event {
        body["event"] = json!(event);
    }
    if let Some(limit) = which.limit {
        body["limit"] = json!(limit);
    }
    let done = context.client.post("tasks/rerun", &body).await?;
    output::document(context.format, &done, || show(&done))?;
    Ok(fault::DONE)
}

fn show(done: &Value) -> Result<()> {
    let tasks = done["tasks"].as_array().cloned().unwrap_or_default();
    let left = done["left"].as_array().map_or(&[][..], Vec::as_slice);
    if done["dry_run"] == json!(true) {
        let columns = [
            column("TASK", |task| text_at(task, "of")),
            column("ENDED", |task| text_at(task, "ended")),
            column("NAME", |task| text_at(task, "name")),
            column("ITEM", |task| text_at(task, "item.id")),
        ];
        output::list(crate::cli::Format::Table, &tasks, &columns, "nothing would be run again")?;
    } else {
        for task in &tasks {
            output::say(text_at(task, "task"))?;
        }
    }
    for one in left {
        let line =
            format!("left alone: {} {}: {}", text_at(one, "of"), text_at(one, "name"), text_at(one, "why"));
        output::note(paint(output::faint(), line));
    }
    if tasks.is_empty() && done["dry_run"] != json!(true) {
        output::note("nothing fits: nothing is run again");
    }
    Ok(())
}
