//! The program under measurement, and what of the processor it and its database's sessions took.

use crate::{database::Database, services::required};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Nothing takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(20);
/// The unit of the kernel's account, on every architecture that Linux runs on today.
const TICK_MS: f64 = 10.0;

pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Program {
    /// A server over the database, and nothing else.
    pub(crate) async fn start(database: &Database) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let admin = required("TASKBOT_TEST_POSTGRES_URL");
        let url = format!("{}/{}", admin.rsplit_once('/').unwrap().0, database.name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskbot"));
        command.args(["--log", "off", "server", "--listen", &address.to_string(), "--database", &url]);
        command.arg("--data-dir").arg(folder.path()).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while reqwest::get(format!("http://{address}/readyz"))
            .await
            .is_ok_and(|answer| !answer.status().is_success())
            || std::net::TcpStream::connect(address).is_err()
        {
            assert!(begun.elapsed() < PATIENCE, "it did not become ready");
            tokio::time::sleep(ASK_EVERY).await;
        }
        Self { child, address, _folder: folder }
    }

    /// What was taken so far, in ticks, by process.
    pub(crate) async fn taken(&self, database: &Database) -> Taken {
        // Not those of the benchmark itself.
        let sql = "select pid from pg_stat_activity where datname = current_database() \
            and application_name like 'taskbot%'";
        let sessions: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&database.pool).await.unwrap();
        let processes = sessions.into_iter().map(i32::unsigned_abs).chain([self.child.id()]);
        Taken(processes.map(|process| (process, ticks(process))).collect())
    }

    pub(crate) fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Ticks of the processor by process.
pub(crate) struct Taken(BTreeMap<u32, u64>);

impl Taken {
    /// Milliseconds of the processor since then. The sessions stay open: what is new began after it.
    pub(crate) fn ms_since(&self, before: &Self) -> f64 {
        let since = |(process, now): (&u32, &u64)| now - before.0.get(process).unwrap_or(&0);
        milliseconds(self.0.iter().map(since).sum())
    }
}

pub(crate) fn milliseconds(ticks: u64) -> f64 {
    f64::from(u32::try_from(ticks).unwrap()) * TICK_MS
}

/// User and system time of a process with all its threads; nothing when it has ended.
pub(crate) fn ticks(process: u32) -> u64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return 0 };
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
