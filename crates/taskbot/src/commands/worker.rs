//! `worker list|drain|resume`.

use super::Context;
use crate::{
    cli::WorkerCommand,
    client::escape,
    fault,
    output::{self, column, text_at},
};
use anyhow::Result;
use serde_json::{Value, json};

/// Carries `worker …` out.
pub(super) async fn run(command: WorkerCommand, context: Context) -> Result<u8> {
    let mode = async |name: &str, mode: &str| {
        context.client.post(&format!("workers/{}/mode", escape(name)), &json!({"mode": mode})).await
    };
    match command {
        WorkerCommand::List => {
            let workers = context.client.get("workers", &[]).await?;
            let now = context.now();
            let columns = [
                column("WORKER", |worker| text_at(worker, "name")),
                column("STATE", |worker| match worker["alive"].as_bool() {
                    Some(true) => text_at(worker, "mode"),
                    // It said goodbye, or nothing for longer than it may.
                    _ if worker["left_at"].is_string() => "stopped".to_owned(),
                    _ => "silent".to_owned(),
                }),
                column("SEEN", move |worker| output::age(&worker["last_seen"], now)),
                column("RUNS", |worker| {
                    let running = worker["running"].as_array().map_or(0, Vec::len);
                    format!("{running}/{}", worker["offer"]["slots"])
                }),
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
        WorkerCommand::Drain { name } => {
            let _: Value = mode(&name, "drain").await?;
            output::note(format_args!("{name} takes no more tasks; to go on: taskbot worker resume {name}"));
        }
        WorkerCommand::Resume { name } => {
            let _: Value = mode(&name, "active").await?;
            output::note(format_args!("{name} takes tasks again"));
        }
    }
    Ok(fault::DONE)
}
