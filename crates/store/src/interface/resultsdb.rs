//! Results as ResultsDB knows them: testcases with links, groups, and any number of values under any key.
//!
//! All results are kept in one table; this is another view of it, with what that view needs beside.

use super::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::{Item, Outcome, ids::ResultId};
use std::collections::BTreeMap;

/// The longest value that is searched by in full, in bytes; of longer ones the start and a hash.
pub const SEARCHED_BYTES_MAX: usize = 512;
/// The most values, all keys together, that one result can have.
pub const VALUES_PER_RESULT_MAX: usize = 1_000;
/// The most groups that one result can belong to.
pub const GROUPS_PER_RESULT_MAX: usize = 100;
/// The most results that "the newest of each" looks at for one request.
pub const LATEST_SCAN_MAX: usize = 100_000;

/// A testcase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testcase {
    /// Its name.
    pub name: String,
    /// Where it is described.
    pub ref_url: Option<String>,
}

/// A group of results. A result can belong to several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultGroup {
    /// Its id: a UUID where nobody gave another text.
    pub id: String,
    /// What it is, for people.
    pub description: Option<String>,
    /// Where more is to be found.
    pub ref_url: Option<String>,
    /// How many results it has; not read when it is written.
    pub results: u64,
}

/// A result to store, with what only this view has.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    /// The testcase. A link that is given replaces the one that it had.
    pub testcase: Testcase,
    /// How it ended.
    pub outcome: Outcome,
    /// The outcome in the reporter's own word, in capitals.
    pub said: String,
    /// For people.
    pub note: Option<String>,
    /// Where more is to be found.
    pub ref_url: Option<String>,
    /// Values by key.
    pub data: BTreeMap<String, Vec<String>>,
    /// The groups that it belongs to; those that are not there yet are made, texts that are given are kept.
    pub groups: Vec<ResultGroup>,
    /// When it was reported; now when not given.
    pub at: Option<DateTime<Utc>>,
    /// Who reports it: with the result, the audit record says so.
    pub who: String,
}

impl NewEntry {
    /// What was tested: the first `item` and `type`.
    #[must_use]
    pub fn item(&self) -> Option<Item> {
        let first = |key: &str| self.data.get(key).and_then(|values| values.first());
        Some(Item { kind: first("type")?.clone(), id: first("item")?.clone() })
    }
}

/// A stored result in this view.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number.
    pub id: ResultId,
    /// The testcase.
    pub testcase: Testcase,
    /// How it ended.
    pub outcome: Outcome,
    /// The outcome in the reporter's own word; nothing for results of our tasks.
    pub said: Option<String>,
    /// For people.
    pub note: Option<String>,
    /// Where more is to be found.
    pub ref_url: Option<String>,
    /// The task of ours that reported it.
    pub task: Option<model::TaskId>,
    /// Values by key.
    pub data: BTreeMap<String, Vec<String>>,
    /// The groups that it belongs to, by id.
    pub groups: Vec<String>,
    /// When it was reported.
    pub at: DateTime<Utc>,
}

/// How values are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// One of these.
    AnyOf(Vec<String>),
    /// One that looks like one of these; `*` stands for any text.
    Like(Vec<String>),
}

/// Which results to list. All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryQuery {
    /// Only with one of these outcomes, in the words of this view, in capitals.
    pub outcomes: Vec<String>,
    /// The same outcomes as text forms of ours ([`Outcome::as_str`]), for results of our tasks.
    pub own_outcomes: Vec<String>,
    /// Only of testcases.
    pub testcases: Vec<Wanted>,
    /// Only of one of these groups.
    pub groups: Vec<String>,
    /// Only reported at or after.
    pub since: Option<DateTime<Utc>>,
    /// Only reported at or before.
    pub until: Option<DateTime<Utc>>,
    /// Only with values under these keys.
    pub data: Vec<(String, Wanted)>,
    /// Oldest first.
    pub ascending: bool,
    /// How many to leave out at the start.
    pub offset: u64,
    /// How many at most, up to [`super::PAGE_MAX`].
    pub limit: u32,
}

/// Results as ResultsDB knows them.
#[async_trait]
pub trait ResultsDb: Send + Sync {
    /// Stores results that belong to no task of ours, in this order and all or none, each with its message and its
    /// audit record. A group that is named by id alone must be there or is made.
    async fn add_entries(&self, entries: &[NewEntry]) -> Result<Vec<Entry>>;

    /// A result.
    async fn entry(&self, id: ResultId) -> Result<Entry>;

    /// A list of results, newest first unless asked otherwise, and whether there are more.
    async fn entries(&self, query: &EntryQuery) -> Result<(Vec<Entry>, bool)>;

    /// The newest result of each testcase, or of each testcase and values of the keys in `distinct`, among
    /// those that the query asks for; `offset` and `limit` do not count.
    async fn latest_entries(&self, query: &EntryQuery, distinct: &[String]) -> Result<Vec<Entry>>;

    /// Makes a testcase, or gives it another link. Whether it is new.
    async fn put_testcase(&self, testcase: &Testcase) -> Result<bool>;

    /// A testcase.
    async fn testcase(&self, name: &str) -> Result<Testcase>;

    /// Testcases by name, and whether there are more.
    async fn testcases(
        &self,
        names: Option<&Wanted>,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<Testcase>, bool)>;

    /// Makes a group, or changes what is given of it. Whether it is new.
    async fn put_group(&self, group: &ResultGroup) -> Result<bool>;

    /// A group.
    async fn group(&self, id: &str) -> Result<ResultGroup>;

    /// Groups, newest first, and whether there are more.
    async fn groups(
        &self,
        ids: Option<&Wanted>,
        descriptions: Option<&Wanted>,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<ResultGroup>, bool)>;
}
