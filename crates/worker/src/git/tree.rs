//! Trees unpacked from `git archive`.

use super::{GitError, command::infra};
use crate::{executor::OWN_DIR, files};
use std::{
    io::{self, Read},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tar::EntryType;

/// How large a checked-out tree may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// All files together, in bytes.
    pub total_bytes: u64,
    /// Files, folders and links.
    pub entries: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { total_bytes: 2 << 30, entries: 200_000 }
    }
}

/// Unpacks an archive into a folder that holds nothing yet; it is read to its very end.
pub(super) fn unpack(archive: impl Read, into: &Path, limits: TreeLimits) -> Result<(), GitError> {
    let mut archive = tar::Archive::new(archive);
    let (mut left_bytes, mut entries) = (limits.total_bytes, 0);
    for entry in archive.entries().map_err(infra)? {
        let mut entry = entry.map_err(infra)?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        entries += 1;
        if entries > limits.entries {
            return Err(GitError::TooLarge(format!("more than {} files", limits.entries)));
        }
        let raw = entry.path().map_err(infra)?.into_owned();
        let inner = checked(&raw)?;
        let hostile = |why: &str| GitError::Hostile(format!("`{}` {why}", shown(&raw)));
        let failed = |error: std::io::Error| infra(format!("{}: {error}", shown(&raw)));
        match kind {
            EntryType::Directory => {
                files::make_inner_folder(into, &inner).map_err(failed)?;
            }
            EntryType::Regular | EntryType::Continuous => {
                let size = entry.size();
                left_bytes = left_bytes.checked_sub(size).ok_or_else(|| {
                    GitError::TooLarge(format!("the files are larger than {} bytes", limits.total_bytes))
                })?;
                let executable = entry.header().mode().map_err(infra)? & 0o100 != 0;
                let mode = if executable { 0o755 } else { 0o644 };
                files::write_new(into, &inner, mode, &mut entry).map_err(failed)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name().map_err(infra)?.unwrap_or_default().into_owned();
                if !files::stays_inside(&inner, &target) {
                    return Err(hostile(&format!(
                        "is a link out of the repository, to `{}`",
                        shown(&target)
                    )));
                }
                if let Some(parent) = inner.parent() {
                    files::make_inner_folder(into, parent).map_err(failed)?;
                }
                symlink(&target, into.join(&inner)).map_err(failed)?;
            }
            other => return Err(hostile(&format!("is no file, folder or link but {other:?}"))),
        }
    }
    // Behind the archive's end git fills a block. If nobody took that, it would end by a signal now and then.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop).map_err(infra)
}

/// The entry's path, if it may be in a task's work folder.
fn checked(raw: &Path) -> Result<PathBuf, GitError> {
    let inner = files::inner_path(raw)
        .map_err(|why| GitError::Hostile(format!("the repository holds `{}`: {why}", shown(raw))))?;
    if inner.starts_with(OWN_DIR) {
        return Err(GitError::Hostile(format!(
            "the repository holds `{OWN_DIR}`, which is reserved; rename it or remove it"
        )));
    }
    if inner.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git")) {
        return Err(GitError::Hostile(format!("the repository holds `{}`", shown(raw))));
    }
    Ok(inner)
}

fn shown(path: &Path) -> String {
    super::names::shown(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    /// An entry whose name the builder itself would refuse.
    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, content: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    #[test]
    fn hostile_archives() {
        let check = |name: &str, kind: EntryType, link: &str, expect: &str| {
            let temp = tempfile::tempdir().unwrap();
            let into = temp.path().join("in");
            std::fs::create_dir(&into).unwrap();
            let bytes = archive(|builder| add(builder, name, kind, link, b""));
            let error = unpack(bytes.as_slice(), &into, TreeLimits::default()).unwrap_err();
            assert!(matches!(error, GitError::Hostile(_)), "{error:?}");
            assert!(error.to_string().contains(expect), "{error}");
            assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
        };
        check("../up", EntryType::Regular, "", "holds `..`");
        check("/abs", EntryType::Regular, "", "absolute");
        check("a/../../up", EntryType::Regular, "", "holds `..`");
        check("link", EntryType::Symlink, "/etc/passwd", "link out of the repository, to `/etc/passwd`");
        check("a/link", EntryType::Symlink, "../../x", "link out of the repository");
        check("hard", EntryType::Link, "/etc/passwd", "is no file, folder or link");
        check("dev", EntryType::Block, "", "is no file, folder or link");
        check("fifo", EntryType::Fifo, "", "is no file, folder or link");
        check("a/.git/hooks/x", EntryType::Regular, "", "holds `a/.git/hooks/x`");
        check(".GIT/config", EntryType::Regular, "", "holds `.GIT/config`");
        check(".taskbot/inputs.json", EntryType::Regular, "", "reserved");
    }

    #[test]
    fn whoever_writes_an_archive_can_write_all_of_it() {
        let temp = tempfile::tempdir().unwrap();
        let mut bytes = archive(|builder| add(builder, "a", EntryType::Regular, "", b"12345"));
        bytes.resize(10_240, 0);
        let mut reader = bytes.as_slice();
        unpack(&mut reader, temp.path(), TreeLimits::default()).unwrap();
        assert_eq!(reader.len(), 0, "bytes that nobody took");
        assert_eq!(std::fs::read(temp.path().join("a")).unwrap(), b"12345");
    }

    #[test]
    fn too_large() {
        let temp = tempfile::tempdir().unwrap();
        let bytes = archive(|builder| {
            add(builder, "a", EntryType::Regular, "", b"12345");
            add(builder, "b", EntryType::Regular, "", b"12345");
        });
        let small = TreeLimits { total_bytes: 9, entries: 10 };
        let error = unpack(bytes.as_slice(), &temp.path().join("x"), small).unwrap_err();
        assert!(matches!(error, GitError::Infra(_)), "the folder must be there: {error}");
        let error = unpack(bytes.as_slice(), temp.path(), small).unwrap_err();
        assert_eq!(error, GitError::TooLarge("the files are larger than 9 bytes".to_owned()));
        let few = TreeLimits { total_bytes: 100, entries: 1 };
        let temp = tempfile::tempdir().unwrap();
        let error = unpack(bytes.as_slice(), temp.path(), few).unwrap_err();
        assert_eq!(error, GitError::TooLarge("more than 1 files".to_owned()));
    }
}
