//! What the executors on this host share: a folder and a control group for each attempt, processes with
//! limits, and finding what a dead worker left.

use super::{
    Allow, AttemptLabel, CollectLimits, Collected, DEADLINE_GRACE, ExecError, ExecRequest, Exit,
    GrantedSizes, LogSink, OUTPUT_DIR, Prepared, Profile, ProvisionError, ProvisionRequest, Provisioned,
    SizeLimits, Swept,
    cgroup::Cgroup,
    collect::Collector,
    supervise::{Ended, Watched, check_env, supervise, wrapper},
};
use crate::{
    files,
    secrets::{Secret, folder_in_memory, payload},
};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use model::{Clock, WorkerName, attempt::EnvironmentReport};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, lchown},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tokio::{io::AsyncWriteExt, process::Command};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

/// Where programs are looked for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variable by which processes of an attempt are found again.
pub(super) const MARK: &str = "TASKBOT_LABEL";
/// The file in an attempt's folder that says whose it is.
const META_FILE: &str = "attempt.json";
/// How large a piece of output is, at most, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// How the executors on this host are set up.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The worker, whose name marks what is made.
    pub worker: WorkerName,
    /// Where the attempts' folders are made. For nothing else.
    pub folder: PathBuf,
    /// What an attempt may use.
    pub sizes: SizeLimits,
    /// What trusted tasks may have relaxed.
    pub allow: Allow,
}

/// Whose an attempt's folder is.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    worker: WorkerName,
    deadline: DateTime<Utc>,
    /// The control group's folders: whoever starts after us may be in another group.
    #[serde(default)]
    groups: Vec<PathBuf>,
}

/// The folder and control group of one attempt.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) label: AttemptLabel,
    /// `<folder>/<label>`
    pub(super) root: PathBuf,
    pub(super) sizes: GrantedSizes,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) notes: Vec<String>,
    /// Who owns the work folder, if not we.
    pub(super) uid: Option<u32>,
    /// What the commands of `run` and `cleanup` may read.
    pub(super) secrets: Arc<[Secret]>,
    /// The folder below the work folder that commands started in last.
    pub(super) dir: String,
}

impl Place {
    /// Makes it.
    pub(super) fn make(
        config: &HostConfig,
        request: &ProvisionRequest<'_>,
        sizes: GrantedSizes,
        uid: Option<u32>,
    ) -> Result<Self, ProvisionError> {
        let label = request.label.to_string();
        let failed = |error: io::Error| ProvisionError::Infra(format!("the attempt's folder: {error}"));
        let root = config.folder.join(&label);
        fs::create_dir_all(&config.folder).map_err(failed)?;
        fs::DirBuilder::new().mode(0o700).create(&root).map_err(failed)?;
        let mut place = Self {
            label: request.label.clone(),
            root,
            sizes,
            cgroup: None,
            notes: Vec::new(),
            uid,
            secrets: Arc::default(),
            dir: String::new(),
        };
        let filled = (|| {
            let groups = Cgroup::folders(&label);
            let meta = Meta { worker: config.worker.clone(), deadline: request.deadline, groups };
            fs::write(place.root.join(META_FILE), serde_json::to_vec(&meta)?)?;
            for inner in ["state", "home", "work"] {
                fs::create_dir(place.root.join(inner))?;
            }
            fs::create_dir_all(place.work().join(OUTPUT_DIR))?;
            for inner in ["state", "home", "work"] {
                place.own(&place.root.join(inner))?;
            }
            Ok(())
        })();
        if let Err(error) = filled {
            files::remove(&place.root).map_err(failed)?;
            return Err(failed(error));
        }
        match Cgroup::create(&label, &sizes) {
            Ok(group) => place.cgroup = Some(group),
            Err(error) => place.notes.push(format!(
                "no control group ({error}): memory is limited for each process alone, processors not at all"
            )),
        }
        Ok(place)
    }

    pub(super) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub(super) fn started(&self) -> PathBuf {
        self.root.join("state/started")
    }

    /// Gives a folder with all it holds to the user that commands run as.
    fn own(&self, folder: &Path) -> io::Result<()> {
        let Some(uid) = self.uid else { return Ok(()) };
        let mut todo = vec![folder.to_owned()];
        while let Some(path) = todo.pop() {
            lchown(&path, Some(uid), Some(uid))?;
            if fs::symlink_metadata(&path)?.is_dir() {
                for entry in fs::read_dir(&path)? {
                    todo.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// Moves a folder's content into the work folder, into folders that are there already.
    pub(super) fn take_in(&self, from: &Path) -> io::Result<()> {
        let mut todo = vec![PathBuf::new()];
        while let Some(inner) = todo.pop() {
            let target = files::make_inner_folder(&self.work(), &inner)?;
            for entry in fs::read_dir(from.join(&inner))? {
                let entry = entry?;
                let to = target.join(entry.file_name());
                let there = fs::symlink_metadata(&to).is_ok_and(|meta| meta.is_dir());
                if there && entry.file_type()?.is_dir() {
                    todo.push(inner.join(entry.file_name()));
                    continue;
                }
                match fs::rename(entry.path(), &to) {
                    Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                        copy_tree(&entry.path(), &to)?;
                    }
                    other => other?,
                }
                self.own(&to)?;
            }
        }
        Ok(())
    }

    /// The command in front of all: joins the control group.
    pub(super) fn command(&self, program: &str) -> Command {
        let joins: Vec<_> = self.cgroup.iter().flat_map(Cgroup::join_files).collect();
        if joins.is_empty() {
            return Command::new(program);
        }
        let mut command = Command::new("/bin/sh");
        let count = joins.len();
        // The shell joins and becomes the program, so that the process and its parent stay the same.
        let script = r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 125; shift; n=$((n-1)); done; exec "$@""#;
        command.arg("-c").arg(script).arg("taskbot").arg(count.to_string()).args(joins).arg(program);
        command
    }

    /// The limits that each process has, as arguments of `prlimit`.
    pub(super) fn rlimits(&self) -> Vec<String> {
        let sizes = &self.sizes;
        let mut limits = vec![
            format!("--nproc={}", sizes.processes),
            format!("--nofile={}", sizes.open_files),
            format!("--fsize={}", sizes.disk_bytes),
            "--core=0".to_owned(),
        ];
        if self.cgroup.is_none() {
            limits.push(format!("--as={}", sizes.memory_bytes));
        }
        limits
    }

    /// Runs a command to its end.
    pub(super) async fn run(
        &self,
        mut command: Command,
        request: &ExecRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Exit, ExecError> {
        let secrets = self.secrets_for(request.profile);
        // The commands before may have made anything of it.
        files::remove(&self.started()).map_err(infra)?;
        let (reader, writer) = io::pipe().map_err(infra)?;
        command
            .env(MARK, self.label.to_string())
            .env("PATH", PATH)
            .stdin(if secrets.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(writer.try_clone().map_err(infra)?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let oom_kills = self.cgroup.as_ref().map_or(0, Cgroup::oom_kills);
        let mut child = command.spawn().map_err(|error| match error.raw_os_error() {
            Some(nix::libc::E2BIG) => {
                ExecError::BadTask("a command line or the inputs are too long for this system".to_owned())
            }
            _ => ExecError::Infra(format!("commands cannot be started: {error}")),
        })?;
        drop(command);
        if let Some(mut stdin) = child.stdin.take() {
            let payload = payload(secrets);
            // Commands that end before they read it all tell so themselves.
            tokio::spawn(async move { stdin.write_all(payload.as_bytes()).await.ok() });
        }
        let running = Running { place: self, pid: child.id() };
        let output = chunks(reader)?;
        let tail = Tail::default();
        let output = output.inspect(|chunk| tail.see(chunk));
        let end = async { child.wait().await.map_err(infra) };
        let ended = supervise(request, self.sizes.disk_bytes, output, end, &running, log, stop).await;
        if ended.is_err() {
            running.kill().await;
        }
        let status = match ended? {
            Ended::ByUs(exit) => return Ok(exit),
            Ended::Itself(status) => status,
        };
        let exit = status
            .code()
            .map(Exit::from_shell)
            .or(status.signal().map(Exit::Signal))
            .ok_or_else(|| ExecError::Infra(format!("commands ended in an unknown way: {status}")))?;
        if exit == Exit::Code(0) {
            return Ok(exit);
        }
        if !self.started().exists() {
            return Err(ExecError::Infra(format!("commands could not be started: {}", tail.text())));
        }
        if self.cgroup.as_ref().is_some_and(|group| group.oom_kills() > oom_kills) {
            return Ok(Exit::Oom);
        }
        // The limit on the size of one file.
        Ok(if exit == Exit::Signal(Signal::SIGXFSZ as i32) { Exit::OutOfDisk } else { exit })
    }

    /// Ends what is left and removes the folder.
    pub(super) fn remove(&self) -> io::Result<()> {
        if let Some(group) = &self.cgroup {
            group.remove()?;
        }
        kill_marked(&self.label.to_string());
        files::remove(&folder_in_memory(&self.label.to_string()))?;
        files::remove(&self.root)
    }

    /// The secrets that commands in a profile get.
    pub(super) fn secrets_for(&self, profile: Profile) -> &[Secret] {
        if profile == Profile::Install { &[] } else { &self.secrets }
    }

    /// What runs the lines of a request.
    pub(super) fn wrapper(&self, profile: Profile) -> String {
        wrapper(self.secrets_for(profile))
    }
}

/// The last bytes of the output, for the message when nothing could be started.
#[derive(Default)]
struct Tail(std::sync::Mutex<Vec<u8>>);

impl Tail {
    const BYTES: usize = 500;

    fn see(&self, chunk: &Result<Bytes, String>) {
        if let (Ok(chunk), Ok(mut kept)) = (chunk, self.0.lock()) {
            kept.extend_from_slice(&chunk[chunk.len().saturating_sub(Self::BYTES)..]);
            let surplus = kept.len().saturating_sub(Self::BYTES);
            kept.drain(..surplus);
        }
    }

    fn text(&self) -> String {
        self.0.lock().map(|kept| String::from_utf8_lossy(&kept).trim().to_owned()).unwrap_or_default()
    }
}

/// The processes of a command.
struct Running<'a> {
    place: &'a Place,
    pid: Option<u32>,
}

impl Watched for Running<'_> {
    async fn disk_bytes(&self) -> Option<u64> {
        let (root, enough) = (self.place.root.clone(), self.place.sizes.disk_bytes);
        let (group, label) = (self.place.cgroup.clone(), self.place.label.to_string());
        let measured = tokio::task::spawn_blocking(move || {
            let used = files::usage(&root, enough);
            let processes = group.map_or_else(|| marked(&label), |group| group.processes());
            used.saturating_add(files::held_open(&processes))
        });
        measured.await.ok()
    }

    fn disk_is_full(&self) -> bool {
        files::disk_is_full(&self.place.root)
    }

    async fn kill(&self) {
        // Errors mean that nobody is left there.
        if let Some(pid) = self.pid.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let (group, label) = (self.place.cgroup.clone(), self.place.label.to_string());
        let killed = tokio::task::spawn_blocking(move || {
            group.iter().for_each(Cgroup::kill_all);
            kill_marked(&label)
        });
        if let Err(error) = killed.await {
            tracing::warn!(%error, "killing an attempt's processes");
        }
    }

    async fn tidy(&self) {
        self.kill().await;
    }
}

/// A pipe's bytes as they come.
fn chunks(
    reader: io::PipeReader,
) -> Result<impl Stream<Item = Result<Bytes, String>> + Send + Unpin, ExecError> {
    let receiver = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(infra)?;
    let stream = ReaderStream::with_capacity(receiver, CHUNK_BYTES);
    Ok(stream.map(|chunk| chunk.map_err(|error| error.to_string())))
}

/// The processes that carry an attempt's mark.
fn marked(label: &str) -> BTreeSet<u32> {
    let mark = format!("{MARK}={label}");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    pids.filter(has_mark).collect()
}

/// Whether a process carries an attempt's mark.
pub(super) fn is_marked(label: &str) -> bool {
    !marked(label).is_empty()
}

/// Kills every process that carries an attempt's mark; says how many.
pub(super) fn kill_marked(label: &str) -> usize {
    let killed =
        |pid: &u32| i32::try_from(*pid).is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
    marked(label).iter().filter(|pid| killed(pid)).count()
}

/// Copies files, folders and links (as links). As a move would, it takes the place of a file or link that is
/// there, and never goes through it.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    if !meta.is_dir() && fs::symlink_metadata(to).is_ok_and(|there| !there.is_dir()) {
        fs::remove_file(to)?;
    }
    if meta.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if meta.is_file() {
        let mode = meta.permissions().mode() & 0o777;
        let mut copy = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
        io::copy(&mut fs::File::open(from)?, &mut copy)?;
        // As a move keeps it.
        return copy.set_modified(meta.modified()?);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// How an executor on this host starts commands in a [`Place`].
pub(super) trait Style: Send + Sync + 'static {
    /// What it is.
    fn report(&self, place: &Place) -> EnvironmentReport;
    /// The work folder as commands see it.
    fn work_dir(&self, place: &Place) -> String;
    /// Makes ready what commands find secrets in.
    ///
    /// # Errors
    /// It cannot be had.
    fn keep_secrets(&self, _place: &Place) -> io::Result<()> {
        Ok(())
    }
    /// The command for these lines.
    fn command(&self, place: &Place, request: &ExecRequest<'_>) -> Command;
}

/// An environment on this host.
pub(super) struct HostEnvironment<S> {
    pub(super) place: Place,
    pub(super) style: S,
}

#[async_trait]
impl<S: Style> Provisioned for HostEnvironment<S> {
    fn report(&self) -> EnvironmentReport {
        let mut report = self.style.report(&self.place);
        report.notes.extend(self.place.notes.iter().cloned());
        report
    }

    fn work_dir(&self) -> String {
        self.style.work_dir(&self.place)
    }

    fn give_secrets(&mut self, secrets: &Arc<[Secret]>) -> Result<(), String> {
        if !secrets.is_empty() {
            let kept = self.style.keep_secrets(&self.place);
            kept.map_err(|error| format!("no memory for secrets: {error}"))?;
        }
        self.place.secrets = Arc::clone(secrets);
        Ok(())
    }

    async fn copy_in(&mut self, from: &Path) -> Result<(), ExecError> {
        self.place.take_in(from).map_err(|error| match error.kind() {
            // What the commands before left stands in the way.
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
                ExecError::BadTask(format!("what `prepare` left is in the way of the task's files: {error}"))
            }
            _ => infra(format!("{}: {error}", from.display())),
        })
    }

    async fn prepare(
        &mut self,
        request: &ExecRequest<'_>,
        _cache_key: Option<&str>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Prepared, ExecError> {
        // The host's packages are not ours to change: what `prepare` installs must go into the work folder.
        let exit = self.exec(request, log, stop).await?;
        Ok(Prepared { exit, from_cache: false })
    }

    async fn exec(
        &mut self,
        request: &ExecRequest<'_>,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<Exit, ExecError> {
        check_env(request)?;
        if request.lines.is_empty() {
            return Ok(Exit::Code(0));
        }
        request.dir.clone_into(&mut self.place.dir);
        let command = self.style.command(&self.place, request);
        self.place.run(command, request, log, stop).await
    }

    async fn copy_out(
        &mut self,
        globs: &[String],
        limits: CollectLimits,
        to: &Path,
    ) -> Result<Collected, ExecError> {
        let collector = Collector::new(globs, limits, to)?;
        let work = self.place.work();
        tokio::task::spawn_blocking(move || collector.take_folder(&work)).await.map_err(infra)?
    }

    async fn keep(&mut self) -> Result<Vec<String>, ExecError> {
        self.place.secrets = Arc::default();
        files::remove(&folder_in_memory(&self.place.label.to_string())).map_err(infra)?;
        let work = self.place.work().to_string_lossy().into_owned();
        Ok(vec![format!("cd {}", shell_word(&start_folder(&work, &self.place.dir)))])
    }

    async fn destroy(self: Box<Self>) -> Result<(), ExecError> {
        // The style goes last: it may hold the user that the processes run as.
        tokio::task::spawn_blocking(move || self.place.remove()).await.map_err(infra)?.map_err(infra)
    }
}

/// The folders of attempts that nobody runs any more, by name, and their control groups.
pub(super) fn left_over(
    config: &HostConfig,
    clock: &Arc<dyn Clock>,
    alive: &HashSet<AttemptLabel>,
) -> Result<Vec<(String, Vec<PathBuf>)>, String> {
    let entries = match fs::read_dir(&config.folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", config.folder.display())),
    };
    let mut left = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(label) = AttemptLabel::parse(&config.worker, &name) else { continue };
        let meta = fs::read(entry.path().join(META_FILE)).ok();
        let meta = meta.and_then(|bytes| serde_json::from_slice::<Meta>(&bytes).ok());
        let ours = meta.as_ref().is_none_or(|meta| meta.worker == config.worker);
        let overdue = meta.as_ref().is_some_and(|meta| clock.now() > meta.deadline + DEADLINE_GRACE);
        if overdue || ours && !alive.contains(&label) {
            left.push((name, meta.map(|meta| meta.groups).unwrap_or_default()));
        }
    }
    Ok(left)
}

/// Removes the folders, groups and processes of attempts that nobody runs any more.
pub(super) fn sweep(
    config: &HostConfig,
    clock: &Arc<dyn Clock>,
    alive: &HashSet<AttemptLabel>,
) -> Result<Swept, String> {
    let mut swept = Swept::default();
    let mut errors = Vec::new();
    for (name, groups) in left_over(config, clock, alive)? {
        if let Some(group) = Cgroup::left_over(&name, groups) {
            swept.processes += group.processes().len();
            if let Err(error) = group.remove() {
                errors.push(format!("the control group of {name}: {error}"));
            }
        }
        swept.processes += kill_marked(&name);
        if let Err(error) = files::remove(&folder_in_memory(&name)) {
            errors.push(format!("the secrets of {name}: {error}"));
        }
        let folder = config.folder.join(&name);
        match files::remove(&folder) {
            Ok(()) => swept.folders += 1,
            Err(error) => errors.push(format!("{}: {error}", folder.display())),
        }
    }
    if errors.is_empty() { Ok(swept) } else { Err(errors.join("; ")) }
}

/// Where a program is, looked for in [`PATH`].
pub(super) fn program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return None;
    }
    PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// Checks that the programs that a task names are there.
pub(super) fn check_programs(programs: &[String]) -> Result<(), ProvisionError> {
    let missing: Vec<_> =
        programs.iter().filter(|name| program(name).is_none()).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ProvisionError::Unavailable(format!("this worker's host lacks the programs {}", missing.join(", "))))
}

/// The folder that commands start in, below the work folder as they see it.
pub(super) fn start_folder(work: &str, dir: &str) -> String {
    if dir.is_empty() { work.to_owned() } else { format!("{work}/{dir}") }
}

/// A path as it stands in a command line for a person.
pub(super) fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// An error of this machine.
pub(super) fn infra(error: impl std::fmt::Display) -> ExecError {
    ExecError::Infra(format!("this machine failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_the_place_of_a_link_and_does_not_go_through_it() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::write(at("victim"), "kept").unwrap();
        fs::create_dir(at("from")).unwrap();
        fs::write(at("from/file"), "new").unwrap();
        std::os::unix::fs::symlink("elsewhere", at("from/link")).unwrap();
        for name in ["file", "link"] {
            let to = at(&format!("to-{name}"));
            std::os::unix::fs::symlink(at("victim"), &to).unwrap();
            copy_tree(&at("from").join(name), &to).unwrap();
        }
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "kept");
        assert_eq!(fs::read_to_string(at("to-file")).unwrap(), "new");
        assert_eq!(fs::read_link(at("to-link")).unwrap(), Path::new("elsewhere"));
        std::os::unix::fs::symlink(temp.path(), at("to-folder")).unwrap();
        assert!(copy_tree(&at("from"), &at("to-folder")).is_err());
    }
}
