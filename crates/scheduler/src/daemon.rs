//! The parts put together, and the loops kept going.

use crate::{
    chain,
    counters::{self, Counters},
    dispatch,
    files::Files,
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
use store::Store;
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
            }
