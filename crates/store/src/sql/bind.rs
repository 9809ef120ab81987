//! Binding values to statements.

use super::value::{Column, Value};
use chrono::{DateTime, Utc};
use sqlx::{Postgres, Sqlite, postgres::PgArguments, query::Query, sqlite::SqliteArguments};
use uuid::Uuid;

/// Binds to SQLite: times as microseconds, ids as bytes, lists as JSON text.
pub(crate) fn bind_sqlite(
    mut query: Query<'_, Sqlite, SqliteArguments>,
    values: Vec<Value>,
) -> Query<'_, Sqlite, SqliteArguments> {
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::Time(value) => query.bind(value.map(|time: DateTime<Utc>| time.timestamp_micros())),
            Value::Id(value) => query.bind(value.map(|id: Uuid| id.as_bytes().to_vec())),
            Value::Bool(value) => query.bind(value),
            Value::MaybeBool(value) => query.bind(value),
            Value::Ints(values) => query.bind(serde_json::Value::from(values).to_string()),
            Value::Texts(values) => query.bind(serde_json::Value::from(values).to_string()),
            Value::Ids(values) => query.bind(hex_list(values.iter().map(|id| hex::encode(id.as_bytes())))),
            Value::Hashes(values) => query.bind(hex_list(values.iter().map(hex::encode))),
            Value::Column(_) => query.bind(None::<i64>),
        };
    }
    query
}

fn hex_list(texts: impl Iterator<Item = String>) -> String {
    serde_json::Value::from_iter(texts).to_string()
}

/// Binds to PostgreSQL.
pub(crate) fn bind_postgres(
    mut query: Query<'_, Postgres, PgArguments>,
    values: Vec<Value>,
) -> Query<'_, Postgres, PgArguments> {
    for value in values {
        query = match value {
            Value::Int(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::Time(value) => query.bind(value),
            Value::Id(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::MaybeBool(value) => query.bind(value),
            Value::Ints(values) => query.bind(values),
            Value::Texts(values) => query.bind(values),
            Value::Ids(values) => query.bind(values),
            Value::Hashes(values) => query.bind(values),
            Value::Column(column) => match column {
                Column::Int(list) => query.bind(list),
                Column::Text(list) => query.bind(list),
                Column::Bytes(list) => query.bind(list),
                Column::Time(list) => query.bind(list),
                Column::Id(list) => query.bind(list),
                Column::Bool(list) => query.bind(list),
            },
        };
    }
    query
}
