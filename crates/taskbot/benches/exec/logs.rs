//! A task's output from its process into the kept log, against a program whose output is read from a pipe and
//! written to a file.

use crate::{measure::print, quantile::median};
use model::{
    Clock, Ids, SystemClock, SystemIds, TaskId, WorkerName,
    task::Trust,
    task_file::{Environment, HostWish, Relaxed, Sizes},
};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use worker::{
    executor::{
        Allow, AttemptLabel, ExecRequest, Executor, Exit, HostConfig, Local, Profile, ProvisionRequest,
        SizeLimits,
    },
    logs::{
        AttemptLog,
        spool::{Spool, SpoolLimits},
    },
};

const ROUNDS: usize = 7;
const WARM_UP: usize = 1;
/// How much is written, and by lines of which length: what compilers and test suites write.
const OUTPUT_BYTES: usize = 48 << 20;
const LINE_BYTES: usize = 80;

pub(crate) async fn run() {
    let temp = tempfile::tempdir().unwrap();
    let input = temp.path().join("output");
    let line = format!("{}\n", "x".repeat(LINE_BYTES - 1));
    fs::write(&input, line.repeat(OUTPUT_BYTES / LINE_BYTES)).unwrap();
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let bare = bare(&input, &temp.path().join("kept"));
        let ours = ours(&input, temp.path()).await;
        if round >= WARM_UP {
            times.iter_mut().zip([bare, ours]).for_each(|(times, took)| times.push(took));
        }
    }
    let [bare, ours] = times.map(median).map(|seconds| 48.0 / seconds);
    print("log throughput", ours, "MiB/s", Some(bare));
}

/// Seconds by a bare pipe into a file.
fn bare(input: &Path, kept: &Path) -> f64 {
    let begun = Instant::now();
    let mut child = Command::new("cat").arg(input).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut file = fs::File::create(kept).unwrap();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match output.read(&mut chunk).unwrap() {
            0 => break,
            count => file.write_all(&chunk[..count]).unwrap(),
        }
    }
    assert!(child.wait().unwrap().success());
    begun.elapsed().as_secs_f64()
}

/// Seconds by an attempt's command into an attempt's log.
async fn ours(input: &Path, folder: &Path) -> f64 {
    let host = HostConfig {
        worker: WorkerName::new("bench"),
        folder: folder.join("attempts"),
        sizes: SizeLimits::default(),
        allow: Allow::default(),
    };
    let local = Local::new(host, true, Arc::new(SystemClock));
    let label =
        AttemptLabel { worker: WorkerName::new("bench"), task: TaskId::new(SystemIds.next()), attempt: 1 };
    let wish = HostWish { programs: Vec::new(), sizes: Sizes::default(), relaxed: Relaxed::default() };
    let kept = folder.join("log");
    let spool = Arc::new(Spool::create(&kept, SpoolLimits::default()).unwrap());
    let into = Arc::clone(&spool);
    let log = AttemptLog::new(Arc::new(SystemClock), Box::new(move |bytes| into.append(bytes)));
    let request = ProvisionRequest {
        label: &label,
        environment: &Environment::Local(wish),
        trust: Trust::Trusted,
        limit: Duration::from_secs(60),
        deadline: SystemClock.now() + Duration::from_secs(600),
    };
    let stop = CancellationToken::new();
    let mut place = local.provision(&request, &log, &stop).await.unwrap();
    let (lines, env) = ([format!("cat {}", input.display())], BTreeMap::new());
    let limit = Duration::from_secs(60);
    let request = ExecRequest { profile: Profile::Run, lines: &lines, dir: "", env: &env, limit, idle: None };
    let begun = Instant::now();
    assert_eq!(place.exec(&request, &log, &stop).await.unwrap(), Exit::Code(0));
    spool.seal();
    let took = begun.elapsed().as_secs_f64();
    place.destroy().await.unwrap();
    fs::remove_dir_all(kept).unwrap();
    took
}
