//! Many short tasks at the same time on one worker: nothing is left of any of them.

use super::{ON_THIS_HOST, Stand, is_full};
use crate::common::until;
use futures_util::{StreamExt, stream};
use model::requirements::ExecutorKind;
use std::{collections::BTreeSet, fs, path::PathBuf};

/// How many run at the same time.
const AT_ONCE: usize = 8;
/// How many in the short form of the test, and in the long one.
const TASKS: usize = 24;
const TASKS_IN_FULL: usize = 200;

/// What a process may leak, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Count {
    descriptors: usize,
    children: usize,
    mounts: usize,
    folders: BTreeSet<PathBuf>,
}

impl Count {
    fn now(stand: &Stand) -> Self {
        let entries = |path: &str| fs::read_dir(path).unwrap().count();
        let own = std::process::id();
        let parents = fs::read_dir("/proc").unwrap().flatten();
        let stats = parents.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        // After the name in brackets come the state and the parent.
        let children = stats.filter(|stat| {
            let rest = stat.rsplit(')').next().unwrap_or_default();
            rest.split_whitespace().nth(1) == Some(own.to_string().as_str())
        });
        let folders = fs::read_dir(stand.here.path()).unwrap().flatten().map(|entry| entry.path());
        // Repositories, and what their tasks left, are the test's own.
        let ours =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("repo-"));
        Self {
            descriptors: entries("/proc/self/fd"),
            children: children.count(),
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            folders: folders.filter(|path| !ours(path)).collect(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_tasks_leave_nothing() {
    let tasks = if is_full() { TASKS_IN_FULL } else { TASKS };
    for kind in ON_THIS_HOST {
        let stand = Stand::new(kind);
        // Of all kinds: good, bad, out of time, out of bounds, with something in the background.
        let kinds = [
            ("run: echo fine > \"$TASKBOT_OUTPUT/a\"", "passed"),
            ("run: exit 1", "failed"),
            ("run: sleep 60\ntimeout: {run: 300ms}", "error(timeout)"),
            ("prepare: exit 3\nrun: 'true'", "error(task)"),
            ("run: 'setsid sleep 7654.3 & true'\ncleanup: 'true'", "passed"),
            ("prepare: echo x > y\nrun: cat y", "passed"),
        ];
        // What is made once is made before it is counted.
        stand.run(kinds[5].0, &[]).await.is("passed", "");
        let before = Count::now(&stand);
        let stand_ref = &stand;
        let all = stream::iter(0..tasks).map(|n| async move {
            let (rest, outcome) = kinds[n % kinds.len()];
            stand_ref.run(rest, &[]).await.is(outcome, "");
        });
        all.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        // Connections to the engine that wait to be used again are kept for a while.
        let spare = if kind == ExecutorKind::Container { 2 * AT_ONCE } else { 0 };
        let mut after = before.clone();
        until("what is left is what there was", async || {
            after = Count::now(stand_ref);
            after.descriptors <= before.descriptors + spare && after.children == before.children
        })
        .await;
        assert_eq!((after.mounts, &after.folders), (before.mounts, &before.folders), "{kind}");
        stand.clean().await;
    }
}
