//! Watching over commands: output to the log, limits, and who killed them.

use super::{DRAIN_LIMIT, ExecError, ExecRequest, Exit, LogSink, Profile};
use crate::secrets::{Secret, TAKE_IN};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::{future::Future, pin::pin, time::Duration};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How often disk space is looked at, at most.
const DISK_INTERVAL: Duration = Duration::from_millis(500);
/// How long something that was killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// What starts every command: marks the start, goes to the folder, and runs each line on its own.
/// Arguments: the file that is made as a mark (`$0`), the folder, then the lines.
pub(super) const WRAPPER: &str = r#"umask 022
{ mkdir -p "${0%/*}"; true >"$0"; } 2>/dev/null
cd -- "$1" || exit 126
shift
for line in "$@"; do
  sh -e -c "$line" </dev/null || exit $?
done"#;

/// [`WRAPPER`], which takes secrets in first if there are any.
pub(super) fn wrapper(secrets: &[Secret]) -> String {
    if secrets.is_empty() { WRAPPER.to_owned() } else { format!("{TAKE_IN}{WRAPPER}") }
}

/// How to look at and end what is supervised.
pub(super) trait Watched {
    /// The disk space that it uses, in bytes; nothing where it cannot be told.
    fn disk_bytes(&self) -> impl Future<Output = Option<u64>> + Send;
    /// Whether the disk that it writes to has no space left, whoever took it.
    fn disk_is_full(&self) -> bool {
        false
    }
    /// Kills all of it at once.
    fn kill(&self) -> impl Future<Output = ()> + Send;
    /// Ends what the commands left running in the background.
    fn tidy(&self) -> impl Future<Output = ()> + Send;
}

/// How something ended: by itself or by us.
#[derive(Debug)]
pub(super) enum Ended<T> {
    /// By itself.
    Itself(T),
    /// By us, for this reason.
    ByUs(Exit),
}

/// Waits for the end of commands, passing their output on, and kills them when a limit is reached. What ended
/// them is known by who acted first: a code of 137 alone tells nothing.
pub(super) async fn supervise<T, W: Watched>(
    request: &ExecRequest<'_>,
    disk_bytes_max: u64,
    output: impl Stream<Item = Result<Bytes, String>> + Send,
    end: impl Future<Output = Result<T, ExecError>> + Send,
    watched: &W,
    log: &dyn LogSink,
    stop: &CancellationToken,
) -> Result<Ended<T>, ExecError> {
    let mut output = pin!(output);
    let mut end = pin!(end);
    let deadline = Instant::now() + request.limit;
    let mut last_output = Instant::now();
    let mut open = true;
    let mut disk = pin!(watch_disk(watched, request.profile, disk_bytes_max));
    let reason = loop {
        let silent_until = request.idle.map_or(deadline, |idle| last_output + idle);
        tokio::select! {
            ended = &mut end => {
                let ended = ended?;
                watched.tidy().await;
                drain(&mut output, log, open).await;
                return Ok(Ended::Itself(ended));
            }
            chunk = output.next(), if open => match chunk {
                Some(Ok(bytes)) => {
                    last_output = Instant::now();
                    log.write(&bytes);
                }
                // A broken stream is not the end of the commands: `end` tells.
                Some(Err(_)) | None => open = false,
            },
            () = sleep_until(deadline) => break Exit::TimedOut,
            () = sleep_until(silent_until), if request.idle.is_some() => break Exit::Idle,
            () = stop.cancelled() => break Exit::Stopped,
            exit = &mut disk => break exit,
        }
    };
    watched.kill().await;
    let gone = async {
        loop {
            tokio::select! {
                ended = &mut end => return ended,
                chunk = output.next(), if open => match chunk {
                    Some(Ok(bytes)) => log.write(&bytes),
                    Some(Err(_)) | None => open = false,
                },
            }
        }
    };
    match timeout(KILL_LIMIT, gone).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            return Err(ExecError::Infra(format!(
                "commands are still there {KILL_LIMIT:?} after their kill"
            )));
        }
    }
    drain(&mut output, log, open).await;
    Ok(Ended::ByUs(reason))
}

/// Passes on what is still in the pipe. A process that got away may hold it open, so there is a limit.
async fn drain(
    output: &mut (impl Stream<Item = Result<Bytes, String>> + Unpin),
    log: &dyn LogSink,
    open: bool,
) {
    if !open {
        return;
    }
    let rest = async {
        while let Some(Ok(bytes)) = output.next().await {
            log.write(&bytes);
        }
    };
    if timeout(DRAIN_LIMIT, rest).await.is_err() {
        tracing::warn!("the output of ended commands stayed open; what came later is lost");
    }
}

/// Comes back when more disk space is used than allowed, or there is none. Cleaning up must be possible after the space ran out:
/// what is used already does not count then.
async fn watch_disk<W: Watched>(watched: &W, profile: Profile, max_bytes: u64) -> Exit {
    let max_bytes = match profile {
        Profile::Cleanup => max_bytes.saturating_add(watched.disk_bytes().await.unwrap_or(0)),
        Profile::Install | Profile::Run => max_bytes,
    };
    sleep(DISK_INTERVAL).await;
    loop {
        let began = Instant::now();
        match watched.disk_bytes().await {
            Some(used) if used > max_bytes => return Exit::OutOfDisk,
            // What hides from being measured is seen in the end.
            Some(_) if profile != Profile::Cleanup && watched.disk_is_full() => return Exit::DiskFull,
            Some(_) => {}
            None => std::future::pending().await,
        }
        // Looking at many files is work: at most a tenth of the time goes into it.
        sleep(DISK_INTERVAL.max(began.elapsed() * 9)).await;
    }
}

/// Names that a variable for commands may have: anything else could change how our own programs run.
pub(super) fn check_env(request: &ExecRequest<'_>) -> Result<(), ExecError> {
    for (name, value) in request.env {
        let plain = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let ours =
            ["PATH", "HOME", "TMPDIR", "IFS", "ENV"].contains(&name.as_str()) || name.starts_with("LD_");
        if !plain || ours {
            return Err(ExecError::BadTask(format!("`{name}` cannot be set as an environment variable")));
        }
        if value.contains('\0') {
            return Err(ExecError::BadTask(format!("the value of `{name}` holds a NUL character")));
        }
    }
    if let Some(line) = request.lines.iter().find(|line| line.contains('\0')) {
        return Err(ExecError::BadTask(format!("the command {line:?} holds a NUL character")));
    }
    crate::files::inner_path(std::path::Path::new(request.dir))
        .map(drop)
        .map_err(|why| ExecError::BadTask(format!("`{}` cannot be the task's folder: {why}", request.dir)))
}

/// The variables that commands see, besides those of an image.
pub(super) fn variables(request: &ExecRequest<'_>, work: &str, home: &str) -> Vec<(String, String)> {
    let ours = [
        ("HOME", home.to_owned()),
        ("TMPDIR", home.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TASKBOT_WORK", work.to_owned()),
        ("TASKBOT_OUTPUT", format!("{work}/{}", super::OUTPUT_DIR)),
        ("TASKBOT_INPUTS", format!("{work}/{}", super::INPUTS_FILE)),
    ];
    let theirs = request.env.iter().map(|(name, value)| (name.clone(), value.clone()));
    // Ours come last and win.
    theirs.chain(ours.map(|(name, value)| (name.to_owned(), value))).collect()
}
