//! A connection of either database, inside or outside of a transaction, and the statements that go over it.

use super::{
    bind::{bind_postgres, bind_sqlite},
    error::classify,
    later::{Later, Verb},
    value::{Column, Row, Value, values},
};
use crate::{Result, StoreError};
use chrono::{DateTime, Utc};
use model::{TaskId, ids::GroupName};
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, SqlSafeStr, SqlStr, Sqlite, SqliteConnection, Transaction,
    pool::PoolConnection,
};
use std::{collections::BTreeSet, ops::ControlFlow};

/// How often a transaction is tried that the database rolled back because of others (deadlock, serialization).
const TRANSACTION_TRIES_MAX: u32 = 6;
/// The most rows of one `insert` into SQLite; powers of two below it keep the number of statements small.
const SQLITE_INSERT_ROWS_MAX: usize = 64;

/// Keyed as [`LOCK_GROUP`].
const CLOCK_AND_GROUP: &str = "select taskbot_now() as now, (select \
    pg_advisory_xact_lock(hashtextextended(t.group_name, 7261))::text from task t \
    where t.id = $1 and t.group_name is not null)";
const LOCK_GROUP: &str = "select pg_advisory_xact_lock(hashtextextended($1, 7261))";

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A statement: one text where both databases take it, else one for each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sql {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// What can be made the text of a statement.
pub(crate) trait Statement {
    fn text(self, dialect: Dialect) -> SqlStr;
}

impl Statement for Sql {
    fn text(self, dialect: Dialect) -> SqlStr {
        match dialect {
            Dialect::Sqlite => self.sqlite.into_sql_str(),
            Dialect::Postgres => self.postgres.into_sql_str(),
        }
    }
}

impl Statement for &'static str {
    fn text(self, _: Dialect) -> SqlStr {
        self.into_sql_str()
    }
}

/// A text put together from constants of this crate; values are always bound.
impl Statement for String {
    fn text(self, _: Dialect) -> SqlStr {
        AssertSqlSafe(self).into_sql_str()
    }
}

/// The type of a column in a bulk insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
    Time,
    Id,
    Bool,
}

/// An `insert` or `update` of many rows: one statement on PostgreSQL (`unnest`), a few on SQLite.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// `on conflict …`, `returning …`.
    pub(crate) tail: &'static str,
}

#[derive(Debug)]
enum Link {
    SqliteRead(PoolConnection<Sqlite>),
    SqliteWrite(Transaction<'static, Sqlite>),
    PostgresRead(PoolConnection<Postgres>),
    PostgresWrite(Transaction<'static, Postgres>),
}

/// A connection, in a transaction when it writes.
#[derive(Debug)]
pub(crate) struct Session {
    link: Link,
    /// The database's clock when the session began.
    pub(crate) now: DateTime<Utc>,
    again: bool,
    later: Later,
}

enum Connection<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Session {
    fn new(link: Link, now: DateTime<Utc>) -> Self {
        Self { link, now, again: false, later: Later::default() }
    }

    pub(crate) fn sqlite_read(connection: PoolConnection<Sqlite>, now: DateTime<Utc>) -> Self {
        Self::new(Link::SqliteRead(connection), now)
    }

    pub(crate) fn sqlite_write(transaction: Transaction<'static, Sqlite>, now: DateTime<Utc>) -> Self {
        Self::new(Link::SqliteWrite(transaction), now)
    }

    pub(crate) fn postgres_read(connection: PoolConnection<Postgres>) -> Self {
        Self::new(Link::PostgresRead(connection), DateTime::UNIX_EPOCH)
    }

    pub(crate) fn postgres_write(transaction: Transaction<'static, Postgres>) -> Self {
        Self::new(Link::PostgresWrite(transaction), DateTime::UNIX_EPOCH)
    }

    /// Asks PostgreSQL for its time; on SQLite it is known.
    pub(crate) async fn read_clock(&mut self) -> Result<()> {
        if self.dialect() == Dialect::Postgres {
            self.now = self.one("select taskbot_now() as now", Vec::new()).await?.time("now")?;
        }
        Ok(())
    }

    /// Takes PostgreSQL's time from a row that has it, unless it has been taken before; on SQLite it is known.
    pub(crate) fn take_clock(&mut self, row: &Row) -> Result<()> {
        if self.now == DateTime::UNIX_EPOCH && self.dialect() == Dialect::Postgres {
            self.now = row.time("now")?;
        }
        Ok(())
    }

    /// The same as [`Session::read_clock`], and in one statement the lock of the task's group: it comes before that of the task. SQLite has
    /// one writer.
    pub(crate) async fn read_clock_and_lock_group_of(&mut self, task: TaskId) -> Result<()> {
        if self.dialect() == Dialect::Postgres {
            self.now = self.one(CLOCK_AND_GROUP, values![task]).await?.time("now")?;
        }
        Ok(())
    }

    /// Locks groups until the end of the transaction. Before any task is locked.
    pub(crate) async fn lock_groups(&mut self, groups: &BTreeSet<GroupName>) -> Result<()> {
        if self.dialect() == Dialect::Postgres {
            for group in groups {
                self.all(LOCK_GROUP, values![group]).await?;
            }
        }
        Ok(())
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        match self.link {
            Link::SqliteRead(_) | Link::SqliteWrite(_) => Dialect::Sqlite,
            Link::PostgresRead(_) | Link::PostgresWrite(_) => Dialect::Postgres,
        }
    }

    fn connection(&mut self) -> Connection<'_> {
        match &mut self.link {
            Link::SqliteRead(connection) => Connection::Sqlite(connection),
            Link::SqliteWrite(transaction) => Connection::Sqlite(transaction),
            Link::PostgresRead(connection) => Connection::Postgres(connection),
            Link::PostgresWrite(transaction) => Connection::Postgres(transaction),
        }
    }

    fn failed(&mut self, error: &sqlx::Error) -> StoreError {
        let classified = classify(error);
        self.again |= classified.again;
        classified.error
    }

    /// All rows.
    pub(crate) async fn all(&mut self, sql: impl Statement, values: Vec<Value>) -> Result<Vec<Row>> {
        values.iter().try_for_each(Value::check)?;
        let text = sql.text(self.dialect());
        self.come_after(&text).await?;
        let rows = match self.connection() {
            Connection::Sqlite(connection) => {
                let rows = bind_sqlite(sqlx::query(text), values).fetch_all(connection).await;
                rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect())
            }
            Connection::Postgres(connection) => {
                let rows = bind_postgres(sqlx::query(text), values).fetch_all(connection).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        rows.map_err(|error| self.failed(&error))
    }

    /// The first row, if there is one.
    pub(crate) async fn first(&mut self, sql: impl Statement, values: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    /// The row that there must be.
    pub(crate) async fn one(&mut self, sql: impl Statement, values: Vec<Value>) -> Result<Row> {
        let row = self.first(sql, values).await?;
        row.ok_or_else(|| StoreError::Database("a query that gives a row always gave none".to_owned()))
    }

    /// Runs a statement; how many rows it touched.
    pub(crate) async fn run(&mut self, sql: impl Statement, values: Vec<Value>) -> Result<u64> {
        values.iter().try_for_each(Value::check)?;
        let text = sql.text(self.dialect());
        self.come_after(&text).await?;
        self.execute(text, values).await
    }

    async fn execute(&mut self, text: SqlStr, values: Vec<Value>) -> Result<u64> {
        let done = match self.connection() {
            Connection::Sqlite(connection) => {
                let done = bind_sqlite(sqlx::query(text), values).execute(connection).await;
                done.map(|done| done.rows_affected())
            }
            Connection::Postgres(connection) => {
                let done = bind_postgres(sqlx::query(text), values).execute(connection).await;
                done.map(|done| done.rows_affected())
            }
        };
        done.map_err(|error| self.failed(&error))
    }

    /// Inserts many rows, each with a value for every column. Gives what `returning` returns.
    pub(crate) async fn insert(&mut self, bulk: &Bulk, mut rows: Vec<Vec<Value>>) -> Result<Vec<Row>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        if self.dialect() == Dialect::Postgres {
            return self.all(bulk.postgres(1), columns_of(bulk, rows)).await;
        }
        let mut returned = Vec::new();
        while !rows.is_empty() {
            let chunk = SQLITE_INSERT_ROWS_MAX.min(1 << rows.len().ilog2());
            let rest = rows.split_off(chunk);
            let values = std::mem::replace(&mut rows, rest).into_iter().flatten().collect();
            returned.extend(self.all(bulk.sqlite(chunk), values).await?);
        }
        Ok(returned)
    }

    /// Writes the columns of many rows, each found by the first of them.
    pub(crate) async fn update(&mut self, bulk: &Bulk, rows: Vec<Vec<Value>>) -> Result<()> {
        if rows.len() > 1 && self.dialect() == Dialect::Postgres {
            self.run(bulk.postgres_update(1), columns_of(bulk, rows)).await?;
            return Ok(());
        }
        for row in rows {
            self.run(bulk.update_one(), row).await?;
        }
        Ok(())
    }

    /// As [`Session::insert`], at the latest when the transaction ends or a statement names the table. For rows that
    /// no other table's rows refer to.
    pub(crate) async fn insert_later(&mut self, bulk: &'static Bulk, rows: Vec<Vec<Value>>) -> Result<()> {
        if self.dialect() == Dialect::Sqlite {
            self.insert(bulk, rows).await?;
            return Ok(());
        }
        self.add_later(bulk, Verb::Insert, rows).await
    }

    /// As [`Session::update`], at the latest when the transaction ends or a statement names the table.
    pub(crate) async fn update_later(&mut self, bulk: &'static Bulk, rows: Vec<Vec<Value>>) -> Result<()> {
        if self.dialect() == Dialect::Sqlite {
            return self.update(bulk, rows).await;
        }
        self.add_later(bulk, Verb::Update, rows).await
    }

    async fn add_later(&mut self, bulk: &'static Bulk, verb: Verb, rows: Vec<Vec<Value>>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        rows.iter().flatten().try_for_each(Value::check)?;
        if let Err(rows) = self.later.add(bulk, verb, rows) {
            self.catch_up().await?;
            // Nothing waits any more that it could not be together with.
            let _ = self.later.add(bulk, verb, rows);
        }
        Ok(())
    }

    /// Writes what waits, if a statement with this text is to see it.
    async fn come_after(&mut self, text: &SqlStr) -> Result<()> {
        if self.later.concern(text.as_str()) { self.catch_up().await } else { Ok(()) }
    }

    /// Writes what waits.
    async fn catch_up(&mut self) -> Result<()> {
        if let Some((text, values)) = self.later.take() {
            self.execute(AssertSqlSafe(text).into_sql_str(), values).await?;
        }
        Ok(())
    }

    /// Ends the transaction as if it had not been.
    pub(crate) async fn roll_back(self) {
        // What cannot be rolled back is rolled back by the database when the connection is dropped.
        let rolled_back = match self.link {
            Link::SqliteWrite(transaction) => transaction.rollback().await,
            Link::PostgresWrite(transaction) => transaction.rollback().await,
            Link::SqliteRead(_) | Link::PostgresRead(_) => Ok(()),
        };
        if let Err(error) = rolled_back {
            tracing::debug!(%error, "rolling back failed");
        }
    }

    /// Ends the transaction: commits what went well, else rolls back; says whether to try the whole again.
    pub(crate) async fn settle<T>(mut self, done: Result<T>, tries: &mut u32) -> ControlFlow<Result<T>> {
        let done = match done {
            Ok(value) => self.catch_up().await.map(|()| value),
            refused @ Err(_) => refused,
        };
        let mut again = self.again;
        let done = match done {
            Ok(value) => {
                let committed = match self.link {
                    Link::SqliteWrite(transaction) => transaction.commit().await,
                    Link::PostgresWrite(transaction) => transaction.commit().await,
                    Link::SqliteRead(_) | Link::PostgresRead(_) => Ok(()),
                };
                committed.map(|()| value).map_err(|error| {
                    let classified = classify(&error);
                    again = classified.again;
                    classified.error
                })
            }
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        };
        *tries += 1;
        if done.is_err() && again && *tries < TRANSACTION_TRIES_MAX {
            tracing::debug!(tries = *tries, "the database rolled a transaction back; trying again");
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(done)
    }
}

/// Runs a function of a session in a transaction, again where the database rolled it back because of others.
/// One `on` a task holds the lock of its group from the start. A `timed` one takes the time with the first row that
/// it reads. A `passing` one may be forgotten by a crash of the
/// database: it notes what somebody took for a while, or what is done again without harm. An `unclocked` one passes,
/// too, and takes the time with the first row that it locks.
macro_rules! transaction {
    ($store:expr, passing |$session:ident| $body:expr) => {
        $crate::sql::session::transaction!(@ $store.write_passing(), |$session| $body)
    };
    ($store:expr, timed |$session:ident| $body:expr) => {
        $crate::sql::session::transaction!(@ $store.write_timed(), |$session| $body)
    };
    ($store:expr, unclocked |$session:ident| $body:expr) => {
        $crate::sql::session::transaction!(@ $store.write_unclocked(), |$session| $body)
    };
    ($store:expr, |$session:ident| $body:expr) => {
        $crate::sql::session::transaction!(@ $store.write(), |$session| $body)
    };
    ($store:expr, on $task:expr, |$session:ident| $body:expr) => {
        $crate::sql::session::transaction!(@ $store.write_on($task), |$session| $body)
    };
    (@ $begin:expr, |$session:ident| $body:expr) => {{
        let mut tries = 0;
        loop {
            let mut session = $begin.await?;
            let done = {
                let $session = &mut session;
                $body.await
            };
            if let std::ops::ControlFlow::Break(done) = session.settle(done, &mut tries).await {
                break done;
            }
        }
    }};
}
pub(crate) use transaction;

impl Bulk {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The columns as arrays, the first of which is the parameter of this number.
    fn arrays(&self, first: usize) -> String {
        let arrays: Vec<_> = (first..)
            .zip(self.columns)
            .map(|(n, (_, kind))| {
                let kind = match kind {
                    Kind::Int => "bigint",
                    Kind::Text => "text",
                    Kind::Bytes => "bytea",
                    Kind::Time => "timestamptz",
                    Kind::Id => "uuid",
                    Kind::Bool => "boolean",
                };
                format!("${n}::{kind}[]")
            })
            .collect();
        arrays.join(", ")
    }

    pub(crate) fn postgres(&self, first: usize) -> String {
        let (table, names, tail, arrays) = (self.table, self.names(), self.tail, self.arrays(first));
        format!("insert into {table} ({names}) select * from unnest({arrays}) {tail}")
    }

    pub(crate) fn postgres_update(&self, first: usize) -> String {
        let set: Vec<_> = self.columns[1..].iter().map(|(name, _)| format!("{name} = u.{name}")).collect();
        let (table, names, arrays, set) = (self.table, self.names(), self.arrays(first), set.join(", "));
        let (key, _) = self.columns[0];
        format!("update {table} t set {set} from unnest({arrays}) as u ({names}) where t.{key} = u.{key}")
    }

    fn update_one(&self) -> String {
        let set = (2..).zip(&self.columns[1..]).map(|(n, (name, _))| format!("{name} = ${n}"));
        let (table, (key, _), set) = (self.table, self.columns[0], set.collect::<Vec<_>>().join(", "));
        format!("update {table} set {set} where {key} = $1")
    }

    fn sqlite(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let (table, names, tail) = (self.table, self.names(), self.tail);
        format!("insert into {table} ({names}) values {} {tail}", vec![row.as_str(); rows].join(", "))
    }
}

/// Turns rows into columns. A value of another kind than its column is a null, which the database refuses
/// where it matters.
pub(crate) fn columns_of(bulk: &Bulk, rows: Vec<Vec<Value>>) -> Vec<Value> {
    let count = rows.len();
    let mut columns: Vec<Column> = bulk
        .columns
        .iter()
        .map(|(_, kind)| match kind {
            Kind::Int => Column::Int(Vec::with_capacity(count)),
            Kind::Text => Column::Text(Vec::with_capacity(count)),
            Kind::Bytes => Column::Bytes(Vec::with_capacity(count)),
            Kind::Time => Column::Time(Vec::with_capacity(count)),
            Kind::Id => Column::Id(Vec::with_capacity(count)),
            Kind::Bool => Column::Bool(Vec::with_capacity(count)),
        })
        .collect();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            match (column, value) {
                (Column::Int(list), Value::Int(value)) => list.push(value),
                (Column::Text(list), Value::Text(value)) => list.push(value),
                (Column::Bytes(list), Value::Bytes(value)) => list.push(value),
                (Column::Time(list), Value::Time(value)) => list.push(value),
                (Column::Id(list), Value::Id(value)) => list.push(value),
                (Column::Bool(list), Value::Bool(value)) => list.push(value),
                (Column::Int(list), _) => list.push(None),
                (Column::Text(list), _) => list.push(None),
                (Column::Bytes(list), _) => list.push(None),
                (Column::Time(list), _) => list.push(None),
                (Column::Id(list), _) => list.push(None),
                (Column::Bool(list), _) => list.push(false),
            }
        }
    }
    columns.into_iter().map(Value::Column).collect()
}
