//! What is taken out of a work folder: chosen by globs, limited, and never more than plain files.

use super::{
    CollectLimits, Collected, CollectedFile, ExecError, INPUTS_FILE, OUTPUT_DIR, OWN_DIR, Skipped,
    UNWRITTEN_MTIME,
};
use crate::files;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use model::units::format_size;
use std::{
    collections::HashSet,
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The most things that are looked at in a work folder.
const LOOKED_AT_MAX: usize = 1_000_000;
/// The most reasons that are kept for files left out.
const SKIPPED_MAX: usize = 100;

/// Decides what is taken.
pub(super) struct Collector {
    globs: GlobSet,
    limits: CollectLimits,
    to: PathBuf,
    taken: HashSet<String>,
    collected: Collected,
    left_bytes: u64,
    looked_at: usize,
    /// Whether what is looked at is as it was brought.
    unwritten: bool,
}

/// What a collector says of a thing at a path.
pub(super) enum Take {
    /// It is wanted, under this name.
    As(String),
    /// It is not wanted.
    No,
}

impl Collector {
    pub(super) fn new(globs: &[String], limits: CollectLimits, to: &Path) -> Result<Self, ExecError> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let plain = glob.strip_prefix("./").unwrap_or(glob);
            let glob = GlobBuilder::new(plain).literal_separator(true).build().map_err(|error| {
                ExecError::BadTask(format!("the artifact path `{glob}` is no glob: {error}"))
            })?;
            set.add(glob);
        }
        let globs = set.build().map_err(|error| ExecError::BadTask(error.to_string()))?;
        fs::create_dir_all(to).map_err(failed)?;
        Ok(Self {
            globs,
            limits,
            to: to.to_owned(),
            taken: HashSet::new(),
            collected: Collected::default(),
            left_bytes: limits.total_bytes,
            looked_at: 0,
            unwritten: false,
        })
    }

    /// [`wants`](Self::wants), of a thing whose last change is known, in seconds since 1970.
    pub(super) fn wants_of(&mut self, path: &Path, mtime: u64) -> Result<Take, ExecError> {
        let unwritten = mtime == UNWRITTEN_MTIME;
        self.collected.keeps_times |= unwritten && path == Path::new(INPUTS_FILE);
        self.unwritten = unwritten && !path.starts_with(OWN_DIR);
        self.wants(path)
    }

    /// Whether the thing at this path (relative to the work folder) is wanted.
    fn wants(&mut self, path: &Path) -> Result<Take, ExecError> {
        self.looked_at += 1;
        if self.looked_at > LOOKED_AT_MAX {
            return Err(ExecError::BadTask(format!("the work folder holds more than {LOOKED_AT_MAX} files")));
        }
        let name = if let Ok(name) = path.strip_prefix(OUTPUT_DIR) {
            name
        } else if path.starts_with(OWN_DIR) || !self.globs.is_match(path) {
            return Ok(Take::No);
        } else {
            path
        };
        match files::inner_path(name) {
            Ok(name) if name.as_os_str().is_empty() => Ok(Take::No),
            Ok(name) => Ok(Take::As(name.to_string_lossy().into_owned())),
            Err(why) => {
                self.skip(&name.to_string_lossy().escape_debug().to_string(), why);
                Ok(Take::No)
            }
        }
    }

    pub(super) fn skip(&mut self, name: &str, reason: impl Into<String>) {
        let skipped = &mut self.collected.skipped;
        if skipped.len() < SKIPPED_MAX {
            skipped.push(Skipped { name: name.to_owned(), reason: reason.into() });
        } else if skipped.len() == SKIPPED_MAX {
            skipped.push(Skipped { name: "…".to_owned(), reason: "and more".to_owned() });
        }
    }

    /// Takes a file of this size, if it still fits.
    pub(super) fn take(&mut self, name: String, size: u64, content: &mut impl Read) -> Result<(), ExecError> {
        if self.collected.files.len() >= self.limits.files {
            self.skip(&name, format!("more than {} files", self.limits.files));
            return Ok(());
        }
        if size > self.left_bytes {
            let (size, max) = (format_size(size), format_size(self.limits.total_bytes));
            self.skip(&name, format!("with its {size} all files together go over their limit of {max}"));
            return Ok(());
        }
        if !self.taken.insert(name.clone()) {
            // What was only brought gives way to what was written, and nobody misses it.
            if !self.unwritten {
                self.skip(&name, "another file has the same name");
            }
            return Ok(());
        }
        let written = files::write_new(&self.to, Path::new(&name), 0o644, &mut content.take(size));
        match written {
            Ok(size_bytes) => {
                self.left_bytes -= size_bytes;
                if self.unwritten {
                    self.collected.unwritten.insert(name.clone());
                }
                self.collected.files.push(CollectedFile { name, size_bytes });
                Ok(())
            }
            // `a` and `a/b` from different places: whatever came first stays.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                self.skip(&name, "another file stands where its folder would be");
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.skip(&name, "another file has the same name");
                Ok(())
            }
            Err(error) => Err(failed(format!("{name}: {error}"))),
        }
    }

    /// Whether a file of this name was taken.
    pub(super) fn has(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    pub(super) fn done(mut self) -> Collected {
        self.collected.files.sort();
        self.collected.skipped.sort();
        self.collected
    }

    /// Takes from a folder in which nothing runs any more.
    pub(super) fn take_folder(mut self, work: &Path) -> Result<Collected, ExecError> {
        self.collected.keeps_times = true;
        // The output folder first: its files win over others of the same name.
        let mut todo = vec![PathBuf::new(), PathBuf::from(OUTPUT_DIR)];
        while let Some(inner) = todo.pop() {
            // Whoever made a link of the output folder must not have us take what it leads to.
            if !files::is_inner_folder(work, &inner) {
                self.skip(&inner.to_string_lossy(), "it is no folder any more");
                continue;
            }
            let Ok(entries) = fs::read_dir(work.join(&inner)) else { continue };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let path = inner.join(entry.file_name());
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() {
                    self.looked_at += 1;
                    if path != Path::new(OWN_DIR) && path.components().count() <= files::DEPTH_MAX {
                        todo.push(path);
                    }
                    continue;
                }
                let mtime = fs::symlink_metadata(work.join(&path)).map_or(0, |found| found.mtime());
                let mtime = u64::try_from(mtime).unwrap_or(0);
                let Take::As(name) = self.wants_of(&path, mtime)? else { continue };
                if !kind.is_file() {
                    self.skip(&name, "it is a link or a device, not a file");
                    continue;
                }
                let opened = fs::OpenOptions::new()
                    .read(true)
                    .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits() | nix::fcntl::OFlag::O_NONBLOCK.bits())
                    .open(work.join(&path));
                let mut file = match opened {
                    Ok(file) => file,
                    Err(error) => {
                        self.skip(&name, format!("it cannot be read: {error}"));
                        continue;
                    }
                };
                let meta = file.metadata().map_err(failed)?;
                if meta.is_file() {
                    self.take(name, meta.len(), &mut file)?;
                } else {
                    self.skip(&name, "it is a link or a device, not a file");
                }
            }
        }
        Ok(self.done())
    }
}

fn failed(error: impl std::fmt::Display) -> ExecError {
    ExecError::Infra(format!("files cannot be taken out: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_folder_of_traps() {
        let temp = tempfile::tempdir().unwrap();
        let (work, to) = (temp.path().join("work"), temp.path().join("to"));
        fs::create_dir_all(work.join(".taskbot/output/sub")).unwrap();
        fs::create_dir_all(work.join("logs")).unwrap();
        fs::write(work.join(".taskbot/inputs.json"), "{}").unwrap();
        fs::write(work.join(".taskbot/output/sub/a.txt"), "out").unwrap();
        fs::write(work.join(".taskbot/output/same.log"), "from output").unwrap();
        fs::write(work.join("same.log"), "from work").unwrap();
        fs::write(work.join("logs/b.log"), "b").unwrap();
        fs::write(work.join("other"), "no").unwrap();
        fs::write(work.join("big.log"), "x".repeat(1000)).unwrap();
        fs::write(work.join("odd\nname.log"), "x").unwrap();
        symlink("/etc/passwd", work.join("passwd.log")).unwrap();
        symlink("/etc", work.join(".taskbot/output/etc")).unwrap();
        nix::unistd::mkfifo(&work.join("fifo.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let limits = CollectLimits { total_bytes: 100, files: 10 };
        let globs = ["*.log".to_owned(), "./logs/**".to_owned(), ".taskbot/*".to_owned()];
        let collected = Collector::new(&globs, limits, &to).unwrap().take_folder(&work).unwrap();
        let files: Vec<_> = collected.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(files, ["logs/b.log", "same.log", "sub/a.txt"]);
        assert_eq!(fs::read_to_string(to.join("same.log")).unwrap(), "from output");
        let skipped: Vec<_> = collected.skipped.iter().map(|s| format!("{}: {}", s.name, s.reason)).collect();
        assert_eq!(
            skipped,
            [
                "big.log: with its 1000 B all files together go over their limit of 100 B",
                "etc: it is a link or a device, not a file",
                "fifo.log: it is a link or a device, not a file",
                "odd\\nname.log: its name holds control characters",
                "passwd.log: it is a link or a device, not a file",
                "same.log: another file has the same name",
            ]
        );
    }

    #[test]
    fn too_many() {
        let temp = tempfile::tempdir().unwrap();
        let (work, to) = (temp.path().join("work"), temp.path().join("to"));
        fs::create_dir_all(work.join(OUTPUT_DIR)).unwrap();
        for n in 0..300 {
            fs::write(work.join(OUTPUT_DIR).join(n.to_string()), "x").unwrap();
        }
        let limits = CollectLimits { total_bytes: 1000, files: 10 };
        let collected = Collector::new(&[], limits, &to).unwrap().take_folder(&work).unwrap();
        assert_eq!(collected.files.len(), 10);
        assert_eq!(collected.skipped.len(), SKIPPED_MAX + 1);
        assert!(matches!(Collector::new(&["a[".to_owned()], limits, &to), Err(ExecError::BadTask(_))));
    }
}
