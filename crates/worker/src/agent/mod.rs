//! A worker as a whole: it makes itself known, claims, runs, tells, and delivers.
//!
//! - It claims by long poll while it has free slots, and tells the server every few seconds what it
//!   holds; the answers may stop an attempt or fence it off.
//! - What an attempt leaves is safe on disk before it is sent ([`crate::delivery`]). Whoever starts with the
//!   same work folder first delivers what its predecessor left; an attempt that was cut off ends as lost.
//! - A lost answer to a claim is not lost: the next claim names what is held, and the server sends again what
//!   it believes this worker to hold beyond it.
//! - The first wish to stop ends claiming, hands back what has not begun, and waits for the rest; the second
//!   ends the rest at once, hands it back, cleans up, and leaves to the next start what could not be delivered.
//!   The last word is a goodbye, so that nobody waits for this worker.
//! - An operator may let it take no more tasks, and may let it end once it runs nothing.
//! - A server that answers that it cannot now (its database is away) has not given the attempts to anybody
//!   else: they go on. With no answer at all they go on for `lost_contact_after`, then they are stopped.

mod attempt;
mod table;

use crate::{
    backoff::Backoff,
    client::{Claimed, Client, ClientError},
    config::WorkerConfig,
    delivery::AttemptFolder,
    executor::{Executor, vm_arches},
    fetch::{self, FetchError, Fetcher},
    git::GitCache,
    runner::{Control, Runner, StopWhy},
};
use model::{
    Clock, Ids, Offer,
    protocol::{CLAIM_TASKS_MAX, ClaimReply, ClaimRequest, HeartbeatRequest, Held, PROTOCOL_VERSION},
    requirements::ExecutorKind,
};
use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use table::Table;
use tokio::{
    sync::{RwLock, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a claim is held open, in seconds.
pub const CLAIM_WAIT_SECONDS: u32 = 20;
/// The lease that is assumed before the server has said it.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(60);
/// The longest between two heartbeats, however long the lease: orders to stop come with them.
pub const HEARTBEAT_EVERY_MAX: Duration = Duration::from_secs(5);
/// How often the phases of attempts are looked at, so that a change is told soon.
pub const PHASES_LOOKED_AT_EVERY: Duration = Duration::from_millis(500);
/// How often a worker that is to take no tasks asks whether that still is so, where the server does not let it wait.
pub const DRAINED_POLL: Duration = Duration::from_secs(10);
/// How often executors are probed, orphans swept and caches trimmed.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(300);
/// How often an executor that does not work is probed.
pub const PROBE_AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How long one sweep may take.
pub const SWEEP_LIMIT: Duration = Duration::from_secs(120);
/// How long one probe may take.
pub const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// The pause after a claim that was answered at once and with nothing, so that it is not asked in a circle.
pub const CLAIM_PAUSE: Duration = Duration::from_millis(250);
/// How long a worker that stops goes on delivering once nothing runs any more.
pub const STOP_DELIVERY_LIMIT: Duration = Duration::from_secs(30);
/// The same, for a worker that is made to stop at once.
pub const KILL_DELIVERY_LIMIT: Duration = Duration::from_secs(5);

/// How long saying goodbye may take.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// How a worker is asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Claim no more, finish what runs.
    pub stop: CancellationToken,
    /// End at once.
    pub kill: CancellationToken,
}

/// Why a worker does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The work folder cannot be used.
    #[error("the work folder {path}: {error}")]
    WorkDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another worker uses the work folder.
    #[error("the work folder {0} is used by another worker; give each worker a folder of its own")]
    InUse(PathBuf),
    /// The server does not want this worker.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// The cache of fetched files cannot be set up.
    #[error("fetching: {0}")]
    Fetch(#[from] FetchError),
}

/// A worker.
#[derive(Debug)]
pub struct Agent {
    config: WorkerConfig,
    client: Client,
    runner: Runner,
    ids: Arc<dyn Ids>,
    table: Table,
    offer: Mutex<Offer>,
    lease: watch::Sender<Duration>,
    drained: AtomicBool,
    /// The server took this worker for its own: only then it is told goodbye, or a worker that was refused its
    /// name would take away whoever has it.
    welcome: AtomicBool,
    /// Whether it took tasks since it was started: one that is started while it is drained stays, so that nobody
    /// starts it over and over.
    was_active: AtomicBool,
    last_contact: Mutex<Instant>,
    /// Taken for writing by a sweep, for a moment by each attempt that begins: what begins while a sweep is
    /// under way would look like a leftover to it.
    sweeping: RwLock<()>,
    /// Held as long as the worker lives.
    _lock: File,
}

impl Agent {
    /// A worker with these executors. Takes the work folder for itself.
    ///
    /// # Errors
    /// The configuration cannot be used, or the work folder is another worker's.
    pub fn new(
        config: WorkerConfig,
        executors: Vec<Arc<dyn Executor>>,
        git: Arc<GitCache>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, AgentError> {
        let lock = lock_folder(&config.work_dir)?;
        let client = Client::new(&config.server, config.token.clone(), Arc::clone(&clock), Arc::clone(&ids))?;
        let fetcher = Fetcher::new(&config.run.fetch, Arc::clone(&clock), Arc::clone(&ids))?;
        let runner = Runner {
            worker: crate::identity::label(&config.name, &config.identity),
            config: config.run.clone(),
            executors,
            git,
            fetcher: Arc::new(fetcher),
            clock,
        };
        Ok(Self {
            config,
            client,
            runner,
            ids,
            table: Table::default(),
            offer: Mutex::new(Offer::default()),
            lease: watch::Sender::new(LEASE_DEFAULT),
            drained: AtomicBool::new(false),
            welcome: AtomicBool::new(false),
            was_active: AtomicBool::new(false),
            last_contact: Mutex::new(Instant::now()),
            sweeping: RwLock::new(()),
            _lock: lock,
        })
    }

    /// Works until it is stopped.
    ///
    /// # Errors
    /// The work folder cannot be read, or the server refuses this worker at the first word: its token, its
    /// queues or its protocol.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), AgentError> {
        let agent = Arc::new(self);
        let (over, give_up) = (CancellationToken::new(), CancellationToken::new());
        agent.probe().await;
        agent.sweep().await;
        let attempts = TaskTracker::new();
        for folder in
            AttemptFolder::list(&agent.config.work_dir).map_err(|error| agent.work_dir_error(error))?
        {
            let control = Arc::new(Control::new(shutdown.kill.clone()));
            if agent.table.take(folder.held(), &control) {
                attempts.spawn(attempt::redeliver(Arc::clone(&agent), folder, control, give_up.clone()));
            }
        }
        let mut helpers = JoinSet::new();
        helpers.spawn(Arc::clone(&agent).keep_heartbeat(over.clone()));
        helpers.spawn(Arc::clone(&agent).keep_up(over.clone()));
        let claimed = agent.keep_claiming(&attempts, &shutdown, &give_up).await;
        agent.wind_down(&attempts, &shutdown, &give_up).await;
        over.cancel();
        while helpers.join_next().await.is_some() {}
        if agent.welcome.load(Ordering::Relaxed) {
            agent.leave().await;
        }
        claimed
    }

    fn work_dir_error(&self, error: io::Error) -> AgentError {
        AgentError::WorkDir { path: self.config.work_dir.clone(), error }
    }

    /// Asks for tasks and starts them, until the worker is to stop.
    async fn keep_claiming(
        self: &Arc<Self>,
        attempts: &TaskTracker,
        shutdown: &Shutdown,
        give_up: &CancellationToken,
    ) -> Result<(), AgentError> {
        let (mut backoff, mut known) = (Backoff::default(), false);
        // Whether the server said that this worker may end once it runs nothing.
        let mut may_end = false;
        loop {
            let drained = self.drained.load(Ordering::Relaxed);
            let free = self.config.slots.saturating_sub(self.table.len()).min(CLAIM_TASKS_MAX);
            if known && free == 0 && !drained {
                tokio::select! {
                    () = self.table.freed.notified() => continue,
                    () = shutdown.stop.cancelled() => break,
                    () = shutdown.kill.cancelled() => break,
                }
            }
            // The first word is answered at once, so that a worker that is not wanted learns it. One that is to take
            // no tasks waits to hear that it may again, and one that is about to end only asks whether it still may.
            let (free, wait) = match (known, drained) {
                (false, _) => (0, 0),
                (true, false) => (free, CLAIM_WAIT_SECONDS),
                (true, true) => (0, if may_end && self.is_to_end() { 0 } else { CLAIM_WAIT_SECONDS }),
            };
            let request = self.claim_request(free, wait);
            let asked_at = Instant::now();
            let reply = tokio::select! {
                reply = self.client.claim(&request) => reply,
                // It may have been the last one before the end.
                () = self.table.freed.notified(), if may_end => continue,
                () = shutdown.stop.cancelled() => break,
                () = shutdown.kill.cancelled() => break,
            };
            let pause = match reply {
                Ok(Claimed { reply, unread }) => {
                    backoff = Backoff::default();
                    known = true;
                    self.welcome.store(true, Ordering::Relaxed);
                    self.hear(&reply);
                    may_end = reply.end;
                    for (held, why) in unread {
                        self.refuse(attempts, held, why, give_up);
                    }
                    let hasty = wait > 0 && reply.assignments.is_empty() && asked_at.elapsed() < CLAIM_PAUSE;
                    for assignment in reply.assignments {
                        self.start(attempts, assignment, shutdown, give_up);
                    }
                    if reply.end && self.is_to_end() {
                        tracing::info!("this worker is drained and runs nothing: it ends");
                        return Ok(());
                    }
                    match (reply.drain, hasty) {
                        (true, _) if asked_at.elapsed() < CLAIM_PAUSE => DRAINED_POLL,
                        (true, _) | (false, true) => CLAIM_PAUSE,
                        (false, false) => Duration::ZERO,
                    }
                }
                Err(error @ (ClientError::NotAllowed { .. } | ClientError::Protocol(_))) if !known => {
                    return Err(error.into());
                }
                Err(error) => {
                    if error.is_contact() {
                        self.note_contact();
                    }
                    tracing::warn!(%error, "the server hands out no tasks");
                    let asked = match error {
                        ClientError::Unavailable { retry_after, .. } => retry_after,
                        _ => Some(crate::backoff::BACKOFF_MAX),
                    };
                    backoff.next(self.ids.as_ref(), asked)
                }
            };
            let drained = self.drained.load(Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // It may have been the last one.
                () = self.table.freed.notified(), if drained => {}
                () = shutdown.stop.cancelled() => break,
                () = shutdown.kill.cancelled() => break,
            }
        }
        Ok(())
    }

    fn claim_request(&self, free_slots: u32, wait_seconds: u32) -> ClaimRequest {
        ClaimRequest {
            protocol: PROTOCOL_VERSION,
            worker: self.config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            offer: self.offer.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            free_slots,
            running: self.table.held(),
            wait_seconds,
        }
    }

    fn start(
        self: &Arc<Self>,
        attempts: &TaskTracker,
        assignment: model::protocol::Assignment,
        shutdown: &Shutdown,
        give_up: &CancellationToken,
    ) {
        let held = Held { task: assignment.task.id, attempt: assignment.attempt };
        let control = Arc::new(Control::new(shutdown.kill.clone()));
        if self.table.take(held, &control) {
            attempts.spawn(attempt::run(Arc::clone(self), assignment, control, give_up.clone()));
        }
    }

    /// Gives back a task that a newer server speaks of in words that this worker does not know.
    fn refuse(
        self: &Arc<Self>,
        attempts: &TaskTracker,
        held: Held,
        why: String,
        give_up: &CancellationToken,
    ) {
        if self.table.take(held, &Arc::default()) {
            tracing::error!(task = %held.task, why, "this worker is too old for a task");
            attempts.spawn(attempt::refuse(Arc::clone(self), held, why, give_up.clone()));
        }
    }

    /// Whether a worker that is drained ends now.
    fn is_to_end(&self) -> bool {
        self.config.ends_when_drained && self.was_active.load(Ordering::Relaxed) && self.table.len() == 0
    }

    fn hear(&self, reply: &ClaimReply) {
        self.note_contact();
        self.was_active.fetch_or(!reply.drain, Ordering::Relaxed);
        let lease = Duration::from_secs(u64::from(reply.lease_seconds.max(1)));
        self.lease.send_if_modified(|known| std::mem::replace(known, lease) != lease);
        if self.drained.swap(reply.drain, Ordering::Relaxed) != reply.drain {
            tracing::info!(drained = reply.drain, "the server changed whether this worker takes tasks");
        }
    }

    fn note_contact(&self) {
        *self.last_contact.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn lease(&self) -> Duration {
        *self.lease.borrow()
    }

    /// Tells what is held: at every third of the lease, but at least every [`HEARTBEAT_EVERY_MAX`], so that a
    /// cancelled task hears of it soon; and when an attempt entered another phase.
    async fn keep_heartbeat(self: Arc<Self>, over: CancellationToken) {
        let mut lease = self.lease.subscribe();
        let (mut told, mut told_at) = (Vec::new(), Instant::now());
        loop {
            let every = (*lease.borrow_and_update() / 3).min(HEARTBEAT_EVERY_MAX);
            tokio::select! {
                () = tokio::time::sleep(every.min(PHASES_LOOKED_AT_EVERY)) => {}
                // A shorter one than assumed must not be missed by the first heartbeat.
                _ = lease.changed() => continue,
                () = over.cancelled() => return,
            }
            let running = self.table.heartbeat();
            if running.is_empty() || (running == told && told_at.elapsed() < every) {
                continue;
            }
            told.clone_from(&running);
            told_at = Instant::now();
            let request = HeartbeatRequest { worker: self.config.name.clone(), running };
            match self.client.heartbeat(&request, every.max(Duration::from_secs(1))).await {
                Ok(reply) => {
                    self.note_contact();
                    self.drained.store(reply.drain, Ordering::Relaxed);
                    for (entry, order) in request.running.iter().zip(reply.orders) {
                        self.table.obey(entry.held, order);
                    }
                }
                Err(error) => {
                    if error.is_contact() {
                        self.note_contact();
                    }
                    tracing::warn!(%error, "the server does not take the heartbeat");
                    self.check_contact();
                }
            }
        }
    }

    fn check_contact(&self) {
        let silence = self.last_contact.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if silence > self.config.lost_contact_after.max(self.lease()) {
            tracing::error!(
                silence_seconds = silence.as_secs(),
                "no server is heard of: the attempts are stopped"
            );
            self.table.stop_all(&StopWhy::LostContact(silence));
        }
    }

    /// Probes the executors, sweeps and trims, now and then; and soon after one that did not work does.
    async fn keep_up(self: Arc<Self>, over: CancellationToken) {
        let mut upkeep_at = Instant::now() + UPKEEP_EVERY;
        loop {
            let soon = Instant::now() + PROBE_AGAIN_EVERY;
            tokio::select! {
                () = tokio::time::sleep_until(upkeep_at.min(soon)) => {}
                () = over.cancelled() => return,
            }
            let keep_up = async {
                if Instant::now() < upkeep_at && !self.has_come_back().await {
                    return false;
                }
                self.probe().await;
                self.sweep().await;
                self.trim().await;
                true
            };
            tokio::select! {
                done = keep_up => if done { upkeep_at = Instant::now() + UPKEEP_EVERY },
                () = over.cancelled() => return,
            }
        }
    }

    fn working(&self) -> BTreeSet<ExecutorKind> {
        self.offer.lock().unwrap_or_else(PoisonError::into_inner).executors.clone()
    }

    /// Whether an executor works that did not when it was last probed, as after its engine was started again.
    async fn has_come_back(&self) -> bool {
        let working = self.working();
        for executor in self.runner.executors.iter().filter(|executor| !working.contains(&executor.kind())) {
            if matches!(tokio::time::timeout(PROBE_LIMIT, executor.probe()).await, Ok(Ok(_))) {
                return true;
            }
        }
        false
    }

    /// Finds out which executors work, and with them what is offered.
    async fn probe(&self) {
        let before = self.working();
        let mut working = BTreeSet::new();
        let mut providers = BTreeSet::new();
        let (mut vm_images, mut containers) = (None, None);
        for executor in &self.runner.executors {
            let probed = tokio::time::timeout(PROBE_LIMIT, executor.probe());
            match probed.await.unwrap_or_else(|_| Err("probing it takes too long".to_owned())) {
                Ok(probe) => {
                    if !before.contains(&executor.kind()) {
                        tracing::info!(executor = %executor.kind(), version = probe.version, notes = probe.notes.join("; "), "executor works");
                    }
                    working.insert(executor.kind());
                    providers.extend(executor.providers());
                    vm_images = vm_images.or_else(|| executor.images());
                    if executor.kind() == ExecutorKind::Container {
                        containers = executor.container_images().await;
                    }
                }
                Err(error) => tracing::warn!(executor = %executor.kind(), error, "executor does not work"),
            }
        }
        let config = &self.config;
        let offer = Offer {
            identity: Some(config.identity.clone()),
            queues: config.queues.clone(),
            arches: config.arches.clone(),
            vm_arches: if working.contains(&ExecutorKind::Vm) {
                vm_arches().into_iter().map(str::to_owned).collect()
            } else {
                [].into()
            },
            executors: working,
            providers,
            vm_images,
            containers,
            labels: config.labels.clone(),
            memory_bytes: config.memory_bytes,
            disk_bytes: config.disk_bytes,
            cpus: config.cpus,
            kvm: config.kvm,
            slots: config.slots,
            foreign: None,
        };
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = offer;
    }

    /// Removes what dead workers left.
    async fn sweep(&self) {
        let _sweeping = self.sweeping.write().await;
        for executor in &self.runner.executors {
            let alive = self.table.labels(&self.runner.worker);
            match tokio::time::timeout(SWEEP_LIMIT, executor.sweep(&alive)).await {
                Ok(Ok(swept)) if swept == crate::executor::Swept::default() => {}
                Ok(Ok(swept)) => tracing::info!(executor = %executor.kind(), ?swept, "leftovers removed"),
                Ok(Err(error)) => tracing::warn!(executor = %executor.kind(), error, "leftovers remain"),
                Err(_) => tracing::warn!(executor = %executor.kind(), "sweeping takes too long"),
            }
        }
    }

    async fn trim(&self) {
        if let Err(error) = self.runner.git.trim().await {
            tracing::warn!(%error, "the git mirrors cannot be trimmed");
        }
        let (folder, max) = (self.config.run.fetch.cache_dir.clone(), self.config.run.fetch.cache_bytes_max);
        match tokio::task::spawn_blocking(move || fetch::prune(&folder, max)).await {
            Ok(Ok(removed)) if removed > 0 => tracing::info!(removed, "cached files removed"),
            Ok(Err(error)) => tracing::warn!(%error, "the cache of fetched files cannot be trimmed"),
            _ => {}
        }
    }

    /// Ends what runs, gently or at once, and waits for it.
    async fn wind_down(
        self: &Arc<Self>,
        attempts: &TaskTracker,
        shutdown: &Shutdown,
        give_up: &CancellationToken,
    ) {
        self.hand_back_unheard(attempts, shutdown, give_up).await;
        let handed_back = self.table.hand_back_all();
        self.table.end_holds();
        let running = self.table.len();
        tracing::info!(running, handed_back, "the worker takes no more tasks, and finishes those that run");
        attempts.close();
        let killed = async {
            shutdown.kill.cancelled().await;
            self.table.stop_all(&StopWhy::Killed);
            self.only_deliveries_left().await;
            tokio::time::sleep(KILL_DELIVERY_LIMIT).await;
        };
        let finished = async {
            self.only_deliveries_left().await;
            tokio::time::sleep(STOP_DELIVERY_LIMIT).await;
        };
        tokio::select! {
            () = attempts.wait() => return,
            () = killed => {}
            () = finished => {}
        }
        give_up.cancel();
        attempts.wait().await;
    }

    /// A claim that was cut off may have been answered: its tasks are handed back rather than left to expire.
    async fn hand_back_unheard(
        self: &Arc<Self>,
        attempts: &TaskTracker,
        shutdown: &Shutdown,
        give_up: &CancellationToken,
    ) {
        let request = self.claim_request(0, 0);
        let asked = tokio::time::timeout(KILL_DELIVERY_LIMIT, self.client.claim(&request)).await;
        let Ok(Ok(Claimed { reply, unread })) = asked else { return };
        for assignment in reply.assignments {
            self.start(attempts, assignment, shutdown, give_up);
        }
        for (held, why) in unread {
            self.refuse(attempts, held, why, give_up);
        }
    }

    /// Says goodbye. A server that does not hear it, or is too old to know the word, finds this worker silent.
    async fn leave(&self) {
        let told = tokio::time::timeout(LEAVE_LIMIT, self.client.leave(&self.config.name)).await;
        if let Ok(Err(error)) = told {
            tracing::debug!(%error, "the server was not told that this worker stops");
        }
    }

    async fn only_deliveries_left(&self) {
        loop {
            let freed = self.table.freed.notified();
            if self.table.is_delivering() {
                return;
            }
            // Going on to delivering is not told; looking now and then is enough for stopping.
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }
}

fn lock_folder(folder: &Path) -> Result<File, AgentError> {
    let wrong = |error| AgentError::WorkDir { path: folder.to_owned(), error };
    std::fs::create_dir_all(folder).map_err(wrong)?;
    let lock = File::create(folder.join("lock")).map_err(wrong)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(AgentError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(wrong(error)),
    }
}
