//! A task repository run from a folder of this machine, without a server: `taskbot task run-local PATH`.

use crate::{
    logs::{AttemptLog, Out},
    runner::{Control, Ended, Folders, Job, Runner, Source},
};
use model::{
    Ids, Item, TaskId,
    attempt::AttemptRef,
    diagnostic::Report,
    protocol::Held,
    task::Trust,
    task_file::{self, TASK_FILE},
};
use serde_json::{Map, Value};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest task file that is read, in bytes.
pub const TASK_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What to run, and how.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// The inputs.
    pub inputs: Map<String, Value>,
    /// What is tested.
    pub item: Option<Item>,
    /// Whether relaxed isolation that the worker allows is granted: the folder is the caller's own.
    pub trusted: bool,
    /// Where the files that it leaves are put; nowhere when missing.
    pub artifacts_to: Option<PathBuf>,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no task file.
    #[error(
        "{0} holds no {TASK_FILE}; a task repository has one at its root, or at the path that was registered"
    )]
    NoTaskFile(PathBuf),
    /// The task file is wrong.
    #[error("{0}")]
    BadTaskFile(Report),
    /// The inputs are wrong.
    #[error("{0}")]
    BadInputs(String),
    /// The disk.
    #[error("{path}: {error}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Runs the task in a folder. `path` is the folder or its task file, `scratch` a folder for what is needed on
/// the way; `out` gets the log, stamped, as it comes.
///
/// # Errors
/// There is nothing to run. How the task itself ended, also by errors, is in what is returned.
pub async fn run_local(
    runner: &Runner,
    path: &Path,
    scratch: &Path,
    options: &LocalOptions,
    out: Out,
    control: &Control,
    ids: &dyn Ids,
) -> Result<Ended, LocalError> {
    let disk = |path: &Path, error: io::Error| LocalError::Disk { path: path.to_owned(), error };
    let folder = path.canonicalize().map_err(|error| disk(path, error))?;
    let folder = match folder.parent() {
        Some(parent) if folder.is_file() => parent.to_owned(),
        _ => folder,
    };
    let file = read_task_file(&folder)?;
    let inputs = file.check_inputs(&options.inputs).map_err(LocalError::BadInputs)?;
    let job = Job {
        held: Held { task: TaskId::new(ids.next()), attempt: AttemptRef { attempt: 1, fence: 0 } },
        name: file.name.clone().into(),
        item: options.item.clone(),
        inputs,
        trust: if options.trusted { Trust::Trusted } else { Trust::Untrusted },
        file,
        source: Source::Folder(folder),
        dir: String::new(),
        timeout_cap: None,
        traceparent: None,
    };
    let here = tempfile::Builder::new()
        .prefix("taskbot-local-")
        .tempdir_in(scratch)
        .map_err(|error| disk(scratch, error))?;
    let output = options.artifacts_to.clone().unwrap_or_else(|| here.path().join("output"));
    let folders = Folders { work: here.path().join("work"), output };
    std::fs::create_dir_all(&folders.work).map_err(|error| disk(&folders.work, error))?;
    let log = AttemptLog::new(Arc::clone(&runner.clock), out);
    Ok(runner.run_attempt(&job, &folders, &log, control).await)
}

/// Reads and checks the task file of a folder.
///
/// # Errors
/// It is not there, too large, or wrong.
pub fn read_task_file(folder: &Path) -> Result<task_file::TaskFile, LocalError> {
    let path = folder.join(TASK_FILE);
    let disk = |error: io::Error| LocalError::Disk { path: path.clone(), error };
    let found = match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => found,
        Ok(_) => return Err(LocalError::NoTaskFile(folder.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LocalError::NoTaskFile(folder.to_owned()));
        }
        Err(error) => return Err(disk(error)),
    };
    if found.len() > TASK_FILE_BYTES_MAX {
        let message = format!("has {} bytes, a task file has at most {TASK_FILE_BYTES_MAX}", found.len());
        return Err(disk(io::Error::new(io::ErrorKind::FileTooLarge, message)));
    }
    let text = std::fs::read_to_string(&path).map_err(disk)?;
    let (file, _) = task_file::parse(&path.display().to_string(), &text).map_err(LocalError::BadTaskFile)?;
    Ok(file)
}
