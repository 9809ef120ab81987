//! Holds, and the events that they hold back.

use super::{
    SqlStore,
    applying::{Judged, Taking, apply},
    inbox_read::read_event,
    session::{Bulk, Kind, Session, Sql, transaction},
    tasks::milliseconds,
    value::{Row, Value, values},
};
use crate::{Backlog, DueHeld, Hold, HoldKind, Judgement, Result, StoreError, StoredEvent};
use model::{RuleName, TaskId, ids::EventSeq};
use std::collections::BTreeMap;

/// Stands for all rules; no rule has this name.
const ALL: &str = "*";
/// Who holds a rule that went over its limit.
const BY_LIMIT: &str = "limit";

const HOLDS: &str = "select rule, kind, by_whom, why, since from rule_hold order by rule";
const HOLD: &str = "insert into rule_hold (rule, kind, by_whom, why, since) values ($1, $2, $3, $4, $5) \
    on conflict (rule) do update set kind = excluded.kind, by_whom = excluded.by_whom, why = excluded.why \
    returning rule, kind, by_whom, why, since";
const HOLD_BY_LIMIT: &str = "insert into rule_hold (rule, kind, by_whom, why, since) \
    values ($1, $2, $3, $4, $5) on conflict (rule) do nothing";
const COUNT_ANEW: &str = "delete from rule_rate where rule = $1 \
    and exists (select 1 from rule_hold h where h.rule = $1 and h.kind = $2)";
const END: &str = "delete from rule_hold where rule = $1";
const DROP_OF_RULE: &str = "delete from held_event where rule = $1";
const DROP_OF_ALL: &str = "delete from held_event where rule not in (select rule from rule_hold)";
/// What is held twice is held once.
const KEEP: Bulk = Bulk {
    table: "held_event",
    columns: &[
        ("rule", Kind::Text),
        ("event_seq", Kind::Int),
        ("generation", Kind::Int),
        ("at", Kind::Time),
        ("hold_until", Kind::Time),
    ],
    tail: "on conflict (rule, event_seq, generation) do nothing",
};
const TAKE_DUE: Sql = Sql {
    sqlite: "update held_event set hold_until = $2 where (rule, event_seq, generation) in (\
        select rule, event_seq, generation from held_event where hold_until <= $1 \
        and not exists (select 1 from rule_hold r where r.rule = held_event.rule or r.rule = '*') \
        order by event_seq, rule limit $3) returning rule, event_seq, generation",
    postgres: "update held_event h set hold_until = $2 from (\
        select e.rule, e.event_seq, e.generation from held_event e where e.hold_until <= $1 \
        and not exists (select 1 from rule_hold r where r.rule = e.rule or r.rule = '*') \
        order by e.event_seq, e.rule limit $3 for update of e skip locked) as due \
        where h.rule = due.rule and h.event_seq = due.event_seq and h.generation = due.generation \
        returning h.rule, h.event_seq, h.generation",
};
const EVENTS: Sql = Sql {
    sqlite: "select * from event where seq in (select value from json_each($1))",
    postgres: "select * from event where seq = any($1)",
};
const ANY: &str = "select 1 as one from held_event limit 1";
const SAME_GENERATION: &str = "select seq from event where seq = $1 and generation = $2";
const TAKE_BACK: &str = "delete from held_event where rule = $1 and event_seq = $2 and generation = $3";
const HELD_COUNTS: &str = "select rule, count(*) as n, min(at) as oldest from held_event group by rule";
const PARKED_COUNTS: &str = "select rule, count(*) as n, min(since) as oldest from task \
    where state = 'waiting' and wait_reason = 'parked' and rule is not null group by rule";
const PARKED: &str = "select id from task where rule = $1 and state = 'waiting' and wait_reason = 'parked' \
    order by id limit $2";

/// The holds as a transaction sees them, with those that it makes.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    of_rules: BTreeMap<String, String>,
    kept: Vec<(RuleName, EventSeq, u32)>,
}

impl Holds {
    /// Reads them, when any rule says something that a hold would keep back.
    pub(crate) async fn read(session: &mut Session, judged: &[Judged<'_>]) -> Result<Self> {
        let mut holds = Self::default();
        if judged.iter().any(|one| one.judgement.acts()) {
            for row in session.all(HOLDS, Vec::new()).await? {
                let hold = read_hold(&row)?;
                holds.of_rules.insert(row.text("rule")?, in_words(&hold));
            }
        }
        Ok(holds)
    }

    /// Why the rule is held, if it is.
    pub(crate) fn why(&self, rule: &RuleName) -> Option<&str> {
        if self.of_rules.is_empty() {
            return None;
        }
        self.of_rules.get(rule.as_str()).or_else(|| self.of_rules.get(ALL)).map(String::as_str)
    }

    /// Holds a rule from now on, since it went over its limit.
    pub(crate) async fn trip(&mut self, session: &mut Session, rule: &RuleName, limit: &str) -> Result<()> {
        let (now, why) = (session.now, format!("over {limit}"));
        session.run(HOLD_BY_LIMIT, values![rule, HoldKind::Limit.as_str(), BY_LIMIT, &why, now]).await?;
        self.of_rules.insert(rule.as_str().to_owned(), format!("held by its limit: {why}"));
        Ok(())
    }

    /// Keeps an event back.
    pub(crate) fn keep(&mut self, rule: &RuleName, seq: EventSeq, generation: u32) {
        self.kept.push((rule.clone(), seq, generation));
    }

    /// Writes what is kept back.
    pub(crate) async fn write(mut self, session: &mut Session) -> Result<()> {
        let now = session.now;
        self.kept.sort();
        let rows = self.kept.iter().map(|(rule, seq, generation)| values![rule, *seq, *generation, now, now]);
        session.insert(&KEEP, rows.collect()).await?;
        Ok(())
    }
}

fn in_words(hold: &Hold) -> String {
    let what = match (hold.kind, &hold.rule) {
        (HoldKind::Limit, _) => "held by its limit".to_owned(),
        (HoldKind::Pause, Some(_)) => format!("paused by {}", hold.by),
        (HoldKind::Pause, None) => format!("all rules are paused by {}", hold.by),
    };
    hold.why.as_ref().map_or(what.clone(), |why| format!("{what}: {why}"))
}

fn read_hold(row: &Row) -> Result<Hold> {
    let rule = row.text("rule")?;
    Ok(Hold {
        rule: (rule != ALL).then(|| rule.into()),
        kind: row.parsed("kind")?,
        by: row.text("by_whom")?,
        why: row.text_opt("why")?,
        since: row.time("since")?,
    })
}

pub(crate) async fn hold(
    session: &mut Session,
    rule: Option<&RuleName>,
    by: &str,
    why: Option<&str>,
) -> Result<Hold> {
    let now = session.now;
    let rule = rule.map_or(ALL, RuleName::as_str);
    read_hold(&session.one(HOLD, values![rule, HoldKind::Pause.as_str(), by, why, now]).await?)
}

pub(crate) async fn end(session: &mut Session, rule: Option<&RuleName>, drop: bool) -> Result<u64> {
    let name = rule.map_or(ALL, RuleName::as_str);
    // Who resumes a rule that went over its limit lets it make as many again: else it would be held at once.
    session.run(COUNT_ANEW, values![name, HoldKind::Limit.as_str()]).await?;
    if session.run(END, values![name]).await? == 0 {
        let id = rule.map_or_else(|| "all rules".to_owned(), ToString::to_string);
        return Err(StoreError::NotFound { what: "hold of", id });
    }
    match (drop, rule) {
        (false, _) => Ok(0),
        (true, Some(rule)) => session.run(DROP_OF_RULE, values![rule]).await,
        // What other holds keep is theirs.
        (true, None) => session.run(DROP_OF_ALL, Vec::new()).await,
    }
}

pub(crate) async fn all(session: &mut Session) -> Result<Vec<Hold>> {
    session.all(HOLDS, Vec::new()).await?.iter().map(read_hold).collect()
}

pub(crate) async fn backlog(session: &mut Session) -> Result<Vec<Backlog>> {
    let mut by_rule: BTreeMap<RuleName, Backlog> = BTreeMap::new();
    let new = |rule: &RuleName| Backlog {
        rule: rule.clone(),
        hold: None,
        held_events: 0,
        parked_tasks: 0,
        oldest: None,
    };
    for hold in all(session).await? {
        if let Some(rule) = hold.rule.clone() {
            by_rule.entry(rule.clone()).or_insert_with(|| new(&rule)).hold = Some(hold);
        }
    }
    for (sql, held) in [(HELD_COUNTS, true), (PARKED_COUNTS, false)] {
        for row in session.all(sql, Vec::new()).await? {
            let rule = RuleName::from(row.text("rule")?);
            let entry = by_rule.entry(rule.clone()).or_insert_with(|| new(&rule));
            let count = row.number("n")?;
            if held {
                entry.held_events = count;
            } else {
                entry.parked_tasks = count;
            }
            entry.oldest = [entry.oldest, row.time_opt("oldest")?].into_iter().flatten().min();
        }
    }
    Ok(by_rule.into_values().collect())
}

/// Whether anything is held back, looked at often.
pub(crate) async fn any(session: &mut Session) -> Result<bool> {
    Ok(session.first(ANY, Vec::new()).await?.is_some())
}

pub(crate) async fn due(session: &mut Session, limit: u32, hold_ms: u64) -> Result<Vec<DueHeld>> {
    let now = session.now;
    let taken = session.all(TAKE_DUE, values![now, now + milliseconds(hold_ms), limit]).await?;
    let mut wanted = Vec::with_capacity(taken.len());
    for row in &taken {
        wanted.push((
            row.int("event_seq")?,
            RuleName::from(row.text("rule")?),
            row.number::<u32>("generation")?,
        ));
    }
    wanted.sort();
    let seqs = wanted.iter().map(|(seq, ..)| *seq).collect();
    let mut events = BTreeMap::new();
    for row in session.all(EVENTS, vec![Value::Ints(seqs)]).await? {
        let stored = read_event(&row)?;
        events.insert(stored.seq.0, stored.event);
    }
    let due = |(seq, rule, generation): (i64, RuleName, u32)| {
        let event = events.get(&seq)?.clone();
        Some(DueHeld { rule, seq: EventSeq(seq), generation, event })
    };
    Ok(wanted.into_iter().filter_map(due).collect())
}

pub(crate) async fn judge(store: &SqlStore, held: &DueHeld, judgement: &Judgement) -> Result<bool> {
    transaction!(store, |session| judge_in(store, session, held, judgement))
}

async fn judge_in(
    store: &SqlStore,
    session: &mut Session,
    held: &DueHeld,
    judgement: &Judgement,
) -> Result<bool> {
    if session.run(TAKE_BACK, values![&held.rule, held.seq, held.generation]).await? == 0 {
        return Ok(false);
    }
    let DueHeld { seq, generation, event, .. } = held;
    let judged = Judged { seq: *seq, generation: *generation, event, judgement, again: true };
    apply(store, session, &[judged], Taking::NONE).await?;
    Ok(true)
}

pub(crate) async fn judge_past(
    store: &SqlStore,
    event: &StoredEvent,
    judgement: &Judgement,
) -> Result<Vec<TaskId>> {
    transaction!(store, |session| judge_past_in(store, session, event, judgement))
}

pub(crate) async fn would_make(store: &SqlStore, past: &[(StoredEvent, Judgement)]) -> Result<Vec<TaskId>> {
    let mut session = store.write().await?;
    let made = async {
        let mut made = Vec::new();
        for (event, judgement) in past {
            made.extend(judge_past_in(store, &mut session, event, judgement).await?);
        }
        Ok(made)
    }
    .await;
    session.roll_back().await;
    made
}

async fn judge_past_in(
    store: &SqlStore,
    session: &mut Session,
    stored: &StoredEvent,
    judgement: &Judgement,
) -> Result<Vec<TaskId>> {
    let StoredEvent { seq, generation, event, .. } = stored;
    if session.first(SAME_GENERATION, values![*seq, *generation]).await?.is_none() {
        return Ok(Vec::new());
    }
    let judged = Judged { seq: *seq, generation: *generation, event, judgement, again: true };
    Ok(apply(store, session, &[judged], Taking::NONE).await?.by_event.remove(seq).unwrap_or_default())
}

pub(crate) async fn parked(session: &mut Session, rule: &RuleName, limit: u32) -> Result<Vec<TaskId>> {
    let rows = session.all(PARKED, values![rule, limit]).await?;
    rows.iter().map(|row| Ok(row.id("id")?.into())).collect()
}
