//! `taskbot up` with everything embedded, and commands that talk to it.

use super::{
    config::LOG,
    environment::free_port,
    program::{Program, run},
    wait::until,
};
use std::{path::Path, process::Output};

/// It runs until it is dropped.
pub(crate) struct Embedded {
    program: Program,
    pub(crate) url: String,
    folder: tempfile::TempDir,
}

impl Embedded {
    /// Starts it with more arguments, in a folder of its own, and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("drill-up-").tempdir().unwrap();
        let data = folder.path().join("data");
        let listen = format!("127.0.0.1:{}", free_port());
        let own = ["--log", LOG, "up", "--listen", &listen, "--data-dir", data.to_str().unwrap()];
        let mut program = Program::new("up", folder.path(), &[&own, arguments].concat());
        program.start();
        let mut embedded = Self { program, url: format!("http://{listen}"), folder };
        embedded.ready().await;
        embedded
    }

    async fn ready(&mut self) {
        let ready = format!("{}/readyz", self.url);
        until("it is ready", async || {
            assert!(self.program.runs(), "it ended");
            let answer = reqwest::get(&ready).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command against it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        run(&[&["--server", &self.url], arguments].concat())
    }

    /// What a command prints that must succeed.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {} {complaint}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The lines of what a command prints that must succeed.
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<String> {
        self.succeeds(arguments).lines().map(str::to_owned).collect()
    }
}
