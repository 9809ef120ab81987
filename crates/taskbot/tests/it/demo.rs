use crate::support::{run, taskbot};
use std::fs;

#[test]
fn once_shows_everything_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let given = run(taskbot().args(["demo", "--once"]).env("TMPDIR", temporary.path()), "");
    given.expect(
        0,
        &[
            "an event comes in",
            "bodhi.update.request.testing FEDORA-2025-",
            "check-updates-in-testing: fired, 2 tasks",
            "check-critical-path-again: no match",
            "failed       when body.update.critpath is true, found false",
            "running(",
            "finished(passed)",
            "phases  provision",
            "commit  ",
            "passed   demo.update-check.the build is well-formed",
        ],
    );
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[test]
fn a_given_folder_is_kept_and_can_be_used_again() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let given = run(taskbot().args(["demo", "--once", "--data-dir"]).arg(folder.path()), "");
        given.expect(0, &["fired, 2 tasks", "everything is kept in"]);
    }
    assert!(folder.path().join("data/taskbot.db").exists());
    assert!(folder.path().join("deploy/task-repos/demo-check/.git").exists());
}
