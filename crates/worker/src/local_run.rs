//! A task repository run from a folder of this machine, without a server: `taskbot task run-local PATH`.

use crate::{
    logs::{AttemptLog, Out},
    runner::{Control, Ended, Folders, Job, Runner, Source},
};
use model::{
    Ids, Item, TaskId,
    attempt::AttemptRef,
    diagnostic::Report,
    discover::{self, ForeignTests, NoKnownFormat, RepositoryTests},
    ids::TaskName,
    protocol::Held,
    requirements::ExecutorKind,
    task::Trust,
    task_file::{self, TASK_FILE, TaskFile},
};
use serde_json::{Map, Value};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest task file that is read, in bytes.
pub const TASK_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How deep tests in other formats are looked for.
const FOLDER_DEPTH_MAX: usize = 32;
/// Among how many files they are looked for.
const FILES_MAX: usize = 200_000;

/// What to run, and how.
#[derive(Debug, Clone, Default)]
pub struct LocalOptions {
    /// The inputs.
    pub inputs: Map<String, Value>,
    /// What is tested.
    pub item: Option<Item>,
    /// Whether relaxed isolation that the worker allows is granted: the folder is the caller's own.
    pub trusted: bool,
    /// The repository's folder, where the task lies in a folder of it: all of it is the work folder then.
    pub root: Option<PathBuf>,
    /// The only executor that will do.
    pub executor: Option<ExecutorKind>,
    /// The image for its container in place of the task file's; nothing but a container will do then.
    pub image: Option<String>,
    /// Where the files that it leaves are put; nowhere when missing.
    pub artifacts_to: Option<PathBuf>,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is neither a task file nor anything else that is known.
    #[error("{0}: {1}")]
    NoTests(PathBuf, NoKnownFormat),
    /// The tests in another format are wrong, or what was chosen of them is not there.
    #[error("{0}")]
    BadTests(String),
    /// The task file is wrong.
    #[error("{0}")]
    BadTaskFile(Report),
    /// The inputs are wrong.
    #[error("{0}")]
    BadInputs(String),
    /// None of the task's environments is of the wanted executor, or a container for the image that was given.
    #[error("the task file names no environment of {}, only {}", wanted.unwrap_or(ExecutorKind::Container), there.join(", "))]
    NoEnvironment {
        /// The executor that was wanted.
        wanted: Option<ExecutorKind>,
        /// Those of the task file.
        there: Vec<String>,
    },
    /// The task is not where it should be.
    #[error("{0} is not inside of {1}")]
    NotInside(PathBuf, PathBuf),
    /// The disk.
    #[error("{path}: {error}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Runs the task in a folder, or else its tests in another format. `path` is the folder or its task file, `scratch` a
/// folder for what is needed on the way; `out` gets the log, stamped, as it comes.
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
    let (root, dir) = match &options.root {
        None => (folder.clone(), String::new()),
        Some(root) => {
            let root = root.canonicalize().map_err(|error| disk(root, error))?;
            let inside = folder.strip_prefix(&root).ok().and_then(Path::to_str).map(str::to_owned);
            let dir = inside.ok_or_else(|| LocalError::NotInside(folder.clone(), root.clone()))?;
            (root, dir)
        }
    };
    let mut file = match read_tests(&folder)? {
        RepositoryTests::TaskFile(text) => {
            let name = folder.join(TASK_FILE).display().to_string();
            task_file::parse(&name, &text).map_err(LocalError::BadTaskFile)?.0
        }
        RepositoryTests::Foreign(tests) => {
            let name = folder.file_name().map_or_else(|| "tests".into(), std::ffi::OsStr::to_string_lossy);
            tests.task_file(&TaskName::from(name.as_ref()), &options.inputs).map_err(LocalError::BadTests)?
        }
    };
    let inputs = file.check_inputs(&options.inputs).map_err(LocalError::BadInputs)?;
    choose(&mut file, options)?;
    let job = Job {
        held: Held { task: TaskId::new(ids.next()), attempt: AttemptRef { attempt: 1, fence: 0 } },
        name: file.name.clone().into(),
        item: options.item.clone(),
        inputs,
        trust: if options.trusted { Trust::Trusted } else { Trust::Untrusted },
        secrets: runner.config.secrets.0.keys().cloned().collect(),
        file,
        source: Source::Folder(root),
        dir,
        hold: None,
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

/// Keeps the environments that the options allow.
fn choose(file: &mut TaskFile, options: &LocalOptions) -> Result<(), LocalError> {
    let there: Vec<_> = file.environment.iter().map(|one| one.executor().to_string()).collect();
    let container = |kind: ExecutorKind| options.image.is_none() || kind == ExecutorKind::Container;
    let wanted = options.executor;
    file.environment.retain(|one| wanted.is_none_or(|kind| one.executor() == kind));
    if file.environment.is_empty() {
        return Err(LocalError::NoEnvironment { wanted, there });
    }
    file.environment.retain(|one| container(one.executor()));
    if file.environment.is_empty() {
        return Err(LocalError::NoEnvironment { wanted: None, there });
    }
    for environment in &mut file.environment {
        if let (task_file::Environment::Container(wish), Some(image)) = (environment, &options.image) {
            wish.image = Some(image.clone());
        }
    }
    Ok(())
}

/// Reads a folder's task file, or what is needed of its tests in another format.
///
/// # Errors
/// Neither is there; or a file is too large, or no UTF-8.
pub fn read_tests(folder: &Path) -> Result<RepositoryTests, LocalError> {
    let failed = |path: &Path, error: io::Error| LocalError::Disk { path: path.to_owned(), error };
    let read = |name: &str| {
        let path = folder.join(name);
        let size = std::fs::metadata(&path).map_err(|error| failed(&path, error))?.len();
        if size > TASK_FILE_BYTES_MAX {
            let message = format!("has {size} bytes, at most {TASK_FILE_BYTES_MAX} are read");
            return Err(failed(&path, io::Error::new(io::ErrorKind::FileTooLarge, message)));
        }
        std::fs::read_to_string(&path).map_err(|error| failed(&path, error))
    };
    if folder.join(TASK_FILE).is_file() {
        return read(TASK_FILE).map(RepositoryTests::TaskFile);
    }
    let mut names = Vec::new();
    names_below(folder, "", 0, &mut names).map_err(|error| failed(folder, error))?;
    let names = || names.iter().map(String::as_str);
    let format = discover::format_of(names()).map_err(|none| LocalError::NoTests(folder.to_owned(), none))?;
    let wanted = ForeignTests::wanted(&format, names());
    let texts = wanted.into_iter().map(|name| Ok((name.to_owned(), read(name)?)));
    let texts = texts.collect::<Result<_, LocalError>>()?;
    Ok(RepositoryTests::Foreign(ForeignTests { format, texts }))
}

/// The files below a folder, without git's own and without following links.
fn names_below(folder: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> io::Result<()> {
    if depth > FOLDER_DEPTH_MAX {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != ".git" {
            names_below(&entry.path(), &format!("{name}/"), depth + 1, names)?;
        } else if kind.is_file() && names.len() < FILES_MAX {
            names.push(name);
        }
    }
    Ok(())
}
