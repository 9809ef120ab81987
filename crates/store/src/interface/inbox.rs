//! The inbox: events, what rules said to them, and what became of it, in one transaction.

use super::{NewCollect, NewTask, Page, Result, Unresolved};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{
    Event, EventId, Item, Revision, RuleName, TaskId, Topic,
    ids::{EventSeq, GroupName, SourceName},
    limits::Limits,
    message::NewMessage,
    verdict::{Verdict, VerdictKind},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An event with what the rules said to it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventCommit {
    /// The event.
    pub event: Event,
    /// What the rules said. `None` keeps it for judging later ([`Inbox::unjudged`]).
    pub judgement: Option<Judgement>,
}

/// What the rules said to an event, and what they wish.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The revision that judged.
    pub revision: Revision,
    /// Firings, errors and suppressions; plain non-matches are not stored.
    pub verdicts: Vec<Verdict>,
    /// Tasks to make.
    pub tasks: Vec<NewTask>,
    /// Tasks to cancel.
    pub cancels: Vec<CancelWish>,
    /// Messages to tell, which are also events of ours where their topic may chain. The subject is the rule.
    pub emits: Vec<NewMessage>,
    /// Events to collect for a later firing.
    pub collects: Vec<NewCollect>,
    /// The limits of the rules that have some.
    pub limits: BTreeMap<RuleName, Limits>,
}

impl Judgement {
    /// Nothing was said.
    #[must_use]
    pub const fn none(revision: Revision) -> Self {
        Self {
            revision,
            verdicts: Vec::new(),
            tasks: Vec::new(),
            cancels: Vec::new(),
            emits: Vec::new(),
            collects: Vec::new(),
            limits: BTreeMap::new(),
        }
    }

    /// Whether nothing comes of it but that the event was judged.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let quiet = |verdict: &Verdict| matches!(verdict.verdict, VerdictKind::NoMatch);
        self.verdicts.iter().all(quiet)
            && self.tasks.is_empty()
            && self.cancels.is_empty()
            && self.emits.is_empty()
            && self.collects.is_empty()
    }

    /// Whether any rule wishes something to be done.
    #[must_use]
    pub fn acts(&self) -> bool {
        let acts = |verdict: &Verdict| {
            matches!(verdict.verdict, VerdictKind::Fired { .. } | VerdictKind::Collected { .. })
        };
        self.verdicts.iter().any(acts)
    }
}

/// A rule's wish to cancel what is not final: all tasks of an item, or of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelWish {
    /// The rule.
    pub rule: RuleName,
    /// What.
    pub what: CancelWhat,
}

/// What a cancel wish is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelWhat {
    /// All tasks of an item.
    Item(Item),
    /// All tasks of a group.
    Group(GroupName),
}

/// What became of an event in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It was new. `tasks` are those that were made; wishes that were made before (`dedupe`) are missing.
    New {
        /// Its place in the inbox.
        seq: EventSeq,
        /// The tasks made.
        tasks: Vec<TaskId>,
    },
    /// It was there already, with the same content: nothing was written.
    Known {
        /// Its place in the inbox.
        seq: EventSeq,
    },
    /// Its id was there already with another content: it was written to the dead letters.
    Conflict {
        /// The place of the first one.
        seq: EventSeq,
    },
}

/// An event that waits to be judged: one of our own, or one to be replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Unjudged {
    /// Its place in the inbox.
    pub seq: EventSeq,
    /// How often it was replayed.
    pub generation: u32,
    /// The event.
    pub event: Event,
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its place in the inbox.
    pub seq: EventSeq,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// How often it was replayed.
    pub generation: u32,
    /// The revision that judged it last; nothing while it waits.
    pub revision: Option<Revision>,
    /// Whether its body was kept no longer: then the payload is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_expired: bool,
}

/// One row of what a rule said to an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// The event.
    pub event: EventSeq,
    /// The replay that it belongs to.
    pub generation: u32,
    /// The revision that judged.
    pub revision: Revision,
    /// What the rule said.
    pub verdict: Verdict,
    /// When.
    pub at: DateTime<Utc>,
}

/// Which events to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only of this topic.
    pub topic: Option<Topic>,
    /// Only of topics that start with this text.
    pub topic_prefix: Option<String>,
    /// Only of this source.
    pub source: Option<SourceName>,
    /// Only received at or after.
    pub since: Option<DateTime<Utc>>,
    /// Only received before.
    pub until: Option<DateTime<Utc>>,
    /// Only older than this one (the `next` of a page).
    pub before: Option<EventSeq>,
    /// Oldest first, and `before` becomes `after`.
    pub oldest_first: bool,
    /// The most entries, at most [`super::PAGE_MAX`].
    pub limit: u32,
}

/// The inbox.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Writes a batch of events with their judgements in one transaction: inbox, firings, tasks, cancellations,
    /// outbox (`taskbot.event.received`, `taskbot.rule.*`, `taskbot.task.created`, what rules emit). An event
    /// that is there already drops its tasks too. Only after it returns may the bus be acknowledged.
    ///
    /// The answer has an entry for each event, in order. One poisoned event fails the whole batch with
    /// [`super::StoreError::Poison`]: the caller halves it.
    async fn commit_events(&self, batch: &[EventCommit]) -> Result<Vec<Committed>> {
        Ok(self.commit_and_take(batch, 0, 0).await?.0)
    }

    /// The same, and the first `at_most` of the tasks that it makes and that wait to be resolved are taken for
    /// `hold_ms`, as [`super::Tasks::unresolved`] takes them: whoever makes them can resolve them at once.
    async fn commit_and_take(
        &self,
        batch: &[EventCommit],
        at_most: usize,
        hold_ms: u64,
    ) -> Result<(Vec<Committed>, Vec<Unresolved>)>;

    /// Events that wait to be judged, oldest first, taken for `hold_ms` so that another server takes others.
    async fn unjudged(&self, limit: u32, hold_ms: u64) -> Result<Vec<Unjudged>>;

    /// Writes what the rules said to events that were there unjudged, all or nothing. Gives those that were not:
    /// another server was first.
    async fn judge_all(&self, judged: &[(EventSeq, u32, Judgement)]) -> Result<Vec<EventSeq>>;

    /// The same for one event. `false` when another server was first.
    async fn judge(&self, seq: EventSeq, generation: u32, judgement: &Judgement) -> Result<bool> {
        Ok(self.judge_all(&[(seq, generation, judgement.clone())]).await?.is_empty())
    }

    /// Raises an event's generation and lets it wait to be judged by today's rules. Returns the generation.
    async fn replay(&self, seq: EventSeq) -> Result<u32>;

    /// An event by its place.
    async fn event(&self, seq: EventSeq) -> Result<StoredEvent>;

    /// The events with this id, in any domain, or whose id starts with it when none has it (at most 10).
    async fn events_by_id(&self, id: &EventId) -> Result<Vec<StoredEvent>>;

    /// A list of events.
    async fn events(&self, query: &EventQuery) -> Result<Page<StoredEvent>>;

    /// What rules said to an event (all generations), in the order of writing.
    async fn firings(&self, event: EventSeq) -> Result<Vec<Firing>>;
}
