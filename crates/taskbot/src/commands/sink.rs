//! `sink …`.

use super::{Context, each};
use crate::{
    cli::SinkCommand,
    client::escape,
    fault,
    output::{self, column, text_at},
};
use anyhow::Result;

/// Carries `sink …` out.
pub(super) async fn run(command: SinkCommand, context: Context) -> Result<u8> {
    match command {
        SinkCommand::List => {
            let sinks = context.client.get("sinks", &[]).await?;
            let now = context.now();
            let columns = [
                column("SINK", |sink| text_at(sink, "name")),
                column("STATE", |sink| match (sink["configured"].as_bool(), sink["problem"].is_string()) {
                    (Some(true), false) => "ok".to_owned(),
                    (Some(true), true) => "failed".to_owned(),
                    // Another server may have it.
                    _ => "not configured here".to_owned(),
                }),
                column("BEHIND", |sink| text_at(sink, "behind")),
                column("SINCE", move |sink| output::age(&sink["since"], now)),
                column("TRIES", |sink| text_at(sink, "tries")),
                column("PROBLEM", |sink| text_at(sink, "problem")),
            ];
            let sinks = sinks.as_array().cloned().unwrap_or_default();
            let nothing = "no sinks: results stay in this database; docs/results-stores.md";
            output::list(context.format, &sinks, &columns, nothing)?;
        }
        SinkCommand::Forget { names } => {
            return each(names, async |name| {
                context.client.delete(&format!("sinks/{}", escape(name))).await?;
                output::note(format_args!("nothing is kept for sink {name} any more"));
                Ok(())
            })
            .await;
        }
    }
    Ok(fault::DONE)
}
