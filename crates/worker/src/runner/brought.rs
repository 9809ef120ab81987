//! Files that a task brings and that would count as its results: old ones, unless the attempt writes them anew.

use super::{Halt, Job, surroundings::mark_unwritten, verdict::matcher};
use crate::{artifacts::sha256_of, executor::Collected};
use model::task_file::OUTPUT_PREFIX;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The files by their path below the work folder, with the sums of what they held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Brought(BTreeMap<String, String>);

impl Brought {
    /// Looks for them below a folder and marks them.
    pub(super) fn mark(job: &Job, tree: &Path) -> Result<Self, Halt> {
        let path = job.file.results.path.as_ref().filter(|path| !path.starts_with(OUTPUT_PREFIX));
        let Some(path) = path else { return Ok(Self::default()) };
        let (glob, mut found) = (matcher(&job.inner(path))?, BTreeMap::new());
        let mut todo = vec![PathBuf::new()];
        while let Some(inner) = todo.pop() {
            for entry in fs::read_dir(tree.join(&inner))? {
                let (entry, kind) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))?;
                let inner = inner.join(entry.file_name());
                if kind.is_dir() {
                    todo.push(inner);
                } else if kind.is_file() && glob.is_match(&inner) {
                    mark_unwritten(&entry.path())?;
                    found.insert(inner.to_string_lossy().into_owned(), sha256_of(&entry.path())?);
                }
            }
        }
        Ok(Self(found))
    }

    /// Whether a file that was collected into a folder is only what was brought. Where the environment does not keep
    /// the times of files, one with the same content counts as that.
    pub(super) fn is(&self, name: &str, collected: &Collected, folder: &Path) -> io::Result<bool> {
        let Some(sum) = self.0.get(name) else { return Ok(false) };
        let unwritten = collected.unwritten.contains(name) || !collected.keeps_times;
        Ok(unwritten && sha256_of(&folder.join(name))? == *sum)
    }
}
