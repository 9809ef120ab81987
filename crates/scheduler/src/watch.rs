//! The rules folder watched: a changed file leads to a reload, once the changes have settled. A repository is asked
//! now and then whether its ref has moved, and at once when a webhook says so.

use crate::Scheduler;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{path::Path, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a folder must be quiet before it is read: editors and git write several files.
const SETTLED_AFTER: Duration = Duration::from_millis(300);
/// After how long it is read though it was not quiet.
const SETTLED_AT_LAST: Duration = Duration::from_secs(5);

/// Watches the folder until told to stop. When it cannot be watched, says so: SIGHUP and the API still work.
pub(crate) async fn run(scheduler: Scheduler, stop: CancellationToken) {
    if let Some(every) = scheduler.rulebook().source().poll_every() {
        return poll(&scheduler, every, &stop).await;
    }
    let Some(folder) = scheduler.rulebook().folder().map(Path::to_owned) else {
        return stop.cancelled().await;
    };
    // One pending hint is enough: a reload reads everything.
    let (hint, mut changed) = mpsc::channel(1);
    let watcher = watch(&folder, hint);
    if let Err(error) = &watcher {
        tracing::warn!(folder = %folder.display(), %error, "the rules folder cannot be watched; reload by SIGHUP or the API");
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = changed.recv() => {}
        }
        let settled = async {
            while tokio::time::timeout(SETTLED_AFTER, changed.recv()).await.is_ok_and(|hint| hint.is_some()) {
            }
        };
        // Where something is always written it is read all the same; the next hint comes soon.
        let _ = tokio::time::timeout(SETTLED_AT_LAST, settled).await;
        while let Err(error) = scheduler.reload_rules("file change").await {
            tracing::warn!(%error, details = %error.details(), "changed rules are not taken; the old ones stay in force");
            if !error.is_transient() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(scheduler.settings().poll_every) => {}
            }
        }
    }
}

/// Looks now and then, and when somebody says so, whether the repository's ref has moved. A commit whose rules are bad is not read again: the next
/// one is.
async fn poll(scheduler: &Scheduler, every: Duration, stop: &CancellationToken) {
    let mut told = scheduler.wake().repository.listen();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = told.heard(every) => {}
        }
        let reloaded = match scheduler.rulebook().source().has_moved().await {
            Ok(false) => continue,
            Ok(true) => scheduler.reload_rules("repository").await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = reloaded {
            tracing::warn!(%error, details = %error.details(), "the repository's rules are not taken; the old ones stay in force");
        }
    }
}

fn watch(folder: &Path, hint: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event too; it changes nothing.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full means that a hint is pending already.
            let _ = hint.try_send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}
