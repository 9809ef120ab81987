//! A whole worker against a server that goes away, forgets, fences and refuses.

use crate::{
    attempt::{executors, git},
    board::Board,
    engine,
    http::{Reply, Server},
};
use model::{
    SystemClock, SystemIds, TaskId,
    protocol::{ARTIFACT_PART_BYTES_MAX, AttemptEnd, FinishRequest, LOG_BYTES_MAX, Order},
    requirements::ExecutorKind,
    task::{Repo, Stop},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use taskbot_worker::{
    agent::{Agent, AgentError, Shutdown},
    client::{ClientError, Token},
    config::{FetchConfig, RunConfig, WorkerConfig},
    executor::{ContainerConfig, Containers},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A server, a worker's folders, and a repository for its tasks.
struct Bench {
    here: TempDir,
    board: Board,
    server: Server,
    repo: Repo,
    commit: String,
}

/// A worker that runs.
struct Worker {
    shutdown: Shutdown,
    task: JoinHandle<Result<(), AgentError>>,
}

impl Worker {
    async fn stop(self) {
        self.shutdown.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Bench {
    async fn new() -> Self {
        let here = tempfile::tempdir().unwrap();
        let folder = here.path().join("repo");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("README"), "x").unwrap();
        let repo = Repo { git: folder.display().to_string(), reference: None, path: None };
        let commit = git(here.path()).resolve(&repo).await.unwrap();
        let board = Board::new();
        let server = board.serve().await;
        Self { here, board, server, repo, commit }
    }

    fn path(&self) -> &Path {
        self.here.path()
    }

    fn config(&self) -> WorkerConfig {
        WorkerConfig {
            identity: "00ff".to_owned(),
            name: "w".into(),
            server: self.server.url().parse().unwrap(),
            token: Some(Token::new("secret\n")),
            queues: vec!["q".into()],
            slots: 2,
            labels: ["big".to_owned()].into(),
            arches: ["x86_64".to_owned()].into(),
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            cpus: 1,
            kvm: false,
            ends_when_drained: true,
            work_dir: self.path().join("worker"),
            lost_contact_after: Duration::from_secs(900),
            run: RunConfig {
                fetch: FetchConfig { cache_dir: self.path().join("fetch"), ..FetchConfig::default() },
                ..RunConfig::default()
            },
        }
    }

    fn agent(&self, config: WorkerConfig) -> Result<Agent, AgentError> {
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
        Agent::new(config, executors(self.path()), git(self.path()), clock, ids)
    }

    fn start(&self) -> Worker {
        self.start_with(self.config())
    }

    fn start_with(&self, config: WorkerConfig) -> Worker {
        let (agent, shutdown) = (self.agent(config).unwrap(), Shutdown::default());
        let task = tokio::spawn(agent.run(shutdown.clone()));
        Worker { shutdown, task }
    }

    fn submit(&self, rest: &str) -> TaskId {
        let yaml = format!("name: t\nenvironment: {{local: {{}}}}\n{rest}\n");
        self.board.submit(&self.repo, &self.commit, &yaml)
    }

    /// A task that waits for a file, and that file.
    fn submit_waiting(&self, rest: &str) -> (TaskId, PathBuf) {
        let go = self.path().join(format!("go-{}", model::Ids::next(&SystemIds)));
        let run = format!(
            "run: |\n  echo begun\n  while ! test -e {}; do echo waiting; sleep 0.02; done\n  echo done\n{rest}",
            go.display()
        );
        (self.submit(&run), go)
    }

    async fn until_logged(&self, task: TaskId, text: &str) {
        self.board
            .until(|state| {
                let chunks = state.logs.get(&task)?;
                let bytes: Vec<u8> = chunks.values().flatten().copied().collect();
                String::from_utf8_lossy(&bytes).contains(text).then_some(())
            })
            .await;
    }

    /// The attempts' folders that are left.
    fn attempts_left(&self) -> usize {
        std::fs::read_dir(self.path().join("worker/attempts")).map_or(0, Iterator::count)
    }

    async fn go_away(self) -> (Self, std::net::SocketAddr) {
        let Self { here, board, server, repo, commit } = self;
        let address = server.stop().await;
        let server = Server::start(board.handler()).await;
        (Self { here, board, server, repo, commit }, address)
    }
}

fn outcome(finish: &FinishRequest) -> (&'static str, String) {
    match &finish.end {
        AttemptEnd::Outcome { outcome, reason } => (outcome.as_str(), reason.clone().unwrap_or_default()),
        AttemptEnd::HandedBack { reason } => ("handed back", reason.clone()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_claimed_run_and_delivered_whole() {
    let bench = Bench::new().await;
    let worker = bench.start();
    let size = ARTIFACT_PART_BYTES_MAX * 2 + 10;
    let task = bench.submit(&format!(
        "run: |\n  echo hello\n  head -c {size} /dev/zero > $TASKBOT_OUTPUT/big.bin\n  : > $TASKBOT_OUTPUT/empty\n"
    ));
    let finish = bench.board.end_of(task).await;
    assert_eq!(outcome(&finish).0, "passed");
    assert!(bench.board.log_of(task).contains("hello"));
    {
        let state = bench.board.lock();
        assert_eq!(state.artifacts[&(task, "big.bin".to_owned())].len(), size);
        assert!(state.artifacts[&(task, "empty".to_owned())].is_empty());
        let sent: usize = state.logs[&task].values().map(Vec::len).sum();
        assert_eq!((finish.log_chunks as usize, finish.log_bytes), (state.logs[&task].len(), sent as u64));
        let offer = &state.claims.last().unwrap().offer;
        assert!(offer.executors.contains(&ExecutorKind::Local) && offer.labels.contains("big"));
    }
    worker.stop().await;
    assert_eq!(bench.attempts_left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_the_most_that_run() {
    let bench = Bench::new().await;
    let (first, go) = bench.submit_waiting("");
    let (second, _) = (bench.submit("run: 'true'"), ());
    let third = bench.submit("run: 'true'");
    let worker = bench.start();
    bench.board.end_of(third).await;
    std::fs::write(go, "").unwrap();
    for task in [first, second] {
        assert_eq!(outcome(&bench.board.end_of(task).await).0, "passed");
    }
    assert_eq!(bench.board.lock().most_running, 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing() {
    let bench = Bench::new().await;
    let worker = bench.start();
    let (task, go) = bench.submit_waiting("");
    bench.until_logged(task, "begun").await;
    let board = bench.board.clone();
    let address = bench.server.stop().await;
    std::fs::write(go, "").unwrap();
    let saved = bench.here.path().join("worker/attempts");
    let ended = || {
        let folder = std::fs::read_dir(&saved).unwrap().next().unwrap().unwrap().path();
        folder.join("delivery.json").exists()
    };
    while !ended() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = Server::start_at(address, board.handler()).await;
    let finish = board.end_of(task).await;
    assert_eq!(outcome(&finish).0, "passed");
    let log = board.log_of(task);
    assert!(
        log.contains("begun") && log.contains("done") && log.matches("=== run ===").count() == 1,
        "{log}"
    );
    worker.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_claim_is_asked_for_again() {
    let bench = Bench::new().await;
    bench.board.lock().claims_to_lose = 1;
    let task = bench.submit("run: echo once");
    let worker = bench.start();
    assert_eq!(outcome(&bench.board.end_of(task).await).0, "passed");
    assert_eq!(bench.board.log_of(task).matches(" once").count(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_obeyed() {
    let bench = Bench::new().await;
    let worker = bench.start();
    let (stopped, _) = bench.submit_waiting("cleanup: echo cleaned");
    bench.until_logged(stopped, "begun").await;
    let why = Stop::Cancel { who: "me".into(), why: None };
    bench.board.lock().orders.insert(stopped, Order::Stop { why });
    assert_eq!(outcome(&bench.board.end_of(stopped).await).1, "cancelled by me");
    assert!(bench.board.log_of(stopped).contains("cleaned"));

    for by_heartbeat in [true, false] {
        let (fenced, _) = bench.submit_waiting("");
        bench.until_logged(fenced, "begun").await;
        {
            let mut state = bench.board.lock();
            state.running.clear();
            if by_heartbeat {
                state.orders.insert(fenced, Order::Fenced);
            }
            state.fenced.insert(fenced);
        }
        while bench.attempts_left() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    worker.stop().await;
    assert_eq!(bench.board.lock().finished.len(), 1, "what is fenced sends nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_wish_to_stop_waits_and_the_second_does_not() {
    let bench = Bench::new().await;
    let worker = bench.start();
    let (first, go) = bench.submit_waiting("");
    bench.until_logged(first, "begun").await;
    worker.shutdown.stop.cancel();
    bench
        .board
        .until(|state| {
            state.claims.iter().any(|claim| claim.free_slots == 0 && !claim.running.is_empty()).then_some(())
        })
        .await;
    let late = bench.submit("run: 'true'");
    std::fs::write(go, "").unwrap();
    worker.task.await.unwrap().unwrap();
    assert_eq!(outcome(&bench.board.end_of(first).await).0, "passed");
    assert_eq!(bench.board.lock().queue.len(), 1, "nothing is claimed any more");
    assert_eq!(bench.board.lock().left.len(), 1, "it says goodbye");

    let worker = bench.start();
    assert_eq!(outcome(&bench.board.end_of(late).await).0, "passed");
    let (cut, _) = bench.submit_waiting("");
    bench.until_logged(cut, "begun").await;
    worker.shutdown.stop.cancel();
    worker.shutdown.kill.cancel();
    worker.task.await.unwrap().unwrap();
    assert_eq!(outcome(&bench.board.end_of(cut).await).0, "handed back");
    assert_eq!(bench.board.lock().left.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_left_is_delivered_by_the_next() {
    let bench = Bench::new().await;
    let (task, _) = bench.submit_waiting("");
    // A runtime of its own, whose end takes all of the worker with it in the middle of the task.
    let agent = bench.agent(bench.config()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(agent.run(Shutdown::default()));
    bench.until_logged(task, "begun").await;
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    assert_eq!(bench.attempts_left(), 1);
    let worker = bench.start();
    let finish = bench.board.end_of(task).await;
    let (outcome, reason) = outcome(&finish);
    assert_eq!((outcome, reason.as_str()), ("error(lost)", "the worker was killed while it ran the task"));
    assert!(finish.log_chunks > 0 && bench.board.log_of(task).contains("begun"));
    worker.stop().await;
    assert_eq!(bench.attempts_left(), 0);
    assert_eq!(std::fs::read_dir(bench.path().join("local")).unwrap().count(), 0, "its environment is swept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_not_delivered_survives_a_restart() {
    let bench = Bench::new().await;
    let worker = bench.start();
    let (task, go) = bench.submit_waiting("artifacts: {paths: ['*.txt']}");
    bench.until_logged(task, "begun").await;
    let (bench, _) = bench.go_away().await;
    std::fs::write(go, "").unwrap();
    while !std::fs::read_dir(bench.path().join("worker/attempts"))
        .unwrap()
        .any(|entry| entry.unwrap().path().join("delivery.json").exists())
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.shutdown.stop.cancel();
    worker.shutdown.kill.cancel();
    worker.task.await.unwrap().unwrap();
    assert_eq!(bench.attempts_left(), 1);
    // The server is back, at another address.
    let worker = bench.start();
    assert_eq!(outcome(&bench.board.end_of(task).await).0, "passed");
    let log = bench.board.log_of(task);
    assert!(log.contains("begun") && log.contains(" done"), "{log}");
    worker.stop().await;
    assert_eq!(bench.attempts_left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_not_wanted_says_why() {
    let bench = Bench::new().await;
    for (status, expect) in
        [(401, "refused the token (401)"), (403, "refused the token (403)"), (426, "does not speak")]
    {
        bench.board.lock().fault =
            Some(Box::new(move |_| Some(Reply::text(status, r#"{"detail": "said so"}"#))));
        let error = bench.agent(bench.config()).unwrap().run(Shutdown::default()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expect) && text.contains("said so") && !text.contains("secret"), "{text}");
        assert!(matches!(
            error,
            AgentError::Server(ClientError::NotAllowed { .. } | ClientError::Protocol(_))
        ));
    }
    assert_eq!(
        bench.board.lock().left.len(),
        0,
        "who was not taken says no goodbye under a name that is another's"
    );
    let _first = bench.agent(bench.config()).unwrap();
    assert!(matches!(bench.agent(bench.config()), Err(AgentError::InUse(_))));
    let wrong = WorkerConfig {
        server: "ftp://x/".parse().unwrap(),
        work_dir: bench.path().join("o"),
        ..bench.config()
    };
    assert!(bench.agent(wrong).unwrap_err().to_string().contains("expected http://"));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_and_refusals_on_the_way_are_got_over() {
    let bench = Bench::new().await;
    let mut at = 0;
    bench.board.lock().fault = Some(Box::new(move |_| {
        at += 1;
        match at % 6 {
            0 => Some(Reply::Drop),
            1 => Some(Reply::text(503, "the database is away")),
            2 => Some(Reply::Answer {
                status: 429,
                headers: vec![("retry-after", "0".into())],
                body: Vec::new(),
            }),
            _ => None,
        }
    }));
    let worker = bench.start();
    let task = bench.submit("run: echo x > $TASKBOT_OUTPUT/a; echo hello");
    assert_eq!(outcome(&bench.board.end_of(task).await).0, "passed");
    assert_eq!(bench.board.log_of(task).matches("hello").count(), 1);
    assert_eq!(bench.board.lock().artifacts[&(task, "a".to_owned())], b"x\n");
    bench.board.lock().fault = None;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_now_is_no_lost_contact_and_none_at_all_is() {
    let bench = Bench::new().await;
    bench.board.lock().lease_seconds = 1;
    let worker = bench.start_with(WorkerConfig { lost_contact_after: Duration::ZERO, ..bench.config() });
    let (task, go) = bench.submit_waiting("");
    bench.until_logged(task, "begun").await;
    let mut refused = 0;
    let (sender, told) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    bench.board.lock().fault = Some(Box::new(move |request| {
        refused += u32::from(request.path.ends_with("heartbeat"));
        // Three leases long.
        if refused == 10
            && let Some(sender) = sender.take()
        {
            sender.send(()).unwrap();
        }
        Some(Reply::status(503))
    }));
    told.await.unwrap();
    bench.board.lock().fault = None;
    std::fs::write(go, "").unwrap();
    assert_eq!(outcome(&bench.board.end_of(task).await).0, "passed");

    let (task, _) = bench.submit_waiting("");
    bench.until_logged(task, "begun").await;
    let board = bench.board.clone();
    let address = bench.server.stop().await;
    let ended = || {
        let mut left = std::fs::read_dir(bench.here.path().join("worker/attempts")).unwrap();
        left.any(|entry| entry.unwrap().path().join("delivery.json").exists())
    };
    while !ended() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = Server::start_at(address, board.handler()).await;
    let (got, reason) = outcome(&board.end_of(task).await);
    assert_eq!(got, "error(lost)");
    assert!(reason.contains("no server was heard of"), "{reason}");
    worker.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_takes_nothing_more() {
    let bench = Bench::new().await;
    bench.board.lock().drain = true;
    let worker = bench.start();
    bench.board.until(|state| (!state.claims.is_empty()).then_some(())).await;
    bench.submit("run: 'true'");
    worker.stop().await;
    assert!(bench.board.lock().claims.iter().all(|claim| claim.free_slots == 0));
    assert_eq!(bench.board.lock().queue.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_ends_once_it_runs_nothing() {
    let bench = Bench::new().await;
    let worker = bench.start();
    let (task, go) = bench.submit_waiting("");
    bench.until_logged(task, "begun").await;
    {
        let mut state = bench.board.lock();
        (state.drain, state.end) = (true, true);
    }
    let is_drained =
        |claim: &model::protocol::ClaimRequest| claim.free_slots == 0 && !claim.running.is_empty();
    bench.board.until(|state| state.claims.iter().any(is_drained).then_some(())).await;
    assert!(!worker.task.is_finished(), "its task runs");
    std::fs::write(go, "").unwrap();
    assert_eq!(outcome(&bench.board.end_of(task).await).0, "passed");
    worker.task.await.unwrap().unwrap();
    assert_eq!(bench.board.lock().left, ["w".into()]);
    // Started again, it stays: nobody is to start it over and over.
    let asked = bench.board.lock().claims.len();
    let worker = bench.start();
    let waits = bench.board.until(|state| Some(state.claims.get(asked + 1)?.wait_seconds)).await;
    assert!(waits > 0, "it waits to hear that it may again");
    assert!(!worker.task.is_finished());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_in_words_of_a_newer_server_is_refused_and_the_next_one_runs() {
    let bench = Bench::new().await;
    let next = bench.submit("run: 'true'");
    for (nth, newer) in ["{}", r#"{"kind": "orbit"}"#, r#"{"name": 7}"#].into_iter().enumerate() {
        let task = model::TaskId::new(model::Ids::next(&SystemIds));
        let mut newer: serde_json::Value = serde_json::from_str(newer).unwrap();
        newer["id"] = serde_json::json!(task);
        let reply = serde_json::json!({"lease_seconds": 3, "drain": false,
            "assignments": [{"task": newer, "attempt": nth + 1, "fence": 7}]});
        let mut reply = Some(Reply::text(200, &reply.to_string()));
        bench.board.lock().fault = Some(Box::new(move |request| {
            let claim: model::protocol::ClaimRequest = serde_json::from_slice(&request.body).ok()?;
            if claim.free_slots == 0 { None } else { reply.take() }
        }));
        let worker = bench.start();
        let finish = bench.board.end_of(task).await;
        let (got, reason) = outcome(&finish);
        assert_eq!((got, finish.attempt.attempt), ("error(infra)", u32::try_from(nth).unwrap() + 1));
        assert!(reason.contains("is too old for this task, update it: "), "{reason}");
        assert_eq!(outcome(&bench.board.end_of(next).await).0, "passed");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_is_offered_while_it_is_there() {
    let bench = Bench::new().await;
    let socket = bench.path().join("engine.sock");
    let clock = Arc::new(SystemClock);
    let containers = ContainerConfig {
        default_image: Some(engine::image()),
        ..ContainerConfig::new("w".into(), vec![socket.clone()], bench.path().join("containers"))
    };
    let mut all = executors(bench.path());
    all.push(Arc::new(Containers::new(containers, clock.clone())));
    let agent = Agent::new(bench.config(), all, git(bench.path()), clock, Arc::new(SystemIds)).unwrap();
    let shutdown = Shutdown::default();
    let worker = Worker { task: tokio::spawn(agent.run(shutdown.clone())), shutdown };
    let offered = async |expect: bool| {
        bench
            .board
            .until(|state| {
                let offer = &state.claims.last()?.offer;
                (offer.executors.contains(&ExecutorKind::Container) == expect).then_some(())
            })
            .await;
    };
    offered(false).await;
    std::os::unix::fs::symlink(engine::socket(engine::Kind::Docker), &socket).unwrap();
    offered(true).await;
    // An attempt that it lets down is the last that it is offered to.
    std::fs::remove_file(&socket).unwrap();
    let yaml = "name: t\nenvironment: {container: {}}\nrun: 'true'\n";
    let task = bench.board.submit(&bench.repo, &bench.commit, yaml);
    assert_eq!(outcome(&bench.board.end_of(task).await).0, "error(infra)");
    offered(false).await;
    worker.stop().await;
}

/// How much memory this process holds at the most, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_is_capped_and_held_on_disk() {
    let bench = Bench::new().await;
    // The server of this test keeps what it gets in this very process: count it, and drop it.
    bench.board.lock().fault = Some(Box::new(|request| {
        let chunk = request.path.ends_with("/log") && request.body.len() > 100_000;
        chunk.then(|| Reply::status(204))
    }));
    let before = memory("VmRSS");
    let worker = bench.start();
    let task = bench.submit("run: head -c 1000000000 /dev/zero");
    let finish = bench.board.end_of(task).await;
    assert_eq!(outcome(&finish).0, "passed");
    assert!(finish.log_truncated && finish.log_bytes <= LOG_BYTES_MAX, "{} bytes", finish.log_bytes);
    assert!(finish.log_bytes > LOG_BYTES_MAX - 1024 * 1024);
    let grown = memory("VmHWM").saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "memory grew by {} MiB", grown / 1024 / 1024);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_server_refuses_still_ends_the_attempt() {
    let bench = Bench::new().await;
    bench.board.lock().fault = Some(Box::new(|request| {
        let finish: FinishRequest = serde_json::from_slice(&request.body).ok()?;
        (!finish.results.is_empty()).then(|| Reply::text(422, r#"{"detail": "too many results"}"#))
    }));
    let worker = bench.start();
    let task = bench.submit("run: 'true'");
    let (got, reason) = outcome(&bench.board.end_of(task).await);
    assert_eq!(got, "error(bad_results)");
    assert!(reason.contains("(422): too many results"), "{reason}");
    worker.stop().await;
    assert_eq!(bench.attempts_left(), 0);
}
