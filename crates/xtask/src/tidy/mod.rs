//! Checks of the tree: what the compiler and the linter cannot know about this project.
//!
//! Each is a test that lists all its findings at once, with file and line and what would be right.

mod dependencies;
mod layout;
mod licences;
mod links;
mod source;
mod twins;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment;

/// Folders that cargo and git fill.
const NOT_OURS: &[&str] = &["target", ".git", ".test-services"];

/// The root folder of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below the root").to_owned()
}

/// A text file of the tree.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }

    /// The lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All text files, tracked by git or not; without asking git, which refuses checkouts of other users.
fn files() -> Vec<File> {
    let root = root();
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            let path = entry.path();
            let ours = folder != root || NOT_OURS.iter().all(|name| entry.file_name() != *name);
            if kind.is_dir() && ours {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Fails with all findings, one a line.
fn expect_none(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// What cargo prints, run in the root folder.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(environment::cargo()).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
