//! The container engine that tests use, and engines of a test's own.

#![expect(
    clippy::disallowed_methods,
    reason = "`cargo xtask test` tells by the environment what services there are"
)]

use crate::common::until;
use bollard::{API_DEFAULT_VERSION, Docker, body_full, query_parameters::CreateImageOptionsBuilder};
use futures_util::TryStreamExt;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where the name of a service comes from.
pub(crate) fn service(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests by `cargo xtask test`, which starts the services")
    })
}

pub(crate) fn socket() -> PathBuf {
    PathBuf::from(service("TASKBOT_TEST_DOCKER_SOCKET"))
}

pub(crate) fn image() -> String {
    service("TASKBOT_TEST_DOCKER_IMAGE")
}

pub(crate) fn connect(socket: &Path) -> Docker {
    Docker::connect_with_unix(socket.to_str().unwrap(), 60, API_DEFAULT_VERSION).unwrap()
}

/// A Docker engine of a test's own, that it may kill.
pub(crate) struct Engine {
    temp: tempfile::TempDir,
    daemon: Child,
}

impl Engine {
    /// Starts one without network, with an image `box:latest` that holds busybox.
    pub(crate) async fn start() -> Self {
        let temp = tempfile::Builder::new().prefix("tb").tempdir_in("/tmp").unwrap();
        let at = |name: &str| temp.path().join(name).into_os_string().into_string().unwrap();
        let daemon = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(service("TASKBOT_TEST_DOCKERD"))
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--bridge=none", "--iptables=false", "-H", &format!("unix://{}", at("sock"))])
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let engine = Self { temp, daemon };
        until("the engine answers", async || {
            engine.socket().exists() && connect(&engine.socket()).ping().await.is_ok()
        })
        .await;
        import(&connect(&engine.socket()), "box", &busybox()).await;
        engine
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.temp.path().join("sock")
    }

    pub(crate) fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // What the daemon mounted went with its mount namespace.
        let _ = fs::remove_dir_all(self.temp.path());
    }
}

/// Imports a root file system as `NAME:latest`.
pub(crate) async fn import(docker: &Docker, name: &str, rootfs: &[u8]) {
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(name).tag("latest").build();
    let body = body_full(bytes::Bytes::copy_from_slice(rootfs));
    docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await.unwrap();
}

/// A root file system with busybox alone.
pub(crate) fn busybox() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists()).unwrap();
    let mut file = fs::File::open(program).unwrap();
    builder.append_file("bin/busybox", &mut file).unwrap();
    let list = Command::new(program).arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        builder.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o755);
    header.set_entry_type(tar::EntryType::Directory);
    for folder in ["etc/", "tmp/", "var/tmp/", "run/", "root/"] {
        builder.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}
