//! Values that go into statements, and rows that come out, in the terms of both databases.
//!
//! SQLite keeps times as microseconds since 1970, ids as 16 bytes, and takes lists as JSON text (bytes in it as
//! hexadecimal digits); PostgreSQL has types for them all.

use crate::{Result, StoreError};
use chrono::{DateTime, Utc};
use model::ids::{
    ArtifactId, BatchId, DeadLetterId, EventId, EventSeq, GroupName, OutboxId, Position, QueueName, ResultId,
    Revision, RuleName, SourceName, Submitter, TaskId, TaskName, TokenId, WorkerName,
};
use model::{Outcome, TaskKey, Topic, message::JsonText};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};
use uuid::Uuid;

/// A value of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Time(Option<DateTime<Utc>>),
    Id(Option<Uuid>),
    Bool(bool),
    MaybeBool(Option<bool>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    Ids(Vec<Uuid>),
    Hashes(Vec<Vec<u8>>),
    /// A column of a bulk insert, for PostgreSQL only.
    Column(Column),
}

/// PostgreSQL's arrays with gaps, one for each column.
#[derive(Debug, Clone)]
pub(crate) enum Column {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Time(Vec<Option<DateTime<Utc>>>),
    Id(Vec<Option<Uuid>>),
    Bool(Vec<bool>),
}

/// The values of a statement, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::value::Value::from($value)),*] };
}
pub(crate) use values;

/// `From` for a type and its `Option`.
macro_rules! from {
    ($($type:ty => $variant:ident, $convert:expr;)*) => {
        $(
            impl From<$type> for Value {
                fn from(value: $type) -> Self {
                    Self::from(Some(value))
                }
            }
            impl From<Option<$type>> for Value {
                fn from(value: Option<$type>) -> Self {
                    Self::$variant(value.map($convert))
                }
            }
        )*
    };
}

from! {
    i64 => Int, |n| n;
    i32 => Int, i64::from;
    u32 => Int, i64::from;
    u64 => Int, |n| i64::try_from(n).unwrap_or(i64::MAX);
    EventSeq => Int, |n: EventSeq| n.0;
    ResultId => Int, |n: ResultId| n.0;
    OutboxId => Int, |n: OutboxId| n.0;
    Position => Int, |n: Position| n.0;
    DeadLetterId => Int, |n: DeadLetterId| n.0;
    String => Text, |text| text;
    &str => Text, |text: &str| text.to_owned();
    &String => Text, |text: &String| text.clone();
    &Topic => Text, |text: &Topic| text.as_str().to_owned();
    &EventId => Text, |text: &EventId| text.as_str().to_owned();
    &SourceName => Text, |text: &SourceName| text.as_str().to_owned();
    &RuleName => Text, |text: &RuleName| text.as_str().to_owned();
    &Revision => Text, |text: &Revision| text.as_str().to_owned();
    &TaskName => Text, |text: &TaskName| text.as_str().to_owned();
    &QueueName => Text, |text: &QueueName| text.as_str().to_owned();
    &WorkerName => Text, |text: &WorkerName| text.as_str().to_owned();
    &GroupName => Text, |text: &GroupName| text.as_str().to_owned();
    &Submitter => Text, |text: &Submitter| text.as_str().to_owned();
    Outcome => Text, |outcome: Outcome| outcome.as_str().to_owned();
    Vec<u8> => Bytes, |bytes| bytes;
    [u8; 32] => Bytes, |bytes: [u8; 32]| bytes.to_vec();
    &[u8] => Bytes, |bytes: &[u8]| bytes.to_vec();
    TaskKey => Bytes, |key: TaskKey| key.0.to_vec();
    DateTime<Utc> => Time, |time| time;
    Uuid => Id, |id| id;
    TaskId => Id, TaskId::uuid;
    BatchId => Id, BatchId::uuid;
    TokenId => Id, TokenId::uuid;
    ArtifactId => Id, ArtifactId::uuid;
}

impl From<Option<bool>> for Value {
    fn from(value: Option<bool>) -> Self {
        Self::MaybeBool(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Value {
    /// A list of ids.
    pub(crate) fn ids(ids: impl IntoIterator<Item = TaskId>) -> Self {
        Self::Ids(ids.into_iter().map(TaskId::uuid).collect())
    }

    /// A list of texts.
    pub(crate) fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Texts(texts.into_iter().map(|text| text.as_ref().to_owned()).collect())
    }

    /// PostgreSQL's texts hold no NUL. SQLite's would: refused on both, so that both take the same.
    pub(crate) fn check(&self) -> Result<()> {
        let nul = match self {
            Self::Text(Some(text)) => text.contains('\0'),
            Self::Texts(texts) => texts.iter().any(|text| text.contains('\0')),
            Self::Column(Column::Text(texts)) => texts.iter().flatten().any(|text| text.contains('\0')),
            _ => false,
        };
        if nul { Err(StoreError::Poison("a text holds a NUL character".to_owned())) } else { Ok(()) }
    }
}

/// JSON text. Its NUL characters are escaped, so that both databases take it.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Poison(format!("it cannot be written as JSON: {error}")))
}

/// A row of either database.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Reads a column; the types that the two databases keep alike.
macro_rules! read {
    ($self:ident, $name:ident, $type:ty) => {
        match $self {
            Self::Sqlite(row) => row.try_get::<$type, _>($name),
            Self::Postgres(row) => row.try_get::<$type, _>($name),
        }
        .map_err(|error| wrong($name, &error))
    };
}

fn wrong(column: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Inconsistent { table: "(row)", message: format!("column `{column}`: {error}") }
}

impl Row {
    pub(crate) fn int(&self, name: &str) -> Result<i64> {
        read!(self, name, i64)
    }

    pub(crate) fn int_opt(&self, name: &str) -> Result<Option<i64>> {
        read!(self, name, Option<i64>)
    }

    /// A number that is never negative.
    pub(crate) fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<T> {
        let value = self.int(name)?;
        T::try_from(value).map_err(|_| wrong(name, &format!("{value} is out of range")))
    }

    pub(crate) fn number_opt<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.int_opt(name)? else { return Ok(None) };
        T::try_from(value).map(Some).map_err(|_| wrong(name, &format!("{value} is out of range")))
    }

    pub(crate) fn bool(&self, name: &str) -> Result<bool> {
        read!(self, name, bool)
    }

    pub(crate) fn bool_opt(&self, name: &str) -> Result<Option<bool>> {
        read!(self, name, Option<bool>)
    }

    pub(crate) fn text(&self, name: &str) -> Result<String> {
        read!(self, name, String)
    }

    pub(crate) fn text_opt(&self, name: &str) -> Result<Option<String>> {
        read!(self, name, Option<String>)
    }

    /// A text that is parsed.
    pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T> {
        self.text(name)?.parse().map_err(|error| wrong(name, &error))
    }

    pub(crate) fn parsed_opt<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>> {
        self.text_opt(name)?.map(|text| text.parse()).transpose().map_err(|error| wrong(name, &error))
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        read!(self, name, Vec<u8>)
    }

    pub(crate) fn bytes_opt(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read!(self, name, Option<Vec<u8>>)
    }

    /// A SHA-256.
    pub(crate) fn hash(&self, name: &str) -> Result<[u8; 32]> {
        let bytes = self.bytes(name)?;
        <[u8; 32]>::try_from(bytes).map_err(|bytes| wrong(name, &format!("{} bytes, not 32", bytes.len())))
    }

    pub(crate) fn time(&self, name: &str) -> Result<DateTime<Utc>> {
        self.time_opt(name)?.ok_or_else(|| wrong(name, &"no time"))
    }

    pub(crate) fn time_opt(&self, name: &str) -> Result<Option<DateTime<Utc>>> {
        match self {
            Self::Postgres(row) => row.try_get(name).map_err(|error| wrong(name, &error)),
            Self::Sqlite(_) => {
                let Some(micros) = self.int_opt(name)? else { return Ok(None) };
                let time = DateTime::from_timestamp_micros(micros);
                time.map(Some).ok_or_else(|| wrong(name, &format!("{micros} is out of range")))
            }
        }
    }

    pub(crate) fn id(&self, name: &str) -> Result<Uuid> {
        self.id_opt(name)?.ok_or_else(|| wrong(name, &"no id"))
    }

    pub(crate) fn id_opt(&self, name: &str) -> Result<Option<Uuid>> {
        match self {
            Self::Postgres(row) => row.try_get(name).map_err(|error| wrong(name, &error)),
            Self::Sqlite(_) => {
                let bytes = self.bytes_opt(name)?;
                bytes.map(|bytes| Uuid::from_slice(&bytes)).transpose().map_err(|error| wrong(name, &error))
            }
        }
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_str(&self.text(name)?).map_err(|error| wrong(name, &error))
    }

    pub(crate) fn json_text(&self, name: &str) -> Result<JsonText> {
        JsonText::parse(self.text(name)?).map_err(|error| wrong(name, &error))
    }

    pub(crate) fn json_opt<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let text = self.text_opt(name)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| wrong(name, &error))
    }
}
