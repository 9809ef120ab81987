//! Folders that strangers filled: measuring, removing and unpacking them without following their links.

use nix::{
    fcntl::OFlag,
    sys::{
        statfs::{TMPFS_MAGIC, statfs},
        statvfs::statvfs,
    },
};
use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Component, Path, PathBuf},
};

/// The longest path inside a folder that is taken, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;
/// The deepest folder that is taken.
pub const DEPTH_MAX: usize = 64;

/// What a name costs beside its content, in bytes: a file system runs out of them as it does of space.
pub const NAME_BYTES: u64 = 4096;
/// How many folders above the one that is looked at are kept open.
const OPEN_FOLDERS_MAX: usize = 64;
/// A disk with less space than this is full, in bytes.
pub const FREE_BYTES_MIN: u64 = 512 << 20;

/// A folder above the one that is looked at.
struct Level {
    /// Nothing for those that are too deep to be kept open: they are found by `..`.
    folder: Option<File>,
    id: (u64, u64),
    todo: Vec<OsString>,
}

/// The disk space that a folder uses, in bytes; links are not followed, what vanishes meanwhile is not counted.
/// Stops counting once more than `enough` is found. However deep the folders are, no path is made of them.
#[must_use]
pub fn usage(folder: &Path, enough: u64) -> u64 {
    let Ok(mut open) = open_folder(folder) else { return 0 };
    let mut levels: Vec<Level> = Vec::new();
    let mut used = 0;
    loop {
        let Ok(found) = open.metadata() else { return used };
        let mut todo = Vec::new();
        for entry in fs::read_dir(by_descriptor(&open)).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            used += meta.blocks() * 512 + NAME_BYTES;
            if used > enough {
                return used;
            }
            if meta.is_dir() {
                todo.push(entry.file_name());
            }
        }
        let folder = (levels.len() < OPEN_FOLDERS_MAX).then(|| open.try_clone().ok()).flatten();
        levels.push(Level { folder, id: (found.dev(), found.ino()), todo });
        loop {
            let Some(level) = levels.last_mut() else { return used };
            if let Some(name) = level.todo.pop() {
                if let Ok(next) = open_folder(&by_descriptor(&open).join(name)) {
                    open = next;
                    break;
                }
                continue;
            }
            levels.pop();
            let above = open_folder(&by_descriptor(&open).join(".."));
            let is_level = |folder: &File, level: &Level| {
                folder.metadata().is_ok_and(|found| (found.dev(), found.ino()) == level.id)
            };
            match (above, levels.last()) {
                (_, None) => return used,
                (Ok(above), Some(level)) if is_level(&above, level) => open = above,
                // It was moved meanwhile: on from the next that is known.
                _ => {
                    let known = levels.iter().rposition(|level| level.folder.is_some());
                    levels.truncate(known.map_or(0, |known| known + 1));
                    let Some(folder) =
                        levels.last().and_then(|level| level.folder.as_ref()?.try_clone().ok())
                    else {
                        return used;
                    };
                    open = folder;
                }
            }
        }
    }
}

fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn by_descriptor(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// The disk space of files that have no name any more and are held open by processes, in bytes. Nothing where
/// we may not look.
#[must_use]
pub fn held_open(processes: &BTreeSet<u32>) -> u64 {
    let mut seen = HashSet::new();
    let mut used = 0;
    for process in processes {
        let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        for path in open.map(|entry| entry.path()) {
            let Ok(meta) = fs::metadata(&path) else { continue };
            let nameless = meta.is_file() && meta.nlink() == 0 && seen.insert((meta.dev(), meta.ino()));
            if nameless && !is_in_memory(&path) {
                used += meta.blocks() * 512 + NAME_BYTES;
            }
        }
    }
    used
}

fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

/// Whether the disk that a path is on is full.
#[must_use]
pub fn disk_is_full(path: &Path) -> bool {
    let found = path.ancestors().find_map(|path| statvfs(path).ok());
    found.is_some_and(|found| found.blocks_available().saturating_mul(found.fragment_size()) < FREE_BYTES_MIN)
}

/// Removes a folder with all it holds, also where the task took away the permission to do so. Folders inside are
/// moved up into it before they are emptied: however deep they are, no path is made of them.
///
/// # Errors
/// What could not be removed. That it is not there is no error.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.is_dir() => return fs::remove_file(folder),
        Ok(_) => {}
    }
    let mut todo = vec![folder.to_owned()];
    let mut number: u64 = 0;
    while let Some(inner) = todo.pop() {
        open_to_us(&inner)?;
        for entry in fs::read_dir(&inner)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            } else if inner == folder {
                todo.push(entry.path());
            } else {
                open_to_us(&entry.path())?;
                todo.push(move_up(&entry.path(), folder, &mut number)?);
            }
        }
        if inner != folder {
            fs::remove_dir(&inner)?;
        }
    }
    fs::remove_dir(folder)
}

fn open_to_us(folder: &Path) -> io::Result<()> {
    if fs::symlink_metadata(folder)?.permissions().mode() & 0o700 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Moves a folder into another, under a name that is free.
fn move_up(from: &Path, to: &Path, number: &mut u64) -> io::Result<PathBuf> {
    loop {
        *number += 1;
        let to = to.join(format!(".removed-{number}"));
        if fs::symlink_metadata(&to).is_err() {
            fs::rename(from, &to)?;
            return Ok(to);
        }
    }
}

/// Whether a path below `root` is a folder and can be reached without going through links.
#[must_use]
pub fn is_inner_folder(root: &Path, inner: &Path) -> bool {
    let mut path = root.to_owned();
    inner.components().all(|part| {
        path.push(part);
        fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir())
    })
}

/// Checks a path that comes from a stranger: relative, no `..`, no control characters, not too long or deep.
/// Gives it back in its plain form (`./a//b` is `a/b`; `.` is empty).
///
/// # Errors
/// What is wrong with it.
pub fn inner_path(path: &Path) -> Result<PathBuf, String> {
    let mut plain = PathBuf::new();
    let mut depth = 0;
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => {
                let Some(name) = name.to_str() else { return Err("its name is not UTF-8".to_owned()) };
                if name.chars().any(char::is_control) {
                    return Err("its name holds control characters".to_owned());
                }
                plain.push(name);
                depth += 1;
            }
            Component::ParentDir => return Err("its path holds `..`".to_owned()),
            Component::RootDir | Component::Prefix(_) => return Err("its path is absolute".to_owned()),
        }
    }
    if depth > DEPTH_MAX || plain.as_os_str().len() > PATH_BYTES_MAX {
        return Err(format!("its path is longer than {PATH_BYTES_MAX} bytes or {DEPTH_MAX} folders"));
    }
    Ok(plain)
}

/// Whether a link at `link` (relative to a tree's root) that points to `target` stays inside the tree.
#[must_use]
pub fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Makes the folders from `root` to `root/inner`, refusing to go through links.
///
/// # Errors
/// I/O errors, and [`io::ErrorKind::NotADirectory`] where a link or file stands in the way.
pub fn make_inner_folder(root: &Path, inner: &Path) -> io::Result<PathBuf> {
    let mut folder = root.to_owned();
    for part in inner.components() {
        folder.push(part);
        match fs::DirBuilder::new().mode(0o755).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&folder)?.is_dir() {
                    return Err(io::Error::new(
                        io::ErrorKind::NotADirectory,
                        format!("{} is no folder", folder.display()),
                    ));
                }
            }
            other => other?,
        }
    }
    Ok(folder)
}

/// Writes a new file at `root/inner` from `content`; nothing that is there is overwritten or followed.
///
/// # Errors
/// I/O errors.
pub fn write_new(root: &Path, inner: &Path, mode: u32, content: &mut impl Read) -> io::Result<u64> {
    if let Some(parent) = inner.parent() {
        make_inner_folder(root, parent)?;
    }
    let path = root.join(inner);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    io::copy(content, &mut file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_strangers() {
        let check = |path: &str, expect: Result<&str, &str>| {
            let got = inner_path(Path::new(path));
            let got = got.as_ref().map(|path| path.to_str().unwrap()).map_err(String::as_str);
            assert_eq!(got, expect, "{path:?}");
        };
        check("a/b", Ok("a/b"));
        check("./a//b/.", Ok("a/b"));
        check(".", Ok(""));
        check("../a", Err("its path holds `..`"));
        check("a/../../b", Err("its path holds `..`"));
        check("/etc/passwd", Err("its path is absolute"));
        check("a\nb", Err("its name holds control characters"));
        check(&"x/".repeat(DEPTH_MAX + 1), Err("its path is longer than 1024 bytes or 64 folders"));
    }

    #[test]
    fn links_of_strangers() {
        let check = |link: &str, target: &str, expect: bool| {
            assert_eq!(stays_inside(Path::new(link), Path::new(target)), expect, "{link} -> {target}");
        };
        check("a", "b", true);
        check("a/b", "../c", true);
        check("a/b", "../../c", false);
        check("a", "/etc/passwd", false);
        check("a/b/c", "../x/../../y", true);
        check("a/b/c", "../x/../../../y", false);
    }

    #[test]
    fn locked_folders_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("x");
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join("deep/file"), "x").unwrap();
        fs::set_permissions(folder.join("deep"), fs::Permissions::from_mode(0o000)).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists());
        remove(&folder).unwrap();
    }

    /// Folders of `chunk` levels with long names, moved into each other: deeper than a path can be written.
    fn dig(folder: &Path, chunks: usize) {
        let name = "x".repeat(100);
        let chunk: PathBuf = std::iter::repeat_n(name.as_str(), 20).collect();
        fs::create_dir_all(folder.join("old").join(&chunk)).unwrap();
        fs::write(folder.join("old").join(&chunk).join("file"), vec![1; 100_000]).unwrap();
        for _ in 0..chunks {
            fs::create_dir_all(folder.join("new").join(&chunk)).unwrap();
            fs::rename(folder.join("old"), folder.join("new").join(&chunk).join("old")).unwrap();
            fs::rename(folder.join("new"), folder.join("old")).unwrap();
        }
    }

    #[test]
    fn the_deepest_folders_are_counted_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("x");
        fs::create_dir(&folder).unwrap();
        dig(&folder, 100);
        let used = usage(&folder, u64::MAX);
        let folders = 101 * 21 * (4096 + NAME_BYTES);
        assert!((folders + 100_000..folders + 120_000).contains(&used), "{used} {folders}");
        assert!(usage(&folder, 50_000) < 60_000);
        remove(&folder).unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_has_no_name_is_counted_once() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(&path, vec![1; 100_000]).unwrap();
        let file = File::open(&path).unwrap();
        let _again = file.try_clone().unwrap();
        let own = [std::process::id()].into();
        let before = held_open(&own);
        fs::remove_file(&path).unwrap();
        assert!((100_000..120_000).contains(&(held_open(&own) - before)));
    }

    #[test]
    fn a_link_to_a_folder_is_none() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", temp.path().join("a/link")).unwrap();
        for (inner, expect) in
            [("", true), ("a/b", true), ("a/link", false), ("a/link/ssl", false), ("a/c", false)]
        {
            assert_eq!(is_inner_folder(temp.path(), Path::new(inner)), expect, "{inner}");
        }
    }

    #[test]
    fn nothing_is_written_through_links() {
        let temp = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), temp.path().join("link")).unwrap();
        let error = write_new(temp.path(), Path::new("link/file"), 0o644, &mut &b"x"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
