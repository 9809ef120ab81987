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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{executor::UNWRITTEN_MTIME, runner::tests::job};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn old_is_what_nobody_wrote() {
        let temp = tempfile::tempdir().unwrap();
        let (tree, out) = (temp.path().join("tree"), temp.path().join("out"));
        for folder in [tree.join("sub"), out.join("sub")] {
            fs::create_dir_all(folder).unwrap();
        }
        for name in ["sub/r.tap", "r.tap", "sub/other"] {
            fs::write(tree.join(name), "old").unwrap();
        }
        let mut job = job("name: t\nrun: 'true'\nresults: {format: tap, path: '*.tap'}\n");
        job.dir = "sub".to_owned();
        let brought = Brought::mark(&job, &tree).unwrap();
        let marked = |name: &str| {
            fs::metadata(tree.join(name)).unwrap().mtime() == i64::try_from(UNWRITTEN_MTIME).unwrap()
        };
        assert_eq!(["sub/r.tap", "r.tap", "sub/other"].map(marked), [true, false, false]);
        let check = |name: &str, content: &str, unwritten: bool, keeps_times: bool, expect: bool| {
            fs::write(out.join(name), content).unwrap();
            let unwritten = unwritten.then(|| name.to_owned()).into_iter().collect();
            let collected = Collected { unwritten, keeps_times, ..Collected::default() };
            let got = brought.is(name, &collected, &out).unwrap();
            assert_eq!(got, expect, "{name} {content} {collected:?}");
        };
        check("sub/r.tap", "old", true, true, true);
        check("sub/r.tap", "old", false, true, false);
        check("sub/r.tap", "old", false, false, true);
        check("sub/r.tap", "new", false, true, false);
        check("sub/r.tap", "new", false, false, false);
        check("r.tap", "old", false, false, false);
        job.file.results.path = Some("$TASKBOT_OUTPUT/r.tap".to_owned());
        assert_eq!(Brought::mark(&job, &tree).unwrap(), Brought::default());
    }
}
