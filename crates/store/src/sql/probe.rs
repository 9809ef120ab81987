//! Looking at a database without changing anything in it: for checks before a start.

use super::{
    backend::{PostgresStore, SqliteStore, is_in_use, newest_schema},
    error::classify,
};
use crate::{Result, StoreError};
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::path::Path;

/// The table of applied migrations is only there once the first one was.
const TABLES: [&str; 2] = ["_sqlx_migrations", "token"];

/// What a look at a database found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `SQLite` or `PostgreSQL`, with the version.
    pub backend: String,
    /// The schema's version; nothing where there is none yet.
    pub schema: Option<i64>,
    /// The newest version that this program knows.
    pub newest: i64,
    /// The database's clock.
    pub now_unix_ms: i64,
    /// The names of the tokens.
    pub tokens: Vec<String>,
}

/// A statement for either database.
macro_rules! look {
    ($connection:expr, $version:literal, $now:literal, $has_table:literal) => {{
        let connection = $connection;
        let wrong = |error: sqlx::Error| classify(&error).error;
        let backend: String =
            sqlx::query_scalar($version).fetch_one(&mut *connection).await.map_err(wrong)?;
        let now_unix_ms: i64 = sqlx::query_scalar($now).fetch_one(&mut *connection).await.map_err(wrong)?;
        let mut there = true;
        for table in TABLES {
            let found: i64 = sqlx::query_scalar($has_table)
                .bind(table)
                .fetch_one(&mut *connection)
                .await
                .map_err(wrong)?;
            there &= found > 0;
        }
        let (mut schema, mut tokens) = (None, Vec::new());
        if there {
            let versions = "select max(version) from _sqlx_migrations where success";
            schema = sqlx::query_scalar(versions).fetch_one(&mut *connection).await.map_err(wrong)?;
            let names = "select name from token order by name";
            tokens = sqlx::query_scalar(names).fetch_all(&mut *connection).await.map_err(wrong)?;
        }
        Probe { backend, schema, newest: newest_schema(), now_unix_ms, tokens }
    }};
}

impl SqliteStore {
    /// Looks at a file that is there, without locking or changing it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when a server has it; it is no database, or cannot be read.
    pub async fn probe(path: &Path) -> Result<Probe> {
        if is_in_use(path)? {
            return Err(StoreError::Locked(path.to_owned()));
        }
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let mut connection =
            SqliteConnection::connect_with(&options).await.map_err(|error| classify(&error).error)?;
        let probe = look!(
            &mut connection,
            "select 'SQLite ' || sqlite_version()",
            "select cast(unixepoch('subsec') * 1000 as integer)",
            "select count(*) from sqlite_master where type = 'table' and name = $1"
        );
        // Nothing was written; an error here loses nothing.
        _ = connection.close().await;
        Ok(probe)
    }
}

impl PostgresStore {
    /// Looks at a database without changing anything in it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be reached.
    pub async fn probe(url: &str) -> Result<Probe> {
        let mut connection = PgConnection::connect(url).await.map_err(|error| classify(&error).error)?;
        let probe = look!(
            &mut connection,
            "select 'PostgreSQL ' || current_setting('server_version')",
            "select (extract(epoch from clock_timestamp()) * 1000)::bigint",
            "select count(*) from pg_tables where schemaname = any (current_schemas(false)) and tablename = $1"
        );
        _ = connection.close().await;
        Ok(probe)
    }
}
