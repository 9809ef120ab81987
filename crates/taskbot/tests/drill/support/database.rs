//! PostgreSQL: a database for each drill, and servers of a drill's own.

use super::{
    environment::{PATIENCE, free_port, required, unique},
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, chown, geteuid},
};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgPoolOptions, PgRow},
};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Who runs servers when we are root, which PostgreSQL refuses.
const SERVER_USER: &str = "postgres";

/// A database of a drill's own; it is dropped with this.
pub(crate) struct Database {
    admin: String,
    name: String,
    pub(crate) url: String,
    pool: PgPool,
}

impl Database {
    /// On the server that all tests share.
    pub(crate) async fn fresh() -> Self {
        Self::fresh_on(&required("TASKBOT_TEST_POSTGRES_URL")).await
    }

    /// On this server.
    pub(crate) async fn fresh_on(admin: &str) -> Self {
        let name = unique("drill");
        let (base, _) = admin.rsplit_once('/').expect("the URL of PostgreSQL ends with a database");
        let url = format!("{base}/{name}");
        let server = PgPoolOptions::new().max_connections(1).connect(admin).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&server).await.unwrap();
        server.close().await;
        let pool =
            PgPoolOptions::new().max_connections(2).acquire_timeout(PATIENCE).connect_lazy(&url).unwrap();
        Self { admin: admin.to_owned(), name, url, pool }
    }

    /// All rows of a query.
    pub(crate) async fn rows<T>(&self, sql: &'static str) -> Vec<T>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, PgRow>,
    {
        sqlx::query_as(sql).fetch_all(&self.pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// How many tasks a worker runs.
    pub(crate) async fn running_on(&self, worker: &str) -> i64 {
        let count = sqlx::query_scalar("select count(*) from task where state = 'running' and worker = $1");
        count.bind(worker).fetch_one(&self.pool).await.unwrap()
    }

    /// The only number that a query gives.
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server of a drill's own may be gone already, and its databases with it.
        let drop = format!("drop database if exists {} with (force)", self.name);
        let _ = Command::new(binary("psql"))
            .args(["--quiet", "--no-psqlrc", "--dbname", &self.admin, "--command", &drop])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn binary(name: &str) -> PathBuf {
    PathBuf::from(required("TASKBOT_TEST_POSTGRES_BIN")).join(name)
}

/// A server of a drill's own, that can be stopped and started again with the same data.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Cluster {
    pub(crate) async fn started() -> Self {
        let folder = tempfile::Builder::new().prefix("drill-postgres-").tempdir_in("/tmp").unwrap();
        if geteuid().is_root() {
            let user = User::from_name(SERVER_USER).unwrap().expect("there is a user for PostgreSQL");
            chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let mut initdb = as_server_user(&binary("initdb"));
        initdb.arg("--pgdata").arg(folder.path().join("data"));
        initdb.args([
            "--auth",
            "trust",
            "--username",
            "postgres",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
        ]);
        let made = initdb.args(["--no-sync", "--no-instructions"]).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let mut cluster = Self { folder, port, process: None };
        cluster.start().await;
        cluster
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) async fn start(&mut self) {
        let mut postgres = as_server_user(&binary("postgres"));
        postgres.arg("-D").arg(self.folder.path().join("data"));
        postgres.arg("-c").arg(format!("port={}", self.port)).args(["-c", "listen_addresses=127.0.0.1"]);
        postgres.arg("-c").arg(format!("unix_socket_directories={}", self.folder.path().display()));
        self.process = Some(postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let url = self.url();
        until("PostgreSQL answers", async || {
            PgPoolOptions::new().max_connections(1).connect(&url).await.ok()
        })
        .await
        .close()
        .await;
    }

    /// At once, as when its machine fails: connections are cut off, nothing is written down in order.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGQUIT).unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn as_server_user(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--init-groups", "--pdeathsig", "QUIT"]);
    command.arg(program).current_dir("/");
    command
}
