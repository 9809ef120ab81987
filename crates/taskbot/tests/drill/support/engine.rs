//! The Docker engine, as its own API shows it.

use super::{environment::required, wait::until};
use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{ImportImageOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptions},
};
use futures_util::{TryStreamExt, stream};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// How long the engine may take to answer, in seconds.
const ANSWER_SECONDS: u64 = 30;

/// The engine's socket that all tests share.
pub(crate) fn socket() -> String {
    required("TASKBOT_TEST_DOCKER_SOCKET")
}

/// The image that tasks run in.
pub(crate) fn image() -> String {
    required("TASKBOT_TEST_DOCKER_IMAGE")
}

fn connect(socket: &str) -> Docker {
    Docker::connect_with_unix(socket, ANSWER_SECONDS, API_DEFAULT_VERSION).unwrap()
}

/// The containers and volumes that carry this text in their name or labels.
pub(crate) async fn leftovers(socket: &str, mark: &str) -> Vec<String> {
    let docker = connect(socket);
    let all = ListContainersOptionsBuilder::new().all(true).build();
    let containers = docker.list_containers(Some(all)).await.unwrap().into_iter();
    let containers =
        containers.map(|container| format!("container {:?} {:?}", container.names, container.labels));
    let volumes = docker.list_volumes(None::<ListVolumesOptions>).await.unwrap().volumes.unwrap_or_default();
    let volumes = volumes.into_iter().map(|volume| format!("volume {} {:?}", volume.name, volume.labels));
    containers.chain(volumes).filter(|text| text.contains(mark)).collect()
}

/// An engine of a drill's own, that can be killed and started again with the same data.
pub(crate) struct Engine {
    folder: tempfile::TempDir,
    socket: PathBuf,
    process: Option<Child>,
}

impl Engine {
    /// Starts one without network, with the image that tasks run in.
    pub(crate) async fn started() -> Self {
        let folder = tempfile::Builder::new().prefix("tb").tempdir_in("/tmp").unwrap();
        let shared = connect(&socket());
        let socket = folder.path().join("sock");
        let mut engine = Self { folder, socket, process: None };
        engine.start().await;
        // The image of the shared engine.
        let chunks: Vec<_> = shared.export_image(&image()).try_collect().await.unwrap();
        let chunks = stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        let options = ImportImageOptionsBuilder::new().build();
        let load = connect(engine.socket.to_str().unwrap());
        load.import_image_stream(options, chunks, None).try_collect::<Vec<_>>().await.unwrap();
        engine
    }

    pub(crate) async fn start(&mut self) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        // What a killed engine left of its running state; nothing of it is there at the first start.
        for stale in ["pid", "sock"] {
            let _ = fs::remove_file(at(stale));
        }
        let _ = fs::remove_dir_all(at("exec"));
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(required("TASKBOT_TEST_DOCKERD"));
        command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        command.args(["--bridge=none", "--iptables=false", "-H", &format!("unix://{}", at("sock"))]);
        let log = fs::File::create(at("log")).unwrap();
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let socket = self.socket.to_str().unwrap();
        until("the engine answers", async || {
            if !self.socket.exists() {
                return None;
            }
            connect(socket).ping().await.ok()
        })
        .await;
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// As by `kill -9`, with all of its containers.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}
