//! The connection to a container engine.

use super::super::ExecError;
use bollard::{API_DEFAULT_VERSION, Docker, errors::Error};
use serde::Deserialize;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long the engine may take to answer a request, in seconds. Waiting for a container is asked again.
const ANSWER_SECONDS_MAX: u64 = 120;
/// The longest list of containers that is read, in bytes.
const LIST_BYTES_MAX: usize = 64 << 20;

/// A container, as far as sweeping needs to know it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "Id")]
    pub(super) id: String,
    #[serde(rename = "Labels", default)]
    pub(super) labels: Option<HashMap<String, String>>,
}

/// A container engine that answered.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) docker: Docker,
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
        let components = version.components.unwrap_or_default();
        let podman = components.iter().any(|component| component.name.contains("Podman"));
        let name = if podman { "Podman" } else { "Docker" };
        let number = version.version.unwrap_or_else(|| "of unknown version".to_owned());
        Ok(Self { docker, version: format!("{name} {number}"), podman, socket: socket.to_owned() })
    }

    /// All containers with a label, in whatever state. Asked by ourselves: Podman has states (`stopped`) with which
    /// `bollard` refuses to read the whole list.
    pub(super) async fn containers(&self, label: &str) -> Result<Vec<Listed>, String> {
        let text = |error: reqwest::Error| format!("the list of containers: {error}");
        let client = reqwest::Client::builder()
            .unix_socket(self.socket.as_path())
            .timeout(Duration::from_secs(ANSWER_SECONDS_MAX))
            .build()
            .map_err(text)?;
        let filters = serde_json::json!({"label": [label]}).to_string();
        let asked = client.get("http://engine/containers/json");
        let asked = asked.query(&[("all", "true"), ("filters", &filters)]);
        let mut answer = asked.send().await.and_then(reqwest::Response::error_for_status).map_err(text)?;
        let mut list = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(text)? {
            list.extend_from_slice(&chunk);
            if list.len() > LIST_BYTES_MAX {
                return Err(format!("the list of containers is longer than {LIST_BYTES_MAX} bytes"));
            }
        }
        serde_json::from_slice(&list).map_err(|error| format!("the list of containers: {error}"))
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
