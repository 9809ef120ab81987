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
            let config = Config::load(global.config.as_deref())?.config;
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let ids: Arc<dyn Ids> = Arc::new(SystemIds);
            let store = open::store(&config, &clock, &ids).await?;
            let backend = store.backend().await;
            store.close().await;
            let done = json!({"backend": backend?});
            output::document(global.output, &done, || {
                Ok(output::say(format_args!("the schema is up to date: {}", text_at(&done, "backend")))?)
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
