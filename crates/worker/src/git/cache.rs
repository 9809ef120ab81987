//! The mirrors: one bare repository for each URL or shipped folder, locked between processes.

use super::{
    GitError, Protocol, TreeLimits,
    command::{Git, infra},
    names::{self, check_inner, check_reference, check_url, is_commit},
    tree,
    way::Way,
};
use crate::files;
use model::task::Repo;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The most that git may say when it lists or resolves, in bytes.
pub(super) const LISTING_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long a local git command (no network) may take.
const LOCAL_LIMIT: Duration = Duration::from_secs(120);
/// How often a lock that another process holds is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);
/// Makes `git archive` give what was committed, whatever attributes the repository sets: nothing left out,
/// nothing substituted, no line ends converted.
const ATTRIBUTES: &str = "* -export-ignore -export-subst -text !eol -ident !filter !working-tree-encoding\n";
/// What repositories may be used and how much they may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitConfig {
    /// The protocols that may be used.
    pub protocols: Vec<Protocol>,
    /// The hosts that repositories may come from (`*.example.org` for all below); empty for any public one.
    /// Hosts with private or loopback addresses must be named.
    pub hosts: Vec<String>,
    /// Folders below which repositories and plain folders on this machine may be used.
    pub local_roots: Vec<PathBuf>,
    /// How long one command that uses the network may take.
    pub network_limit: Duration,
    /// The largest mirror of one repository, in bytes.
    pub repo_bytes_max: u64,
    /// The most that all mirrors may use, in bytes; the least recently used go first.
    pub cache_bytes_max: u64,
}

impl Default for GitConfig {
    fn default() -> Self {
        Self {
            protocols: vec![Protocol::Https, Protocol::Ssh],
            hosts: Vec::new(),
            local_roots: Vec::new(),
            network_limit: Duration::from_secs(300),
            repo_bytes_max: 2 << 30,
            cache_bytes_max: 20 << 30,
        }
    }
}

/// The mirrors of one folder. May be shared by processes.
#[derive(Debug)]
pub struct GitCache {
    folder: PathBuf,
    pub(super) config: GitConfig,
}

/// Where a repository really is.
enum Source {
    /// To be mirrored from there.
    Remote(Way),
    /// A folder of plain files, to be imported.
    Folder(PathBuf),
}

/// A mirror under lock.
pub(super) struct Mirror {
    pub(super) dir: PathBuf,
    _lock: File,
}

impl GitCache {
    /// Uses (and makes) a folder for mirrors.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: impl Into<PathBuf>, config: GitConfig) -> Result<Self, GitError> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(infra)?;
        Ok(Self { folder, config })
    }

    /// Finds the commit that a repository's reference means now, and brings it into the mirror.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn resolve(&self, repo: &Repo) -> Result<String, GitError> {
        if let Some(reference) = &repo.reference {
            check_reference(reference)?;
        }
        let source = self.source(repo).await?;
        let mirror = self.lock(repo).await?;
        let way = match &source {
            Source::Folder(path) => {
                let commit = self.import(&mirror, path).await?;
                return match &repo.reference {
                    Some(reference) if is_commit(reference) => {
                        self.local_commit(&mirror, repo, reference).await
                    }
                    Some(reference) if reference != "main" && reference != "HEAD" => {
                        Err(GitError::NotFound(format!(
                            "{} is a plain folder, it has no reference `{reference}`; leave `ref` out",
                            repo.git
                        )))
                    }
                    _ => Ok(commit),
                };
            }
            Source::Remote(way) => way,
        };
        let commit = match &repo.reference {
            Some(commit) if is_commit(commit) => {
                if !self.has(&mirror, commit).await? {
                    self.fetch_commit(&mirror, way, commit).await?;
                }
                commit.clone()
            }
            reference => {
                let (name, commit) = self.find(way, reference.as_deref()).await?;
                if self.has(&mirror, &commit).await? {
                    commit
                } else {
                    self.fetch(&mirror, way, &name).await?
                }
            }
        };
        self.after_use(&mirror);
        drop(mirror);
        self.trim().await?;
        Ok(commit)
    }

    /// Reads a file at a commit. `None` when there is no such file.
    ///
    /// # Errors
    /// See [`GitError`]; also for what is there but is no plain file, or larger than `max_bytes`.
    pub async fn read_file(
        &self,
        repo: &Repo,
        commit: &str,
        path: &str,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, GitError> {
        let path = check_inner(path)?;
        let mirror = self.ensure(repo, commit).await?;
        let listing = self.git(&mirror, format!("read {path} of {}", repo.git));
        let listing = listing.args(["ls-tree", "-z", "-l", "--full-tree", commit, "--", &path]);
        let listing = listing.run(LISTING_BYTES_MAX).await?;
        let listing = String::from_utf8_lossy(&listing);
        // `MODE TYPE ID SIZE\tNAME\0`
        let Some((meta, _)) = listing.split('\0').next().and_then(|line| line.split_once('\t')) else {
            return Ok(None);
        };
        let fields: Vec<_> = meta.split_ascii_whitespace().collect();
        let [mode, _, id, size] = fields.as_slice() else { return Err(infra(format!("odd listing {meta}"))) };
        if !matches!(*mode, "100644" | "100755" | "100664") {
            return Err(GitError::Hostile(format!("`{path}` in {} must be a plain file", repo.git)));
        }
        if size.parse::<u64>().unwrap_or(u64::MAX) > max_bytes {
            return Err(GitError::TooLarge(format!(
                "`{path}` in {} is larger than {max_bytes} bytes",
                repo.git
            )));
        }
        let read = self.git(&mirror, format!("read {path} of {}", repo.git));
        read.args(["cat-file", "blob", id]).run(max_bytes).await.map(Some)
    }

    /// The paths of all files below a folder at a commit, relative to it; `""` is the root. None when there is no
    /// such folder.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn list(&self, repo: &Repo, commit: &str, folder: &str) -> Result<Vec<String>, GitError> {
        let folder = check_inner(folder)?;
        let mirror = self.ensure(repo, commit).await?;
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut args = vec!["ls-tree", "-r", "-z", "--full-tree", commit, "--"];
        args.extend((!below.is_empty()).then_some(below.as_str()));
        let listing = self.git(&mirror, format!("list {folder} of {}", repo.git)).args(args);
        let listing = listing.run(LISTING_BYTES_MAX).await?;
        let listing = String::from_utf8_lossy(&listing);
        let lines = listing.split('\0').filter_map(|line| line.split_once('\t'));
        let files = lines.filter(|(meta, _)| meta.contains(" blob "));
        Ok(files.filter_map(|(_, name)| name.strip_prefix(&below)).map(str::to_owned).collect())
    }

    /// Unpacks the tree of a commit into a new folder: no `.git`, no link that leaves it.
    ///
    /// # Errors
    /// See [`GitError`]; the folder is not there then.
    pub async fn checkout(
        &self,
        repo: &Repo,
        commit: &str,
        into: &Path,
        limits: TreeLimits,
    ) -> Result<(), GitError> {
        let mirror = self.ensure(repo, commit).await?;
        fs::create_dir_all(into.parent().unwrap_or(into)).map_err(infra)?;
        fs::create_dir(into).map_err(|error| infra(format!("{}: {error}", into.display())))?;
        let archive = self.git(&mirror, format!("check out {}", repo.git));
        let target = into.to_owned();
        let done = archive
            .args(["archive", "--format=tar", commit])
            .stream(move |stdout| tree::unpack(stdout, &target, limits))
            .await;
        if done.is_err() {
            files::remove(into).map_err(infra)?;
        }
        self.after_use(&mirror);
        done
    }

    /// Removes the least recently used mirrors that nobody uses, until the rest fits.
    ///
    /// # Errors
    /// See [`GitError`].
    pub async fn trim(&self) -> Result<(), GitError> {
        let (folder, max) = (self.folder.clone(), self.config.cache_bytes_max);
        tokio::task::spawn_blocking(move || trim(&folder, max)).await.map_err(infra)?.map_err(infra)
    }

    pub(super) fn git(&self, mirror: &Mirror, what: impl Into<String>) -> Git {
        Git::new(Some(&mirror.dir), LOCAL_LIMIT, what)
    }

    fn network(&self, mirror: &Mirror, way: &Way) -> Git {
        way.on(Git::new(Some(&mirror.dir), self.config.network_limit, format!("fetch {}", way.url)))
            .watch_size(&mirror.dir, self.config.repo_bytes_max)
    }

    /// Checks where a repository is, and whether we may go there.
    async fn source(&self, repo: &Repo) -> Result<Source, GitError> {
        if repo.git.starts_with('/') {
            return self.local_source(&repo.git);
        }
        if let Some(path) = repo.git.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            return self.local_source(path);
        }
        let url = check_url(&repo.git, &self.config.protocols, &self.config.hosts)?;
        let way = match self.config.hosts.is_empty() {
            true => Way::public(&repo.git, &url).await?,
            false => Way::remote(&repo.git, &url),
        };
        Ok(Source::Remote(way))
    }

    fn local_source(&self, path: &str) -> Result<Source, GitError> {
        let real = fs::canonicalize(path).map_err(|error| {
            GitError::NotFound(format!("the repository folder {path} cannot be used: {error}"))
        })?;
        let roots = self.config.local_roots.iter().filter_map(|root| fs::canonicalize(root).ok());
        let roots: Vec<_> = roots.collect();
        if !roots.iter().any(|root| real.starts_with(root)) {
            return Err(GitError::Denied(format!(
                "{path} is not below a folder that repositories on this machine may be in; \
                 add its parent to `git.folders` of this machine's configuration, or give a URL"
            )));
        }
        let is_git =
            real.join(".git").exists() || (real.join("HEAD").is_file() && real.join("objects").is_dir());
        if is_git {
            if let Some(elsewhere) =
                leads_to(&real).filter(|to| !roots.iter().any(|root| to.starts_with(root)))
            {
                return Err(GitError::Denied(format!(
                    "the repository {path} leads out of the folders that repositories may be in, to {}",
                    elsewhere.display()
                )));
            }
            return Ok(Source::Remote(Way::local(real.to_string_lossy().into_owned())));
        }
        if !real.is_dir() {
            return Err(GitError::NotFound(format!("{path} is neither a repository nor a folder")));
        }
        Ok(Source::Folder(real))
    }

    /// Asks the other side what a reference is. Gives the full name and the commit (or annotated tag).
    async fn find(&self, way: &Way, reference: Option<&str>) -> Result<(String, String), GitError> {
        let url = way.url.as_str();
        let wanted = match reference {
            None => vec!["HEAD".to_owned()],
            Some(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
        };
        let ask = way.on(Git::new(None, self.config.network_limit, format!("look into {url}")));
        let answer = ask.args(["ls-remote", "--", url]).args(&wanted).run(LISTING_BYTES_MAX).await?;
        let answer = String::from_utf8_lossy(&answer);
        let refs: Vec<_> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
        for name in &wanted {
            let peeled = format!("{name}^{{}}");
            let at = |wanted: &str| refs.iter().find(|(_, name)| *name == wanted).map(|(id, _)| *id);
            if let Some(id) = at(&peeled).or(at(name)) {
                return Ok((name.clone(), id.to_owned()));
            }
        }
        Err(GitError::NotFound(match reference {
            None => format!("{url} has no commits yet"),
            Some(name) => {
                format!("{url} has no branch or tag `{name}` (commit ids must be given in full, 40 digits)")
            }
        }))
    }

    /// Fetches one reference without its history; gives the commit that it is now.
    async fn fetch(&self, mirror: &Mirror, way: &Way, name: &str) -> Result<String, GitError> {
        let url = way.url.as_str();
        let fetch = self.network(mirror, way).args(["fetch", "--quiet", "--depth=1", "--no-tags"]);
        let refspec = format!("+{name}:refs/taskbot/incoming");
        fetch.args(["--no-write-fetch-head", "--", url, &refspec]).run(LISTING_BYTES_MAX).await?;
        let commit = self.git(mirror, format!("read {name} of {url}"));
        let commit = commit.args(["rev-parse", "--verify", "--quiet", "refs/taskbot/incoming^{commit}"]);
        let commit = commit.run(LISTING_BYTES_MAX).await?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        self.keep(mirror, &commit).await?;
        Ok(commit)
    }

    /// Fetches a commit by its id; from hosts that do not hand out bare commits, everything.
    async fn fetch_commit(&self, mirror: &Mirror, way: &Way, commit: &str) -> Result<(), GitError> {
        let url = way.url.as_str();
        let fetch = self.network(mirror, way).args(["fetch", "--quiet", "--depth=1", "--no-tags"]);
        let alone = fetch.args(["--no-write-fetch-head", "--", url, commit]).run(LISTING_BYTES_MAX).await;
        match alone {
            Ok(_) => {}
            Err(GitError::NotFound(_)) => {
                // A full history: what was cut off by earlier fetches is asked for too.
                let whole = mirror.dir.join("shallow").exists().then_some("--unshallow");
                let all = self.network(mirror, way).args(["fetch", "--quiet", "--no-tags"]);
                let all = all.args(["--no-write-fetch-head"]).args(whole).args(["--", url]);
                let all = all.args(["+refs/heads/*:refs/remote/heads/*", "+refs/tags/*:refs/remote/tags/*"]);
                all.run(LISTING_BYTES_MAX).await?;
            }
            Err(error) => return Err(error),
        }
        let look =
            self.git(mirror, "look for a commit").args(["cat-file", "-e", &format!("{commit}^{{commit}}")]);
        match look.run(0).await {
            Ok(_) => self.keep(mirror, commit).await,
            Err(GitError::Timeout(error)) => Err(GitError::Timeout(error)),
            Err(_) => Err(GitError::NotFound(format!("{url} has no commit {commit} in any branch or tag"))),
        }
    }

    /// Protects a commit from garbage collection.
    pub(super) async fn keep(&self, mirror: &Mirror, commit: &str) -> Result<(), GitError> {
        let update = self.git(mirror, "keep a commit");
        update.args(["update-ref", &format!("refs/taskbot/keep/{commit}"), commit]).run(0).await.map(drop)
    }

    pub(super) async fn has(&self, mirror: &Mirror, commit: &str) -> Result<bool, GitError> {
        let look = self.git(mirror, "look for a commit");
        // The whole tree must be there, not only the commit: a fetch may have been killed in the middle, and
        // only a finished one leaves a reference.
        let name = format!("refs/taskbot/keep/{commit}");
        let found = look.args(["for-each-ref", "--format=%(refname)", &name]).run(LISTING_BYTES_MAX).await?;
        Ok(!found.is_empty())
    }

    /// Locks the mirror with the commit in it, fetching it if need be.
    async fn ensure(&self, repo: &Repo, commit: &str) -> Result<Mirror, GitError> {
        if !is_commit(commit) {
            return Err(GitError::BadName(format!("`{}` is no full commit id", names::shown(commit))));
        }
        let source = self.source(repo).await?;
        let mirror = self.lock(repo).await?;
        if self.has(&mirror, commit).await? {
            return Ok(mirror);
        }
        match source {
            Source::Remote(way) => self.fetch_commit(&mirror, &way, commit).await?,
            Source::Folder(path) => {
                self.import(&mirror, &path).await?;
                self.local_commit(&mirror, repo, commit).await?;
            }
        }
        Ok(mirror)
    }

    /// Locks a repository's mirror (made if missing), also against other processes.
    async fn lock(&self, repo: &Repo) -> Result<Mirror, GitError> {
        let key = hex::encode(&Sha256::digest(repo.git.as_bytes())[..16]);
        let dir = self.folder.join(format!("{key}.git"));
        let file = File::create(self.folder.join(format!("{key}.lock"))).map_err(infra)?;
        let until = Instant::now() + self.config.network_limit;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(infra(error)),
                Err(TryLockError::WouldBlock) if Instant::now() > until => {
                    return Err(GitError::Timeout(format!(
                        "the mirror of {} was locked by another user of it for {:?}",
                        repo.git, self.config.network_limit
                    )));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_INTERVAL).await,
            }
        }
        let mirror = Mirror { dir, _lock: file };
        sweep(&mirror.dir).map_err(infra)?;
        // The file is written last: a half-made mirror is made again.
        if !mirror.dir.join("url").is_file() {
            files::remove(&mirror.dir).map_err(infra)?;
            let init = Git::new(None, LOCAL_LIMIT, "make a mirror");
            let init = init.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--"]);
            init.args([&mirror.dir]).run(0).await?;
            fs::create_dir_all(mirror.dir.join("info")).map_err(infra)?;
            fs::write(mirror.dir.join("info/attributes"), ATTRIBUTES).map_err(infra)?;
            fs::write(mirror.dir.join("url"), &repo.git).map_err(infra)?;
        }
        Ok(mirror)
    }

    /// Notes that the mirror was used now. Not knowing it costs a fetch later, nothing else.
    fn after_use(&self, mirror: &Mirror) {
        if let Err(error) = fs::write(mirror.dir.join("used"), "") {
            tracing::warn!(%error, mirror = %mirror.dir.display(), "cannot note the use of a mirror");
        }
    }
}

/// Where a git that is killed leaves something, in a mirror.
const LEFT_IN: [&str; 6] =
    ["", "objects", "objects/pack", "refs/taskbot", "refs/taskbot/keep", "refs/remote"];

/// Removes what a git that was killed left in a mirror: locks, which nobody would ever give up again, and halves
/// of packs. Nobody else uses the mirror, since we have its lock.
fn sweep(mirror: &Path) -> std::io::Result<()> {
    let is_left = |name: &str| {
        name.ends_with(".lock")
            || ["tmp_", "shallow_", "incoming-", ".tmp-"].iter().any(|head| name.starts_with(head))
    };
    let mut todo: Vec<PathBuf> = LEFT_IN.iter().map(|folder| mirror.join(folder)).collect();
    while let Some(folder) = todo.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if is_left(&entry.file_name().to_string_lossy()) {
                files::remove(&entry.path())?;
            } else if folder.starts_with(mirror.join("refs/remote")) && entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Another place that a repository on this machine takes its objects from: by a link, by a file in place of its
/// `.git`, or by git's own ways of sharing them.
fn leads_to(folder: &Path) -> Option<PathBuf> {
    let git =
        if folder.join(".git").symlink_metadata().is_ok() { folder.join(".git") } else { folder.to_owned() };
    if git.is_file() {
        let text = fs::read_to_string(&git).unwrap_or_default();
        let to = text.trim().strip_prefix("gitdir:").unwrap_or_default().trim();
        return Some(real(&folder.join(to)));
    }
    let own = real(folder);
    let parts = [git.clone(), git.join("objects"), git.join("objects/pack"), git.join("refs")];
    let linked = parts.iter().map(|part| real(part)).find(|part| !part.starts_with(&own));
    let told = || {
        let common = fs::read_to_string(git.join("commondir")).ok();
        let common = common.map(|text| real(&git.join(text.trim())));
        let alternates = fs::read_to_string(git.join("objects/info/alternates")).unwrap_or_default();
        let first = alternates.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
        common.or_else(|| first.map(|line| real(&git.join("objects").join(line.trim_matches('"')))))
    };
    linked.or_else(told)
}

/// A path without links; one that leads nowhere stays as it is.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn trim(folder: &Path, max_bytes: u64) -> std::io::Result<()> {
    let mut mirrors = Vec::new();
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "git") {
            let bytes = files::usage(&path, u64::MAX);
            let used =
                fs::metadata(path.join("used")).or_else(|_| fs::metadata(&path)).and_then(|m| m.modified());
            total += bytes;
            mirrors.push((used.ok(), path, bytes));
        }
    }
    mirrors.sort();
    for (_, path, bytes) in mirrors {
        if total <= max_bytes {
            break;
        }
        let lock = File::create(path.with_extension("lock"))?;
        if lock.try_lock().is_ok() {
            files::remove(&path)?;
            total = total.saturating_sub(bytes);
        }
    }
    Ok(())
}
