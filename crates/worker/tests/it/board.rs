//! A server of the worker protocol that keeps everything in memory and errs on demand.

use crate::http::{Handler, Reply, Request, Server};
use model::{
    TaskId, WorkerName,
    attempt::AttemptRef,
    ids::{ArtifactId, Submitter},
    phase::Phase,
    protocol::{
        ARTIFACT_PART_BYTES_MAX, ArtifactQuery, Assignment, ClaimReply, ClaimRequest, FinishRequest,
        HeartbeatReply, HeartbeatRequest, Held, LeaveRequest, LogChunkQuery, Order, UploadedArtifact,
    },
    task::{Origin, Repo, Resolved, Task, TaskKind, TaskState, Trust},
    task_file,
};
use serde_json::Map;
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::Notify;

/// How long a test waits for the worker to come to something.
const UNTIL_LIMIT: Duration = Duration::from_secs(180);

type Fault = Box<dyn FnMut(&Request) -> Option<Reply> + Send>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) queue: VecDeque<Assignment>,
    pub(crate) running: HashMap<Held, Assignment>,
    pub(crate) orders: HashMap<TaskId, Order>,
    pub(crate) fenced: HashSet<TaskId>,
    pub(crate) drain: bool,
    pub(crate) end: bool,
    pub(crate) lease_seconds: u32,
    /// Asked before everything else.
    pub(crate) fault: Option<Fault>,
    /// How many answers to claims are to be lost after the tasks were handed out.
    pub(crate) claims_to_lose: u32,
    pub(crate) claims: Vec<ClaimRequest>,
    pub(crate) heartbeats: u32,
    /// Who said goodbye.
    pub(crate) left: Vec<WorkerName>,
    pub(crate) most_running: usize,
    pub(crate) logs: HashMap<TaskId, BTreeMap<u32, Vec<u8>>>,
    pub(crate) artifacts: HashMap<(TaskId, String), Vec<u8>>,
    pub(crate) finished: Vec<(TaskId, FinishRequest)>,
}

#[derive(Clone, Default)]
pub(crate) struct Board {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Board {
    pub(crate) fn new() -> Self {
        let board = Self::default();
        board.lock().lease_seconds = 3;
        board
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) async fn serve(&self) -> Server {
        Server::start(self.handler()).await
    }

    pub(crate) fn handler(&self) -> Handler {
        let board = self.clone();
        Arc::new(move |request| {
            let board = board.clone();
            Box::pin(async move {
                let reply = board.answer(request).await;
                board.changed.notify_waiters();
                reply
            })
        })
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn until<T>(&self, mut wanted: impl FnMut(&mut State) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = wanted(&mut self.lock()) {
                    return found;
                }
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
            }
        };
        tokio::time::timeout(UNTIL_LIMIT, waiting).await.unwrap()
    }

    /// Waits for a task's end.
    pub(crate) async fn end_of(&self, task: TaskId) -> FinishRequest {
        self.until(|state| {
            state.finished.iter().find(|(id, _)| *id == task).map(|(_, finish)| finish.clone())
        })
        .await
    }

    pub(crate) fn log_of(&self, task: TaskId) -> String {
        let state = self.lock();
        let chunks = state.logs.get(&task).into_iter().flatten();
        let bytes: Vec<u8> = chunks.flat_map(|(_, bytes)| bytes.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Queues a task of a repository.
    pub(crate) fn submit(&self, repo: &Repo, commit: &str, yaml: &str) -> TaskId {
        let (file, _) = task_file::parse("task.yaml", yaml).unwrap_or_else(|report| panic!("{report}"));
        let id = TaskId::new(model::Ids::next(&model::SystemIds));
        let now = model::Clock::now(&model::SystemClock);
        let attempt = AttemptRef { attempt: 1, fence: 7 };
        let worker = WorkerName::new("w");
        let task = Task {
            id,
            key: serde_json::from_value("00".repeat(32).into()).unwrap(),
            kind: TaskKind::Repo {
                repo: repo.clone(),
                resolved: Some(Box::new(Resolved { commit: commit.to_owned(), file })),
                discover: false,
            },
            name: "t".into(),
            origin: Origin::Submitted { who: "me".into(), why: None },
            submitter: Submitter::user("me"),
            item: None,
            inputs: Map::new(),
            queue: "q".into(),
            priority: 0,
            needs: model::Requirements::default(),
            group: None,
            batch: None,
            trust: Trust::Trusted,
            secrets: Vec::new(),
            approval: None,
            hold: None,
            timeout_cap_seconds: None,
            depth: 0,
            traceparent: None,
            state: TaskState::Running {
                attempt: attempt.attempt,
                worker,
                fence: attempt.fence,
                phase: Phase::Provision,
                since: now,
                lease_until: now,
                stop: None,
            },
            attempts: 1,
            created_at: now,
        };
        self.lock().queue.push_back(Assignment { task: Box::new(task), attempt });
        self.changed.notify_waiters();
        id
    }

    async fn answer(&self, request: Request) -> Reply {
        let fault = {
            let mut state = self.lock();
            let mut fault = state.fault.take();
            let reply = fault.as_mut().and_then(|fault| fault(&request));
            state.fault = state.fault.take().or(fault);
            reply
        };
        if let Some(reply) = fault {
            return reply;
        }
        let path = request.path.strip_prefix("/api/v1/worker/").unwrap().to_owned();
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["claim"] => self.claim(&request).await,
            ["heartbeat"] => self.heartbeat(&request),
            ["leave"] => self.leave(&request),
            ["tasks", task, what] => self.about(task.parse().unwrap(), what, &request),
            _ => Reply::status(404),
        }
    }

    async fn claim(&self, request: &Request) -> Reply {
        let claim: ClaimRequest = serde_json::from_slice(&request.body).unwrap();
        self.lock().claims.push(claim.clone());
        // One that is to end hears it at once.
        let wait = if self.lock().end { 0 } else { claim.wait_seconds };
        let wait = Duration::from_secs(u64::from(wait));
        let handed_out = tokio::time::timeout(wait, async {
            loop {
                let changed = self.changed.notified();
                let found = self.lock().hand_out(&claim);
                if !found.is_empty() {
                    return found;
                }
                changed.await;
            }
        });
        let assignments = match handed_out.await {
            Ok(found) => found,
            Err(_) => self.lock().hand_out(&claim),
        };
        let mut state = self.lock();
        if state.claims_to_lose > 0 && !assignments.is_empty() {
            state.claims_to_lose -= 1;
            return Reply::Drop;
        }
        Reply::json(&ClaimReply {
            assignments,
            lease_seconds: state.lease_seconds,
            drain: state.drain,
            end: state.end,
        })
    }

    fn leave(&self, request: &Request) -> Reply {
        let LeaveRequest { worker } = serde_json::from_slice(&request.body).unwrap();
        self.lock().left.push(worker);
        Reply::status(204)
    }

    fn heartbeat(&self, request: &Request) -> Reply {
        let heartbeat: HeartbeatRequest = serde_json::from_slice(&request.body).unwrap();
        let mut state = self.lock();
        state.heartbeats += 1;
        let order = |task: &TaskId| state.orders.get(task).cloned().unwrap_or(Order::Continue);
        let orders = heartbeat.running.iter().map(|entry| order(&entry.held.task)).collect();
        Reply::json(&HeartbeatReply { orders, drain: state.drain })
    }

    fn about(&self, task: TaskId, what: &str, request: &Request) -> Reply {
        let mut state = self.lock();
        if state.fenced.contains(&task) {
            return Reply::text(409, r#"{"detail": "fence 7 is stale"}"#);
        }
        let query: serde_json::Value = request
            .query
            .iter()
            .map(|(name, value)| {
                let number = value.parse::<i64>().ok().filter(|_| name != "sha256" && name != "name");
                (name.clone(), number.map_or_else(|| value.clone().into(), Into::into))
            })
            .collect::<Map<_, _>>()
            .into();
        match what {
            "log" => {
                let query: LogChunkQuery = serde_json::from_value(query).unwrap();
                let chunks = state.logs.entry(task).or_default();
                chunks.entry(query.seq).or_insert_with(|| request.body.clone());
                Reply::status(204)
            }
            "artifacts" => {
                let query: ArtifactQuery = serde_json::from_value(query).unwrap();
                assert!(request.body.len() <= ARTIFACT_PART_BYTES_MAX);
                let file = state.artifacts.entry((task, query.name)).or_default();
                if query.offset == file.len() as u64 {
                    file.extend_from_slice(&request.body);
                }
                let received_bytes = file.len() as u64;
                let whole = received_bytes == query.size_bytes;
                let id = whole.then(|| ArtifactId::new(uuid::Uuid::nil()));
                Reply::json(&UploadedArtifact { id, received_bytes })
            }
            "finish" => {
                let finish: FinishRequest = serde_json::from_slice(&request.body).unwrap();
                state.running.remove(&Held { task, attempt: finish.attempt });
                if !state.finished.iter().any(|(id, _)| *id == task) {
                    state.finished.push((task, finish));
                }
                Reply::status(204)
            }
            _ => Reply::status(404),
        }
    }
}

impl State {
    /// What the worker is believed to run and does not hold, and new tasks for its free slots.
    fn hand_out(&mut self, claim: &ClaimRequest) -> Vec<Assignment> {
        let lost = self.running.iter().filter(|(held, _)| !claim.running.contains(held));
        let mut all: Vec<_> = lost.map(|(_, assignment)| assignment.clone()).collect();
        for _ in 0..claim.free_slots {
            let Some(assignment) = self.queue.pop_front() else { break };
            let held = Held { task: assignment.task.id, attempt: assignment.attempt };
            self.running.insert(held, assignment.clone());
            all.push(assignment);
        }
        self.most_running = self.most_running.max(self.running.len());
        all
    }
}
