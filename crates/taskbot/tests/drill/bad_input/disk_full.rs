//! No space where the data lies: nothing is taken that cannot be kept, and it goes on once there is space.

use crate::support::{
    config::LOG,
    environment::free_port,
    program::{Program, run},
    wait::until,
};
use nix::unistd::geteuid;
use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// The size of the file system that the data lies on.
const SIZE: &str = "24m";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_cleanly_and_goes_on_once_there_is_space() {
    let mount = Mount::make();
    let data = mount.folder.join("data");
    let logs = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{listen}");
    let arguments =
        ["--log", LOG, "up", "--listen", &listen, "--no-worker", "--data-dir", data.to_str().unwrap()];
    let mut program = Program::new("up", logs.path(), &arguments);
    program.start();
    let http = reqwest::Client::new();
    until("it is ready", async || {
        let answer = http.get(format!("{url}/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let send = async |id: &str| {
        let body = json!({"topic": "drill.any", "id": id, "body": {"text": "x".repeat(100_000)}});
        let answer = http.post(format!("{url}/api/v1/events")).json(&body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(send("before").await.0, 201);

    let ballast = mount.fill();
    let mut refused = Vec::new();
    let mut taken = vec!["before".to_owned()];
    for number in 0..200 {
        let id = format!("full-{number}");
        let (status, text) = send(&id).await;
        if status.is_success() {
            taken.push(id);
            continue;
        }
        assert!([503, 507].contains(&status.as_u16()), "{status}: {text}");
        assert!(text.contains("no space"), "{text}");
        refused.push(id);
        if refused.len() == 5 {
            break;
        }
    }
    assert_eq!(refused.len(), 5, "the disk was not full");
    assert!(program.runs(), "it ended");

    fs::remove_file(ballast).unwrap();
    for id in refused {
        until("it takes events again", async || (send(&id).await.0 == 201).then_some(())).await;
        taken.push(id);
    }
    let listed = run(&["--server", &url, "event", "list", "-n", "1000", "-o", "jsonl"]);
    let mut ids: Vec<String> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    taken.sort();
    assert_eq!(ids, taken, "events in the inbox, and those that were answered as taken");
    program.kill();
    let database = database_in(&data);
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", database.display())).await.unwrap();
    let whole: String =
        sqlx::query_scalar("pragma integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(whole, "ok");
    connection.close().await.unwrap();
}

/// The SQLite file in a data folder.
fn database_in(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    entries
        .into_iter()
        .find(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3")))
        .unwrap()
}

/// A small file system of its own.
struct Mount {
    folder: PathBuf,
    _inside: tempfile::TempDir,
}

impl Mount {
    fn make() -> Self {
        let inside = tempfile::tempdir().unwrap();
        let folder = inside.path().join("disk");
        fs::create_dir(&folder).unwrap();
        mount_command("mount", &["-t", "tmpfs", "-o", &format!("size={SIZE},mode=0777"), "tmpfs"], &folder);
        Self { folder, _inside: inside }
    }

    /// Writes until there is no space.
    fn fill(&self) -> PathBuf {
        let path = self.folder.join("ballast");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        mount_command("umount", &["--lazy"], &self.folder);
    }
}

/// Mounting is for administrators.
fn mount_command(program: &str, arguments: &[&str], folder: &Path) {
    let mut command = if geteuid().is_root() { Command::new(program) } else { Command::new("sudo") };
    if !geteuid().is_root() {
        command.args(["--non-interactive", program]);
    }
    let status = command.args(arguments).arg(folder).status().unwrap();
    assert!(status.success() || std::thread::panicking(), "{program}: {status}");
}
