//! Attempts from the task file to the end, on this host and in the sandbox.

use model::{
    Outcome, Phase, SystemClock, SystemIds, TaskId,
    attempt::AttemptRef,
    protocol::{AttemptEnd, Held},
    task::{Repo, Stop, Trust},
    task_file,
};
use serde_json::{Map, Value, json};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use taskbot_worker::{
    config::{FetchConfig, RunConfig},
    executor::{Allow, Executor, HostConfig, Local, Sandbox, SandboxConfig, SizeLimits, UIDS},
    fetch::Fetcher,
    git::{GitCache, GitConfig},
    local_run::{LocalError, LocalOptions, run_local},
    logs::AttemptLog,
    runner::{Control, Ended, Folders, Job, Runner, Source, StopWhy},
};
use tempfile::TempDir;

pub(crate) fn executors(folder: &Path) -> Vec<Arc<dyn Executor>> {
    vec![Arc::new(Local::new(host_config(folder, "local"), true, Arc::new(SystemClock)))]
}

fn host_config(folder: &Path, name: &str) -> HostConfig {
    HostConfig {
        worker: "w".into(),
        folder: folder.join(name),
        sizes: SizeLimits::default(),
        allow: Allow::default(),
    }
}

pub(crate) fn git(folder: &Path) -> Arc<GitCache> {
    let config = GitConfig { local_roots: vec![folder.to_owned()], ..GitConfig::default() };
    Arc::new(GitCache::new(folder.join("mirrors"), config).unwrap())
}

pub(crate) fn runner(folder: &Path) -> Runner {
    let fetch = FetchConfig { cache_dir: folder.join("fetch"), ..FetchConfig::default() };
    Runner {
        worker: "w".into(),
        config: RunConfig { fetch: fetch.clone(), ..RunConfig::default() },
        executors: executors(folder),
        git: git(folder),
        fetcher: Arc::new(Fetcher::new(&fetch, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap()),
        clock: Arc::new(SystemClock),
    }
}

/// A task repository in a folder, and what running it came to.
struct Bench {
    here: TempDir,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let here = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = here.path().join("repo").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { here, log: Arc::default() }
    }

    fn task(rest: &str) -> Self {
        Self::new(&[("task.yaml", &format!("name: t\nenvironment: {{local: {{}}}}\n{rest}"))])
    }

    async fn run(&self, inputs: Value) -> Ended {
        self.run_under(inputs, &Control::default()).await
    }

    async fn run_under(&self, inputs: Value, control: &Control) -> Ended {
        self.try_run(inputs, control).await.unwrap()
    }

    async fn try_run(&self, inputs: Value, control: &Control) -> Result<Ended, LocalError> {
        let options = LocalOptions {
            inputs: inputs.as_object().unwrap().clone(),
            trusted: true,
            artifacts_to: Some(self.here.path().join("out")),
            ..LocalOptions::default()
        };
        let log = Arc::clone(&self.log);
        let out = Box::new(move |bytes: &[u8]| log.lock().unwrap().extend_from_slice(bytes));
        let runner = runner(self.here.path());
        let (repo, scratch) = (self.here.path().join("repo"), self.here.path());
        let ended = run_local(&runner, &repo, scratch, &options, out, control, &SystemIds).await;
        let left = std::fs::read_dir(self.here.path().join("local")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "nothing is left of the environment");
        ended
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    fn left(&self, name: &str) -> String {
        std::fs::read_to_string(self.here.path().join("out").join(name)).unwrap()
    }
}

fn outcome(ended: &Ended) -> (&'static str, &str) {
    match &ended.finish.end {
        AttemptEnd::Outcome { outcome, reason } => (outcome.as_str(), reason.as_deref().unwrap_or_default()),
        AttemptEnd::HandedBack { reason } => ("handed back", reason),
    }
}

fn phases(ended: &Ended) -> Vec<Phase> {
    ended.finish.phases.iter().map(|report| report.phase).collect()
}

async fn check(rest: &str, expect: &str, reason: &str) -> (Bench, Ended) {
    let bench = Bench::task(rest);
    let ended = bench.run(json!({})).await;
    let got = outcome(&ended);
    assert_eq!(got.0, expect, "{rest}: {}\n{}", got.1, bench.log());
    assert!(got.1.contains(reason), "{rest}: {}", got.1);
    (bench, ended)
}

#[tokio::test]
async fn exit_codes_and_signals() {
    check("run: 'true'", "passed", "").await;
    check("run: exit 1", "failed", "").await;
    check("run: exit 7", "error(task)", "exit code 7").await;
    check("run: echo begun; echo no disk; exit 7", "error(task)", "exit code 7: begun | no disk").await;
    check("run: ./none", "error(task)", "(a command is not there: is it installed, or named by its path")
        .await;
    check("run: kill -SEGV $$", "error(task)", "signal 11").await;
    check("run: exit 3\nresults: {exit: {3: needs_inspection}}", "needs_inspection", "").await;
    check("run: kill -SEGV $$\nresults: {exit: {'*': passed}}", "error(task)", "signal 11").await;
    check(
        "prepare: echo no such package; exit 4\nrun: 'true'",
        "error(task)",
        "exit code 4: no such package",
    )
    .await;
}

/// What an earlier run left in the repository is no result; what this one writes is, also where it is the same.
#[tokio::test]
async fn only_what_the_attempt_wrote_is_a_result() {
    let old =
        "`r.tap` was there before and was not written by this attempt, so it is no result; remove it there";
    let check = async |run: &str, more: &str, expect: &str, reason: &str| {
        let task = format!(
            "name: t\nenvironment: {{local: {{}}}}\nrun: {run}\nresults: {{format: tap, path: '*.tap'{more}}}\n"
        );
        let bench = Bench::new(&[("task.yaml", &task), ("r.tap", "1..1\nok 1 - old\n")]);
        let ended = bench.run(json!({})).await;
        let got = outcome(&ended);
        assert_eq!(got.0, expect, "{run}: {}\n{}", got.1, bench.log());
        assert!(got.1.contains(reason), "{run}: {}", got.1);
    };
    check("'true'", "", "error(bad_results)", old).await;
    check("'true'", ", exit: {0: passed}", "error(bad_results)", old).await;
    check("exit 1", ", exit: {1: failed}", "failed", "").await;
    check("touch r.tap", "", "passed", "").await;
    check("printf '1..1\\nok 1 - old\\n' >r.tap", "", "passed", "").await;
    check("printf '1..1\\nnot ok 1 - new\\n' >r.tap", "", "failed", "t.new").await;
    check("printf '1..1\\nok 1 - new\\n' >s.tap", "", "passed", "").await;
    check("printf '1..1\\nnot ok 1 - new\\n' >$TASKBOT_OUTPUT/r.tap", "", "failed", "t.new").await;
}

#[tokio::test]
async fn every_phase_has_its_section_and_times() {
    let (bench, ended) =
        check("prepare: echo preparing\nrun: echo running\ncleanup: echo cleaning", "passed", "").await;
    let expect = [
        Phase::Provision,
        Phase::Checkout,
        Phase::Fetch,
        Phase::Prepare,
        Phase::Run,
        Phase::Collect,
        Phase::Report,
        Phase::Cleanup,
    ];
    assert_eq!(phases(&ended), expect);
    let log = bench.log();
    let order = [
        "=== provision ===",
        "no isolation",
        "=== prepare ===",
        "preparing",
        "=== run ===",
        "running",
        "cleaning",
    ];
    let at: Vec<_> =
        order.iter().map(|text| log.find(text).unwrap_or_else(|| panic!("{text} in {log}"))).collect();
    assert!(at.is_sorted(), "{log}");
    assert_eq!(ended.finish.results.len(), 1);
    assert!(ended.finish.results[0].duration_ms.is_some());
    assert!(ended.finish.environment.unwrap().notes.iter().any(|note| note.contains("no isolation")));
}

#[tokio::test]
async fn results_are_read_and_bad_ones_are_no_pass() {
    let tap = "results: {testcase: x.y, format: tap, path: r.tap}\nrun: ";
    let (_, ended) =
        check(&format!("{tap}printf '1..2\\nok 1 - a\\nnot ok 2 - b\\n' > r.tap"), "failed", "failed: x.y.b")
            .await;
    let own = &ended.finish.results[0];
    assert_eq!((own.testcase.as_str(), own.children.len()), ("x.y", 2));
    let in_output = format!("{tap}printf '1..1\\nok 1 - a\\n' > $TASKBOT_OUTPUT/r.tap");
    let (bench, ended) = check(&in_output, "passed", "").await;
    assert_eq!(ended.artifacts[0].name, "r.tap");
    assert_eq!(bench.left("r.tap"), "1..1\nok 1 - a\n");
    check(&format!("{tap}'true'"), "error(bad_results)", "there is no result file `r.tap`").await;
    check(&format!("{tap}echo 'ok 1' > r.tap"), "error(bad_results)", "r.tap:1").await;
    check(&format!("{tap}ln -s /etc/passwd r.tap"), "error(bad_results)", "").await;
    let cut = format!("artifacts: {{max: 1K}}\n{tap}head -c 2000 /dev/zero > r.tap");
    check(&cut, "error(bad_results)", "not taken").await;
}

#[tokio::test]
async fn what_is_left_out_is_told() {
    let task = "artifacts: {paths: ['*.log'], max: 2K}\nrun: ";
    let left_out = "is left out: with its 2.9 KiB all files together go over their limit of 2 KiB";
    for (run, expect) in [
        ("echo small > a.log", vec![]),
        ("head -c 3000 /dev/zero > big.log", vec![format!("`big.log` {left_out}")]),
        ("ln -s a b.log", vec!["`b.log` is left out: it is a link or a device, not a file".to_owned()]),
        (
            "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 3000 /dev/zero >$n.log; done",
            vec!["2 more files are left out: the log names them".to_owned()],
        ),
    ] {
        let (_, ended) = check(&format!("{task}{run}"), "passed", "").await;
        let mut notes = ended.finish.environment.unwrap().notes;
        notes.retain(|note| note.contains("left out"));
        assert_eq!(notes.split_off(notes.len().saturating_sub(expect.len())), expect, "{run}");
        assert_eq!(notes.len(), if run.starts_with("for") { 10 } else { 0 }, "{run}");
    }
}

#[tokio::test]
async fn inputs_reach_the_commands_as_they_are() {
    let bench = Bench::task(concat!(
        "inputs: {text: {type: string}, many: {type: list}, rest: {type: string, default: d}}\n",
        "run: |\n  printf %s \"$TASKBOT_INPUT_TEXT\" > $TASKBOT_OUTPUT/text\n",
        "  printf %s \"$TASKBOT_INPUT_MANY\" > $TASKBOT_OUTPUT/many\n",
        "  cp $TASKBOT_INPUTS $TASKBOT_OUTPUT/inputs.json\n  test -n \"$TASKBOT_TASK_ID\"\n",
    ));
    let text = "a b\n$(touch /tmp/no) `x` 'q' \"r\" ${HOME} é";
    let ended = bench.run(json!({"text": text, "many": [1, "two"]})).await;
    assert_eq!(outcome(&ended).0, "passed", "{}", bench.log());
    assert_eq!((bench.left("text"), bench.left("many")), (text.to_owned(), r#"[1,"two"]"#.to_owned()));
    let inputs: Value = serde_json::from_str(&bench.left("inputs.json")).unwrap();
    assert_eq!(inputs, json!({"text": text, "many": [1, "two"], "rest": "d"}));
}

#[tokio::test]
async fn what_hangs_is_ended_cleaned_up_and_collected() {
    let run = "run: echo begun; sleep 600\ncleanup: echo why > $TASKBOT_OUTPUT/why.log\n";
    let (bench, ended) =
        check(&format!("{run}timeout: {{run: 1s}}"), "error(timeout)", "longer than its limit of 1s").await;
    assert_eq!(bench.left("why.log"), "why\n");
    assert_eq!(ended.artifacts[0].name, "why.log");
    check(&format!("{run}timeout: {{run: 1s, outcome: failed}}"), "failed", "longer than its limit").await;
    check(&format!("{run}timeout: {{idle: 1s}}"), "error(timeout)", "no output for 1s").await;
    check("prepare: sleep 600\nrun: 'true'\ntimeout: {prepare: 1s}", "error(timeout)", "prepare took longer")
        .await;
    let (_, ended) = check("run: 'true'\ncleanup: sleep 600\ntimeout: {cleanup: 1s}", "passed", "").await;
    let cleanup = ended.finish.phases.last().unwrap();
    assert!(cleanup.error.as_ref().unwrap().contains("cleanup took longer"), "{cleanup:?}");
}

/// Waits until the log says something.
async fn until(bench: &Bench, text: &str) {
    while !bench.log().contains(text) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_stop_ends_it_and_cleans_up() {
    let cancel = StopWhy::Ordered(Stop::Cancel { who: "me".into(), why: Some("no need".into()) });
    for (why, expect, reason) in [
        (cancel, "error(task)", "cancelled by me: no need"),
        (StopWhy::Killed, "handed back", "the worker was made to stop at once while it ran the task"),
        (StopWhy::LostContact(Duration::from_secs(90)), "error(lost)", "no server was heard of for 1m30s"),
    ] {
        let bench = Bench::task("run: echo begun; sleep 600\ncleanup: echo cleaned");
        let control = Control::default();
        let (ended, ()) = tokio::join!(bench.run_under(json!({}), &control), async {
            until(&bench, "begun").await;
            assert!(!control.hand_back(), "it has begun");
            control.stop(why);
        });
        assert_eq!(outcome(&ended), (expect, reason));
        assert!(ended.finish.results.is_empty(), "a stopped attempt has no verdict");
        assert!(bench.log().contains("cleaned"), "{}", bench.log());
    }
}

#[tokio::test]
async fn what_has_not_begun_is_handed_back() {
    let bench = Bench::task("run: 'true'");
    let control = Control::default();
    assert!(control.hand_back());
    let ended = bench.run_under(json!({}), &control).await;
    assert_eq!(outcome(&ended).0, "handed back");
    assert_eq!(phases(&ended), []);
}

#[tokio::test]
async fn environments_are_tried_in_their_order() {
    let bench = Bench::new(&[(
        "task.yaml",
        "name: t\nrun: 'true'\nenvironment: [{vm: {image: x}}, {local: {programs: [no-such-program]}}, {local: {}}]\n",
    )]);
    let ended = bench.run(json!({})).await;
    assert_eq!(outcome(&ended).0, "passed");
    let notes = ended.finish.environment.unwrap().notes.join("\n");
    assert!(notes.contains("vm: this worker has none") && notes.contains("no-such-program"), "{notes}");
    let bench = Bench::new(&[("task.yaml", "name: t\nrun: 'true'\nenvironment: {vm: {image: x}}\n")]);
    let ended = bench.run(json!({})).await;
    let (got, reason) = outcome(&ended);
    assert_eq!(got, "error(no_worker)");
    assert!(reason.contains("vm: this worker has none"), "{reason}");
}

#[tokio::test]
async fn what_the_author_must_mend_is_said_so() {
    for (files, expect) in [
        (vec![("other", "")], "there is no task.yaml"),
        (vec![("task.yaml", "nam: t\nrun: x\n")], "did you mean"),
        (vec![("task.yaml", "name: t\nrun: x\ninputs: {a: {required: true}}\n")], "input `a` is missing"),
    ] {
        let error = Bench::new(&files).try_run(json!({}), &Control::default()).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    }
    check(
        "run: 'true'\nfetch: [{url: 'file:///etc/passwd', to: in/}]",
        "error(bad_task)",
        "no file below a folder",
    )
    .await;
    check(
        "run: 'true'\nfetch: [{url: 'http://127.0.0.1:1/x', to: in/}]",
        "error(bad_task)",
        "not a public address",
    )
    .await;
    let bench = Bench::new(&[
        ("task.yaml", "name: t\nrun: 'true'\nenvironment: {local: {}}\n"),
        (".taskbot/inputs.json", "{}"),
    ]);
    assert_eq!(outcome(&bench.run(json!({})).await).0, "error(bad_task)");
}

#[tokio::test]
async fn a_commit_is_run_in_its_folder_and_in_the_sandbox() {
    let bench = Bench::new(&[
        ("README", "not the task's folder"),
        ("sub/lib.sh", "echo from lib"),
        ("sub/task.yaml", ""),
    ]);
    let runner = Runner {
        executors: vec![Arc::new(Sandbox::new(
            SandboxConfig { host: host_config(bench.here.path(), "local"), binds: Vec::new(), uids: UIDS },
            Arc::new(SystemClock),
        ))],
        ..runner(bench.here.path())
    };
    let repo = Repo {
        git: bench.here.path().join("repo").display().to_string(),
        reference: None,
        path: Some("sub".into()),
    };
    let commit = runner.git.resolve(&repo).await.unwrap();
    let yaml = "name: t\nenvironment: {sandbox: {}}\nrun: |\n  sh ./lib.sh\n  printf '1..1\\nok 1 - a\\n' > r.tap\n  ! ls ../.git\nresults: {format: tap, path: r.tap}\n";
    let (file, _) = task_file::parse("task.yaml", yaml).unwrap();
    let job = Job {
        held: Held { task: TaskId::new(uuid::Uuid::nil()), attempt: AttemptRef { attempt: 1, fence: 1 } },
        name: "t".into(),
        item: None,
        inputs: Map::new(),
        trust: Trust::Untrusted,
        secrets: Vec::new(),
        file,
        source: Source::Git { repo, commit },
        dir: "sub".into(),
        hold: None,
        timeout_cap: None,
        traceparent: None,
    };
    let folders = Folders { work: bench.here.path().join("work"), output: bench.here.path().join("out") };
    std::fs::create_dir(&folders.work).unwrap();
    let log = Arc::clone(&bench.log);
    let out = Box::new(move |bytes: &[u8]| log.lock().unwrap().extend_from_slice(bytes));
    let log = AttemptLog::new(Arc::new(SystemClock), out);
    let ended = runner.run_attempt(&job, &folders, &log, &Control::default()).await;
    assert_eq!(outcome(&ended).0, Outcome::Passed.as_str(), "{}", bench.log());
    assert!(bench.log().contains("from lib"));
    assert_eq!(ended.artifacts[0].name, "sub/r.tap");
}

#[tokio::test]
async fn the_shipped_demonstration_runs() {
    let here = tempfile::tempdir().unwrap();
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/task-repos/demo-check");
    let inputs = json!({
        "nvr": "python-arrow-1.3.0-1.fc42",
        "dist_tag": "fc42",
        "update": "FEDORA-2025-0000000000",
        "kind": "bugfix",
        "notes": "Update to 1.3.0, which mends the parsing of time zones.",
    });
    let options = LocalOptions {
        inputs: inputs.as_object().unwrap().clone(),
        trusted: true,
        ..LocalOptions::default()
    };
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    let out = Box::new(move |bytes: &[u8]| kept.lock().unwrap().extend_from_slice(bytes));
    let runner = runner(here.path());
    let control = Control::default();
    let ended = run_local(&runner, &repo, here.path(), &options, out, &control, &SystemIds).await.unwrap();
    let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    assert_eq!(outcome(&ended).0, "passed", "{log}");
    let own = &ended.finish.results[0];
    assert!(own.testcase == "demo.update-check" && own.children.len() > 1, "{own:?}");
    let mut left: Vec<_> =
        std::fs::read_dir(here.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["local", "mirrors"], "nothing is left of the scratch folder");
}
