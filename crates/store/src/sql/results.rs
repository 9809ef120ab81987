//! Results, artifacts, and where logs lie.

use super::{
    SqlStore, files, results_read, resultsdb,
    session::{Bulk, Dialect, Kind, Session, columns_of, transaction},
    task_row::TaskRow,
    tasks::cut,
    value::{Row, Value, json, values},
    work::Work,
};
use crate::{Fenced, KeptFiles, LogChunk, NewEntry, Page, Result, ResultQuery, Results};
use async_trait::async_trait;
use chrono::SubsecRound as _;
use model::{
    Item, Outcome, Task, TaskId,
    attempt::AttemptRef,
    ids::{ArtifactId, ResultId},
    message::NewMessage,
    result::{Artifact, NOTE_BYTES_MAX, NewResult, StoredResult},
};
use serde_json::Map;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

const RESULT: Bulk = Bulk {
    table: "result",
    columns: &[
        ("parent", Kind::Int),
        ("task_id", Kind::Id),
        ("attempt", Kind::Int),
        ("testcase", Kind::Text),
        ("item_type", Kind::Text),
        ("item_id", Kind::Text),
        ("scenario", Kind::Bytes),
        ("outcome", Kind::Text),
        ("previous_outcome", Kind::Text),
        ("note", Kind::Text),
        ("duration_ms", Kind::Int),
        ("data", Kind::Text),
        ("created_at", Kind::Time),
        ("listed", Kind::Bool),
        ("ref_url", Kind::Text),
        ("said", Kind::Text),
    ],
    tail: "returning id, previous_outcome",
};
/// The same, and the last outcome of each scenario is read by the index in the same round trip.
const RESULT_POSTGRES: &str = "insert into result (parent, task_id, attempt, testcase, item_type, item_id, scenario, \
        outcome, previous_outcome, note, duration_ms, data, created_at, listed, ref_url, said) \
    select u.parent, u.task_id, u.attempt, u.testcase, u.item_type, u.item_id, u.scenario, u.outcome, \
        (select r.outcome from result r where r.scenario = u.scenario order by r.id desc limit 1), \
        u.note, u.duration_ms, u.data, u.created_at, u.listed, u.ref_url, u.said \
    from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[], \
        $8::text[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::timestamptz[], $14::boolean[], \
        $15::text[], $16::text[]) \
        with ordinality as u (parent, task_id, attempt, testcase, item_type, item_id, scenario, outcome, \
        previous_outcome, note, duration_ms, data, created_at, listed, ref_url, said, place) \
    order by u.place returning id, previous_outcome";
/// SQLite: the last outcome of each scenario, by the index.
const PREVIOUS: &str = "select unhex(s.value) as scenario, (select r.outcome from result r \
    where r.scenario = unhex(s.value) order by r.id desc limit 1) as outcome from json_each($1) s";
/// The value that says for which architecture a result is.
const ARCH: &str = "arch";
const LOG_CHUNK: &str = "insert into log_chunk (task_id, attempt, seq, size_bytes, key, created_at) \
    values ($1, $2, $3, $4, $5, $6) on conflict (task_id, attempt, seq) do nothing";
const ARTIFACT: &str = "insert into artifact (id, task_id, attempt, name, size_bytes, sha256, key, published, \
    created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (task_id, attempt, name) do nothing";
const ARTIFACT_NAMED: &str = "select id from artifact where task_id = $1 and attempt = $2 and name = $3";

#[async_trait]
impl Results for SqlStore {
    async fn add_results(&self, results: &[NewResult]) -> Result<Vec<ResultId>> {
        transaction!(self, |session| add(self, session, results))
    }

    async fn result(&self, id: ResultId) -> Result<StoredResult> {
        results_read::result(&mut self.read().await?, id).await
    }

    async fn results(&self, query: &ResultQuery) -> Result<Page<StoredResult>> {
        results_read::list(&mut self.read().await?, query).await
    }

    async fn holds(&self, task: TaskId, attempt: AttemptRef) -> Result<bool> {
        let row = TaskRow::get(&mut self.read().await?, task).await?;
        Ok(row.task.state.running() == Some(attempt))
    }

    async fn log_room(&self, task: TaskId, attempt: AttemptRef) -> Result<Fenced<u64>> {
        files::log_room(&mut self.read().await?, task, attempt).await
    }

    async fn kept_files(&self, tasks: &[TaskId]) -> Result<KeptFiles> {
        files::kept(&mut self.read().await?, tasks).await
    }

    async fn add_log_chunk(&self, task: TaskId, attempt: AttemptRef, chunk: &LogChunk) -> Result<Fenced<()>> {
        transaction!(self, |session| add_log_chunk(session, task, attempt, chunk))
    }

    async fn log_chunks(&self, task: TaskId, attempt: u32, from_seq: u32) -> Result<Vec<LogChunk>> {
        results_read::log_chunks(&mut self.read().await?, task, attempt, from_seq).await
    }

    async fn add_artifact(&self, attempt: AttemptRef, artifact: &Artifact) -> Result<Fenced<ArtifactId>> {
        transaction!(self, |session| add_artifact(self, session, attempt, artifact))
    }

    async fn artifacts(&self, task: TaskId) -> Result<Vec<Artifact>> {
        results_read::artifacts(&mut self.read().await?, task).await
    }

    async fn artifact(&self, id: ArtifactId) -> Result<Artifact> {
        results_read::artifact(&mut self.read().await?, id).await
    }
}

async fn add(store: &SqlStore, session: &mut Session, results: &[NewResult]) -> Result<Vec<ResultId>> {
    let mut work = Work::new(session, store);
    let ids = store_results(&mut work, None, results, false).await?;
    work.done().await?;
    Ok(ids)
}

/// A result of a tree with what it takes over from above.
pub(crate) struct Node<'a> {
    result: &'a NewResult,
    /// What ResultsDB's interface said of it.
    entry: Option<&'a NewEntry>,
    parent: Option<ResultId>,
    item: Option<&'a Item>,
    arch: &'a str,
}

impl<'a> Node<'a> {
    fn new(result: &'a NewResult, parent: Option<ResultId>, item: Option<&'a Item>, arch: &'a str) -> Self {
        let arch = result.data.get(ARCH).and_then(|arch| arch.as_str()).unwrap_or(arch);
        Self { result, entry: None, parent, item: result.item.as_ref().or(item), arch }
    }

    /// A result as ResultsDB's interface says it.
    pub(crate) fn said(result: &'a NewResult, entry: &'a NewEntry) -> Self {
        Self { entry: Some(entry), ..Self::new(result, None, None, "") }
    }

    /// Its values; one that is listed has its architecture.
    fn data(&self, listed: bool) -> Map<String, serde_json::Value> {
        let mut data = self.result.data.clone();
        if listed && !self.arch.is_empty() {
            data.entry(ARCH).or_insert_with(|| self.arch.into());
        }
        data
    }

    /// The hash of testcase, item and architecture.
    fn scenario(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let (kind, id) = self.item.map_or(("", ""), |item| (&item.kind, &item.id));
        for part in [self.result.testcase.as_str(), kind, id, self.arch] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// Stores trees of results; gives the ids of the top ones.
pub(crate) async fn store_results(
    work: &mut Work<'_>,
    from: Option<(&Task, u32)>,
    results: &[NewResult],
    tell_all: bool,
) -> Result<Vec<ResultId>> {
    store_results_of(work, from, "", results, tell_all).await
}

/// As [`store_results`], of an attempt that ran on this architecture: results that say none are told and found with
/// it. What the task was asked for goes before what it ran on.
pub(crate) async fn store_results_of(
    work: &mut Work<'_>,
    from: Option<(&Task, u32)>,
    ran_on: &str,
    results: &[NewResult],
    tell_all: bool,
) -> Result<Vec<ResultId>> {
    let arch = from.and_then(|(task, _)| asked_arch(task)).unwrap_or(ran_on);
    let item = from.and_then(|(task, _)| task.item.as_ref());
    let top = results.iter().map(|result| Node::new(result, None, item, arch)).collect();
    let stored = store_trees(work, from, top, tell_all).await?;
    Ok(stored.iter().map(|result| result.id).collect())
}

/// Stores trees of results and lists and tells the top ones, or all. A part takes item and architecture over from
/// above. Gives the top ones.
pub(crate) async fn store_trees(
    work: &mut Work<'_>,
    from: Option<(&Task, u32)>,
    mut level: Vec<Node<'_>>,
    tell_all: bool,
) -> Result<Vec<StoredResult>> {
    let mut top = None;
    // A statement for each level, since parts name the number of what they are a part of.
    while !level.is_empty() {
        let listed = top.is_none() || tell_all;
        let stored = store_level(work, from, &level, listed).await?;
        if listed {
            let entries: Vec<_> = level.iter().map(|node| node.entry).collect();
            resultsdb::index(work.session, &stored, &entries).await?;
        }
        for result in stored.iter().filter(|_| listed) {
            let message = NewMessage::result(from.map(|(task, _)| task), result);
            let (depth, cause) = from.map_or((0, None), |(task, _)| (task.depth, Some(task.id)));
            work.out.chain(message, format!("result.new/{}", result.id), depth, cause, work.now);
        }
        let parts = level.iter().zip(&stored).flat_map(|(node, stored)| {
            let of = |child| Node::new(child, Some(stored.id), node.item, node.arch);
            node.result.children.iter().map(of).collect::<Vec<_>>()
        });
        level = parts.collect();
        top.get_or_insert(stored);
    }
    Ok(top.unwrap_or_default())
}

/// The architecture that a task was asked for: by an input of this name, or as a need.
fn asked_arch(task: &Task) -> Option<&str> {
    let input = task.inputs.get(ARCH).and_then(|arch| arch.as_str()).filter(|arch| !arch.is_empty());
    input.or(task.needs.arch.as_deref())
}

async fn store_level(
    work: &mut Work<'_>,
    from: Option<(&Task, u32)>,
    level: &[Node<'_>],
    listed: bool,
) -> Result<Vec<StoredResult>> {
    let scenarios: Vec<_> = level.iter().map(Node::scenario).collect();
    let previous = match work.session.dialect() {
        Dialect::Sqlite => previous(work.session, &scenarios).await?,
        Dialect::Postgres => HashMap::new(),
    };
    let (task, attempt) = (from.map(|(task, _)| task.id), from.map(|(_, attempt)| attempt));
    let mut stored: Vec<_> = level
        .iter()
        .zip(&scenarios)
        .map(|(node, scenario)| StoredResult {
            id: ResultId(0),
            parent: node.parent,
            task,
            attempt,
            testcase: node.result.testcase.clone(),
            item: node.item.cloned(),
            outcome: node.result.outcome,
            previous_outcome: previous.get(scenario).copied(),
            note: node.result.note.as_deref().map(|note| cut(note, NOTE_BYTES_MAX)),
            duration_ms: node.result.duration_ms,
            data: node.data(listed),
            created_at: node.entry.and_then(|entry| entry.at).unwrap_or(work.now).trunc_subsecs(6),
        })
        .collect();
    let rows = level.iter().zip(&stored).zip(&scenarios).map(|((node, result), scenario)| {
        Ok(values![
            result.parent,
            result.task,
            result.attempt,
            &result.testcase,
            result.item.as_ref().map(|item| &item.kind),
            result.item.as_ref().map(|item| &item.id),
            *scenario,
            result.outcome,
            result.previous_outcome,
            result.note.as_ref(),
            result.duration_ms,
            json(&result.data)?,
            result.created_at,
            listed,
            node.entry.and_then(|entry| entry.ref_url.as_ref()),
            node.entry.map(|entry| &entry.said),
        ])
    });
    let rows = rows.collect::<Result<_>>()?;
    let inserted = match work.session.dialect() {
        Dialect::Sqlite => work.session.insert(&RESULT, rows).await?,
        Dialect::Postgres => work.session.all(RESULT_POSTGRES, columns_of(&RESULT, rows)).await?,
    };
    // Numbers are given in the order of the rows; `returning` promises no order.
    let read = |row: &Row| Ok((row.int("id")?, row.parsed_opt("previous_outcome")?));
    let mut inserted = inserted.iter().map(read).collect::<Result<Vec<_>>>()?;
    inserted.sort_unstable_by_key(|(id, _)| *id);
    for (result, (id, previous)) in stored.iter_mut().zip(inserted) {
        result.id = ResultId(id);
        result.previous_outcome = previous;
    }
    Ok(stored)
}

async fn previous(session: &mut Session, scenarios: &[[u8; 32]]) -> Result<HashMap<[u8; 32], Outcome>> {
    let list = scenarios.iter().map(|scenario| scenario.to_vec()).collect();
    let mut previous = HashMap::new();
    for row in session.all(PREVIOUS, vec![Value::Hashes(list)]).await? {
        if let Some(outcome) = row.parsed_opt("outcome")? {
            previous.insert(row.hash("scenario")?, outcome);
        }
    }
    Ok(previous)
}

async fn add_log_chunk(
    session: &mut Session,
    task: TaskId,
    attempt: AttemptRef,
    chunk: &LogChunk,
) -> Result<Fenced<()>> {
    let row = TaskRow::lock(session, task).await?;
    if row.task.state.running() != Some(attempt) {
        return Ok(Fenced::Stale);
    }
    let now = session.now;
    let values = values![task, attempt.attempt, chunk.seq, chunk.size_bytes, &chunk.key, now];
    if session.run(LOG_CHUNK, values).await? > 0 {
        files::grow_log(session, task, chunk).await?;
    }
    Ok(Fenced::Written(()))
}

async fn add_artifact(
    store: &SqlStore,
    session: &mut Session,
    attempt: AttemptRef,
    artifact: &Artifact,
) -> Result<Fenced<ArtifactId>> {
    let mut work = Work::new(session, store);
    let row = TaskRow::lock(work.session, artifact.task).await?;
    if row.task.state.running() != Some(attempt) {
        return Ok(Fenced::Stale);
    }
    let artifact = Artifact { attempt: attempt.attempt, created_at: work.now, ..artifact.clone() };
    let values = values![
        artifact.id,
        artifact.task,
        artifact.attempt,
        &artifact.name,
        artifact.size_bytes,
        &artifact.sha256,
        &artifact.key,
        artifact.published,
        artifact.created_at,
    ];
    if work.session.run(ARTIFACT, values).await? == 0 {
        let values = values![artifact.task, artifact.attempt, &artifact.name];
        let there: Row = work.session.one(ARTIFACT_NAMED, values).await?;
        return Ok(Fenced::Written(there.id("id")?.into()));
    }
    if artifact.published {
        let mut earlier = results_read::artifacts(work.session, artifact.task).await?;
        earlier.retain(|file| file.attempt == artifact.attempt && file.published && file.id != artifact.id);
        let message = NewMessage::artifact(&row.task, &artifact, &earlier);
        let id = format!("artifact.published/{}", artifact.id);
        work.out.chain(message, id, row.task.depth, Some(row.task.id), work.now);
    }
    work.done().await?;
    Ok(Fenced::Written(artifact.id))
}
