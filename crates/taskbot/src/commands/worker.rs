//! `worker list|cordon|drain|maintenance|resume`.

use super::Context;
use crate::{
    cli::{Rest, WorkerCommand},
    client::escape,
    fault,
    output::{self, column, text_at},
};
use anyhow::Result;
use model::units::format_size;
use serde_json::{Value, json};

/// Carries `worker …` out.
pub(super) async fn run(command: WorkerCommand, context: Context) -> Result<u8> {
    let mode = async |name: &str, wish: Value| {
        let _: Value = context.client.post(&format!("workers/{}/mode", escape(name)), &wish).await?;
        anyhow::Ok(())
    };
    match command {
        WorkerCommand::List => {
            let workers = context.client.get("workers", &[]).await?;
            let now = context.now();
            let columns = [
                column("WORKER", |worker| text_at(worker, "name")),
                column("STATE", |worker| match worker["alive"].as_bool() {
                    Some(true) => state(worker),
                    // It said goodbye, or nothing for longer than it may.
                    _ if worker["left_at"].is_string() => "stopped".to_owned(),
                    _ => "silent".to_owned(),
                }),
                column("SEEN", move |worker| output::age(&worker["last_seen"], now)),
                column("RUNS", |worker| {
                    let running = worker["running"].as_array().map_or(0, Vec::len);
                    format!("{running}/{}", worker["offer"]["slots"])
                }),
                column("MEMORY", |worker| taken(worker, "memory_bytes")),
                column("DISK", |worker| taken(worker, "disk_bytes")),
                column("QUEUES", |worker| text_at(worker, "offer.queues")),
                column("EXECUTORS", |worker| text_at(worker, "offer.executors")),
                column("ARCHES", |worker| text_at(worker, "offer.arches")),
                column("LABELS", |worker| text_at(worker, "offer.labels")),
                column("VERSION", |worker| text_at(worker, "version")),
            ];
            let workers = workers.as_array().cloned().unwrap_or_default();
            output::list(context.format, &workers, &columns, "no workers: start one with `taskbot worker`")?;
        }
        WorkerCommand::Conformance(tried) => return super::conformance::run(tried, context.format).await,
        WorkerCommand::Enter { folder } => return super::enter::run(&folder).await,
        WorkerCommand::Cordon(Rest { name, why }) => {
            mode(&name, json!({"mode": "cordon", "why": why})).await?;
            output::note(format_args!("{name} takes no more tasks; to go on: taskbot worker resume {name}"));
        }
        WorkerCommand::Drain(Rest { name, why }) => {
            mode(&name, json!({"mode": "drain", "why": why})).await?;
            output::note(format_args!(
                "{name} takes no more tasks and ends once it runs none; to go on: taskbot worker resume {name}"
            ));
        }
        WorkerCommand::Maintenance { name, why, until } => {
            let until =
                until.map(|text| output::parse_time_to_come("--until", &text, context.now())).transpose()?;
            mode(&name, json!({"mode": "maintenance", "why": why, "until": until})).await?;
            let end = until.map_or_else(
                || format!("until `taskbot worker resume {name}`"),
                |until| format!("until {}", until.format("%Y-%m-%d %H:%M UTC")),
            );
            output::note(format_args!("{name} takes no more tasks {end}"));
        }
        WorkerCommand::Resume { name } => {
            mode(&name, json!({"mode": "active"})).await?;
            output::note(format_args!("{name} takes tasks again"));
        }
    }
    Ok(fault::DONE)
}

/// `maintenance until 2030-01-31 18:00: new disks`
fn state(worker: &Value) -> String {
    let until = worker["until"].as_str().and_then(|until| until.get(..16));
    let until = until.map(|until| format!(" until {}", until.replace('T', " ")));
    let why = worker["why"].as_str().map(|why| format!(": {why}"));
    format!("{}{}{}", text_at(worker, "mode"), until.unwrap_or_default(), why.unwrap_or_default())
}

/// What its tasks keep of a size, and what there is of it.
fn taken(worker: &Value, size: &str) -> String {
    let bytes = |of: &str| format_size(worker[of][size].as_u64().unwrap_or_default());
    format!("{}/{}", bytes("reserved"), bytes("offer"))
}
