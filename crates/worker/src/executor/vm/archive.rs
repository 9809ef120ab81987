//! Files into and out of machines, as tar archives on raw disks. What comes out is a stranger's.

use super::super::{
    Collected, ExecError, OUTPUT_DIR,
    collect::{Collector, Take},
    host::infra,
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Packs a folder's content but for some files; all of it is root's.
pub(super) fn pack(from: &Path, without: &BTreeSet<PathBuf>, writer: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(io::BufWriter::new(writer));
    let mut todo = vec![PathBuf::new()];
    while let Some(inner) = todo.pop() {
        for entry in fs::read_dir(from.join(&inner))? {
            let entry = entry?;
            let (path, name) = (entry.path(), inner.join(entry.file_name()));
            let meta = entry.metadata()?;
            let mut header = tar::Header::new_gnu();
            header.set_metadata(&meta);
            header.set_uid(0);
            header.set_gid(0);
            if meta.is_dir() {
                header.set_size(0);
                builder.append_data(&mut header, &name, io::empty())?;
                todo.push(name);
            } else if meta.is_symlink() {
                header.set_size(0);
                builder.append_link(&mut header, &name, fs::read_link(&path)?)?;
            } else if meta.is_file() && !without.contains(&path) {
                builder.append_data(&mut header, &name, File::open(&path)?.take(meta.len()))?;
            }
        }
    }
    builder.into_inner()?.flush()
}

/// As [`pack`], when the archive has at most so many bytes.
pub(super) fn pack_small(
    from: &Path,
    without: &BTreeSet<PathBuf>,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut small = Small { bytes: Vec::new(), bytes_max };
    match pack(from, without, &mut small) {
        Ok(()) => Ok(Some(small.bytes)),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes so many bytes.
struct Small {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Small {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what a machine packed. It may be anything: what cannot be read ends it, and says so.
pub(super) fn take(file: File, mut collector: Collector, bytes_max: u64) -> Result<Collected, ExecError> {
    let mut archive = tar::Archive::new(io::BufReader::new(file.take(bytes_max)));
    let entries = match archive.entries() {
        Ok(entries) => entries,
        Err(error) => return Err(infra(error)),
    };
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                collector.skip("…", format!("what the machine packed cannot be read on: {error}"));
                break;
            }
        };
        let kind = entry.header().entry_type();
        let Ok(path) = entry.path().map(|path| path.into_owned()) else { continue };
        let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
        if kind.is_dir() {
            continue;
        }
        let mtime = entry.header().mtime().unwrap_or_default();
        let Take::As(name) = collector.wants_of(&path, mtime)? else { continue };
        if kind.is_file() {
            let size = entry.size();
            if entry.raw_file_position().saturating_add(size) > bytes_max {
                collector.skip(&name, format!("what the machine packed is cut off at {bytes_max} bytes"));
                break;
            }
            // The output folder is packed twice when all is: its files are there already.
            if !(path.starts_with(OUTPUT_DIR) && collector.has(&name)) {
                collector.take(name, size, &mut entry)?;
            }
        } else {
            collector.skip(&name, "it is a link or a device, not a file");
        }
    }
    Ok(collector.done())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::CollectLimits;

    /// A tar archive with everything that an archive must not have.
    fn hostile(victim: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType, link: &str, said: u64, content: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o6777);
            header.set_size(said);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        };
        let file = tar::EntryType::Regular;
        for name in [
            "../up.txt",
            "./.taskbot/output/../../../up.txt",
            "/etc/up.txt",
            &format!("{victim}/up.txt"),
            ".taskbot/output/../up.txt",
        ] {
            add(name, file, "", 2, b"x\n");
        }
        add(".taskbot/output/way", tar::EntryType::Symlink, victim, 0, b"");
        add(".taskbot/output/way/up.txt", file, "", 2, b"x\n");
        add(".taskbot/output/hard", tar::EntryType::Link, &format!("{victim}/file"), 0, b"");
        add(".taskbot/output/device", tar::EntryType::Block, "", 0, b"");
        add(".taskbot/output/good.txt", file, "", 5, b"good\n");
        add(".taskbot/output/good.txt", file, "", 6, b"again\n");
        // Says that it is larger than any disk.
        add(".taskbot/output/large.txt", file, "", 0o77_777_777_777, b"");
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_machine_that_packs_lies() {
        let temp = tempfile::tempdir().unwrap();
        let (victim, to) = (temp.path().join("victim"), temp.path().join("to"));
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("file"), "kept").unwrap();
        let disk = temp.path().join("disk");
        fs::write(&disk, hostile(victim.to_str().unwrap())).unwrap();
        let limits = CollectLimits { total_bytes: 1 << 20, files: 100 };
        let collector = Collector::new(&["**".to_owned()], limits, &to).unwrap();
        let collected = take(File::open(&disk).unwrap(), collector, 1 << 20).unwrap();
        let names: Vec<_> = collected.files.iter().map(|file| file.name.as_str()).collect();
        // What comes through a link is a file in a folder of that name here.
        assert_eq!(names, ["good.txt", "way/up.txt"]);
        assert!(fs::symlink_metadata(to.join("way")).unwrap().is_dir());
        let skipped: Vec<_> = collected.skipped.iter().map(|one| one.reason.as_str()).collect();
        for why in ["its path holds `..`", "its path is absolute", "it is a link or a device, not a file"] {
            assert!(skipped.contains(&why), "{why}: {skipped:?}");
        }
        assert!(skipped.iter().any(|why| why.contains("cut off at")), "{skipped:?}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        let left: Vec<_> =
            fs::read_dir(temp.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }
}
