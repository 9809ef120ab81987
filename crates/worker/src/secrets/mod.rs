//! Secrets of tasks: values that a worker's configuration names as files.
//!
//! Trusted tasks get them as files in memory; they are never in variables, arguments, messages or on a disk of
//! ours, and [`mask`] keeps them out of what is kept of an attempt.

pub mod mask;

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The shortest secret in bytes, line ends apart: a shorter one cannot be masked without masking half the log.
pub const SECRET_BYTES_MIN: usize = 8;
/// The longest secret in bytes.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Before the name of a secret, the label that workers offer that have it and that its tasks need.
pub const SECRET_LABEL: &str = model::task_file::SECRET_LABEL;
/// Where secrets are, where an executor can put them at a place of its own choice.
pub(crate) const SECRETS_DIR: &str = "/run/taskbot-secrets";
/// The variable that names the folder.
pub(crate) const SECRETS_VARIABLE: &str = "TASKBOT_SECRETS";
/// How large the folder's file system is, in bytes.
pub(crate) const SECRETS_FOLDER_BYTES: u64 = 4 << 20;
/// Stands before what runs commands: takes what [`payload`] makes from standard input into files. Only what
/// every shell has by itself is used, so that no value becomes an argument of a program.
pub(crate) const TAKE_IN: &str = r#"(
  umask 077
  cd -- "$TASKBOT_SECRETS" || exit 1
  while IFS=' ' read -r name value; do
    [ "$name" != . ] || exit 0
    printf "$value" >"$name" || exit 1
  done
  exit 1
) || { echo "the secrets cannot be put into memory"; exit 125; }
"#;

/// A secret with its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name; a plain file name.
    pub name: String,
    /// Its value, as it is in its file.
    pub value: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where a secret is, and which tasks may have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSource {
    /// The file that holds it.
    pub file: PathBuf,
    /// The names of tasks that may have it; `*` is any.
    pub tasks: BTreeSet<String>,
    /// The repositories that may have it; what ends in `/` is a beginning. Empty for any.
    pub repos: BTreeSet<String>,
}

impl SecretSource {
    fn is_for(&self, task: &str, repo: Option<&str>) -> bool {
        let named = self.tasks.contains("*") || self.tasks.contains(task);
        let fits = |listed: &String, repo: &str| {
            if listed.ends_with('/') { repo.starts_with(listed.as_str()) } else { repo == listed }
        };
        // A folder of the caller's own has no repository.
        let from = self.repos.is_empty()
            || repo.is_some_and(|repo| self.repos.iter().any(|listed| fits(listed, repo)));
        named && from
    }

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, without the value.
    pub fn read(&self, name: &str) -> Result<Secret, String> {
        let path = self.file.display();
        let wrong = |why: String| format!("secret `{name}`: {path}: {why}");
        let file = fs::File::open(&self.file).map_err(|error| wrong(error.to_string()))?;
        let meta = file.metadata().map_err(|error| wrong(error.to_string()))?;
        if !meta.is_file() {
            return Err(wrong("it is no file".to_owned()));
        }
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(wrong(format!("everybody may use it (mode {mode:o}); chmod o= {path}")));
        }
        let mut value = Vec::new();
        let read = file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut value);
        read.map_err(|error| wrong(error.to_string()))?;
        if value.len() > SECRET_BYTES_MAX {
            return Err(wrong(format!("it has more than {SECRET_BYTES_MAX} bytes")));
        }
        let bytes = value.iter().filter(|byte| !mask::is_line_end(**byte)).count();
        if bytes < SECRET_BYTES_MIN {
            return Err(wrong(format!(
                "it has {bytes} bytes, at least {SECRET_BYTES_MIN} are needed: so short a text cannot be masked"
            )));
        }
        Ok(Secret { name: name.to_owned(), value })
    }
}

/// The secrets that a worker has, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<String, SecretSource>);

impl Secrets {
    /// Reads all of them, and forgets them.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn check(&self) -> Result<(), String> {
        self.0.iter().try_for_each(|(name, source)| source.read(name).map(drop))
    }

    /// The labels that say which secrets a worker has.
    pub fn labels(&self) -> impl Iterator<Item = String> {
        self.0.keys().map(|name| format!("{SECRET_LABEL}{name}"))
    }

    /// Reads those that a task may have.
    ///
    /// # Errors
    /// One of them is not here, or not for this task.
    pub fn give(&self, names: &[String], task: &str, repo: Option<&str>) -> Result<Arc<[Secret]>, String> {
        let one = |name: &String| {
            let source =
                self.0.get(name).ok_or_else(|| format!("this worker does not have the secret `{name}`"))?;
            if !source.is_for(task, repo) {
                let from = repo.map(|repo| format!(" from {repo}")).unwrap_or_default();
                return Err(format!(
                    "this worker's configuration does not give the secret `{name}` to task {task}{from}"
                ));
            }
            source.read(name)
        };
        names.iter().map(one).collect()
    }
}

/// What is sent to [`TAKE_IN`].
pub(crate) fn payload(secrets: &[Secret]) -> String {
    let mut text = String::new();
    for secret in secrets {
        text.push_str(&secret.name);
        text.push(' ');
        text.push_str(&octal(&secret.value));
        text.push('\n');
    }
    text.push_str(".\n");
    text
}

/// Bytes as the format of `printf`.
pub(crate) fn octal(value: &[u8]) -> String {
    value.iter().fold(String::with_capacity(value.len() * 4), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "\\{byte:03o}");
        text
    })
}

/// The folder in this machine's memory for an attempt that runs without a file system of its own.
pub(crate) fn folder_in_memory(label: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("taskbot-secrets-{label}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    fn source(folder: &Path, value: &[u8], mode: u32) -> SecretSource {
        let file = folder.join(format!("s{}-{mode:o}", value.len()));
        fs::write(&file, value).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        SecretSource { file, tasks: ["*".to_owned()].into(), repos: BTreeSet::new() }
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let check = |value: &[u8], mode: u32, expect: &str| {
            let read = source(temp.path(), value, mode).read("token");
            let said = read.map_or_else(|error| error, |secret| format!("{secret:?}"));
            assert!(said.contains(expect), "{said}");
            assert!(!said.contains("hunter"), "{said}");
        };
        check(b"hunter2-and-more\n", 0o600, "Secret { name: \"token\", .. }");
        check(b"hunter2-and-more\n", 0o640, "Secret {");
        check(b"hunter2-and-more\n", 0o644, "everybody may use it (mode 644)");
        check(b"hunter2\n", 0o600, "it has 7 bytes, at least 8 are needed");
        check(b"a\n\n\n\n\n\n\n\nb", 0o600, "it has 2 bytes");
        check(&vec![b'x'; SECRET_BYTES_MAX + 1], 0o600, "more than 16384 bytes");
        let gone = SecretSource { file: temp.path().join("gone"), ..SecretSource::default() };
        assert!(gone.read("token").unwrap_err().contains("No such file"));
    }

    #[test]
    fn only_listed_tasks_get_a_secret() {
        let temp = tempfile::tempdir().unwrap();
        let check = |tasks: &[&str], repos: &[&str], task: &str, repo: Option<&str>, expect: bool| {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let source = SecretSource {
                tasks: owned(tasks),
                repos: owned(repos),
                ..source(temp.path(), b"12345678", 0o600)
            };
            let secrets = Secrets([("token".to_owned(), source)].into());
            let given = secrets.give(&["token".to_owned()], task, repo);
            assert_eq!(given.is_ok(), expect, "{tasks:?} {repos:?} {task} {repo:?}");
        };
        let (ours, theirs) = (Some("https://g.example/qa/lint"), Some("https://g.example/qaz/lint"));
        check(&["lint"], &[], "lint", ours, true);
        check(&["lint"], &[], "lint2", ours, false);
        check(&["*"], &[], "lint2", ours, true);
        check(&[], &["https://g.example/qa/"], "lint", ours, false);
        check(&["*"], &["https://g.example/qa/"], "lint", ours, true);
        check(&["*"], &["https://g.example/qa/"], "lint", theirs, false);
        check(&["*"], &["https://g.example/qa/lint"], "lint", ours, true);
        check(&["*"], &["https://g.example/qa/li"], "lint", ours, false);
        check(&["*"], &["https://g.example/qa/"], "lint", None, false);
        assert!(Secrets::default().give(&["token".to_owned()], "lint", ours).is_err());
        assert_eq!(Secrets::default().give(&[], "lint", ours).unwrap().len(), 0);
    }

    #[test]
    fn a_shell_takes_every_byte_in() {
        let temp = tempfile::tempdir().unwrap();
        let all: Vec<u8> = (0..=255).chain(*b"%s\\n 'x'\n\n").collect();
        let secrets = [
            Secret { name: "all".to_owned(), value: all.clone() },
            Secret { name: "two".to_owned(), value: b"12345678".to_vec() },
        ];
        let mut child = Command::new("sh")
            .args(["-c", &format!("{TAKE_IN}ls -l \"$TASKBOT_SECRETS\"; env")])
            .env(SECRETS_VARIABLE, temp.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(payload(&secrets).as_bytes()).unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(
            said.contains("-rw-------") && !said.contains("12345678") && !said.contains("\\061"),
            "{said}"
        );
        assert_eq!(fs::read(temp.path().join("all")).unwrap(), all);
        assert_eq!(fs::read(temp.path().join("two")).unwrap(), b"12345678");
        let cut = Command::new("sh")
            .args(["-c", &format!("{TAKE_IN}echo on")])
            .env(SECRETS_VARIABLE, temp.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!((cut.status.code(), cut.stdout.ends_with(b"into memory\n")), (Some(125), true));
    }
}
