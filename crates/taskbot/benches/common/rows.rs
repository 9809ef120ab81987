//! Rows that another program wrote, for writing them again.

use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

/// The values of one column.
#[derive(Debug, Clone)]
enum Values {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Time(Vec<Option<DateTime<Utc>>>),
    Id(Vec<Option<Uuid>>),
    Bool(Vec<Option<bool>>),
}

/// Rows of a table, held by columns as a bulk insert wants them.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    insert: String,
    columns: Vec<Values>,
    pub(crate) count: usize,
}

impl Rows {
    /// Reads all rows that a query gives with the table's columns, for inserting them elsewhere.
    pub(crate) async fn read(pool: &PgPool, table: &str, order: &str, tail: &str) -> Self {
        // What the database counts up by itself is left to it.
        let columns: Vec<(String, String)> = sqlx::query_as(
            "select column_name::text, data_type::text from information_schema.columns \
             where table_name = $1 and identity_generation is distinct from 'ALWAYS' order by ordinal_position",
        )
        .bind(table)
        .fetch_all(pool)
        .await
        .unwrap();
        let names = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let select = format!("select {names} from {table} order by {order}");
        let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(pool).await.unwrap();
        let parameters = columns.iter().enumerate().map(|(at, (_, kind))| format!("${}::{kind}[]", at + 1));
        let parameters = parameters.collect::<Vec<_>>().join(", ");
        let insert = format!("insert into {table} ({names}) select * from unnest({parameters}) {tail}");
        let columns = columns.iter().map(|(name, kind)| column(&rows, name, kind)).collect();
        Self { insert, columns, count: rows.len() }
    }

    /// Inserts a part of the rows.
    pub(crate) async fn insert(&self, connection: &mut PgConnection, from: usize, to: usize) {
        let mut query = sqlx::query(AssertSqlSafe(self.insert.clone()));
        for values in &self.columns {
            query = bind(query, values, from, to);
        }
        query.execute(connection).await.unwrap();
    }
}

fn column(rows: &[PgRow], name: &str, kind: &str) -> Values {
    match kind {
        "bigint" => Values::Int(rows.iter().map(|row| row.get(name)).collect()),
        "text" => Values::Text(rows.iter().map(|row| row.get(name)).collect()),
        "bytea" => Values::Bytes(rows.iter().map(|row| row.get(name)).collect()),
        "timestamp with time zone" => Values::Time(rows.iter().map(|row| row.get(name)).collect()),
        "uuid" => Values::Id(rows.iter().map(|row| row.get(name)).collect()),
        "boolean" => Values::Bool(rows.iter().map(|row| row.get(name)).collect()),
        other => panic!("{name} is a {other}"),
    }
}

fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    values: &'q Values,
    from: usize,
    to: usize,
) -> Query<'q, Postgres, PgArguments> {
    match values {
        Values::Int(values) => query.bind(&values[from..to]),
        Values::Text(values) => query.bind(&values[from..to]),
        Values::Bytes(values) => query.bind(&values[from..to]),
        Values::Time(values) => query.bind(&values[from..to]),
        Values::Id(values) => query.bind(&values[from..to]),
        Values::Bool(values) => query.bind(&values[from..to]),
    }
}
