//! A database of a benchmark's own.

use crate::services::required;
use model::{Ids, SystemIds};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use std::{process::Command, sync::Arc};
use store::{SqlStore, postgres::PoolOptions, postgres::PostgresStore};

/// A database with the schema of the program; it is dropped with this.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) store: Arc<SqlStore>,
    pub(crate) pool: PgPool,
}

impl Database {
    pub(crate) async fn fresh() -> Self {
        let admin = required("TASKBOT_TEST_POSTGRES_URL");
        let name = format!("bench_{}", &SystemIds.next().simple().to_string()[..24]);
        let server = PgPoolOptions::new().max_connections(1).connect(&admin).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&server).await.unwrap();
        server.close().await;
        let url = format!("{}/{name}", admin.rsplit_once('/').expect("the URL ends with a database").0);
        let store = PostgresStore::connect(&url, PoolOptions::default(), Arc::new(SystemIds)).await.unwrap();
        let pool = PgPoolOptions::new().max_connections(8).connect(&url).await.unwrap();
        Self { name, store: Arc::new(store), pool }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("drop database if exists {} with (force)", self.name);
        let psql = format!("{}/psql", required("TASKBOT_TEST_POSTGRES_BIN"));
        let arguments = ["--quiet", "--dbname", &required("TASKBOT_TEST_POSTGRES_URL"), "--command", &drop];
        let _ = Command::new(psql).args(arguments).status();
    }
}
