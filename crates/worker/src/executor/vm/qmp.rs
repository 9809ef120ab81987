//! QEMU's control socket: commands with their answers, and the events in between, which are always drained.

use super::super::ExecError;
use super::super::host::infra;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, mpsc, watch},
    time::{sleep, timeout},
};

/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(15);
/// How long QEMU may take to make its sockets.
pub(super) const SOCKET_LIMIT: Duration = Duration::from_secs(30);
/// The longest line of an answer, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// How many answers may wait to be taken.
const ANSWERS_MAX: usize = 16;

/// A reset brings more of them, by the firmware itself: within this time they are one, in milliseconds.
const ONE_RESET_MS: i64 = 3000;

/// What QEMU told of its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How often the guest reset it.
    pub(super) resets: u32,
    /// When it did so last, in milliseconds since 1970.
    last_reset_ms: i64,
    /// Why it was shut down, in QEMU's words.
    pub(super) shutdown: Option<String>,
    /// The guest said that its kernel panicked.
    pub(super) panicked: bool,
}

/// A connection.
pub(super) struct Qmp {
    wire: Mutex<(OwnedWriteHalf, mpsc::Receiver<Value>)>,
    pub(super) seen: watch::Receiver<Seen>,
}

/// Connects to a socket that QEMU is about to make.
pub(super) async fn connect(path: &Path) -> Result<UnixStream, ExecError> {
    let connecting = async {
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(SOCKET_LIMIT, connecting).await.map_err(|_| infra("QEMU does not open its sockets"))
}

impl Qmp {
    pub(super) async fn open(path: &Path) -> Result<Self, ExecError> {
        let (read, write) = connect(path).await?.into_split();
        let (answer, answers) = mpsc::channel(ANSWERS_MAX);
        let (tell, seen) = watch::channel(Seen::default());
        tokio::spawn(drain(read, answer, tell));
        let qmp = Self { wire: Mutex::new((write, answers)), seen };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs a command.
    pub(super) async fn execute(&self, command: &str, arguments: Value) -> Result<Value, ExecError> {
        let mut wire = self.wire.lock().await;
        let (write, answers) = &mut *wire;
        // An answer that came too late for its command is not ours.
        while answers.try_recv().is_ok() {}
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        let asked = async {
            write.write_all(line.as_bytes()).await.ok()?;
            answers.recv().await
        };
        let answer = timeout(COMMAND_LIMIT, asked).await;
        let answer = answer.map_err(|_| infra(format!("QEMU does not answer {command}")))?;
        let answer = answer.ok_or_else(|| infra(format!("QEMU ended at {command}")))?;
        match answer.get("error") {
            Some(error) => Err(infra(format!("QEMU refuses {command}: {error}"))),
            None => Ok(answer.get("return").cloned().unwrap_or_default()),
        }
    }
}

async fn drain(read: OwnedReadHalf, answer: mpsc::Sender<Value>, tell: watch::Sender<Seen>) {
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut read).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
        if let Some(event) = message.get("event").and_then(Value::as_str) {
            tell.send_modify(|seen| note(seen, event, &message));
        } else if message.get("QMP").is_none() && answer.try_send(message).is_err() {
            tracing::warn!("an answer of QEMU that nobody waits for");
        }
    }
}

fn note(seen: &mut Seen, event: &str, message: &Value) {
    let data = |name: &str| message.get("data").and_then(|data| data.get(name));
    match event {
        "RESET" if data("guest") == Some(&Value::Bool(true)) => {
            let time = |unit: &str| message.pointer(unit).and_then(Value::as_i64).unwrap_or(0);
            let now_ms = time("/timestamp/seconds") * 1000 + time("/timestamp/microseconds") / 1000;
            if now_ms - seen.last_reset_ms > ONE_RESET_MS {
                seen.last_reset_ms = now_ms;
                seen.resets += 1;
            }
        }
        "SHUTDOWN" => {
            let reason = data("reason").and_then(Value::as_str).unwrap_or("unknown");
            seen.shutdown = Some(reason.to_owned());
        }
        "GUEST_PANICKED" => seen.panicked = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_s_own_resets_are_part_of_one() {
        let mut seen = Seen::default();
        let mut reset = |seconds: i64, micros: i64, guest: bool| {
            let time = json!({"seconds": seconds, "microseconds": micros});
            let message = json!({"event": "RESET", "timestamp": time, "data": {"guest": guest}});
            note(&mut seen, "RESET", &message);
            seen.resets
        };
        assert_eq!(reset(1_795_249_776, 441_238, true), 1);
        assert_eq!(reset(1_795_249_776, 523_941, true), 1);
        assert_eq!(reset(1_795_249_784, 253_033, true), 2);
        assert_eq!(reset(1_795_249_799, 0, false), 2);
        note(&mut seen, "SHUTDOWN", &json!({"data": {"reason": "guest-shutdown"}}));
        assert_eq!(seen.shutdown.as_deref(), Some("guest-shutdown"));
    }
}
