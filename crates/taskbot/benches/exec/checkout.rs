//! A task repository checked out from the mirror that the worker keeps, against plain clones.
//!
//! The repository has a history of many commits over many files, and lies on this disk: a clone over a network
//! would be the slower by it. One floor is `git clone` with its history and worktree, the other
//! `git clone --reference` from a mirror.

use crate::{measure::print, quantile::median};
use model::task::Repo;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};
use worker::git::{GitCache, GitConfig, TreeLimits};

const ROUNDS: usize = 15;
const WARM_UP: usize = 2;
/// How large the repository is.
const FILES: usize = 200;
const COMMITS: usize = 300;
const FILE_BYTES: usize = 8 * 1024;

pub(crate) async fn run() {
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("source");
    let commit = make(&source);
    let mirror = temp.path().join("mirror");
    git(temp.path(), &["clone", "--quiet", "--mirror", path(&source), path(&mirror)]);
    let config = GitConfig { local_roots: vec![temp.path().to_owned()], ..GitConfig::default() };
    let cache = GitCache::new(temp.path().join("mirrors"), config).unwrap();
    let repo = Repo { git: source.display().to_string(), reference: None, path: None };
    let url = format!("file://{}", source.display());
    let into = temp.path().join("into");
    let mut times: [Vec<f64>; 3] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let ours =
            timed(async || cache.checkout(&repo, &commit, &into, TreeLimits::default()).await.unwrap()).await;
        fs::remove_dir_all(&into).unwrap();
        let plain = timed(async || git(temp.path(), &["clone", "--quiet", &url, path(&into)])).await;
        fs::remove_dir_all(&into).unwrap();
        let arguments = ["clone", "--quiet", "--reference", path(&mirror), &url, path(&into)];
        let reference = timed(async || git(temp.path(), &arguments)).await;
        fs::remove_dir_all(&into).unwrap();
        if round >= WARM_UP {
            times.iter_mut().zip([ours, plain, reference]).for_each(|(times, took)| times.push(took));
        }
    }
    let [ours, plain, reference] = times.map(median);
    print("checkout from the mirror, git clone", ours, "ms", Some(plain));
    print("checkout from the mirror, git clone --reference", ours, "ms", Some(reference));
}

async fn timed(work: impl AsyncFnOnce()) -> f64 {
    let begun = Instant::now();
    work().await;
    begun.elapsed().as_secs_f64() * 1000.0
}

/// Makes the repository; gives its newest commit.
fn make(folder: &Path) -> String {
    fs::create_dir(folder).unwrap();
    git(folder, &["init", "--quiet", "--initial-branch=main"]);
    // By one stream of commits: hundreds of `git commit` would take a minute.
    let mut stream = Vec::new();
    let mut seed = 1_u32;
    let mut text = || -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + u8::try_from(seed >> 28).unwrap()
        };
        (0..FILE_BYTES).map(|_| next()).collect()
    };
    for commit in 0..COMMITS {
        stream.extend(
            format!(
                "commit refs/heads/main\ncommitter b <b@localhost> {} +0000\ndata 1\nx\n",
                1_700_000_000 + commit
            )
            .bytes(),
        );
        let files = if commit == 0 { 0..FILES } else { commit % FILES..commit % FILES + 1 };
        for file in files {
            stream.extend(format!("M 644 inline d{}/f{file}\ndata {FILE_BYTES}\n", file % 10).bytes());
            stream.extend(text());
            stream.push(b'\n');
        }
    }
    let input = folder.join("stream");
    fs::write(&input, stream).unwrap();
    let mut import = Command::new("git");
    import.current_dir(folder).args(["fast-import", "--quiet"]).stdin(fs::File::open(&input).unwrap());
    assert!(import.status().unwrap().success());
    fs::remove_file(input).unwrap();
    let head = Command::new("git").current_dir(folder).args(["rev-parse", "main"]).output().unwrap();
    String::from_utf8(head.stdout).unwrap().trim().to_owned()
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git").current_dir(folder).args(arguments).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "git {arguments:?}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
