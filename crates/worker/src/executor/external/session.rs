//! A running program: asked by lines, read by lines, and killed with all that it started.

use super::{
    super::{ExecError, LogSink, ProvisionError, host},
    protocol::{LINE_BYTES_MAX, Refusal, RefusalKind, Request, Said, quoted, read},
};
use bytes::{Bytes, BytesMut};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Map, Value};
use std::{
    process::Stdio,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, ChildStdout, Command},
    sync::{Mutex, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a program may take to read a request.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How long a program may take to remove its environment and end when its input ends in the middle of a request.
pub(super) const GIVE_UP_LIMIT: Duration = Duration::from_secs(8);
/// How many lines wait to be looked at.
const LINES_WAITING: usize = 64;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How much of what a program said on its standard error is quoted, in bytes.
const STDERR_BYTES: usize = 1000;

/// Why a request came to nothing.
#[derive(Debug, Clone)]
pub(super) enum CallError {
    /// The program refused.
    Refused(Refusal),
    /// The program broke the protocol, died, or did so before.
    Broken(String),
    /// It took too long: the program was ended.
    TimedOut(String),
    /// Cancelled: the program was ended.
    Stopped,
}

impl From<CallError> for ExecError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(Refusal { kind: RefusalKind::BadTask, message }) => Self::BadTask(message),
            CallError::Refused(Refusal { message, .. }) => Self::Infra(message),
            CallError::Broken(why) | CallError::TimedOut(why) => Self::Infra(why),
            CallError::Stopped => Self::Infra("stopped".to_owned()),
        }
    }
}

impl From<CallError> for ProvisionError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(Refusal { kind, message }) => match kind {
                RefusalKind::Unavailable => Self::Unavailable(message),
                RefusalKind::Infra => Self::Infra(message),
                RefusalKind::BadTask => Self::BadTask(message),
            },
            CallError::Broken(why) => Self::Infra(why),
            CallError::TimedOut(_) => Self::TimedOut,
            CallError::Stopped => Self::Stopped,
        }
    }
}

/// A program that runs.
pub(super) struct Session {
    name: String,
    mark: String,
    group: Option<Pid>,
    stdin: Mutex<Option<ChildStdin>>,
    lines: Mutex<mpsc::Receiver<Line>>,
    ended: watch::Receiver<Option<String>>,
    stderr: Arc<StdMutex<Vec<u8>>>,
    next_id: AtomicU64,
    /// The number of the newest `stop`: its answer may come at any time.
    stop_id: AtomicU64,
    stopping: AtomicBool,
    /// Whether it was killed after its end: nothing of it is left.
    over: AtomicBool,
    broken: StdMutex<Option<String>>,
}

/// What the reader found: a line that is understood, or what is wrong.
type Line = Result<(u64, Said, Bytes), String>;

impl Session {
    /// Starts a program. All processes that it starts carry `mark` by which they are found, unless they hide.
    pub(super) fn spawn(name: &str, mark: &str, mut command: Command) -> Result<Self, String> {
        command
            .env(host::MARK, mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let failed = |why: String| format!("the program `{name}` cannot be started: {why}");
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let (Some(stdin), Some(stdout), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed("it has no pipes".to_owned()));
        };
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let status = child.wait().await;
            tell.send_replace(Some(
                status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            ));
        });
        let stderr = Arc::new(StdMutex::new(Vec::new()));
        tokio::spawn(keep_tail(errors, Arc::clone(&stderr)));
        let (send, lines) = mpsc::channel(LINES_WAITING);
        tokio::spawn(read_lines(stdout, send));
        Ok(Self {
            name: name.to_owned(),
            mark: mark.to_owned(),
            group,
            stdin: Mutex::new(Some(stdin)),
            lines: Mutex::new(lines),
            ended,
            stderr,
            next_id: AtomicU64::new(1),
            stop_id: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            over: AtomicBool::new(false),
            broken: StdMutex::new(None),
        })
    }

    /// Sends a request; its number.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<u64, CallError> {
        if let Some(why) = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(CallError::Broken(why));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let line = request.line(id).map_err(|error| CallError::Broken(error.to_string()))?;
        let mut stdin = self.stdin.lock().await;
        let Some(pipe) = stdin.as_mut() else {
            return Err(CallError::Broken(format!("the input of the program `{}` is closed", self.name)));
        };
        let written = timeout(WRITE_LIMIT, async {
            pipe.write_all(&line).await?;
            pipe.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(_)) => Err(self.died(request.name()).await),
            Err(_) => {
                drop(stdin);
                let why = format!("the program `{}` does not read its input", self.name);
                Err(self.break_off(why))
            }
        }
    }

    /// The next that the program says to a request. A bad line ends the program.
    pub(super) async fn hear(&self, id: u64, what: &str) -> Result<Said, CallError> {
        loop {
            let line = self.lines.lock().await.recv().await;
            match line {
                None => return Err(self.died(what).await),
                Some(Err(why)) => {
                    let why = format!("the program `{}` broke the protocol ({what}): {why}", self.name);
                    return Err(self.break_off(why));
                }
                Some(Ok((of, said, _))) if of == id => return Ok(said),
                Some(Ok((of, _, _))) if of == self.stop_id.load(Ordering::Relaxed) => {}
                Some(Ok((of, _, line))) => {
                    let why = format!(
                        "the program `{}` broke the protocol ({what}): it speaks of request {of}, asked was {id}; the line: {}",
                        self.name,
                        quoted(&line)
                    );
                    return Err(self.break_off(why));
                }
            }
        }
    }

    /// Asks and waits for the answer. A program that does not answer in time, or that is not waited for any more,
    /// is ended: it removes its environment, or is killed after [`GIVE_UP_LIMIT`].
    pub(super) async fn call(
        &self,
        request: &Request<'_>,
        limit: Duration,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Map<String, Value>, CallError> {
        let what = request.name();
        let until = Instant::now() + limit;
        let answer = async {
            let id = self.send(request).await?;
            loop {
                match self.hear(id, what).await? {
                    Said::Ok(answer) => return Ok(answer),
                    Said::Error(refusal) => return Err(CallError::Refused(refusal)),
                    Said::Log(text) => log.write(format!("{text}\n").as_bytes()),
                    Said::Output(_) => {
                        let why = "`output` is for commands only";
                        return Err(self.break_off(format!("the program `{}` ({what}): {why}", self.name)));
                    }
                }
            }
        };
        let why = tokio::select! {
            answer = answer => return answer,
            () = sleep_until(until) => CallError::TimedOut(format!(
                "the program `{}` did not answer `{what}` within {}",
                self.name,
                model::units::format_duration(limit)
            )),
            () = stop.cancelled() => CallError::Stopped,
        };
        self.note_broken(&match &why {
            CallError::TimedOut(why) => why.clone(),
            _ => format!("the program `{}` was ended in `{what}`", self.name),
        });
        self.close(GIVE_UP_LIMIT).await;
        Err(why)
    }

    /// Asks the program to end a command, and kills it if the command has not ended within `limit`.
    pub(super) async fn stop(self: &Arc<Self>, of: u64, limit: Duration, over: CancellationToken) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop_id.store(self.next_id.load(Ordering::Relaxed), Ordering::Relaxed);
        let asked = self.send(&Request::Stop { of }).await;
        let session = Arc::clone(self);
        tokio::spawn(async move {
            if asked.is_ok() && timeout(limit, over.cancelled()).await.is_ok() {
                return;
            }
            let why = format!("the program `{}` did not stop a command and was killed", session.name);
            session.break_off(why);
        });
    }

    /// Whether a command was asked to stop; asked once.
    pub(super) fn take_stopping(&self) -> bool {
        self.stopping.swap(false, Ordering::Relaxed)
    }

    /// Breaks off because an answer makes no sense.
    pub(super) fn bad_answer(&self, what: &str, why: &str, answer: &Map<String, Value>) -> CallError {
        let line = serde_json::to_vec(answer).unwrap_or_default();
        self.break_off(format!(
            "the program `{}` answered `{what}` with what makes no sense: {why}; the answer: {}",
            self.name,
            quoted(&line)
        ))
    }

    /// Ends its input, waits until it ends by itself, and kills what is left. Whether it ended by itself.
    pub(super) async fn close(&self, limit: Duration) -> bool {
        self.stdin.lock().await.take();
        let mut ended = self.ended.clone();
        let gone = async {
            let ended = ended.wait_for(Option::is_some);
            // What it still says is of no interest, but it must not wait for a reader.
            let rest = async {
                let mut lines = self.lines.lock().await;
                while lines.recv().await.is_some() {}
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = ended => {}
                () = rest => {}
            }
        };
        let by_itself = timeout(limit, gone).await.is_ok();
        self.kill();
        by_itself
    }

    /// Kills it and all that it started and that can be found.
    pub(super) fn kill(&self) {
        // Once all is over its number may be somebody else's.
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        self.over.store(self.ended.borrow().is_some(), Ordering::Relaxed);
        // Errors mean that nobody is left there.
        if let Some(group) = self.group {
            let _ = killpg(group, Signal::SIGKILL);
        }
        host::kill_marked(&self.mark);
    }

    fn break_off(&self, why: String) -> CallError {
        self.note_broken(&why);
        self.kill();
        CallError::Broken(why)
    }

    fn note_broken(&self, why: &str) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.to_owned());
    }

    /// The error for a program that ended, with what it said last.
    async fn died(&self, what: &str) -> CallError {
        if let Some(why) = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return CallError::Broken(why);
        }
        let mut ended = self.ended.clone();
        let how = match timeout(WRITE_LIMIT, ended.wait_for(Option::is_some)).await {
            Ok(Ok(how)) => format!("ended ({})", how.as_deref().unwrap_or_default()),
            _ => "closed its output".to_owned(),
        };
        let said = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
        self.break_off(format!("the program `{}` {how} in `{what}`{said}", self.name))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads lines until the end or the first that is bad.
async fn read_lines(mut stdout: ChildStdout, send: mpsc::Sender<Line>) {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end + 1).freeze();
            let read = if end > LINE_BYTES_MAX { Err(too_long(&line)) } else { understand(line) };
            let bad = read.is_err();
            if send.send(read).await.is_err() || bad {
                return;
            }
        }
        if buffer.len() > LINE_BYTES_MAX {
            _ = send.send(Err(too_long(&buffer))).await;
            return;
        }
        buffer.reserve(READ_BYTES);
        match stdout.read_buf(&mut buffer).await {
            Ok(1..) => {}
            _ if buffer.is_empty() => return,
            _ => {
                _ = send.send(Err(format!("its last line has no end; the line: {}", quoted(&buffer)))).await;
                return;
            }
        }
    }
}

fn understand(line: Bytes) -> Line {
    match read(&line) {
        Ok((id, said)) => Ok((id, said, line)),
        Err(why) => Err(format!("{why}; the line: {}", quoted(&line))),
    }
}

fn too_long(line: &[u8]) -> String {
    format!("a line is longer than {LINE_BYTES_MAX} bytes; it begins with {}", quoted(line))
}

/// Reads all of a pipe and keeps its end.
async fn keep_tail(mut pipe: ChildStderr, kept: Arc<StdMutex<Vec<u8>>>) {
    let mut chunk = vec![0; STDERR_BYTES];
    while let Some(count) = some_bytes(&mut pipe, &mut chunk).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&chunk[..count]);
        let surplus = kept.len().saturating_sub(STDERR_BYTES);
        kept.drain(..surplus);
    }
}

async fn some_bytes(pipe: &mut (impl AsyncRead + Unpin), chunk: &mut [u8]) -> Option<usize> {
    pipe.read(chunk).await.ok().filter(|count| *count > 0)
}
