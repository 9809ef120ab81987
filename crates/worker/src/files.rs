//! Folders that strangers filled: measuring, removing and unpacking them without following their links.

use std::{
    fs, io,
    io::Read,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

/// The longest path inside a folder that is taken, in bytes.
pub const PATH_BYTES_MAX: usize = 1024;
/// The deepest folder that is taken.
pub const DEPTH_MAX: usize = 64;

/// The disk space that a folder uses, in bytes; links are not followed, what vanishes meanwhile is not counted.
/// Stops counting once more than `enough` is found.
#[must_use]
pub fn usage(folder: &Path, enough: u64) -> u64 {
    let mut used = 0;
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            used += meta.blocks() * 512;
            if used > enough {
                return used;
            }
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    used
}

/// Removes a folder with all it holds, also where the task took away the permission to do so.
///
/// # Errors
/// What could not be removed. That it is not there is no error.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => return other,
    }
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(folder)
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
