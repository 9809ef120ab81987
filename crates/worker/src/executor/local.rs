//! Commands on this host, without isolation. Only where the worker's configuration says so.

use super::{
    AttemptLabel, Environment, ExecRequest, Executor, LogSink, Probe, ProvisionError, ProvisionRequest,
    Provisioned, Swept,
    host::{self, HostConfig, HostEnvironment, Place, Style, check_programs, start_folder},
    supervise::variables,
};
use crate::secrets::{SECRETS_VARIABLE, folder_in_memory};
use async_trait::async_trait;
use model::{Clock, attempt::EnvironmentReport, requirements::ExecutorKind, task::Trust};
use std::{collections::HashSet, fs, io, os::unix::fs::DirBuilderExt, sync::Arc};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// The warning that every report of this executor carries.
pub const NO_ISOLATION: &str = "no isolation: commands ran as the worker's own user on its host";

/// The executor `local`.
#[derive(Debug)]
pub struct Local {
    config: HostConfig,
    /// Whether tasks that are not trusted may run too.
    untrusted: bool,
    clock: Arc<dyn Clock>,
}

impl Local {
    /// Sets it up. `untrusted` lets in tasks that are not trusted: then anybody who can send an event runs
    /// programs on this host.
    #[must_use]
    pub fn new(config: HostConfig, untrusted: bool, clock: Arc<dyn Clock>) -> Self {
        Self { config, untrusted, clock }
    }
}

#[async_trait]
impl Executor for Local {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Local
    }

    async fn probe(&self) -> Result<Probe, String> {
        if host::program("prlimit").is_none() {
            return Err("`prlimit` is missing; install util-linux".to_owned());
        }
        Ok(Probe { version: "this host".to_owned(), notes: vec![NO_ISOLATION.to_owned()] })
    }

    async fn provision(
        &self,
        request: &ProvisionRequest<'_>,
        log: &dyn LogSink,
        _stop: &CancellationToken,
    ) -> Result<Box<dyn Provisioned>, ProvisionError> {
        let Environment::Local(wish) = request.environment else {
            return Err(ProvisionError::Unavailable(format!("not a wish for {}", self.kind())));
        };
        if request.trust == Trust::Untrusted && !self.untrusted {
            return Err(ProvisionError::Unavailable(
                "the task is not trusted, and there is no isolation here".to_owned(),
            ));
        }
        check_programs(&wish.programs)?;
        let sizes = self.config.sizes.grant(&wish.sizes)?;
        log.write(format!("warning: {NO_ISOLATION}\n").as_bytes());
        let place = Place::make(&self.config, request, sizes, None)?;
        Ok(Box::new(HostEnvironment { place, style: Plain }))
    }

    async fn sweep(&self, alive: &HashSet<AttemptLabel>) -> Result<Swept, String> {
        host::sweep(&self.config, &self.clock, alive)
    }
}

/// Commands as they are.
struct Plain;

impl Style for Plain {
    fn report(&self, _place: &Place) -> EnvironmentReport {
        EnvironmentReport {
            executor: ExecutorKind::Local,
            image: None,
            image_digest: None,
            engine: None,
            arch: std::env::consts::ARCH.to_owned(),
            prepared_from_cache: false,
            notes: vec![NO_ISOLATION.to_owned()],
        }
    }

    fn work_dir(&self, place: &Place) -> String {
        place.work().to_string_lossy().into_owned()
    }

    fn keep_secrets(&self, place: &Place) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(folder_in_memory(&place.label.to_string()))
    }

    fn command(&self, place: &Place, request: &ExecRequest<'_>) -> Command {
        let work = self.work_dir(place);
        let home = place.root.join("home").to_string_lossy().into_owned();
        let mut command = place.command("prlimit");
        command
            .args(place.rlimits())
            .args(["/bin/sh", "-c", &place.wrapper(request.profile)])
            .arg(place.started())
            .arg(start_folder(&work, request.dir))
            .args(request.lines)
            .env_clear()
            .envs(variables(request, &work, &home));
        if !place.secrets_for(request.profile).is_empty() {
            command.env(SECRETS_VARIABLE, folder_in_memory(&place.label.to_string()));
        }
        command
    }
}
