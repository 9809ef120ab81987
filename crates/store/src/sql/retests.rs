//! Wishes to run a test once more.

use super::{
    SqlStore, deduping,
    places::Wanted,
    session::{Session, transaction},
    tasks::making,
    value::{Row, json, values},
    work::Work,
};
use crate::{NewRetest, PAGE_MAX, Page, Requested, Result, Retests, StoreError};
use async_trait::async_trait;
use model::{ids::RetestId, retest::Retest};
use std::{collections::BTreeMap, time::Duration};

const INSERT: &str = "insert into retest (id, hash, at, body, asked) values ($1, $2, $3, $4, 1)";
const NEWEST: &str =
    "select id, at, body, asked from retest where hash = $1 order by at desc, id desc limit 1";
const ASKED: &str = "update retest set asked = asked + 1 where id = $1";
const ONE: &str = "select id, at, body, asked from retest where id = $1";
const LIST: &str = "select id, at, body, asked from retest order by id desc limit $1";
const LIST_BEFORE: &str = "select id, at, body, asked from retest where id < $2 order by id desc limit $1";

#[async_trait]
impl Retests for SqlStore {
    async fn recent_retest(&self, hash: [u8; 32], window: Duration) -> Result<Option<Retest>> {
        transaction!(self, |session| recent(session, hash, window))
    }

    async fn request_retest(&self, new: &NewRetest) -> Result<Requested> {
        self.make_places(Wanted::by(&new.tasks)).await?;
        transaction!(self, |session| request(self, session, new))
    }

    async fn retest(&self, id: RetestId) -> Result<Retest> {
        let missing = || StoreError::NotFound { what: "retest", id: id.to_string() };
        read(&self.read().await?.first(ONE, values![id.uuid()]).await?.ok_or_else(missing)?)
    }

    async fn retests(&self, before: Option<RetestId>, limit: u32) -> Result<Page<Retest>> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut session = self.read().await?;
        let rows = match before {
            Some(before) => session.all(LIST_BEFORE, values![limit + 1, before.uuid()]).await?,
            None => session.all(LIST, values![limit + 1]).await?,
        };
        let mut items = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(Page { items, next })
    }
}

async fn recent(session: &mut Session, hash: [u8; 32], window: Duration) -> Result<Option<Retest>> {
    let now = session.now;
    let Some(row) = session.first(NEWEST, values![hash]).await? else { return Ok(None) };
    let mut retest = read(&row)?;
    let age = (now - retest.at).to_std().unwrap_or_default();
    if age >= window {
        return Ok(None);
    }
    session.run(ASKED, values![retest.id.uuid()]).await?;
    retest.asked += 1;
    Ok(Some(retest))
}

async fn request(store: &SqlStore, session: &mut Session, new: &NewRetest) -> Result<Requested> {
    let now = session.now;
    let window = if new.force { Duration::ZERO } else { new.window };
    // The row that stands for the wish lets one of several at the same moment through.
    let wish = BTreeMap::from([(new.hash, now + window)]);
    let made = deduping::make_wishes(session, wish).await?;
    if made.is_empty()
        && let Some(known) = recent(session, new.hash, new.window).await?
    {
        return Ok(Requested::Known(known));
    }
    let mut work = Work::new(session, store);
    let makings = new.tasks.iter().map(|task| making(store, task, None, 0, now)).collect();
    work.make(makings, &[]).await?;
    let mut retest = new.retest.clone();
    retest.at = now;
    retest.asked = 1;
    for message in &new.messages {
        if message.topic.is_own() {
            let id = format!("retest/{}", retest.id);
            work.out.chain(message.clone(), id, 0, retest.tasks.first().copied(), now);
        } else {
            work.out.tell(message.clone());
        }
    }
    work.done().await?;
    session.run(INSERT, values![retest.id.uuid(), new.hash, now, json(&retest)?]).await?;
    Ok(Requested::Made(retest))
}

fn read(row: &Row) -> Result<Retest> {
    let mut retest: Retest = row.json("body")?;
    retest.asked = u32::try_from(row.int("asked")?).unwrap_or(u32::MAX);
    Ok(retest)
}
