//! Task repositories: real git repositories with one commit.

use std::{fs, path::Path, process::Command};

/// Makes a repository in the folder with these files.
pub(crate) fn make(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "--quiet", "--initial-branch", "main"]);
    commit(folder, files);
}

/// Writes files and commits them.
pub(crate) fn commit(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    git(folder, &["add", "--all"]);
    git(
        folder,
        &["-c", "user.name=Drill", "-c", "user.email=drill@example.org", "commit", "--quiet", "-m", "Change"],
    );
}

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A task file that runs these lines in this environment.
pub(crate) fn task_file(name: &str, environment: &str, run: &str) -> String {
    format!(
        "name: {name}\n\
         inputs:\n  \
           nvr: {{type: string, default: none}}\n  \
           arch: {{type: string, default: none}}\n\
         environment:\n  - {environment}\n\
         run: |\n{}\n\
         timeout: {{run: 5m}}\n\
         results: {{testcase: drill.{name}, exit: {{0: passed, 1: failed, \"*\": error}}}}\n\
         retry: {{on: [error, lost], max: 10}}\n",
        run.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    )
}
