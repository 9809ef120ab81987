//! Environments of failed attempts, kept for a person.

use crate::common::{clock, until};
use crate::engine;
use model::{
    SystemClock, SystemIds, TaskId,
    attempt::AttemptRef,
    protocol::{AttemptEnd, Held},
    task::Trust,
    task_file,
};
use serde_json::Map;
use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use taskbot_worker::{
    config::{FetchConfig, RunConfig},
    executor::{
        Allow, ContainerConfig, Containers, Executor, HostConfig, Local, Sandbox, SandboxConfig, SizeLimits,
        UIDS,
    },
    fetch::Fetcher,
    logs::AttemptLog,
    runner::{Control, Folders, Job, Runner, Source},
};

struct Bench {
    here: tempfile::TempDir,
    log: Arc<Mutex<Vec<u8>>>,
    job: Job,
    runner: Runner,
}

impl Bench {
    fn new(executor: &str, run: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let here = temp.path();
        std::fs::create_dir_all(here.join("repo")).unwrap();
        let yaml = format!("name: t\nenvironment: {{{executor}: {{}}}}\nrun: {run}\n");
        let (file, _) = task_file::parse("task.yaml", &yaml).unwrap();
        let id = model::Ids::secret(&SystemIds);
        let id = TaskId::new(uuid::Uuid::from_bytes(<[u8; 16]>::try_from(&id[..16]).unwrap()));
        let job = Job {
            held: Held { task: id, attempt: AttemptRef { attempt: 1, fence: 1 } },
            name: "t".into(),
            item: None,
            inputs: Map::new(),
            trust: Trust::Trusted,
            secrets: Vec::new(),
            file,
            source: Source::Folder(here.join("repo")),
            dir: String::new(),
            hold: Some(Duration::from_secs(600)),
            timeout_cap: None,
            traceparent: None,
        };
        let fetch = FetchConfig { cache_dir: here.join("fetch"), ..FetchConfig::default() };
        let runner = Runner {
            worker: "w".into(),
            config: RunConfig { fetch: fetch.clone(), ..RunConfig::default() },
            executors: vec![of_kind(executor, here)],
            git: crate::attempt::git(here),
            fetcher: Arc::new(Fetcher::new(&fetch, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap()),
            clock: clock(),
        };
        Self { here: temp, log: Arc::default(), job, runner }
    }

    /// The task lies in a folder of its repository, where its commands start: a person does so too.
    fn in_folder(mut self) -> Self {
        self.job.dir = "a task/it's".to_owned();
        std::fs::create_dir_all(self.here.path().join("repo").join(&self.job.dir)).unwrap();
        self
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    /// Runs it; `meet` is called with how to get in once it is held. Gives the outcome.
    async fn run(&self, control: &Control, meet: impl AsyncFnOnce(String)) -> String {
        let here = self.here.path();
        let folders = Folders { work: here.join("work"), output: here.join("out") };
        std::fs::create_dir(&folders.work).unwrap();
        let log = Arc::clone(&self.log);
        let out = Box::new(move |bytes: &[u8]| log.lock().unwrap().extend_from_slice(bytes));
        let log = AttemptLog::new(clock(), out);
        let running = self.runner.run_attempt(&self.job, &folders, &log, control);
        let meeting = async {
            until("it is held or over", async || {
                control.kept().is_some() || self.log().contains("=== cleanup")
            })
            .await;
            if let Some(kept) = control.kept() {
                meet(kept.enter.join("\n")).await;
            }
        };
        let (ended, ()) = tokio::join!(running, meeting);
        let AttemptEnd::Outcome { outcome, .. } = ended.finish.end else { panic!("{ended:?}") };
        let left = std::fs::read_dir(here.join("attempts")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing is left of the environment");
        outcome.to_string()
    }
}

fn of_kind(kind: &str, here: &Path) -> Arc<dyn Executor> {
    let (sizes, allow) = (SizeLimits::default(), Allow::default());
    let host = HostConfig { worker: "w".into(), folder: here.join("attempts"), sizes, allow };
    match kind {
        "local" => Arc::new(Local::new(host, false, clock())),
        "sandbox" => Arc::new(Sandbox::new(SandboxConfig { host, binds: Vec::new(), uids: UIDS }, clock())),
        _ => {
            let socket = engine::socket(engine::Kind::Docker);
            let mut config = ContainerConfig::new("w".into(), vec![socket], here.join("layers"));
            config.default_image = Some(engine::image());
            Arc::new(Containers::new(config, clock()))
        }
    }
}

fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_person_gets_into_a_container_of_a_failed_attempt() {
    let bench = Bench::new("container", "'echo evidence > found; exit 1'").in_folder();
    let control = Control::default();
    let outcome = bench
        .run(&control, async |enter| {
            // There is no terminal in a test.
            let line = format!("{} -c 'cat found; id -u'", enter.replace(" -it ", " "));
            assert_eq!(shell(&line), "evidence\n65534\n", "{line}");
            control.end_hold();
        })
        .await;
    assert_eq!(outcome, "failed");
    let log = bench.log();
    assert!(log.contains("=== hold ===") && log.contains("taskbot task unhold"), "{log}");
    assert!(log.contains("docker --host unix://") && log.contains("the hold is over"), "{log}");
    let socket = engine::socket(engine::Kind::Docker);
    let name = format!("docker --host unix://{} ps -a | grep {}", socket.display(), bench.job.held.task);
    assert_eq!(shell(&name), "", "nothing is left");
}

#[tokio::test]
async fn a_person_finds_the_work_folder_of_a_failed_attempt() {
    for kind in ["sandbox", "local"] {
        let bench = Bench::new(kind, "'echo evidence > found; exit 1'").in_folder();
        let control = Control::default();
        let outcome = bench
            .run(&control, async |enter| {
                assert_eq!(shell(&format!("{enter} && cat found")), "evidence\n", "{enter}");
                // A cancelled task is not held either.
                control.stop(taskbot_worker::runner::StopWhy::Killed);
            })
            .await;
        assert_eq!(outcome, "failed", "the verdict was there before");
    }
}

#[tokio::test]
async fn what_is_not_held() {
    let never = async |_: String| panic!("it is held");
    let control = Control::default;
    let passed = Bench::new("sandbox", "'true'");
    assert_eq!(passed.run(&control(), never).await, "passed");
    let mut unasked = Bench::new("sandbox", "'false'");
    unasked.job.hold = None;
    assert_eq!(unasked.run(&control(), never).await, "failed");
    let mut stranger = Bench::new("sandbox", "'false'");
    stranger.job.trust = Trust::Untrusted;
    assert_eq!(stranger.run(&control(), never).await, "failed");
    assert!(stranger.log().contains("not held: the task is not trusted"), "{}", stranger.log());
    let retried = Bench::new("sandbox", "sleep 60\ntimeout: {run: 1s}\nretry: {on: [timeout], max: 1}");
    assert_eq!(retried.run(&control(), never).await, "error(timeout)");
    // The worker's own limit ends it, and a stranger's is held where the configuration says so.
    let mut short = Bench::new("sandbox", "'false'");
    short.job.trust = Trust::Untrusted;
    short.runner.config.hold_untrusted = true;
    short.runner.config.hold_max = Duration::from_millis(300);
    assert_eq!(short.run(&control(), async |_| ()).await, "failed");
    assert!(short.log().contains("the hold is over"), "{}", short.log());
}
