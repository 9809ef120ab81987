//! Real git: repositories of strangers, mirrors, trees.

use model::task::Repo;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use taskbot_worker::git::{GitCache, GitConfig, GitError, Protocol, TreeLimits};

struct Place {
    temp: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn config(&self) -> GitConfig {
        GitConfig { local_roots: vec![self.temp.path().to_owned()], ..GitConfig::default() }
    }

    fn cache(&self) -> GitCache {
        GitCache::new(self.path("cache"), self.config()).unwrap()
    }

    /// A repository with `task.yaml` and `run.sh`.
    fn repo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "--quiet", "--initial-branch=main", "."]);
        fs::write(path.join("task.yaml"), "name: x\nrun: ./run.sh\n").unwrap();
        fs::create_dir(path.join("deep")).unwrap();
        fs::write(path.join("deep/run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(path.join("deep/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        commit(&path, "first");
        path
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(folder: &Path, message: &str) -> String {
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--allow-empty", "-m", message]);
    git(folder, &["rev-parse", "HEAD"])
}

fn at(path: &Path, reference: Option<&str>) -> Repo {
    Repo { git: path.to_str().unwrap().to_owned(), reference: reference.map(str::to_owned), path: None }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn references_are_found_and_trees_checked_out() {
    let place = Place::new();
    let path = place.repo("repo");
    let first = git(&path, &["rev-parse", "HEAD"]);
    git(&path, &["tag", "-a", "v1", "-m", "v1"]);
    git(&path, &["tag", "light"]);
    git(&path, &["checkout", "--quiet", "-b", "feature/x"]);
    fs::write(path.join("new"), "x").unwrap();
    let second = commit(&path, "second");
    git(&path, &["checkout", "--quiet", "main"]);
    let cache = place.cache();
    for (reference, expect) in [
        (None, &first),
        (Some("main"), &first),
        (Some("v1"), &first),
        (Some("light"), &first),
        (Some("feature/x"), &second),
        (Some(second.as_str()), &second),
    ] {
        assert_eq!(&cache.resolve(&at(&path, reference)).await.unwrap(), expect, "{reference:?}");
    }
    let error = cache.resolve(&at(&path, Some("nowhere"))).await.unwrap_err();
    assert!(
        matches!(&error, GitError::NotFound(text) if text.contains("no branch or tag `nowhere`")),
        "{error}"
    );
    let error = cache.resolve(&at(&path, Some(&"0".repeat(40)))).await.unwrap_err();
    assert!(matches!(&error, GitError::NotFound(_)), "{error}");

    let repo = at(&path, None);
    let into = place.path("out/tree");
    cache.checkout(&repo, &second, &into, TreeLimits::default()).await.unwrap();
    assert_eq!(names(&into), ["deep", "new", "task.yaml"]);
    assert_eq!(fs::metadata(into.join("deep/run.sh")).unwrap().permissions().mode() & 0o111, 0o111);
    let list = cache.list(&repo, &second, "").await.unwrap();
    assert_eq!(list, ["deep/run.sh", "new", "task.yaml"]);
    assert_eq!(cache.list(&repo, &second, "deep").await.unwrap(), ["run.sh"]);
    assert!(cache.list(&repo, &second, "nowhere").await.unwrap().is_empty());
    let read = cache.read_file(&repo, &first, "./deep/run.sh", 100).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"#!/bin/sh\n"[..]));
    assert_eq!(cache.read_file(&repo, &first, "new", 100).await.unwrap(), None);
    assert!(matches!(cache.read_file(&repo, &first, "task.yaml", 3).await, Err(GitError::TooLarge(_))));
    assert!(matches!(cache.read_file(&repo, &first, "../x", 3).await, Err(GitError::BadName(_))));
    assert!(matches!(cache.read_file(&repo, &first, "deep", 3).await, Err(GitError::Hostile(_))));
}

#[tokio::test]
async fn a_commit_stays_available_after_its_branch_moved_and_its_repository_is_gone() {
    let place = Place::new();
    let path = place.repo("repo");
    let cache = place.cache();
    let first = cache.resolve(&at(&path, Some("main"))).await.unwrap();
    fs::write(path.join("new"), "x").unwrap();
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "--amend", "-m", "other"]);
    let second = cache.resolve(&at(&path, Some("main"))).await.unwrap();
    assert_ne!(first, second);
    fs::rename(path.join(".git"), place.path("away.git")).unwrap();
    fs::remove_dir_all(&path).unwrap();
    fs::rename(place.path("away.git"), &path).unwrap();
    for (commit, files) in [(first, vec!["deep", "task.yaml"]), (second, vec!["deep", "new", "task.yaml"])] {
        let into = place.path(&commit);
        cache.checkout(&at(&path, None), &commit, &into, TreeLimits::default()).await.unwrap();
        assert_eq!(names(&into), files);
    }
}

#[tokio::test]
async fn a_commit_deep_in_history_is_fetched() {
    let place = Place::new();
    let path = place.repo("repo");
    let first = git(&path, &["rev-parse", "HEAD"]);
    for _ in 0..5 {
        commit(&path, "more");
    }
    let cache = place.cache();
    cache.resolve(&at(&path, None)).await.unwrap();
    assert_eq!(cache.resolve(&at(&path, Some(&first))).await.unwrap(), first);
    cache.checkout(&at(&path, None), &first, &place.path("tree"), TreeLimits::default()).await.unwrap();
}

#[tokio::test]
async fn hostile_names_run_nothing() {
    let place = Place::new();
    let path = place.repo("repo");
    let cache = place.cache();
    let bait = place.path("bait");
    let touch = format!("touch {}", bait.display());
    for reference in [format!("--upload-pack={touch}"), format!("$({touch})"), format!("main;{touch}")] {
        let error = cache.resolve(&at(&path, Some(&reference))).await.unwrap_err();
        assert!(matches!(error, GitError::BadName(_)), "{error:?}");
    }
    for url in [
        format!("ext::sh -c {touch}"),
        format!("--upload-pack={touch}"),
        format!("ssh://-oProxyCommand={touch}/x"),
        "file:///etc".to_owned(),
    ] {
        let error = cache.resolve(&Repo { git: url, reference: None, path: None }).await.unwrap_err();
        assert!(matches!(error, GitError::BadName(_) | GitError::Denied(_)), "{error:?}");
    }
    let error =
        cache.checkout(&at(&path, None), "--output=/x", &place.path("t"), TreeLimits::default()).await;
    assert!(matches!(error, Err(GitError::BadName(_))), "{error:?}");
    assert!(!bait.exists());
}

#[tokio::test]
async fn only_configured_folders_and_hosts() {
    let place = Place::new();
    let elsewhere = Place::new();
    let foreign = elsewhere.repo("repo");
    let cache = place.cache();
    let error = cache.resolve(&at(&foreign, None)).await.unwrap_err();
    assert!(matches!(&error, GitError::Denied(text) if text.contains("not below a folder")), "{error:?}");
    // Also not through a link inside the allowed folder.
    symlink(&foreign, place.path("link")).unwrap();
    let error = cache.resolve(&at(&place.path("link"), None)).await.unwrap_err();
    assert!(matches!(error, GitError::Denied(_)), "{error:?}");
    let error = cache.resolve(&at(&place.path("nothing"), None)).await.unwrap_err();
    assert!(matches!(error, GitError::NotFound(_)), "{error:?}");
    for url in ["https://localhost/x", "https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/x"]
    {
        let error = cache.resolve(&Repo { git: url.into(), reference: None, path: None }).await.unwrap_err();
        assert!(matches!(&error, GitError::Denied(text) if text.contains("private network")), "{error:?}");
    }
}

#[tokio::test]
async fn hooks_filters_and_settings_of_a_repository_do_nothing() {
    let place = Place::new();
    let path = place.repo("repo");
    let bait = place.path("bait");
    let script = format!("#!/bin/sh\ntouch {}\n", bait.display());
    for hook in ["post-checkout", "pre-upload", "reference-transaction", "post-update"] {
        let hook = path.join(".git/hooks").join(hook);
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, &script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(place.path("evil.sh"), &script).unwrap();
    fs::set_permissions(place.path("evil.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let evil = place.path("evil.sh");
    for key in ["core.fsmonitor", "uploadpack.packObjectsHook", "filter.x.smudge", "core.sshCommand"] {
        git(&path, &["config", key, evil.to_str().unwrap()]);
    }
    fs::remove_file(&bait).ok();
    fs::write(
        path.join(".gitattributes"),
        "*.txt filter=x\nsecret.txt export-ignore\nsubst.txt export-subst\ncrlf.txt eol=crlf\n",
    )
    .unwrap();
    fs::write(path.join("secret.txt"), "kept\n").unwrap();
    fs::write(path.join("subst.txt"), "$Format:%H$\n").unwrap();
    fs::write(path.join("crlf.txt"), "a\nb\n").unwrap();
    git(&path, &["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "add", "--all"]);
    git(&path, &["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "commit", "-qm", "x"]);
    fs::remove_file(&bait).ok();
    let cache = place.cache();
    let commit = cache.resolve(&at(&path, None)).await.unwrap();
    let into = place.path("tree");
    cache.checkout(&at(&path, None), &commit, &into, TreeLimits::default()).await.unwrap();
    assert!(!bait.exists());
    // The tree is what was committed, whatever the attributes say of archives.
    assert_eq!(fs::read_to_string(into.join("secret.txt")).unwrap(), "kept\n");
    assert_eq!(fs::read_to_string(into.join("subst.txt")).unwrap(), "$Format:%H$\n");
    assert_eq!(fs::read_to_string(into.join("crlf.txt")).unwrap(), "a\nb\n");
}

#[tokio::test]
async fn hostile_trees() {
    let place = Place::new();
    let check = async |name: &str, target: &str, good: bool| {
        let path = place.repo(name);
        symlink(target, path.join("link")).unwrap();
        commit(&path, "link");
        let cache = place.cache();
        let commit = cache.resolve(&at(&path, None)).await.unwrap();
        let into = place.path(&format!("{name}-tree"));
        let done = cache.checkout(&at(&path, None), &commit, &into, TreeLimits::default()).await;
        assert_eq!(done.is_ok(), good, "{target}: {done:?}");
        assert_eq!(into.exists(), good);
        if !good {
            assert!(matches!(done, Err(GitError::Hostile(_))), "{done:?}");
            let read = cache.read_file(&at(&path, None), &commit, "link", 100).await;
            assert!(matches!(read, Err(GitError::Hostile(_))), "{read:?}");
        }
    };
    check("inside", "deep/run.sh", true).await;
    check("absolute", "/etc/passwd", false).await;
    check("above", "../../etc/passwd", false).await;

    // A submodule is an empty folder: nothing is fetched for it.
    let path = place.repo("outer");
    let inner = place.repo("inner");
    git(&path, &["submodule", "--quiet", "add", inner.to_str().unwrap(), "sub"]);
    commit(&path, "sub");
    let cache = place.cache();
    let commit_id = cache.resolve(&at(&path, None)).await.unwrap();
    let into = place.path("outer-tree");
    cache.checkout(&at(&path, None), &commit_id, &into, TreeLimits::default()).await.unwrap();
    assert_eq!(names(&into.join("sub")), Vec::<String>::new());
}

#[tokio::test]
async fn forged_objects_are_refused() {
    let place = Place::new();
    let path = place.repo("repo");
    // A tree with an entry `.git`, which git itself would never write.
    let blob = git(&path, &["hash-object", "-w", "task.yaml"]);
    let raw: Vec<u8> = [b"100644 .git\0".as_slice(), &hex::decode(&blob).unwrap()].concat();
    fs::write(place.path("tree"), raw).unwrap();
    let tree =
        git(&path, &["hash-object", "-t", "tree", "-w", "--literally", place.path("tree").to_str().unwrap()]);
    let forged = git(&path, &["commit-tree", "-m", "forged", &tree]);
    git(&path, &["update-ref", "refs/heads/forged", &forged]);
    let error = place.cache().resolve(&at(&path, Some("forged"))).await.unwrap_err();
    assert!(matches!(error, GitError::Hostile(_)), "{error:?}");
}

#[tokio::test]
async fn too_large_repositories_and_trees() {
    let place = Place::new();
    let path = place.repo("repo");
    let mut noise = vec![0_u8; 3 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *byte = (state >> 56) as u8;
    }
    fs::write(path.join("noise"), &noise).unwrap();
    commit(&path, "noise");
    let config = GitConfig { repo_bytes_max: 1 << 20, ..place.config() };
    let small = GitCache::new(place.path("small"), config).unwrap();
    let error = small.resolve(&at(&path, None)).await.unwrap_err();
    assert!(matches!(error, GitError::TooLarge(_)), "{error:?}");
    let cache = place.cache();
    let commit = cache.resolve(&at(&path, None)).await.unwrap();
    let limits = TreeLimits { total_bytes: 1 << 20, entries: 100 };
    let error = cache.checkout(&at(&path, None), &commit, &place.path("t"), limits).await.unwrap_err();
    assert!(matches!(error, GitError::TooLarge(_)), "{error:?}");
    assert!(!place.path("t").exists());
    // The cache itself is capped: the least recently used mirror goes.
    let config = GitConfig { cache_bytes_max: 4 << 20, ..place.config() };
    let capped = GitCache::new(place.path("cache"), config).unwrap();
    let other = place.path("other");
    fs::create_dir(&other).unwrap();
    git(&other, &["init", "--quiet", "."]);
    fs::write(other.join("noise"), &noise).unwrap();
    self::commit(&other, "noise");
    capped.resolve(&at(&other, None)).await.unwrap();
    let mirrors = names(&place.path("cache")).into_iter().filter(|name| name.ends_with(".git")).count();
    assert_eq!(mirrors, 1);
    assert!(capped.resolve(&at(&path, None)).await.is_ok(), "what was dropped is fetched again");
}

#[tokio::test]
async fn a_silent_host_times_out_and_a_closed_one_is_infra() {
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = GitConfig {
        protocols: vec![Protocol::Git, Protocol::Http],
        hosts: vec!["127.0.0.1".into()],
        network_limit: Duration::from_secs(1),
        ..GitConfig::default()
    };
    let cache = GitCache::new(place.path("cache"), config).unwrap();
    let repo = |url: String| Repo { git: url, reference: None, path: None };
    let error = cache.resolve(&repo(format!("git://127.0.0.1:{port}/x"))).await.unwrap_err();
    assert!(matches!(error, GitError::Timeout(_)) && error.is_infra(), "{error:?}");
    drop(silent);
    let error = cache.resolve(&repo(format!("git://127.0.0.1:{port}/x"))).await.unwrap_err();
    assert!(matches!(error, GitError::Infra(_)), "{error:?}");
}

#[tokio::test]
async fn redirects_are_not_followed_and_refusals_are_told_apart() {
    let place = Place::new();
    let check = async |answer: &'static str, matches: fn(&GitError) -> bool| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .unwrap();
            }
        });
        let config = GitConfig {
            protocols: vec![Protocol::Http],
            hosts: vec!["127.0.0.1".into()],
            ..GitConfig::default()
        };
        let cache = GitCache::new(place.path("cache"), config).unwrap();
        let url = format!("http://127.0.0.1:{port}/x");
        let error = cache.resolve(&Repo { git: url, reference: None, path: None }).await.unwrap_err();
        assert!(matches(&error), "{answer}: {error:?}");
    };
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let location = format!("302 Found\r\nLocation: http://{}/y", trap.local_addr().unwrap());
    check(location.leak(), |error| matches!(error, GitError::Denied(_))).await;
    assert!(trap.accept().is_err(), "the redirect was followed");
    check("404 Not Found", |error| matches!(error, GitError::NotFound(_))).await;
    check("401 Unauthorized\r\nWWW-Authenticate: Basic", |error| matches!(error, GitError::Denied(_))).await;
    check("403 Forbidden", |error| matches!(error, GitError::Denied(_))).await;
    check("503 Service Unavailable", |error| matches!(error, GitError::Infra(_))).await;
}

#[tokio::test]
async fn a_plain_folder_is_imported_by_its_content() {
    let place = Place::new();
    let folder = place.path("shipped");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(folder.join("task.yaml"), "name: x\n").unwrap();
    fs::write(folder.join("sub/data"), "1\r\n").unwrap();
    fs::write(folder.join(".gitignore"), "sub\n").unwrap();
    let cache = place.cache();
    let first = cache.resolve(&at(&folder, None)).await.unwrap();
    assert_eq!(cache.resolve(&at(&folder, None)).await.unwrap(), first);
    // Another cache (another machine) gives the same commit to the same files.
    let other = GitCache::new(place.path("other"), place.config()).unwrap();
    assert_eq!(other.resolve(&at(&folder, None)).await.unwrap(), first);
    fs::write(folder.join("sub/data"), "2\r\n").unwrap();
    let second = cache.resolve(&at(&folder, None)).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(cache.resolve(&at(&folder, Some(&first))).await.unwrap(), first);
    for (commit, content) in [(&first, "1\r\n"), (&second, "2\r\n")] {
        let into = place.path(commit);
        cache.checkout(&at(&folder, None), commit, &into, TreeLimits::default()).await.unwrap();
        assert_eq!(fs::read_to_string(into.join("sub/data")).unwrap(), content);
    }
    let never = "1".repeat(40);
    let error = other.checkout(&at(&folder, None), &never, &place.path("t"), TreeLimits::default()).await;
    assert!(matches!(error, Err(GitError::NotFound(_))), "{error:?}");
    assert!(matches!(cache.resolve(&at(&folder, Some("v1"))).await, Err(GitError::NotFound(_))));
}

#[tokio::test]
async fn many_at_once_share_one_mirror() {
    let place = Place::new();
    let path = place.repo("repo");
    let caches: Vec<_> = (0..8).map(|_| place.cache()).collect();
    let repo = at(&path, None);
    let commits = futures_util::future::join_all(caches.iter().map(|cache| cache.resolve(&repo))).await;
    let expect = git(&path, &["rev-parse", "HEAD"]);
    for commit in commits {
        assert_eq!(commit.unwrap(), expect);
    }
    let trees = (0..8).map(|n| {
        let into = place.path(&format!("tree-{n}"));
        let (cache, repo, commit) = (&caches[n], &repo, &expect);
        async move { cache.checkout(repo, commit, &into, TreeLimits::default()).await }
    });
    for done in futures_util::future::join_all(trees).await {
        done.unwrap();
    }
}
