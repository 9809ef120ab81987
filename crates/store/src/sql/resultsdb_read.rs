//! Results as ResultsDB knows them: reading.
//!
//! What is asked for under a key is read in the order of the index of that key; every other condition is tested on
//! the rows that come, so that a page costs the same however many results there are.

use super::{
    resultsdb::{GROUP_KEY, TESTCASE_KEY, searched},
    session::{Dialect, Session},
    value::{Row, Value, values},
    where_clause::Where,
};
use crate::{
    Entry, EntryQuery, LATEST_SCAN_MAX, PAGE_MAX, Result, ResultGroup, StoreError, Testcase, Wanted,
};
use model::{Item, ids::ResultId, result::resultsdb_values};
use std::collections::{BTreeMap, HashMap, HashSet};

const COLUMNS: &str = "select r.*, t.ref_url as testcase_url from result r \
    left join testcase t on t.name = r.testcase";

fn read_entry(row: &Row) -> Result<Entry> {
    let item = match (row.text_opt("item_type")?, row.text_opt("item_id")?) {
        (Some(kind), Some(id)) => Some(Item { kind, id }),
        _ => None,
    };
    let data: serde_json::Map<String, serde_json::Value> = row.json("data")?;
    let data = resultsdb_values(&data, item.as_ref());
    Ok(Entry {
        id: ResultId(row.int("id")?),
        testcase: Testcase { name: row.text("testcase")?, ref_url: row.text_opt("testcase_url")? },
        outcome: row.parsed("outcome")?,
        said: row.text_opt("said")?,
        note: row.text_opt("note")?,
        ref_url: row.text_opt("ref_url")?,
        task: row.id_opt("task_id")?.map(Into::into),
        data: data.into_iter().map(|(key, values)| (key.to_owned(), values)).collect(),
        groups: Vec::new(),
        at: row.time("created_at")?,
    })
}

pub(crate) async fn entry(session: &mut Session, id: ResultId) -> Result<Entry> {
    let missing = || StoreError::NotFound { what: "result", id: id.to_string() };
    entries_of(session, vec![id.0]).await?.pop().ok_or_else(missing)
}

/// Entries in the order of their numbers here.
async fn entries_of(session: &mut Session, ids: Vec<i64>) -> Result<Vec<Entry>> {
    let among = match session.dialect() {
        Dialect::Sqlite => "in (select value from json_each($1))",
        Dialect::Postgres => "= any($1)",
    };
    let rows = session.all(format!("{COLUMNS} where r.id {among}"), vec![Value::Ints(ids.clone())]).await?;
    let mut found = HashMap::new();
    for row in &rows {
        let entry = read_entry(row)?;
        found.insert(entry.id.0, entry);
    }
    let groups = format!(
        "select v.result_id, g.id from result_value v join result_group g on g.id = v.value \
         where v.result_id {among} and v.key = $2 order by g.serial"
    );
    for row in session.all(groups, vec![Value::Ints(ids.clone()), GROUP_KEY.into()]).await? {
        if let Some(entry) = found.get_mut(&row.int("result_id")?) {
            entry.groups.push(row.text("id")?);
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// What is asked for under one key.
type Condition<'a> = (&'a str, &'a Wanted);

/// The conditions by key: exact ones first, and those on an item before all, since few results have the same.
fn conditions<'a>(query: &'a EntryQuery, groups: Option<&'a Wanted>) -> Vec<Condition<'a>> {
    let mut all: Vec<Condition<'a>> = query.data.iter().map(|(key, wanted)| (key.as_str(), wanted)).collect();
    all.extend(query.testcases.iter().map(|wanted| (TESTCASE_KEY, wanted)));
    all.extend(groups.map(|wanted| (GROUP_KEY, wanted)));
    all.sort_by_key(|(key, wanted)| {
        let rank = match *key {
            "item" => 0,
            GROUP_KEY => 1,
            TESTCASE_KEY => 2,
            "type" | "arch" => 4,
            _ => 3,
        };
        (matches!(wanted, Wanted::Like(_)), rank)
    });
    all
}

/// A statement for the numbers of the results asked for, in order.
fn statement(
    dialect: Dialect,
    query: &EntryQuery,
    columns: &str,
    offset: u64,
    limit: u64,
) -> (String, Vec<Value>) {
    let groups = (!query.groups.is_empty()).then(|| Wanted::AnyOf(query.groups.clone()));
    let conditions = conditions(query, groups.as_ref());
    let mut clause = Where::new(dialect);
    let mut rest = conditions.as_slice();
    // With one value of a key, the index gives the results in order.
    let (mut from, mut id, mut at, mut distinct) = ("result r", "r.id", "r.created_at", "");
    if let Some((key, Wanted::AnyOf(values))) = conditions.first() {
        rest = &conditions[1..];
        (from, id, at) = ("result_value v join result r on r.id = v.result_id", "v.result_id", "v.at");
        clause.add("v.key = ?", *key);
        if let [value] = values.as_slice() {
            clause.add("v.value = ?", searched(value));
        } else {
            // Several values of a key can be those of one result.
            distinct = "distinct ";
            clause.any_of("v.value", values.iter().map(|value| searched(value)).collect());
        }
    } else {
        clause.plain("r.listed");
    }
    for (key, wanted) in rest {
        exists(&mut clause, dialect, id, key, wanted);
    }
    outcomes(&mut clause, dialect, query);
    clause.maybe(&format!("{at} >= ?"), query.since);
    clause.maybe(&format!("{at} <= ?"), query.until);
    let way = if query.ascending { "asc" } else { "desc" };
    let (text, mut bound) = clause.text();
    bound.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    bound.push(i64::try_from(offset).unwrap_or(i64::MAX).into());
    let (limit, offset) = (bound.len() - 1, bound.len());
    let text = format!(
        "select {distinct}{id} as id, {at} as at{columns} from {from} {text} \
         order by {at} {way}, {id} {way} limit ${limit} offset ${offset}"
    );
    (text, bound)
}

fn exists(clause: &mut Where, dialect: Dialect, id: &str, key: &str, wanted: &Wanted) {
    clause.add(
        "exists (select 1 from result_value x where x.result_id = {id} and x.key = ?"
            .replace("{id}", id)
            .as_str(),
        key,
    );
    // The condition goes on in the next one: both stand in one pair of brackets. With `offset` PostgreSQL tests it on the
    // rows that come, and does not join all results that have this value.
    match wanted {
        Wanted::AnyOf(values) => {
            let among = match dialect {
                Dialect::Sqlite => "x.value in (select value from json_each(?)))",
                Dialect::Postgres => "x.value = any(?) offset 0)",
            };
            clause.add(among, Value::texts(values.iter().map(|value| searched(value))));
        }
        Wanted::Like(patterns) => {
            let among = match dialect {
                Dialect::Sqlite => "exists (select 1 from json_each(?) p where x.value glob p.value))",
                Dialect::Postgres => "x.value like any(?) offset 0)",
            };
            clause.add(among, Value::texts(patterns.iter().map(|pattern| like(dialect, pattern))));
        }
    }
}

fn outcomes(clause: &mut Where, dialect: Dialect, query: &EntryQuery) {
    if query.outcomes.is_empty() {
        return;
    }
    match dialect {
        Dialect::Sqlite => {
            clause.add("(r.said in (select value from json_each(?))", Value::texts(&query.outcomes));
            clause.or(
                "(r.said is null and r.outcome in (select value from json_each(?))))",
                Value::texts(&query.own_outcomes),
            );
        }
        Dialect::Postgres => {
            clause.add("(r.said = any(?)", Value::texts(&query.outcomes));
            clause.or("(r.said is null and r.outcome = any(?)))", Value::texts(&query.own_outcomes));
        }
    }
}

/// A pattern in which `*` stands for any text, as one of the database that tells capitals from small letters: `like`
/// does in PostgreSQL, and `glob` in SQLite.
fn like(dialect: Dialect, pattern: &str) -> String {
    let mut sql = String::with_capacity(pattern.len());
    for letter in pattern.chars() {
        match (dialect, letter) {
            (Dialect::Postgres, '*') => sql.push('%'),
            (Dialect::Postgres, '%' | '_' | '\\') => sql.extend(['\\', letter]),
            (Dialect::Sqlite, '?' | '[') => sql.extend(['[', letter, ']']),
            (_, letter) => sql.push(letter),
        }
    }
    sql
}

pub(crate) async fn entries(session: &mut Session, query: &EntryQuery) -> Result<(Vec<Entry>, bool)> {
    let limit = query.limit.min(PAGE_MAX) as usize;
    let (sql, values) = statement(session.dialect(), query, "", query.offset, limit as u64 + 1);
    let mut ids =
        session.all(sql, values).await?.iter().map(|row| row.int("id")).collect::<Result<Vec<_>>>()?;
    let more = ids.len() > limit;
    ids.truncate(limit);
    Ok((entries_of(session, ids).await?, more))
}

/// The newest of each, by one walk from the newest on; only what tells them apart is read of each.
pub(crate) async fn latest(
    session: &mut Session,
    query: &EntryQuery,
    distinct: &[String],
) -> Result<Vec<Entry>> {
    if let Some(entries) = latest_by_name(session, query, distinct).await? {
        return Ok(entries);
    }
    let query = EntryQuery { ascending: false, ..query.clone() };
    let columns = ", r.testcase";
    let (sql, values) = statement(session.dialect(), &query, columns, 0, LATEST_SCAN_MAX as u64);
    let mut found = Vec::new();
    for row in session.all(sql, values).await? {
        found.push((row.int("id")?, row.text("testcase")?));
    }
    let told_apart = distinct_values(session, &found, distinct).await?;
    let mut seen = HashSet::new();
    let none = BTreeMap::new();
    found.retain(|(id, testcase)| {
        seen.insert((testcase.clone(), told_apart.get(id).unwrap_or(&none).clone()))
    });
    entries_of(session, found.into_iter().map(|(id, _)| id).collect()).await
}

/// Where testcases are named and nothing else tells results apart, one look into the index for each.
async fn latest_by_name(
    session: &mut Session,
    query: &EntryQuery,
    distinct: &[String],
) -> Result<Option<Vec<Entry>>> {
    let [Wanted::AnyOf(names)] = query.testcases.as_slice() else { return Ok(None) };
    let has_item = query.data.iter().any(|(key, _)| key == "item");
    if !distinct.is_empty() || has_item {
        return Ok(None);
    }
    let mut ids = Vec::new();
    for name in names {
        let query = EntryQuery {
            testcases: vec![Wanted::AnyOf(vec![name.clone()])],
            ascending: false,
            ..query.clone()
        };
        let (sql, values) = statement(session.dialect(), &query, "", 0, 1);
        if let Some(row) = session.first(sql, values).await? {
            ids.push((row.time("at")?, row.int("id")?));
        }
    }
    ids.sort_unstable_by(|one, other| other.cmp(one));
    ids.dedup();
    Ok(Some(entries_of(session, ids.into_iter().map(|(_, id)| id).collect()).await?))
}

/// The values of the keys that tell results apart, by result.
async fn distinct_values(
    session: &mut Session,
    found: &[(i64, String)],
    distinct: &[String],
) -> Result<HashMap<i64, BTreeMap<String, Vec<String>>>> {
    let mut values: HashMap<i64, BTreeMap<String, Vec<String>>> = HashMap::new();
    if distinct.is_empty() || found.is_empty() {
        return Ok(values);
    }
    let sql = match session.dialect() {
        Dialect::Sqlite => {
            "select result_id, key, value from result_value where result_id in (select value from json_each($1)) \
             and key in (select value from json_each($2)) order by result_id, key, value"
        }
        Dialect::Postgres => {
            "select result_id, key, value from result_value where result_id = any($1) and key = any($2) \
             order by result_id, key, value"
        }
    };
    let ids = found.iter().map(|(id, _)| *id).collect();
    for row in session.all(sql, vec![Value::Ints(ids), Value::texts(distinct)]).await? {
        let of = values.entry(row.int("result_id")?).or_default();
        of.entry(row.text("key")?).or_default().push(row.text("value")?);
    }
    Ok(values)
}

pub(crate) async fn testcase(session: &mut Session, name: &str) -> Result<Testcase> {
    let row = session.first("select * from testcase where name = $1", values![name]).await?;
    let row = row.ok_or_else(|| StoreError::NotFound { what: "testcase", id: name.to_owned() })?;
    Ok(Testcase { name: row.text("name")?, ref_url: row.text_opt("ref_url")? })
}

/// Adds a condition on a column of its own.
fn column_wanted(clause: &mut Where, dialect: Dialect, column: &str, wanted: Option<&Wanted>) {
    match wanted {
        Some(Wanted::AnyOf(values)) => clause.any_of(column, values.clone()),
        Some(Wanted::Like(patterns)) => {
            let among = match dialect {
                Dialect::Sqlite => {
                    format!("exists (select 1 from json_each(?) p where {column} glob p.value)")
                }
                Dialect::Postgres => format!("{column} like any(?)"),
            };
            clause.add(&among, Value::texts(patterns.iter().map(|pattern| like(dialect, pattern))));
        }
        None => {}
    }
}

/// A page by offset: rows, and whether there are more.
async fn page(
    session: &mut Session,
    select: &str,
    clause: Where,
    order: &str,
    offset: u64,
    limit: u32,
) -> Result<(Vec<Row>, bool)> {
    let limit = limit.min(PAGE_MAX) as usize;
    let (text, mut bound) = clause.text();
    bound.push(i64::try_from(limit + 1).unwrap_or(i64::MAX).into());
    bound.push(i64::try_from(offset).unwrap_or(i64::MAX).into());
    let (n, m) = (bound.len() - 1, bound.len());
    let mut rows =
        session.all(format!("{select} {text} order by {order} limit ${n} offset ${m}"), bound).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok((rows, more))
}

pub(crate) async fn testcases(
    session: &mut Session,
    names: Option<&Wanted>,
    offset: u64,
    limit: u32,
) -> Result<(Vec<Testcase>, bool)> {
    let mut clause = Where::new(session.dialect());
    column_wanted(&mut clause, session.dialect(), "name", names);
    let (rows, more) = page(session, "select * from testcase", clause, "name", offset, limit).await?;
    let read = |row: &Row| Ok(Testcase { name: row.text("name")?, ref_url: row.text_opt("ref_url")? });
    Ok((rows.iter().map(read).collect::<Result<_>>()?, more))
}

const GROUP: &str = "select g.*, (select count(*) from result_value v where v.key = ':group' and v.value = g.id) \
    as results from result_group g";

fn read_group(row: &Row) -> Result<ResultGroup> {
    Ok(ResultGroup {
        id: row.text("id")?,
        description: row.text_opt("description")?,
        ref_url: row.text_opt("ref_url")?,
        results: row.number("results")?,
    })
}

pub(crate) async fn group(session: &mut Session, id: &str) -> Result<ResultGroup> {
    let row = session.first(format!("{GROUP} where g.id = $1"), values![id]).await?;
    read_group(&row.ok_or_else(|| StoreError::NotFound { what: "group", id: id.to_owned() })?)
}

pub(crate) async fn groups(
    session: &mut Session,
    ids: Option<&Wanted>,
    descriptions: Option<&Wanted>,
    offset: u64,
    limit: u32,
) -> Result<(Vec<ResultGroup>, bool)> {
    let mut clause = Where::new(session.dialect());
    column_wanted(&mut clause, session.dialect(), "g.id", ids);
    column_wanted(&mut clause, session.dialect(), "g.description", descriptions);
    let (rows, more) = page(session, GROUP, clause, "g.serial desc", offset, limit).await?;
    Ok((rows.iter().map(read_group).collect::<Result<_>>()?, more))
}
