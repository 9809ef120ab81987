//! Work folders as tar archives: packed by us, and taken apart again. What comes out is a stranger's.

use super::{
    Collected, ExecError, OUTPUT_DIR, OWN_DIR,
    collect::{Collector, Take},
};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// How much more than the allowed disk space a work folder's archive may be (files with holes), in bytes.
pub(super) const SLACK_BYTES: u64 = 1 << 30;

/// What is in a work folder: the path, and the size with the time of the last change, or where a link leads.
pub(super) type Listing = BTreeMap<PathBuf, String>;

/// Packs a folder's content below `top`, owned by user and group `id`; gives what is in it. With `folders`, those
/// that are always there too.
pub(super) fn pack(
    from: Option<&Path>,
    top: &Path,
    id: u32,
    folders: bool,
    writer: impl io::Write,
) -> io::Result<Listing> {
    let mut builder = tar::Builder::new(writer);
    let mut listing = Listing::new();
    if folders {
        for folder in ["".to_owned(), format!("{OWN_DIR}/"), format!("{OUTPUT_DIR}/")] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_uid(id.into());
            header.set_gid(id.into());
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, top.join(folder), io::empty())?;
        }
    }
    let mut todo: Vec<_> = from.map(|_| PathBuf::new()).into_iter().collect();
    let from = from.unwrap_or(Path::new(""));
    while let Some(inner) = todo.pop() {
        let path = from.join(&inner);
        let meta = fs::symlink_metadata(&path)?;
        let name = top.join(&inner);
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&meta);
        header.set_uid(id.into());
        header.set_gid(id.into());
        if meta.is_dir() {
            header.set_mode(0o755);
            header.set_size(0);
            builder.append_data(&mut header, &name, io::empty())?;
            for entry in fs::read_dir(&path)? {
                todo.push(inner.join(entry?.file_name()));
            }
        } else if meta.is_symlink() {
            let target = fs::read_link(&path)?;
            header.set_size(0);
            builder.append_link(&mut header, &name, &target)?;
            listing.insert(inner, format!("-> {}", target.display()));
        } else if meta.is_file() {
            let executable = meta.permissions().mode() & 0o100 != 0;
            header.set_mode(if executable { 0o755 } else { 0o644 });
            listing.insert(inner.clone(), file_state(meta.len(), u64::try_from(meta.mtime()).unwrap_or(0)));
            builder.append_data(&mut header, &name, fs::File::open(&path)?.take(meta.len()))?;
        }
    }
    io::Write::flush(&mut builder.into_inner()?)?;
    Ok(listing)
}

/// A file's state as it stands in a [`Listing`].
pub(super) fn file_state(size: u64, mtime: u64) -> String {
    format!("{size} bytes at {mtime}")
}

/// Takes an archive apart. `place` says where below the work folder an entry belongs; an archive that breaks with an
/// error that means `absent` holds no more.
pub(super) fn take(
    archive: impl Read,
    place: impl Fn(&Path) -> PathBuf,
    absent: impl Fn(&io::Error) -> bool,
    mut collector: Collector,
    bytes_max: u64,
) -> Result<Collected, ExecError> {
    let mut archive = tar::Archive::new(archive);
    let mut seen_bytes = 0_u64;
    let entries = match archive.entries() {
        Err(error) if absent(&error) => return Ok(collector.done()),
        entries => entries.map_err(broken)?,
    };
    for entry in entries {
        let mut entry = match entry {
            Err(error) if absent(&error) => return Ok(collector.done()),
            entry => entry.map_err(broken)?,
        };
        seen_bytes = seen_bytes.saturating_add(entry.size());
        let path = place(&entry.path().map_err(broken)?);
        let kind = entry.header().entry_type();
        if seen_bytes > bytes_max {
            collector
                .skip(&path.to_string_lossy(), format!("the work folder is larger than {bytes_max} bytes"));
            break;
        }
        if kind.is_dir() {
            continue;
        }
        let mtime = entry.header().mtime().unwrap_or(0);
        let Take::As(name) = collector.wants_of(&path, mtime)? else { continue };
        if kind.is_file() {
            let size = entry.size();
            collector.take(name, size, &mut entry)?;
        } else {
            collector.skip(&name, "it is a link or a device, not a file");
        }
    }
    Ok(collector.done())
}

fn broken(error: impl std::fmt::Display) -> ExecError {
    ExecError::Infra(format!("the archive of the work folder cannot be read: {error}"))
}
