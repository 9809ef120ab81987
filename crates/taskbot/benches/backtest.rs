//! `taskbot rule backtest` of a thousand rules over a million recorded events, on two threads, against a bare program
//! that reads the same dump on as many threads and parses each line.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "its results go to standard output")]

#[path = "../../rules/benches/rules/files.rs"]
mod files;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/quantile.rs"]
mod quantile;
#[path = "../../rules/benches/rules/random.rs"]
mod random;
#[path = "../../rules/benches/rules/workload.rs"]
#[expect(dead_code, reason = "its events are what the other benchmark judges in memory")]
mod workload;

use measure::print;
use quantile::median;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    hint::black_box,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Instant,
};
use workload::Workload;

/// How many events are recorded. Their bodies come again and again, their ids do not.
const EVENTS: usize = 1_000_000;
/// How many rules there are.
const RULES: usize = 1_000;
/// How many of them match one event, about: many rules, few of which each event sets off, and the mix of `bench rules`,
/// in which each event makes several tasks.
const MATCHES: [f64; 2] = [1.0, 8.0];
const THREADS: usize = 2;
/// How often the bare program runs.
const ROUNDS: usize = 3;
/// How many bytes of lines the bare program takes at a time.
const BATCH_BYTES: usize = 512 * 1024;
/// How many events come in an hour of the recorded history.
const PER_HOUR: usize = 6_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump.jsonl");
    let workload = Workload::new();
    record(&workload, &dump);
    let floor = median((0..ROUNDS).map(|_| bare(&dump)).collect());
    for matches in MATCHES {
        let rules = folder.path().join(format!("rules-{matches}"));
        fs::create_dir(&rules).unwrap();
        for (path, text) in files::texts(&workload.rules(RULES, matches)) {
            fs::write(rules.join(path), text).unwrap();
        }
        let begun = Instant::now();
        let found = backtest(&rules, &dump);
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(found["events"], json!(EVENTS), "all events are judged");
        let per_event = found["tasks"].as_f64().unwrap() / 1e6;
        let name = format!("backtest, 1,000,000 events, 1,000 rules, {per_event:.1} tasks/event");
        print(&name, took, "s", Some(floor));
    }
}

/// Writes the dump, as recorders do.
fn record(workload: &Workload, dump: &Path) {
    let mut out = BufWriter::with_capacity(BATCH_BYTES, File::create(dump).unwrap());
    for (at, message) in workload.messages.iter().cycle().take(EVENTS).enumerate() {
        let hours = i64::try_from(at / PER_HOUR).unwrap();
        let sent_at = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(490_000 + hours);
        let (topic, body) = (&message["topic"], &message["body"]);
        let headers = json!({"sent-at": sent_at.to_rfc3339(), "message-id": format!("2025-{at:08x}")});
        writeln!(out, r#"{{"id": "2025-{at:08x}", "topic": {topic}, "headers": {headers}, "body": {body}}}"#)
            .unwrap();
    }
    out.flush().unwrap();
}

/// How many seconds it takes to read the dump and to parse its lines, on as many threads.
fn bare(dump: &Path) -> f64 {
    let begun = Instant::now();
    let input = Mutex::new(BufReader::with_capacity(BATCH_BYTES, File::open(dump).unwrap()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let mut lines = Vec::with_capacity(2 * BATCH_BYTES);
                    {
                        let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
                        while lines.len() < BATCH_BYTES && input.read_until(b'\n', &mut lines).unwrap() > 0 {}
                    }
                    if lines.is_empty() {
                        return;
                    }
                    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                        black_box(serde_json::from_slice::<Value>(line).unwrap());
                    }
                }
            });
        }
    });
    begun.elapsed().as_secs_f64()
}

fn backtest(rules: &Path, dump: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbot"));
    command.args(["rule", "backtest", "--jobs", &THREADS.to_string(), "-o", "json", "--dump"]);
    let output = command.arg(dump).arg(rules).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
