//! What this machine is and has.

use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};
use std::{fs, path::Path};

/// Its name.
pub(crate) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// Its architecture in the kernel's words.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i686",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        other => other,
    }
}

/// Its memory in bytes; 0 when it cannot be told.
pub(crate) fn memory_bytes() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

/// The free space at a folder, or at the nearest one above it that is there, in bytes; 0 when it cannot be told.
pub(crate) fn free_bytes(folder: &Path) -> u64 {
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    statvfs(there).map_or(0, |found| found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Whether this user may make files in a folder.
pub(crate) fn may_write(folder: &Path) -> bool {
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// How many processors it has.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}
