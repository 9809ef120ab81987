//! What is done now and then: forgetting silent workers, removing what is older than it is kept.

use crate::{Scheduler, settings::PRUNE_BATCH_MAX};
use std::time::Duration;
use store::{Pruned, Retention};
use tokio_util::sync::CancellationToken;

/// The name of the work under whose lease one server at a time prunes.
const PRUNE: &str = "prune";
/// How long such a lease is.
const LEASE: Duration = Duration::from_secs(120);

/// Goes round until told to stop.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(scheduler.settings().prune_every) => {}
        }
        if let Err(error) = go_round(&scheduler).await {
            tracing::warn!(%error, "upkeep is put off");
        }
    }
}

async fn go_round(scheduler: &Scheduler) -> store::Result<()> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let settings = scheduler.settings();
    if !scheduler.store().try_lease(PRUNE, &settings.server, millis(LEASE)).await? {
        return Ok(());
    }
    scheduler.store().forget_workers(millis(settings.forget_workers_after)).await?;
    scheduler.store().forget_rates().await?;
    let pruned = scheduler.prune(&settings.retention, false).await?;
    if pruned.rows.values().any(|count| *count > 0) {
        tracing::info!(rows = ?pruned.rows, files = pruned.keys.len(), "pruned");
    }
    Ok(())
}

impl Scheduler {
    /// Removes what is older than it is kept, rows first, then the bytes that no row names any more.
    ///
    /// # Errors
    /// The database is away.
    pub async fn prune(&self, retention: &Retention, dry_run: bool) -> store::Result<Pruned> {
        let pruned = self.store().prune(retention, PRUNE_BATCH_MAX, dry_run).await?;
        if !dry_run {
            for key in &pruned.keys {
                if let Err(error) = self.files().remove(key).await {
                    tracing::warn!(%error, key, "bytes without a row are left behind");
                }
            }
        }
        Ok(pruned)
    }
}
