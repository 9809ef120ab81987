//! What the program costs before it has anything to do: from the start of `taskbot up`, with everything embedded,
//! until it is ready, and the memory that it then holds.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "its results go to standard output")]

#[path = "common/measure.rs"]
mod measure;
#[path = "common/quantile.rs"]
mod quantile;

use measure::print;
use quantile::median;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const ROUNDS: usize = 7;
/// How often is asked whether it is ready; the figures are too high by half of it.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// Nothing takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it has nothing to do before its memory is read: its own periodic work has gone round by then.
const IDLE: Duration = Duration::from_secs(8);

fn main() {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    let mut memory = Vec::new();
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let (took, mut program) = started(folder.path());
        first.push(took);
        end(&mut program);
        let (took, mut program) = started(folder.path());
        again.push(took);
        if round == 0 {
            std::thread::sleep(IDLE);
            memory.push(resident_megabytes(program.id()));
        }
        end(&mut program);
    }
    print("start in a new folder until ready", median(first), "ms", None);
    print("start in a used folder until ready", median(again), "ms", None);
    print("memory of an idle `taskbot up`", median(memory), "MB", None);
}

/// Starts it; how many milliseconds it took to be ready.
fn started(folder: &Path) -> (f64, Child) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbot"));
    command.args(["--log", "off", "up", "--listen", &address.to_string(), "--data-dir"]).arg(folder);
    let program = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !ready(address) {
        assert!(begun.elapsed() < PATIENCE, "it did not become ready");
        std::thread::sleep(ASK_EVERY);
    }
    (begun.elapsed().as_secs_f64() * 1000.0, program)
}

fn ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    stream.write_all(request).is_ok()
        && stream.read_to_end(&mut answer).is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}

fn resident_megabytes(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes / 1024.0
}

/// As an operator ends it.
fn end(program: &mut Child) {
    let signalled = Command::new("kill").arg(program.id().to_string()).status().unwrap();
    assert!(signalled.success());
    program.wait().unwrap();
}
