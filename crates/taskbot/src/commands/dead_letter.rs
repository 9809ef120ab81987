//! `dlq …`.

use super::{Context, each, paging};
use crate::{
    cli::DlqCommand,
    fault,
    output::{self, column, paint, text_at},
};
use anyhow::Result;
use serde_json::json;

/// Carries `dlq …` out.
pub(super) async fn run(command: DlqCommand, context: Context) -> Result<u8> {
    match command {
        DlqCommand::List { paging: page } => {
            let page = context.client.get("dlq", &paging(&page)).await?;
            let now = context.now();
            let columns = [
                column("LETTER", |letter| text_at(letter, "id")),
                column("AGE", move |letter| output::age(&letter["created_at"], now)),
                column("SOURCE", |letter| text_at(letter, "source")),
                column("TOPIC", |letter| text_at(letter, "topic")),
                column("BYTES", |letter| text_at(letter, "size_bytes")),
                column("REASON", |letter| text_at(letter, "reason")),
            ];
            output::page(context.format, &page, &columns, "no dead letters")?;
        }
        DlqCommand::Show { id } => {
            let id = context.client.letter_id(&id).await?;
            let letter = context.client.get(&format!("dlq/{id}"), &[]).await?;
            output::document(context.format, &letter, || {
                output::say(paint(output::title(), format_args!("dead letter {}", letter["id"])))?;
                for name in [
                    "reason",
                    "source",
                    "topic",
                    "event_id",
                    "deliveries",
                    "created_at",
                    "headers",
                    "size_bytes",
                ] {
                    output::say(format_args!(
                        "{} {}",
                        paint(output::faint(), format_args!("{name:<10}")),
                        text_at(&letter, name)
                    ))?;
                }
                output::say(paint(output::faint(), "payload"))?;
                let hex = || letter["payload_hex"].as_str().map(|hex| format!("hex {hex}"));
                Ok(output::say(
                    letter["payload"].as_str().map(str::to_owned).or_else(hex).unwrap_or_default(),
                )?)
            })?;
        }
        DlqCommand::Requeue { ids } => {
            return each(ids, async |id| {
                let id = context.client.letter_id(id).await?;
                let taken = context.client.post(&format!("dlq/{id}/requeue"), &json!({})).await?;
                output::document(context.format, &taken, || {
                    if let Some(sink) = taken["sink"].as_str() {
                        output::note(format_args!("sink {sink} has letter {id} now"));
                        return Ok(());
                    }
                    output::say(&taken["event"])?;
                    output::note(format_args!("letter {id} is event #{} now", taken["event"]));
                    Ok(())
                })
            })
            .await;
        }
        DlqCommand::Drop { ids } => {
            return each(ids, async |id| {
                let id = context.client.letter_id(id).await?;
                context.client.delete(&format!("dlq/{id}")).await?;
                output::note(format_args!("letter {id} is gone"));
                Ok(())
            })
            .await;
        }
    }
    Ok(fault::DONE)
}
