//! What a task's commands see around them: variables, inputs, and whether `prepare` sees them at all.

use super::{Halt, Job, Source};
use crate::{
    executor::{INPUTS_FILE, OWN_DIR, UNWRITTEN_MTIME},
    fetch::Fetched,
    secrets::{Secret, Secrets},
};
use model::{
    ErrorReason, Outcome,
    task::Trust,
    task_file::{Environment, TaskFile, is_inner_path, substitute},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The longest value of a variable in bytes; longer inputs are only in the JSON file. Linux takes 128 KiB.
pub const VARIABLE_BYTES_MAX: usize = 64 * 1024;
/// The largest script that is read to see what it uses, in bytes.
const SCRIPT_BYTES_MAX: u64 = 1024 * 1024;

/// The secrets that a task gets: those that its registration names, if it is trusted.
pub(super) fn secrets(job: &Job, ours: &Secrets) -> Result<Arc<[Secret]>, Halt> {
    let granted: &[String] = if job.trust == Trust::Trusted { &job.secrets } else { &[] };
    if let Some(name) = job.file.secrets.iter().find(|name| !granted.contains(name)) {
        let why = match job.trust {
            Trust::Untrusted => "the task is not trusted, and gets none",
            Trust::Trusted if matches!(job.source, Source::Folder(_)) => "give it by --secret NAME=FILE",
            Trust::Trusted => "it is not granted to the task",
        };
        return Err(Halt::bad_task(format!("the task needs the secret `{name}`: {why}")));
    }
    if granted.is_empty() {
        return Ok(Arc::default());
    }
    let repo = match &job.source {
        Source::Git { repo, .. } => Some(repo.git.as_str()),
        Source::Folder(_) => None,
    };
    // One that is discovered has the name of the task that it comes from in front.
    let name = job.name.as_str().split('/').next().unwrap_or_default();
    ours.give(granted, name, repo)
        .map_err(|reason| Halt { outcome: Outcome::Error(ErrorReason::NoWorker), reason })
}

/// The task file with the inputs in all places where they are substituted.
pub(super) fn filled_in(file: &TaskFile, inputs: &Map<String, Value>) -> Result<TaskFile, Halt> {
    let mut file = file.clone();
    let fill = |text: &mut String| *text = substitute(text, inputs);
    fill(&mut file.name);
    file.results.testcase.iter_mut().for_each(fill);
    file.results.path.iter_mut().for_each(fill);
    file.artifacts.paths.iter_mut().for_each(fill);
    for environment in &mut file.environment {
        match environment {
            Environment::Container(wish) => wish.image.iter_mut().for_each(fill),
            Environment::Vm(wish) => {
                wish.texts_mut().into_iter().for_each(fill);
                wish.files_mut().for_each(fill);
            }
            Environment::Sandbox(wish) | Environment::Local(wish) => wish.programs.iter_mut().for_each(fill),
            Environment::External(wish) => wish.with.values_mut().for_each(|value| fill_value(value, inputs)),
        }
    }
    let paths = file.results.path.iter().chain(&file.artifacts.paths);
    match paths.into_iter().find(|path| !is_inner_path(path)) {
        Some(path) => {
            Err(Halt::bad_task(format!("`{path}` leaves the work folder once the inputs are filled in")))
        }
        None => Ok(file),
    }
}

/// Completes the wishes for machines: their files are the task's, below its folder, and their architecture is
/// the one that the task needs.
pub(super) fn complete_machines(file: &mut TaskFile, dir: &str) -> Result<(), Halt> {
    let arch = file.needs.arch.clone();
    for environment in &mut file.environment {
        let Environment::Vm(wish) = environment else { continue };
        if let Some(path) = wish.files_mut().find(|path| !is_inner_path(path)) {
            let message = format!("`{path}` leaves the work folder once the inputs are filled in");
            return Err(Halt::bad_task(message));
        }
        if !dir.is_empty() {
            wish.files_mut().for_each(|path| *path = format!("{dir}/{path}"));
        }
        wish.arch = wish.arch.take().filter(|arch| !arch.is_empty()).or_else(|| arch.clone());
    }
    Ok(())
}

fn fill_value(value: &mut Value, inputs: &Map<String, Value>) {
    match value {
        Value::String(text) => *text = substitute(text, inputs),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_value(item, inputs)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill_value(field, inputs)),
        _ => {}
    }
}

/// The variables of `run` and `cleanup`.
pub(super) fn variables(job: &Job) -> BTreeMap<String, String> {
    let mut variables = input_variables(&job.inputs);
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    set("TASKBOT_TASK_ID", job.held.task.to_string());
    set("TASKBOT_TASK_NAME", job.name.to_string());
    set("TASKBOT_ATTEMPT", job.held.attempt.attempt.to_string());
    if let Some(item) = &job.item {
        set("TASKBOT_ITEM_TYPE", item.kind.clone());
        set("TASKBOT_ITEM_ID", item.id.clone());
    }
    if let Some(traceparent) = &job.traceparent {
        set("TRACEPARENT", traceparent.clone());
    }
    variables.retain(|_, value| !value.contains('\0') && value.len() <= VARIABLE_BYTES_MAX);
    variables
}

/// `TASKBOT_INPUT_<NAME>` for every input: a text as it is, everything else as JSON.
fn input_variables(inputs: &Map<String, Value>) -> BTreeMap<String, String> {
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let name = |name: &str| format!("TASKBOT_INPUT_{}", name.to_ascii_uppercase());
    inputs.iter().map(|(key, input)| (name(key), value(input))).collect()
}

/// The inputs that are too long for a variable or hold a NUL.
pub(super) fn only_in_file(inputs: &Map<String, Value>) -> Vec<String> {
    let mut variables = input_variables(inputs);
    variables.retain(|_, value| value.contains('\0') || value.len() > VARIABLE_BYTES_MAX);
    variables.into_keys().collect()
}

/// Writes the inputs as JSON below a folder that is added to the work folder.
pub(super) fn write_inputs(folder: &Path, inputs: &Map<String, Value>) -> Result<(), Halt> {
    std::fs::create_dir_all(folder.join(OWN_DIR))?;
    let text = serde_json::to_vec_pretty(inputs).map_err(|error| Halt::infra(error.to_string()))?;
    std::fs::write(folder.join(INPUTS_FILE), text)?;
    Ok(mark_unwritten(&folder.join(INPUTS_FILE))?)
}

/// Gives a file the time by which it is seen in the end whether anybody wrote it.
pub(super) fn mark_unwritten(path: &Path) -> std::io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(UNWRITTEN_MTIME);
    std::fs::File::open(path)?.set_modified(time)
}

/// What `prepare` sees, and under which key what it installs is kept for other attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PrepareView {
    /// Whether it sees the inputs and the fetched files.
    pub(super) sees_inputs: bool,
    /// The variables.
    pub(super) variables: BTreeMap<String, String>,
    /// The key; none for a repository without a commit.
    pub(super) cache_key: Option<String>,
}

/// `prepare` sees the inputs and the fetched files if its lines, or scripts of the repository that its lines
/// name, speak of `TASKBOT_…` or of a fetched path. If not, they are hidden from it, so that what it installs
/// is the same for all tasks of the commit and can be kept for them.
pub(super) fn prepare_view(job: &Job, work: &Path, fetched: &[Fetched]) -> PrepareView {
    let lines = &job.file.prepare;
    let folder = work.join(&job.dir);
    let scripts =
        lines.iter().flat_map(|line| line.split(is_no_path)).filter_map(|word| script(&folder, word));
    let speaks = |text: &str| {
        let spoken = |path: &str| text.contains(path);
        spoken("TASKBOT_") || spoken(OWN_DIR) || fetched.iter().any(|file| spoken(&trace(file, &job.dir)))
    };
    let sees_inputs = lines.iter().any(|line| speaks(line)) || scripts.into_iter().any(|text| speaks(&text));
    let variables = if sees_inputs {
        let mut variables = input_variables(&job.inputs);
        variables.retain(|_, value| !value.contains('\0') && value.len() <= VARIABLE_BYTES_MAX);
        variables
    } else {
        BTreeMap::new()
    };
    let cache_key = job.source.commit().map(|commit| {
        if !sees_inputs {
            return commit.to_owned();
        }
        let files: Vec<_> = fetched.iter().map(|file| (&file.to, &file.sha256)).collect();
        hex::encode(Sha256::digest(serde_json::json!([commit, job.inputs, files]).to_string()))
    });
    PrepareView { sees_inputs, variables, cache_key }
}

fn is_no_path(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '&' | '|' | '(' | ')' | '<' | '>' | '`')
}

fn script(folder: &Path, word: &str) -> Option<String> {
    let word = word.strip_prefix("./").unwrap_or(word);
    if !is_inner_path(word) {
        return None;
    }
    let path = folder.join(word);
    let found = std::fs::symlink_metadata(&path).ok()?;
    // What is too large to read may say anything.
    if found.is_file() && found.len() > SCRIPT_BYTES_MAX {
        return Some(OWN_DIR.to_owned());
    }
    if !found.is_file() {
        return found.is_symlink().then(|| OWN_DIR.to_owned());
    }
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// What a script would say to use a fetched file: its folder with a slash, or its name.
fn trace(file: &Fetched, dir: &str) -> String {
    let to = file.to.strip_prefix(dir).unwrap_or(&file.to).trim_start_matches('/');
    to.split_once('/').map_or_else(|| to.to_owned(), |(folder, _)| format!("{folder}/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::tests::job;

    #[test]
    fn prepare_sees_inputs_only_if_it_speaks_of_them() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("plain.sh", "dnf -y install rpmlint  # checks packages"),
            ("reads.sh", "echo $TASKBOT_INPUT_NVR"),
            ("uses.sh", "dnf -y install packages/*.rpm"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let fetched =
            Fetched { to: "packages/a.rpm".into(), sha256: "00".into(), size_bytes: 1, from_cache: false };
        let check = |line: &str, expect: bool| {
            let mut job = job("name: t\nrun: 'true'\ninputs: {nvr: {type: string}}\n");
            job.inputs.insert("nvr".into(), "a-1-1".into());
            job.file.prepare = vec![line.to_owned()];
            job.source = Source::Folder("/".into());
            let view = prepare_view(&job, folder.path(), std::slice::from_ref(&fetched));
            assert_eq!(view.sees_inputs, expect, "{line}");
            assert_eq!(view.variables.contains_key("TASKBOT_INPUT_NVR"), expect);
            assert_eq!(view.cache_key, None, "a folder has no commit");
        };
        check("dnf -y install rpmlint", false);
        check("sh ./plain.sh", false);
        check("sh plain.sh && true", false);
        check("sh ./reads.sh", true);
        check("true;sh './uses.sh'", true);
        check("rpm -i packages/a.rpm", true);
        check("cat .taskbot/inputs.json", true);
        check("sh ./link", true);
        check("echo \"$TASKBOT_INPUT_NVR\"", true);
    }

    #[test]
    fn inputs_are_variables_and_texts() {
        let mut job = job(
            "name: t\nrun: 'true'\ninputs: {a: {type: string}, b: {type: list}, c: {type: string}}\nresults: {testcase: 'x.${a}'}\nartifacts: {paths: ['${a}/*.log']}\n",
        );
        job.inputs = serde_json::from_str(r#"{"a": "x y", "b": [1, "z"], "c": "n\u0000l"}"#).unwrap();
        let variables = variables(&job);
        assert_eq!(variables["TASKBOT_INPUT_A"], "x y");
        assert_eq!(variables["TASKBOT_INPUT_B"], r#"[1,"z"]"#);
        assert!(!variables.contains_key("TASKBOT_INPUT_C"));
        assert_eq!(only_in_file(&job.inputs), ["TASKBOT_INPUT_C"]);
        assert_eq!(variables["TASKBOT_ATTEMPT"], "1");
        let filled = filled_in(&job.file, &job.inputs).unwrap();
        assert_eq!((filled.testcase(), filled.artifacts.paths[0].as_str()), ("x.x y", "x y/*.log"));
        job.inputs.insert("a".into(), "../..".into());
        assert!(filled_in(&job.file, &job.inputs).unwrap_err().reason.contains("leaves the work folder"));
    }
}
