//! Opening, locking, restarting, migrating, and a database that goes away.

use crate::harness::*;
use model::{SystemClock, SystemIds};
use std::{sync::Arc, time::Duration};
use store::{
    StoreError,
    postgres::{PoolOptions, PostgresStore},
    sqlite::SqliteStore,
};

#[tokio::test]
async fn a_sqlite_file_has_one_server() {
    let bed = Bed::new(Kind::Sqlite).await;
    let file = bed.file().unwrap();
    let second = SqliteStore::open(&file, Arc::new(SystemClock), Arc::new(SystemIds)).await;
    assert!(matches!(second, Err(StoreError::Locked(path)) if path == file));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let file = std::path::Path::new("/nonexistent/taskbot.db");
    let error = SqliteStore::open(file, Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/taskbot.db.lock"), "{error}");
}

#[tokio::test]
async fn what_sqlite_kept_is_there_after_a_restart() {
    let mut bed = Bed::new(Kind::Sqlite).await;
    bed.pass(5_000_000).await;
    let before = bed.store.now().await.unwrap();
    let seq = bed.event("e1", vec![wished("lint")]).await;
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    bed.store.close().await;
    let file = bed.file().unwrap();
    bed.store = Arc::new(Nowhere::store().await);
    bed.store = Arc::new(SqliteStore::open(&file, Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap());
    assert!(bed.store.now().await.unwrap() >= before, "the shift of the clock is kept");
    assert_eq!(bed.store.event(seq).await.unwrap().event.id.as_str(), "e1");
    assert_eq!(bed.store.held(&"w1".into()).await.unwrap()[0].attempt, claimed.attempt);
    bed.finish(&claimed, "passed").await;
    assert_eq!(bed.queue(&[ready("a")]).await.len(), 1);
    assert_eq!(bed.claim("w1", 1).await.len(), 1);
}

/// Another file, so that the first one is let go.
struct Nowhere;

impl Nowhere {
    async fn store() -> store::SqlStore {
        let folder = tempfile::tempdir().unwrap();
        SqliteStore::open(&folder.path().join("x.db"), Arc::new(SystemClock), Arc::new(SystemIds))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn two_servers_share_a_postgres() {
    let bed = Bed::new(Kind::Postgres).await;
    let second = bed.second().await;
    bed.queue(&[ready("a")]).await;
    assert_eq!(second.claim(&claim("w2", 5)).await.unwrap().len(), 1);
    // A lane that the other one made is seen.
    let odd = store::NewTask { needs: needs("x86_64"), ..ready("a") };
    second.create_tasks(&[odd]).await.unwrap();
    assert_eq!(bed.claim("w1", 5).await.len(), 1);
    second.close().await;
    bed.end().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    const NEWER: &str = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
        values (99, 'later', true, $$x$$, 1)";
    let bed = Bed::new(Kind::Postgres).await;
    let url = bed.url().unwrap();
    run_sql(&url, NEWER.to_owned()).await;
    let error = PostgresStore::connect(&url, PoolOptions::default(), Arc::new(SystemIds)).await.unwrap_err();
    let expect = "the database's schema does not fit this program: it is at version 99, this program knows \
        versions up to ";
    let text = error.to_string();
    assert!(text.starts_with(expect) && text.ends_with(": run the newer program"), "{text}");
    bed.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let url = "postgres://postgres@127.0.0.1:1/postgres";
    let options = PoolOptions { acquire_timeout: Duration::from_millis(300), ..PoolOptions::default() };
    let error = PostgresStore::connect(url, options, Arc::new(SystemIds)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let odd = PostgresStore::connect("nonsense", PoolOptions::default(), Arc::new(SystemIds)).await;
    assert!(!odd.unwrap_err().is_transient());
}

#[tokio::test]
async fn cut_connections_are_made_again() {
    let bed = Bed::new(Kind::Postgres).await;
    bed.queue(&[ready("a")]).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity \
        where datname = current_database() and pid <> pg_backend_pid()";
    run_sql(&bed.url().unwrap(), cut.to_owned()).await;
    // A connection that was cut a moment ago fails once, as transient; then it is another one.
    let mut failures = 0;
    while let Err(error) = bed.store.task(task_id()).await {
        if matches!(error, StoreError::NotFound { .. }) {
            break;
        }
        assert!(error.is_transient(), "{error:?}");
        failures += 1;
        assert!(failures < 20);
    }
    assert_eq!(bed.claim("w1", 1).await.len(), 1);
    bed.end().await;
}
