//! The parts put together, and the loops kept going.

use crate::{
    chain,
    counters::{self, Counters},
    dispatch,
    files::Files,
    gather::Gather,
    handover::Handover,
    heard::Heard,
    ingest,
    metrics::Metrics,
    relay,
    resolve::{self, Repositories},
    rulebook::{self, Rulebook},
    settings::Settings,
    sinks::{self, Served},
    sweep, timers, upkeep,
    wake::Wake,
    watch as folder,
};
use events::{Outlet, OutletHealth, Source, SourceHealth};
use model::{Clock, Ids, ids::SourceName, retest::ResultsElsewhere, sink::Sink};
use serde::Serialize;
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use store::{NewEntry, PaddlesReport, Store};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// What a scheduler is made of; all of it is passed in.
pub struct Parts {
    /// What is set.
    pub settings: Settings,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The maker of ids.
    pub ids: Arc<dyn Ids>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Where logs and artifacts lie.
    pub files: Files,
    /// The rules.
    pub rulebook: Rulebook,
    /// What reads task repositories.
    pub repositories: Arc<dyn Repositories>,
    /// The bus to tell on; without one, messages are told in the live stream only.
    pub outlet: Option<Arc<dyn Outlet>>,
    /// Where results and messages also go.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// The ResultsDB elsewhere that people take numbers of results from, where there is one.
    pub results_elsewhere: Option<Arc<dyn ResultsElsewhere>>,
}

/// The scheduler: a handle that is cheap to clone.
#[derive(Clone)]
pub struct Scheduler(Arc<Inner>);

/// A scheduler that whoever holds this does not keep.
#[derive(Clone)]
pub(crate) struct WeakScheduler(Weak<Inner>);

impl WeakScheduler {
    /// The scheduler, while there is one.
    pub(crate) fn upgrade(&self) -> Option<Scheduler> {
        self.0.upgrade().map(Scheduler)
    }
}

struct Inner {
    parts: Parts,
    wake: Wake,
    metrics: Metrics,
    counters: Counters,
    handover: Handover,
    sources: Mutex<Vec<(SourceName, watch::Receiver<SourceHealth>)>>,
    sinks: Vec<Arc<Served>>,
    entries: Gather<NewEntry>,
    paddles_reports: Gather<PaddlesReport>,
}

/// How a source is doing, with its name.
#[derive(Debug, Clone, Serialize)]
pub struct NamedHealth {
    /// The source.
    pub name: SourceName,
    /// How it is doing.
    #[serde(flatten)]
    pub health: SourceHealth,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("server", &self.settings().server).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Puts the parts together. Nothing runs before [`Scheduler::run`].
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        let mut sinks = std::mem::take(&mut parts.sinks);
        Self(Arc::new_cyclic(|inner| {
            let heard = Heard::of(&parts.settings.retest, WeakScheduler(inner.clone()));
            sinks.extend(heard.map(|heard| Arc::new(heard) as Arc<dyn Sink>));
            Inner {
                sinks: sinks.into_iter().map(|sink| Arc::new(Served::new(sink))).collect(),
                parts,
                wake: Wake::default(),
                metrics: Metrics::default(),
                counters: Counters::default(),
                handover: Handover::default(),
                sources: Mutex::default(),
                entries: Gather::default(),
                paddles_reports: Gather::default(),
            }
        }))
    }

    /// What is set.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.parts.settings
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.parts.clock
    }

    /// The maker of ids.
    #[must_use]
    pub fn ids(&self) -> &Arc<dyn Ids> {
        &self.0.parts.ids
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.0.parts.store
    }

    /// Where logs and artifacts lie.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.0.parts.files
    }

    /// The rules in force.
    #[must_use]
    pub fn rulebook(&self) -> &Rulebook {
        &self.0.parts.rulebook
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The bells.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.0.wake
    }

    /// How each source is doing.
    #[must_use]
    pub fn source_health(&self) -> Vec<NamedHealth> {
        let sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |(name, health): &(SourceName, watch::Receiver<SourceHealth>)| NamedHealth {
            name: name.clone(),
            health: health.borrow().clone(),
        };
        sources.iter().map(read).collect()
    }

    /// How the outlet is doing; nothing without one.
    #[must_use]
    pub fn outlet_health(&self) -> Option<OutletHealth> {
        self.outlet().map(|outlet| outlet.health().borrow().clone())
    }

    pub(crate) fn results_elsewhere(&self) -> Option<&dyn ResultsElsewhere> {
        self.0.parts.results_elsewhere.as_deref()
    }

    pub(crate) fn sinks(&self) -> &[Arc<Served>] {
        &self.0.sinks
    }

    pub(crate) fn entries(&self) -> &Gather<NewEntry> {
        &self.0.entries
    }

    pub(crate) fn paddles_reports(&self) -> &Gather<PaddlesReport> {
        &self.0.paddles_reports
    }

    pub(crate) fn handover(&self) -> &Handover {
        &self.0.handover
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn repositories(&self) -> &dyn Repositories {
        &*self.0.parts.repositories
    }

    pub(crate) fn outlet(&self) -> Option<&dyn Outlet> {
        self.0.parts.outlet.as_deref()
    }

    /// Runs all loops until `stop`; a loop that ends or panics before stops all the others.
    ///
    /// # Errors
    /// The name of the loop that ended by itself.
    pub async fn run(&self, sources: Vec<Box<dyn Source>>, stop: CancellationToken) -> Result<(), LoopEnded> {
        let mut loops = Loops { set: JoinSet::new(), names: Vec::new(), stop: stop.child_token() };
        for source in sources {
            let name = format!("source {}", source.name());
            let health = (source.name().clone(), source.health());
            self.0.sources.lock().unwrap_or_else(PoisonError::into_inner).push(health);
            loops.start(name, ingest::run_source(self.clone(), source, loops.stop.clone()));
        }
        loops.start("rules", rulebook::run(self.clone(), loops.stop.clone()));
        loops.start("rules folder", folder::run(self.clone(), loops.stop.clone()));
        loops.start("own events", chain::run(self.clone(), loops.stop.clone()));
        loops.start("timers", timers::run(self.clone(), loops.stop.clone()));
        loops.start("rule counters", counters::run(self.clone(), loops.stop.clone()));
        loops.start("resolver", resolve::run(self.clone(), loops.stop.clone()));
        loops.start("reaper", dispatch::run_reaper(self.clone(), loops.stop.clone()));
        loops.start("outbox stamper", relay::run_stamper(self.clone(), loops.stop.clone()));
        loops.start("outbox publisher", relay::run_publisher(self.clone(), loops.stop.clone()));
        for served in self.sinks() {
            let name = format!("sink {}", served.name());
            loops.start(name, sinks::run(self.clone(), Arc::clone(served), loops.stop.clone()));
        }
        loops.start("upkeep", upkeep::run(self.clone(), loops.stop.clone()));
        loops.start("file sweep", sweep::run(self.clone(), loops.stop.clone()));
        loops.join().await
    }
}

/// A loop that must not end ended.
#[derive(Debug, thiserror::Error)]
#[error("the loop `{0}` ended by itself; that is a fault of this program")]
pub struct LoopEnded(pub String);

struct Loops {
    set: JoinSet<()>,
    names: Vec<(tokio::task::Id, String)>,
    stop: CancellationToken,
}

impl Loops {
    fn start(&mut self, name: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) {
        let handle = self.set.spawn(work);
        self.names.push((handle.id(), name.into()));
    }

    async fn join(mut self) -> Result<(), LoopEnded> {
        let mut first = None;
        while let Some(ended) = self.set.join_next_with_id().await {
            let (id, panicked) = match ended {
                Ok((id, ())) => (id, false),
                Err(error) => (error.id(), error.is_panic()),
            };
            if panicked || !self.stop.is_cancelled() {
                let name = self.names.iter().find(|(known, _)| *known == id).map(|(_, name)| name.clone());
                let name = name.unwrap_or_default();
                tracing::error!(name, panicked, "a loop ended by itself");
                first = first.or(Some(LoopEnded(name)));
                self.stop.cancel();
            }
        }
        first.map_or(Ok(()), Err)
    }
}
