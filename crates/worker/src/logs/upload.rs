//! Sends a log while it grows.

use super::{LOG_FLUSH_EVERY, spool::Spool};
use crate::client::{Client, ClientError};
use model::protocol::{Held, LogChunkQuery};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Sends the chunks of a log in their order until it is sealed and all are sent. Outages up to `limit` for
/// each chunk are sat out; the log meanwhile grows on disk only.
///
/// # Errors
/// The attempt is fenced, the server refuses the log for good, the limit was reached, `stop` was cancelled,
/// or the disk cannot be read.
pub async fn upload(
    spool: &Spool,
    client: &Client,
    held: Held,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<(), ClientError> {
    let mut due = false;
    loop {
        while let Some(chunk) = spool
            .cut(due)
            .map_err(|error| ClientError::GivenUp(format!("the log on disk cannot be read: {error}")))?
        {
            due = false;
            let query =
                LogChunkQuery { attempt: held.attempt.attempt, fence: held.attempt.fence, seq: chunk.seq };
            client.persist(limit, stop, || client.log_chunk(held.task, &query, chunk.bytes.clone())).await?;
        }
        if spool.is_drained() {
            return Ok(());
        }
        tokio::select! {
            () = spool.grown.notified() => {}
            () = tokio::time::sleep(LOG_FLUSH_EVERY) => due = true,
            () = stop.cancelled() => return Err(ClientError::GivenUp("stopped".to_owned())),
        }
    }
}
