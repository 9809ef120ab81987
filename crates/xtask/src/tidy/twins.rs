//! Each shipped task repository stands alone when it is cloned, so that some files are in two of them: kept equal here.

use super::{expect_none, root};
use std::fs;

/// The same file in several task repositories.
const TWINS: &[(&str, &[&str])] = &[
    ("analysis.py", &["static-analysis", "python-c-api"]),
    ("unpack.py", &["static-analysis", "python-c-api"]),
    ("python.sh", &["depcheck", "upgradepath"]),
    ("repodata.py", &["depcheck", "upgradepath"]),
    ("lib.sh", &["anaconda-test-iso", "kernel-boot-files"]),
];

#[test]
fn files_of_several_task_repositories_are_equal() {
    let read = |repo: &str, name: &str| {
        let path = root().join("deploy/task-repos").join(repo).join(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    expect_none(TWINS.iter().flat_map(|(name, repos)| {
        let first = read(repos[0], name);
        let others = repos[1..].iter().filter(move |repo| read(repo, name) != first);
        others.map(move |repo| {
            format!("deploy/task-repos/{repo}/{name}: differs from {}'s; change both, since each repository is cloned alone", repos[0])
        })
    }));
}
