//! The connection to a container engine.

use super::super::ExecError;
use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long the engine may take to answer a request, in seconds. Waiting for a container is asked again.
const ANSWER_SECONDS_MAX: u64 = 120;
/// The longest answer that is read by ourselves, in bytes: a list of containers is long.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A container, as far as sweeping needs to know it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Id")]
    pub(super) id: String,
    #[serde(rename = "Labels", default)]
    pub(super) labels: Option<HashMap<String, String>>,
}

/// What is asked of a container by itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    pub(super) state: State,
    #[serde(default)]
    pub(super) mounts: Option<Vec<Mounted>>,
    /// What it wrote into its layer, in bytes.
    #[serde(default)]
    pub(super) size_rw: Option<u64>,
}

/// How a container is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub(super) running: bool,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: bool,
    pub(super) exit_code: i64,
}

/// A place in a container that is not in its layer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Mounted {
    pub(super) source: PathBuf,
    pub(super) destination: String,
    #[serde(rename = "RW")]
    pub(super) writable: bool,
}

/// A container engine that answered.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) docker: Docker,
    /// For what `bollard` does not understand.
    plain: reqwest::Client,
    /// Its name and version, such as `Docker 20.10.24`.
    pub(super) version: String,
    pub(super) podman: bool,
    pub(super) socket: PathBuf,
}

impl Engine {
    /// Connects to the first socket behind which an engine answers.
    pub(super) async fn connect(sockets: &[PathBuf]) -> Result<Self, String> {
        let mut tried = Vec::new();
        for socket in sockets {
            match Self::connect_one(socket).await {
                Ok(engine) => return Ok(engine),
                Err(why) => tried.push(format!("{}: {why}", socket.display())),
            }
        }
        let tried = if tried.is_empty() { "no socket is configured".to_owned() } else { tried.join("; ") };
        Err(format!(
            "no container engine answers ({tried}); start Docker or Podman's socket, or name its socket"
        ))
    }

    async fn connect_one(socket: &Path) -> Result<Self, String> {
        let text = |error: Error| error.to_string();
        let path = socket.to_str().ok_or("its path is not UTF-8")?;
        let docker =
            Docker::connect_with_unix(path, ANSWER_SECONDS_MAX, API_DEFAULT_VERSION).map_err(text)?;
        let docker = docker.negotiate_version().await.map_err(text)?;
        let version = docker.version().await.map_err(text)?;
        let plain = reqwest::Client::builder()
            .unix_socket(path)
            .timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
            .build()
            .map_err(|error| error.to_string())?;
        let components = version.components.unwrap_or_default();
        let podman = components.iter().any(|component| component.name.contains("Podman"));
        let name = if podman { "Podman" } else { "Docker" };
        let number = version.version.unwrap_or_else(|| "of unknown version".to_owned());
        Ok(Self { docker, plain, version: format!("{name} {number}"), podman, socket: socket.to_owned() })
    }

    /// All containers with a label, in whatever state.
    pub(super) async fn containers(&self, label: &str) -> Result<Vec<Listed>, String> {
        let filters = serde_json::json!({"label": [label]}).to_string();
        self.get("containers/json", &[("all", "true"), ("filters", &filters)]).await
    }

    /// What a container is and how it ended; with `size`, also what it wrote into its layer.
    pub(super) async fn inspect(&self, id: &str, size: bool) -> Result<Inspected, String> {
        self.get(&format!("containers/{id}/json"), &[("size", if size { "true" } else { "false" })]).await
    }

    /// Asks by ourselves: Podman has states (`stopped`) with which `bollard` refuses to read the whole answer.
    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, String> {
        let text = |error: reqwest::Error| error.without_url().to_string();
        let asked = self.plain.get(format!("http://engine/{path}")).query(query).send().await;
        let mut answer = asked.and_then(reqwest::Response::error_for_status).map_err(text)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(text)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer: {error}"))
    }

    /// An error of the engine's.
    pub(super) fn infra(&self, what: &str, error: &Error) -> ExecError {
        ExecError::Infra(format!("{} could not {what}: {}", self.version, reason(error)))
    }
}

/// The engine's own words.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, status_code } => {
            format!("{} ({status_code})", message.trim())
        }
        Error::RequestTimeoutError => format!("no answer within {ANSWER_SECONDS_MAX} seconds"),
        other => other.to_string(),
    }
}

/// The HTTP status that the engine answered with.
pub(super) const fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Takes "there is none" and "is being removed already" for success: what was to be removed is gone.
pub(super) fn gone_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(Error::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(())
        }
        other => other,
    }
}
