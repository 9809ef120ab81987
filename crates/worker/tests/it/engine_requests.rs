//! What a task asks the engine for: each request is time that a short task spends waiting.

use crate::{
    common::{Commands, clock, container, ended, label, provision, tree},
    engine,
};
use model::{WorkerName, task::Trust, task_file::Sizes};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use taskbot_worker::executor::{CollectLimits, ContainerConfig, Containers, Exit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// Requests as they came: method and path.
type Asked = Arc<Mutex<Vec<String>>>;

/// Stands before the engine and notes what it is asked for.
fn listen(at: &Path, engine: PathBuf) -> Asked {
    let asked = Asked::default();
    let (listener, noted) = (UnixListener::bind(at).unwrap(), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&engine).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let noted = Arc::clone(&noted);
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    let lines = text.lines().filter_map(|line| line.strip_suffix(" HTTP/1.1"));
                    noted.lock().unwrap().extend(lines.map(str::to_owned));
                    if to_server.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    asked
}

/// `POST containers start` for `POST /v1.41/containers/0123/start?x=y`.
fn short(request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    let path = path.strip_prefix("http://engine").unwrap_or(path);
    let path = path.split('?').next().unwrap_or_default();
    let known =
        ["containers", "volumes", "images", "networks", "_ping", "version", "create", "json", "archive"];
    let known = [&known[..], &["attach", "start", "wait"]].concat();
    let words = path.split('/').filter(|word| known.contains(word));
    [method].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_task_asks_for_nothing_twice() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("sock");
    let asked = listen(&socket, engine::socket(engine::Kind::Docker));
    let label = label("x", 1);
    let worker = WorkerName::new(label.task.to_string());
    let mut config = ContainerConfig::new(worker, vec![socket], temp.path().join("layers"));
    config.default_image = Some(engine::image());
    let executor = Containers::new(config, clock());
    let attempt = async |number: u32| {
        let label = taskbot_worker::executor::AttemptLabel { attempt: number, ..label.clone() };
        let wish = container(None, Sizes::default());
        let mut place = provision(&executor, &label, &wish, Trust::Trusted).await.unwrap();
        let from = temp.path().join(format!("tree{number}"));
        tree(&from);
        place.copy_in(&from).await.unwrap();
        ended(Commands::run(&["true"]).on(&mut place).await, Exit::Code(0));
        let limits = CollectLimits { total_bytes: 1 << 20, files: 100 };
        place.copy_out(&[], limits, &temp.path().join(format!("out{number}"))).await.unwrap();
        place.destroy().await.unwrap();
    };
    // The first one also finds out what the engine is.
    attempt(1).await;
    asked.lock().unwrap().clear();
    attempt(2).await;
    let mut requests: Vec<_> = asked.lock().unwrap().iter().map(|request| short(request)).collect();
    // These two are asked at the same time.
    requests[4..6].sort();
    assert_eq!(
        requests,
        [
            "GET _ping",
            "GET images json",
            "POST volumes create",
            "POST containers create",
            "POST containers attach",
            "PUT containers archive",
            "POST containers start",
            "POST containers wait",
            "GET containers archive",
            "DELETE containers",
            "DELETE volumes",
        ]
    );
}
