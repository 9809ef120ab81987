//! `db …`.

use super::Context;
use crate::{
    cli::{DbCommand, Global},
    config::Config,
    fault,
    output::{self, paint, text_at},
    server::open,
};
use anyhow::Result;
use model::{Clock, Ids, SystemClock, SystemIds};
use serde_json::json;
use std::sync::Arc;

/// Carries `db …` out.
pub(super) async fn run(command: DbCommand, global: &Global) -> Result<u8> {
    match command {
        DbCommand::Migrate => {
            let config = Config::load(global.config.as_deref())?.lay_environment_over()?.config;
            let place = open::place(&config)?;
            let before = open::probe(&place).await?.and_then(|probe| probe.schema);
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let ids: Arc<dyn Ids> = Arc::new(SystemIds);
            let store = open::store(&config, &clock, &ids).await?;
            let backend = store.backend().await;
            store.close().await;
            // It lets the file go only when it is dropped.
            drop(store);
            let after = open::probe(&place).await?.and_then(|probe| probe.schema);
            let done = json!({"backend": backend?, "from": before, "to": after, "database": place.shown()});
            output::document(global.output, &done, || {
                let to = text_at(&done, "to");
                let did = match before {
                    _ if before == after => format!("nothing to do, schema {to} is up to date"),
                    None => format!("schema {to} is made"),
                    Some(before) => format!("schema {before} became {to}"),
                };
                let (backend, place) = (text_at(&done, "backend"), text_at(&done, "database"));
                Ok(output::say(format_args!("{did}: {backend}, {place}"))?)
            })?;
        }
        DbCommand::Prune { dry_run } => {
            let context = Context::of(global)?;
            let path = if dry_run { "prune?dry_run=true" } else { "prune" };
            let pruned = context.client.post(path, &json!({})).await?;
            output::document(context.format, &pruned, || {
                let word = if dry_run { "would go" } else { "gone" };
                for (kind, rows) in pruned["rows"].as_object().into_iter().flatten() {
                    output::say(format_args!("{} {rows} {kind}", paint(output::faint(), word)))?;
                }
                let keys = pruned["keys"].as_array().map_or(0, Vec::len);
                Ok(output::say(format_args!("{} {keys} files", paint(output::faint(), word)))?)
            })?;
        }
    }
    Ok(fault::DONE)
}
