//! `queue …`.

use super::Context;
use crate::{
    cli::QueueCommand,
    client::escape,
    fault,
    output::{self, column, text_at},
};
use anyhow::Result;
use serde_json::json;

/// Carries `queue …` out.
pub(super) async fn run(command: QueueCommand, context: Context) -> Result<u8> {
    match command {
        QueueCommand::List => {
            let queues = context.client.get("queues", &[]).await?;
            let now = context.now();
            let columns = [
                column("QUEUE", |queue| text_at(queue, "name")),
                column("QUEUED", |queue| text_at(queue, "queued")),
                column("UNMET", |queue| text_at(queue, "unmet")),
                column("WAITING", |queue| text_at(queue, "waiting")),
                column("RUNNING", |queue| text_at(queue, "running")),
                column("OLDEST", move |queue| output::age(&queue["oldest_queued_at"], now)),
                column("PAUSED", |queue| match (text_at(queue, "paused.by"), text_at(queue, "paused.why")) {
                    (by, _) if by == "-" => by,
                    (by, why) if why == "-" => format!("by {by}"),
                    (by, why) => format!("by {by}: {why}"),
                }),
            ];
            output::list(
                context.format,
                queues.as_array().unwrap_or(&Vec::new()),
                &columns,
                "no queues yet: the first task makes one",
            )?;
        }
        QueueCommand::Pause { name, why } => {
            let body = why.map_or_else(|| json!({}), |why| json!({"why": why}));
            context.client.post(&format!("queues/{}/pause", escape(&name)), &body).await?;
            output::note(format_args!(
                "{name} hands nothing more out; to go on: taskbot queue resume {name}"
            ));
        }
        QueueCommand::Resume { name } => {
            context.client.post(&format!("queues/{}/resume", escape(&name)), &json!({})).await?;
            output::note(format_args!("{name} hands out again"));
        }
    }
    Ok(fault::DONE)
}
