//! Tasks that destroy the system that they are given: what came of it is told, and nobody else notices.

use super::{PATIENCE, WORKER, upgrades};
use crate::support::{
    installation::{Installation, Plan},
    repository::task_file,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrecked_guest_is_told_and_the_next_task_runs() {
    let folder = tempfile::tempdir().unwrap();
    let disk = upgrades::one_disk(folder.path(), &[]);
    let environment = "vm: {image: cloud, memory: 256M}";
    let wreck = |run: &str| task_file("wreck", environment, run).replace("max: 10", "max: 0");
    // Nothing is left that could be run, and the disk is gone under the running system, which then stops dead.
    let disk_gone = wreck(
        "dd if=/dev/zero of=/dev/vda bs=1M count=128; sync; echo 3 > /proc/sys/vm/drop_caches\n\
         ls -lR / > /dev/null\necho o > /proc/sysrq-trigger\nsleep 600",
    );
    let files_gone = wreck("rm -rf /* 2>/dev/null\necho gone");
    let next = task_file("next", environment, "test -e /etc/os-release");
    let repositories = [
        ("disk-gone", &[("task.yaml", disk_gone.as_str())][..]),
        ("files-gone", &[("task.yaml", files_gone.as_str())][..]),
        ("next", &[("task.yaml", next.as_str())][..]),
    ];
    let worker = format!("{WORKER}    images: {{cloud: {{path: {}, user: root}}}}\n", disk.display());
    let worker = worker.replace("vm: {kvm: false}", "vm:\n    kvm: false");
    let plan = Plan { repositories: &repositories, worker: &worker, slots: 1, ..Plan::default() };
    let installation = Installation::start(&plan).await;
    let ended = "run: the machine ended in the middle of it";
    // The shell itself is in memory and says that it could not remove all; then nothing can be taken out any more.
    let expected = [
        ("disk-gone", "error(task)", ended, "the machine ended"),
        ("files-gone", "failed", "", "moving files out"),
        ("next", "passed", "", "1 files taken"),
    ];
    for (name, outcome, reason, logged) in expected {
        let id = installation.submit(json!({"task": name})).await;
        let whole = installation.ended_within(PATIENCE, &id).await;
        let (state, log) = (&whole["task"]["state"], installation.log_of(&id).await);
        let text = |field: &str| state[field].as_str().unwrap_or_default();
        assert_eq!((text("outcome"), text("reason")), (outcome, reason), "{name}: {log}");
        assert!(log.contains(logged), "{name}: {log}");
        let files = installation.get(&format!("/api/v1/tasks/{id}/artifacts")).await;
        assert!(files.to_string().contains("vm/boot-console.log"), "{name}: {files}");
    }
    crate::verify::nothing_left(&installation).await;
    installation.remove().await;
}
