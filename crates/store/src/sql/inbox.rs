//! The inbox: taking events in, and judging those that wait.

use super::{
    SqlStore,
    applying::{Judged, Taking, apply},
    conflict::{self, says_the_same},
    inbox_read::{self, read_event},
    outgoing::{EVENT_COLUMNS, event_values},
    places::Wanted,
    session::{Bulk, Dialect, Session, Sql, columns_of, transaction},
    tasks::milliseconds,
    value::{Value, values},
};
use crate::{
    Committed, EventCommit, EventQuery, Firing, Inbox, Judgement, Page, Result, StoreError, StoredEvent,
    Unjudged, Unresolved,
};
use async_trait::async_trait;
use model::{EventId, ids::EventSeq};
use std::collections::{BTreeMap, HashMap};

const INSERT_SQLITE: Bulk = Bulk {
    table: "event",
    columns: EVENT_COLUMNS,
    tail: "on conflict (domain, id) do nothing returning seq, domain, id",
};
/// Places are given in the order of the batch, rows are inserted in the order of identities: so no two
/// transactions that bring the same events wait for each other.
const INSERT_POSTGRES: &str = "with incoming as materialized (\
        select nextval('event_seq_seq') as seq, u.* \
        from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::timestamptz[], \
            $7::timestamptz[], $8::text[], $9::bytea[], $10::bigint[], $11::uuid[], $12::text[], $13::bigint[], \
            $14::text[], $15::timestamptz[]) \
        as u (domain, id, content_hash, source, topic, time, received_at, headers, payload, depth, cause, \
            traceparent, generation, revision, hold_until)) \
    insert into event (seq, domain, id, content_hash, source, topic, time, received_at, headers, payload, depth, \
        cause, traceparent, generation, revision, hold_until) \
    select * from incoming order by domain, id, seq \
    on conflict (domain, id) do nothing returning seq, domain, id";
const KNOWN: Sql = Sql {
    sqlite: "select e.domain, e.id, e.seq, e.content_hash from json_each($1) d \
        join json_each($2) i on i.key = d.key join event e on e.domain = d.value and e.id = i.value",
    postgres: "select e.domain, e.id, e.seq, e.content_hash from unnest($1::text[], $2::text[]) as w (domain, id) \
        join event e on e.domain = w.domain and e.id = w.id",
};
const TAKE_UNJUDGED: Sql = Sql {
    sqlite: "update event set hold_until = $2 where seq in (\
        select seq from event where hold_until is not null and hold_until <= $1 order by seq limit $3) \
        returning *",
    postgres: "update event e set hold_until = $2 from (\
        select seq from event where hold_until is not null and hold_until <= $1 order by seq limit $3 \
        for update skip locked) as due where e.seq = due.seq returning e.*",
};
/// In the order of events, so that no two transactions wait for each other.
const LOCK_UNJUDGED: Sql = Sql {
    sqlite: "select e.* from json_each($1) s join json_each($2) g on g.key = s.key \
        join event e on e.seq = s.value and e.generation = g.value where e.hold_until is not null order by e.seq",
    postgres: "select e.* from unnest($1::bigint[], $2::bigint[]) as w (seq, generation) \
        join event e on e.seq = w.seq and e.generation = w.generation \
        where e.hold_until is not null order by e.seq for update of e",
};
const JUDGED: Sql = Sql {
    sqlite: "update event set revision = $2, hold_until = null where seq in (select value from json_each($1))",
    postgres: "update event set revision = $2, hold_until = null where seq = any($1)",
};
const REPLAY: &str = "update event set generation = generation + 1, hold_until = $2 \
    where seq = $1 and payload is not null returning generation";

#[async_trait]
impl Inbox for SqlStore {
    async fn commit_and_take(
        &self,
        batch: &[EventCommit],
        at_most: usize,
        hold_ms: u64,
    ) -> Result<(Vec<Committed>, Vec<Unresolved>)> {
        self.make_places(wanted_by(batch)).await?;
        let taking = Taking { at_most, hold: milliseconds(hold_ms) };
        transaction!(self, |session| commit(self, session, batch, taking))
    }

    async fn unjudged(&self, limit: u32, hold_ms: u64) -> Result<Vec<Unjudged>> {
        transaction!(self, passing | session | unjudged(session, limit, hold_ms))
    }

    async fn judge_all(&self, judged: &[(EventSeq, u32, Judgement)]) -> Result<Vec<EventSeq>> {
        let judgements = || judged.iter().map(|(_, _, judgement)| judgement);
        self.make_places(Wanted::by(judgements().flat_map(|judgement| &judgement.tasks))).await?;
        if judgements().all(Judgement::is_quiet) {
            // Forgotten, they are judged once more, with the same end.
            return transaction!(self, passing | session | judge_all(self, session, judged));
        }
        transaction!(self, |session| judge_all(self, session, judged))
    }

    async fn replay(&self, seq: EventSeq) -> Result<u32> {
        transaction!(self, |session| replay(session, seq))
    }

    async fn event(&self, seq: EventSeq) -> Result<StoredEvent> {
        inbox_read::event(&mut self.read().await?, seq).await
    }

    async fn events_by_id(&self, id: &EventId) -> Result<Vec<StoredEvent>> {
        inbox_read::by_id(&mut self.read().await?, id).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<StoredEvent>> {
        inbox_read::list(&mut self.read().await?, query).await
    }

    async fn firings(&self, event: EventSeq) -> Result<Vec<Firing>> {
        inbox_read::firings(&mut self.read().await?, event).await
    }
}

fn wanted_by(batch: &[EventCommit]) -> Wanted {
    let judgements = batch.iter().filter_map(|commit| commit.judgement.as_ref());
    Wanted::by(judgements.flat_map(|judgement| &judgement.tasks))
}

type Identity<'a> = (&'a str, &'a str);

fn identity(commit: &EventCommit) -> Identity<'_> {
    (commit.event.domain.as_str(), commit.event.id.as_str())
}

async fn commit(
    store: &SqlStore,
    session: &mut Session,
    batch: &[EventCommit],
    taking: Taking,
) -> Result<(Vec<Committed>, Vec<Unresolved>)> {
    let mut new = insert(session, batch).await?;
    let known = known(session, batch, &new).await?;
    let mut judged = Vec::new();
    let mut committed = Vec::with_capacity(batch.len());
    let mut conflicts = Vec::new();
    for commit in batch {
        let event = &commit.event;
        // The first of several in one batch takes the entry away: the others are known.
        if let Some(seq) = new.remove(&identity(commit)) {
            committed.push(Committed::New { seq, tasks: Vec::new() });
            if let Some(judgement) = &commit.judgement {
                judged.push(Judged { seq, generation: 0, event, judgement, again: false });
            }
            continue;
        }
        let (seq, hash) = known.get(&identity(commit)).copied().ok_or_else(|| StoreError::Inconsistent {
            table: "event",
            message: format!("{} is neither new nor there", event.id),
        })?;
        if hash == event.content_hash() || says_the_same(session, event, seq).await? {
            committed.push(Committed::Known { seq });
        } else {
            conflicts.push(conflict::letter(event, seq)?);
            committed.push(Committed::Conflict { seq });
        }
    }
    super::dead_letters::bury(session, &conflicts).await?;
    let mut made = apply(store, session, &judged, taking).await?;
    for entry in &mut committed {
        if let Committed::New { seq, tasks } = entry
            && let Some(ids) = made.by_event.remove(seq)
        {
            *tasks = ids;
        }
    }
    Ok((committed, made.taken))
}

/// Inserts what is not there, and gives the places of those that were new.
async fn insert<'a>(
    session: &mut Session,
    batch: &'a [EventCommit],
) -> Result<HashMap<Identity<'a>, EventSeq>> {
    let now = session.now;
    let rows = batch.iter().map(|commit| {
        let revision = commit.judgement.as_ref().map(|judgement| &judgement.revision);
        event_values(&commit.event, revision, revision.is_none().then_some(now))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let inserted = match session.dialect() {
        Dialect::Sqlite => session.insert(&INSERT_SQLITE, rows).await?,
        Dialect::Postgres => session.all(INSERT_POSTGRES, columns_of(&INSERT_SQLITE, rows)).await?,
    };
    let mut places = HashMap::with_capacity(inserted.len());
    for row in &inserted {
        places.insert((row.text("domain")?, row.text("id")?), EventSeq(row.int("seq")?));
    }
    let of = |commit: &'a EventCommit| {
        let (domain, id) = identity(commit);
        places.get(&(domain.to_owned(), id.to_owned())).map(|seq| ((domain, id), *seq))
    };
    Ok(batch.iter().filter_map(of).collect())
}

/// The places and contents of the events of the batch that were there, or that it brings twice.
async fn known<'a>(
    session: &mut Session,
    batch: &'a [EventCommit],
    new: &HashMap<Identity<'a>, EventSeq>,
) -> Result<HashMap<Identity<'a>, (EventSeq, [u8; 32])>> {
    if new.len() == batch.len() {
        return Ok(HashMap::new());
    }
    let domains = Value::texts(batch.iter().map(|commit| &commit.event.domain));
    let ids = Value::texts(batch.iter().map(|commit| &commit.event.id));
    let mut found = HashMap::new();
    for row in session.all(KNOWN, vec![domains, ids]).await? {
        found.insert(
            (row.text("domain")?, row.text("id")?),
            (EventSeq(row.int("seq")?), row.hash("content_hash")?),
        );
    }
    let of = |commit: &'a EventCommit| {
        let (domain, id) = identity(commit);
        found.get(&(domain.to_owned(), id.to_owned())).map(|place| ((domain, id), *place))
    };
    Ok(batch.iter().filter_map(of).collect())
}

async fn unjudged(session: &mut Session, limit: u32, hold_ms: u64) -> Result<Vec<Unjudged>> {
    let now = session.now;
    let rows = session.all(TAKE_UNJUDGED, values![now, now + milliseconds(hold_ms), limit]).await?;
    let read = |row| {
        let stored = read_event(row)?;
        Ok(Unjudged { seq: stored.seq, generation: stored.generation, event: stored.event })
    };
    let mut events = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    events.sort_by_key(|event| event.seq);
    Ok(events)
}

async fn judge_all(
    store: &SqlStore,
    session: &mut Session,
    all: &[(EventSeq, u32, Judgement)],
) -> Result<Vec<EventSeq>> {
    let seqs = Value::Ints(all.iter().map(|(seq, ..)| seq.0).collect());
    let generations = Value::Ints(all.iter().map(|(_, generation, _)| i64::from(*generation)).collect());
    let rows = session.all(LOCK_UNJUDGED, vec![seqs, generations]).await?;
    let stored = rows.iter().map(read_event).collect::<Result<Vec<_>>>()?;
    let by_seq: HashMap<_, _> = stored.iter().map(|stored| (stored.seq, stored)).collect();
    let (mut judged, mut gone) = (Vec::with_capacity(all.len()), Vec::new());
    let mut by_revision: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (seq, generation, judgement) in all {
        let Some(stored) = by_seq.get(seq) else {
            gone.push(*seq);
            continue;
        };
        by_revision.entry(judgement.revision.as_str()).or_default().push(seq.0);
        judged.push(Judged {
            seq: *seq,
            generation: *generation,
            event: &stored.event,
            judgement,
            again: false,
        });
    }
    for (revision, seqs) in by_revision {
        session.run(JUDGED, vec![Value::Ints(seqs), revision.into()]).await?;
    }
    apply(store, session, &judged, Taking::NONE).await?;
    Ok(gone)
}

async fn replay(session: &mut Session, seq: EventSeq) -> Result<u32> {
    let now = session.now;
    if let Some(row) = session.first(REPLAY, values![seq, now]).await? {
        return row.number("generation");
    }
    inbox_read::event(session, seq).await?;
    Err(StoreError::Conflict(format!("event {seq} cannot be judged again: its body has expired")))
}
