//! Cancelled and timed out in every phase of every executor: its processes are dead soon, then `cleanup` runs
//! within a limit of its own, and the reason is right.

use super::{ON_THIS_HOST, Stand, Went, executor, is_full, random};
use crate::common::{processes, until};
use model::{
    Phase, TaskId,
    attempt::AttemptRef,
    protocol::Held,
    requirements::ExecutorKind,
    task::{Repo, Stop, Trust},
    task_file,
};
use serde_json::Map;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use taskbot_worker::{
    config::FetchConfig,
    executor::{ContainerConfig, Containers, kvm_works},
    fetch::Fetcher,
    git::{GitCache, GitConfig, Protocol},
    logs::AttemptLog,
    runner::{Control, Folders, Job, Source, StopWhy},
};

/// Within this its processes must be dead.
const DEAD_WITHIN: Duration = Duration::from_secs(10);
/// What ignores every wish to end; it sleeps for a time that no other test does.
const STUBBORN: &str = "trap '' TERM INT HUP; echo begun; (trap '' TERM; while :; do sleep TIME; done) & while :; do sleep TIME; done";

/// Where an attempt hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hangs {
    Provision,
    Checkout,
    Fetch,
    Boot,
    Prepare,
    Run,
    Collect,
    Report,
    Cleanup,
}

impl Hangs {
    const fn phase(self) -> Phase {
        match self {
            Self::Provision => Phase::Provision,
            Self::Checkout => Phase::Checkout,
            Self::Fetch => Phase::Fetch,
            Self::Boot | Self::Prepare => Phase::Prepare,
            Self::Run => Phase::Run,
            Self::Collect => Phase::Collect,
            Self::Report => Phase::Report,
            Self::Cleanup => Phase::Cleanup,
        }
    }

    /// Whether anything of the task was run, so that `cleanup` is due.
    const fn has_begun(self) -> bool {
        !matches!(self, Self::Provision | Self::Checkout | Self::Fetch)
    }

    /// Whether its own commands are what hangs.
    const fn runs_commands(self) -> bool {
        matches!(self, Self::Prepare | Self::Run | Self::Cleanup)
    }
}

/// What ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cancel,
    Timeout,
}

/// A worker whose source of files, and whose engine if need be, never answer.
struct Silence {
    listener: TcpListener,
}

impl Silence {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }
}

fn cancelled() -> StopWhy {
    StopWhy::Ordered(Stop::Cancel { who: "me".into(), why: Some("no need".into()) })
}

async fn check(kind: ExecutorKind, hangs: Hangs, ending: Ending, number: usize) {
    let case = format!("{kind}, {hangs:?}, {ending:?}");
    let silence = Silence::new();
    let mut stand = Stand::new(kind);
    let elsewhere = tempfile::tempdir().unwrap();
    let engine = elsewhere.path().join("engine.sock");
    let _engine = std::os::unix::net::UnixListener::bind(&engine).unwrap();
    let honest = stand.runner.executors.clone();
    if hangs == Hangs::Provision {
        let config = ContainerConfig::new(
            stand.worker.as_str().into(),
            vec![engine],
            stand.here.path().join("layers"),
        );
        stand.runner.executors = vec![Arc::new(Containers::new(config, Arc::clone(&stand.runner.clock)))];
    }
    let hosts = GitConfig {
        protocols: vec![Protocol::Http],
        hosts: vec!["127.0.0.1".to_owned()],
        local_roots: vec![stand.here.path().to_owned()],
        ..GitConfig::default()
    };
    stand.runner.git = Arc::new(GitCache::new(stand.here.path().join("mirrors"), hosts).unwrap());
    let fetch = FetchConfig {
        cache_dir: stand.here.path().join("fetch"),
        private_hosts: BTreeSet::from(["127.0.0.1".to_owned()]),
        ..FetchConfig::default()
    };
    let ids = Arc::new(model::SystemIds);
    stand.runner.fetcher = Arc::new(Fetcher::new(&fetch, Arc::clone(&stand.runner.clock), ids).unwrap());
    let time = format!("6{number:03}.5");
    let job = job(&stand, hangs, ending, &time, &silence);
    let control = Arc::new(Control::default());
    let log = Arc::new(Mutex::new(Vec::new()));
    let at = tempfile::Builder::new().prefix("job-").tempdir_in(stand.here.path()).unwrap();
    let folders = Folders { work: at.path().join("work"), output: at.path().join("output") };
    fs::create_dir_all(&folders.work).unwrap();
    let (kept, hand) = (Arc::clone(&log), Arc::clone(&control));
    // What is over soon is stopped by its own first word.
    let begins = format!("=== {} ===", hangs.phase());
    let at_once = ending == Ending::Cancel && matches!(hangs, Hangs::Collect | Hangs::Report);
    let out = Box::new(move |bytes: &[u8]| {
        kept.lock().unwrap().extend_from_slice(bytes);
        if at_once && String::from_utf8_lossy(bytes).contains(&begins) {
            hand.stop(cancelled());
        }
    });
    let attempt_log = AttemptLog::new(Arc::clone(&stand.runner.clock), out);
    let said = |text: &str| String::from_utf8_lossy(&log.lock().unwrap()).contains(text);
    let (ended, stopped) = tokio::join!(
        async { (stand.runner.run_attempt(&job, &folders, &attempt_log, &control).await, Instant::now()) },
        async {
            let began = async || {
                control.phase() >= hangs.phase()
                    && (!hangs.runs_commands() || said("begun"))
                    && (hangs != Hangs::Boot || said("booting"))
            };
            until(&format!("{case}: it hangs"), began).await;
            if ending == Ending::Timeout {
                return Instant::now();
            }
            control.stop(cancelled());
            let stopped = Instant::now();
            if hangs.runs_commands() && hangs != Hangs::Cleanup {
                until(&format!("{case}: its processes are dead"), async || {
                    processes(&format!("sleep\0{time}")) == 0
                })
                .await;
                assert!(stopped.elapsed() < DEAD_WITHIN, "{case}: dead only after {:?}", stopped.elapsed());
            }
            stopped
        }
    );
    let (ended, over) = ended;
    let took = over.duration_since(stopped);
    let text = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    let went = Went { ended, log: text, took };
    let (outcome, reason) = went.outcome();
    let expect = match (ending, hangs) {
        // A verdict that is there already stays one.
        (_, Hangs::Cleanup) => ("passed", String::new()),
        (Ending::Cancel, _) => ("error(task)", "cancelled by me: no need".to_owned()),
        (Ending::Timeout, Hangs::Provision) => {
            ("error(infra)", "not provided within its time limit".to_owned())
        }
        (Ending::Timeout, Hangs::Boot) => ("error(timeout)", "booting: it took too long".to_owned()),
        (Ending::Timeout, _) => {
            let factor = if kind == ExecutorKind::Vm { 4 } else { 1 };
            (
                "error(timeout)",
                format!("{} took longer than", hangs.phase())
                    + &if hangs.runs_commands() { format!(" its limit of {factor}s") } else { String::new() },
            )
        }
    };
    assert_eq!(outcome, expect.0, "{case}: {reason}\n{}", went.log);
    assert!(reason.contains(&expect.1), "{case}: `{}` is not in `{reason}`", expect.1);
    // Its limit was a second, grown by the factor of its machine.
    let patience = DEAD_WITHIN + Duration::from_secs(if kind == ExecutorKind::Vm { 30 } else { 5 });
    assert!(took < patience, "{case}: ended only after {took:?}\n{}", went.log);
    let last = went.ended.finish.phases.last();
    if hangs == Hangs::Cleanup {
        let error = last.and_then(|last| last.error.clone()).unwrap_or_default();
        assert!(error.contains("cleanup took longer than its limit of"), "{case}: {error}");
    } else if hangs.has_begun() && hangs != Hangs::Boot {
        assert!(went.log.contains("cleaned up"), "{case}: `cleanup` did not run\n{}", went.log);
    }
    assert_eq!(processes(&format!("sleep\0{time}")), 0, "{case}");
    if hangs == Hangs::Provision {
        stand.runner.executors = honest;
    }
    let traces = stand.traces().await;
    assert!(traces.is_empty(), "{case}: {traces:?}");
}

fn job(stand: &Stand, hangs: Hangs, ending: Ending, time: &str, silence: &Silence) -> Job {
    let stubborn = STUBBORN.replace("TIME", time);
    let line =
        |here: Hangs, otherwise: &str| if hangs == here { stubborn.clone() } else { otherwise.to_owned() };
    // Only what is to end by its time limit gets a short one; `cleanup` always has its own.
    let short = |here: Hangs| if hangs == here && ending == Ending::Timeout { "1s" } else { "5m" };
    let many = match hangs {
        Hangs::Collect => "i=0; while [ $i -lt 300 ]; do echo $i > \"$TASKBOT_OUTPUT/$i\"; i=$((i+1)); done",
        Hangs::Report => {
            "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo \"ok $i - a test\"; done > r.tap; echo 1..2000 >> r.tap"
        }
        _ => "echo ran",
    };
    let results = if hangs == Hangs::Report { "results: {format: tap, path: r.tap}\n" } else { "" };
    let fetch = if hangs == Hangs::Fetch {
        format!("fetch: [{{url: 'http://{}/x', to: in/}}]\n", silence.address())
    } else {
        String::new()
    };
    let provision = if matches!(hangs, Hangs::Provision | Hangs::Checkout) { short(hangs) } else { "5m" };
    let mut environment = stand.environment();
    if hangs == Hangs::Boot && ending == Ending::Timeout {
        environment = environment.replace("vm: {", "vm: {boot: 100ms, ");
    }
    let yaml = format!(
        "name: t\nenvironment: {environment}\n{fetch}{results}prepare: |\n  {}\nrun: |\n  {}\ncleanup: |\n  {}\n\
         timeout: {{provision: {provision}, fetch: {}, prepare: {}, run: {}, cleanup: {}}}\n",
        line(Hangs::Prepare, "true"),
        line(Hangs::Run, many),
        line(Hangs::Cleanup, "echo cleaned up"),
        short(Hangs::Fetch),
        short(Hangs::Prepare),
        short(Hangs::Run),
        if hangs == Hangs::Cleanup { "1s" } else { "20s" },
    );
    let (file, _) = task_file::parse("task.yaml", &yaml).unwrap_or_else(|report| panic!("{report}\n{yaml}"));
    let source = if hangs == Hangs::Checkout {
        let repo = Repo { git: format!("http://{}/x.git", silence.address()), reference: None, path: None };
        Source::Git { repo, commit: "0".repeat(40) }
    } else {
        Source::Folder(stand.repository("run: 'true'", &[]))
    };
    Job {
        held: Held {
            task: TaskId::new(uuid::Uuid::from_bytes(random())),
            attempt: AttemptRef { attempt: 1, fence: 1 },
        },
        name: "t".into(),
        item: None,
        inputs: Map::new(),
        trust: Trust::Untrusted,
        secrets: Vec::new(),
        file,
        source,
        dir: String::new(),
        hold: None,
        timeout_cap: None,
        traceparent: None,
    }
}

#[tokio::test]
async fn every_phase_ends_when_it_is_told_to() {
    use {
        Ending::{Cancel, Timeout},
        Hangs::{Checkout, Cleanup, Collect, Fetch, Prepare, Provision, Report, Run},
    };
    let table = [
        (Checkout, &[Cancel, Timeout][..]),
        (Fetch, &[Cancel, Timeout]),
        (Prepare, &[Cancel, Timeout]),
        (Run, &[Cancel, Timeout]),
        // What the worker itself does has no time of the task's.
        (Collect, &[Cancel]),
        (Report, &[Cancel]),
        // Nothing cancels what cleans up, but its time limit.
        (Cleanup, &[Timeout]),
    ];
    // Executors side by side: most of the time is waiting.
    let of = async |n: usize, kind: ExecutorKind| {
        for (m, (hangs, endings)) in table.into_iter().enumerate() {
            for (l, ending) in endings.iter().enumerate() {
                check(kind, hangs, *ending, n * 100 + m * 10 + l).await;
            }
        }
    };
    let [container, sandbox, local] = ON_THIS_HOST;
    tokio::join!(of(0, container), of(1, sandbox), of(2, local));
    for ending in [Cancel, Timeout] {
        check(ExecutorKind::Container, Provision, ending, 900).await;
    }
}

#[tokio::test]
async fn every_phase_of_a_machine_ends_when_it_is_told_to() {
    use {
        Ending::{Cancel, Timeout},
        Hangs::{Boot, Checkout, Fetch, Prepare, Run},
    };
    let short = [
        (Boot, Cancel),
        (Boot, Timeout),
        (Fetch, Cancel),
        (Checkout, Timeout),
        (Run, Cancel),
        (Run, Timeout),
    ];
    let long = [(Prepare, Cancel), (Prepare, Timeout), (Hangs::Cleanup, Timeout)];
    let long = long.into_iter().filter(|_| is_full());
    for (n, (hangs, ending)) in short.into_iter().chain(long).enumerate() {
        check(ExecutorKind::Vm, hangs, ending, 800 + n).await;
    }
}

/// Where KVM hangs, the guest that finds it out never ends: what starts it does.
#[tokio::test]
async fn the_probe_for_kvm_ends() {
    let found = tokio::time::timeout(Duration::from_secs(25), kvm_works()).await.unwrap();
    assert!(found.is_ok() || found.as_ref().is_err_and(|why| !why.is_empty()), "{found:?}");
}

/// A worker that is made to stop at once does not wait for `cleanup`.
#[tokio::test]
async fn cleaning_up_is_cut_short_by_a_kill() {
    for kind in ON_THIS_HOST {
        let stand = Stand::new(kind);
        let repo =
            stand.repository("run: 'true'\ncleanup: 'echo begun; sleep 6999.5'\ntimeout: {cleanup: 5m}", &[]);
        let kill = tokio_util::sync::CancellationToken::new();
        let (control, log) = (Control::new(kill.clone()), Arc::new(Mutex::new(Vec::new())));
        let killer = async {
            until("cleanup hangs", async || String::from_utf8_lossy(&log.lock().unwrap()).contains("begun"))
                .await;
            kill.cancel();
            Instant::now()
        };
        let (went, killed) = tokio::join!(stand.run_folder(&repo, &control, &log), killer);
        assert!(killed.elapsed() < DEAD_WITHIN, "{kind}: {:?}", killed.elapsed());
        went.is("passed", "");
        assert_eq!(processes("sleep\x006999.5"), 0);
        let _ = executor(kind, stand.here.path(), &stand.worker);
        stand.clean().await;
    }
}
