//! Writing what rules said to events: firings, tasks, cancellations, messages; and what holds, limits and windows
//! make of it.

use super::{
    SqlStore,
    collecting::Collecting,
    counters,
    deduping::{self, Wishes, hash_of, make_wishes, until},
    holds::Holds,
    limits::{Admitted, Rates},
    making::{Cancelling, Making},
    session::{Bulk, Kind, Session},
    tasks::making,
    value::{Value, json, values},
    work::Work,
};
use crate::{Dedupe, Judgement, NewTask, Result, Unresolved};
use chrono::{DateTime, Duration, Utc};
use model::{
    Event, RuleName, TaskId, TaskKey, TaskState,
    event::OWN_SOURCE,
    ids::EventSeq,
    limits::OnExcess,
    message::NewMessage,
    task::WaitReason,
    verdict::{Verdict, VerdictKind},
};
use std::collections::{BTreeMap, HashMap, HashSet};

const FIRING: Bulk = Bulk {
    table: "firing",
    columns: &[
        ("event_seq", Kind::Int),
        ("generation", Kind::Int),
        ("revision", Kind::Text),
        ("verdict", Kind::Text),
        ("at", Kind::Time),
    ],
    tail: "",
};

/// An event that is in the inbox now, with what the rules said.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) seq: EventSeq,
    pub(crate) generation: u32,
    pub(crate) event: &'a Event,
    pub(crate) judgement: &'a Judgement,
    /// It was judged in this generation before, and held.
    pub(crate) again: bool,
}

/// What comes of the wishes of one event.
#[derive(Debug, Default)]
struct Coming {
    /// Verdicts that the rules could not know of.
    more: Vec<Verdict>,
    /// Rules that went over a limit that holds them: what else they wish for this event waits.
    tripped: HashSet<RuleName>,
}

impl Coming {
    /// Adds a verdict, once.
    fn say(&mut self, rule: &RuleName, verdict: VerdictKind) {
        let verdict = Verdict { rule: rule.clone(), verdict, clauses: Vec::new() };
        if !self.more.contains(&verdict) {
            self.more.push(verdict);
        }
    }
}

/// How many of the tasks that are made and wait to be resolved are taken by whoever makes them, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taking {
    pub(crate) at_most: usize,
    pub(crate) hold: Duration,
}

impl Taking {
    pub(crate) const NONE: Self = Self { at_most: 0, hold: Duration::zero() };
}

/// What was made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The tasks of each event.
    pub(crate) by_event: HashMap<EventSeq, Vec<TaskId>>,
    /// Those that were taken.
    pub(crate) taken: Vec<Unresolved>,
}

/// What a transaction applies.
struct Applying<'s, 'a> {
    work: Work<'s>,
    holds: Holds,
    rates: Rates,
    /// Wishes with a key that were not made within their window.
    fresh: HashSet<[u8; 32]>,
    /// Such wishes that a limit kept from being made: they hold nothing off.
    unmade: Vec<[u8; 32]>,
    makings: Vec<Making>,
    wished: HashMap<TaskId, EventSeq>,
    cancels: Vec<Cancelling<'a>>,
    collecting: Collecting<'a>,
    firings: Vec<Vec<Value>>,
    suppressed: BTreeMap<RuleName, u64>,
}

/// Writes what rules said to events, in their order. Gives the tasks that were made for each.
pub(crate) async fn apply(
    store: &SqlStore,
    session: &mut Session,
    judged: &[Judged<'_>],
    taking: Taking,
) -> Result<Made> {
    let now = session.now;
    let holds = Holds::read(session, judged).await?;
    let fresh = make_wishes(session, wishes_of(judged, &holds, now)).await?;
    let rates = Rates::read(session, judged, &holds).await?;
    let mut applying = Applying {
        work: Work::new(session, store),
        holds,
        rates,
        fresh,
        unmade: Vec::new(),
        makings: Vec::new(),
        wished: HashMap::new(),
        cancels: Vec::new(),
        collecting: Collecting::default(),
        firings: Vec::new(),
        suppressed: BTreeMap::new(),
    };
    for (order, one) in judged.iter().enumerate() {
        applying.take(one, order).await?;
    }
    applying.write(taking).await
}

impl<'a> Applying<'_, 'a> {
    /// Takes what rules said to one event.
    async fn take(&mut self, one: &Judged<'a>, order: usize) -> Result<()> {
        let Judged { seq, generation, event, judgement, again } = *one;
        // An event of ours has been told by the message that it is.
        if generation == 0 && !again && event.source.as_str() != OWN_SOURCE {
            self.work.out.tell(NewMessage::event(seq, event, &judgement.revision));
        }
        let mut coming = Coming::default();
        for task in &judgement.tasks {
            self.take_task(one, task, order, &mut coming).await?;
        }
        for verdict in &judgement.verdicts {
            match (&verdict.verdict, self.holds_back(&verdict.rule, &coming)) {
                (VerdictKind::NoMatch, _) => {}
                (VerdictKind::Fired { .. } | VerdictKind::Collected { .. }, Some(why)) => {
                    let held = VerdictKind::Held { why };
                    self.holds.keep(&verdict.rule, seq, generation);
                    self.fire(
                        one,
                        &Verdict { rule: verdict.rule.clone(), verdict: held, clauses: Vec::new() },
                    )?;
                }
                _ => self.fire(one, verdict)?,
            }
        }
        for verdict in &coming.more {
            self.fire(one, verdict)?;
        }
        self.take_others(one, order)
    }

    /// Why all that a rule wishes for an event waits. A rule that has just gone over its limit says what it made.
    fn holds_back(&self, rule: &RuleName, coming: &Coming) -> Option<String> {
        if coming.tripped.contains(rule) { None } else { self.holds.why(rule).map(str::to_owned) }
    }

    fn waits(&self, rule: &RuleName) -> bool {
        self.holds.why(rule).is_some()
    }

    async fn take_task(
        &mut self,
        one: &Judged<'a>,
        task: &'a NewTask,
        order: usize,
        coming: &mut Coming,
    ) -> Result<()> {
        let rule = rule_of(task);
        if self.waits(rule) {
            // It was not held yet when the wishes of the whole batch were made.
            let made = task.dedupe.as_ref().map(hash_of).filter(|hash| self.fresh.remove(hash));
            self.unmade.extend(made);
            return Ok(());
        }
        // The first of several with one key takes it away.
        if let Some(dedupe) = &task.dedupe
            && !self.fresh.remove(&hash_of(dedupe))
        {
            coming.more.push(duplicate(rule, dedupe));
            return Ok(());
        }
        let mut making = making(self.work.store, task, Some(one.seq), order, self.work.now);
        making.row.generation = one.generation;
        match self.rates.admit(task) {
            Admitted::Made => {}
            Admitted::Over(OnExcess::Park, limit) => {
                making.row.task.state = TaskState::waiting(WaitReason::Parked, self.work.now);
                making.queue = false;
                coming.say(rule, VerdictKind::Parked { limit });
            }
            Admitted::Over(OnExcess::Drop, limit) => {
                self.unmade.extend(task.dedupe.as_ref().map(hash_of));
                coming.say(rule, VerdictKind::Limited { limit });
                return Ok(());
            }
            Admitted::Over(OnExcess::Pause, limit) => {
                self.unmade.extend(task.dedupe.as_ref().map(hash_of));
                self.holds.trip(self.work.session, rule, &limit).await?;
                self.holds.keep(rule, one.seq, one.generation);
                let why = self.holds.why(rule).unwrap_or_default().to_owned();
                coming.say(rule, VerdictKind::Held { why });
                coming.tripped.insert(rule.clone());
                return Ok(());
            }
        }
        self.wished.insert(task.id, one.seq);
        self.makings.push(making);
        Ok(())
    }

    /// Takes what is wished beside tasks. Of a held rule it waits, as its event does.
    fn take_others(&mut self, one: &Judged<'a>, order: usize) -> Result<()> {
        let Judged { seq, generation, event, judgement, .. } = *one;
        for wish in &judgement.cancels {
            if !self.waits(&wish.rule) {
                self.cancels.push(Cancelling { wish, order });
            }
        }
        for wish in judgement.collects.iter().filter(|wish| self.holds.why(&wish.rule).is_none()) {
            self.collecting.add(wish, seq, event)?;
        }
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for message in &judgement.emits {
            let n = numbers.entry(&message.subject).or_default();
            let id = format!("emit/{seq}/{generation}/{}/{n}", message.subject);
            *n += 1;
            if !self.waits(&RuleName::from(message.subject.as_str())) {
                self.work.out.chain(message.clone(), id, event.depth, event.cause, self.work.now);
            }
        }
        Ok(())
    }

    fn fire(&mut self, one: &Judged<'_>, verdict: &Verdict) -> Result<()> {
        let Judged { seq, generation, event, judgement, .. } = one;
        if is_suppression(&verdict.verdict) {
            *self.suppressed.entry(verdict.rule.clone()).or_default() += 1;
        }
        self.work.out.tell(NewMessage::rule(*seq, event, &verdict.rule, &verdict.verdict));
        self.firings.push(values![*seq, *generation, &judgement.revision, json(verdict)?, self.work.now]);
        Ok(())
    }

    /// Takes the first of the tasks that wait to be resolved.
    fn take_unresolved(&mut self, taking: Taking) -> Vec<Unresolved> {
        let until = self.work.now + taking.hold;
        let waits = |making: &&mut Making| {
            matches!(making.row.task.state, TaskState::Waiting { reason: WaitReason::Resolving, .. })
        };
        let take = |making: &mut Making| {
            making.row.hold_until = until;
            Unresolved { task: making.row.task.clone(), tries: making.row.tries }
        };
        self.makings.iter_mut().filter(waits).take(taking.at_most).map(take).collect()
    }

    async fn write(mut self, taking: Taking) -> Result<Made> {
        let mut taken = self.take_unresolved(taking);
        self.work.session.insert(&FIRING, self.firings).await?;
        deduping::forget(self.work.session, &self.unmade).await?;
        let order: Vec<_> = self.makings.iter().map(|making| making.row.task.id).collect();
        let counted = counted(&self.makings);
        let made: HashSet<_> = self.work.make(self.makings, &self.cancels).await?;
        for (rule, key, id) in counted {
            if !made.contains(&id) {
                self.rates.not_made(&rule, &key);
            }
        }
        self.rates.write(self.work.session).await?;
        self.collecting.write(&mut self.work).await?;
        self.holds.write(self.work.session).await?;
        counters::suppressed(self.work.session, self.suppressed).await?;
        self.work.done().await?;
        taken.retain(|unresolved| made.contains(&unresolved.task.id));
        let mut by_event: HashMap<EventSeq, Vec<TaskId>> = HashMap::new();
        for id in order.into_iter().filter(|id| made.contains(id)) {
            if let Some(seq) = self.wished.get(&id) {
                by_event.entry(*seq).or_default().push(id);
            }
        }
        Ok(Made { by_event, taken })
    }
}

/// The tasks that count, if their rule has a limit.
fn counted(makings: &[Making]) -> Vec<(RuleName, TaskKey, TaskId)> {
    let rows = makings.iter().map(|making| &making.row.task);
    rows.filter(|task| !matches!(task.state, TaskState::Waiting { reason: WaitReason::Parked, .. }))
        .filter_map(|task| Some((task.origin.rule()?.clone(), task.key, task.id)))
        .collect()
}

/// Only rules wish tasks for events.
fn rule_of(task: &NewTask) -> &RuleName {
    static NONE: std::sync::LazyLock<RuleName> = std::sync::LazyLock::new(|| RuleName::from(""));
    task.origin.rule().unwrap_or(&NONE)
}

fn is_suppression(verdict: &VerdictKind) -> bool {
    matches!(
        verdict,
        VerdictKind::Duplicate { .. }
            | VerdictKind::Limited { .. }
            | VerdictKind::Parked { .. }
            | VerdictKind::Held { .. }
    )
}

fn wishes_of(judged: &[Judged<'_>], holds: &Holds, now: DateTime<Utc>) -> Wishes {
    let tasks = judged.iter().flat_map(|one| &one.judgement.tasks);
    tasks
        .filter(|task| holds.why(rule_of(task)).is_none())
        .filter_map(|task| task.dedupe.as_ref())
        .map(|dedupe| (hash_of(dedupe), until(now, dedupe)))
        .collect()
}

fn duplicate(rule: &RuleName, dedupe: &Dedupe) -> Verdict {
    let verdict = VerdictKind::Duplicate { key: dedupe.key.clone() };
    Verdict { rule: rule.clone(), verdict, clauses: Vec::new() }
}
