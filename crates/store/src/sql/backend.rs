//! Opening either database, and its connections.

use super::{
    SqlStore,
    error::{classify, of_migration},
    session::{Dialect, Session},
};
use crate::{Result, StoreError};
use chrono::{DateTime, SubsecRound as _, Utc};
use model::{Clock, Ids};
use sqlx::{
    ConnectOptions as _, Connection as _, PgPool, SqlSafeStr as _, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{File, TryLockError},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// How many connections read a SQLite file beside the one that writes.
const SQLITE_READERS_MAX: u32 = 4;
/// How long a call waits for SQLite's one writer.
const SQLITE_WRITER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long SQLite waits for a lock of the file; another process can only be a backup.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that were idle for longer are tried before they are used: the database may have been restarted.
const POSTGRES_PROBE_IDLE: Duration = Duration::from_secs(1);

/// The migrations of both, by version: number, name, SQLite, PostgreSQL.
const MIGRATIONS: [(i64, &str, &str, &str); 13] = [
    (
        1,
        "start",
        include_str!("../../../../migrations/sqlite/0001_start.sql"),
        include_str!("../../../../migrations/postgres/0001_start.sql"),
    ),
    (
        10,
        "resultsdb",
        include_str!("../../../../migrations/sqlite/0010_resultsdb.sql"),
        include_str!("../../../../migrations/postgres/0010_resultsdb.sql"),
    ),
    (
        20,
        "pins_and_goodbyes",
        include_str!("../../../../migrations/sqlite/0020_pins_and_goodbyes.sql"),
        include_str!("../../../../migrations/postgres/0020_pins_and_goodbyes.sql"),
    ),
    (
        21,
        "rules_in_practice",
        include_str!("../../../../migrations/sqlite/0021_rules_in_practice.sql"),
        include_str!("../../../../migrations/postgres/0021_rules_in_practice.sql"),
    ),
    (
        30,
        "retests",
        include_str!("../../../../migrations/sqlite/0030_retests.sql"),
        include_str!("../../../../migrations/postgres/0030_retests.sql"),
    ),
    (
        42,
        "worker_modes",
        include_str!("../../../../migrations/sqlite/0042_worker_modes.sql"),
        include_str!("../../../../migrations/postgres/0042_worker_modes.sql"),
    ),
    (
        50,
        "foreign_jobs",
        include_str!("../../../../migrations/sqlite/0050_foreign_jobs.sql"),
        include_str!("../../../../migrations/postgres/0050_foreign_jobs.sql"),
    ),
    (
        60,
        "bounds",
        include_str!("../../../../migrations/sqlite/0060_bounds.sql"),
        include_str!("../../../../migrations/postgres/0060_bounds.sql"),
    ),
    (
        61,
        "callbacks",
        include_str!("../../../../migrations/sqlite/0061_callbacks.sql"),
        include_str!("../../../../migrations/postgres/0061_callbacks.sql"),
    ),
    (
        70,
        "sinks",
        include_str!("../../../../migrations/sqlite/0070_sinks.sql"),
        include_str!("../../../../migrations/postgres/0070_sinks.sql"),
    ),
    (
        80,
        "paddles",
        include_str!("../../../../migrations/sqlite/0080_paddles.sql"),
        include_str!("../../../../migrations/postgres/0080_paddles.sql"),
    ),
    (
        90,
        "foreign_ages",
        include_str!("../../../../migrations/sqlite/0090_foreign_ages.sql"),
        include_str!("../../../../migrations/postgres/0090_foreign_ages.sql"),
    ),
    (
        91,
        "fragment_phases",
        include_str!("../../../../migrations/sqlite/0091_fragment_phases.sql"),
        include_str!("../../../../migrations/postgres/0091_fragment_phases.sql"),
    ),
];

/// Both in one round trip.
const BEGIN_PASSING: &str = "begin; set local synchronous_commit = off";

/// SQLite: embedded, one server per file.
#[derive(Debug)]
pub struct SqliteStore;

/// PostgreSQL: to scale.
#[derive(Debug)]
pub struct PostgresStore;

/// How connections to PostgreSQL are pooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// The most connections.
    pub connections_max: u32,
    /// How long a call waits for a connection before it says that the database cannot be reached.
    pub acquire_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// The name that the database's lists of connections show.
    pub application_name: String,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            connections_max: 16,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            application_name: "taskbot".to_owned(),
        }
    }
}

/// Either database with its connections.
#[derive(Debug)]
pub(crate) enum Backend {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        clock: Arc<dyn Clock>,
        shift_us: AtomicI64,
        /// Held as long as the store lives.
        _lock: File,
    },
    Postgres {
        pool: PgPool,
    },
}

impl SqliteStore {
    /// Opens a file, which is made when it is not there, and brings its schema up to date.
    ///
    /// `clock` is the clock that leases, delays and windows go by.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another server has it; [`StoreError::Schema`] when a newer program wrote it.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<SqlStore> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(SQLITE_BUSY_TIMEOUT)
            .foreign_keys(true)
            .statement_cache_capacity(300);
        let unavailable = |error: sqlx::Error| classify(&error).error;
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(SQLITE_WRITER_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_release(|connection, _| {
                Box::pin(async move {
                    // What was left open is rolled back first; what SQLite rolled back by itself (a full disk)
                    // counts as open for ever, and such a connection is opened anew.
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options.clone())
            .await
            .map_err(unavailable)?;
        let on = writer.clone();
        migrate(Dialect::Sqlite, |migrator| async move { migrator.run(&on).await.map_err(Box::new) }).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS_MAX)
            .acquire_timeout(SQLITE_WRITER_TIMEOUT)
            .connect_with(options.read_only(true))
            .await
            .map_err(unavailable)?;
        let shift: i64 =
            sqlx::query_scalar("select shift_us from clock").fetch_one(&writer).await.map_err(unavailable)?;
        let backend =
            Backend::Sqlite { writer, readers, clock, shift_us: AtomicI64::new(shift), _lock: lock };
        Ok(SqlStore::new(backend, ids))
    }
}

impl PostgresStore {
    /// Connects, and brings the schema up to date. Any number of servers may do so at the same time.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be reached; [`StoreError::Schema`] when a newer program
    /// wrote it.
    pub async fn connect(url: &str, options: PoolOptions, ids: Arc<dyn Ids>) -> Result<SqlStore> {
        let unavailable = |error: sqlx::Error| classify(&error).error;
        let timeout = options.statement_timeout.as_millis().to_string();
        let connect: PgConnectOptions = url
            .parse::<PgConnectOptions>()
            .map_err(|error| StoreError::Database(format!("the URL of the database: {error}")))?
            .application_name(&options.application_name)
            .options([
                ("statement_timeout", timeout.as_str()),
                ("idle_in_transaction_session_timeout", "60s"),
            ])
            .statement_cache_capacity(300);
        reach(&connect, options.acquire_timeout).await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections_max)
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > POSTGRES_PROBE_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(connect)
            .await
            .map_err(unavailable)?;
        let on = pool.clone();
        migrate(Dialect::Postgres, |migrator| async move { migrator.run(&on).await.map_err(Box::new) })
            .await?;
        Ok(SqlStore::new(Backend::Postgres { pool }, ids))
    }
}

/// Connects once: a pool tries again until its time is up, and then does not say why it could not.
async fn reach(options: &PgConnectOptions, limit: Duration) -> Result<()> {
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let unavailable = |why: String| StoreError::Unavailable(format!("no connection to {place}: {why}"));
    match tokio::time::timeout(limit, options.connect()).await {
        Err(_) => Err(unavailable(format!("no answer within {} s", limit.as_secs()))),
        Ok(Err(error @ sqlx::Error::Io(_))) => Err(unavailable(error.to_string())),
        Ok(Err(error)) => Err(classify(&error).error),
        Ok(Ok(connection)) => connection.close().await.map_err(|error| classify(&error).error),
    }
}

/// Why a pool gave no connection, with the address that it goes to.
fn unreachable(pool: &PgPool, error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolTimedOut => {
            let options = pool.connect_options();
            let place = format!("{}:{}", options.get_host(), options.get_port());
            let why = "none came free in time, and none could be made";
            StoreError::Unavailable(format!("no connection to {place}: {why}"))
        }
        error => classify(error).error,
    }
}

/// The newest version of the schema that this program knows.
pub(super) const fn newest_schema() -> i64 {
    MIGRATIONS[MIGRATIONS.len() - 1].0
}

/// The file beside a database that its server holds locked.
fn lock_file(path: &Path) -> std::ffi::OsString {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    beside
}

/// Whether a server has the file.
pub(super) fn is_in_use(path: &Path) -> Result<bool> {
    let beside = lock_file(path);
    let unavailable =
        |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", Path::new(&beside).display()));
    match File::open(Path::new(&beside)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unavailable(error)),
        // Shared, so that two who look do not take each other for a server; given back at once.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(unavailable(error)),
        },
    }
}

/// Locks the file beside the database, so that one server has it.
fn lock(path: &Path) -> Result<File> {
    let beside = lock_file(path);
    let unavailable =
        |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", Path::new(&beside).display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(Path::new(&beside))
        .map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

async fn migrate<F>(dialect: Dialect, run: impl FnOnce(Migrator) -> F) -> Result<()>
where
    F: Future<Output = std::result::Result<(), Box<sqlx::migrate::MigrateError>>>,
{
    let migrations = MIGRATIONS.map(|(version, name, sqlite, postgres)| {
        let sql = match dialect {
            Dialect::Sqlite => sqlite,
            Dialect::Postgres => postgres,
        };
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    run(Migrator::with_migrations(migrations.into()))
        .await
        .map_err(|error| of_migration(*error, newest_schema()))
}

impl Backend {
    /// SQLite's time, to the microsecond, as PostgreSQL gives it.
    fn sqlite_now(clock: &Arc<dyn Clock>, shift_us: &AtomicI64) -> DateTime<Utc> {
        let shift = chrono::Duration::microseconds(shift_us.load(Ordering::Relaxed));
        clock.now().trunc_subsecs(6) + shift
    }

    /// A connection for queries. Its `now` is only known on SQLite.
    pub(crate) async fn read(&self) -> Result<Session> {
        let unavailable = |error: sqlx::Error| classify(&error).error;
        match self {
            Self::Sqlite { readers, clock, shift_us, .. } => {
                let connection = readers.acquire().await.map_err(unavailable)?;
                Ok(Session::sqlite_read(connection, Self::sqlite_now(clock, shift_us)))
            }
            Self::Postgres { pool } => {
                Ok(Session::postgres_read(pool.acquire().await.map_err(|error| unreachable(pool, &error))?))
            }
        }
    }

    /// A transaction. Its clock is still to be read.
    pub(crate) async fn write(&self) -> Result<Session> {
        let unavailable = |error: sqlx::Error| classify(&error).error;
        match self {
            Self::Sqlite { writer, clock, shift_us, .. } => {
                let transaction = writer.begin_with("begin immediate").await.map_err(unavailable)?;
                Ok(Session::sqlite_write(transaction, Self::sqlite_now(clock, shift_us)))
            }
            Self::Postgres { pool } => {
                Ok(Session::postgres_write(pool.begin().await.map_err(|error| unreachable(pool, &error))?))
            }
        }
    }

    /// A transaction whose commit need not be on disk when it is answered. SQLite makes no difference.
    pub(crate) async fn write_passing(&self) -> Result<Session> {
        match self {
            Self::Sqlite { .. } => self.write().await,
            Self::Postgres { pool } => {
                let begun = pool.begin_with(BEGIN_PASSING).await;
                Ok(Session::postgres_write(begun.map_err(|error| unreachable(pool, &error))?))
            }
        }
    }

    /// Notes the shift of the clock, which the database keeps.
    pub(crate) fn shifted(&self, to_us: i64) {
        if let Self::Sqlite { shift_us, .. } = self {
            shift_us.store(to_us, Ordering::Relaxed);
        }
    }

    /// Connections in use and in all.
    pub(crate) fn connections(&self) -> (u32, u32) {
        let of = |size: u32, idle: usize| (size.saturating_sub(u32::try_from(idle).unwrap_or(size)), size);
        match self {
            Self::Sqlite { writer, readers, .. } => {
                let (write, read) =
                    (of(writer.size(), writer.num_idle()), of(readers.size(), readers.num_idle()));
                (write.0 + read.0, write.1 + read.1)
            }
            Self::Postgres { pool } => of(pool.size(), pool.num_idle()),
        }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers, .. } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { pool } => pool.close().await,
        }
    }
}
