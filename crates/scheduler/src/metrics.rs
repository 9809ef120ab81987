//! Figures for Prometheus. Labels have few values: never an id, an item or a topic.

use crate::ingest::Taken;
use model::Task;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use store::Figures;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByQueueAndOutcome {
    queue: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByQueueAndState {
    queue: String,
    state: String,
}

/// All figures of a server. Counters start with the server; gauges are read when they are asked for.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Family<ByResult, Counter>,
    reloads: Family<ByResult, Counter>,
    tasks_finished: Family<ByQueueAndOutcome, Counter>,
    attempts_lost: Counter,
    messages: Counter,
    tasks: Family<ByQueueAndState, Gauge>,
    outbox_pending: Gauge,
    unjudged: Gauge,
    dead_letters: Gauge,
    database_up: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("taskbot"),
            events: Family::default(),
            reloads: Family::default(),
            tasks_finished: Family::default(),
            attempts_lost: Counter::default(),
            messages: Counter::default(),
            tasks: Family::default(),
            outbox_pending: Gauge::default(),
            unjudged: Gauge::default(),
            dead_letters: Gauge::default(),
            database_up: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("events", "Events taken in, by what became of them", metrics.events.clone());
        registry.register("rules_reloads", "Rule sets loaded, by result", metrics.reloads.clone());
        registry.register("tasks_finished", "Tasks that ended", metrics.tasks_finished.clone());
        registry.register("attempts_lost", "Attempts whose lease ended", metrics.attempts_lost.clone());
        registry.register("messages_published", "Messages told on the bus", metrics.messages.clone());
        registry.register("tasks", "Tasks that are not final", metrics.tasks.clone());
        registry.register("outbox_pending", "Messages that wait for the bus", metrics.outbox_pending.clone());
        registry.register("events_unjudged", "Own events that wait to be judged", metrics.unjudged.clone());
        registry.register("dead_letters", "Dead letters", metrics.dead_letters.clone());
        registry.register("database_up", "Whether the database answers", metrics.database_up.clone());
        metrics
    }
}

impl Metrics {
    pub(crate) fn events_taken(&self, taken: &[Taken]) {
        for taken in taken {
            let result = match taken {
                Taken::New { .. } => "new",
                Taken::Known { .. } => "known",
                Taken::Conflict { .. } => "conflict",
                Taken::Dead { .. } => "dead",
            };
            self.events.get_or_create(&ByResult { result }).inc();
        }
    }

    pub(crate) fn events_malformed(&self, count: usize) {
        self.events.get_or_create(&ByResult { result: "dead" }).inc_by(count as u64);
    }

    pub(crate) fn rules_loaded(&self, ok: bool) {
        let result = if ok { "ok" } else { "refused" };
        self.reloads.get_or_create(&ByResult { result }).inc();
    }

    pub(crate) fn task_finished(&self, task: &Task) {
        // One that goes back to its queue for another attempt has not ended.
        if !task.state.is_final() {
            return;
        }
        let outcome = task.state.outcome().map_or(task.state.name(), model::Outcome::class);
        let labels = ByQueueAndOutcome { queue: task.queue.to_string(), outcome };
        self.tasks_finished.get_or_create(&labels).inc();
    }

    pub(crate) fn attempts_lost(&self, count: usize) {
        self.attempts_lost.inc_by(count as u64);
    }

    pub(crate) fn messages_published(&self, count: usize) {
        self.messages.inc_by(count as u64);
    }

    /// All figures in the text form of Prometheus; `figures` are the database's, none while it is away: then
    /// its gauges are as they were last, and `database_up` is 0.
    #[must_use]
    pub fn encode(&self, figures: Option<&Figures>) -> String {
        self.database_up.set(figures.is_some().into());
        if let Some(figures) = figures {
            self.set_gauges(figures);
        }
        let mut out = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    fn set_gauges(&self, figures: &Figures) {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.tasks.clear();
        for (queue, state, count) in &figures.tasks {
            let labels = ByQueueAndState { queue: queue.clone(), state: state.clone() };
            self.tasks.get_or_create(&labels).set(whole(*count));
        }
        self.outbox_pending.set(whole(figures.outbox_pending));
        self.unjudged.set(whole(figures.unjudged));
        self.dead_letters.set(whole(figures.dead_letters));
    }
}
