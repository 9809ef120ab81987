//! Rule sets, and which one is active.

use super::{
    SqlStore,
    session::{Session, Sql, transaction},
    value::{Row, values},
};
use crate::{Activation, Pin, Result, RuleSets, StoreError, StoredRuleSet};
use async_trait::async_trait;
use model::Revision;

/// The shortest prefix of a revision that is looked for, in digits.
const PREFIX_DIGITS_MIN: usize = 6;

const PUT: &str = "insert into rule_set (revision, content, origin, commit_id, by_whom, created_at) \
    values ($1, $2, $3, $4, $5, $6) on conflict (revision) do nothing";
const FIND: &str = "select * from rule_set where revision >= $1 and substr(revision, 1, length($1)) = $1 \
    order by revision limit 2";
const LAST: &str = "select a.*, r.commit_id from activation a left join rule_set r on r.revision = a.revision \
    order by a.serial desc limit $1";
/// Who activates waits for who does so before.
const LOCK: Sql =
    Sql { sqlite: "select one from clock", postgres: "lock table activation in share row exclusive mode" };
const ACTIVATE: &str = "insert into activation (revision, by_whom, at, held_back) values ($1, $2, $3, $4) \
    returning *, (select r.commit_id from rule_set r where r.revision = activation.revision) as commit_id";

#[async_trait]
impl RuleSets for SqlStore {
    async fn put_rule_set(&self, set: &StoredRuleSet) -> Result<()> {
        let values =
            values![&set.revision, &set.content, &set.origin, set.commit.as_ref(), &set.by, set.created_at,];
        transaction!(self, |session| session.run(PUT, values.clone()))?;
        Ok(())
    }

    async fn rule_set(&self, revision: &str) -> Result<StoredRuleSet> {
        find(&mut self.read().await?, revision).await
    }

    async fn activate(
        &self,
        revision: &Revision,
        expected: Option<&Revision>,
        by: &str,
        pin: Pin,
    ) -> Result<Activation> {
        transaction!(self, |session| activate(session, revision, expected, by, pin))
    }

    async fn active(&self) -> Result<Option<Activation>> {
        Ok(last(&mut self.read().await?, 1).await?.into_iter().next())
    }

    async fn activations(&self, limit: u32) -> Result<Vec<Activation>> {
        last(&mut self.read().await?, limit).await
    }
}

async fn find(session: &mut Session, revision: &str) -> Result<StoredRuleSet> {
    let not_found = || StoreError::NotFound { what: "rule set", id: revision.to_owned() };
    if revision.len() < PREFIX_DIGITS_MIN {
        return Err(not_found());
    }
    let rows = session.all(FIND, values![revision]).await?;
    let row = rows.first().ok_or_else(not_found)?;
    let found = row.text("revision")?;
    if rows.len() > 1 && found != revision {
        return Err(StoreError::Conflict(format!(
            "several rule sets start with `{revision}`: give more digits"
        )));
    }
    Ok(StoredRuleSet {
        revision: found.into(),
        content: row.text("content")?,
        origin: row.text("origin")?,
        commit: row.text_opt("commit_id")?,
        by: row.text("by_whom")?,
        created_at: row.time("created_at")?,
    })
}

async fn activate(
    session: &mut Session,
    revision: &Revision,
    expected: Option<&Revision>,
    by: &str,
    pin: Pin,
) -> Result<Activation> {
    session.run(LOCK, Vec::new()).await?;
    let active = last(session, 1).await?.into_iter().next();
    let now_active = active.as_ref().map(|active| &active.revision);
    if let Some(expected) = expected
        && now_active != Some(expected)
    {
        let active = now_active.map_or("none", |revision| revision.short());
        return Err(StoreError::Conflict(format!("revision {active} is active, not {}", expected.short())));
    }
    let held_back = held_back(active.as_ref(), pin);
    if let Some(active) = active
        && active.revision == *revision
        && (active.held_back == held_back || pin == Pin::HoldBack)
    {
        return Ok(active);
    }
    let kept = session.first("select 1 as one from rule_set where revision = $1", values![revision]).await?;
    if kept.is_none() {
        return Err(StoreError::NotFound { what: "rule set", id: revision.to_string() });
    }
    let now = session.now;
    read(&session.one(ACTIVATE, values![revision, by, now, held_back.as_ref()]).await?)
}

/// What is held back from now on.
fn held_back(active: Option<&Activation>, pin: Pin) -> Option<Revision> {
    let active = active?;
    match pin {
        Pin::Follow => None,
        Pin::Keep => active.held_back.clone(),
        // What was held back before is what the folder holds.
        Pin::HoldBack => active.held_back.clone().or_else(|| Some(active.revision.clone())),
    }
}

async fn last(session: &mut Session, limit: u32) -> Result<Vec<Activation>> {
    session.all(LAST, values![limit]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Activation> {
    Ok(Activation {
        serial: row.int("serial")?,
        revision: row.text("revision")?.into(),
        by: row.text("by_whom")?,
        at: row.time("at")?,
        commit: row.text_opt("commit_id")?,
        held_back: row.text_opt("held_back")?.map(Into::into),
    })
}
