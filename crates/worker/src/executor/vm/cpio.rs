//! Archives in cpio's "newc" form: what a kernel takes as its initial RAM disk. Several may follow each other.

use std::io::{self, Read, Write};

/// Archives begin at multiples of this, in bytes.
const ALIGN: u64 = 4;
/// The last entry of every archive.
const TRAILER: &str = "TRAILER!!!";
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Writes archives, one after the other.
pub(super) struct Cpio<W> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// Appends an archive as it is, whatever its compression.
    pub(super) fn raw(&mut self, content: &mut impl Read) -> io::Result<()> {
        self.written += io::copy(content, &mut self.out)?;
        self.pad()
    }

    /// Appends a tar archive as one of ours.
    pub(super) fn tar(&mut self, content: impl Read) -> io::Result<()> {
        self.tar_into("", content)?;
        self.end()
    }

    /// Adds what is in a tar archive, below a folder, which ends in `/` unless it is the root. Hard links become
    /// symbolic ones; devices are left out.
    pub(super) fn tar_into(&mut self, folder: &str, content: impl Read) -> io::Result<()> {
        for entry in tar::Archive::new(content).entries()? {
            let mut entry = entry?;
            let header = entry.header();
            let (kind, mode) = (header.entry_type(), header.mode()? & 0o7777);
            let path = entry.path()?.into_owned();
            let inner = path.strip_prefix("/").unwrap_or(&path);
            let inner = crate::files::inner_path(inner).map_err(|why| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
            })?;
            if inner.as_os_str().is_empty() {
                continue;
            }
            let name = format!("{folder}{}", inner.to_string_lossy());
            if kind.is_dir() {
                self.folder(&name, mode)?;
            } else if kind.is_file() {
                let (size, mtime) = (entry.size(), header.mtime()?);
                self.entry(&name, FILE | mode, mtime, size, &mut entry)?;
            } else if let Some(target) = entry.link_name()? {
                let target = target.to_string_lossy().into_owned();
                let target = if kind.is_hard_link() {
                    format!("/{folder}{}", target.trim_start_matches("./").trim_start_matches('/'))
                } else {
                    target
                };
                self.link(&name, &target)?;
            }
        }
        Ok(())
    }

    pub(super) fn folder(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.entry(name, FOLDER | mode, 0, 0, &mut io::empty())
    }

    pub(super) fn file(
        &mut self,
        name: &str,
        mode: u32,
        size: u64,
        content: &mut impl Read,
    ) -> io::Result<()> {
        self.entry(name, FILE | mode, 0, size, content)
    }

    pub(super) fn link(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, LINK | 0o777, 0, target.len() as u64, &mut target.as_bytes())
    }

    /// Ends an archive.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.entry(TRAILER, 0, 0, 0, &mut io::empty())
    }

    /// Writes what is still in a buffer.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// `mtime` is in seconds since 1970; 0 where it does not matter.
    fn entry(
        &mut self,
        name: &str,
        mode: u32,
        mtime: u64,
        size: u64,
        content: &mut impl Read,
    ) -> io::Result<()> {
        let size = u32::try_from(size)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{name}: more than 4 GiB")))?;
        let mtime = u32::try_from(mtime).unwrap_or(u32::MAX);
        self.inode += 1;
        let links = if mode & FOLDER == FOLDER && mode & FILE != FILE { 2 } else { 1 };
        let fields = [self.inode, mode, 0, 0, links, mtime, size, 0, 0, 0, 0];
        let mut head = String::from("070701");
        for field in fields {
            head.push_str(&format!("{field:08X}"));
        }
        head.push_str(&format!("{:08X}{:08X}{name}\0", name.len() + 1, 0));
        self.out.write_all(head.as_bytes())?;
        self.written += head.len() as u64;
        self.pad()?;
        let copied = io::copy(&mut content.take(size.into()), &mut self.out)?;
        if copied != u64::from(size) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name}: it ends too early")));
        }
        self.written += copied;
        self.pad()
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(ALIGN) - self.written;
        self.written += missing;
        self.out.write_all(&[0; 4][..usize::try_from(missing).unwrap_or(0)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn archives_are_read_by_others() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o640);
        tar.append_data(&mut header, "etc/conf", &b"abc"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_mode(0o777);
        link.set_size(0);
        tar.append_link(&mut link, "bin/sh", "busybox").unwrap();
        let mut archive = Vec::new();
        let mut cpio = Cpio::new(&mut archive);
        cpio.tar(&tar.into_inner().unwrap()[..]).unwrap();
        cpio.folder("own", 0o755).unwrap();
        cpio.file("own/x", 0o755, 5, &mut &b"hello"[..]).unwrap();
        cpio.end().unwrap();
        assert_eq!(archive.len() % 4, 0);
        let temp = tempfile::tempdir().unwrap();
        // Each run of the reader takes one archive.
        let split = archive.windows(10).position(|part| part == TRAILER.as_bytes()).unwrap() + 12;
        for part in [&archive[..split.next_multiple_of(4)], &archive[split.next_multiple_of(4)..]] {
            let mut child = Command::new("busybox")
                .args(["cpio", "-i", "-d"])
                .current_dir(temp.path())
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(part).unwrap();
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(std::fs::read(temp.path().join("own/x")).unwrap(), b"hello");
        assert_eq!(std::fs::read(temp.path().join("etc/conf")).unwrap(), b"abc");
        assert_eq!(std::fs::read_link(temp.path().join("bin/sh")).unwrap().to_str(), Some("busybox"));
        let mut short = Cpio::new(Vec::new());
        assert!(short.file("x", 0o644, 5, &mut &b"abc"[..]).is_err());
    }
}
