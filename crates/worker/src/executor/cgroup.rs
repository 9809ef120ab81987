//! Control groups for commands on this host, where the machine lets us make them.

use super::GrantedSizes;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the kernel shows its groups.
const ROOT: &str = "/sys/fs/cgroup";
/// How long killed processes may take to leave their group.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether they did.
const EMPTY_POLL: Duration = Duration::from_millis(5);

/// A group (with cgroup v1: one for each controller) for one attempt.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    dirs: Vec<PathBuf>,
    /// Where the number of kills for want of memory is told.
    oom_file: PathBuf,
}

impl Cgroup {
    /// Makes a group with limits on memory, processes and processors. `Err` says why this machine has none.
    pub(super) fn create(name: &str, sizes: &GrantedSizes) -> io::Result<Self> {
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        if unified { Self::create_v2(name, sizes) } else { Self::create_v1(name, sizes) }
    }

    fn create_v2(name: &str, sizes: &GrantedSizes) -> io::Result<Self> {
        let dir = own_group("").map(|own| Path::new(ROOT).join(own))?.join(format!("taskbot-{name}"));
        fs::create_dir(&dir)?;
        let group = Self { oom_file: dir.join("memory.events"), dirs: vec![dir.clone()] };
        let filled = (|| {
            fs::write(dir.join("memory.max"), sizes.memory_bytes.to_string())?;
            fs::write(dir.join("pids.max"), sizes.processes.to_string())?;
            fs::write(dir.join("cpu.max"), format!("{} 100000", u64::from(sizes.cpus) * 100_000))?;
            // Without swap accounting the file is missing, and memory.max alone holds.
            ignore_missing(fs::write(dir.join("memory.swap.max"), "0"))
        })();
        group.or_remove(filled)
    }

    fn create_v1(name: &str, sizes: &GrantedSizes) -> io::Result<Self> {
        let mut group = Self { dirs: Vec::new(), oom_file: PathBuf::new() };
        let filled = (|| {
            for controller in ["memory", "pids", "cpu"] {
                let parent = Path::new(ROOT).join(controller);
                let dir = parent.join(own_group(controller)?).join(format!("taskbot-{name}"));
                fs::create_dir(&dir)?;
                group.dirs.push(dir.clone());
                match controller {
                    "memory" => {
                        let bytes = sizes.memory_bytes.to_string();
                        fs::write(dir.join("memory.limit_in_bytes"), &bytes)?;
                        ignore_missing(fs::write(dir.join("memory.memsw.limit_in_bytes"), &bytes))?;
                        group.oom_file = dir.join("memory.oom_control");
                    }
                    "pids" => fs::write(dir.join("pids.max"), sizes.processes.to_string())?,
                    _ => {
                        fs::write(dir.join("cpu.cfs_period_us"), "100000")?;
                        let quota = u64::from(sizes.cpus) * 100_000;
                        fs::write(dir.join("cpu.cfs_quota_us"), quota.to_string())?;
                    }
                }
            }
            Ok(())
        })();
        group.or_remove(filled)
    }

    fn or_remove(self, filled: io::Result<()>) -> io::Result<Self> {
        match filled {
            Ok(()) => Ok(self),
            Err(error) => {
                self.remove()?;
                Err(error)
            }
        }
    }

    /// The files that a process writes its id into to join.
    pub(super) fn join_files(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// How many processes were killed for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let text = fs::read_to_string(&self.oom_file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    fn kill(&self) {
        for pid in self.processes().into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
            // An error means that it is gone already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Kills everything in it, also what is made meanwhile. Blocks until the last process is gone, but not for
    /// ever: what the kernel does not let go is found when the group is removed.
    pub(super) fn kill_all(&self) {
        let until = Instant::now() + EMPTY_LIMIT;
        while !self.processes().is_empty() && Instant::now() < until {
            self.kill();
            std::thread::sleep(EMPTY_POLL);
        }
    }

    /// Kills everything in it and removes it. Blocks until the last process is gone.
    pub(super) fn remove(&self) -> io::Result<()> {
        let until = Instant::now() + EMPTY_LIMIT;
        for dir in &self.dirs {
            loop {
                self.kill();
                match fs::remove_dir(dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if Instant::now() > until => return Err(error),
                    Err(_) => std::thread::sleep(EMPTY_POLL),
                }
            }
        }
        Ok(())
    }

    /// Where the group of this name is, or would be.
    pub(super) fn folders(name: &str) -> Vec<PathBuf> {
        let controllers: &[&str] = if Path::new(ROOT).join("cgroup.controllers").exists() {
            &[""]
        } else {
            &["memory", "pids", "cpu"]
        };
        let folder = |controller: &&str| {
            let own = own_group(controller).ok()?;
            Some(Path::new(ROOT).join(controller).join(own).join(format!("taskbot-{name}")))
        };
        controllers.iter().filter_map(folder).collect()
    }

    /// The group that a dead worker left for this name, if there is one. `noted` is where it made it: our own
    /// group need not be the one that it was in.
    pub(super) fn left_over(name: &str, noted: Vec<PathBuf>) -> Option<Self> {
        let ours = format!("taskbot-{name}");
        let is_ours =
            |dir: &Path| dir.starts_with(ROOT) && dir.file_name().is_some_and(|name| *name == *ours);
        let mut dirs: Vec<_> = noted.into_iter().filter(|dir| is_ours(dir)).collect();
        dirs.extend(Self::folders(name));
        dirs.sort();
        dirs.dedup();
        dirs.retain(|dir| dir.is_dir());
        (!dirs.is_empty()).then(|| Self { dirs, oom_file: PathBuf::new() })
    }

    /// The processes in it.
    pub(super) fn processes(&self) -> BTreeSet<u32> {
        let texts = self.dirs.iter().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        texts.flat_map(|text| text.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    }
}

/// Our own group below a controller's root, without the leading slash.
fn own_group(controller: &str) -> io::Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    for line in text.lines() {
        // `4:memory:/path`, or `0::/path` with cgroup v2.
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next())
            && controllers.split(',').any(|name| name == controller)
        {
            return Ok(path.trim_start_matches('/').to_owned());
        }
    }
    // Our process is in the root of a controller that /proc does not name.
    if Path::new(ROOT).join(controller).is_dir() {
        Ok(String::new())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        other => other,
    }
}
