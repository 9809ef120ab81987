//! One git command: hardened, limited in time and size, killed with all its children.

use super::GitError;
use crate::files;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    ffi::{OsStr, OsString},
    io::{PipeReader, Read},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};

/// Where git and its helpers are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The most that is kept of what a command says on standard error, in bytes.
const STDERR_BYTES_MAX: u64 = 16 * 1024;
/// How often the size of what is being fetched is looked at.
const SIZE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How git speaks by SSH.
pub(super) const SSH: &str = "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes";

/// The configuration that every command gets, whatever files say.
const SETTINGS: [&str; 15] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=/bin/false",
    "credential.helper=",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "transfer.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.version=2",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
];

/// A git command that is being put together.
pub(super) struct Git {
    args: Vec<OsString>,
    envs: Vec<(&'static str, OsString)>,
    limit: Duration,
    watched: Option<(PathBuf, u64)>,
    /// What it is for, in messages: `fetch https://…`.
    what: String,
}

impl Git {
    /// A command on a bare repository of ours. `what` is for messages.
    pub(super) fn new(git_dir: Option<&Path>, limit: Duration, what: impl Into<String>) -> Self {
        let mut args = Vec::new();
        for setting in SETTINGS {
            args.extend(["-c".into(), setting.into()]);
        }
        if let Some(dir) = git_dir {
            let mut arg = OsString::from("--git-dir=");
            arg.push(dir);
            args.push(arg);
        }
        Self { args, envs: Vec::new(), limit, watched: None, what: what.into() }
    }

    pub(super) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.envs.push((name, value.into()));
        self
    }

    /// The protocols that may be used; without it none, not even local paths.
    pub(super) fn protocols(self, allowed: &str) -> Self {
        self.env("GIT_ALLOW_PROTOCOL", allowed)
    }

    /// Kills the command when the folder grows beyond `max_bytes`, or a single file does.
    pub(super) fn watch_size(mut self, folder: &Path, max_bytes: u64) -> Self {
        self.watched = Some((folder.to_owned(), max_bytes));
        self
    }

    /// Starts it with its output in a pipe.
    fn spawn(&self) -> Result<(Child, PipeReader), GitError> {
        let (stdout, writer) = std::io::pipe().map_err(infra)?;
        let mut command = match &self.watched {
            // Only a limit on the size of files stops a write between two looks at the folder.
            Some((_, max_bytes)) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--fsize={max_bytes}")).arg("git");
                command
            }
            None => Command::new("git"),
        };
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_SSH_COMMAND", SSH)
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| {
            GitError::Infra(format!("git cannot be started ({error}); install git and util-linux"))
        })?;
        Ok((child, stdout))
    }

    /// Runs it; at most `max_bytes` of output are kept, more is an error.
    pub(super) async fn run(self, max_bytes: u64) -> Result<Vec<u8>, GitError> {
        self.stream(move |stdout| {
            let mut bytes = Vec::new();
            stdout.take(max_bytes + 1).read_to_end(&mut bytes).map_err(infra)?;
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max_bytes {
                return Err(GitError::TooLarge(format!("more than {max_bytes} bytes")));
            }
            Ok(bytes)
        })
        .await
    }

    /// Runs it and hands its output to `reader` on a thread that may block. An error of the reader kills the
    /// command.
    pub(super) async fn stream<T: Send + 'static>(
        self,
        reader: impl FnOnce(PipeReader) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let (mut child, stdout) = self.spawn()?;
        let group = Group(child.id());
        let Some(mut stderr) = child.stderr.take() else {
            return Err(GitError::Infra("git has no error output".to_owned()));
        };
        let mut complaint = Vec::new();
        let work = async {
            let read = async { tokio::task::spawn_blocking(move || reader(stdout)).await.map_err(infra)? };
            let say = async {
                (&mut stderr).take(STDERR_BYTES_MAX).read_to_end(&mut complaint).await.map_err(infra)?;
                // The rest is read and dropped, so that the command does not block on a full pipe.
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.map_err(infra)
            };
            let (read, _) = tokio::try_join!(read, say)?;
            let status = child.wait().await.map_err(infra)?;
            Ok::<_, GitError>((read, status))
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(self.limit, work) => ended,
            over = grown_over(self.watched.as_ref()) => Ok(Err(over)),
        };
        drop(group);
        match ended {
            Err(_) => Err(GitError::Timeout(format!("{} took longer than {:?}", self.what, self.limit))),
            Ok(Err(GitError::TooLarge(why))) => Err(GitError::TooLarge(format!("{}: {why}", self.what))),
            Ok(Err(error)) => Err(error),
            Ok(Ok((read, status))) if status.success() => Ok(read),
            Ok(Ok((_, status))) => Err(self.explain(status, &String::from_utf8_lossy(&complaint))),
        }
    }

    /// Turns what git says into a kind of error.
    fn explain(&self, status: ExitStatus, complaint: &str) -> GitError {
        let what = &self.what;
        let lines: Vec<_> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let lower = complaint.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        let said = lines
            .iter()
            .find(|line| {
                line.starts_with("fatal:") || line.starts_with("ERROR:") || line.starts_with("error:")
            })
            .or(lines.last())
            .map_or_else(|| format!("it said nothing ({status})"), |line| (*line).to_owned());
        let said = super::names::shown(&said);
        if status.signal() == Some(Signal::SIGXFSZ as i32) || has(&["file too large", "sigxfsz", "signal 25"])
        {
            return GitError::TooLarge(format!("{what}: larger than allowed"));
        }
        if has(&["fsckobjects", "fsck error", "hasdotgit", "badtree", "fsck message", "error in fsck"])
            || (has(&["error: object"]) && has(&["index-pack failed", "unpack-objects failed"]))
        {
            return GitError::Hostile(format!(
                "{what}: the repository holds broken or forged objects: {said}"
            ));
        }
        if has(&["redirect", "error: 301", "error: 302", "error: 303", "error: 307", "error: 308"]) {
            return GitError::Denied(format!(
                "{what}: the host answers with a redirect, which is not followed; use the final URL: {said}"
            ));
        }
        if has(&["transport", "not allowed"]) && has(&["not allowed"]) {
            return GitError::Denied(format!("{what}: {said}"));
        }
        if has(&[
            "authentication failed",
            "could not read username",
            "could not read password",
            "permission denied",
            "error: 401",
            "error: 403",
            "host key verification failed",
            "access denied",
            "dubious ownership",
        ]) {
            return GitError::Denied(format!("{what}: the host refuses access: {said}"));
        }
        if has(&[
            "not found",
            "does not exist",
            "does not appear to be a git repository",
            "not our ref",
            "couldn't find remote ref",
            "unadvertised object",
            "no such",
            "not a valid object",
            "not a tree object",
            "error: 404",
            "access denied or repository not exported",
        ]) && !has(&["could not resolve host"])
        {
            return GitError::NotFound(format!("{what}: {said}"));
        }
        GitError::Infra(format!("{what}: {said}"))
    }
}

/// Comes back when the folder has grown beyond its limit; never without one.
async fn grown_over(watched: Option<&(PathBuf, u64)>) -> GitError {
    let Some((folder, max_bytes)) = watched else { return std::future::pending().await };
    loop {
        tokio::time::sleep(SIZE_CHECK_INTERVAL).await;
        let (folder, max) = (folder.clone(), *max_bytes);
        let used = tokio::task::spawn_blocking(move || files::usage(&folder, max)).await.unwrap_or(0);
        if used > *max_bytes {
            return GitError::TooLarge(format!("larger than {max_bytes} bytes"));
        }
    }
}

/// Kills the command's whole process group when dropped: git's helpers outlive git otherwise.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // An error means that nobody is left in it.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub(super) fn infra(error: impl std::fmt::Display) -> GitError {
    GitError::Infra(format!("this machine failed: {error}"))
}
