//! The line to our agent in a machine: scripts go in by a disk, output comes back in order by a port.

use super::{
    super::{ExecError, OUTPUT_DIR, host::infra},
    process::Process,
    qmp::connect,
    scripts::{HOME, WORK_DIR},
};
use crate::secrets::{Secret, octal};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{Mutex, mpsc, oneshot, watch},
};

/// How many pieces of output may wait; then the machine waits.
const OUTPUT_CHUNKS_MAX: usize = 64;
/// What begins a word of the agent in its output.
const MARK: u8 = 0x1e;
/// The longest word of the agent, in bytes.
const WORD_BYTES_MAX: usize = 200;
/// Everything on the disk begins at a multiple of this: what the machine read ahead is never read again.
const STEP: u64 = 16 << 20;
/// How long the agent may take to end a script's processes before the machine is switched off.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Scripts fill blocks of so many bytes on the disk.
const SCRIPT_BLOCK: usize = 1024;
/// The longest script, in bytes, that goes by the port: the agent's shell reads byte by byte.
const SCRIPT_BYTES_BY_PORT_MAX: usize = 4096;
/// How long after its start a machine's first script may have changed so much that the disks' driver cannot be loaded
/// any more: then the agent has been told to.
const DISKS_AFTER: Duration = Duration::from_millis(500);
/// The agent, without what is set before it.
const AGENT: &str = include_str!("agent.sh");

/// How a script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScriptEnd {
    pub(super) code: i32,
    /// How many processes were killed for want of memory meanwhile.
    pub(super) ooms: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Output(Bytes),
    Ready,
    End(u32, ScriptEnd),
}

/// The agent's text for a machine with this mark.
pub(super) fn agent(mark: &str) -> String {
    format!("MARK={mark}\nWORK={WORK_DIR}\nOUTPUT={OUTPUT_DIR}\nHOME_DIR={HOME}\n{AGENT}")
}

/// The line to one machine's agent.
pub(super) struct Guest {
    control: Arc<Mutex<UnixStream>>,
    said: Mutex<mpsc::Receiver<Said>>,
    /// What the agent's words begin with.
    mark: String,
    /// The number of the last script that ended.
    ended: watch::Receiver<u32>,
    number: AtomicU32,
    input: Mutex<Input>,
}

impl Guest {
    /// Connects to the ports of a machine that is about to start.
    pub(super) async fn open(
        control: &Path,
        output: &Path,
        mark: &str,
        mut input: Input,
    ) -> Result<Self, ExecError> {
        // What the machine looks for at the beginning of its disks it has read before a script is there.
        input.at = input.at.max(STEP);
        let control = connect(control).await?;
        let output = connect(output).await?;
        let (tell, said) = mpsc::channel(OUTPUT_CHUNKS_MAX);
        let (tell_end, ended) = watch::channel(0);
        tokio::spawn(listen(output, Parser::new(mark), tell, tell_end));
        Ok(Self {
            control: Arc::new(Mutex::new(control)),
            mark: mark.to_owned(),
            said: Mutex::new(said),
            ended,
            number: AtomicU32::new(0),
            input: Mutex::new(input),
        })
    }

    /// Comes back when the agent said that it is ready; false when the line ended before.
    pub(super) async fn ready(&self) -> bool {
        let mut said = self.said.lock().await;
        while let Some(said) = said.recv().await {
            if said == Said::Ready {
                return true;
            }
        }
        false
    }

    /// Puts something onto the disk that the machine reads; gives where in MiB and how many bytes.
    pub(super) async fn put(
        &self,
        fill: impl FnOnce(&mut File) -> io::Result<()> + Send + 'static,
    ) -> Result<(u64, u64), ExecError> {
        self.input.lock().await.put(fill).await
    }

    /// Puts secrets into the machine's memory, by the port: they are on no disk.
    pub(super) async fn keep(&self, secrets: &[Secret]) -> Result<(), ExecError> {
        self.tell("keep 0 0 0\n").await?;
        for secret in secrets {
            self.tell(&format!("secret {} {}\n", secret.name, octal(&secret.value))).await?;
        }
        Ok(())
    }

    /// Starts a script. The stream is its output; it must be read for `end` to come.
    pub(super) async fn start(
        &self,
        script: String,
    ) -> Result<(impl Stream<Item = Result<Bytes, String>> + Send, oneshot::Receiver<ScriptEnd>), ExecError>
    {
        if script.len() < SCRIPT_BYTES_BY_PORT_MAX {
            let (number, lines) = (self.number(), script.split('\n').count());
            return self.ask(number, format!("run {number} {lines} 0\n{script}\n")).await;
        }
        let mut script = format!("# {}\n{script}", self.mark).into_bytes();
        // The machine then has it with one program fewer.
        script.resize(script.len().next_multiple_of(SCRIPT_BLOCK), b'\n');
        let (at, bytes) = self.put(move |file| file.write_all(&script)).await?;
        let number = self.number();
        self.ask(number, format!("fetch {number} {} {bytes}\n", at * 1024)).await
    }

    /// Unpacks an archive that is on the disk, as [`start`](Self::start).
    pub(super) async fn take(
        &self,
        at_mib: u64,
        bytes: u64,
    ) -> Result<(impl Stream<Item = Result<Bytes, String>> + Send, oneshot::Receiver<ScriptEnd>), ExecError>
    {
        let number = self.number();
        self.ask(number, format!("take {number} {at_mib} {bytes}\n")).await
    }

    fn number(&self) -> u32 {
        self.number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Tells the agent to do something that has this number.
    async fn ask(
        &self,
        number: u32,
        words: String,
    ) -> Result<(impl Stream<Item = Result<Bytes, String>> + Send, oneshot::Receiver<ScriptEnd>), ExecError>
    {
        self.tell(&words).await?;
        if number == 1 {
            let control = Arc::clone(&self.control);
            tokio::spawn(async move {
                tokio::time::sleep(DISKS_AFTER).await;
                // One that has ended needs none.
                let _ = control.lock().await.write_all(b"disks 0 0 0\n").await;
            });
        }
        let (end, ended) = oneshot::channel();
        let output = stream::unfold(Some((&self.said, end)), move |state| async move {
            let (said, end) = state?;
            let word = said.lock().await.recv().await?;
            match word {
                Said::Output(bytes) => Some((Ok(bytes), Some((said, end)))),
                Said::End(its, how) if its == number => {
                    // Nobody waits for the end of what was given up.
                    let _ = end.send(how);
                    None
                }
                Said::End(..) | Said::Ready => Some((Ok(Bytes::new()), Some((said, end)))),
            }
        });
        Ok((output, ended))
    }

    /// Ends the processes of the script that runs, and the machine if it does not.
    pub(super) fn ender(&self) -> Ender<'_> {
        Ender { guest: self, number: self.number.load(Ordering::Relaxed) }
    }

    /// Comes back when the last script has ended, or the machine has.
    pub(super) async fn idle(&self, process: &Process) {
        let (mut ended, number) = (self.ended.clone(), self.number.load(Ordering::Relaxed));
        tokio::select! {
            _ = ended.wait_for(|last| *last >= number) => {}
            _ = process.ended() => {}
        }
    }

    async fn tell(&self, line: &str) -> Result<(), ExecError> {
        let told = self.control.lock().await.write_all(line.as_bytes()).await;
        told.map_err(|error| infra(format!("the machine's agent cannot be told anything: {error}")))
    }
}

/// Ends one script.
pub(super) struct Ender<'a> {
    guest: &'a Guest,
    number: u32,
}

impl Ender<'_> {
    pub(super) async fn end(&self, process: &Arc<Process>) {
        let (mut ended, process, number) = (self.guest.ended.clone(), Arc::clone(process), self.number);
        if self.guest.tell("end 0 0 0\n").await.is_err() {
            process.kill();
        }
        tokio::spawn(async move {
            let gone = tokio::time::timeout(END_LIMIT, ended.wait_for(|last| *last >= number)).await;
            if !matches!(gone, Ok(Ok(_))) {
                process.kill();
            }
        });
    }
}

async fn listen(mut port: UnixStream, parser: Parser, tell: mpsc::Sender<Said>, ended: watch::Sender<u32>) {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while let Ok(1..) = port.read_buf(&mut buffer).await {
        while let Some(said) = parser.next(&mut buffer) {
            if let Said::End(number, _) = &said {
                ended.send_replace(*number);
            }
            if tell.send(said).await.is_err() {
                return;
            }
        }
        buffer.reserve(64 * 1024);
    }
}

/// Tells the agent's words from output.
struct Parser {
    /// What each of its words begins with.
    head: Vec<u8>,
}

impl Parser {
    fn new(mark: &str) -> Self {
        Self { head: [&[MARK], mark.as_bytes(), b" "].concat() }
    }

    /// The next thing in the buffer that is whole.
    fn next(&self, buffer: &mut BytesMut) -> Option<Said> {
        if buffer.is_empty() {
            return None;
        }
        let Some(at) = buffer.iter().position(|byte| *byte == MARK) else {
            return Some(Said::Output(buffer.split().freeze()));
        };
        if at > 0 {
            return Some(Said::Output(buffer.split_to(at).freeze()));
        }
        let known = buffer.len().min(self.head.len());
        if buffer[..known] != self.head[..known] {
            return Some(Said::Output(buffer.split_to(1).freeze()));
        }
        let Some(end) = buffer.iter().take(WORD_BYTES_MAX).position(|byte| *byte == b'\n') else {
            let whole = buffer.len() >= WORD_BYTES_MAX;
            return whole.then(|| Said::Output(buffer.split_to(1).freeze()));
        };
        let line = buffer.split_to(end + 1);
        let said = word(&String::from_utf8_lossy(&line[self.head.len()..end]));
        Some(said.unwrap_or_else(|| Said::Output(line.freeze())))
    }
}

fn word(text: &str) -> Option<Said> {
    let mut fields = text.split(' ');
    match (fields.next()?, fields.next()?, fields.next()?, fields.next()?) {
        ("ready", ..) => Some(Said::Ready),
        ("end", number, code, ooms) => {
            let end = ScriptEnd { code: code.parse().ok()?, ooms: ooms.parse().unwrap_or(0) };
            Some(Said::End(number.parse().ok()?, end))
        }
        _ => None,
    }
}

/// The disk that a machine reads from us: a sparse file that we add to.
#[derive(Debug, Clone)]
pub(super) struct Input {
    path: PathBuf,
    at: u64,
    bytes: u64,
}

impl Input {
    pub(super) fn create(path: PathBuf, bytes: u64) -> io::Result<Self> {
        File::create(&path)?.set_len(bytes)?;
        Ok(Self { path, at: 0, bytes })
    }

    /// Adds something; gives where it begins in MiB, and how many bytes it has.
    pub(super) async fn put(
        &mut self,
        fill: impl FnOnce(&mut File) -> io::Result<()> + Send + 'static,
    ) -> Result<(u64, u64), ExecError> {
        let (path, at, most) = (self.path.clone(), self.at, self.bytes);
        let filled = tokio::task::spawn_blocking(move || {
            let mut file = File::options().write(true).open(path)?;
            file.seek(SeekFrom::Start(at))?;
            fill(&mut file)?;
            let end = file.stream_position()?;
            // The device must not grow: the machine would not see it.
            file.set_len(most)?;
            Ok::<_, io::Error>(end)
        });
        let end = filled.await.map_err(infra)?.map_err(infra)?;
        if end > self.bytes {
            let message = format!("the files for the machine have more than {} bytes", self.bytes);
            return Err(ExecError::BadTask(message));
        }
        self.at = end.next_multiple_of(STEP);
        Ok((at >> 20, end - at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_output() {
        let check = |chunks: &[&[u8]], expect: &[Said]| {
            let parser = Parser::new("m1");
            let mut buffer = BytesMut::new();
            let mut got: Vec<Said> = Vec::new();
            for chunk in chunks {
                buffer.extend_from_slice(chunk);
                while let Some(said) = parser.next(&mut buffer) {
                    match (got.last_mut(), said) {
                        (Some(Said::Output(last)), Said::Output(more)) => {
                            *last = [&last[..], &more[..]].concat().into();
                        }
                        (_, said) => got.push(said),
                    }
                }
            }
            assert_eq!(got, expect);
        };
        let output = |text: &'static str| Said::Output(Bytes::from_static(text.as_bytes()));
        let end = |number, code| Said::End(number, ScriptEnd { code, ooms: 0 });
        check(&[b"\x1em1 ready 0 0 0\n"], &[Said::Ready]);
        check(&[b"a\nb\x1em", b"1 end 7 ", b"3 0\nmore"], &[output("a\nb"), end(7, 3), output("more")]);
        check(&[b"\x1em2 end 1 0 0\n"], &[output("\x1em2 end 1 0 0\n")]);
        check(&[b"\x1e", b"\x1e\x1em1 end 1 0 0\n"], &[output("\x1e\x1e"), end(1, 0)]);
        check(&[b"\x1em1 what 1 0 0\n"], &[output("\x1em1 what 1 0 0\n")]);
        let long = [b"\x1em1 ".as_slice(), &[b'x'; 300]].concat();
        let text: &'static str = Box::leak(String::from_utf8(long.clone()).unwrap().into_boxed_str());
        check(&[&long], &[output(text)]);
    }
}
