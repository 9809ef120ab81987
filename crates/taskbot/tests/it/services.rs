//! Beside a real bus and a real database.

#![expect(clippy::disallowed_methods, reason = "services for tests are named by the environment")]

use crate::support::{Up, run, taskbot, until};
use model::{Ids, SystemIds};
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by `cargo xtask test`"))
}

/// A name that no other test has.
fn unique(what: &str) -> String {
    let id = SystemIds.next().simple().to_string();
    format!("{what}_{}{}", &id[..12], &id[24..])
}

/// A bus of the test's own.
struct Bus {
    port: u16,
    folder: tempfile::TempDir,
    process: Child,
}

impl Bus {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Self::spawn(folder.path(), port);
        Self { port, folder, process }
    }

    fn spawn(folder: &Path, port: u16) -> Child {
        let mut command = Command::new(required("TASKBOT_TEST_NATS_SERVER"));
        command.args(["-a", "127.0.0.1", "-js", "-p", &port.to_string(), "-sd"]).arg(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn again(&mut self) {
        self.process = Self::spawn(self.folder.path(), self.port);
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// What the server says of its readiness: the status and the report.
fn readiness(up: &Up) -> (u16, Value) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = reqwest::get(format!("{}/readyz", up.url)).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    })
}

#[test]
fn readiness_looks_at_source_and_outlet() {
    let mut bus = Bus::start();
    let up = Up::start(&[], &["--no-worker", "--nats", &bus.url()]);
    let becomes = |status: u16, ok: bool| {
        let found = until(|| {
            let (found, report) = readiness(&up);
            let checks = &report["checks"];
            (found == status && checks["outlet"]["ok"] == ok && checks["sources"]["ok"] == ok).then_some(())
        });
        assert!(found.is_some(), "{status} {ok}: {:?}", readiness(&up));
    };
    // Nothing was told yet, and still the outlet is known to be there.
    becomes(200, true);
    bus.stop();
    becomes(503, false);
    up.run(&["event", "send", "org.example.a", "--data", "{}"]).expect(0, &["new"]);
    bus.again();
    becomes(200, true);
}

/// Asks the shared database.
async fn ask(url: &str, sql: &'static str) -> Vec<String> {
    use sqlx::{Connection, Row};
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn the_doctor_changes_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (server, name) = (required("TASKBOT_TEST_POSTGRES_URL"), unique("doctor"));
    let url = {
        let (base, _) = server.rsplit_once('/').unwrap();
        format!("{base}/{name}")
    };
    runtime.block_on(async {
        use sqlx::{AssertSqlSafe, Connection};
        let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await.unwrap();
    });
    let bus = Bus::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("taskbot.yaml");
    let text = format!(
        "data_dir: data\ndatabase: {{url: \"{url}\"}}\n\
         sources: [{{nats: {{name: a, servers: [\"{bus}\"], durable: d, stream: {{name: IN, subjects: [in.>], create: true}}}}}}]\n\
         outlet: {{nats: {{servers: [\"{bus}\"], stream: {{name: OUT, subjects: [out.>], create: true}}, subject_prefix: out}}}}\n",
        bus = bus.url()
    );
    fs::write(&config, text).unwrap();
    let doctor = || run(taskbot().arg("doctor").arg("--config").arg(&config), "");
    for _ in 0..2 {
        doctor().expect(
            0,
            &[
                "empty; the first start makes the schema",
                "stream IN will be made by the first start",
                "stream OUT will be made by the first start",
                "files will be made by the first start",
            ],
        );
    }
    let tables =
        runtime.block_on(ask(&url, "select tablename::text from pg_tables where schemaname = 'public'"));
    assert_eq!(tables, [""; 0], "no table was made");
    assert!(!folder.path().join("data").exists(), "no folder was made");
    let migrate = || run(taskbot().args(["db", "migrate", "--config"]).arg(&config), "");
    migrate().expect(0, &["schema ", " is made: postgres"]);
    migrate().expect(0, &["nothing to do, schema "]);
    doctor().expect(0, &["up to date", "stream IN will be made by the first start"]);
}

#[test]
fn a_backtest_reads_what_a_stream_still_holds() {
    let bus = Bus::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use async_nats::jetstream::{self, stream::Config};
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect(bus.url()).await.unwrap();
        client.flush().await.unwrap();
        let client = jetstream::new(client);
        let subjects = vec!["in.>".to_owned()];
        let stream = Config { name: "IN".to_owned(), subjects, ..Config::default() };
        client.create_stream(stream).await.unwrap();
        // Without ids, equal bodies would be one event.
        for (at, state) in ["done", "failed", "done"].into_iter().enumerate() {
            let body = format!("{{\"n\": {at}, \"state\": \"{state}\"}}");
            client.publish("in.build", body.into()).await.unwrap().await.unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("tasks.yaml"), "tasks: {check: {git: \"https://git.example.org/check.git\"}}\n")
        .unwrap();
    let rule = "rules: [{name: r, on: build, when: {body.state: done}, then: [{task: check}]}]\n";
    fs::write(rules.join("r.yaml"), rule).unwrap();
    let config = folder.path().join("taskbot.yaml");
    let text = format!(
        "sources: [{{nats: {{name: a, servers: [\"{}\"], strip_prefix: in, stream: {{name: IN}}}}}}]\n",
        bus.url()
    );
    fs::write(&config, text).unwrap();
    let backtest = |arguments: &[&str]| {
        let mut command = taskbot();
        command.args(["rule", "backtest"]).arg(&rules).args(["-o", "json"]).args(arguments);
        run(command.arg("--config").arg(&config), "")
    };
    let found = backtest(&["--stream", "a"]).expect(0, &[]).json();
    assert_eq!((&found["events"], &found["tasks"]), (&Value::from(3), &Value::from(2)), "{found}");
    let none = backtest(&["--stream", "a", "--since", "2100-01-01"]).expect(0, &[]).json();
    assert_eq!(none["events"], 0);
    backtest(&["--stream", "b"]).expect(2, &["no source `b` is configured; configured: a"]);
}
