//! Results as ResultsDB knows them: writing. Every result of the top level has its searched values here, also
//! those of tasks.

use super::{
    SqlStore,
    results::store_results,
    resultsdb_read as read,
    session::{Bulk, Kind, Session, transaction},
    value::values,
    work::Work,
};
use crate::{
    Entry, EntryQuery, NewEntry, Result, ResultGroup, ResultsDb, SEARCHED_BYTES_MAX, StoreError, Testcase,
    VALUES_PER_RESULT_MAX, Wanted,
};
use async_trait::async_trait;
use model::{
    ids::ResultId,
    result::{NewResult, StoredResult, resultsdb_values},
};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// The key that testcases are searched under.
pub(crate) const TESTCASE_KEY: &str = ":testcase";
/// The key that groups are searched under.
pub(crate) const GROUP_KEY: &str = ":group";
/// How much of a long value is searched by, beside the hash.
const START_BYTES: usize = SEARCHED_BYTES_MAX - 65;

const VALUES: Bulk = Bulk {
    table: "result_value",
    columns: &[("result_id", Kind::Int), ("key", Kind::Text), ("value", Kind::Text), ("at", Kind::Time)],
    tail: "on conflict (result_id, key, value) do nothing",
};
const TESTCASES: Bulk =
    Bulk { table: "testcase", columns: &[("name", Kind::Text)], tail: "on conflict (name) do nothing" };
const PUT_TESTCASE: &str = "insert into testcase (name, ref_url) values ($1, $2) \
    on conflict (name) do update set ref_url = coalesce(excluded.ref_url, testcase.ref_url)";
const PUT_GROUP: &str = "insert into result_group (id, description, ref_url) values ($1, $2, $3) \
    on conflict (id) do update set description = coalesce(excluded.description, result_group.description), \
    ref_url = coalesce(excluded.ref_url, result_group.ref_url)";
/// Results are in the order of when they were reported.
const MOVE_VALUES: &str = "update result_value set at = $2 where result_id = $1";
const ENTRY: &str = "update result set ref_url = $2, said = $3, created_at = $4 where id = $1";

#[async_trait]
impl ResultsDb for SqlStore {
    async fn add_entry(&self, entry: &NewEntry) -> Result<Entry> {
        let id = transaction!(self, |session| add_entry(self, session, entry))?;
        self.entry(id).await
    }

    async fn entry(&self, id: ResultId) -> Result<Entry> {
        read::entry(&mut self.read().await?, id).await
    }

    async fn entries(&self, query: &EntryQuery) -> Result<(Vec<Entry>, bool)> {
        read::entries(&mut self.read().await?, query).await
    }

    async fn latest_entries(&self, query: &EntryQuery, distinct: &[String]) -> Result<Vec<Entry>> {
        read::latest(&mut self.read().await?, query, distinct).await
    }

    async fn put_testcase(&self, testcase: &Testcase) -> Result<bool> {
        transaction!(self, |session| put_testcase(session, testcase))
    }

    async fn testcase(&self, name: &str) -> Result<Testcase> {
        read::testcase(&mut self.read().await?, name).await
    }

    async fn testcases(
        &self,
        names: Option<&Wanted>,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<Testcase>, bool)> {
        read::testcases(&mut self.read().await?, names, offset, limit).await
    }

    async fn put_group(&self, group: &ResultGroup) -> Result<bool> {
        transaction!(self, |session| put_group(session, group))
    }

    async fn group(&self, id: &str) -> Result<ResultGroup> {
        read::group(&mut self.read().await?, id).await
    }

    async fn groups(
        &self,
        ids: Option<&Wanted>,
        descriptions: Option<&Wanted>,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<ResultGroup>, bool)> {
        read::groups(&mut self.read().await?, ids, descriptions, offset, limit).await
    }
}

/// What is searched by: the value, or the start and a hash of a long one.
pub(crate) fn searched(value: &str) -> String {
    if value.len() <= SEARCHED_BYTES_MAX {
        return value.to_owned();
    }
    let hash = hex::encode(Sha256::digest(value));
    format!("{} {hash}", &value[..value.floor_char_boundary(START_BYTES)])
}

async fn add_entry(store: &SqlStore, session: &mut Session, entry: &NewEntry) -> Result<ResultId> {
    let mut work = Work::new(session, store);
    put_testcase(work.session, &entry.testcase).await?;
    for group in &entry.groups {
        put_group(work.session, group).await?;
    }
    let data = entry.data.iter().map(|(key, values)| (key.clone(), values.clone().into())).collect();
    let result = NewResult {
        testcase: entry.testcase.name.clone(),
        item: entry.item(),
        outcome: entry.outcome,
        note: entry.note.clone(),
        duration_ms: None,
        data,
        children: Vec::new(),
    };
    let stored = store_results(&mut work, None, std::slice::from_ref(&result), false).await?;
    let id =
        *stored.first().ok_or_else(|| StoreError::Database("a stored result has no number".to_owned()))?;
    let at = entry.at.unwrap_or(work.now);
    work.session.run(ENTRY, values![id, entry.ref_url.as_ref(), &entry.said, at]).await?;
    if at != work.now {
        work.session.run(MOVE_VALUES, values![id, at]).await?;
    }
    let groups: BTreeSet<_> = entry.groups.iter().map(|group| searched(&group.id)).collect();
    let rows = groups.into_iter().map(|group| values![id, GROUP_KEY, group, at]).collect();
    work.session.insert(&VALUES, rows).await?;
    work.done().await?;
    Ok(id)
}

/// Makes results findable by their testcase, item and values, and their testcases known.
pub(crate) async fn index(session: &mut Session, results: &[StoredResult]) -> Result<()> {
    let names: BTreeSet<_> = results.iter().map(|result| result.testcase.as_str()).collect();
    let names = names.into_iter().map(|name| values![name]).collect();
    session.insert(&TESTCASES, names).await?;
    let mut rows = Vec::new();
    for result in results {
        let mut found = BTreeSet::from([(TESTCASE_KEY, searched(&result.testcase))]);
        for (key, values) in resultsdb_values(&result.data, result.item.as_ref()) {
            found.extend(values.iter().map(|value| (key, searched(value))));
        }
        let found = found.into_iter().take(VALUES_PER_RESULT_MAX);
        rows.extend(found.map(|(key, value)| values![result.id, key, value, result.created_at]));
    }
    session.insert(&VALUES, rows).await?;
    Ok(())
}

async fn put_testcase(session: &mut Session, testcase: &Testcase) -> Result<bool> {
    let known =
        session.first("select 1 as one from testcase where name = $1", values![&testcase.name]).await?;
    session.run(PUT_TESTCASE, values![&testcase.name, testcase.ref_url.as_ref()]).await?;
    Ok(known.is_none())
}

async fn put_group(session: &mut Session, group: &ResultGroup) -> Result<bool> {
    let known = session.first("select 1 as one from result_group where id = $1", values![&group.id]).await?;
    let values = values![&group.id, group.description.as_ref(), group.ref_url.as_ref()];
    session.run(PUT_GROUP, values).await?;
    Ok(known.is_none())
}
