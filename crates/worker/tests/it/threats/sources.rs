//! Hostile repositories and their addresses: nothing of them runs on this host, and they lead nowhere else.

use super::{Stand, Victim, Went};
use model::{
    TaskId,
    attempt::AttemptRef,
    protocol::Held,
    requirements::ExecutorKind,
    task::{Repo, Trust},
    task_file,
};
use serde_json::Map;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Instant,
};
use taskbot_worker::{
    git::GitError,
    logs::AttemptLog,
    runner::{Control, Folders, Job, Source},
};

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"])
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository whose task lists its files and searches them for what was kept elsewhere.
fn repository(at: &Path, name: &str) -> PathBuf {
    let path = at.join(name);
    fs::create_dir_all(&path).unwrap();
    git(&path, &["init", "--quiet", "--initial-branch=main", "."]);
    fs::write(path.join("README"), "a task\n").unwrap();
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "-m", "first"]);
    path
}

/// Runs the task of a repository, as an attempt that was resolved by whoever sent it.
async fn run(stand: &Stand, address: &str, commit: &str) -> Went {
    let at = tempfile::Builder::new().prefix("job-").tempdir_in(stand.here.path()).unwrap();
    let yaml = format!(
        "name: t\nenvironment: {}\nrun: 'find . | sort; ! grep -rs kept .; echo ran'",
        stand.environment()
    );
    let (file, _) = task_file::parse("task.yaml", &yaml).unwrap();
    let repo = Repo { git: address.to_owned(), reference: None, path: None };
    let job = Job {
        held: Held {
            task: TaskId::new(uuid::Uuid::from_bytes(super::random())),
            attempt: AttemptRef { attempt: 1, fence: 1 },
        },
        name: "t".into(),
        item: None,
        inputs: Map::new(),
        trust: Trust::Untrusted,
        secrets: Vec::new(),
        file,
        source: Source::Git { repo, commit: commit.to_owned() },
        dir: String::new(),
        hold: None,
        timeout_cap: None,
        traceparent: None,
    };
    let folders = Folders { work: at.path().join("work"), output: at.path().join("output") };
    fs::create_dir_all(&folders.work).unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    let out = Box::new(move |bytes: &[u8]| kept.lock().unwrap().extend_from_slice(bytes));
    let began = Instant::now();
    let clock = Arc::clone(&stand.runner.clock);
    let ended =
        stand.runner.run_attempt(&job, &folders, &AttemptLog::new(clock, out), &Control::default()).await;
    let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
    Went { ended, log, took: began.elapsed() }
}

#[tokio::test]
async fn addresses() {
    let stand = Stand::new(ExecutorKind::Sandbox);
    let victim = Victim::new();
    let bait = victim.path().join("new");
    let commit = "0".repeat(40);
    for (address, reason) in [
        (format!("ext::sh -c touch% {}", bait.display()), "holds blanks"),
        (format!("ext::touch%20{}", bait.display()), "has protocol `ext`"),
        ("fd::17/foo".to_owned(), "has protocol `fd`"),
        (format!("--upload-pack=touch {}", bait.display()), "holds blanks"),
        (format!("--upload-pack=touch${{IFS}}{}", bait.display()), "cannot be read"),
        (format!("ssh://-oProxyCommand=touch${{IFS}}{}/x", bait.display()), ""),
        (format!("file://{}", victim.path().display()), "not below a folder"),
        (victim.path().display().to_string(), "not below a folder"),
        (format!("{}/../{}", stand.here.path().display(), "etc"), ""),
        ("https://127.0.0.1/x.git".to_owned(), "private network"),
        ("https://localhost/x.git".to_owned(), "private network"),
        ("https://169.254.169.254/x.git".to_owned(), "private network"),
        ("https://[::ffff:169.254.169.254]/x.git".to_owned(), "private network"),
        ("https://[64:ff9b::7f00:1]/x.git".to_owned(), "private network"),
        ("https://198.18.0.1/x.git".to_owned(), "private network"),
        ("ssh://git@127.0.0.1/x.git".to_owned(), "private network"),
        ("git://127.0.0.1/x.git".to_owned(), "protocol `git` is not allowed"),
    ] {
        let went = run(&stand, &address, &commit).await;
        let (outcome, said) = went.outcome();
        assert_eq!(outcome, "error(bad_task)", "{address}: {said}");
        assert!(said.contains(reason), "{address}: {said}");
        victim.is_whole();
    }
    stand.clean().await;
}

/// Settings, hooks and filters that would run something; each leaves a bait behind if it does.
#[tokio::test]
async fn hooks_filters_lfs_and_submodules() {
    let stand = Stand::new(ExecutorKind::Sandbox);
    let victim = Victim::new();
    let evil = stand.here.path().join("evil.sh");
    fs::write(&evil, format!("#!/bin/sh\ntouch {}/new\ncat\n", victim.path().display())).unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let evil = evil.to_str().unwrap();
    let path = repository(stand.here.path(), "hostile");
    for hook in ["post-checkout", "pre-upload", "reference-transaction", "post-update", "post-index-change"] {
        symlink(evil, path.join(".git/hooks").join(hook)).unwrap();
    }
    for key in [
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "core.gitProxy",
        "core.askPass",
        "uploadpack.packObjectsHook",
        "filter.lfs.smudge",
        "filter.lfs.process",
        "filter.lfs.clean",
        "filter.x.smudge",
        "tar.tar.command",
        "uploadarchive.x",
        "alias.archive",
        "diff.external",
        "gpg.program",
    ] {
        git(&path, &["config", key, evil]);
    }
    fs::write(path.join(".gitattributes"), "* filter=x diff=x merge=x\n*.bin filter=lfs diff=lfs\n").unwrap();
    fs::write(
        path.join(".lfsconfig"),
        format!(
            "[lfs]\n\turl = file://{}\n[lfs \"customtransfer.x\"]\n\tpath = {evil}\n",
            victim.path().display()
        ),
    )
    .unwrap();
    fs::write(path.join("data.bin"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        .unwrap();
    let modules = |text: &str| fs::write(path.join(".gitmodules"), text).unwrap();
    modules(&format!("[submodule \"a\"]\n\tpath = a\n\turl = https://forge.example/{evil}\n"));
    git(
        &path,
        &[
            "-c",
            "filter.lfs.process=",
            "-c",
            "filter.lfs.clean=cat",
            "-c",
            "filter.x.clean=cat",
            "add",
            "--all",
        ],
    );
    let head = git(&path, &["rev-parse", "HEAD"]);
    git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},a")]);
    git(&path, &["commit", "--quiet", "-m", "hostile"]);
    let commit = git(&path, &["rev-parse", "HEAD"]);
    fs::remove_file(victim.path().join("new")).ok();
    let went = run(&stand, path.to_str().unwrap(), &commit).await;
    went.is("passed", "").logs("ran").logs("./data.bin");
    victim.is_whole();
    // Those that git itself knows to be an attack are not even taken.
    for text in [
        format!("[submodule \"a\"]\n\tpath = a\n\turl = ext::{evil}\n\tupdate = !{evil}\n"),
        format!("[submodule \"../../x\"]\n\tpath = a\n\turl = https://forge.example/{evil}\n"),
        format!("[submodule \"a\"]\n\tpath = a\n\turl = -u{evil}\n"),
    ] {
        modules(&text);
        git(&path, &["-c", "filter.x.clean=cat", "add", ".gitmodules"]);
        git(&path, &["commit", "--quiet", "-m", "attack"]);
        let commit = git(&path, &["rev-parse", "HEAD"]);
        fs::remove_file(victim.path().join("new")).ok();
        let went = run(&stand, path.to_str().unwrap(), &commit).await;
        went.is("error(bad_task)", "broken or forged objects");
        victim.is_whole();
    }
    stand.clean().await;
}

/// A repository on this machine that leads to another, which nobody allowed.
#[tokio::test]
async fn repositories_that_lead_to_others() {
    let stand = Stand::new(ExecutorKind::Sandbox);
    let victim = tempfile::tempdir().unwrap();
    let secret = repository(victim.path(), "secret");
    fs::write(secret.join("secret"), "kept\n").unwrap();
    git(&secret, &["add", "--all"]);
    git(&secret, &["commit", "--quiet", "-m", "secret"]);
    let commit = git(&secret, &["rev-parse", "HEAD"]);
    let at = |name: &str| stand.here.path().join(name);
    // Objects that are elsewhere.
    let alternates = repository(stand.here.path(), "alternates");
    fs::write(
        alternates.join(".git/objects/info/alternates"),
        format!("{}\n", secret.join(".git/objects").display()),
    )
    .unwrap();
    git(&alternates, &["update-ref", "refs/heads/stolen", &commit]);
    // A repository that is elsewhere.
    fs::create_dir(at("pointer")).unwrap();
    fs::write(at("pointer").join(".git"), format!("gitdir: {}\n", secret.join(".git").display())).unwrap();
    fs::create_dir(at("linked")).unwrap();
    symlink(secret.join(".git"), at("linked").join(".git")).unwrap();
    let shared = repository(stand.here.path(), "shared");
    fs::remove_dir_all(shared.join(".git/objects")).unwrap();
    symlink(secret.join(".git/objects"), shared.join(".git/objects")).unwrap();
    git(&shared, &["update-ref", "refs/heads/main", &commit]);
    let common = repository(stand.here.path(), "common");
    fs::write(common.join(".git/commondir"), format!("{}\n", secret.join(".git").display())).unwrap();
    for name in ["alternates", "pointer", "linked", "shared", "common"] {
        let went = run(&stand, at(name).to_str().unwrap(), &commit).await;
        let (outcome, reason) = went.outcome();
        assert_eq!(outcome, "error(bad_task)", "{name}: {reason}\n{}", went.log);
        assert!(reason.contains("leads out of"), "{name}: {reason}");
        let repo = Repo { git: at(name).display().to_string(), reference: Some("main".into()), path: None };
        let resolved = stand.runner.git.resolve(&repo).await;
        assert!(matches!(resolved, Err(GitError::Denied(_))), "{name}: {resolved:?}");
    }
    stand.clean().await;
}

/// Locks and halves of packs that a killed git leaves would keep every later task from its repository.
#[tokio::test]
async fn a_fetch_that_was_killed_keeps_nobody_from_the_repository() {
    let stand = Stand::new(ExecutorKind::Sandbox);
    let path = repository(stand.here.path(), "repo");
    let address = path.to_str().unwrap();
    run(&stand, address, &git(&path, &["rev-parse", "HEAD"])).await.is("passed", "");
    let mirrors = fs::read_dir(stand.here.path().join("mirrors")).unwrap().flatten();
    let mut mirrors = mirrors.map(|entry| entry.path()).filter(|path| path.is_dir());
    let mirror = mirrors.next().unwrap();
    let left = [
        "shallow.lock",
        "shallow_Ab3dEf",
        "packed-refs.lock",
        "HEAD.lock",
        "refs/taskbot/incoming.lock",
        "objects/pack/tmp_pack_Ab3dEf",
        "objects/tmp_objdir-incoming-Ab3dEf/pack/tmp_pack_x",
    ];
    for round in 0..2 {
        fs::write(path.join("new"), format!("{round}\n")).unwrap();
        git(&path, &["add", "--all"]);
        git(&path, &["commit", "--quiet", "-m", "more"]);
        let commit = git(&path, &["rev-parse", "HEAD"]);
        let keep = format!("refs/taskbot/keep/{commit}.lock");
        let left: Vec<_> =
            left.iter().copied().chain([keep.as_str()]).map(|name| mirror.join(name)).collect();
        for file in &left {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "left").unwrap();
        }
        if round == 0 {
            let repo = Repo { git: address.to_owned(), reference: Some("main".into()), path: None };
            assert_eq!(stand.runner.git.resolve(&repo).await.unwrap(), commit);
        } else {
            run(&stand, address, &commit).await.is("passed", "").logs("./new");
        }
        for file in &left {
            assert!(!file.exists(), "{}", file.display());
        }
    }
    stand.clean().await;
}
