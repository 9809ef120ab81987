//! Results as ResultsDB knows them: writing. Every result of the top level has its searched values here, also
//! those of tasks.

use super::{
    SqlStore,
    access::audit,
    results::{Node, store_trees},
    resultsdb_read as read,
    session::{Bulk, Kind, Session, Sql, transaction},
    value::{Value, values},
    work::Work,
};
use crate::{
    AuditRecord, Entry, EntryQuery, NewEntry, Result, ResultGroup, ResultsDb, SEARCHED_BYTES_MAX, Testcase,
    VALUES_PER_RESULT_MAX, Wanted,
};
use async_trait::async_trait;
use model::{
    ids::ResultId,
    result::{NewResult, StoredResult, resultsdb_values},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The key that testcases are searched under.
pub(crate) const TESTCASE_KEY: &str = ":testcase";
/// The key that groups are searched under.
pub(crate) const GROUP_KEY: &str = ":group";
/// How much of a long value is searched by, beside the hash.
const START_BYTES: usize = SEARCHED_BYTES_MAX - 65;

static VALUES: Bulk = Bulk {
    table: "result_value",
    columns: &[("result_id", Kind::Int), ("key", Kind::Text), ("value", Kind::Text), ("at", Kind::Time)],
    tail: "on conflict (result_id, key, value) do nothing",
};
static TESTCASES: Bulk =
    Bulk { table: "testcase", columns: &[("name", Kind::Text)], tail: "on conflict (name) do nothing" };
const KNOWN_TESTCASES: Sql = Sql {
    sqlite: "select name, ref_url from testcase where name in (select value from json_each($1))",
    // There is a row in any case: it has the time.
    postgres: "select taskbot_now() as now, t.name, t.ref_url from (select 1) as one \
        left join testcase t on t.name = any($1)",
};
const PUT_TESTCASES: Bulk = Bulk {
    table: "testcase",
    columns: &[("name", Kind::Text), ("ref_url", Kind::Text)],
    tail: "on conflict (name) do update set ref_url = coalesce(excluded.ref_url, testcase.ref_url)",
};
const PUT_GROUP: &str = "insert into result_group (id, description, ref_url) values ($1, $2, $3) \
    on conflict (id) do update set description = coalesce(excluded.description, result_group.description), \
    ref_url = coalesce(excluded.ref_url, result_group.ref_url)";
const SERIALS: Sql = Sql {
    sqlite: "select id, serial from result_group where id in (select value from json_each($1))",
    postgres: "select id, serial from result_group where id = any($1)",
};
const AUDIT_ACTION: &str = "result.add";

#[async_trait]
impl ResultsDb for SqlStore {
    async fn add_entries(&self, entries: &[NewEntry]) -> Result<Vec<Entry>> {
        transaction!(self, timed | session | add_entries(self, session, entries))
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
        transaction!(self, |session| async { Ok(put_testcases(session, [testcase]).await?.1) })
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

async fn add_entries(store: &SqlStore, session: &mut Session, entries: &[NewEntry]) -> Result<Vec<Entry>> {
    let (links, _) = put_testcases(session, entries.iter().map(|entry| &entry.testcase)).await?;
    let mut work = Work::new(session, store);
    let serials = put_groups(work.session, entries).await?;
    let results: Vec<_> = entries.iter().map(result_of).collect();
    let nodes = results.iter().zip(entries).map(|(result, entry)| Node::said(result, entry)).collect();
    let stored = store_trees(&mut work, None, nodes, false).await?;
    let records = stored.iter().zip(entries).map(|(result, entry)| AuditRecord {
        at: work.now,
        who: entry.who.clone(),
        action: AUDIT_ACTION.to_owned(),
        object: format!("results/{}", result.id),
        detail: json!({"testcase": result.testcase}),
    });
    audit(work.session, records.collect()).await?;
    work.done().await?;
    let shown = stored.into_iter().zip(entries).map(|(result, entry)| {
        let data = resultsdb_values(&result.data, result.item.as_ref()).into_iter();
        let data = data.map(|(key, values)| (key.to_owned(), values)).collect();
        let mut groups: Vec<_> = entry.groups.iter().map(|group| group.id.clone()).collect();
        groups.sort_by_key(|group| serials.get(group));
        groups.dedup();
        let ref_url = links.get(&result.testcase).cloned().flatten();
        Entry {
            id: result.id,
            testcase: Testcase { name: result.testcase, ref_url },
            outcome: result.outcome,
            said: Some(entry.said.clone()),
            note: result.note,
            ref_url: entry.ref_url.clone(),
            task: None,
            data,
            groups,
            at: result.created_at,
        }
    });
    Ok(shown.collect())
}

/// An entry as all results are.
fn result_of(entry: &NewEntry) -> NewResult {
    NewResult {
        testcase: entry.testcase.name.clone(),
        item: entry.item(),
        outcome: entry.outcome,
        note: entry.note.clone(),
        duration_ms: None,
        data: entry.data.iter().map(|(key, values)| (key.clone(), values.clone().into())).collect(),
        children: Vec::new(),
    }
}

/// Makes results findable by their testcase, item, values and groups, and their testcases known. What
/// ResultsDB's interface says of them has made its testcases known before.
pub(crate) async fn index(
    session: &mut Session,
    results: &[StoredResult],
    entries: &[Option<&NewEntry>],
) -> Result<()> {
    let unknown = results.iter().zip(entries).filter(|(_, entry)| entry.is_none());
    let names: BTreeSet<_> = unknown.map(|(result, _)| result.testcase.as_str()).collect();
    session.insert_later(&TESTCASES, names.into_iter().map(|name| values![name]).collect()).await?;
    let mut rows = Vec::new();
    for (result, entry) in results.iter().zip(entries) {
        let mut found = BTreeSet::from([(TESTCASE_KEY, searched(&result.testcase))]);
        for (key, values) in resultsdb_values(&result.data, result.item.as_ref()) {
            found.extend(values.iter().map(|value| (key, searched(value))));
        }
        let groups = entry.iter().flat_map(|entry| &entry.groups);
        let groups: BTreeSet<_> = groups.map(|group| (GROUP_KEY, searched(&group.id))).collect();
        let found = found.into_iter().take(VALUES_PER_RESULT_MAX).chain(groups);
        rows.extend(found.map(|(key, value)| values![result.id, key, value, result.created_at]));
    }
    session.insert_later(&VALUES, rows).await
}

/// Makes testcases that are not there and writes links that are other than they were. Gives the links of all, and
/// whether any is new.
async fn put_testcases<'a>(
    session: &mut Session,
    testcases: impl IntoIterator<Item = &'a Testcase>,
) -> Result<(BTreeMap<String, Option<String>>, bool)> {
    let mut given: BTreeMap<&str, Option<&String>> = BTreeMap::new();
    for testcase in testcases {
        let link = given.entry(&testcase.name).or_default();
        *link = testcase.ref_url.as_ref().or(*link);
    }
    let mut links = BTreeMap::new();
    for row in session.all(KNOWN_TESTCASES, vec![Value::texts(given.keys())]).await? {
        session.take_clock(&row)?;
        if let Some(name) = row.text_opt("name")? {
            links.insert(name, row.text_opt("ref_url")?);
        }
    }
    // By name, so that no two transactions wait for each other.
    let changed = given.into_iter().filter(|(name, link)| {
        links.get(*name).is_none_or(|known| link.is_some() && *link != known.as_ref())
    });
    let changed: Vec<_> = changed.collect();
    let any_new = changed.iter().any(|(name, _)| !links.contains_key(*name));
    session
        .insert(&PUT_TESTCASES, changed.iter().map(|(name, link)| values![*name, *link]).collect())
        .await?;
    links.extend(changed.into_iter().map(|(name, link)| (name.to_owned(), link.cloned())));
    Ok((links, any_new))
}

/// Makes the groups of entries, and writes what is said of them; gives the order in which they were made.
async fn put_groups(session: &mut Session, entries: &[NewEntry]) -> Result<HashMap<String, i64>> {
    let groups: Vec<_> = entries.iter().flat_map(|entry| &entry.groups).collect();
    if groups.is_empty() {
        return Ok(HashMap::new());
    }
    let known = serials(session, &groups).await?;
    let mut any_new = false;
    for group in &groups {
        let new = !known.contains_key(&group.id);
        if new || group.description.is_some() || group.ref_url.is_some() {
            put_group(session, group).await?;
        }
        any_new |= new;
    }
    if any_new { serials(session, &groups).await } else { Ok(known) }
}

async fn serials(session: &mut Session, groups: &[&ResultGroup]) -> Result<HashMap<String, i64>> {
    let ids = Value::texts(groups.iter().map(|group| &group.id));
    let rows = session.all(SERIALS, vec![ids]).await?;
    rows.iter().map(|row| Ok((row.text("id")?, row.int("serial")?))).collect()
}

async fn put_group(session: &mut Session, group: &ResultGroup) -> Result<bool> {
    let known = session.first("select 1 as one from result_group where id = $1", values![&group.id]).await?;
    let values = values![&group.id, group.description.as_ref(), group.ref_url.as_ref()];
    session.run(PUT_GROUP, values).await?;
    Ok(known.is_none())
}
