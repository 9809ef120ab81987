//! The container engine that tests use, and engines of a test's own.

#![expect(
    clippy::disallowed_methods,
    reason = "`cargo xtask test` tells by the environment what services there are"
)]

use crate::common::until;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    auth::DockerCredentials,
    body_full,
    query_parameters::{CreateImageOptionsBuilder, PushImageOptionsBuilder, TagImageOptionsBuilder},
};
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

/// The engines that all tests share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
}

pub(crate) fn socket(kind: Kind) -> PathBuf {
    PathBuf::from(service(match kind {
        Kind::Docker => "TASKBOT_TEST_DOCKER_SOCKET",
        Kind::Podman => "TASKBOT_TEST_PODMAN_SOCKET",
    }))
}

/// How many containers there are, running or not. Not by `bollard`: Podman knows states that it does not.
pub(crate) async fn containers(socket: &Path, filters: &serde_json::Value) -> usize {
    let client = reqwest::Client::builder().unix_socket(socket).build().unwrap();
    let filters = filters.to_string();
    let asked = client.get("http://engine/containers/json").query(&[("all", "true"), ("filters", &filters)]);
    let found: Vec<serde_json::Value> = asked.send().await.unwrap().json().await.unwrap();
    found.len()
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

    /// Starts a registry that this engine can reach, with a user `user` and an image in it. It ends when dropped.
    pub(crate) async fn registry(&self, image: &str) -> Registry {
        let folder = self.temp.path().join("registry");
        fs::create_dir(&folder).unwrap();
        // The password is `secret`.
        let users = "user:$2b$05$a6LMP4vw/6vkCZQ62SzPX.QOTR9Bu4WfwWY0cPL.3Vka/iq6kFA8.\n";
        fs::write(folder.join("users"), users).unwrap();
        let at = folder.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
             http: {{addr: \"127.0.0.1:5000\"}}\nauth: {{htpasswd: {{realm: test, path: {at}/users}}}}\n"
        );
        fs::write(folder.join("config.yml"), config).unwrap();
        let script = "ip link set lo up; exec docker-registry serve \"$0\"";
        let daemon = Command::new("nsenter")
            .args(["--target", &self.daemon.id().to_string(), "--net", "setpriv", "--pdeathsig", "KILL"])
            .args(["sh", "-c", script])
            .arg(folder.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let registry = Registry(daemon);
        until("the registry answers", async || self.try_push(image, "first").await.is_ok()).await;
        registry
    }

    /// Pushes an image with a file of this content.
    pub(crate) async fn push(&self, image: &str, content: &str) {
        self.try_push(image, content).await.unwrap();
    }

    async fn try_push(&self, image: &str, content: &str) -> Result<(), bollard::errors::Error> {
        let docker = connect(&self.socket());
        let rootfs = busybox_and(&[("etc/content", content)]);
        let (name, tag) = image.rsplit_once(':').unwrap();
        import(&docker, "pushed", &rootfs).await;
        let tagged = TagImageOptionsBuilder::default().repo(name).tag(tag).build();
        docker.tag_image("pushed:latest", Some(tagged)).await?;
        let login = DockerCredentials {
            username: Some("user".into()),
            password: Some("secret".into()),
            ..DockerCredentials::default()
        };
        let options = PushImageOptionsBuilder::default().tag(tag).build();
        docker.push_image(name, Some(options), Some(login)).try_collect::<Vec<_>>().await.map(drop)
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

/// A registry that runs.
pub(crate) struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    busybox_and(&[])
}

/// A root file system with busybox and these files.
fn busybox_and(files: &[(&str, &str)]) -> Vec<u8> {
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
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}
