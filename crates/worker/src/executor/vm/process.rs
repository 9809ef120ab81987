//! A QEMU process: started with nothing of ours but its files, watched, and killed with all it started.

use super::super::{
    ExecError,
    cgroup::Cgroup,
    host::{self, MARK, Place, infra},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{fs::File, path::PathBuf, process::Stdio, sync::Arc};
use tokio::{process::Command, sync::watch};

/// How much of what QEMU said is quoted, in bytes.
const SAID_BYTES: usize = 1000;

/// A running or ended QEMU.
#[derive(Debug)]
pub(super) struct Process {
    group: Option<Pid>,
    ended: watch::Receiver<Option<String>>,
    log: PathBuf,
}

impl Process {
    pub(super) fn spawn(
        place: &Place,
        program: &str,
        args: &[String],
        name: &str,
    ) -> Result<Arc<Self>, ExecError> {
        let log = place.root.join(format!("{name}.log"));
        let said = File::create(&log).map_err(infra)?;
        let mut command: Command = place.command(program);
        command
            .args(args)
            .env_clear()
            .env("PATH", host::PATH)
            .env(MARK, place.label.to_string())
            .current_dir(&place.root)
            .stdin(Stdio::null())
            .stdout(said.try_clone().map_err(infra)?)
            .stderr(said)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| infra(format!("{program}: {error}")))?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let status = child.wait().await;
            tell.send_replace(Some(
                status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            ));
        });
        Ok(Arc::new(Self { group, ended, log }))
    }

    /// Kills it and what it started. Its end is told by [`Self::ended`].
    pub(super) fn kill(&self) {
        if self.ended.borrow().is_none()
            && let Some(group) = self.group
        {
            // An error means that it is gone.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// Comes back when it has ended; says how.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await;
        end.ok().and_then(|end| end.clone()).unwrap_or_default()
    }

    pub(super) fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// The last that it said.
    pub(super) fn said(&self) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(SAID_BYTES)..]).into_owned();
        said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether the host had to kill for want of memory.
pub(super) fn oom_kills(place: &Place) -> u64 {
    place.cgroup.as_ref().map_or(0, Cgroup::oom_kills)
}
