//! `rule pause|resume|backlog|release|drop`: rules held and let go, and what waits for them.

use super::Context;
use crate::{
    cli::HoldCommand,
    client::escape,
    fault::Fault,
    output::{self, Column, column, paint, text_at},
};
use anyhow::Result;
use serde_json::{Value, json};

/// Carries one of them out.
///
/// # Errors
/// The server does not answer, or says no.
pub(super) async fn run(command: HoldCommand, context: &Context) -> Result<()> {
    match command {
        HoldCommand::Apply { rule, since, until, dry_run } => {
            let since = context.time("--since", Some(&since))?;
            // The end is fixed here, so that what comes in meanwhile is not looked at.
            let until = context.time("--until", until.as_deref())?;
            let until = until.unwrap_or_else(|| context.now().to_rfc3339());
            apply(context, &rule, json!({"since": since, "until": until, "dry_run": dry_run})).await?;
        }
        HoldCommand::Pause { target, why } => {
            let path = path(&target.rule, "pause");
            let hold = context.client.post(&path, &json!({"why": why})).await?;
            output::document(context.format, &hold, || {
                let (what, resume) = words(&target.rule);
                output::note(format_args!(
                    "{what} held: events are kept, and judged later; to go on: taskbot rule resume {resume}"
                ));
                Ok(())
            })?;
        }
        HoldCommand::Resume { target, drop } => resume(context, &target.rule, drop).await?,
        HoldCommand::Backlog => {
            let found = context.client.get("backlog", &[]).await?;
            output::document(context.format, &found, || show_backlog(context, &found))?;
        }
        HoldCommand::Release { rule } => parked(context, &rule, "release", "go on").await?,
        HoldCommand::Drop { rule } => parked(context, &rule, "drop", "are dropped").await?,
    }
    Ok(())
}

/// Goes through the past, so many events at a time; prints the tasks that are made.
async fn apply(context: &Context, rule: &str, mut request: Value) -> Result<()> {
    let (mut sums, mut tasks, mut would_make) = ([0; 4], Vec::new(), Vec::new());
    loop {
        let done = context.client.post(&path(&Some(rule.to_owned()), "apply"), &request).await?;
        for (sum, name) in sums.iter_mut().zip(["events", "fired", "errors", "wishes"]) {
            *sum += done[name].as_u64().unwrap_or_default();
        }
        tasks.extend(done["tasks"].as_array().into_iter().flatten().cloned());
        would_make.extend(done["would_make"].as_array().into_iter().flatten().cloned());
        if done["next"].is_null() {
            break;
        }
        request["after"] = done["next"].clone();
    }
    let [events, fired, errors, wishes] = sums;
    let found = json!({
        "rule": rule, "events": events, "fired": fired, "errors": errors, "wishes": wishes, "tasks": tasks,
        "would_make": would_make,
    });
    output::document(context.format, &found, || {
        for task in &tasks {
            output::say(task.as_str().unwrap_or_default())?;
        }
        for task in &would_make {
            let item = text_at(task, "item.id");
            output::say(format_args!("{} {item} (event #{})", text_at(task, "name"), task["event"]))?;
        }
        let made = match request["dry_run"] == true {
            true => format!("{} would be made now; nothing is", output::counted(would_make.len(), "task")),
            false => format!("made now: {}", output::counted(tasks.len(), "task")),
        };
        output::note(format_args!(
            "{events} events, {rule} fires on {fired} and errs on {errors}, {wishes} wishes; {made}"
        ));
        Ok(())
    })
}

/// A rule's route, or that of all rules.
fn path(rule: &Option<String>, action: &str) -> String {
    match rule {
        Some(rule) => format!("rules/{}/{action}", escape(rule)),
        None => format!("rules/{action}"),
    }
}

fn words(rule: &Option<String>) -> (String, &str) {
    match rule {
        Some(rule) => (format!("{rule} is"), rule),
        None => ("all rules are".to_owned(), "--all"),
    }
}

/// Shows what waits, then lets it go.
async fn resume(context: &Context, rule: &Option<String>, drop: bool) -> Result<()> {
    let found = context.client.get("backlog", &[]).await?;
    let waiting: Vec<&Value> = rows(&found)
        .filter(|row| rule.as_ref().is_none_or(|rule| row["rule"] == *rule))
        .filter(|row| row["held_events"].as_u64() > Some(0))
        .collect();
    for row in &waiting {
        let age = output::age(&row["oldest"], context.now());
        output::note(format_args!(
            "{}: {} held events, the oldest {age} old",
            text_at(row, "rule"),
            row["held_events"]
        ));
    }
    let done = context.client.post(&path(rule, "resume"), &json!({"drop": drop})).await?;
    output::document(context.format, &done, || {
        let (what, _) = words(rule);
        let events = match (drop, waiting.is_empty()) {
            (true, _) => format!("{} held events are dropped", done["dropped"]),
            (false, true) => "nothing was held".to_owned(),
            (false, false) => "what was held is judged now, oldest first".to_owned(),
        };
        output::note(format_args!("{what} held no more; {events}"));
        Ok(())
    })
}

fn rows(found: &Value) -> impl Iterator<Item = &Value> {
    found["rules"].as_array().into_iter().flatten()
}

fn show_backlog(context: &Context, found: &Value) -> Result<()> {
    let now = context.now();
    if let Some(all) = found.get("all").filter(|all| !all.is_null()) {
        let why = all["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        output::note(format_args!(
            "{} by {}{why}; to go on: taskbot rule resume --all",
            paint(output::odd(), "all rules are held"),
            text_at(all, "by")
        ));
    }
    let columns: Vec<Column> = vec![
        column("RULE", |row| text_at(row, "rule")),
        column("HELD BY", |row| match row["hold"]["kind"].as_str() {
            Some("limit") => "its limit".to_owned(),
            Some(_) => text_at(row, "hold.by"),
            None => "-".to_owned(),
        }),
        column("EVENTS", |row| text_at(row, "held_events")),
        column("PARKED TASKS", |row| text_at(row, "parked_tasks")),
        column("OLDEST", move |row| output::age(&row["oldest"], now)),
        column("WHY", |row| text_at(row, "hold.why")),
    ];
    output::list(
        context.format,
        &rows(found).cloned().collect::<Vec<_>>(),
        &columns,
        "nothing is held back",
    )?;
    let windows = found["windows"].as_array().cloned().unwrap_or_default();
    if windows.is_empty() {
        return Ok(());
    }
    output::say("")?;
    let columns: Vec<Column> = vec![
        column("COLLECTS", |row| text_at(row, "rule")),
        column("KEY", |row| text_at(row, "key")),
        column("EVENTS", |row| text_at(row, "events")),
        column("SINCE", move |row| output::age(&row["first_at"], now)),
        column("DUE AT", |row| text_at(row, "due_at")),
    ];
    output::list(context.format, &windows, &columns, "")
}

/// Lets parked tasks go, or drops them, until there are no more.
async fn parked(context: &Context, rule: &str, action: &str, word: &str) -> Result<()> {
    let mut tasks = 0;
    loop {
        let done = context.client.post(&path(&Some(rule.to_owned()), action), &json!({})).await?;
        tasks += done["tasks"].as_u64().unwrap_or_default();
        if done["more"] != true {
            break;
        }
        if done["tasks"].as_u64() == Some(0) {
            let message = "the server lets none of the parked tasks go; try again later";
            return Err(Fault::new(crate::fault::CONFLICT, message).into());
        }
    }
    output::document(context.format, &json!({"rule": rule, "tasks": tasks}), || {
        output::note(format_args!("{tasks} parked tasks of {rule} {word}"));
        Ok(())
    })
}
