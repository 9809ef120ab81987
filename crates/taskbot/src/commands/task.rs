//! `task …`.

use super::{Context, each, inputs, local, paging, reproduce, rerun, watch};
use crate::{
    cli::{Global, ListTasks, Submit, TaskCommand},
    client::{
        escape,
        follow::{Follow, SseEvent},
    },
    fault::{self, Fault},
    output::{self, Column, column, paint, style_of, text_at},
};
use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::{
    io::Write,
    ops::ControlFlow,
    path::{Component, Path},
};

/// Carries `task …` out.
pub(super) async fn run(command: TaskCommand, global: &Global) -> Result<u8> {
    // The one that needs no server.
    let command = match command {
        TaskCommand::RunLocal(args) => return local::run(args, global).await,
        command => command,
    };
    let context = &Context::of(global)?;
    match command {
        TaskCommand::RunLocal(_) => {}
        TaskCommand::List(args) => list(context, *args).await?,
        TaskCommand::Show { id } => show(context, &id).await?,
        TaskCommand::Logs { id, follow, attempt } => logs(context, &id, follow, attempt).await?,
        TaskCommand::Watch { id, timeout } => return watch::run(context, &id, timeout.as_deref()).await,
        TaskCommand::Cancel { ids, why } => {
            let body = why.map_or_else(|| json!({}), |why| json!({"why": why}));
            return each(ids, async |id| {
                let id = context.client.task_id(id).await?;
                changed(context, &context.client.post(&format!("tasks/{id}/cancel"), &body).await?)
            })
            .await;
        }
        TaskCommand::Rerun(args) => return rerun::run(context, *args).await,
        TaskCommand::Reproduce { id, attempt, run, keep, secrets } => {
            let here = run.then_some(reproduce::Here { keep, secrets });
            return reproduce::run(context, &id, attempt, here, global).await;
        }
        TaskCommand::Release { id } => {
            let id = context.client.task_id(&id).await?;
            changed(context, &context.client.post(&format!("tasks/{id}/release"), &json!({})).await?)?;
        }
        TaskCommand::Unhold { id } => {
            let id = context.client.task_id(&id).await?;
            changed(context, &context.client.post(&format!("tasks/{id}/unhold"), &json!({})).await?)?;
        }
        TaskCommand::Approve { id, why } => {
            let id = context.client.task_id(&id).await?;
            let path = format!("tasks/{id}/approve");
            changed(context, &context.client.post(&path, &json!({"why": why})).await?)?;
        }
        TaskCommand::Submit(args) => {
            let task = context.client.post("tasks", &submission(&args)?).await?;
            if args.watch {
                return made(context, &task, true, args.timeout.as_deref()).await;
            }
            let (task, code) = watch::made_ready(context, task).await?;
            made(context, &task, false, None).await?;
            return Ok(code);
        }
        TaskCommand::Artifacts { id, get, all, into } => {
            let id = context.client.task_id(&id).await?;
            match get {
                Some(name) => download(context, &id, &name, into.as_deref()).await?,
                None if all => download_all(context, &id, into.as_deref().unwrap_or(Path::new("."))).await?,
                None => artifacts(context, &id).await?,
            }
        }
    }
    Ok(fault::DONE)
}

/// A task that was made: its id on standard output.
pub(super) async fn made(context: &Context, task: &Value, watch: bool, timeout: Option<&str>) -> Result<u8> {
    let id = text_at(task, "id");
    if let Some(doubt) = hold_doubt(task) {
        output::note(paint(output::odd(), doubt));
    }
    output::document(context.format, task, || {
        output::say(&id)?;
        if !watch {
            output::note(paint(output::faint(), format_args!("taskbot task watch {id}")));
        }
        Ok(())
    })?;
    if watch { watch::run(context, &id, timeout).await } else { Ok(fault::DONE) }
}

/// What a person must know who asked for a hold that may not come.
fn hold_doubt(task: &Value) -> Option<&'static str> {
    let over = matches!(text_at(task, "state.state").as_str(), "finished" | "cancelled" | "superseded");
    let hold = &task["hold"];
    let doubtful =
        hold.is_object() && hold["kept"].is_null() && text_at(task, "trust") == "untrusted" && !over;
    doubtful.then_some(
        "the task is not trusted: it is held only on workers whose configuration says so (worker.hold.untrusted)",
    )
}

fn changed(context: &Context, task: &Value) -> Result<()> {
    output::document(context.format, task, || {
        let mut label = label(task);
        if !task["state"]["stop"].is_null() {
            label.push_str(", its worker is told to stop");
        }
        Ok(output::say(format_args!("{} {}", text_at(task, "id"), paint(style_of(&label), &label)))?)
    })
}

/// The state of a task in one word, as `TaskState::label` has it.
pub(super) fn label(task: &Value) -> String {
    serde_json::from_value::<model::TaskState>(task["state"].clone())
        .map_or_else(|_| text_at(task, "state.state"), |state| state.label())
}

async fn list(context: &Context, args: ListTasks) -> Result<()> {
    let mut query = paging(&args.paging);
    query.extend([
        ("state", args.state),
        ("outcome", args.outcome),
        ("name", args.name),
        ("queue", args.queue),
        ("rule", args.rule),
        ("item_type", args.item_type),
        ("item", args.item),
        ("batch", args.batch),
        ("group", args.group),
        ("event", args.event.map(|event| event.to_string())),
        ("since", context.time("--since", args.since.as_deref())?),
        ("until", context.time("--until", args.until.as_deref())?),
    ]);
    let page = context.client.get("tasks", &query).await?;
    output::page(context.format, &page, &columns(context.now()), "no tasks")
}

fn columns(now: DateTime<Utc>) -> Vec<Column> {
    vec![
        column("TASK", |task| text_at(task, "id")),
        column("AGE", move |task| output::age(&task["created_at"], now)),
        column("STATE", label),
        column("NAME", |task| text_at(task, "name")),
        column("ITEM", |task| text_at(task, "item.id")),
        column("QUEUE", |task| text_at(task, "queue")),
        column("FOR", |task| text_at(task, "submitter")),
    ]
}

async fn show(context: &Context, id: &str) -> Result<()> {
    let id = context.client.task_id(id).await?;
    let whole = context.client.get(&format!("tasks/{id}"), &[]).await?;
    output::document(context.format, &whole, || show_people(&whole, context.now()))
}

fn field(name: &str, value: impl std::fmt::Display) -> Result<()> {
    Ok(output::say(format_args!("{} {value}", paint(output::faint(), format_args!("{name:<10}"))))?)
}

fn show_people(whole: &Value, now: DateTime<Utc>) -> Result<()> {
    let task = &whole["task"];
    let label = label(task);
    output::say(paint(output::title(), format_args!("task {}", text_at(task, "id"))))?;
    field("name", text_at(task, "name"))?;
    field("state", paint(style_of(&label), &label))?;
    for (name, path) in [
        ("reason", "reason"),
        ("problem", "error"),
        ("again at", "next_try_at"),
        ("unmet", "unmet"),
        ("why", "why"),
        ("worker", "worker"),
    ] {
        if let Some(text) = task["state"][path].as_str() {
            field(name, output::whole(text))?;
        }
    }
    let paused = &whole["queue_paused"];
    if !paused.is_null() {
        let why = paused["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!("queue {} is paused by {}{why}", text_at(task, "queue"), text_at(paused, "by"));
        field("waits", paint(output::odd(), text))?;
    }
    if let Some(held_up) = whole["held_up"].as_str() {
        field("waits", paint(output::odd(), held_up))?;
    }
    if let Some(position) = whole["position"].as_u64() {
        field("position", format_args!("{position} before it"))?;
    }
    if !task["item"].is_null() {
        field("item", format_args!("{} {}", text_at(task, "item.type"), text_at(task, "item.id")))?;
    }
    field("queue", format_args!("{}, priority {}", text_at(task, "queue"), text_at(task, "priority")))?;
    field(
        "made",
        format_args!("{} ago for {}", output::age(&task["created_at"], now), text_at(task, "submitter")),
    )?;
    match text_at(task, "origin.by").as_str() {
        "rule" => field(
            "because",
            format_args!(
                "event #{} and rule {}",
                text_at(task, "origin.event"),
                text_at(task, "origin.rule")
            ),
        )?,
        "rerun" => field(
            "because",
            format_args!("{} ran task {} again", text_at(task, "origin.who"), text_at(task, "origin.of")),
        )?,
        _ => field("because", format_args!("{} submitted it", text_at(task, "origin.who")))?,
    }
    if !task["kind"]["repo"].is_null() {
        field("repo", text_at(task, "kind.repo.git"))?;
        field("commit", text_at(task, "kind.resolved.commit"))?;
    }
    field("trust", text_at(task, "trust"))?;
    match text_at(task, "approval.approval").as_str() {
        "given" => field(
            "approved",
            format_args!(
                "by {} {} ago",
                text_at(task, "approval.who"),
                output::age(&task["approval"]["at"], now)
            ),
        )?,
        "needed" => field("approval", format_args!("needed: taskbot task approve {}", text_at(task, "id")))?,
        _ => {}
    }
    if let Some(secrets) = task["secrets"].as_array() {
        let names: Vec<&str> = secrets.iter().filter_map(Value::as_str).collect();
        field("secrets", names.join(", "))?;
    }
    if let Some(doubt) = hold_doubt(task) {
        field("hold", paint(output::odd(), doubt))?;
    }
    if text_at(task, "state.phase") == "hold" && task["state"]["state"] == "running" {
        let kept = &task["hold"]["kept"];
        let worker = text_at(task, "state.worker");
        field("held", format_args!("on {worker} until {}; it keeps its slot", text_at(kept, "until")))?;
        for line in kept["enter"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            field("get in", line)?;
        }
        field("end it", format_args!("taskbot task unhold {}", text_at(task, "id")))?;
    }
    for (name, value) in task["inputs"].as_object().into_iter().flatten() {
        field(
            "input",
            format_args!("{name} = {}", output::shortened(value.as_str().unwrap_or(&value.to_string()))),
        )?;
    }
    for attempt in whole["attempts"].as_array().into_iter().flatten() {
        show_attempt(attempt, now)?;
    }
    show_results(whole)?;
    for artifact in whole["artifacts"].as_array().into_iter().flatten() {
        let size = model::units::format_size(artifact["size_bytes"].as_u64().unwrap_or_default());
        field(
            "artifact",
            format_args!("{} ({size}, attempt {})", text_at(artifact, "name"), artifact["attempt"]),
        )?;
    }
    Ok(())
}

/// How an attempt ended: its outcome, or without one what its reason begins with (`cancelled by …`).
fn attempt_outcome(attempt: &Value) -> String {
    if let Some(outcome) = attempt["outcome"].as_str() {
        return outcome.to_owned();
    }
    let reason = attempt["reason"].as_str().filter(|_| attempt["ended_at"].is_string());
    let known = ["cancelled", "superseded", "handed back"];
    let word = known.into_iter().find(|word| reason.is_some_and(|reason| reason.starts_with(word)));
    word.or(reason).unwrap_or("-").to_owned()
}

fn show_attempt(attempt: &Value, now: DateTime<Utc>) -> Result<()> {
    let outcome = attempt_outcome(attempt);
    let took = output::duration_between(&attempt["started_at"], &attempt["ended_at"], now);
    field(
        "attempt",
        format_args!(
            "{} {} on {}, {took}",
            attempt["number"],
            paint(style_of(&outcome), &outcome),
            text_at(attempt, "worker")
        ),
    )?;
    if let Some(environment) = attempt["environment"].as_object().map(|_| &attempt["environment"]) {
        let image = text_at(environment, "image");
        let image = if image == "-" { String::new() } else { format!(" {image}") };
        field(
            "",
            format_args!(
                "in {}{image} on {}",
                text_at(environment, "executor"),
                text_at(environment, "arch")
            ),
        )?;
        for note in environment["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            field("", paint(output::odd(), output::whole(note)))?;
        }
    }
    for phase in attempt["phases"].as_array().into_iter().flatten() {
        let took = std::time::Duration::from_millis(phase["duration_ms"].as_u64().unwrap_or_default());
        let error = phase["error"]
            .as_str()
            .map(|error| paint(output::bad(), format_args!("  {}", output::whole(error))))
            .unwrap_or_default();
        field(
            "",
            format_args!("{:<9} {:>7}{error}", text_at(phase, "phase"), model::units::format_duration(took)),
        )?;
    }
    Ok(())
}

/// The results of a task, one line each.
pub(super) fn show_results(whole: &Value) -> Result<()> {
    for result in whole["results"].as_array().into_iter().flatten() {
        let outcome = text_at(result, "outcome");
        let note =
            result["note"].as_str().map(|note| format!(": {}", output::whole(note))).unwrap_or_default();
        field(
            "result",
            format_args!(
                "#{} {} {}{note}",
                result["id"],
                paint(style_of(&outcome), &outcome),
                text_at(result, "testcase")
            ),
        )?;
    }
    Ok(())
}

async fn logs(context: &Context, id: &str, follow: bool, attempt: Option<u32>) -> Result<()> {
    let id = context.client.task_id(id).await?;
    let path = format!("tasks/{id}/log");
    let attempt = attempt.map(|attempt| attempt.to_string());
    let mut out = output::LogOut::stdout();
    if !follow {
        let mut bytes = context.client.bytes(&path, &[("attempt", attempt)]).await?.bytes_stream();
        while let Some(piece) = bytes.next().await {
            out.write(&piece.context("the log broke off")?)?;
        }
        return Ok(());
    }
    let take = async |event: SseEvent| {
        let data: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
        match event.name.as_str() {
            "log" => out.write(data["text"].as_str().unwrap_or_default().as_bytes())?,
            "end" => {
                let state = text_at(&data, "state");
                output::note(paint(
                    output::faint(),
                    format_args!("the attempt has ended; the task is {state}"),
                ));
                return Ok(ControlFlow::Break(()));
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    };
    let query = [("follow", Some("true".to_owned())), ("attempt", attempt)];
    Follow::new(&context.client, path, &query).run(async || Ok(ControlFlow::Continue(())), take).await
}

pub(super) fn seconds(hold: &str) -> Result<u64, Fault> {
    let parsed = model::units::parse_duration(hold);
    parsed.map(|hold| hold.as_secs()).map_err(|why| Fault::usage(format!("--hold: {why}")))
}

fn submission(args: &Submit) -> Result<Value> {
    let mut body = json!({"inputs": inputs::parse("--input", &args.inputs)?, "priority": args.priority});
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[name] = value;
        }
    };
    set("task", args.task.as_ref().map(|task| json!(task)));
    if let Some(git) = &args.git {
        let mut repo = json!({"git": git});
        for (name, value) in [("ref", &args.reference), ("path", &args.path)] {
            if let Some(value) = value {
                repo[name] = json!(value);
            }
        }
        set("repo", Some(repo));
    }
    set("hold_seconds", args.hold.as_deref().map(seconds).transpose()?.map(|seconds| json!(seconds)));
    set("item", args.item.as_deref().map(inputs::item).transpose()?);
    let texts = [("queue", &args.queue), ("batch", &args.batch), ("why", &args.why), ("key", &args.key)];
    for (name, text) in texts {
        set(name, text.as_ref().map(|text| json!(text)));
    }
    if args.arch.is_some() || !args.labels.is_empty() {
        let mut needs = json!({"labels": args.labels});
        if let Some(arch) = &args.arch {
            needs["arch"] = json!(arch);
        }
        set("needs", Some(needs));
    }
    Ok(body)
}

async fn artifacts(context: &Context, id: &str) -> Result<()> {
    let found = context.client.get(&format!("tasks/{id}/artifacts"), &[]).await?;
    let items = found.as_array().cloned().unwrap_or_default();
    let columns = [
        column("ARTIFACT", |artifact| text_at(artifact, "name")),
        column("SIZE", |artifact| {
            model::units::format_size(artifact["size_bytes"].as_u64().unwrap_or_default())
        }),
        column("ATTEMPT", |artifact| text_at(artifact, "attempt")),
        column("SHA256", |artifact| text_at(artifact, "sha256").chars().take(16).collect()),
    ];
    output::list(context.format, &items, &columns, "it left nothing")
}

async fn download(context: &Context, task: &str, name: &str, into: Option<&Path>) -> Result<()> {
    let response = context.client.bytes(&format!("tasks/{task}/artifacts/{}", escape(name)), &[]).await?;
    let mut out: Box<dyn Write> = match into {
        Some(path) => {
            let cannot = |error| Fault::usage(format!("cannot write {}: {error}", path.display()));
            Box::new(std::fs::File::create(path).map_err(cannot)?)
        }
        None => Box::new(std::io::stdout()),
    };
    let mut bytes = response.bytes_stream();
    while let Some(piece) = bytes.next().await {
        out.write_all(&piece.context("the artifact broke off")?).context("cannot write")?;
    }
    out.flush().context("cannot write")
}

async fn download_all(context: &Context, task: &str, into: &Path) -> Result<()> {
    let found = context.client.get(&format!("tasks/{task}/artifacts"), &[]).await?;
    let found = found.as_array().cloned().unwrap_or_default();
    let last = found.iter().filter_map(|artifact| artifact["attempt"].as_u64()).max();
    for artifact in found.iter().filter(|artifact| artifact["attempt"].as_u64() == last) {
        let name = text_at(artifact, "name");
        // The server refuses such names when they come in; whoever writes files must not rely on it.
        if !Path::new(&name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Fault::new(fault::FAILED, format!("`{name}` does not stay in the folder")).into());
        }
        let path = into.join(&name);
        std::fs::create_dir_all(path.parent().unwrap_or(into))
            .with_context(|| format!("cannot make {}", into.display()))?;
        download(context, task, &text_at(artifact, "id"), Some(&path)).await?;
        output::say(path.display())?;
    }
    Ok(())
}
